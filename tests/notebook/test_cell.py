"""Names go to the worker and come back."""

from __future__ import annotations

import pytest
from kernels import Kernel

# name of the case -> local cell before, remote cell, {expression: value after}
CASES = {
    "inputs and outputs": ("a, b = 2, [1, 2]", "c = a * sum(b)", {"c": 6}),
    "process": (
        "import os; here = os.getpid()",
        "there = os.getpid()",
        {"there != here and there > 0": True},
    ),
    "frame": (
        "import pandas as pd; df = pd.DataFrame({'x': [1, 2, 3]})",
        "total = int(df.x.sum()); doubled = df * 2",
        {"total": 6, "list(doubled.x)": [2, 4, 6], "type(doubled) is pd.DataFrame": True},
    ),
    "array": (
        "import numpy as np; grid = np.arange(40_000).reshape(200, 200)",
        "turned = grid.T.copy()",
        {"turned.shape": (200, 200), "bool((turned.T == grid).all())": True},
    ),
    "array changed in place": (
        "import numpy as np; grid = np.zeros(50_000)",
        "grid[3] = 7",
        {"grid[3].item()": 7.0, "grid.sum().item()": 7.0},
    ),
    "dict": ("d = {'k': {1: (2, 3)}}", "e = {**d, 'more': None}", {"e": {"k": {1: (2, 3)}, "more": None}}),
    "function with helpers": (
        """
        import math
        FACTOR = 3
        def helper(x):
            return math.floor(x) * FACTOR
        def outer(x):
            return [helper(v) for v in x]
        """,
        "r = outer([1.5, 2.5])",
        {"r": [3, 6]},
    ),
    "mutually recursive": (
        """
        def even(n): return n == 0 or odd(n - 1)
        def odd(n): return n != 0 and even(n - 1)
        """,
        "r = even(10), odd(10)",
        {"r": (True, False)},
    ),
    "lambda": ("k = 4; times = lambda x: x * k", "r = times(5)", {"r": 20}),
    "lambda in a list": (
        "steps = [lambda x: x + 1, lambda x: x * 10]",
        "r = [f(1) for f in steps]",
        {"r": [2, 10]},
    ),
    "lambda comes back": ("k = 2", "f = lambda x: x + k", {"f(1)": 3}),
    "closure": (
        "def adder(n):\n    def add(x):\n        return x + n\n    return add\nadd5 = adder(5)",
        "r = add5(1)",
        {"r": 6},
    ),
    "module alias": ("import os.path as osp, json as j", "r = j.dumps(osp.basename('/a/b'))", {"r": '"b"'}),
    "import comes back": (
        "",
        "import statistics as st\nfrom math import tau",
        {"st.mean([1, 3])": 2, "tau > 6": True},
    ),
    "one object, two names": (
        "xs = [1]; ys = xs",
        "same = xs is ys\nxs.append(2)",
        {"same": True, "xs is ys": True, "ys": [1, 2]},
    ),
    "one object inside another": (
        "inner = [1]; outer = {'inner': inner}",
        "same = outer['inner'] is inner\ninner.append(2)",
        {"same": True, "inner": [1, 2], "outer": {"inner": [1, 2]}},
    ),
    "rebinding keeps the old object": ("xs = [1]; ys = xs", "xs = xs + [2]", {"xs": [1, 2], "ys": [1]}),
    "column": (
        "import pandas as pd; df = pd.DataFrame({'x': [1, 2]}); alias = df",
        "df['a'] = df.x + 1",
        {"list(df.a)": [2, 3]},
    ),
    "del": ("gone = 1; kept = 2", "del gone\nkept += 1", {"'gone' in globals()": False, "kept": 3}),
    "del of what it made": ("", "tmp = 1\ndel tmp\nrest = 2", {"'tmp' in globals()": False, "rest": 2}),
    "bound only if, and was": ("flag = False; v = 'old'", "if flag: v = 1\nr = v", {"r": "old", "v": "old"}),
    "bound only if, and is": ("flag = True; v = 'old'", "if flag: v = 1\nr = v", {"r": 1, "v": 1}),
    "bound only if, and is not": ("flag = False", "if flag: w9 = 1", {"'w9' in globals()": False}),
    "augmented": ("n = 1; xs = [1]", "n += 1\nxs += [2]", {"n": 2, "xs": [1, 2]}),
    "underscores": ("_a = 1; __b = 2", "_c = _a + __b\n__d = _c", {"_c": 3, "__d": 3}),
    "global": (
        "count = 1",
        "def bump():\n    global count, made\n    count += 1\n    made = 'here'\nbump(); bump()",
        {"count": 3, "made": "here", "callable(bump)": True},
    ),
    "match, walrus, except as, star": (
        "point = (1, 2, 3)",
        """
        match point:
            case (first, *rest): pass
        if (n := len(rest)) > 1: pass
        try: 1 / 0
        except ZeroDivisionError as caught: text = str(caught)
        head, *tail = point
        """,
        {
            "first": 1,
            "rest": [2, 3],
            "n": 2,
            "text": "division by zero",
            "tail": [2, 3],
            "'caught' in globals()": False,
        },
    ),
    "await": ("", "import asyncio\nr = await asyncio.sleep(0, 'slept')", {"r": "slept"}),
    "async for and with": (
        "",
        """
        async def count():
            for n in range(3): yield n
        r = [n async for n in count()]
        """,
        {"r": [0, 1, 2]},
    ),
    "functions come back": (
        "base = 10",
        "def up(x):\n    return x + base\nr = up(1)",
        {"r": 11, "up(2)": 12, "up.__module__": "__main__"},
    ),
    "decorated": (
        "import functools",
        "@functools.lru_cache\ndef sq(x): return x * x\nr = sq(3)",
        {"r": 9, "sq(4)": 16},
    ),
    "enum": (
        "import enum\nclass Color(enum.Enum):\n    RED = 1\n    BLUE = 2\nc = Color.RED",
        "d = Color.BLUE if c is Color.RED else None",
        {"d is Color.BLUE": True},
    ),
    "namedtuple": (
        "from typing import NamedTuple\nclass P(NamedTuple):\n    x: int\n    y: int = 2\np = P(1)",
        "q = p._replace(x=5)",
        {"q == P(5, 2) and type(q) is P": True},
    ),
    "subclass of a notebook class": (
        "class A:\n    def who(self): return 'A' + tag()\nclass B(A): pass\ndef tag(): return '!'\nb = B()",
        "r = b.who(); s = type(b).__mro__[1].__name__",
        {"r": "A!", "s": "A"},
    ),
    "function changed after the object": (
        "def tag(): return 1\nholder = {'f': tag}",
        "r = holder['f']()",
        {"r": 1},
    ),
    "generator expression consumed": ("xs = [1, 2, 3]", "r = sum(x * x for x in xs)", {"r": 14}),
    "big integers and bytes": (
        "n = 2**200; raw = b'\\x00' * 70_000",
        "m = n + 1; size = len(raw)",
        {"m == n + 1": True, "size": 70_000},
    ),
    "no lines": ("", "# only a comment", {}),
}


