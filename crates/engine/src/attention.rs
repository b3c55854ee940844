//! Attention of many samples over a prompt that they share.
//!
//! When sixteen samples continue one prompt, most of what each attends to is the same keys and values. llama.cpp's
//! processor kernel handles each query on its own and reads them sixteen times; on a 135M model with a prompt of 600
//! tokens that took half of each decode step. Here all query rows that read the same head of keys and values (tokens ×
//! query heads that share it) are computed together, as one small matrix product per tile of cells.
//!
//! The other cells, which only one sample may see, lie between those of its siblings in a unified buffer. [`Plan`]
//! reads the mask and sorts tiles: those that enough rows may see are **dense** and go through [`Tiles`]; of all
//! others, each token gets the list of the cells that it may see, and [`Merge`] computes those one by one. Both keep
//! the running maximum and sum of the softmax (Milakov and Gimelshein 2018; Dao et al. 2022), so that their parts can
//! be put together in any order; the idea of splitting shared prefix and own suffix is that of Hydragen (Juravsky et
//! al. 2024) and cascade inference.
//!
//! Everything here is safe code over slices; who calls it, and with which instruction set it is compiled, is
//! `llama::attention`'s business. Functions are `inline(always)` so that they are compiled with the caller's
//! instruction set, and take `FMA` to say whether that has fused multiply-add: elsewhere it would be a function call.

mod kernel;
mod plan;

pub use kernel::{Heads, Merge, Scratch, Tiles, partial_lanes};
pub use plan::{Block, Plan};

/// Numbers handled together: a vector of AVX-512, two of AVX2, four of NEON.
pub const LANES: usize = 16;
/// Vectors of rows in a block: more do not fit into the registers beside their accumulators.
pub const VECTORS_MAX: usize = 3;
/// Rows in a block.
pub const ROWS_MAX: usize = LANES * VECTORS_MAX;
/// Most numbers in a head: the largest of the models this is for.
pub const DIM_MAX: usize = 256;
/// Cells in a tile: their keys and values as 32-bit floats stay in the first-level cache for heads of 64.
pub const TILE: usize = 64;
/// Stands for a score that does not count. Finite, so that differences of two of them are not NaN.
pub const LOWEST: f32 = -1e30;

/// Numbers of 16 rows.
pub type Lane = [f32; LANES];

/// A 16-bit float (IEEE 754 binary16) as a 32-bit one, without branches, so that compilers make vectors of it.
#[inline(always)]
pub fn widen(half: u16) -> f32 {
    /// 2^-112: undoes the exponent's bias after it was moved into the larger field.
    const SCALE: f32 = f32::from_bits(0x0780_0000);
    let bits = u32::from(half) << 16;
    let sign = bits & 0x8000_0000;
    let twice = bits.wrapping_add(bits);
    let normal = (f32::from_bits((twice >> 4).wrapping_add(0xe0 << 23)) * SCALE).to_bits();
    let subnormal = (f32::from_bits((twice >> 17) | (126 << 23)) - 0.5).to_bits();
    f32::from_bits(sign | if twice < (1 << 27) { subnormal } else { normal })
}

/// e^x for x ≤ 0, to within 2 units in the last place; 0 below -87. The polynomial is that of Cephes' `expf`
/// (Moshier 1989).
#[inline(always)]
pub fn exp<const FMA: bool>(x: f32) -> f32 {
    /// 1.5 · 2^23: adding it rounds to an integer.
    const ROUND: f32 = 12_582_912.0;
    // Written so that NaN stays NaN: a broken model must be noticed.
    let clamped = if x < -87.0 { -87.0 } else { x };
    let shifted = fma::<FMA>(clamped, std::f32::consts::LOG2_E, ROUND);
    let n = shifted - ROUND;
    // ln 2 in two parts, so that the product with n loses nothing.
    let r = fma::<FMA>(n, -0.693_359_4, clamped);
    let r = fma::<FMA>(n, 2.121_944_4e-4, r);
    let mut p = 1.987_569_1e-4;
    for c in [1.398_2e-3, 8.333_452e-3, 4.166_579_6e-2, 1.666_666_5e-1, 0.5] {
        p = fma::<FMA>(p, r, c);
    }
    let p = fma::<FMA>(p, r * r, r) + 1.0;
    let power = f32::from_bits((shifted.to_bits() << 23).wrapping_add(127 << 23));
    if x < -87.0 { 0.0 } else { p * power }
}

/// `score`, or [`LOWEST`] where it is lower; NaN stays NaN.
#[inline(always)]
fn at_least_lowest(score: f32) -> f32 {
    if score < LOWEST { LOWEST } else { score }
}

/// a·b + c, fused where that is one instruction.
#[inline(always)]
pub fn fma<const FMA: bool>(a: f32, b: f32, c: f32) -> f32 {
    if FMA { a.mul_add(b, c) } else { a * b + c }
}

#[cfg(test)]
mod tests;
