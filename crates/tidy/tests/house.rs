//! Checks the workspace against the house rules.
//!
//! Each rule is a function from a file's path and text to complaints, so that each can be shown a bad file here
//! and must complain about it: a rule that never fires is worse than none.

#[path = "house/files.rs"]
mod files;
#[path = "house/layers.rs"]
mod layers;
#[path = "house/lexer.rs"]
mod lexer;
#[path = "house/rules.rs"]
mod rules;

use files::{File, workspace};
use rules::{RULES, Rule};

fn rule(name: &str) -> &'static Rule {
    RULES.iter().find(|rule| rule.name == name).unwrap_or_else(|| panic!("no rule {name}"))
}

#[test]
fn the_house_is_in_order() {
    let files = workspace();
    let complaints: Vec<String> =
        files.iter().flat_map(|file| RULES.iter().flat_map(|rule| rule.judge(file))).collect();
    assert!(complaints.is_empty(), "{} complaints:\n{}", complaints.len(), complaints.join("\n"));
}

#[test]
fn the_layers_hold() {
    let manifests: Vec<File> =
        workspace().into_iter().filter(|file| file.path.ends_with("Cargo.toml")).collect();
    let complaints: Vec<String> =
        manifests.iter().filter(|file| file.path.starts_with("crates/")).flat_map(layers::check).collect();
    assert!(complaints.is_empty(), "{}", complaints.join("\n"));
}

#[test]
fn the_walk_sees_the_workspace() {
    let files = workspace();
    for path in [
        "Cargo.toml",
        "crates/tidy/tests/house.rs",
        "crates/engine/src/llama.rs",
        "scripts/test.sh",
        ".ci/run",
    ] {
        assert!(files.iter().any(|file| file.path == path), "{path} was not looked at");
    }
    assert!(!files.iter().any(|file| file.path.starts_with("target/")));
}

/// (rule, path, text, whether the rule must complain)
const CASES: &[(&str, &str, &str, bool)] = &[
    ("unsafe", "crates/cli/src/main.rs", "fn f() { unsafe { g() } }", true),
    ("unsafe", "crates/cli/src/main.rs", "#![allow(unsafe_code)]", true),
    ("unsafe", "crates/engine/src/worker.rs", "pub unsafe fn f() {}", true),
    ("unsafe", "crates/engine/src/llama_too.rs", "unsafe impl Send for A {}", true),
    ("unsafe", "crates/engine/src/llama.rs", "unsafe { g() }", false),
    ("unsafe", "crates/engine/src/llama/batch.rs", "unsafe { g() }", false),
    (
        "unsafe",
        "crates/cli/src/main.rs",
        "// unsafe\n/* unsafe */ const A: &str = \"unsafe\"; /// unsafe\n",
        false,
    ),
    (
        "unsafe",
        "crates/cli/src/main.rs",
        "let a = r#\"\" unsafe \"#; let b = '\"'; let c = \"\\\" unsafe\";",
        false,
    ),
    ("unsafe", "crates/cli/src/main.rs", "let c = '\"'; unsafe {}", true),
    ("unsafe", "crates/cli/src/main.rs", "fn f<'a>(x: &'a str) { unsafe {} }", true),
    ("unsafe", "crates/cli/src/main.rs", "/* a /* b */ */ unsafe {}", true),
    (
        "bounded channels",
        "crates/cli/src/main.rs",
        "let (a, b) = tokio::sync::mpsc::unbounded_channel();",
        true,
    ),
    ("bounded channels", "crates/cli/src/main.rs", "let (a, b) = std::sync::mpsc::channel();", true),
    ("bounded channels", "crates/cli/src/main.rs", "let (a, b) = mpsc::channel::<Vec<u8>>();", true),
    ("bounded channels", "crates/cli/src/main.rs", "use std::sync::mpsc::{Receiver, channel};", true),
    ("bounded channels", "crates/cli/src/main.rs", "use std::sync::mpsc::channel;", true),
    ("bounded channels", "crates/cli/src/main.rs", "use std::sync::mpsc::{SyncSender, sync_channel};", false),
    (
        "bounded channels",
        "crates/cli/src/main.rs",
        "let (a, b) = mpsc::channel(EVENTS_MAX); oneshot::channel()",
        false,
    ),
    ("finished", "crates/cli/src/main.rs", "fn f() { todo!() }", true),
    ("finished", "crates/cli/src/main.rs", "fn f() { unimplemented!(\"later\") }", true),
    ("finished", "crates/cli/src/main.rs", "// TODO: later", true),
    ("finished", "scripts/a.sh", "# FIXME", true),
    ("finished", "crates/cli/src/main.rs", "// a METODO, todo and done", false),
    ("length", "crates/cli/src/main.rs", "LONG", true),
    ("length", "crates/cli/src/main.rs", "fn main() {}\n", false),
    ("essay", "crates/cli/src/a.rs", "use std::fs;\n", true),
    ("essay", "crates/cli/src/a.rs", "//! Why.\n", false),
    ("essay", "crates/cli/tests/a.rs", "use std::fs;\n", false),
    ("names", "crates/cli/src/utils.rs", "", true),
    ("names", "crates/cli/src/helpers/mod.rs", "", true),
    ("names", "crates/cli/src/a.rs", "pub(crate) mod common;", true),
    ("names", "crates/cli/src/a.rs", "mod manager { }", true),
    ("names", "crates/cli/src/a.rs", "mod commons; fn misc() {}", false),
    ("lints", "crates/a/Cargo.toml", "[package]\nname = \"a\"\n", true),
    ("lints", "crates/a/Cargo.toml", "[lints]\nworkspace = false\n", true),
    ("lints", "crates/a/Cargo.toml", "[lints]\nworkspace = true\n", false),
    ("lints", "Cargo.toml", "[workspace]\n", false),
    ("pure", "crates/laws/src/a.rs", "let t = std::time::Instant::now();", true),
    ("pure", "crates/plan/src/a.rs", "use std::{env, fs};", true),
    ("pure", "crates/units/src/a.rs", "std::fs::read(p)", true),
    ("pure", "crates/units/src/a.rs", "use std::time::Duration; // no std::fs", false),
    ("pure", "crates/hardware/src/a.rs", "std::fs::read(p)", false),
    ("addresses", "crates/a/src/a.rs", concat!("get(\"https://pypi", ".org/simple\")"), true),
    ("addresses", "scripts/a.sh", concat!("echo deb http://deb", ".debian.org/debian trixie main"), true),
    ("addresses", "crates/a/src/a.rs", "const A: &str = \"/home/me/models\";", true),
    ("addresses", "bench/a.json", "{\"path\": \"/root/.cache/a\"}", true),
    ("addresses", "bench/a.json", "{\"path\":\"/Users/me\"}", true),
    ("addresses", "README.md", concat!("the folder /wo", "rk/main"), true),
    (
        "addresses",
        "crates/a/src/a.rs",
        "from(\"proc/root/x\"); \"$work/root/usr\"; https://a.example/home/x",
        false,
    ),
];

