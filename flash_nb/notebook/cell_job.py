"""One remote cell: from its text to a job, and from the job's outcome back to the notebook.

`CellText` knows where the cell's lines are, `prepare` decides everything before anything is sent,
and `CellJob` follows the job: it shows what arrives, keeps the record up to date, and binds names.
While a cell waits, all of that happens in the cell's own thread, so that every output lands in its
cell on every version of ipykernel.
"""

from __future__ import annotations

import ast
import contextlib
import queue
import time
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Protocol

from IPython.core.displayhook import DisplayHook

from flash_nb.cells.plan import CellPlan, plan_cell
from flash_nb.cells.shell import Translated, translate
from flash_nb.errors import CellError, UndefinedNameError, did_you_mean
from flash_nb.jobs import (
    ClearEvent,
    DisplayEvent,
    FinishedEvent,
    JobEvent,
    JobStatus,
    PhaseEvent,
    StatusEvent,
    StoredEvent,
)
from flash_nb.notebook.namespace import bind
from flash_nb.notebook.options import CellOptions
from flash_nb.notebook.record import JobView, ValueSize
from flash_nb.resources.serverless import ServerlessResource
from flash_nb.sdk import outputs
from flash_nb.sdk.capture import Capture, Source, capture, check_size
from flash_nb.sdk.dependencies import requirements_for
from flash_nb.sdk.job import Job
from flash_nb.sdk.session import Session
from flash_nb.worker.namespace import Item, attribute, remember_source

HEARTBEAT_S = 0.1
CANCEL_WAIT_S = 0.4
RECORD_EVERY_S = 0.25


@dataclass(frozen=True)
class CellText:
    """A cell's text, and the name under which tracebacks find it.

    Attributes:
        raw: What the user typed, the magic line included.
        filename: The name of its code.
        translated: Its body as plain Python, moved down by the magic line.
    """

    raw: str
    filename: str
    translated: Translated

    @classmethod
    def of(cls, line: str, body: str, name_code: Callable[[str, str], str]) -> CellText:
        """Make it from what IPython hands to a cell magic.

        Args:
            line: The rest of the magic line.
            body: The lines below it.
            name_code: Registers ``(source, raw)`` with IPython and returns the code's name.
        """
        raw = f"%%flash_remote {line}".rstrip() + "\n" + body
        source = "\n" + body
        filename = name_code(source, raw)
        remember_source(filename, raw)
        return cls(raw, filename, translate(source))


@dataclass(frozen=True)
class PreparedCell:
    """A cell that may be sent."""

    text: CellText
    options: CellOptions
    captured: Capture
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    requirements: tuple[str, ...]
    definitions: tuple[Item, ...]

    @property
    def request(self) -> dict[str, Any]:
        """The `flash_nb.protocol.channel.CellRequest`."""
        return {
            "execution_type": "cell",
            "source": self.text.translated.source,
            "filename": self.text.filename,
            "cell": self.text.raw,
            "namespace": self.captured.items,
            "inputs": list(self.inputs),
            "outputs": list(self.outputs),
            "definitions": [item["name"] for item in self.definitions],
            "show_value": not DisplayHook.semicolon_at_end_of_expression(self.text.translated.source),
        }


def check_syntax(raw: str, name_code: Callable[[str, str], str]) -> None:
    """Raise the syntax error of a remote cell, if it has one.

    Args:
        raw: The cell, the magic line included.
        name_code: As for `CellText.of`.
    """
    source = "\n" + raw.partition("\n")[2]
    with contextlib.suppress(CellError), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the worker says it again
        try:
            compile(
                translate(source).source, "<cell>", "exec", ast.PyCF_ALLOW_TOP_LEVEL_AWAIT, dont_inherit=True
            )
        except SyntaxError as error:
            error.filename = name_code(source, raw)
            raise


