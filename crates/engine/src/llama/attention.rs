//! [`crate::attention`] as a ggml backend.
//!
//! ggml lets an accelerator take single operations of a graph that otherwise runs on the CPU, as its BLAS backend does
//! with matrix products: a device of type ACCEL whose tensors are those of the CPU backend. This one takes flash
//! attention over several tokens in one unified buffer of 16-bit keys and values, and nothing else; whatever it does
//! not take stays with ggml's own kernel.
//!
//! Its work runs on the engine's own thread pool: the operation becomes a graph of two custom nodes (dense tiles; own
//! cells and merging), computed by `ggml_graph_compute`, whose barrier stands between them.

mod device;
#[cfg(target_arch = "x86_64")]
mod x86;

pub(super) use device::{NAME, register};

use super::on_step;
use crate::attention::{
    Block, DIM_MAX, Heads, LANES, Lane, Merge, Plan, ROWS_MAX, Scratch, Tiles, Vector, partial_lanes,
};
use llama_cpp_sys_2 as sys;
use std::cell::RefCell;
use std::ffi::{c_int, c_void};
use std::ptr;
use std::slice;
use std::sync::Mutex;

/// Fewest rows for each head of keys and values: below, most of a vector would be idle.
const ROWS_MIN: i64 = 8;
/// Bytes of ggml's bookkeeping for two tensors and a graph of two nodes, with room to spare.
const GRAPH_BYTES: usize = 64 << 10;
/// `GGML_N_TASKS_MAX`: as many tasks as there are threads.
const TASKS_ALL: c_int = -1;
/// Nodes the graph is made for.
const GRAPH_NODES: usize = 8;

/// The pool that computes, and its threads; set with the engine's context.
static POOL: Mutex<Pool> = Mutex::new(Pool { pool: ptr::null_mut(), threads: 1 });

struct Pool {
    pool: sys::ggml_threadpool_t,
    threads: c_int,
}
// SAFETY: ggml's pools may be used from any thread; the one thread that computes is the engine's.
unsafe impl Send for Pool {}

/// Compute on this pool from now on; null for none.
pub(super) fn use_pool(pool: sys::ggml_threadpool_t, threads: u32) {
    let mut current = POOL.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
    *current = Pool { pool, threads: threads as c_int };
}

/// A flash attention that this module can compute, by its tensors.
#[derive(Debug, Clone, Copy)]
struct Operation {
    q: *const sys::ggml_tensor,
    k: *const sys::ggml_tensor,
    v: *const sys::ggml_tensor,
    mask: *const sys::ggml_tensor,
    out: *const sys::ggml_tensor,
    scale: f32,
    dim: usize,
    tokens: usize,
    /// Heads of keys and values.
    heads: usize,
    ratio: usize,
    cells: usize,
}

impl Operation {
    /// # Safety
    /// `op` is a valid tensor, and so are its sources.
    unsafe fn of(op: *const sys::ggml_tensor) -> Option<Self> {
        // SAFETY: promised by the caller; a flash attention has at least query, key and value.
        unsafe {
            if (*op).op != sys::GGML_OP_FLASH_ATTN_EXT {
                return None;
            }
            let [q, k, v, mask, sinks, ..] = (*op).src;
            if mask.is_null() || !sinks.is_null() {
                return None;
            }
            let (scale, others) = ((*op).op_params[0], [(*op).op_params[1], (*op).op_params[2]]);
            let (q, k, v, mask) = (&*q, &*k, &*v, &*mask);
            let half = sys::GGML_TYPE_F16;
            let plain = |t: &sys::ggml_tensor, kind, bytes| {
                let strides = t.nb[1..3].iter().all(|nb| nb % bytes == 0);
                t.type_ == kind && t.nb[0] == bytes && t.ne[3] == 1 && strides
            };
            let (dim, heads) = (k.ne[0], k.ne[2].max(1));
            let fits = plain(q, sys::GGML_TYPE_F32, 4)
                && plain(k, half, 2)
                && plain(v, half, 2)
                && plain(mask, half, 2)
                && mask.ne[2] == 1
                && mask.nb[1] == 2 * mask.ne[0] as usize
                && mask.ne[0] == k.ne[1]
                && mask.ne[1] >= q.ne[1]
                && v.ne[..3] == k.ne[..3]
                && q.ne[0] == dim
                && dim % LANES as i64 == 0
                && dim <= DIM_MAX as i64
                && q.ne[2] % heads == 0
                && q.ne[2] / heads <= ROWS_MAX as i64
                && others.iter().all(|bits| f32::from_bits(*bits as u32) == 0.0);
            fits.then(|| Self {
                q,
                k,
                v,
                mask,
                out: op,
                scale: f32::from_bits(scale as u32),
                dim: dim as usize,
                tokens: q.ne[1] as usize,
                heads: heads as usize,
                ratio: (q.ne[2] / heads) as usize,
                cells: k.ne[1] as usize,
            })
        }
    }

