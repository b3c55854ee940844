//! Places in a text where an answer is stated, whatever its sort.

/// Longest stretch between the word *answer* and its verb, in bytes: "to the question of how many hens are left".
pub const SUBJECT_BYTES_MAX: usize = 80;
/// Longest statement looked at, in bytes: answers are short, and this keeps the work linear.
pub const STATED_BYTES_MAX: usize = 400;

/// Most statements looked at, from the last: more is repetition.
const STATEMENTS_MAX: usize = 32;

/// What is not the model thinking aloud.
pub(super) fn spoken(output: &str) -> &str {
    output.rsplit_once("</think>").map_or(output, |(_, spoken)| spoken)
}

/// The inside of the last `\boxed{…}`; where its brace never closes, up to the end of the line.
pub(super) fn boxed(output: &str) -> Option<&str> {
    let (_, after) = output.rsplit_once("\\boxed").or_else(|| output.rsplit_once("\\fbox"))?;
    let inside = after.trim_start().strip_prefix('{')?;
    let mut depth = 1usize;
    let mut escaped = false;
    for (i, c) in inside.char_indices() {
        match c {
            _ if escaped => escaped = false,
            '\\' => escaped = true,
            '{' => depth += 1,
            '}' => depth -= 1,
            _ => {}
        }
        if depth == 0 {
            return Some(&inside[..i]);
        }
    }
    inside.lines().next()
}

/// What follows each `####` on its line, the last one first.
pub(super) fn after_hashes(output: &str) -> impl Iterator<Item = &str> {
    output
        .rsplit('\n')
        .filter_map(|line| {
            let (_, rest) = line.rsplit_once("####")?;
            Some(cut(rest.trim_start_matches('#'), STATED_BYTES_MAX))
        })
        .take(STATEMENTS_MAX)
}

/// What follows each `WORD … is`, the last one first, up to the end of its sentence.
pub(super) fn statements<'a>(output: &'a str, words: &[&str]) -> impl Iterator<Item = &'a str> {
    let lower = output.to_ascii_lowercase();
    let mut starts: Vec<usize> = words
        .iter()
        .flat_map(|word| lower.match_indices(word).map(|(i, _)| (i, i + word.len())).collect::<Vec<_>>())
        .filter(|&(start, end)| stands_alone(&lower, start, end))
        .filter_map(|(_, end)| verb_end(&lower, end))
        .collect();
    starts.sort_unstable();
    starts.into_iter().rev().take(STATEMENTS_MAX).map(|start| {
        let rest = output[start..].trim_start_matches([' ', '\t', '*', '_', ':', '`']);
        // Where the line ends here, the answer is on the next one.
        sentence(cut(rest.trim_start(), STATED_BYTES_MAX))
    })
}

/// Whether no letter touches this word.
fn stands_alone(text: &str, start: usize, end: usize) -> bool {
    !text[..start].ends_with(char::is_alphanumeric) && !text[end..].starts_with(char::is_alphanumeric)
}

/// Where the verb after a subject ends, if there is one on the line.
fn verb_end(lower: &str, subject_end: usize) -> Option<usize> {
    let line = cut(&lower[subject_end..], SUBJECT_BYTES_MAX);
    let (line, broken) = line.split_once('\n').map_or((line, false), |(line, _)| (line, true));
    if broken && line.trim_matches(['*', '_', ' ', '#', '\r']).is_empty() {
        return Some(subject_end + line.len()); // a heading
    }
    let mut word_start = None;
    for (i, c) in line.char_indices().chain([(line.len(), ' ')]) {
        if c.is_alphanumeric() {
            word_start.get_or_insert(i);
            continue;
        }
        let word = word_start.take().map_or("", |start| &line[start..i]);
        if ["is", "are", "was", "be", "equals"].contains(&word) {
            // "The answer is: 5".
            return Some(subject_end + i);
        }
        match c {
            ':' | '=' | '→' => return Some(subject_end + i + c.len_utf8()),
            '.' | '!' | '?' | ';' => return None,
            _ => {}
        }
    }
    None
}

/// Up to the end of the sentence or line.
fn sentence(text: &str) -> &str {
    let mut chars = text.char_indices().peekable();
    while let Some((i, c)) = chars.next() {
        let ends = match c {
            '\n' => true,
            '.' | '!' | '?' => i > 0 && chars.peek().is_none_or(|(_, next)| next.is_whitespace()),
            _ => false,
        };
        if ends {
            return &text[..i];
        }
    }
    text
}

/// At most so many bytes of a text, whole characters.
pub(super) fn cut(text: &str, bytes_max: usize) -> &str {
    if text.len() <= bytes_max {
        return text;
    }
    let mut end = bytes_max;
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    &text[..end]
}