def plan(text: CellText, known: frozenset[str]) -> CellPlan:
    """Analyse a cell.

    Raises:
        SyntaxError: It is not Python; the error points at the user's line.
        UndefinedNameError: It reads names that exist nowhere.
    """
    try:
        found = plan_cell(text.translated.source, known)
    except SyntaxError as error:
        error.filename = text.filename
        raise
    if found.undefined:
        first = found.undefined[0]
        names = ", ".join(dict.fromkeys(read.name for read in found.undefined))
        raise UndefinedNameError(
            f"Line {first.line} reads {first.name!r}, which is not defined"
            f"{did_you_mean(first.name, known)}" + (f" (undefined in all: {names})" if "," in names else ""),
            hint="Define it in the notebook or in this cell; nothing was sent.",
        )
    return found


def prepare(
    text: CellText, found: CellPlan, options: CellOptions, namespace: Mapping[str, Any]
) -> PreparedCell:
    """Collect all that the cell needs.

    Raises:
        FlashError: A value cannot be sent, all are too large, or a dependency makes no sense.
    """
    inputs = found.inputs if options.inputs is None else options.inputs
    missing = [name for name in inputs if name not in namespace]
    if missing:
        raise UndefinedNameError(f"--in names {missing[0]!r}, which is not defined.")
    captured = capture(inputs, namespace)
    check_size(captured.sizes)
    requirements = requirements_for(
        captured.modules.union(found.imports), [*options.deps, *text.translated.dependencies]
    )
    definitions = tuple(_definition_items(text, found, options))
    defined = {item["name"] for item in definitions}
    outputs = found.outputs if options.outputs is None else options.outputs
    return PreparedCell(
        text=text,
        options=options,
        captured=captured,
        inputs=tuple(inputs),
        outputs=tuple(name for name in outputs if name not in defined),
        requirements=requirements,
        definitions=definitions,
    )


def _definition_items(text: CellText, found: CellPlan, options: CellOptions) -> Sequence[Item]:
    """Return what the cell defines and nothing else binds: that is executed here, not brought back."""
    from flash_nb.cells.definitions import find_definitions

    wanted = found.only_defined
    if options.outputs is not None:
        wanted = tuple(name for name in wanted if name in options.outputs)
    definitions = find_definitions(text.translated.source) if wanted else {}
    return [Source(definitions[name], text.filename).item for name in wanted if name in definitions]


class ShowRecord(Protocol):
    """Shows the record of one job."""

    def __call__(self, view: JobView, *, again: bool = False) -> None:
        """Display it when first called or `again`, else update it."""


