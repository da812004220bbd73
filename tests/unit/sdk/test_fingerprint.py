"""Fingerprints: equal for equal content, different for different content, the same in every process."""

from __future__ import annotations

import collections
import copy
import dataclasses
import datetime as dt
import decimal
import enum
import functools
import os
import pickle
import re
import subprocess
import sys
import threading
import types
from pathlib import Path
from typing import NamedTuple

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flash_nb.sdk.capture import survey
from flash_nb.sdk.fingerprint import FingerprintError, fingerprint, of_capture, of_source
from flash_nb.worker.namespace import remember_source

ATOMS = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.complex_numbers()
    | st.text(st.characters(codec=None), max_size=5)
    | st.binary(max_size=5)
)
HASHABLE = st.recursive(
    ATOMS,
    lambda inner: st.tuples(inner, inner) | st.tuples() | st.frozensets(inner, max_size=3),
    max_leaves=5,
)
DATA = st.recursive(
    ATOMS,
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.tuples(inner)
        | st.tuples(inner, inner)
        | st.dictionaries(HASHABLE, inner, max_size=3)
        | st.sets(HASHABLE, max_size=3)
        | st.frozensets(HASHABLE, max_size=3)
        | st.binary(max_size=3).map(bytearray)
    ),
    max_leaves=8,
)


def normal(value):
    """Return what stands for a value of plain data: equal for two exactly if they are the same content."""
    kind = type(value).__name__
    match value:
        case float():
            return kind, value.hex()  # "nan" for every NaN
        case complex():
            return kind, (normal(value.real), normal(value.imag))
        case list() | tuple():
            return kind, tuple(map(normal, value))
        case dict():
            return kind, tuple((normal(key), normal(held)) for key, held in value.items())
        case set() | frozenset():
            return kind, tuple(sorted(map(repr, map(normal, value))))
    return kind, repr(value)


def unshared(value):
    """Return a copy in which no two places hold one list, dict, set or bytearray."""
    match value:
        case list() | tuple():
            return type(value)(map(unshared, value))
        case dict():
            return {key: unshared(held) for key, held in value.items()}
        case set() | bytearray():
            return copy.copy(value)
    return value


@given(DATA, DATA)
def test_equal_exactly_if_the_content_is(one, other):
    one, other = unshared(one), unshared(other)
    assert (fingerprint(one) == fingerprint(other)) == (normal(one) == normal(other))


@given(DATA)
def test_a_copy_has_the_same(value):
    assert fingerprint(copy.deepcopy(value)) == fingerprint(value)
    assert fingerprint(pickle.loads(pickle.dumps(value))) == fingerprint(value)


ALIKE = [
    0,
    False,
    0.0,
    -0.0,
    0j,
    None,
    "",
    "0",
    b"",
    b"0",
    (),
    [],
    {},
    set(),
    frozenset(),
    bytearray(),
    float("nan"),
]
ALIKE += [
    [[]],
    [()],
    ([],),
    ((),),
    [0, [0]],
    [[0], 0],
    [[0, 0]],
    [0, 0],
    (0, 0),
    {0: 0},
    {0, 1},
    {(0, 0)},
    "\ud800",
]
ALIKE += [
    float("inf"),
    1,
    True,
    1.0,
    "1",
    2**70,
    10**5000,
    {0: 1, 1: 0},
    {1: 0, 0: 1},
    int,
    ...,
    range(2),
    slice(2),
]


def test_what_is_alike_differs():
    assert len({fingerprint(value) for value in ALIKE}) == len(ALIKE)


def test_one_list_in_two_places_is_not_two_lists():
    inner = [1]
    shared, apart = [inner, inner], [[1], [1]]
    assert fingerprint(shared) != fingerprint(apart)
    assert fingerprint(shared) == fingerprint(copy.deepcopy(shared))
    pair = (inner, 2)
    assert fingerprint([pair, pair]) == fingerprint(copy.deepcopy([pair, pair]))
    assert fingerprint([(1, 2), (1, 2)]) == fingerprint([tuple(n) for n in ([1, 2], [1, 2])])


