//! What runs, and where it is installed.
//!
//! The new root holds the system's folders and little else, but a Python may live anywhere: in a home folder (pyenv,
//! conda, a virtual environment), behind a script that picks a version. So a Python is asked, once and outside, for
//! its real executable and its two prefixes, and the sandbox shows their `bin` and `lib` alone: a prefix itself may
//! be a home folder.

use super::SandboxError;
use std::collections::HashMap;
use std::os::unix::fs::PermissionsExt;
use std::path::{Component, Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::{Arc, Mutex, PoisonError};

/// What a Python says of itself, a line each.
const WHERE: &str = "import sys; print(sys.executable, sys.base_prefix, sys.prefix, sep='\\n')";
/// What a program outside the system's folders needs of its own installation.
const PARTS: [&str; 4] = ["bin", "lib", "lib64", "pyvenv.cfg"];

/// What to run.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Program {
    /// Program and arguments.
    pub argv: Vec<String>,
    /// Files by name (relative, with `/` between folders), written into the private temporary folder that is the
    /// working directory.
    pub files: Vec<(String, Vec<u8>)>,
    /// What it reads from its standard input.
    pub stdin: Vec<u8>,
}

impl Program {
    /// Whether it can be run at all.
    pub(super) fn check(&self) -> Result<(), SandboxError> {
        let wrong = |text: String| Err(SandboxError::Program(text));
        if self.argv.first().is_none_or(String::is_empty) {
            return wrong("its arguments must begin with the name of a program".into());
        }
        if self.argv.iter().any(|argument| argument.contains('\0')) {
            return wrong("an argument contains a NUL byte".into());
        }
        for (name, _) in &self.files {
            let mut parts = Path::new(name).components();
            let inside = !name.is_empty() && parts.all(|part| matches!(part, Component::Normal(_)));
            if !inside || name.ends_with('/') || name.contains('\0') {
                return wrong(format!("{name:?} does not name a file in the program's folder"));
            }
        }
        Ok(())
    }
}

/// Where a program is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Found {
    /// The file to execute.
    pub path: PathBuf,
    /// What it reads besides the system's folders.
    pub readable: Vec<PathBuf>,
}

/// The programs found so far: asking a Python takes as long as running one.
#[derive(Debug, Clone, Default)]
pub struct Known(Arc<Mutex<HashMap<String, Found>>>);

impl Known {
    /// Where the program of this name is.
    pub fn find(&self, name: &str) -> Result<Found, SandboxError> {
        let mut known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(found) = known.get(name) {
            return Ok(found.clone());
        }
        let found = find(name)?;
        known.insert(name.to_owned(), found.clone());
        Ok(found)
    }
}

fn find(name: &str) -> Result<Found, SandboxError> {
    let path = which(name).ok_or_else(|| {
        SandboxError::Program(format!("there is no program {name:?} (install it, or give its whole path)"))
    })?;
    let is_python = path.file_name().is_some_and(|name| name.to_string_lossy().starts_with("python"));
    if !is_python {
        let prefix = path.parent().and_then(Path::parent);
        let readable = prefix.map(installed).unwrap_or_default();
        return Ok(Found { readable: [vec![path.clone()], readable].concat(), path });
    }
    let asked = Command::new(&path)
        .args(["-I", "-S", "-c", WHERE])
        .stdin(Stdio::null())
        .output()
        .map_err(|error| SandboxError::Program(format!("{} did not start: {error}", path.display())))?;
    let said = String::from_utf8_lossy(&asked.stdout);
    let [executable, base, prefix] = said.lines().collect::<Vec<_>>()[..] else {
        return Err(SandboxError::Program(format!("{} does not say where it is installed", path.display())));
    };
    let readable = [base, prefix].iter().flat_map(|prefix| installed(Path::new(prefix))).collect();
    Ok(Found { path: executable.into(), readable })
}

fn which(name: &str) -> Option<PathBuf> {
    if name.contains('/') {
        return std::path::absolute(name).ok();
    }
    let folders = std::env::var_os("PATH")?;
    std::env::split_paths(&folders).map(|folder| folder.join(name)).find(|path| {
        path.metadata().is_ok_and(|metadata| metadata.is_file() && metadata.permissions().mode() & 0o111 != 0)
    })
}

/// What there is of an installation, by the name given and by its real one: a program may use either.
fn installed(prefix: &Path) -> Vec<PathBuf> {
    let mut there: Vec<PathBuf> = Vec::new();
    for path in PARTS.iter().map(|part| prefix.join(part)) {
        let Ok(real) = path.canonicalize() else { continue };
        for path in [path, real] {
            if !there.contains(&path) {
                there.push(path);
            }
        }
    }
    there
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn programs_that_are_none() {
        let names = |name: &str| Program {
            argv: vec!["true".into()],
            files: vec![(name.into(), Vec::new())],
            ..Program::default()
        };
        for name in ["a", "a.py", "a/b/c.txt", "..a", " "] {
            assert!(names(name).check().is_ok(), "{name:?}");
        }
        for name in ["", "/", "/a", "..", "../a", "a/../b", "./a", "a/", "a\0b"] {
            assert!(names(name).check().is_err(), "{name:?}");
        }
        for argv in [vec![], vec![""], vec!["a\0b"], vec!["true", "\0"]] {
            let argv: Vec<String> = argv.into_iter().map(String::from).collect();
            assert!(Program { argv: argv.clone(), ..Program::default() }.check().is_err(), "{argv:?}");
        }
    }

    #[test]
    fn a_home_folder_that_is_a_prefix_stays_hidden() {
        let home = tempfile::tempdir().unwrap();
        for part in ["bin", "lib", "letters"] {
            std::fs::create_dir(home.path().join(part)).unwrap();
        }
        let real = home.path().canonicalize().unwrap();
        let shown = installed(home.path());
        assert!(shown.contains(&real.join("bin")) && shown.contains(&real.join("lib")), "{shown:?}");
        assert!(shown.iter().all(|path| !real.join("letters").starts_with(path)), "{shown:?}");
    }

    #[test]
    fn a_program_that_is_not_there_is_named() {
        let error = Known::default().find("no-such-program-anywhere").unwrap_err();
        assert!(error.to_string().contains("no-such-program-anywhere"), "{error}");
    }
}
