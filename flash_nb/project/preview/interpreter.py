"""The Python that runs an artifact on this machine."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys

from flash_nb import uv
from flash_nb.errors import ProjectError


def interpreter(version: str) -> str:
    """Return a Python of this version: ours, one on the path, or one that uv or pyenv keeps.

    Raises:
        ProjectError: There is none.
    """
    if version == running():
        return sys.executable
    found = subprocess.run(
        [uv.program(), "python", "find", "--no-project", "--no-python-downloads", version],
        capture_output=True, text=True, check=False, cwd="/", env=_with_all_of_pyenv(),
    )  # fmt: skip
    if found.returncode == 0:
        return found.stdout.strip()
    raise ProjectError(
        f"The artifact is for Python {version}, and there is none here to run it.",
        hint=f"Get one: uv python install {version}. Or build for this one: "
        f"flash build --preview --python-version {running()}",
    )


def running() -> str:
    """Return the version that runs this: ``3.12``."""
    return ".".join(map(str, sys.version_info[:2]))


def _with_all_of_pyenv() -> dict[str, str]:
    """Return our environment, in which each Python of pyenv can be had: its shims refuse those not chosen."""
    environ = {name: value for name, value in os.environ.items() if name not in ("VIRTUAL_ENV", "UV_PYTHON")}
    if pyenv := shutil.which("pyenv"):
        versions = subprocess.run([pyenv, "versions", "--bare"], capture_output=True, text=True, check=False)
        environ["PYENV_VERSION"] = ":".join(versions.stdout.split())
    return environ
