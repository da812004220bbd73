"""A whole notebook's preflight: cell by cell, from the text, with what the cells above leave behind."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flash_nb.sdk.check import Cell, check_notebook

REMOTE = "%%flash_remote\n"
SETUP = "from flash_nb import CpuLiveServerless, remote\nw = CpuLiveServerless(name='w')"
G = SETUP + "\n@remote(w)\nasync def g(x):\n    return x"


def found(*sources, **options):
    cells = [source if isinstance(source, Cell) else Cell(n, source) for n, source in enumerate(sources, 1)]
    return [
        (each.cell.number, each.finding.line, each.finding.code, each.finding.severity.value)
        for each in check_notebook(cells, **options)
    ]


CLEAN = {
    "names from above": ("a = 1", "def f():\n    return a", REMOTE + "b = f() + a", "b"),
    "defined in itself": (REMOTE + "a = 1\na",),
    "remote outputs": (REMOTE + "a = b = 1", "a, b"),
    "IPython's own": ("In, Out, _, __, _i, _12, _i3, get_ipython(), display, exit",),
    "magics": ("%matplotlib inline\nx = !ls\n%time y = 3\n!ls {x}\nprint?", "x, y"),
    "a magic of several lines": ("!ls \\\n  a\nz = 1\nz",),
    "cell magics in Python": ("%%time\nx = 1", "\n\n%%capture out\ny = 2", "x, y"),
    "another language": ("%%bash\nls $(nowhere)", "x = 1"),
    "after an unknown cell magic": ("%%sql res\nselect 1", "res"),
    "after an unknown line magic": ("%run other.py", "whatever"),
    "after a star import": ("from os import *", "whatever"),
    "after globals()": ("globals()['x'] = 1", "x"),
    "a cell that may fail later": ("def f():\n    return later", "later = 1", "f()"),
    "a comment above the magic": ("# first\n" + REMOTE + "a = 1", "a"),
    "defined and called": (G, "a = await g(1)\na.output"),
    "remote functions by the magic": (REMOTE + "def h(x):\n    return x", "(await h(1)).output"),
    "a function that reads what comes later": (
        SETUP + "\n@remote(w)\ndef f():\n    return later",
        "later = 1",
    ),
    "strict and all inside": (SETUP + "\n@remote(w, strict=True)\ndef f(x):\n    import math\n    return x",),
    "redefined as a plain function": (G, "def g(x):\n    return x", "g(1)"),
    "an allowed secret": ("API_KEY = input()", "%%flash_remote --allow-secret API_KEY\nAPI_KEY"),
    "an imported name like a secret": ("import secrets\nfrom a import token as password", REMOTE + "secrets"),
    "a function with a name like a secret": ("def get_password():\n    pass", REMOTE + "get_password()"),
    "torch on a GPU": ("%%flash_remote --gpu ADA_24\nimport torch",),
    "help, and a resource": ("%%flash_remote?", SETUP, "%%flash_remote -r w --allow-apt\n1"),
    "a resource that was chosen": (
        "%flash use --gpu ADA_24 --workers 0:2 train",
        "train",
        "%flash use --cpu cpu5c-4-8",
        "resource",
        "%flash pick picked",
        "%%flash_remote -r picked\n1",
    ),
    "a map": ("xs = [1]", "%%flash_map (a, b) in enumerate(xs) --max-parallel 2\ny = a * b", "y"),
    "a map that defines": ("%%flash_map x in range(3)\ndef f():\n    return x",),
    "hardware": ("%%flash_remote --gpu ADA_24 --gpu AMPERE_80\n1", "%%flash_remote --cpu cpu5c-4-8\n1"),
    "empty": ("", "  \n\n", REMOTE),
}


@pytest.mark.parametrize("name", CLEAN)
def test_clean(name):
    assert found(*CLEAN[name]) == []


BAD = {
    "undefined": (("x = 1\nnowhere",), [(1, 2, "undefined", "error")]),
    "below": (("later", "later = 1"), [(1, 1, "below", "error")]),
    "below, of a remote cell": ((REMOTE + "later", "later = 1"), [(1, 2, "below", "error")]),
    "only some come back": (
        ("%%flash_remote --out a\na = b = 1", "a\nb"),
        [(2, 2, "undefined", "error")],
    ),
    "--in of nothing": (("%%flash_remote --in nothing\n1",), [(1, 1, "undefined", "error")]),
    "an option": (("# why\n%%flash_remote --gup A\nx",), [(1, 2, "option", "error")]),
    "a GPU": (("%%flash_remote --gpu AMPER_80\n1",), [(1, 1, "option", "error")]),
    "a CPU": (("%%flash_remote --cpu cpu9z\n1",), [(1, 1, "option", "error")]),
    "a resource": (("%%flash_remote -r nothing\n1",), [(1, 1, "undefined", "error")]),
    "a map's items": (("%%flash_map x in nothing\ny = x",), [(1, 1, "undefined", "error")]),
    "a map's item, below": (("%%flash_map x in [1]\ny = x", "x"), [(2, 1, "undefined", "error")]),
    "a map's cell": (("%%flash_map x in [1]\ny = x + nowhere",), [(1, 2, "undefined", "error")]),
    "a map's clause": (("%%flash_map x of xs\ny = x",), [(1, 1, "option", "error")]),
    "a requirement": (("%%flash_remote --deps 'a b c'\n1",), [(1, 1, "option", "error")]),
    "a magic": ((REMOTE + "x = 1\n%cd /tmp",), [(1, 3, "magic", "error")]),
    "syntax": (("x = 1\ny = (2",), [(1, 2, "syntax", "error")]),
    "syntax of a remote cell": ((REMOTE + "x = 1\ny = (2",), [(1, 3, "syntax", "error")]),
    "null bytes": (("x = '\0'",), [(1, 1, "syntax", "error")]),
    "await": ((G, "out = g(1)\nout.output"), [(2, 1, "await", "error")]),
    "await of the magic's function": (
        (REMOTE + "def h(x):\n    return x", "h(1)"),
        [(2, 1, "await", "error")],
    ),
    "a remote function on a worker": ((G, REMOTE + "\nx = g"), [(2, 3, "remote", "error")]),
    "a secret by its name": (("API_KEY = input()", REMOTE + "API_KEY"), [(2, 2, "secret", "error")]),
    "a secret in a cell": ((f"k = 'ghp_{'a' * 36}'",), [(1, 1, "secret", "warning")]),
    "a secret in a remote cell": ((f"{REMOTE}k = 'ghp_{'a' * 36}'",), [(1, 2, "secret", "error")]),
    "strict": (
        ("import numpy as np", SETUP + "\n@remote(w, strict=True)\ndef f(x):\n    return np.sum(x)"),
        [(2, 5, "scope", "error")],
    ),
    "a remote function that cannot end well": (
        (SETUP + "\n@remote(w)\ndef f(x):\n    return nowhere(x)",),
        [(1, 5, "undefined", "error")],
    ),
    "a remote method": (
        (SETUP + "\n@remote(w)\nclass M:\n    def run(self):\n        return nowhere",),
        [(1, 6, "undefined", "error")],
    ),
    "an import": ((REMOTE + "import no_such_thing_here",), [(1, 2, "import", "warning")]),
    "an import of another cell": (
        ("import no_such_thing_here as n", REMOTE + "\nn.x"),
        [(2, 3, "import", "warning")],
    ),
}


@pytest.mark.parametrize("name", BAD)
def test_bad(name):
    sources, expected = BAD[name]
    assert found(*sources) == expected


def test_after_a_cell_that_cannot_be_read_names_are_not_judged():
    assert [code for _, _, code, _ in found("y = (2", "y")] == ["syntax"]
    function = SETUP + "\n@remote(w)\ndef f(x):\n    return y"
    assert [code for _, _, code, _ in found(function, "y = (2")] == ["syntax"]


def test_a_cell_that_may_fail_only_warns():
    assert found(Cell(4, "nowhere", "id", may_fail=True)) == [(4, 1, "undefined", "warning")]


def test_a_module_beside_the_notebook_is_not_imported(tmp_path):
    (tmp_path / "beside.py").write_text("raise SystemExit('imported')")
    assert found(REMOTE + "import beside", folder=tmp_path) == []  # it travels
    (tmp_path / "beside.py").write_text("raise SystemExit(")
    assert found(REMOTE + "\nimport beside", folder=tmp_path) == [(1, 3, "import", "error")]
    assert found("import beside", "beside.x", folder=tmp_path) == []


def test_the_values_of_a_running_notebook():
    namespace = {"g": (n for n in range(3)), "password": 3, "__name__": "__main__"}
    cells = ["g = (n for n in range(3))\npassword = 3", REMOTE + "\nlist(g), password"]
    assert found(*cells, namespace=namespace) == [(2, 3, "generator", "error")]
    assert found(*cells) == [(2, 3, "secret", "error")]  # the text does not tell
    assert found(cells[1], namespace=namespace, known=namespace) == [(1, 3, "generator", "error")]


PIECES = st.lists(
    st.sampled_from(
        """%%flash_remote|%%time|%%sql|# note||%cd x|!ls|x = !ls|y = x|f?|x|%time x = 1|@remote(w)|y = (|'''
        @remote(w, strict=True)|def f(a): return b|class C:|    def m(self): x|f(1)|await f(1)|import json
        from os import *|API_KEY""".replace("\n        ", "|").split("|")
    ),
    max_size=8,
).map("\n".join)


@given(st.lists(st.one_of(st.text(), PIECES), max_size=4))
def test_no_notebook_is_too_odd(sources):
    for number, line, code, severity in found(*sources):
        assert 1 <= number <= len(sources)
        assert line >= 1
        assert code
        assert severity in {"error", "warning"}
