"""The other files of a project: its application, what it installs, what is left out of it, and its words."""

from __future__ import annotations

import importlib.metadata
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet

from flash_nb.cells.requirements import requirement_name
from flash_nb.project.export.block import Block
from flash_nb.project.export.companion import listed
from flash_nb.project.export.function import Parameter, Work, requirements_of
from flash_nb.project.export.method import Method
from flash_nb.project.export.module import Module
from flash_nb.project.export.resource import variables_in
from flash_nb.project.export.target import OFFICIAL_VERSION, Target
from flash_nb.sdk.target import GPU_IMAGE_PACKAGES

PROJECT = "project"
"""Identifies blocks that belong to no cell."""

_IGNORED = ".env\n.flash/\n.ipynb_checkpoints/\n.venv/\n__pycache__/\n*.ipynb\n*.pyc\ntests/"
_CACHES = ".env\n.flash/\n.ipynb_checkpoints/\n.venv/\n__pycache__/\n*.pyc"
_LEFT_OUT = frozenset({"build", "dist", "tests"})
_TEST = re.compile(r"test_.*\.py$|.*_test\.py$|conftest\.py$")


@dataclass(frozen=True)
class Exported:
    """A function of a project.

    Attributes:
        name: Its name.
        file: Where it stands.
        kind: What it is there.
        resource: The endpoint that it runs on.
        cell: The number of its cell, from 1.
        cell_id: Its cell's id; empty if that has none.
        route: ``POST /predict`` of a load-balanced resource, or of ``main.py``; empty if there is none.
        parameters: As ``main.py`` takes them.
        methods: Of a class, those that ``main.py`` has routes for.
    """

    name: str
    file: str
    kind: str
    resource: str
    cell: int
    cell_id: str
    route: str
    parameters: tuple[Parameter, ...] = ()
    methods: tuple[Method, ...] = ()


def other_files(
    notebook: str,
    modules: Sequence[Module],
    exported: Sequence[Exported],
    texts: Iterable[str],
    target: Target,
    *,
    companions: Sequence[str] = (),
) -> Mapping[str, tuple[Block, ...]]:
    """Return the files of a project that are not of one endpoint.

    Args:
        notebook: The name of its file.
        modules: The endpoints.
        exported: Their functions.
        texts: What the modules hold.
        target: Whose Flash it is for.
        companions: Files of other modules that go along.
    """
    found = {
        "main.py": _main(notebook, exported, target, companions),
        "requirements.txt": _requirements([work for module in modules for work in module.works], target),
        ".flashignore": "\n".join([_IGNORED, *_taken_back(companions)]),
        ".gitignore": _CACHES,
        ".env.example": _variables(texts),
        "README.md": _readme(notebook, exported, target),
    }
    return {name: (Block(notebook, PROJECT, text),) for name, text in found.items()}


# --- main.py -----------------------------------------------------------------------------------------


def _main(notebook: str, exported: Sequence[Exported], target: Target, companions: Sequence[str]) -> str:
    routes = [text for each in exported for text in _routes(each)]
    others = [each for each in exported if each.kind == "route"]
    head = f'"""The application of a project exported from {notebook} for {target.name}."""\n\n'
    if companions:
        head += f"{listed(companions)}\n\n"
    if not routes:
        return head + "from fastapi import FastAPI\n\napp = FastAPI()" + _mentioned(others)
    imports = "import functools\n" if any(each.methods for each in exported) else ""
    imports += (
        "import inspect\nfrom typing import Any\n\nfrom fastapi import Body, FastAPI\n\napp = FastAPI()"
    )
    answer = '''async def _answer(called: Any) -> Any:
    """Return the value of a call, which gives a coroutine for a job's output, or on a worker the value."""
    found = await called if inspect.isawaitable(called) else called
    return found.unwrap() if hasattr(found, "unwrap") else found'''
    return "\n\n\n".join([head + imports + _mentioned(others), answer, *routes])


def _mentioned(others: Sequence[Exported]) -> str:
    if not others:
        return ""
    lines = "".join(f"\n#   {each.route:<28} {each.name}, on {each.resource}" for each in others)
    return f"\n\n# These have routes of their own, on load-balanced endpoints:{lines}"


def _routes(each: Exported) -> Iterator[str]:
    """Yield the code of a function's route, or of those of a class's methods."""
    module = each.file.removesuffix(".py")
    if each.kind == "function":
        called = "called" if any(one.name == each.name for one in each.parameters) else each.name
        renamed = f" as {called}" if called != each.name else ""
        head = f"    from {module} import {each.name}{renamed}\n\n"
        yield _route(each.name, each, each.parameters, head, called)
    if each.methods:
        yield (
            f"@functools.cache\ndef _object_of_{each.name}() -> Any:\n"
            '    """Return the object that all requests share; the first one makes it."""\n'
            f"    from {module} import {each.name}\n\n    return {each.name}()"
        )
    for method in each.methods:
        called = f"_object_of_{each.name}().{method.name}"
        yield _route(f"{each.name}/{method.name}", each, method.parameters, "", called)


def _route(path: str, each: Exported, declared: Sequence[Parameter], head: str, called: str) -> str:
    parameters = [one for one in declared if one.kind != "rest"]
    odd = any(one.name.startswith("_") or one.kind == "words" for one in parameters)
    if odd:
        taken, given = ["body: dict[str, Any] = Body()"], "**body"
    else:
        taken = [f"{one.name}: {_type(one)} = {_body(one)}" for one in parameters]
        given = _given(parameters)
    signature = ", ".join(taken)
    if len(signature) > 70:  # noqa: PLR2004 - the line would be too long
        signature = "\n" + "".join(f"    {each},\n" for each in taken)
    label = path.replace("/", ".")
    return (
        f'@app.post("/{path}")\n'
        f"async def post_{path.replace('/', '_')}({signature}) -> Any:\n"
        f'    """Run {label} on {each.resource}."""\n'
        f"{head}    return await _answer({called}({given}))"
    )


