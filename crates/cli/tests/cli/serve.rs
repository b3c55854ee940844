//! `qeil serve` with a tiny model, as OpenAI's own client meets it, and how it ends.

use crate::home::Home;
use std::io::{BufRead, BufReader, Write};
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

/// The client that is tried: pinned, since what is tested is this server.
const OPENAI: &str = "openai==3.57.0";

struct Server {
    process: Child,
    /// `http://ADDRESS/v1`.
    url: String,
    said: String,
    out: BufReader<std::process::ChildStdout>,
}

impl Server {
    fn start(home: &Home, more: &[&str]) -> Self {
        let arguments = [&["serve", "tiny", "--port", "0", "--context", "4096"], more].concat();
        let mut process = home.command(&arguments).stdout(Stdio::piped()).spawn().unwrap();
        let mut out = BufReader::new(process.stdout.take().unwrap());
        let mut said = String::new();
        while !said.ends_with("may finish first\n") {
            let read = out.read_line(&mut said).unwrap();
            assert!(read > 0, "it ended before it served: {said}");
        }
        let url = said.split_whitespace().find(|word| word.starts_with("http://")).unwrap().to_owned();
        Self { process, url, said, out }
    }

    fn address(&self) -> &str {
        self.url.trim_start_matches("http://").trim_end_matches("/v1")
    }

    fn workers(&self) -> Vec<u32> {
        let id = self.process.id();
        let path = format!("/proc/{id}/task/{id}/children");
        let text = std::fs::read_to_string(path).unwrap_or_default();
        text.split_whitespace().map(|word| word.parse().unwrap()).collect()
    }

    /// Ask it to end as a service manager does, and look that nothing is left.
    fn stop(mut self) {
        let workers = self.workers();
        let id = self.process.id().to_string();
        assert!(Command::new("kill").args(["-TERM", &id]).status().unwrap().success());
        let mut rest = String::new();
        while self.out.read_line(&mut rest).unwrap() > 0 {}
        assert!(self.process.wait().unwrap().success(), "{rest}");
        assert!(rest.contains("stopped"), "{rest}");
        for worker in workers {
            assert!(!Path::new(&format!("/proc/{worker}")).exists(), "worker {worker} is left");
        }
    }
}

/// A Python with the client in it, or why there is none.
fn python() -> Result<PathBuf, String> {
    let folder = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join(OPENAI);
    let python = folder.join("bin/python");
    let run = |program: &Path, arguments: &[&str]| match Command::new(program).args(arguments).output() {
        Ok(output) if output.status.success() => Ok(()),
        Ok(output) => Err(String::from_utf8_lossy(&output.stderr).into_owned()),
        Err(error) => Err(error.to_string()),
    };
    if run(&python, &["-c", "import openai"]).is_err() {
        run(Path::new("python3"), &["-m", "venv", "--clear", &folder.to_string_lossy()])?;
        let quick = ["--retries", "1", "--timeout", "20", "--disable-pip-version-check", OPENAI];
        run(&python, &[&["-m", "pip", "install", "--quiet"], &quick[..]].concat())?;
    }
    Ok(python)
}

#[test]
fn openais_client_is_content() {
    let python = match python() {
        Ok(python) => python,
        Err(why) => return eprintln!("SKIPPED: {OPENAI} could not be installed: {why}"),
    };
    let home = Home::new();
    let server = Server::start(&home, &["--sequences", "4", "--queue", "1"]);
    for word in ["serving tiny", "CPU: ", "heat is not guarded", "energy is ", "journal.sqlite"] {
        // A machine with a sensor is guarded instead.
        let guarded = word == "heat is not guarded" && server.said.contains("guarded at");
        assert!(guarded || server.said.contains(word), "it does not say {word:?}: {}", server.said);
    }
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/cli/openai_client.py");
    let output = Command::new(python).args([script, &server.url, "tiny"]).output().unwrap();
    let (said, complaint) =
        (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success() && said.contains("ok"), "{said}{complaint}");
    server.stop();
}

#[test]
fn two_engines_share_the_work_and_end_with_the_server() {
    let home = Home::new();
    let cpus = std::thread::available_parallelism().unwrap().get();
    let parts = if cpus > 1 { "2" } else { "1" };
    let server = Server::start(&home, &["--split-cpu", parts, "--goal", "latency"]);
    assert!(
        cpus == 1 || (server.said.contains("CPU/0: ") && server.said.contains("CPU/1: ")),
        "{}",
        server.said
    );
    // A request in flight when the end comes: it is answered, or its connection ends; nothing hangs.
    let mut stream = TcpStream::connect(server.address()).unwrap();
    let body = r#"{"model": "tiny", "messages": [{"role": "user", "content": "a"}], "max_tokens": 300, "n": 8, "stream": true}"#;
    write!(
        stream,
        "POST /v1/chat/completions HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n{body}",
        body.len()
    )
    .unwrap();
    let mut first = String::new();
    BufReader::new(&stream).read_line(&mut first).unwrap();
    assert!(first.starts_with("HTTP/1.1 200"), "{first}");
    server.stop();
}
