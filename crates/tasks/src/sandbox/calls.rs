//! Which system calls a program may make: seccomp.
//!
//! A list of what is allowed, not of what is not: every kernel brings new calls, and those by which sandboxes were
//! left in the past (io_uring, userfaultfd, keyrings, user namespaces, BPF) were new and unknown to yesterday's
//! lists. What is not listed does not exist (`ENOSYS`), which libraries are used to: they fall back on older calls,
//! and a Python raises `OSError`. The list is what an interpreter needs to compute, to use files in its folder, to
//! wait, and to run threads.
//!
//! Some calls depend on an argument. No `clone` makes a namespace, and unless there may be several processes none
//! makes a process; `clone3` hides its flags in memory where a filter cannot look, and the C library falls back on
//! `clone`. A pair of connected stream sockets (Python's asyncio wakes itself through one) leads nowhere; no other
//! socket is ever made. Files may not be made to send signals, terminals may not be typed into, and limits are only
//! one's own. Where Landlock stands alone, it does not see what is done to a file's mode, owner or times, and there is
//! no other PID namespace: then those calls are missing too, and so are threads and all signals but to oneself.

use super::Means;
use libc as c;
use seccompiler::{
    BpfProgram, SeccompAction, SeccompCmpArgLen as Len, SeccompCmpOp as Op, SeccompCondition, SeccompFilter,
    SeccompRule,
};
use std::collections::BTreeMap;

