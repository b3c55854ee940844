//! The final number.
//!
//! Where an answer is stated (see [`super`]), the number after the statement's last equals sign wins, or else its
//! first. Where none is stated, a number that is alone on the first line wins (the answer came first, prose after
//! it), and else the last number of all. Words for numbers are not read. Units, currencies and the percent sign are
//! passed over: `50 %` is 50.

use super::{
    Found, Held, Nothing,
    clean::clean,
    places::spoken,
    scan::{Numeral, between, numerals},
    stated,
};
use crate::number::Number;

/// Words between two numerals of a statement that leave open which is meant.
const HEDGES: [&str; 6] = ["or", "to", "and", "and/or", "through", ","];
/// Longest first line that a number can have to itself, in bytes.
const ALONE_BYTES_MAX: usize = 80;
/// Most words beside a number that is alone on its line: "kilometres per hour".
const ALONE_WORDS_MAX: usize = 3;

/// The final number.
///
/// # Errors
/// There is none, or a range or an alternative is stated.
pub fn number(output: &str) -> Result<Found<Number>, Nothing> {
    let spoken = spoken(output);
    if let Some(decided) = stated(spoken, &["answer", "answers"], look, right_after) {
        return decided;
    }
    if let Some(value) = alone(spoken) {
        return Ok(Found { value, rule: "the number on the first line" });
    }
    let all = numerals(&clean(spoken));
    match all.iter().rev().find_map(Numeral::answer) {
        Some(value) => Ok(Found { value: value.clone(), rule: "the last number" }),
        None if all.is_empty() => Err(Nothing::of("number", output)),
        None => Err(Nothing("no number that stands by itself".into())),
    }
}

/// The number that a statement states.
fn look(statement: &str) -> Held<Number> {
    let chars = clean(statement);
    let all = numerals(&chars);
    if all.is_empty() {
        return Held::Nothing;
    }
    let equals = chars.iter().rposition(|c| matches!(c, '=' | '≈')).unwrap_or(0);
    let first_from =
        |from: usize| (0..all.len()).find(|&i| all[i].start >= from && all[i].answer().is_some());
    let Some(i) = first_from(equals).or_else(|| first_from(0)) else {
        return Held::Hedged("is no single number".into());
    };
    let hedges = |a: usize, b: usize| {
        let gap = all.get(a).zip(all.get(b)).and_then(|(a, b)| between(&chars, a.end, b.start));
        gap.is_some_and(|gap| HEDGES.contains(&gap.as_str()))
    };
    if hedges(i, i + 1) || (i > 0 && hedges(i - 1, i)) {
        return Held::Hedged("names several numbers".into());
    }
    all[i].answer().cloned().map_or(Held::Nothing, Held::One)
}

/// The same, if nothing but signs stand before it.
fn right_after(rest: &str) -> Held<Number> {
    let chars = clean(rest);
    let first = numerals(&chars).first().map(|numeral| numeral.start);
    match first {
        Some(start) if !chars[..start].iter().any(|c| c.is_alphanumeric()) => look(rest),
        _ => Held::Nothing,
    }
}

/// A number that has the first line to itself, but for a unit.
fn alone(output: &str) -> Option<Number> {
    let line = output.lines().find(|line| line.chars().any(char::is_alphanumeric))?;
    if line.len() > ALONE_BYTES_MAX {
        return None;
    }
    let chars = clean(line);
    let all = numerals(&chars);
    let [only] = &all[..] else { return None };
    let before = &chars[..only.start];
    let after: String = chars[only.end..].iter().collect();
    let words = after.split(|c: char| !c.is_alphanumeric()).filter(|word| !word.is_empty()).count();
    if before.iter().any(|c| c.is_alphanumeric()) || words > ALONE_WORDS_MAX {
        return None;
    }
    only.answer().cloned()
}