    /// Whether it is likely to be faster here: several tokens, and enough rows to fill a vector.
    fn pays(&self) -> bool {
        self.tokens > 1 && (self.tokens * self.ratio) as i64 >= ROWS_MIN
    }

    /// # Safety
    /// The tensors have data, which nobody writes while the views are used.
    unsafe fn views<'a>(&self) -> Heads<'a> {
        /// # Safety
        /// As for `views`.
        unsafe fn all<'a, T>(tensor: *const sys::ggml_tensor) -> &'a [T] {
            // SAFETY: a tensor's data spans from its first to its last element; strides are multiples of the element
            // size (checked in `of`).
            unsafe {
                let t = &*tensor;
                let last: usize = (0..4).map(|i| (t.ne[i] as usize - 1) * t.nb[i]).sum();
                slice::from_raw_parts(t.data.cast::<T>(), last / size_of::<T>() + 1)
            }
        }
        // SAFETY: as above.
        unsafe {
            Heads {
                dim: self.dim,
                ratio: self.ratio,
                q: all(self.q),
                q_token: (*self.q).nb[1] / 4,
                q_head: (*self.q).nb[2] / 4,
                k: all(self.k),
                k_cell: (*self.k).nb[1] / 2,
                k_head: (*self.k).nb[2] / 2,
                v: all(self.v),
                v_cell: (*self.v).nb[1] / 2,
                v_head: (*self.v).nb[2] / 2,
                mask: all(self.mask),
                cells: self.cells,
                scale: self.scale,
            }
        }
    }
}

/// A backend's memory: the graph of two nodes, and what the threads read while it is computed.
struct State {
    context: *mut sys::ggml_context,
    graph: *mut sys::ggml_cgraph,
    operation: Option<Operation>,
    plan: Plan,
    /// The mask and the ratio that `plan` was made of: every layer of a step has the same.
    planned: (Vec<u16>, usize),
    /// Parts that the dense tiles of a block are divided into, so that all threads have work.
    splits: usize,
    partials: Vec<Lane>,
    /// Start of `partials`, of which every unit writes its own part.
    base: *mut Lane,
}

impl State {
    fn new() -> Self {
        Self {
            context: ptr::null_mut(),
            graph: ptr::null_mut(),
            operation: None,
            plan: Plan::default(),
            planned: (Vec::new(), 0),
            splits: 1,
            partials: Vec::new(),
            base: ptr::null_mut(),
        }
    }

