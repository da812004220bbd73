"""Outside names: found with their lines, sorted, and refused only where no call could do without."""

from __future__ import annotations
import __future__

import builtins
import contextlib
import math
import random
import sys
from dataclasses import replace
from textwrap import dedent

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from flash_nb.cells.definitions import find_definitions, names_remote, without_decorators
from flash_nb.errors import ScopeError, UndefinedNameError
from flash_nb.sdk.scope import (
    doubts,
    missing_names,
    outside_names,
    reads_of,
    refuse_missing,
    refuse_outside,
)


def only(source, **options):
    return list(find_definitions(dedent(source), **options).values())[-1]


def helper(x):
    return x


helper.__module__ = "__main__"
NAMESPACE = {
    "math": math,
    "m": math,
    "floor": math.floor,
    "helper": helper,
    "LIMIT": 3,
    "__name__": "__main__",
}


def missing(source, path=("f",), namespace=NAMESPACE, others=()):
    """Return the names for which a call of the last definition would be refused, with their lines."""
    definition = only(source)
    carried = [definition, *others]
    names = {name for each in carried for name in each.eager | each.lazy}
    absent = names - namespace.keys() - {definition.name}
    return dict(missing_names(definition, [path], absent, carried))


# --- lines and kinds -----------------------------------------------------------------------------


def test_outside_names_with_their_lines_and_kinds():
    definition = only(
        """

        @remote(resource_config=config)
        def f(data: Missing, n=LIMIT) -> Gone:
            x: Nowhere = m.sqrt(
                helper(data)
            )
            y = [floor(i) + i for i in data]
            return f(x, math, nothing, y)
        """
    )
    found = outside_names(without_decorators(definition, names_remote), NAMESPACE)
    assert [(each.name, each.line, each.kind) for each in found] == [
        ("LIMIT", 4, "value"),
        ("m", 5, "module"),
        ("helper", 6, "definition"),
        ("floor", 8, "module"),
        ("math", 9, "module"),
        ("nothing", 9, "missing"),
    ]
    assert [str(each).partition(": ")[2] for each in found] == [
        "reads LIMIT, a global value: pass it as an argument",
        "reads m, a module imported outside: import it inside: import math as m",
        "reads helper, a function defined outside: define it inside or pass its result as an argument",
        "reads floor, imported outside from math: import it inside: from math import floor",
        "reads math, a module imported outside: import it inside: import math",
        "reads nothing, which is not defined: define it, or pass it as an argument",
    ]


def test_names_of_a_function_around_are_values_of_their_own_kind():
    (found,) = outside_names(only("def f(): return LIMIT"), NAMESPACE, closure=["LIMIT"])
    assert "a value of the function around" in str(found)


INSIDE = {
    "arguments": "def f(a, *b, c=1, **d): return a, b, c, d",
    "locals": "def f():\n x = 1\n del x\n x = 2\n return x",
    "imports inside": "def f():\n import math\n from os import path as p\n return math, p",
    "builtins": "def f(): return len(__name__), print, True, NotImplemented",
    "itself": "def f(n): return f(n - 1)",
    "annotations": "def f(a: A, *b: B, c: C = 1) -> D:\n x: E = 1\n y: F\n def g(z: G) -> H: ...\n return g",
    "class annotations": "class A:\n x: B\n y: C = 1\n def f(self, z: D) -> E: return A",
    "comprehensions": "def f(a): return [x for y in a for x in y if x], {k: v for k, v in a}, {z for z in a}",
    "a walrus": "def f(a): return [y := x for x in a], y",
    "a walrus in a condition": "def f(a):\n if (n := len(a)) > 1: return n",
    "nested functions": "def f(a):\n def g(b): return a + b + h()\n def h(): return g\n return g",
    "a lambda": "def f(a): return lambda b, c=a: a + b + c",
    "nonlocal": "def f():\n x = 1\n def g():\n  nonlocal x\n  x = 2\n return g, x",
    "an exception's name": "def f():\n try: pass\n except ValueError as e: return e",
    "a with target": "def f():\n with open('x') as (a, *b): return a, b",
    "match": "def f(a):\n match a:\n  case {'k': x, **y}: return x, y\n  case [p, *q] as r: return p, q, r",
    "a class inside": "def f():\n class C:\n  x = 1\n  y = x\n  def g(self): return C, super()\n return C",
    "its own global": "def f():\n global g\n g = 1\n return g",
    "guarded": "def f():\n try: return profile\n except NameError: return None",
    "display": "def f(): display(1)",
}
if sys.version_info >= (3, 12):
    INSIDE["type parameters"] = "def f[T: int](a: T) -> T:\n type X = list[T]\n return X"


