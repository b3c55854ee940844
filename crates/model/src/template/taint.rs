//! Telling the template's text from the users', through whatever the template does.
//!
//! A mark is a private-use character that occurs neither in the input nor in the template, drawn at random, so no
//! user can guess one and no case mapping, trimming or escaping changes one. A user's text is coded unit by unit,
//! each followed by its mark; a unit is one character, or one of the template's string literals. Decoding gives
//! every character a mark stands behind to the user. Where the template has cut a text at a literal, the literal's
//! mark is left without it, which is no harm; a character's mark without its character means that the coding was
//! torn, and nothing is concluded from it.

use super::Part;
use std::{
    collections::{BTreeSet, HashMap},
    hash::{BuildHasher, RandomState},
};

/// Most literals of a template that are kept whole; the longest templates in use have about 100.
const LITERALS_MAX: usize = 256;
/// Most bytes of a literal that is kept whole: longer ones are prompts, which no template looks for in messages.
const LITERAL_BYTES_MAX: usize = 256;
/// Most bytes of white space between a literal and its mark; looking back for it must not cost more than this.
const BLANK_BYTES_MAX: usize = 256;
/// The supplementary private-use planes, 131,068 characters: enough to find free ones in any conversation.
const PRIVATE_USE: [(u32, u32); 2] = [(0xF_0000, 0xF_FFFD), (0x10_0000, 0x10_FFFD)];

/// The characters of `text` that could be mistaken for marks.
pub(super) fn private_use(text: &str) -> impl Iterator<Item = char> + '_ {
    text.chars().filter(|c| PRIVATE_USE.iter().any(|&(first, last)| (first..=last).contains(&u32::from(*c))))
}

/// The string literals of a template, longest first.
#[derive(Debug, Clone, Default)]
pub(super) struct Literals(Vec<String>);

impl Literals {
    /// Find them in a template's source: quoted strings between `{{` or `{%` and their ends.
    pub fn of(source: &str) -> Self {
        let mut found = BTreeSet::new();
        let mut rest = source;
        while let Some(start) = rest.find(['{']).filter(|_| found.len() < LITERALS_MAX) {
            rest = &rest[start + 1..];
            if let Some(comment) = rest.strip_prefix('#') {
                rest = comment.find("#}").map_or("", |end| &comment[end + 2..]);
            } else if rest.starts_with(['{', '%']) {
                rest = strings_of_block(&rest[1..], &mut found);
            }
        }
        let mut literals: Vec<String> = found.into_iter().take(LITERALS_MAX).collect();
        literals.sort_by_key(|literal| std::cmp::Reverse(literal.len()));
        Self(literals)
    }

    /// Those that may be left whole in users' texts: not the ones with a control token in them. A template that
    /// slices by position could set such a token free of its mark; of any other literal, that is just text.
    pub fn exempt(&self, controls: &Controls<'_>) -> Self {
        let is_text = |literal: &&String| !controls.spellings().any(|control| literal.contains(control));
        Self(self.0.iter().filter(is_text).cloned().collect())
    }
}

/// Collect the strings of one block, and return what follows it.
fn strings_of_block<'a>(block: &'a str, found: &mut BTreeSet<String>) -> &'a str {
    let mut chars = block.char_indices();
    while let Some((at, c)) = chars.next() {
        match c {
            '}' if block[..at].ends_with(['}', '%']) => return &block[at + 1..],
            '\'' | '"' => {
                let mut literal = String::new();
                loop {
                    match chars.next() {
                        None => return "",
                        Some((_, end)) if end == c => break,
                        Some((_, '\\')) => match chars.next() {
                            Some((_, 'n')) => literal.push('\n'),
                            Some((_, 't')) => literal.push('\t'),
                            Some((_, 'r')) => literal.push('\r'),
                            Some((_, escaped)) => literal.push(escaped),
                            None => return "",
                        },
                        Some((_, inner)) => literal.push(inner),
                    }
                }
                if (1..=LITERAL_BYTES_MAX).contains(&literal.len()) {
                    found.insert(literal);
                }
            }
            _ => {}
        }
    }
    ""
}

/// The spellings of a model's control tokens.
pub(super) struct Controls<'a> {
    spellings: &'a [String],
    /// Whether white space occurs in one, so that it must not be left unmarked.
    hold_white_space: bool,
    /// The characters by which control tokens are known: those of their punctuation, or all of a spelling that has
    /// none.
    characters: BTreeSet<char>,
}

