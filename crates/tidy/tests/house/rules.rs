//! The rules about single files.

use super::files::File;
use super::lexer::{code_of, words};
use toml::{Table, Value};

/// A file beyond this is two things; the aim is 500.
pub const LINES_MAX: usize = 600;
/// The only place that may speak to C.
const UNSAFE_FILE: &str = "crates/engine/src/llama.rs";
const UNSAFE_FOLDER: &str = "crates/engine/src/llama/";
/// Names that say nothing.
const EMPTY_NAMES: &[&str] = &["utils", "util", "helpers", "helper", "common", "manager", "misc"];
/// Crates that compute and touch nothing.
const PURE: &[&str] =
    &["crates/units/src/", "crates/laws/src/", "crates/control/src/", "crates/sim/src/", "crates/plan/src/"];
const IMPURE_MODULES: &[&str] = &["fs", "env", "net", "process"];
const IMPURE_WORDS: &[&str] = &["Instant", "SystemTime"];
/// Hosts of package registries: where packages come from is each machine's own business. In two pieces,
/// so that this list does not name them either.
const REGISTRIES: &[&str] = &[
    concat!("index", ".crates.io"),
    concat!("static", ".crates.io"),
    concat!("pypi", ".org"),
    concat!("pythonhosted", ".org"),
    concat!("deb", ".debian.org"),
    concat!("archive", ".ubuntu.com"),
    concat!("registry", ".npmjs.org"),
    concat!("proxy", ".golang.org"),
];
/// Folders that only exist on somebody's machine.
const PRIVATE_FOLDERS: &[&str] = &["/home/", "/root/", "/Users/", concat!("/wo", "rk/")];

/// A rule: which files it concerns, and what it has to say about one.
pub struct Rule {
    pub name: &'static str,
    concerns: fn(&str) -> bool,
    check: fn(&File) -> Vec<String>,
}

impl Rule {
    pub fn judge(&self, file: &File) -> Vec<String> {
        if !(self.concerns)(&file.path) {
            return Vec::new();
        }
        (self.check)(file)
            .into_iter()
            .map(|complaint| format!("{}: {}: {complaint}", file.path, self.name))
            .collect()
    }
}

pub const RULES: &[Rule] = &[
    Rule { name: "unsafe", concerns: is_rust, check: unsafe_in_one_place },
    Rule { name: "bounded channels", concerns: is_rust, check: bounded_channels },
    Rule { name: "finished", concerns: |_| true, check: finished },
    Rule { name: "length", concerns: |path| is_rust(path) || path.ends_with(".sh"), check: length },
    Rule { name: "essay", concerns: |path| is_rust(path) && path.contains("/src/"), check: essay },
    Rule { name: "names", concerns: is_rust, check: names },
    Rule {
        name: "lints",
        concerns: |path| path.starts_with("crates/") && path.ends_with("Cargo.toml"),
        check: lints,
    },
    Rule { name: "pure", concerns: |path| PURE.iter().any(|folder| path.starts_with(folder)), check: pure },
    Rule { name: "addresses", concerns: |_| true, check: addresses },
];

fn is_rust(path: &str) -> bool {
    path.ends_with(".rs")
}

/// Complaints about the lines of a text that `bad` is true of.
fn lines_that(text: &str, complaint: &str, bad: impl Fn(&str) -> bool) -> Vec<String> {
    let lines = text.lines().enumerate().filter(|(_, line)| bad(line));
    lines.map(|(i, line)| format!("line {}: {complaint}: {}", i + 1, line.trim())).collect()
}

fn unsafe_in_one_place(file: &File) -> Vec<String> {
    if file.path == UNSAFE_FILE || file.path.starts_with(UNSAFE_FOLDER) {
        return Vec::new();
    }
    lines_that(&code_of(&file.text), "unsafe code belongs in the module llama of the engine", |line| {
        words(line).any(|word| word == "unsafe")
            || (line.contains("allow(") && words(line).any(|word| word == "unsafe_code"))
            || (line.contains("expect(") && words(line).any(|word| word == "unsafe_code"))
    })
}

