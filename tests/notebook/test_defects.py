"""What goes wrong in other clients of the same service, and must not here.

The number of each is its place in the list of the most telling problems of the official package.
"""

from __future__ import annotations

import textwrap
from pathlib import Path

from kernels import Engine, Kernel, wait_for


def run(kernel: Kernel, code: str) -> str:
    """Run a cell; return the text of its value, else what it printed."""
    reply = kernel.run(textwrap.dedent(code)).ok()
    return str(reply.result["text/plain"]) if reply.result else reply.stdout


SETUP = """
import asyncio
from flash_nb import CpuLiveServerless, remote
config = CpuLiveServerless(name="defects", workersMax=1, idleTimeout=60)
"""


def test_methods_of_a_notebooks_class_return_their_value(kernel: Kernel) -> None:
    """1: classes defined in a notebook returned None, silently."""
    run(kernel, SETUP)
    run(
        kernel,
        """
        @remote(resource_config=config)
        class Greeter:
            def greet(self, name):
                return f"hello {name}"
        with Greeter() as greeter:
            out = await greeter.greet("you")
        """,
    )
    assert kernel.value("out.output, out.status") == ("hello you", "COMPLETED")


def test_a_timeout_ends_the_wait(kernel: Kernel) -> None:
    """2: a job that had timed out was polled forever."""
    run(kernel, SETUP)
    run(
        kernel,
        """
        hasty = CpuLiveServerless(name="hasty", workersMax=1, executionTimeoutMs=1000)
        @remote(resource_config=hasty)
        def slow():
            import time
            time.sleep(60)
        out = await slow()
        """,
    )
    assert kernel.value("out.status") == "TIMED_OUT"
    assert "1 s" in kernel.value("out.error")


def test_an_interrupt_ends_the_job(kernel: Kernel, engine: Engine) -> None:
    """2: an interrupt left the job running."""
    run(kernel, SETUP)
    run(
        kernel,
        """
        @remote(resource_config=config)
        def slow():
            import time
            print("began", flush=True)
            time.sleep(60)
        """,
    )
    reply = kernel.start("await slow()")
    kernel.wait(reply, lambda reply: "began" in reply.stdout)
    kernel.interrupt()
    assert kernel.wait(reply).status == "error"
    wait_for(lambda: engine.jobs()[0]["status"] == "CANCELLED")


def test_failed_and_cancelled_jobs_say_why(kernel: Kernel) -> None:
    """3: the real error was hidden behind an AttributeError or a ValidationError."""
    run(kernel, SETUP)
    run(
        kernel,
        """
        @remote(resource_config=config)
        def fail():
            raise LookupError("the real reason")
        @remote(resource_config=config)
        def slow():
            import time
            time.sleep(60)
        failed = await fail()
        job = slow.submit()
        job.cancel()
        cancelled = await job
        """,
    )
    assert kernel.value("failed.status, failed.error.splitlines()[0]") == (
        "FAILED",
        "LookupError: the real reason",
    )
    assert kernel.value("cancelled.status, type(cancelled.exception).__name__") == (
        "CANCELLED",
        "JobCancelledError",
    )


def test_objects_keep_their_state_between_calls(kernel: Kernel) -> None:
    """6: the state of a class was lost between calls."""
    run(kernel, SETUP)
    run(
        kernel,
        """
        @remote(resource_config=config)
        class Counter:
            def __init__(self):
                self.n = 0
            def add(self):
                self.n += 1
                return self.n
        with Counter() as counter:
            counts = [(await counter.add()).output for _ in range(3)]
        """,
    )
    assert kernel.value("counts") == [1, 2, 3]


def test_globals_and_helpers_of_other_cells_travel(kernel: Kernel) -> None:
    """17: globals and helpers raised a NameError on the worker."""
    run(kernel, SETUP)
    run(kernel, "import math\nLIMIT = 10")
    run(kernel, "def helper(x):\n    return math.floor(x) + LIMIT")
    run(kernel, "@remote(resource_config=config)\ndef f(x):\n    return helper(x)")
    assert run(kernel, "(await f(1.5)).output") == "11"


def test_a_module_beside_the_notebook_is_refused_with_a_way_out(kernel: Kernel) -> None:
    """17: modules beside the notebook were not shipped, and the worker's ImportError said so late."""
    run(kernel, SETUP)
    folder = Path(kernel.value("__import__('os').getcwd()"))
    (folder / "local_module.py").write_text("def helper(x):\n    return x\n")
    run(
        kernel,
        """
        import local_module
        @remote(resource_config=config)
        def outside(x):
            return local_module.helper(x)
        @remote(resource_config=config)
        def inside(x):
            import local_module
            return local_module.helper(x)
        """,
    )
    for name in ("outside", "inside"):
        reply = kernel.run(f"await {name}(1)")
        assert reply.ename == "CellError"
        assert "local_module is a file of this machine" in reply.evalue
        assert "Put its functions in a cell" in reply.evalue


def test_a_name_that_is_nowhere_is_found_before_anything_is_sent(kernel: Kernel, engine: Engine) -> None:
    """17: a missing name was only found by the worker."""
    run(kernel, SETUP)
    run(kernel, "@remote(resource_config=config)\ndef f(data):\n    return np.sum(data)")
    before = len(engine.jobs())
    reply = kernel.run("await f([1])")
    assert reply.ename == "UndefinedNameError"
    assert "line 3: np" in reply.evalue
    assert "Import it inside: import numpy as np." in reply.evalue
    assert len(engine.jobs()) == before


def test_functions_may_return_nothing_and_falsy_values(kernel: Kernel) -> None:
    """18: void functions and falsy outputs were rejected."""
    run(kernel, SETUP)
    run(
        kernel,
        """
        @remote(resource_config=config)
        def void():
            pass
        @remote(resource_config=config)
        def same(x):
            return x
        outs = [await void()] + [await same(x) for x in (0, {}, [], "", False)]
        """,
    )
    assert kernel.value("[(out.status, out.output, out.error) for out in outs]") == [
        ("COMPLETED", value, "") for value in (None, 0, {}, [], "", False)
    ]


def test_calls_without_arguments_and_with_none_alone(kernel: Kernel) -> None:
    """24: empty input and None crashed, hung, or were dropped on the way."""
    run(kernel, SETUP)
    run(
        kernel,
        """
        @remote(resource_config=config)
        def count(*args, **kwargs):
            return len(args), sorted(kwargs)
        outs = [await count(), await count(None), await count(x=None), await count({}), await count("")]
        """,
    )
    assert kernel.value("[out.output for out in outs]") == [(0, []), (1, []), (0, ["x"]), (1, []), (1, [])]
    assert kernel.value("{out.status for out in outs}") == {"COMPLETED"}
