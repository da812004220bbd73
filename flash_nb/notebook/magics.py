"""The magics: parse the line, call, return.

They are loaded by ``%load_ext flash_nb``; everything that takes time to import is imported by the first
remote cell.
"""

from __future__ import annotations

import re
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from IPython.core.error import UsageError
from IPython.core.interactiveshell import InteractiveShell
from IPython.core.magic import Magics, cell_magic, line_magic, magics_class

from flash_nb.cells import options
from flash_nb.cells.magic_line import MAGICS
from flash_nb.notebook.matcher import matcher
from flash_nb.notebook.notebook import Notebook

if TYPE_CHECKING:
    from flash_nb.backends.base import Backend
    from flash_nb.cells.options import CellOptions
    from flash_nb.cells.plan import CellPlan
    from flash_nb.jobs import DisplayEvent
    from flash_nb.notebook.cell import CellText, PreparedCell
    from flash_nb.notebook.cell_cache import CellCache
    from flash_nb.resources.serverless import ServerlessResource

PLACES = {"local": "local engine", "runpod": "Runpod"}


def _overview() -> str:
    from flash_nb.notebook.commands import overview

    return overview()


@magics_class
class FlashMagics(Magics):
    """``%%flash_remote``: run a cell on a worker; ``%%flash_map``: once for each of many items."""

    def __init__(self, shell: InteractiveShell) -> None:
        super().__init__(shell)
        self._shell = shell
        self.notebook = Notebook(shell)
        self.matcher = matcher(self.notebook)
        self._resources: dict[tuple[object, ...], ServerlessResource] = {}
        self._named = ""  # the backend that a record has named last
        self._warned: set[str] = set()

    @line_magic
    def flash(self, line: str) -> Any:
        """Run a command of this notebook or of the command line."""
        from flash_nb.notebook.commands import run

        return run(self.notebook, line)

    flash.getdoc = _overview  # type: ignore[union-attr]  # what IPython shows for `%flash?`

    @cell_magic
    def flash_remote(self, line: str, cell: str) -> Any:  # noqa: D102
        # Its docstring, which `%%flash_remote?` shows, is the usage text: see below.
        from flash_nb.notebook.cell import CellText

        chosen = self._with_default_deps(options.parse(line))
        text = CellText.of(line, cell, self._name_code)
        plan = text.plan(self._known_names())
        resource = self._resource(chosen)
        if chosen.define or (plan.defines_only and not chosen.run):
            return self._define(text, plan, chosen, resource)
        return self._run(text, plan, chosen, resource)

    flash_remote.__doc__ = options.usage()

    @cell_magic
    def flash_map(self, line: str, cell: str) -> Any:  # noqa: D102 - as above
        from flash_nb.notebook import cell_run
        from flash_nb.notebook.cell import CellText

        clause, chosen = options.parse_map(line)
        chosen = self._with_default_deps(chosen)
        text = CellText.of(line, cell, self._name_code, magic=chosen.magic)
        known = self._known_names()
        plan = text.plan(known.union(clause.names))
        run = cell_run.start(
            self.notebook,
            text,
            plan,
            chosen,
            clause=clause,
            resource=self._resource(chosen),
            known=known,
            warned=self._warned,
        )
        return cell_run.wait(self.notebook, run)

    flash_map.__doc__ = options.map_usage()

    def check_syntax(self, lines: list[str]) -> list[str]:
        """Raise the syntax error of a remote cell before it runs; called as an input transformer.

        IPython shows the traceback through all frames for one that comes later.
        """
        if lines and lines[0].startswith(MAGICS):
            from flash_nb.notebook.cell import check_syntax

            check_syntax("".join(lines), self._name_coming_code)
        return lines

    # --- running ------------------------------------------------------------------------------

    def _run(
        self, text: CellText, plan: CellPlan, chosen: CellOptions, resource: ServerlessResource
    ) -> RemoteValue | None:
        from flash_nb.notebook.cell_job import CellJob
        from flash_nb.notebook.display import Record
        from flash_nb.sdk.session import current_session

        self.notebook.wait_for(plan.inputs if chosen.inputs is None else chosen.inputs)
        session = current_session()
        backend = session.backend_named(chosen.backend)
        cell = self._prepared(text, plan, chosen, resource, backend)
        cache = self._cache(cell, resource, backend.name) if chosen.cache else None
        kept = cache.find() if cache is not None and not chosen.refresh else None
        place = "" if kept is not None else self._place(backend.name)
        record = Record.of(self._shell)
        job = CellJob.of(session, resource, cell, self._shell.user_ns, record, place=place, cache=cache)
        if kept is not None:
            job.replay(kept)
        elif not self.notebook.run(job, resource, cell):
            return None
        return RemoteValue(job.value) if job.value is not None else None

    def _prepared(
        self,
        text: CellText,
        plan: CellPlan,
        chosen: CellOptions,
        resource: ServerlessResource,
        backend: Backend,
    ) -> PreparedCell:
        from flash_nb.notebook.cell import prepare
        from flash_nb.notebook.preflight import show_warnings
        from flash_nb.sdk.session import current_session
        from flash_nb.sdk.target import target_of

        target = target_of(resource, backend, current_session().settings)
        known, namespace = self._known_names(), self._shell.user_ns
        cell = prepare(text, plan, chosen, namespace, known=known, target=target)
        show_warnings(cell.warnings, self._warned)
        return cell

    def _cache(self, cell: PreparedCell, resource: ServerlessResource, backend: str) -> CellCache:
        from flash_nb.notebook.cell_cache import CellCache
        from flash_nb.sdk.session import current_session

        settings = current_session().settings
        return CellCache(cell, resource, self._shell.user_ns, settings=settings, backend=backend)

    def _place(self, backend: str) -> str:
        """Return who runs a cell, if the records have not said it yet, or said another one."""
        if backend == self._named:
            return ""
        self._named = backend
        return PLACES.get(backend, backend)

    def _define(
        self, text: CellText, plan: CellPlan, chosen: CellOptions, resource: ServerlessResource
    ) -> None:
        from flash_nb.cells.finding import refuse
        from flash_nb.cells.preflight import check_text
        from flash_nb.cells.syntax import parse
        from flash_nb.notebook.definitions import define
        from flash_nb.notebook.preflight import known_around

        around = known_around(plan, self._known_names(), self._shell.user_ns)
        tree = parse(text.translated.source)
        refuse([*check_text(tree, plan, around, allowed=chosen.allowed_secrets)])
        if not plan.definitions:
            raise UsageError("%%flash_remote --define: the cell defines no function and no class")
        define(text, plan, chosen, resource, self._shell.user_ns)

    # --- what a cell sees ---------------------------------------------------------------------

    def _with_default_deps(self, chosen: CellOptions) -> CellOptions:
        default = self.notebook.default
        if default is None or not chosen.is_bare:
            return chosen
        return replace(chosen, deps=(*chosen.deps, *default.deps))

    def _known_names(self) -> frozenset[str]:
        from flash_nb.notebook.namespace import known_names

        return known_names(self._shell.user_ns, self._shell.user_ns_hidden)

    def _name_code(self, source: str, raw: str) -> str:
        """Register code with IPython, so that tracebacks call it ``Cell In[n]``."""
        # Not `execution_count`: IPython 9 has counted this cell when it runs, IPython 8 has not.
        return self._register(source, raw, self._shell.displayhook.prompt_count)

    def _name_coming_code(self, source: str, raw: str) -> str:
        """Do the same for a cell that has not begun to run."""
        return self._register(source, raw, self._shell.execution_count)

    def _register(self, source: str, raw: str, number: int) -> str:
        name: str = self._shell.compile.cache(source, number, raw_code=f"#flash\n{raw}")
        return name

    def _resource(self, chosen: CellOptions) -> ServerlessResource:
        from flash_nb.notebook.default import held_resource

        if chosen.resource:
            return held_resource(self._shell.user_ns, chosen.resource, chosen.magic)
        default = self.notebook.default
        if chosen.is_bare and default is not None:
            return default.current(self._shell.user_ns)
        key = (chosen.name, chosen.cpu, *chosen.gpus)
        if key not in self._resources:
            self._resources[key] = _make_resource(chosen)
        return self._resources[key]


