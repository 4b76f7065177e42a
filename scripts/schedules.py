#!/usr/bin/env python3
"""How good the default schedules are: the time of the fastest schedule that a search finds for each kernel of
each model, as a share of the time with the default one, alone and by turns. Prints the table of
docs/schedules.md; takes the `kiln` command.
"""

import json
import math
import tempfile
from pathlib import Path

import listed


def tune(command: Path, model: Path, dims: dict, budget: int, threads: int) -> list[dict]:
    """The kernels that were searched, with the fastest schedule of each."""
    with tempfile.TemporaryDirectory() as folder:
        database = Path(folder) / "database"
        flags = ("--budget", f"{budget}s", "--threads", threads, "--out", database)
        kernels = listed.report(command, "tune", model, dims, *flags)["kernels"]
        best = {}
        for line in database.read_text().splitlines():
            record = json.loads(line)
            measured = record["outcome"].get("measured")
            key = json.dumps(record["kernel"])
            if measured and measured["ratio"] < best.get(key, (1.0,))[0]:
                best[key] = (measured["ratio"], record["schedule"])
    for kernel in kernels:
        kernel["schedule"] = best.get(json.dumps(kernel["kernel"]), (1.0, None))[1]
    return [kernel for kernel in kernels if kernel["measured"]]


def mean(shares: list[float]) -> float:
    """The geometric one."""
    return math.exp(sum(map(math.log, shares)) / len(shares)) if shares else 1.0


def main() -> None:
    parser = listed.parser(__doc__)
    parser.add_argument("--budget", type=int, default=60, help="seconds for each model")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--worst", type=int, default=10, help="kernels that are shown with their schedule")
    arguments = parser.parse_args()
    every = []
    print("| model | kernels searched | schedules measured | best alone | in the model |")
    print("|---|---|---|---|---|")
    for name, dims, model in listed.models(arguments.models):
        kernels = tune(arguments.command, model, dims, arguments.budget, arguments.threads)
        measured = sum(kernel["measured"] for kernel in kernels)
        share = mean([kernel["alone"] or 1.0 for kernel in kernels])
        # Tried between the others, where what was fastest by chance is no faster; 1 where nothing was.
        between = mean([kernel["in_model"] or 1.0 for kernel in kernels])
        print(f"| {name} | {len(kernels)} | {measured} | {share:.3f} | {between:.3f} |", flush=True)
        every += [(kernel["alone"] or 1.0, name, kernel) for kernel in kernels]
    alone = mean([share for share, *_ in every])
    between = mean([kernel["in_model"] or 1.0 for *_, kernel in every])
    print(f"\nOver all {len(every)} kernels: {alone:.3f} alone, {between:.3f} in the model")
    every.sort(key=lambda entry: entry[0])
    for share, name, kernel in every[: arguments.worst]:
        print(f"{share:.2f}  {kernel['ms']:.3f} ms  {name}  {kernel['name']}  {json.dumps(kernel['schedule'])}")


if __name__ == "__main__":
    main()
