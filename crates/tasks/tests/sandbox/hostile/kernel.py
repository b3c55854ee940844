#: traced_parent ends
for request in (16, 0x4206):
    if call("ptrace", request, PARENT, 0, 0) == 0:
        escaped("the parent is traced")
if call("ptrace", 0, 0, 0, 0) == 0:
    escaped("ptrace")
done()

#: memory_of_the_parent ends
buffer = ctypes.create_string_buffer(64)
vector = struct.pack("QQ", ctypes.addressof(buffer), 64)
far = struct.pack("QQ", 0x400000, 64)
for name in ("process_vm_readv", "process_vm_writev"):
    for process in (PARENT, os.getppid()):
        if call(name, process, ctypes.c_char_p(vector), 1, ctypes.c_char_p(far), 1, 0) >= 0:
            escaped(name)
for process in (PARENT, 1, os.getppid()):
    if process != os.getpid() and (attempt(open, f"/proc/{process}/mem", "rb") or attempt(open, f"/proc/{process}/maps")):
        escaped("the parent's memory")
done()

#: descriptors_of_the_parent ends
handle = call("pidfd_open", PARENT, 0)
if handle >= 0 and call("pidfd_getfd", handle, 0, 0) >= 0:
    escaped("a descriptor of the parent")
for number in range(32):
    tell(f"/proc/{PARENT}/fd/{number}")
done()

#: mounts ends
def text(value):
    return ctypes.c_char_p(value.encode())
os.mkdir("at")
for source, target, kind, flags in (
    ("none", "at", "tmpfs", 0), ("/", "at", "", 4096), ("proc", "at", "proc", 0), ("none", "/", "", 32), ("sys", "at", "sysfs", 0),
):
    if call("mount", text(source), text(target), text(kind), flags, 0) == 0:
        escaped(f"a mount of {source}")
for path in ("/", ".", "/usr", "/dev/null"):
    if call("umount2", text(path), 2) == 0:
        escaped(f"{path} unmounted")
if call("pivot_root", text("."), text(".")) == 0 or call("fsopen", text("tmpfs"), 0) >= 0:
    escaped("a new root")
if call("open_tree", -100, text("/"), 1) >= 0:
    escaped("a copy of the tree")
done()

#: namespaces ends
for flag in (0x10000000, 0x20000, 0x20000000, 0x40000000, 0x8000000, 0x4000000, 0x2000000, 0x80):
    if call("unshare", flag) == 0:
        escaped(f"unshare {flag:#x}")
    # In clone the last one is a signal.
    if flag != 0x80 and call("clone", flag | signal.SIGCHLD, 0, 0, 0, 0) >= 0:
        escaped(f"clone {flag:#x}")
for name in ("mnt", "pid", "net", "user"):
    for process in (PARENT, 1, "self"):
        handle = attempt(os.open, f"/proc/{process}/ns/{name}", os.O_RDONLY)
        if handle is not None and call("setns", handle, 0) == 0:
            escaped(f"the {name} namespace of {process}")
done()

#: another_user ends
for function in (os.setuid, os.setgid, os.seteuid):
    if os.getuid() != 0 and attempt(function, 0) is not None:
        escaped(function.__name__)
if attempt(os.setgroups, [0]) is not None:
    escaped("groups")
if os.getuid() == 0 and call("setuid", 0) == 0:
    escaped("root inside")
done()

#: kernel_modules ends
blob = ctypes.c_char_p(b"\x7fELF" + bytes(60))
if call("init_module", blob, 64, ctypes.c_char_p(b"")) == 0 or call("finit_module", 0, ctypes.c_char_p(b""), 0) == 0:
    escaped("a module")
if call("kexec_load", 0, 0, 0, 0) == 0:
    escaped("another kernel")
if ctypes.get_errno() not in (38, 1):
    escaped(f"the kernel looked at the request: {ctypes.get_errno()}")
done()

#: machine_switched_off ends
# The wrong magic number: where the call exists this says EINVAL or EPERM, and where it does not, ENOSYS.
call("reboot", 0, 0, 0, 0)
if ctypes.get_errno() != 38:
    escaped("reboot is there")
done()

#: clock_and_name_of_the_host ends
if call("settimeofday", ctypes.c_char_p(struct.pack("QQ", 1, 0)), 0) == 0:
    escaped("the clock")
if call("sethostname", ctypes.c_char_p(b"hostile"), 7) == 0:
    escaped("the host's name")
if call("acct", 0) == 0 or call("swapon", ctypes.c_char_p(b"main.py"), 0) == 0:
    escaped("accounts or swap")
done()

#: programs_in_the_kernel ends
attributes = ctypes.c_char_p(struct.pack("IIII", 2, 4, 4, 1) + bytes(112))
if call("bpf", 0, attributes, 128) >= 0:
    escaped("bpf")
if call("perf_event_open", ctypes.c_char_p(struct.pack("II", 1, 128) + bytes(120)), 0, -1, -1, 0) >= 0:
    escaped("perf")
done()

#: keyrings ends
if call("keyctl", 0, -3, 1) >= 0:
    escaped("the session's keyring")
if call("add_key", ctypes.c_char_p(b"user"), ctypes.c_char_p(b"k"), ctypes.c_char_p(b"v"), 1, -5) >= 0:
    escaped("a key")
done()

#: rings ends
parameters = ctypes.create_string_buffer(120)
if call("io_uring_setup", 8, parameters) >= 0:
    escaped("io_uring")
done()

#: page_faults ends
for flags in (0, 1):
    if call("userfaultfd", flags) >= 0:
        escaped("userfaultfd")
done()

#: watchers ends
if call("fanotify_init", 0, 0) >= 0 or call("inotify_init1", 0) >= 0:
    escaped("watching files")
done()

#: calls_of_another_processor ends
# The 32-bit table of x86-64, and its x32 numbers, where socket is 41 as well.
descriptor = C.syscall(ctypes.c_long(0x40000000 + 41), 2, 1, 0)
if descriptor >= 0:
    escaped("an x32 socket")
done()

#: calls_through_the_old_gate dies
# getuid by `int 0x80`, as machine code; elsewhere an illegal instruction is as good an end.
import mmap
page = attempt(mmap.mmap, -1, 4096, prot=mmap.PROT_READ | mmap.PROT_WRITE | mmap.PROT_EXEC)
if page is None or GENERIC:
    os.abort()
page.write(b"\xb8\x18\x00\x00\x00\xcd\x80\xc3")
address = ctypes.addressof(ctypes.c_char.from_buffer(page))
if ctypes.CFUNCTYPE(ctypes.c_int)(address)() >= 0:
    escaped("a 32-bit system call")
