#!/usr/bin/env bash
# What a reader may rely on: one formatting, no warning from clippy or rustdoc with and without
# LLVM, and documents that say what the lists say. The profile is that of the tests, so
# that build scripts run once.
set -euo pipefail
cd "$(dirname "$0")/.."

step() { printf '\n== %s\n' "$*" >&2; "$@"; }

step cargo fmt --all --check
step cargo clippy --release --workspace --all-targets -- -D warnings
step cargo clippy --release --package kiln --package kiln-backends --no-default-features \
    --features kiln/mpi --all-targets -- -D warnings
RUSTDOCFLAGS="-D warnings" step cargo doc --release --workspace --no-deps
step target/venv/bin/python scripts/fetch_models.py --check-document
step target/venv/bin/python scripts/schemas.py --check
