//! The few elements of SVG 1.1 that the pictures need.
//!
//! Text is laid out before anybody knows the reader's font, so widths are guessed from a table of a common sans-serif,
//! on the wide side: a gap is better than an overlap.

use std::fmt::Write;

const FONT: &str = "Helvetica, Arial, 'DejaVu Sans', sans-serif";

/// Which end of a text stands at its place.
#[derive(Debug, Clone, Copy)]
pub enum Anchor {
    Start,
    Middle,
    End,
}

impl Anchor {
    fn name(self) -> &'static str {
        match self {
            Self::Start => "start",
            Self::Middle => "middle",
            Self::End => "end",
        }
    }
}

/// A picture being written.
#[derive(Debug)]
pub struct Svg {
    body: String,
    clips: u32,
}

impl Svg {
    pub fn new(width: f64, height: f64, title: &str) -> Self {
        let mut svg = Self { body: String::new(), clips: 0 };
        svg.put(format_args!(
            "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"{width}\" height=\"{height}\" \
             viewBox=\"0 0 {width} {height}\" font-family=\"{FONT}\" role=\"img\">"
        ));
        svg.put(format_args!("<title>{}</title>", escape(title)));
        svg.put(format_args!("<rect width=\"{width}\" height=\"{height}\" fill=\"#ffffff\"/>"));
        svg
    }

    pub fn finish(mut self) -> String {
        self.body += "</svg>\n";
        self.body
    }

    fn put(&mut self, element: std::fmt::Arguments<'_>) {
        // Writing to a string cannot fail.
        let _ = writeln!(self.body, "{element}");
    }

    #[expect(clippy::too_many_arguments, reason = "two points and a pen")]
    pub fn line(
        &mut self,
        x1: f64,
        y1: f64,
        x2: f64,
        y2: f64,
        colour: &str,
        width: f64,
        dashes: Option<&str>,
    ) {
        let dashes = dashes.map(|dashes| format!(" stroke-dasharray=\"{dashes}\"")).unwrap_or_default();
        self.put(format_args!(
            "<line x1=\"{x1:.1}\" y1=\"{y1:.1}\" x2=\"{x2:.1}\" y2=\"{y2:.1}\" stroke=\"{colour}\" \
             stroke-width=\"{width}\"{dashes}/>"
        ));
    }

    pub fn polyline(&mut self, points: &[(f64, f64)], colour: &str, width: f64, dashes: Option<&str>) {
        let dashes = dashes.map(|dashes| format!(" stroke-dasharray=\"{dashes}\"")).unwrap_or_default();
        self.put(format_args!(
            "<polyline points=\"{}\" fill=\"none\" stroke=\"{colour}\" stroke-width=\"{width}\"{dashes}/>",
            path(points)
        ));
    }

    pub fn polygon(&mut self, points: &[(f64, f64)], fill: &str) {
        self.put(format_args!("<polygon points=\"{}\" fill=\"{fill}\"/>", path(points)));
    }

    pub fn circle(&mut self, x: f64, y: f64, radius: f64, fill: &str, stroke: &str) {
        self.put(format_args!(
            "<circle cx=\"{x:.1}\" cy=\"{y:.1}\" r=\"{radius}\" fill=\"{fill}\" stroke=\"{stroke}\" \
             stroke-width=\"1.6\"/>"
        ));
    }

    pub fn diamond(&mut self, x: f64, y: f64, half: f64, fill: &str) {
        self.polygon(&[(x, y - half), (x + half, y), (x, y + half), (x - half, y)], fill);
    }

    pub fn frame(&mut self, x: f64, y: f64, width: f64, height: f64, colour: &str) {
        self.put(format_args!(
            "<rect x=\"{x}\" y=\"{y}\" width=\"{width}\" height=\"{height}\" fill=\"none\" stroke=\"{colour}\"/>"
        ));
    }

    /// A white sheet for text to stand on.
    pub fn card(&mut self, x: f64, y: f64, width: f64, height: f64, edge: &str) {
        self.put(format_args!(
            "<rect x=\"{x:.1}\" y=\"{y:.1}\" width=\"{width:.1}\" height=\"{height:.1}\" rx=\"4\" fill=\"#ffffff\" \
             fill-opacity=\"0.92\" stroke=\"{edge}\"/>"
        ));
    }

    pub fn text(&mut self, x: f64, y: f64, size: f64, colour: &str, anchor: Anchor, text: &str) {
        self.put(format_args!(
            "<text x=\"{x:.1}\" y=\"{y:.1}\" font-size=\"{size}\" fill=\"{colour}\" text-anchor=\"{}\">{}</text>",
            anchor.name(),
            escape(text)
        ));
    }

