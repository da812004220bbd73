"""Whether everything that a project imports will be there on its workers.

A worker finds: the standard library of its Python, the project, what was installed, the runtime's own names,
and what its image holds. An import that is made to go on without its module needs none.
"""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator
from pathlib import Path

from flash_nb.cells.requirements import distribution_of
from flash_nb.project.builder.install import Installed, Machine
from flash_nb.project.declared import Import, Project, Trouble
from flash_nb.resources.serverless import ServerlessResource
from flash_nb.sdk.target import GPU_IMAGE_PACKAGES

_OURS = frozenset({"flash_nb", "flash_runtime", "runpod_flash"})

# Modules that the standard library has not in all versions, 3.10 to 3.14: the first without, the first with.
_GONE = {
    (3, 11): "binhex",
    (3, 12): "asynchat asyncore distutils imp smtpd",
    (3, 13): "aifc audioop cgi cgitb chunk crypt imghdr lib2to3 mailcap msilib nis nntplib ossaudiodev pipes "
    "sndhdr spwd sunau telnetlib uu xdrlib",
}
_COME = {(3, 11): "tomllib", (3, 14): "annotationlib compression"}
_LEFT_IN = {name: version for version, names in _GONE.items() for name in names.split()}
_CAME_IN = {name: version for version, names in _COME.items() for name in names.split()}


def standard_library(python: str) -> frozenset[str]:
    """Return the top-level modules of a Python's standard library; it may be another than ours."""
    version = _version(python)
    absent = {name for name, left in _LEFT_IN.items() if version >= left}
    absent |= {name for name, came in _CAME_IN.items() if version < came}
    return (sys.stdlib_module_names | frozenset(_LEFT_IN) | frozenset(_CAME_IN)) - absent


def missing(
    project: Project, installed: Installed, machine: Machine, excluded: Iterable[str] = ()
) -> list[Trouble]:
    """Return a trouble for each module that some code imports and no worker of that code has.

    Args:
        project: With its imports.
        installed: What its artifact holds.
        machine: What its workers run.
        excluded: Canonical names of packages that were left out, since the images have them.
    """
    standard = standard_library(machine.python)
    left_out = frozenset(excluded)
    found: dict[str, Trouble] = {}
    for module, imports in sorted(project.imports.items()):
        resources = _resources_of(project, module)
        if any(not resource.is_live for resource in resources):
            continue  # an image of the user's own may hold anything
        of_image = frozenset() if all(each.is_cpu for each in resources) else GPU_IMAGE_PACKAGES
        for each in imports:
            top = each.module.partition(".")[0]
            if each.guarded or top in standard | _OURS or each.module in found:
                continue
            if distribution_of(each.module) in left_out | of_image or _lies_in(installed.folder, each):
                continue
            found[each.module] = _trouble(each, machine)
    return sorted(found.values(), key=lambda trouble: str(trouble.place))


def _resources_of(project: Project, module: str) -> list[ServerlessResource]:
    """Return what a module's functions, or its application, run on; all there is if it has neither."""
    own = [
        group.resource for group in project.groups if any(each.module == module for each in group.functions)
    ]
    mothership = project.mothership
    if mothership and mothership.file == f"{module.replace('.', '/')}.py":
        own.append(mothership.resource)
    return own or [*project.resources]


def _lies_in(folder: Path, wanted: Import) -> bool:
    """Whether a folder has a module; of a namespace that several packages share, the part of it."""
    where = folder
    for part in wanted.module.split("."):
        if _is_module(where, part):
            return True
        where /= part
        if not where.is_dir():
            return False
    names = [name for name in wanted.names if name != "*"]
    return not names or all(_is_module(where, name) or (where / name).is_dir() for name in names)


def _is_module(folder: Path, name: str) -> bool:
    is_file = (folder / f"{name}.py").is_file() or (folder / name / "__init__.py").is_file()
    return is_file or any(_extensions(folder, name))


def _extensions(folder: Path, name: str) -> Iterator[Path]:
    for place in (folder / f"{name}.so", *folder.glob(f"{name}.*.so"), *(folder / name).glob("__init__.*")):
        if place.is_file():
            yield place


def _trouble(wanted: Import, machine: Machine) -> Trouble:
    top = wanted.module.partition(".")[0]
    if top in _LEFT_IN:
        left = ".".join(map(str, _LEFT_IN[top]))
        return Trouble(
            wanted.place,
            f"import of a missing module: {wanted.module!r} left the standard library in Python {left}, "
            f"and workers run {machine.python}",
            "Use another module, or a package that brings it back as a dependency",
        )
    if top in _CAME_IN:
        came = ".".join(map(str, _CAME_IN[top]))
        return Trouble(
            wanted.place,
            f"import of a missing module: {wanted.module!r} came with Python {came}, "
            f"and workers run {machine.python}",
            f"Build for a newer Python: --python-version {came}",
        )
    package = distribution_of(wanted.module)
    return Trouble(
        wanted.place,
        f"import of a missing module: {wanted.module!r} is not in the project, and no package that is "
        "installed has it",
        f'Declare it, dependencies=["{package}"] in @remote, or add {package} to requirements.txt',
    )


def _version(python: str) -> tuple[int, ...]:
    return tuple(map(int, python.split(".")[:2]))


def tops(files: Iterable[str]) -> frozenset[str]:
    """Return the top-level modules among files."""
    return frozenset(
        path.partition("/")[0].removesuffix(".py")
        for path in files
        if path.endswith(("/__init__.py", ".py")) and path.count("/") <= 1
    )
