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
//! Everything here is safe code over slices, written against [`Vector`]; who calls it, and with which instruction set,
//! is `llama::attention`'s business. Functions are `inline(always)` so that they are compiled with the caller's.

mod kernel;
mod plan;
mod vector;

pub use kernel::{Heads, Merge, Scratch, Tiles, partial_lanes};
pub use plan::{Block, Plan};
pub use vector::{EXP, EXP_LOWEST, LN_2, Vector, widen};

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

/// `score`, or [`LOWEST`] where it is lower; NaN stays NaN.
#[inline(always)]
fn at_least_lowest(score: f32) -> f32 {
    if score < LOWEST { LOWEST } else { score }
}

#[cfg(test)]
pub(crate) mod tests;
