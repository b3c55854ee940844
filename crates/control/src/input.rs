//! What a text may not be, checked before it costs any work.
//!
//! Pure functions over text, each linear in its length with a small constant, so that the check itself is no attack. They
//! refuse what no honest client sends: characters that make a text read differently from what it is, walls of
//! repetition (which cost a prefill and often make a model repeat without end), the spelling of control tokens, patterns
//! and grammars whose cost grows beyond their length, nesting without end. A refusal names the kind and the place, and
//! never repeats the text.

use crate::event::Refusal;

/// Bytes of one text: four times the longest prompt of [`crate::config::Limits`] at four bytes a token.
pub const TEXT_BYTES_MAX: usize = 512 << 10;
/// Combining marks in a row: the Stream-Safe Text Format of Unicode Standard Annex 15.
pub const MARKS_MAX: usize = 30;
/// Invisible joiners and selectors in a row: the longest emoji sequences hold them singly or in pairs.
pub const INVISIBLE_MAX: usize = 4;
/// Bytes of a block in which repetition is looked for: a text with twice as much of it has a whole block of it.
pub const REPEAT_BLOCK: usize = 2048;
/// Longest repeated piece that is looked for, bytes: a short sentence.
pub const REPEAT_PERIOD_MAX: usize = 64;
/// Longest spelling of a control token that is looked for, bytes.
pub const SPECIAL_BYTES_MAX: usize = 64;
/// Bytes of a regular expression.
pub const PATTERN_BYTES_MAX: usize = 1024;
/// Elements of a regular expression once its counted repetitions are written out.
pub const PATTERN_SIZE_MAX: u64 = 10_000;
/// Nesting of groups in a pattern or a grammar.
pub const GROUPS_MAX: usize = 16;
/// Bytes of a grammar.
pub const GRAMMAR_BYTES_MAX: usize = 16 << 10;
/// Rules of a grammar.
pub const GRAMMAR_RULES_MAX: usize = 256;
/// Nesting of a JSON document: schemas of tools reach about ten.
pub const JSON_DEPTH_MAX: usize = 32;

fn invalid<T>(what: impl Into<String>) -> Result<T, Refusal> {
    Err(Refusal::Invalid(what.into()))
}

fn length(what: &str, bytes: usize, most: usize) -> Result<(), Refusal> {
    if bytes <= most {
        return Ok(());
    }
    Err(Refusal::TooLarge { what: format!("{what} in bytes"), asked: bytes as u64, most: most as u64 })
}

/// Checks a text from a user: length, characters, repetition, and the spellings of `special` tokens (sorted).
pub fn check_text(text: &str, special: &[String]) -> Result<(), Refusal> {
    length("the text", text.len(), TEXT_BYTES_MAX)?;
    check_characters(text)?;
    check_repetition(text)?;
    check_special(text, special)
}

/// Refuses characters that hide or reorder text (Boucher and Anderson 2021, "Trojan Source"), controls, and piles of marks.
pub fn check_characters(text: &str) -> Result<(), Refusal> {
    let (mut marks, mut invisible, mut in_flag) = (0, 0, false);
    for (at, character) in text.char_indices() {
        let bad = match character {
            '\t' | '\n' | '\r' => None,
            '\0'..='\u{1f}' | '\u{7f}'..='\u{9f}' => Some("a control character"),
            '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}' => Some("a character that reorders text"),
            // Tags spell text that nobody sees; only the flags of regions use them.
            '\u{e0000}'..='\u{e007f}' if !in_flag => Some("an invisible tag character"),
            '\u{fff9}'..='\u{fffb}' => Some("an annotation character"),
            '\u{fdd0}'..='\u{fdef}' => Some("a noncharacter"),
            _ if u32::from(character) & 0xfffe == 0xfffe => Some("a noncharacter"),
            _ => None,
        };
        if let Some(bad) = bad {
            return invalid(format!("the text has {bad} (U+{:04X}) at byte {at}", u32::from(character)));
        }
        in_flag = character == '\u{1f3f4}' || (in_flag && matches!(character, '\u{e0020}'..='\u{e007f}'));
        marks = if is_mark(character) { marks + 1 } else { 0 };
        invisible = if is_invisible(character) { invisible + 1 } else { 0 };
        if marks > MARKS_MAX {
            return invalid(format!("the text piles up more than {MARKS_MAX} combining marks at byte {at}"));
        }
        if invisible > INVISIBLE_MAX {
            return invalid(format!(
                "the text has more than {INVISIBLE_MAX} invisible characters in a row at byte {at}"
            ));
        }
    }
    Ok(())
}

/// The blocks of combining marks that stand over or under any letter.
fn is_mark(character: char) -> bool {
    matches!(character, '\u{300}'..='\u{36f}' | '\u{483}'..='\u{489}' | '\u{1ab0}'..='\u{1aff}'
        | '\u{1dc0}'..='\u{1dff}' | '\u{20d0}'..='\u{20ff}' | '\u{fe20}'..='\u{fe2f}')
}

