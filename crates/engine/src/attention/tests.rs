//! The kernel against the definition of attention in 64 bits, for masks as a shared prompt makes them and for others. The
//! cases are functions of the vector type, so that each implementation is held against the same.

use super::*;

/// Numbers in -1..1 from a counter.
fn noise(count: usize, salt: u64) -> Vec<f32> {
    let mut state = salt.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let mut next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        (state >> 40) as f32 / (1u64 << 23) as f32 - 1.0
    };
    (0..count).map(|_| next()).collect()
}

/// The nearest 16-bit float below in magnitude; enough for normal numbers.
fn narrow(value: f32) -> u16 {
    let bits = value.to_bits();
    let exponent = ((bits >> 23) & 0xff) as i32 - 127 + 15;
    let sign = ((bits >> 16) & 0x8000) as u16;
    if exponent <= 0 { sign } else { sign | ((exponent as u16) << 10) | ((bits >> 13) & 0x3ff) as u16 }
}

struct Case {
    dim: usize,
    ratio: usize,
    heads: usize,
    tokens: usize,
    cells: usize,
    q: Vec<f32>,
    k: Vec<u16>,
    v: Vec<u16>,
    mask: Vec<u16>,
}

const UNSEEN: u16 = 0xfc00;

impl Case {
    /// `shared` cells that every token sees, then cells of one token each in turn, and some that nobody sees.
    fn new(dim: usize, ratio: usize, heads: usize, tokens: usize, shared: usize, own: usize) -> Self {
        let cells = shared + own * tokens + 7;
        let half = |salt| noise(cells * heads * dim, salt).into_iter().map(narrow).collect();
        let mut mask = vec![UNSEEN; tokens * cells];
        for token in 0..tokens {
            mask[token * cells..][..shared].fill(0);
            for i in 0..own {
                mask[token * cells + shared + i * tokens + token] = 0;
            }
        }
        let q = noise(tokens * heads * ratio * dim, 3);
        Self { dim, ratio, heads, tokens, cells, q, k: half(1), v: half(2), mask }
    }

    fn views(&self) -> Heads<'_> {
        let Self { dim, ratio, heads, .. } = *self;
        Heads {
            dim,
            ratio,
            q: &self.q,
            q_token: heads * ratio * dim,
            q_head: dim,
            k: &self.k,
            k_cell: heads * dim,
            k_head: dim,
            v: &self.v,
            v_cell: heads * dim,
            v_head: dim,
            mask: &self.mask,
            cells: self.cells,
            scale: 0.7,
        }
    }

    /// The definition, in 64 bits: softmax(scale · q·k + mask) · v.
    fn expected(&self, token: usize, head: usize) -> Vec<f64> {
        let views = self.views();
        let kv = head / self.ratio;
        let query = &self.q[token * views.q_token + head * self.dim..][..self.dim];
        let half = |values: &[u16], cell: usize, d: usize| {
            f64::from(widen(values[cell * views.k_cell + kv * self.dim + d]))
        };
        let mut total = 0.0;
        let mut sums = vec![0.0; self.dim];
        for cell in 0..self.cells {
            let masked = widen(self.mask[token * self.cells + cell]);
            if masked == f32::NEG_INFINITY {
                continue;
            }
            let product: f64 = (0..self.dim).map(|d| f64::from(query[d]) * half(&self.k, cell, d)).sum();
            let weight = (product * f64::from(views.scale) + f64::from(masked)).exp();
            total += weight;
            for (d, sum) in sums.iter_mut().enumerate() {
                *sum += weight * half(&self.v, cell, d);
            }
        }
        sums.iter().map(|sum| if total == 0.0 { 0.0 } else { sum / total }).collect()
    }

    /// All results, by `splits` threads.
    fn computed<S: Vector>(&self, splits: usize) -> Vec<f32> {
        let views = self.views();
        let plan = Plan::new(&self.mask, self.tokens, self.cells, self.ratio);
        let mut scratch = Scratch::default();
        let lanes = partial_lanes(self.dim);
        let width = self.heads * self.ratio * self.dim;
        let mut out = vec![f32::NAN; self.tokens * width];
        for block in &plan.blocks {
            let mut partials = vec![[f32::NAN; LANES]; lanes * splits * self.heads];
            for (i, partial) in partials.chunks_exact_mut(lanes).enumerate() {
                let part = |i| i * block.dense.len() / splits;
                let tiles = &block.dense[part(i % splits)..part(i % splits + 1)];
                Tiles { heads: &views, block, tiles, head: i / splits }.compute::<S>(&mut scratch, partial);
            }
            for thread in 0..splits {
                let (partials, share) = (&partials[..], (thread, splits));
                let merge = Merge { heads: &views, block, count: self.heads, partials, share };
                merge.compute::<S>(&mut scratch, |token, row| {
                    out[(block.token + token) * width..][..width].copy_from_slice(row);
                });
            }
        }
        out
    }

    #[track_caller]
    fn check<S: Vector>(&self, splits: usize) {
        let computed = self.computed::<S>(splits);
        let mut rows = computed.chunks_exact(self.dim);
        for token in 0..self.tokens {
            for head in 0..self.heads * self.ratio {
                let row = rows.next().unwrap();
                for (got, want) in row.iter().zip(self.expected(token, head)) {
                    let off = (f64::from(*got) - want).abs();
                    assert!(off < 2e-6, "token {token}, head {head}: {got} is not {want}");
                }
            }
        }
    }
}

