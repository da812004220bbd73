"""A build: a folder of Python files becomes an artifact, step by step.

::

    .flash/.build/              what is packed; removed when a build ends, unless it is asked for
    .flash/artifact.tar.gz      the artifact, or the name that was asked for
    .flash/archive.tar.gz       a link to it: the name that the documentation gives
    .flash/flash_manifest.json  which endpoint has which function

A build that fails leaves the artifact of the last one as it was: the new one takes its place when whole.

Its parts::

    requirements  what has to be installed, and who asks for it
    install       requirements -> Linux wheels, unpacked
    provided      whether everything that is imported will be there
    size          what makes an artifact too large, and what to leave out
    archive       a folder -> a tar.gz, the same bytes for the same content
    step          a step, and going through them
"""

from __future__ import annotations

import contextlib
import os
import re
import shutil
from collections.abc import Generator, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from packaging.utils import canonicalize_name

from flash_nb.errors import ProjectError, did_you_mean
from flash_nb.project import handlers, manifest, sources
from flash_nb.project.builder import archive, provided, size
from flash_nb.project.builder.archive import LIMIT, ArchiveTooLargeError, Entry
from flash_nb.project.builder.install import Installed, Machine, TooMuchError, install
from flash_nb.project.builder.requirements import Requirements, requirements_of
from flash_nb.project.builder.step import Step, counted
from flash_nb.project.declared import Place, Project, Trouble, TroubleError
from flash_nb.project.scan import scan
from flash_nb.sdk.look import human_size
from flash_nb.sdk.target import GPU_IMAGE_PACKAGES, IMAGE_PYTHON

STATE = ".flash"
ARTIFACT = "artifact.tar.gz"
ARCHIVE = "archive.tar.gz"
MANIFEST = "flash_manifest.json"
PYTHON = ".".join(map(str, IMAGE_PYTHON))
_MIB = 2**20
PYTHONS = ("3.10", "3.11", "3.12", "3.13", "3.14")


@dataclass(frozen=True)
class BuildOptions:
    """What a build may be told.

    Attributes:
        exclude: Names of packages not to install, since the images have them.
        with_needs: Install also what the packages need.
        keep_build: Leave the folder with what was packed.
        output: Name of the artifact; ``.tar.gz`` is added if it is not there.
        python: Version of the workers' Python. Default: that of Runpod's images.
        allow_secrets: Pack texts that seem to hold keys.
        limit: The most bytes that the artifact may have.

    Raises:
        ProjectError: A name or a version makes no sense.
    """

    exclude: tuple[str, ...] = ()
    with_needs: bool = True
    keep_build: bool = False
    output: str = ARTIFACT
    python: str = PYTHON
    allow_secrets: bool = False
    limit: int = LIMIT

    def __post_init__(self) -> None:
        object.__setattr__(self, "python", _python(self.python))
        object.__setattr__(self, "output", _file_name(self.output))
        object.__setattr__(self, "exclude", tuple(canonicalize_name(name) for name in self.exclude))


@dataclass(frozen=True)
class Built:
    """What a build made.

    Attributes:
        archive: The artifact.
        manifest: What it says of itself.
        size: Its bytes.
        packages: How many of them each package has; ``""`` are the project's own files and the runtime.
        versions: Of each package.
        notes: What its user should know.
        project: What was found.
        files: How many it holds.
        limit: The most bytes that it might have.
    """

    archive: Path
    manifest: Mapping[str, Any]
    size: int
    packages: Mapping[str, int]
    versions: Mapping[str, str]
    notes: tuple[str, ...]
    project: Project
    files: int
    limit: int = LIMIT


def build(root: Path, options: BuildOptions | None = None) -> Generator[Step, None, Built]:
    """Build the artifact of a project; yield where it stands.

    Args:
        root: The project's folder.
        options: What it is told.

    Raises:
        TroubleError: Something stands against it; all that is known at that step is told at once.
        ProjectError: There is no such folder, a file cannot be read or written, or another build of the
            project is at work.
    """
    try:
        return (yield from _steps(root.resolve(), options or BuildOptions()))
    except OSError as error:
        raise ProjectError(f"The build of {root} cannot go on: {error}") from error


def _steps(root: Path, options: BuildOptions) -> Generator[Step, None, Built]:
    yield Step("sources")
    files = sources.files_in(root)
    yield Step("sources", len(files), len(files), "files")
    yield Step("scan")
    project = scan(root, files)
    yield Step("scan", *_found(project))
    state = root / STATE
    state.mkdir(exist_ok=True)
    ignore = state / ".gitignore"
    if not ignore.exists():
        ignore.write_text("*\n")
    with _alone(state), _folder(state / ".build", keep=options.keep_build) as folder:
        return (yield from _Build(project, files, folder, options).run(state / options.output))