fn is_invisible(character: char) -> bool {
    matches!(character, '\u{ad}' | '\u{61c}' | '\u{180e}' | '\u{200b}'..='\u{200f}' | '\u{2060}'..='\u{2064}'
        | '\u{fe00}'..='\u{fe0f}' | '\u{feff}' | '\u{e0100}'..='\u{e01ef}')
}

/// Refuses a text with two blocks' length of one short piece repeated.
pub fn check_repetition(text: &str) -> Result<(), Refusal> {
    for (number, block) in text.as_bytes().chunks_exact(REPEAT_BLOCK).enumerate() {
        // Almost every period fails at its first bytes, so this is a few comparisons a period and block.
        let repeats = |period: &usize| block.iter().zip(&block[*period..]).all(|(a, b)| a == b);
        if let Some(period) = (1..=REPEAT_PERIOD_MAX).find(repeats) {
            let at = number * REPEAT_BLOCK;
            return invalid(format!("the text repeats the same {period} bytes over and over at byte {at}"));
        }
    }
    Ok(())
}

/// Refuses the spelling of a control token, such as those of chat templates. `special` is sorted; only tokens in angle or
/// square brackets are looked for, which all published templates use.
pub fn check_special(text: &str, special: &[String]) -> Result<(), Refusal> {
    if special.is_empty() {
        return Ok(());
    }
    let bytes = text.as_bytes();
    for (at, open) in bytes.iter().enumerate().filter(|(_, byte)| matches!(byte, b'<' | b'[')) {
        let close = if *open == b'<' { b'>' } else { b']' };
        let window = &bytes[at..bytes.len().min(at + SPECIAL_BYTES_MAX)];
        let ends = window.iter().enumerate().filter(|(_, byte)| **byte == close).map(|(end, _)| end + 1);
        for end in ends {
            let found = special.binary_search_by(|token| token.as_bytes().cmp(&window[..end])).is_ok();
            if found {
                return invalid(format!("the text spells a control token of the model at byte {at}"));
            }
        }
    }
    Ok(())
}

/// Refuses a regular expression whose cost could exceed its length: counted repetitions that multiply, repetition of
/// repetition, references back, deep groups.
pub fn check_pattern(pattern: &str) -> Result<(), Refusal> {
    length("the pattern", pattern.len(), PATTERN_BYTES_MAX)?;
    let bytes = pattern.as_bytes();
    // For each open group: elements so far, and whether one of them repeats without end.
    let mut groups: Vec<(u64, bool)> = vec![(0, false)];
    let mut last = (0u64, false);
    let mut at = 0;
    while at < bytes.len() {
        let mut next = at + 1;
        let element = match bytes[at] {
            b'\\' => {
                if bytes.get(at + 1).is_some_and(|byte| byte.is_ascii_digit() || *byte == b'k') {
                    return invalid("the pattern refers back to a group");
                }
                next = at + 2;
                Some((1, false))
            }
            b'[' => {
                next = class_end(bytes, at);
                Some((1, false))
            }
            b'(' => {
                if bytes[at..].starts_with(b"(?=")
                    || bytes[at..].starts_with(b"(?!")
                    || bytes[at..].starts_with(b"(?<=")
                    || bytes[at..].starts_with(b"(?<!")
                {
                    return invalid("the pattern looks around");
                }
                if groups.len() > GROUPS_MAX {
                    return invalid(format!("the pattern nests more than {GROUPS_MAX} groups"));
                }
                groups.push((0, false));
                None
            }
            b')' => {
                let group = groups.pop().unwrap_or_default();
                if groups.is_empty() {
                    return invalid("the pattern closes a group that it did not open");
                }
                Some(group)
            }
            b'*' | b'+' => {
                if last.1 {
                    return invalid("the pattern repeats a repetition");
                }
                let own = groups.last_mut().map_or(&mut last, |group| group);
                own.1 = true;
                last = (last.0, true);
                None
            }
            b'{' => match counted(&bytes[at..]) {
                Some((count, endless, end)) => {
                    if last.1 && (count > 1 || endless) {
                        return invalid("the pattern repeats a repetition");
                    }
                    if let Some(group) = groups.last_mut() {
                        group.0 =
                            group.0.saturating_add(last.0.max(1).saturating_mul(count.saturating_sub(1)));
                        group.1 |= endless;
                    }
                    last = (last.0.saturating_mul(count), endless);
                    next = at + end;
                    None
                }
                None => Some((1, false)),
            },
            b'?' | b'|' | b'^' | b'$' => None,
            _ => Some((1, false)),
        };
        if let (Some(element), Some(group)) = (element, groups.last_mut()) {
            group.0 = group.0.saturating_add(element.0);
            group.1 |= element.1;
            last = element;
        }
        if groups.iter().any(|group| group.0 > PATTERN_SIZE_MAX) {
            let (asked, most) = (groups.iter().map(|group| group.0).max().unwrap_or(0), PATTERN_SIZE_MAX);
            return Err(Refusal::TooLarge { what: "the pattern written out".into(), asked, most });
        }
        at = next;
    }
    if groups.len() == 1 { Ok(()) } else { invalid("the pattern leaves a group open") }
}

