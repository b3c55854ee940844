#!/usr/bin/env python3
"""Does a weightless model run as fast as the real one?

    bench/twin_speed.py [--qeil PROGRAM] [--real FILE] [--family SmolLM2-135M] [--quant Q4_1] [--rounds 10]
                        [--out bench/runs/DATE-HOST/twin]

Writes the twin with `qeil synth`, copies both files the same way (how a file was written decides how the page cache
holds it), then runs `qeil bench` on both in turn, round by round; who goes first alternates, so that drift favours
nobody. Prints the ratio of medians for each test, and whether it lies within 5 %.
Raw output of every run goes to the output folder next to `summary.json` and `summary.md`; the twin itself is deleted.
Exit code 1 where a ratio is further off. Let nothing else run on the machine meanwhile.
"""

import argparse
import datetime
import json
import pathlib
import platform
import shutil
import socket
import statistics
import subprocess
import sys
import tempfile

ROOT = pathlib.Path(__file__).resolve().parent.parent
TOLERANCE = 0.05


def run(command):
    print("$", " ".join(map(str, command)), file=sys.stderr, flush=True)
    return subprocess.run([str(part) for part in command], check=True, stdout=subprocess.PIPE, text=True).stdout


def bench(arguments, model, out, name):
    text = run([arguments.qeil, "bench", model, "-p", arguments.prompt_tokens, "-n", arguments.output_tokens,
                "-t", arguments.threads, "-r", arguments.repetitions, "--flash-attention", arguments.flash_attention,
                "--json"])
    (out / name).write_text(text)
    return {(row["name"], row["threads"]): row["tokens_per_s"]["median"]
            for report in json.loads(text) for row in report["rows"]}


def measure(arguments, files, out):
    """{(test, threads): {name: [tokens/s, one a round]}}, after one round that is not counted."""
    figures = {}
    for round_ in range(arguments.rounds + 1):
        for name in sorted(files, reverse=round_ % 2 == 1):
            for test, value in bench(arguments, files[name], out, f"{name}-round{round_}.json").items():
                if round_ > 0:
                    figures.setdefault(test, {}).setdefault(name, []).append(value)
    return figures


def summarise(figures):
    rows = []
    for (test, threads), runs in sorted(figures.items()):
        medians = {name: statistics.median(values) for name, values in runs.items()}
        ratio = medians["twin"] / medians["real"]
        rows.append({"test": test, "threads": threads, "unit": "tokens/s", "runs": runs, "median": medians,
                     "twin_by_real": ratio, "within_tolerance": abs(ratio - 1) <= TOLERANCE})
    return rows


def table(rows):
    lines = ["| test | threads | real, tok/s | twin, tok/s | twin by real | |", "|---|---|---|---|---|---|"]
    for row in rows:
        spans = {name: f"{row['median'][name]:.1f} ({min(values):.1f} to {max(values):.1f})"
                 for name, values in row["runs"].items()}
        verdict = "within" if row["within_tolerance"] else "NOT within"
        lines.append(f"| {row['test']} | {row['threads']} | {spans['real']} | {spans['twin']} | "
                     f"{row['twin_by_real']:.3f} | {verdict} {TOLERANCE:.0%} |")
    return "\n".join(lines)


def arguments_of_user():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--qeil", default=ROOT / "target" / "release" / "qeil")
    parser.add_argument("--real", default="SmolLM2-135M-Instruct", help="name on the shelf, or file")
    parser.add_argument("--family", default="SmolLM2-135M")
    parser.add_argument("--quant", default="Q4_1")
    parser.add_argument("--rounds", type=int, default=10)
    parser.add_argument("--repetitions", "-r", type=int, default=3, help="of each test in a round; their median counts")
    parser.add_argument("--prompt-tokens", "-p", type=int, default=512)
    parser.add_argument("--output-tokens", "-n", type=int, default=128)
    parser.add_argument("--threads", "-t", default="1,2")
    parser.add_argument("--flash-attention", default="on", choices=["on", "off"])
    date = datetime.date.today().isoformat()
    parser.add_argument("--out", type=pathlib.Path,
                        default=ROOT / "bench" / "runs" / f"{date}-{socket.gethostname()}" / "twin")
    return parser.parse_args()


def main():
    arguments = arguments_of_user()
    arguments.out.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as folder:
        files = {name: pathlib.Path(folder) / f"{name}.gguf" for name in ("real", "twin")}
        made = pathlib.Path(folder) / "made.gguf"
        run([arguments.qeil, "synth", arguments.family, "--quant", arguments.quant, "--out", made])
        real = json.loads(run([arguments.qeil, "inspect", arguments.real, "--json"]))["path"]
        for source, name in ((real, "real"), (made, "twin")):
            shutil.copyfile(source, files[name])
        rows = summarise(measure(arguments, files, arguments.out))
    about = {"date": datetime.datetime.now(datetime.timezone.utc).isoformat(timespec="seconds"),
             "machine": platform.platform(), "family": arguments.family, "quantisation": arguments.quant,
             "flash_attention": arguments.flash_attention, "rounds": arguments.rounds,
             "repetitions": arguments.repetitions}
    (arguments.out / "summary.json").write_text(json.dumps({**about, "rows": rows}, indent=1) + "\n")
    text = table(rows)
    (arguments.out / "summary.md").write_text(text + "\n")
    print(text)
    return 0 if all(row["within_tolerance"] for row in rows) else 1


if __name__ == "__main__":
    sys.exit(main())