def test_cycles_and_depth():
    loop = [1]
    loop.append((loop, {"self": loop}))
    again = [1]
    again.append((again, {"self": again}))
    assert fingerprint(loop) == fingerprint(again)
    deep: list[object] = []
    for _ in range(100_000):
        deep = [deep]
    with pytest.raises(FingerprintError, match="deep is nested too deeply"):
        fingerprint(deep, name="deep")
    wide: tuple[object, ...] = ()
    for _ in range(200):
        wide = (wide, wide)
    assert fingerprint(wide) == fingerprint(wide)


class Color(enum.Enum):
    RED = 1
    BLUE = 2


class Point(NamedTuple):
    x: int
    y: int


@dataclasses.dataclass
class Box:
    held: object
    label: str = "box"


class Slots:
    __slots__ = ("a",)

    def __init__(self, a):
        self.a = a


class Tags(set):
    pass


OBJECTS = {
    "enum": (lambda: Color.RED, lambda: Color.BLUE),
    "namedtuple": (lambda: Point(1, 2), lambda: Point(2, 1)),
    "namedtuple and tuple": (lambda: Point(1, 2), lambda: (1, 2)),
    "dataclass": (lambda: Box([1]), lambda: Box([2])),
    "dataclass, other field": (lambda: Box(1), lambda: Box(1, "other")),
    "slots": (lambda: Slots(1), lambda: Slots("1")),
    "set of its own": (lambda: Tags({"b", "a", "c"}), lambda: Tags({"a"})),
    "OrderedDict": (lambda: collections.OrderedDict(a=1), lambda: {"a": 1}),
    "defaultdict": (
        lambda: collections.defaultdict(list, a=[1]),
        lambda: collections.defaultdict(int, a=[1]),
    ),
    "Counter": (lambda: collections.Counter("aab"), lambda: collections.Counter("abb")),
    "deque": (lambda: collections.deque([1, 2], 5), lambda: collections.deque([1, 2], 6)),
    "datetime": (lambda: dt.datetime(2026, 1, 2), lambda: dt.date(2026, 1, 2)),
    "Decimal": (lambda: decimal.Decimal("1.0"), lambda: decimal.Decimal("1.00")),
    "Path": (lambda: Path("a/b"), lambda: Path("a/c")),
    "pattern": (lambda: re.compile("a"), lambda: re.compile("a", re.IGNORECASE)),
    "partial": (lambda: functools.partial(sorted, [2]), lambda: functools.partial(sorted, [1])),
    "bound method": (lambda: Box(1).__eq__, lambda: Box(2).__eq__),
    "builtin": (lambda: len, lambda: max),
    "class": (lambda: Box, lambda: Point),
    "set of objects": (lambda: {Color.RED, decimal.Decimal(1)}, lambda: {Color.BLUE, decimal.Decimal(1)}),
    "module": (lambda: os, lambda: re),
    "exception": (lambda: ValueError("a"), lambda: ValueError("b")),
}


@pytest.mark.parametrize("name", OBJECTS)
def test_objects(name):
    one, other = OBJECTS[name]
    assert fingerprint(one()) == fingerprint(one())
    assert fingerprint(one()) != fingerprint(other())


def test_the_order_of_attributes_says_nothing():
    one, other = Box(1), Box(1)
    one.__dict__ = {"held": 1, "label": "box"}
    other.__dict__ = {"label": "box", "held": 1}
    assert fingerprint(one) == fingerprint(other)


