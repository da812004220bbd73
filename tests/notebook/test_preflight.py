"""Preflight in a real kernel: everything that stands against a cell at once, and nothing is sent."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import nbformat
import pytest
from kernels import Kernel

KEY = "ghp_" + "a1" * 18

SETUP = """
import asyncio, socket, sys, threading
import numpy as np
from flash_nb import CpuLiveServerless, remote
lock = {"db": [threading.Lock()]}
connection = socket.socket()
written = open("written", "w")
read = open("written")
numbers = (n for n in range(3))
big = np.zeros(1_200_000)
class Net: pass
net = Net()
class Net: pass
async def slow(x): return x
def helper(): return lock
class Tensor:
    device = "cuda:0"
    def cpu(self): return self
Tensor.__module__ = "torch"  # there is no GPU here
tensor = Tensor()
password = "hunter2"
token = "walk"
tokens, token_count, monkey = ["a"], 3, "m"
bytecode = lambda: 1
@remote(CpuLiveServerless(name="w"))
def far(): return 1
"""

# name -> cell, options, error, what it says
ERRORS = {
    "undefined": ("\nnumbrs = 1\nprint(nmbrs)", "", "UndefinedNameError", "Line 4: nmbrs is not defined"),
    "lock": ("lock", "", "SerializationError", "Line 2: lock['db'][0] cannot be sent: _thread.lock objects"),
    "lock of a helper": ("\nhelper()", "", "SerializationError", "Line 3: lock['db'][0] (read by helper)"),
    "socket": ("connection", "", "SerializationError", "Line 2: connection cannot be sent"),
    "file": ("written", "", "SerializationError", "Line 2: written cannot be sent"),
    "generator": ("numbers", "", "SerializationError", "Send a list of its items: list(…)."),
    "gpu": ("tensor", "", "SerializationError", "tensor lives on a GPU of this machine (cuda:0)"),
    "too large": ("big", "", "PayloadTooLargeError", "big 12.2 MB"),
    "import": ("import beside", "", "CellError", "beside.py cannot be read (line 1)"),
    "requirement": ("1", "--deps 'a b c'", "CellError", "Line 1: 'a b c' is not a requirement"),
    "await": ("\nx = slow(1)[0]", "", "CellError", "Line 3: slow(…) is not awaited"),
    "remote": ("far()", "", "CellError", "Line 2: far is a remote function"),
    "secret": ("password", "", "CellError", "Line 2: password has the name of a secret."),
    "secret in the text": (f"key = '{KEY}'", "", "CellError", "Line 2: key looks like a GitHub token"),
    "--in": ("1", "--in nothing", "UndefinedNameError", "Line 1: --in names 'nothing'"),
    "in a cell that only defines": (
        "def f(x=nowhere): pass",
        "",
        "UndefinedNameError",
        "Line 2: nowhere is not defined",
    ),
}


@pytest.fixture(scope="module")
def home() -> Iterator[Path]:
    """Return where an engine of this module's kernel would be, and end it if there is one."""
    folder = Path(tempfile.mkdtemp(prefix="fnb-"))
    yield folder
    stop = [sys.executable, "-m", "flash_nb", "engine", "stop"]
    subprocess.run(stop, env={**os.environ, "FLASH_HOME": str(folder)}, capture_output=True, check=False)
    shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture(scope="module")
def prepared(kernel: Kernel, home: Path) -> Kernel:
    """Return a kernel that has not run a remote cell; only the last tests of this file do."""
    folder = Path(kernel.value("__import__('os').getcwd()"))
    (folder / "beside.py").write_text("x =")
    kernel.run(f"import os\nos.environ['FLASH_HOME'] = {str(home)!r}\n{SETUP}").ok()
    return kernel


@pytest.mark.parametrize("name", ERRORS)
def test_each_finding_is_refused_and_nothing_is_sent(prepared: Kernel, home: Path, name: str) -> None:
    body, options, ename, says = ERRORS[name]
    reply = prepared.run(f"%%flash_remote {options}\n{body}")
    assert reply.ename == ename
    assert says in reply.evalue
    assert "Nothing was sent." in reply.evalue
    assert "File " not in reply.traceback
    assert "hunter2" not in reply.traceback
    assert KEY[:8] not in reply.evalue
    assert reply.displays == []
    assert not any(home.iterdir()), "an engine has been started"