/// Head size, query heads each, heads of keys and values, tokens, shared cells, own cells of each token.
const CASES: [(usize, usize, usize, usize, usize, usize); 7] = [
    (64, 3, 3, 16, 600, 20),
    (64, 3, 3, 16, 0, 20),
    (64, 1, 2, 4, 64, 0),
    (128, 4, 2, 5, 130, 9),
    (256, 4, 1, 2, 65, 3),
    (32, 8, 1, 7, 31, 40),
    (16, 2, 2, 61, 100, 1),
];

#[test]
fn attention_is_what_its_definition_says() {
    check_attention::<Lane>();
}

#[test]
fn a_causal_mask_and_finite_biases() {
    let mut case = Case::new(64, 3, 1, 40, 200, 0);
    for token in 0..case.tokens {
        for cell in 0..case.cells {
            let visible = cell < 120 + token * 2;
            let bias = if cell % 5 == 0 { narrow(-1.5) } else { 0 };
            case.mask[token * case.cells + cell] = if visible { bias } else { UNSEEN };
        }
    }
    case.check::<Lane>(2);
}

#[test]
fn a_row_that_sees_nothing_is_zero_and_harms_no_other() {
    let mut case = Case::new(64, 3, 1, 8, 128, 4);
    let cells = case.cells;
    case.mask[2 * cells..3 * cells].fill(UNSEEN);
    let rows = case.computed::<Lane>(1);
    assert!(rows.iter().all(|value| value.is_finite()));
    case.mask[2 * cells..3 * cells].fill(0);
    let before = 2 * 3 * 64;
    assert_eq!(rows[..before], case.computed::<Lane>(1)[..before]);
}

#[test]
fn a_broken_key_is_noticed() {
    for (cell, what) in [(3, "a shared cell"), (610, "an own cell")] {
        let mut case = Case::new(64, 3, 1, 16, 600, 20);
        case.k[cell * 64] = 0x7e00;
        assert!(case.computed::<Lane>(1).iter().any(|value| value.is_nan()), "{what}");
    }
}

#[test]
fn the_plan_sorts_cells_by_who_sees_them() {
    let case = Case::new(64, 3, 3, 16, 600, 20);
    let plan = Plan::new(&case.mask, case.tokens, case.cells, case.ratio);
    let [block] = &plan.blocks[..] else { panic!("{} blocks", plan.blocks.len()) };
    assert_eq!((block.dense.len(), block.dense[8].clear, block.dense[9].clear), (10, true, false));
    // The last dense tile ends at cell 640 and holds the first of the tokens' own cells.
    let own: Vec<(u32, u32)> = (640..920).map(|cell| (cell, (cell - 600) % 16)).collect();
    assert_eq!(block.own, own);
}

#[test]
fn sixteen_bit_floats_widen_exactly() {
    for (half, value) in [
        (0x0000, 0.0),
        (0x3c00, 1.0),
        (0xc000, -2.0),
        (0x7bff, 65504.0),
        (0x0400, 6.103_515_6e-5),
        (0x0001, 5.960_464_5e-8),
        (0x83ff, -6.097_555e-5),
        (0x7c00, f32::INFINITY),
        (0xfc00, f32::NEG_INFINITY),
    ] {
        assert_eq!(widen(half), value, "{half:#06x}");
    }
    assert!(widen(0x7e01).is_nan());
}

/// What every vector must do; each implementation's own tests call it.
pub(crate) fn check_vector<S: Vector>() {
    let map = |x: f32, f: &dyn Fn(S) -> S| {
        let mut out = [0.0; LANES];
        f(S::splat(x)).store(&mut out);
        assert!(out.iter().all(|o| o.to_bits() == out[0].to_bits()), "{out:?}");
        out[0]
    };
    for step in 0..=8700 {
        let x = (-f64::from(step) / 100.0) as f32;
        let got = map(x, &S::exp);
        let off = (f64::from(got) / f64::from(x).exp() - 1.0).abs();
        assert!(off < 3e-7, "e^{x} is not {got}");
    }
    assert_eq!(map(-105.0, &S::exp), 0.0);
    assert_eq!(map(2.0 * LOWEST, &S::exp), 0.0);
    assert!(map(f32::NAN, &S::exp).is_nan());
    assert_eq!(map(f32::NAN, &|nan| nan.max(S::splat(2.0))), 2.0);
    assert_eq!(map(3.0, &|x| x.max(S::splat(2.0))), 3.0);
    assert_eq!(map(3.0, &|x| x.mul_add(S::splat(2.0), S::splat(1.0))), 7.0);
    assert_eq!(map(3.0, &|x| x.mul(S::splat(2.0)).sub(S::splat(1.0)).add(S::splat(0.5))), 5.5);
    let halves = std::array::from_fn(|i| 0x3c00 + i as u16 * 64);
    let mut out = [0.0; LANES];
    S::widen(&halves).store(&mut out);
    assert_eq!(out, halves.map(widen));
    let lane: Lane = std::array::from_fn(|i| i as f32);
    S::load(&lane).store(&mut out);
    assert_eq!(out, lane);
}

#[test]
fn the_portable_vector() {
    check_vector::<Lane>();
}

/// The same cases for another implementation.
pub(crate) fn check_attention<S: Vector>() {
    for (dim, ratio, heads, tokens, shared, own) in CASES {
        for splits in [1, 2, 3] {
            Case::new(dim, ratio, heads, tokens, shared, own).check::<S>(splits);
        }
    }
}
