"""``flash build`` of the official template: ours against that of runpod-flash 1.0.0, in the same run.

``python -m tests.benchmarks.build [ROUNDS]`` prints the table in Markdown. Each number is the median of
several builds of the whole command; rounds of both alternate, so that a noisy minute meets both. Warm: the
packages lie in the installer's cache (uv's, pip's). Cold: an empty cache, so the index and the network count.

The template asks for ``runpod-flash``, which ours leaves out, as the runtime of its artifacts answers for
it. So there is a second row where both install the same: the very packages that the official build has
brought, less runpod-flash itself. torch, which the template's GPU function declares, is in neither: 1.0.0
does not see what async functions declare.
"""

from __future__ import annotations

import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from importlib.metadata import distributions
from pathlib import Path

from uv import find_uv_bin

ROUNDS = int(sys.argv[1]) if len(sys.argv) > 1 else 3
OFFICIAL = "runpod-flash==1.0.0"
PYTHON = "3.12"
NOT_TORCH = ("--exclude", "torch")


def environ(**more: str | Path) -> dict[str, str]:
    """Return our environment, with every Python that pyenv has where it is used: uv asks its shims."""
    found = dict(os.environ)
    if pyenv := shutil.which("pyenv"):
        versions = subprocess.run([pyenv, "versions", "--bare"], capture_output=True, text=True, check=False)
        found["PYENV_VERSION"] = ":".join(versions.stdout.split())
    return {**found, **{name: str(value) for name, value in more.items()}}


def official(folder: Path) -> Path:
    """Install the official package; return its command."""
    uv = find_uv_bin()
    subprocess.run([uv, "venv", "-q", "--seed", "--python", PYTHON, folder], check=True, env=environ())
    python = folder / "bin" / "python"
    subprocess.run([uv, "pip", "install", "-q", "--python", python, OFFICIAL], check=True, env=environ())
    return folder / "bin" / "flash"


def seconds(command: Sequence[str | Path], project: Path, **variables: str | Path) -> float:
    """Run a build; return what it took."""
    shutil.rmtree(project / ".flash", ignore_errors=True)
    begun = time.perf_counter()
    done = subprocess.run(
        command, cwd=project, env=environ(**variables), capture_output=True, text=True, check=False
    )
    took = time.perf_counter() - begun
    if done.returncode or not (project / ".flash" / "artifact.tar.gz").exists():
        sys.exit(f"{command} failed:\n{done.stdout}\n{done.stderr}")
    return took


def packages(command: Path, project: Path, cache: Path) -> list[str]:
    """Return what the official build installs, pinned, less itself; its cache is warm then."""
    seconds([command, "build", "--keep-build", *NOT_TORCH], project, PIP_CACHE_DIR=cache)
    found = distributions(path=[str(project / ".flash" / ".build")])
    pins = {f"{each.metadata['Name']}=={each.version}" for each in found}
    return sorted(pin for pin in pins if not pin.lower().replace("_", "-").startswith("runpod-flash="))


def compare(
    project: Path, builders: Mapping[str, Callable[[Path], float]], caches: Mapping[str, Path], work: Path
) -> dict[str, dict[str, float]]:
    """Return the medians of warm and cold builds, by builder."""
    for name, build in builders.items():
        build(caches[name])  # warms the caches
    times: dict[str, dict[str, list[float]]] = {name: {"warm": [], "cold": []} for name in builders}
    for number in range(ROUNDS):
        for name, build in builders.items():
            times[name]["warm"].append(build(caches[name]))
            empty = work / f"empty-{name}-{number}"
            times[name]["cold"].append(build(empty))
            shutil.rmtree(empty, ignore_errors=True)
    return {name: {kind: statistics.median(each) for kind, each in of.items()} for name, of in times.items()}


def main() -> None:
    """Print the table."""
    with tempfile.TemporaryDirectory(prefix="fb-") as folder:
        work = Path(folder)
        theirs = official(work / "official")
        project = work / "template"
        subprocess.run(
            [theirs, "init", project.name], cwd=work, check=True, capture_output=True, env=environ()
        )
        same = work / "same"
        shutil.copytree(project, same)
        pins = packages(theirs, project, work / "pip")
        (same / "requirements.txt").write_text("\n".join(pins) + "\n")
        caches = {"ours": work / "uv", "official": work / "pip"}
        print(f"| {os.cpu_count()} cores, median of {ROUNDS} | flash_nb | {OFFICIAL} | |")
        print("|---|---|---|---|")
        for title, root in (("the template as it is", project), (f"the same {len(pins)} packages", same)):
            ours = [sys.executable, "-m", "flash_nb", "build", *NOT_TORCH]
            builders = {
                "ours": lambda cache, root=root, ours=ours: seconds(ours, root, UV_CACHE_DIR=cache),
                "official": lambda cache, root=root: seconds(
                    [theirs, "build", *NOT_TORCH], root, PIP_CACHE_DIR=cache
                ),
            }
            found = compare(root, builders, caches, work)
            for kind in ("warm", "cold"):
                a, b = found["ours"][kind], found["official"][kind]
                print(f"| {title}, {kind} cache | {a:.1f} s | {b:.1f} s | {b / a:.1f}× |", flush=True)


if __name__ == "__main__":
    main()
