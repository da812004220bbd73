"""``--cache``: what ran before is not run again, and looks and binds as if it had; what changed, runs."""

from __future__ import annotations

import re
import textwrap
from pathlib import Path

import pytest
from kernels import Engine, Kernel, Reply, started

# Each run of a cell on a worker leaves a line in the file `log`, which the tests count.
SETUP = """
import os
from flash_nb import CpuLiveServerless
from flash_nb.sdk.session import set_session
os.environ["FLASH_CACHE"] = {cache!r}
set_session(None)
cells = CpuLiveServerless(name="cells")
same = CpuLiveServerless(name="same", workersMax=1, idleTimeout=60)
other = CpuLiveServerless(name="other", env={{"MODE": "fast"}})
log = {log!r}
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("cached")


@pytest.fixture(scope="module", autouse=True)
def setup(kernel: Kernel, folder: Path) -> None:
    kernel.remote("pass").ok()  # the engine keeps its environments where it always does
    kernel.run(setup_of(folder)).ok()


def setup_of(folder: Path) -> str:
    return SETUP.format(cache=str(folder), log=str(folder / "log"))


class Cell:
    """A cell with ``--cache``, and how often it ran on a worker."""

    def __init__(self, kernel: Kernel, folder: Path, body: str) -> None:
        self._kernel = kernel
        self._log = folder / "log"
        self.body = f"open(log, 'a').write('ran\\n')\n{textwrap.dedent(body).strip()}"

    def run(self, options: str = "-r cells --cache", *, body: str = "") -> Reply:
        return self._kernel.remote(body or self.body, options)

    @property
    def runs(self) -> int:
        return self._log.read_text().count("ran") if self._log.exists() else 0


@pytest.fixture
def cell(kernel: Kernel, folder: Path, request: pytest.FixtureRequest) -> Cell:
    """A cell of this test alone."""
    (folder / "log").unlink(missing_ok=True)
    return Cell(kernel, folder, f"test = {request.node.name!r}")


LOUD = """
from IPython.display import HTML, display
import sys
print("first")
print("trouble", file=sys.stderr)
display(HTML("<b>bold</b>"))
print("last")
def twice(v): return v * 2
import statistics as st
xs.append(len(xs))
table = {"total": twice(len(xs)), "xs": xs}
del gone
table
"""


def test_a_hit_looks_and_binds_like_a_run(kernel: Kernel, engine: Engine, cell: Cell) -> None:
    cell.body += LOUD
    replies = []
    for _ in range(2):
        kernel.run("xs = [1, 2]; alias = xs; gone = 1").ok()
        replies.append(cell.run().ok())
        assert kernel.value("xs, alias is xs, table, twice(4), st.mean([1, 3])") == (
            [1, 2, 2],
            True,
            {"total": 6, "xs": [1, 2, 2]},
            8,
            2,
        )
        assert kernel.value("'gone' in globals(), table['xs'] is xs") == (False, False)
        kernel.run("del table, twice, st").ok()
    ran, reused = replies
    assert cell.runs == 1
    assert (ran.stdout, ran.stderr, ran.result) == (reused.stdout, reused.stderr, reused.result)
    assert reused.stdout == "first\nlast\n"
    assert reused.result == {"text/plain": "{'total': 6, 'xs': [1, 2, 2]}"}
    assert [shown.data for shown in ran.shown] == [shown.data for shown in reused.shown]
    assert "reused" not in ran.record
    assert ran.displays[0].data["text/html"].count("kept, ") == 1
    assert reused.record.startswith("✓ completed cell on cells · reused from ")
    assert " · saved " in reused.record
    assert "changed xs" in reused.record
    assert "not returned" not in reused.record
    assert "$" not in reused.record  # nobody knows what this machine costs
    assert reused.order[0] == "record"


def test_what_it_cost_is_said(cell: Cell) -> None:
    cell.run("--gpu ADA_24 --cache").ok()
    assert re.search(
        r"saved [\d.]+ m?s · \$[\d.–]+ simulated · ", cell.run("--gpu ADA_24 --cache").ok().record
    )


def test_a_hit_after_a_restart_needs_no_engine(
    kernel: Kernel, cell: Cell, folder: Path, tmp_path: Path
) -> None:
    define = "class Box:\n    def __init__(self, held): self.held = held\n"
    words = "words = {'one', 'two', 'three'}; box = Box(words)"
    cell.body += "\nn = len(box.held); longer = Box({*box.held, 'four'}); n"
    kernel.run(define + words).ok()
    cell.run().ok()
    with started(tmp_path) as later:
        later.run("%load_ext flash_nb").ok()
        later.run(setup_of(folder)).ok()
        later.run(f"os.environ['FLASH_HOME'] = {str(tmp_path / 'nobody')!r}").ok()
        later.run(define + words).ok()
        reply = later.remote(cell.body, "-r cells --cache").ok()
        assert "reused from" in reply.record
        assert reply.result == {"text/plain": "3"}
        assert later.value("n, type(longer) is Box, sorted(longer.held)") == (
            3,
            True,
            ["four", "one", "three", "two"],
        )
    assert not (tmp_path / "nobody").exists()
    assert cell.runs == 1


HELPERS = """
import numpy as np
LIMIT = 3
def helper(v):
    return sum(v) + LIMIT
