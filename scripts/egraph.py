#!/usr/bin/env python3
"""What the e-graph is worth: launches, bytes moved and latency of each model with it off, with greedy
extraction and with all of it, by turns; and the rank correlation of predicted with measured times over
all kernels. Prints the table of docs/egraph.md; takes the `kiln` command.
"""

import platform
import statistics

import listed

EFFORTS = ("off", "greedy", "full")


def ranks(values: list[float]) -> list[float]:
    """Places in order, equal values sharing the mean of theirs."""
    order = sorted(values)
    first, last = {}, {}
    for place, value in enumerate(order):
        first.setdefault(value, place)
        last[value] = place
    return [(first[value] + last[value]) / 2 for value in values]


def correlation(pairs: list[tuple[float, float]]) -> float:
    """Spearman's."""
    return statistics.correlation(*(ranks(list(side)) for side in zip(*pairs)))


def main() -> None:
    parser = listed.parser(__doc__)
    parser.add_argument("--turns", type=int, default=3)
    parser.add_argument("--runs", type=int, default=10)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--schedules", default="none", help="database with what was measured here")
    arguments = parser.parse_args()
    title = " | ".join(f"{effort}: launches | MB | ms" for effort in EFFORTS)
    print(f"{platform.machine()}, {arguments.threads} threads")
    print(f"| model | rank correlation | {title} |")
    print("|" + "---|" * (2 + 3 * len(EFFORTS)))
    pairs = []
    for name, dims, model in listed.models(arguments.models):
        reports = {effort: [] for effort in EFFORTS}
        for _ in range(arguments.turns):
            for effort in EFFORTS:
                flags = ("--egraph", effort, "--runs", arguments.runs, "--threads", arguments.threads,
                         "--schedules", arguments.schedules)
                reports[effort].append(listed.report(arguments.command, "bench", model, dims, *flags))
        kernels = [
            (kernel["predicted_ms"] / kernel["launches"], kernel["ms"] / kernel["launches"])
            for kernel in reports["full"][-1]["kernels"]
        ]
        pairs += kernels
        cells = [name, f"{correlation(kernels):.2f}"]
        for effort in EFFORTS:
            last = reports[effort][-1]
            latency = min(report["latency_ms"]["min"] for report in reports[effort])
            cells += [str(last["launches"]), f"{last['bytes'] / 1e6:.1f}", f"{latency:.3f}"]
        print("| " + " | ".join(cells) + " |", flush=True)
    print(f"\nRank correlation over all {len(pairs)} kernels: {correlation(pairs):.3f}")


if __name__ == "__main__":
    main()
