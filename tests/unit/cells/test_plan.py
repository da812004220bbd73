"""Tests of `plan_cell`: a table of cells judged by hand, and Python itself as the judge of many more."""

from __future__ import annotations

import ast
import builtins
import contextlib
import keyword
import re
import sys
import textwrap
import types
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import pytest
from hypothesis import HealthCheck, assume, given, note, settings
from hypothesis import strategies as st

from flash_nb.cells.plan import CellPlan, plan_cell

EAGER_ANNOTATIONS = sys.version_info < (3, 14)


def identifiers(source: str) -> frozenset[str]:
    """Every name in the text: so that a cell's inputs show whatever it might read."""
    names = set(re.findall(r"[^\W\d]\w*", source))
    return frozenset(names - set(keyword.kwlist) - set(dir(builtins)))


@dataclass(frozen=True)
class Case:
    name: str
    source: str
    inputs: str
    outputs: str
    since: tuple[int, int] = (3, 10)
    runs: bool = True  # Python can be asked: it ends, and needs nothing from outside but names


def case(name: str, source: str, inputs: str = "", outputs: str = "", **options: Any) -> Any:
    """A row: a cell, the inputs if every name in it is known, the outputs."""
    row = Case(name, textwrap.dedent(source).strip("\n"), inputs, outputs, **options)
    is_new = sys.version_info < row.since
    reason = "this syntax came with Python {}.{}".format(*row.since)
    return pytest.param(row, id=name, marks=[pytest.mark.skipif(is_new, reason=reason)])


