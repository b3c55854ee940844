//! The binary as a user meets it: exit codes, error texts, JSON documents, tables.
//!
//! Real workers on a tiny model with random weights: what they say means nothing, what it costs is measured.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on should stop")]

mod coverage;
mod fit_coverage;
mod home;
mod planning;
mod serve;
mod sweeps;

use home::{Home, stderr, stdout};
use qeil_model::write::TinyShape;
use serde_json::Value;
use std::io::Write;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

#[test]
fn what_is_wrong_is_said_and_coded() {
    let home = Home::new();
    std::fs::create_dir(home.path("folder")).unwrap();
    std::fs::write(home.path("text.gguf"), "not a model, only its name").unwrap();
    std::fs::write(home.path("empty.gguf"), "").unwrap();
    // arguments, exit code, words of the report
    let cases: &[(&[&str], i32, &[&str])] = &[
        (&[], 2, &["Usage"]),
        (&["fly"], 2, &["unrecognized subcommand"]),
        (&["run", "tiny", "hello", "--samples", "0"], 2, &["--samples", "1..=256"]),
        (&["run", "tiny", "hello", "--samples", "257"], 2, &["--samples", "1..=256"]),
        (&["run", "tiny", ""], 2, &["empty"]),
        (&["run", "tiny", "--prompt", "  "], 2, &["empty"]),
        (&["run", "tiny", "-"], 2, &["standard input is empty"]),
        (&["run", "tiny", "hello", "--prompt", "hello"], 2, &["cannot be used with"]),
        (&["run", "tiny", "hello", "--temperature", "-1"], 2, &["between 0 and 100"]),
        (&["run", "tiny", "hello", "--temperature", "nan"], 2, &["between 0 and 100"]),
        (&["run", "tiny", "hello", "--cpu-watts", "9:3"], 2, &["above the idle power"]),
        (&["bench", "tiny", "-p", "512,zero"], 2, &["zero"]),
        (&["profile", "tiny", "--half-width", "nan"], 2, &["between 0 and 1"]),
        (&["profile", "tiny", "--interference-max", "-1"], 2, &["between 0 and 1"]),
        (&["fit"], 1, &["nothing has been measured yet", "qeil profile"]),
        (&["fit", "coverage"], 2, &["--counts"]),
        (&["fit", "coverage", "--counts", "none.csv"], 1, &["none.csv"]),
        (&["fit", "coverage", "--counts", "text.gguf"], 1, &["text.gguf", "no column \"model\""]),
        (&["fit", "coverage", "--counts", "none.csv", "--at", "0"], 2, &["--at"]),
        (&["fit", "coverage", "--counts", "none.csv", "--level", "1"], 2, &["between 0.5 and 0.99"]),
        (&["fit", "--json", "coverage", "--counts", "none.csv"], 2, &["--json"]),
        (&["predict", "tiny"], 1, &["nothing has been measured yet"]),
        (&["plan", "tiny"], 1, &["nothing has been measured", "qeil profile --quick tiny", "--sim"]),
        (&["plan"], 2, &["MODEL"]),
        (&["plan", "Qwen2-0.5B", "--sim", "abacus"], 1, &["abacus", "jetson-orin-nano"]),
        (&["plan", "Nobody-1B", "--sim", "jetson-orin-nano"], 1, &["Nobody-1B", "Qwen2-0.5B"]),
        (&["plan", "Qwen2-0.5B", "--sim", "jetson-orin-nano", "--not-on", "NPU9"], 1, &["NPU9", "there are"]),
        (
            &["plan", "Qwen2-0.5B", "--sim", "jetson-orin-nano", "--min-coverage", "2"],
            2,
            &["between 0 and 1"],
        ),
        (
            &["plan", "Qwen2-0.5B", "--sim", "jetson-orin-nano", "--deadline-s", "1e-6"],
            1,
            &["no configuration keeps all limits", "deadline excludes"],
        ),
        (&["metrics", "--price-usd", "-5"], 2, &["between 0"]),
        (&["synth", "no-such-shape"], 1, &["no-such-shape"]),
        (&["quantize", "tiny", "Q9"], 2, &["Q4_K_M"]),
        (&["bench", "tiny", "--only-samples"], 2, &["--samples"]),
        (&["run", "nowhere/none.gguf", "hello"], 1, &["no model file at nowhere/none.gguf"]),
        (&["run", "./folder", "hello"], 1, &["./folder"]),
        (&["run", "text.gguf", "hello"], 1, &["text.gguf", "GGUF"]),
        (&["run", "empty.gguf", "hello"], 1, &["empty.gguf"]),
        (&["inspect", "text.gguf"], 1, &["text.gguf", "GGUF"]),
        (
            &["run", "SmolLM-135M-Instruct", "hello"],
            1,
            &["did you mean SmolLM2-135M-Instruct", "qeil models"],
        ),
        (&["run", "tiny", "hello", "--device", "CUDA7"], 1, &["CUDA7", "CPU"]),
        (&["bench", "tiny", "--device", "gpu"], 1, &["gpu", "CPU"]),
        (&["run", "tiny", "hello", "--max-tokens", "1000000"], 1, &["1000000", "context", "at most"]),
        (&["run", "tiny", "hello", "--grammar", "none.gbnf"], 1, &["none.gbnf", "No such file"]),
        (&["synth"], 2, &["FAMILY"]),
        (&["synth", "GPT-2-124M", "--quant", "Q3_K"], 2, &["Q3_K", "one of F32"]),
        (&["synth", "GPT-5"], 1, &["GPT-5", "--list"]),
        (&["synth", "GPT-2-124M", "--out", "no/such/folder.gguf"], 1, &["no/such/folder.gguf", "room"]),
        (&["quantize", "tiny", "Q3_K"], 2, &["Q3_K", "one of F16"]),
        (&["quantize", "tiny", "Q8_0", "--out", "shelf/tiny.gguf"], 1, &["replace the original", "--out"]),
        (&["quantize", "text.gguf", "Q8_0"], 1, &["text.gguf", "GGUF"]),
        (&["pull", "GPT2-124M"], 1, &["did you mean GPT-2-124M"]),
        (&["pull", "GPT-2-124M"], 1, &["GPT-2-124M could not be pulled", "Hugging Face"]),
        (&["--", "worker"], 2, &[]),
        (&["serve", "tiny", "--split-cpu", "0"], 2, &["--split-cpu"]),
        (&["serve", "tiny", "--host", "nowhere"], 2, &["--host"]),
        (&["serve", "tiny", "--port", "0", "--split-cpu", "64"], 1, &["--split-cpu 64"]),
        (&["serve", "tiny", "--port", "0", "--api-key-file", "none.keys"], 1, &["API keys", "No such file"]),
        (&["serve", "tiny", "--port", "0", "--api-key-file", "empty.gguf"], 1, &["no key"]),
        (&["serve", "tiny", "--port", "0", "--device", "CUDA7"], 1, &["CUDA7", "CPU"]),
        (&["worker"], 1, &["started by qeil itself"]),
    ];
    for (arguments, code, words) in cases {
        let output = home.qeil(arguments);
        let said = stderr(&output);
        assert_eq!(output.status.code(), Some(*code), "{arguments:?}: {said}");
        for word in *words {
            assert!(said.contains(word), "{arguments:?} does not say {word:?}: {said}");
        }
        for trace in ["panicked", "RUST_BACKTRACE", "stack backtrace"] {
            assert!(!said.contains(trace), "{arguments:?}: {said}");
        }
        assert!(output.stdout.is_empty(), "{arguments:?}: nothing is printed beside an error");
    }
}

