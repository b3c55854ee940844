//! Random numbers that depend on a seed, a stream and a counter, and on nothing else.
//!
//! SplitMix64 (Steele, Lea and Flood 2014, "Fast splittable pseudorandom number generators") adds a constant to its
//! state and mixes, so its n-th word is a function of the seed and n: any draw can be had without those before it,
//! and a run that is repeated, split or resumed gives the same figures on every machine. It passes BigCrush; it is
//! not for secrets.

/// The odd constant nearest to 2^64 divided by the golden ratio, as SplitMix64 uses it.
const GAMMA: u64 = 0x9e37_79b9_7f4a_7c15;

/// Word number `counter` of SplitMix64 started with `seed`.
pub fn word_at(seed: u64, counter: u64) -> u64 {
    mix(seed.wrapping_add(GAMMA.wrapping_mul(counter.wrapping_add(1))))
}

fn mix(mut z: u64) -> u64 {
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

/// A stream of random numbers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Random {
    seed: u64,
    drawn: u64,
}

impl Random {
    /// Stream number `stream` of `seed`. Streams of one seed are as independent as those of different seeds, so
    /// replicate 17 draws the same numbers whether or not replicate 16 was computed.
    pub fn new(seed: u64, stream: u64) -> Self {
        Self { seed: word_at(seed, stream), drawn: 0 }
    }

    /// The next 64 random bits.
    pub fn word(&mut self) -> u64 {
        let word = word_at(self.seed, self.drawn);
        self.drawn += 1;
        word
    }

    /// The next number from 0 (included) to 1 (not), with 53 random bits.
    pub fn uniform(&mut self) -> f64 {
        (self.word() >> 11) as f64 / (1u64 << 53) as f64
    }

    /// The next number below `bound`; 0 where `bound` is 0. By multiplication (Lemire 2019): the bias is below
    /// `bound` / 2^64, far under what any resampling could notice.
    pub fn below(&mut self, bound: usize) -> usize {
        ((u128::from(self.word()) * bound as u128) >> 64) as usize
    }

    /// The next normal number with mean 0 and variance 1 (Box and Muller 1958).
    pub fn normal(&mut self) -> f64 {
        let radius = (-2.0 * (1.0 - self.uniform()).ln()).sqrt();
        radius * (std::f64::consts::TAU * self.uniform()).cos()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_are_those_of_splitmix64() {
        // The published check values for seed 1234567.
        let expected = [
            6_457_827_717_110_365_317,
            3_203_168_211_198_807_973,
            9_817_491_932_198_370_423,
            4_593_380_528_125_082_431,
            16_408_922_859_458_223_821,
        ];
        for (counter, word) in expected.into_iter().enumerate() {
            assert_eq!(word_at(1_234_567, counter as u64), word, "word {counter}");
        }
    }

    #[test]
    fn a_stream_is_its_seed_and_number() {
        let words = |seed, stream| {
            let mut random = Random::new(seed, stream);
            [random.word(), random.word(), random.word()]
        };
        assert_eq!(words(1, 2), words(1, 2));
        assert_ne!(words(1, 2), words(1, 3));
        assert_ne!(words(1, 2), words(2, 2));
    }

    #[test]
    fn moments() {
        const DRAWS: u32 = 100_000;
        let mut random = Random::new(7, 0);
        let uniform: Vec<f64> = (0..DRAWS).map(|_| random.uniform()).collect();
        let normal: Vec<f64> = (0..DRAWS).map(|_| random.normal()).collect();
        for (name, values, mean, variance) in
            [("uniform", uniform, 0.5, 1.0 / 12.0), ("normal", normal, 0.0, 1.0)]
        {
            let m = values.iter().sum::<f64>() / f64::from(DRAWS);
            let v = values.iter().map(|x| (x - m).powi(2)).sum::<f64>() / f64::from(DRAWS);
            assert!((m - mean).abs() < 0.01, "{name}: mean {m}");
            assert!((v / variance - 1.0).abs() < 0.02, "{name}: variance {v}");
        }
    }

    #[test]
    fn below_reaches_all_and_no_more() {
        let mut random = Random::new(3, 0);
        let mut counts = [0; 5];
        for _ in 0..5_000 {
            counts[random.below(5)] += 1;
        }
        assert!(counts.iter().all(|count| (900..1100).contains(count)), "{counts:?}");
        assert_eq!(random.below(0), 0);
    }
}
