"""Modules that came with a job: files of the user's machine, imported here from their source.

A request or an app brings them as *module items*, JSON objects:

``{"name": "helpers", "file": "/home/me/helpers.py", "source": "…", "package": false, "digest": "…"}``
    A module. Its digest stands for its own source and for that of all modules of these that it
    imports, one through the other. A folder without ``__init__.py`` is a package with an empty source.

A module stays imported as long as its digest is the same, with what it holds. If its file changed,
its new source is imported anew, and so is what imports it; the module from before is kept for
objects that were made with it. Code of a job sees the modules that this job brought, and no others.
"""

from __future__ import annotations

import importlib.abc
import importlib.machinery
import importlib.util
import linecache
import sys
import types
from collections.abc import Mapping, Sequence
from typing import Any

ModuleItem = dict[str, Any]

MAX_KEPT = 256


class Modules(importlib.abc.MetaPathFinder):
    """Finds the modules that came with the job that runs now. There is one in a process, `MODULES`."""

    def __init__(self) -> None:
        self._items: Mapping[str, ModuleItem] = {}
        self._digests: Mapping[str, str] = {}
        self._kept: dict[tuple[str, str], types.ModuleType] = {}
        self._others: dict[str, types.ModuleType] = {}  # of the same names, that did not come with jobs

    def provide(self, items: Sequence[ModuleItem]) -> None:
        """Have ``import`` find these modules from now on, and those that were provided before no more."""
        digests = {item["name"]: item["digest"] for item in items}
        if digests == self._digests:
            return
        if self not in sys.meta_path:
            sys.meta_path.insert(0, self)
        for name in sorted(self._digests, reverse=True):  # what is inside a package before the package
            if digests.get(name) != self._digests[name]:
                self._withdraw(name, self._digests[name])
        self._items, self._digests = {item["name"]: item for item in items}, digests
        self._make_room()
        for name in sorted(digests):
            kept = self._kept.get((name, digests[name]))
            if kept is not None and sys.modules.get(name) is not kept:
                _enter(name, kept)

    def find_spec(
        self, fullname: str, _path: Sequence[str] | None = None, _target: types.ModuleType | None = None
    ) -> importlib.machinery.ModuleSpec | None:
        """Return what ``import`` needs of a module; None if it did not come with the job."""
        item = self._items.get(fullname)
        if item is None:
            return None
        spec = importlib.util.spec_from_loader(
            fullname, _Source(item), origin=item["file"] or None, is_package=item["package"]
        )
        if spec is not None and item["file"]:
            spec.has_location = True
        return spec

    def _withdraw(self, name: str, digest: str) -> None:
        module = sys.modules.get(name)
        if module is None or not _is_ours(module):
            return
        self._kept[name, digest] = module
        while len(self._kept) > MAX_KEPT:
            del self._kept[next(iter(self._kept))]
        _leave(name)

    def _make_room(self) -> None:
        """Put aside modules of the same names, from an image or a package; bring back those of before."""
        roots = {name.partition(".")[0] for name in self._digests}
        for name in [name for name in self._others if name.partition(".")[0] not in roots]:
            sys.modules.setdefault(name, self._others.pop(name))
        for name in [name for name in sys.modules if name.partition(".")[0] in roots]:
            if not _is_ours(sys.modules[name]):
                self._others[name] = sys.modules.pop(name)


MODULES = Modules()


class _Source(importlib.abc.InspectLoader):
    """Executes the source of a module item."""

    def __init__(self, item: ModuleItem) -> None:
        self._item = item

    def create_module(self, spec: importlib.machinery.ModuleSpec) -> None:
        """Leave it to ``import``."""

    def exec_module(self, module: types.ModuleType) -> None:
        source, file = self._item["source"], self._item["file"]
        if file:  # tracebacks show what came, also where a newer file of this name lies
            linecache.cache[file] = (len(source), None, source.splitlines(keepends=True), file)
        code = compile(source, file or "<package>", "exec", dont_inherit=True)
        exec(code, module.__dict__)

    def is_package(self, _: str) -> bool:
        return bool(self._item["package"])

    def get_source(self, _: str) -> str:
        return str(self._item["source"])

    def get_data(self, path: str) -> bytes:
        """Refuse what ``pkgutil`` asks for.

        Raises:
            OSError: Always.
        """
        raise OSError(f"{path} is not here: only the source of {self._item['name']} came with the job")


def _is_ours(module: types.ModuleType) -> bool:
    return isinstance(getattr(getattr(module, "__spec__", None), "loader", None), _Source)


def _enter(name: str, module: types.ModuleType) -> None:
    sys.modules[name] = module
    around, _, last = name.rpartition(".")
    if around in sys.modules:
        setattr(sys.modules[around], last, module)


def _leave(name: str) -> None:
    module = sys.modules.pop(name)
    around, _, last = name.rpartition(".")
    package = sys.modules.get(around)
    if package is not None and vars(package).get(last) is module:
        delattr(package, last)
