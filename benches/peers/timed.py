"""What every runner in Python does alike: its arguments, the loop that is timed, and the line it prints.

Nothing is imported here that a system does not need itself: it would count as the system's memory.
"""

import argparse
import json
import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

# As `kiln bench` has it: warm-up ends after as many runs or as much time, whatever comes later.
WARM_RUNS, WARM_SECONDS = 3, 0.3
# Where a run takes seconds, warm-up and what is timed end after so much time each, with a few runs.
SLOW_SECONDS, FEW = 4.0, 3


@dataclass
class Model:
    """A folder that models.py wrote."""

    folder: Path

    def __post_init__(self):
        about = json.loads((self.folder / "about.json").read_text())
        self.inputs, self.outputs, self.file = about["inputs"], about["outputs"], self.folder / "model.onnx"

    def input_files(self) -> list[Path]:
        return [self.folder / f"input_{number}.npy" for number in range(len(self.inputs))]

    def arrays(self) -> list[np.ndarray]:
        return [np.load(path) for path in self.input_files()]


def parser(description: str) -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=description.split("\n")[0])
    parser.add_argument("folder", type=Path, help="one that models.py wrote")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--runs", type=int, default=10)
    parser.add_argument("--outputs", type=Path, help="a folder to write output_0.npy … into")
    parser.add_argument("--work", type=Path, help="a folder for what is compiled, which is compiled if it is not there")
    return parser


def milliseconds(since: float) -> float:
    return (time.perf_counter() - since) * 1e3


def latency(run: Callable[[], object], runs: int) -> dict[str, float]:
    begin, warm = time.perf_counter(), 0
    while warm < WARM_RUNS or time.perf_counter() - begin < WARM_SECONDS:
        run()
        warm += 1
        if time.perf_counter() - begin > SLOW_SECONDS:
            break
    times = []
    while len(times) < min(runs, FEW) or len(times) < runs and sum(times) < 1e3 * SLOW_SECONDS:
        start = time.perf_counter()
        run()
        times.append(milliseconds(start))
    return {"min": min(times), "median": statistics.median(times)}


def peak_bytes() -> int:
    """The greatest resident memory of this process so far."""
    line = next(line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("VmHWM:"))
    return int(line.split()[1]) * 1024


def write(folder: Path | None, outputs: list[np.ndarray]) -> None:
    for number, output in enumerate(outputs if folder else []):
        np.save(folder / f"output_{number}.npy", output)


def report(**figures: object) -> None:
    print(json.dumps(figures))