CASES = [
    # Binding and reading
    case("assign", "x = y", "y", "x"),
    case("own value", "x = x", "x", "x"),
    case("bound before", "x = 1\ny = x", "", "x y"),
    case("read then bound", "y = x\nx = 1", "x", "x y"),
    case("only read", "x", "x", ""),
    case("chain of targets", "x = y = z", "z", "x y"),
    case("unpacking", "(x, [y, *z]), w.a, v[i] = u", "i u v w", "x y z"),
    case("target reads what the statement binds", "i, v[i] = u", "u v", "i"),
    case("target reads before the binding", "v[i], i = u", "i u v", "i"),
    case("attribute binds nothing", "x.y = 1", "x", ""),
    case("item binds nothing", "x['a'] = 1", "x", ""),
    case("augmented", "x += 1", "x", "x"),
    case("augmented by itself", "x = 1\nx += x", "", "x"),
    case("augmented item", "x[i] += y", "i x y", ""),
    case("walrus", "f(y := z)\ny", "f z", "y"),
    case("walrus read too early", "f(y, y := 1)", "f y", "y"),
    case("bare annotation", "x: y", "y", ""),
    case("annotated assignment", "x: t = x", "t x", "x"),
    case("annotated item", "x[i]: t = v", "i t v x", "", runs=EAGER_ANNOTATIONS),
    case("keyword argument", "f(x=y)", "f y", ""),
    case("f-string", "f'{x!r:>{w}} {f\"{y}\"}'", "w x y", ""),
    case("f-string with walrus", "f'{(x := 1)}{x}'", "", "x"),
    case("dict in order", "{1: x, (x := 2): 3}", "x", "x"),
    case("dict key first", "{(x := 2): x}", "", "x"),
    case("slice", "a[b:c:d]", "a b c d", ""),
    case("starred", "f(*a, **b)", "a b f", ""),
    case("builtin that is known", "list = list(x)", "x", "list"),
    case("not a builtin any more", "print = print", "", "print"),
    # Deleting
    case("del reads", "del x", "x", ""),
    case("bound and deleted", "x = 1\ndel x", "", ""),
    case("deleted and read", "x = 1\ndel x\nx", "", ""),
    case("deleted perhaps", "x = 1\nif y:\n    del x", "y", "x"),
    case("deleted on one way, bound on the other", "if y:\n    del x\nelse:\n    x = 1\nx", "x y", "x"),
    case("deleted and bound again", "x = 1\ndel x\nx = 2", "", "x"),
    case("del in a loop", "for i in r:\n    t = i\n    del t", "r", "i"),
    case("del after the loop", "for i in r:\n    t = i\ndel t", "r t", "i"),
    case(
        "deleted before a loop that binds",
        "x = 1\ndel x\nfor i in r:\n    if i:\n        break\n    x = i",
        "r",
        "i x",
    ),
    case("del item", "del x[i], y.a", "i x y", ""),
    # Imports
    case("import", "import os.path", "", "os"),
    case("import as", "import os.path as p\np", "", "p"),
    case("from import", "from os import path, sep as s\npath, s", "", "path s"),
    case("relative import", "from . import x\nfrom .m import y", "", "x y"),
    case("star import", "from os import *\nx", "x", "", runs=False),
    case("fallback import", "try:\n    import json as j\nexcept ImportError:\n    j = None\nj", "", "j"),
    case("import in a function", "def f():\n    import os\n    return os", "", "f"),
    case("global import", "def f():\n    global os\n    import os", "", "f os"),
    # Branches
    case("bound in one branch", "if flag:\n    v = 1\nv", "flag v", "v"),
    case("bound in both", "if flag:\n    v = 1\nelse:\n    v = 2\nv", "flag", "v"),
    case("elif without else", "if a:\n    v = 1\nelif b:\n    v = 2\nv", "a b v", "v"),
    case("branch that raises", "if a:\n    v = 1\nelse:\n    raise E\nv", "E a", "v"),
    case(
        "branch that continues",
        "for i in r:\n    if i:\n        v = 1\n    else:\n        continue\n    v",
        "r",
        "i v",
    ),
    case(
        "branch that breaks",
        "for i in r:\n    if i:\n        v = 1\n    else:\n        break\n    v\nv",
        "r v",
        "i v",
    ),
    case("never", "if 0:\n    x = y\nx", "x", ""),
    case("always", "if True:\n    x = 1\nx", "", "x"),
    case("after raise", "raise E\nx = y", "E", "x"),
    case("and", "if a and (b := c):\n    b\nb", "a b c", "b"),
    case("or", "if a or (b := c):\n    b\nelse:\n    b", "a b c", "b"),
    case("or is false", "if a or (b := c):\n    pass\nelse:\n    b", "a c", "b"),
    case("not and", "if not (a and (b := c)):\n    raise E\nb", "E a c", "b"),
    case("and as a value", "x = a and (b := c)\nb", "a b c", "b x"),
    case("first of and", "x = (a := c) and a\na", "c", "a x"),
    case("conditional expression", "x = (y := 1) if a else (y := 2)\ny", "a", "x y"),
    case("half a conditional expression", "x = (y := 1) if a else 2\ny", "a y", "x y"),
    case("condition binds for its branch", "x = y if (y := a) else z", "a z", "x y"),
    case("comparison chain", "a < (x := b) < (y := c)\nx, y", "a b c y", "x y"),
    case("assert", "assert a and (b := c), d\nb", "a c d", "b"),
    # Loops
    case("for target may stay unbound", "for i in r:\n    pass\ni", "i r", "i"),
    case("for body may not run", "for i in r:\n    x = i\nx", "r x", "i x"),
    case("for else", "for i in r:\n    pass\nelse:\n    x = 1\nx", "r", "i x"),
    case("for else after break", "for i in r:\n    if i:\n        break\nelse:\n    x = 1\nx", "r x", "i x"),
    case(
        "found or else",
        "for i in r:\n    if i:\n        x = i\n        break\nelse:\n    x = 1\nx",
        "r",
        "i x",
    ),
    case("carried from turn to turn", "for i in r:\n    if i:\n        x\n    x = i", "r x", "i x"),
    case("for over itself", "for x in x:\n    pass", "x", "x"),
    case("for target is an item", "for v[0] in r:\n    pass", "r v", ""),
    case("while", "while x:\n    y = 1\ny", "x y", "y"),
    case("while binds what it tests", "while (x := f()):\n    x\nx", "f", "x"),
    case("while true", "while True:\n    x = f()\n    if x:\n        break\nx", "f", "x"),
    case("while true, early break", "while True:\n    if f():\n        break\n    x = 1\nx", "f x", "x"),
    case("while true without end", "while True:\n    x = 1\ny", "", "x", runs=False),
    case("while else", "while f():\n    pass\nelse:\n    x = 1\nx", "f", "x"),
    case(
        "inner break",
        "for i in r:\n    for j in r:\n        break\n    else:\n        continue\n    x = 1\nx",
        "r x",
        "i j x",
    ),
    # Exceptions
    case("try body in the handler", "try:\n    x = f()\nexcept E:\n    x", "E f x", "x"),
    case("after try", "try:\n    x = f()\nexcept E:\n    pass\nx", "E f x", "x"),
    case("bound in all handlers", "try:\n    x = f()\nexcept E:\n    x = 1\nx", "E f", "x"),
    case("handler raises", "try:\n    x = f()\nexcept E:\n    raise\nx", "E f", "x"),
    case("try else", "try:\n    x = f()\nexcept E:\n    y = 1\nelse:\n    y = x\ny", "E f", "x y"),
    case("finally reads", "try:\n    x = f()\nfinally:\n    x", "f x", "x"),
    case("finally binds", "try:\n    f()\nfinally:\n    x = 1\nx", "f", "x"),
    case("after finally", "try:\n    x = f()\nfinally:\n    g()\nx", "f g", "x"),
    case("deleted finally", "try:\n    x = f()\nfinally:\n    g()\ndel x", "f g", ""),
    case("deleted in finally", "x = 1\ntry:\n    f()\nfinally:\n    del x", "f", ""),
    case("bound and deleted in try", "try:\n    x = 1\n    f()\n    del x\nexcept E:\n    pass", "E f", "x"),
    case("except name", "try:\n    f()\nexcept E as e:\n    e", "E f", ""),
    case("except name is gone", "try:\n    f()\nexcept E as e:\n    pass\ne", "E e f", ""),
    case("except name bound before", "e = 1\ntry:\n    f()\nexcept E as e:\n    pass", "E f", "e"),
    case("except name saved", "try:\n    f()\nexcept E as e:\n    x = e", "E f", "x"),
    case(
        "except name and break",
        "for i in r:\n    try:\n        f()\n    except E as e:\n        break",
        "E f r",
        "i",
    ),
    case("except star", "try:\n    f()\nexcept* E as e:\n    x = e", "E f", "x", since=(3, 11)),
    case("with", "with f() as x:\n    y = x\ny", "f", "x y"),
    case("with several", "with f() as x, g(x) as (y, z):\n    pass\nx, z", "f g", "x y z"),
    case("with that swallows", "with suppress(E):\n    x = f()\nx", "E f suppress x", "x"),
    case("with that must swallow", "with f():\n    raise E\nx", "E f x", ""),
    # Patterns
    case(
        "match captures",
        "match x:\n    case [a, *b]:\n        y = a\n    case {'k': c, **d}:\n        y = c",
        "x",
        "a b c d y",
    ),
    case(
        "match reads classes and values",
        "match x:\n    case P(k=a) | Q(k=a):\n        pass\n    case m.v:\n        pass",
        "P Q m x",
        "a",
    ),
    case("match without default", "match x:\n    case 1:\n        y = 1\ny", "x y", "y"),
    case(
        "match with default", "match x:\n    case 1:\n        y = 1\n    case _:\n        y = 2\ny", "x", "y"
    ),
    case(
        "match that captures all",
        "match x:\n    case 1:\n        raise E\n    case y:\n        pass\ny",
        "E x",
        "y",
    ),
    case(
        "match guard", "match x:\n    case y if y:\n        z = 1\n    case _:\n        z = y\nz", "x", "y z"
    ),
    case("match as", "match x:\n    case 1 | 2 as y:\n        pass\ny", "x y", "y"),
    case("match captures what it names", "match x:\n    case [P, P(k=1)]:\n        pass", "P x", "P"),
    # Comprehensions
    case("comprehension variable", "x = [i for i in r]", "r", "x"),
    case("comprehension variable leaks not", "x = [i for i in r]\ni", "i r", "x"),
    case("first iterable is outside", "x = [x for x in x]", "x", "x"),
    case("second iterable is inside", "x = [j for i in r for j in i if j if k]", "k r", "x"),
    case("walrus in a comprehension", "x = [y := i for i in r]\ny", "r y", "x y"),
    case("walrus in a filter", "x = {y for i in r if (y := f(i))}", "f r", "x y"),
    case("nested comprehension", "x = [[i * j for j in i] for i in r]", "r", "x"),
    case("generator", "x = (i + y for i in r)", "r y", "x"),
    case("dict comprehension", "x = {k: v + k for k, v in r}", "r", "x"),
    case("lambda in a comprehension", "x = [lambda: i + y for i in r]", "r y", "x"),
    case("comprehension target is an item", "x = [v for v[0] in r]", "r v", "x"),
    # Functions
    case("function reads a global", "def f():\n    return x", "x", "f"),
    case("function bound later", "def f():\n    return g()\ndef g():\n    return 1", "", "f g"),
    case("function called too early", "def f():\n    return x\nf()\nx = 1", "x", "f x"),
    case(
        "called through another", "def f():\n    return x\ndef g():\n    return f()\ng()\nx = 1", "x", "f g x"
    ),
    case("called in time", "def f():\n    return x\nx = 1\nf()", "", "f x"),
    case("mutual recursion", "def f():\n    return g()\ndef g():\n    return f()\nf", "", "f g"),
    case("recursion", "def f(n):\n    return f(n - 1)\nf", "", "f"),
    case("decorated recursion", "@cache\ndef f(n):\n    return f(n - 1)", "cache", "f"),
    case("decorator may call", "@d\ndef f():\n    return x\nx = 1", "d x", "f x"),
    case("bound perhaps at the end", "def f():\n    return x\nif a:\n    x = 1", "a x", "f x"),
    case(
        "parameters and locals",
        "def f(a, /, b=c, *d, e=g, **h):\n    i = a + b\n    return i, d, e, h",
        "c g",
        "f",
    ),
    case("local although read first", "def f():\n    x\n    x = 1", "", "f"),
    case("defaults are eager", "def f(a=x):\n    pass\nx = 1", "x", "f x"),
    case("decorators are eager", "@x\ndef f():\n    pass\nx = 1", "x", "f x"),
    case("annotations", "def f(a: x) -> y:\n    b: z = 1", "x y", "f"),
    case(
        "annotations of the future",
        "from __future__ import annotations\ndef f(a: x):\n    pass\nx = 1",
        "",
        "annotations f x",
    ),
    case(
        "annotation before the class",
        "def f(a: x):\n    pass\nx = 1",
        "x" if EAGER_ANNOTATIONS else "",
        "f x",
    ),
    case("local annotation", "def f():\n    x: int\n    return x", "", "f"),
    case("global read", "def f():\n    global x\n    return x", "x", "f"),
    case("global write", "def f():\n    global x\n    x = 1\n    return x", "", "f x"),
    case("global augmented", "def f():\n    global x\n    x += 1", "x", "f x"),
    case("global write may not happen", "def f():\n    global x\n    x = 1\nx", "x", "f x"),
    case(
        "global in a nested function",
        "def f():\n    def g():\n        global x\n        x = 1\n    g()",
        "",
        "f x",
    ),
    case(
        "global past a local",
        "def f():\n    x = 1\n    def g():\n        global x\n        return x\n    return g",
        "x",
        "f",
    ),
    case("global at module level", "global x\nx = 1", "", "x"),
    case(
        "nested function",
        "def f(a):\n    b = 1\n    def g():\n        return a, b, c\n    return g",
        "c",
        "f",
    ),
    case(
        "local bound after the nested function",
        "def f():\n    def g():\n        return a\n    a = 1\n    return g",
        "",
        "f",
    ),
    case(
        "nonlocal",
        "def f():\n    x = 1\n    def g():\n        nonlocal x\n        x = 2\n    return g",
        "",
        "f",
    ),
    case(
        "except name in a function",
        "def f():\n    try:\n        x\n    except E as e:\n        pass\n    return e",
        "E x",
        "f",
    ),
    case("del makes a local", "def f():\n    del x", "", "f"),
    case("comprehension in a function", "def f(a):\n    return [i + a + x for i in y]", "x y", "f"),
    case(
        "walrus in a function's comprehension", "def f():\n    any(x := i for i in y)\n    return x", "y", "f"
    ),
    case("generator function", "def f():\n    yield x\n    yield from y", "x y", "f"),
    case("lambda", "f = lambda a, b=c: a + b + x", "c x", "f"),
    case("lambda bound later", "f = lambda: x\nx = 1", "", "f x"),
    case("lambda handed over", "g(lambda: x)\nx = 1", "g x", "x"),
    case("walrus in a lambda", "f = lambda: (y := 1) + y", "", "f"),
    case(
        "function defined in a loop",
        "for i in r:\n    if i:\n        f()\n    def f():\n        return x\nx = 1",
        "f r x",
        "f i x",
    ),
    case(
        "deferred reads of a rebound name", "def f():\n    return x\ndef f():\n    return 1\nx = 1", "", "f x"
    ),
    case("unreachable end", "def f():\n    return x\nx = 1\nraise E", "E x", "f x"),
    case("function that returns early", "def f():\n    return 1\n    x", "", "f"),
    # Classes
    case("class body reads", "class C(B, metaclass=M):\n    a = x\n    b = a", "B M x", "C"),
    case("class names do not leak", "class C:\n    a = 1\na", "a", "C"),
    case(
        "method does not see class names", "class C:\n    a = 1\n    def m(self):\n        return a", "a", "C"
    ),
    case("class body falls to the module", "class C:\n    x = x", "x", "C"),
    case("class body binds perhaps", "class C:\n    if y:\n        x = 1\n    z = x", "x y", "C"),
    case("class body deletes", "class C:\n    x = 1\n    del x\n    y = x", "x", "C"),
    case("class comprehension", "class C:\n    a = r\n    b = [i for i in a]", "r", "C"),
    case("class comprehension, second name", "class C:\n    a = 1\n    b = [a for i in r]", "a r", "C"),
    case("nested class", "class C:\n    a = 1\n    class D:\n        b = a", "a", "C"),
    case(
        "class in a function",
        "def f(x):\n    class C:\n        y = x\n        z = y, w\n    return C",
        "w",
        "f",
    ),
    case("class name skips the function", "def f(x):\n    class C:\n        x = x\n    return C", "x", "f"),
    case("global in a class", "class C:\n    global x\n    x = 1\nx", "", "C x"),
    case("class of its own", "class C:\n    @staticmethod\n    def m():\n        return C()", "", "C"),
    case("method reads what comes later", "class C:\n    def m(self):\n        return x\nx = 1", "", "C x"),
    case("class used too early", "class C:\n    def m(self):\n        return x\nC().m()\nx = 1", "x", "C x"),
    case("base may call", "class C(B):\n    def m(self):\n        return x\nx = 1", "B x", "C x"),
    case(
        "class body calls its function",
        "class C:\n    def h():\n        return x\n    y = h()\nx = 1",
        "x",
        "C x",
    ),
    case(
        "names that classes have",
        "class C:\n    a = __qualname__, __module__\n    def m(self):\n        return __class__",
        "",
        "C",
    ),
    case(
        "class body deletes in try",
        "class C:\n    x = 1\n    try:\n        del x\n        f()\n    finally:\n        y = x",
        "f x",
        "C",
    ),
    case(
        "deleted class name skips the function", "def f(x):\n    class C:\n        x\n        del x", "x", "f"
    ),
    case(
        "annotated class name skips the function",
        "def f(x):\n    class C:\n        x: int\n        y = x",
        "x",
        "f",
    ),
    case(
        "break through finally",
        "while True:\n    try:\n        break\n    finally:\n        x = 1\nx",
        "",
        "x",
    ),
    case("class body that raises", "class C:\n    @d\n    def m():\n        x\n    raise E", "E d x", "C"),
    case("private names", "class C:\n    def m(self):\n        return __x", "", "C"),
    case("class annotations", "class C:\n    a: x = 1", "x", "C"),
    case(
        "class annotations of the future",
        "from __future__ import annotations\nclass C:\n    a: x = 1\n    y = 2\n    b: y\nx = 1",
        "",
        "C annotations x",
    ),
    case("dataclass", "@dataclass\nclass C:\n    a: int = field(default=x)", "dataclass field x", "C"),
    # Type parameters
    case("generic function", "def f[T: B](a: T) -> list[T]:\n    return a", "B", "f", since=(3, 12)),
    case(
        "generic class",
        "class C[T](B[T]):\n    a: T\n    def m(self) -> T:\n        return x",
        "B x",
        "C",
        since=(3, 12),
    ),
    case("type alias", "type A[T] = dict[T, x]", "x", "A", since=(3, 12)),
    case("type alias is lazy", "type A = list[x]\nx = 1", "", "A x", since=(3, 12)),
    case("type alias of itself", "type A = A | None", "", "A", since=(3, 12)),
    case("type parameter leaks not", "def f[T](a: T):\n    pass\nT", "T", "f", since=(3, 12)),
    case("type parameter default", "type A[T = x] = T", "x", "A", since=(3, 13)),
    case("template string", "t'{x:{y}}'", "x y", "", since=(3, 14)),
    # Awaiting
    case("top-level await", "x = await f()", "f", "x"),
    case("async for", "async for i in f():\n    x = i\nx", "f x", "i x"),
    case("async with", "async with f() as x:\n    y = x\ny", "f", "x y"),
    case("async comprehension", "x = [await i async for i in f() if i]", "f", "x"),
    case("async function", "async def f():\n    async with a as b:\n        return await b", "a", "f"),
]