#[test]
fn help_names_the_exit_codes() {
    let help = stdout(&Home::new().qeil(&["--help"]));
    for word in [
        "run",
        "bench",
        "tune",
        "pull",
        "models",
        "devices",
        "inspect",
        "synth",
        "quantize",
        "Exit codes",
        "130",
    ] {
        assert!(help.contains(word), "{word}: {help}");
    }
    assert!(!help.contains("worker"), "the worker is nobody's command: {help}");
}

#[test]
fn devices_list_the_cpu() {
    let devices = Home::new().json(&["devices", "--json"]);
    let cpu = &devices["devices"].as_array().unwrap().iter().find(|d| d["name"] == "CPU").unwrap().clone();
    assert_eq!(cpu["kind"], "cpu");
    assert!(cpu["memory_bytes"].as_u64().unwrap() > 0);
    assert!(devices["cpu"]["logical_cpus"].as_u64().unwrap() > 0);
    assert!(["measured", "estimated"].contains(&devices["energy"]["provenance"].as_str().unwrap()));
}

#[test]
fn models_show_catalogue_and_shelf() {
    let home = Home::new();
    std::fs::write(home.path("shelf/broken.gguf"), "GGUF").unwrap();
    let models = home.json(&["models", "--json"]);
    let rows = models["models"].as_array().unwrap();
    let row =
        |name: &str| rows.iter().find(|row| row["name"] == name).unwrap_or_else(|| panic!("{name} missing"));
    let default = row(models["default"].as_str().unwrap());
    assert_eq!(default["present"], false);
    assert_eq!(default["licence"], "Apache-2.0");
    assert_eq!(row("tiny")["present"], true);
    assert_eq!(row("tiny")["architecture"], "llama");
    assert!(row("broken")["unusable"].is_string());
    let table = stdout(&home.qeil(&["models"]));
    assert!(table.contains("SmolLM2-135M-Instruct"), "names are not broken over lines: {table}");
    assert_narrow(&table);
}