impl<'a> Controls<'a> {
    pub fn of(spellings: &'a [String]) -> Self {
        let mut controls = Self { spellings, hold_white_space: false, characters: BTreeSet::new() };
        for spelling in spellings.iter().filter(|spelling| !is_blank(spelling)) {
            controls.hold_white_space |= spelling.contains(char::is_whitespace);
            let is_telling = |c: &char| !c.is_alphanumeric() && !c.is_whitespace() && *c != '_';
            let telling: Vec<char> = spelling.chars().filter(is_telling).collect();
            if telling.is_empty() {
                controls.characters.extend(spelling.chars());
            } else {
                controls.characters.extend(telling);
            }
        }
        controls
    }

    /// Those that are not mere white space (some vocabularies list runs of it, which mean nothing else).
    fn spellings(&self) -> impl Iterator<Item = &'a str> {
        self.spellings.iter().map(String::as_str).filter(|spelling| !is_blank(spelling))
    }

    /// A character in `text` that a control token could be made of.
    pub fn character_in(&self, text: &str) -> Option<char> {
        text.chars().find(|c| self.characters.contains(c))
    }
}

fn is_blank(text: &str) -> bool {
    text.chars().all(char::is_whitespace)
}

/// A stock of characters that occur nowhere in the input.
pub(super) struct Marks {
    used: BTreeSet<char>,
    random: u64,
}

impl Marks {
    pub fn free_of(used: impl Iterator<Item = char>) -> Option<Self> {
        let used: BTreeSet<char> = used.collect();
        let all: u32 = PRIVATE_USE.iter().map(|(first, last)| last - first + 1).sum();
        // With less than half of them free, drawing at random could take long.
        let free = used.len() < all as usize / 2;
        free.then(|| Self { used, random: RandomState::new().hash_one("marks") })
    }

    fn draw(&mut self) -> Option<char> {
        // Each draw hits a free one with a chance above one half.
        for _ in 0..256 {
            self.random = split_mix(self.random);
            let (first, last) = PRIVATE_USE[usize::from(self.random >> 63 != 0)];
            let offset = (self.random >> 16) as u32 % (last - first + 1);
            if let Some(c) = char::from_u32(first + offset).filter(|c| !self.used.contains(c)) {
                self.used.insert(c);
                return Some(c);
            }
        }
        None
    }

    /// A coder with marks of its own.
    pub fn coder<'a>(&mut self, literals: &'a Literals, controls: &Controls<'_>) -> Option<Coder<'a>> {
        let mark = self.draw()?;
        let mut marks = Vec::with_capacity(literals.0.len());
        for _ in &literals.0 {
            marks.push(self.draw()?);
        }
        let mut by_first: HashMap<char, Vec<usize>> = HashMap::new();
        for (i, literal) in literals.0.iter().enumerate() {
            by_first.entry(literal.chars().next()?).or_default().push(i);
        }
        let meaning = marks.iter().enumerate().map(|(i, mark)| (*mark, i)).collect();
        Some(Coder {
            literals: &literals.0,
            marks,
            meaning,
            by_first,
            mark,
            spare_white_space: !controls.hold_white_space,
        })
    }
}

/// One step of the SplitMix64 generator (Steele et al. 2014).
fn split_mix(state: u64) -> u64 {
    let mut z = state.wrapping_add(0x9E37_79B9_7F4A_7C15);
    z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    z ^ (z >> 31)
}

/// Marks users' text, and finds it again.
pub(super) struct Coder<'a> {
    literals: &'a [String],
    /// Mark of each literal.
    marks: Vec<char>,
    /// Literal of each mark.
    meaning: HashMap<char, usize>,
    /// Literals by their first character, longest first.
    by_first: HashMap<char, Vec<usize>>,
    /// Mark of a single character.
    mark: char,
    /// Leave the white space around a text unmarked.
    spare_white_space: bool,
}

