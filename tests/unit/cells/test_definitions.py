"""Definitions: exact source, line numbers, and the names that they need."""

import ast
import dis
import inspect
import sys
import textwrap
import traceback
from textwrap import dedent
from types import CodeType

import pytest

from flash_nb.cells.definitions import find_definitions, named_operations, names_remote, without_decorators


def only(source, **options):
    (definition,) = find_definitions(dedent(source), **options).values()
    return definition


CELL = """\
import math

@remote(
    resource_config=gpu,
)
# how fast
@cached
async def area(r):
    # inside
    return math.pi * r  # done
x = 1
class Shape:
    size = 1
def area_of(s): return s; x"""


def test_definitions_are_found_with_their_lines():
    found = find_definitions(CELL)
    assert [(d.name, d.kind, d.is_async, d.first_line, d.last_line) for d in found.values()] == [
        ("area", "function", True, 3, 10),
        ("Shape", "class", False, 12, 13),
        ("area_of", "function", False, 14, 14),
    ]
    assert found["area"].source == "".join(CELL.splitlines(keepends=True)[2:10])
    assert found["area_of"].source == "def area_of(s): return s; x\n"


@pytest.mark.parametrize(
    "source",
    [
        "",
        "x = 1",
        "# def f(): pass",
        "if x:\n    def f(): pass",
        "lambda: 0",
        "await f()",
        "'''\ndef f(): pass\n'''",
    ],
)
def test_only_top_level_definitions_count(source):
    assert find_definitions(source) == {}


def test_last_definition_wins():
    assert find_definitions("def f(): 1\ndef g(): 2\nclass f: 3\n")["f"].kind == "class"


@pytest.mark.parametrize("source", ["def f(:", "def f():\n    return (", "def f():\n    nonlocal x"])
def test_broken_source_is_a_syntax_error(source):
    with pytest.raises(SyntaxError) as raised:
        find_definitions(f"\n\n{source}")
    assert raised.value.lineno >= 3


NAMES = {
    "nothing": ("def f(a): return a + len(a)", "", ""),
    "body": ("def f(): return a.b", "", "a"),
    "decorators": ("@a.b(c)\n@d\ndef f(): ...", "a c d", ""),
    "defaults": ("def f(x=a, *, y=b): return x, y", "a b", ""),
    "a lambda as default": ("def f(x=lambda y=a: b): ...", "a", "b"),
    "a comprehension as default": ("def f(x=[a for _ in b if c]): ...", "a b c", ""),
    "an awaited default": ("def f(x=await a): ...", "a", ""),
    "itself, called": ("def f(n): return f(n - 1)", "", "f"),
    "itself, before it exists": ("@f.register\ndef f(n): ...", "f", ""),
    "nested function": ("def f():\n    x = 1\n    def g(y=a): return x, b\n    return g", "", "a b"),
    "nested class": ("def f():\n    class C(a):\n        x = b\n        def m(self): return c", "", "a b c"),
    "comprehensions": ("def f(): return [a for x in b for y in x if (c, y)]", "", "a b c"),
    "global written": ("def f():\n    global n\n    n = 1", "", ""),
    "global counted": ("def f():\n    global n\n    n += 1", "", "n"),
    "global deleted": ("def f():\n    global n\n    del n", "", "n"),
    "local before assignment": ("def f():\n    print(x)\n    x = 1", "", ""),
    "imported inside": ("def f():\n    import os.path as p\n    return p, np", "", "np"),
    "builtin": ("def f(): raise ValueError(__name__)", "", ""),
    "assertion": ("def f():\n    assert a", "", "a"),
    "class": ("class C(a, metaclass=b, k=c): ...", "a b c", ""),
    "class body": ("class C:\n    x = a\n    y = x\n    z = [x for x in b]", "a b", ""),
    "class body, same name": ("class C:\n    x = x\n    y: int = 1", "x", ""),
    "class body, in a loop": ("class C:\n    for i in a:\n        j = i", "a", ""),
    "method": ("class C:\n    x = 1\n    def m(self, y=a, z=x): return x, C, b", "a", "x C b"),
    "method's decorator": ("class C:\n    @a\n    def m(self): return b", "a", "b"),
    "class in class": ("class C:\n    class D(a):\n        x = b", "a b", ""),
    "outer class's names": ("class C:\n    x = 1\n    class D:\n        y = x", "x", ""),
    "super": ("class C(a):\n    def m(self): return super().m(), __class__", "a", ""),
}


@pytest.mark.parametrize(("source", "eager", "lazy"), NAMES.values(), ids=NAMES)
def test_needed_names(source, eager, lazy):
    definition = only(source)
    assert (definition.eager, definition.lazy, definition.hints) == (
        set(eager.split()),
        set(lazy.split()),
        set(),
    )


ANNOTATED = {
    "function": ("def f(x: a, *y: b, **z: c[d]) -> e: ...", "a b c d e"),
    "class": ("class C:\n    x: a = 1\n    def m(self) -> b: ...", "a b"),
}


@pytest.mark.parametrize(("source", "names"), ANNOTATED.values(), ids=ANNOTATED)
@pytest.mark.parametrize("postponed", [False, True])
def test_annotations(source, names, postponed):
    definition = only("from __future__ import annotations\n" * postponed + source)
    evaluated = not postponed and sys.version_info < (3, 14)
    assert definition.eager == (set(names.split()) if evaluated else set())
    assert definition.hints == (set() if evaluated else set(names.split()))
    assert definition.lazy == set()