@pytest.mark.parametrize("row", CASES)
def test_inputs_and_outputs(row: Case) -> None:
    plan = plan_cell(row.source, identifiers(row.source))
    assert " ".join(plan.inputs) == row.inputs
    assert " ".join(plan.outputs) == row.outputs


def first_reads(source: str, known: str = "") -> list[str]:
    """Every read as ``name:line:column`` and its flags: e(ager), g(uarded)."""
    reads = plan_cell(source, known.split()).reads
    assert [*reads] == [read.name for read in reads.values()]
    return [
        f"{read.name}:{read.line}:{read.column} {'e' * read.eager}{'g' * read.guarded}".strip()
        for read in reads.values()
    ]


@pytest.mark.parametrize(
    ("source", "known", "expected"),
    [
        ("x = y + y", "", ["y:1:4 e"]),
        ("print(x)", "", ["x:1:6 e"]),
        ("print(x)", "print", ["print:1:0 e", "x:1:6 e"]),
        ("display(x)", "", ["x:1:8 e"]),
        ("def f():\n    return x", "", ["x:2:11"]),
        ("def f():\n    return x\nx", "", ["x:3:0 e"]),
        ("def f():\n    return y\nx", "", ["y:2:11", "x:3:0 e"]),
        ("class C:\n    a = x", "", ["x:2:8 e"]),
        ("[y for i in r if (lambda: z)]", "", ["y:1:1 e", "r:1:12 e", "z:1:26"]),
        ("try:\n    x\nexcept NameError:\n    y", "", ["x:2:4 eg", "y:4:4 e"]),
        ("try:\n    x\nexcept (KeyError, Exception):\n    pass", "", ["x:2:4 eg"]),
        ("try:\n    x\nexcept:\n    pass", "", ["x:2:4 eg"]),
        ("try:\n    x\nexcept KeyError:\n    pass", "", ["x:2:4 e"]),
        ("try:\n    x\nfinally:\n    pass", "", ["x:2:4 e"]),
        (
            "try:\n    try:\n        x\n    except KeyError:\n        y\nexcept NameError:\n    pass",
            "",
            ["x:3:8 eg", "y:5:8 eg"],
        ),
        ("try:\n    def f():\n        x\nexcept NameError:\n    pass", "", ["x:3:8"]),
        ("from contextlib import suppress\nwith suppress(NameError):\n    del x", "", ["x:3:8 eg"]),
        ("x += 1", "", ["x:1:0 e"]),
        ("é = 'é'; é, x", "", ["x:1:15 e"]),
    ],
)
def test_reads(source: str, known: str, expected: list[str]) -> None:
    assert first_reads(source, known) == expected


