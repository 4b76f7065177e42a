#!/usr/bin/env python3
"""Random ONNX graphs and what ONNX Runtime computes of them, as cases in
target/conformance/differential.

A graph follows from its seed alone. With --check, Kiln runs the cases on every backend; those that it
fails are made as small as they can be and left in DIR/minimised.
"""

import argparse
import json
import shutil
import subprocess
import sys
from collections import Counter
from pathlib import Path

import onnx
import onnxruntime

import cases
from random_graphs import case, graph, shrink
from random_graphs.apart import Ended, apart

FOLDER = cases.ROOT / "target" / "conformance" / "differential"
COUNT = 300
BACKENDS = ("reference", "cranelift", "llvm")


def name_of(seed: int) -> str:
    return f"seed_{seed:06}"


def draw_one(seed: int, folder: Path, only: set[str] | None) -> tuple[Counter, Counter]:
    """Writes a seed's case, if ONNX Runtime has nothing against it; operators and what was refused."""
    refusals = Counter()
    drawn = graph.graph(seed, only=only, refusals=refusals)
    if not drawn.steps:
        return Counter(), refusals
    try:
        case.write(drawn, folder / name_of(seed))
    except Exception as error:  # ONNX Runtime has many kinds, without a common base.
        refusals["the whole graph", str(error).split(":")[-1].strip()[:80]] += 1
        return Counter(), refusals
    return Counter(proto.op_type for step in drawn.steps for proto in step.protos), refusals


def draw(first: int, count: int, folder: Path, only: set[str] | None, verbose: bool) -> None:
    """Writes so many cases, of the first seeds that give one."""
    shutil.rmtree(folder, ignore_errors=True)
    used, refusals = Counter(), Counter()
    written, seed = 0, first
    while written < count:
        try:
            operators, refused = apart(draw_one, seed, folder, only)
        except Ended as end:
            operators, refused = Counter(), Counter({("the whole graph", f"seed {seed} ended by {end}"): 1})
        seed += 1
        used.update(operators)
        refusals.update(refused)
        written += bool(operators)
    if verbose:
        for what, counts in (("drawn", used), ("refused by ONNX Runtime", refusals)):
            print(f"{what}:", file=sys.stderr)
            for key, count in counts.most_common():
                print(f"  {count:5} {key if isinstance(key, str) else ': '.join(key)}", file=sys.stderr)


def check(kiln: Path, folder: Path, backends: list[str], only: set[str] | None) -> int:
    """Runs the cases; says how many failed, and shrinks one of each reason."""
    failed = 0
    for backend in backends:
        command = [kiln, "check", "--backend", backend, "--threads", "1", "--json", "-", folder]
        done = subprocess.run(command, capture_output=True, text=True)
        if not done.stdout:
            # A crash, which takes the others with it: one by one, then.
            crashed = [place for place in sorted(folder.glob("seed_*")) if shrink.reason(kiln, backend, place)]
            reasons = [{"reason": shrink.reason(kiln, backend, place), "count": 1, "example": place.name} for place in crashed]
        else:
            reasons = json.loads(done.stdout)["reasons"]
        failed += sum(entry["count"] for entry in reasons)
        for entry in reasons:
            seed = int(entry["example"].removeprefix("seed_"))
            place = folder / "minimised" / backend / entry["example"]
            drawn, _ = shrink.shrink(apart(graph.graph, seed, only=only), kiln, backend, place)
            operators = ", ".join(proto.op_type for step in drawn.steps for proto in step.protos)
            print(f"{backend} {place.relative_to(folder)} ({entry['count']} like it; opset {drawn.opset}: {operators})\n"
                  f"    {entry['reason']}", flush=True)
    return failed


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--seed", type=int, default=0, metavar="N", help="the first seed")
    parser.add_argument("--count", type=int, default=COUNT, metavar="N", help="how many graphs")
    parser.add_argument("--output", type=Path, default=FOLDER, metavar="DIR")
    parser.add_argument("--operators", nargs="+", metavar="NAME", help="draw only these")
    parser.add_argument("--check", type=Path, metavar="KILN", help="the kiln command that runs the cases")
    parser.add_argument("--backends", nargs="+", choices=BACKENDS, default=BACKENDS)
    parser.add_argument("--verbose", action="store_true", help="count operators and refusals")
    arguments = parser.parse_args()
    only = set(arguments.operators) if arguments.operators else None
    sources = sorted((Path(__file__).parent / "random_graphs").glob("*.py")) + [Path(__file__), Path(cases.__file__)]
    stamp = cases.stamp_of(onnx.__version__, onnxruntime.__version__, repr((arguments.seed, arguments.count, only)), *sources)
    if not cases.is_current(arguments.output, stamp):
        draw(arguments.seed, arguments.count, arguments.output, only, arguments.verbose)
        (arguments.output / "stamp").write_text(stamp)
        print(f"  {arguments.output}: {arguments.count} graphs", file=sys.stderr)
    if arguments.check:
        failed = check(arguments.check, arguments.output, arguments.backends, only)
        print(f"{arguments.count} graphs, {len(arguments.backends)} backends: {failed} failures")
        sys.exit(1 if failed else 0)


if __name__ == "__main__":
    main()
