#!/usr/bin/env bash
# Makes the Python environment target/venv with the packages of requirements.txt, or one elsewhere with others:
# [FOLDER REQUIREMENTS]. Does nothing if it is there with exactly those.
set -euo pipefail
cd "$(dirname "$0")/.."

venv=${1:-target/venv}
requirements=${2:-scripts/requirements.txt}
# Written last, so an interrupted installation is not taken for a whole one.
stamp=$venv/requirements.txt

if cmp -s "$requirements" "$stamp" && "$venv/bin/python" -c 'import onnx, onnxruntime' 2>/dev/null; then
    exit 0
fi
echo "Making a Python environment in $venv" >&2
rm -rf "$venv"
mkdir -p "$(dirname "$venv")"
python3 -m venv "$venv"
if [ -t 2 ]; then bar=on; else bar=off; fi
"$venv/bin/python" -m pip install --disable-pip-version-check --no-deps \
    --progress-bar "$bar" --requirement "$requirements" >&2
cp "$requirements" "$stamp"
