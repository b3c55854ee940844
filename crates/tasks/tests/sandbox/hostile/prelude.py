# What every hostile program begins with. WORLD is written before it: what there is to steal and to break.
import ctypes, os, platform, signal, socket, struct, sys, threading, time

C = ctypes.CDLL(None, use_errno=True)
GENERIC = platform.machine() != "x86_64"
# Numbers of system calls: on x86-64, and everywhere else.
NUMBERS = dict(
    ptrace=(101, 117), process_vm_readv=(310, 270), process_vm_writev=(311, 271), init_module=(175, 105),
    finit_module=(313, 273), reboot=(169, 142), bpf=(321, 280), keyctl=(250, 219), add_key=(248, 217),
    io_uring_setup=(425, 425), userfaultfd=(323, 282), memfd_create=(319, 279), unshare=(272, 97),
    setns=(308, 268), mount=(165, 40), umount2=(166, 39), pivot_root=(155, 41), perf_event_open=(298, 241),
    open_by_handle_at=(304, 265), pidfd_open=(434, 434), pidfd_getfd=(438, 438), pidfd_send_signal=(424, 424),
    clone3=(435, 435), swapon=(167, 224), kexec_load=(246, 104), settimeofday=(164, 170),
    sethostname=(170, 161), acct=(163, 89), chroot=(161, 51), fsopen=(430, 430), open_tree=(428, 428),
    fanotify_init=(300, 262), inotify_init1=(294, 26), shmget=(29, 194), msgget=(68, 186), prctl=(157, 167), setuid=(105, 146),
    prlimit64=(302, 261), kill=(62, 129), tgkill=(234, 131), rt_sigqueueinfo=(129, 138), mknodat=(259, 33),
    sched_setaffinity=(203, 122), setpriority=(141, 140), mq_open=(240, 180), clone=(56, 220),
)


def call(name, *arguments):
    """A system call past the C library; -1 if it failed."""
    wide = [ctypes.c_long(a) if isinstance(a, int) else a for a in arguments]
    return C.syscall(ctypes.c_long(NUMBERS[name][GENERIC]), *wide)


def escaped(what):
    print("ESCAPED:", what, flush=True)


def attempt(function, *arguments, **named):
    """What the function returns, or None if it failed."""
    try:
        return function(*arguments, **named)
    except (OSError, RuntimeError, MemoryError, ValueError, AttributeError):
        return None


def tell(path):
    """Print what a file says, if it can be read."""
    try:
        with open(path, "rb") as file:
            print(file.read(1 << 20), flush=True)
    except OSError:
        pass


def write(path, data=b"overwritten", mode="wb"):
    """True if something could be written there."""
    try:
        with open(path, mode) as file:
            file.write(data)
        return True
    except OSError:
        return False


def done():
    """The attempts were made: the test wants to see this of a program that ends by itself."""
    print("tried", flush=True)