class RemoteValue:
    """The value of a remote cell's last expression, as its worker displayed it."""

    def __init__(self, event: DisplayEvent) -> None:
        self._event = event

    def _repr_mimebundle_(self, **_: object) -> tuple[dict[str, Any], dict[str, Any]]:
        return self._event.data, self._event.metadata

    def __repr__(self) -> str:
        return str(self._event.data.get("text/plain", ""))


def _make_resource(chosen: CellOptions) -> ServerlessResource:
    from flash_nb.errors import ResourceError
    from flash_nb.resources import CpuLiveServerless, LiveServerless
    from flash_nb.sdk.selection import IDLE_TIMEOUT_S, UNNAMED

    hardware = "-".join(chosen.gpus) or chosen.cpu
    fields: dict[str, Any] = {
        "name": chosen.name or "-".join(filter(None, (UNNAMED, hardware.lower()))),
        "idleTimeout": IDLE_TIMEOUT_S,
    }
    try:
        if chosen.gpus:
            return LiveServerless(**fields, gpus=list(chosen.gpus))
        if chosen.cpu:
            fields["instanceIds"] = [chosen.cpu]
        return CpuLiveServerless(**fields)
    except ResourceError as error:
        # On a line they are written without the names of their classes.
        said = re.sub(r"\b(GpuGroup|GpuType|CpuInstanceType)\.", "", error.message)
        raise UsageError(f"{chosen.magic}: {said}") from None


def load(shell: InteractiveShell) -> None:
    """Register the magics; what ``%load_ext flash_nb`` calls."""
    from flash_nb.cells.magic_line import hoist
    from flash_nb.notebook.asyncio_run import rewrite

    if getattr(shell, "_flash_magics", None) is not None:
        return
    magics = FlashMagics(shell)
    shell.register_magics(magics)
    shell.events.register("pre_run_cell", magics.notebook.before_cell)
    shell.ast_transformers.append(magics.notebook.waiting)
    shell.input_transformers_cleanup.insert(0, hoist)  # before IPython drops blank lines
    shell.input_transformers_cleanup.append(magics.check_syntax)
    shell.input_transformers_post.append(rewrite)
    shell.Completer.custom_matchers.append(magics.matcher)
    shell._flash_magics = magics  # type: ignore[attr-defined]


def unload(shell: InteractiveShell) -> None:
    """Take back what `load` did, and close what is open."""
    from flash_nb.cells.magic_line import hoist
    from flash_nb.notebook.asyncio_run import rewrite

    magics = getattr(shell, "_flash_magics", None)
    if magics is None:
        return
    magics.notebook.close()
    shell.events.unregister("pre_run_cell", magics.notebook.before_cell)
    shell.ast_transformers.remove(magics.notebook.waiting)
    shell.input_transformers_cleanup.remove(hoist)
    shell.input_transformers_cleanup.remove(magics.check_syntax)
    shell.input_transformers_post.remove(rewrite)
    shell.Completer.custom_matchers.remove(magics.matcher)
    for kind, names in magics.magics.items():
        for name in names:
            shell.magics_manager.magics[kind].pop(name, None)
    del shell._flash_magics  # type: ignore[attr-defined]
