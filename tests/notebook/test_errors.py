"""What goes wrong is raised in the notebook, and points at the user's line; or is refused before."""

from __future__ import annotations

import pytest
from kernels import Engine, Kernel


def number(kernel: Kernel) -> int:
    """Return the number that the next cell will have."""
    return int(kernel.value("get_ipython().execution_count"))


OWN = {
    "ValueError": ("raise ValueError('odd', 3)", "ValueError", "('odd', 3)"),
    "class of the notebook": ("raise Mine(7)", "Mine", "mine 7"),
    "of a library": ("import json\njson.loads('{')", "JSONDecodeError", "Expecting property name"),
    "KeyError of a library": ("import collections\ncollections.OrderedDict().pop('k')", "KeyError", "'k'"),
    "SystemExit": ("import sys\nsys.exit(3)", "SystemExit", "3"),
    "assertion": ("assert 1 == 2, 'sums'", "AssertionError", "sums"),
}


@pytest.mark.parametrize("name", OWN)
def test_own_type(kernel: Kernel, name: str) -> None:
    cell, ename, evalue = OWN[name]
    kernel.run(
        """
        class Mine(Exception):
            def __init__(self, n): super().__init__(f'mine {n}'); self.n = n
            def __reduce__(self): return Mine, (self.n,)
        """
    ).ok()
    reply = kernel.remote(cell)
    assert (reply.status, reply.ename) == ("error", ename)
    assert evalue in reply.evalue
    assert "✗ failed" in reply.record


def test_caught_by_its_type(kernel: Kernel) -> None:
    kernel.run("class Mine(Exception):\n    n = 1").ok()
    kernel.run(
        "try:\n"
        "    get_ipython().run_cell_magic('flash_remote', '', 'raise Mine(2)')\n"
        "except Mine as error:\n"
        "    caught = type(error) is Mine, error.args"
    ).ok()
    assert kernel.value("caught") == (True, (2,))


def test_traceback_shows_the_cells_lines(kernel: Kernel) -> None:
    helper = number(kernel)
    kernel.run("def helper(x):\n    # a comment\n    return 10 / x").ok()
    here = number(kernel)
    reply = kernel.remote("x = 0\n\ndef inner(v):\n    return helper(v)\n\ninner(x)")
    text = reply.traceback
    assert f"Cell In[{here}], line 7" in text
    assert f"Cell In[{here}], line 5, in inner(" in text
    assert f"Cell In[{helper}], line 3, in helper(" in text
    for line in (
        "----> 7 inner(x)",
        "return helper(v)",
        "return 10 / x",
        "ZeroDivisionError: division by zero",
    ):
        assert line in text
    assert "flash_nb" not in text
    assert "IPython" not in text
    assert "run_cell_magic" not in text


def test_traceback_of_a_method(kernel: Kernel) -> None:
    there = number(kernel)
    kernel.run("class Deep:\n    def go(self):\n        raise LookupError('deep')\nd = Deep()").ok()
    text = kernel.remote("d.go()").traceback
    assert f"Cell In[{there}], line 3, in " in text
    assert "raise LookupError('deep')" in text.split("----> 3")[1]
    assert "LookupError: deep" in text


def test_chained(kernel: Kernel) -> None:
    text = kernel.remote(
        "try:\n    {}['k']\nexcept KeyError as e:\n    raise RuntimeError('no k') from e"
    ).traceback
    assert "KeyError: 'k'" in text
    assert "The above exception was the direct cause of the following exception" in text
    assert text.rstrip().endswith("RuntimeError: no k")
    text = kernel.remote("try:\n    1 / 0\nexcept ZeroDivisionError:\n    {}['k']").traceback
    assert "During handling of the above exception, another exception occurred" in text


def test_unpicklable_exception(kernel: Kernel) -> None:
    kernel.run(
        """
        import threading
        class Odd(Exception):
            def __init__(self): super().__init__('odd'); self.lock = threading.Lock()
        """
    ).ok()
    reply = kernel.remote("raise Odd()")
    assert reply.ename == "RemoteExecutionError"
    assert "Odd: odd" in reply.evalue
    assert "----> 2 raise Odd()" in reply.traceback


def test_class_of_the_failing_cell(kernel: Kernel) -> None:
    assert kernel.remote("class Fresh(Exception): pass\nraise Fresh(1)").ename == "Fresh"
    assert kernel.value("Fresh(1).args") == (1,)


def test_exception_that_cannot_be_rebuilt(kernel: Kernel) -> None:
    reply = kernel.remote(
        "class Two(Exception):\n    def __init__(self, a, b): super().__init__(f'{a} {b}')\nraise Two(1, 2)"
    )
    assert "1 2" in reply.evalue
    assert "raise Two(1, 2)" in reply.traceback


def test_syntax_error(kernel: Kernel) -> None:
    here = number(kernel)
    reply = kernel.remote("x = 1\ny = (2 +")
    assert reply.ename == "SyntaxError"
    assert f"Cell In[{here}], line 3" in reply.traceback
    assert "y = (2 +" in reply.traceback
    assert "flash_nb" not in reply.traceback


def test_run_all_stops(kernel: Kernel) -> None:
    kernel.run("reached = 0").ok()
    first = kernel.start("%%flash_remote\nreached += 1")
    second = kernel.start("%%flash_remote\n1 / 0")
    third = kernel.start("%%flash_remote\nreached += 10")
    for reply in (first, second, third):
        kernel.wait(reply)
    assert [reply.status for reply in (first, second, third)] == ["ok", "error", "aborted"]
    assert kernel.value("reached") == 1


