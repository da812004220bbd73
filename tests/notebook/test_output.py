"""What a cell prints and shows appears under it, as if it had run here."""

from __future__ import annotations

from pathlib import Path

import pytest
from kernels import Kernel

# name -> remote cell, the text/plain of its result (None: no result), other types in its bundle
RESULTS = {
    "int": ("1 + 1", "2", set()),
    "str": ("'text'", "'text'", set()),
    "none": ("None", None, set()),
    "semicolon": ("1 + 1;", None, set()),
    "semicolon and comment": ("1 + 1;  # quiet", None, set()),
    "semicolon in a comment": ("1 + 1  # loud;", "2", set()),
    "semicolon in a string": ("'a;'", "'a;'", set()),
    "assignment": ("v = 3", None, set()),
    "statement after it": ("4\nv = 3", None, set()),
    "await": ("import asyncio\nawait asyncio.sleep(0, 5)", "5", set()),
    "comment below": ("6\n# the end\n", "6", set()),
    "frame": ("import pandas as pd\npd.DataFrame({'x': [1]})", "   x\n0  1", {"text/html"}),
    "own repr": (
        "class T:\n    def _repr_html_(self): return '<i>t</i>'\n    def __repr__(self): return 'T'\nT()",
        "T",
        {"text/html"},
    ),
    "HTML": (
        "from IPython.display import HTML\nHTML('<b>x</b>')",
        "<IPython.core.display.HTML object>",
        {"text/html"},
    ),
}


@pytest.mark.parametrize("name", RESULTS)
def test_last_expression(kernel: Kernel, name: str) -> None:
    cell, text, types = RESULTS[name]
    reply = kernel.remote(cell).ok()
    if text is None:
        assert reply.result is None
    else:
        assert reply.result is not None
        assert reply.result["text/plain"] == text
        assert types <= set(reply.result)
    assert reply.shown == []


def test_result_is_not_the_value_here(kernel: Kernel) -> None:
    kernel.remote("40 + 2").ok()
    assert kernel.value("_") == 42


def test_display(kernel: Kernel) -> None:
    reply = kernel.remote(
        """
        from IPython.display import HTML, Markdown, display as show
        print("before")
        display(HTML("<b>one</b>"))
        print("between")
        show(Markdown("*two*"), "three")
        """
    ).ok()
    assert [set(shown.data) for shown in reply.shown] == [
        {"text/html", "text/plain"},
        {"text/markdown", "text/plain"},
        {"text/plain"},
    ]
    assert reply.order == ["record", "stdout", "display", "stdout", "display", "display"]


def test_update_display(kernel: Kernel) -> None:
    reply = kernel.remote(
        """
        from IPython.display import display, update_display
        handle = display("a", display_id=True)
        display("x", display_id="mine")
        handle.update("b")
        update_display("y", display_id="mine")
        """
    ).ok()
    assert [(shown.text, shown.updates) for shown in reply.shown] == [("'b'", 1), ("'y'", 1)]
    assert "completed" in reply.record


def test_clear_output(kernel: Kernel) -> None:
    reply = kernel.remote(
        """
        from IPython.display import clear_output
        for n in range(3):
            clear_output(wait=True)
            print("step", n)
        """
    ).ok()
    assert reply.stdout == "step 2\n"
    assert "completed" in reply.record  # the record outlives what it stands above


FIGURES = {
    "left open": "plt.plot([1, 2])",
    "left open, quiet": "plt.plot([1, 2]);",
    "shown": "plt.plot([1, 2])\nplt.show()",
    "shown by itself": "figure, axes = plt.subplots()\naxes.plot([1, 2])\nfigure.show()",
    "two": "plt.plot([1])\nplt.show()\nplt.plot([2])\nplt.show()",
    "last expression": "figure, axes = plt.subplots()\nfigure",
    "displayed and closed": "figure, axes = plt.subplots()\ndisplay(figure)\nplt.close(figure)",
}


@pytest.mark.parametrize("name", FIGURES)
def test_figures_appear_once(kernel: Kernel, name: str) -> None:
    reply = kernel.remote("import matplotlib.pyplot as plt\n" + FIGURES[name]).ok()
    pictures = [bundle.data for bundle in reply.shown] + [reply.result or {}]
    assert sum("image/png" in bundle for bundle in pictures) == (
        2 if name in {"two", "last expression"} else 1
    )


def test_streams_are_live(kernel: Kernel, tmp_path: Path) -> None:
    flag = tmp_path / "go"
    reply = kernel.start(
        f"""%%flash_remote
        import pathlib, sys, time
        print("first")
        print("oops", file=sys.stderr)
        while not pathlib.Path({str(flag)!r}).exists():
            time.sleep(0.01)
        print("second")""".replace("\n        ", "\n")
    )
    kernel.wait(reply, until=lambda r: r.stdout == "first\n" and r.stderr == "oops\n")
    assert not reply.done
    flag.touch()
    kernel.wait(reply).ok()
    assert (reply.stdout, reply.stderr) == ("first\nsecond\n", "oops\n")


