//! The arithmetic: tiles for all rows of a block, single cells for single tokens, and putting both together.

use super::plan::{Block, Tile};
use super::{DIM_MAX, LANES, LOWEST, Lane, ROWS_MAX, TILE, VECTORS_MAX, at_least_lowest, exp, fma, widen};

/// Cells whose scores are accumulated together.
const SCORE_CELLS: usize = 8;
/// Dimensions whose weighted sums are accumulated together.
const VALUE_DIMS: usize = 8;

/// The tensors of one operation.
#[derive(Debug, Clone, Copy)]
pub struct Heads<'a> {
    /// Numbers in a head: a multiple of [`LANES`].
    pub dim: usize,
    /// Query heads that share a head of keys and values.
    pub ratio: usize,
    /// Queries; the row of (token, head) starts at `token * q_token + head * q_head`.
    pub q: &'a [f32],
    /// See `q`.
    pub q_token: usize,
    /// See `q`.
    pub q_head: usize,
    /// Keys as 16-bit floats; those of (cell, head) start at `cell * k_cell + head * k_head`.
    pub k: &'a [u16],
    /// See `k`.
    pub k_cell: usize,
    /// See `k`.
    pub k_head: usize,
    /// Values, laid out alike.
    pub v: &'a [u16],
    /// See `v`.
    pub v_cell: usize,
    /// See `v`.
    pub v_head: usize,
    /// Added to scores: rows of `cells` 16-bit floats.
    pub mask: &'a [u16],
    /// Cells.
    pub cells: usize,
    /// Scores are multiplied by it before the mask is added.
    pub scale: f32,
}

impl<'a> Heads<'a> {
    #[inline(always)]
    fn query(&self, token: usize, head: usize) -> &'a [f32] {
        &self.q[token * self.q_token + head * self.q_head..][..self.dim]
    }

    #[inline(always)]
    fn key(&self, cell: usize, head: usize) -> &'a [u16] {
        &self.k[cell * self.k_cell + head * self.k_head..][..self.dim]
    }

    #[inline(always)]
    fn value(&self, cell: usize, head: usize) -> &'a [u16] {
        &self.v[cell * self.v_cell + head * self.v_head..][..self.dim]
    }

    #[inline(always)]
    fn masked(&self, token: usize, cell: usize) -> f32 {
        at_least_lowest(widen(self.mask[token * self.cells + cell]))
    }
}

/// Room that a thread keeps from one operation to the next.
#[derive(Debug, Default)]
pub struct Scratch {
    queries: Vec<Lane>,
    scores: Vec<Lane>,
    keys: Vec<f32>,
    values: Vec<f32>,
    weights: Vec<f32>,
    sums: Vec<f32>,
}

/// Lanes of a partial result: maximum, sum and weighted values of [`VECTORS_MAX`] vectors of rows.
pub fn partial_lanes(dim: usize) -> usize {
    (2 + dim) * VECTORS_MAX
}

/// Dense tiles of one block for one head of keys and values.
#[derive(Debug, Clone, Copy)]
pub struct Tiles<'a> {
    /// The tensors.
    pub heads: &'a Heads<'a>,
    /// The block.
    pub block: &'a Block,
    /// Which of its dense tiles.
    pub tiles: &'a [Tile],
    /// Head of keys and values.
    pub head: usize,
}

