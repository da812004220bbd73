"""README's test command: every suite, on every Python and ipykernel that it promises.

``python -m tests`` runs, in environments that uv makes under ``.venvs``:

==============  =====================================================================
suite           where
==============  =====================================================================
unit            Python 3.10, 3.13 and this one
everything      this Python with the newest ipykernel
kernel          this Python with ipykernel 6.29 and 7.1
==============  =====================================================================

It ends with one line per part, and says what was skipped and why. With ``CI=true`` a part that is
missing (a Python, Chromium) is a failure. ``python -m tests unit`` runs only the parts named.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[1]
VENVS = ROOT / ".venvs"
HERE = f"{sys.version_info.major}.{sys.version_info.minor}"


@dataclass(frozen=True)
class Part:
    """One run of pytest: an environment and the folders that it runs."""

    name: str
    python: str
    folders: Sequence[str]
    pins: Sequence[str] = ()

    @property
    def venv(self) -> Path:
        return VENVS / "-".join([f"py{self.python}", *(pin.replace("==", "") for pin in self.pins)])


PARTS = (
    Part("unit 3.10", "3.10", ["tests/unit"]),
    Part("unit 3.13", "3.13", ["tests/unit"]),
    Part("everything", HERE, ["tests"]),
    Part("kernel 6.29", HERE, ["tests/notebook"], ["ipykernel==6.29.5"]),
    Part("kernel 7.1", HERE, ["tests/notebook"], ["ipykernel==7.1.0"]),
)


def main(names: Sequence[str]) -> int:
    """Run the parts whose names begin with one of `names`, or all; return the exit status."""
    parts = [part for part in PARTS if not names or any(part.name.startswith(name) for name in names)]
    lines, failed = [], False
    for part in parts:
        begun = time.monotonic()
        problem = _prepare(part)
        if problem is None:
            status = _pytest(part)
            verdict = "passed" if status == 0 else f"FAILED (pytest status {status})"
            failed |= status != 0
        else:
            verdict = f"skipped: {problem}"
            failed |= _in_ci()
        lines.append(f"{part.name:<12} {verdict}, {time.monotonic() - begun:.0f} s")
    print("\n" + "\n".join(lines))
    if shutil.which("chromium") is None:
        print("browser      skipped: there is no chromium (Debian: apt-get install chromium)")
        failed |= _in_ci()
    return int(failed)


def _prepare(part: Part) -> str | None:
    """Make the part's environment; return why it cannot be had."""
    from uv import find_uv_bin

    uv = str(find_uv_bin())
    python = part.venv / "bin" / "python"
    if not python.exists():
        made = subprocess.run([uv, "venv", "--quiet", "--python", part.python, str(part.venv)], check=False)
        if made.returncode:
            return f"uv finds no Python {part.python}"
    install = [uv, "pip", "install", "--quiet", "--python", str(python), "--editable", f"{ROOT}[test]"]
    done = subprocess.run([*install, *part.pins], check=False)
    return None if done.returncode == 0 else "its packages cannot be installed"


def _pytest(part: Part) -> int:
    print(f"── {part.name}: {' '.join(part.folders)} in {part.venv.name}", flush=True)
    python = part.venv / "bin" / "python"
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    return subprocess.run(
        [str(python), "-m", "pytest", "-q", *part.folders], cwd=ROOT, env=environment, check=False
    ).returncode


def _in_ci() -> bool:
    return os.environ.get("CI", "") == "true"


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
