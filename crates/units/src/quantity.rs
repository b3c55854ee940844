//! Quantities as types.
//!
//! The number inside is public: these types guard sums and signatures, they do not hide anything. What the
//! arithmetic offers is what physics offers (W·s = J, J/s = W); degrees Celsius have differences but no sums,
//! because 20 °C and 20 °C are not 40 °C of anything. `Display` gives three significant digits and an SI prefix
//! (binary prefixes for bytes); a precision in the format string sets the decimals instead.

use serde::{Deserialize, Serialize};
use std::fmt;
use std::iter::Sum;
use std::ops::{Add, AddAssign, Div, Mul, Sub};

/// Significant digits that `Display` shows: more than any sensor here resolves would be noise.
const SIGNIFICANT_DIGITS: i32 = 3;

macro_rules! quantity {
    ($(#[$doc:meta])* $name:ident($inner:ty)) => {
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, PartialEq, PartialOrd, Serialize, Deserialize)]
        #[serde(transparent)]
        pub struct $name(pub $inner);
    };
}

macro_rules! additive {
    ($($name:ident)*) => {$(
        impl Add for $name {
            type Output = Self;
            fn add(self, other: Self) -> Self {
                Self(self.0 + other.0)
            }
        }
        impl AddAssign for $name {
            fn add_assign(&mut self, other: Self) {
                self.0 += other.0;
            }
        }
        impl Sum for $name {
            fn sum<I: Iterator<Item = Self>>(all: I) -> Self {
                Self(all.map(|q| q.0).sum())
            }
        }
    )*};
}

macro_rules! real {
    ($($name:ident)*) => {$(
        impl Sub for $name {
            type Output = Self;
            fn sub(self, other: Self) -> Self {
                Self(self.0 - other.0)
            }
        }
        impl Mul<f64> for $name {
            type Output = Self;
            fn mul(self, factor: f64) -> Self {
                Self(self.0 * factor)
            }
        }
        impl Div<f64> for $name {
            type Output = Self;
            fn div(self, divisor: f64) -> Self {
                Self(self.0 / divisor)
            }
        }
        /// How many times the other quantity.
        impl Div for $name {
            type Output = f64;
            fn div(self, other: Self) -> f64 {
                self.0 / other.0
            }
        }
    )*};
}

quantity!(
    /// Energy.
    Joules(f64)
);
quantity!(
    /// Power.
    Watts(f64)
);
quantity!(
    /// Time, as a quantity to calculate with; a clock's own type is [`std::time::Duration`].
    Seconds(f64)
);
quantity!(
    /// Temperature.
    Celsius(f64)
);
quantity!(
    /// Money, in US dollars.
    Usd(f64)
);
quantity!(
    /// A count of tokens.
    #[derive(Eq, Ord, Hash)]
    Tokens(u64)
);
quantity!(
    /// A count of bytes.
    #[derive(Eq, Ord, Hash)]
    Bytes(u64)
);

additive!(Joules Watts Seconds Usd Tokens Bytes);
real!(Joules Watts Seconds Usd);

impl Mul<Seconds> for Watts {
    type Output = Joules;
    fn mul(self, time: Seconds) -> Joules {
        Joules(self.0 * time.0)
    }
}

impl Mul<Watts> for Seconds {
    type Output = Joules;
    fn mul(self, power: Watts) -> Joules {
        power * self
    }
}

impl Div<Seconds> for Joules {
    type Output = Watts;
    fn div(self, time: Seconds) -> Watts {
        Watts(self.0 / time.0)
    }
}

impl Div<Watts> for Joules {
    type Output = Seconds;
    fn div(self, power: Watts) -> Seconds {
        Seconds(self.0 / power.0)
    }
}

impl Sub for Celsius {
    /// A difference, in kelvin.
    type Output = f64;
    fn sub(self, other: Self) -> f64 {
        self.0 - other.0
    }
}

impl Joules {
    /// Joules per token; `None` where there are no tokens to share them.
    pub fn per_token(self, tokens: Tokens) -> Option<Joules> {
        (tokens.0 > 0).then(|| self / tokens.0 as f64)
    }
}

impl Tokens {
    /// Tokens per second; `None` where no time has passed.
    pub fn per_second(self, time: Seconds) -> Option<f64> {
        (time.0 > 0.0).then(|| self.0 as f64 / time.0)
    }

