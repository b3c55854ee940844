#: ten_gibibytes ends
got = attempt(bytearray, 10 << 30)
if got is not None:
    escaped("10 GiB")
done()

#: memory_bit_by_bit dies
kept = []
while len(kept) < 10_000:
    kept.append(bytearray(b"x" * (1 << 20)))
escaped("10 GiB in pieces")

#: memory_by_mappings ends
import mmap
kept = []
for _ in range(10_000):
    piece = attempt(mmap.mmap, -1, 1 << 20)
    if piece is None:
        break
    piece.write(b"x" * (1 << 20))
    kept.append(piece)
if len(kept) >= 9000:
    escaped("10 GiB of mappings")
done()

#: shared_memory ends
for name, arguments in (("shmget", (0, 1 << 30, 0o1777)), ("msgget", (0, 0o1777))):
    if call(name, *arguments) >= 0:
        escaped(name)
if call("mq_open", ctypes.c_char_p(b"/q"), os.O_CREAT | os.O_RDWR, 0o777, 0) >= 0:
    escaped("a message queue")
if write("/dev/shm/qeil-hostile"):
    escaped("/dev/shm")
done()

#: pipes_filled ends
import fcntl
held = 0
try:
    while True:
        reads, writes = os.pipe()
        os.set_blocking(writes, False)
        attempt(fcntl.fcntl, writes, 1031, 1 << 20)
        held += attempt(os.write, writes, b"x" * (1 << 20)) or 0
except OSError:
    pass
if held > 64 << 20:
    escaped(f"{held} bytes in pipes")
done()

#: deep_recursion dies
sys.setrecursionlimit(1 << 30)
def down(n):
    return [down(n + 1)] + sorted([n], key=lambda x: down(x))
down(0)

#: deep_recursion_in_c dies
sys.setrecursionlimit(1 << 30)
threading.stack_size(0)
nested = None
for _ in range(10_000_000):
    nested = [nested]
repr(nested)
os.abort()

#: endless_numbers runs
number = 7 ** 10_000_000
while True:
    number ** 3

#: endless_output runs
line = b"spam " * 2000
while True:
    os.write(1, line)

#: endless_errors runs
line = b"spam " * 2000
while True:
    os.write(2, line)

#: endless_output_by_the_byte runs
while True:
    sys.stdout.write("x")
    sys.stdout.flush()
    sys.stderr.write("y")

#: huge_input_read ends
if len(sys.stdin.buffer.read()) > 1 << 20:
    escaped("more input than was given")
sys.stdin.buffer.read()
done()

#: input_overwritten ends
for how in (os.write, os.ftruncate):
    try:
        how(0, b"x" if how is os.write else 1 << 40)
        escaped("the input can be written")
    except OSError:
        pass
done()

#: huge_file dies
signal.signal(signal.SIGXFSZ, signal.SIG_DFL)
with open("huge", "wb") as file:
    for _ in range(10_000):
        file.write(b"x" * (1 << 20))
escaped("a 10 GiB file")

#: huge_file_sparse ends
with open("sparse", "wb") as file:
    if attempt(file.truncate, 10 << 30) is not None:
        escaped("10 GiB by truncate")
    if attempt(os.posix_fallocate, file.fileno(), 0, 10 << 30) is not None:
        escaped("10 GiB by fallocate")
done()

#: many_large_files ends
written = 0
for number in range(200):
    if not write(f"large{number}", b"x" * (4 << 20)):
        break
    written += 4
if written > 100 and BOUNDED:
    escaped(f"{written} MiB in files")
done()

#: many_small_files ends
made = 0
while made < 20_000 and write(f"f{made}", b""):
    made += 1
if made > 10_000 and BOUNDED:
    escaped(f"{made} files")
done()

#: many_descriptors ends
held = []
try:
    while True:
        held.append(os.open("/dev/null", os.O_RDONLY))
except OSError:
    pass
if len(held) > 1000:
    escaped(f"{len(held)} descriptors")
os.closerange(3, 2000)
done()

#: deep_folders runs
while True:
    if attempt(os.mkdir, "d") is None or attempt(os.chdir, "d") is None:
        time.sleep(0.01)

#: core_dump dies
import resource
attempt(resource.setrlimit, resource.RLIMIT_CORE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
ctypes.string_at(8)
