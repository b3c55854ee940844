//! The numbers of a cleaned text, and which of them may be answers.
//!
//! One pass finds the numerals: sign, currency, groups of thousands, decimals, powers of ten, fractions, magnitudes
//! ("2.5 million"). A numeral is *entangled*, and no answer, where it is a piece of something else: a range (`3-5`),
//! an operand (`6 × 7`), a time (`3:30`), a date, a version, a list without spaces (`3,4,7`, which also keeps a
//! decimal comma from being read as two numbers), a name (`x2`), a power (`2^5`), a multiple of an unknown (`3x`).

use super::clean::THIN;
use crate::number::Number;

/// Longest text between two numerals that may join them, in characters: " divided by ".
const JOINER_CHARS_MAX: usize = 12;
/// What joins two numerals into an expression, a range, a time, a date.
const JOINERS: [&str; 18] =
    ["-", "–", "—", "~", "..", "...", "…", ":", "/", "×", "*", "+", "÷", "±", "^", "minus", "plus", "times"];
const CURRENCIES: [char; 7] = ['$', '€', '£', '¥', '₹', '₽', '¢'];
const MAGNITUDES: [(&str, i32); 5] =
    [("hundred", 2), ("thousand", 3), ("million", 6), ("billion", 9), ("trillion", 12)];
/// Letters that make an unknown of a numeral before them.
const UNKNOWNS: [char; 5] = ['x', 'y', 'z', 'π', '√'];

/// A numeral.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Numeral {
    /// Where it starts, sign and currency included.
    pub start: usize,
    /// Where it ends, magnitude included.
    pub end: usize,
    /// What it says; None where it is beyond all bounds.
    pub value: Option<Number>,
    /// Whether it is a piece of something else.
    pub entangled: bool,
    /// A whole number in plain digits, which a fraction may follow.
    whole: bool,
}

impl Numeral {
    /// The number, if it may be an answer.
    pub fn answer(&self) -> Option<&Number> {
        self.value.as_ref().filter(|_| !self.entangled)
    }
}

/// All numerals, in order.
pub(super) fn numerals(chars: &[char]) -> Vec<Numeral> {
    let mut found: Vec<Numeral> = Vec::new();
    let mut at = 0;
    while at < chars.len() {
        let starts = chars[at].is_ascii_digit() || (chars[at] == '.' && digit_at(chars, at + 1));
        if !starts {
            at += 1;
            continue;
        }
        let mut numeral = Reader { chars, at }.read();
        at = numeral.end;
        if let Some(last) = found.last_mut() {
            if mixed(chars, last, &mut numeral) {
                found.pop();
            } else if joined(chars, last.end, numeral.start) {
                last.entangled = true;
                numeral.entangled = true;
            }
        }
        found.push(numeral);
    }
    found
}

/// The text between two places, without spaces, percent and currency signs, in lower case; None where it is long.
pub(super) fn between(chars: &[char], from: usize, to: usize) -> Option<String> {
    let gap = chars.get(from..to)?;
    (gap.len() <= JOINER_CHARS_MAX).then(|| {
        gap.iter()
            .filter(|c| !c.is_whitespace() && **c != '%' && !CURRENCIES.contains(c))
            .map(char::to_ascii_lowercase)
            .collect()
    })
}

fn joined(chars: &[char], from: usize, to: usize) -> bool {
    // A line break separates.
    let broken = chars.get(from..to).is_some_and(|gap| gap.contains(&'\n'));
    !broken && between(chars, from, to).is_some_and(|gap| JOINERS.contains(&gap.as_str()))
}

/// Whether `last` and `numeral` are a whole number and a fraction; if so the second becomes both.
fn mixed(chars: &[char], last: &Numeral, numeral: &mut Numeral) -> bool {
    if !last.whole || last.entangled || chars.get(last.end..numeral.start) != Some(&[' '][..]) {
        return false;
    }
    let text: String = chars[numeral.start..numeral.end].iter().collect();
    let Some((over, under)) = text.split_once('/') else { return false };
    let proper = over.len() < under.len() || (over.len() == under.len() && over < under);
    let whole: String = chars[last.start..last.end].iter().filter(|c| c.is_ascii_digit()).collect();
    let negative = last.value.as_ref().is_some_and(|number| number.value() < 0.0);
    match Number::fraction(negative, &whole, over, under) {
        Some(value) if proper => {
            numeral.value = Some(value);
            numeral.start = last.start;
            true
        }
        _ => false,
    }
}

