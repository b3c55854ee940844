//! What a worker may not do: it parses files from strangers in C++.
//!
//! In the order applied: it dies with its parent (`PR_SET_PDEATHSIG`); it dumps no core and, on the CPU, has a
//! bounded address space (rlimits); it can gain no privileges; Landlock leaves it a read-only view of the model's
//! folder, and of the system's libraries, devices and drivers where the device is not the CPU; seccomp refuses
//! new sockets, new programs and tracing. Each step that the kernel does not offer is reported, not hidden: the
//! supervisor shows the sentence that [`restrict`] returns.

use crate::spec::{LoadSpec, TranscodeSpec};
use landlock::{
    ABI, Access, AccessFs, AccessNet, BitFlags, CompatLevel, Compatible, PathBeneath, PathFd, Ruleset,
    RulesetAttr, RulesetCreatedAttr, RulesetStatus,
};
use rustix::process::{Resource, Rlimit, Signal};
use seccompiler::{SeccompAction, SeccompFilter};
use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};

/// The Landlock version asked for; an older kernel gives what it has.
const LANDLOCK: ABI = ABI::V5;
/// Where GPU and NPU drivers keep what they open while they work.
const DRIVER_PATHS: [&str; 10] =
    ["/dev", "/sys", "/proc", "/usr", "/lib", "/lib64", "/etc", "/opt", "/run/opengl-driver", "/var/lib"];

/// Have the kernel kill this process when the thread that started it ends.
///
/// # Errors
/// Where the kernel refuses, or the parent is gone already.
pub fn die_with_parent() -> io::Result<()> {
    #[cfg(target_os = "linux")]
    {
        let parent = rustix::process::getppid();
        rustix::process::set_parent_process_death_signal(Some(Signal::KILL))?;
        // The parent may have died between our start and the call; then we are someone else's child now.
        if rustix::process::getppid() != parent {
            return Err(io::Error::other("the supervisor is gone"));
        }
    }
    Ok(())
}

/// Core dumps off, address space bounded.
///
/// # Errors
/// Where the limit cannot be set.
pub fn limit_resources(spec: &LoadSpec) -> io::Result<()> {
    rustix::process::setrlimit(Resource::Core, Rlimit { current: Some(0), maximum: Some(0) })?;
    if let Some(bytes) = spec.memory_limit_bytes {
        rustix::process::setrlimit(Resource::As, Rlimit { current: Some(bytes), maximum: Some(bytes) })?;
    }
    Ok(())
}

/// Pin the calling thread, worker 0 of ggml's pool, to the first CPU of the spec.
///
/// # Errors
/// Where a CPU of the spec does not exist or is not ours to use.
pub fn pin_this_thread(spec: &LoadSpec) -> io::Result<()> {
    #[cfg(target_os = "linux")]
    if let Some(&first) = spec.cpus.first() {
        let allowed = rustix::thread::sched_getaffinity(None)?;
        if let Some(bad) = spec.cpus.iter().find(|&&cpu| !allowed.is_set(cpu as usize)) {
            return Err(io::Error::other(format!("CPU {bad} does not exist here or may not be used")));
        }
        let mut set = rustix::thread::CpuSet::new();
        set.set(first as usize);
        rustix::thread::sched_setaffinity(None, &set)?;
    }
    Ok(())
}

/// Landlock and seccomp. Returns a sentence that says what holds.
pub fn restrict(spec: &LoadSpec) -> String {
    if !spec.confine {
        return "not confined: turned off".into();
    }
    let files = match landlock(view(spec)) {
        Ok(RulesetStatus::FullyEnforced) => "files and network (Landlock)".to_owned(),
        Ok(RulesetStatus::PartiallyEnforced) => "files (Landlock, an older kernel's)".to_owned(),
        Ok(RulesetStatus::NotEnforced) => "files not confined: this kernel has no Landlock".to_owned(),
        Err(why) => format!("files not confined: {why}"),
    };
    // Drivers of other devices start threads and helpers of their own; only the CPU backend is known to need none.
    let calls = if !spec.is_cpu() {
        "system calls not confined: a driver needs them".to_owned()
    } else {
        match refuse_calls() {
            Ok(()) => "no sockets, programs or tracing (seccomp)".to_owned(),
            Err(why) => format!("system calls not confined: {why}"),
        }
    };
    format!("{files}; {calls}")
}

