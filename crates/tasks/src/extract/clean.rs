//! Text with its clothing taken off: LaTeX, markdown, Unicode's many minus signs and digits.
//!
//! What is left is plain enough for a scanner that knows ASCII digits, one minus, one thin space and one power sign:
//! `\frac{3}{4}` and `¾` become `3/4`, `10⁵` becomes `10^5`, `1{,}234` becomes `1,234`, bold loses its stars.

/// A space that groups digits.
pub(super) const THIN: char = '\u{2009}';
/// Longest numerator or denominator taken from LaTeX, in characters.
const FRACTION_CHARS_MAX: usize = 40;

/// First digits of the decimal digit blocks that models write: Arabic, Persian, Devanagari, Bengali, Thai, full width.
const ZEROS: [u32; 6] = [0x0660, 0x06F0, 0x0966, 0x09E6, 0x0E50, 0xFF10];
/// The mathematical digits, five alphabets of ten.
const MATHEMATICAL: std::ops::RangeInclusive<u32> = 0x1D7CE..=0x1D7FF;
const VULGAR: [(char, &str); 15] = [
    ('½', "1/2"),
    ('⅓', "1/3"),
    ('⅔', "2/3"),
    ('¼', "1/4"),
    ('¾', "3/4"),
    ('⅕', "1/5"),
    ('⅖', "2/5"),
    ('⅗', "3/5"),
    ('⅘', "4/5"),
    ('⅙', "1/6"),
    ('⅚', "5/6"),
    ('⅛', "1/8"),
    ('⅜', "3/8"),
    ('⅝', "5/8"),
    ('⅞', "7/8"),
];
const SUPERSCRIPTS: [char; 10] = ['⁰', '¹', '²', '³', '⁴', '⁵', '⁶', '⁷', '⁸', '⁹'];

/// The text without its clothing.
pub(super) fn clean(text: &str) -> Vec<char> {
    let chars: Vec<char> = text.chars().collect();
    let mut cleaner = Cleaner { from: &chars, at: 0, to: Vec::with_capacity(chars.len()) };
    while cleaner.at < chars.len() {
        cleaner.step();
    }
    cleaner.to
}

struct Cleaner<'a> {
    from: &'a [char],
    at: usize,
    to: Vec<char>,
}

