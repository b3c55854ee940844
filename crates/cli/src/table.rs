//! How figures look: tables of at most 100 columns, three significant digits, footnotes.

use anyhow::Result;
use comfy_table::{CellAlignment, ColumnConstraint, ContentArrangement, Table, presets};
use indicatif::ProgressBar;
use qeil_measure::settings::Settings;
use serde::Serialize;
use std::io::Write;

/// Widest output: wide enough for the tables, narrow enough for half a screen.
pub const COLUMNS_MAX: u16 = 100;
/// What is said of a model with random weights, wherever it shows.
pub const WEIGHTLESS: &str = "weightless: random weights in the shape of the model it is named after; speed, energy \
                              and memory are those of the shape, answers mean nothing";
/// What stands for a figure that is missing.
pub const MISSING: &str = "–";

/// A table with these headers; the columns named in `right` hold figures.
pub fn table(headers: &[&str], right: std::ops::Range<usize>) -> Table {
    let mut table = Table::new();
    table
        .load_style(presets::UTF8_HORIZONTAL_ONLY)
        .set_content_arrangement(ContentArrangement::Dynamic)
        .set_width(COLUMNS_MAX)
        .set_header(headers);
    table.style_mut().row_separator = comfy_table::LineStyle::none();
    for at in right {
        if let Some(column) = table.column_mut(at) {
            column.set_cell_alignment(CellAlignment::Right);
        }
    }
    table
}

/// Never break the words of a column: names are there to be typed.
pub fn keep_whole(table: &mut Table, column: usize) {
    if let Some(column) = table.column_mut(column) {
        column.set_constraint(ColumnConstraint::ContentWidth);
    }
}

/// A JSON document with a newline at its end.
pub fn json(document: &impl Serialize) -> Result<String> {
    Ok(serde_json::to_string_pretty(document)? + "\n")
}

/// Three significant digits, or the whole part of a large number.
pub fn figure(value: f64) -> String {
    let size = value.abs();
    let decimals = match size {
        s if !s.is_finite() => 0,
        s if s >= 99.95 || s == 0.0 => 0,
        s if s >= 9.995 => 1,
        s if s >= 0.9995 => 2,
        s if s >= 1e-9 => (2 - s.log10().floor() as i32).max(0) as usize,
        _ => 12,
    };
    format!("{value:.decimals$}")
}

/// The same where there may be none.
pub fn figure_or_missing(value: Option<f64>) -> String {
    value.map_or_else(|| MISSING.into(), figure)
}

/// Bytes with a binary prefix.
pub fn bytes(bytes: u64) -> String {
    qeil_units::Bytes(bytes).to_string()
}

/// A count of parameters: 135M, 2.6B.
pub fn parameters(count: u64) -> String {
    match count {
        0..1_000_000 => format!("{}K", figure(count as f64 / 1e3)),
        1_000_000..1_000_000_000 => format!("{}M", figure(count as f64 / 1e6)),
        _ => format!("{}B", figure(count as f64 / 1e9)),
    }
}

/// Break `text` at spaces into lines of at most `width` characters, each after the first behind `indent`.
pub fn wrap(text: &str, width: usize, indent: &str) -> String {
    let mut lines = vec![String::new()];
    for word in text.split_whitespace() {
        let line = lines.last_mut().map_or(0, |line| line.chars().count());
        if line > 0 && line + 1 + word.chars().count() > width {
            lines.push(String::new());
        }
        if let Some(line) = lines.last_mut() {
            if !line.is_empty() {
                line.push(' ');
            }
            line.push_str(word);
        }
    }
    lines.join(&format!("\n{indent}"))
}

/// Settings in few words; the layout of the KV buffer means nothing to a single sequence.
pub fn brief(settings: Settings, samples: u32) -> String {
    let mut words = vec![if settings.flash_attention { "FA on" } else { "FA off" }];
    if samples > 1 {
        words.push(if settings.kv_unified { "KV unified" } else { "KV separate" });
    }
    words.extend(settings.weights.map(|format| format.name()));
    words.join(", ")
}

/// A line of progress on standard error, above the spinner where there is a terminal.
pub fn progress(spinner: &ProgressBar, line: &str) {
    if spinner.is_hidden() {
        // Fails only where standard error is closed: nobody is there to read it.
        let _ = writeln!(std::io::stderr(), "{line}");
    } else {
        spinner.println(line);
    }
}

/// Numbered remarks below a table; the same remark keeps its number.
#[derive(Debug, Default)]
pub struct Footnotes(Vec<String>);

impl Footnotes {
    /// The mark of a remark: a superscript number.
    pub fn mark(&mut self, remark: impl Into<String>) -> String {
        let remark = remark.into();
        let at = self.0.iter().position(|known| *known == remark).unwrap_or_else(|| {
            self.0.push(remark);
            self.0.len() - 1
        });
        superscript(at + 1)
    }

    /// All remarks, one a paragraph.
    pub fn text(&self) -> String {
        let width = usize::from(COLUMNS_MAX) - 4;
        let note = |(i, remark): (usize, &String)| {
            format!(" {} {}\n", superscript(i + 1), wrap(remark, width, "   "))
        };
        self.0.iter().enumerate().map(note).collect()
    }
}

fn superscript(number: usize) -> String {
    const DIGITS: [char; 10] = ['⁰', '¹', '²', '³', '⁴', '⁵', '⁶', '⁷', '⁸', '⁹'];
    number.to_string().bytes().map(|digit| DIGITS[usize::from(digit - b'0')]).collect()
}

/// Text from a model, safe to print: control characters could move the cursor or change the terminal.
pub fn printable(text: &str, lines: bool) -> String {
    text.chars()
        .map(|c| match c {
            '\n' if lines => '\n',
            c if c.is_control() => ' ',
            c => c,
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn figures() {
        for (value, text) in [
            (0.0, "0"),
            (1234.5, "1234"),
            (276.4, "276"),
            (99.96, "100"),
            (83.44, "83.4"),
            (9.996, "10.0"),
            (2.5, "2.50"),
            (0.0812, "0.0812"),
            (0.00012345, "0.000123"),
            (-12.34, "-12.3"),
        ] {
            assert_eq!(figure(value), text, "{value}");
        }
        assert_eq!(figure_or_missing(None), MISSING);
    }

    #[test]
    fn counts_of_parameters() {
        for (count, text) in [(300_000, "300K"), (134_515_008, "135M"), (2_600_000_000, "2.60B")] {
            assert_eq!(parameters(count), text);
        }
    }

    #[test]
    fn wrapping() {
        for (text, width, expected) in [
            ("one two three", 7, "one two\n  three"),
            ("one", 2, "one"),
            ("", 5, ""),
            ("a  b\n c", 5, "a b c"),
            ("über äöü", 4, "über\n  äöü"),
        ] {
            assert_eq!(wrap(text, width, "  "), expected, "{text:?}");
        }
    }

    #[test]
    fn remarks_are_numbered_once() {
        let mut notes = Footnotes::default();
        assert_eq!([notes.mark("a"), notes.mark("b"), notes.mark("a")], ["¹", "²", "¹"]);
        assert_eq!(notes.text(), " ¹ a\n ² b\n");
    }

    #[test]
    fn escape_sequences_do_not_reach_the_terminal() {
        assert_eq!(printable("a\u{1b}[2Jb\r\nc\u{9b}", true), "a [2Jb \nc ");
        assert_eq!(printable("a\nb", false), "a b");
    }
}
