"""One cell for many items: what they share, what travels with each, and what it brings back.

The cell is analysed and what it shares among its items is captured once. `CellMap` makes a job of one
item; `flash_nb.sdk.map` runs it over all of them, and knows nothing of cells. Each job carries the shared
values as well, since any worker may get it: the cost of a map is items times their bytes. They are
pickled once.
"""

from __future__ import annotations

import contextvars
from collections import ChainMap
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from flash_nb.cells.clause import Clause
from flash_nb.cells.finding import refuse
from flash_nb.cells.options import CellOptions
from flash_nb.cells.plan import CellPlan
from flash_nb.errors import CellError
from flash_nb.jobs import FinishedEvent
from flash_nb.notebook import cell
from flash_nb.notebook.cell import CellText, PreparedCell
from flash_nb.notebook.item_output import ItemOutput
from flash_nb.resources.serverless import ServerlessResource
from flash_nb.sdk.board import Origin
from flash_nb.sdk.capture import Capture, Collector, check_size
from flash_nb.sdk.dependencies import requirements_for
from flash_nb.sdk.job import Job
from flash_nb.sdk.options import RemoteOptions
from flash_nb.sdk.preflight import Places, check_values
from flash_nb.sdk.secret import secret_in
from flash_nb.sdk.session import Session
from flash_nb.sdk.target import Target
from flash_nb.worker.codec import Decoder
from flash_nb.worker.namespace import Definitions, Item, attribute

VALUE = "__value__"


@dataclass(frozen=True)
class Numbered:
    """An item and its number, from 0. It looks like the item, unless that is a secret."""

    index: int
    value: Any
    clause: Clause

    def __repr__(self) -> str:
        try:
            names = self.clause.bind(self.value)
        except (TypeError, ValueError):
            names = {"item": self.value}
        return "…" if any(secret_in(*pair) for pair in names.items()) else repr(self.value)


@dataclass(frozen=True)
class Returned:
    """What an item brought back.

    Attributes:
        names: Values by name; the value of the cell's last expression is called `VALUE`.
        modules: What it imported, as namespace items.
        unbound: ``(name, reason)`` of what could not come back.
        changed: Names of what it changed in place, which stays on the worker.
    """

    names: Mapping[str, Any]
    modules: Sequence[Item]
    unbound: Sequence[tuple[str, str]]
    changed: Sequence[str]