@pytest.mark.parametrize("source", INSIDE.values(), ids=INSIDE)
def test_what_strict_allows(source):
    assert outside_names(only(source), {}) == ()


def test_strict_under_postponed_annotations():
    flags = __future__.annotations.compiler_flag
    assert outside_names(only("def f(a: A) -> B: return a", flags=flags), {}) == ()


@pytest.mark.parametrize(
    ("source", "names"),
    [
        ("@cached\ndef f(a=LIMIT): ...", ["cached", "LIMIT"]),  # they are executed on the worker
        ("class A(Base):\n x = LIMIT\n def f(self): return helper", ["Base", "LIMIT", "helper"]),
        ("def f():\n def g(): return LIMIT\n return g", ["LIMIT"]),
        ("def f(): return [LIMIT for _ in math.pi]", ["LIMIT", "math"]),
        ("class A:\n LIMIT = 1\n def f(self): return LIMIT", ["LIMIT"]),  # not the class's own
        ("def f():\n global LIMIT\n LIMIT += 1", ["LIMIT"]),
    ],
)
def test_what_strict_finds(source, names):
    namespace = {**NAMESPACE, "cached": helper, "Base": object}
    assert sorted(each.name for each in outside_names(only(source), namespace)) == sorted(names)


def test_strict_says_all_of_it():
    definition = only("\n\ndef f(a):\n    return helper(a), LIMIT, lenght(a)\n")
    with pytest.raises(ScopeError) as raised:
        refuse_outside("f()", "Cell In[3]", outside_names(definition, NAMESPACE))
    assert (
        str(raised.value)
        == """\
f() reads names from outside (Cell In[3]), and strict=True does not allow it:
  line 4: reads LIMIT, a global value: pass it as an argument
  line 4: reads helper, a function defined outside: define it inside or pass its result as an argument
  line 4: reads lenght, which is not defined: did you mean 'len'?
Without strict=True, what can be sent safely is sent along."""
    )
    refuse_outside("f()", "Cell In[3]", ())


# --- missing names -------------------------------------------------------------------------------

SURE = {
    "a plain read": "def f(): return gone",
    "a call": "def f(a): a = gone(a); return a",
    "an attribute": "def f(): gone.x = 1",
    "an item": "def f(a): a[gone] = 1",
    "augmented": "def f(a): a += gone",
    "an async function": "async def f(): await gone()",
    "a test": "def f(a):\n if gone: return 1",
    "an iterable": "def f():\n for x in gone: pass",
    "a comprehension's iterable": "def f(): return [x for x in gone]",
    "the first of and": "def f(a): return gone and a",
    "a comparison": "def f(a): return a < gone < a",
    "an f-string": "def f(a): return f'{a:{gone}}'",
    "a default of an inner function": "def f():\n def g(a=gone): ...",
    "a decorator of an inner function": "def f():\n @gone\n def g(): ...",
    "a base": "def f():\n class A(gone): ...",
    "a with body": "def f():\n with open('x'): gone",
    "try with finally": "def f():\n try: gone\n finally: pass",
    "finally": "def f(a):\n try: return a\n finally: gone",
    "after a branch": "def f(a):\n if a: a = 1\n return gone",
    "after a loop": "def f(a):\n for x in a:\n  if x: break\n return gone",
    "after an inner function that returns": "def f(a):\n def g(): return 1\n return gone",
    "after a guard that raises": "def f(a):\n if not a: raise ValueError\n return gone",
    "raise": "def f(a): raise gone",
    "assert": "def f(a): assert gone, a",
    "match": "def f(a):\n match gone:\n  case 1: pass",
    "del": "def f(a): del gone.x",
    "a declared global": "def f():\n global gone\n return gone",
    "a star": "def f(a): return a(*gone)",
    "await in a condition": "async def f(a):\n while await gone(): pass",
}


@pytest.mark.parametrize("source", SURE.values(), ids=SURE)
def test_a_name_that_every_call_needs_is_missing(source):
    assert missing(source).keys() == {"gone"}