fn digit_at(chars: &[char], at: usize) -> bool {
    chars.get(at).is_some_and(char::is_ascii_digit)
}

/// Letters of scripts that write words apart; others put digits right beside them.
fn is_letter(c: char) -> bool {
    c.is_alphabetic() && (c as u32) < 0x2E80
}

struct Reader<'a> {
    chars: &'a [char],
    at: usize,
}

impl Reader<'_> {
    fn here(&self) -> Option<char> {
        self.chars.get(self.at).copied()
    }

    fn digits(&mut self) -> String {
        let start = self.at;
        while digit_at(self.chars, self.at) {
            self.at += 1;
        }
        self.chars[start..self.at].iter().collect()
    }

    fn read(mut self) -> Numeral {
        let first = self.at;
        let (start, negative, mut entangled) = self.before(first);
        let Some(integer) = self.integer() else {
            return Numeral { start, end: self.at, value: None, entangled: true, whole: false };
        };
        let mut whole = true;
        let mut fraction = String::new();
        if self.here() == Some('.') && digit_at(self.chars, self.at + 1) {
            self.at += 1;
            fraction = self.digits();
            whole = false;
            // A version or a section: 1.2.3.
            while self.here() == Some('.') && digit_at(self.chars, self.at + 1) {
                self.at += 1;
                self.digits();
                entangled = true;
            }
        }
        let value = if whole && self.here() == Some('/') && digit_at(self.chars, self.at + 1) {
            whole = false;
            self.at += 1;
            let under = self.digits();
            Number::fraction(negative, "0", &integer, &under)
        } else {
            let exponent = self.exponent(&integer, &fraction);
            whole &= exponent.is_none();
            match exponent {
                Some((power, true)) => Number::decimal(negative, "1", "", power),
                Some((power, false)) => Number::decimal(negative, &integer, &fraction, power),
                None => Number::decimal(negative, &integer, &fraction, 0),
            }
        };
        entangled |= self.tangles();
        let power = self.magnitude();
        whole &= power == 0;
        let value = value.and_then(|number| if power == 0 { Some(number) } else { number.shifted(power) });
        Numeral { start, end: self.at, value, entangled, whole }
    }

    /// Sign and currency before the digits: where the numeral starts, whether it is negative, whether it is a piece
    /// of a word.
    fn before(&self, first: usize) -> (usize, bool, bool) {
        let mut start = first;
        let behind = |at: usize| at.checked_sub(1).map(|i| self.chars[i]);
        let mut negative = false;
        let mut signed = false;
        let mut priced = false;
        // A sign may stand on either side of a currency sign.
        for _ in 0..2 {
            match behind(start) {
                Some(sign @ ('-' | '–' | '+')) if !signed && self.sign_may_stand(start - 1) => {
                    signed = true;
                    negative = sign != '+';
                    start -= 1;
                }
                Some(c) if !priced && CURRENCIES.contains(&c) => {
                    priced = true;
                    start -= 1;
                }
                _ => break,
            }
        }
        if !signed && self.says_negative(start) {
            negative = true;
        }
        let glued = behind(start).is_some_and(|c| is_letter(c) || matches!(c, '_' | '^' | '√'));
        (start, negative, glued && !signed && !priced)
    }

    /// A sign stands after a space or an opening; after a digit, letter or closing bracket it is an operator.
    fn sign_may_stand(&self, at: usize) -> bool {
        let Some(before) = at.checked_sub(1).map(|i| self.chars[i]) else { return true };
        !(is_letter(before)
            || before.is_ascii_digit()
            || matches!(before, ')' | ']' | '}' | '%' | '-' | '+' | '.' | '^'))
    }

    /// "negative 5", and "minus 5" where it is no subtraction.
    fn says_negative(&self, start: usize) -> bool {
        let Some(space) = start.checked_sub(1).filter(|&i| self.chars[i] == ' ') else { return false };
        let ends_with = |word: &str| {
            let length = word.len();
            let Some(from) = space.checked_sub(length) else { return false };
            let same = self.chars[from..space].iter().map(char::to_ascii_lowercase).eq(word.chars());
            same && !from.checked_sub(1).is_some_and(|i| is_letter(self.chars[i]))
        };
        if ends_with("negative") {
            return true;
        }
        let before = space.saturating_sub("minus".len());
        let subtracts =
            self.chars[..before].iter().rev().find(|c| !c.is_whitespace()).is_some_and(char::is_ascii_digit);
        ends_with("minus") && !subtracts
    }

    /// The digits before the point, groups joined. None, and all groups passed over, where commas group them wrongly.
    fn integer(&mut self) -> Option<String> {
        let mut digits = self.digits();
        let Some(separator) = self.here().filter(|c| matches!(c, ',' | '\'' | '’' | '_' | &THIN)) else {
            return Some(digits);
        };
        let (first, mut lengths, end_of_first) = (digits.len(), Vec::new(), self.at);
        while self.here() == Some(separator) && digit_at(self.chars, self.at + 1) {
            self.at += 1;
            let group = self.digits();
            lengths.push(group.len());
            digits += &group;
        }
        let Some((last, inner)) = lengths.split_last() else { return Some(digits) };
        let led = (1..=3).contains(&first) && !digits.starts_with('0') && *last == 3;
        let by_thousands = led && inner.iter().all(|&length| length == 3);
        let indian = led && separator == ',' && first <= 2 && inner.iter().all(|&length| length == 2);
        if by_thousands || indian {
            return Some(digits);
        }
        if separator == THIN {
            // Only a space after all: the numerals are on their own.
            self.at = end_of_first;
            digits.truncate(first);
            return Some(digits);
        }
        None
    }

    /// The power of ten behind the digits, and whether the digits themselves are the ten.
    fn exponent(&mut self, integer: &str, fraction: &str) -> Option<(i32, bool)> {
        let back = self.at;
        if matches!(self.here(), Some('e' | 'E')) {
            self.at += 1;
            if let Some(power) = self.power().filter(|_| !self.here().is_some_and(char::is_alphanumeric)) {
                return Some((power, false));
            }
            self.at = back;
        }
        if integer == "10" && fraction.is_empty() && self.here() == Some('^') {
            self.at += 1;
            if let Some(power) = self.power() {
                return Some((power, true));
            }
            self.at = back;
        }
        self.spaces();
        if matches!(self.here(), Some('×' | '*' | 'x' | 'X' | '·')) {
            self.at += 1;
            self.spaces();
            if self.chars[self.at..].starts_with(&['1', '0', '^']) {
                self.at += 3;
                if let Some(power) = self.power() {
                    return Some((power, false));
                }
            }
        }
        self.at = back;
        None
    }

    fn power(&mut self) -> Option<i32> {
        let opened = self.here() == Some('(');
        self.at += usize::from(opened);
        let negative = self.here() == Some('-');
        if matches!(self.here(), Some('-' | '+')) {
            self.at += 1;
        }
        let digits = self.digits();
        if opened && self.here() == Some(')') {
            self.at += 1;
        }
        let power = digits.parse::<i32>().ok()?;
        Some(if negative { -power } else { power })
    }

    fn spaces(&mut self) {
        // Two at most: more is layout.
        for _ in 0..2 {
            self.at += usize::from(self.here() == Some(' '));
        }
    }

    /// Whether what follows makes the numeral a piece of something.
    fn tangles(&mut self) -> bool {
        let Some(next) = self.here() else { return false };
        let after = self.chars.get(self.at + 1);
        let unknown = UNKNOWNS.contains(&next) && !after.is_some_and(|&c| is_letter(c));
        let mut tangled = next == '^' || unknown;
        // A date: 1/2/2024.
        while self.here() == Some('/') && digit_at(self.chars, self.at + 1) {
            self.at += 1;
            self.digits();
            tangled = true;
        }
        tangled
    }

    /// The power of ten of a word like "million".
    fn magnitude(&mut self) -> i32 {
        let from = self.at + usize::from(matches!(self.here(), Some(' ' | '-')));
        let longest = self.chars[from.min(self.chars.len())..].iter().take(9);
        let word: String =
            longest.take_while(|c| c.is_ascii_alphabetic()).map(char::to_ascii_lowercase).collect();
        match MAGNITUDES.iter().find(|(name, _)| *name == word) {
            Some((name, power)) => {
                self.at = from + name.len();
                *power
            }
            None => 0,
        }
    }
}
