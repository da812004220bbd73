"""The job of one remote cell: it shows what arrives, keeps the record up to date, and binds names."""

from __future__ import annotations

import contextvars
import queue
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import astuple, replace
from typing import Any, Protocol

from flash_nb.errors import JobCancelledError, UndefinedNameError
from flash_nb.jobs import (
    ClearEvent,
    DisplayEvent,
    FinishedEvent,
    JobEvent,
    JobInfo,
    JobStatus,
    PhaseEvent,
    StatusEvent,
    StoredEvent,
)
from flash_nb.notebook.budget import Budget, budget_of, timeout_s
from flash_nb.notebook.cell import PreparedCell
from flash_nb.notebook.cell_cache import CellCache, kept_text, saved_text
from flash_nb.notebook.namespace import bind
from flash_nb.notebook.pending import Pending
from flash_nb.notebook.record import LOOKS, JobView, ValueSize
from flash_nb.resources.prices import Rate
from flash_nb.resources.serverless import ServerlessResource
from flash_nb.sdk import money, outputs
from flash_nb.sdk.board import Origin
from flash_nb.sdk.cache import Kept
from flash_nb.sdk.job import Job
from flash_nb.sdk.ledger import Entry
from flash_nb.sdk.session import Session
from flash_nb.worker.frames import Buffer
from flash_nb.worker.namespace import Item, attribute

HEARTBEAT_S = 0.1
CANCEL_WAIT_S = 0.4
RECORD_EVERY_S = 0.25


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
    what it prints and brings back comes with a cell after its end: see `collect`.

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
        self._is_over = False
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
    def name(self) -> str:
        """What it is called in a sentence."""
        return f"job {self.view.job_id}" if self.view.job_id else "the cell"

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
        backend = self._backend = self._session.backend_named(cell.options.backend).name
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

    def detach(self) -> None:
        """Wait until the job is safe without this kernel, and leave it."""
        self.wait_for(lambda event: isinstance(event, StoredEvent))

    def wait_for(self, is_enough: Callable[[JobEvent], bool]) -> None:
        """Show what arrives until an event is enough; then leave the job, if it is not over."""
        while not self._is_bound:
            event, is_followed = self._arrived.get()
            self._receive(event, is_followed=is_followed)
            if is_enough(event):
                self._stand_in()
                self._leave("detached")
                return

    def interrupt(self) -> None:
        """Cancel the job and wait for its end, but not long."""
        if not self.view.job_id:
            self.view = replace(self.view, status=JobStatus.CANCELLED, live=False, phase="")
            self._is_bound = True
            self._show(force=True)
            return
        self.job.cancel()
        self.view = replace(self.view, phase="cancelling")
        self._show(force=True)
        give_up_at = time.monotonic() + CANCEL_WAIT_S
        try:
            while time.monotonic() < give_up_at:
                if self._take(0.05):
                    return
        except KeyboardInterrupt:
            outputs.show_text(f"Stopped waiting for {self.name}; it is being cancelled.\n")
        self._leave("cancelling")

    def collect(self) -> bool:
        """If the job is over, show what it showed and bind its names; return whether it is."""
        with self._collecting:
            while self._is_over and not self._is_bound:
                self._take(HEARTBEAT_S)
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
        if (failure := self.failure_of(name)) is not None:
            raise failure
        return self._came[name]

    def failure_of(self, name: str) -> BaseException | None:
        """Wait until the job is over, and return why it did not bring a name; None if it did."""
        self.finish()
        if name in self._came:
            return None
        reason = dict(self.view.unbound).get(name, "the cell did not bind it")
        return self.exception or UndefinedNameError(
            f"{name!r} did not come back from job {self.job.id}: {reason}."
        )

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
            self._stand_ins[name] = self._namespace[name] = Pending(name, self)

    @property
    def state(self) -> str:
        """How it stands, for people."""
        return f"job {self.job.id} is {LOOKS[self.view.status].word}"

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
                # A status may be the last news for long: it must not be what comes too soon to be shown.
                self._context.run(self._show, force=isinstance(event, StatusEvent | FinishedEvent))
            self._arrived.put((event, is_followed))
        self._is_over = isinstance(event, FinishedEvent)

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