class CellMap:
    """A cell, as something that `flash_nb.sdk.map` runs for each item.

    Args:
        session: Who submits the jobs.
        resource: What they run on.
        cell: The cell with what its items share; neither holds their names.
        clause: What an item is called.
        plan: What its text says.
        target: What is known of the workers.
        namespace: The user's.
        origin: Where its jobs come from.

    Attributes:
        how: Where it runs.
        lists: Names that become lists.
        flash_title: The clause, for people.
        flash_note: What must be known to read its progress.
        flash_backend: Who runs it, if that is not the chosen one.
        cell: The same as the argument.
        output: Shows what its items print.
    """

    def __init__(
        self,
        session: Session,
        resource: ServerlessResource,
        *,
        cell: PreparedCell,
        clause: Clause,
        plan: CellPlan,
        target: Target,
        namespace: dict[str, Any],
        origin: Origin,
    ) -> None:
        self._origin = origin
        self.how = RemoteOptions(resource)
        self.cell = cell
        # What imports alone bind is a module here too, and no list.
        self.lists = tuple(name for name in cell.outputs if name not in plan.only_imported)
        self._reads = plan.reads
        self._target = target
        self.flash_title = clause.text if len(clause.text) <= 40 else f"{clause.text[:39]}…"  # noqa: PLR2004
        endpoint = session.endpoint(resource, backend=cell.options.backend)
        self.flash_backend = cell.options.backend
        self.flash_note = "simulated on this machine's CPU" if endpoint.simulated else ""
        self.output = ItemOutput()
        self._session = session
        self._clause = clause
        self._namespace = namespace
        self._definitions = Definitions(namespace, cell.definitions)

    def submit(self, *args: Any) -> Job:
        """Send the cell with an item, a `Numbered`; what it prints is shown where this is called.

        Raises:
            FlashError: The item cannot be sent, or not be unpacked as the clause says.
        """
        (item,) = args
        own = self._captured(item.value)
        cell, options = self.cell, self.cell.options
        take, context = self.output.take, contextvars.copy_context()
        return self._session.submit(
            self.how.resource,
            label=f"{self.flash_title} [{item.index}]",
            request=self._request(own),
            decode=self._decode,
            resolve=self._resolve,
            on_event=lambda event: context.run(take, item.index, event),
            buffers=[*cell.captured.buffers, *own.buffers],
            requirements=self._requirements(own),
            system=options.system_deps,
            timeout_s=options.timeout,
            allow_apt=options.allow_apt,
            backend=options.backend,
            origin=self._origin,
        )

    def define(self) -> Iterator[tuple[str, str]]:
        """Execute here what the cell defines; yield a name and a reason where that fails."""
        for item in self.cell.definitions:
            name: str = item["name"]
            _, reason = _attempt(lambda name=name: self._definitions.define(name))  # type: ignore[misc]
            if reason:
                yield name, reason

    def _captured(self, item: Any) -> Capture:
        try:
            names = self._clause.bind(item)
        except (TypeError, ValueError) as error:
            raise CellError(f"The item is not {', '.join(self._clause.names)}: {error}.") from None
        around = ChainMap(names, self._namespace)
        collector = Collector(around, self.cell.captured)
        collector.add(names)
        captured = collector.survey()
        captured.take_files()
        captured.files.refuse()
        check_size({**self.cell.captured.sizes, **captured.sizes, **captured.files.sizes})
        places = Places(self._reads, captured.via)
        allowed = self.cell.options.allowed_secrets
        refuse([*check_values(captured, around, places, target=self._target, allowed=allowed)])
        return captured

    def _request(self, own: Capture) -> dict[str, Any]:
        """Return the `flash_nb.protocol.channel.ItemRequest`."""
        request = self.cell.request
        modules = {item["name"]: item for item in (*request.get("modules", ()), *own.files.items)}
        return {
            **request,
            **({"modules": [*modules.values()]} if modules else {}),
            "inputs": [*request["inputs"], *self._clause.names],
            "outputs": [*request["outputs"], VALUE],
            "item": own.items,
            "namespace_buffers": len(self.cell.captured.buffers),
            "value": VALUE,
        }

    def _requirements(self, own: Capture) -> Sequence[str]:
        modules = own.files.outside - self.cell.captured.files.outside
        if not modules:
            return self.cell.requirements
        return requirements_for(modules, self.cell.requirements, present=self._target.packages)

    def _decode(self, event: FinishedEvent) -> Returned:
        assert event.result is not None
        result = event.result
        encoded = [item["name"] for item in result["namespace"] if "value" in item]
        names: dict[str, Any] = {}
        unbound = [(str(name), str(reason)) for name, reason in result["unbound"]]
        if encoded:
            decoder = Decoder(event.buffers[: result["counts"][0]], self._definitions.resolve)
            for name in encoded:
                value, reason = _attempt(decoder.load)
                if reason:
                    unbound.append((name, reason))
                else:
                    names[name] = value
        modules = [item for item in result["namespace"] if "module" in item]
        return Returned(names, modules, unbound, result["changed"])

    def _resolve(self, qualname: str) -> Any:
        root, *path = qualname.split(".")
        return attribute(self._namespace[root], path)


def prepare(
    text: CellText,
    plan: CellPlan,
    options: CellOptions,
    *,
    clause: Clause,
    namespace: Mapping[str, Any],
    known: frozenset[str],
    target: Target,
) -> PreparedCell:
    """Collect all that the items of a cell share.

    Raises:
        FlashError: A value cannot be sent, all are too large, or a dependency makes no sense.
    """

    def others(names: Iterable[str]) -> tuple[str, ...]:
        return tuple(name for name in names if name not in clause.names)

    plan = replace(plan, inputs=others(plan.inputs), outputs=others(plan.outputs))
    if options.inputs is not None:
        options = replace(options, inputs=others(options.inputs))
    if options.outputs is not None:
        options = replace(options, outputs=others(options.outputs))
    shared = {name: value for name, value in namespace.items() if name not in clause.names}
    return cell.prepare(text, plan, options, shared, known=known.union(clause.names), target=target)


def _attempt(call: Callable[[], Any]) -> tuple[Any, str]:
    """Return what a call returns; or None, and why it failed."""
    try:
        return call(), ""
    except Exception as error:  # noqa: BLE001 - packages and definitions may need what only the worker has
        return None, f"{type(error).__name__}: {error}"
