#!/usr/bin/env python3
"""Runs a model with Kiln: compiled into a file for as many threads as it is run with, then measured by the `bench` of
a Kiln that is built without LLVM, as one is that only runs compiled models.
"""

import json
import subprocess
import tempfile
import time
from pathlib import Path

import timed


def kiln(command: Path, *words: object) -> None:
    """If it fails, ends with the first line of what it says."""
    found = subprocess.run([command, *map(str, words)], capture_output=True, text=True)
    if found.returncode:
        lines = [line.strip(" ×") for line in found.stderr.splitlines() if line.strip()]
        # The first line is the error's code, the next what is wrong.
        raise RuntimeError("; ".join(lines[:2]) or f"kiln {words[0]}: status {found.returncode}")


def build(command: Path, model: timed.Model, work: Path, flags: list[object]) -> tuple[Path, float]:
    """The compiled model, and the milliseconds that the command took."""
    compiled, record = work / "model.kiln", work / "compiled.json"
    if not record.exists():
        start = time.perf_counter()
        kiln(command, "compile", model.file, "-o", compiled, *flags)
        record.write_text(json.dumps(timed.milliseconds(start)))
    return compiled, json.loads(record.read_text())


def main() -> None:
    parser = timed.parser(__doc__)
    parser.add_argument("--kiln", type=Path, required=True, help="the command")
    parser.add_argument("--runner", type=Path, required=True, help="the command that runs what was compiled")
    parser.add_argument("--schedules", default="none", help="the database to compile with")
    arguments = parser.parse_args()
    model, threads = timed.Model(arguments.folder), ("--threads", arguments.threads)
    # What is measured is LLVM's code: a build without it says so, and compiles nothing by another way.
    flags = ["--backend", "llvm", *threads, "--cache", "none", "--schedules", arguments.schedules]
    compiled, compiling = build(arguments.kiln, model, arguments.work, flags)
    given = [word for name, path in zip(model.inputs, model.input_files()) for word in ("--input", f"{name}={path}")]
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "report.json"
        kiln(arguments.runner, "bench", compiled, *given, *threads, "--runs", arguments.runs, "--json", file)
        found = json.loads(file.read_text())
    if arguments.outputs:
        kiln(arguments.runner, "run", compiled, *given, *threads, "--outputs", arguments.outputs)
    latency = {key: found["latency_ms"][key] for key in ("min", "median")}
    timed.report(compile_ms=compiling, load_ms=found["load_ms"], latency_ms=latency,
                 peak_rss_bytes=found["peak_rss_bytes"], empty_rss_bytes=found["empty_rss_bytes"])


if __name__ == "__main__":
    main()
