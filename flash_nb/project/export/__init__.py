"""An export: a notebook that works -> a Flash project that means the same. Nothing is executed.

::

    cells ──▶ program ──▶ origins ──▶ slices ──▶ functions ──▶ modules ──▶ blocks ──▶ files
              (statements) (what is    (what each  (text)       (one for    (what is
                            remote)     needs)                   each        ours in
                                                                 endpoint)   a file)

    program     the notebook's statements, and which binding of a name is in force
    constant    expressions that give the same value wherever they are evaluated
    imported    import statements, a line for each name
    resource    what a function runs on
    origin      functions, classes and cells that run on a resource
    slice       what one of them needs, and what cannot leave the notebook
    body        code that moves into functions
    function    its text
    method      those of a class
    module      the file of an endpoint
    companion   modules that are files beside the notebook
    naming      names for what has none
    files       main.py, requirements.txt and the like
    block       what an export owns of a file
    folder      reading a project's folder, and writing it
    drift       what differs between a notebook and its project
    target      whose Flash the project is for
    place       a line of a cell

What decides is syntax. A function takes along the functions, classes and constants that it reads, and it
imports inside what it reads of modules, so that each can be read, moved and tested alone. A cell becomes a
function: values that it reads are parameters, with their value as default where the text shows one, and
what it binds, or changes in place, comes back by name. A value that exists only where the notebook has run
stands against an export, as does a name that is something else at the first call than at the last.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from flash_nb.cells.magic_line import MAGICS
from flash_nb.cells.reading import Cell, magic_at
from flash_nb.cells.syntax import without_collection
from flash_nb.project.declared import Trouble, TroubleError
from flash_nb.project.export.block import Block
from flash_nb.project.export.companion import companions_of
from flash_nb.project.export.files import Exported, crowded_endpoints, other_files
from flash_nb.project.export.function import Work, parameters_of
from flash_nb.project.export.method import Method, methods_of, needs_arguments
from flash_nb.project.export.module import Module, blocks_of, ids_of, with_timeout
from flash_nb.project.export.naming import file_names, function_name
from flash_nb.project.export.origin import Origin, Origins, origins_of
from flash_nb.project.export.place import place_of
from flash_nb.project.export.program import Program
from flash_nb.project.export.resource import Declaration, variable_of
from flash_nb.project.export.slice import returned, slice_of
from flash_nb.project.export.target import TARGETS, Target, TargetName
from flash_nb.worker.modules import ModuleItem

__all__ = ["TARGETS", "Export", "Exported", "Target", "TargetName", "export"]


@dataclass(frozen=True)
class Export:
    """A notebook as a project.

    Attributes:
        notebook: The name of its file.
        target: Whose Flash it is for.
        files: The blocks of each file, by its path.
        functions: In the notebook's order.
        left_out: What cannot be exported; empty unless that was asked for.
        notes: What is worth knowing.
        cells: The number of each cell, by what identifies its blocks.
        companions: The files of modules that are copied from beside the notebook.
    """

    notebook: str
    target: Target
    files: Mapping[str, tuple[Block, ...]]
    functions: tuple[Exported, ...]
    left_out: tuple[Trouble, ...] = ()
    notes: tuple[str, ...] = ()
    cells: Mapping[str, int] = field(default_factory=dict)
    companions: tuple[str, ...] = ()


def export(
    notebook: str,
    cells: Sequence[Cell],
    *,
    target: TargetName = "flash_nb",
    partial: bool = False,
    names: Mapping[str, str] | None = None,
    folder: Path | None = None,
    into: Path | None = None,
) -> Export:
    """Turn a notebook into the files of a project.

    Args:
        notebook: The name of its file.
        cells: Its code cells.
        target: Whose Flash the project is for.
        partial: Leave out what cannot be exported.
        names: What an earlier export called the functions of cells, by what identifies their blocks.
        folder: Where the notebook lies; modules that are files there go along. None for the current
            folder.
        into: The project's folder: such modules are left as they are if they lie there already.

    Raises:
        TroubleError: Something cannot be exported; all of it is listed.
    """
    with without_collection():
        return _export(notebook, cells, target, names or {}, folder, into=into, partial=partial)


def _export(
    notebook: str,
    cells: Sequence[Cell],
    target: TargetName,
    names: Mapping[str, str],
    folder: Path | None,
    *,
    into: Path | None,
    partial: bool,
) -> Export:
    program = Program(notebook, cells)
    origins = origins_of(program)
    draft = _Draft(program, origins, Target(target), ids_of(cells), names, partial=partial)
    draft.read_all(folder, into)
    modules, blocks = draft.modules()
    troubles = draft.in_order()
    if troubles and not partial:
        raise TroubleError(troubles)
    if not modules:
        raise TroubleError([*troubles, _nothing(notebook)])
    exported = tuple(draft.exported(modules))
    companions = companions_of(notebook, draft.companions(modules), into)
    texts = [block.text for files in (blocks, companions) for each in files.values() for block in each]
    others = other_files(notebook, modules, exported, texts, draft.target, companions=tuple(companions))
    return Export(
        notebook,
        draft.target,
        {**blocks, **companions, **others},
        exported,
        tuple(troubles),
        tuple(draft.notes(exported)),
        {name: number for number, name in draft.ids.items()},
        tuple(companions),
    )


def _nothing(notebook: str) -> Trouble:
    return Trouble(
        None,
        f"nothing in {notebook} runs on a resource",
        "decorate a function with @remote, or begin a cell with %%flash_remote",
    )


class _Draft:
    """An export that is being made."""

    def __init__(
        self,
        program: Program,
        origins: Origins,
        target: Target,
        ids: dict[int, str],
        names: Mapping[str, str],
        *,
        partial: bool,
    ) -> None:
        self.program, self.origins, self.target, self.ids = program, origins, target, ids
        self._names, self._partial = names, partial
        self._works: list[Work] = []
        self._troubles: list[Trouble] = [each for found in origins.troubles.values() for each in found]
        for cell, finding in program.unread:
            if cell.source.split("\n")[magic_at(cell.source.split("\n"))].startswith(MAGICS):
                place = place_of(program.name, cell, finding.line)
                self._troubles.append(Trouble(place, finding.message, finding.fix))

    def read_all(self, folder: Path | None, into: Path | None) -> None:
        """Find what each function needs, and name those that have no name."""
        found = []
        for origin in self.origins.found:
            work = self._work(origin, folder, into)
            found += [work] if work is not None else []
        taken = {*self.program.names, *(work.name for work in found)}
        for work in found:
            if work.origin.kind != "cell":
                self._works.append(work)
                continue
            outputs = returned(self.program, work.origin, work.slice)
            own = self.ids[work.origin.cell.number]
            others = {
                self._names[other] for other in self.ids.values() if other != own and other in self._names
            }
            name = function_name(work.origin, outputs[0], taken | others, self._names.get(own, ""))
            taken.add(name)
            self._works.append(replace(work, name=name, outputs=outputs))

    def _work(self, origin: Origin, folder: Path | None, into: Path | None) -> Work | None:
        try:
            made = slice_of(self.program, origin, self.target, folder=folder, into=into)
            return Work(origin, made, origin.name)
        except TroubleError as error:
            self._troubles += error.troubles
            return None

    # --- endpoints ------------------------------------------------------------------------------

    def modules(self) -> tuple[list[Module], dict[str, tuple[Block, ...]]]:
        """Return the endpoints, and the blocks of their files."""
        groups: dict[str, list[Work]] = {}
        for work in self._works:
            groups.setdefault(self.target.endpoint_name(work.origin.resource.name), []).append(work)
        used = {module for work in self._works for module in work.slice.modules}
        used |= {item["name"] for work in self._works for item in work.slice.companions}
        files = file_names({name: name for name in groups}, used)
        variables: set[str] = set()
        modules: list[Module] = []
        blocks: dict[str, tuple[Block, ...]] = {}
        for name, works in groups.items():
            resource = self._variable(self._resource(name, works), variables)
            made = self._module(files[name], resource, works)
            if made is not None:
                module, texts = made
                modules.append(module)
                blocks[module.file] = texts
        return modules, blocks

    def _resource(self, name: str, works: list[Work]) -> Declaration:
        """Return the resource of a group; functions whose resource differs are taken out of it."""
        resource = works[0].origin.resource
        for work in works[1:]:
            if work.origin.resource.identity != resource.identity:
                cells = f"cells {works[0].origin.cell.number} and {work.origin.cell.number}"
                place = place_of(self.program.name, work.origin.cell, 1)
                message = f"two resources are called {name} and are not the same: {cells}"
                self._troubles.append(Trouble(place, message, "give the two different names"))
        works[:] = [work for work in works if work.origin.resource.identity == resource.identity]
        return with_timeout(resource, works)

    def _variable(self, resource: Declaration, variables: set[str]) -> Declaration:
        """Give a resource a variable that no other file has and that nothing else is called."""
        variable = resource.variable
        others = set(variables)
        if resource.bound is None:
            others |= self.program.names
        if variable in others:
            variable = f"{variable_of(resource.name)}_endpoint"
        number, base = 1, variable
        while variable in others:
            number += 1
            variable = f"{base}_{number}"
        variables.add(variable)
        return replace(resource, variable=variable)

    def _module(
        self, file: str, resource: Declaration, works: list[Work]
    ) -> tuple[Module, tuple[Block, ...]] | None:
        """Return a file's functions and blocks; functions that do not fit are left out, one by one."""
        module = Module(file, resource, tuple(works))
        try:
            return module, blocks_of(self.program, module, self.target, self.ids)
        except TroubleError as error:
            self._troubles += error.troubles
        if not self._partial:
            return None
        fitting: list[Work] = []
        made = None
        for work in works:
            module = Module(file, resource, (*fitting, work))
            try:
                made = module, blocks_of(self.program, module, self.target, self.ids)
            except TroubleError:
                continue
            fitting.append(work)
        return made

    # --- what there is to say -------------------------------------------------------------------

    def in_order(self) -> list[Trouble]:
        """Return what stands against the export, each once, by cell."""
        place = {
            place_of(self.program.name, cell, 0).file: number for number, cell in enumerate(self._cells())
        }

        def order(trouble: Trouble) -> tuple[int, int]:
            if trouble.place is None:
                return (-1, 0)
            return (place.get(trouble.place.file, len(place)), trouble.place.line)

        return sorted(dict.fromkeys(self._troubles), key=order)

    def _cells(self) -> Iterator[Cell]:
        seen = {}
        for statement in self.program.statements:
            seen[statement.cell.number] = statement.cell
        for cell, _ in self.program.unread:
            seen[cell.number] = cell
        for each in self.program.remote_cells:
            seen[each.cell.number] = each.cell
        yield from (seen[number] for number in sorted(seen))

    @staticmethod
    def companions(modules: Sequence[Module]) -> Iterator[ModuleItem]:
        """Yield the modules that the functions import and that are files beside the notebook."""
        for module in modules:
            for work in module.works:
                yield from work.slice.companions

    def exported(self, modules: Sequence[Module]) -> Iterator[Exported]:
        """Yield the functions of the project, in the notebook's order."""
        pairs = [(work, module) for module in modules for work in module.works]
        for work, module in sorted(pairs, key=lambda pair: pair[0].origin.order):
            origin = work.origin
            kind, route = origin.kind.replace("cell", "function"), f"POST /{work.name}"
            methods: tuple[Method, ...] = ()
            if origin.kind == "class":
                if origin.statement is not None and not self._needs_arguments(origin):
                    methods = methods_of(self.program, origin.statement)
                route = ", ".join(f"POST /{work.name}/{method.name}" for method in methods)
            elif module.resource.is_load_balanced:
                kind, route = "route", f"{origin.method} {origin.path}"
            yield Exported(
                work.name,
                module.file,
                kind,
                self.target.endpoint_name(module.resource.name),
                origin.cell.number,
                self.ids[origin.cell.number],
                route,
                parameters_of(self.program, work),
                methods,
            )

    def notes(self, exported: Sequence[Exported]) -> Iterator[str]:
        """Yield what is worth knowing."""
        yield from self.origins.notes
        for work in self._works:
            yield from work.slice.remarks
        for cell in self.program.opaque:
            yield f"cell {cell.number} may bind names that its text does not show"
        for work in self._works:
            time, fields = work.origin.timeout_s, dict(work.origin.resource.fields)
            others = [each for each in self._works if each.origin.resource.name == work.origin.resource.name]
            if time and "executionTimeoutMs" not in fields and any(not o.origin.timeout_s for o in others):
                yield (
                    f"{work.name} is no longer stopped after {time:g} s: others run on "
                    f"{work.origin.resource.name} too; give that executionTimeoutMs, or a resource to each"
                )
            if work.origin.kind == "class" and self._needs_arguments(work.origin):
                yield (
                    f"{work.name} is made with arguments: main.py has no routes for its methods; give "
                    "__init__ defaults, or write the routes there"
                )
        if not self.target.is_official:
            return
        for origin in self.origins.found:
            name = origin.resource.name
            if (new := self.target.endpoint_name(name)) != name:
                yield f"the endpoint {name} is called {new}: the official builders make file names of it"
        for name, functions in crowded_endpoints(exported).items():
            yield (
                f"{name} has {len(functions)} functions ({', '.join(functions)}): the official flash build "
                "from 1.4 on reaches one of a queue-based endpoint"
            )
        for origin in self.origins.found:
            if origin.kind == "class" and self._needs_arguments(origin):
                yield f"{origin.name} is made with arguments: the official handlers make it with none"

    def _needs_arguments(self, origin: Origin) -> bool:
        assert origin.statement is not None
        return needs_arguments(self.program, origin.statement)
