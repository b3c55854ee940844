//! Sixteen numbers at a time.
//!
//! Compilers do not turn loops over small arrays into vectors reliably (the first version of this kernel was scalar,
//! and slower than what it replaced), so the arithmetic is written against [`Vector`]. The portable one is an array;
//! those of x86-64 are in `llama::attention::x86`, since intrinsics need `unsafe`.

use super::{LANES, Lane};

/// Sixteen 32-bit floats.
pub trait Vector: Copy {
    /// Whether 24 of them and some to spare fit into the registers.
    const WIDE: bool;
    /// From memory.
    fn load(lane: &Lane) -> Self;
    /// To memory.
    fn store(self, lane: &mut Lane);
    /// The same number sixteen times.
    fn splat(value: f32) -> Self;
    /// Sixteen 16-bit floats (IEEE 754 binary16).
    fn widen(halves: &[u16; LANES]) -> Self;
    /// `self · by + add`.
    fn mul_add(self, by: Self, add: Self) -> Self;
    /// `self · by`.
    fn mul(self, by: Self) -> Self;
    /// `self + other`.
    fn add(self, other: Self) -> Self;
    /// `self - other`.
    fn sub(self, other: Self) -> Self;
    /// The larger, lane by lane; `other` where `self` is NaN.
    fn max(self, other: Self) -> Self;
    /// e^self for numbers up to 0, to within 3·10⁻⁷ of itself; 0 from -104 on. NaN stays NaN.
    fn exp(self) -> Self;
}

/// Coefficients of e^r on ±ln 2 / 2, highest power first, from r⁷ to r²: those of Cephes' `expf` (Moshier 1989).
pub const EXP: [f32; 6] = [1.987_569_1e-4, 1.398_2e-3, 8.333_452e-3, 4.166_579_6e-2, 1.666_666_5e-1, 0.5];
/// ln 2 in two parts, so that their products with a whole number lose nothing.
pub const LN_2: [f32; 2] = [0.693_359_4, -2.121_944_4e-4];
/// Below this e^x is no normal number any more.
pub const EXP_LOWEST: f32 = -87.0;

impl Vector for Lane {
    const WIDE: bool = false;

    #[inline(always)]
    fn load(lane: &Lane) -> Self {
        *lane
    }

    #[inline(always)]
    fn store(self, lane: &mut Lane) {
        *lane = self;
    }

    #[inline(always)]
    fn splat(value: f32) -> Self {
        [value; LANES]
    }

    #[inline(always)]
    fn widen(halves: &[u16; LANES]) -> Self {
        halves.map(widen)
    }

    #[inline(always)]
    fn mul_add(self, by: Self, add: Self) -> Self {
        std::array::from_fn(|i| self[i] * by[i] + add[i])
    }

    #[inline(always)]
    fn mul(self, by: Self) -> Self {
        std::array::from_fn(|i| self[i] * by[i])
    }

    #[inline(always)]
    fn add(self, other: Self) -> Self {
        std::array::from_fn(|i| self[i] + other[i])
    }

    #[inline(always)]
    fn sub(self, other: Self) -> Self {
        std::array::from_fn(|i| self[i] - other[i])
    }

    #[inline(always)]
    fn max(self, other: Self) -> Self {
        std::array::from_fn(|i| if self[i] > other[i] { self[i] } else { other[i] })
    }

    #[inline(always)]
    fn exp(self) -> Self {
        self.map(exp)
    }
}

fn exp(x: f32) -> f32 {
    if x < EXP_LOWEST {
        return 0.0;
    }
    let n = (x * std::f32::consts::LOG2_E).round();
    let r = x - n * LN_2[0] - n * LN_2[1];
    let p = EXP.iter().fold(0.0, |p, c| p * r + c);
    (p * r * r + r + 1.0) * f32::from_bits(((n as i32 + 127) as u32) << 23)
}

/// A 16-bit float as a 32-bit one.
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
