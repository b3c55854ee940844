//! Who the program is: nobody, with no capabilities, in a user namespace of its own.
//!
//! Root first becomes the user "nobody", so that even a way out of everything else would lead to a user who owns
//! nothing. An ordinary user cannot become another one, but is called nobody in the last user namespace, and has no
//! capabilities in any other. That namespace also has its own count of processes.

use nix::sched::CloneFlags;
use rustix::fs::{Mode, OFlags};
use rustix::process::DumpableBehavior;
use rustix::thread::{set_thread_groups, set_thread_res_gid, set_thread_res_uid};
use std::fs::{self, File};
use std::io::Write;
use std::os::fd::OwnedFd;

/// The kernel's own "nobody" (`/proc/sys/kernel/overflowuid`).
pub const NOBODY: u32 = 65_534;

/// The folder in `/proc` of this process, kept open because the new root has no `/proc`.
pub fn own_folder() -> Result<OwnedFd, String> {
    rustix::fs::open("/proc/self", OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())
        .map_err(|error| format!("opening /proc/self: {error}"))
}

/// Unshare `flags` and the user namespace, where this user is called `name`.
pub fn enter(flags: CloneFlags, name: u32, own_folder: &OwnedFd) -> Result<(), String> {
    let (uid, gid) = (rustix::process::geteuid().as_raw(), rustix::process::getegid().as_raw());
    nix::sched::unshare(flags | CloneFlags::CLONE_NEWUSER)
        .map_err(|error| format!("unshare with a user namespace: {error}"))?;
    // Groups first: a user without privileges may map its group only after giving up changing them.
    for (file, text) in [
        ("setgroups", "deny".to_owned()),
        ("uid_map", format!("{name} {uid} 1")),
        ("gid_map", format!("{name} {gid} 1")),
    ] {
        rustix::fs::openat(own_folder, file, OFlags::WRONLY | OFlags::CLOEXEC, Mode::empty())
            .map_err(std::io::Error::from)
            .and_then(|fd| File::from(fd).write_all(text.as_bytes()))
            .map_err(|error| format!("writing {text:?} to {file} of the user namespace: {error}"))?;
    }
    Ok(())
}

/// Whether "nobody" is somebody else than us here, whom root can become.
pub fn nobody_exists() -> Result<bool, String> {
    if !rustix::process::geteuid().is_root() {
        return Ok(false);
    }
    for map in ["/proc/self/uid_map", "/proc/self/gid_map"] {
        let text = fs::read_to_string(map).map_err(|error| format!("reading {map}: {error}"))?;
        if !maps(&text, NOBODY) {
            return Ok(false);
        }
    }
    Ok(true)
}

/// Whether a map of `/proc/PID/uid_map`'s form has a place for `id`: first inside, first outside, how many.
fn maps(text: &str, id: u32) -> bool {
    text.lines().any(|line| {
        let numbers: Vec<u64> = line.split_whitespace().filter_map(|word| word.parse().ok()).collect();
        let id = u64::from(id);
        matches!(numbers[..], [first, _, count] if (first..first + count).contains(&id))
    })
}

/// Become nobody, for ever. False where the right to do so is missing, and all others with it.
pub fn become_nobody() -> Result<bool, String> {
    match set_thread_groups(&[]) {
        Err(rustix::io::Errno::PERM) => return Ok(false),
        done => done.map_err(|error| format!("giving up groups: {error}"))?,
    }
    let (uid, gid) = (rustix::process::Uid::from_raw(NOBODY), rustix::process::Gid::from_raw(NOBODY));
    set_thread_res_gid(gid, gid, gid).map_err(|error| format!("becoming nobody's group: {error}"))?;
    set_thread_res_uid(uid, uid, uid).map_err(|error| format!("becoming nobody: {error}"))?;
    // The kernel now guards our files in /proc as root's, but the user namespace's maps are to be written there.
    rustix::process::set_dumpable_behavior(DumpableBehavior::Dumpable)
        .map_err(|error| format!("opening our own /proc folder: {error}"))?;
    Ok(true)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn maps_are_read() {
        for (text, expected) in [
            ("         0          0 4294967295\n", true),
            ("0 1000 1\n", false),
            ("0 1000 1\n1 100000 65536\n", true),
            ("0 100000 65534\n", false),
            ("0 100000 65535\n", true),
            ("", false),
            ("x y z\n", false),
        ] {
            assert_eq!(maps(text, NOBODY), expected, "{text:?}");
        }
    }
}
