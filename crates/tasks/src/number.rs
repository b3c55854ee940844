//! Numbers as answers have them: exact decimals and fractions, each with one spelling.
//!
//! Votes and equality need one spelling per value: `1,234.50`, `1234.5` and `1.2345e3` are the same answer. A float
//! would do for most, but not for `9007199254740993`, and 0.1 + 0.2 must not become a matter of rounding. So a number
//! keeps its digits; the float beside them serves tolerances alone. A fraction that ends as a decimal is that decimal,
//! another one is reduced.

use serde::{Deserialize, Deserializer, Serialize, Serializer, de};
use std::fmt;

/// Most digits of a number, zeros at its ends aside: longer ones are noise that a model repeats.
pub const DIGITS_MAX: usize = 400;
/// Largest power of ten, up or down.
pub const EXPONENT_MAX: i32 = 9999;
/// Powers of ten up to which a number is spelt without an exponent.
const PLAIN_MAX: i32 = 40;
/// Most digits of a numerator or denominator, so that products stay within 128 bits.
pub const FRACTION_DIGITS_MAX: usize = 18;

/// A number, exact.
#[derive(Debug, Clone, PartialEq)]
pub struct Number {
    text: String,
    value: f64,
}

impl Number {
    /// A decimal from its digits (ASCII): `integer.fraction × 10^exponent`. None where a bound is passed, or there is
    /// no digit.
    pub fn decimal(negative: bool, integer: &str, fraction: &str, exponent: i32) -> Option<Self> {
        let count = integer.len() + fraction.len();
        let all_digits = integer.bytes().chain(fraction.bytes()).all(|b| b.is_ascii_digit());
        if count == 0 || !all_digits || exponent.checked_abs()? > EXPONENT_MAX {
            return None;
        }
        let digits = format!("{integer}{fraction}");
        let significant = digits.trim_start_matches('0');
        let zeros = digits.len() - significant.len();
        let significant = significant.trim_end_matches('0');
        if significant.is_empty() {
            return Some(Self { text: "0".into(), value: 0.0 });
        }
        // The value is 0.SIGNIFICANT × 10^point.
        let shift = i64::try_from(integer.len()).ok()? - i64::try_from(zeros).ok()?;
        let point = i32::try_from(shift + i64::from(exponent)).ok()?;
        if significant.len() > DIGITS_MAX || point.checked_abs()? >= EXPONENT_MAX {
            return None;
        }
        let text = spell(negative, significant, point);
        let value = text.parse().ok()?;
        Some(Self { text, value })
    }

    /// `whole + numerator/denominator`, all of them with one sign. None where a bound is passed or the denominator is
    /// zero.
    pub fn fraction(negative: bool, whole: &str, numerator: &str, denominator: &str) -> Option<Self> {
        let part = |digits: &str| -> Option<u128> {
            (digits.len() <= FRACTION_DIGITS_MAX).then(|| digits.parse().ok()).flatten()
        };
        let (whole, mut over, mut under) = (part(whole)?, part(numerator)?, part(denominator)?);
        if under == 0 {
            return None;
        }
        over += whole * under;
        let shared = gcd(over, under);
        over /= shared;
        under /= shared;
        if under == 1 {
            return Self::decimal(negative, &over.to_string(), "", 0);
        }
        if let Some(decimal) = terminating(negative, over, under) {
            return Some(decimal);
        }
        if over >= 10u128.pow(FRACTION_DIGITS_MAX as u32) {
            return None;
        }
        let sign = if negative { -1.0 } else { 1.0 };
        let text = format!("{}{over}/{under}", if negative { "-" } else { "" });
        Some(Self { text, value: sign * over as f64 / under as f64 })
    }

    /// This number times a power of ten. None for a fraction that is not a decimal, or beyond the bounds.
    pub fn shifted(&self, power: i32) -> Option<Self> {
        if self.text.contains('/') {
            return None;
        }
        let (negative, rest) =
            self.text.strip_prefix('-').map_or((false, self.text.as_str()), |rest| (true, rest));
        let (mantissa, exponent) = rest.split_once('e').unwrap_or((rest, "0"));
        let (integer, fraction) = mantissa.split_once('.').unwrap_or((mantissa, ""));
        Self::decimal(negative, integer, fraction, exponent.parse::<i32>().ok()?.checked_add(power)?)
    }