@pytest.mark.parametrize("name", CASES)
def test_names(kernel: Kernel, name: str) -> None:
    before, cell, after = CASES[name]
    kernel.run(before).ok()
    kernel.remote(cell, "--run").ok()
    for expression, value in after.items():
        assert kernel.value(expression) == value, expression


def test_dataclass_of_the_notebook(kernel: Kernel) -> None:
    kernel.run(
        """
        from dataclasses import dataclass, field
        def scaled(v, by): return shifted(v * by)
        def shifted(v): return v + OFFSET
        OFFSET = 100

        @dataclass
        class Point:
            x: int
            tags: list = field(default_factory=list)
            def grown(self, by): return Point(scaled(self.x, by), [*self.tags, 'grown'])

        p = Point(2)
        """
    ).ok()
    kernel.remote("q = p.grown(3)\nmany = [q, Point(0)]").ok()
    assert kernel.value("isinstance(q, Point) and type(many[1]) is Point") is True
    assert kernel.value("q == Point(106, ['grown']) and many[0] is q and q.grown(1).x == 206") is True


def test_class_defined_again(kernel: Kernel) -> None:
    kernel.run("class Thing:\n    size = 1\nold = Thing()").ok()
    kernel.run("class Thing:\n    size = 2").ok()
    kernel.remote("new = Thing(); sizes = old.size, new.size").ok()
    assert kernel.value("sizes, type(new) is Thing, type(old) is Thing") == ((1, 2), True, False)