    /// # Safety
    /// `self` does not move any more.
    unsafe fn make_graph(&mut self) {
        let params =
            sys::ggml_init_params { mem_size: GRAPH_BYTES, mem_buffer: ptr::null_mut(), no_alloc: true };
        let me: *mut Self = self;
        // SAFETY: a context large enough for two tensors and a small graph, freed in `drop`; ggml calls the functions
        // with the address of this state, which outlives the graph.
        unsafe {
            self.context = sys::ggml_init(params);
            self.graph = sys::ggml_new_graph_custom(self.context, GRAPH_NODES, false);
            let node = |source: *mut sys::ggml_tensor, function| {
                let mut sources = [source];
                let (args, kind, tasks) = (i32::from(!source.is_null()), sys::GGML_TYPE_F32, TASKS_ALL);
                sys::ggml_custom_4d(
                    self.context,
                    kind,
                    1,
                    1,
                    1,
                    1,
                    sources.as_mut_ptr(),
                    args,
                    Some(function),
                    tasks,
                    me.cast(),
                )
            };
            let dense = node(ptr::null_mut(), on_dense);
            let merged = node(dense, on_merge);
            sys::ggml_build_forward_expand(self.graph, merged);
        }
    }

    /// # Safety
    /// `me` was made by `init`, `node` was taken by `supports_op` and has data.
    unsafe fn attend(me: *mut Self, node: *mut sys::ggml_tensor) -> sys::ggml_status {
        let pool = POOL.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        // SAFETY: promised by the caller. No other thread looks at the state before the graph is computed.
        unsafe {
            let Some(operation) = Operation::of(node) else { return sys::GGML_STATUS_FAILED };
            (*me).prepare(operation, pool.threads as usize);
            let mut plan = sys::ggml_graph_plan((*me).graph, pool.threads, pool.pool);
            plan.abort_callback = Some(on_step);
            sys::ggml_graph_compute((*me).graph, &mut plan)
        }
    }

    /// # Safety
    /// The operation's tensors have data.
    unsafe fn prepare(&mut self, operation: Operation, threads: usize) {
        let Operation { tokens, cells, ratio, heads, dim, .. } = operation;
        // SAFETY: promised by the caller.
        let mask = &unsafe { operation.views() }.mask[..tokens * cells];
        if self.planned.0 != mask || self.planned.1 != ratio {
            self.plan = Plan::new(mask, tokens, cells, ratio);
            self.planned.0.clear();
            self.planned.0.extend_from_slice(mask);
            self.planned.1 = ratio;
        }
        let units = heads * self.plan.blocks.len();
        self.splits = if units.is_multiple_of(threads) || units > 4 * threads { 1 } else { threads };
        self.partials.resize(units * self.splits * partial_lanes(dim), [0.0; LANES]);
        self.base = self.partials.as_mut_ptr();
        self.operation = Some(operation);
    }
}

impl Drop for State {
    fn drop(&mut self) {
        // SAFETY: made by `make_graph` or null, which ggml ignores.
        unsafe { sys::ggml_free(self.context) };
    }
}

thread_local! {
    static SCRATCH: RefCell<Scratch> = RefCell::default();
}

/// What a thread does in one of the two nodes.
type Work = unsafe fn(*mut State, usize, usize, &mut Scratch);

unsafe extern "C" fn on_dense(_: *mut sys::ggml_tensor, ith: c_int, nth: c_int, state: *mut c_void) {
    #[cfg(target_arch = "x86_64")]
    let work = x86::best::<Work>([dense_avx512, dense_avx2, dense_plain]);
    #[cfg(not(target_arch = "x86_64"))]
    let work: Work = dense_plain;
    // SAFETY: the address given in `make_graph`; `best` chose what this processor can do.
    SCRATCH.with_borrow_mut(|scratch| unsafe { work(state.cast(), ith as usize, nth as usize, scratch) });
}

unsafe extern "C" fn on_merge(_: *mut sys::ggml_tensor, ith: c_int, nth: c_int, state: *mut c_void) {
    #[cfg(target_arch = "x86_64")]
    let work = x86::best::<Work>([merge_avx512, merge_avx2, merge_plain]);
    #[cfg(not(target_arch = "x86_64"))]
    let work: Work = merge_plain;
    // SAFETY: as in `on_dense`.
    SCRATCH.with_borrow_mut(|scratch| unsafe { work(state.cast(), ith as usize, nth as usize, scratch) });
}

