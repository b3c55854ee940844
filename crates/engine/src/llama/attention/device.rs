//! The tables by which ggml knows the attention kernel as a device.
//!
//! They are those of `ggml-backend-impl.h` (interface version 3), which is no public header: the engine's version is
//! pinned, ggml compares the version on registration, and a test computes through them.

use super::{Operation, State};
use llama_cpp_sys_2 as sys;
use std::ffi::{c_char, c_int, c_void};
use std::ptr;

/// `GGML_BACKEND_API_VERSION` that the tables below are of.
const INTERFACE_VERSION: c_int = 3;
/// Name of the device; it is no device of its own to users.
pub(in crate::llama) const NAME: &str = "shared-attention";
/// Make the device known to ggml. Once in a process, before any context is made.
///
/// # Safety
/// ggml is initialised.
pub(in crate::llama) unsafe fn register() {
    // SAFETY: a static table that lives as long as the process.
    unsafe { sys::ggml_backend_register((&raw const REGISTRY).cast_mut().cast()) };
}

type Unused = *const c_void;

#[repr(C)]
struct Registry {
    version: c_int,
    name: unsafe extern "C" fn(*mut c_void) -> *const c_char,
    device_count: unsafe extern "C" fn(*mut c_void) -> usize,
    device: unsafe extern "C" fn(*mut c_void, usize) -> *mut c_void,
    proc_address: Unused,
    context: Unused,
}

#[repr(C)]
pub(super) struct Device {
    name: unsafe extern "C" fn(*mut c_void) -> *const c_char,
    description: unsafe extern "C" fn(*mut c_void) -> *const c_char,
    memory: unsafe extern "C" fn(*mut c_void, *mut usize, *mut usize),
    kind: unsafe extern "C" fn(*mut c_void) -> sys::ggml_backend_dev_type,
    props: unsafe extern "C" fn(*mut c_void, *mut sys::ggml_backend_dev_props),
    init: unsafe extern "C" fn(*mut c_void, *const c_char) -> *mut c_void,
    buffer_type: unsafe extern "C" fn(*mut c_void) -> sys::ggml_backend_buffer_type_t,
    host_buffer_type: Unused,
    buffer_from_host: Unused,
    supports_op: unsafe extern "C" fn(*mut c_void, *const sys::ggml_tensor) -> bool,
    supports_buffer_type: unsafe extern "C" fn(*mut c_void, sys::ggml_backend_buffer_type_t) -> bool,
    offload_op: Unused,
    events: [Unused; 3],
    registry: *const Registry,
    context: Unused,
}

#[repr(C)]
struct Backend {
    guid: *const [u8; 16],
    name: unsafe extern "C" fn(*mut c_void) -> *const c_char,
    free: unsafe extern "C" fn(*mut c_void),
    asynchronous: [Unused; 6],
    plans: [Unused; 4],
    compute: unsafe extern "C" fn(*mut c_void, *mut sys::ggml_cgraph) -> sys::ggml_status,
    events: [Unused; 2],
    optimize: Unused,
    device: *const Device,
    state: *mut State,
}

// SAFETY: constant tables of functions.
unsafe impl Sync for Registry {}
// SAFETY: as above.
unsafe impl Sync for Device {}

static GUID: [u8; 16] = *b"qeil shared attn";
static REGISTRY: Registry = Registry {
    version: INTERFACE_VERSION,
    name: name_of,
    device_count,
    device: device_at,
    proc_address: ptr::null(),
    context: ptr::null(),
};
pub(super) static DEVICE: Device = Device {
    name: name_of,
    description: name_of,
    memory,
    kind,
    props,
    init,
    buffer_type,
    host_buffer_type: ptr::null(),
    buffer_from_host: ptr::null(),
    supports_op,
    supports_buffer_type,
    offload_op: ptr::null(),
    events: [ptr::null(); 3],
    registry: &raw const REGISTRY,
    context: ptr::null(),
};

unsafe extern "C" fn name_of(_: *mut c_void) -> *const c_char {
    c"shared-attention".as_ptr()
}

unsafe extern "C" fn device_count(_: *mut c_void) -> usize {
    1
}

unsafe extern "C" fn device_at(_: *mut c_void, _: usize) -> *mut c_void {
    (&raw const DEVICE).cast_mut().cast()
}

unsafe extern "C" fn memory(_: *mut c_void, free: *mut usize, total: *mut usize) {
    // SAFETY: ggml passes two out-parameters. Zero means that there is none to report.
    unsafe { (*free, *total) = (0, 0) };
}

unsafe extern "C" fn kind(_: *mut c_void) -> sys::ggml_backend_dev_type {
    sys::GGML_BACKEND_DEVICE_TYPE_ACCEL
}

unsafe extern "C" fn props(device: *mut c_void, props: *mut sys::ggml_backend_dev_props) {
    // SAFETY: ggml passes an out-parameter of plain values, for which zeros (no capability) are valid.
    unsafe {
        *props = std::mem::zeroed();
        (*props).name = name_of(device);
        (*props).description = name_of(device);
        (*props).type_ = kind(device);
    }
}

unsafe extern "C" fn buffer_type(_: *mut c_void) -> sys::ggml_backend_buffer_type_t {
    // SAFETY: no preconditions. The same type as the CPU's is what lets ggml move an operation here.
    unsafe { sys::ggml_backend_cpu_buffer_type() }
}

unsafe extern "C" fn supports_buffer_type(_: *mut c_void, kind: sys::ggml_backend_buffer_type_t) -> bool {
    // SAFETY: ggml passes a valid buffer type.
    unsafe { sys::ggml_backend_buft_is_host(kind) }
}

pub(super) unsafe extern "C" fn supports_op(_: *mut c_void, op: *const sys::ggml_tensor) -> bool {
    // SAFETY: ggml passes a tensor with its sources.
    unsafe { Operation::of(op).is_some_and(|op| op.pays()) }
}

unsafe extern "C" fn init(_: *mut c_void, _: *const c_char) -> *mut c_void {
    let state = Box::into_raw(Box::new(State::new()));
    let backend = Box::new(Backend {
        guid: &raw const GUID,
        name: name_of,
        free,
        asynchronous: [ptr::null(); 6],
        plans: [ptr::null(); 4],
        compute,
        events: [ptr::null(); 2],
        optimize: ptr::null(),
        device: &raw const DEVICE,
        state,
    });
    // SAFETY: the state is alive, and its address does not change any more.
    unsafe { (*state).make_graph() };
    Box::into_raw(backend).cast()
}

unsafe extern "C" fn free(backend: *mut c_void) {
    // SAFETY: made by `init`, freed once by ggml.
    unsafe {
        let backend = Box::from_raw(backend.cast::<Backend>());
        drop(Box::from_raw(backend.state));
    }
}

unsafe extern "C" fn compute(backend: *mut c_void, graph: *mut sys::ggml_cgraph) -> sys::ggml_status {
    // SAFETY: made by `init`; ggml uses a backend from one thread at a time, and its graph's nodes are valid. All nodes
    // but the ones that `supports_op` took are views, which need no work.
    unsafe {
        let state = (*backend.cast::<Backend>()).state;
        for i in 0..sys::ggml_graph_n_nodes(graph) {
            let node = sys::ggml_graph_node(graph, i);
            if (*node).op == sys::GGML_OP_FLASH_ATTN_EXT {
                let status = State::attend(state, node);
                if status != sys::GGML_STATUS_SUCCESS {
                    return status;
                }
            }
        }
    }
    sys::GGML_STATUS_SUCCESS
}
