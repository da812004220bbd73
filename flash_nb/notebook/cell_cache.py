"""``--cache``: the result of a cell from before, if all that it may depend on is the same.

The key is made of the cell's syntax tree (so comments and blank lines do not matter), what it takes
along of the notebook (`flash_nb.sdk.fingerprint`), what is installed for it, the machines, image, variables
and volume of its resource, who runs it and on which Python, and what is to come back.

Not part of it, since nobody can know: what the cell reads of files, the network, the clock and chance.
Whoever writes ``--cache`` says that these do not matter; ``--refresh`` runs the cell all the same.
"""

from __future__ import annotations

import hashlib
import json
import sys
import time
from collections.abc import Mapping
from datetime import datetime
from typing import TYPE_CHECKING, Any

from flash_nb.jobs import ClearEvent, DisplayEvent, FinishedEvent, JobEvent, StreamEvent
from flash_nb.resources.serverless import ServerlessResource
from flash_nb.sdk import outputs
from flash_nb.sdk.cache import CacheError, Kept, ResultCache, Shown
from flash_nb.sdk.fingerprint import FingerprintError, of_capture, of_source
from flash_nb.sdk.look import human_size, human_time
from flash_nb.settings import Settings

if TYPE_CHECKING:
    from flash_nb.notebook.cell import PreparedCell

VERSION = 1
MAX_TEXT = 1_000_000
CUT = "\n… the rest of what it printed was not kept\n"


class CellCache:
    """What the cache is to one cell.

    Args:
        cell: The cell.
        resource: What it runs on.
        namespace: The user's, as it is before the cell runs.
        settings: Where results are kept, and the workers' Python.
        backend: The name of who runs it.

    Attributes:
        problem: Why the cell cannot be cached; empty if it can.
    """

    def __init__(
        self,
        cell: PreparedCell,
        resource: ServerlessResource,
        namespace: Mapping[str, Any],
        *,
        settings: Settings,
        backend: str,
    ) -> None:
        self.problem = ""
        self._label = cell.options.name or "cell"
        self._resource = resource.name
        self._shown: list[Shown] = []
        self._room = MAX_TEXT
        self._store = ResultCache(settings.results, say=_say)
        try:
            self._key = key_of(cell, resource, namespace, backend=backend, python=settings.python)
        except FingerprintError as error:
            self.problem = str(error)

    def find(self) -> Kept | None:
        """Return the result from before; None if there is none."""
        try:
            return None if self.problem else self._store.get(self._key)
        except CacheError as error:
            self.problem = str(error)
            return None

    def note(self, event: JobEvent) -> None:
        """Take note of what the cell shows."""
        match event:
            case StreamEvent(name, text):
                self._note_text(name, text)
            case DisplayEvent() | ClearEvent():
                self._shown.append(event)

    def keep(self, event: FinishedEvent, cost: str) -> int:
        """Keep the result of a cell that completed; return its bytes, or 0 if there is a `problem`.

        Args:
            event: Its end.
            cost: What it has cost, for people; empty where no price is known.
        """
        result = event.result
        if self.problem or result is None:
            return 0
        kept = Kept(
            label=self._label,
            resource=self._resource,
            created=time.time(),
            run_s=event.info.run_s,
            cost=cost,
            shown=self._shown,
            result=result,
            buffers=event.buffers[: result["counts"][0]],
        )
        try:
            return self._store.put(self._key, kept)
        except CacheError as error:
            self.problem = str(error)
            return 0

    def _note_text(self, name: str, text: str) -> None:
        if self._room <= 0:
            return
        if len(text) > self._room:
            text = text[: self._room] + CUT
        self._room -= len(text)
        last = self._shown[-1] if self._shown else None
        if isinstance(last, StreamEvent) and last.name == name:
            self._shown[-1] = StreamEvent(name, last.text + text)
        else:
            self._shown.append(StreamEvent(name, text))


def key_of(
    cell: PreparedCell,
    resource: ServerlessResource,
    namespace: Mapping[str, Any],
    *,
    backend: str,
    python: str,
) -> str:
    """Return 64 hexadecimal digits that stand for all that a cell's result may depend on.

    Args:
        cell: The cell.
        resource: What it runs on: not its name, nor how it scales.
        namespace: The user's.
        backend: Who runs it: a GPU of the local engine is only simulated.
        python: The workers' interpreter, as the settings say it.

    Raises:
        FingerprintError: A value that it takes along has none.
    """
    request, files = cell.request, cell.captured.files.items
    parts = {
        "version": VERSION,
        "source": of_source(request["source"]),
        "carried": of_capture(cell.captured, namespace),
        "modules": [(each["name"], each["package"], of_source(each["source"])) for each in files],
        "requirements": sorted(cell.requirements),
        "system": sorted(cell.options.system_deps),
        "resource": resource.result_hash,
        "backend": backend,
        "python": "{}.{}".format(*sys.version_info) if python == sys.executable else python,
        "inputs": request["inputs"],
        "outputs": request["outputs"],
        "definitions": request["definitions"],
        "show_value": request["show_value"],
    }
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()


def saved_text(kept: Kept, now: float) -> str:
    """Say when a result was made and what it saves to have it: ``reused from 14:02 · saved 4 min 12 s``.

    Args:
        kept: The result.
        now: In POSIX seconds.
    """
    made, today = datetime.fromtimestamp(kept.created), datetime.fromtimestamp(now)
    when = f"{made:%H:%M}" if made.date() == today.date() else f"{made:%Y-%m-%d %H:%M}"
    saved = " · ".join(filter(None, [human_time(kept.run_s), kept.cost]))
    return f"reused from {when} · saved {saved}"


def kept_text(size: int) -> str:
    """Say that a result was kept."""
    return f"kept, {human_size(size)}"


def _say(sentence: str) -> None:
    outputs.show(StreamEvent("stderr", f"flash_nb: {sentence}.\n"))
