"""The clause of a map: where it ends, what it binds, and what one sentence refuses."""

from __future__ import annotations

import contextlib
import traceback

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flash_nb.cells.clause import ClauseError, parse, split

LINES = {
    "x in xs": ("x in xs", ""),
    "  x in xs  ": ("x in xs", ""),
    "x in xs --max-parallel 8": ("x in xs", "--max-parallel 8"),
    "x in xs -r gpu --timeout 5": ("x in xs", "-r gpu --timeout 5"),
    "x in [a -b, '--name', \"-r c\"] --name n": ("x in [a -b, '--name', \"-r c\"]", "--name n"),
    "x in (f(y, k=1) for y in ys)": ("x in (f(y, k=1) for y in ys)", ""),
    "x in range(-r) --cpu c": ("x in range(-r)", "--cpu c"),
    "--gpu A x in xs": ("--gpu A x in xs", ""),
    "": ("", ""),
}


@pytest.mark.parametrize("line", LINES)
def test_split(line):
    assert split(line) == LINES[line]


ITEMS = {
    "x in xs": (3, {"x": 3}),
    "(a, b) in xs": ((1, 2), {"a": 1, "b": 2}),
    "a, b in xs": ("uv", {"a": "u", "b": "v"}),
    "n, (a, *rest) in xs": ((1, [2, 3, 4]), {"n": 1, "a": 2, "rest": [3, 4]}),
    "[a] in xs": ([None], {"a": None}),
}


@pytest.mark.parametrize("text", ITEMS)
def test_bind(text):
    item, names = ITEMS[text]
    assert parse(text).bind(item) == names


def test_an_item_that_cannot_be_unpacked():
    with pytest.raises(ValueError, match="not enough values"):
        parse("a, b in xs").bind([1])
    with pytest.raises(TypeError, match="cannot unpack"):
        parse("a, b in xs").bind(1)


REFUSED = {
    "": "say what each item is: x in xs",
    "xs": "'xs' is not like `x in xs`",
    "x of xs": "'x of xs' is not like `x in xs`",
    "x in": "'x in' is not like `x in xs`",
    "for x in xs": "'for x in xs' is not like `x in xs`",
    "x in xs for y in ys": "'x in xs for y in ys' is not like `x in xs`",
    "x in xs] + [0 for y in ys": "is not like `x in xs`",
    "() in xs": "gives the item no name",
    "x in xs if x": "filter the items",
    "x.a in xs": "x.a cannot name an item: give names, as in `a, b in pairs`",
    "x[0] in xs": "x[0] cannot name an item",
    "--gpu A x in xs": "'--gpu A x in xs' is not like `x in xs`",
}


@pytest.mark.parametrize("text", REFUSED)
def test_refused(text):
    with pytest.raises(ClauseError) as refused:
        parse(text)
    assert REFUSED[text] in str(refused.value)


def test_the_expression_stands_where_it_was_typed():
    line = "%%flash_map x in [1, missing]"
    code = parse("x in [1, missing]").compiled("<cell>", len("%%flash_map "))
    with pytest.raises(NameError) as raised:
        eval(code, {})
    place = traceback.extract_tb(raised.tb)[-1]
    assert (place.filename, place.lineno) == ("<cell>", 1)
    if getattr(place, "colno", None) is not None:  # since Python 3.11
        assert line[place.colno : place.end_colno] == "missing"


@pytest.mark.parametrize("text", ["x in await f()", "x in (yield)"])
def test_what_only_a_function_can_do(text):
    with pytest.raises(ClauseError, match="outside function; make the items in a cell before"):
        parse(text).compiled("<cell>", 12)


@given(st.text(alphabet="x in[](),.*'\"-r =1\n", max_size=40))
def test_any_line_is_split_and_parsed_or_refused(line):
    clause, options = split(line)
    assert clause + options in line.strip() or len(clause) + len(options) <= len(line)
    with contextlib.suppress(ClauseError):
        assert parse(clause).names
