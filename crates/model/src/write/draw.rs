//! Random numbers for weights, and the narrow formats they are stored in.
//!
//! A file made of random weights must be the same on every machine, so that its checksum names it: the generator
//! is integer arithmetic, and the only rounding is the last multiplication.

use qeil_laws::random::word_at;

/// A stream of random bits, the same on every machine.
pub(super) struct Random {
    seed: u64,
    drawn: u64,
}

impl Random {
    /// A stream of its own for each name, so that adding a tensor leaves the others as they were.
    pub fn named(seed: u64, name: &str) -> Self {
        // FNV-1a.
        let hash = name.bytes().fold(0xcbf2_9ce4_8422_2325, |hash: u64, byte| {
            (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
        });
        Self { seed: seed ^ hash, drawn: 0 }
    }

    /// 64 random bits.
    pub fn next(&mut self) -> u64 {
        self.drawn += 1;
        word_at(self.seed, self.drawn - 1)
    }

    /// Nearly normal with variance 1: the sum of four uniform numbers (Irwin–Hall), in exact arithmetic up to the
    /// last multiplication, hence the same bits everywhere.
    pub fn normal(&mut self) -> f32 {
        let bits = self.next();
        let sum: u64 = (0..4).map(|part| (bits >> (16 * part)) & 0xffff).sum();
        // Mean 2·65535; variance of one part 65536²/12, of four 65536²/3.
        (sum as f32 - 131_070.0) / 65_536.0 * 1.732_050_8
    }
}

/// The half-precision number nearest to `value`; what is too large becomes infinite.
pub(super) fn f16_bits(value: f32) -> u16 {
    let bits = value.to_bits();
    let sign = (bits >> 16) as u16 & 0x8000;
    let magnitude = bits & 0x7fff_ffff;
    if magnitude < (127 - 14) << 23 {
        // Below the smallest normal number, 2^-14, steps are 2^-24. A rounding up to 2^-14 has its very bits.
        let steps = (f32::from_bits(magnitude) * 16_777_216.0).round_ties_even();
        return sign | steps as u16;
    }
    // Round half to even at the 13 bits that go, letting the carry run into the exponent.
    let rounded = (magnitude + 0x0fff + ((magnitude >> 13) & 1)) >> 13;
    let half = i64::from(rounded) - ((127 - 15) << 10);
    if half >= 0x7c00 { sign | 0x7c00 } else { sign | half as u16 }
}

/// The bfloat16 number nearest to `value`, which is finite.
pub(super) fn bf16_bits(value: f32) -> u16 {
    let bits = value.to_bits();
    ((bits + 0x7fff + ((bits >> 16) & 1)) >> 16) as u16
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn half_precision() {
        for (value, bits) in [
            (0.0, 0),
            (1.0, 0x3c00),
            (-2.0, 0xc000),
            (0.1, 0x2e66),
            (65504.0, 0x7bff),
            (1e6, 0x7c00),
            // Subnormal numbers: steps of 2^-24.
            (1e-6, 0x0011),
            (-5.96e-8, 0x8001),
            (1e-9, 0),
            (6.103_516e-5, 0x0400),
            (6.103_2e-5, 0x0400),
        ] {
            assert_eq!(f16_bits(value), bits, "{value}");
        }
    }

    #[test]
    fn bfloat16() {
        for (value, bits) in [(0.0, 0), (1.0, 0x3f80), (-2.0, 0xc000), (0.1, 0x3dcd), (3.389e38, 0x7f7f)] {
            assert_eq!(bf16_bits(value), bits, "{value}");
        }
    }

    #[test]
    fn weights_have_variance_one() {
        let mut random = Random::named(7, "test");
        let sample: Vec<f64> = (0..100_000).map(|_| f64::from(random.normal())).collect();
        let mean = sample.iter().sum::<f64>() / 1e5;
        let variance = sample.iter().map(|x| (x - mean).powi(2)).sum::<f64>() / 1e5;
        assert!(mean.abs() < 0.02 && (variance - 1.0).abs() < 0.02, "mean {mean}, variance {variance}");
    }
}