def test_record_is_live(kernel: Kernel, tmp_path: Path) -> None:
    flag = tmp_path / "go"
    cell = f"import pathlib, time\nwhile not pathlib.Path({str(flag)!r}).exists(): time.sleep(0.01)"
    reply = kernel.start(f"%%flash_remote\n{cell}")
    kernel.wait(reply, until=lambda r: "running" in r.record)
    flag.touch()
    kernel.wait(reply).ok()
    assert "✓ completed" in reply.record
    assert reply.displays[0].data["text/html"].startswith("<div")


def test_tqdm(kernel: Kernel) -> None:
    reply = kernel.remote(
        """
        from tqdm import tqdm
        total = sum(tqdm(range(200), desc="bar"))
        """
    ).ok()
    assert "\r" in reply.stderr
    assert "200/200" in reply.stderr.rpartition("\r")[2]
    assert kernel.value("total") == 19900


def test_tqdm_auto_falls_back_to_text(kernel: Kernel) -> None:
    reply = kernel.remote("from tqdm.auto import tqdm\nfor _ in tqdm(range(3)): pass").ok()
    assert "3/3" in reply.stderr


def test_carriage_returns_survive(kernel: Kernel) -> None:
    assert kernel.remote("print('10%', end='\\r'); print('20%')").ok().stdout in {"10%\r20%\n", "20%\n"}


def test_shell_lines(kernel: Kernel) -> None:
    kernel.run("who = 'world'").ok()
    reply = kernel.remote(
        "print('a', flush=True)\n!echo hello {who}\nlines = !printf 'x\\ny\\n'\nprint(lines)"
    ).ok()
    assert reply.stdout == "a\nhello world\n['x', 'y']\n"
    assert kernel.value("list(lines)") == ["x", "y"]


def test_shell_line_that_fails(kernel: Kernel) -> None:
    reply = kernel.remote("!echo to-stderr >&2; exit 3\nprint(_exit_code)").ok()
    assert (reply.stdout, reply.stderr) == ("3\n", "to-stderr\n")


def test_child_processes(kernel: Kernel) -> None:
    reply = kernel.remote(
        """
        import os, subprocess, sys
        print("one")
        sys.stdout.flush()
        subprocess.run(["echo", "two"], check=True)
        print("three", flush=True)
        os.system("echo four >&2")
        """
    ).ok()
    assert (reply.stdout, reply.stderr) == ("one\ntwo\nthree\n", "four\n")


def test_order(kernel: Kernel) -> None:
    reply = kernel.remote("print(1)\ndisplay(2)\nprint(3)\ndisplay(4)\n5").ok()
    assert reply.order == ["record", "stdout", "display", "stdout", "display", "result"]


def test_a_lot_of_text(kernel: Kernel) -> None:
    reply = kernel.remote("for n in range(20_000): print(n)").ok()
    assert reply.stdout.splitlines() == [str(n) for n in range(20_000)]


def test_threads_print_too(kernel: Kernel) -> None:
    cell = "import threading\nt = threading.Thread(target=print, args=['from a thread'])\nt.start(); t.join()"
    assert kernel.remote(f"{cell}\ndel t").ok().stdout == "from a thread\n"


def test_logging_and_warnings(kernel: Kernel) -> None:
    reply = kernel.remote("import logging, warnings\nlogging.warning('careful')\nwarnings.warn('old')").ok()
    assert "WARNING:root:careful" in reply.stderr
    assert "UserWarning: old" in reply.stderr


def test_capture_magic(kernel: Kernel) -> None:
    kernel.run("%%capture caught\nget_ipython().run_cell_magic('flash_remote', '', 'print(1)')").ok()
    assert kernel.value("caught.stdout") == "1\n"


def test_pip_line_becomes_a_dependency(kernel: Kernel) -> None:
    kernel.run("import importlib.util; here = importlib.util.find_spec('toolz') is not None").ok()
    reply = kernel.remote("%pip install -q toolz\nimport toolz as tz\nn = tz.count('abc')\ndel tz").ok()
    assert kernel.value("n, here") == (3, False)
    assert "toolz" in reply.displays[0].data["text/html"]


def test_other_magics_are_refused(kernel: Kernel) -> None:
    reply = kernel.remote("x = 1\n%timeit x + 1")
    assert reply.ename == "UnsupportedMagicError"
    assert "Line 3, '%timeit x + 1'" in reply.traceback
    assert reply.displays == []


def test_input_is_refused_with_a_reason(kernel: Kernel) -> None:
    reply = kernel.remote("input('name? ')")
    assert reply.ename == "EOFError"
    assert "cannot ask for input" in reply.evalue