#[test]
fn every_rule_can_complain_and_can_be_content() {
    let long = "fn a() {}\n".repeat(rules::LINES_MAX + 1);
    for (name, path, text, bad) in CASES {
        let text = if *text == "LONG" { &long } else { *text };
        let complaints = rule(name).judge(&File { path: (*path).into(), text: text.into() });
        assert_eq!(!complaints.is_empty(), *bad, "rule {name:?} on {path}: {complaints:?}\n{:.80}", text);
    }
    for rule in RULES {
        let verdicts = |bad| CASES.iter().filter(|case| case.0 == rule.name && case.3 == bad).count();
        assert!(verdicts(true) > 0 && verdicts(false) > 0, "rule {:?} has no case of each kind", rule.name);
    }
}

#[test]
fn arrows_that_point_up_are_seen() {
    // (crate, its dependencies, whether that is in order)
    let cases = [
        ("qeil-engine", "[dependencies]\nqeil-model.workspace = true\n", true),
        ("qeil-engine", "[dependencies]\nqeil-measure.workspace = true\n", false),
        ("qeil-model", "[dependencies]\nqeil-hardware = { path = \"../hardware\" }\n", false),
        ("qeil-units", "[dependencies]\nserde = \"1\"\n", true),
        ("qeil-units", "[dependencies]\nqeil-model.workspace = true\n", false),
        ("qeil-units", "[dev-dependencies]\nqeil-model.workspace = true\n", false),
        ("qeil-orchestrate", "[dev-dependencies]\nqeil-sim.workspace = true\n", true),
        ("qeil-orchestrate", "[dependencies]\nqeil-sim.workspace = true\n", false),
        ("qeil-plan", "[dependencies]\nqeil-engine.workspace = true\n", false),
        ("qeil-engine", "[build-dependencies]\nqeil.workspace = true\n", false),
        ("qeil-engine", "[target.'cfg(unix)'.dependencies]\nqeil-measure.workspace = true\n", false),
        (
            "qeil-engine",
            "[dependencies]\nother = { package = \"qeil-measure\", path = \"../measure\" }\n",
            false,
        ),
        ("qeil-new", "[dependencies]\n", false),
        ("qeil", "[dependencies]\nqeil-engine.workspace = true\nqeil-unheard-of.workspace = true\n", false),
    ];
    for (name, dependencies, in_order) in cases {
        let text = format!("[package]\nname = \"{name}\"\n{dependencies}");
        let complaints = layers::check(&File { path: "crates/x/Cargo.toml".into(), text });
        assert_eq!(complaints.is_empty(), in_order, "{name} with {dependencies}: {complaints:?}");
    }
}

#[test]
fn the_table_of_layers_points_down_itself() {
    assert_eq!(layers::upward_arrows(layers::LAYERS), Vec::<String>::new());
    let bad: &[layers::Layer] = &[("a", &["b"]), ("b", &[])];
    assert_eq!(layers::upward_arrows(bad).len(), 1);
}
