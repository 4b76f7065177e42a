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
    cells = measured_before(arguments) if arguments.resume else []
    for name in names:
        if any(cell.model == name for cell in cells):
            continue
        seconds = json.loads((PLACE / "models" / name / "about.json").read_text())["seconds"]
        runs = arguments.runs or min(max(int(arguments.seconds / seconds), RUNS[0]), RUNS[1])
        for threads in arguments.threads:
            # What could not be compiled, or is wrong, is so with any number of threads.
            failed = {cell.system: cell.error for cell in cells if cell.model == name and not cell.turns}
            row = [Cell(name, system, threads, error=failed.get(system)) for system in arguments.systems]
            for number in range(arguments.turns):
                for cell in row:
                    if cell.error is None:
                        extra = ["--kiln", str(arguments.kiln), "--runner", str(install.KILN_RUNNER),
                                 "--schedules", arguments.schedules]
                        # Half of the memory: a compiler that never ends shall not end others with it.
                        systems.turn(cell, extra if cell.system == "kiln" else [], runs, arguments.timeout,
                                     memory() // 2)
                print(f"{name}, {threads} threads, turn {number + 1} of {arguments.turns}: {told(row)}",
                      file=sys.stderr, flush=True)
            cells += row
        # What is compiled of the largest is as large as their weights.
        shutil.rmtree(PLACE / "compiled", ignore_errors=True)
        write(cells, arguments)
    return cells


def about(arguments: argparse.Namespace) -> dict[str, object]:
    """What figures depend on: those of two runs stand in one table only if it is equal."""
    settings = {key: getattr(arguments, key) for key in ("turns", "seconds", "runs", "timeout", "schedules")}
    settings |= {"systems": arguments.systems, "threads": arguments.threads}
    return {"machine": machine(), "versions": install.versions(arguments.kiln), "settings": settings}


def write(cells: list[Cell], arguments: argparse.Namespace) -> dict[str, object]:
    """Keeps the results so far; they are there at once or not at all."""
    results = about(arguments) | {"cells": [asdict(cell) for cell in cells]}
    arguments.out.mkdir(parents=True, exist_ok=True)
    aside = arguments.out / "results.json.part"
    aside.write_text(json.dumps(results, indent=1) + "\n")
    aside.replace(arguments.out / "results.json")
    return results


def measured_before(arguments: argparse.Namespace) -> list[Cell]:
    """The cells of an earlier run that ended early."""
    kept = arguments.out / "results.json"
    if not kept.exists():
        return []
    before = json.loads(kept.read_text())
    different = [key for key, value in about(arguments).items() if before.get(key) != json.loads(json.dumps(value))]
    if different:
        sys.exit(f"{kept} is of another {' and of other '.join(different)}: measure without --resume")
    return [Cell(**cell) for cell in before["cells"]]


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
    parser.add_argument("--resume", action="store_true", help="go on after the models that an interrupted run measured")
    parser.add_argument("--out", type=Path, default=PLACE / "out", help="where the results go")
    arguments = parser.parse_args()
    arguments.kiln = arguments.kiln.resolve()
    if "kiln" in arguments.systems and not arguments.kiln.is_file():
        parser.error(f"there is no {arguments.kiln}: cargo build --release --bin kiln")
    install.environment()
    if "tract" in arguments.systems:
        install.tract()
    if "kiln" in arguments.systems:
        install.kiln_runner()
    cells = measure(prepare(arguments.models), arguments)
    results = write(cells, arguments)
    print(report.write(results, arguments.out))


if __name__ == "__main__":
    main()