# options -> what the one line says
MISTAKES = {
    "--gup ADA_24": "no such option: --gup; did you mean '--gpu'?",
    "--gpu AMPER_80": "did you mean AMPERE_80?",
    "--cpu cpu5c-4-9": "did you mean CPU5C_4_8?",
    "--gpu ADA_24 --cpu cpu5c-4-8": "exclude each other",
    "--timeout soon": "'soon' is not a number of seconds",
    "--timeout -1": "is not more than 0 seconds",
    "-r worker": "no resource is called 'worker'; did you mean 'workers'?",
    "--in a-b": "'a-b' is not a name",
    "--name 'a": "No closing quotation",
    "--run --define": "exclude each other",
    "stray": "no such option: stray",
}


@pytest.mark.parametrize("options", MISTAKES)
def test_option_mistakes(kernel: Kernel, options: str) -> None:
    kernel.run("from flash_nb import CpuLiveServerless\nworkers = CpuLiveServerless(name='workers')").ok()
    reply = kernel.remote("x = 1", options)
    assert reply.ename == "UsageError"
    assert MISTAKES[options] in reply.stderr
    assert reply.stderr.strip().count("\n") == 0
    assert reply.displays == []


# name -> local cell, remote cell, options, error, parts of what it says
REFUSED = {
    "undefined": ("", "a_name = 1\nprint(a_nam)", "", "UndefinedNameError", ["Line 3: a_nam is not defined"]),
    "undefined, meant": (
        "threshold = 1",
        "print(treshold)",
        "",
        "UndefinedNameError",
        ["did you mean 'threshold'?"],
    ),
    "--in undefined": ("", "x = 1", "--in nowhere_at_all", "UndefinedNameError", ["'nowhere_at_all'"]),
    "unpicklable": (
        "import threading\nclass Box: pass\ncfg = Box(); cfg.db = Box(); cfg.db._conn = threading.Lock()",
        "cfg.n = 1",
        "",
        "SerializationError",
        ["cfg.db._conn cannot be sent", "lock"],
    ),
    "unpicklable in a closure": (
        "import threading\ndef outer():\n    guard = threading.Lock()\n    return lambda: guard\nf = outer()",
        "f()",
        "",
        "SerializationError",
        ["guard", "lock"],
    ),
    "generator": (
        "g = (n for n in range(3))",
        "list(g)",
        "",
        "SerializationError",
        ["g cannot be sent", "generator"],
    ),
    "too large": (
        "import numpy as np\nbig = np.zeros(1_200_000); small = np.zeros(100)",
        "n = big.sum() + small.sum()",
        "",
        "PayloadTooLargeError",
        ["12.2 MB", "10.0 MB", "big 12.2 MB, small 0.0 MB"],
    ),
    "a magic": ("", "%cd /tmp", "", "UnsupportedMagicError", ["Line 2, '%cd /tmp'", "os.chdir"]),
    "a remote function": (
        """
        from flash_nb import CpuLiveServerless, remote
        @remote(CpuLiveServerless(name='w'))
        def far(): return 1
        """,
        "far()",
        "",
        "CellError",
        ["far is a remote function"],
    ),
    "a requirement that is none": (
        "",
        "x = 1",
        "--deps 'not a requirement'",
        "CellError",
        ["'not a requirement' is not"],
    ),
}


@pytest.mark.parametrize("name", REFUSED)
def test_refused_before_anything_is_sent(kernel: Kernel, engine: Engine, name: str) -> None:
    local, cell, options, ename, parts = REFUSED[name]
    kernel.run(local).ok()
    kernel.remote("pass").ok()
    newest = engine.jobs()[0]["id"]
    reply = kernel.remote(cell, options)
    assert reply.ename == ename
    for part in parts:
        assert part in reply.traceback
    assert "File " not in reply.traceback
    assert reply.displays == []
    assert engine.jobs()[0]["id"] == newest


def test_package_that_does_not_exist(kernel: Kernel) -> None:
    reply = kernel.remote("x = 1", "--deps surely-no-such-package-7421")
    assert reply.ename == "WorkerEnvironmentError"
    assert "surely-no-such-package-7421" in reply.traceback
    assert "✗ failed" in reply.record


def test_import_that_fails_on_the_worker(kernel: Kernel) -> None:
    reply = kernel.remote("import os.no_such_part")
    assert reply.ename == "ModuleNotFoundError"
    assert "----> 2 import os.no_such_part" in reply.traceback


def test_timeout(kernel: Kernel) -> None:
    reply = kernel.remote("import time\ntime.sleep(60)", "--timeout 0.5")
    assert reply.ename == "JobTimeoutError"
    assert "timed out" in reply.record


def test_worker_that_dies(kernel: Kernel) -> None:
    reply = kernel.remote("import os, signal\nos.kill(os.getpid(), signal.SIGKILL)")
    assert reply.ename == "WorkerLostError"
    assert "signal 9" in reply.traceback


def test_result_of_a_type_that_is_not_here(kernel: Kernel) -> None:
    reply = kernel.remote("import toolz\nc = toolz.curry(max)\nn = 4\nholds = [c]").ok()
    assert kernel.value("n") == 4
    assert "c: ModuleNotFoundError: No module named 'toolz'" in reply.record
    assert "holds: ModuleNotFoundError" in reply.record