def test_a_hint_that_is_needed_anyway_is_no_hint():
    definition = only("from __future__ import annotations\ndef f(x: a = a) -> b: return b")
    assert (definition.eager, definition.lazy, definition.hints) == ({"a"}, {"b"}, set())


def test_local_annotations_are_never_evaluated():
    assert only("def f():\n    x: a = 1").lazy == set()


def test_future_imports_of_this_and_earlier_cells():
    here = only("from __future__ import annotations\ndef f(x: a): ...")
    earlier = only("def f(x: a): ...", flags=here.flags)
    assert earlier.flags == here.flags
    assert (earlier.eager, earlier.hints) == (set(), {"a"})
    exec(compile(earlier.source, "", "exec", flags=earlier.flags, dont_inherit=True), {})


@pytest.mark.skipif(sys.version_info < (3, 12), reason="syntax of Python 3.12")
@pytest.mark.parametrize(
    ("source", "eager"),
    [
        ("def f[T: a](x: T = b): return T", "b"),
        ("class C[T](a):\n    x = T", "a"),
        ("class C:\n    A = a\n    def m[T](self, x: T = A): ...", "a"),
    ],
)
def test_type_parameters(source, eager):
    assert only(source).eager == set(eager.split())


@pytest.mark.skipif(sys.version_info < (3, 12), reason="syntax of Python 3.12")
def test_annotations_beside_type_parameters_see_the_names_of_the_class():
    definition = only("class C:\n    A = a\n    def m[T](self, x: A): ...")
    assert definition.eager == {"a"}
    assert definition.lazy == set()


def test_imports():
    definition = only(
        """
        def f():
            import numpy as np, os.path
            from google.cloud import storage
            from . import mine
            from .mine import yours
            def g():
                import torch
        """
    )
    assert definition.imports == {"numpy", "os.path", "google.cloud", "torch"}


@pytest.mark.parametrize("newline", ["\n", "\r\n"])
def test_lines_are_those_of_the_compiler(newline):
    source = newline.join(["s = 'a\x0cb\u2028c'", "def f():", "    return 'd\x0be'", "y = 1"])
    definition = only(source)
    assert (definition.source, definition.first_line) == ("def f():\n    return 'd\x0be'\n", 2)


FAILING = {
    "function": "x = 1\n\ndef f():\n    return 1 / 0\n",
    "decorated": "\n@same\n# note\n@(\n    # @ is above\n    same\n)\ndef f():\n    1 / 0\n",
    "remote": "\n@remote(\n    same\n)\n# note\n@same\ndef f():\n    1 / 0\n",
    "remote twice": "\n@x.remote\n@same\n@(\n    remote\n)\n\ndef f(\n    y=1,\n):\n    1 / 0\n",
    "continued": "@same\n@\\\nremote \\\n()\ndef f():\n    1 / 0",
}


@pytest.mark.parametrize("source", FAILING.values(), ids=FAILING)
def test_tracebacks_show_the_lines_of_the_cell(source):
    definition = without_decorators(find_definitions(source)["f"], names_remote)
    assert "remote" not in definition.source
    assert "remote" not in definition.eager
    assert definition.source.count("\n") == definition.last_line - definition.first_line + 1
    namespace = {"same": lambda function: function}
    exec(compile("\n" * (definition.first_line - 1) + definition.source, "<cell>", "exec"), namespace)
    with pytest.raises(ZeroDivisionError) as raised:
        namespace["f"]()
    (line,) = (frame.lineno for frame in traceback.extract_tb(raised.tb) if frame.filename == "<cell>")
    assert source.splitlines()[line - 1].strip().endswith("1 / 0")


def test_without_decorators_keeps_the_others():
    definition = find_definitions(CELL)["area"]
    assert without_decorators(definition, lambda decorator: False) == definition
    stripped = without_decorators(definition, names_remote)
    assert stripped.source.startswith("\n\n\n\n@cached\nasync def area(r):\n    # inside\n")
    assert stripped.eager == {"cached"}
    assert without_decorators(stripped, names_remote) == stripped


@pytest.mark.parametrize(
    ("decorator", "expected"),
    [
        ("remote", True),
        ("remote()", True),
        ("flash.remote", True),
        ("a.b.remote(gpu, n=1)", True),
        ("remotely", False),
        ("remote.options", False),
        ("cached(remote)", False),
        ("f()()", False),
    ],
)
def test_names_remote(decorator, expected):
    assert names_remote(ast.parse(decorator, mode="eval").body) is expected


@pytest.mark.parametrize("module", [ast, dis, inspect, textwrap])
def test_operations_on_names_are_those_that_dis_tells(module):
    told = {"DELETE_GLOBAL", "LOAD_FROM_DICT_OR_GLOBALS", "LOAD_GLOBAL", "LOAD_NAME"}
    told |= {"STORE_GLOBAL", "STORE_NAME"}
    waiting = [compile(inspect.getsource(module), module.__name__, "exec")]
    # More names than one byte counts, and `global`.
    many = "\n".join(f"n{n} = print" for n in range(300))
    waiting.append(compile(f"{many}\ndef f():\n    global g, n299\n    g = n299; del n299", "many", "exec"))
    found = 0
    while waiting:
        code = waiting.pop()
        waiting += [each for each in code.co_consts if isinstance(each, CodeType)]
        expected = [(each.opname, each.argval) for each in dis.get_instructions(code) if each.opname in told]
        assert [*named_operations(code)] == expected
        found += len(expected)
    assert found > 600  # those of `many` are