    /// The difference; `None` below zero.
    pub fn checked_sub(self, other: Self) -> Option<Self> {
        self.0.checked_sub(other.0).map(Self)
    }
}

impl Bytes {
    /// The difference; `None` below zero.
    pub fn checked_sub(self, other: Self) -> Option<Self> {
        self.0.checked_sub(other.0).map(Self)
    }
}

impl From<std::time::Duration> for Seconds {
    fn from(duration: std::time::Duration) -> Self {
        Self(duration.as_secs_f64())
    }
}

/// SI prefixes that tables of this kind need, largest first.
const SI: [(f64, &str); 7] =
    [(1e12, "T"), (1e9, "G"), (1e6, "M"), (1e3, "k"), (1.0, ""), (1e-3, "m"), (1e-6, "µ")];
/// Prefixes of IEC 80000-13 for bytes, largest first.
const IEC: [(f64, &str); 5] = [
    ((1u64 << 40) as f64, "Ti"),
    ((1 << 30) as f64, "Gi"),
    ((1 << 20) as f64, "Mi"),
    (1024.0, "Ki"),
    (1.0, ""),
];

/// Writes `value` with the prefix that leaves one to three (binary: four) digits before the point.
fn write_scaled(f: &mut fmt::Formatter<'_>, value: f64, prefixes: &[(f64, &str)], unit: &str) -> fmt::Result {
    let rounded = round_significant(value.abs()).max(value.abs());
    let (scale, prefix) = if value == 0.0 || !value.is_finite() {
        (1.0, "")
    } else {
        *prefixes.iter().find(|(scale, _)| rounded >= *scale).unwrap_or(&prefixes[prefixes.len() - 1])
    };
    let decimals = f.precision().unwrap_or_else(|| decimals_for(rounded / scale));
    pad(f, &format!("{:.decimals$} {prefix}{unit}", value / scale))
}

/// Rounded to [`SIGNIFICANT_DIGITS`], so that 999.9 becomes 1.00 k and not 1000.
fn round_significant(value: f64) -> f64 {
    if value == 0.0 || !value.is_finite() {
        return value;
    }
    let step = 10f64.powi(value.log10().floor() as i32 + 1 - SIGNIFICANT_DIGITS);
    (value / step).round() * step
}

fn decimals_for(value: f64) -> usize {
    if value == 0.0 || !value.is_finite() {
        return 0;
    }
    // A value below 1 here is below the smallest prefix: more decimals than these say nothing.
    (SIGNIFICANT_DIGITS - 1 - value.log10().floor() as i32).clamp(0, 2 * SIGNIFICANT_DIGITS) as usize
}

/// `Formatter::pad` would take the precision for a width to cut to.
fn pad(f: &mut fmt::Formatter<'_>, text: &str) -> fmt::Result {
    let missing = f.width().unwrap_or(0).saturating_sub(text.chars().count());
    let before = match f.align() {
        Some(fmt::Alignment::Right) => missing,
        Some(fmt::Alignment::Center) => missing / 2,
        _ => 0,
    };
    let fill = f.fill();
    (0..before).try_for_each(|_| write!(f, "{fill}"))?;
    f.write_str(text)?;
    (before..missing).try_for_each(|_| write!(f, "{fill}"))
}

impl fmt::Display for Joules {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write_scaled(f, self.0, &SI, "J")
    }
}

impl fmt::Display for Watts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write_scaled(f, self.0, &SI, "W")
    }
}

impl fmt::Display for Bytes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.0 < 1024 {
            pad(f, &format!("{} B", self.0))
        } else {
            write_scaled(f, self.0 as f64, &IEC, "B")
        }
    }
}

impl fmt::Display for Seconds {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Nobody says kiloseconds.
        write_scaled(f, self.0, &SI[4..], "s")
    }
}

impl fmt::Display for Celsius {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let decimals = f.precision().unwrap_or(1);
        pad(f, &format!("{:.decimals$} °C", self.0))
    }
}

impl fmt::Display for Usd {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let cents = decimals_for(round_significant(self.0.abs())).max(2);
        let decimals = f.precision().unwrap_or(cents);
        pad(f, &format!("{:.decimals$} USD", self.0))
    }
}