macro_rules! compiled {
    ($body:ident, $avx512:ident, $avx2:ident, $plain:ident) => {
        #[cfg(target_arch = "x86_64")]
        #[target_feature(enable = "avx512f,avx512vl,avx512bw,avx512dq,fma,avx2,f16c")]
        unsafe fn $avx512(state: *mut State, ith: usize, nth: usize, scratch: &mut Scratch) {
            // SAFETY: the caller's promise.
            unsafe { $body::<x86::Avx512>(state, ith, nth, scratch) }
        }
        #[cfg(target_arch = "x86_64")]
        #[target_feature(enable = "avx2,fma,f16c")]
        unsafe fn $avx2(state: *mut State, ith: usize, nth: usize, scratch: &mut Scratch) {
            // SAFETY: the caller's promise.
            unsafe { $body::<x86::Avx2>(state, ith, nth, scratch) }
        }
        unsafe fn $plain(state: *mut State, ith: usize, nth: usize, scratch: &mut Scratch) {
            // SAFETY: the caller's promise.
            unsafe { $body::<Lane>(state, ith, nth, scratch) }
        }
    };
}
compiled!(dense, dense_avx512, dense_avx2, dense_plain);
compiled!(merge, merge_avx512, merge_avx2, merge_plain);

/// Units of this thread: (block, head of keys and values, split), numbered in this order.
///
/// # Safety
/// `state` is prepared, and every thread calls this with a different `ith` below `nth`.
#[inline(always)]
unsafe fn dense<S: Vector>(state: *mut State, ith: usize, nth: usize, scratch: &mut Scratch) {
    // SAFETY: shared reads of what `prepare` wrote; each unit writes its own part of `partials`.
    unsafe {
        let (plan, splits) = (&(*state).plan, (*state).splits);
        let Some(operation) = (*state).operation else { return };
        let (heads, lanes) = (operation.views(), partial_lanes(operation.dim));
        let partials = (*state).base;
        for unit in (ith..operation.heads * plan.blocks.len() * splits).step_by(nth) {
            let (split, rest) = (unit % splits, unit / splits);
            let (head, number) = (rest % operation.heads, rest / operation.heads);
            let block: &Block = &plan.blocks[number];
            let part = |split| split * block.dense.len() / splits;
            let tiles = &block.dense[part(split)..part(split + 1)];
            let partial = slice::from_raw_parts_mut(partials.add(unit * lanes), lanes);
            Tiles { heads: &heads, block, tiles, head }.compute::<S>(scratch, partial);
        }
    }
}

/// This thread's tokens of every block, for all heads.
///
/// # Safety
/// As for [`dense`], after which every thread has passed a barrier.
#[inline(always)]
unsafe fn merge<S: Vector>(state: *mut State, ith: usize, nth: usize, scratch: &mut Scratch) {
    // SAFETY: shared reads; each token writes its own row of the result, which is contiguous
    // (`ggml_flash_attn_ext` makes them so) and which no other view of this operation covers.
    unsafe {
        let state: *const State = state;
        let (plan, splits) = (&(*state).plan, (*state).splits);
        let Some(operation) = (*state).operation else { return };
        let (views, lanes) = (operation.views(), partial_lanes(operation.dim));
        let partials = &(*state).partials;
        let width = operation.heads * operation.ratio * operation.dim;
        let out = (*operation.out).data.cast::<f32>();
        let each = operation.heads * splits * lanes;
        for (block, partials) in plan.blocks.iter().zip(partials.chunks_exact(each)) {
            let merge = Merge { heads: &views, block, count: operation.heads, partials, share: (ith, nth) };
            merge.compute::<S>(scratch, |token, row| {
                let to = out.add((block.token + token) * width);
                slice::from_raw_parts_mut(to, width).copy_from_slice(row);
            });
        }
    }
}

#[cfg(test)]
mod tests;
