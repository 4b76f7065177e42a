#!/usr/bin/env bash
# Installs what the build needs from the system and is missing: LLVM and MLIR 22, a C++ compiler,
# Python's venv module; with --tests Open MPI, too, for tuning by several processes, and what runs
# programs for AArch64. It says what it installs, and installs nothing that is there already.
#
# A machine without apt can still be used: LLVM 22 with MLIR in another place is named with
# MLIR_SYS_220_PREFIX, LLVM_SYS_221_PREFIX and TABLEGEN_220_PREFIX (see .cargo/config.toml).
set -euo pipefail

say() { printf '\033[1m%s\033[0m\n' "$*" >&2; }
if [ ! -t 2 ]; then say() { printf '%s\n' "$*" >&2; }; fi
fail() {
    printf 'error: %s\n' "$1" >&2
    shift
    for line in "$@"; do printf '  %s\n' "$line" >&2; done
    exit 1
}

installed() { [[ $(dpkg-query -W -f='${Status}' "$1" 2>/dev/null) == *'ok installed' ]]; }

# Cargo is not installed from here: the version in Debian 12 is too old for the edition used.
command -v cargo >/dev/null || fail "cargo is missing" \
    "Kiln needs Rust 1.95 or newer; install it with rustup and run this again."
command -v python3 >/dev/null || python_missing=1

missing=()
prefix="${MLIR_SYS_220_PREFIX:-/usr/lib/llvm-22}"
if command -v dpkg-query >/dev/null && [ "$prefix" = /usr/lib/llvm-22 ]; then
    # Polly, zstd and zlib: tblgen and melior's macros do not link without them.
    for package in llvm-22-dev libmlir-22-dev libclang-22-dev libpolly-22-dev libzstd-dev zlib1g-dev
    do
        installed "$package" || missing+=("$package")
    done
elif [ ! -x "$prefix/bin/llvm-config" ]; then
    fail "LLVM 22 is missing: there is no $prefix/bin/llvm-config" \
        "On Debian 12 this script installs it; elsewhere, install LLVM and MLIR 22 and name their" \
        "place in MLIR_SYS_220_PREFIX, LLVM_SYS_221_PREFIX, TABLEGEN_220_PREFIX and LIBCLANG_PATH." \
        "Kiln also builds without LLVM: cargo build --release --no-default-features --features images"
fi
command -v c++ >/dev/null || missing+=(g++)
if [ -n "${python_missing:-}" ]; then
    missing+=(python3 python3-venv)
elif ! python3 -c 'import ensurepip, venv' 2>/dev/null; then
    missing+=(python3-venv)
fi

if [ "${1:-}" = --tests ] && ! { command -v mpirun && command -v mpicc; } >/dev/null; then
    missing+=(libopenmpi-dev openmpi-bin)
fi
if [ "${1:-}" = --tests ]; then
    command -v aarch64-linux-gnu-gcc >/dev/null || missing+=(gcc-aarch64-linux-gnu libc6-dev-arm64-cross)
    command -v qemu-aarch64 >/dev/null || missing+=(qemu-user)
    if [ ! -d "$(rustc --print sysroot)/lib/rustlib/aarch64-unknown-linux-gnu/lib" ]; then
        say "Adding Rust's standard library for AArch64"
        rustup target add aarch64-unknown-linux-gnu || fail "Rust's standard library for AArch64 is missing" \
            "The tests run the runtime on AArch64, emulated: rustup target add aarch64-unknown-linux-gnu"
    fi
fi

if [ ${#missing[@]} -eq 0 ]; then
    exit 0
fi

command -v apt-get >/dev/null || fail "missing, and there is no apt-get to install it: ${missing[*]}" \
    "Install these by the means of this system and run this again."
if [ "$(id -u)" -eq 0 ]; then
    root=()
elif command -v sudo >/dev/null; then
    root=(sudo)
else
    fail "missing: ${missing[*]}" \
        "Installing them needs root, and there is no sudo. Run as root:" \
        "apt-get update && apt-get install --no-install-recommends ${missing[*]}"
fi

say "Installing from Debian's packages: ${missing[*]}"
say "(LLVM and MLIR are about 230 MB to download and 2 GB installed)"
"${root[@]}" apt-get update -qq || fail "apt-get update failed" \
    "Check the network and the package sources of this machine."
for package in "${missing[@]}"; do
    if [[ ! $(apt-cache policy "$package") =~ Candidate:\ [^\(] ]]; then
        fail "apt offers no $package" \
            "Debian 12 carries LLVM 22 in its security archive (bookworm-security, main): add that to" \
            "the package sources. Kiln also builds without LLVM:" \
            "cargo build --release --no-default-features --features images"
    fi
done
"${root[@]}" env DEBIAN_FRONTEND=noninteractive \
    apt-get install -y -q --no-install-recommends "${missing[@]}" >&2
say "Installed: ${missing[*]}"
