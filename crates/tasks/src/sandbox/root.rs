//! The file system of the sandbox, when it may mount one.
//!
//! A small root in memory that cannot be written; the system's programs and libraries, bound into it read-only; four
//! devices without state; one folder in memory, of bounded size, for the program. No `/proc` (whose tricks are many),
//! no `/sys`, no sockets, no other file of `/etc` than the loader's and the clock's.

use super::identity::NOBODY;
use rustix::fs::StatVfsMountFlags;
use rustix::mount::{MountFlags, MountPropagationFlags, UnmountFlags};
use std::ffi::CString;
use std::fs;
use std::io;
use std::os::unix::fs as unix;
use std::path::{Path, PathBuf};

/// The program's folder inside, which is also what `/tmp` means there.
pub const FOLDER: &str = "/box";
/// What programs and libraries are made of on the usual systems, with the loader's and the clock's settings.
const SYSTEM: [&str; 14] = [
    "/usr",
    "/bin",
    "/sbin",
    "/lib",
    "/lib32",
    "/lib64",
    "/libx32",
    "/nix/store",
    "/gnu/store",
    "/etc/ld.so.cache",
    "/etc/ld.so.conf",
    "/etc/ld.so.conf.d",
    "/etc/alternatives",
    "/etc/localtime",
];
/// Devices that keep nothing and say nothing about the machine.
pub const DEVICES: [&str; 5] = ["/dev/null", "/dev/zero", "/dev/full", "/dev/random", "/dev/urandom"];
/// Where the new root is put together: a folder that every system has and of which nothing is shown.
const SITES: [&str; 4] = ["/sys", "/mnt", "/media", "/srv"];
/// The root holds folders, links and empty files: one page each.
const ROOT: &str = "mode=0755,size=4m,nr_inodes=1024";
/// Files and folders of a program. Each is kernel memory that the size of the folder does not count.
const FOLDER_ENTRIES: u32 = 4096;

/// What is shown of the machine: what there is of the system, and `readable`.
pub fn view(readable: &[PathBuf]) -> Vec<PathBuf> {
    let system = SYSTEM.iter().map(PathBuf::from).filter(|path| path.symlink_metadata().is_ok());
    let mut view: Vec<PathBuf> = system.collect();
    for path in readable {
        if !view.iter().any(|shown| path.starts_with(shown)) {
            view.push(path.clone());
        }
    }
    view
}

/// Make the root and move into it.
pub fn build(view: &[PathBuf], folder_bytes: u64, nobody: bool) -> Result<(), String> {
    let site =
        SITES.iter().map(Path::new).find(|path| path.is_dir()).ok_or("no folder to mount a root on")?;
    let at = |what: &str, path: &Path| format!("{what} {}", path.display());
    let private = MountPropagationFlags::PRIVATE | MountPropagationFlags::REC;
    rustix::mount::mount_change("/", private).map_err(|error| format!("making mounts private: {error}"))?;
    tmpfs(site, ROOT, MountFlags::NOEXEC).map_err(|error| format!("{}: {error}", at("mounting", site)))?;
    for path in view {
        show(site, path, MountFlags::NODEV).map_err(|error| format!("{}: {error}", at("showing", path)))?;
    }
    for path in DEVICES.map(Path::new) {
        show(site, path, MountFlags::NOEXEC).map_err(|error| format!("{}: {error}", at("showing", path)))?;
    }
    let folder = below(site, Path::new(FOLDER));
    let options = format!("mode=0700,size={folder_bytes},nr_inodes={FOLDER_ENTRIES}");
    fs::create_dir(&folder)
        .and_then(|()| tmpfs(&folder, &options, MountFlags::NOEXEC))
        .and_then(|()| if nobody { unix::chown(&folder, Some(NOBODY), Some(NOBODY)) } else { Ok(()) })
        .and_then(|()| unix::symlink(FOLDER, below(site, Path::new("/tmp"))))
        .map_err(|error| format!("making the program's folder: {error}"))?;
    enter(site).map_err(|error| format!("changing the root: {error}"))
}

fn tmpfs(path: &Path, options: &str, flags: MountFlags) -> io::Result<()> {
    let options = CString::new(options).map_err(io::Error::other)?;
    let flags = flags | MountFlags::NOSUID | MountFlags::NODEV;
    Ok(rustix::mount::mount("tmpfs", path, "tmpfs", flags, options.as_c_str())?)
}

/// Where a path lies in the root being built.
fn below(site: &Path, path: &Path) -> PathBuf {
    site.join(path.strip_prefix("/").unwrap_or(path))
}

/// Show one path of the machine, read-only, under the same name. A link stays a link.
fn show(site: &Path, path: &Path, flags: MountFlags) -> io::Result<()> {
    let (Ok(metadata), target) = (path.symlink_metadata(), below(site, path)) else { return Ok(()) };
    if let Some(parent) = target.parent() {
        fs::create_dir_all(parent)?;
    }
    if metadata.is_symlink() {
        return unix::symlink(fs::read_link(path)?, target);
    }
    if metadata.is_dir() {
        fs::create_dir_all(&target)?;
    } else {
        fs::File::create(&target)?;
    }
    rustix::mount::mount_bind_recursive(path, &target)?;
    // In a user namespace, a flag that the original mount has may not be taken away.
    let had = rustix::fs::statvfs(&target)?.f_flag;
    let kept = [
        (StatVfsMountFlags::NOEXEC, MountFlags::NOEXEC),
        (StatVfsMountFlags::NODEV, MountFlags::NODEV),
        (StatVfsMountFlags::NOSUID, MountFlags::NOSUID),
    ];
    let kept = kept.into_iter().filter(|(flag, _)| had.contains(*flag)).map(|(_, flag)| flag);
    let flags = kept.fold(flags | MountFlags::NOSUID, |flags, flag| flags | flag);
    read_only(&target, flags)
}

fn read_only(path: &Path, flags: MountFlags) -> io::Result<()> {
    let flags = MountFlags::BIND | MountFlags::RDONLY | flags;
    Ok(rustix::mount::mount_remount(path, flags, "")?)
}

fn enter(site: &Path) -> io::Result<()> {
    rustix::process::chdir(site)?;
    // Both in one place: the old root comes to lie on the new one, from where it is taken off.
    rustix::process::pivot_root(".", ".")?;
    rustix::mount::unmount(".", UnmountFlags::DETACH)?;
    rustix::process::chdir("/")?;
    read_only(Path::new("/"), MountFlags::NOSUID | MountFlags::NODEV | MountFlags::NOEXEC)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_system_shows_is_not_shown_twice() {
        let extra = ["/usr/local/bin", "/usrx", "/opt/python/lib", "/opt/python/lib/more"].map(PathBuf::from);
        let view = view(&extra);
        assert!(view.contains(&"/usr".into()));
        assert_eq!(&view[view.len() - 2..], ["/usrx", "/opt/python/lib"].map(PathBuf::from));
    }
}