@pytest.mark.parametrize(
    ("source", "known", "expected"),
    [
        ("x", "", "x:1"),
        ("x", "x", ""),
        ("x\n\nx", "", "x:1"),
        ("y = x", "", "x:1"),
        ("print(x); x = 1", "", "x:1"),
        ("x = 1; print(x)", "", ""),
        ("if a:\n    x\nx = 1", "a", "x:2"),
        ("if a:\n    x = 1\nx", "a", ""),
        ("x += 1", "", "x:1"),
        ("del x", "", "x:1"),
        ("for i in r:\n    if i:\n        x\n    x = i", "r", ""),
        ("for i in r:\n    y", "r", "y:2"),
        ("while x:\n    x = 0", "", "x:1"),
        ("g = (x for i in r)\nx = 1", "r", ""),
        ("g = (x for i in r)", "r", "x:1"),
        ("g = [i for i in x]", "", "x:1"),
        ("class C:\n    y = x\nx = 1", "", "x:2"),
        ("def f():\n    x", "", ""),
        ("def f():\n    global x\n    x = 1\nf()\nx", "", ""),
        ("def f(a=x):\n    pass", "", "x:1"),
        ("try:\n    x\nexcept NameError:\n    x = 1\nx", "", ""),
        ("try:\n    x\nexcept KeyError:\n    pass", "", "x:2"),
        ("from os import *\nx", "", ""),
        ("exec('x = 1')\nx", "", ""),
        ("if 'x' in globals():\n    x", "", ""),
        ("def f():\n    globals()['x'] = 1\nf()\nx", "", ""),
        ("__name__, __builtins__, __debug__, display, len", "", ""),
        ("__flash_shell__('ls')\n_exit_code", "", ""),
        ("__file__", "", "__file__:1"),
        ("if 0:\n    x", "", ""),
        ("raise E\nx", "E", ""),
        ("b\na\nb", "", "b:1 a:2"),
        ("import os.path\nos, path", "", "path:2"),
    ],
)
def test_undefined(source: str, known: str, expected: str) -> None:
    found = plan_cell(source, known.split()).undefined
    assert " ".join(f"{read.name}:{read.line}" for read in found) == expected
    assert all(read.eager and not read.guarded for read in found)


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        ("import a.b, c", "a.b c"),
        ("import a.b as d", "a.b"),
        ("from a.b import c, d", "a.b"),
        ("from . import a\nfrom .b import c", ""),
        ("def f():\n    import z\n    class C:\n        from y import x", "y z"),
        ("if 0:\n    import a", "a"),
        ("raise E\nimport a", "a"),
        ("from a import *", "a"),
    ],
)
def test_imports(source: str, expected: str) -> None:
    assert " ".join(plan_cell(source).imports) == expected


