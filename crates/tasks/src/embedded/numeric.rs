//! Arithmetic and conversion of units: the answer is a whole number.

use super::{Draw, Question};

/// Sums of one step, then of two, then of three.
pub(super) fn arithmetic(number: usize, draw: &mut Draw) -> Question {
    let example = ("What is 2 + 6?", "8");
    let mut from = |low: i64, high: i64| draw.within(low, high);
    let (sum, answer) = match number {
        0..6 => {
            let (a, b) = (from(2, 6), from(1, 3));
            (format!("{a} + {b}"), a + b)
        }
        6..10 => {
            let (a, b) = (from(4, 9), from(4, 9));
            (format!("{a} + {b}"), a + b)
        }
        10..12 => {
            let (a, b) = (from(2, 5), from(2, 5));
            (format!("{a} * {b}"), a * b)
        }
        12..14 => {
            let (a, b) = (from(11, 19), from(2, 9));
            (format!("{a} - {b}"), a - b)
        }
        14 => {
            let (a, b, c) = (from(2, 9), from(2, 9), from(1, 3));
            (format!("{a} + {b} - {c}"), a + b - c)
        }
        15..17 => {
            let (a, b, c) = (from(6, 19), from(3, 9), from(11, 49));
            (format!("{a} * {b} + {c}"), a * b + c)
        }
        17 => {
            let (a, b, c, d) = (from(12, 49), from(12, 49), from(3, 9), from(12, 49));
            (format!("({a} + {b}) * {c} - {d}"), (a + b) * c - d)
        }
        _ => {
            let (a, b, c, d) = (from(23, 98), from(23, 98), from(23, 98), from(23, 98));
            (format!("{a} * {b} - {c} * {d}"), a * b - c * d)
        }
    };
    Question::number(example, format!("What is {sum}?"), answer)
}

/// Factors everybody knows, then multiples of them and of others, then several units in one amount.
pub(super) fn convert(number: usize, draw: &mut Draw) -> Question {
    let example = ("How many days are in 2 weeks?", "14");
    const EASY: [(&str, &str, i64); 6] = [
        ("centimetres", "metres", 100),
        ("metres", "kilometres", 1000),
        ("minutes", "hours", 60),
        ("grams", "kilograms", 1000),
        ("seconds", "minutes", 60),
        ("millimetres", "centimetres", 10),
    ];
    const ODD: [(&str, &str, i64); 5] = [
        ("hours", "days", 24),
        ("months", "years", 12),
        ("weeks", "years", 52),
        ("ounces", "pounds", 16),
        ("quarters", "years", 4),
    ];
    let (small, large, factor) =
        if number < 12 { EASY[number % EASY.len()] } else { ODD[number % ODD.len()] };
    let (text, answer) = match number {
        0..6 => (format!("How many {small} are in 1 {}?", large.trim_end_matches('s')), factor),
        6..12 => {
            let amount = draw.within(2, 5);
            (format!("How many {small} are in {amount} {large}?"), amount * factor)
        }
        12..15 => {
            let amount = draw.within(3, 9);
            (format!("How many {small} are in {amount} {large}?"), amount * factor)
        }
        15..17 => {
            let (hours, minutes) = (draw.within(2, 9), draw.within(11, 49));
            (format!("How many minutes are in {hours} hours and {minutes} minutes?"), hours * 60 + minutes)
        }
        17 => {
            let (feet, inches) = (draw.within(13, 29), draw.within(2, 11));
            (format!("How many inches are in {feet} feet and {inches} inches?"), feet * 12 + inches)
        }
        _ => {
            let (days, hours, minutes) = (draw.within(3, 9), draw.within(2, 21), draw.within(11, 49));
            let answer = (days * 24 + hours) * 60 + minutes;
            (format!("How many minutes are in {days} days, {hours} hours and {minutes} minutes?"), answer)
        }
    };
    Question::number(example, text, answer)
}
