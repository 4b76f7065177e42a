#!/usr/bin/env bash
# Every test: of the whole workspace, of the build without LLVM (and with MPI), of the scripts. Goes on after a
# failure, to show all of them; the last line counts. Expects what `make setup` sets up.
set -uo pipefail
cd "$(dirname "$0")/.."

log=target/test.log
failed=()
mkdir -p target
: >"$log"

step() {
    local name=$1
    shift
    printf '\n== %s\n' "$name" | tee -a "$log"
    "$@" 2>&1 | tee -a "$log"
    [ "${PIPESTATUS[0]}" -eq 0 ] || failed+=("$name")
}

# Our own crates are tested with overflow checks and debug assertions; the rest is as in release,
# where `make demo` has it too.
cargo_test() { cargo --config scripts/checked.toml test --release --no-fail-fast "$@"; }

step "formatting, clippy, documentation" scripts/lint.sh
step "the runtime for AArch64" env CARGO_TARGET_AARCH64_UNKNOWN_LINUX_GNU_LINKER=aarch64-linux-gnu-gcc cargo build --release --package kiln-runtime --example run_artefact \
    --target aarch64-unknown-linux-gnu
# First, so that what is left in target/release is the command with all of its backends.
step "tests without LLVM" cargo_test --package kiln --package kiln-backends \
    --no-default-features --features kiln/images,kiln/mpi -- --skip reference/
step "tests" cargo_test --workspace
step "the sentence-embedding network against its definition" \
    target/venv/bin/python scripts/minilm_check.py target/models/files/minilm/model.safetensors

printf '\n'
for name in "${failed[@]}"; do printf 'failed: %s\n' "$name"; done
# Steps that are no test runner count as one test each.
awk -v steps="${#failed[@]}" '
    /^test result: / { passed += $4; failures += $6; skipped += $8 }
    END {
        if (failures == 0) failures = steps
        printf "%d passed, %d failed, %d skipped\n", passed, failures, skipped
    }' "$log"
[ ${#failed[@]} -eq 0 ]
