#!/usr/bin/env python3
"""What ONNX Runtime says of the models of the tests: cases in target/models/cases.

It runs without graph optimisations and on one thread, so each operator is computed as it stands in
the model. State that a model hands on is carried from one data set to the next.
"""

import argparse
import sys
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import onnxruntime

import cases
import inputs
import light
import minilm
import roundings
import seeded

SCRIPTS = Path(__file__).resolve().parent
FILES = cases.MODELS / "files"
WEIGHTS = FILES / "minilm" / "model.safetensors"

Session = onnxruntime.InferenceSession
# From a generator of random numbers and the model's session, the inputs of one run after the other.
MakeFeeds = Callable[[np.random.Generator, Session], Iterator[inputs.Feeds]]


@dataclass
class Case:
    """One model and the runs that are made of it."""

    model: Callable[[], Path | bytes]
    feeds: MakeFeeds
    # Outputs that are fed back, by input; zero at first.
    carried: dict[str, str] = field(default_factory=dict)
    # Files that the model refers to.
    beside: list[Path] = field(default_factory=list)
    # What the model is made from, besides the scripts.
    sources: list[Path] = field(default_factory=list)


def one(*arrays_of: Callable[[np.random.Generator], np.ndarray]) -> MakeFeeds:
    """Runs of a model with a single input."""
    return lambda generator, session: (
        {session.get_inputs()[0].name: array(generator)} for array in arrays_of
    )


def fetched(path: str, feeds: MakeFeeds, **options) -> Case:
    return Case(lambda: FILES / path, feeds, sources=[FILES / path], **options)


def made(feeds: MakeFeeds, **options) -> Case:
    return Case(lambda: minilm.build(WEIGHTS, **options).SerializeToString(deterministic=True), feeds,
                sources=[WEIGHTS], beside=[WEIGHTS] if options.get("external") else [])


def scaled(array: np.ndarray) -> np.ndarray:
    """From 0 to 1 to -1 to 1, as the text models take it."""
    return ((array - 0.5) / 0.5).astype(np.float32)


def standardised(array: np.ndarray) -> np.ndarray:
    """By the mean and deviation of ImageNet, as the text detector takes it."""
    mean = np.array([0.485, 0.456, 0.406]).reshape(1, 3, 1, 1)
    deviation = np.array([0.229, 0.224, 0.225]).reshape(1, 3, 1, 1)
    return ((array - mean) / deviation).astype(np.float32)


def listen(*rates: int) -> MakeFeeds:
    def feeds(generator, session):
        names = {value.name for value in session.get_inputs()}
        for rate in rates:
            for number, frame in enumerate(inputs.frames(generator, 4, rate)):
                run = {"input": frame}
                if "sr" in names:
                    run["sr"] = np.array(rate, np.int64)
                if number == 0:
                    # Another rate is another stream: its state starts anew.
                    run["state"] = np.zeros((2, 1, 128), np.float32)
                yield run

    return feeds


def listen_to_sequence(generator, session):
    for length in (6, 3):
        yield {"input": np.concatenate(inputs.frames(generator, length, 16000))}


def embed(generator, session):
    yield inputs.sentences(generator, [16], 16)
    yield inputs.sentences(generator, [16, 9, 3], 16)
    yield inputs.sentences(generator, [128, 77, 20], 128)


STATE = {"state": "stateN"}
CASES = {
    "minilm": made(embed),
    "minilm-decomposed": made(embed, decomposed=True, external=True, hidden=True),
    "ppocr-det": fetched(
        "rapidocr/ch_PP-OCRv4_det_infer.onnx",
        one(lambda g: standardised(inputs.page(g, 640, 640)), lambda g: standardised(inputs.page(g, 320, 448))),
    ),
    "ppocr-rec": fetched(
        "rapidocr/ch_PP-OCRv4_rec_infer.onnx",
        one(lambda g: scaled(inputs.text_line(g, 2, 3, 48, 320)), lambda g: scaled(inputs.text_line(g, 1, 3, 48, 192))),
    ),
    "ppocr-cls": fetched(
        "rapidocr/ch_ppocr_mobile_v2.0_cls_infer.onnx",
        one(lambda g: scaled(inputs.text_line(g, 2, 3, 48, 192))),
    ),
    "silero-vad": fetched("silero-vad/silero_vad.onnx", listen(16000, 8000), carried=STATE),
    "silero-vad-op15": fetched("silero-vad/silero_vad_16k_op15.onnx", listen(16000), carried=STATE),
    "silero-vad-half": fetched("silero-vad/silero_vad_half.onnx", listen(16000), carried=STATE),
    "silero-vad-ifless": fetched("silero-vad/silero_vad_op18_ifless.onnx", listen(16000, 8000), carried=STATE),
    "silero-vad-openvino": fetched("silero-vad/silero_vad_openvino_16k.onnx", listen(16000), carried=STATE),
    "silero-vad-sequence": fetched(
        "silero-vad/silero_vad_16k_sequence.onnx", listen_to_sequence, carried={"h": "hn", "c": "cn"}
    ),
    "magika": fetched(
        "magika/model.onnx", one(lambda g: inputs.file_bytes(g, 1), lambda g: inputs.file_bytes(g, 5))
    ),
    "nudenet": fetched(
        "nudenet/320n.onnx",
        one(lambda g: inputs.picture(g, 1, 3, 320, 320), lambda g: inputs.picture(g, 2, 3, 256, 320)),
    ),
    "ddddocr": fetched(
        "ddddocr/common.onnx",
        one(lambda g: inputs.text_line(g, 1, 1, 64, 160), lambda g: inputs.text_line(g, 1, 1, 64, 97)),
    ),
    "ddddocr-det": fetched(
        "ddddocr/common_det.onnx", one(lambda g: 255 * inputs.picture(g, 1, 3, 416, 416))
    ),
}
for name in ("densenet121", "inception_v1", "inception_v2", "resnet50", "shufflenet", "squeezenet"):
    CASES[f"{name}-seeded"] = Case(
        lambda name=name: seeded.model(name),
        one(lambda g: standardised(inputs.picture(g, 1, 3, 224, 224))),
        sources=[light.model_path(name)],
    )