class _Build:
    """One build, whose folder is its own."""

    def __init__(self, project: Project, files: tuple[str, ...], folder: Path, options: BuildOptions) -> None:
        self.project = project
        self.root = project.root
        self.files = files
        self.folder = folder
        self.options = options
        self.notes: list[str] = [f"{each.place}: {each.message}. {each.fix}" for each in project.notes]

    def run(self, target: Path) -> Generator[Step, None, Built]:
        project = self.project
        made = self._made()
        requirements = self._requirements()
        machine = Machine.of(project, self.options.python)
        hardly = 2 * self.options.limit  # a wheel may be compressed worse than the archive
        try:
            installed = yield from install(
                requirements,
                self.folder,
                machine=machine,
                cwd=self.root,
                excluded=self.options.exclude,
                with_needs=self.options.with_needs,
                copies=self.options.keep_build,
                most=hardly,
            )
        except TooMuchError as error:
            asked = [each.name for each in requirements.wanted]
            raise size.too_much(error.sizes, asked, limit=self.options.limit) from None
        yield Step("check")
        self._check(requirements, installed, machine)
        self._lay(made)
        imports = sum(map(len, project.imports.values()))
        yield Step("check", imports, imports, "imports")
        entries = self._entries(installed)
        packed = yield from self._pack(entries, requirements, installed, target)
        _replace(target.with_name(MANIFEST), made[MANIFEST])
        _link(target)
        asked = [each.name for each in requirements.wanted]
        if self.options.python != PYTHON and machine.is_of_images:
            self.notes.append(f"Runpod's own images run Python {PYTHON}, this is for {self.options.python}")
        if note := size.of_the_image(project, packed.shares, installed.distributions, asked):
            self.notes.append(note)
        return Built(
            archive=target,
            manifest=manifest.from_text(made[MANIFEST]),
            size=packed.size,
            packages=dict(sorted(packed.shares.items(), key=lambda item: (-item[1], item[0]))),
            versions={each.name: each.version for each in installed.distributions.values()},
            notes=tuple(self.notes),
            project=project,
            files=len(entries),
            limit=self.options.limit,
        )

    def _made(self) -> dict[str, bytes]:
        """Return the files that the build writes, and check that the project has none of these names."""
        fingerprint = sources.fingerprint(self.root, self.files)
        text = manifest.to_text(
            manifest.manifest_of(
                self.project, python_version=self.options.python, source_fingerprint=fingerprint
            )
        )
        made = {**handlers.files_of(self.project), MANIFEST: text}
        if clashes := sorted(made.keys() & set(self.files)):
            fix = "Rename it: the build writes a file of this name"
            raise TroubleError([Trouble(Place(each, 1), "This name is taken", fix) for each in clashes])
        return made

    def _requirements(self) -> Requirements:
        """Return what to install; the last moment for what can be said before the installation."""
        troubles = [] if self.options.allow_secrets else sources.secrets_in(self.root, self.files)
        try:
            found = requirements_of(self.project, handlers.requirements_of(self.project))
        except TroubleError as error:
            raise TroubleError([*troubles, *error.troubles]) from None
        if troubles:
            raise TroubleError(troubles)
        self.notes += found.notes
        return found

    def _check(self, requirements: Requirements, installed: Installed, machine: Machine) -> None:
        """Check what can be known only of what is installed."""
        troubles = provided.missing(self.project, installed, machine, self.options.exclude)
        known = {each.name for each in requirements.wanted} | {*installed.distributions}
        known |= {need for each in installed.distributions.values() for need in each.needs}
        for name in sorted(set(self.options.exclude) - known):
            close = did_you_mean(name, known)
            note = f"--exclude {name}: nothing asks for it"
            if close and name not in GPU_IMAGE_PACKAGES:
                troubles.append(Trouble(None, f"{note}{close}", "Correct or remove it"))
            else:
                self.notes.append(note)
        if troubles:
            raise TroubleError(troubles)
        theirs = {
            top: each.name for each in installed.distributions.values() for top in provided.tops(each.files)
        }
        for top in sorted(provided.tops(self.files) & theirs.keys()):
            self.notes.append(f"The project's own {top!r} hides that of the package {theirs[top]}")

    def _lay(self, made: Mapping[str, bytes]) -> None:
        """Lay the project's files, and those that the build writes, over what is installed.

        What is there is removed first, not written over: it may be uv's own copy.
        """
        for name in self.files:
            path = self._free(name)
            shutil.copyfile(self.root / name, path)
            path.chmod(0o755 if (self.root / name).stat().st_mode & 0o100 else 0o644)
        for name, content in made.items():
            self._free(name).write_bytes(content)

    def _free(self, name: str) -> Path:
        path = self.folder / name
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.unlink(missing_ok=True)
        except OSError as error:
            trouble = Trouble(
                Place(name, 1), f"A package has something else of this name: {error}", "Rename it"
            )
            raise TroubleError([trouble]) from None
        return path

    def _entries(self, installed: Installed) -> list[Entry]:
        owners, own = installed.owners, set(self.files)
        found = []
        for base, _, names in os.walk(self.folder):
            folder = Path(base)
            inside = "" if folder == self.folder else f"{folder.relative_to(self.folder).as_posix()}/"
            for name in names:
                path = inside + name
                found.append(Entry(path, folder / name, "" if path in own else owners.get(path, "")))
        return sorted(found)

    def _pack(
        self, entries: list[Entry], requirements: Requirements, installed: Installed, target: Path
    ) -> Generator[Step, None, archive.Packed]:
        total = sum(entry.path.stat().st_size for entry in entries)
        yield Step("archive", 0, total, "bytes")
        hardly = self.options.limit + self.options.limit // 10  # an estimate may be wrong by a few hundredths
        if total > self.options.limit and sum((shares := archive.estimate(entries)).values()) > hardly:
            raise self._too_large(shares, requirements, installed)
        half = target.with_name(f"{target.name}.half")
        done = 0
        level = archive.level_for(total, self.options.limit)
        packing = archive.pack(entries, half, level=level, limit=self.options.limit)
        try:
            while True:
                done += next(packing)
                yield Step("archive", min(done, total), total, "bytes")
        except StopIteration as end:
            half.replace(target)
            packed: archive.Packed = end.value
        except ArchiveTooLargeError:
            raise self._too_large(archive.estimate(entries), requirements, installed) from None
        finally:
            packing.close()
        yield Step(
            "archive", total, total, "bytes", f"{total / _MIB:.1f} MiB in {packed.size / _MIB:.1f} MiB"
        )
        return packed

    def _too_large(
        self, shares: Mapping[str, int], requirements: Requirements, installed: Installed
    ) -> TroubleError:
        by_size = sorted(self.files, key=lambda name: -(self.root / name).stat().st_size)
        return size.too_large(
            shares,
            installed.distributions,
            [each.name for each in requirements.wanted],
            limit=self.options.limit,
            largest_files=[f"{each} {human_size((self.root / each).stat().st_size)}" for each in by_size[:2]],
        )


