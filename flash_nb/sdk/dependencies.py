"""From the modules that code imports to the packages that a worker needs.

A worker's environment holds only what is asked for, so what the code imports is asked for too,
pinned to the version that is installed here.
"""

from __future__ import annotations

import functools
import importlib.machinery
import importlib.metadata
import importlib.util
import json
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from flash_nb.cells.requirements import Inferred, infer, merge, requirement_name
from flash_nb.errors import CellError


def requirements_for(
    modules: Iterable[str], explicit: Iterable[str] = (), *, present: frozenset[str] = frozenset()
) -> tuple[str, ...]:
    """Return what a worker must have installed: the explicit requirements and the inferred ones.

    Args:
        modules: What the code imports.
        explicit: What the user asked for.
        present: Canonical names of what the worker's image has: not inferred.

    Raises:
        CellError: A module is a file of this machine that cannot travel; see `flash_nb.sdk.modules`.
    """
    inferred = _infer(frozenset(modules))
    return merge(explicit, [each for each in inferred if requirement_name(each) not in present])


@dataclass(frozen=True)
class Unprovided:
    """A module that no package of this machine provides for a worker.

    Attributes:
        module: Its name at the top level.
        message: Why, for people.
        fix: What to do about it.
        package: What is taken from PyPI under its name; empty if nothing can be.
    """

    module: str
    message: str
    fix: str
    package: str = ""


def unprovided(module: str, folder: Path | None = None) -> Unprovided | None:
    """Return what is to be said of a module that no package installed here provides.

    Args:
        module: Its name, dotted or not. It is not imported.
        folder: Where its file may lie, beside all the folders where Python looks.
    """
    root = module.partition(".")[0]
    if root in PROVIDED or root in sys.stdlib_module_names or made_by_code(root) or is_published(root):
        return None
    if root in _Distributions():
        local = _inferred(frozenset({module}), _Distributions()).local
        if not local:
            return None
        return Unprovided(
            root,
            f"{', '.join(local)} is installed here from a folder: a worker cannot install it",
            "publish it, or depend on it by address: --deps 'name @ git+https://…'",
        )
    if file := _local_file(root, folder):
        return Unprovided(
            root,
            f"{root} is a file of this machine ({file}), and only .py files travel to a worker",
            "make it a package and depend on it by address: --deps 'name @ git+https://…'",
        )
    package = _inferred(frozenset({module}), {}).requirements[0]
    return Unprovided(
        root,
        f"{root} is not installed here: the newest {package} of PyPI is taken",
        f"name the version that you mean: --deps '{package}==…'",
        package,
    )


@functools.lru_cache(maxsize=256)
def _infer(modules: frozenset[str]) -> tuple[str, ...]:
    modules = frozenset(module for module in modules if not made_by_code(module.partition(".")[0]))
    for module in modules:
        missing = unprovided(module)
        if missing is not None and not missing.package:
            raise CellError(f"{missing.message}.", hint=f"{missing.fix[0].upper()}{missing.fix[1:]}.")
    return _inferred(modules, _Distributions()).requirements


def _inferred(modules: frozenset[str], distributions: Mapping[str, Sequence[str]]) -> Inferred:
    return infer(modules, distributions=distributions, version=importlib.metadata.version, is_local=_is_local)


class _Distributions(Mapping[str, Sequence[str]]):
    """`importlib.metadata.packages_distributions`, with a short cut.

    A package of the module's own name is found without reading the metadata of everything that is
    installed (0.3 s here).
    """

    def __getitem__(self, module: str) -> Sequence[str]:
        try:
            return [importlib.metadata.distribution(module).metadata["Name"]]
        except importlib.metadata.PackageNotFoundError:
            return _all_distributions()[module]

    def __iter__(self) -> Iterator[str]:
        return iter(_all_distributions())

    def __len__(self) -> int:
        return len(_all_distributions())


@functools.cache
def _all_distributions() -> Mapping[str, Sequence[str]]:
    return importlib.metadata.packages_distributions()


def _is_local(distribution: str) -> bool:
    """True for a package that was installed from a folder (PEP 610)."""
    text = importlib.metadata.distribution(distribution).read_text("direct_url.json")
    return text is not None and "dir_info" in json.loads(text)


@functools.lru_cache(maxsize=256)
def is_published(module: str) -> bool:
    """True if a worker can install what a module comes from; False for a file or folder of this machine."""
    found = _Distributions().get(module.partition(".")[0], ())
    return bool(found) and not any(map(_is_local, found))


@functools.lru_cache(maxsize=256)
def is_installed(module: str) -> bool:
    """True if a distribution that is installed here provides a module."""
    return module.partition(".")[0] in _Distributions()


def made_by_code(module: str) -> bool:
    """True for a module that no file provides, such as Cython's ``_cython_3_1_2``: nothing to install."""
    found = sys.modules.get(module)
    return found is not None and getattr(found, "__spec__", None) is None


def _local_file(module: str, folder: Path | None) -> str:
    """Return the file, without its folder, of a module that is found here; empty if there is none."""
    try:
        spec = importlib.util.find_spec(module)
    except (ImportError, ValueError):
        return ""
    if spec is None and folder is not None:
        spec = importlib.machinery.PathFinder.find_spec(module, [str(folder)])
    if spec is None or spec.origin in {None, "built-in", "frozen"}:
        return ""
    file = Path(str(spec.origin))
    return f"{module}/{file.name}" if file.stem == "__init__" else file.name


PROVIDED = frozenset({"", "__main__", "flash_nb", "flash_worker", "cloudpickle"})