    pub fn bold(&mut self, x: f64, y: f64, size: f64, colour: &str, text: &str) {
        self.put(format_args!(
            "<text x=\"{x:.1}\" y=\"{y:.1}\" font-size=\"{size}\" font-weight=\"bold\" fill=\"{colour}\">{}</text>",
            escape(text)
        ));
    }

    /// Text with a white edge, readable on a line or a band.
    pub fn halo_text(&mut self, x: f64, y: f64, size: f64, colour: &str, text: &str) {
        for edge in [" stroke=\"#ffffff\" stroke-width=\"3\" stroke-linejoin=\"round\"", ""] {
            self.put(format_args!(
                "<text x=\"{x:.1}\" y=\"{y:.1}\" font-size=\"{size}\" fill=\"{colour}\"{edge}>{}</text>",
                escape(text)
            ));
        }
    }

    /// Text from bottom to top, centred.
    pub fn upright_text(&mut self, x: f64, y: f64, size: f64, colour: &str, text: &str) {
        self.put(format_args!(
            "<text transform=\"translate({x:.1} {y:.1}) rotate(-90)\" font-size=\"{size}\" fill=\"{colour}\" \
             text-anchor=\"middle\">{}</text>",
            escape(text)
        ));
    }

    /// What follows until [`Svg::end_group`] is cut off at this rectangle.
    pub fn begin_clip(&mut self, x: f64, y: f64, width: f64, height: f64) {
        self.clips += 1;
        let id = self.clips;
        self.put(format_args!(
            "<clipPath id=\"c{id}\"><rect x=\"{x}\" y=\"{y}\" width=\"{width}\" height=\"{height}\"/></clipPath>"
        ));
        self.put(format_args!("<g clip-path=\"url(#c{id})\">"));
    }

    pub fn end_group(&mut self) {
        self.put(format_args!("</g>"));
    }
}

/// Pixels that a text of this size takes at most in a common sans-serif.
pub fn text_width(text: &str, size: f64) -> f64 {
    let em = |letter: char| match letter {
        'i' | 'j' | 'l' | '.' | ',' | ':' | ';' | '\'' | '|' | '!' => 0.32,
        'f' | 't' | 'r' | ' ' | '\u{a0}' | '(' | ')' | '-' | '/' => 0.40,
        'm' | 'w' | 'M' | 'W' | '%' => 0.95,
        letter if letter.is_uppercase() => 0.72,
        _ => 0.62,
    };
    size * text.chars().map(em).sum::<f64>()
}

/// Break a text at spaces (but not at no-break spaces) into lines of at most `width` pixels.
pub fn wrap(text: &str, size: f64, width: f64) -> Vec<String> {
    let mut lines = vec![String::new()];
    for word in text.split(' ').filter(|word| !word.is_empty()) {
        let Some(line) = lines.last_mut() else { break };
        let longer = if line.is_empty() { word.to_string() } else { format!("{line} {word}") };
        if !line.is_empty() && text_width(&longer, size) > width {
            lines.push(word.into());
        } else {
            *line = longer;
        }
    }
    lines
}

fn path(points: &[(f64, f64)]) -> String {
    let pairs: Vec<String> = points.iter().map(|(x, y)| format!("{x:.1},{y:.1}")).collect();
    pairs.join(" ")
}

/// Model names come from files: nothing in them may become markup, and XML has no place for most control characters.
fn escape(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for letter in text.chars() {
        match letter {
            '&' => escaped += "&amp;",
            '<' => escaped += "&lt;",
            '>' => escaped += "&gt;",
            '"' => escaped += "&quot;",
            letter if letter.is_control() || matches!(letter, '\u{fffe}' | '\u{ffff}') => escaped.push(' '),
            letter => escaped.push(letter),
        }
    }
    escaped
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_from_files_become_no_markup() {
        let mut svg = Svg::new(10.0, 10.0, "<script>");
        svg.text(0.0, 0.0, 10.0, "#000", Anchor::Start, "a<b>&\"c\"\u{1b}[2J\u{0}");
        let picture = svg.finish();
        assert!(picture.contains("a&lt;b&gt;&amp;&quot;c&quot; [2J "), "{picture}");
        assert!(!picture.contains("<script>") && !picture.contains('\u{1b}'));
    }

    #[test]
    fn lines_fit() {
        let text = "one two three four five six seven eight nine ten eleven twelve";
        let lines = wrap(text, 12.0, 120.0);
        assert!(lines.len() > 2);
        assert!(lines.iter().all(|line| text_width(line, 12.0) <= 120.0), "{lines:?}");
        assert_eq!(lines.join(" "), text);
        assert_eq!(wrap("unbreakable", 12.0, 10.0), ["unbreakable"]);
    }
}