UNSURE = {
    "a branch": "def f(a):\n if a: gone",
    "else": "def f(a):\n if a: pass\n else: gone",
    "a loop": "def f(a):\n for x in a: gone",
    "while": "def f(a):\n while a: gone",
    "a comprehension": "def f(a): return [gone for x in a]",
    "a generator expression": "def f(a): return (gone for x in a)",
    "a lambda": "def f(a): return lambda: gone",
    "an inner function": "def f(a):\n def g(): return gone\n return a",
    "a method": "def f(a):\n class A:\n  def g(self): return gone\n return a",
    "the second of or": "def f(a): return a or gone",
    "half a condition": "def f(a): return a if a else gone",
    "a longer comparison": "def f(a): return a < 0 < gone",
    "a message": "def f(a): assert a, gone",
    "after return": "def f(a):\n return a\n gone",
    "after raise": "def f(a):\n raise ValueError\n gone",
    "after a branch that returns": "def f(a):\n if a: return 1\n return gone",
    "after a loop that returns": "def f(a):\n for x in a:\n  return x\n gone",
    "after a try that returns": "def f(a):\n try: return a\n finally: pass\n gone",
    "guarded": "def f():\n try: gone\n except NameError: return None",
    "guarded by everything": "def f():\n try: gone\n except: return None",
    "left before": "def f(a):\n try:\n  int(a); gone\n except ValueError: return a",
    "a handler": "def f(a):\n try: pass\n except ValueError: gone",
    "try's else": "def f(a):\n try: int(a)\n except ValueError: pass\n else: gone",
    "a finally that returns": "def f(a):\n try: gone\n finally: return a",
    "suppressed": "def f(a):\n import contextlib\n with contextlib.suppress(Exception): gone\n return a",
    "case": "def f(a):\n match a:\n  case 1: gone",
    "a generator": "def f(a):\n yield a\n gone",
    "a generator's beginning": "def f(a):\n gone\n yield a",
    "an unevaluated annotation": "def f(a):\n x: gone = a\n return x",
    "assigned globally": "def f(a):\n global gone\n gone = a\n return gone",
    "imported globally": "def f(a):\n global gone\n import math as gone\n return gone",
    "assigned in globals()": "def f(a):\n globals()['gone'] = a\n return gone",
    "executed": "def f(a):\n exec('gone = 1', globals())\n return gone",
    "assigned in the module": "def f(a):\n import __main__\n __main__.gone = a\n return gone",
    "assigned in sys.modules": "def f(a):\n import sys\n sys.modules[__name__].gone = a\n return gone",
    "made a builtin": "def f(a):\n import builtins\n builtins.gone = a\n return gone",
    "installed": "def f(a):\n from icecream import install\n install()\n return gone(a)",
    "a wrapped function": "@wrap\ndef f(a): return gone",
    "a class body": "def f(a):\n class A:\n  gone = 1\n  x = gone\n return A",
    "a local of the same name": "def f(gone): return gone",
}


@pytest.mark.parametrize("source", UNSURE.values(), ids=UNSURE)
def test_code_that_may_work_is_not_refused(source):
    assert missing(source) == {}


def test_names_that_another_function_binds_are_not_missing():
    other = only("def start():\n    global gone\n    gone = 1")
    assert missing("def f():\n start()\n return gone", namespace={"start": 1}, others=[other]) == {}


def test_helpers_below_and_recursion():
    assert missing("def f(n): return helper(f(n - 1))") == {}
    assert missing("def f(n): return f(n)", namespace={}) == {}


def test_what_somebody_made_a_builtin(monkeypatch):
    monkeypatch.setattr(builtins, "gone", 1, raising=False)
    assert missing("def f(): return gone") == {}


def test_methods():
    source = """
        class A(Base):
            gone = 1
            def __init__(self): self.x = nope
            def f(self): return gone
            @property
            def p(self): return gone
            @staticmethod
            def s(): return gone
            @wrapped
            def w(self): return gone
        """
    namespace = {"Base": object, "wrapped": 1}
    for name, names in [("__init__", {"nope"}), ("f", {"gone"}), ("p", {"gone"}), ("s", {"gone"})]:
        assert missing(source, ("A", name), namespace).keys() == names
    for name in ("w", "inherited", "gone"):
        assert missing(source, ("A", name), namespace) == {}


def test_the_message_for_missing_names():
    definition = only("def f(total):\n    import os\n    return np.sum(totl) + helpr(1) + json\n")
    names = missing_names(definition, [("f",)], {"np", "totl", "helpr", "json"}, [definition])
    assert names == {"np": 3, "totl": 3, "helpr": 3, "json": 3}
    with pytest.raises(UndefinedNameError) as raised:
        refuse_missing("f()", "Cell In[3]", definition, {"totl": 3, "helpr": 3}, NAMESPACE)
    assert str(raised.value).splitlines() == [
        "f() reads names that are not defined (Cell In[3]):",
        "  line 3: totl; did you mean 'total'?",
        "  line 3: helpr; did you mean 'helper'?",
        "Define it, or pass it as an argument. Nothing was sent.",
    ]
    with pytest.raises(UndefinedNameError) as raised:
        refuse_missing("f()", "Cell In[3]", definition, {"np": 3}, NAMESPACE)
    assert str(raised.value).splitlines() == [
        "f() reads a name that is not defined (Cell In[3], line 3: np).",
        "Import it inside: import numpy as np. Nothing was sent.",
    ]
    refuse_missing("f()", "Cell In[3]", definition, {}, NAMESPACE)


