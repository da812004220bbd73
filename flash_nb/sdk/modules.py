"""Modules that are files beside the code: found by their names and read, so that they travel as source.

They are looked for where Python looks, but for the standard library and installed packages: in the
current folder, beside the function's own file or the notebook, and in what else of ``sys.path`` is the
user's. What they import of the same kind travels too. Nothing is imported or executed for it.
"""

# ruff: noqa: PTH100, PTH109, PTH112, PTH113, PTH116, PTH118, PTH119, PTH120 - pathlib takes several times as
# long, and every call looks for its files

from __future__ import annotations

import ast
import hashlib
import importlib.machinery
import os
import site
import sys
import sysconfig
import tokenize
import warnings
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path

from flash_nb.cells.finding import Code
from flash_nb.cells.imports import Import, imports_of
from flash_nb.cells.secret import form_of
from flash_nb.errors import CellError
from flash_nb.sdk.dependencies import PROVIDED, Unprovided, is_installed, is_published, made_by_code
from flash_nb.worker.modules import ModuleItem

_FLASH = frozenset({"flash_nb", "runpod_flash", "tetra_rp"})
_INSTALLED = frozenset({"site-packages", "dist-packages", "lib-dynload"})
_PYTHONS = frozenset(
    os.path.abspath(sysconfig.get_path(kind)) for kind in ("stdlib", "platstdlib", "purelib", "platlib")
)


@dataclass(frozen=True, slots=True)
class Doubt:
    """What is worth knowing of a module's file, and what to do about it."""

    code: Code
    message: str
    fix: str


@dataclass(frozen=True)
class ModuleFiles:
    """Modules that travel as the source of their files.

    Attributes:
        items: They, as `flash_nb.worker.modules` takes them, by their names.
        outside: What else is imported, by them or beside them: it comes from packages.
        via: What was asked for, by all that it brought in, itself included.
        troubles: What cannot travel.
        doubts: What is worth knowing of the others.
    """

    items: tuple[ModuleItem, ...] = ()
    outside: frozenset[str] = frozenset()
    via: Mapping[str, str] = field(default_factory=dict)
    troubles: tuple[Unprovided, ...] = ()
    doubts: tuple[tuple[str, Doubt], ...] = ()

    @property
    def names(self) -> tuple[str, ...]:
        """The modules' names."""
        return tuple(item["name"] for item in self.items)

    @property
    def sizes(self) -> dict[str, int]:
        """The bytes of each source, by the module's name."""
        return {f"module {item['name']}": len(item["source"].encode()) for item in self.items}

    def refuse(self) -> None:
        """Refuse to send what cannot travel.

        Raises:
            CellError: There is such a module.
        """
        for trouble in self.troubles:
            raise CellError(f"{trouble.message}.", hint=f"{trouble.fix[0].upper()}{trouble.fix[1:]}.")


def find_modules(
    modules: Iterable[str],
    guesses: Iterable[str] = (),
    near: Iterable[str | Path] = (),
    *,
    here: str | Path | None = None,
) -> ModuleFiles:
    """Find the modules that are files of this machine's user, and all files that they import.

    Args:
        modules: What code imports, dotted or not.
        guesses: What may be a module: ``a.b`` for ``from a import b``.
        near: Folders where the code stands.
        here: The folder that the code runs in, where Python looks first; None if this process is it.
    """
    path = sys.path if here is None else ("", *sys.path)
    search = _Search(_folders(tuple(path), str(here or os.getcwd()), tuple(map(str, near))))
    for name in sorted(modules):
        search.add(name, via=name)
    for name in sorted(guesses):
        search.add(name, via=name, is_guess=True)
    return search.finish()


@dataclass(frozen=True)
class _File:
    """A module's file that was read; all is empty for a folder without ``__init__.py``."""

    path: str
    source: str
    digest: str
    imports: tuple[Import, ...] = ()
    error: str = ""
    doubts: tuple[Doubt, ...] = ()


@dataclass(frozen=True)
class _Folders:
    """Where modules are looked for: before installed packages, and after them."""

    before: tuple[str, ...]
    after: tuple[str, ...]


