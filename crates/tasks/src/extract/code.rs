//! The Python function in an output.
//!
//! A base model goes on from the signature; a chat model repeats it in a fenced block, with prose around. Both become
//! one program: what the prompt had before the function (imports, other functions), and the function whole.
//!
//! 1. The last fenced block that defines the function, else the last fenced block, else the whole output.
//! 2. If that defines the function, it stands as it is, without prose around it where there was no fence.
//! 3. If not, it is the body: cut at the first line that is not indented, indented where it is not, and put behind
//!    the prompt.

use super::{Found, Nothing, places::spoken};

/// Indentation of a body, as PEP 8 has it.
const INDENT: &str = "    ";
/// What a line of code at the margin may begin with, where prose may stand beside it.
const CODE_STARTS: [&str; 8] = ["def ", "async def ", "class ", "import ", "from ", "@", "#", ")"];

/// The program in an output: the part of `prompt` before the function, and the function.
///
/// # Errors
/// The output holds nothing.
pub fn python(output: &str, prompt: &str, entry_point: &str) -> Result<Found<String>, Nothing> {
    let spoken = spoken(output);
    if spoken.trim().is_empty() {
        return Err(Nothing::of("code", output));
    }
    let blocks = fences(spoken);
    let block = blocks.iter().rev().find(|block| defines(block, entry_point)).or(blocks.last()).copied();
    let (text, rule) = match block {
        Some(block) => (block, "the fenced block"),
        None => (spoken, "the output"),
    };
    if defines(text, entry_point) {
        let code = if block.is_some() { text.to_owned() } else { without_prose(text) };
        let preamble = prompt.find(&format!("def {entry_point}")).map_or("", |at| &prompt[..at]);
        return Ok(Found { value: format!("{preamble}{code}"), rule });
    }
    let body = body(text);
    if body.trim().is_empty() {
        return Err(Nothing::of("code", ""));
    }
    let newline = if prompt.ends_with('\n') || prompt.is_empty() { "" } else { "\n" };
    Ok(Found { value: format!("{prompt}{newline}{body}"), rule })
}

/// The insides of fenced blocks; the last one may lack its end.
pub(super) fn fences(text: &str) -> Vec<&str> {
    let mut blocks = Vec::new();
    let mut open: Option<usize> = None;
    let mut at = 0;
    for line in text.split_inclusive('\n') {
        if line.trim_start().starts_with("```") {
            match open.take() {
                Some(start) => blocks.push(&text[start..at]),
                None => open = Some(at + line.len()),
            }
        }
        at += line.len();
    }
    blocks.extend(open.map(|start| &text[start..]));
    blocks
}

fn defines(code: &str, name: &str) -> bool {
    code.lines().any(|line| {
        let line = line.strip_prefix("async ").unwrap_or(line);
        let rest = line.strip_prefix("def ").and_then(|rest| rest.trim_start().strip_prefix(name));
        rest.is_some_and(|rest| rest.trim_start().starts_with('('))
    })
}

/// The lines of code, where prose stands before, between or after.
fn without_prose(text: &str) -> String {
    let mut inside = false;
    let mut kept = String::new();
    for line in text.lines() {
        let blank = line.trim().is_empty();
        let indented = line.starts_with([' ', '\t']);
        let starts = CODE_STARTS.iter().any(|start| line.starts_with(start)) && !line.starts_with("# ");
        let comment = inside && line.starts_with('#');
        inside = starts || comment || (inside && (indented || blank));
        if inside {
            kept.push_str(line);
            kept.push('\n');
        }
    }
    kept
}

/// The body of a function.
fn body(text: &str) -> String {
    let lines: Vec<&str> = text.lines().skip_while(|line| line.trim().is_empty()).collect();
    let Some(first) = lines.first() else { return String::new() };
    let at_margin = |line: &&str| !line.trim().is_empty() && !line.starts_with([' ', '\t']);
    if !at_margin(first) {
        let end = lines.iter().position(at_margin).unwrap_or(lines.len());
        return lines[..end].join("\n") + "\n";
    }
    // A trimmed first line, or a body that was written at the margin.
    let only_first = !first.trim_end().ends_with(':') && !lines[1..].iter().any(at_margin);
    let mut shifted = String::new();
    for (i, line) in lines.iter().enumerate() {
        let indent = if (i == 0 || !only_first) && !line.trim().is_empty() { INDENT } else { "" };
        shifted.push_str(indent);
        shifted.push_str(line);
        shifted.push('\n');
    }
    shifted
}
