"""Preflight of what travels with a cell: its values, its packages, and what its worker makes of them."""

from __future__ import annotations

import inspect
import io
import socket
import sys
import threading
import types
from collections.abc import Collection, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from flash_nb.cells.finding import Code, Finding, Severity
from flash_nb.cells.plan import Read
from flash_nb.cells.preflight import allow_fix
from flash_nb.cells.requirements import requirement_name
from flash_nb.cells.secret import form_of
from flash_nb.errors import CellError, PayloadTooLargeError
from flash_nb.sdk.capture import Capture, check_size
from flash_nb.sdk.dependencies import unprovided
from flash_nb.sdk.obstacle import Obstacle, gpu_of
from flash_nb.sdk.secret import secret_in
from flash_nb.sdk.target import Target
from flash_nb.worker.culprit import find_part, type_name

_LOCKS = (
    type(threading.Lock()),
    type(threading.RLock()),
    threading.Condition,
    threading.Event,
    threading.Semaphore,
    threading.Barrier,
)


class Places:
    """Where in a cell the names that travel are asked for.

    Args:
        reads: What the cell reads.
        via: What reads the names that it does not read itself.
    """

    def __init__(self, reads: Mapping[str, Read], via: Mapping[str, str]) -> None:
        self._reads = reads
        self._via = via

    def line(self, name: str) -> int:
        """Return the line that needs a name; 1, the magic line, if none does."""
        while name not in self._reads and name in self._via:
            name = self._via[name]
        return self._reads[name].line if name in self._reads else 1

    def reader(self, name: str) -> str:
        """Return what reads a name, if it is not the cell: " (read by f)"."""
        via = self._via.get(name)
        return f" (read by {via})" if via and name not in self._reads else ""


def coroutine_names(names: Iterable[str], namespace: Mapping[str, Any]) -> frozenset[str]:
    """Return the names of async functions. Remote ones are not among them: no worker can call those."""
    return frozenset(name for name in names if inspect.iscoroutinefunction(namespace.get(name)))


def check_values(
    captured: Capture,
    namespace: Mapping[str, Any],
    places: Places,
    *,
    target: Target,
    allowed: Collection[str] = (),
) -> Iterator[Finding]:
    """Yield what stands against sending the names of a cell.

    Args:
        captured: They, surveyed.
        namespace: What they name.
        places: Where the cell asks for them.
        target: The worker.
        allowed: Names whose secrets may be sent.
    """
    failed = {obstacle.name for obstacle in captured.obstacles if obstacle.kind == "unpicklable"}
    for obstacle in captured.obstacles:
        if obstacle.kind != "file" or obstacle.name not in failed:
            yield from _obstacle(obstacle, namespace, places, target)
    try:
        check_size({**captured.sizes, **captured.files.sizes})
    except PayloadTooLargeError as error:
        sizes = {**captured.sizes, **captured.files.sizes}
        largest = max(sizes, key=sizes.__getitem__)
        yield Finding.of_error("too-large", places.line(largest), error)
    yield from _secrets(captured, namespace, places, allowed)


def check_packages(
    lines: Mapping[str, int],
    explicit: Iterable[str],
    captured: Capture,
    places: Places,
    target: Target,
    *,
    folder: Path | None = None,
    guesses: Iterable[str] = (),
) -> Iterator[Finding]:
    """Note the modules that travel as source; yield what no package provides, and what is no requirement.

    Args:
        lines: The modules that the cell imports, with their lines.
        explicit: The requirements that the user wrote.
        captured: What travels; it has imports of its own.
        places: Where the cell asks for it.
        target: The worker.
        folder: Where the notebook lies, if that is not where modules are looked for anyway.
        guesses: What may be a module that the cell imports.
    """
    captured.take_files(lines, guesses, [] if folder is None else [folder])
    files = captured.files
    wanted = set(target.packages)
    for text in explicit:
        try:
            wanted.add(requirement_name(text))
        except CellError as error:  # noqa: PERF203 - a handful of words
            yield Finding.of_error("option", 1, error)
    said: set[str] = set()

    def line_of(module: str) -> int:
        asked = files.via.get(module, module)
        return lines.get(asked) or lines.get(asked.rpartition(".")[0]) or _line_of(asked, captured, places)

    outside = [module for module in lines if module in files.outside]
    for module in [*outside, *sorted(files.outside - lines.keys())]:
        missing = unprovided(module, folder)
        if missing is None or missing.module in said or missing.package in wanted:
            continue
        said.add(missing.module)
        severity = Severity.WARNING if missing.package else Severity.ERROR
        yield Finding("import", line_of(module), missing.message, missing.fix, severity)
    for trouble in files.troubles:
        yield Finding("import", line_of(trouble.module), trouble.message, trouble.fix)
    for module, doubt in files.doubts:
        yield Finding(doubt.code, line_of(module), doubt.message, doubt.fix, Severity.WARNING)


