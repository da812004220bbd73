"""What a scan finds in a project: functions on resources. Values only."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from flash_nb.errors import ProjectError
from flash_nb.resources.serverless import ServerlessResource


@dataclass(frozen=True, order=True)
class Place:
    """Where something stands.

    Attributes:
        file: Relative to the project, with ``/``.
        line: From 1.
    """

    file: str
    line: int

    def __str__(self) -> str:
        return f"{self.file}:{self.line}"


@dataclass(frozen=True)
class Trouble:
    """Something that stands against a build.

    Attributes:
        place: Where; None if it is nowhere in particular.
        message: What it is, without a full stop.
        fix: What to do about it, in a line.
    """

    place: Place | None
    message: str
    fix: str

    def __str__(self) -> str:
        where = f"{self.place}: " if self.place else ""
        return f"{where}{self.message}\n    → {self.fix}"


class TroubleError(ProjectError):
    """A project that cannot be built, with all that stands against it."""

    def __init__(self, troubles: list[Trouble]) -> None:
        super().__init__("\n".join(map(str, troubles)))
        self.troubles = troubles


@dataclass(frozen=True)
class Import:
    """An import of a module that is no file of the project.

    Attributes:
        module: Absolute: ``numpy.linalg``.
        place: Of the statement.
        guarded: Whether the code is made to go on without it: inside ``try`` … ``except ImportError``,
            or only under ``TYPE_CHECKING``.
        names: What is taken from it; empty for ``import module``. Each may be a module too.
    """

    module: str
    place: Place
    guarded: bool = False
    names: tuple[str, ...] = ()


@dataclass(frozen=True)
class Function:
    """A decorated function or class.

    Attributes:
        name: Its name.
        module: Dotted, from the project's folder: ``workers.gpu.endpoint``.
        place: Of its ``def`` or ``class``.
        kind: What it is.
        is_async: Whether it is an ``async def``.
        methods: Public methods of a class, in source order.
        method: ``POST`` …, of a load-balanced resource; else empty.
        path: ``/items``, with `method`.
        dependencies: Python packages, as written.
        system_dependencies: Packages of the operating system.
        accelerate_downloads: Whether dependencies are downloaded in parallel.
        strict: Whether the code may read nothing from outside of it.
        calls: Names of the project's remote functions that its body, or a helper that it uses in its
            module, may call. Those of other resources are calls to other endpoints.
    """

    name: str
    module: str
    place: Place
    kind: Literal["function", "class"]
    is_async: bool
    methods: tuple[str, ...] = ()
    method: str = ""
    path: str = ""
    dependencies: tuple[str, ...] = ()
    system_dependencies: tuple[str, ...] = ()
    accelerate_downloads: bool = True
    strict: bool = False
    calls: frozenset[str] = frozenset()


@dataclass(frozen=True)
class Group:
    """A resource with the functions that run on it: one endpoint.

    Attributes:
        resource: As declared, every setting kept.
        variable: The name that it is bound to; empty if it is written inside the decorator.
        place: Of its declaration.
        functions: In order of module and line.
        env_from: A variable of the workers -> the variable of whoever deploys that it is taken from
            then, as ``env={"HF_TOKEN": os.environ["HF_TOKEN"]}`` says. Its value is not in the
            project. Where it may be unset, what it is then is in the resource's ``env``.
    """

    resource: ServerlessResource
    variable: str
    place: Place
    functions: tuple[Function, ...]
    env_from: Mapping[str, str] = field(default_factory=dict)

    @property
    def key(self) -> str:
        """Identifies it in a project: the resource's name."""
        return self.resource.name


@dataclass(frozen=True)
class Mothership:
    """The endpoint that serves the project's own FastAPI application.

    Attributes:
        file: ``main.py``.
        variable: ``app``.
        resource: What it runs on.
        is_explicit: Whether ``mothership.py`` says so.
        calls: Remote functions that the application, or a module of the project that it imports,
            may call.
        env_from: As `Group.env_from`.
    """

    file: str
    variable: str
    resource: ServerlessResource
    is_explicit: bool = False
    calls: frozenset[str] = frozenset()
    env_from: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Project:
    """A project as its files say it.

    Attributes:
        name: Of its folder.
        root: Its folder.
        groups: By `Group.key`; without functions that are `local`.
        mothership: None if no file serves an application with routes.
        imports: Of each module that runs on some worker (those with remote functions, the
            application's, and what these import), what it imports from outside the project, anywhere.
        notes: What does not stand against a build, and its user should know all the same.
    """

    name: str
    root: Path
    groups: tuple[Group, ...]
    mothership: Mothership | None = None
    imports: Mapping[str, tuple[Import, ...]] = field(default_factory=dict)
    notes: tuple[Trouble, ...] = ()

    @property
    def functions(self) -> Iterator[Function]:
        """Those of all groups."""
        for group in self.groups:
            yield from group.functions

    @property
    def resources(self) -> Iterator[ServerlessResource]:
        """Those of all endpoints."""
        for group in self.groups:
            yield group.resource
        if self.mothership:
            yield self.mothership.resource
