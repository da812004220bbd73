"""Installing: requirements become the files of Linux wheels in a folder, whatever machine builds.

uv resolves for the workers' Python and machine, and takes wheels only: nothing is compiled here for there,
and markers such as ``sys_platform`` mean the workers. Runpod's own images are made from Debian 12 (glibc
2.36) and Ubuntu 22.04 (glibc 2.35), so wheels for manylinux_2_35 and older run on all of them. Of an image
of the user's own nothing is known: there it is 2_28, which Debian 11, Ubuntu 20.04 and RHEL 8 have.

Packages that are left out are not resolved either, so what only they need is not installed: uv is told
that they are for a Python that does not exist, which works in older ones too; ``--excludes`` does not.

What a wheel leaves that differs by machine is removed: bytecode, programs that begin with the builder's
Python, and notes of who installed it.
"""

from __future__ import annotations

import contextlib
import csv
import io
import os
import re
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import Distribution as Metadata
from importlib.metadata import distributions
from pathlib import Path

from packaging.requirements import InvalidRequirement, Requirement
from packaging.utils import canonicalize_name

from flash_nb import uv
from flash_nb.errors import ProjectError
from flash_nb.project.builder.requirements import OURS, Requirements
from flash_nb.project.builder.step import Step
from flash_nb.project.declared import Project, Trouble, TroubleError

STEP = "install"
_OF_IMAGES = "x86_64-manylinux_2_35"
_OF_ANY = "x86_64-manylinux_2_28"
_NOBODY = 'python_full_version < "0"'
_LOCK = ".lock"  # uv's, while it installs
_OF_THE_BUILDER = frozenset(
    {_LOCK, "INSTALLER", "REQUESTED", "direct_url.json", "uv_cache.json", "uv_build.json"}
)


@dataclass(frozen=True)
class Machine:
    """What wheels are for.

    Attributes:
        python: Its version: ``3.12``.
        platform: As uv names it.
    """

    python: str
    platform: str = _OF_IMAGES

    @classmethod
    def of(cls, project: Project, python: str) -> Machine:
        """Return the one on which all endpoints of a project can run."""
        knows_all = all(resource.is_live for resource in project.resources)
        return cls(python, _OF_IMAGES if knows_all else _OF_ANY)

    @property
    def is_of_images(self) -> bool:
        """Whether all endpoints run Runpod's own images."""
        return self.platform == _OF_IMAGES

    def __str__(self) -> str:
        return f"Python {self.python} on Linux x86_64 ({self.platform.partition('-')[2]})"


@dataclass(frozen=True)
class Distribution:
    """A package that was installed.

    Attributes:
        name: Canonical.
        version: Its version.
        files: What it brought, relative to the folder.
        needs: Canonical names of what it may need.
    """

    name: str
    version: str
    files: frozenset[str]
    needs: frozenset[str]


@dataclass(frozen=True)
class Installed:
    """What lies in the folder.

    Attributes:
        folder: It.
        distributions: By canonical name, sorted.
    """

    folder: Path
    distributions: Mapping[str, Distribution]

    @property
    def owners(self) -> dict[str, str]:
        """The package that each file belongs to."""
        return {file: each.name for each in self.distributions.values() for file in each.files}


class TooMuchError(ProjectError):
    """What has to be downloaded is so large that no archive of it can be small enough.

    Attributes:
        sizes: Bytes of the wheels, by package, as far as they are known.
    """

    def __init__(self, sizes: Mapping[str, int]) -> None:
        super().__init__(f"Wheels of {sum(sizes.values())} bytes had to be downloaded.")
        self.sizes = sizes


