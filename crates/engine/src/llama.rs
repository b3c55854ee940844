//! llama.cpp behind safe types: the only module of the workspace with `unsafe`.
//!
//! A thin wrapper of our own over `llama-cpp-sys-2`, because the safe crate hides what a worker needs: the abort
//! callback, thread pools and affinity, status codes, the bytes of a sequence's state. What keeps it sound:
//!
//! - every pointer is owned by exactly one struct here and freed in its `Drop`, fields in the order of use
//!   (context before pool before model);
//! - [`Engine`] is used by one thread (raw pointers make it neither `Send` nor `Sync`); other threads reach it
//!   only through the atomic flag of [`abort_flag`];
//! - everything that llama.cpp would answer with an abort (batch too large, bad sequence id, bad token) is
//!   checked here first. What cannot be checked kills this process, and only this one.
#![allow(unsafe_code, reason = "the one place: see above")]

mod attention;
mod grammar;
mod transcode;

pub use transcode::transcode;

use crate::request::Token;
use crate::spec::{DeviceEntry, DeviceKind, LoadSpec, Loaded};
use llama_cpp_sys_2 as sys;
use std::ffi::{CStr, CString, c_char, c_void};
use std::path::Path;
use std::ptr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, OnceLock};
use std::time::Instant;

/// Number of a sequence in the context's memory.
pub type Seq = u32;

/// Stops the step in progress when set (CPU backend only; llama.cpp looks at it before every graph node).
pub fn abort_flag() -> &'static AtomicBool {
    static FLAG: AtomicBool = AtomicBool::new(false);
    &FLAG
}

/// What happens with the text of a failed assertion before the process aborts.
static LAST_WORDS: OnceLock<fn(&str)> = OnceLock::new();
/// The latest error lines of llama.cpp's log, for refusals.
static LOG_TAIL: Mutex<Vec<String>> = Mutex::new(Vec::new());
/// Lines kept of them: a load failure explains itself in two or three.
const LOG_TAIL_LINES: usize = 4;

/// Start llama.cpp in this process: log to stderr, `last_words` called with the text of a failed assertion.
pub fn init(last_words: fn(&str)) {
    if LAST_WORDS.set(last_words).is_err() {
        return;
    }
    // SAFETY: plain registrations of functions that live as long as the process.
    unsafe {
        sys::ggml_set_abort_callback(Some(on_abort));
        sys::llama_log_set(Some(on_log), ptr::null_mut());
        sys::llama_backend_init();
        attention::register();
    }
}

unsafe extern "C" fn on_abort(message: *const c_char) {
    // SAFETY: ggml passes a NUL-terminated message on its stack.
    let text = unsafe { CStr::from_ptr(message) }.to_string_lossy();
    eprintln!("{text}");
    if let Some(say) = LAST_WORDS.get() {
        say(&text);
    }
}

unsafe extern "C" fn on_log(level: sys::ggml_log_level, text: *const c_char, _: *mut c_void) {
    if level != sys::GGML_LOG_LEVEL_ERROR && level != sys::GGML_LOG_LEVEL_WARN {
        return;
    }
    // SAFETY: llama.cpp passes a NUL-terminated line that lives through the call.
    let line = unsafe { CStr::from_ptr(text) }.to_string_lossy();
    eprint!("{line}");
    if level == sys::GGML_LOG_LEVEL_ERROR
        && let Ok(mut tail) = LOG_TAIL.lock()
    {
        if tail.len() == LOG_TAIL_LINES {
            tail.remove(0);
        }
        tail.push(line.trim().to_owned());
    }
}

fn last_errors() -> String {
    let lines = LOG_TAIL.lock().map(|tail| tail.join("; ")).unwrap_or_default();
    if lines.is_empty() { "it gave no reason".into() } else { lines }
}

/// The ggml devices of this build on this machine.
pub fn devices() -> Vec<DeviceEntry> {
    numbered().into_iter().map(|(_, entry)| entry).collect()
}

