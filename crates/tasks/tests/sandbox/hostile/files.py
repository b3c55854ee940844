#: secret_by_name ends
tell(SECRET)
tell(CANARY)
done()

#: secret_by_link ends
attempt(os.symlink, SECRET, "soft")
attempt(os.link, SECRET, "hard")
attempt(os.symlink, FOLDER, "folder")
for path in ("soft", "hard", "folder/secret"):
    tell(path)
done()

#: secret_by_rename ends
for target in ("moved", os.path.abspath("moved")):
    attempt(os.rename, SECRET, target)
    tell(target)
done()

#: secret_by_relative_path ends
for depth in range(1, 40):
    tell("../" * depth + SECRET.lstrip("/"))
done()

#: secret_by_proc ends
for process in ("self", "thread-self", "1", PARENT, os.getppid(), os.getpid()):
    for way in ("root", "cwd"):
        tell(f"/proc/{process}/{way}{SECRET}")
done()

#: secret_by_handle ends
handle = ctypes.create_string_buffer(struct.pack("Ii", 8, 1) + struct.pack("II", 2, 0) + bytes(120))
descriptor = call("open_by_handle_at", os.open(".", os.O_RDONLY), handle, os.O_RDONLY)
if descriptor >= 0:
    escaped("a file by its handle")
done()

#: secret_by_chroot ends
if call("chroot", ctypes.c_char_p(b".")) == 0:
    escaped("chroot")
for _ in range(64):
    attempt(os.chdir, "..")
call("chroot", ctypes.c_char_p(b"."))
tell(SECRET)
done()

#: secret_in_descriptors ends
for descriptor in range(3, 256):
    for function in (os.fstat, lambda d: os.pread(d, 1, 0), lambda d: os.write(d, b"x")):
        if attempt(function, descriptor) is not None:
            escaped(f"descriptor {descriptor} was inherited")
            break
for path in (f"/proc/self/fd/{n}" for n in range(256)):
    attempt(os.listdir, path)
    tell(f"{path}/../../root{SECRET}")
done()

#: secret_in_the_environment ends
print(dict(os.environ))
for process in ("self", 1, PARENT, os.getppid()):
    for file in ("environ", "cmdline", "maps"):
        try:
            with open(f"/proc/{process}/{file}", "rb") as opened:
                found = opened.read()
                if process != "self" and os.getpid() != process and found:
                    escaped(f"/proc/{process}/{file}")
        except OSError:
            pass
done()

#: home_folders ends
for folder in ("/root", "/home", HOME):
    for name in attempt(os.listdir, folder) or ():
        if name not in (".pyenv", ".local", "lib", "bin") and attempt(os.listdir, f"{folder}/{name}"):
            escaped(f"{folder}/{name}")
for name in (".bashrc", ".profile", ".bash_history", ".ssh/id_rsa", ".ssh/authorized_keys", ".netrc"):
    for home in ("/root", HOME):
        if os.access(f"{home}/{name}", os.R_OK) and attempt(open, f"{home}/{name}"):
            escaped(f"{home}/{name}")
done()

#: password_files ends
for name in ("/etc/shadow", "/etc/gshadow", "/etc/passwd", "/etc/sudoers", "/etc/hostname", "/etc/hosts", "/etc/fstab"):
    if attempt(open, name):
        escaped(name)
done()

#: writes_outside ends
for folder in ("/", "/var/tmp", "/dev/shm", "/dev", "/etc", "/usr", "/usr/bin", "/var", "/home", "/root", "/run", "/mnt",
               "/sys", "/proc", FOLDER, HOME, os.path.dirname(sys.executable), os.path.dirname(os.__file__)):
    if write(f"{folder}/qeil-hostile"):
        escaped(f"{folder} can be written")
if os.path.realpath("..") != "/" and write("../qeil-hostile"):
    escaped("the folder above can be written")
write(f"/tmp/{LEAF}")
done()

#: canary_overwritten ends
for mode in ("wb", "ab", "r+b"):
    write(CANARY, mode=mode)
attempt(os.truncate, CANARY, 0)
attempt(os.unlink, CANARY)
attempt(os.rename, CANARY, CANARY + "2")
attempt(os.rename, "main.py", CANARY)
attempt(os.rmdir, FOLDER)
done()

#: canary_by_links ends
for make, name in ((os.symlink, "soft"), (os.link, "hard")):
    attempt(make, CANARY, name)
    write(name)
attempt(os.symlink, FOLDER, "folder")
write("folder/canary")
attempt(os.replace, "main.py", "folder/canary")
done()

#: canary_mode_and_owner ends
before = attempt(os.stat, CANARY)
for function, arguments in (
    (os.chmod, (0o777,)), (os.chown, (1234, 1234)), (os.utime, ((1, 1),)),
    (os.setxattr, ("user.hostile", b"x")), (os.lchown, (os.getuid(), os.getgid())),
):
    if attempt(function, CANARY, *arguments) is not None and before:
        escaped(function.__name__)
    attempt(function, CANARY, *arguments)
try:
    descriptor = os.open(CANARY, os.O_PATH)
    os.chmod(f"/proc/self/fd/{descriptor}", 0o777)
    escaped("chmod by descriptor")
except OSError:
    pass
done()

#: kernel_settings ends
for name in ("/proc/sys/kernel/core_pattern", "/proc/sys/kernel/hostname", "/proc/sys/vm/drop_caches",
             "/proc/sysrq-trigger", "/proc/self/oom_score_adj", "/proc/1/oom_score_adj", "/proc/self/uid_map",
             "/sys/kernel/uevent_helper", "/sys/fs/cgroup/cgroup.procs", "/sys/power/state"):
    try:
        os.close(os.open(name, os.O_WRONLY))
        escaped(name)
    except OSError:
        pass
done()

#: devices ends
for name in ("/dev/kmsg", "/dev/mem", "/dev/port", "/dev/kvm", "/dev/fuse", "/dev/tty", "/dev/ptmx", "/dev/net/tun",
             "/dev/sda", "/dev/vda", "/dev/loop-control", "/dev/console", "/dev/userfaultfd", "/dev/rtc0"):
    for flags in (os.O_RDONLY, os.O_WRONLY):
        if attempt(os.open, name, flags | os.O_NONBLOCK) is not None:
            escaped(name)
done()

#: devices_of_its_own ends
for name, kind, device in (("disk", 0o060666, 0xFD00), ("memory", 0o020666, 0x0101)):
    if attempt(os.mknod, name, kind, device) is not None:
        escaped(f"the device {name}")
done()

#: python_replaced ends
for name in (sys.executable, os.__file__, "/bin/sh", "/usr/bin/env"):
    if write(name, mode="ab") or attempt(os.chmod, name, 0o777) is not None or attempt(os.unlink, name) is not None:
        escaped(name)
done()
