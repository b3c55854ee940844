//! Vectors of x86-64 for the attention kernel.
//!
//! The methods are inlined into functions that are compiled for the instruction set, which is why calling the
//! intrinsics is sound there and nowhere else: nothing but the functions chosen by [`best`] may use these types.

use crate::attention::{EXP, EXP_LOWEST, LANES, LN_2, Lane, Vector};
use std::arch::x86_64::*;

/// A register of AVX-512.
#[derive(Clone, Copy)]
pub struct Avx512(__m512);

/// Two registers of AVX2.
#[derive(Clone, Copy)]
pub struct Avx2([__m256; 2]);

/// Of (AVX-512, AVX2, portable) the first that this processor can run.
pub fn best<T: Copy>([avx512, avx2, portable]: [T; 3]) -> T {
    if has_avx512() {
        avx512
    } else if has_avx2() {
        avx2
    } else {
        portable
    }
}

fn has_avx512() -> bool {
    is_x86_feature_detected!("avx512f")
        && is_x86_feature_detected!("avx512vl")
        && is_x86_feature_detected!("avx512bw")
        && is_x86_feature_detected!("avx512dq")
        && has_avx2()
}

fn has_avx2() -> bool {
    is_x86_feature_detected!("avx2") && is_x86_feature_detected!("fma") && is_x86_feature_detected!("f16c")
}

/// Below this e^x is 0 even as a subnormal number.
const EXP_ZERO: f32 = -104.0;
const ROUND: i32 = _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC;

// SAFETY of every block below: the instruction set is there (module's promise), and references to arrays of sixteen
// numbers are valid for unaligned reads and writes of that size.
#[allow(clippy::undocumented_unsafe_blocks, reason = "one comment stands for all of them")]
impl Vector for Avx512 {
    const WIDE: bool = true;

    #[inline(always)]
    fn load(lane: &Lane) -> Self {
        Self(unsafe { _mm512_loadu_ps(lane.as_ptr()) })
    }

    #[inline(always)]
    fn store(self, lane: &mut Lane) {
        unsafe { _mm512_storeu_ps(lane.as_mut_ptr(), self.0) }
    }

    #[inline(always)]
    fn splat(value: f32) -> Self {
        Self(unsafe { _mm512_set1_ps(value) })
    }

    #[inline(always)]
    fn widen(halves: &[u16; LANES]) -> Self {
        Self(unsafe { _mm512_cvtph_ps(_mm256_loadu_si256(halves.as_ptr().cast())) })
    }

    #[inline(always)]
    fn mul_add(self, by: Self, add: Self) -> Self {
        Self(unsafe { _mm512_fmadd_ps(self.0, by.0, add.0) })
    }

    #[inline(always)]
    fn mul(self, by: Self) -> Self {
        Self(unsafe { _mm512_mul_ps(self.0, by.0) })
    }

    #[inline(always)]
    fn add(self, other: Self) -> Self {
        Self(unsafe { _mm512_add_ps(self.0, other.0) })
    }

    #[inline(always)]
    fn sub(self, other: Self) -> Self {
        Self(unsafe { _mm512_sub_ps(self.0, other.0) })
    }

    #[inline(always)]
    fn max(self, other: Self) -> Self {
        // The instruction gives its second operand where the first is NaN.
        Self(unsafe { _mm512_max_ps(self.0, other.0) })
    }

    #[inline(always)]
    fn exp(self) -> Self {
        // In this order NaN stays NaN.
        let x = Self::splat(EXP_ZERO).max(self);
        let n =
            Self(unsafe { _mm512_roundscale_ps::<ROUND>(x.mul(Self::splat(std::f32::consts::LOG2_E)).0) });
        let power = polynomial(x, n);
        Self(unsafe { _mm512_scalef_ps(power.0, n.0) })
    }
}

