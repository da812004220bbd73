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
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import pytest
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st

from flash_nb.cells.plan import CellPlan, Read, plan_cell

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
    case("bare annotation", "x: y", "y" if EAGER_ANNOTATIONS else "y", ""),
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
    case("deleted before a loop that binds", "x = 1\ndel x\nfor i in r:\n    if i:\n        break\n    x = i", "r", "i x"),
    case("del item", "del x[i], y.a", "i x y", ""),
    # Imports
    case("import", "import os.path", "", "os"),
    case("import as", "import os.path as p\np", "", "p"),
    case("from import", "from os import path, sep as s\npath, s", "", "path s"),
    case("relative import", "from . import x\nfrom .m import y", "", "x y"),
    case("star import", "from os import *\nx", "x", ""),
    case("fallback import", "try:\n    import json as j\nexcept ImportError:\n    j = None\nj", "", "j"),
    case("import in a function", "def f():\n    import os\n    return os", "", "f"),
    case("global import", "def f():\n    global os\n    import os", "", "f os"),
    # Branches
    case("bound in one branch", "if flag:\n    v = 1\nv", "flag v", "v"),
    case("bound in both", "if flag:\n    v = 1\nelse:\n    v = 2\nv", "flag", "v"),
    case("elif without else", "if a:\n    v = 1\nelif b:\n    v = 2\nv", "a b v", "v"),
    case("branch that raises", "if a:\n    v = 1\nelse:\n    raise E\nv", "E a", "v"),
    case("branch that continues", "for i in r:\n    if i:\n        v = 1\n    else:\n        continue\n    v", "r", "i v"),
    case("branch that breaks", "for i in r:\n    if i:\n        v = 1\n    else:\n        break\n    v\nv", "r v", "i v"),
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
    case("found or else", "for i in r:\n    if i:\n        x = i\n        break\nelse:\n    x = 1\nx", "r", "i x"),
    case("carried from turn to turn", "for i in r:\n    if i:\n        x\n    x = i", "r x", "i x"),
    case("for over itself", "for x in x:\n    pass", "x", "x"),
    case("for target is an item", "for v[0] in r:\n    pass", "r v", ""),
    case("while", "while x:\n    y = 1\ny", "x y", "y"),
    case("while binds what it tests", "while (x := f()):\n    x\nx", "f", "x"),
    case("while true", "while True:\n    x = f()\n    if x:\n        break\nx", "f", "x"),
    case("while true, early break", "while True:\n    if f():\n        break\n    x = 1\nx", "f x", "x"),
    case("while true without end", "while True:\n    x = 1\ny", "", "x", runs=False),
    case("while else", "while f():\n    pass\nelse:\n    x = 1\nx", "f", "x"),
    case("inner break", "for i in r:\n    for j in r:\n        break\n    else:\n        continue\n    x = 1\nx", "r x", "i j x"),
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
    case("except name and break", "for i in r:\n    try:\n        f()\n    except E as e:\n        break", "E f r", "i"),
    case("except star", "try:\n    f()\nexcept* E as e:\n    x = e", "E f", "x", since=(3, 11)),
    case("with", "with f() as x:\n    y = x\ny", "f", "x y"),
    case("with several", "with f() as x, g(x) as (y, z):\n    pass\nx, z", "f g", "x y z"),
    case("with that swallows", "with suppress(E):\n    x = f()\nx", "E f suppress x", "x"),
    case("with that must swallow", "with f():\n    raise E\nx", "E f x", ""),
    # Patterns
    case("match captures", "match x:\n    case [a, *b]:\n        y = a\n    case {'k': c, **d}:\n        y = c", "x", "a b c d y"),
    case("match reads classes and values", "match x:\n    case P(k=a) | Q(k=a):\n        pass\n    case m.v:\n        pass", "P Q m x", "a"),
    case("match without default", "match x:\n    case 1:\n        y = 1\ny", "x y", "y"),
    case("match with default", "match x:\n    case 1:\n        y = 1\n    case _:\n        y = 2\ny", "x", "y"),
    case("match that captures all", "match x:\n    case 1:\n        raise E\n    case y:\n        pass\ny", "E x", "y"),
    case("match guard", "match x:\n    case y if y:\n        z = 1\n    case _:\n        z = y\nz", "x", "y z"),
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
    case("called through another", "def f():\n    return x\ndef g():\n    return f()\ng()\nx = 1", "x", "f g x"),
    case("called in time", "def f():\n    return x\nx = 1\nf()", "", "f x"),
    case("mutual recursion", "def f():\n    return g()\ndef g():\n    return f()\nf", "", "f g"),
    case("recursion", "def f(n):\n    return f(n - 1)\nf", "", "f"),
    case("decorated recursion", "@cache\ndef f(n):\n    return f(n - 1)", "cache", "f"),
    case("decorator may call", "@d\ndef f():\n    return x\nx = 1", "d x", "f x"),
    case("bound perhaps at the end", "def f():\n    return x\nif a:\n    x = 1", "a x", "f x"),
    case("parameters and locals", "def f(a, /, b=c, *d, e=g, **h):\n    i = a + b\n    return i, d, e, h", "c g", "f"),
    case("local although read first", "def f():\n    x\n    x = 1", "", "f"),
    case("defaults are eager", "def f(a=x):\n    pass\nx = 1", "x", "f x"),
    case("decorators are eager", "@x\ndef f():\n    pass\nx = 1", "x", "f x"),
    case("annotations", "def f(a: x) -> y:\n    b: z = 1", "x y", "f"),
    case("annotations of the future", "from __future__ import annotations\ndef f(a: x):\n    pass\nx = 1", "", "annotations f x"),
    case("annotation before the class", "def f(a: x):\n    pass\nx = 1", "x" if EAGER_ANNOTATIONS else "", "f x"),
    case("local annotation", "def f():\n    x: int\n    return x", "", "f"),
    case("global read", "def f():\n    global x\n    return x", "x", "f"),
    case("global write", "def f():\n    global x\n    x = 1\n    return x", "", "f x"),
    case("global augmented", "def f():\n    global x\n    x += 1", "x", "f x"),
    case("global write may not happen", "def f():\n    global x\n    x = 1\nx", "x", "f x"),
    case("global in a nested function", "def f():\n    def g():\n        global x\n        x = 1\n    g()", "", "f x"),
    case("global past a local", "def f():\n    x = 1\n    def g():\n        global x\n        return x\n    return g", "x", "f"),
    case("global at module level", "global x\nx = 1", "", "x"),
    case("nested function", "def f(a):\n    b = 1\n    def g():\n        return a, b, c\n    return g", "c", "f"),
    case("local bound after the nested function", "def f():\n    def g():\n        return a\n    a = 1\n    return g", "", "f"),
    case("nonlocal", "def f():\n    x = 1\n    def g():\n        nonlocal x\n        x = 2\n    return g", "", "f"),
    case("except name in a function", "def f():\n    try:\n        x\n    except E as e:\n        pass\n    return e", "E x", "f"),
    case("del makes a local", "def f():\n    del x", "", "f"),
    case("comprehension in a function", "def f(a):\n    return [i + a + x for i in y]", "x y", "f"),
    case("walrus in a function's comprehension", "def f():\n    any(x := i for i in y)\n    return x", "y", "f"),
    case("generator function", "def f():\n    yield x\n    yield from y", "x y", "f"),
    case("lambda", "f = lambda a, b=c: a + b + x", "c x", "f"),
    case("lambda bound later", "f = lambda: x\nx = 1", "", "f x"),
    case("lambda handed over", "g(lambda: x)\nx = 1", "g x", "x"),
    case("walrus in a lambda", "f = lambda: (y := 1) + y", "", "f"),
    case("function defined in a loop", "for i in r:\n    if i:\n        f()\n    def f():\n        return x\nx = 1", "f r x", "f i x"),
    case("deferred reads of a rebound name", "def f():\n    return x\ndef f():\n    return 1\nx = 1", "", "f x"),
    case("unreachable end", "def f():\n    return x\nx = 1\nraise E", "E x", "f x"),
    case("function that returns early", "def f():\n    return 1\n    x", "", "f"),
    # Classes
    case("class body reads", "class C(B, metaclass=M):\n    a = x\n    b = a", "B M x", "C"),
    case("class names do not leak", "class C:\n    a = 1\na", "a", "C"),
    case("method does not see class names", "class C:\n    a = 1\n    def m(self):\n        return a", "a", "C"),
    case("class body falls to the module", "class C:\n    x = x", "x", "C"),
    case("class body binds perhaps", "class C:\n    if y:\n        x = 1\n    z = x", "x y", "C"),
    case("class body deletes", "class C:\n    x = 1\n    del x\n    y = x", "x", "C"),
    case("class comprehension", "class C:\n    a = r\n    b = [i for i in a]", "r", "C"),
    case("class comprehension, second name", "class C:\n    a = 1\n    b = [a for i in r]", "a r", "C"),
    case("nested class", "class C:\n    a = 1\n    class D:\n        b = a", "a", "C"),
    case("class in a function", "def f(x):\n    class C:\n        y = x\n        z = y, w\n    return C", "w", "f"),
    case("class name skips the function", "def f(x):\n    class C:\n        x = x\n    return C", "x", "f"),
    case("global in a class", "class C:\n    global x\n    x = 1\nx", "", "C x"),
    case("class of its own", "class C:\n    @staticmethod\n    def m():\n        return C()", "", "C"),
    case("method reads what comes later", "class C:\n    def m(self):\n        return x\nx = 1", "", "C x"),
    case("class used too early", "class C:\n    def m(self):\n        return x\nC().m()\nx = 1", "x", "C x"),
    case("base may call", "class C(B):\n    def m(self):\n        return x\nx = 1", "B x", "C x"),
    case("class body calls its function", "class C:\n    def h():\n        return x\n    y = h()\nx = 1", "x", "C x"),
    case("names that classes have", "class C:\n    a = __qualname__, __module__\n    def m(self):\n        return __class__", "", "C"),
    case("private names", "class C:\n    def m(self):\n        return __x", "", "C"),
    case("class annotations", "class C:\n    a: x = 1", "x", "C"),
    case("dataclass", "@dataclass\nclass C:\n    a: int = field(default=x)", "dataclass field x", "C"),
    # Type parameters
    case("generic function", "def f[T: B](a: T) -> list[T]:\n    return a", "B", "f", since=(3, 12)),
    case("generic class", "class C[T](B[T]):\n    a: T\n    def m(self) -> T:\n        return x", "B x", "C", since=(3, 12)),
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
    plan = plan_cell(row.source, identifiers(row.source) | {"list"} if row.name == "x" else identifiers(row.source))
    assert " ".join(plan.inputs) == row.inputs
    assert " ".join(plan.outputs) == row.outputs