def install(
    requirements: Requirements,
    folder: Path,
    *,
    machine: Machine,
    cwd: Path,
    excluded: Iterable[str] = (),
    with_needs: bool = True,
    copies: bool = False,
    most: int | None = None,
) -> Generator[Step, None, Installed]:
    """Install into a folder; what is written there has to be replaced, not changed: it may be uv's own copy.

    Args:
        requirements: What to install.
        folder: Where; it is made.
        machine: What for.
        cwd: The project's folder: settings of uv that lie there count.
        excluded: Canonical names of packages to leave out.
        with_needs: Install also what the packages need.
        copies: Write files that belong to nobody else.
        most: How many bytes of wheels may be downloaded; None for any number.

    Raises:
        TooMuchError: It would be more.
        TroubleError: It cannot be done; it names the package and why.
    """
    yield Step(STEP, note="resolving")
    folder.mkdir(parents=True, exist_ok=True)
    if requirements.wanted:
        more = [] if with_needs else ["--no-deps"]
        more += ["--link-mode", "copy"] if copies else []
        with _arguments(requirements, machine, excluded) as arguments:
            argv = (uv.program(), "pip", "install", "--target", str(folder), *arguments, *more)
            failed, output = yield from _run(argv, cwd, most)
        if failed:
            raise explain(
                requirements, machine, output, lambda name: _versions(name, requirements, machine, cwd)
            )
    _tidy(folder)
    found = {each.name: each for each in map(_distribution, distributions(path=[str(folder)]))}
    yield Step(STEP, len(found), len(found), "packages")
    return Installed(folder, dict(sorted(found.items())))


@contextlib.contextmanager
def _arguments(requirements: Requirements, machine: Machine, excluded: Iterable[str]) -> Iterator[list[str]]:
    """Write files for uv, which only this user may read: addresses may have passwords in them."""
    options = [*requirements.options]
    arguments = ["--python", sys.executable, "--python-version", machine.python]
    arguments += ["--python-platform", machine.platform, "--only-binary", ":all:"]
    arguments += ["--prerelease=allow"] if ("--pre", "") in options else []
    for name, value in options:
        arguments += ["--allow-insecure-host", value] if name == "--trusted-host" else []
    lines = [f"{name} {value}".strip() for name, value in options if name not in {"--pre", "--trusted-host"}]
    files = {
        "-r": [*lines, *(each.line for each in requirements.wanted)],
        "-c": [each.line for each in requirements.constraints],
        "--override": [f"{name}; {_NOBODY}" for name in sorted({*excluded, *OURS})],
    }
    with tempfile.TemporaryDirectory(prefix="flash-build-") as folder:
        for option, content in files.items():
            path = Path(folder, f"{option.strip('-')}.txt")
            path.write_text("\n".join([*content, ""]), encoding="utf-8")
            arguments += [option, str(path)]
        yield arguments


def _run(argv: Sequence[str], cwd: Path, most: int | None) -> Generator[Step, None, tuple[bool, str]]:
    """Run uv; yield its progress; it does not outlive whoever stops listening."""
    told: list[str] = []
    progress = uv.Progress(told.append)
    lines: list[str] = []
    process = subprocess.Popen(
        argv,
        cwd=cwd,
        env=uv.variables(os.environ),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        encoding="utf-8",
        errors="replace",
        start_new_session=True,
    )
    assert process.stdout is not None
    try:
        for line in process.stdout:
            lines.append(line)
            progress.line(line)
            if most is not None and sum(progress.announced.values()) > most:
                raise TooMuchError(progress.announced)
            if told:
                yield Step(STEP, note=told.pop())
                told.clear()
        failed = process.wait() != 0
    finally:
        if process.poll() is None:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()
        process.stdout.close()
    return failed, "".join(lines)


# ---- what lies in the folder ----------------------------------------------------------------------


def _tidy(folder: Path) -> None:
    """Remove what differs from builder to builder, and the records of it."""
    gone = set()
    for base, _, names in os.walk(folder):
        for name in names:
            if name in _OF_THE_BUILDER or name.endswith((".pyc", ".pyo")) or base.endswith("bin"):
                path = Path(base, name)
                inside = path.relative_to(folder).as_posix()
                if _is_of_the_builder(path, inside):
                    path.unlink()
                    gone.add(inside)
    for record in folder.glob("*.dist-info/RECORD"):
        kept = sorted(row for row in _rows(record) if row and row[0] not in gone)
        text = io.StringIO()
        csv.writer(text, lineterminator="\n").writerows(kept)
        record.unlink()  # it may be the one of uv's cache
        record.write_text(text.getvalue(), encoding="utf-8")