class CellJob:
    """A cell's job, from submission to the names that it binds.

    Args:
        session: Who submits it.
        resource: What it runs on.
        cell: The prepared cell.
        namespace: The user's.
        show_record: Displays or updates the record; displays it if it is to be shown `again`.
        place: Who runs it, where that is to be said.
    """

    def __init__(
        self,
        session: Session,
        resource: ServerlessResource,
        cell: PreparedCell,
        namespace: dict[str, Any],
        show_record: ShowRecord,
        *,
        place: str = "",
    ) -> None:
        self._cell = cell
        self._namespace = namespace
        self._show_record = show_record
        self._submitted_at = time.monotonic()
        self._last_shown = 0.0
        self.events: queue.SimpleQueue[JobEvent] = queue.SimpleQueue()
        self.value: DisplayEvent | None = None
        self.view = JobView(
            title=cell.options.name or "cell",
            status=JobStatus.IN_QUEUE,
            resource=resource.name,
            place=place,
            live=True,
            hardware=resource.describe(),
            dependencies=cell.requirements,
            inputs=tuple(
                ValueSize(name, size, type(namespace.get(name)).__name__)
                for name, size in cell.captured.sizes.items()
            ),
        )
        self._session = session
        self._resource = resource
        self.job: Job

    def start(self) -> None:
        """Submit the job; its events go to `events`."""
        cell = self._cell
        self._show(force=True)
        endpoint = self._session.endpoint(self._resource, backend=cell.options.backend)
        if endpoint.simulated:
            self.view = replace(self.view, note="simulated on this machine's CPU")
        self.job = self._session.submit(
            self._resource,
            label=self.view.title,
            request=cell.request,
            decode=lambda _: None,
            resolve=self._resolve,
            on_event=self.events.put,
            buffers=cell.captured.buffers,
            requirements=cell.requirements,
            system=cell.options.system_deps,
            timeout_s=cell.options.timeout,
            allow_apt=cell.options.allow_apt,
            durable=cell.options.detach,
            backend=cell.options.backend,
        )
        self.view = replace(self.view, job_id=self.job.id)

    def wait(self) -> None:
        """Show what arrives until the job is over.

        Raises:
            KeyboardInterrupt: The user interrupted; the job has been cancelled.
        """
        try:
            while not self._take(HEARTBEAT_S):
                pass
        except KeyboardInterrupt:
            self._interrupted()
            raise

    def wait_stored(self) -> None:
        """Wait until the job is safe without this kernel."""
        while True:
            event = self.events.get()
            self.receive(event)
            if isinstance(event, FinishedEvent):
                return
            if isinstance(event, StoredEvent):
                self._leave("detached")
                return

    def _interrupted(self) -> None:
        self.job.cancel()
        self.view = replace(self.view, phase="cancelling")
        self._show(force=True)
        give_up_at = time.monotonic() + CANCEL_WAIT_S
        try:
            while time.monotonic() < give_up_at:
                if self._take(0.05):
                    return
        except KeyboardInterrupt:
            outputs.show_text(f"Stopped waiting for job {self.job.id}; it is being cancelled.\n")
        self._leave("cancelling")

    def _leave(self, phase: str) -> None:
        """Show how the job stands when nobody waits for it any more."""
        self.view = replace(self.view, phase=phase, live=False)
        self._show(force=True)

    def _take(self, timeout: float) -> bool:
        """Take one event, if one comes; True when the job is over."""
        try:
            event = self.events.get(timeout=timeout)
        except queue.Empty:
            self._show()
            return False
        self.receive(event)
        return isinstance(event, FinishedEvent)

    def receive(self, event: JobEvent) -> None:
        """Show an event, or what it says about the job."""
        match event:
            case PhaseEvent(phase):
                self.view = replace(self.view, phase=phase)
                self._show()
            case StatusEvent(info):
                phase = "" if info.status is JobStatus.IN_PROGRESS else self.view.phase
                self.view = replace(
                    self.view, status=info.status, worker=info.worker, attempts=info.attempts, phase=phase
                )
                self._show()
            case FinishedEvent():
                self._finish(event)
            case DisplayEvent(is_result=True):
                self.value = event
            case ClearEvent():  # it clears the record too
                outputs.show(event)
                self._show_record(self.view, again=True)
            case _:
                outputs.show(event)

    def _finish(self, event: FinishedEvent) -> None:
        info, result = event.info, event.result
        self.view = replace(
            self.view,
            status=info.status,
            live=False,
            phase="",
            worker=info.worker,
            attempts=max(1, info.attempts),
            queued_s=info.queued_s,
            cold_s=info.cold_s,
            run_s=info.run_s,
            error=info.error.splitlines()[0] if info.error else None,
        )
        if result is not None:
            self._bind(event, result)
        self._show(force=True)

    def _bind(self, event: FinishedEvent, result: dict[str, Any]) -> None:
        bound = bind(
            self._namespace,
            items=result["namespace"],
            definitions=[
                item for item in self._cell.definitions if item["name"] in result.get("defined", ())
            ],
            buffers=event.buffers[: result["counts"][0]],
            changed=result.get("changed", ()),
            deleted=result.get("deleted", ()),
        )
        sizes = result.get("sizes", {})
        self.view = replace(
            self.view,
            outputs=tuple(ValueSize(n, sizes[n], bound.kinds[n]) for n in bound.names if n in sizes),
            changed=tuple(result.get("changed", ())),
            unbound=(*(tuple(pair) for pair in result.get("unbound", ())), *bound.unbound),
        )

    def _resolve(self, qualname: str) -> Any:
        root, *path = qualname.split(".")
        return attribute(self._namespace[root], path)

    def _show(self, *, force: bool = False) -> None:
        now = time.monotonic()
        if force or now - self._last_shown >= RECORD_EVERY_S:
            self._last_shown = now
            self.view = replace(self.view, elapsed_s=now - self._submitted_at)
            self._show_record(self.view)
