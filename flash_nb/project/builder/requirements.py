"""What has to be installed into an artifact, and who asks for it.

Three ask: ``requirements.txt``, the ``dependencies=`` of all functions, and the runtime. Nothing is decided
between them here: each line goes to the installer as it was written, so that it may say of two lines of one
package that they contradict each other. Only the runtime's own lines give way to lines of the user.
"""

from __future__ import annotations

import os
import re
import shlex
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import urlsplit

from packaging.utils import InvalidWheelFilename, canonicalize_name, parse_wheel_filename

from flash_nb.cells.requirements import merge, requirement_name
from flash_nb.errors import CellError
from flash_nb.project.declared import Place, Project, Trouble, TroubleError

FILE = "requirements.txt"
OURS = frozenset({"flash-nb", "runpod-flash", "tetra-rp"})
"""Packages whose names the runtime of an artifact answers for."""

_COMMENT = re.compile(r"(?:^|\s+)#.*$")
_VARIABLE = re.compile(r"\$\{([A-Z0-9_]+)\}")
_SHORT = {
    "-c": "--constraint",
    "-f": "--find-links",
    "-i": "--index-url",
    "-r": "--requirement",
    "-e": "--editable",
}
_AS_IT_IS = frozenset({"--prefer-binary", "--only-binary", "--use-feature"})  # only wheels are taken anyway
_KEPT = frozenset({"--extra-index-url", "--index-url", "--no-index", "--pre", "--trusted-host"})


@dataclass(frozen=True, order=True)
class Wanted:
    """A requirement, and who asks for it.

    Attributes:
        name: Canonical.
        text: As PEP 508 has it.
        place: Where it is written; None if the runtime asks for it.
        hashes: ``sha256:…``, one of which its file has to have.
    """

    name: str
    text: str
    place: Place | None = None
    hashes: tuple[str, ...] = ()

    @property
    def line(self) -> str:
        """It, as a line of a requirements file."""
        return " ".join([self.text, *(f"--hash={each}" for each in self.hashes)])

    def __str__(self) -> str:
        return f"{self.text} ({self.place or 'the runtime of artifacts'})"


@dataclass(frozen=True)
class Requirements:
    """All that has to be installed.

    Attributes:
        wanted: Sorted by name.
        constraints: Which versions may be taken, should the package be needed.
        options: Where packages come from: pip's options with their values, as written.
        notes: What was left out, and why.
    """

    wanted: tuple[Wanted, ...] = ()
    constraints: tuple[Wanted, ...] = ()
    options: tuple[tuple[str, str], ...] = ()
    notes: tuple[str, ...] = ()

    def about(self, name: str) -> tuple[Wanted, ...]:
        """Return who asks for a package."""
        return tuple(
            each for each in (*self.wanted, *self.constraints) if each.name == canonicalize_name(name)
        )


def requirements_of(project: Project, runtime: Iterable[str] = ()) -> Requirements:
    """Return what a project has to have.

    Args:
        project: With its functions; its folder's ``requirements.txt`` is read.
        runtime: What the runtime needs.

    Raises:
        TroubleError: A line makes no sense, or means something that no worker has.
    """
    written = read_file(project.root)
    if written.troubles:
        raise TroubleError(written.troubles)
    asked = [*written.wanted, *_declared(project)]
    wanted = [each for each in asked if each.name not in OURS]
    mine = [each for each in asked if each.name in OURS]
    by_text = {each.text: each for each in wanted}
    added = [text for text in merge(by_text, runtime) if text not in by_text]
    wanted += [Wanted(requirement_name(text), text) for text in added]
    once = {each.line: each for each in reversed(wanted)}
    return Requirements(
        wanted=tuple(sorted(once.values(), key=lambda each: (each.name, each.text))),
        constraints=tuple(written.constraints),
        options=tuple(written.options),
        notes=(
            *written.notes,
            *(f"{each} is left out: the artifact's own runtime answers for it" for each in mine),
        ),
    )


def _declared(project: Project) -> list[Wanted]:
    return [
        Wanted(requirement_name(text), text.strip(), function.place)
        for function in project.functions
        for text in function.dependencies
    ]


# ---- requirements.txt -----------------------------------------------------------------------------


@dataclass
class Written:
    """What a requirements file says, with those that it includes."""

    wanted: list[Wanted] = field(default_factory=list)
    constraints: list[Wanted] = field(default_factory=list)
    options: list[tuple[str, str]] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    troubles: list[Trouble] = field(default_factory=list)


def read_file(root: Path, name: str = FILE, variables: Mapping[str, str] = os.environ) -> Written:
    """Read a requirements file; nothing is wanted if there is none.

    Args:
        root: The project's folder: nothing outside it is read.
        name: Of the file, relative to the folder.
        variables: What ``${NAME}`` stands for.
    """
    reader = _Reader(root.resolve(), variables)
    if (root / name).is_file():
        reader.read(name, is_constraint=False)
    return reader.written