/// Where a character class ends that begins at `at`.
fn class_end(bytes: &[u8], at: usize) -> usize {
    let mut next = at + 1;
    if bytes.get(next) == Some(&b'^') {
        next += 1;
    }
    // A bracket that comes first stands for itself.
    if bytes.get(next) == Some(&b']') {
        next += 1;
    }
    while next < bytes.len() && bytes[next] != b']' {
        next += if bytes[next] == b'\\' { 2 } else { 1 };
    }
    next + 1
}

/// `{m}`, `{m,}` or `{m,n}`: the larger count, whether it has no end, and the length of the text.
fn counted(bytes: &[u8]) -> Option<(u64, bool, usize)> {
    // More digits than these are no count that anything allows.
    let end = bytes.iter().take(24).position(|byte| *byte == b'}')?;
    let inner = std::str::from_utf8(&bytes[1..end]).ok()?;
    let count = |text: &str| text.trim().parse::<u64>().ok();
    match inner.split_once(',') {
        None => Some((count(inner)?, false, end + 1)),
        Some((least, "")) => Some((count(least)?, true, end + 1)),
        Some((least, most)) => {
            let least = if least.is_empty() { 0 } else { count(least)? };
            Some((least.max(count(most)?), false, end + 1))
        }
    }
}

/// Refuses a grammar in GBNF that is too long, has too many rules, nests too deep or counts too far.
pub fn check_grammar(grammar: &str) -> Result<(), Refusal> {
    length("the grammar", grammar.len(), GRAMMAR_BYTES_MAX)?;
    let rules = grammar.matches("::=").count();
    if rules == 0 {
        return invalid("the grammar has no rule");
    }
    if rules > GRAMMAR_RULES_MAX {
        let (asked, most) = (rules as u64, GRAMMAR_RULES_MAX as u64);
        return Err(Refusal::TooLarge { what: "the number of rules".into(), asked, most });
    }
    let bytes = grammar.as_bytes();
    let (mut depth, mut at, mut size) = (0usize, 0, 0u64);
    while at < bytes.len() {
        at = match bytes[at] {
            b'"' => literal_end(bytes, at),
            b'[' => class_end(bytes, at),
            b'#' => at + bytes[at..].iter().position(|byte| *byte == b'\n').unwrap_or(bytes.len() - at),
            b'(' => {
                depth += 1;
                if depth > GROUPS_MAX {
                    return invalid(format!("the grammar nests more than {GROUPS_MAX} groups"));
                }
                at + 1
            }
            b')' => {
                let Some(less) = depth.checked_sub(1) else {
                    return invalid("the grammar closes a group that it did not open");
                };
                depth = less;
                at + 1
            }
            b'{' => match counted(&bytes[at..]) {
                Some((count, _, length)) => {
                    size = size.saturating_add(count);
                    if size > PATTERN_SIZE_MAX {
                        let what = "the grammar written out".into();
                        return Err(Refusal::TooLarge { what, asked: size, most: PATTERN_SIZE_MAX });
                    }
                    at + length
                }
                None => return invalid("the grammar has a repetition that cannot be read"),
            },
            _ => at + 1,
        };
    }
    if depth == 0 { Ok(()) } else { invalid("the grammar leaves a group open") }
}

fn literal_end(bytes: &[u8], at: usize) -> usize {
    let mut next = at + 1;
    while next < bytes.len() && bytes[next] != b'"' {
        next += if bytes[next] == b'\\' { 2 } else { 1 };
    }
    next + 1
}

/// Refuses a JSON document that nests too deep, before any parser recurses into it.
pub fn check_json_depth(bytes: &[u8]) -> Result<(), Refusal> {
    let (mut depth, mut at) = (0usize, 0);
    while at < bytes.len() {
        match bytes[at] {
            b'"' => {
                at = literal_end(bytes, at);
                continue;
            }
            b'{' | b'[' => depth += 1,
            b'}' | b']' => depth = depth.saturating_sub(1),
            _ => {}
        }
        if depth > JSON_DEPTH_MAX {
            let (asked, most) = (depth as u64, JSON_DEPTH_MAX as u64);
            return Err(Refusal::TooLarge { what: "the depth of the document".into(), asked, most });
        }
        at += 1;
    }
    Ok(())
}

#[cfg(test)]
#[path = "input_tests.rs"]
mod tests;