class _Search:
    def __init__(self, folders: _Folders) -> None:
        self._folders = folders
        self._roots: dict[str, str] = {}  # the folder of each top-level module; empty: it is not the user's
        self._looked: dict[tuple[str, ...], tuple[str, bool]] = {}
        self._files: dict[str, _File] = {}
        self._packages: set[str] = set()
        self._needs: dict[str, set[str]] = {}
        self._via: dict[str, str] = {}
        self._outside: set[str] = set()
        self._troubles: dict[str, Unprovided] = {}

    def add(self, name: str, *, via: str, is_guess: bool = False) -> bool:
        """Take a module, the packages around it, and what they import; return whether it is the user's."""
        root, *rest = name.split(".")
        folder = self._folder(root, rest)
        if not folder:
            if not is_guess:
                self._outside.add(name)
                self._via.setdefault(name, via)
            return False
        parts: list[str] = []
        for part in (root, *rest):
            parts.append(part)
            if not self._take(folder, parts, via=via):
                return len(parts) > 1
        return True

    def finish(self) -> ModuleFiles:
        items = tuple(self._item(name) for name in sorted(self._files))
        doubts = ((name, doubt) for name in sorted(self._files) for doubt in self._files[name].doubts)
        outside = frozenset(name for name in self._outside if not self._roots.get(name.partition(".")[0]))
        return ModuleFiles(items, outside, self._via, tuple(self._troubles.values()), tuple(doubts))

    def _folder(self, root: str, rest: Sequence[str]) -> str:
        """Return where a top-level module of the user's lies; empty if it is none."""
        if root in PROVIDED or root in sys.stdlib_module_names or made_by_code(root) or _is_loaded(root):
            return ""
        if root not in self._roots or (rest and not self._roots[root]):
            self._roots[root] = self._search(root, rest)
        return self._roots[root]

    def _search(self, root: str, rest: Sequence[str]) -> str:
        for folder in (*self._folders.before, *self._folders.after):
            is_late = folder not in self._folders.before
            if self._file_of(folder, [root])[0]:
                # Under development as a package of its own, or hidden by an installed one.
                return "" if is_installed(root) and (is_late or not is_published(root)) else folder
        for folder in (*self._folders.before, *self._folders.after) if rest else ():
            if (
                os.path.isdir(os.path.join(folder, root))
                and any(self._file_of(folder, [root, *rest[: end + 1]])[0] for end in range(len(rest)))
                and not is_installed(root)
            ):
                return folder
        return ""

    def _file_of(self, folder: str, parts: Sequence[str]) -> tuple[str, bool]:
        key = (folder, *parts)
        if key not in self._looked:
            self._looked[key] = _file_of(folder, parts)
        return self._looked[key]

    def _take(self, folder: str, parts: Sequence[str], *, via: str) -> bool:
        name = ".".join(parts)
        if name in self._files:
            return True
        path, is_package = self._file_of(folder, parts)
        if not path and not is_package:
            compiled = _compiled(folder, parts)
            if compiled:
                message = f"{name} is compiled code of this machine ({compiled}): only .py files travel"
                fix = "make it a package and depend on it by address"
                self._troubles.setdefault(name, Unprovided(parts[0], message, fix))
            return False
        package = name if is_package else name.rpartition(".")[0]
        file = self._files[name] = _read_file(path, package) if path else _File("", "", "")
        self._via.setdefault(name, via)
        if is_package:
            self._packages.add(name)
        if file.error:
            fix = "correct it"
            self._troubles.setdefault(name, Unprovided(parts[0], file.error, fix))
        needs = self._needs[name] = {".".join(parts[:end]) for end in range(1, len(parts))}
        for each in file.imports:
            self._follow(name, each, via, needs)
        return True

    def _follow(self, name: str, each: Import, via: str, needs: set[str]) -> None:
        root = each.module.partition(".")[0]
        if root in _FLASH and not (each.is_guarded or each.is_late or each.is_guess):
            message = f"{name} imports {root} (line {each.line}), and a worker has no {root}"
            fix = "put what the worker needs of it in a file of its own"
            self._troubles.setdefault(name, Unprovided(name, message, fix))
        elif each.is_guarded and not _is_here(root, self._folder(root, each.module.split(".")[1:])):
            return  # it does without here too
        elif self.add(each.module, via=via, is_guess=each.is_guess):
            parts = each.module.split(".")
            needs.update(".".join(parts[: end + 1]) for end in range(len(parts)))

    def _item(self, name: str) -> ModuleItem:
        file = self._files[name]
        reached, waiting = {name}, [name]
        while waiting:
            for other in self._needs.get(waiting.pop(), ()):
                if other in self._files and other not in reached:
                    reached.add(other)
                    waiting.append(other)
        text = "".join(f"{each}:{self._files[each].digest};" for each in sorted(reached))
        return {
            "name": name,
            "file": file.path,
            "source": file.source,
            "package": name in self._packages,
            "digest": hashlib.sha256(text.encode()).hexdigest()[:32],
        }


