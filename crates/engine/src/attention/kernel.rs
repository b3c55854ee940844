//! The arithmetic: tiles for all rows of a block, single cells for single tokens, and putting both together.

use super::plan::{Block, Tile};
use super::{DIM_MAX, LANES, LOWEST, Lane, TILE, VECTORS_MAX, Vector, at_least_lowest, widen};

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
    keys: Vec<Lane>,
    values: Vec<Lane>,
    weights: Vec<Lane>,
    sums: Vec<Lane>,
    seen: Vec<usize>,
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
    pub fn compute<S: Vector>(&self, scratch: &mut Scratch, partial: &mut [Lane]) {
        let vectors = (self.block.tokens * self.heads.ratio).div_ceil(LANES);
        match (vectors, S::WIDE) {
            (0 | 1, true) => self.vectors::<S, 1, 8>(scratch, partial),
            (2, true) => self.vectors::<S, 2, 8>(scratch, partial),
            (_, true) => self.vectors::<S, 3, 8>(scratch, partial),
            (0 | 1, false) => self.vectors::<S, 1, 4>(scratch, partial),
            (2, false) => self.vectors::<S, 2, 2>(scratch, partial),
            (_, false) => self.vectors::<S, 3, 2>(scratch, partial),
        }
    }

    /// For `V` vectors of rows, accumulating `U` cells or dimensions at once.
    #[inline(always)]
    fn vectors<S: Vector, const V: usize, const U: usize>(
        &self,
        scratch: &mut Scratch,
        partial: &mut [Lane],
    ) {
        let dim = self.heads.dim;
        scratch.queries.resize(dim * V, [0.0; LANES]);
        scratch.scores.resize(TILE * V, [0.0; LANES]);
        scratch.keys.resize(TILE * dim / LANES, [0.0; LANES]);
        scratch.values.resize(TILE * dim / LANES, [0.0; LANES]);
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
            self.load::<S>(tile, &mut scratch.keys, &mut scratch.values);
            score::<S, V, U>(queries, scratch.keys.as_flattened(), dim, scores);
            if !tile.clear || tile.len < TILE {
                self.mask(tile, scores);
            }
            let scale = weigh::<S, V>(scores, top, sum);
            accumulate::<S, V, U>(scores, scratch.values.as_flattened(), scale, out);
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
    fn load<S: Vector>(&self, tile: &Tile, keys: &mut [Lane], values: &mut [Lane]) {
        let lanes = self.heads.dim / LANES;
        let rows = keys.chunks_exact_mut(lanes).zip(values.chunks_exact_mut(lanes));
        for (i, (key, value)) in rows.enumerate() {
            if i < tile.len {
                widen_all::<S>(self.heads.key(tile.start + i, self.head), key);
                widen_all::<S>(self.heads.value(tile.start + i, self.head), value);
            } else {
                key.fill([0.0; LANES]);
                value.fill([0.0; LANES]);
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

#[inline(always)]
fn widen_all<S: Vector>(from: &[u16], to: &mut [Lane]) {
    for (to, from) in to.iter_mut().zip(from.as_chunks::<LANES>().0) {
        S::widen(from).store(to);
    }
}

#[inline(always)]
fn load_all<S: Vector, const V: usize>(lanes: &[Lane; V]) -> [S; V] {
    std::array::from_fn(|v| S::load(&lanes[v]))
}

/// Scores of a tile: each cell's key with all rows.
#[inline(always)]
fn score<S: Vector, const V: usize, const U: usize>(
    queries: &[[Lane; V]],
    keys: &[f32],
    dim: usize,
    scores: &mut [[Lane; V]],
) {
    for (scores, keys) in scores.chunks_exact_mut(U).zip(keys.chunks_exact(U * dim)) {
        let keys: [&[f32]; U] = std::array::from_fn(|c| &keys[c * dim..][..queries.len()]);
        let mut sums = [[S::splat(0.0); V]; U];
        for (d, query) in queries.iter().enumerate() {
            let query = load_all::<S, V>(query);
            for c in 0..U {
                let key = S::splat(keys[c][d]);
                for v in 0..V {
                    sums[c][v] = query[v].mul_add(key, sums[c][v]);
                }
            }
        }
        store_all(&sums, scores);
    }
}

#[inline(always)]
fn store_all<S: Vector, const V: usize, const U: usize>(sums: &[[S; V]; U], to: &mut [[Lane; V]]) {
    for (sums, to) in sums.iter().zip(to) {
        for (sum, to) in sums.iter().zip(to) {
            sum.store(to);
        }
    }
}

/// Scores into weights e^(score - maximum); returns what the earlier sums are to be multiplied by.
#[inline(always)]
fn weigh<S: Vector, const V: usize>(
    scores: &mut [[Lane; V]],
    top: &mut [Lane; V],
    sum: &mut [Lane; V],
) -> [S; V] {
    let before = load_all::<S, V>(top);
    let mut highest = before;
    for score in scores.iter() {
        for v in 0..V {
            highest[v] = S::load(&score[v]).max(highest[v]);
        }
    }
    let scale: [S; V] = std::array::from_fn(|v| before[v].sub(highest[v]).exp());
    let mut total: [S; V] = std::array::from_fn(|v| S::load(&sum[v]).mul(scale[v]));
    for score in scores.iter_mut() {
        for v in 0..V {
            let weight = S::load(&score[v]).sub(highest[v]).exp();
            weight.store(&mut score[v]);
            total[v] = total[v].add(weight);
        }
    }
    for v in 0..V {
        highest[v].store(&mut top[v]);
        total[v].store(&mut sum[v]);
    }
    scale
}

/// Add the values of a tile by their weights.
#[inline(always)]
fn accumulate<S: Vector, const V: usize, const U: usize>(
    weights: &[[Lane; V]],
    values: &[f32],
    scale: [S; V],
    out: &mut [[Lane; V]],
) {
    let dim = out.len();
    for (d, out) in out.chunks_exact_mut(U).enumerate() {
        let mut sums: [[S; V]; U] =
            std::array::from_fn(|u| std::array::from_fn(|v| S::load(&out[u][v]).mul(scale[v])));
        for (weight, values) in weights.iter().zip(values.chunks_exact(dim)) {
            let weight = load_all::<S, V>(weight);
            let values = &values[d * U..][..U];
            for u in 0..U {
                let value = S::splat(values[u]);
                for v in 0..V {
                    sums[u][v] = weight[v].mul_add(value, sums[u][v]);
                }
            }
        }
        store_all(&sums, out);
    }
}

/// The end of a block: the cells that its tokens do not share, and the partial results of its dense tiles.
#[derive(Debug, Clone, Copy)]
pub struct Merge<'a> {
    /// The tensors.
    pub heads: &'a Heads<'a>,
    /// The block.
    pub block: &'a Block,
    /// Heads of keys and values.
    pub count: usize,
    /// Partial results of the block: for each head all its parts, one after the other.
    pub partials: &'a [Lane],
    /// Of the block's tokens, those whose number leaves `share.0` when divided by `share.1`.
    pub share: (usize, usize),
}

impl Merge<'_> {
    /// Compute the results of the share's tokens, and `write` those of each: its number in the block, and the numbers of
    /// all its query heads.
    #[inline(always)]
    pub fn compute<S: Vector>(&self, scratch: &mut Scratch, mut write: impl FnMut(usize, &[f32])) {
        let Heads { dim, ratio, .. } = *self.heads;
        let Scratch { weights, sums, seen, .. } = scratch;
        let (first, step) = self.share;
        let tokens = self.block.tokens.saturating_sub(first).div_ceil(step);
        let rows = self.count * ratio;
        seen.clear();
        seen.resize(tokens, 0);
        self.each_own(|token, _| seen[token] += 1);
        let lanes = seen.iter().max().map_or(0, |most| most.div_ceil(LANES));
        weights.clear();
        weights.resize(tokens * rows * lanes, [LOWEST; LANES]);
        sums.clear();
        sums.resize(tokens * rows * dim / LANES, [0.0; LANES]);

        seen.fill(0);
        self.score::<S>(weights.as_flattened_mut(), lanes * LANES, seen);
        for row in 0..tokens * rows {
            let (token, head) = (first + row / rows * step, row % rows);
            let weights = &mut weights[row * lanes..][..lanes];
            let sums = &mut sums[row * dim / LANES..][..dim / LANES];
            self.weigh::<S>(token * ratio + head % ratio, head / ratio, weights, sums.as_flattened_mut());
        }
        seen.fill(0);
        self.accumulate::<S>(weights.as_flattened(), lanes * LANES, seen, sums);
        for (i, sums) in sums.chunks_exact(rows * dim / LANES).enumerate() {
            write(first + i * step, sums.as_flattened());
        }
    }

    /// Call `f` with (number of the token in the share, cell), in the order of cells.
    #[inline(always)]
    fn each_own(&self, mut f: impl FnMut(usize, usize)) {
        let (first, step) = self.share;
        for &(cell, token) in &self.block.own {
            if token as usize % step == first {
                f(token as usize / step, cell as usize);
            }
        }
    }

    /// Scores of own cells into rows of `width` numbers: (token, head).
    #[inline(always)]
    fn score<S: Vector>(&self, weights: &mut [f32], width: usize, seen: &mut [usize]) {
        let Heads { dim, ratio, scale, .. } = *self.heads;
        let mut room = [[0.0f32; LANES]; DIM_MAX / LANES];
        let key = &mut room[..dim / LANES];
        self.each_own(|number, cell| {
            let token = self.block.token + self.share.0 + number * self.share.1;
            let masked = self.heads.masked(token, cell);
            for head in 0..self.count {
                widen_all::<S>(self.heads.key(cell, head), key);
                for head in head * ratio..(head + 1) * ratio {
                    let product = dot::<S>(self.heads.query(token, head), key);
                    let at = (number * self.count * ratio + head) * width + seen[number];
                    weights[at] = at_least_lowest(product * scale + masked);
                }
            }
            seen[number] += 1;
        });
    }

    /// Scores of one row into its weights, which together with those of the partial results are 1; the partial results
    /// into `sums`. `row` is the row's number among those of its head.
    #[inline(always)]
    fn weigh<S: Vector>(&self, row: usize, head: usize, weights: &mut [Lane], sums: &mut [f32]) {
        let Heads { dim, ratio, .. } = *self.heads;
        let vectors = (self.block.tokens * ratio).div_ceil(LANES);
        let (v, i) = (row / LANES, row % LANES);
        let parts = self.partials.len() / self.count;
        let partials = || self.partials[head * parts..][..parts].chunks_exact(partial_lanes(dim));
        let own = weights.as_flattened().iter().copied().fold(LOWEST, f32::max);
        let top = partials().map(|partial| partial[v][i]).fold(own, f32::max);
        let mut total = S::splat(0.0);
        for weight in weights.iter_mut() {
            let of_cells = S::load(weight).sub(S::splat(top)).exp();
            of_cells.store(weight);
            total = total.add(of_cells);
        }
        let mut total = sum_of(total);
        let factor = |partial: &[Lane]| {
            let mut factor = [0.0; LANES];
            S::splat(partial[v][i] - top).exp().store(&mut factor);
            factor[0]
        };
        for partial in partials() {
            total += factor(partial) * partial[VECTORS_MAX + v][i];
        }
        // A row that sees nothing has no average.
        let share = if total == 0.0 { 0.0 } else { 1.0 / total };
        for partial in partials() {
            let factor = factor(partial) * share;
            for (sum, lanes) in sums.iter_mut().zip(partial[2 * VECTORS_MAX..].chunks_exact(vectors)) {
                *sum += factor * lanes[v][i];
            }
        }
        for weight in weights.iter_mut() {
            S::load(weight).mul(S::splat(share)).store(weight);
        }
    }

    /// Add the values of own cells by their weights.
    #[inline(always)]
    fn accumulate<S: Vector>(&self, weights: &[f32], width: usize, seen: &mut [usize], sums: &mut [Lane]) {
        let Heads { dim, ratio, .. } = *self.heads;
        self.each_own(|number, cell| {
            for head in 0..self.count {
                let value = self.heads.value(cell, head).as_chunks::<LANES>().0;
                for head in head * ratio..(head + 1) * ratio {
                    let row = number * self.count * ratio + head;
                    let weight = S::splat(weights[row * width + seen[number]]);
                    for (sum, value) in sums[row * dim / LANES..].iter_mut().zip(value) {
                        S::widen(value).mul_add(weight, S::load(sum)).store(sum);
                    }
                }
            }
            seen[number] += 1;
        });
    }
}

#[inline(always)]
fn dot<S: Vector>(a: &[f32], b: &[Lane]) -> f32 {
    let mut sums = S::splat(0.0);
    for (a, b) in a.as_chunks::<LANES>().0.iter().zip(b) {
        sums = S::load(a).mul_add(S::load(b), sums);
    }
    sum_of(sums)
}

/// The sum of sixteen numbers, in pairs.
#[inline(always)]
fn sum_of<S: Vector>(numbers: S) -> f32 {
    let mut sum = [0.0; LANES];
    numbers.store(&mut sum);
    let mut width = LANES;
    while width > 1 {
        width /= 2;
        for i in 0..width {
            sum[i] += sum[i + width];
        }
    }
    sum[0]
}