impl Tiles<'_> {
    /// Compute them into `partial` ([`partial_lanes`] lanes).
    #[inline(always)]
    pub fn compute<const FMA: bool>(&self, scratch: &mut Scratch, partial: &mut [Lane]) {
        match (self.block.tokens * self.heads.ratio).div_ceil(LANES) {
            0 | 1 => self.vectors::<FMA, 1>(scratch, partial),
            2 => self.vectors::<FMA, 2>(scratch, partial),
            _ => self.vectors::<FMA, 3>(scratch, partial),
        }
    }

    #[inline(always)]
    fn vectors<const FMA: bool, const V: usize>(&self, scratch: &mut Scratch, partial: &mut [Lane]) {
        let dim = self.heads.dim;
        scratch.queries.resize(dim * V, [0.0; LANES]);
        scratch.scores.resize(TILE * V, [0.0; LANES]);
        scratch.keys.resize(TILE * dim, 0.0);
        scratch.values.resize(TILE * dim, 0.0);
        let queries = scratch.queries.as_chunks_mut::<V>().0;
        let scores = scratch.scores.as_chunks_mut::<V>().0;
        self.transpose(queries);

        let (top, rest) = partial.split_at_mut(VECTORS_MAX);
        let (sum, out) = rest.split_at_mut(VECTORS_MAX);
        let (top, sum) = (&mut top.as_chunks_mut::<V>().0[0], &mut sum.as_chunks_mut::<V>().0[0]);
        let out = &mut out.as_chunks_mut::<V>().0[..dim];
        *top = [[LOWEST; LANES]; V];
        *sum = [[0.0; LANES]; V];
        out.fill([[0.0; LANES]; V]);
        for tile in self.tiles {
            self.load(tile, &mut scratch.keys, &mut scratch.values);
            score::<FMA, V>(queries, &scratch.keys, dim, scores);
            if !tile.clear || tile.len < TILE {
                self.mask(tile, scores);
            }
            let scale = weigh::<FMA, V>(scores, top, sum);
            accumulate::<FMA, V>(scores, &scratch.values, &scale, out);
        }
    }

    /// Queries by dimension, a row a lane, multiplied by the scale. Lanes without a row are zero.
    #[inline(always)]
    fn transpose<const V: usize>(&self, queries: &mut [[Lane; V]]) {
        let Heads { ratio, scale, .. } = *self.heads;
        queries.fill([[0.0; LANES]; V]);
        for row in 0..self.block.tokens * ratio {
            let (token, head) = (self.block.token + row / ratio, self.head * ratio + row % ratio);
            for (at, value) in queries.iter_mut().zip(self.heads.query(token, head)) {
                at[row / LANES][row % LANES] = value * scale;
            }
        }
    }

    #[inline(always)]
    fn load(&self, tile: &Tile, keys: &mut [f32], values: &mut [f32]) {
        let dim = self.heads.dim;
        for (to, row) in [(keys, true), (values, false)] {
            for (i, to) in to.chunks_exact_mut(dim).enumerate() {
                if i >= tile.len {
                    to.fill(0.0);
                    continue;
                }
                let cell = tile.start + i;
                let from =
                    if row { self.heads.key(cell, self.head) } else { self.heads.value(cell, self.head) };
                for (to, from) in to.iter_mut().zip(from) {
                    *to = widen(*from);
                }
            }
        }
    }

    #[inline(always)]
    fn mask<const V: usize>(&self, tile: &Tile, scores: &mut [[Lane; V]]) {
        let ratio = self.heads.ratio;
        for (i, scores) in scores.iter_mut().enumerate() {
            if i >= tile.len {
                *scores = [[LOWEST; LANES]; V];
                continue;
            }
            let mut row = 0;
            for token in 0..self.block.tokens {
                let masked = self.heads.masked(self.block.token + token, tile.start + i);
                for _ in 0..ratio {
                    let score = &mut scores[row / LANES][row % LANES];
                    *score = at_least_lowest(*score + masked);
                    row += 1;
                }
            }
        }
    }
}

/// Scores of a tile: each cell's key with all rows.
#[inline(always)]
fn score<const FMA: bool, const V: usize>(
    queries: &[[Lane; V]],
    keys: &[f32],
    dim: usize,
    scores: &mut [[Lane; V]],
) {
    for (scores, keys) in scores.chunks_exact_mut(SCORE_CELLS).zip(keys.chunks_exact(SCORE_CELLS * dim)) {
        let mut sums = [[[0.0f32; LANES]; V]; SCORE_CELLS];
        for (d, query) in queries.iter().enumerate() {
            for (c, sum) in sums.iter_mut().enumerate() {
                let key = keys[c * dim + d];
                for (sum, query) in sum.iter_mut().zip(query) {
                    for (sum, query) in sum.iter_mut().zip(query) {
                        *sum = fma::<FMA>(*query, key, *sum);
                    }
                }
            }
        }
        scores.copy_from_slice(&sums);
    }
}

/// Scores into weights e^(score - maximum); returns what the earlier sums are to be multiplied by.
#[inline(always)]
fn weigh<const FMA: bool, const V: usize>(
    scores: &mut [[Lane; V]],
    top: &mut [Lane; V],
    sum: &mut [Lane; V],
) -> [Lane; V] {
    let mut scale = [[0.0; LANES]; V];
    for v in 0..V {
        let mut highest = top[v];
        for score in scores.iter() {
            for (highest, score) in highest.iter_mut().zip(&score[v]) {
                *highest = if *score > *highest { *score } else { *highest };
            }
        }
        for i in 0..LANES {
            scale[v][i] = exp::<FMA>(top[v][i] - highest[i]);
            sum[v][i] *= scale[v][i];
        }
        for score in scores.iter_mut() {
            for i in 0..LANES {
                let weight = exp::<FMA>(score[v][i] - highest[i]);
                score[v][i] = weight;
                sum[v][i] += weight;
            }
        }
        top[v] = highest;
    }
    scale
}

/// Add the values of a tile by their weights.
#[inline(always)]
fn accumulate<const FMA: bool, const V: usize>(
    weights: &[[Lane; V]],
    values: &[f32],
    scale: &[Lane; V],
    out: &mut [[Lane; V]],
) {
    let dim = out.len();
    for (d, out) in out.chunks_exact_mut(VALUE_DIMS).enumerate() {
        let mut sums = [[[0.0f32; LANES]; V]; VALUE_DIMS];
        for (sums, out) in sums.iter_mut().zip(out.iter()) {
            for v in 0..V {
                for i in 0..LANES {
                    sums[v][i] = out[v][i] * scale[v][i];
                }
            }
        }
        for (weight, values) in weights.iter().zip(values.chunks_exact(dim)) {
            let values: &[f32; VALUE_DIMS] =
                values[d * VALUE_DIMS..].first_chunk().unwrap_or(&[0.0; VALUE_DIMS]);
            for (sum, value) in sums.iter_mut().zip(values) {
                for (sum, weight) in sum.iter_mut().zip(weight) {
                    for (sum, weight) in sum.iter_mut().zip(weight) {
                        *sum = fma::<FMA>(*weight, *value, *sum);
                    }
                }
            }
        }
        out.copy_from_slice(&sums);
    }
}

