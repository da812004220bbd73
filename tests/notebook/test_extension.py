"""Loading, help, where the magic line stands, and IPython in a terminal."""

from __future__ import annotations

import pytest
from kernels import Engine, Kernel, in_terminal


def test_load_twice_reload_unload(kernel: Kernel) -> None:
    kernel.run("%load_ext flash_nb").ok()
    kernel.run("%reload_ext flash_nb").ok()
    kernel.remote("n = 1").ok()
    assert kernel.value("len(get_ipython().events.callbacks['pre_run_cell'])") == kernel.value(
        "len({*get_ipython().events.callbacks['pre_run_cell']})"
    )
    kernel.run("%unload_ext flash_nb").ok()
    try:
        reply = kernel.remote("n = 2")
        assert "not found" in reply.stderr
        assert kernel.run("import asyncio; asyncio.run(asyncio.sleep(0))").ename == "RuntimeError"
    finally:
        kernel.run("%load_ext flash_nb").ok()
    kernel.remote("n = 3").ok()
    assert kernel.value("n") == 3


def test_help_lists_the_options(kernel: Kernel) -> None:
    shown = kernel.run("%%flash_remote?").ok().paged
    for option in ("--gpu GROUP", "--deps a,b", "--timeout S", "--detach", "a GPU group such as AMPERE_80"):
        assert option in shown


@pytest.mark.parametrize("above", ["# a comment\n", "\n\n", "\n# one\n\n# two\n"])
def test_comments_and_blank_lines_above(kernel: Kernel, above: str) -> None:
    reply = kernel.start_as_is(f"{above}%%flash_remote\nlow = 1\nlow / 0")
    kernel.wait(reply)
    assert reply.ename == "ZeroDivisionError"
    assert f"line {above.count(chr(10)) + 3}" in reply.traceback
    assert kernel.value("low") == 1


def test_terminal(engine: Engine) -> None:
    cell = "import time\nfor n in range(3): print(n, flush=True); time.sleep(0.3)\nv = n * 2\nv"
    script = (
        f"%load_ext flash_nb\nget_ipython().run_cell_magic('flash_remote', '', {cell!r})\nprint('here', v)\n"
    )
    printed = in_terminal(script)
    assert printed.count("completed cell on notebook") == 1
    assert "running" not in printed
    assert "queued" not in printed
    assert "0\n1\n2\n" in printed
    assert "Out[2]: 4" in printed
    assert "here 4" in printed
