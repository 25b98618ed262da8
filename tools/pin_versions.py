"""Pin every version that the workspace resolves to, in the root pyproject.toml.

    python tools/pin_versions.py              write the pins for what uv.lock resolves to now
    python tools/pin_versions.py --upgrade    resolve to the newest versions first
    python tools/pin_versions.py --check      fail if a package of uv.lock is not pinned to its version

uv.lock names a download address on every line, so it is not kept; these pins give the same versions on any index.
"""

import argparse
import re
import subprocess
import sys
import tomllib
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
PYPROJECT = ROOT / "pyproject.toml"
BLOCK = re.compile(r"(# pins: begin[^\n]*\n)(.*?)(# pins: end\n)", re.DOTALL)
EXPORT = (
    "uv export --quiet --all-packages --all-extras --all-groups "
    "--no-hashes --no-emit-workspace --no-annotate --no-header"
).split()


def resolved() -> list[str]:
    """The requirements that uv.lock resolves to, each with its version and marker."""
    lines = subprocess.run(EXPORT, cwd=ROOT, check=True, capture_output=True, text=True).stdout.splitlines()
    return sorted({line.strip().replace('"', "'") for line in lines if "==" in line})


def pinned() -> list[str]:
    """The requirements that pyproject.toml pins."""
    pins: list[str] = tomllib.loads(PYPROJECT.read_text("utf-8"))["tool"]["uv"].get("constraint-dependencies", [])
    return pins


def write(pins: list[str]) -> None:
    """Replace the block of pins in pyproject.toml."""
    lines = "".join(f'    "{pin}",\n' for pin in pins)
    block = f"constraint-dependencies = [\n{lines}]\n"
    text = PYPROJECT.read_text("utf-8")
    if not BLOCK.search(text):
        sys.exit("pyproject.toml has no block '# pins: begin' ... '# pins: end'.")
    PYPROJECT.write_text(BLOCK.sub(lambda match: match[1] + block + match[3], text), "utf-8")


def main() -> None:
    """Write or check the pins."""
    parser = argparse.ArgumentParser(description="Pin every version that the workspace resolves to.")
    parser.add_argument("--check", action="store_true", help="change nothing; fail if a pin is missing")
    parser.add_argument("--upgrade", action="store_true", help="resolve to the newest versions first")
    arguments = parser.parse_args()
    if arguments.upgrade:
        write([])
        subprocess.run(["uv", "lock", "--upgrade"], cwd=ROOT, check=True)
    wanted = resolved()
    if not arguments.check:
        write(wanted)
        print(f"{len(wanted)} versions pinned.")
    elif missing := sorted(set(wanted) - set(pinned())):
        sys.exit("Not pinned; run `python tools/pin_versions.py`:\n  " + "\n  ".join(missing))
    else:
        print(f"All {len(wanted)} versions are pinned.")


if __name__ == "__main__":
    main()