@pytest.mark.parametrize(
    ("source", "definitions", "defines_only"),
    [
        ("def f(): pass", "f", True),
        ("'doc'\nimport a\nfrom b import c\n1\n...\npass\nclass C: pass\nasync def f(): pass", "C f", True),
        ("def f(): pass\ndef f(): pass\nclass C: pass", "f C", True),
        ("if TYPE_CHECKING:\n    import a\ndef f(): pass", "f", True),
        ("if t.TYPE_CHECKING:\n    from a import b\ndef f(): pass", "f", True),
        ("if TYPE_CHECKING:\n    import a\nelse:\n    b = 1\ndef f(): pass", "f", False),
        ("if TYPE_CHECKING:\n    a = 1\ndef f(): pass", "f", False),
        ("if DEBUG:\n    import a\ndef f(): pass", "f", False),
        ("import a", "", False),
        ("", "", False),
        ("def f(): pass\nf()", "f", False),
        ("def f(): pass\nx = 1", "f", False),
        ("if a:\n    def f(): pass", "", False),
        ("class C:\n    def m(self): pass", "C", True),
    ],
)
def test_definitions(source: str, definitions: str, defines_only: bool) -> None:
    plan = plan_cell(source)
    assert " ".join(plan.definitions) == definitions
    assert plan.defines_only is defines_only


