#: fork_bomb runs
while True:
    attempt(os.fork)

#: fork_bomb_that_waits runs
def bomb():
    while True:
        if attempt(os.fork) is None:
            time.sleep(0.01)
bomb()

#: fork_bomb_by_vfork_and_exec runs
while True:
    attempt(os.posix_spawn, sys.executable, [sys.executable, "-I", *sys.argv], {})

#: fork_bomb_by_system_call runs
while True:
    call("clone", signal.SIGCHLD, 0, 0, 0, 0)

#: fork_bomb_by_clone3 runs
arguments = struct.pack("11Q", *[0] * 4, signal.SIGCHLD, *[0] * 6)
while True:
    call("clone3", ctypes.c_char_p(arguments), len(arguments))

#: shell_bomb ends
attempt(os.system, "b() { b | b & }; b")
done()

#: thread_bomb ends
count = 0
try:
    while count < 5000:
        threading.Thread(target=time.sleep, args=(60,), daemon=True).start()
        count += 1
except (RuntimeError, MemoryError):
    pass
if count > 1000:
    escaped(f"{count} threads")
done()
os._exit(0)

#: zombie_maker runs
made = 0
while True:
    pid = attempt(os.fork)
    if pid == 0:
        os._exit(0)
    made += pid is not None
    if made > 500:
        escaped("500 zombies")
        break
    if pid is None:
        time.sleep(0.001)

#: daemon_that_outlives ends
if attempt(os.fork) == 0:
    attempt(os.setsid)
    if attempt(os.fork) == 0:
        os.close(0), os.close(1), os.close(2)
        time.sleep(0.4)
        write(CANARY)
        time.sleep(600)
    os._exit(0)
done()

#: session_leader runs
attempt(os.setsid)
attempt(os.setpgid, 0, 0)
time.sleep(600)

#: sleeper_deaf_to_signals runs
for number in range(1, 65):
    try:
        signal.signal(number, signal.SIG_IGN)
    except (OSError, ValueError):
        pass
signal.pthread_sigmask(signal.SIG_BLOCK, range(1, 65))
while True:
    time.sleep(600)

#: sleeper_that_closes_everything runs
os.closerange(0, 1024)
time.sleep(600)

#: handler_that_refuses_to_end runs
def again(*_):
    while True:
        pass
for number in (signal.SIGTERM, signal.SIGALRM, signal.SIGINT, signal.SIGXCPU, signal.SIGHUP):
    signal.signal(number, again)
signal.setitimer(signal.ITIMER_REAL, 0.05)
time.sleep(600)

#: cpu_spin dies
while True:
    pass

#: cpu_spin_in_threads dies
def spin():
    while True:
        hash("x" * 100000)
for _ in range(8):
    attempt(threading.Thread(target=spin, daemon=True).start)
spin()

#: cpu_spin_deaf_to_the_limit dies
signal.signal(signal.SIGXCPU, signal.SIG_IGN)
import resource
attempt(resource.setrlimit, resource.RLIMIT_CPU, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
while True:
    pass

#: signals_to_the_parent ends
for target in {PARENT, os.getppid()} - {0}:
    for number in (signal.SIGTERM, signal.SIGKILL, signal.SIGSTOP):
        if call("kill", target, number) == 0:
            escaped(f"signal {number} to {target}")
done()

#: signals_to_all ends
signal.signal(signal.SIGTERM, signal.SIG_IGN)
call("kill", -1, signal.SIGTERM)
done()

#: signals_to_process_one ends
signal.signal(signal.SIGTERM, signal.SIG_IGN)
if os.getpid() != 1 and call("kill", 1, 0) == 0:
    escaped("process 1 hears us")
done()

#: signals_by_other_calls ends
info = ctypes.create_string_buffer(struct.pack("iii", signal.SIGTERM, 0, -1), 128)
for found in (
    call("tgkill", PARENT, PARENT, signal.SIGTERM),
    call("rt_sigqueueinfo", PARENT, signal.SIGTERM, info),
):
    if found == 0:
        escaped("a signal to the parent")
descriptor = call("pidfd_open", PARENT, 0)
if descriptor >= 0 or call("pidfd_send_signal", max(descriptor, 3), signal.SIGTERM, 0, 0) == 0:
    escaped("a handle of the parent")
done()

#: signals_by_a_pipe ends
import fcntl
reads, writes = os.pipe()
for command, value in ((8, PARENT), (10, signal.SIGTERM)):
    if attempt(fcntl.fcntl, reads, command, value) is not None:
        escaped(f"fcntl {command}")
attempt(fcntl.fcntl, reads, fcntl.F_SETFL, os.O_ASYNC | os.O_NONBLOCK)
os.write(writes, b"x")
done()

#: limits_of_the_parent ends
zero = ctypes.create_string_buffer(struct.pack("2Q", 0, 0))
if call("prlimit64", PARENT, 0, zero, 0) == 0:
    escaped("the parent's CPU time is limited")
mask = ctypes.create_string_buffer(struct.pack("Q", 1))
if call("sched_setaffinity", PARENT, 8, mask) == 0 or call("setpriority", 0, PARENT, 19) == 0:
    escaped("the parent's scheduling is changed")
done()

#: own_limits_raised ends
import resource
for which in range(16):
    soft, hard = resource.getrlimit(which)
    if hard != resource.RLIM_INFINITY:
        try:
            resource.setrlimit(which, (hard + 1, hard + 1))
            escaped(f"limit {which} raised")
        except (OSError, ValueError):
            pass
done()

#: shell_by_exec dies
os.execv("/bin/sh", ["sh", "-c", f"cat {SECRET}; echo gone > {CANARY}; (sleep 600; :) & exit 3"])

#: setuid_program dies
for program in ("/usr/bin/su", "/bin/su", "/usr/bin/passwd", "/usr/bin/mount", "/bin/mount", "/bin/false"):
    if os.path.exists(program):
        os.execv(program, [program, "-c", "id"])
sys.exit(1)

#: own_death_signal_cleared runs
if call("prctl", 1, 0) == 0:
    escaped("the death signal is cleared")
time.sleep(600)

#: program_in_memory ends
descriptor = call("memfd_create", ctypes.c_char_p(b"x"), 0)
if descriptor >= 0:
    escaped("a file in memory")
if write("own", b"#!/bin/sh\necho ESCAPED: ran\n"):
    attempt(os.chmod, "own", 0o755)
    try:
        os.execv(os.path.abspath("own"), ["own"])
    except OSError:
        pass
done()