# Models that round as they run: the file, what else the inputs are made from, and the inputs.
KOKORO = FILES / "kokoro"
ROUNDING = {
    "kokoro": (
        KOKORO / "kokoro.onnx", [KOKORO / "voices_ja.npz", KOKORO / "vocab.json"],
        lambda g: roundings.say(KOKORO, "koɲɲiʨiβa"),
    ),
    "ddddocr-old": (
        FILES / "ddddocr" / "common_old.onnx", [], lambda g: {"input1": inputs.text_line(g, 1, 1, 64, 160)}
    ),
}


def open_session(model: Path | bytes, case: Case) -> Session:
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    options.intra_op_num_threads = 1
    options.log_severity_level = 3
    if isinstance(model, bytes) and case.beside:
        options.add_session_config_entry("session.model_external_initializers_file_folder_path",
                                         str(case.beside[0].parent))
    return Session(model, options, providers=["CPUExecutionProvider"])


def runs(session: Session, feeds: Iterator[inputs.Feeds], carried: dict[str, str]):
    names = [value.name for value in session.get_inputs()]
    results = [value.name for value in session.get_outputs()]
    state = {}
    for value in session.get_inputs():
        if value.name in carried:
            sizes = [size if isinstance(size, int) else 1 for size in value.shape]
            state[value.name] = np.zeros(sizes, np.float32)
    for run in feeds:
        run = state | run
        outputs = session.run(results, run)
        by_name = dict(zip(results, outputs))
        state = {name: by_name[result] for name, result in carried.items()}
        yield [run[name] for name in names], outputs


def write_split(name: str, model: Path, sources: list[Path],
                make: Callable[[np.random.Generator], inputs.Feeds]) -> None:
    """A case of the model split at its roundings."""
    if missing := [path for path in [model, *sources] if not path.is_file()]:
        raise SystemExit(f"error: {missing[0]} is missing; run scripts/fetch_models.py")
    folder = cases.MODELS / "roundings" / name
    scripts = [Path(module.__file__) for module in (cases, inputs, roundings)]
    stamp = cases.stamp_of(name, Path(__file__), *scripts, model, *sources)
    if cases.is_current(folder, stamp):
        return
    generator = np.random.default_rng(zlib.crc32(name.encode()))
    split, given, expected = roundings.case(model, make(generator))
    cases.write(folder, stamp, split, [(given, expected)])
    print(f"  {folder.relative_to(cases.ROOT)}", file=sys.stderr, flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("only", nargs="*", help="names of cases; all without any")
    arguments = parser.parse_args()
    if unknown := set(arguments.only) - set(CASES) - set(ROUNDING):
        raise SystemExit(f"error: no case {', '.join(sorted(unknown))} in {sorted(CASES | ROUNDING)}")
    light.main()
    for name, (model, sources, make) in ROUNDING.items():
        if not arguments.only or name in arguments.only:
            write_split(name, model, sources, make)
    scripts = [Path(module.__file__) for module in (cases, inputs, minilm, seeded)]
    scripts += [Path(__file__), SCRIPTS / "requirements.txt"]
    for name, case in CASES.items():
        if arguments.only and name not in arguments.only:
            continue
        missing = [path for path in case.sources if not path.is_file()]
        if missing:
            raise SystemExit(f"error: {missing[0]} is missing; run scripts/fetch_models.py")
        folder = cases.MODELS / "cases" / name
        stamp = cases.stamp_of(name, *scripts, *case.sources)
        if cases.is_current(folder, stamp):
            continue
        model = case.model()
        session = open_session(model, case)
        generator = np.random.default_rng(zlib.crc32(name.encode()))
        feeds = case.feeds(generator, session)
        cases.write(folder, stamp, model, list(runs(session, feeds, case.carried)), case.beside)
        print(f"  {folder.relative_to(cases.ROOT)}", file=sys.stderr, flush=True)


if __name__ == "__main__":
    main()