def test_arrays():
    np = pytest.importorskip("numpy")
    grid = np.arange(6).reshape(2, 3)
    assert (
        fingerprint(grid)
        == fingerprint(np.asfortranarray(grid))
        == fingerprint(np.arange(12)[:6].reshape(2, 3))
    )
    others = [
        grid.ravel(),
        grid.T,
        grid.astype("i4"),
        grid.astype(float),
        grid + 1,
        grid.astype(object),
        [*grid],
    ]
    others += [grid.astype(">i8"), np.ma.masked_equal(grid, 3), np.int64(0), np.float64(0)]
    others += [
        np.array(["a"]),
        np.array([b"a"]),
        np.array([None]),
        np.array(["2026-01-01"], "M8[D]"),
        np.array(0),
    ]
    others += [
        np.zeros(2, [("a", "i4"), ("b", "f8")]),
        np.zeros(2, [("a", "i4"), ("c", "f8")]),
        grid.dtype,
        np.add,
    ]
    seen = {fingerprint(value) for value in [grid, *others]}
    assert len(seen) == len(others) + 1
    for value in others:
        assert fingerprint(copy.deepcopy(value)) == fingerprint(value)
    pair = [grid, grid]
    assert fingerprint(pair) != fingerprint([grid, grid.copy()])


def test_tables():
    pd = pytest.importorskip("pandas")

    def table():
        return pd.DataFrame({"a": [1, 2], "b": ["x", None], "c": pd.Categorical(["u", "v"])}, index=[3, 4])

    plain = table()
    blocks = pd.DataFrame(index=[3, 4])
    for name in plain:  # one block for each column, as it is built column by column
        blocks[name] = plain[name]
    assert fingerprint(plain) == fingerprint(table()) == fingerprint(blocks)
    others = [
        plain.rename(columns={"a": "z"}),
        plain[["b", "a", "c"]],
        plain.reset_index(drop=True),
        plain.iloc[:1],
    ]
    others += [
        plain.astype({"a": float}),
        plain.assign(a=[1, 3]),
        plain.assign(b=["x", "y"]),
        plain["a"],
        plain["b"],
    ]
    others += [
        plain["a"].rename("other"),
        plain.index,
        pd.RangeIndex(3),
        pd.Timestamp(0),
        pd.MultiIndex.from_tuples([(1, 2)]),
    ]
    others += [
        pd.Series(pd.date_range("2026-01-01", periods=2)),
        pd.Series(pd.date_range("2026-01-01", periods=2, tz="UTC")),
    ]
    others += [
        pd.Series([1, None], dtype="Int64"),
        pd.Series([1, 2], dtype="Int64"),
        plain.assign(c=["u", "v"]),
        plain.assign(c=pd.Categorical(["u", "v"], ["v", "u"])),
    ]
    assert len({fingerprint(value) for value in [plain, *others]}) == len(others) + 1
    for value in others:
        assert fingerprint(pickle.loads(pickle.dumps(value))) == fingerprint(value)


def local():
    def inner():
        pass

    return inner


def python_says(value):
    """Return why this Python does not pickle a value: its words change with its versions."""
    with pytest.raises(TypeError) as refused:
        value.__reduce_ex__(4)
    return refused.value


