//! Callers in a predicament: this binary, started again.

use super::{PATIENCE, contract, launcher};
use libtest_mimic::Failed;
use qeil_tasks::sandbox::{Limits, Means, Sandbox};
use seccompiler::{BpfProgram, SeccompAction, SeccompFilter};
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::CommandExt;
use std::process::{Child, Command, ExitCode, Stdio};

/// The user that owns nothing.
const NOBODY: u32 = 65_534;
/// `landlock_create_ruleset`, on every processor.
const CREATE_RULESET: i64 = 444;

/// The other end of [`start`].
pub fn play(part: &str) -> ExitCode {
    let argument = |n: usize| std::env::args().nth(n + 2).unwrap();
    let limits = Limits { wall: PATIENCE, ..Limits::default() };
    match part {
        // A kernel with neither, and one without namespaces.
        "part-bare" => {
            without(&[libc::SYS_unshare, CREATE_RULESET]);
            println!("{}", Sandbox::new(&launcher(), limits).unwrap_err());
        }
        "part-no-namespaces" => {
            without(&[libc::SYS_unshare]);
            report(&Sandbox::new(&launcher(), limits).unwrap(), &argument(0));
        }
        "part-ordinary" => {
            for means in [Means::Namespaces, Means::Landlock] {
                report(&Sandbox::by(means, &launcher(), limits.clone()).unwrap(), &argument(0));
            }
        }
        "part-caller-namespaces" | "part-caller-landlock" => {
            let means = if part.ends_with("landlock") { Means::Landlock } else { Means::Namespaces };
            let sandbox = Sandbox::by(means, &launcher(), limits).unwrap();
            let code = format!("mark = {:?}; import time; time.sleep(600)", argument(1));
            contract::run(&sandbox, &argument(0), &code).unwrap();
        }
        other => panic!("there is no part {other}"),
    }
    ExitCode::SUCCESS
}

fn report(sandbox: &Sandbox, python: &str) {
    let code = "import os; print('ran in there as', os.getuid(), os.access('/etc/passwd', os.R_OK))";
    let outcome = contract::run(sandbox, python, code).unwrap();
    println!("{}: {:?} {}", sandbox.description(), outcome.end, String::from_utf8_lossy(&outcome.stdout));
}

/// Play a kernel that lacks these calls.
fn without(calls: &[i64]) {
    let rules = calls.iter().map(|call| (*call, Vec::new())).collect();
    let missing = SeccompAction::Errno(libc::ENOSYS as u32);
    let arch = std::env::consts::ARCH.try_into().unwrap();
    let filter = SeccompFilter::new(rules, SeccompAction::Allow, missing, arch).unwrap();
    let program: BpfProgram = filter.try_into().unwrap();
    seccompiler::apply_filter(&program).unwrap();
}

/// Start this binary as a part.
pub fn start(part: &str, arguments: &[&str]) -> Result<Child, Failed> {
    let mut command = Command::new(launcher());
    Ok(command.arg(part).args(arguments).stdin(Stdio::null()).spawn()?)
}

/// Whether a part succeeded, and what it said.
pub fn say(part: &str, arguments: &[&str]) -> Result<(bool, String), Failed> {
    said(Command::new(launcher()).arg(part).args(arguments))
}

fn said(command: &mut Command) -> Result<(bool, String), Failed> {
    let output = command.stdin(Stdio::null()).output()?;
    let text = [output.stdout, output.stderr].concat();
    Ok((output.status.success(), String::from_utf8_lossy(&text).into_owned()))
}

/// How many processes have this in their command line.
pub fn marked(mark: &str) -> usize {
    let processes = fs::read_dir("/proc").unwrap().flatten();
    let lines = processes.filter_map(|entry| fs::read(entry.path().join("cmdline")).ok());
    lines.filter(|line| line.windows(mark.len()).any(|window| window == mark.as_bytes())).count()
}

/// Whether we are root, who can be an ordinary user, and there is a Python for all.
pub fn can_be_nobody() -> bool {
    let uid = fs::read_to_string("/proc/self/status").unwrap();
    let is_root =
        uid.lines().any(|line| line.starts_with("Uid:") && line.split_whitespace().nth(2) == Some("0"));
    let restricted = fs::read_to_string("/proc/sys/kernel/apparmor_restrict_unprivileged_userns")
        .is_ok_and(|text| text.trim() == "1");
    is_root && !restricted && fs::exists("/usr/bin/python3").unwrap()
}

/// Tests run by root see root's sandbox only, unless they try the other.
pub fn ordinary_user() -> Result<(), Failed> {
    let folder = tempfile::tempdir()?;
    let own = folder.path().join("own");
    fs::copy(launcher(), &own)?;
    for path in [folder.path(), &own] {
        fs::set_permissions(path, fs::Permissions::from_mode(0o755))?;
    }
    let mut command = Command::new(own);
    command.uid(NOBODY).gid(NOBODY).current_dir("/").args(["part-ordinary", "/usr/bin/python3"]);
    let (success, said) = said(&mut command)?;
    let ran = said.matches("Exited(0) ran in there as 65534").count();
    if success && ran == 2 && said.contains("without capabilities") { Ok(()) } else { Err(said.into()) }
}