/// The devices by their numbers in ggml's table, without the one of our own that is part of the CPU.
fn numbered() -> Vec<(usize, DeviceEntry)> {
    // SAFETY: indices below the count are valid; ggml's device table is static after `llama_backend_init`.
    let all =
        unsafe { (0..sys::ggml_backend_dev_count()).map(|i| (i, describe(sys::ggml_backend_dev_get(i)))) };
    all.filter(|(_, entry)| entry.name != attention::NAME).collect()
}

/// # Safety
/// `device` comes from ggml's device table.
unsafe fn describe(device: sys::ggml_backend_dev_t) -> DeviceEntry {
    let (mut free, mut total) = (0usize, 0usize);
    // SAFETY: a valid device, and two out-parameters that outlive the call.
    let (name, description, kind) = unsafe {
        sys::ggml_backend_dev_memory(device, &mut free, &mut total);
        (
            sys::ggml_backend_dev_name(device),
            sys::ggml_backend_dev_description(device),
            sys::ggml_backend_dev_type(device),
        )
    };
    DeviceEntry {
        name: text(name),
        description: text(description),
        kind: match kind {
            sys::GGML_BACKEND_DEVICE_TYPE_CPU => DeviceKind::Cpu,
            sys::GGML_BACKEND_DEVICE_TYPE_GPU => DeviceKind::Gpu,
            sys::GGML_BACKEND_DEVICE_TYPE_IGPU => DeviceKind::IntegratedGpu,
            _ => DeviceKind::Accelerator,
        },
        memory_bytes: (total > 0).then_some(total as u64),
        memory_free_bytes: (total > 0).then_some(free as u64),
    }
}

fn text(string: *const c_char) -> String {
    if string.is_null() {
        return String::new();
    }
    // SAFETY: ggml's names are NUL-terminated and static.
    unsafe { CStr::from_ptr(string) }.to_string_lossy().into_owned()
}

struct Model(*mut sys::llama_model);
impl Drop for Model {
    fn drop(&mut self) {
        // SAFETY: created by llama_model_load_from_file, freed once, after its contexts (field order of Engine).
        unsafe { sys::llama_model_free(self.0) }
    }
}

struct Pool(sys::ggml_threadpool_t);
impl Drop for Pool {
    fn drop(&mut self) {
        attention::use_pool(ptr::null_mut(), 1);
        // SAFETY: created by ggml_threadpool_new, freed once, after the context that used it.
        unsafe { sys::ggml_threadpool_free(self.0) }
    }
}

struct Context(*mut sys::llama_context);
impl Drop for Context {
    fn drop(&mut self) {
        // SAFETY: created by llama_init_from_model, freed once.
        unsafe { sys::llama_free(self.0) }
    }
}

/// One token to compute in a step.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Row {
    /// The token.
    pub token: Token,
    /// Its position in its sequence, from 0.
    pub position: u32,
    /// Its sequence.
    pub seq: Seq,
    /// Whether the distribution after it is wanted.
    pub logits: bool,
}

/// Why a step did not complete.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StepError {
    /// Stopped by [`abort_flag`]; part of the batch may be in memory.
    Aborted,
    /// No KV cells for the batch; memory is as before.
    Full,
    /// llama.cpp's status code.
    Failed(i32),
}

/// A model on a device, with its context and its own thread pool.
pub struct Engine {
    // Dropped in this order.
    context: Context,
    _pool: Option<Pool>,
    _model: Model,
    batch: Batch,
    vocab: *const sys::llama_vocab,
    vocab_tokens: usize,
    sequences: u32,
    recurrent: bool,
    paused: bool,
}

struct Batch {
    raw: sys::llama_batch,
    capacity: usize,
}
impl Drop for Batch {
    fn drop(&mut self) {
        // SAFETY: created by llama_batch_init with this capacity, freed once.
        unsafe { sys::llama_batch_free(self.raw) }
    }
}