values = [1, 2]
grid = np.arange(3)
"""

# name -> cell that runs here before, replacements in the body, options, hit
CHANGES = {
    "nothing": ("pass", {}, "-r cells --cache", True),
    "comment": ("pass", {"# here": "# there\n\n"}, "-r cells --cache", True),
    "comment in a helper": (
        "def helper(v):\n    # a comment\n    return sum(v) + LIMIT",
        {},
        "-r cells --cache",
        True,
    ),
    "unread name": ("unread = 5", {}, "-r cells --cache", True),
    "equal input": ("values = list(range(1, 3)); grid = np.array([0, 1, 2])", {}, "-r cells --cache", True),
    "name, scaling and timeout": ("pass", {}, "-r same --cache --timeout 50", True),
    "code": ("pass", {"total = 0": "total = 1"}, "-r cells --cache", False),
    "semicolon": ("pass", {"total  # here": "total;"}, "-r cells --cache", False),
    "helper": ("def helper(v): return sum(v) - LIMIT", {}, "-r cells --cache", False),
    "what a helper reads": ("LIMIT = 4", {}, "-r cells --cache", False),
    "input": ("values = [1, 3]", {}, "-r cells --cache", False),
    "type of an input": ("values = [1, 2.0]", {}, "-r cells --cache", False),
    "array": ("grid = np.array([0, 1, 3])", {}, "-r cells --cache", False),
    "dependency": ("pass", {}, "-r cells --cache --deps iniconfig==2.0.0", False),
    "resource class": ("pass", {}, "--cpu cpu5c-4-8 --cache", False),
    "variables": ("pass", {}, "-r other --cache", False),
    "outputs": ("pass", {}, "-r cells --cache --out total", False),
    "refresh": ("pass", {}, "-r cells --refresh", False),
    "without": ("pass", {}, "-r cells", False),
}


@pytest.mark.parametrize("name", CHANGES)
def test_what_changes_the_key(kernel: Kernel, cell: Cell, name: str) -> None:
    before, replaced, options, hit = CHANGES[name]
    body = f"{cell.body}\ntotal = 0\nfor v in (values, grid): total += int(helper(v))\nn = 1\ntotal  # here"
    kernel.run(HELPERS).ok()
    cell.run(body=body).ok()
    kernel.run(before).ok()
    for old, new in replaced.items():
        assert old in body
        body = body.replace(old, new)
    reply = cell.run(options, body=body).ok()
    assert ("reused from" in reply.record) is hit
    assert cell.runs == (1 if hit else 2)


def test_refresh_replaces(kernel: Kernel, cell: Cell) -> None:
    cell.body += "\nimport secrets\ntoken = secrets.token_hex()"
    tokens = []
    for options in ("--cache", "--cache", "--refresh", "--cache"):
        cell.run(f"-r cells {options}").ok()
        tokens.append(kernel.value("token"))
    assert tokens[0] == tokens[1] != tokens[2] == tokens[3]
    assert cell.runs == 2


def test_a_failure_is_not_kept(kernel: Kernel, cell: Cell) -> None:
    cell.body += "\nearly = 1\n1 / 0"
    for runs in (1, 2):
        reply = cell.run()
        assert (reply.ename, cell.runs) == ("ZeroDivisionError", runs)
        assert "kept, " not in reply.displays[0].data["text/html"]


def test_detached(kernel: Kernel, cell: Cell) -> None:
    cell.body += "\nlate = 5"
    cell.run("-r cells --cache --detach").ok()
    kernel.run("assert late == 5").ok()  # it waits
    kernel.run("del late").ok()
    assert "reused from" in cell.run("-r cells --cache --detach").ok().record
    assert (kernel.value("late"), cell.runs) == (5, 1)


# name -> local cell, what the record says
UNCACHEABLE = {
    "lambda": ("tool = lambda x: x", "not cached: tool holds a lambda: give it a name with def"),
    "in a list": ("tool = [len, lambda x: x]", "not cached: tool[1] holds a lambda"),
    "closure": (
        "def outer():\n    def inner(): return 1\n    return inner\ntool = outer()",
        "not cached: tool holds outer.inner, which was made inside a function",
    ),
    "class of before": (
        "class Old: pass\ntool = Old()\nclass Old: size = 1",
        "not cached: tool holds a Old that is not the Old of now",
    ),
}


@pytest.mark.parametrize("name", UNCACHEABLE)
def test_what_cannot_be_cached_runs_and_says_why(kernel: Kernel, cell: Cell, name: str) -> None:
    before, text = UNCACHEABLE[name]
    cell.body += "\nn = str(type(tool))"
    kernel.run(before).ok()
    for runs in (1, 2):
        reply = cell.run().ok()
        assert cell.runs == runs
        assert text in reply.record


def test_a_damaged_result_runs_again(kernel: Kernel, cell: Cell, folder: Path) -> None:
    kernel.run("%flash cache clear").ok()
    cell.run().ok()
    (file,) = (folder / "results").iterdir()
    file.write_bytes(file.read_bytes()[:-3])
    reply = cell.run().ok()
    assert reply.stderr.startswith("flash_nb: the result ")
    assert "was damaged: it is deleted, and the cell runs.\n" in reply.stderr
    assert "reused from" in cell.run().ok().record
    assert cell.runs == 2


def test_what_others_may_write_is_not_read(kernel: Kernel, cell: Cell, folder: Path) -> None:
    cell.run().ok()
    (folder / "results").chmod(0o777)
    try:
        reply = cell.run().ok()
    finally:
        (folder / "results").chmod(0o700)
    assert "not cached: others may write to the cache" in reply.record
    assert str(folder) not in str(reply)
    assert cell.runs == 2


def test_long_output_is_cut(kernel: Kernel, cell: Cell) -> None:
    cell.body += "\nfor _ in range(300): print('x' * 9_999)"
    assert len(cell.run().ok().stdout) == 3_000_000
    reused = cell.run().ok().stdout
    assert 1_000_000 < len(reused) < 1_000_100
    assert reused.endswith("\n… the rest of what it printed was not kept\n")


def test_the_commands(kernel: Kernel, cell: Cell, folder: Path) -> None:
    kernel.run("%flash cache clear").ok()
    assert kernel.run("%flash cache").ok().stdout.startswith("No results are kept (")
    cell.run().ok()
    assert kernel.run("%flash cache").ok().stdout.startswith("1 result, ")
    assert kernel.run("%flash cache clear").ok().stdout.startswith("Deleted 1 result, ")
    assert [*(folder / "results").iterdir()] == []
    cell.run().ok()
    assert cell.runs == 2