#[test]
fn inspect_reckons_memory() {
    let home = Home::new();
    let short = home.json(&["inspect", "tiny", "--context", "100", "--json"]);
    let long = home.json(&["inspect", "tiny", "--context", "200", "--json"]);
    let kv = |report: &Value| report["kv_bytes"].as_u64().unwrap();
    assert_eq!(kv(&long), 2 * kv(&short));
    let weights = short["facts"]["weight_bytes"].as_u64().unwrap();
    assert_eq!(short["memory_bytes"].as_u64().unwrap(), weights + kv(&short));
    let table = stdout(&home.qeil(&["inspect", "tiny"]));
    assert!(table.contains("trained context"));
    assert_narrow(&table);
}

#[test]
fn weightless_models_are_marked_wherever_they_show() {
    let home = Home::new();
    // A whole family is too large for a test; the mark is read from the file, whatever its shape.
    let shape = TinyShape::default();
    let mut layout = shape.layout().unwrap();
    layout.set("qeil.weightless", true);
    let mut file = std::fs::File::create(home.path("shelf/twin.gguf")).unwrap();
    layout
        .write(&mut file, |tensor, out| {
            let weight = if tensor.name.ends_with("norm.weight") { 1f32 } else { 0.01 };
            out.write_all(&weight.to_le_bytes().repeat(tensor.elements() as usize))
        })
        .unwrap();
    assert_eq!(home.json(&["inspect", "twin", "--json"])["facts"]["weightless"], true);
    assert_eq!(home.json(&["inspect", "tiny", "--json"])["facts"]["weightless"], false);
    let models = home.json(&["models", "--json"]);
    for row in models["models"].as_array().unwrap() {
        assert_eq!(row["weightless"], row["name"] == "twin", "{row}");
    }
    let bench = ["-p", "16", "-n", "4", "-t", "1", "-r", "1", "--flash-attention", "off"];
    let run = ["what?", "-k", "1", "-n", "2", "-d", "CPU", "--flash-attention", "off", "--weights", "file"];
    let with = |command: &'static str, model: &'static str, rest: &[&'static str]| {
        [&[command, model], rest].concat()
    };
    let reports = home.json(&[with("bench", "twin", &bench), vec!["--json"]].concat());
    assert_eq!(reports[0]["weightless"], true);
    let report = home.json(&[with("run", "twin", &run), vec!["--json"]].concat());
    assert_eq!(report["model"]["weightless"], true);
    for (model, marked) in [("twin", true), ("tiny", false)] {
        for arguments in [with("bench", model, &bench), with("run", model, &run), with("inspect", model, &[])]
        {
            let text = stdout(&home.qeil(&arguments));
            assert_eq!(text.contains("weightless"), marked, "{arguments:?}: {text}");
            assert_narrow(&text);
        }
    }
}

