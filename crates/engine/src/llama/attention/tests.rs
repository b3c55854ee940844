//! The interface tables are our own copy of a private header: a graph computed through them, beside ggml's own kernel, is
//! what shows that they fit the pinned version.

use super::device::{DEVICE, supports_op};
use super::*;

const DIM: i64 = 64;
const HEADS: i64 = 2;
const RATIO: i64 = 3;
const CELLS: i64 = 300;

struct Context(*mut sys::ggml_context);
impl Drop for Context {
    fn drop(&mut self) {
        // SAFETY: made by the test, freed once.
        unsafe { sys::ggml_free(self.0) }
    }
}

/// A flash attention of `tokens` tokens over pseudo-random data, with its graph.
unsafe fn operation(
    context: &Context,
    tokens: i64,
    bias: f32,
) -> (*mut sys::ggml_tensor, *mut sys::ggml_cgraph) {
    // SAFETY: tensors of a live context with room for their data; strides are those that ggml made.
    unsafe {
        let c = context.0;
        let swapped = |kind, rows, heads| {
            let tensor = sys::ggml_new_tensor_3d(c, kind, DIM, heads, rows);
            for i in 0..DIM * heads * rows {
                let value = ((i * 7919 + heads) % 1000) as f32 / 500.0 - 1.0;
                sys::ggml_set_f32_1d(tensor, i as c_int, value);
            }
            sys::ggml_permute(c, tensor, 0, 2, 1, 3)
        };
        let q = swapped(sys::GGML_TYPE_F32, tokens, HEADS * RATIO);
        let k = swapped(sys::GGML_TYPE_F16, CELLS, HEADS);
        let v = swapped(sys::GGML_TYPE_F16, CELLS, HEADS);
        let mask = sys::ggml_new_tensor_2d(c, sys::GGML_TYPE_F16, CELLS, tokens);
        for i in 0..CELLS * tokens {
            let (token, cell) = (i / CELLS, i % CELLS);
            let seen = cell < 150 || cell % tokens == token;
            sys::ggml_set_f32_1d(mask, i as c_int, if seen { 0.0 } else { f32::NEG_INFINITY });
        }
        let out = sys::ggml_flash_attn_ext(c, q, k, v, mask, 0.125, bias, 0.0);
        let graph = sys::ggml_new_graph(c);
        sys::ggml_build_forward_expand(graph, out);
        (out, graph)
    }
}

#[test]
fn through_ggmls_tables_it_agrees_with_ggmls_own() {
    let params = sys::ggml_init_params { mem_size: 64 << 20, mem_buffer: ptr::null_mut(), no_alloc: false };
    // SAFETY: a context with room for all tensors of one round; the backend is freed once, by ggml.
    unsafe {
        let device = (&raw const DEVICE).cast_mut().cast();
        let backend = sys::ggml_backend_dev_init(device, ptr::null());
        for tokens in [3, 5, 16, 40] {
            let context = Context(sys::ggml_init(params));
            let (out, graph) = operation(&context, tokens, 0.0);
            assert!(sys::ggml_backend_supports_op(backend, out), "{tokens} tokens");
            let result =
                || slice::from_raw_parts((*out).data.cast::<f32>(), sys::ggml_nelements(out) as usize);
            let status = sys::ggml_graph_compute_with_ctx(context.0, graph, 2);
            assert_eq!(status, sys::GGML_STATUS_SUCCESS);
            let expected = result().to_vec();
            (*out).data.cast::<f32>().write_bytes(0xff, expected.len());
            let status = sys::ggml_backend_graph_compute(backend, graph);
            assert_eq!(status, sys::GGML_STATUS_SUCCESS);
            for (got, want) in result().iter().zip(&expected) {
                // ggml sums the values in 16 bits: off by some 2⁻¹¹ for every few cells.
                assert!((got - want).abs() < 1e-2, "{tokens} tokens: {got}, ggml says {want}");
            }
            let (biased, _) = operation(&context, tokens, 1.0);
            assert!(!sys::ggml_backend_supports_op(backend, biased), "biased by position");
        }
        sys::ggml_backend_free(backend);
    }
}

#[test]
fn a_single_token_is_left_to_ggml() {
    let params = sys::ggml_init_params { mem_size: 8 << 20, mem_buffer: ptr::null_mut(), no_alloc: false };
    // SAFETY: as above.
    unsafe {
        let context = Context(sys::ggml_init(params));
        let (out, _) = operation(&context, 1, 0.0);
        assert!(!supports_op(ptr::null_mut(), out));
    }
}