@pytest.mark.parametrize(
    ("source", "only_defined", "only_imported"),
    [
        ("import a.b, c as d\ndef f(): pass\nclass C: pass\nx = 1", "C f", "a d"),
        ("def f(): pass\ndef f(): pass", "", ""),
        ("def f(): pass\nf = g(f)", "", ""),
        ("if a:\n    def f(): pass", "", ""),
        ("def f(): pass\ndel f", "", ""),
        ("def f(): pass\nif a:\n    del f", "f", ""),
        ("def f(): pass\ndef g():\n    global f\n    f = 1", "g", ""),
        ("try:\n    import a\nexcept ImportError:\n    import b as a", "", "a"),
        ("try:\n    import a\nexcept ImportError:\n    a = None", "", ""),
        ("import a\nimport a.b", "", "a"),
        ("import a\ndef a(): pass", "", ""),
        ("import e\ntry:\n    f()\nexcept E as e:\n    pass", "", ""),
        ("def f():\n    global a\n    import a", "f", "a"),
    ],
)
def test_bound_by_one_kind_of_statement(source: str, only_defined: str, only_imported: str) -> None:
    plan = plan_cell(source)
    assert " ".join(plan.only_defined) == only_defined
    assert " ".join(plan.only_imported) == only_imported


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        ("await f()", True),
        ("async for i in f(): pass", True),
        ("async with f(): pass", True),
        ("[i async for i in f()]", True),
        ("[await i for i in f()]", True),
        ("async def f(): await g()", False),
        ("x = 1", False),
    ],
)
def test_is_async(source: str, expected: bool) -> None:
    assert plan_cell(source).is_async is expected


@pytest.mark.parametrize(
    "source",
    [
        "x = ",
        "return 1",
        "break",
        "x = [",
        "def f(a, a): pass",
        "nonlocal x",
        "yield 1",
        "(x for x in y) = 1",
    ],
)
def test_syntax_errors_are_pythons_own(source: str) -> None:
    with pytest.raises(SyntaxError) as ours:
        plan_cell(source)
    with pytest.raises(SyntaxError) as pythons:
        compile(source, "<cell>", "exec", dont_inherit=True)
    assert (ours.value.msg, ours.value.lineno) == (pythons.value.msg, pythons.value.lineno)


def test_warnings_are_left_to_the_run(recwarn: pytest.WarningsRecorder) -> None:
    plan_cell(r"x = '\d'; y = 1 is 1")
    assert not recwarn.list


@pytest.mark.xfail(reason="class bodies are walked once: what a turn of a loop deletes, the next one misses")
def test_class_body_that_deletes_in_a_loop() -> None:
    source = "class C:\n    x = 1\n    for i in r:\n        y = x\n        if i:\n            del x"
    assert plan_cell(source, ["x"]).inputs == ("x",)


def test_only_known_names_are_inputs() -> None:
    plan = plan_cell("a + b", iter(["b", "z"]))
    assert plan.inputs == ("b",)
    assert plan.reads.keys() == {"a", "b"}


def test_plans_are_values() -> None:
    assert plan_cell("x = y", ["y"]) == plan_cell("x = y", ["y"])
    with pytest.raises(AttributeError):
        plan_cell("").inputs = ()  # type: ignore[misc]


@pytest.mark.parametrize(
    "source",
    [
        "x = " + " + ".join(["y"] * 1200),
        "x = y" + ".a(b)" * 600,
        "if a:\n    x = 1\n" + "elif b:\n    x = 2\n" * 1200,
    ],
    ids=["sum", "chain", "elif"],
)
def test_long_is_not_deep(source: str) -> None:
    assert "x" in plan_cell(source).outputs


# Python as the judge


class Stop(BaseException):
    """A run has made all its decisions."""


class Tape:
    """The decisions of one run, so that it can be repeated."""

    def __init__(self, bits: int) -> None:
        self._bits = bits
        self._left = 48

    def __call__(self, *_: object) -> bool:
        if not self._left:
            raise Stop
        self._left -= 1
        bit, self._bits = self._bits & 1, self._bits >> 1
        return bool(bit)