#[test]
fn synth_lists_and_writes() {
    let home = Home::new();
    let list = home.json(&["synth", "--list", "--json"]);
    let smallest =
        list.as_array().unwrap().iter().min_by_key(|family| family["parameters"].as_u64()).unwrap();
    assert_eq!(smallest["name"], "GPT-2-124M");
    assert!(list.as_array().unwrap().iter().all(|family| !family["source"].as_str().unwrap().is_empty()));
    assert_narrow(&stdout(&home.qeil(&["synth", "--list"])));

    let written = home.json(&["synth", "gpt-2-124m", "--json"]);
    assert_eq!(written["weightless"], true);
    assert_eq!(written["parameters"], 124_439_808);
    let facts = home.json(&["inspect", "GPT-2-124M-weightless-Q4_0", "--json"]);
    assert_eq!(facts["facts"]["weightless"], true, "it lies on the shelf");
}

#[test]
fn a_quantised_variant_is_another_model() {
    let home = Home::new();
    let made = home.json(&["quantize", "tiny", "q4_0", "--json", "-t", "1"]);
    let quality = &made["quality"];
    assert!(quality["positions"].as_u64().unwrap() >= 32);
    let [mean, worst, agreed] =
        ["kl_nats_mean", "kl_nats_max", "top1_agreement"].map(|figure| quality[figure].as_f64().unwrap());
    assert!(0.0 < mean && mean <= worst, "{quality}");
    assert!((0.0..=1.0).contains(&agreed), "{quality}");
    assert!(made["weight_bytes"].as_u64() < made["original_weight_bytes"].as_u64());

    let kept = std::fs::read(home.path("shelf/tiny-Q4_0.gguf.quality.json")).unwrap();
    assert_eq!(serde_json::from_slice::<Value>(&kept).unwrap(), *quality);
    let facts = &home.json(&["inspect", "tiny-Q4_0", "--json"])["facts"];
    assert_eq!(facts["name"], "tiny llama with random weights Q4_0");
    assert_eq!(facts["quantised_from"], quality["original_sha256"]);
    assert_eq!(home.json(&["inspect", "tiny", "--json"])["facts"]["quantised_from"], Value::Null);

    // Fewer bits are further away; a name without a folder is a file here.
    std::fs::copy(home.path("shelf/tiny.gguf"), home.path("here.gguf")).unwrap();
    let light = home.json(&["quantize", "here.gguf", "Q8_0", "--out", "light.gguf", "--json", "-t", "1"]);
    assert!(light["quality"]["kl_nats_mean"].as_f64().unwrap() < mean / 4.0, "{light}");
    assert!(home.path("light.gguf.quality.json").is_file());
    let text = stdout(&home.qeil(&["quantize", "tiny", "BF16", "-t", "1"]));
    assert!(text.contains("another model") && text.contains("nats"), "{text}");
    assert_narrow(&text);
}

/// Tables fit 100 columns.
fn assert_narrow(text: &str) {
    for line in text.lines() {
        assert!(line.chars().count() <= 100, "{} columns: {line}", line.chars().count());
    }
}

const QUICK: [&str; 10] =
    ["--samples", "3", "--max-tokens", "6", "--device", "CPU", "--threads", "1", "--flash-attention", "off"];

