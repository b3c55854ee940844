//! Rust source without comments and without the contents of literals: what is left is code.
//!
//! Not a parser. It knows line comments, nested block comments, strings with escapes, raw strings, and the
//! difference between a character and a lifetime, which is all that keeps words in texts from looking like code.

/// The code of a Rust file. Comments become a space, literals become `""`; line breaks stay.
pub fn code_of(source: &str) -> String {
    let chars: Vec<char> = source.chars().collect();
    let mut code = String::with_capacity(source.len());
    let mut at = 0;
    while at < chars.len() {
        let here = &chars[at..];
        let taken = if here.starts_with(&['/', '/']) {
            code.push(' ');
            here.iter().position(|c| *c == '\n').unwrap_or(here.len())
        } else if here.starts_with(&['/', '*']) {
            code.push(' ');
            block_comment(here)
        } else if let Some(length) = raw_string(here).filter(|_| !ends_in_word(&code)) {
            code.push_str("\"\"");
            length
        } else if here[0] == '"' {
            code.push_str("\"\"");
            quoted(here, '"')
        } else if here[0] == '\'' && is_character(here) {
            code.push_str("\"\"");
            quoted(here, '\'')
        } else {
            code.push(here[0]);
            1
        };
        let skipped_lines = chars[at..at + taken].iter().filter(|c| **c == '\n').count();
        if taken > 1 {
            code.extend(std::iter::repeat_n('\n', skipped_lines));
        }
        at += taken;
    }
    code
}

/// Identifiers and keywords of code, in order.
pub fn words(code: &str) -> impl Iterator<Item = &str> {
    code.split(|c: char| !is_word(c)).filter(|word| !word.is_empty())
}

fn is_word(c: char) -> bool {
    c.is_alphanumeric() || c == '_'
}

fn ends_in_word(code: &str) -> bool {
    code.ends_with(is_word)
}

fn block_comment(text: &[char]) -> usize {
    let (mut depth, mut at) = (0, 0);
    while at < text.len() {
        match text[at..] {
            ['/', '*', ..] => (depth, at) = (depth + 1, at + 2),
            ['*', '/', ..] => (depth, at) = (depth - 1, at + 2),
            _ => at += 1,
        }
        if depth == 0 {
            break;
        }
    }
    at
}

/// Length of `"…"` or `'…'` with escapes.
fn quoted(text: &[char], end: char) -> usize {
    let mut at = 1;
    while at < text.len() && text[at] != end {
        at += if text[at] == '\\' { 2 } else { 1 };
    }
    (at + 1).min(text.len())
}

/// Length of `r"…"`, `r#"…"#`, `br#"…"#`, `cr"…"`, if one begins here.
fn raw_string(text: &[char]) -> Option<usize> {
    let prefix = usize::from(matches!(text[0], 'b' | 'c'));
    if text.get(prefix) != Some(&'r') {
        return None;
    }
    let hashes = text[prefix + 1..].iter().take_while(|c| **c == '#').count();
    let open = prefix + 1 + hashes;
    if text.get(open) != Some(&'"') {
        return None;
    }
    let mut end = vec!['"'];
    end.resize(hashes + 1, '#');
    let inside = &text[open + 1..];
    let length = inside.windows(end.len()).position(|window| window == end).unwrap_or(inside.len());
    Some((open + 1 + length + end.len()).min(text.len()))
}

/// `'a'` and `'\n'` are characters, `'a` is a lifetime.
fn is_character(text: &[char]) -> bool {
    text.get(1) == Some(&'\\') || text.get(2) == Some(&'\'')
}