class Anything(BaseException):
    """A value that can be used in every way; what is undecided, the tape decides."""

    def __init__(self, tape: Tape) -> None:
        self._tape = tape
        self.k = self.v = None

    def _maybe_raise(self) -> Anything:
        if self._tape() and self._tape():
            raise Anything(self._tape)
        return Anything(self._tape)

    def __call__(self, *args: object, **kwargs: object) -> Anything:
        return self._maybe_raise()

    def __getattr__(self, name: str) -> Anything:
        if name.startswith("__"):
            raise AttributeError(name)
        return Anything(self._tape)

    def __bool__(self) -> bool:
        return self._tape()

    def __iter__(self) -> Iterator[Anything]:
        return iter([Anything(self._tape) for _ in range(self._tape() + self._tape())])

    async def __aiter__(self) -> Any:
        for item in self:
            yield item

    def __await__(self) -> Iterator[Any]:
        return self
        yield

    def __enter__(self) -> Any:
        return self

    def __exit__(self, *exc_info: object) -> None:
        return None

    async def __aenter__(self) -> Any:
        return self

    async def __aexit__(self, *exc_info: object) -> None:
        return None

    def __getitem__(self, key: object) -> Anything:
        return Anything(self._tape)

    def __setitem__(self, key: object, value: object) -> None: ...

    def __delitem__(self, key: object) -> None: ...

    def __add__(self, other: object) -> Anything:
        return Anything(self._tape)

    __iadd__ = __radd__ = __mul__ = __add__

    def __lt__(self, other: object) -> bool:
        return self._tape()


def call(function: object, *_: object) -> object:
    """Call what the program has defined: also as a decorator."""
    if isinstance(function, types.FunctionType):
        function()
    return function


class Calls:
    """A base class that calls the methods of its subclasses at once."""

    def __init_subclass__(cls) -> None:
        for value in vars(cls).copy().values():
            call(value)


@dataclass(frozen=True)
class Outcome:
    """How a run ended, and what it bound."""

    error: str
    bound: frozenset[str]


def run_cell(
    source: str, names: frozenset[str], bits: int, extra: Callable[[Tape], dict[str, Any]]
) -> Outcome:
    """Run a cell in a namespace where just these names exist."""
    tape = Tape(bits)
    preset: dict[str, Any] = {name: Anything(tape) for name in names} | extra(tape)
    namespace = {"__name__": "cell"} | preset
    code = compile(source, "<cell>", "exec", ast.PyCF_ALLOW_TOP_LEVEL_AWAIT, dont_inherit=True)
    error = ""
    try:
        running = eval(code, namespace)
        if running is not None:
            with contextlib.suppress(StopIteration):
                running.send(None)
    except NameError as caught:
        error = f"NameError {caught.name}"
    except (Exception, Anything, Stop) as caught:  # noqa: BLE001 - that is the outcome
        error = type(caught).__name__
    bound = {name for name in namespace if name not in preset or namespace[name] is not preset[name]}
    return Outcome(error, frozenset(bound - {"__name__", "__builtins__", "__annotations__", "__annotate__"}))


def judge(
    source: str,
    plan: CellPlan,
    names: frozenset[str],
    bits: int,
    extra: Callable[[Tape], dict[str, Any]] = lambda tape: {},
) -> None:
    """Let Python say whether the plan has forgotten something."""
    full = run_cell(source, names, bits, extra)
    if not full.error:
        assert full.bound <= set(plan.outputs), "a bound name is no output"
    for name in names:
        if run_cell(source, names - {name}, bits, extra) != full:
            assert name in plan.inputs, f"the run depends on {name}"


@pytest.mark.parametrize("row", [param for param in CASES if param.values[0].runs])
@pytest.mark.parametrize(
    "bits", [0, (1 << 48) - 1, 0x5A5A5A5A5A5A, 0x333333333333, 0xF1C8E40D2B97, 0x0F3A695C17D2]
)
def test_python_agrees_with_the_table(row: Case, bits: int) -> None:
    names = identifiers(row.source)
    judge(row.source, plan_cell(row.source, names), names, bits)


NAMES = ("a", "b", "c", "f")


def harness(tape: Tape) -> dict[str, Any]:
    """What generated cells use to make decisions; never missing, and no name of theirs."""

    def use(*values: object) -> None:
        if tape() and tape():
            raise ValueError

    return {
        "decide": tape,
        "some": lambda: range(tape() + tape()),
        "use": use,
        "call": lambda value: tape() and call(value),
        "now": call,
        "Calls": Calls,
        "context": lambda: contextlib.nullcontext(1),
        "suppress": contextlib.suppress,
    }


