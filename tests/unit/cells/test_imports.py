"""Imports of a piece of code, by its syntax."""

from __future__ import annotations

import ast

import pytest

from flash_nb.cells.imports import Import, imports_of


def found(source: str, package: str = "") -> list[Import]:
    return list(imports_of(ast.parse(source), package))


def test_all_sorts() -> None:
    source = "import a, b.c as d\nfrom e import f, g as h\nfrom i import *\n"
    source += "def x():\n    class Y:\n        import j"
    assert found(source) == [
        Import("a", 1),
        Import("b.c", 1),
        Import("e", 2),
        Import("e.f", 2, is_guess=True),
        Import("e.g", 2, is_guess=True),
        Import("i", 3),
        Import("j", 6, is_late=True),
    ]


@pytest.mark.parametrize(
    ("source", "package", "modules"),
    [
        ("from . import x", "a.b", ["a.b", "a.b.x"]),
        ("from .c import x", "a.b", ["a.b.c", "a.b.c.x"]),
        ("from ..c import x", "a.b", ["a.c", "a.c.x"]),
        ("from ... import x", "a.b", []),
        ("from . import x", "", []),
    ],
)
def test_relative_ones(source: str, package: str, modules: list[str]) -> None:
    assert [each.module for each in found(source, package)] == modules


@pytest.mark.parametrize(
    ("source", "guarded"),
    [
        ("try:\n    import a\nexcept ImportError:\n    import b\nelse:\n    import c", {"a", "b"}),
        ("try:\n    import a\nfinally:\n    import b", set()),
        ("import typing as t\nif t.TYPE_CHECKING:\n    import a\nelse:\n    import b", {"a"}),
        ("try:\n    if x:\n        import a\nexcept: pass", {"a"}),
    ],
)
def test_what_code_can_do_without(source: str, guarded: set[str]) -> None:
    assert {each.module for each in found(source) if each.is_guarded} == guarded
