"""Sets up the systems that Kiln is compared with: Python packages in an environment of their own, and the runner
of tract. Both are there already most of the time.
"""

import os
import subprocess
from pathlib import Path

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent.parent
PLACE = ROOT / "target" / "peers"
PYTHON = PLACE / "venv" / "bin" / "python"
TRACT = PLACE / "tract" / "release" / "tract-runner"
KILN_RUNNER = PLACE / "kiln" / "release" / "kiln"


def environment() -> None:
    subprocess.run([ROOT / "scripts" / "venv.sh", PLACE / "venv", HERE / "requirements.txt"], check=True)


def tract() -> None:
    # Its products are in assembly for several processors; the rest is for this one, as Kiln's and IREE's code is.
    flags = os.environ | {"RUSTFLAGS": "-C target-cpu=native"}
    manifest = HERE / "tract" / "Cargo.toml"
    subprocess.run(["cargo", "build", "--release", "--locked", "--quiet", "--manifest-path", manifest,
                    "--target-dir", PLACE / "tract"], check=True, env=flags)


def kiln_runner() -> None:
    """The command without LLVM, which runs what the whole one compiles."""
    subprocess.run(["cargo", "build", "--release", "--locked", "--quiet", "--no-default-features", "--features", "images",
                    "--bin", "kiln", "--target-dir", PLACE / "kiln"], check=True, cwd=ROOT)


def versions(kiln: Path) -> dict[str, str]:
    """Of all systems, by their titles."""
    packages = dict(line.split("==") for line in (HERE / "requirements.txt").read_text().split() if "==" in line)
    crates = (HERE / "tract" / "Cargo.toml").read_text()
    commit = subprocess.run(["git", "describe", "--always", "--dirty"], cwd=ROOT, capture_output=True, text=True)
    version = subprocess.run([kiln, "--version"], check=True, capture_output=True, text=True).stdout.split()[-1]
    return {
        "Kiln": f"{version} ({commit.stdout.strip()})",
        "ONNX Runtime": packages["onnxruntime"],
        "OpenVINO": packages["openvino"],
        "IREE": packages["iree-base-compiler"],
        "tract": crates.split('tract-onnx = "=')[1].split('"')[0],
    }