/// No queue without a bound: tokio's unbounded channels, and `channel()` of std, which never has one.
fn bounded_channels(file: &File) -> Vec<String> {
    lines_that(&code_of(&file.text), "a channel needs a bound", |line| {
        let imports_std = line.contains("sync::mpsc::") && line.trim_start().starts_with("use std::");
        words(line)
            .any(|word| word == "unbounded_channel" || word == "unbounded" || word == "UnboundedSender")
            || (imports_std && words(line).any(|word| word == "channel"))
            || calls_without_arguments(line, "mpsc::channel")
    })
}

/// `name()` or `name::<T>()`.
fn calls_without_arguments(line: &str, name: &str) -> bool {
    line.match_indices(name).any(|(at, _)| {
        let rest = &line[at + name.len()..];
        let call = match rest.strip_prefix("::<") {
            Some(generic) => generic.find(">(").map_or("", |end| &generic[end + 1..]),
            None => rest,
        };
        call.starts_with("()")
    })
}

fn finished(file: &File) -> Vec<String> {
    let mut complaints = lines_that(&file.text, "do it, or file it as an issue", |line| {
        words(line).any(|word| word == "TODO" || word == "FIXME" || word == "XXX")
    });
    if is_rust(&file.path) {
        let code = code_of(&file.text);
        complaints.extend(lines_that(&code, "no stubs", |line| {
            line.contains("todo!") || line.contains("unimplemented!")
        }));
    }
    complaints
}

fn length(file: &File) -> Vec<String> {
    let lines = file.text.lines().count();
    if lines <= LINES_MAX { Vec::new() } else { vec![format!("{lines} lines: which two things is it?")] }
}

fn essay(file: &File) -> Vec<String> {
    let opens_well = file.text.trim_start().starts_with("//!");
    if opens_well { Vec::new() } else { vec!["a module opens with `//!`: why is it shaped so?".into()] }
}

fn names(file: &File) -> Vec<String> {
    let empty = |name: &str| EMPTY_NAMES.contains(&name);
    let mut complaints: Vec<String> = file
        .path
        .split('/')
        .map(|part| part.trim_end_matches(".rs"))
        .filter(|part| empty(part))
        .map(|part| format!("{part:?} says nothing"))
        .collect();
    complaints.extend(lines_that(&code_of(&file.text), "the name says nothing", |line| {
        let words: Vec<&str> = words(line).collect();
        words.windows(2).any(|pair| pair[0] == "mod" && empty(pair[1]))
    }));
    complaints
}

fn lints(file: &File) -> Vec<String> {
    let manifest: Table = match file.text.parse() {
        Ok(manifest) => manifest,
        Err(error) => return vec![error.to_string()],
    };
    let inherited = manifest.get("lints").and_then(|lints| lints.get("workspace")).and_then(Value::as_bool);
    if inherited == Some(true) { Vec::new() } else { vec!["write [lints] workspace = true".into()] }
}

/// No file, no environment, no network, no clock.
fn pure(file: &File) -> Vec<String> {
    lines_that(&code_of(&file.text), "this crate computes and touches nothing", |line| {
        let of_std = line.contains("std::") && words(line).any(|word| IMPURE_MODULES.contains(&word));
        of_std || words(line).any(|word| IMPURE_WORDS.contains(&word))
    })
}

fn addresses(file: &File) -> Vec<String> {
    lines_that(&file.text, "an address of one machine or registry", |line| {
        REGISTRIES.iter().any(|host| line.contains(host))
            || PRIVATE_FOLDERS
                .iter()
                .any(|folder| line.match_indices(folder).any(|(at, _)| begins_path(line, at)))
    })
}

/// Whether the slash here is the first of its path (`/home/me`, not `a.example/home/me`).
fn begins_path(line: &str, at: usize) -> bool {
    !line[..at].ends_with(|c: char| c.is_alphanumeric() || "/._-~})*".contains(c))
}