def test_doubts_are_for_names_that_may_be_read():
    definition = only(
        "def f(total):\n    if total:\n        return totl\n    try: profile\n    except NameError: ..."
    )
    assert list(doubts([definition], {"totl", "profile"}, NAMESPACE)) == [
        "f reads totl (line 3), which is not defined; did you mean 'total'?"
    ]


def test_a_whole_cell_is_a_definition_too():
    """Cells that only define travel whole; what they bind at their top level is theirs."""
    source = (
        "import math\nfrom statistics import mean\nX = 1\ndef g(): return gone\ndef f(): return g(), X, mean"
    )
    cell = replace(
        only(source), name="f", source=source, first_line=1, eager=frozenset(), lazy=frozenset({"gone", "X"})
    )
    assert reads_of(cell).lines == {"gone": 4, "X": 5}
    assert missing_names(cell, [("g",)], {"gone", "X"}, [cell]) == {"gone": 4}
    assert missing_names(cell, [("f",)], {"gone", "X"}, [cell]) == {}


# --- an oracle: Python itself --------------------------------------------------------------------

SIMPLE = (
    "{e}",
    "{n} = {e}",
    "return {e}",
    "x: gone = {e}",
    "raise ValueError({e})",
    "pass",
    "import math as gone",
    "del b",
    "def inner():\n    global gone\n    gone = 1",
    "def gone(): return here",
)
COMPOUND = (
    "if {e}:\n{1}\nelse:\n{2}",
    "for x in [{e}]:\n{1}\nelse:\n{2}",
    "for x in [{e}][1:]:\n{1}",
    "while {e}:\n    break\n{1}\nelse:\n{2}",
    "try:\n{1}\nexcept NameError:\n{2}",
    "try:\n{1}\nexcept ValueError:\n{2}",
    "try:\n{1}\nfinally:\n{2}",
    "with suppress({e} and NameError):\n{1}",
    "with suppress(ValueError):\n{1}",
    "def inner(b={e}):\n{1}\n    return inner",
    "class Inner:\n    {n} = {e}\n    {e}",
)
EXPRESSIONS = (
    "({0} and {1})",
    "({0} or {1})",
    "({0} if {1} else {2})",
    "[{0} for b in [{1}]]",
    "[{0} for b in [{1}][1:]]",
    "[gone for gone in [{0}, {1}]]",
    "(lambda b: {0})",
    "(b := {0})",
    "[{0}]",
)


class Writer:
    """Writes functions at random: hypothesis, left to choose each part, repeats itself."""

    def __init__(self, seed):
        self.random = random.Random(seed)

    def expression(self, level):
        if level == 0 or self.random.random() < 0.4:
            return self.random.choice(["a", "b", "here", "gone", "other", "0", "1", "[]"])
        form = self.random.choice(EXPRESSIONS)
        return form.format(*(self.expression(level - 1) for _ in range(3)))

    def block(self, level):
        lines = [
            line for _ in range(self.random.randint(1, 3)) for line in self.statement(level).splitlines()
        ]
        return "\n".join("    " + line for line in lines)

    def statement(self, level):
        name = self.random.choice(["a", "b", "here", "gone"])
        if level == 0 or self.random.random() < 0.3:
            return self.random.choice(SIMPLE).format(e=self.expression(2), n=name)
        form = self.random.choice(COMPOUND)
        return form.format("", self.block(level - 1), self.block(level - 1), e=self.expression(1), n=name)


@settings(max_examples=2000, deadline=None)
@given(st.integers(0, 2**32), st.sampled_from([0, 1, [1]]))
def test_what_is_refused_never_works(seed, argument):
    source = f"def f(a, b=1):\n{Writer(seed).block(2)}\n"
    namespace = {"here": 1, "suppress": contextlib.suppress}
    with contextlib.suppress(SyntaxError):  # a name both global and local
        code = compile(source, "<generated>", "exec", dont_inherit=True)
        refused = missing(source, namespace=namespace)
        exec(code, namespace)
        with contextlib.suppress(Exception):
            namespace["f"](argument)
            assert_(not refused, source)


def assert_(condition, message):
    """Fail with what no `suppress(Exception)` catches."""
    if not condition:
        pytest.fail(message)