impl Coder<'_> {
    pub fn mark(&self, text: &str) -> String {
        let inner = if self.spare_white_space { text.trim() } else { text };
        if inner.is_empty() {
            return text.to_owned();
        }
        let start = if self.spare_white_space { text.len() - text.trim_start().len() } else { 0 };
        let mut out = String::with_capacity(text.len() * 5);
        out.push_str(&text[..start]);
        let mut rest = inner;
        // How much of `rest` is left when the white space that was last looked at ends.
        let mut blank_until = rest.len();
        while let Some(c) = rest.chars().next() {
            if c.is_whitespace() && rest.len() <= blank_until {
                let after = rest.trim_start();
                blank_until = after.len();
                if self.worded_literal(after).is_some() {
                    // White space in front of a literal stays bare: a template that splits there also trims there.
                    out.push_str(&rest[..rest.len() - after.len()]);
                    rest = after;
                    continue;
                }
            }
            let (unit_bytes, mark) = match self.literal(c, rest) {
                Some(i) => (self.literals[i].len() + self.blank_after(i, rest), self.marks[i]),
                None => (c.len_utf8(), self.mark),
            };
            out.push_str(&rest[..unit_bytes]);
            out.push(mark);
            rest = &rest[unit_bytes..];
        }
        out.push_str(&text[start + inner.len()..]);
        out
    }

    /// The longest literal that `rest`, which starts with `first`, starts with.
    fn literal(&self, first: char, rest: &str) -> Option<usize> {
        let candidates = self.by_first.get(&first)?;
        candidates.iter().copied().find(|&i| rest.starts_with(&self.literals[i]))
    }

    /// The same, if it neither starts nor ends with white space.
    fn worded_literal(&self, rest: &str) -> Option<usize> {
        let i = self.literal(rest.chars().next()?, rest)?;
        self.is_worded(i).then_some(i)
    }

    fn is_worded(&self, i: usize) -> bool {
        self.spare_white_space && self.literals[i].trim() == self.literals[i]
    }

    /// Bytes of white space behind literal `i` at the start of `rest` that stay bare in front of its mark.
    fn blank_after(&self, i: usize, rest: &str) -> usize {
        let after = &rest[self.literals[i].len()..];
        let blank_bytes = after.bytes().take(BLANK_BYTES_MAX).take_while(u8::is_ascii_whitespace).count();
        if self.is_worded(i) { blank_bytes } else { 0 }
    }

    /// Take the marks out of a rendered text. `None` where it is not `plain` without them, or the coding was torn.
    pub fn unmark(&self, marked: &str, plain: &str) -> Option<Vec<Part>> {
        let mut text = String::with_capacity(plain.len());
        // For each byte of `text`, whether it is the user's.
        let mut users: Vec<bool> = Vec::with_capacity(plain.len());
        for c in marked.chars() {
            if c == self.mark {
                let unit_bytes = text.chars().next_back()?.len_utf8();
                claim(&mut users, unit_bytes)?;
            } else if let Some(&i) = self.meaning.get(&c) {
                // Where the template has cut the literal off, its mark stands alone and means nothing. (If the
                // template has written the same literal just there, that is taken for the user's. No harm: there is
                // no control token in it.)
                let blank = text.bytes().rev().take(BLANK_BYTES_MAX).take_while(u8::is_ascii_whitespace);
                let blank_bytes = if self.is_worded(i) { blank.count() } else { 0 };
                if text[..text.len() - blank_bytes].ends_with(&self.literals[i]) {
                    let _ = claim(&mut users, blank_bytes + self.literals[i].len());
                }
            } else {
                text.push(c);
                users.resize(text.len(), false);
            }
        }
        if self.spare_white_space {
            join_blanks(&text, &mut users);
        }
        (text == plain).then(|| parts(&text, &users))
    }
}

/// Give the last `bytes` to the user; `None` if some are theirs already.
fn claim(users: &mut [bool], bytes: usize) -> Option<()> {
    let start = users.len().checked_sub(bytes)?;
    let claimed = &mut users[start..];
    if claimed.contains(&true) {
        return None;
    }
    claimed.fill(true);
    Some(())
}

/// Give white space back to the user's words around it: all of it between two pieces of theirs, and spaces right
/// before one. It means nothing to anyone, but tokenisers want ` word` in one piece.
fn join_blanks(text: &str, users: &mut [bool]) {
    let mut start = 0;
    while start < users.len() {
        let run = users[start..].iter().take_while(|&&user| user == users[start]).count();
        let end = start + run;
        if !users[start] && end < users.len() {
            let piece = &text[start..end];
            let between = start > 0 && is_blank(piece);
            let kept_bytes = if between { 0 } else { piece.trim_end_matches([' ', '\t']).len() };
            users[start + kept_bytes..end].fill(true);
        }
        start = end;
    }
}

fn parts(text: &str, users: &[bool]) -> Vec<Part> {
    let mut parts = Vec::new();
    let mut start = 0;
    while start < text.len() {
        let theirs = users[start];
        let run = users[start..].iter().take_while(|&&user| user == theirs).count();
        parts.push(Part { text: text[start..start + run].to_owned(), trusted: !theirs });
        start += run;
    }
    parts
}
