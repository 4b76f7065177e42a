"""Calls in a process of their own, since ONNX Runtime ends the process on some graphs.

A child is forked for each call, which takes a few milliseconds.
"""

import os
import pickle
import signal
from collections.abc import Callable
from typing import Any


class Ended(Exception):
    """The child ended without an answer: a crash in native code."""


def apart(function: Callable[..., Any], *arguments: Any, **named: Any) -> Any:
    """What the function returns or raises."""
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(reading)
        try:
            answer = (True, function(*arguments, **named))
        except Exception as error:
            # Not the exception: those of native code cannot be pickled.
            answer = (False, f"{type(error).__name__}: {error}")
        with os.fdopen(writing, "wb") as pipe:
            pickle.dump(answer, pipe)
        os._exit(0)
    os.close(writing)
    with os.fdopen(reading, "rb") as pipe:
        told = pipe.read()
    _, status = os.waitpid(child, 0)
    if not told or os.WIFSIGNALED(status):
        cause = signal.Signals(os.WTERMSIG(status)).name if os.WIFSIGNALED(status) else "no answer"
        raise Ended(cause)
    succeeded, answer = pickle.loads(told)
    if not succeeded:
        raise RuntimeError(answer)
    return answer
