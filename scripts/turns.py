#!/usr/bin/env python3
"""Latency of the listed models with two builds of Kiln, by turns in one run, one thread. Takes both `kiln` commands,
the older first; prints a table of the least latencies and their ratio.
"""

import argparse
import statistics
from pathlib import Path

import listed


def latency(command: Path, model: Path, dims: dict) -> float:
    flags = ("--threads", 1, "--runs", 5, "--schedules", "none")
    return listed.report(command, "bench", model, dims, *flags)["latency_ms"]["min"]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("older", type=Path)
    parser.add_argument("newer", type=Path)
    parser.add_argument("--models", nargs="*", help="parts of names; all of them without")
    parser.add_argument("--turns", type=int, default=3)
    arguments = parser.parse_args()
    print("| model | older, ms | newer, ms | times as fast |\n|---|---|---|---|")
    ratios = []
    for name, dims, model in listed.models(arguments.models):
        turns = [
            [latency(command, model, dims) for command in (arguments.older, arguments.newer)]
            for _ in range(arguments.turns)
        ]
        older, newer = map(min, zip(*turns))
        ratios.append(older / newer)
        print(f"| {name} | {older:.3f} | {newer:.3f} | {older / newer:.2f} |", flush=True)
    if ratios:
        print(f"\nOver all {len(ratios)}: {statistics.geometric_mean(ratios):.3f} times as fast.")


if __name__ == "__main__":
    main()