/// On every processor.
#[rustfmt::skip]
const ALWAYS: &[i64] = &[
    // Memory.
    c::SYS_brk, c::SYS_mmap, c::SYS_munmap, c::SYS_mremap, c::SYS_mprotect, c::SYS_madvise, c::SYS_mincore,
    c::SYS_msync, c::SYS_membarrier,
    // Descriptors.
    c::SYS_read, c::SYS_write, c::SYS_pread64, c::SYS_pwrite64, c::SYS_readv, c::SYS_writev, c::SYS_preadv,
    c::SYS_pwritev, c::SYS_preadv2, c::SYS_pwritev2, c::SYS_lseek, c::SYS_close, c::SYS_close_range, c::SYS_dup,
    c::SYS_dup3, c::SYS_pipe2, c::SYS_sendfile, c::SYS_copy_file_range, c::SYS_ppoll, c::SYS_pselect6,
    c::SYS_epoll_create1, c::SYS_epoll_ctl, c::SYS_epoll_pwait, c::SYS_epoll_pwait2, c::SYS_eventfd2,
    c::SYS_signalfd4, c::SYS_timerfd_create, c::SYS_timerfd_settime, c::SYS_timerfd_gettime,
    // Files; where, is for the root and for Landlock to say.
    c::SYS_openat, c::SYS_openat2, c::SYS_fstat, c::SYS_newfstatat, c::SYS_statx, c::SYS_statfs, c::SYS_fstatfs,
    c::SYS_faccessat, c::SYS_faccessat2, c::SYS_readlinkat, c::SYS_getdents64, c::SYS_getcwd, c::SYS_chdir,
    c::SYS_fchdir, c::SYS_mkdirat, c::SYS_unlinkat, c::SYS_renameat2, c::SYS_linkat, c::SYS_symlinkat,
    c::SYS_truncate, c::SYS_ftruncate, c::SYS_fallocate, c::SYS_fadvise64, c::SYS_fsync, c::SYS_fdatasync,
    c::SYS_flock, c::SYS_umask,
    // The ends of a pair of sockets.
    c::SYS_sendto, c::SYS_recvfrom, c::SYS_shutdown, c::SYS_getsockname, c::SYS_getsockopt,
    // Time.
    c::SYS_clock_gettime, c::SYS_clock_getres, c::SYS_clock_nanosleep, c::SYS_nanosleep, c::SYS_gettimeofday,
    c::SYS_times, c::SYS_getitimer, c::SYS_setitimer, c::SYS_timer_create, c::SYS_timer_settime,
    c::SYS_timer_gettime, c::SYS_timer_getoverrun, c::SYS_timer_delete,
    // Oneself.
    c::SYS_execve, c::SYS_exit, c::SYS_exit_group, c::SYS_wait4, c::SYS_waitid, c::SYS_getpid, c::SYS_getppid,
    c::SYS_gettid, c::SYS_getuid, c::SYS_geteuid, c::SYS_getgid, c::SYS_getegid, c::SYS_getresuid,
    c::SYS_getresgid, c::SYS_getgroups, c::SYS_getpgid, c::SYS_setpgid, c::SYS_getsid, c::SYS_setsid,
    c::SYS_getrusage, c::SYS_getpriority, c::SYS_uname, c::SYS_sysinfo, c::SYS_getcpu, c::SYS_getrandom,
    // Threads and their signals.
    c::SYS_futex, c::SYS_set_tid_address, c::SYS_set_robust_list, c::SYS_rseq, c::SYS_sched_yield,
    c::SYS_sched_getaffinity, c::SYS_sched_getparam, c::SYS_sched_getscheduler, c::SYS_sched_get_priority_max,
    c::SYS_sched_get_priority_min, c::SYS_rt_sigaction, c::SYS_rt_sigprocmask, c::SYS_rt_sigpending,
    c::SYS_rt_sigsuspend, c::SYS_rt_sigtimedwait, c::SYS_rt_sigreturn, c::SYS_sigaltstack, c::SYS_restart_syscall,
];
/// The older forms that only this processor still has.
#[cfg(target_arch = "x86_64")]
#[rustfmt::skip]
const OLDER: &[i64] = &[
    c::SYS_open, c::SYS_creat, c::SYS_stat, c::SYS_lstat, c::SYS_access, c::SYS_readlink, c::SYS_getdents,
    c::SYS_mkdir, c::SYS_rmdir, c::SYS_unlink, c::SYS_rename, c::SYS_renameat, c::SYS_link, c::SYS_symlink,
    c::SYS_dup2, c::SYS_pipe, c::SYS_poll, c::SYS_select, c::SYS_epoll_create, c::SYS_epoll_wait, c::SYS_eventfd,
    c::SYS_time, c::SYS_alarm, c::SYS_pause, c::SYS_getpgrp, c::SYS_getrlimit, c::SYS_arch_prctl,
];
#[cfg(target_arch = "aarch64")]
const OLDER: &[i64] = &[c::SYS_renameat];
#[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64")))]
const OLDER: &[i64] = &[];
/// What is harmless only where there is nothing of others to do it to.
#[rustfmt::skip]
const APART: &[i64] = &[
    c::SYS_fchmod, c::SYS_fchmodat, c::SYS_utimensat, c::SYS_kill, c::SYS_tkill, c::SYS_tgkill,
    #[cfg(target_arch = "x86_64")] c::SYS_chmod,
    #[cfg(target_arch = "x86_64")] c::SYS_utime,
    #[cfg(target_arch = "x86_64")] c::SYS_utimes,
];
/// What makes a process and nothing else.
#[cfg(target_arch = "x86_64")]
const FORKS: &[i64] = &[c::SYS_fork, c::SYS_vfork];
#[cfg(not(target_arch = "x86_64"))]
const FORKS: &[i64] = &[];
/// Flags of `clone` that make a namespace (one of time can be made by other calls only).
const NAMESPACES: i32 = c::CLONE_NEWNS
    | c::CLONE_NEWCGROUP
    | c::CLONE_NEWUTS
    | c::CLONE_NEWIPC
    | c::CLONE_NEWUSER
    | c::CLONE_NEWPID
    | c::CLONE_NEWNET;
