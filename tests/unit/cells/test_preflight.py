"""What a cell's text tells: missing names, forgotten awaits, written secrets, imports."""

from __future__ import annotations

import contextlib
import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flash_nb.cells.finding import CODES, Finding, Severity, counted, in_order, refuse
from flash_nb.cells.plan import plan_cell
from flash_nb.cells.preflight import (
    Around,
    binds_unseen,
    check_text,
    import_lines,
    imported_names,
)
from flash_nb.cells.syntax import parse
from flash_nb.errors import (
    CellError,
    PayloadTooLargeError,
    PreflightError,
    SerializationError,
    UndefinedNameError,
)

KEY = "ghp_" + "a" * 36
AROUND = Around(frozenset({"f", "data", "treshold"}), frozenset({"f"}), {"later": "cell 7"})


def findings(source, around=AROUND, **options):
    return in_order(check_text(parse(source), plan_cell(source, around.names), around, **options))


# source -> the message and the fix of its only finding, at line 2
FOUND = {
    "x = threshold": (
        "threshold is not defined; did you mean 'treshold'?",
        "define it in the notebook or in this cell",
    ),
    "later.x": ("later is only defined in cell 7, below this one", "move that cell up"),
    "f(1)": ("f(…) is not awaited: it never runs", "write await f(…)"),
    "f(1).output": ("f(…) is not awaited: a coroutine has no .output", "write await f(…)"),
    "f(1)[0]": ("f(…) is not awaited: a coroutine has no items", "write await f(…)"),
    "1 + f(1)": ("f(…) is not awaited: a coroutine is not its result", "write await f(…)"),
    "x = 1; x += f(1)": ("f(…) is not awaited: a coroutine is not its result", "write await f(…)"),
    "-f(1)": ("f(…) is not awaited: a coroutine is not its result", "write await f(…)"),
    "f(1) == 2": ("f(…) is not awaited: a coroutine is not its result", "write await f(…)"),
    "if f(1): pass": ("f(…) is not awaited: a coroutine is always true", "write await f(…)"),
    "while f(1): pass": ("f(…) is not awaited: a coroutine is always true", "write await f(…)"),
    "for n in f(1): pass": ("f(…) is not awaited: a coroutine has no items", "write await f(…)"),
    "[n for n in f(1)]": ("f(…) is not awaited: a coroutine has no items", "write await f(…)"),
    "print(f'{f(1)}')": ("f(…) is not awaited: the text would show the coroutine", "write await f(…)"),
    "y = f(1)\nprint(y.output)": ("f(…) is not awaited: a coroutine has no .output", "write await f(…)"),
    "def g(): f(1)": ("f(…) is not awaited: it never runs", "write await f(…), in async def g"),
    "async def g(): f(1)": ("f(…) is not awaited: it never runs", "write await f(…)"),
    "async def g(): pass\ng": None,
    "import asyncio; asyncio.sleep(1)": (
        "asyncio.sleep(…) is not awaited: it never runs",
        "write await asyncio.sleep(…)",
    ),
    f"key = '{KEY}'": (
        "key looks like a GitHub token, and stands in the notebook",
        "give it to the resource, env={…}, and read it from os.environ; or --allow-secret key",
    ),
    f"dict(auth='{KEY}')": (
        "auth looks like a GitHub token, and stands in the notebook",
        "give it to the resource, env={…}, and read it from os.environ; or --allow-secret auth",
    ),
    f"data['TOK'] = '{KEY}'": (
        "TOK looks like a GitHub token, and stands in the notebook",
        "give it to the resource, env={…}, and read it from os.environ; or --allow-secret TOK",
    ),
    f"print('{KEY}')": (
        "a text looks like a GitHub token, and stands in the notebook",
        "give it to the resource, env={…}, and read it from os.environ",
    ),
}


@pytest.mark.parametrize("source", FOUND)
def test_found(source):
    found = findings("\n" + source)
    expected = FOUND[source]
    assert [(each.message, each.fix, each.line) for each in found] == ([(*expected, 2)] if expected else [])
    for each in found:
        assert KEY[:8] not in str(each)


NOT_FOUND = [
    "await f(1)",
    "(await f(1)).output",
    "y = f(1)",
    "import asyncio\ny = f(1)\nz = f(2)\nawait asyncio.gather(y, z)",
    "y = f(1)\n(await y).output",
    "y = f(1)\ny = await y\ny.output",
    "y = f(1)\ny.close()",
    "y = f(1)\ny",
    "[f(n) for n in range(3)]",
    "print(f(1))",
    "lambda: f(1)",
    "def g(): return f(1)",
    "def f(x): return x\nf(1)\nf(1)[0]",
    "for f in [print]: f(1)",
    "def g(f): f(1)",
    "f(1) is None",
    "f.submit(1)",
    "f.submit(1).id",
    "async def g():\n    yield 1\ng()[0]",
    "import functools\n@functools.cache\nasync def g(): pass\ng()",
    "async def g(): pass\ng = print\ng(1)",
    "async for n in f(1): pass",
    "import asyncio\nasyncio.run(f(1))",
    "key = 'sk-learn'",
]