impl Engine {
    /// Load the model and make the context that `spec` (already checked) asks for.
    ///
    /// # Errors
    /// What llama.cpp said last, or that the device does not exist.
    pub fn load(spec: &LoadSpec) -> Result<(Self, Loaded), crate::protocol::LoadRefusal> {
        use crate::protocol::LoadRefusal;
        let started = Instant::now();
        let path = c_path(&spec.model).map_err(LoadRefusal::Spec)?;
        let all = numbered();
        let Some((index, entry)) =
            all.iter().find(|(_, entry)| entry.name.eq_ignore_ascii_case(&spec.device)).cloned()
        else {
            return Err(LoadRefusal::NoSuchDevice {
                name: spec.device.clone(),
                have: all.into_iter().map(|(_, entry)| entry.name).collect(),
            });
        };
        let offload = entry.kind != DeviceKind::Cpu;

        // SAFETY: `index` is below the count; the list is NULL-terminated and outlives the load call.
        let device = unsafe { sys::ggml_backend_dev_get(index) };
        let mut list = if offload { vec![device, ptr::null_mut()] } else { vec![ptr::null_mut()] };
        // SAFETY: returns a struct of plain values.
        let mut params = unsafe { sys::llama_model_default_params() };
        params.devices = list.as_mut_ptr();
        params.n_gpu_layers = match (offload, spec.gpu_layers) {
            (false, _) => 0,
            (true, None) => -1,
            (true, Some(layers)) => i32::try_from(layers).unwrap_or(i32::MAX),
        };
        params.split_mode =
            if spec.gpu_layers.is_some() { params.split_mode } else { sys::LLAMA_SPLIT_MODE_NONE };
        params.load_mode = if spec.maps() { sys::LLAMA_LOAD_MODE_MMAP } else { sys::LLAMA_LOAD_MODE_NONE };
        params.use_extra_bufts = spec.repack;
        params.check_tensors = spec.check_tensors;
        // SAFETY: a NUL-terminated path and parameters that outlive the call.
        let raw = unsafe { sys::llama_model_load_from_file(path.as_ptr(), params) };
        if raw.is_null() {
            return Err(LoadRefusal::Engine(last_errors()));
        }
        let model = Model(raw);

        // SAFETY: returns a struct of plain values.
        let mut params = unsafe { sys::llama_context_default_params() };
        params.n_ctx = spec.context_tokens;
        params.n_batch = spec.batch_tokens;
        params.n_ubatch = spec.ubatch_tokens;
        params.n_seq_max = spec.sequences;
        params.n_outputs_max = spec.sequences;
        params.n_threads = spec.threads as i32;
        params.n_threads_batch = spec.threads as i32;
        params.flash_attn_type = if spec.flash_attention {
            sys::LLAMA_FLASH_ATTN_TYPE_ENABLED
        } else {
            sys::LLAMA_FLASH_ATTN_TYPE_DISABLED
        };
        params.kv_unified = spec.kv_unified;
        params.abort_callback = Some(on_step);
        // SAFETY: a live model and plain parameters; the callback is static.
        let raw = unsafe { sys::llama_init_from_model(model.0, params) };
        if raw.is_null() {
            return Err(LoadRefusal::Engine(last_errors()));
        }
        let context = Context(raw);
        let pool = attach_pool(&context, spec).map_err(LoadRefusal::Engine)?;
        // SAFETY: plain getters on live objects.
        let (vocab, recurrent, vocab_tokens, loaded) = unsafe {
            let vocab = sys::llama_model_get_vocab(model.0);
            let recurrent = sys::llama_model_is_recurrent(model.0) || sys::llama_model_is_hybrid(model.0);
            let vocab_tokens = sys::llama_vocab_n_tokens(vocab);
            let mut description = [0 as c_char; 128];
            sys::llama_model_desc(model.0, description.as_mut_ptr(), description.len());
            let loaded = Loaded {
                pid: std::process::id(),
                device: entry.name,
                device_description: entry.description,
                model_description: text(description.as_ptr()),
                parameters: sys::llama_model_n_params(model.0),
                weight_bytes: sys::llama_model_size(model.0),
                vocab_tokens: vocab_tokens as u32,
                context_train_tokens: sys::llama_model_n_ctx_train(model.0) as u32,
                context_tokens: sys::llama_n_ctx(context.0),
                recurrent,
                load_ms: started.elapsed().as_secs_f64() * 1e3,
                confinement: String::new(),
                cpu_features: text(sys::llama_print_system_info()),
            };
            (vocab, recurrent, vocab_tokens as usize, loaded)
        };
        let capacity = spec.batch_tokens as usize;
        // SAFETY: allocates arrays of `capacity` rows with one sequence id each.
        let batch = Batch { raw: unsafe { sys::llama_batch_init(capacity as i32, 0, 1) }, capacity };
        let engine = Self {
            context,
            _pool: pool,
            _model: model,
            batch,
            vocab,
            vocab_tokens,
            sequences: spec.sequences,
            recurrent,
            paused: false,
        };
        Ok((engine, loaded))
    }

