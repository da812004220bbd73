"""How a job that went wrong comes back: its status, its reason, and the facts."""

from __future__ import annotations

from kernels import Kernel, run

SETUP = """
import asyncio, threading, time
from flash_nb import *
config = CpuLiveServerless(name="failing", workersMax=1, idleTimeout=60)
FACTS = ("remote_type", "remote_message", "stdout", "job_id")
"""


def test_a_raise(kernel: Kernel) -> None:
    run(kernel, SETUP)
    run(
        kernel,
        """
        @remote(resource_config=config)
        def fail(n):
            print("before", n)
            raise ValueError("no")
        out = await fail(1)
        if out.error:
            print(f"Failed: {out.error}")
        """,
    )
    assert kernel.value("out.status, out.output, out.stdout") == ("FAILED", None, "before 1\n")
    assert kernel.value("out.error.splitlines()[0]") == "ValueError: no"
    assert kernel.value("type(out.exception).__name__, out.exception.args") == ("ValueError", ("no",))
    assert kernel.run("out.unwrap()").ename == "ValueError"
    run(kernel, "told = out.exception.__flash__")
    assert kernel.value("type(told).__name__, str(told)") == ("RemoteExecutionError", "ValueError: no")
    facts = kernel.value("[getattr(told, name) for name in FACTS]")
    assert facts == ["ValueError", "no", "before 1\n", kernel.value("out.id")]
    assert 'raise ValueError("no")' in kernel.value("told.remote_traceback")


def test_a_type_that_does_not_exist_here(kernel: Kernel) -> None:
    run(kernel, SETUP)
    run(
        kernel,
        """
        @remote(resource_config=config)
        def fail():
            print("x" * 10_000, end="END")
            class Special(Exception):
                def __reduce__(self):
                    raise TypeError("it stays here")
            raise Special("why")
        out = await fail()
        """,
    )
    assert kernel.value("type(out.exception).__name__, out.status") == ("RemoteExecutionError", "FAILED")
    facts = kernel.value("[getattr(out.exception, name) for name in FACTS]")
    assert facts[0].endswith("Special")
    assert facts[1] == "why"
    assert facts[2] == "x" * 3997 + "END"
    assert facts[3] == kernel.value("out.id")
    assert 'raise Special("why")' in kernel.value("out.exception.remote_traceback")
    assert kernel.value("out.exception.remote_traceback in out.error") is True
    reply = kernel.run("out.unwrap()")
    assert reply.ename == "RemoteExecutionError"
    assert "Special: why" in reply.evalue


def test_attributes_of_foreign_errors_are_their_own(kernel: Kernel) -> None:
    run(kernel, SETUP)
    run(
        kernel,
        """
        @remote(resource_config=config)
        def fail():
            import subprocess
            print("printed")
            raise subprocess.CalledProcessError(2, "cmd", output="its own")
        out = await fail()
        """,
    )
    assert kernel.value("out.exception.stdout, out.exception.__flash__.stdout") == ("its own", "printed\n")


SLEEP = """
@remote(resource_config=config)
def sleep():
    import time
    print("began", flush=True)
    time.sleep(60)
"""


def test_cancelled_from_another_thread(kernel: Kernel) -> None:
    run(kernel, SETUP + SLEEP)
    run(
        kernel,
        """
        job = sleep.submit()
        def cancel():
            while job.status != "IN_PROGRESS":
                time.sleep(0.01)
            time.sleep(0.3)
            job.cancel()
        threading.Thread(target=cancel).start()
        out = await job
        """,
    )
    assert kernel.value("out.status, out.output, job.status") == ("CANCELLED", None, "CANCELLED")
    assert "was cancelled" in kernel.value("out.error")
    assert kernel.value("type(out.exception).__name__") == "JobCancelledError"
    assert kernel.value("out.exception.job_id == out.id, out.exception.stdout, out.stdout") == (
        True,
        "began\n",
        "began\n",
    )
    assert kernel.run("out.unwrap()").ename == "JobCancelledError"


def test_cancelled_from_another_cell(kernel: Kernel) -> None:
    run(kernel, SETUP + SLEEP)
    run(kernel, "job = sleep.submit()\nwaiting = asyncio.ensure_future(job)")
    run(kernel, "job.cancel()")
    run(kernel, "out = await waiting")
    assert kernel.value("out.status, type(out.exception).__name__") == ("CANCELLED", "JobCancelledError")


