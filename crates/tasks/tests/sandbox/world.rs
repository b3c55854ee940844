//! What there is to steal and to break, and the programs that try.

use qeil_tasks::sandbox::{Means, Program};
use std::fs;
use std::net::TcpListener;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::os::unix::net::{SocketAddr, UnixListener};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use tempfile::TempDir;

const PRELUDE: &str = include_str!("hostile/prelude.py");
const PROGRAMS: [&str; 5] = [
    include_str!("hostile/processes.py"),
    include_str!("hostile/memory.py"),
    include_str!("hostile/files.py"),
    include_str!("hostile/kernel.py"),
    include_str!("hostile/network.py"),
];
/// Never to be seen in any output.
pub const SECRET: &str = "the-secret-is-a-heron";
/// Printed by a program whose attempt succeeded.
pub const ESCAPED: &str = "ESCAPED";
/// Printed by a program that made all its attempts.
pub const TRIED: &str = "tried";

/// How a hostile program ends in a sandbox.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Expected {
    /// By itself, having tried.
    Ends,
    /// Not before the wall-clock limit.
    Runs,
    /// Badly, before that.
    Dies,
}

/// A hostile program.
#[derive(Debug, Clone, Copy)]
pub struct Hostile {
    pub name: &'static str,
    pub expected: Expected,
    code: &'static str,
}

/// All of them.
pub fn hostile() -> Vec<Hostile> {
    let sections = PROGRAMS.iter().flat_map(|text| text.split("#: ").skip(1));
    sections
        .map(|section| {
            let (title, code) = section.split_once('\n').unwrap();
            let (name, expected) = title.split_once(' ').unwrap();
            let expected = match expected {
                "ends" => Expected::Ends,
                "runs" => Expected::Runs,
                "dies" => Expected::Dies,
                other => panic!("{name}: {other}?"),
            };
            Hostile { name, expected, code }
        })
        .collect()
}

/// A folder outside with a secret and a canary in it, and three sockets that somebody listens to.
pub struct World {
    folder: TempDir,
    /// Found in the command line of every process of a program, and in no other.
    mark: String,
    canary: (Vec<u8>, u32, u32, i64),
    tcp: TcpListener,
    _unix: UnixListener,
    _abstract: UnixListener,
}

impl World {
    pub fn new() -> Self {
        static WORLDS: AtomicU64 = AtomicU64::new(0);
        let number = WORLDS.fetch_add(1, Ordering::Relaxed);
        let mark = format!("qeil-hostile-{}-{number}", std::process::id());
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path();
        // Open to all, so that nothing but the sandbox stands before them.
        fs::set_permissions(path, fs::Permissions::from_mode(0o777)).unwrap();
        for (name, text) in [("secret", SECRET), ("canary", "alive")] {
            fs::write(path.join(name), text).unwrap();
            fs::set_permissions(path.join(name), fs::Permissions::from_mode(0o666)).unwrap();
        }
        let unix = UnixListener::bind(path.join("socket")).unwrap();
        fs::set_permissions(path.join("socket"), fs::Permissions::from_mode(0o777)).unwrap();
        let name = SocketAddr::from_abstract_name(&mark).unwrap();
        Self {
            canary: canary(path),
            tcp: TcpListener::bind("127.0.0.1:0").unwrap(),
            _unix: unix,
            _abstract: UnixListener::bind_addr(&name).unwrap(),
            folder,
            mark,
        }
    }

    /// A hostile program, told what there is in this world. `bounded`: whether all its files together have a limit.
    pub fn program(&self, hostile: Hostile, python: &str, means: Option<Means>) -> Program {
        let folder = self.folder.path().display();
        let home = std::env::var("HOME").unwrap_or_else(|_| "/root".into());
        let bounded = if means == Some(Means::Namespaces) { "True" } else { "False" };
        let world = format!(
            "FOLDER = {:?}\nSECRET = {:?}\nCANARY = {:?}\nSOCKET = {:?}\nNAME = {:?}\nLEAF = {:?}\nHOME = {home:?}\n\
             PARENT = {}\nPORT = {}\nBOUNDED = {bounded}\n",
            format!("{folder}"),
            format!("{folder}/secret"),
            format!("{folder}/canary"),
            format!("{folder}/socket"),
            self.mark,
            self.mark,
            std::process::id(),
            self.tcp.local_addr().unwrap().port(),
        );
        Program {
            argv: [python, "-I", "-S", "main.py", &self.mark].map(String::from).to_vec(),
            files: vec![("main.py".into(), format!("{world}{PRELUDE}{}", hostile.code).into_bytes())],
            stdin: b"some input\n".to_vec(),
        }
    }

    /// What is not as it was.
    pub fn damage(&self) -> Option<String> {
        let path = self.folder.path();
        if !path.join("canary").is_file() || canary(path) != self.canary {
            return Some("the canary was touched".into());
        }
        if fs::read_to_string(path.join("secret")).ok().as_deref() != Some(SECRET) {
            return Some("the secret was moved or changed".into());
        }
        let mut names: Vec<_> = fs::read_dir(path).unwrap().map(|entry| entry.unwrap().file_name()).collect();
        names.sort();
        if names != ["canary", "secret", "socket"] {
            return Some(format!("the folder outside holds {names:?}"));
        }
        let left = ["/tmp", "/var/tmp", "/dev/shm"].map(Path::new);
        let left = left.iter().flat_map(|folder| [folder.join(&self.mark), folder.join("qeil-hostile")]);
        if let Some(left) = left.into_iter().find(|path| path.symlink_metadata().is_ok()) {
            return Some(format!("{} was written", left.display()));
        }
        alive(&self.mark).map(|process| format!("process {process} is still alive"))
    }

    pub fn mark(&self) -> &str {
        &self.mark
    }
}

/// A process with this in its command line.
pub fn alive(mark: &str) -> Option<String> {
    let processes = fs::read_dir("/proc").unwrap().flatten().map(|entry| entry.path());
    let is_marked = |path: &PathBuf| {
        let line = fs::read(path.join("cmdline")).unwrap_or_default();
        line.windows(mark.len()).any(|window| window == mark.as_bytes())
    };
    let found = processes.filter(|path| path.join("cmdline").is_file()).find(is_marked)?;
    Some(found.file_name().unwrap().to_string_lossy().into_owned())
}

/// Everything about the canary that somebody could change.
fn canary(folder: &Path) -> (Vec<u8>, u32, u32, i64) {
    let path = folder.join("canary");
    let metadata = path.metadata().unwrap();
    (fs::read(path).unwrap(), metadata.mode(), metadata.uid(), metadata.mtime_nsec())
}
