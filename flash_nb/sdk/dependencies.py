"""From the modules that code imports to the packages that a worker needs.

A worker's environment holds only what is asked for, so what the code imports is asked for too,
pinned to the version that is installed here.
"""

from __future__ import annotations

import functools
import importlib.metadata
import importlib.util
import json
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence

from flash_nb.cells.requirements import infer, merge
from flash_nb.errors import CellError


def requirements_for(modules: Iterable[str], explicit: Iterable[str] = ()) -> tuple[str, ...]:
    """Return what a worker must have installed: the explicit requirements and the inferred ones.

    Raises:
        CellError: A module is a file of this machine, which a worker does not have.
    """
    return merge(explicit, _infer(frozenset(modules)))


@functools.lru_cache(maxsize=256)
def _infer(modules: frozenset[str]) -> tuple[str, ...]:
    modules = frozenset(module for module in modules if not _made_by_code(module.partition(".")[0]))
    for module in modules:
        _refuse_local_file(module.partition(".")[0])
    inferred = infer(
        modules, distributions=_Distributions(), version=importlib.metadata.version, is_local=_is_local
    )
    if inferred.local:
        raise CellError(
            f"{', '.join(inferred.local)} is installed here from a folder: a worker cannot install it.",
            hint="Publish it, or depend on it by address: --deps 'name @ git+https://…'",
        )
    return inferred.requirements


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


def _made_by_code(module: str) -> bool:
    """True for a module that no file provides, such as Cython's ``_cython_3_1_2``: nothing to install."""
    found = sys.modules.get(module)
    return found is not None and getattr(found, "__spec__", None) is None


def _refuse_local_file(module: str) -> None:
    """Refuse a module that is found here but belongs to no package."""
    if module in sys.stdlib_module_names or module in _PROVIDED or module in _Distributions():
        return
    try:
        spec = importlib.util.find_spec(module)
    except (ImportError, ValueError):
        return
    if spec is not None and spec.origin not in (None, "built-in", "frozen"):
        raise CellError(
            f"{module} is a file of this machine ({spec.origin}): a worker does not have it.",
            hint="Put its functions in a cell, or make it a package and depend on it by address.",
        )


_PROVIDED = frozenset({"", "__main__", "flash_nb", "flash_worker", "cloudpickle"})