def read_names(texts: Iterable[str]) -> tuple[str, ...]:
    """Return the names in ``"a,b"`` and the like."""
    return tuple(name for text in texts for name in re.split(r"[,\s]+", text) if name)


def _found(project: Project) -> tuple[int, int, str, str]:
    """Return how many functions were found, as a step tells it."""
    functions, endpoints = len([*project.functions]), len([*project.resources])
    note = f"{counted(functions, 'function')} on {counted(endpoints, 'endpoint')}"
    return functions, functions, "functions", note


def _python(version: str) -> str:
    minor = ".".join(version.split(".")[:2])
    if minor not in PYTHONS:
        raise ProjectError(
            f"There are no workers of Python {version!r}{did_you_mean(minor, PYTHONS)}",
            hint=f"--python-version takes one of {', '.join(PYTHONS)}; Runpod's images run {PYTHON}.",
        )
    return minor


def _file_name(name: str) -> str:
    if not name or name != Path(name).name or name.startswith("."):
        raise ProjectError(
            f"{name!r} is no name for an artifact: it lies in {STATE}/, beside its manifest.",
            hint="Give a name alone: -o production.tar.gz",
        )
    return name if name.endswith((".tar.gz", ".tgz")) else f"{name}.tar.gz"


@contextlib.contextmanager
def _alone(state: Path) -> Iterator[None]:
    """Keep other builds of the project away."""
    from filelock import FileLock, Timeout

    try:
        with FileLock(state / ".lock", timeout=0):
            yield
    except Timeout:
        raise ProjectError(
            f"Another build of {state.parent} is at work.", hint="Wait until it has ended."
        ) from None


@contextlib.contextmanager
def _folder(folder: Path, *, keep: bool) -> Iterator[Path]:
    """Give a new folder, and remove it at the end unless it is to be kept."""
    _remove(folder)
    folder.mkdir()
    try:
        yield folder
    finally:
        if not keep:
            _remove(folder)


def _remove(folder: Path) -> None:
    if folder.is_symlink():
        folder.unlink()
    elif folder.exists():
        shutil.rmtree(folder)


def _replace(path: Path, content: bytes) -> None:
    half = path.with_name(f"{path.name}.half")
    half.write_bytes(content)
    half.replace(path)


def _link(target: Path) -> None:
    """Give an artifact the name that the documentation has for it; a copy where links are impossible."""
    name = target.with_name(ARCHIVE)
    if name == target:
        return
    half = target.with_name(f"{ARCHIVE}.half")
    half.unlink(missing_ok=True)
    try:
        half.symlink_to(target.name)
    except OSError:
        shutil.copyfile(target, half)
    half.replace(name)
