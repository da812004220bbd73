"""The words that a value of a magic line may be, as far as this process knows them.

Asking starts nothing, opens nothing and imports nothing that is not there: it happens while somebody types.
"""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from flash_nb.settings import BACKENDS, NAMES, WORDS

if TYPE_CHECKING:
    from flash_nb.notebook.completion import Query
    from flash_nb.notebook.notebook import Notebook
    from flash_nb.sdk.session import Session

MOST_JOBS = 50
OF_ANY_JOB = frozenset({"logs", "retry"})


class Vocabulary:
    """Answers a `Query` with all words that there are.

    Args:
        notebook: Whose names and jobs they are.
    """

    def __init__(self, notebook: Notebook) -> None:
        self._notebook = notebook

    def words(self, query: Query) -> Iterable[str]:
        """Return the words that a value may be; nothing if there is no saying."""
        parameter, command = query.parameter, query.before[0] if query.before else ""
        for name in (*parameter.options, f"{command} {parameter.takes}", parameter.takes):
            if name in _SOURCES:
                return _SOURCES[name](self._notebook, query)
        return ()


def _gpus() -> Iterator[str]:
    from flash_nb.resources.gpu import GpuGroup, GpuType

    yield from GpuGroup
    # Their names are one word each; their values have blanks, and complete within quotes.
    for card in GpuType.__members__.values():
        yield card.name
        yield card.value


def _cpus() -> Iterable[str]:
    from flash_nb.resources.cpu import CpuInstanceType

    return list(CpuInstanceType)


def _datacenters() -> Iterable[str]:
    from flash_nb.resources.datacenter import DataCenter

    return list(DataCenter)


def _values(query: Query) -> Iterable[str]:
    return WORDS.get(query.before[-1], ()) if query.before else ()


def _resources(notebook: Notebook) -> Iterator[str]:
    from flash_nb.notebook.default import takes_cells

    if "flash_nb.resources.serverless" in sys.modules:  # else nobody can have made one
        yield from (name for name in _names(notebook) if takes_cells(notebook.namespace.get(name)))


def _names(notebook: Notebook) -> Iterator[str]:
    hidden = notebook.shell.user_ns_hidden
    for name in [*notebook.namespace]:
        if not name.startswith("_") and name not in hidden:
            yield name


def _outputs(notebook: Notebook, query: Query) -> Iterator[str]:
    """Yield what the cell binds, then what the notebook has bound."""
    from flash_nb.cells.plan import plan_cell

    with contextlib.suppress(SyntaxError):  # it is being written
        yield from plan_cell(query.cell, frozenset()).outputs
    yield from _names(notebook)


def _jobs(notebook: Notebook, query: Query) -> Iterator[str]:
    loaded: Any = sys.modules.get("flash_nb.sdk.session")
    session: Session | None = loaded.session_if_any() if loaded else None
    command = query.before[0] if query.before else ""
    if session is None:
        return
    if command == "attach":
        yield from (entry.job for entry in session.ledger.uncollected(notebook.path))
        return
    posts = [post for post in session.board.posts() if command in OF_ANY_JOB or post.row().is_live]
    yield from (str(post.number) for post in posts[:MOST_JOBS])
    yield from (post.id for post in posts[:MOST_JOBS])


def _notebooks(query: Query) -> Iterator[str]:
    return _below(query.typed, lambda path: path.suffix == ".ipynb")


def _below(typed: str, is_wanted: Callable[[Path], bool]) -> Iterator[str]:
    """Yield the paths that go on from what is typed: all folders, and the files that are wanted."""
    folder, slash, begun = typed.rpartition("/")
    try:
        found = sorted(Path(folder + slash).expanduser().iterdir())
    except (OSError, RuntimeError, ValueError):  # no such folder, no such user's home, no such name
        return
    for path in found:
        if path.name.startswith(".") and not begun.startswith("."):
            continue
        if path.is_dir():
            yield f"{folder}{slash}{path.name}/"
        elif is_wanted(path):
            yield f"{folder}{slash}{path.name}"


_SOURCES: dict[str, Callable[[Notebook, Query], Iterable[str]]] = {
    "--gpu": lambda _notebook, _query: _gpus(),
    "--cpu": lambda _notebook, _query: _cpus(),
    "--datacenter": lambda _notebook, _query: _datacenters(),
    "--backend": lambda _notebook, _query: BACKENDS,
    "--resource": lambda notebook, _query: _resources(notebook),
    "--in": lambda notebook, _query: _names(notebook),
    "--out": _outputs,
    "--allow-secret": lambda notebook, _query: _names(notebook),
    "--env": lambda _notebook, _query: sorted(os.environ),
    "RESOURCE": lambda notebook, _query: _resources(notebook),
    "JOB": _jobs,
    "SETTING": lambda _notebook, _query: NAMES,
    "VALUE": lambda _notebook, query: _values(query),
    "xs": lambda notebook, _query: _names(notebook),
    "use NAME": lambda notebook, _query: _resources(notebook),
    "NOTEBOOK": lambda _notebook, query: _notebooks(query),
    "NOTEBOOK.ipynb": lambda _notebook, query: _notebooks(query),
    "PATH": lambda _notebook, query: _below(query.typed, lambda _: True),
    "FILE": lambda _notebook, query: _below(query.typed, lambda _: True),
    "DIR": lambda _notebook, query: _below(query.typed, lambda _: False),
}
"""By an option, by what an argument of one command takes, or by what any takes."""
