//! Random numbers that depend on a seed and a stream alone.
//!
//! SplitMix64 (Steele, Lea and Flood 2014): a counter and a mixer, five lines that will give the same tasks in ten
//! years, whatever a library does.

/// A stream of random numbers.
#[derive(Debug, Clone)]
pub struct Draw(u64);

impl Draw {
    /// The stream of this number.
    pub fn new(seed: u64, stream: u64) -> Self {
        let mut start = Self(seed);
        Self(start.bits() ^ stream.wrapping_mul(0xD1B5_4A32_D192_ED03))
    }

    /// Any 64 bits.
    pub fn bits(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        mixed ^ (mixed >> 31)
    }

    /// A whole number from `low` to `high`, both included.
    pub fn within(&mut self, low: i64, high: i64) -> i64 {
        let span = high.abs_diff(low) + 1;
        low + ((u128::from(self.bits()) * u128::from(span)) >> 64) as i64
    }

    /// One of them.
    pub fn of<'a, T>(&mut self, all: &'a [T]) -> &'a T {
        &all[self.within(0, all.len() as i64 - 1) as usize]
    }

    /// So many of them, all different, in random order.
    pub fn some<T: Clone>(&mut self, all: &[T], count: usize) -> Vec<T> {
        let mut left = all.to_vec();
        (0..count.min(all.len()))
            .map(|_| left.swap_remove(self.within(0, left.len() as i64 - 1) as usize))
            .collect()
    }
}
