"""The public API: complete, described, and imported only when it is used."""

from __future__ import annotations

import ast
import builtins
import enum
import inspect
import re
import subprocess
import sys
from pathlib import Path
from types import FunctionType
from typing import Any

import pytest

import flash_nb
from flash_nb import errors
from flash_nb.sdk.function import RemoteFunction
from flash_nb.sdk.map import MapRun
from flash_nb.sdk.objects import RemoteClass, RemoteMethod, RemoteObject
from flash_nb.sdk.payload import PayloadFunction
from flash_nb.sdk.route import RemoteRoute
from flash_nb.sdk.stream import Stream, StreamHere

PACKAGE = Path(flash_nb.__file__).parent
RETURNED = (
    RemoteFunction,
    RemoteClass,
    RemoteObject,
    RemoteMethod,
    RemoteRoute,
    PayloadFunction,
    Stream,
    StreamHere,
    MapRun,
)
PUBLIC = {**{name: getattr(flash_nb, name) for name in flash_nb.__all__}, **{c.__name__: c for c in RETURNED}}
CLASSES = [value for value in PUBLIC.values() if isinstance(value, type)]
UNIT = re.compile(
    r"\b(seconds?|s|milliseconds?|ms|minutes?|days?|bytes?|[KMG]i?B|timedelta)\b", re.IGNORECASE
)
MEASURED = re.compile(r"time|ttl|delay|size|bytes|gb$|_s$|^every$", re.IGNORECASE)
NO_MEASURE = {"runtime", "started_at", "ended_at"}


def members(cls: type) -> dict[str, Any]:
    """Return the public methods and properties that our code gives a class."""
    found: dict[str, Any] = {}
    for base in reversed(cls.__mro__):
        if base.__module__.startswith("flash_nb"):
            found |= {name: value for name, value in vars(base).items() if not name.startswith("_")}
    kinds = (FunctionType, property, classmethod, staticmethod)
    return {name: value for name, value in found.items() if isinstance(value, kinds)}


MEMBERS = [(cls, name) for cls in CLASSES for name in members(cls)]


# --- all of it is there -------------------------------------------------------------------------------


def test_names_are_sorted_and_all_can_be_imported() -> None:
    assert flash_nb.__all__ == sorted(set(flash_nb.__all__))
    assert set(flash_nb.__all__) <= set(dir(flash_nb))
    names: dict[str, Any] = {}
    exec("from flash_nb import *", names)
    assert set(flash_nb.__all__) <= set(names)


def test_an_unknown_name_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="module 'flash_nb' has no attribute 'remotee'"):
        _ = flash_nb.remotee


def test_what_type_checkers_see_is_what_is_imported() -> None:
    tree = ast.parse((PACKAGE / "__init__.py").read_text())
    (checked,) = [node for node in tree.body if isinstance(node, ast.If)]
    seen = {}
    for node in checked.body:
        assert isinstance(node, ast.ImportFrom)
        for alias in node.names:
            assert alias.asname == alias.name, "a name without 'as' is private to a type checker"
            seen[alias.name] = node.module
    assert seen.pop("errors") == "flash_nb"
    assert seen == flash_nb._PLACES


def test_importing_the_package_imports_nothing_else() -> None:
    program = (
        "import sys; before = set(sys.modules); import flash_nb; dir(flash_nb)\n"
        "print(*sorted({name.partition('.')[0] for name in set(sys.modules) - before}))\n"
        "print(*sorted(name for name in sys.modules if name.startswith('flash_nb')))"
    )
    ran = subprocess.run([sys.executable, "-c", program], check=True, capture_output=True, text=True)
    packages, ours = ran.stdout.splitlines()
    assert set(packages.split()) - sys.stdlib_module_names == {"flash_nb"}
    assert ours.split() == ["flash_nb", "flash_nb.version"]


def test_the_signature_begins_as_it_is_documented() -> None:
    parameters = list(inspect.signature(flash_nb.remote).parameters.values())
    assert [(each.name, each.default) for each in parameters[:7]] == [
        ("resource_config", inspect.Parameter.empty),
        ("dependencies", None),
        ("system_dependencies", None),
        ("accelerate_downloads", True),
        ("local", False),
        ("method", None),
        ("path", None),
    ]
    assert all(each.kind is inspect.Parameter.POSITIONAL_OR_KEYWORD for each in parameters[:7])


