//! Arithmetic and conversion of units: the answer is a whole number.

use super::{Draw, Question};

/// Sums of one step, then of two, then of three.
pub(super) fn arithmetic(number: usize, draw: &mut Draw) -> Question {
    let example = ("What is 2 + 6?", "8");
    let mut from = |low: i64, high: i64| draw.within(low, high);
    let (sum, answer) = match number {
        0..3 => {
            let (a, b) = (from(2, 9), from(2, 9));
            (format!("{a} + {b}"), a + b)
        }
        3..6 => {
            let (a, b) = (from(11, 49), from(11, 49));
            (format!("{a} + {b}"), a + b)
        }
        6..9 => {
            let (a, b) = (from(50, 99), from(11, 49));
            (format!("{a} - {b}"), a - b)
        }
        9..11 => {
            let (a, b) = (from(12, 29), from(3, 9));
            (format!("{a} * {b}"), a * b)
        }
        11..13 => {
            let (a, b, c) = (from(11, 39), from(11, 39), from(3, 9));
            (format!("{a} + {b} - {c}"), a + b - c)
        }
        13..15 => {
            let (a, b, c) = (from(6, 19), from(3, 9), from(11, 49));
            (format!("{a} * {b} + {c}"), a * b + c)
        }
        15..17 => {
            let (a, b) = (from(123, 987), from(23, 98));
            (format!("{a} * {b}"), a * b)
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

/// Factors everybody knows, then factors of larger amounts, then two units in one amount.
pub(super) fn convert(number: usize, draw: &mut Draw) -> Question {
    let example = ("How many days are 2 weeks?", "14");
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
        ("eggs", "dozen eggs", 12),
        ("inches", "feet", 12),
        ("ounces", "pounds", 16),
        ("feet", "yards", 3),
    ];
    let (small, large, factor) = if number < 8 { EASY[number % EASY.len()] } else { ODD[number % ODD.len()] };
    let (text, answer) = match number {
        0..6 => {
            let amount = draw.within(2, 5);
            (format!("How many {small} are {amount} {large}?"), amount * factor)
        }
        6..8 => {
            let amount = draw.within(11, 38);
            (format!("How many {small} are {amount} {large}?"), amount * factor)
        }
        8..12 => {
            let amount = draw.within(3, 9);
            (format!("How many {small} are {amount} {large}?"), amount * factor)
        }
        12..15 => {
            let amount = draw.within(23, 78);
            (format!("How many {small} are {amount} {large}?"), amount * factor)
        }
        15..17 => {
            let (hours, minutes) = (draw.within(2, 9), draw.within(11, 49));
            (format!("How many minutes are {hours} hours and {minutes} minutes?"), hours * 60 + minutes)
        }
        17 => {
            let (feet, inches) = (draw.within(13, 29), draw.within(2, 11));
            (format!("How many inches are {feet} feet and {inches} inches?"), feet * 12 + inches)
        }
        _ => {
            let (days, hours, minutes) = (draw.within(3, 9), draw.within(2, 21), draw.within(11, 49));
            let answer = (days * 24 + hours) * 60 + minutes;
            (format!("How many minutes are {days} days, {hours} hours and {minutes} minutes?"), answer)
        }
    };
    Question::number(example, text, answer)
}