def _is_here(root: str, folder: str) -> bool:
    """Tell whether a module that code can do without exists here."""
    return bool(folder) or root in sys.stdlib_module_names or is_installed(root)


# --- files ---------------------------------------------------------------------------------------


@lru_cache(maxsize=64)
def _folders(path: tuple[str, ...], here: str, near: tuple[str, ...]) -> _Folders:
    """Return the user's folders among those of ``sys.path``, then those where code stands."""
    before: dict[str, None] = {}
    after: dict[str, None] = {}
    has_installed = False
    for entry in path:
        folder = os.path.abspath(os.path.join(here, entry))
        if _is_of_python(folder):
            has_installed = has_installed or not _INSTALLED.isdisjoint(Path(folder).parts)
        else:
            (after if has_installed else before)[folder] = None
    for entry in (here, *near):
        folder = os.path.abspath(os.path.join(here, entry))
        if not _is_of_python(folder):
            after[folder] = None
    return _Folders(tuple(before), tuple(folder for folder in after if folder not in before))


def _is_of_python(folder: str) -> bool:
    """True for the standard library's folders and those of installed packages."""
    if folder in _PYTHONS or folder.endswith(".zip") or folder == site.getusersitepackages():
        return True
    return not _INSTALLED.isdisjoint(Path(folder).parts)


def _is_loaded(root: str) -> bool:
    """True for a module that this process has imported from where packages are installed."""
    file = getattr(sys.modules.get(root), "__file__", None)
    return file is not None and ("site-packages" in file or "dist-packages" in file)


def _file_of(folder: str, parts: Sequence[str]) -> tuple[str, bool]:
    """Return a module's file, and whether it is a package; a folder without ``__init__.py`` has no file."""
    base = os.path.join(folder, *parts)
    init = os.path.join(base, "__init__.py")
    if os.path.isfile(init):
        return init, True
    if os.path.isfile(f"{base}.py"):
        return f"{base}.py", False
    return "", os.path.isdir(base)


def _compiled(folder: str, parts: Sequence[str]) -> str:
    base = os.path.join(folder, *parts)
    suffixes = importlib.machinery.EXTENSION_SUFFIXES
    return next((f"{parts[-1]}{end}" for end in suffixes if os.path.isfile(base + end)), "")


def _read_file(path: str, package: str) -> _File:
    """Return what a file says; the same as before if it did not change."""
    stat = os.stat(path)
    return _parsed(path, package, stat.st_mtime_ns, stat.st_size)


@lru_cache(maxsize=1024)
def _parsed(path: str, package: str, _changed: int, _size: int) -> _File:
    name = os.path.basename(path)
    if name == "__init__.py":
        name = f"{os.path.basename(os.path.dirname(path))}/{name}"
    try:
        with tokenize.open(path) as opened:
            source = opened.read()
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # the worker says it
            tree = ast.parse(source)
    except (OSError, SyntaxError, ValueError) as error:
        line = f" (line {error.lineno})" if isinstance(error, SyntaxError) and error.lineno else ""
        said = error.msg if isinstance(error, SyntaxError) else str(error)
        return _File(path, "", "", error=f"{name} cannot be read{line}: {said}")
    digest = hashlib.sha256(f"{path}\0{source}".encode("utf-8", "surrogatepass")).hexdigest()
    imports = tuple(imports_of(tree, package))
    return _File(path, source, digest, imports, doubts=tuple(_doubts(name, source, tree)))


def _doubts(name: str, source: str, tree: ast.AST) -> Iterable[Doubt]:
    if form := form_of(source):
        message = f"{name} holds what looks like {form}, and travels with the call"
        yield Doubt("secret", message, "give it to the resource, env={…}, and read it from os.environ")
    for node in ast.walk(tree):
        if isinstance(node, ast.Name) and node.id == "__file__":
            message = f"{name} reads __file__ (line {node.lineno}): only modules travel, no data files"
            yield Doubt("import", message, "read data from a URL or a volume, or pass it as an argument")
            return