impl fmt::Display for Tokens {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let noun = if self.0 == 1 { "token" } else { "tokens" };
        pad(f, &format!("{} {noun}", self.0))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn display() {
        let cases: &[(&dyn fmt::Display, &str)] = &[
            (&Joules(0.0), "0 J"),
            (&Joules(1.0), "1.00 J"),
            (&Joules(-1.0), "-1.00 J"),
            (&Joules(12.345), "12.3 J"),
            (&Joules(999.4), "999 J"),
            (&Joules(999.9), "1.00 kJ"),
            (&Joules(0.9999), "1.00 J"),
            (&Joules(0.999), "999 mJ"),
            (&Joules(3.6e6), "3.60 MJ"),
            (&Joules(4.2e15), "4200 TJ"),
            (&Joules(1.2e-8), "0.0120 µJ"),
            (&Joules(f64::NAN), "NaN J"),
            (&Joules(f64::INFINITY), "inf J"),
            (&Watts(0.0451), "45.1 mW"),
            (&Watts(350.0), "350 W"),
            (&Seconds(7200.0), "7200 s"),
            (&Seconds(0.25), "250 ms"),
            (&Celsius(61.54), "61.5 °C"),
            (&Usd(0.001234), "0.00123 USD"),
            (&Usd(0.0), "0.00 USD"),
            (&Usd(1499.0), "1499.00 USD"),
            (&Tokens(1), "1 token"),
            (&Tokens(512), "512 tokens"),
            (&Bytes(0), "0 B"),
            (&Bytes(1), "1 B"),
            (&Bytes(1023), "1023 B"),
            (&Bytes(1024), "1.00 KiB"),
            (&Bytes(98 << 20), "98.0 MiB"),
            (&Bytes(3 << 30), "3.00 GiB"),
        ];
        for (quantity, expected) in cases {
            assert_eq!(quantity.to_string(), *expected);
        }
    }

    #[test]
    fn width_and_precision() {
        assert_eq!(format!("{:>9}|", Watts(5.0)), "   5.00 W|");
        assert_eq!(format!("{:<9}|", Watts(5.0)), "5.00 W   |");
        assert_eq!(format!("{:*^10}|", Watts(5.0)), "**5.00 W**|");
        assert_eq!(format!("{:.0}", Watts(5.4)), "5 W");
        assert_eq!(format!("{:.3}", Celsius(5.4)), "5.400 °C");
    }

    #[test]
    fn only_meaningful_quotients() {
        assert_eq!(Joules(10.0).per_token(Tokens(4)), Some(Joules(2.5)));
        assert_eq!(Joules(10.0).per_token(Tokens(0)), None);
        assert_eq!(Tokens(10).per_second(Seconds(4.0)), Some(2.5));
        assert_eq!(Tokens(10).per_second(Seconds(0.0)), None);
        assert_eq!(Tokens(1).checked_sub(Tokens(2)), None);
        assert_eq!(Bytes(3).checked_sub(Bytes(2)), Some(Bytes(1)));
        assert_eq!(Celsius(85.0) - Celsius(60.0), 25.0);
        assert_eq!(Seconds::from(std::time::Duration::from_millis(1500)), Seconds(1.5));
        assert_eq!([Tokens(2), Tokens(3)].into_iter().sum::<Tokens>(), Tokens(5));
    }

    #[test]
    fn json_is_the_bare_number() {
        assert_eq!(serde_json::to_string(&(Joules(1.5), Tokens(3))).unwrap(), "[1.5,3]");
    }

    proptest! {
        #[test]
        fn energy_is_power_times_time(w in 1e-6..1e6f64, s in 1e-6..1e6f64) {
            let (power, time) = (Watts(w), Seconds(s));
            let energy = power * time;
            prop_assert_eq!(energy, time * power);
            prop_assert!(((energy / time) / power - 1.0).abs() < 1e-12);
            prop_assert!(((energy / power) / time - 1.0).abs() < 1e-12);
        }

        /// What is shown is what was meant, to the digits shown.
        #[test]
        fn display_reads_back(exponent in -5.0..14.0f64, negative: bool) {
            let value = 10f64.powf(exponent) * if negative { -1.0 } else { 1.0 };
            let shown = Joules(value).to_string();
            let (number, unit) = shown.split_once(' ').unwrap();
            let scale = SI.iter().find(|(_, p)| unit == format!("{p}J")).unwrap().0;
            let back = number.parse::<f64>().unwrap() * scale;
            prop_assert!((back / value - 1.0).abs() <= 0.0051, "{} shown as {}", value, shown);
        }
    }
}
