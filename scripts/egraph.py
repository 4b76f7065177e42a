#!/usr/bin/env python3
"""What the e-graph is worth: launches, bytes moved and latency of each model with it off, with greedy
extraction and with all of it, by turns; and the rank correlation of predicted with measured times over
all kernels. Prints the table of docs/egraph.md; takes the `kiln` command.
"""

import argparse
import json
import platform
import statistics
import subprocess
import tempfile
from pathlib import Path

import cases

EFFORTS = ("off", "greedy", "full")
# Models with the sizes that they are fixed to, so that every price is that of the sizes that run.
PADDLE = "p2o.DynamicDimension."
MODELS = {
    "files/nudenet/320n": {"batch": 1, "height": 320, "width": 320},
    "files/rapidocr/ch_ppocr_mobile_v2.0_cls_infer": {"x_0": 1, "x_2": 48, "x_3": 192},
    "files/rapidocr/ch_PP-OCRv4_det_infer": {f"{PADDLE}0": 1, f"{PADDLE}1": 640, f"{PADDLE}2": 640},
    "files/rapidocr/ch_PP-OCRv4_rec_infer": {f"{PADDLE}0": 6, f"{PADDLE}1": 320, "x_2": 48},
    "files/magika/model": {"unk__214": 1},
    "files/silero-vad/silero_vad_16k_op15": {"batch": 1, "sequence": 576},
    "files/ddddocr/common": {},
    "files/ddddocr/common_det": {},
    "cases/minilm/model": {"batch": 1, "sequence": 128},
    "cases/resnet50-seeded/model": {},
    "cases/densenet121-seeded/model": {},
    "cases/squeezenet-seeded/model": {},
}


def bench(command: Path, model: Path, effort: str, dims: dict, runs: int, threads: int) -> dict:
    with tempfile.TemporaryDirectory() as folder:
        report = Path(folder) / "report.json"
        fixed = [word for name, size in dims.items() for word in ("--dim", f"{name}={size}")]
        subprocess.run(
            [command, "bench", model, "--egraph", effort, "--runs", str(runs), "--threads", str(threads),
             "--schedules", "none", "--json", report, *fixed],
            check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
        )
        return json.loads(report.read_text())


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
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("command", type=Path)
    parser.add_argument("--turns", type=int, default=3)
    parser.add_argument("--runs", type=int, default=10)
    parser.add_argument("--threads", type=int, default=1)
    arguments = parser.parse_args()
    rows, pairs = [], []
    for name, dims in MODELS.items():
        model = cases.MODELS / f"{name}.onnx"
        if not model.exists():
            print(f"{name}: not there")
            continue
        reports = {effort: [] for effort in EFFORTS}
        for _ in range(arguments.turns):
            for effort in EFFORTS:
                reports[effort].append(
                    bench(arguments.command, model, effort, dims, arguments.runs, arguments.threads)
                )
        kernels = [
            (kernel["predicted_ms"] / kernel["launches"], kernel["ms"] / kernel["launches"])
            for kernel in reports["full"][-1]["kernels"]
        ]
        pairs += kernels
        cells = [name.split("/", 1)[1], f"{correlation(kernels):.2f}"]
        for effort in EFFORTS:
            last = reports[effort][-1]
            latency = min(report["latency_ms"]["min"] for report in reports[effort])
            cells += [str(last["launches"]), f"{last['bytes'] / 1e6:.1f}", f"{latency:.3f}"]
        rows.append("| " + " | ".join(cells) + " |")
        print(rows[-1], flush=True)
    title = " | ".join(f"{effort}: launches | MB | ms" for effort in EFFORTS)
    print(f"\n{platform.machine()}, {arguments.threads} threads")
    print(f"| model | rank correlation | {title} |")
    print("|" + "---|" * (2 + 3 * len(EFFORTS)))
    print("\n".join(rows))
    print(f"\nRank correlation over all {len(pairs)} kernels: {correlation(pairs):.3f}")


if __name__ == "__main__":
    main()
