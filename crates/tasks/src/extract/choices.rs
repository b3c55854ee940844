//! The final letter of a multiple choice.
//!
//! Where an answer is stated (see [`super`]; *option* and *choice* state one as well as *answer* does), its first
//! letter wins; then a letter that the first line begins with (`B`, `(b)`, `B. Paris`), then the last letter that
//! stands alone. Capital letters count wherever they stand alone, small ones only as a mark: `(b)`, `b)`, `b.`. The
//! words *A* and *I* before a small letter are words.

use super::{
    Found, Held, Nothing,
    places::{cut, spoken},
    stated,
};
use crate::verifier::last_letter;

/// Words after which a capital A or I is a letter nevertheless.
const AFTER_LETTER: [&str; 9] = ["is", "because", "since", "as", "and", "or", "for", "which", "would"];
/// Longest first line looked at, in bytes.
const FIRST_LINE_BYTES_MAX: usize = 400;
/// Longest text that a small letter can have to itself, in characters: `**(b)**.`
const LONE_CHARS_MAX: usize = 8;
/// Longest word after a letter that is compared, in characters.
const WORD_CHARS_MAX: usize = 10;

/// A letter that stands alone.
struct Mark {
    at: usize,
    letter: char,
}

/// The final letter, in upper case.
///
/// # Errors
/// There is none, or an alternative is stated.
pub fn choice(output: &str, choices: u8) -> Result<Found<char>, Nothing> {
    let last = last_letter(choices);
    let spoken = spoken(output);
    let look = |statement: &str| first(statement, last);
    let right_after = |rest: &str| match marks(&chars(rest), last).first() {
        Some(mark) if !chars(rest)[..mark.at].iter().any(|c| c.is_alphanumeric()) => first(rest, last),
        _ => Held::Nothing,
    };
    if let Some(decided) = stated(spoken, &["answer", "answers", "option", "choice"], look, right_after) {
        return decided;
    }
    let line = spoken.lines().find(|line| line.chars().any(char::is_alphanumeric)).unwrap_or_default();
    match right_after(cut(line, FIRST_LINE_BYTES_MAX)) {
        Held::One(value) => return Ok(Found { value, rule: "the letter that begins it" }),
        Held::Hedged(why) => return Err(Nothing(format!("the first line {why}"))),
        Held::Nothing => {}
    }
    match marks(&chars(spoken), last).last() {
        Some(mark) => Ok(Found { value: mark.letter, rule: "the last letter" }),
        None => Err(Nothing::of(&format!("letter from A to {last}"), output)),
    }
}

fn chars(text: &str) -> Vec<char> {
    text.chars().collect()
}

/// The first letter, unless a second one is offered beside it.
fn first(statement: &str, last: char) -> Held<char> {
    let chars = chars(statement);
    let marks = marks(&chars, last);
    let Some(first) = marks.first() else { return Held::Nothing };
    if let Some(second) = marks.get(1).filter(|second| second.letter != first.letter) {
        let gap: String =
            chars[first.at + 1..second.at].iter().filter(|c| c.is_alphanumeric() || **c == '/').collect();
        if ["or", "and", "/", ""].contains(&gap.to_lowercase().as_str()) {
            return Held::Hedged("names several letters".into());
        }
    }
    Held::One(first.letter)
}

/// All letters that stand alone, in order.
fn marks(chars: &[char], last: char) -> Vec<Mark> {
    (0..chars.len()).filter_map(|at| mark(chars, at, last)).collect()
}

fn mark(chars: &[char], at: usize, last: char) -> Option<Mark> {
    let c = chars[at];
    let letter = c.to_ascii_uppercase();
    if !('A'..=last).contains(&letter) {
        return None;
    }
    let before = at.checked_sub(1).map(|i| chars[i]);
    let after = chars.get(at + 1).copied();
    let glues = |c: Option<char>| c.is_some_and(|c| c.is_alphanumeric() || matches!(c, '\'' | '’' | '\\'));
    if glues(before) || glues(after) {
        return None;
    }
    // An abbreviation, "B.C.", or a compound, "B-side".
    let second = chars.get(at + 2);
    if matches!(after, Some('.' | '-')) && second.is_some_and(|c| c.is_alphanumeric()) {
        return None;
    }
    if matches!(before, Some('.' | '-')) && at >= 2 && chars[at - 2].is_alphanumeric() {
        return None;
    }
    let found = Some(Mark { at, letter });
    if c.is_ascii_lowercase() {
        let alone =
            chars.len() <= LONE_CHARS_MAX && chars.iter().filter(|c| c.is_alphanumeric()).count() == 1;
        let closed = matches!(after, Some(')' | ']' | '}' | '.' | ':' | '*'));
        let sentence_end =
            after == Some('.') && at >= 2 && before == Some(' ') && chars[at - 2].is_alphanumeric();
        return found.filter(|_| (closed && !sentence_end) || alone);
    }
    let word_follows = after == Some(' ') && second.is_some_and(|c| c.is_lowercase());
    if matches!(c, 'A' | 'I') && word_follows && before != Some('*') {
        let word: String =
            chars[at + 2..].iter().take(WORD_CHARS_MAX).take_while(|c| c.is_alphabetic()).collect();
        return found.filter(|_| AFTER_LETTER.contains(&word.as_str()));
    }
    found
}