def _type(one: Parameter) -> str:
    return one.annotation if not one.is_optional or one.default else "Any"


def _body(one: Parameter) -> str:
    if not one.is_optional:
        return "Body(embed=True)"
    return f"Body({one.default or 'None'}, embed=True)"


def _given(parameters: Sequence[Parameter]) -> str:
    by_place = [one.name for one in parameters if one.kind == "place"]
    by_name = [one for one in parameters if one.kind == "name"]
    known = [f"{one.name}={one.name}" for one in by_name if not one.is_optional or one.default]
    unknown = [f'"{one.name}": {one.name}' for one in by_name if one.is_optional and not one.default]
    parts = [*by_place, *known]
    if unknown:
        parts.append(
            f"**{{name: value for name, value in {{{', '.join(unknown)}}}.items() if value is not None}}"
        )
    return ", ".join(parts)


# --- requirements.txt --------------------------------------------------------------------------------


def _requirements(works: Sequence[Work], target: Target) -> str:
    modules = sorted({module for work in works for module in work.slice.modules})
    written = list(dict.fromkeys(text for work in works for text in work.origin.dependencies))
    lines, remarks = [], []
    for text in map(_pinned, requirements_of(modules, written)):
        name = requirement_name(text)
        if target.is_official and name in GPU_IMAGE_PACKAGES and not _on_cpu(works, name):
            remarks.append(f"# {name} is in the images with a GPU: not installed again.")
            continue
        if not Requirement(text).specifier and not Requirement(text).url:
            remarks.append(
                f"# {name} is not installed where this was exported: name the version that you mean."
            )
        lines.append(text)
    if target.is_official:
        lines.append(f"runpod-flash=={OFFICIAL_VERSION}")
    if not any(requirement_name(text) == "fastapi" for text in lines):
        lines.append("fastapi" if target.is_official else requirements_of(["fastapi"], ())[0])
    return "\n".join([*sorted(lines, key=requirement_name), *sorted(remarks)])


def _pinned(text: str) -> str:
    """Return a requirement in the version that is installed here, if it names none and there is one."""
    wanted = Requirement(text)
    if wanted.specifier or wanted.url:
        return text
    try:
        version = importlib.metadata.version(wanted.name)
    except importlib.metadata.PackageNotFoundError:
        return text
    wanted.specifier = SpecifierSet(f"=={version.partition('+')[0]}")
    return str(wanted)


def _on_cpu(works: Sequence[Work], package: str) -> bool:
    """Tell whether a function without a GPU needs a package."""
    for work in works:
        if work.origin.resource.is_cpu:
            wanted = requirements_of(sorted(work.slice.modules), work.origin.dependencies)
            if package in {requirement_name(text) for text in wanted}:
                return True
    return False


def _taken_back(companions: Sequence[str]) -> Sequence[str]:
    """Return rules that keep companions whose names look like those of tests or of what a build makes."""
    lines: dict[str, None] = {}
    for path in companions:
        *folders, name = path.split("/")
        if _LEFT_OUT.isdisjoint(folders) and not _TEST.match(name):
            continue
        for end in range(1, len(folders) + 1):
            lines[f"!/{'/'.join(folders[:end])}/"] = None
        lines[f"!/{path}"] = None
    return list(lines)


# --- words -------------------------------------------------------------------------------------------


def _variables(texts: Iterable[str]) -> str:
    names = sorted({name for text in texts for name in variables_in(text)})
    if not names:
        return "# The project reads no variables of the environment."
    head = "# Copy this file to .env and fill it in: .env is never packed, and never committed."
    return "\n".join([head, *(f"{name}=" for name in names)])


def _readme(notebook: str, exported: Sequence[Exported], target: Target) -> str:
    rows = "\n".join(
        f"| `{each.name}` | `{each.file}` | {each.resource} | {f'`{each.route}`' if each.route else ''} |"
        for each in exported
    )
    again = f"flash export {notebook} DIR" + (" --target runpod-flash" if target.is_official else "")
    return (
        f"# {notebook.removesuffix('.ipynb')}\n\n"
        f"Exported from `{notebook}`. Each endpoint is a file, and each function is a function of the "
        "notebook or one of its cells.\n\n"
        f"| function | file | endpoint | route |\n|---|---|---|---|\n{rows}\n\n"
        f"```sh\npip install -r requirements.txt\nflash run      # serve main.py on this machine\n"
        f"flash build    # make .flash/artifact.tar.gz\n{again}  # after a change of the notebook\n```\n\n"
        "What stands between `# %% flash …` and `# %% end` belongs to the notebook: change it there. "
        "Everything else is yours and stays." + _rule(exported, target)
    )


def _rule(exported: Sequence[Exported], target: Target) -> str:
    crowded = crowded_endpoints(exported) if target.is_official else {}
    if not crowded:
        return ""
    listed = "; ".join(f"{name}: {', '.join(functions)}" for name, functions in crowded.items())
    return (
        "\n\nThe official `flash build` from 1.4 on reaches one function or class of each queue-based "
        f"endpoint. Give these a resource each: {listed}."
    )


def crowded_endpoints(exported: Sequence[Exported]) -> Mapping[str, Sequence[str]]:
    """Return the queue-based endpoints with more than one function, and their functions."""
    found: dict[str, list[str]] = {}
    for each in exported:
        if each.kind != "route":
            found.setdefault(each.resource, []).append(each.name)
    return {name: functions for name, functions in found.items() if len(functions) > 1}