/// The end of one token for one head of keys and values: its own cells, and the partial results of its block.
#[derive(Debug, Clone, Copy)]
pub struct Merge<'a> {
    /// The tensors.
    pub heads: &'a Heads<'a>,
    /// The token's block.
    pub block: &'a Block,
    /// The token's number in the block.
    pub token: usize,
    /// Head of keys and values.
    pub head: usize,
    /// Partial results of the block for this head, one after the other.
    pub partials: &'a [Lane],
}

impl Merge<'_> {
    /// Write the results of the token's query heads, `ratio × dim` numbers, to `out`.
    #[inline(always)]
    pub fn compute<const FMA: bool>(&self, scratch: &mut Scratch, out: &mut [f32]) {
        let Heads { dim, ratio, .. } = *self.heads;
        let cells = &self.block.sparse[self.token];
        scratch.weights.resize(ratio * cells.len(), 0.0);
        scratch.sums.clear();
        scratch.sums.resize(ratio * dim, 0.0);
        self.own_scores::<FMA>(cells, &mut scratch.weights);
        let vectors = (self.block.tokens * ratio).div_ceil(LANES).min(VECTORS_MAX);
        let mut totals = [0.0f32; ROWS_MAX];
        for j in 0..ratio {
            let weights = &mut scratch.weights[j * cells.len()..][..cells.len()];
            let row = self.token * ratio + j;
            let (v, i) = (row / LANES, row % LANES);
            let partials = || self.partials.chunks_exact(partial_lanes(dim));
            let own = weights.iter().copied().fold(LOWEST, f32::max);
            let top = partials().map(|partial| partial[v][i]).fold(own, f32::max);
            let mut total = 0.0;
            for weight in weights.iter_mut() {
                *weight = exp::<FMA>(*weight - top);
            }
            for weight in weights.iter() {
                total += weight;
            }
            let sums = &mut scratch.sums[j * dim..][..dim];
            for partial in partials() {
                let share = exp::<FMA>(partial[v][i] - top);
                total += share * partial[VECTORS_MAX + v][i];
                for (sum, lanes) in sums.iter_mut().zip(partial[2 * VECTORS_MAX..].chunks_exact(vectors)) {
                    *sum += share * lanes[v][i];
                }
            }
            totals[j] = total;
        }
        self.own_values::<FMA>(cells, &scratch.weights, &mut scratch.sums);
        for ((out, sums), total) in out.chunks_exact_mut(dim).zip(scratch.sums.chunks_exact(dim)).zip(&totals)
        {
            let share = if *total == 0.0 { 0.0 } else { 1.0 / total };
            for (out, sum) in out.iter_mut().zip(sums) {
                *out = sum * share;
            }
        }
    }

    #[inline(always)]
    fn own_scores<const FMA: bool>(&self, cells: &[u32], weights: &mut [f32]) {
        let Heads { dim, ratio, scale, .. } = *self.heads;
        let token = self.block.token + self.token;
        let mut key = [0.0f32; DIM_MAX];
        for (at, &cell) in cells.iter().enumerate() {
            let cell = cell as usize;
            for (to, from) in key.iter_mut().zip(self.heads.key(cell, self.head)) {
                *to = widen(*from);
            }
            let masked = self.heads.masked(token, cell);
            for j in 0..ratio {
                let query = self.heads.query(token, self.head * ratio + j);
                let product = dot::<FMA>(query, &key[..dim]);
                weights[j * cells.len() + at] = at_least_lowest(product * scale + masked);
            }
        }
    }

    #[inline(always)]
    fn own_values<const FMA: bool>(&self, cells: &[u32], weights: &[f32], sums: &mut [f32]) {
        let Heads { dim, ratio, .. } = *self.heads;
        let mut value = [0.0f32; DIM_MAX];
        for (at, &cell) in cells.iter().enumerate() {
            for (to, from) in value.iter_mut().zip(self.heads.value(cell as usize, self.head)) {
                *to = widen(*from);
            }
            for j in 0..ratio {
                let weight = weights[j * cells.len() + at];
                let sums = &mut sums[j * dim..][..dim];
                for (sum, value) in sums.iter_mut().zip(&value) {
                    *sum = fma::<FMA>(weight, *value, *sum);
                }
            }
        }
    }
}

#[inline(always)]
fn dot<const FMA: bool>(a: &[f32], b: &[f32]) -> f32 {
    let mut sums = [0.0f32; LANES];
    for (a, b) in a.as_chunks::<LANES>().0.iter().zip(b.as_chunks::<LANES>().0) {
        for i in 0..LANES {
            sums[i] = fma::<FMA>(a[i], b[i], sums[i]);
        }
    }
    let mut width = LANES;
    while width > 1 {
        width /= 2;
        for i in 0..width {
            sums[i] += sums[i + width];
        }
    }
    sums[0]
}