impl Cleaner<'_> {
    fn ahead(&self, n: usize) -> Option<char> {
        self.from.get(self.at + n).copied()
    }

    fn behind(&self) -> Option<char> {
        self.at.checked_sub(1).map(|i| self.from[i])
    }

    fn put(&mut self, c: char) {
        self.to.push(c);
        self.at += 1;
    }

    fn step(&mut self) {
        let c = self.from[self.at];
        let digit_behind = self.to.last().is_some_and(char::is_ascii_digit);
        match c {
            '\\' => self.command(),
            '{' if self.ahead(1) == Some(',') && self.ahead(2) == Some('}') => {
                self.at += 2;
                self.put(',');
            }
            '{' if matches!(self.to.last(), Some('^' | '_')) => self.at += 1,
            '{' | '}' | '`' => self.put(' '),
            '*' => self.star(),
            '_' => {
                let inside = |c: Option<char>| c.is_some_and(char::is_alphanumeric);
                self.put(if inside(self.behind()) && inside(self.ahead(1)) { '_' } else { ' ' });
            }
            '\u{2212}' | '\u{FE63}' | '\u{FF0D}' | '\u{2010}' | '\u{2011}' | '⁻' => self.put('-'),
            '\u{A0}' | '\u{2007}' | '\u{2009}' | '\u{202F}' => self.put(THIN),
            '\u{200B}'..='\u{200D}' | '\u{2060}' | '\u{FEFF}' => self.at += 1,
            '\u{2044}' => self.put('/'),
            '٫' => self.put('.'),
            '٬' => self.put(','),
            // Full width: the same order as ASCII, 0xFEE0 further up.
            '\u{FF01}'..='\u{FF5E}' => self.put(char::from_u32(c as u32 - 0xFEE0).unwrap_or(c)),
            _ => {
                if let Some(digit) = digit(c) {
                    self.put(digit);
                } else if let Some(power) = SUPERSCRIPTS.iter().position(|&s| s == c) {
                    self.superscript(power);
                } else if let Some((_, fraction)) = VULGAR.iter().find(|(vulgar, _)| *vulgar == c) {
                    if digit_behind {
                        self.to.push(' ');
                    }
                    self.to.extend(fraction.chars());
                    self.at += 1;
                } else {
                    self.put(c);
                }
            }
        }
    }

    fn superscript(&mut self, power: usize) {
        let before = self.behind();
        let goes_on = before.is_some_and(|b| b == '⁻' || SUPERSCRIPTS.contains(&b));
        if before == Some('⁻') {
            // The sign came first: its minus moves behind the power sign.
            if self.to.last() == Some(&'-') {
                self.to.pop();
            }
            self.to.extend(['^', '-']);
        } else if !goes_on {
            self.to.push('^');
        }
        self.put(char::from(b'0' + power as u8));
    }

    /// Emphasis goes; multiplication and powers stay.
    fn star(&mut self) {
        let double = self.ahead(1) == Some('*');
        let after = self.ahead(if double { 2 } else { 1 });
        let is_digit = |c: Option<char>| c.is_some_and(|c| digit(c).is_some());
        let is_space = |c: Option<char>| c.is_some_and(char::is_whitespace);
        let operator = (is_digit(self.behind()) && is_digit(after))
            || (is_space(self.behind()) && is_space(after) && !self.starts_line());
        if double {
            self.at += 1;
        }
        self.put(match (operator, double) {
            (true, true) => '^',
            (true, false) => '×',
            (false, _) => ' ',
        });
    }

    fn starts_line(&self) -> bool {
        self.to.iter().rev().find(|c| !matches!(c, ' ' | '\t')).is_none_or(|&c| c == '\n')
    }

    /// A LaTeX command.
    fn command(&mut self) {
        let letters = self.from[self.at + 1..].iter().take_while(|c| c.is_ascii_alphabetic()).count();
        if letters == 0 {
            let escaped = self.ahead(1);
            self.at += 1;
            match escaped {
                Some(',' | ';' | ':') => self.put(THIN),
                Some('!') => self.at += 1,
                Some(c @ ('$' | '%' | '#' | '&')) => self.put(c),
                Some(_) => self.put(' '),
                None => {}
            }
            return;
        }
        let name: String = self.from[self.at + 1..][..letters].iter().collect();
        self.at += 1 + letters;
        match name.as_str() {
            "frac" | "dfrac" | "tfrac" | "cfrac" => self.fraction(),
            "times" | "cdot" => self.to.push('×'),
            "div" => self.to.push('÷'),
            "pi" => self.to.push('π'),
            "sqrt" => {
                self.to.push('√');
                if self.ahead(0) == Some('{') {
                    self.at += 1;
                }
            }
            "approx" | "equiv" => self.to.push('='),
            _ => self.to.push(' '),
        }
    }

    /// `{3}{4}` or `34` behind `\frac`. Anything but two whole numbers is no number and goes.
    fn fraction(&mut self) {
        let (Some(over), Some(under)) = (self.argument(), self.argument()) else {
            self.to.push(' ');
            return;
        };
        let whole = |text: &str| !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
        let over = over.trim();
        let (sign, over) = over.strip_prefix('-').map_or(("", over), |rest| ("-", rest));
        let under = under.trim();
        if !whole(over) || !whole(under) {
            self.to.extend(" √ ".chars());
            return;
        }
        if self.to.last().is_some_and(char::is_ascii_digit) {
            self.to.push(' ');
        }
        self.to.extend(format!("{sign}{over}/{under}").chars());
    }

    fn argument(&mut self) -> Option<String> {
        let first = self.ahead(0)?;
        if first != '{' {
            self.at += 1;
            return Some(first.to_string());
        }
        let inside = &self.from[self.at + 1..];
        let length = inside.iter().take(FRACTION_CHARS_MAX).position(|&c| c == '}')?;
        self.at += length + 2;
        Some(inside[..length].iter().collect())
    }
}

/// A decimal digit of any script, as ASCII.
fn digit(c: char) -> Option<char> {
    if c.is_ascii_digit() {
        return Some(c);
    }
    let code = c as u32;
    let value = if MATHEMATICAL.contains(&code) {
        (code - MATHEMATICAL.start()) % 10
    } else {
        ZEROS.iter().find(|&&zero| (zero..zero + 10).contains(&code)).map(|zero| code - zero)?
    };
    char::from_digit(value, 10)
}
