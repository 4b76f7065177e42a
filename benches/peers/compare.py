#!/usr/bin/env python3
"""How far a system's outputs are from the expected ones: the largest difference, as a share of the largest
expected value of the same output. Prints one number; infinity where shapes differ or a result is no number.
"""

import sys
from pathlib import Path

import numpy as np


def difference(expected: np.ndarray, found: np.ndarray) -> float:
    if expected.shape != found.shape:
        return float("inf")
    expected, found = expected.astype(np.float64), found.astype(np.float64)
    # NaN is compared with nothing: a result that has one is not counted.
    largest = np.abs(expected - found).max(initial=0)
    return float(largest / max(np.abs(expected).max(initial=0), 1e-30)) if np.isfinite(largest) else float("inf")


def main() -> None:
    model, outputs = map(Path, sys.argv[1:])
    expected = sorted(model.glob("expected_*.npy"))
    print(max(difference(np.load(path), np.load(outputs / path.name.replace("expected", "output"))) for path in expected))


if __name__ == "__main__":
    main()
