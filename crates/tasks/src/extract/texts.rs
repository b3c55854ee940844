//! The final words.
//!
//! Where an answer is stated (see [`super`]), the statement is it; else the last line with a word in it. Of a line
//! that ends in something quoted or bold, that is the answer (several of them, if only commas and *and* stand between
//! them); of a line with a colon and a space, what follows the last one.

use super::{Found, Held, Nothing, places::spoken, stated};
use unicode_normalization::UnicodeNormalization;

/// Longest line in which quotes are looked for, in bytes: answers are short.
const LINE_BYTES_MAX: usize = 4096;
/// Quotes and bold, opening and closing.
const QUOTES: [(&str, &str); 9] = [
    ("**", "**"),
    ("__", "__"),
    ("```", "```"),
    ("`", "`"),
    ("\"", "\""),
    ("“", "”"),
    ("«", "»"),
    ("‘", "’"),
    ("'", "'"),
];

/// The final words.
///
/// # Errors
/// There are none.
pub fn text(output: &str) -> Result<Found<String>, Nothing> {
    let spoken = spoken(output);
    let look = |statement: &str| match words(focus(statement)) {
        found if found.is_empty() => Held::Nothing,
        found => Held::One(found),
    };
    if let Some(decided) = stated(spoken, &["answer", "answers"], look, look) {
        return decided;
    }
    let last = spoken.lines().rev().find(|line| line.chars().any(char::is_alphanumeric));
    let line = last.or_else(|| spoken.lines().rev().find(|line| !line.trim().is_empty()));
    let line = line.ok_or_else(|| Nothing::of("words", output))?;
    Ok(Found { value: words(focus(line)), rule: "the last line" })
}

/// A text as words, for comparison: Unicode's compatibility forms folded (NFKC), lower case, one space between words.
/// Only letters and digits count, points between digits, and a minus before one; apostrophes inside words vanish. A
/// text of nothing else stays as it is.
pub fn words(text: &str) -> String {
    let folded: Vec<char> = text.nfkc().flat_map(char::to_lowercase).collect();
    let mut words = String::new();
    let mut apart = false;
    for (i, &c) in folded.iter().enumerate() {
        let digit_at = |at: Option<usize>| at.and_then(|at| folded.get(at)).is_some_and(char::is_ascii_digit);
        let before = i.checked_sub(1);
        let letter_at =
            |at: Option<usize>| at.and_then(|at| folded.get(at)).is_some_and(|c| c.is_alphabetic());
        match c {
            '.' if digit_at(before) && digit_at(Some(i + 1)) => words.push(c),
            '\'' | '’' if letter_at(before) && letter_at(Some(i + 1)) => {}
            '-' | '\u{2212}' if digit_at(Some(i + 1)) && !digit_at(before) && !letter_at(before) => {
                separate(&mut words, &mut apart);
                words.push('-');
            }
            _ if c.is_alphanumeric() => {
                separate(&mut words, &mut apart);
                words.push(c);
            }
            _ => apart = true,
        }
    }
    if words.is_empty() { text.trim().to_lowercase() } else { words }
}

fn separate(words: &mut String, apart: &mut bool) {
    if std::mem::take(apart) && !words.is_empty() {
        words.push(' ');
    }
}

/// The part of a line that answers.
fn focus(line: &str) -> &str {
    if line.len() > LINE_BYTES_MAX {
        return line;
    }
    if let Some(quoted) = quoted_end(line) {
        return quoted;
    }
    match line.rsplit_once(": ") {
        Some((_, after)) if after.chars().any(char::is_alphanumeric) => after,
        _ => line,
    }
}

/// The quotes that end a line, with what little stands between them.
fn quoted_end(line: &str) -> Option<&str> {
    let mut run: Option<(usize, usize)> = None;
    let mut at = 0;
    while let Some(rest) = line.get(at..).filter(|rest| !rest.is_empty()) {
        let glued = line[..at].ends_with(char::is_alphanumeric);
        let quote = QUOTES.iter().filter(|_| !glued).find_map(|(open, close)| {
            let inside = rest.strip_prefix(open)?;
            let length = closing(inside, close)?;
            Some((at + open.len(), length, close.len()))
        });
        let Some((from, length, close)) = quote else {
            at += rest.chars().next().map_or(1, char::len_utf8);
            continue;
        };
        let to = from + length;
        run = match run {
            Some((start, end)) if only_commas(&line[end..from]) => Some((start, to)),
            _ => Some((from, to)),
        };
        at = to + close;
    }
    let (start, end) = run?;
    let ends_line = !line[end..].chars().any(char::is_alphanumeric);
    let holds_words = line[start..end].chars().any(char::is_alphanumeric);
    (ends_line && holds_words).then(|| &line[start..end])
}

/// Where a quote closes; an apostrophe inside a word does not close one.
fn closing(inside: &str, close: &str) -> Option<usize> {
    inside
        .match_indices(close)
        .map(|(i, _)| i)
        .find(|&i| i > 0 && !inside[i + close.len()..].starts_with(char::is_alphanumeric))
}

fn only_commas(text: &str) -> bool {
    words(text).split(' ').all(|word| word == "and" || !word.chars().any(char::is_alphanumeric))
}
