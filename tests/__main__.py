"""README's test command: every suite, on every Python and ipykernel that it promises.

``python -m tests`` runs, in environments that uv makes under ``.venvs``:

=============== =====================================================================
part            where
=============== =====================================================================
unit            Python 3.10, 3.13 and this one
engine          unit, engine and contract suites: this Python
notebook        notebook, command-line and project suites: this Python, newest ipykernel
conformance     Runpod's own programs as judges, in environments of theirs
browser         the same, JupyterLab in Chromium
kernel          this Python with ipykernel 6.29, 7.1, 7.3 and 7.4, IPython 8 and 9: what they can change
=============== =====================================================================

It ends with one line per part, and says what was skipped and why. With ``CI=true`` a part that is
missing (a Python, Chromium) is a failure. ``python -m tests unit`` runs only the parts named.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[1]
VENVS = ROOT / ".venvs"
AT_ONCE = 2  # with three, tests of time-outs and interrupts got slow on two cores
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
        return VENVS / "-".join([f"py{self.python}", *(re.sub(r"=|\.?\*", "", pin) for pin in self.pins)])


# What a kernel's version can change: output, interrupts, the order of cells, help and completion. The rest
# of tests/notebook runs with the newest one.
KERNEL = [
    f"tests/notebook/test_{name}.py"
    for name in ("detached", "face", "interrupt", "jobs_table", "loading", "map", "output", "pick", "run_all")
]
# What the loop of a kernel can change, which is what differs between 7.1 and 7.4.
LOOP = [f"tests/notebook/test_{name}.py" for name in ("interrupt", "run_all")]
# Both lines of IPython with an old and a new kernel; "notebook" is the newest of both.
KERNELS = {
    "6.29.5": ("8.*", KERNEL),
    "7.1.0": ("9.*", LOOP),
    "7.3.0": ("9.*", LOOP),
    "7.4.0": ("8.*", KERNEL),
}

PARTS = (
    Part("engine", HERE, ["tests/unit", "tests/engine", "tests/contract"]),
    Part("notebook", HERE, ["tests/notebook", "tests/cli", "tests/project"]),
    Part("conformance", HERE, ["tests/conformance"]),
    *(
        Part(f"kernel {kernel}", HERE, folders, [f"ipykernel=={kernel}", f"ipython=={ipython}"])
        for kernel, (ipython, folders) in KERNELS.items()
    ),
    Part("browser", HERE, ["tests/browser"]),
    Part("unit 3.10", "3.10", ["tests/unit"]),
    Part("unit 3.13", "3.13", ["tests/unit"]),
)


@dataclass(frozen=True)
class Outcome:
    """How a part ended; `problem` says why it did not run."""

    part: Part
    status: int
    seconds: float
    problem: str = ""

    def __str__(self) -> str:
        verdict = "passed" if self.status == 0 else f"FAILED (pytest status {self.status})"
        return f"{self.part.name:<16} {self.problem or verdict}, {self.seconds:.0f} s"


def main(names: Sequence[str]) -> int:
    """Run the parts whose names begin with one of `names`, or all; return the exit status."""
    parts = [part for part in PARTS if not names or any(part.name.startswith(name) for name in names)]
    problems = [_prepare(part) for part in parts]  # one after the other: they share uv's cache
    with ThreadPoolExecutor(max_workers=AT_ONCE) as pool:
        outcomes = list(pool.map(_run, parts, problems))
    print("\n" + "\n".join(map(str, outcomes)))
    failed = any(outcome.status for outcome in outcomes)
    skipped = any(outcome.problem for outcome in outcomes)
    if shutil.which("chromium") is None:
        print("browser          skipped: there is no chromium (Debian: apt-get install chromium)")
        skipped = True
    return int(failed or (skipped and os.environ.get("CI") == "true"))


def _prepare(part: Part) -> str:
    """Make the part's environment; return why it cannot be had, or an empty string."""
    from uv import find_uv_bin

    uv = str(find_uv_bin())
    python = part.venv / "bin" / "python"
    if not python.exists():
        interpreter = _interpreter(part.python)
        made = subprocess.run([uv, "venv", "--quiet", "--python", interpreter, str(part.venv)], check=False)
        if made.returncode:
            return f"skipped: uv finds no Python {part.python}"
    install = [uv, "pip", "install", "--quiet", "--python", str(python), "--editable", f"{ROOT}[test]"]
    done = subprocess.run([*install, *part.pins], check=False)
    return "" if done.returncode == 0 else "skipped: its packages cannot be installed"


def _interpreter(version: str) -> str:
    """Return a Python of pyenv, which uv cannot see behind its shims; else what uv looks for itself."""
    root = Path(os.environ.get("PYENV_ROOT", Path.home() / ".pyenv"))
    found = sorted(root.glob(f"versions/{version}.*/bin/python"))
    return str(found[-1]) if found and version != HERE else version


def _run(part: Part, problem: str) -> Outcome:
    """Run pytest in the part's environment; its output is printed in one piece when it is done."""
    if problem:
        return Outcome(part, 0, 0.0, problem)
    begun = time.monotonic()
    done = subprocess.run(
        [str(part.venv / "bin" / "python"), "-m", "pytest", "-q", *part.folders],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )
    print(f"── {part.name}: {' '.join(part.folders)} in {part.venv.name}\n{done.stdout}", flush=True)
    return Outcome(part, done.returncode, time.monotonic() - begun)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
