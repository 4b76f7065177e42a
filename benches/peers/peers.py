#!/usr/bin/env python3
"""Measures Kiln beside ONNX Runtime, OpenVINO, IREE and tract: every model with every system in turn, A B C A B C …,
each turn a process of its own. Prints tables, and writes them with `results.json` and a chart into a folder.

Sets everything up but Kiln and the tests' models, which `make peers` does.
"""

import argparse
import json
import os
import platform
import shutil
import subprocess
import sys
from dataclasses import asdict
from pathlib import Path

import install
import report
import systems
from install import HERE, PLACE, PYTHON, ROOT
from systems import SYSTEMS, Cell

# How many runs a turn has at least and at most.
RUNS = (5, 200)


def machine() -> dict[str, object]:
    lines = Path("/proc/cpuinfo").read_text().splitlines()
    about = dict(map(str.strip, line.split(":", 1)) for line in lines if ":" in line)
    return {
        "processor": f"{about['model name']}, family {about['cpu family']}, model {about['model']}",
        "extensions": [name for name in ("avx2", "avx512f", "avx512_vnni", "amx_tile") if name in about["flags"].split()],
        "cores": len(os.sched_getaffinity(0)),
        "memory_bytes": memory(),
        "system": platform.freedesktop_os_release()["PRETTY_NAME"],
    }


def memory() -> int:
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")


def prepare(parts: list[str] | None) -> list[str]:
    """Writes the models that are not there yet; their names."""
    words = ["--models", *parts] if parts else []
    command = [PYTHON, HERE / "models.py", PLACE / "models", *words]
    return subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout.split()


def measure(names: list[str], arguments: argparse.Namespace) -> list[Cell]:
    shutil.rmtree(PLACE / "compiled", ignore_errors=True)
    cells = []
    for name in names:
        seconds = json.loads((PLACE / "models" / name / "about.json").read_text())["seconds"]
        runs = arguments.runs or min(max(int(arguments.seconds / seconds), RUNS[0]), RUNS[1])
        for threads in arguments.threads:
            # What could not be compiled, or is wrong, is so with any number of threads.
            failed = {cell.system: cell.error for cell in cells if cell.model == name and not cell.turns}
            row = [Cell(name, system, threads, error=failed.get(system)) for system in arguments.systems]
            for number in range(arguments.turns):
                for cell in row:
                    if cell.error is None:
                        extra = ["--kiln", str(arguments.kiln), "--schedules", arguments.schedules]
                        # Half of the memory: a compiler that never ends shall not end others with it.
                        systems.turn(cell, extra if cell.system == "kiln" else [], runs, arguments.timeout,
                                     memory() // 2)
                print(f"{name}, {threads} threads, turn {number + 1} of {arguments.turns}: {told(row)}",
                      file=sys.stderr, flush=True)
            cells += row
        # What is compiled of the largest is as large as their weights.
        shutil.rmtree(PLACE / "compiled", ignore_errors=True)
    return cells


def told(row: list[Cell]) -> str:
    """The last turn of each system, in a line."""
    last = lambda cell: cell.error or f"{cell.turns[-1]['latency_ms']['median']:.3f} ms"
    return "; ".join(f"{SYSTEMS[cell.system].title} {last(cell)}" for cell in row)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--models", nargs="*", metavar="PART", help="parts of names; all of them without")
    parser.add_argument("--systems", nargs="*", choices=SYSTEMS, default=list(SYSTEMS), help="all of them without")
    parser.add_argument("--threads", nargs="*", type=int, default=[1, 2])
    parser.add_argument("--turns", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=1.0, help="about how long a turn runs a model")
    parser.add_argument("--runs", type=int, help="runs in a turn, instead of as many as take that long")
    parser.add_argument("--timeout", type=float, default=120.0, help="seconds that a turn may take, compiling included")
    parser.add_argument("--kiln", type=Path, default=ROOT / "target" / "release" / "kiln")
    parser.add_argument("--schedules", default="none", help="Kiln's database of schedules")
    parser.add_argument("--out", type=Path, default=PLACE / "out", help="where the results go")
    arguments = parser.parse_args()
    arguments.kiln = arguments.kiln.resolve()
    install.environment()
    if "tract" in arguments.systems:
        install.tract()
    cells = measure(prepare(arguments.models), arguments)
    settings = {key: getattr(arguments, key) for key in ("turns", "seconds", "runs", "timeout", "schedules")}
    results = {
        "machine": machine(), "versions": install.versions(arguments.kiln), "settings": settings,
        "cells": [asdict(cell) for cell in cells],
    }
    arguments.out.mkdir(parents=True, exist_ok=True)
    (arguments.out / "results.json").write_text(json.dumps(results, indent=1) + "\n")
    print(report.write(results, arguments.out))


if __name__ == "__main__":
    main()