#[test]
fn run_answers_with_figures_and_their_provenance() {
    let home = Home::new();
    let mut arguments = vec!["run", "tiny", "what is this?", "--json", "--cpu-watts", "2:10"];
    arguments.extend(QUICK);
    let first = home.json(&arguments);
    assert_eq!(first["question"]["samples"], 3);
    let device = &first["devices"][0];
    assert_eq!(device["outcome"], "answered", "{device}");
    assert_eq!(device["trust"], Value::Null, "the CPU is the reference");
    let run = &device["run"];
    assert_eq!(run["device"], "CPU");
    assert_eq!(run["threads"], 1);
    assert_eq!(run["settings"]["flash_attention"], false);
    let samples = run["samples"].as_array().unwrap();
    assert_eq!(samples.len(), 3);
    let tokens: u64 = samples.iter().map(|sample| sample["tokens"].as_u64().unwrap()).sum();
    assert_eq!(run["emitted_tokens"].as_u64().unwrap(), tokens);
    for figure in
        ["prefill_tokens_per_s", "first_token_ms", "wall_s", "own_prefill_wall_s", "shared_prefill_speedup"]
    {
        assert!(run[figure].as_f64().unwrap() > 0.0, "{figure}: {run}");
    }
    let energy = &run["energy"]["gross"];
    let each = run["joules_per_token"]["value"].as_f64().unwrap();
    assert!((energy["value"].as_f64().unwrap() / tokens as f64 - each).abs() < 1e-9);
    if energy["provenance"] == "estimated" {
        let source = energy["source"].as_str().unwrap();
        assert!(source.contains("2.00 W idle") && source.contains("given by the user"), "{source}");
    }

    // The settings are kept, and the same seed draws the same samples.
    let second = home.json(&arguments);
    assert_eq!(second["devices"][0]["run"]["samples"], run["samples"]);
    assert_eq!(second["devices"][0]["tuning"]["kept"], true, "{}", second["devices"][0]["tuning"]);
}

#[test]
fn run_prints_a_table_that_fits() {
    let home = Home::new();
    let mut arguments = vec!["run", "tiny", "what is this?", "--weights", "file", "--system", "be brief"];
    arguments.extend(QUICK);
    let output = home.qeil(&arguments);
    let text = stdout(&output);
    assert!(output.status.success(), "{}", stderr(&output));
    for word in ["CPU", "tok/s", "J/token", "first token", "¹", "temperature 0.8", "seed 0", "confined"] {
        assert!(text.contains(word), "{word}: {text}");
    }
    assert_narrow(&text);
}

#[test]
fn a_prompt_comes_through_standard_input() {
    let home = Home::new();
    let mut arguments = vec!["run", "tiny", "-", "--json", "--no-compare", "--weights", "file"];
    arguments.extend(QUICK);
    let mut child = home.command(&arguments).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    child.stdin.take().unwrap().write_all("from a pipe".as_bytes()).unwrap();
    let output = child.wait_with_output().unwrap();
    let report: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(report["question"]["prompt"], "from a pipe");
    assert_eq!(report["devices"][0]["run"]["shared_prefill_speedup"], Value::Null);
    assert_eq!(report["devices"][0]["run"]["comparison_missing"], "not asked for");
}

#[test]
fn a_grammar_binds_and_a_bad_one_fails_without_killing() {
    let home = Home::new();
    std::fs::write(home.path("good.gbnf"), "root ::= \"ab\" \"c\"").unwrap();
    std::fs::write(home.path("bad.gbnf"), "root ::= (").unwrap();
    let run = |grammar: &str| {
        let mut arguments =
            vec!["run", "tiny", "x", "--json", "--no-compare", "--weights", "file", "--grammar", grammar];
        arguments.extend(QUICK);
        home.qeil(&arguments)
    };
    let report: Value = serde_json::from_slice(&run("good.gbnf").stdout).unwrap();
    for sample in report["devices"][0]["run"]["samples"].as_array().unwrap() {
        assert_eq!(sample["text"], "abc", "{sample}");
    }
    let output = run("bad.gbnf");
    let report: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(output.status.code(), Some(1), "no device answered");
    assert_eq!(report["devices"][0]["outcome"], "failed");
    assert!(report["devices"][0]["why"].as_str().unwrap().contains("grammar"), "{report}");
}