    /// A number as a task file has it: `-12`, `0.5`, `1e-3`, `3/4`; no separators, no units.
    pub fn parse(text: &str) -> Option<Self> {
        let (negative, rest) = text.strip_prefix('-').map_or((false, text), |rest| (true, rest));
        if let Some((over, under)) = rest.split_once('/') {
            return Self::fraction(negative, "0", over, under);
        }
        let (mantissa, exponent) = rest.split_once(['e', 'E']).unwrap_or((rest, "0"));
        let (integer, fraction) = mantissa.split_once('.').unwrap_or((mantissa, ""));
        Self::decimal(negative, integer, fraction, exponent.parse().ok()?)
    }

    /// As a float, rounded; beyond the range of floats infinite.
    pub fn value(&self) -> f64 {
        self.value
    }

    /// Whether this is `answer`, or no further from it than `absolute + relative·|answer|`.
    pub fn is_near(&self, answer: &Self, absolute: f64, relative: f64) -> bool {
        let slack = absolute + relative * answer.value.abs();
        self == answer || (slack > 0.0 && (self.value - answer.value).abs() <= slack)
    }
}

/// `0.SIGNIFICANT × 10^point`, spelt.
fn spell(negative: bool, significant: &str, point: i32) -> String {
    let sign = if negative { "-" } else { "" };
    let count = significant.len() as i32;
    if point > count.max(PLAIN_MAX) || point < -PLAIN_MAX {
        let (first, rest) = significant.split_at(1);
        let dot = if rest.is_empty() { "" } else { "." };
        return format!("{sign}{first}{dot}{rest}e{}", point - 1);
    }
    if point <= 0 {
        return format!("{sign}0.{}{significant}", "0".repeat(point.unsigned_abs() as usize));
    }
    if point >= count {
        return format!("{sign}{significant}{}", "0".repeat((point - count) as usize));
    }
    let (integer, fraction) = significant.split_at(point as usize);
    format!("{sign}{integer}.{fraction}")
}

/// A reduced fraction as a decimal, if it ends.
fn terminating(negative: bool, over: u128, under: u128) -> Option<Number> {
    let (mut twos, mut fives, mut rest) = (0u32, 0u32, under);
    while rest.is_multiple_of(2) {
        (twos, rest) = (twos + 1, rest / 2);
    }
    while rest.is_multiple_of(5) {
        (fives, rest) = (fives + 1, rest / 5);
    }
    if rest != 1 {
        return None;
    }
    let places = twos.max(fives);
    let scaled = over
        .checked_mul(2u128.checked_pow(places - twos)?)?
        .checked_mul(5u128.checked_pow(places - fives)?)?;
    Number::decimal(negative, &scaled.to_string(), "", -i32::try_from(places).ok()?)
}

fn gcd(a: u128, b: u128) -> u128 {
    if b == 0 { a } else { gcd(b, a % b) }
}

impl fmt::Display for Number {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.text)
    }
}

impl From<i64> for Number {
    fn from(value: i64) -> Self {
        Self { text: value.to_string(), value: value as f64 }
    }
}

/// Small whole numbers as JSON numbers, all others as strings, which keep every digit.
impl Serialize for Number {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self.text.parse::<i64>() {
            Ok(whole) if whole.unsigned_abs() < 1 << 53 => serializer.serialize_i64(whole),
            _ => serializer.serialize_str(&self.text),
        }
    }
}

impl<'de> Deserialize<'de> for Number {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = match serde_json::Value::deserialize(deserializer)? {
            serde_json::Value::Number(number) => number.to_string(),
            serde_json::Value::String(text) => text,
            other => return Err(de::Error::custom(format!("{other} is not a number"))),
        };
        Self::parse(text.trim())
            .ok_or_else(|| de::Error::custom(format!("{text:?} is not a number such as -12, 0.5 or \"3/4\"")))
    }
}