    fn memory(&self) -> sys::llama_memory_t {
        // SAFETY: a live context.
        unsafe { sys::llama_get_memory(self.context.0) }
    }

    fn piece_into(&self, token: Token, special: bool, out: &mut Vec<u8>) {
        let mut buffer = [0u8; 256];
        // SAFETY: the buffer's length is passed along; a negative answer is the length needed.
        let call = |buffer: &mut [u8]| unsafe {
            let (at, len) = (buffer.as_mut_ptr().cast(), buffer.len() as i32);
            sys::llama_token_to_piece(self.vocab, token, at, len, 0, special)
        };
        let written = call(&mut buffer);
        if written >= 0 {
            out.extend_from_slice(&buffer[..written as usize]);
        } else {
            let mut large = vec![0u8; written.unsigned_abs() as usize];
            let written = call(&mut large);
            out.extend_from_slice(&large[..written.max(0) as usize]);
        }
    }
}

unsafe extern "C" fn on_step(_: *mut c_void) -> bool {
    abort_flag().load(Ordering::Relaxed)
}

/// Give the context a pool of its own, pinned where the spec says so.
fn attach_pool(context: &Context, spec: &LoadSpec) -> Result<Option<Pool>, String> {
    // SAFETY: plain values in, pool out; the pool outlives the context's use of it (field order of Engine).
    unsafe {
        let mut params = sys::ggml_threadpool_params_default(spec.threads as i32);
        for &cpu in &spec.cpus {
            params.cpumask[cpu as usize] = true;
        }
        params.strict_cpu = !spec.cpus.is_empty();
        let pool = sys::ggml_threadpool_new(&mut params);
        if pool.is_null() {
            return Err(format!("a pool of {} threads could not be started", spec.threads));
        }
        sys::llama_attach_threadpool(context.0, pool, pool);
        attention::use_pool(pool, spec.threads);
        Ok(Some(Pool(pool)))
    }
}

fn c_path(path: &Path) -> Result<CString, String> {
    use std::os::unix::ffi::OsStrExt;
    CString::new(path.as_os_str().as_bytes()).map_err(|_| format!("{} contains a NUL byte", path.display()))
}