def _is_of_the_builder(path: Path, inside: str) -> bool:
    """Whether a file is bytecode, a note of who installed, or a program that names the builder's Python.

    Other programs of wheels are for the workers: packages start their own.
    """
    if path.suffix in {".pyc", ".pyo"} or inside == _LOCK:
        return True
    if inside.startswith("bin/"):
        with path.open("rb") as file:
            return file.read(2) == b"#!"
    return path.name in _OF_THE_BUILDER - {_LOCK} and path.parent.suffix == ".dist-info"


def _rows(record: Path) -> list[list[str]]:
    with record.open(encoding="utf-8", newline="") as file:
        return [*csv.reader(file)]


def _distribution(metadata: Metadata) -> Distribution:
    files = frozenset(str(file) for file in metadata.files or ())
    needs = {_name_in(text) for text in metadata.requires or ()}
    name = canonicalize_name(metadata.metadata["Name"])
    return Distribution(name, metadata.version, files, frozenset(needs - {""}))


def _name_in(requirement: str) -> str:
    try:
        return canonicalize_name(Requirement(requirement).name)
    except InvalidRequirement:  # old wheels have such; uv has read it somehow
        return ""


# ---- why it cannot be done ------------------------------------------------------------------------


def explain(
    requirements: Requirements,
    machine: Machine,
    output: str,
    versions: Callable[[str], tuple[str, str] | None],
) -> TroubleError:
    """Return why uv failed.

    Args:
        requirements: What was asked for.
        machine: What for.
        output: What uv wrote.
        versions: Tells the oldest and the newest version of a package that can be had; None if none can.
    """
    failure = uv.explain([each.text for each in requirements.wanted], output)
    name = _name_in(failure.what)
    asked = requirements.about(name) if name else ()
    place = next((each.place for each in asked if each.place), None)
    if failure.kind in {"wheel", "build", "python"} and name:
        message, fix = _no_wheel(failure.what, name, machine, versions(name))
        return TroubleError([Trouble(place, message, fix)])
    message = failure.sentence.rstrip(".")
    if failure.kind == "conflict":
        names = {_name_in(word) for word in re.findall(r"[A-Za-z0-9][\w.-]*(?:\[[^]]*\])?", message)}
        asked = tuple(each for each in requirements.wanted if each.name in names)
        place = None
        message += f". Asked for: {'; '.join(map(str, asked))}" if asked else ""
    if failure.kind in {"conflict", "other"}:
        words = " ".join(" ".join(line.strip(" ×╰├│─▶") for line in failure.said[-15:]).split())
        message += f". uv said: {words}".rstrip(".")
    return TroubleError([Trouble(place, uv.without_secrets(message), failure.hint)])


def _no_wheel(what: str, name: str, machine: Machine, versions: tuple[str, str] | None) -> tuple[str, str]:
    message = f"{what} has no wheel for {machine}, and nothing is compiled for workers"
    if versions is None:
        return message, (
            f"No version of {name} has one. Use a package that has, or an image of your own that holds it "
            f"(imageName=…) with --exclude {name}"
        )
    oldest, newest = versions
    which = f"Version {newest} has" if oldest == newest else f"Versions from {oldest} to {newest} have"
    return message, f"{which}: ask for {name}=={newest}, or another Python (--python-version)"


def _versions(name: str, requirements: Requirements, machine: Machine, cwd: Path) -> tuple[str, str] | None:
    """Ask uv for the oldest and the newest version of a package that has a wheel."""
    found = []
    bare = Requirements(options=requirements.options)
    for which in ("lowest", "highest"):
        with (
            _arguments(bare, machine, ()) as arguments,
            tempfile.TemporaryDirectory(prefix="flash-build-") as folder,
        ):
            argv = (uv.program(), "pip", "install", "--dry-run", "--no-deps", "--resolution", which)
            done = subprocess.run(
                [*argv, "--target", folder, *arguments, name],
                cwd=cwd,
                env=uv.variables(os.environ),
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                text=True,
                check=False,
            )
        found += re.findall(rf"(?m)^ \+ {re.escape(name)}==(\S+)", done.stdout)
    return (found[0], found[1]) if len(found) == 2 else None  # noqa: PLR2004 - one of each
