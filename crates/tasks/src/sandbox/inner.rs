//! The inner process: process 1 in there, until it becomes the program.
//!
//! The order is forced. Mounts need rights, so they come before those are given up; files are written by the one who
//! is to own them; Landlock must not stop the mounts, and seccomp must stop nothing before it; the kernel forgets
//! whom to send the death signal about when the identity changes, so that is said twice.

use super::wire::{self, Held, Report, Spec};
use super::{Limits, Means, calls, files, identity, root, run};
use nix::sched::CloneFlags;
use rustix::process::{Resource, Signal};
use std::fs::{self, File};
use std::os::unix::net::UnixStream;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::Command;

/// The program's input, while it still has a name.
const INPUT: &str = ".input";

/// Confine this process, then become the program. Returns only if there is none, or it cannot be started.
pub fn inner(control: &mut UnixStream) -> Result<Report, String> {
    die_with_outer()?;
    let spec: Spec = wire::receive(control).map_err(|error| format!("reading what to run: {error}"))?;
    let readable = spec.program.as_ref().map(|program| &program.readable[..]).unwrap_or_default();
    let view = root::view(readable);
    let (folder, nobody) = match spec.means {
        Means::Namespaces => apart(&view, &spec.limits)?,
        Means::Landlock => beside(spec.folder.as_deref())?,
    };
    if let Some(program) = &spec.program {
        let writing = |error| format!("writing the program's files: {error}");
        run::write_files(&folder, &program.files).map_err(writing)?;
        take_input(&folder, &program.stdin).map_err(writing)?;
    }
    die_with_outer()?;
    let landlock = files::restrict(&view, &folder, spec.means)?;
    limit(&spec)?;
    calls::restrict(spec.means, spec.limits.processes)?;
    let Some(program) = &spec.program else {
        return Ok(Report::Holds(Held { landlock, nobody }));
    };
    let error = Command::new(&program.path)
        .arg0(&program.argv[0])
        .args(&program.argv[1..])
        .env_clear()
        .envs(run::environment(&folder))
        .current_dir(&folder)
        .exec();
    Err(format!("starting {}: {error}", program.path.display()))
}

fn die_with_outer() -> Result<(), String> {
    rustix::process::set_parent_process_death_signal(Some(Signal::KILL))
        .map_err(|error| format!("asking to die with the launcher: {error}"))
}

/// With namespaces: a new root, a folder in memory, a new identity.
fn apart(view: &[PathBuf], limits: &Limits) -> Result<(PathBuf, bool), String> {
    let own_folder = identity::own_folder()?;
    let nobody = identity::nobody_exists()?;
    rustix::system::sethostname(b"sandbox").map_err(|error| format!("naming the host: {error}"))?;
    root::build(view, limits.folder_bytes, nobody)?;
    if nobody && !identity::become_nobody()? {
        return Err("root may not become nobody".into());
    }
    identity::enter(CloneFlags::empty(), identity::NOBODY, &own_folder)?;
    Ok((root::FOLDER.into(), nobody))
}

/// Without: the caller's folder, and another identity where we may choose.
fn beside(folder: Option<&Path>) -> Result<(PathBuf, bool), String> {
    let folder = folder.ok_or("no folder to work in")?;
    let mut nobody = identity::nobody_exists()?;
    if nobody {
        let given = std::os::unix::fs::chown(folder, Some(identity::NOBODY), Some(identity::NOBODY));
        nobody = given.is_ok() && identity::become_nobody()?;
    }
    Ok((folder.to_owned(), nobody))
}

/// A file without a name instead of a pipe: nobody has to feed it, and it is charged to the program's folder.
fn take_input(folder: &Path, bytes: &[u8]) -> std::io::Result<()> {
    let path = folder.join(INPUT);
    fs::write(&path, bytes)?;
    let file = File::open(&path)?;
    fs::remove_file(&path)?;
    Ok(rustix::stdio::dup2_stdin(file)?)
}

fn limit(spec: &Spec) -> Result<(), String> {
    let mut resources = spec.limits.resources().to_vec();
    // Without a user namespace it would count all that the user runs; there, seccomp allows no second thread.
    if spec.means == Means::Namespaces {
        resources.push((Resource::Nproc, spec.limits.processes + Limits::THREADS));
    }
    for (resource, most) in resources {
        // The caller may itself be bound more tightly, and nobody can raise that.
        let inherited = rustix::process::getrlimit(resource).maximum.unwrap_or(u64::MAX);
        rustix::process::setrlimit(resource, run::exactly(most.min(inherited)))
            .map_err(|error| format!("limiting {resource:?}: {error}"))?;
    }
    Ok(())
}