def test_class_defined_in_the_cell(kernel: Kernel) -> None:
    kernel.remote("class Box:\n    def __init__(self, v): self.v = v\nb = Box([1]); more = [Box(2), b]").ok()
    assert kernel.value("type(b) is Box and more[1] is b and more[0].v == 2") is True
    kernel.remote("b.v.append(3); c = Box(b)").ok()
    assert kernel.value("c.v.v == b.v == [1, 3] and isinstance(c, Box)") is True


def test_record_names_what_changed(kernel: Kernel) -> None:
    kernel.run("import pandas as pd; df = pd.DataFrame({'x': [1, 2]}); xs = [1]; same = {1: 2}").ok()
    record = kernel.remote("df['a'] = 1; xs.append(2); n = len(same)").ok().record
    assert record.startswith("✓ completed cell on notebook")
    assert "changed xs, df" in record
    assert "same" not in record


def test_frame_changed_in_place_is_the_same_frame(kernel: Kernel) -> None:
    kernel.run("import pandas as pd; df = pd.DataFrame({'x': [1, 2]}); other = df").ok()
    kernel.remote("df['a'] = df.x * 2").ok()
    assert kernel.value("list(df.columns), 'a' in other, other is df") == (["x", "a"], True, True)


def test_failure_halfway_keeps_what_was_bound(kernel: Kernel) -> None:
    kernel.run("xs = []; late = 'old'").ok()
    reply = kernel.remote("early = 1\nxs.append(5)\n1 / 0\nlate = 2")
    assert (reply.ename, "failed" in reply.record) == ("ZeroDivisionError", True)
    assert kernel.value("early, xs, late") == (1, [5], "old")
    kernel.remote(
        "def soon(): return 3\nclass Kind(Exception): pass\nsoon()\nraise Kind(soon())\ndef never(): pass"
    )
    assert kernel.value("soon(), Kind.__name__, 'never' in globals()") == (3, "Kind", False)


def test_in_and_out(kernel: Kernel) -> None:
    kernel.run("a, b, c = 1, 2, 3; unused = 9").ok()
    kernel.remote("x = a + 1\ny = x + 1", "--out y").ok()
    assert kernel.value("y, 'x' in globals()") == (3, False)
    reply = kernel.remote("r = eval('unused')", "--in unused")
    assert (reply.status, kernel.value("r")) == ("ok", 9)
    reply = kernel.remote("z = a", "--in b")
    assert reply.ename == "NameError"
    kernel.remote("def hidden(x): return x * a\nq = hidden(2)", "--out q").ok()
    assert kernel.value("q, 'hidden' in globals()") == (2, False)


def test_unpicklable_output_is_named_not_fatal(kernel: Kernel) -> None:
    reply = kernel.remote("import threading\nlock = threading.Lock(); n = 1").ok()
    assert "lock: TypeError" in reply.record
    assert kernel.value("n") == 1


def test_module_that_is_not_installed_here(kernel: Kernel) -> None:
    reply = kernel.remote("import toolz as tz\nn = tz.count([1, 2])").ok()
    assert kernel.value("n") == 2
    assert "the module toolz is not installed here" in reply.record
