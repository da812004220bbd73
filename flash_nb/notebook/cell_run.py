"""A cell over many items, from the clause of ``%%flash_map`` to the lists in the notebook."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence, Sized
from concurrent.futures import wait as futures_wait
from pathlib import Path
from typing import Any

from IPython.core.error import UsageError

from flash_nb.cells.clause import Clause, ClauseError
from flash_nb.cells.options import CellOptions
from flash_nb.cells.plan import CellPlan
from flash_nb.errors import MapError
from flash_nb.jobs import StreamEvent
from flash_nb.notebook.cell import CellText, PreparedCell
from flash_nb.notebook.cell_map import VALUE, CellMap, Numbered, Returned, prepare
from flash_nb.notebook.item_output import ItemOutput
from flash_nb.notebook.namespace import bind
from flash_nb.notebook.notebook import Notebook
from flash_nb.notebook.preflight import show_warnings
from flash_nb.resources.serverless import ServerlessResource
from flash_nb.sdk import outputs
from flash_nb.sdk.capture import LARGE_VALUE_BYTES
from flash_nb.sdk.items import Items
from flash_nb.sdk.look import human_size
from flash_nb.sdk.map import JOBS_PER_WORKER, MapRun
from flash_nb.sdk.session import current_session
from flash_nb.sdk.target import target_of

CANCEL_WAIT_S = 0.4
HINT = (
    "%flash retry runs only what is not done, and then completes the lists: until then they hold None.\n"
    "sys.last_value.run is this run; its failures are what the items raised."
)


class CellRun(MapRun):
    """A cell over its items; its results are the values of the last line.

    Whoever waits for it has its names bound: each is a list, with None where an item is not done.
    """

    _hint = HINT

    def __init__(
        self, function: CellMap, items: Items, max_parallel: int, *, namespace: dict[str, Any]
    ) -> None:
        self._map = function
        self._namespace = namespace
        self._bound: object = None  # the round, and how many were done
        super().__init__(function, items, max_parallel)

    @property
    def results(self) -> list[Any]:
        """The values of the last line up to now, in the order of the items; None where there is none."""
        return [None if each is None else each.names.get(VALUE) for each in self._returned()]

    @property
    def value(self) -> list[Any] | None:
        """The values of the last line; None if there is none that was to be seen."""
        values = self.results
        return values if any(value is not None for value in values) else None

    def retry(self, function: Any = None) -> MapRun:
        """Run what is not done; see `MapRun.retry`. The names are bound when somebody waits for it."""
        self._map.output = ItemOutput()
        return super().retry(function)

    def settle(self) -> None:
        """Give what was cancelled a moment to end."""
        futures_wait([self._round.finished], timeout=CANCEL_WAIT_S)

    def bind(self) -> None:
        """Bind the names, with what is done up to now; nothing if they were, and nothing more is done."""
        state = (self._round, len(self._items.values))
        if state == self._bound:
            return
        self._bound = state
        returned = self._returned()
        done = [each for each in returned if each is not None]
        modules = {item["name"]: item for each in done for item in each.modules}
        bound = bind(
            self._namespace, items=[*modules.values()], definitions=(), buffers=(), changed=(), deleted=()
        )
        for name in self._map.lists:
            if not done or any(name in each.names for each in done):
                self._namespace[name] = [each.names.get(name) if each else None for each in returned]
        unbound = dict(
            [*self._map.define(), *bound.unbound, *(pair for each in done for pair in each.unbound)]
        )
        self._tell(unbound, sorted({name for each in done for name in each.changed}))

    def bind_if_done(self) -> None:
        """Bind the names of a run that ended while nobody waited for it."""
        if self.done():
            self.bind()

    def _outcome(self) -> list[Any]:
        self.bind()
        return super()._outcome()

    def _returned(self) -> list[Returned | None]:
        """Return what each item brought back: as many as there are items, where that is known."""
        with self._lock:
            returned = self._items.results()
            missing = (self._items.total or 0) - len(returned)
        return returned + [None] * missing

    def _tell(self, unbound: Mapping[str, str], changed: Sequence[str]) -> None:
        """Say what a reader of the lists should know."""
        lines = [
            f"{'the value of the last line' if name == VALUE else name} did not come back: {reason}"
            for name, reason in unbound.items()
        ]
        if changed:
            lines.append(
                f"items changed {', '.join(changed)} in place, which stays on the worker: "
                "bind what is to come back to a name"
            )
        if self._map.output.hidden:
            lines.append(f"{self._map.output.hidden:,} more lines and displays of items are not shown")
        _say(lines)


def start(
    notebook: Notebook,
    text: CellText,
    plan: CellPlan,
    options: CellOptions,
    *,
    clause: Clause,
    resource: ServerlessResource,
    known: frozenset[str],
    warned: set[str],
) -> CellRun:
    """Run a cell over the items of its clause; return at once.

    Args:
        notebook: Where it stands.
        text: The cell.
        plan: What its text says.
        options: What its magic line says.
        clause: The same.
        resource: What it runs on.
        known: The names that exist.
        warned: What has been said of other cells; added to.

    Raises:
        FlashError: What it shares cannot be sent, or the backend cannot be had.
        UsageError: The clause does what only a function can do.
        Exception: What evaluating the clause raised.
    """
    names = plan.inputs if options.inputs is None else options.inputs
    notebook.wait_for(name for name in names if name not in clause.names)
    session = current_session()
    target = target_of(resource, session.backend_named(options.backend), session.settings)
    cell = prepare(
        text, plan, options, clause=clause, namespace=notebook.namespace, known=known, target=target
    )
    xs = _items(notebook, text, clause)
    show_warnings(cell.warnings, warned)
    _warn_of_large(cell)
    function = CellMap(
        session,
        resource,
        cell=cell,
        clause=clause,
        plan=plan,
        target=target,
        namespace=notebook.namespace,
        origin=notebook.origin(text.raw),
    )
    items = Items(((Numbered(index, value, clause) for index, value in enumerate(xs)),))
    items.total = len(xs) if isinstance(xs, Sized) else None
    most = options.max_parallel or max(1, resource.workersMax) * JOBS_PER_WORKER
    notebook.map = CellRun(function, items, most, namespace=notebook.namespace)
    return notebook.map


def wait(notebook: Notebook, run: CellRun) -> list[Any] | None:
    """Wait for a run and bind its names, whatever its outcome; return what there is to show.

    Raises:
        MapError: Items failed.
        KeyboardInterrupt: The user interrupted; what was unfinished is cancelled.
    """
    try:
        run.result()
    except KeyboardInterrupt as interrupt:
        run.settle()
        run.bind()
        shown = [_interrupted(run)]
        interrupt._render_traceback_ = lambda: shown  # type: ignore[attr-defined]
        raise
    except Exception as error:
        notebook.as_local(_without_ours(error))
        if isinstance(error, MapError) and run.failures:
            _show_first_failure(notebook, error, run)
        raise
    return run.value


def retry_last(notebook: Notebook) -> list[Any] | None:
    """Run what the last map has left undone, and wait for it.

    Raises:
        UsageError: There was none.
        MapError, KeyboardInterrupt: As for `wait`.
    """
    if notebook.map is None:
        raise UsageError("%flash retry: there was no %%flash_map in this notebook yet; or name a job")
    notebook.map.retry()
    return wait(notebook, notebook.map)


def _items(notebook: Notebook, text: CellText, clause: Clause) -> Iterable[Any]:
    """Evaluate the expression after ``in``, and see that it has items."""
    try:
        code = clause.compiled(text.filename, text.raw.index(clause.text))
    except ClauseError as error:
        raise UsageError(f"%%flash_map: {error}") from None
    notebook.wait_for(code.co_names)
    try:
        xs: Iterable[Any] = eval(code, notebook.namespace)  # noqa: S307 - the user's own code
        iter(xs)
    except Exception as error:
        notebook.as_local(_without_ours(error))
        raise
    return xs


def _show_first_failure(notebook: Notebook, error: MapError, run: CellRun) -> None:
    """Have IPython show an error of a run below the lines of the cell that its first failed item ran."""
    index, failure = next(iter(run.failures.items()))
    failed = notebook.rendered(_without_ours(failure))
    shown = [*failed, f"\nThat was item {index}.\n", f"{type(error).__name__}: {error}"]
    error._render_traceback_ = lambda: shown  # type: ignore[method-assign]


def _interrupted(run: CellRun) -> str:
    state = run.progress
    total = "" if state.total is None else f" of {state.total:,}"
    return f"KeyboardInterrupt: {state.done:,}{total} items are done. %flash retry runs the others."


def _without_ours(exception: BaseException) -> BaseException:
    """Take the first frames off a traceback that are this package's."""
    ours = str(Path(__file__).parents[1])
    found = exception.__traceback__
    while found is not None and found.tb_frame.f_code.co_filename.startswith(ours):
        found = found.tb_next
    return exception.with_traceback(found)


def _warn_of_large(cell: PreparedCell) -> None:
    """Say which values will be sent over and over again."""
    large = {name: size for name, size in cell.captured.sizes.items() if size > LARGE_VALUE_BYTES}
    _say(
        f"{name} ({human_size(size)}) is sent with each item: make or load it in the cell instead"
        for name, size in large.items()
    )


def _say(sentences: Iterable[str]) -> None:
    text = "".join(f"flash_nb: {sentence}.\n" for sentence in sentences)
    if text:
        outputs.show(StreamEvent("stderr", text))