class _Reader:
    def __init__(self, root: Path, variables: Mapping[str, str]) -> None:
        self.written = Written()
        self._root = root
        self._variables = variables
        self._seen: set[tuple[str, bool]] = set()

    def read(self, file: str, *, is_constraint: bool) -> None:
        if (file, is_constraint) in self._seen:
            return
        self._seen.add((file, is_constraint))
        text = (self._root / file).read_text(encoding="utf-8-sig", errors="replace")
        for number, line in logical_lines(text):
            place = Place(file, number)
            try:
                self._line(line, place, is_constraint=is_constraint)
            except CellError as error:
                self.written.troubles.append(Trouble(place, error.message, error.hint or ""))

    def _line(self, line: str, place: Place, *, is_constraint: bool) -> None:
        line = _VARIABLE.sub(lambda match: self._variables.get(match[1], match[0]), line)
        if line.startswith("-"):
            self._option(line, place)
            return
        text, *options = re.split(r"\s+(?=--)", line)
        hashes = []
        for option in options:
            name, value = _name_and_value(option)
            if name != "--hash":
                raise CellError(
                    f"{name} beside {text!r} has no meaning here: only wheels are installed",
                    hint="Leave it out.",
                )
            hashes.append(value)
        text = self._as_requirement(text.strip(), place)
        found = Wanted(requirement_name(text), text, place, tuple(hashes))
        (self.written.constraints if is_constraint else self.written.wanted).append(found)

    def _as_requirement(self, text: str, place: Place) -> str:
        """Return a line as a requirement, also one that is a path or an address of a wheel."""
        if " @ " in text or not re.search(r"[/\\]|\.whl$|^\.", text.partition(";")[0]):
            return text
        target, _, marker = text.partition(";")
        target = target.strip()
        is_address = "://" in target
        try:
            name = parse_wheel_filename(urlsplit(target).path.rpartition("/")[2])[0]
        except InvalidWheelFilename:
            raise CellError(
                f"{text!r} is no wheel: packages are not built here, for a worker's machine is another one",
                hint="Put its code into the project, or give the address of a wheel.",
            ) from None
        if not is_address:
            target = self._within(target, place).as_uri()
        return f"{name} @ {target}" + (f" ; {marker.strip()}" if marker else "")

    def _option(self, line: str, place: Place) -> None:
        name, value = _name_and_value(line)
        written = self.written
        if name in {"--requirement", "--constraint"}:
            path = self._within(value, place)
            self.read(path.relative_to(self._root).as_posix(), is_constraint=name == "--constraint")
        elif name == "--find-links":
            folder = value if "://" in value else str(self._within(value, place))
            written.options.append((name, folder))
        elif name == "--require-hashes":
            written.notes.append(
                f"{place}: --require-hashes is not kept, as the runtime's packages have none; "
                "the hashes that are written are checked"
            )
        elif name in _KEPT:
            written.options.append((name, value))
        elif name == "--editable":
            raise CellError(
                f"-e {value} is of this machine alone", hint="Put its code into the project, or name a wheel."
            )
        elif name not in _AS_IT_IS:
            raise CellError(f"{name} has no meaning here", hint="Leave it out.")

    def _within(self, path: str, place: Place) -> Path:
        """Return a path that a file names, relative to that file as pip has it.

        Raises:
            CellError: It is outside the project, or absent.
        """
        found = (self._root / place.file).parent.joinpath(path).resolve()
        if not found.is_relative_to(self._root):
            raise CellError(f"{path} lies outside the project", hint="Move it into the project's folder.")
        if not found.exists():
            raise CellError(f"there is no {path}", hint="Correct the path, or leave the line out.")
        return found


def logical_lines(text: str) -> Iterator[tuple[int, str]]:
    r"""Yield the lines that say something, each with the number of its first line.

    Comments are gone; lines that end with ``\`` are joined with the next one.
    """
    waiting, first = "", 0
    for number, line in enumerate([*text.splitlines(), ""], 1):
        first = first or number
        if line.endswith("\\") and not _COMMENT.match(line):
            waiting += line[:-1]
            continue
        whole = _COMMENT.sub("", waiting + line).strip()
        if whole:
            yield first, whole
        waiting, first = "", 0


def _name_and_value(option: str) -> tuple[str, str]:
    """Return a long option's name and its value: of ``-r x``, ``-rx``, ``--requirement=x``, ``--hash x``."""
    if option.startswith("--"):
        match = re.fullmatch(r"(--[\w-]+)(?:\s*=\s*|\s+|$)(.*)", option)
        name, value = match.groups() if match else (option, "")
    else:
        name, value = option[:2], option[2:].removeprefix("=")
    try:
        words = shlex.split(value)
    except ValueError:
        words = [value.strip()]
    return _SHORT.get(name, name), " ".join(words)