@dataclass(frozen=True)
class Writer:
    """Writes cells; `choose` makes its choices."""

    choose: Callable[[Sequence[str]], str]

    def name(self) -> str:
        return self.choose(NAMES)

    def fill(self, template: str, depth: int) -> str:
        """Replace ``N`` by a name, ``E`` by an expression and ``B`` by a block, each time another."""

        def replace(match: re.Match[str]) -> str:
            if match[0] == "N":
                return self.name()
            if match[0] == "E":
                return self.expression(depth)
            loop, function = "loop" in match[0], "function" in match[0]
            return textwrap.indent(self.block(depth - 1, loop=loop, function=function), "    ")

        return re.sub(r"\bN\b|\bE\b|\bB\w*\b", replace, template)

    def expression(self, depth: int) -> str:
        return self.fill(self.choose(EXPRESSIONS if depth > 0 else LEAVES), depth - 1)

    def block(self, depth: int, *, loop: bool = False, function: bool = False) -> str:
        count = self.choose("1223")
        return "\n".join(self.statement(depth, loop=loop, function=function) for _ in range(int(count)))

    def statement(self, depth: int, *, loop: bool, function: bool) -> str:
        simple = SIMPLE + LEAVING_A_TURN * loop + LEAVING_A_FUNCTION * function
        template = self.choose(simple + COMPOUND if depth else simple)
        around = "B" + "_loop" * loop + "_function" * function
        template = re.sub(r"\bA\b", around, template)
        return self.fill(template.replace("B_turn", "B_loop" + "_function" * function), depth)


LEAVES = ("N", "N", "N", "1")
EXPRESSIONS = (
    *LEAVES,
    "(N := E)",
    "(decide() and E)",
    "(decide() or E)",
    "((not decide() or E) and E)",
    "(not (decide() and E) or E)",
    "(E if decide() else E)",
    "(1 if (N := E) else E)",
    "call(N)",
    "call(E)",
    "call(lambda: E)",
    "(lambda N=E: E)",
    "[E for N in some() if E]",
    "[E for N in [E] for N in [E]]",
    "list(E for _ in some())",
    "{1: E, E: 2}.get(1)",
    "(1 < decide() < bool(E))",
    "f'{E!s:.{len(str(E))}}'",
)
SIMPLE = (
    "N = E",
    "N = E",
    "N, N = E, E",
    "N = N = E",
    "N += 1",
    "N: N = E",
    "N: int",
    "N",
    "use(E)",
    "use(E)",
    "call(N)",
    "del N",
    "import os.path as N",
    "from os import sep as N",
    "N = lambda: E",
    "assert E, E",
    "raise ValueError",
)
LEAVING_A_TURN = ("break", "continue", "continue")
LEAVING_A_FUNCTION = ("return E", "return")
FUNCTION = (
    "def N():\nB_function",
    "def N(*N):\nB_function",
    "def N():\n    global N\nB_function",
    "def N():\n    global N, N\nB_function",
    "def N():\n    nonlocal N\nB_function",
)
COMPOUND = (
    "if E:\nA",
    "if E:\nA\nelse:\nA",
    "if E:\nA\nelif E:\nA\nelse:\nA",
    "while decide():\nB_turn",
    "while (N := decide()):\nB_turn\nelse:\nA",
    "while True:\n    if decide(): break\nB_turn",
    "for N in some():\nB_turn",
    "for N in some():\nB_turn\nelse:\nA",
    "try:\nA\nexcept ValueError:\nA",
    "try:\nA\nexcept NameError as N:\nA",
    "try:\nA\nexcept ValueError as N:\nA\nexcept Exception:\nA\nelse:\nA",
    "try:\nA\nfinally:\nA",
    "try:\nA\nexcept Exception as N:\nA\nfinally:\nA",
    "with context() as N:\nA",
    "with suppress(ValueError, NameError):\nA",
    *FUNCTION,
    # Nobody looks for these names: that what runs at once does not mention itself is taken on trust.
    "@now\ndef own():\nB_function",
    "class Own(Calls):\nB",
    "class N:\nB",
    "class N:\nB\n    N = call(N)",
    "class N:\n    global N\nB",
    "match E:\n    case [N, *_]:\n        use(N)\n    case 1 | None if E:\n        N = E",
    "match E:\n    case {1: N}:\n        use(N)\n    case N if decide():\n        N = E\n    case _: N",
    "match E:\n    case int() as N:\n        use(N)\n    case N:\n        use(N)",
)


def compiles(source: str) -> bool:
    """Not every cell is Python: an iteration variable cannot be rebound, `nonlocal` needs a function."""
    try:
        compile(source, "<cell>", "exec", dont_inherit=True)
    except SyntaxError:
        return False
    return True


def is_trusted(source: str) -> bool:
    """Whether a cell does what `plan_cell` takes on trust, or fails to see: see the tests about that."""
    classes = [node for node in ast.walk(ast.parse(source)) if isinstance(node, ast.ClassDef)]
    return any(calls_early(node) or deletes_in_a_loop(node) for node in classes)


def calls_early(node: ast.ClassDef) -> bool:
    """Whether something in a class body may run at once and find the class missing."""
    inside = [child for statement in node.body for child in ast.walk(statement)]
    return node.name in NAMES and any(
        isinstance(child, ast.Lambda) or getattr(child, "decorator_list", ()) or getattr(child, "bases", ())
        for child in inside
    )


def deletes_in_a_loop(node: ast.ClassDef) -> bool:
    loops = [child for child in ast.walk(node) if isinstance(child, (ast.For, ast.While))]
    inside = [child for loop in loops for child in ast.walk(loop)]
    return any(isinstance(child, (ast.Delete, ast.ExceptHandler)) for child in inside)


@settings(max_examples=300, deadline=None, suppress_health_check=list(HealthCheck))
@given(st.data(), st.integers(0, (1 << 48) - 1))
def test_python_agrees_with_generated_cells(data: st.DataObject, bits: int) -> None:
    source = Writer(lambda options: data.draw(st.sampled_from(options))).block(3)
    assume(compiles(source) and not is_trusted(source))
    note(source)
    known = frozenset(NAMES)
    judge(source, plan_cell(source, known), known, bits, harness)