@pytest.mark.parametrize("source", NOT_FOUND)
def test_not_found(source):
    assert findings(source) == ()


def test_an_allowed_secret_is_not_found():
    assert findings(f"key = '{KEY}'", allowed=("key",)) == ()
    assert [each.severity for each in findings(f"print('{KEY}')")] == [Severity.WARNING]


def test_all_of_several_in_the_order_of_their_lines():
    found = findings("f(1)\nx = nowhere\nf(2)[0]\nnowhere\nelsewhere")
    assert [(each.line, each.code) for each in found] == [
        (1, "await"),
        (2, "undefined"),
        (3, "await"),
        (5, "undefined"),
    ]


def test_imports_and_their_lines():
    tree = parse("import a.b, c as d\ndef f():\n    from e.f import g as h\nimport c\nfrom . import i\n")
    assert import_lines(tree) == {"a.b": 1, "c": 1, "e.f": 3}
    assert imported_names(tree) == {"a": "a.b", "d": "c", "h": "e.f", "c": "c"}


@pytest.mark.parametrize(
    ("source", "expected"),
    [("x = 1", False), ("from os import *", True), ("exec('x = 1')", True), ("globals()['x'] = 1", True)],
)
def test_what_can_bind_names_that_the_text_does_not_show(source, expected):
    assert binds_unseen(parse(source)) is expected


# Pieces of cells, joined at random, beside any text at all.
PIECES = st.sampled_from(
    """f(1)|y = f(1)|y.x|await y|async def g():|    f(2)|def h(f):|    return f(3)|for n in f(1):|    n
    if f(1): pass|f'{f(1)}'|x: int = f(1)|k = {**data, 'a': 'sk-x'}|import a.b as c|from . import d|del y
    [q async for q in f(1)]|class C:|match f(1):|    case [*y]: pass|with f(1) as y:|try:|except f(1) as y:
    lambda *f: f(1)|y[f(1)] = 2""".replace("\n    ", "|").split("|")
)


@given(st.one_of(st.text(), st.lists(PIECES, max_size=12).map("\n".join)))
def test_no_text_is_too_odd(source):
    with contextlib.suppress(SyntaxError, ValueError):
        for each in findings(source):
            assert 1 <= each.line <= source.count("\n") + 1
            assert each.code in CODES
            assert each.message
            assert each.fix


# --- findings ------------------------------------------------------------------------------------


def finding(code="undefined", line=1, severity=Severity.ERROR):
    return Finding(code, line, f"{code} it is", "mend it", severity)


@pytest.mark.parametrize(
    ("codes", "kind"),
    [
        (["undefined"], UndefinedNameError),
        (["undefined", "below"], UndefinedNameError),
        (["lock", "socket"], SerializationError),
        (["too-large"], PayloadTooLargeError),
        (["secret", "import"], CellError),
        (["undefined", "lock"], PreflightError),
    ],
)
def test_one_sort_raises_its_own_error_and_several_a_preflight_error(codes, kind):
    found = [finding(code, line) for line, code in enumerate(codes, 1)]
    with pytest.raises(kind) as raised:
        refuse(found)
    assert type(raised.value) is kind
    for each in found:
        assert each.message in str(raised.value)
    assert "othing was sent" in str(raised.value)


def test_one_finding_is_a_sentence_and_several_are_a_list():
    with pytest.raises(UndefinedNameError) as one:
        refuse([finding(line=3)])
    assert str(one.value) == "Line 3: undefined it is.\nMend it. Nothing was sent."
    found = [finding("lock", 2), finding("import", 3, Severity.WARNING), finding("undefined", 4)]
    with pytest.raises(PreflightError) as several:
        refuse(found)
    assert str(several.value) == (
        "The cell has 2 errors and 1 warning:\n"
        "  line 2: lock it is – mend it\n"
        "  line 3: warning: import it is – mend it\n"
        "  line 4: undefined it is – mend it\n"
        "Nothing was sent."
    )
    assert several.value.findings == tuple(found)


def test_warnings_refuse_nothing():
    refuse([finding(severity=Severity.WARNING)])
    assert counted([]) == "no errors"


def test_every_code_raises_an_error_of_ours():
    for code in CODES:
        with pytest.raises((CellError, SerializationError)):
            refuse([finding(code)])


def test_order_keeps_what_belongs_to_one_line_together():
    found = [finding("lock", 2), finding("undefined", 1), finding("secret", 2), finding("lock", 2)]
    assert [each.code for each in in_order(found)] == ["undefined", "lock", "secret"]
    for permuted in itertools.permutations(found):
        assert [each.line for each in in_order(permuted)] == [1, 2, 2]