REFUSED = {
    "lambda": ({"steps": [len, lambda x: x]}, r"v['steps'][1] holds a lambda: give it a name with def"),
    "local function": (local(), "v holds local.inner, which was made inside a function"),
    "lambda in an object": (Box(Box(lambda: 1)), "v.held.held holds a lambda: give it a name with def"),
    "lock": (
        [threading.Lock()],
        "v[0] holds a lock, which cannot be taken apart (cannot pickle '_thread.lock' object)",
    ),
    "generator": (
        (n for n in ()),
        "v holds a generator, which cannot be taken apart (cannot pickle 'generator' object)",
    ),
    "code": (local.__code__, f"v holds a code, which cannot be taken apart ({python_says(local.__code__)})"),
    "partial of a lambda": (functools.partial(lambda x: x, 1), "v holds a lambda: give it a name with def"),
    "class made by type": (type("Made", (), {})(), "v holds a Made that is not the Made of now"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_has_no_fingerprint_says_why(name):
    value, text = REFUSED[name]
    with pytest.raises(FingerprintError) as refused:
        fingerprint(value, name="v")
    assert str(refused.value) == text


def test_source():
    plain = "x = 1\ndef f(a): return a\n"
    assert of_source(plain) == of_source("# a comment\n\nx = 1  # one\n\n\ndef f( a ):\n    return a\n")
    others = [
        plain.replace(*change) for change in [("1", "1.0"), ("1", "True"), ("def f", "def g"), ("a)", "a=0)")]
    ]
    assert (
        len(
            {
                of_source(source)
                for source in [plain, *others, plain + "'doc'", "await x", "r'\\d'", "'\\\\d'"]
            }
        )
        == 8
    )
    assert of_source("'\\d'") == of_source(r"r'\d'")


class Notebook:
    """A namespace whose cells have sources, as in a kernel."""

    def __init__(self):
        self._module = types.ModuleType("__main__")
        self.names = vars(self._module)
        self._cells = 0

    def run(self, cell):
        self._cells += 1
        filename = f"<cell {id(self)} {self._cells}>"
        remember_source(filename, cell)
        sys.modules["__main__"] = self._module
        exec(compile(cell, filename, "exec"), self.names)
        return self

    def of(self, *names):
        sys.modules["__main__"] = self._module
        return of_capture(survey(names, self.names), self.names)


HELPERS = "OFFSET = 1\ndef helper(x): return x + OFFSET\nclass Thing:\n    def go(self): return helper(1)\n"


@pytest.fixture(autouse=True)
def main(monkeypatch):
    """The classes of a notebook are looked up in ``__main__``."""
    monkeypatch.setitem(sys.modules, "__main__", types.ModuleType("__main__"))


@pytest.mark.parametrize(
    ("cell", "same"),
    [
        ("", True),
        ("def helper(x):\n    # a comment\n\n    return x + OFFSET", True),
        ("def helper(x): return x - OFFSET", False),
        ("OFFSET = 2", False),
        ("OFFSET = 1.0", False),
        ("unread = 3", True),
        ("class Thing:\n    def go(self): return helper(2)\nthing = Thing()", False),
        ("thing.held = 1", False),
        ("import math as OFFSET", False),
    ],
)
def test_what_is_read_of_a_notebook(cell, same):
    before = Notebook().run(HELPERS + "thing = Thing()")
    after = Notebook().run(HELPERS + "thing = Thing()").run(cell)
    assert (before.of("thing") == after.of("thing")) is same


def test_instance_of_a_class_that_was_defined_again():
    notebook = Notebook().run("class Old: pass\nold = Old()").run("class Old: size = 1")
    with pytest.raises(FingerprintError, match="old holds a Old that is not the Old of now"):
        notebook.of("old")


def test_names_are_part_of_it():
    notebook = Notebook().run("a = b = [1]; c = [1]")
    assert notebook.of("a") != notebook.of("b")
    assert notebook.of("a", "b") != notebook.of("a", "c")


SCRIPT = """
import decimal, enum, re
from collections import Counter
from flash_nb.sdk.fingerprint import fingerprint
class Color(enum.Enum): RED = 1
words = {"alpha", "beta", "gamma", ("x", frozenset({"y", "z"}))}
values = [words, frozenset(words), {"k": words}, [decimal.Decimal(1), re.compile("a")], Counter("banana")]
try:
    import numpy, pandas
except ImportError:
    pass
else:
    values += [numpy.arange(3), pandas.DataFrame({"a": [1, 2], "b": ["x", "y"]})]
print(fingerprint(values), fingerprint({Color.RED, "x"}, portable=lambda obj: True))
"""


def test_the_same_in_every_process():
    printed = set()
    for seed in ("0", "4242"):
        environ = {**os.environ, "PYTHONHASHSEED": seed}
        ran = subprocess.run(
            [sys.executable, "-c", SCRIPT], env=environ, capture_output=True, text=True, check=True
        )
        printed.add(ran.stdout)
    assert len(printed) == 1