/// As [`restrict`], for a process that reads one model file and writes another.
pub fn restrict_to_transcode(spec: &TranscodeSpec) {
    let read = AccessFs::from_read(LANDLOCK);
    let mut rules: Vec<(PathBuf, _)> = vec![
        (folder_of(&spec.from).to_owned(), read),
        (folder_of(&spec.to).to_owned(), AccessFs::from_all(LANDLOCK)),
        ("/sys/devices".into(), read),
    ];
    rules.extend(target_folder(&spec.from).map(|real| (real, read)));
    // Nobody is shown a sentence about it: where the kernel cannot confine, it just goes on.
    let _ = landlock(rules);
    let _ = refuse_calls();
}

/// The folder a path names its file in.
fn folder_of(path: &Path) -> &Path {
    path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."))
}

/// Where a link's target lies, which may be elsewhere.
fn target_folder(path: &Path) -> Option<PathBuf> {
    path.canonicalize().ok()?.parent().map(Path::to_owned)
}

/// The folders that a worker may see, and how.
fn view(spec: &LoadSpec) -> Vec<(PathBuf, BitFlags<AccessFs>)> {
    let (read, write) = (AccessFs::from_read(LANDLOCK), AccessFs::from_all(LANDLOCK));
    let mut rules: Vec<(PathBuf, _)> = vec![(folder_of(&spec.model).to_owned(), read)];
    rules.extend(target_folder(&spec.model).map(|real| (real, read)));
    if spec.is_cpu() {
        // ggml reads the topology of the CPU.
        rules.extend(["/sys/devices", "/proc/cpuinfo"].map(|p| (p.into(), read)));
    } else {
        rules.extend(DRIVER_PATHS.map(|p| (p.into(), if p == "/dev" { write } else { read })));
        // Drivers keep compiled shaders in the user's cache.
        let cache = std::env::var_os("XDG_CACHE_HOME").map(PathBuf::from);
        let home = || std::env::var_os("HOME").map(|home| PathBuf::from(home).join(".cache"));
        rules.extend(cache.or_else(home).map(|p| (p, write)));
        rules.push((std::env::temp_dir(), write));
    }
    rules
}

fn landlock(rules: Vec<(PathBuf, BitFlags<AccessFs>)>) -> Result<RulesetStatus, String> {
    let text = |error: landlock::RulesetError| error.to_string();
    let mut ruleset = Ruleset::default()
        .set_compatibility(CompatLevel::BestEffort)
        .handle_access(AccessFs::from_all(LANDLOCK))
        .and_then(|r| r.handle_access(AccessNet::from_all(LANDLOCK)))
        .and_then(|r| r.create())
        .map_err(text)?;
    for (path, access) in rules {
        let Ok(fd) = PathFd::new(&path) else { continue };
        let access = if path.is_dir() { access } else { access & AccessFs::from_file(LANDLOCK) };
        ruleset = ruleset.add_rule(PathBeneath::new(fd, access)).map_err(text)?;
    }
    Ok(ruleset.restrict_self().map_err(text)?.ruleset)
}

/// Refuse, with EPERM, the calls that a worker on the CPU never makes.
fn refuse_calls() -> Result<(), String> {
    let never: BTreeMap<i64, Vec<_>> =
        [libc_calls::SOCKET, libc_calls::EXECVE, libc_calls::EXECVEAT, libc_calls::PTRACE]
            .into_iter()
            .map(|call| (call, Vec::new()))
            .collect();
    let arch =
        std::env::consts::ARCH.try_into().map_err(|_| "seccomp does not know this processor".to_owned())?;
    // EPERM is 1 on every architecture.
    let filter = SeccompFilter::new(never, SeccompAction::Allow, SeccompAction::Errno(1), arch);
    let program: seccompiler::BpfProgram =
        filter.and_then(TryInto::try_into).map_err(|error| error.to_string())?;
    seccompiler::apply_filter_all_threads(&program).map_err(|error| error.to_string())
}

/// Numbers of the system calls refused, per architecture (the kernel's `unistd` tables).
mod libc_calls {
    #[cfg(target_arch = "x86_64")]
    mod numbers {
        pub const SOCKET: i64 = 41;
        pub const EXECVE: i64 = 59;
        pub const EXECVEAT: i64 = 322;
        pub const PTRACE: i64 = 101;
    }
    #[cfg(not(target_arch = "x86_64"))]
    mod numbers {
        // The generic table: aarch64, riscv64.
        pub const SOCKET: i64 = 198;
        pub const EXECVE: i64 = 221;
        pub const EXECVEAT: i64 = 281;
        pub const PTRACE: i64 = 117;
    }
    pub use numbers::{EXECVE, EXECVEAT, PTRACE, SOCKET};
}