/// What the step loop needs of an engine. The second implementation is the toy of `worker::toy`, with which the
/// loop's bookkeeping is tested token by token.
pub trait Backend {
    /// Tokens in the vocabulary.
    fn vocab_tokens(&self) -> usize;
    /// Whether memory is recurrent or hybrid, so that a sequence cannot be shortened.
    fn recurrent(&self) -> bool;
    /// Compute a batch. Rows of one sequence come in order of position.
    ///
    /// # Errors
    /// See [`StepError`]; after an error the caller must restore each sequence with [`Backend::truncate`].
    fn step(&mut self, rows: &[Row]) -> Result<(), StepError>;
    /// Unnormalised log-probabilities after row `row` of the last batch; `None` if it did not ask for them.
    fn logits(&self, row: usize) -> Option<&[f32]>;
    /// Let `to` (empty) continue from all of `from`.
    fn fork(&mut self, from: Seq, to: Seq);
    /// Forget positions `keep..` of a sequence; `false` if its memory cannot do that.
    fn truncate(&mut self, seq: Seq, keep: u32) -> bool;
    /// Bytes of a sequence's state; `None` if the engine cannot give them.
    fn export(&mut self, seq: Seq) -> Option<Vec<u8>>;
    /// Restore a state into an empty sequence; `false` if the engine refuses it.
    fn import(&mut self, seq: Seq, state: &[u8]) -> bool;
    /// Token ids of text.
    ///
    /// # Errors
    /// When the text does not fit llama.cpp's counters.
    fn tokenize(&self, text: &str, add_begin: bool, parse_special: bool) -> Result<Vec<Token>, String>;
    /// Append the bytes that a token stands for (nothing for control tokens).
    fn piece(&self, token: Token, out: &mut Vec<u8>);
    /// Whether the token ends a generation.
    fn is_end(&self, token: Token) -> bool;
    /// Compile a GBNF grammar with root rule `root`.
    fn grammar(&self, text: &str) -> Option<Box<dyn Grammar>>;
    /// Let the compute threads sleep until the next step.
    fn rest(&mut self);
}

/// A grammar and how far a text has come in it.
pub trait Grammar {
    /// Whether the token may come next.
    fn allows(&mut self, token: Token) -> bool;
    /// Set the logit of every token that may not come next to negative infinity.
    fn mask(&mut self, logits: &mut [f32]);
    /// Advance by a token that is allowed.
    fn accept(&mut self, token: Token);
    /// An independent copy.
    fn duplicate(&self) -> Box<dyn Grammar>;
}

impl Backend for Engine {
    fn vocab_tokens(&self) -> usize {
        self.vocab_tokens
    }

    fn recurrent(&self) -> bool {
        self.recurrent
    }

    fn step(&mut self, rows: &[Row]) -> Result<(), StepError> {
        let sound = |row: &Row| {
            row.seq < self.sequences && usize::try_from(row.token).is_ok_and(|t| t < self.vocab_tokens)
        };
        if rows.is_empty() || rows.len() > self.batch.capacity || !rows.iter().all(sound) {
            return Err(StepError::Failed(-1));
        }
        if self.paused {
            // SAFETY: the pool is alive while `self` is.
            self._pool.iter().for_each(|pool| unsafe { sys::ggml_threadpool_resume(pool.0) });
            self.paused = false;
        }
        self.batch.raw.n_tokens = rows.len() as i32;
        for (i, row) in rows.iter().enumerate() {
            // SAFETY: `i` is below the capacity the arrays were allocated with, each row with one sequence id.
            unsafe {
                *self.batch.raw.token.add(i) = row.token;
                *self.batch.raw.pos.add(i) = row.position as i32;
                *self.batch.raw.n_seq_id.add(i) = 1;
                **self.batch.raw.seq_id.add(i) = row.seq as i32;
                *self.batch.raw.logits.add(i) = i8::from(row.logits);
            }
        }
        // SAFETY: a live context and a batch whose rows were checked above.
        let status = unsafe { sys::llama_decode(self.context.0, self.batch.raw) };
        match status {
            0 => {
                // SAFETY: a live context.
                unsafe { sys::llama_synchronize(self.context.0) };
                Ok(())
            }
            1 => Err(StepError::Full),
            2 => Err(StepError::Aborted),
            other => Err(StepError::Failed(other)),
        }
    }

