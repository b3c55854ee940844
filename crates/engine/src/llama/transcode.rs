//! llama.cpp's own quantiser.

use super::{c_path, last_errors};
use crate::spec::{TEXT_BYTES_MAX, THREADS_MAX, TranscodeSpec, WeightFormat};
use llama_cpp_sys_2 as sys;
use std::ffi::c_char;

/// Write a model file with its weights in another format.
///
/// # Errors
/// What llama.cpp said last, or which text does not fit its metadata.
pub fn transcode(spec: &TranscodeSpec) -> Result<(), String> {
    let (from, to) = (c_path(&spec.from)?, c_path(&spec.to)?);
    let mut texts =
        spec.texts.iter().map(|(key, text)| text_entry(key, text)).collect::<Result<Vec<_>, _>>()?;
    // An entry without a key ends the list.
    texts.push(text_entry("", "")?);
    // SAFETY: returns a struct of plain values.
    let mut params = unsafe { sys::llama_model_quantize_default_params() };
    params.nthread = spec.threads.clamp(1, THREADS_MAX) as i32;
    params.allow_requantize = true;
    params.kv_overrides = texts.as_ptr();
    params.ftype = match spec.format {
        WeightFormat::F16 => sys::LLAMA_FTYPE_MOSTLY_F16,
        WeightFormat::Bf16 => sys::LLAMA_FTYPE_MOSTLY_BF16,
        WeightFormat::Q8_0 => sys::LLAMA_FTYPE_MOSTLY_Q8_0,
        WeightFormat::Q4_0 => sys::LLAMA_FTYPE_MOSTLY_Q4_0,
        WeightFormat::Q4_1 => sys::LLAMA_FTYPE_MOSTLY_Q4_1,
        WeightFormat::Q4Km => sys::LLAMA_FTYPE_MOSTLY_Q4_K_M,
        WeightFormat::Q5Km => sys::LLAMA_FTYPE_MOSTLY_Q5_K_M,
        WeightFormat::Q6K => sys::LLAMA_FTYPE_MOSTLY_Q6_K,
    };
    // SAFETY: two NUL-terminated paths, parameters and a terminated list of entries, all of which outlive the call.
    let status = unsafe { sys::llama_model_quantize(from.as_ptr(), to.as_ptr(), &params) };
    if status == 0 { Ok(()) } else { Err(last_errors()) }
}

/// A text that takes the place of a metadata entry.
fn text_entry(key: &str, text: &str) -> Result<sys::llama_model_kv_override, String> {
    Ok(sys::llama_model_kv_override {
        tag: sys::LLAMA_KV_OVERRIDE_TYPE_STR,
        key: fixed(key)?,
        __bindgen_anon_1: sys::llama_model_kv_override__bindgen_ty_1 { val_str: fixed(text)? },
    })
}

/// NUL-terminated, in the room that the C struct has.
fn fixed(text: &str) -> Result<[c_char; TEXT_BYTES_MAX + 1], String> {
    let mut room = [0; TEXT_BYTES_MAX + 1];
    if text.len() > TEXT_BYTES_MAX || text.contains('\0') {
        return Err(format!("{text:?} must have at most {TEXT_BYTES_MAX} bytes and none of zero"));
    }
    for (to, byte) in room.iter_mut().zip(text.bytes()) {
        *to = byte.cast_signed();
    }
    Ok(room)
}