#[test]
fn bench_measures_what_was_asked() {
    let home = Home::new();
    let reports = home.json(&[
        "bench",
        "tiny",
        "-p",
        "16,32",
        "-n",
        "8",
        "-k",
        "2",
        "-t",
        "1",
        "-r",
        "2",
        "--json",
        "--flash-attention",
        "auto",
    ]);
    let rows = reports[0]["rows"].as_array().unwrap();
    let names: Vec<&str> = rows.iter().map(|row| row["name"].as_str().unwrap()).collect();
    assert_eq!(names, ["pp16", "pp32", "tg8", "pp16+tg8×2", "pp32+tg8×2"]);
    for row in rows {
        assert_eq!(row["tokens_per_s"]["repetitions"], 2);
        let [least, median, most] =
            ["min", "median", "max"].map(|k| row["tokens_per_s"][k].as_f64().unwrap());
        assert!(0.0 < least && least <= median && median <= most, "{row}");
        let candidates = if row["name"].as_str().unwrap().contains('×') { 4 } else { 2 };
        assert_eq!(row["slower"].as_array().unwrap().len(), candidates - 1, "{row}");
    }
    let text =
        stdout(&home.qeil(&["bench", "tiny", "-p", "16", "-n", "8", "-k", "2", "-t", "1,2", "-r", "2"]));
    assert!(text.contains("pp16+tg8×2") && text.contains("FA"), "{text}");
    assert_narrow(&text);
}

#[test]
fn tune_shows_its_trials() {
    let home = Home::new();
    let found = home.json(&["tune", "tiny", "-p", "20", "-n", "8", "-k", "2", "--device", "cpu", "--json"]);
    let tuned = &found[0]["tuned"];
    assert!(tuned["trials"].as_array().unwrap().len() >= 4, "{tuned}");
    let chosen = &tuned["settings"];
    let trial =
        tuned["trials"].as_array().unwrap().iter().find(|trial| trial["settings"] == *chosen).unwrap();
    assert_eq!(trial["outcome"]["outcome"], "measured", "what is chosen was measured");
    let text = stdout(&home.qeil(&["tune", "tiny", "-p", "20", "-n", "8", "-k", "1", "--device", "cpu"]));
    assert!(text.contains("Chosen"), "{text}");
    assert_narrow(&text);
}

#[test]
fn interrupted_it_leaves_no_worker_behind() {
    let home = Home::new();
    let child = home
        .command(&[
            "bench",
            "tiny",
            "-p",
            "64",
            "-n",
            "2000",
            "-t",
            "1",
            "-r",
            "1000",
            "--flash-attention",
            "off",
        ])
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let pid = child.id();
    let worker = until(|| workers_of(pid).first().copied());
    let kill = Command::new("kill").args(["-INT", &pid.to_string()]).status().unwrap();
    assert!(kill.success());
    let status = { child }.wait().unwrap();
    assert_eq!(status.code(), Some(130));
    until(|| (!PathBuf::from(format!("/proc/{worker}")).exists()).then_some(()));
}

/// Children of `pid` that have begun to compute: their name is the program's, their argument `worker`.
fn workers_of(pid: u32) -> Vec<u32> {
    let children = std::fs::read_dir("/proc").unwrap().filter_map(|entry| {
        let child: u32 = entry.ok()?.file_name().to_str()?.parse().ok()?;
        let stat = std::fs::read_to_string(format!("/proc/{child}/stat")).ok()?;
        let parent: u32 = stat.rsplit(')').next()?.split_whitespace().nth(1)?.parse().ok()?;
        let arguments = std::fs::read_to_string(format!("/proc/{child}/cmdline")).ok()?;
        (parent == pid && arguments.ends_with("worker\0")).then_some(child)
    });
    children.collect()
}

/// Wait for something that must happen, a minute at most.
fn until<T>(mut happened: impl FnMut() -> Option<T>) -> T {
    let start = Instant::now();
    while start.elapsed() < Duration::from_secs(60) {
        if let Some(found) = happened() {
            return found;
        }
        std::thread::sleep(Duration::from_millis(20));
    }
    panic!("it did not happen within a minute");
}
