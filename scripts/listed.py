"""The models that tables are made of, with the sizes that they are fixed to, so that every price is that of the
sizes that run; and the flags that commands take about them.
"""

import argparse
import json
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

import cases

PADDLE = "p2o.DynamicDimension."
SILERO = {"batch": 1, "sequence": 576}
MODELS = {
    "files/nudenet/320n": {"batch": 1, "height": 320, "width": 320},
    "files/rapidocr/ch_ppocr_mobile_v2.0_cls_infer": {"x_0": 1, "x_2": 48, "x_3": 192},
    "files/rapidocr/ch_PP-OCRv4_det_infer": {f"{PADDLE}0": 1, f"{PADDLE}1": 640, f"{PADDLE}2": 640},
    "files/rapidocr/ch_PP-OCRv4_rec_infer": {f"{PADDLE}0": 6, f"{PADDLE}1": 320, "x_2": 48},
    "files/magika/model": {"unk__214": 1},
    "files/silero-vad/silero_vad_16k_op15": SILERO,
    "files/silero-vad/silero_vad_op18_ifless": SILERO,
    "files/silero-vad/silero_vad_half": SILERO,
    "files/ddddocr/common": {},
    "files/ddddocr/common_det": {},
    "cases/minilm/model": {"batch": 1, "sequence": 128},
    "cases/resnet50-seeded/model": {},
    "cases/densenet121-seeded/model": {},
    "cases/inception_v1-seeded/model": {},
    "cases/inception_v2-seeded/model": {},
    "cases/shufflenet-seeded/model": {},
    "cases/squeezenet-seeded/model": {},
}


def parser(description: str) -> argparse.ArgumentParser:
    """Of a script that takes the `kiln` command, and some of the models."""
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("command", type=Path)
    parser.add_argument("--models", nargs="*", help="parts of names; all of them without")
    return parser


def models(parts: list[str] | None) -> Iterator[tuple[str, dict, Path]]:
    """Those that are there: a short name, sizes and the file."""
    for name, dims in MODELS.items():
        file = cases.MODELS / f"{name}.onnx"
        if parts and not any(part in name for part in parts):
            continue
        if file.exists():
            yield name.split("/", 1)[1], dims, file
        else:
            print(f"{name}: not there")


def report(command: Path, what: str, model: Path, dims: dict, *flags: object) -> dict:
    """What `kiln bench` or another command reports of a model with fixed sizes."""
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "report.json"
        fixed = [word for name, size in dims.items() for word in ("--dim", f"{name}={size}")]
        subprocess.run(
            [command, what, model, "--json", file, *fixed, *map(str, flags)],
            check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
        )
        return json.loads(file.read_text())