# --- all of it is described ---------------------------------------------------------------------------


@pytest.mark.parametrize("name", PUBLIC)
def test_every_name_is_described_in_words_of_its_own(name: str) -> None:
    described = PUBLIC[name]
    text = described.__doc__ or ""
    assert not text.startswith(f"{name}("), "the text that dataclass writes"
    if isinstance(described, type):
        assert all(text != base.__doc__ for base in described.__mro__[1:]), "the text of a base"
    first = text.strip().partition("\n\n")[0]
    assert len(first.split()) >= 4
    assert first.rstrip().endswith((".", ":", "``", "?"))


@pytest.mark.parametrize(("cls", "name"), MEMBERS, ids=[f"{c.__name__}.{n}" for c, n in MEMBERS])
def test_every_method_and_property_is_described(cls: type, name: str) -> None:
    text = inspect.getdoc(inspect.getattr_static(cls, name)) or inspect.getdoc(getattr(cls, name)) or ""
    assert len(text.split()) >= 3


def sections(text: str, title: str) -> str:
    found = re.search(rf"^( *){title}:\n((?:\1 +.*\n| *\n)*)", text + "\n", re.MULTILINE)
    return found[2] if found else ""


def entry(text: str, name: str) -> str:
    """Return what a docstring says of a parameter or attribute: its entry, else the whole text."""
    for title in ("Args", "Attributes"):
        lines = sections(text, title)
        found = re.search(
            rf"^( *)(?:\w+, )*\**{name}(?:, \w+)*:.*\n(?:\1 +.*\n)*", lines + "\n", re.MULTILINE
        )
        if found:
            return found[0]
    return text


def measured() -> list[tuple[str, str, str]]:
    """Return every parameter and attribute that seems to be a time or a size, with what is said of it."""
    found = []
    bases = {base.__name__: base for cls in CLASSES for base in cls.__mro__ if "flash_nb" in base.__module__}
    for label, value in {**bases, **PUBLIC}.items():
        text = inspect.getdoc(value) or ""
        names = set(re.findall(r"^    (\w+):", sections(text, "Attributes"), re.MULTILINE))
        if isinstance(value, FunctionType):
            names |= set(inspect.signature(value).parameters)
        found += [(label, name, entry(text, name)) for name in names]
        if isinstance(value, type) and not issubclass(value, enum.Enum):
            for name, method in members(value).items():
                if isinstance(method, FunctionType):
                    said = inspect.getdoc(getattr(value, name)) or ""
                    parameters = inspect.signature(method).parameters
                    found += [(f"{label}.{name}", each, entry(said, each)) for each in parameters]
    return sorted(each for each in found if MEASURED.search(each[1]) and each[1] not in NO_MEASURE)


def test_times_and_sizes_say_their_unit() -> None:
    found = measured()
    assert {"idleTimeout", "executionTimeoutMs", "size", "containerDiskInGb", "delayTime"} <= {
        name for _, name, _ in found
    }
    assert [(label, name) for label, name, text in found if not UNIT.search(text)] == []


def test_every_exception_that_is_named_exists() -> None:
    unknown = []
    for file in sorted(PACKAGE.rglob("*.py")):
        nodes = list(ast.walk(ast.parse(file.read_text())))
        here = {alias.name for node in nodes if isinstance(node, ast.ImportFrom) for alias in node.names}
        here |= {node.name for node in nodes if isinstance(node, ast.ClassDef)}
        here |= {node.attr for node in nodes if isinstance(node, ast.Attribute)}
        for node in nodes:
            if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef, ast.Module)):
                raises = sections(ast.get_docstring(node) or "", "Raises")
                for name in re.findall(r"^    (?:\w+\.)?(\w+):", raises, re.MULTILINE):
                    known = getattr(errors, name, None) or getattr(builtins, name, None)
                    if (
                        not (isinstance(known, type) and issubclass(known, BaseException))
                        and name not in here
                    ):
                        unknown.append((file.name, getattr(node, "name", ""), name))
    assert unknown == []