def test_execution_timeout(kernel: Kernel) -> None:
    run(kernel, SETUP)
    run(kernel, 'config = CpuLiveServerless(name="hasty", workersMax=1, executionTimeoutMs=1000)' + SLEEP)
    run(kernel, "out = await sleep()")
    assert kernel.value("out.status, type(out.exception).__name__") == ("TIMED_OUT", "JobTimeoutError")
    error = kernel.value("out.error")
    assert error.startswith("JobTimeoutError: Job ")
    assert "1 s" in error
    assert "executionTimeoutMs" in error
    assert kernel.value("out.exception.remote_message in out.error, out.exception.stdout") == (
        True,
        "began\n",
    )
    assert kernel.run("out.unwrap()").ename == "JobTimeoutError"


def test_ttl(kernel: Kernel) -> None:
    run(kernel, SETUP + SLEEP)
    run(
        kernel,
        """
        first = sleep.submit()
        out = await sleep.options(ttl=1)()
        first.cancel()
        """,
    )
    assert kernel.value("out.status, type(out.exception).__name__") == ("TIMED_OUT", "JobTimeoutError")
    assert "TTL" in kernel.value("out.error")
    assert kernel.value("out.stdout, out.started_at") == ("", None)


def test_a_worker_that_dies(kernel: Kernel) -> None:
    run(kernel, SETUP)
    run(
        kernel,
        """
        @remote(resource_config=config)
        def die():
            import os, signal
            print("last words", flush=True)
            os.kill(os.getpid(), signal.SIGKILL)
        out = await die()
        """,
    )
    assert kernel.value("out.status, type(out.exception).__name__") == ("FAILED", "WorkerLostError")
    assert "died" in kernel.value("out.error")
    assert kernel.value("out.exception.job_id == out.id, out.exception.remote_traceback") == (True, "")
    assert kernel.run("out.unwrap()").ename == "WorkerLostError"


def test_an_environment_that_cannot_be_made(kernel: Kernel) -> None:
    run(kernel, SETUP)
    run(
        kernel,
        """
        @remote(resource_config=config, dependencies=["pandas==0.0.0.dev99"])
        def f(): return 1
        out = await f()
        """,
    )
    assert kernel.value("out.status, type(out.exception).__name__") == ("FAILED", "WorkerEnvironmentError")
    assert "pandas" in kernel.value("out.error")
    assert kernel.value("out.exception.job_id == out.id") is True


def test_a_result_that_cannot_be_sent(kernel: Kernel) -> None:
    run(kernel, SETUP)
    run(
        kernel,
        """
        @remote(resource_config=config)
        def f():
            import threading
            return {"fine": 1, "models": [1, {"lock": threading.Lock()}]}
        out = await f()
        """,
    )
    assert kernel.value("out.status, out.output") == ("FAILED", None)
    assert kernel.value("out.error.splitlines()[0]").startswith(
        "SerializationError: the returned dict['models'][1]['lock'] cannot be sent back: _thread.lock objects"
    )
    reply = kernel.run("out.unwrap()")
    assert reply.ename == "SerializationError"
    assert "The returned dict['models'][1]['lock'] cannot be sent back" in reply.evalue
    assert kernel.value("out.exception.__flash__.job_id == out.id") is True


def test_falsy_results_and_arguments_come_as_they_are(kernel: Kernel) -> None:
    run(kernel, SETUP)
    run(
        kernel,
        """
        @remote(resource_config=config)
        def same(value):
            return value
        @remote(resource_config=config)
        def nothing(*args, **kwargs):
            return args, kwargs
        @remote(resource_config=config)
        async def void():
            pass
        values = [0, {}, [], "", False, None, (), set(), 0.0, b""]
        outs = [await same(value) for value in values]
        """,
    )
    assert kernel.value("[(out.output, out.status, out.error) for out in outs]") == [
        (value, "COMPLETED", "") for value in [0, {}, [], "", False, None, (), set(), 0.0, b""]
    ]
    assert (
        kernel.value("[type(out.output) is type(value) for out, value in zip(outs, values)]") == [True] * 10
    )
    assert (
        run(kernel, "(await nothing()).output, (await nothing(None)).output") == "(((), {}), ((None,), {}))"
    )
    assert run(kernel, "(await nothing(a=None)).output, (await nothing(outs[5])).output") == (
        "(((), {'a': None}), ((None,), {}))"
    )
    assert run(kernel, "out = await void()\nout.status, out.output, out.error, out.unwrap()") == (
        "('COMPLETED', None, '', None)"
    )