def test_all_findings_at_once(prepared: Kernel, home: Path) -> None:
    reply = prepared.run("%%flash_remote\nlock, numbers\nprint(nowhere)\nslow(big)\nnet, password")
    assert reply.ename == "PreflightError"
    said = [line.partition(" – ")[0] for line in reply.evalue.splitlines()]
    assert said[0] == "The cell has 6 errors and 1 warning:"
    assert [line[:10] for line in said[1:-1]] == [f"  line {n}: " for n in (2, 2, 3, 4, 4, 5, 5)]
    assert said[-1] == "Nothing was sent."
    assert "  line 5: warning: net is an instance of Net as it was before Net was defined again" in said
    assert not any(home.iterdir()), "an engine has been started"


def test_findings_of_a_worker_with_another_python(prepared: Kernel, home: Path) -> None:
    other = "3.10" if prepared.value("sys.version_info[1]") != 10 else "3.11"
    prepared.run(
        f"""
        import dataclasses
        from flash_nb.sdk import session
        before = session.current_session().settings
        session.current_session().settings = dataclasses.replace(before, python={other!r})
        """
    ).ok()
    try:
        reply = prepared.remote("bytecode()")
    finally:
        prepared.run("session.current_session().settings = before").ok()
    assert reply.ename == "SerializationError"
    assert f"and the worker runs Python {other}" in reply.evalue
    assert not any(home.iterdir()), "an engine has been started"


def test_check_of_the_cells_so_far(prepared: Kernel) -> None:
    shown = prepared.run("%flash check").ok().stdout
    assert "lock['db'][0] cannot be sent" in shown
    assert "--allow-secret password" in shown
    assert "hunter2" not in shown
    assert "the cells so far: " in shown


def test_check_of_the_notebook_that_is_open(prepared: Kernel, tmp_path: Path) -> None:
    made = nbformat.v4.new_notebook()
    made.cells = [
        nbformat.v4.new_code_cell("numbers = 1"),
        nbformat.v4.new_code_cell("%%flash_remote\nnumbers\nlater"),
        nbformat.v4.new_code_cell("later = 1"),
    ]
    path = tmp_path / "open.ipynb"
    nbformat.write(made, path)
    for said in (
        f"__vsc_ipynb_file__ = {str(path)!r}",
        f"import os; os.environ['JPY_SESSION_NAME'] = {str(path)!r}",
    ):
        prepared.run(said).ok()
        shown = prepared.run("%flash check").ok().stdout
        prepared.run("globals().pop('__vsc_ipynb_file__', None)").ok()
        assert "line 2   numbers cannot be sent: builtins.generator" in shown
        assert "line 3   later is only defined in cell 3, below this one" in shown
        assert "✗ open.ipynb, as it was saved last: 2 errors in 3 cells" in shown
        assert str(tmp_path) not in shown
    named = prepared.run(f"%flash check {json.dumps(str(path))}").ok().stdout
    assert "2 errors in 3 cells" in named
    prepared.run("del os.environ['JPY_SESSION_NAME']").ok()
    assert prepared.run("%flash check no-such.ipynb").ename == "FlashError"


def test_what_only_looks_like_a_secret_and_what_is_allowed(prepared: Kernel) -> None:
    reply = prepared.remote("seen = token, tokens, token_count, monkey").ok()
    assert prepared.value("seen") == ("walk", ["a"], 3, "m")
    assert "hunter2" not in reply.record
    prepared.remote("length = len(password)", "--allow-secret other --allow-secret password").ok()
    assert prepared.value("length") == 7


def test_a_function_says_that_it_carries_a_secret(prepared: Kernel) -> None:
    prepared.run("@remote(CpuLiveServerless(name='w'))\ndef login(): return len(password)").ok()
    notes = prepared.value("login.carries().notes")
    assert notes == (
        "password looks like a secret, and goes with every call: give it to the resource, env={…}",
    )


def test_warnings_are_a_line_each_and_said_once(prepared: Kernel) -> None:
    reply = prepared.remote("kind = type(net).__name__\ncontent = read.read()").ok()
    fix = "send the text itself, or a path that the worker can open"
    assert reply.stderr.splitlines() == [
        "⚠ line 2: net is an instance of Net as it was before Net was defined again – make net again",
        f"⚠ line 3: read is an open file: a copy of its text is sent – {fix}",
    ]
    assert prepared.remote("net").ok().stderr == ""
