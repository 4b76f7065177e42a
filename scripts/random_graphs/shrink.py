"""Makes a failing graph smaller while it fails in the same way."""

import json
import subprocess
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

from . import case
from .apart import apart
from .graph import Drawn, pruned, without

CHECK_SECONDS = 60


def reason(kiln: Path, backend: str, folder: Path) -> str | None:
    """Why Kiln fails a case, without names and numbers; nothing if it passes."""
    command = [kiln, "check", "--backend", backend, "--threads", "1", "--json", "-", folder]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=CHECK_SECONDS)
    except subprocess.TimeoutExpired:
        return "it does not end"
    if done.returncode not in (0, 1) or not done.stdout:
        return f"it ends with status {done.returncode}"
    reasons = json.loads(done.stdout)["reasons"]
    return reasons[0]["reason"] if reasons else None


def smaller(drawn: Drawn) -> Iterator[Drawn]:
    if len(drawn.outputs) > 1:
        for name in drawn.outputs:
            yield pruned(replace(drawn, outputs=[name]))
    for step in drawn.steps:
        yield without(drawn, step)
    if drawn.symbols:
        yield replace(drawn, symbols={})
        for symbol in drawn.symbols:
            yield replace(drawn, symbols={key: name for key, name in drawn.symbols.items() if key != symbol})
    # Values in between become outputs, so that what comes after them can go.
    for step in drawn.steps[:-1]:
        yield pruned(replace(drawn, outputs=[value.name for value in step.values]))


def size(drawn: Drawn) -> tuple[int, int, int]:
    return len(drawn.steps), len(drawn.outputs), len(drawn.symbols)


def shrink(drawn: Drawn, kiln: Path, backend: str, folder: Path) -> tuple[Drawn, str | None]:
    """The smallest graph found, which is left in the folder, and why it fails."""
    case.write(drawn, folder)
    wanted = reason(kiln, backend, folder)
    trial = folder.with_name(folder.name + ".trial")
    shrunk = wanted is not None
    while shrunk:
        shrunk = False
        for candidate in smaller(drawn):
            if not candidate.outputs or not candidate.steps or size(candidate) >= size(drawn):
                continue
            try:
                apart(case.write, candidate, trial)
            except Exception:  # ONNX Runtime has many kinds, without a common base.
                continue
            if reason(kiln, backend, trial) == wanted:
                drawn, shrunk = candidate, True
                break
    case.shutil.rmtree(trial, ignore_errors=True)
    case.write(drawn, folder)
    return drawn, wanted