/// e^(x - n · ln 2).
#[inline(always)]
fn polynomial<S: Vector>(x: S, n: S) -> S {
    let r = n.mul_add(S::splat(-LN_2[1]), n.mul_add(S::splat(-LN_2[0]), x));
    let p = EXP.iter().fold(S::splat(0.0), |p, c| p.mul_add(r, S::splat(*c)));
    p.mul_add(r.mul(r), r.add(S::splat(1.0)))
}

macro_rules! both {
    ($f:ident, $($x:expr),*) => {
        Self(unsafe { [$f($($x[0]),*), $f($($x[1]),*)] })
    };
}

// SAFETY: as above.
#[allow(clippy::undocumented_unsafe_blocks, reason = "one comment stands for all of them")]
impl Vector for Avx2 {
    const WIDE: bool = false;

    #[inline(always)]
    fn load(lane: &Lane) -> Self {
        Self(unsafe { [_mm256_loadu_ps(lane.as_ptr()), _mm256_loadu_ps(lane[8..].as_ptr())] })
    }

    #[inline(always)]
    fn store(self, lane: &mut Lane) {
        unsafe {
            _mm256_storeu_ps(lane.as_mut_ptr(), self.0[0]);
            _mm256_storeu_ps(lane[8..].as_mut_ptr(), self.0[1]);
        }
    }

    #[inline(always)]
    fn splat(value: f32) -> Self {
        Self([unsafe { _mm256_set1_ps(value) }; 2])
    }

    #[inline(always)]
    fn widen(halves: &[u16; LANES]) -> Self {
        let half = |at: &[u16]| unsafe { _mm256_cvtph_ps(_mm_loadu_si128(at.as_ptr().cast())) };
        Self([half(&halves[..8]), half(&halves[8..])])
    }

    #[inline(always)]
    fn mul_add(self, by: Self, add: Self) -> Self {
        both!(_mm256_fmadd_ps, self.0, by.0, add.0)
    }

    #[inline(always)]
    fn mul(self, by: Self) -> Self {
        both!(_mm256_mul_ps, self.0, by.0)
    }

    #[inline(always)]
    fn add(self, other: Self) -> Self {
        both!(_mm256_add_ps, self.0, other.0)
    }

    #[inline(always)]
    fn sub(self, other: Self) -> Self {
        both!(_mm256_sub_ps, self.0, other.0)
    }

    #[inline(always)]
    fn max(self, other: Self) -> Self {
        both!(_mm256_max_ps, self.0, other.0)
    }

    #[inline(always)]
    fn exp(self) -> Self {
        let x = Self::splat(EXP_LOWEST).max(self);
        let product = x.mul(Self::splat(std::f32::consts::LOG2_E));
        let n = Self(product.0.map(|n| unsafe { _mm256_round_ps::<ROUND>(n) }));
        let power = polynomial(x, n);
        let scale = |n, power, x| unsafe {
            let bits =
                _mm256_slli_epi32::<23>(_mm256_add_epi32(_mm256_cvtps_epi32(n), _mm256_set1_epi32(127)));
            let scaled = _mm256_mul_ps(power, _mm256_castsi256_ps(bits));
            let normal = _mm256_cmp_ps::<_CMP_NLT_UQ>(x, _mm256_set1_ps(EXP_LOWEST));
            _mm256_and_ps(scaled, normal)
        };
        Self([scale(n.0[0], power.0[0], self.0[0]), scale(n.0[1], power.0[1], self.0[1])])
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::attention::tests::{check_attention, check_vector};

    #[target_feature(enable = "avx512f,avx512vl,avx512bw,avx512dq,fma,avx2,f16c")]
    fn avx512() {
        check_vector::<Avx512>();
        check_attention::<Avx512>();
    }

    #[target_feature(enable = "avx2,fma,f16c")]
    fn avx2() {
        check_vector::<Avx2>();
        check_attention::<Avx2>();
    }

    #[test]
    fn vectors_of_this_processor() {
        if has_avx512() {
            // SAFETY: just checked.
            unsafe { avx512() }
        }
        if has_avx2() {
            // SAFETY: just checked.
            unsafe { avx2() }
        }
    }
}
