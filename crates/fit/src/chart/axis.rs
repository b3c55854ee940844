//! A logarithmic axis whose ticks are numbers that people like.

/// First digits of ticks, from sparse to dense; the first set with enough ticks is taken.
const DIGITS: [&[f64]; 4] = [
    &[1.0],
    &[1.0, 2.0, 5.0],
    &[1.0, 1.5, 2.0, 3.0, 5.0, 7.0],
    &[1.0, 1.2, 1.5, 2.0, 2.5, 3.0, 4.0, 5.0, 6.0, 8.0],
];
/// Fewer ticks than this leave a reader guessing.
const TICKS_MIN: usize = 4;

/// Positive values from `low` to `high` on pixels from `from` to `to`.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct LogAxis {
    low: f64,
    high: f64,
    from: f64,
    to: f64,
}

impl LogAxis {
    /// An axis; `low` is positive and below `high`.
    pub fn new(low: f64, high: f64, from: f64, to: f64) -> Self {
        Self { low, high, from, to }
    }

    /// The same stretch of pixels in another unit, of which `factor` make one.
    pub fn scaled(&self, factor: f64) -> Self {
        Self { low: self.low * factor, high: self.high * factor, ..*self }
    }

    /// Where a value lies, in pixels; far outside for what is not positive.
    pub fn place(&self, value: f64) -> f64 {
        let share = (value.max(f64::MIN_POSITIVE) / self.low).ln() / (self.high / self.low).ln();
        self.from + share * (self.to - self.from)
    }

    /// Evenly spread values, from end to end.
    pub fn samples(&self, count: usize) -> impl Iterator<Item = f64> {
        let (low, ratio) = (self.low, self.high / self.low);
        (0..count).map(move |at| low * ratio.powf(at as f64 / (count - 1) as f64))
    }

    /// Values to label, ascending.
    pub fn ticks(&self) -> Vec<f64> {
        for digits in DIGITS {
            let ticks = self.ticks_of(digits);
            if ticks.len() >= TICKS_MIN {
                return ticks;
            }
        }
        self.even_ticks()
    }

    fn ticks_of(&self, digits: &[f64]) -> Vec<f64> {
        let decades = self.low.log10().floor() as i32..=self.high.log10().floor() as i32;
        decades
            .flat_map(|decade| digits.iter().map(move |digit| digit * 10f64.powi(decade)))
            .filter(|&tick| self.low <= tick && tick <= self.high)
            .collect()
    }

    /// For less than an octave: steps of 1, 2 or 5.
    fn even_ticks(&self) -> Vec<f64> {
        let rough = (self.high - self.low) / TICKS_MIN as f64;
        let decade = 10f64.powf(rough.log10().floor());
        let step = [5.0, 2.0, 1.0]
            .into_iter()
            .map(|digit| digit * decade)
            .find(|&step| step <= rough)
            .unwrap_or(decade);
        let (first, last) = ((self.low / step).ceil() as i64, (self.high / step).floor() as i64);
        (first..=last).map(|at| at as f64 * step).collect()
    }
}

/// A number with a prefix for its thousands, at most four significant digits, and no trailing zeros.
pub fn amount(value: f64, prefixes: &[&str], space: &str, unit: &str) -> String {
    let mut scaled = value;
    let mut place = 0;
    while scaled >= 999.95 && place + 1 < prefixes.len() {
        scaled /= 1e3;
        place += 1;
    }
    let decimals = (3 - scaled.abs().max(1e-9).log10().floor() as i32).clamp(0, 12) as usize;
    let number = format!("{scaled:.decimals$}");
    let number =
        if number.contains('.') { number.trim_end_matches('0').trim_end_matches('.') } else { &number };
    format!("{number}{space}{}{unit}", prefixes[place])
}

#[cfg(test)]
mod tests {
    use super::*;

    fn close(found: &[f64], expected: &[f64]) -> bool {
        found.len() == expected.len() && found.iter().zip(expected).all(|(a, b)| (a / b - 1.0).abs() < 1e-9)
    }

    #[test]
    fn ticks_are_round_and_enough() {
        let cases: [(f64, f64, &[f64]); 5] = [
            (90e6, 3.5e9, &[1e8, 2e8, 5e8, 1e9, 2e9]),
            (0.5, 2e4, &[1.0, 10.0, 100.0, 1000.0, 10_000.0]),
            (8.0, 31.0, &[10.0, 15.0, 20.0, 30.0]),
            (10.0, 25.0, &[10.0, 12.0, 15.0, 20.0, 25.0]),
            (100.0, 109.0, &[100.0, 102.0, 104.0, 106.0, 108.0]),
        ];
        for (low, high, expected) in cases {
            let ticks = LogAxis::new(low, high, 0.0, 100.0).ticks();
            assert!(close(&ticks, expected), "{low} to {high}: {ticks:?}");
        }
    }

    #[test]
    fn equal_factors_are_equal_lengths() {
        let axis = LogAxis::new(1.0, 1000.0, 300.0, 0.0);
        for (value, at) in [(1.0, 300.0), (10.0, 200.0), (100.0, 100.0), (1000.0, 0.0)] {
            assert!((axis.place(value) - at).abs() < 1e-9, "{value}");
        }
        let samples: Vec<f64> = axis.samples(4).collect();
        assert!(close(&samples, &[1.0, 10.0, 100.0, 1000.0]), "{samples:?}");
        assert!(axis.place(0.0).is_finite());
    }

    #[test]
    fn amounts() {
        for (value, text) in
            [(2e8, "200M"), (1e9, "1B"), (1.5e9, "1.5B"), (999.0, "999"), (0.05, "0.05"), (12.5, "12.5")]
        {
            assert_eq!(amount(value, &["", "K", "M", "B"], "", ""), text);
        }
        assert_eq!(amount(250e6, &["", "k", "M", "G"], " ", "B"), "250 MB");
        assert_eq!(amount(20_000.0, &[""], "", ""), "20000");
    }
}