/// What a descriptor may be asked: not its owner or signal, not its lease.
const DESCRIPTOR: [i32; 10] = [
    c::F_DUPFD,
    c::F_DUPFD_CLOEXEC,
    c::F_GETFD,
    c::F_SETFD,
    c::F_GETFL,
    c::F_SETFL,
    c::F_GETLK,
    c::F_SETLK,
    c::F_SETLKW,
    c::F_GETPIPE_SZ,
];
/// What a device may be asked: whether it is a terminal, how large, how much there is to read; and the flags of
/// descriptors in their other form.
const DEVICE: [u64; 6] = [c::TCGETS, c::TIOCGWINSZ, c::FIONREAD, c::FIONBIO, c::FIOCLEX, c::FIONCLEX];
/// A thread's name, and the name of a piece of memory (`PR_SET_VMA`).
const SELF: [i32; 3] = [c::PR_SET_NAME, c::PR_GET_NAME, 0x5356_4d41];
/// The bits of a socket's type that are not its flags.
const SOCKET_TYPE: u64 = 0xf;

/// Refuse all other calls from now on.
pub fn restrict(means: Means, processes: u64) -> Result<(), String> {
    let text = |error: &dyn std::fmt::Display| format!("seccomp: {error}");
    let program = filter(means, processes).map_err(|error| text(&error))?;
    seccompiler::apply_filter(&program).map_err(|error| text(&error))
}

fn filter(means: Means, processes: u64) -> Result<BpfProgram, seccompiler::BackendError> {
    let mut rules: BTreeMap<i64, Vec<SeccompRule>> = BTreeMap::new();
    let mut allow = |calls: &[i64]| rules.extend(calls.iter().map(|call| (*call, Vec::new())));
    allow(ALWAYS);
    allow(OLDER);
    if means == Means::Namespaces {
        allow(APART);
    }
    if processes > 1 {
        allow(FORKS);
    }
    let own = u64::from(std::process::id());
    let mut only = |call: i64, argument: u8, values: &[u64]| -> Result<(), seccompiler::BackendError> {
        let one = |value: &u64| rule(&[(argument, Op::Eq, *value)]);
        rules.insert(call, values.iter().map(one).collect::<Result<_, _>>()?);
        Ok(())
    };
    only(c::SYS_fcntl, 1, &DESCRIPTOR.map(as_argument))?;
    only(c::SYS_ioctl, 1, &DEVICE)?;
    only(c::SYS_prctl, 0, &SELF.map(as_argument))?;
    only(c::SYS_prlimit64, 0, &[0])?;
    only(c::SYS_sched_setaffinity, 0, &[0])?;
    if means == Means::Landlock {
        for call in [c::SYS_kill, c::SYS_tkill, c::SYS_tgkill] {
            only(call, 0, &[own])?;
        }
    } else {
        let thread = as_argument(c::CLONE_THREAD);
        let spaces = as_argument(NAMESPACES);
        let clone = if processes > 1 {
            rule(&[(0, Op::MaskedEq(spaces), 0)])?
        } else {
            rule(&[(0, Op::MaskedEq(spaces | thread), thread)])?
        };
        rules.insert(c::SYS_clone, vec![clone]);
    }
    let stream = as_argument(c::SOCK_STREAM);
    let pair = rule(&[(0, Op::Eq, as_argument(c::AF_UNIX)), (1, Op::MaskedEq(SOCKET_TYPE), stream)])?;
    rules.insert(c::SYS_socketpair, vec![pair]);
    let arch = std::env::consts::ARCH.try_into()?;
    let missing = SeccompAction::Errno(c::ENOSYS as u32);
    SeccompFilter::new(rules, missing, SeccompAction::Allow, arch)?.try_into()
}

/// A rule of conditions that all must hold, each on the low half of an argument: none of these is wider.
fn rule(conditions: &[(u8, Op, u64)]) -> Result<SeccompRule, seccompiler::BackendError> {
    let condition = |(argument, op, value): &(u8, Op, u64)| {
        SeccompCondition::new(*argument, Len::Dword, op.clone(), *value)
    };
    SeccompRule::new(conditions.iter().map(condition).collect::<Result<_, _>>()?)
}

/// A number as the kernel sees it in the low half of a register.
fn as_argument(number: i32) -> u64 {
    u64::from(number as u32)
}
