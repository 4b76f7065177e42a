#!/usr/bin/env python3
"""How good the default schedules are: the time of the fastest schedule that a search finds for each kernel of
each model, as a share of the time with the default one, alone and by turns. Prints the table of
docs/schedules.md; takes the `kiln` command.
"""

import argparse
import json
import math
import subprocess
import tempfile
from pathlib import Path

import cases
from egraph import MODELS


def tune(command: Path, model: Path, dims: dict, budget: int, threads: int) -> list[dict]:
    """The kernels that were searched."""
    with tempfile.TemporaryDirectory() as folder:
        report, database = Path(folder) / "report.json", Path(folder) / "database"
        fixed = [word for name, size in dims.items() for word in ("--dim", f"{name}={size}")]
        subprocess.run(
            [command, "tune", model, "--budget", f"{budget}s", "--threads", str(threads),
             "--out", database, "--json", report, *fixed],
            check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
        )
        kernels = json.loads(report.read_text())["kernels"]
        schedules = {}
        for line in database.read_text().splitlines():
            record = json.loads(line)
            measured = record["outcome"].get("measured")
            key = json.dumps(record["kernel"])
            if measured and measured["ratio"] < schedules.get(key, (1.0,))[0]:
                schedules[key] = (measured["ratio"], record["schedule"])
        for kernel in kernels:
            kernel["schedule"] = schedules.get(json.dumps(kernel["kernel"]), (1.0, None))[1]
        return [kernel for kernel in kernels if kernel["measured"]]


def mean(shares: list[float]) -> float:
    """The geometric one."""
    return math.exp(sum(map(math.log, shares)) / len(shares)) if shares else 1.0


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("command", type=Path)
    parser.add_argument("--budget", type=int, default=60, help="seconds for each model")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--models", nargs="*", help="parts of names; all of them without")
    parser.add_argument("--worst", type=int, default=10, help="kernels that are shown with their schedule")
    arguments = parser.parse_args()
    every = []
    print("| model | kernels searched | schedules measured | best, as a share of the default |")
    print("|---|---|---|---|")
    for name, dims in MODELS.items():
        if arguments.models and not any(part in name for part in arguments.models):
            continue
        model = cases.MODELS / f"{name}.onnx"
        if not model.exists():
            print(f"{name}: not there")
            continue
        kernels = tune(arguments.command, model, dims, arguments.budget, arguments.threads)
        measured = sum(kernel["measured"] for kernel in kernels)
        share = mean([kernel["alone"] for kernel in kernels])
        print(f"| {name.split('/', 1)[1]} | {len(kernels)} | {measured} | {share:.3f} |", flush=True)
        every += [(kernel["alone"], name, kernel) for kernel in kernels]
    print(f"\nOver all {len(every)} kernels: {mean([share for share, *_ in every]):.3f}")
    every.sort(key=lambda entry: entry[0])
    for share, name, kernel in every[: arguments.worst]:
        print(f"{share:.2f}  {kernel['ms']:.3f} ms  {name}  {kernel['name']}  {json.dumps(kernel['schedule'])}")


if __name__ == "__main__":
    main()