def _line_of(module: str, captured: Capture, places: Places) -> int:
    return places.line(captured.brought.get(module, ""))


# --- obstacles -----------------------------------------------------------------------------------


def _obstacle(
    obstacle: Obstacle, namespace: Mapping[str, Any], places: Places, target: Target
) -> Iterator[Finding]:
    name, part = obstacle.name, obstacle.part
    value, line = namespace.get(name), places.line(name)
    path = find_part(name, value, lambda each: each is part or type(each) is part) or name
    where = path + places.reader(name)
    match obstacle.kind:
        case "remote":
            yield not_on_a_worker(name, where, line)
        case "unpicklable":
            code, fix = _advice(part)
            message = f"{where} cannot be sent: {type_name(part)} objects cannot be pickled"
            yield Finding(code, line, f"{message} ({obstacle.said})", fix)
        case "gpu":
            message = f"{where} lives on a GPU of this machine ({gpu_of(part)})"
            fix = f"send {_on_cpu(name, value, path, part)}, and move it back on the worker"
            yield Finding("gpu", line, message, fix)
        case "file":
            message = f"{where} is an open file: a copy of its text is sent"
            fix = "send the text itself, or a path that the worker can open"
            yield Finding("file", line, message, fix, Severity.WARNING)
        case "redefined":
            cls = part.__qualname__
            what = cls if value is part else f"an instance of {cls}"
            message = f"{where} is {what} as it was before {cls} was defined again"
            yield Finding("redefined", line, message, f"make {name} again", Severity.WARNING)
        case "code" if target.python is not None and target.runs_other_python:
            here, there = (".".join(map(str, version)) for version in (sys.version_info[:2], target.python))
            message = f"{where} travels as bytecode of Python {here}, and the worker runs Python {there}"
            yield Finding("python", line, message, "give its code a name with def or class, in a cell")


def not_on_a_worker(name: str, where: str, line: int) -> Finding:
    """Return the finding for a remote function that a remote cell reads."""
    message = f"{where} is a remote function: code on a worker cannot call it"
    fix = f"call it from the notebook and use its result: result = await {name}(…)"
    return Finding("remote", line, message, fix)


def _advice(part: Any) -> tuple[Code, str]:
    """Return what sort of thing cannot be pickled, and what to do about it."""
    if isinstance(part, _LOCKS):
        return "lock", "make it on the worker, or leave it out of what is sent"
    if isinstance(part, socket.socket):
        return "socket", "connect on the worker, and send the address"
    if isinstance(part, io.IOBase):
        return "file", "open it on the worker, or send its content"
    if isinstance(part, types.GeneratorType):
        return "generator", "send a list of its items: list(…)"
    if isinstance(part, (types.AsyncGeneratorType, types.CoroutineType)):
        return "generator", "await it, and send what it gives"
    return "unpicklable", "make it on the worker instead, or send the plain data that it is made from"


_ON_CPU = {
    "cudf": "{}.to_pandas()",
    "cupy": "{}.get()",
    "jax": "numpy.asarray({})",
    "jaxlib": "numpy.asarray({})",
    "tensorflow": "{}.numpy()",
    "torch": "{}.cpu()",
}


def _on_cpu(name: str, value: Any, path: str, part: Any) -> str:
    library = type(part).__module__.partition(".")[0]
    whole = library == "torch" and callable(getattr(value, "cpu", None))  # a model, for its parameters
    return _ON_CPU[library].format(name if whole else path)


# --- secrets -------------------------------------------------------------------------------------


def _secrets(
    captured: Capture, namespace: Mapping[str, Any], places: Places, allowed: Collection[str]
) -> Iterator[Finding]:
    for name in captured.sizes:
        found = "" if name in allowed else secret_in(name, namespace[name])
        if found:
            yield Finding("secret", places.line(name), found + places.reader(name), allow_fix(name))
    for name, source in captured.sources.items():
        form = "" if name in allowed else form_of(source.definition.source)
        if form:
            message = f"the source of {name} holds what looks like {form}"
            yield Finding("secret", places.line(name), message, allow_fix(name))
