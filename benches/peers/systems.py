"""The systems that are compared, and one turn of one of them: a process of its own, whatever becomes of it."""

import json
import os
import resource
import shutil
import signal
import subprocess
import tempfile
from dataclasses import dataclass, field
from pathlib import Path

from install import HERE, PLACE, PYTHON, ROOT, TRACT

# Results further than this from those of ONNX Runtime are not the model's.
TOLERANCE = 1e-2


@dataclass
class System:
    """A command that takes what `timed.parser` says and prints a line of JSON."""

    title: str
    command: list[str]
    # Whether it writes something for a number of threads that it reads in later turns.
    compiles: bool = False
    # Whether what it compiles serves any number of threads.
    for_any_threads: bool = False


def script(name: str) -> list[str]:
    return [str(PYTHON), str(HERE / f"run_{name}.py")]


SYSTEMS = {
    "kiln": System("Kiln", script("kiln"), compiles=True),
    "onnxruntime": System("ONNX Runtime", script("onnxruntime")),
    "openvino": System("OpenVINO", script("openvino")),
    "iree": System("IREE", script("iree"), compiles=True, for_any_threads=True),
    "tract": System("tract", [str(TRACT)]),
}


class Failed(Exception):
    """Why a system could not run a model, in a line."""


@dataclass
class Cell:
    """A model run by a system with a number of threads."""

    model: str
    system: str
    threads: int
    turns: list[dict] = field(default_factory=list)
    # From the expected results; and why there are none.
    difference: float | None = None
    error: str | None = None


def plain(text: str) -> str:
    """A line without the places of this machine."""
    for place in (f"{ROOT}/", f"{PLACE}/"):
        text = text.replace(place, "")
    line = next((line.strip() for line in text.splitlines() if line.strip()), "")
    return line if len(line) <= 200 else line[:199] + "…"


def call(command: list[str], seconds: float, memory: int) -> str:
    """What a command prints; it and all that it started are ended after some time."""
    limit = lambda: resource.setrlimit(resource.RLIMIT_AS, (memory, memory))
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
                               start_new_session=True, preexec_fn=limit)
    try:
        out, err = process.communicate(timeout=seconds)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        process.communicate()
        raise Failed(f"not done after {seconds:.0f} s") from None
    if process.returncode < 0:
        raise Failed(f"ended by {signal.Signals(-process.returncode).name}: {plain(err)}")
    if process.returncode:
        lines = [line for line in err.splitlines() if line.strip()]
        # An exception's own line comes after where it was raised.
        told = next((number for number, line in enumerate(lines) if line.startswith("Traceback ")), None)
        own = [line for line in lines[told:] if not line.startswith((" ", "Traceback "))] if told is not None else lines
        raise Failed(plain(own[0].removeprefix("RuntimeError: ")) if own else f"status {process.returncode}")
    return out


def turn(cell: Cell, extra: list[str], runs: int, seconds: float, memory: int) -> None:
    """Adds one turn to the cell; in its first, its results are compared."""
    system, folder = SYSTEMS[cell.system], PLACE / "models" / cell.model
    command = [*system.command, str(folder), "--threads", str(cell.threads), "--runs", str(runs), *extra]
    if system.compiles:
        threads = "any" if system.for_any_threads else str(cell.threads)
        work = PLACE / "compiled" / cell.system / cell.model / threads
        work.mkdir(parents=True, exist_ok=True)
        command += ["--work", str(work)]
    outputs = Path(tempfile.mkdtemp(prefix="outputs-", dir=PLACE))
    try:
        first = not cell.turns
        found = call(command + (["--outputs", str(outputs)] if first else []), seconds, memory)
        if first:
            compared = call([str(PYTHON), str(HERE / "compare.py"), str(folder), str(outputs)], seconds, memory)
            cell.difference = float(compared)
            if cell.difference > TOLERANCE:
                raise Failed(f"its results differ by {cell.difference:.2g} of the largest")
        cell.turns.append(json.loads(found.splitlines()[-1]))
    except Failed as failed:
        cell.error = str(failed)
    finally:
        shutil.rmtree(outputs)
