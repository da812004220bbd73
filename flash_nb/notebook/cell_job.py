"""One remote cell: from its text to a job, and from the job's outcome back to the notebook.

`CellText` knows where the cell's lines are, `prepare` decides everything before anything is sent,
and `CellJob` follows the job: it shows what arrives, keeps the record up to date, and binds names.
"""

from __future__ import annotations

import ast
import contextlib
import contextvars
import queue
import threading
import time
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import astuple, dataclass, replace
from typing import Any, Protocol

from IPython.core.displayhook import DisplayHook

from flash_nb.cells.finding import Finding, refuse
from flash_nb.cells.plan import CellPlan, plan_cell
from flash_nb.cells.shell import Translated, translate
from flash_nb.errors import CellError, JobCancelledError, UndefinedNameError
from flash_nb.jobs import (
    ClearEvent,
    DisplayEvent,
    FinishedEvent,
    JobEvent,
    JobInfo,
    JobStatus,
    PhaseEvent,
    StatusEvent,
)
from flash_nb.notebook.budget import Budget, budget_of, timeout_s
from flash_nb.notebook.cell_cache import CellCache, kept_text, saved_text
from flash_nb.notebook.namespace import bind
from flash_nb.notebook.options import CellOptions
from flash_nb.notebook.pending import Pending
from flash_nb.notebook.preflight import inspect_cell, known_around
from flash_nb.notebook.record import LOOKS, JobView, ValueSize
from flash_nb.resources.prices import Rate
from flash_nb.resources.serverless import ServerlessResource
from flash_nb.sdk import money, outputs
from flash_nb.sdk.board import Origin
from flash_nb.sdk.cache import Kept
from flash_nb.sdk.capture import Capture, Source
from flash_nb.sdk.job import Job
from flash_nb.sdk.ledger import Entry
from flash_nb.sdk.session import Session
from flash_nb.sdk.target import Target
from flash_nb.worker.frames import Buffer
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
    def of(
        cls, line: str, body: str, name_code: Callable[[str, str], str], *, magic: str = "%%flash_remote"
    ) -> CellText:
        """Make it from what IPython hands to a cell magic.

        Args:
            line: The rest of the magic line.
            body: The lines below it.
            name_code: Registers ``(source, raw)`` with IPython and returns the code's name.
            magic: What stands before the line.
        """
        raw = f"{magic} {line}".rstrip() + "\n" + body
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
    warnings: tuple[Finding, ...] = ()

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
    """
    try:
        return plan_cell(text.translated.source, known)
    except SyntaxError as error:
        error.filename = text.filename
        raise


def prepare(
    text: CellText,
    found: CellPlan,
    options: CellOptions,
    namespace: Mapping[str, Any],
    *,
    known: frozenset[str],
    target: Target,
) -> PreparedCell:
    """Collect all that the cell needs, and all that stands against sending it.

    Raises:
        FlashError: Something does: see `flash_nb.cells.finding.refuse`.
    """
    around = known_around(found, known, namespace)
    checked = inspect_cell(text.translated, found, options, around, target, namespace=namespace)
    refuse(checked.findings)
    definitions = tuple(_definition_items(text, found, options))
    defined = {item["name"] for item in definitions}
    outputs = found.outputs if options.outputs is None else options.outputs
    return PreparedCell(
        text=text,
        options=options,
        captured=checked.captured,
        inputs=checked.inputs,
        outputs=tuple(name for name in outputs if name not in defined),
        requirements=checked.requirements(target),
        definitions=definitions,
        warnings=checked.findings,
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
    """Shows the record of one job.

    Attributes:
        live: Whether what is shown can be updated.
        display_id: The display's.
    """

    live: bool

    @property
    def display_id(self) -> str: ...  # noqa: D102 - described above

    def __call__(self, view: JobView, *, again: bool = False) -> None:
        """Display it when first called or `again`, else update it."""


class CellJob:
    """A cell's job, from submission to the names that it binds.

    While its cell waits, all happens in the cell's own thread, so that every output lands in its cell on
    every version of ipykernel. Once it is left alone, the background loop keeps its record up to date, and
    what it prints and brings back waits for the next cell: see `collect`.

    Args:
        session: Who submits it.
        namespace: The user's.
        show_record: Displays or updates the record; displays it if it is to be shown `again`.
        view: What there is to show of it before it runs.
        outputs: The names that it is to bring back.
        definitions: The functions and classes that its end defines here.
        cache: Keeps its result. Default: nobody.
    """

    def __init__(
        self,
        session: Session,
        namespace: dict[str, Any],
        show_record: ShowRecord,
        view: JobView,
        *,
        outputs: Sequence[str],
        definitions: Sequence[Item],
        cache: CellCache | None = None,
    ) -> None:
        self._cache = cache
        self._session = session
        self._namespace = namespace
        self._show_record = show_record
        self._context = contextvars.copy_context()  # for the background loop, so that it updates this cell
        self._submitted_at = time.monotonic()
        self._last_shown = 0.0
        self._arrived: queue.SimpleQueue[tuple[JobEvent, bool]] = queue.SimpleQueue()
        self._following = threading.Lock()
        self._collecting = threading.RLock()
        self._is_left = False
        self._is_bound = False
        self._outputs = tuple(outputs)
        self._definitions = tuple(definitions)
        self._stand_ins: dict[str, Pending] = {}
        self._came: dict[str, Any] = {}
        self._backend = ""
        self._rate: Rate | None = None
        self._info: JobInfo | None = None
        self._budget: Budget | None = None
        self.value: DisplayEvent | None = None
        self.view = view
        self.job: Job

    @classmethod
    def of(
        cls,
        session: Session,
        resource: ServerlessResource,
        cell: PreparedCell,
        namespace: dict[str, Any],
        show_record: ShowRecord,
        *,
        place: str = "",
        cache: CellCache | None = None,
    ) -> CellJob:
        """Make the job of a prepared cell.

        Args:
            session: Who submits it.
            resource: What it runs on.
            cell: The cell.
            namespace: The user's.
            show_record: As above.
            place: Who runs it, where that is to be said.
            cache: Keeps its result. Default: nobody.
        """
        view = JobView(
            title=cell.options.name or "cell",
            status=JobStatus.IN_QUEUE,
            resource=resource.name,
            place=place,
            cache=_not_kept(cache),
            live=True,
            hardware=resource.describe(),
            dependencies=cell.requirements,
            inputs=tuple(
                ValueSize(name, size, type(namespace.get(name)).__name__)
                for name, size in cell.captured.sizes.items()
            ),
        )
        return cls(
            session,
            namespace,
            show_record,
            view,
            outputs=cell.outputs,
            definitions=cell.definitions,
            cache=cache,
        )

    @classmethod
    def again(
        cls, session: Session, entry: Entry, namespace: dict[str, Any], show_record: ShowRecord
    ) -> CellJob:
        """Make the job of a cell that another kernel submitted."""
        about, binding = entry.about, entry.binding
        view = JobView(
            title=about.label,
            status=JobStatus.IN_QUEUE,
            resource=about.resource,
            live=True,
            hardware=about.hardware,
            job_id=entry.job,
            dependencies=tuple(binding["dependencies"]),
            inputs=tuple(ValueSize(*value) for value in binding["inputs"]),
        )
        return cls(
            session,
            namespace,
            show_record,
            view,
            outputs=binding["outputs"],
            definitions=binding["definitions"],
        )

    @property
    def exception(self) -> BaseException | None:
        """What it failed with, when it is over."""
        if self._budget is not None and self._budget.is_spent:
            return JobCancelledError(
                f"Job {self.job.id} was cancelled: it had cost {self._budget}, as --max-cost allows.",
                hint="Allow more, or make it cheaper: a smaller GPU group, fewer steps.",
            )
        return self.job.output().exception

    @property
    def names(self) -> tuple[str, ...]:
        """The names that its end binds."""
        return (*self._outputs, *(item["name"] for item in self._definitions))

    def submit(self, resource: ServerlessResource, cell: PreparedCell, origin: Origin) -> None:
        """Send the job.

        Args:
            resource: What it runs on.
            cell: The cell.
            origin: Where it comes from.
        """
        backend = self._session.backend_named(cell.options.backend).name
        self._rate = self._session.rate(resource)
        self._budget = budget_of(cell.options.max_cost, self._rate, resource)
        if self._rate is not None:
            quote = money.quote(self._rate, self._session.ledger.last_run_s(origin.source), backend)
            idle = money.idling(self._rate, resource, backend)
            is_billed = backend not in money.SIMULATED
            self.view = replace(self.view, cost=quote, idle=idle, is_billed=is_billed)
        self._show(force=True)
        endpoint = self._session.endpoint(resource, backend=backend)
        if endpoint.simulated:
            self.view = replace(self.view, note="simulated on this machine's CPU")
        self.job = self._session.submit(
            resource,
            label=self.view.title,
            request=cell.request,
            decode=lambda _: None,
            resolve=self._resolve,
            on_event=self._arrive,
            buffers=cell.captured.buffers,
            requirements=cell.requirements,
            system=cell.options.system_deps,
            timeout_s=timeout_s(cell.options.timeout, self._budget),
            allow_apt=cell.options.allow_apt,
            durable=cell.options.detach,
            backend=backend,
            origin=origin,
        )
        self.view = replace(self.view, job_id=self.job.id)
        self._backend = backend
        about = self._session.board.find(self.job.id).about
        self._session.ledger.began(Entry(self.job.id, about, self._binding(), time.time()))

    def attach(self, entry: Entry) -> None:
        """Follow the job from its beginning."""
        self._show(force=True)
        self._backend, self._rate = entry.about.backend, entry.about.rate
        self.job = self._session.attach(entry.job, entry.about, resolve=self._resolve, on_event=self._arrive)

    def retry(self, entry: Entry) -> None:
        """Run the job again, and leave it.

        Raises:
            BackendError: It is not over, it completed, or what it needs is not kept any more.
        """
        self._backend, self._rate = entry.about.backend, entry.about.rate
        self.job = self._session.retry(entry.job, entry.about, resolve=self._resolve, on_event=self._arrive)
        self._session.ledger.began(replace(entry, submitted_at=time.time()))
        self._stand_in()
        self._leave("runs again")

    def replay(self, kept: Kept) -> None:
        """Have the outcome of a former run: its outputs, its names, and a record that says so."""
        self.view = replace(
            self.view,
            status=JobStatus.COMPLETED,
            live=False,
            cache=saved_text(kept, time.time()),
            dependencies=(),
            inputs=(),
        )
        self._show(force=True)
        for event in kept.shown:
            self._present(event)
        self._bind(kept.result, kept.buffers)
        self._show(force=True)

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

    def wait_for(self, is_enough: Callable[[JobEvent], bool]) -> None:
        """Show what arrives until an event is enough; then leave the job, if it is not over."""
        while not self._is_bound:
            event, is_followed = self._arrived.get()
            self._receive(event, is_followed=is_followed)
            if is_enough(event):
                self._stand_in()
                self._leave("detached")
                return

    def collect(self) -> bool:
        """Show what has arrived, and bind names if the job is over; return whether it is."""
        with self._collecting:
            while not (self._is_bound or self._arrived.empty()):
                self._take(0)
        return self._is_bound

    def finish(self) -> None:
        """Show what arrives until the job is over.

        Raises:
            KeyboardInterrupt: The user interrupted; the job goes on.
        """
        with self._collecting:
            while not self._is_bound:
                self._take(HEARTBEAT_S)

    def come(self, name: str) -> Any:
        """Wait until the job is over, and return what it brought under a name.

        Raises:
            Exception: What the job failed with.
            UndefinedNameError: It completed without it.
            KeyboardInterrupt: The user interrupted; the job goes on.
        """
        self.finish()
        if name in self._came:
            return self._came[name]
        if (exception := self.exception) is not None:
            raise exception
        reason = dict(self.view.unbound).get(name, "the cell did not bind it")
        raise UndefinedNameError(f"{name!r} did not come back from job {self.job.id}: {reason}.")

    def _binding(self) -> dict[str, Any]:
        """Return what another kernel needs to do all this, as JSON."""
        return {
            "outputs": self._outputs,
            "definitions": self._definitions,
            "display": self._show_record.display_id,
            "dependencies": self.view.dependencies,
            "inputs": [astuple(value) for value in self.view.inputs],
        }

    def _stand_in(self) -> None:
        for name in self.names:
            self._stand_ins[name] = self._namespace[name] = Pending(name, self.come, self._state)

    def _state(self) -> str:
        return f"job {self.job.id} is {LOOKS[self.view.status].word}"

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
        """Have the background loop follow it from now on, if the record can change."""
        self.view = replace(self.view, phase=phase, live=False)
        with self._following:
            self._is_left = self._show_record.live
            for _ in range(self._arrived.qsize() if self._is_left else 0):
                event, is_followed = self._arrived.get()
                if not is_followed:
                    self._follow(event)
                self._arrived.put((event, True))
        self._show(force=True)

    def _arrive(self, event: JobEvent) -> None:
        """Take an event, on the background loop."""
        if isinstance(event, StatusEvent) and self._budget is not None:
            self._budget.watch(event.info, self.job)
        with self._following:
            is_followed = self._is_left
            if is_followed and self._follow(event):
                self._context.run(self._show, force=isinstance(event, FinishedEvent))
            self._arrived.put((event, is_followed))

    def _take(self, timeout: float) -> bool:
        """Take one event, if one comes; True when the job is over."""
        try:
            event, is_followed = self._arrived.get(timeout=timeout) if timeout else self._arrived.get_nowait()
        except queue.Empty:
            self._show()
            return False
        self._receive(event, is_followed=is_followed)
        return self._is_bound

    def _receive(self, event: JobEvent, *, is_followed: bool) -> None:
        is_changed = not is_followed and self._follow(event)
        self._present(event)
        if is_changed or isinstance(event, FinishedEvent):
            self._show(force=isinstance(event, FinishedEvent))

    def _follow(self, event: JobEvent) -> bool:
        """Have the view say what an event says of the job; return whether it says anything."""
        match event:
            case PhaseEvent(phase):
                self.view = replace(self.view, phase=phase)
            case StatusEvent(info):
                self._info = info
                phase = "" if info.status is JobStatus.IN_PROGRESS else self.view.phase
                self.view = replace(
                    self.view, status=info.status, worker=info.worker, attempts=info.attempts, phase=phase
                )
            case FinishedEvent(info):
                self._info = info
                self._session.ledger.ended(info)
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
            case _:
                return False
        return True

    def _present(self, event: JobEvent) -> None:
        """Show what the job shows, and bind what it brings."""
        if self._cache is not None:
            self._cache.note(event)
        match event:
            case FinishedEvent():
                if event.result is not None:
                    self._bind(event.result, event.buffers)
                    self._keep(event)
                if not self.view.unbound:
                    self._session.ledger.collected(self.job.id)
                    self._session.received(self.job.id, self._backend)
                self._is_bound = True
            case DisplayEvent(is_result=True):
                self.value = event
            case ClearEvent():  # it clears the record too
                outputs.show(event)
                self._show_record(self.view, again=True)
            case _:
                outputs.show(event)

    def _keep(self, event: FinishedEvent) -> None:
        if self._cache is not None and event.info.status is JobStatus.COMPLETED:
            size = self._cache.keep(event, self._cost())
            self.view = replace(self.view, cache=_not_kept(self._cache), kept=kept_text(size) if size else "")

    def _bind(self, result: dict[str, Any], buffers: Sequence[Buffer]) -> None:
        rebound = {
            name: self._namespace[name]
            for name, stand_in in self._stand_ins.items()
            if self._namespace.get(name, stand_in) is not stand_in
        }
        bound = bind(
            self._namespace,
            items=result["namespace"],
            definitions=[item for item in self._definitions if item["name"] in result.get("defined", ())],
            buffers=buffers[: result["counts"][0]],
            changed=result.get("changed", ()),
            deleted=result.get("deleted", ()),
        )
        self._came = {name: self._namespace[name] for name in bound.names if name in self._stand_ins}
        self._namespace |= rebound
        sizes = result.get("sizes", {})
        self.view = replace(
            self.view,
            outputs=tuple(ValueSize(n, sizes[n], bound.kinds[n]) for n in bound.names if n in sizes),
            changed=tuple(result.get("changed", ())),
            unbound=(*(tuple(pair) for pair in result.get("unbound", ())), *bound.unbound),
            rebound=tuple(rebound),
        )

    def _resolve(self, qualname: str) -> Any:
        root, *path = qualname.split(".")
        return attribute(self._namespace[root], path)

    def _show(self, *, force: bool = False) -> None:
        now = time.monotonic()
        if force or now - self._last_shown >= RECORD_EVERY_S:
            self._last_shown = now
            if not self.view.status.is_final or self.view.elapsed_s is None or not self._is_left:
                self.view = replace(self.view, elapsed_s=now - self._submitted_at)
            self.view = replace(self.view, cost=self._cost() or self.view.cost)
            self._show_record(self.view)

    def _cost(self) -> str:
        """Return what it has cost until now; empty while it has not begun, or if no price is known."""
        seconds = money.billed_s(self._info, time.time()) if self._info else 0.0
        if self._rate is None or not seconds:
            return ""
        return money.amount(self._rate, seconds).told(self._backend)


def _not_kept(cache: CellCache | None) -> str:
    return f"not cached: {cache.problem}" if cache is not None and cache.problem else ""