    fn logits(&self, row: usize) -> Option<&[f32]> {
        let row = i32::try_from(row).ok()?;
        // SAFETY: llama.cpp answers NULL for a row without logits; else a row of vocab_tokens floats that stays
        // valid until the next step, which needs `&mut self`.
        unsafe {
            let at = sys::llama_get_logits_ith(self.context.0, row);
            (!at.is_null()).then(|| std::slice::from_raw_parts(at, self.vocab_tokens))
        }
    }

    fn fork(&mut self, from: Seq, to: Seq) {
        // SAFETY: sequence numbers below `sequences` are valid; they come from our own allocator.
        unsafe { sys::llama_memory_seq_cp(self.memory(), from as i32, to as i32, -1, -1) }
    }

    fn truncate(&mut self, seq: Seq, keep: u32) -> bool {
        // SAFETY: as in `fork`; -1 means to the end.
        unsafe { sys::llama_memory_seq_rm(self.memory(), seq as i32, keep as i32, -1) }
    }

    fn export(&mut self, seq: Seq) -> Option<Vec<u8>> {
        // SAFETY: the buffer is as long as llama.cpp asked for.
        unsafe {
            let size = sys::llama_state_seq_get_size(self.context.0, seq as i32);
            let mut bytes = vec![0u8; size];
            let written =
                sys::llama_state_seq_get_data(self.context.0, bytes.as_mut_ptr(), bytes.len(), seq as i32);
            bytes.truncate(written);
            (written > 0).then_some(bytes)
        }
    }

    fn import(&mut self, seq: Seq, state: &[u8]) -> bool {
        // SAFETY: reads at most `state.len()` bytes; its checksum was compared before.
        unsafe {
            sys::llama_state_seq_set_data(self.context.0, state.as_ptr(), state.len(), seq as i32)
                == state.len()
        }
    }

    fn tokenize(&self, text: &str, add_begin: bool, parse_special: bool) -> Result<Vec<Token>, String> {
        let length = i32::try_from(text.len()).map_err(|_| "the text is longer than 2 GiB".to_owned())?;
        let mut tokens = vec![0; text.len() + 2];
        // SAFETY: text and its length, an array and its length.
        let written = unsafe {
            let (at, room) = (tokens.as_mut_ptr(), tokens.len() as i32);
            sys::llama_tokenize(self.vocab, text.as_ptr().cast(), length, at, room, add_begin, parse_special)
        };
        match usize::try_from(written) {
            Ok(written) => {
                tokens.truncate(written);
                Ok(tokens)
            }
            Err(_) => Err(format!("llama.cpp could not tokenise the text (status {written})")),
        }
    }

    fn piece(&self, token: Token, out: &mut Vec<u8>) {
        if usize::try_from(token).is_ok_and(|t| t < self.vocab_tokens) {
            self.piece_into(token, false, out);
        }
    }

    fn is_end(&self, token: Token) -> bool {
        // SAFETY: a live vocabulary; tokens come from its own range.
        unsafe { sys::llama_vocab_is_eog(self.vocab, token) }
    }

    fn grammar(&self, text: &str) -> Option<Box<dyn Grammar>> {
        // SAFETY: the requests that hold grammars end before the engine that owns the vocabulary does.
        let grammar = unsafe { grammar::Gbnf::compile(self.vocab, text) };
        grammar.map(|grammar| Box::new(grammar) as Box<dyn Grammar>)
    }

    fn rest(&mut self) {
        if !self.paused {
            // SAFETY: the pool is alive while `self` is, and no step runs now.
            self._pool.iter().for_each(|pool| unsafe { sys::ggml_threadpool_pause(pool.0) });
            self.paused = true;
        }
    }
}

/// Fail a ggml assertion on purpose: its message, then SIGABRT. For fault drills.
pub fn fail_assertion() -> ! {
    // SAFETY: constant NUL-terminated strings; the format takes no arguments.
    unsafe { sys::ggml_abort(c"drill.c".as_ptr(), 1, c"GGML_ASSERT(drill) failed on purpose".as_ptr()) };
    std::process::abort()
}
