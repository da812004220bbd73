"""The handle of a job and of a remote object, in a notebook: what works after the cell has ended."""

from __future__ import annotations

import http.server
import json
import os
import subprocess
import sys
import textwrap
import threading

import pytest
from kernels import Engine, Kernel, run, wait_for
from test_downloads import requirement
from test_remote import SETUP

FUNCTIONS = """
import pathlib
folder = pathlib.Path({folder!r})

@remote(resource_config=config)
def waits(folder):
    import time
    print("on")
    while not (folder / "go").exists():
        time.sleep(0.005)
    return "went"

@remote(resource_config=config)
def flaky(file):
    return file.read_text()

@remote(resource_config=config)
class Thing:
    def __init__(self, file):
        self.file = file
    def touch(self):
        return self.file.name
    def __del__(self):
        self.file.touch()
"""


@pytest.fixture
def folder(kernel, tmp_path):
    run(kernel, SETUP)
    run(kernel, FUNCTIONS.format(folder=str(tmp_path)))
    return tmp_path


def test_a_job_is_used_after_its_cell_has_ended(kernel: Kernel, folder) -> None:
    assert kernel.run("job = waits.submit(folder)").ok().result is None
    wait_for(lambda: kernel.value("job.status") == "IN_PROGRESS")
    assert kernel.value("job.done(), job.info.worker[:2]") == (False, "w-")
    assert kernel.run("job.result(timeout=0.05)").ename in {"TimeoutError", "_TimeoutError"}
    (folder / "go").touch()
    assert run(kernel, "job.result(timeout=30).output") == "'went'"
    assert kernel.value("job.done(), job.status, job.result().output") == (True, "COMPLETED", "went")
    assert run(kernel, "(await job).output, (await job) is job.output()") == "('went', True)"
    run(kernel, "job.cancel()")
    assert kernel.value("job.status") == "COMPLETED"


def test_cancel_after_the_cell_has_ended(kernel: Kernel, folder) -> None:
    run(kernel, "job = waits.submit(folder)")
    wait_for(lambda: kernel.value("job.status") == "IN_PROGRESS")
    run(kernel, "job.cancel()\nout = await job")
    assert kernel.value("out.status, job.status, job.done()") == ("CANCELLED", "CANCELLED", True)
    assert kernel.run("out.unwrap()").ename == "JobCancelledError"


def test_retry(kernel: Kernel, folder) -> None:
    run(kernel, "job = flaky.submit(folder / 'text')\nfirst = await job")
    assert kernel.value("first.status, first.error.splitlines()[0][:17]") == ("FAILED", "FileNotFoundError")
    (folder / "text").write_text("there")
    run(kernel, "again = job.retry()\nout = await again")
    assert kernel.value("out.status, out.output, again.id == job.id") == ("COMPLETED", "there", True)
    assert kernel.value("job.status, job.output().status") == ("FAILED", "FAILED")
    reply = kernel.run("again.retry()")
    assert reply.ename == "BackendError"
    assert "cannot be retried: it is COMPLETED" in reply.evalue


def test_a_retried_job_prints_into_the_cell_that_retried_it_and_is_cancelled(kernel: Kernel, folder) -> None:
    run(kernel, "job = waits.submit(folder)")
    wait_for(lambda: kernel.value("job.status") == "IN_PROGRESS")
    run(kernel, "job.cancel()\nout = await job")
    reply = kernel.start("again = job.retry()\nout = again.result()")
    kernel.wait(reply, until=lambda r: "on" in r.stdout)
    kernel.interrupt()
    assert kernel.wait(reply).ename == "KeyboardInterrupt"
    assert kernel.value("[again.cancel(), (lambda out: out.status)(again.result())][1]") == "CANCELLED"
    (folder / "go").touch()
    assert run(kernel, "(await again.retry()).output") == "'went'"


def test_a_job_that_was_never_sent_is_not_retried(kernel: Kernel, folder) -> None:
    run(
        kernel,
        """
        import threading
        from flash_nb.sdk.session import current_session
        cancelled = threading.Event()  # nothing is sent before
        current_session()._thread.loop.call_soon_threadsafe(cancelled.wait, 10)
        job = waits.submit(folder)
        job.cancel()
        cancelled.set()
        out = await job
        """,
    )
    reply = kernel.run("job.retry()")
    assert (reply.ename, "it was cancelled before it was sent" in reply.evalue) == ("BackendError", True)


def test_timeout_and_ttl_of_one_call(kernel: Kernel, folder) -> None:
    run(kernel, "late = await waits.options(timeout=0.3)(folder)")
    assert kernel.value("late.status, type(late.exception).__name__") == ("TIMED_OUT", "JobTimeoutError")
    assert "execution time-out of 0.3 s" in kernel.value("late.error")
    run(kernel, "busy = [waits.submit(folder) for _ in range(2)]")
    wait_for(lambda: kernel.value("[job.status for job in busy]") == ["IN_PROGRESS"] * 2)
    run(kernel, "late = await waits.options(ttl=0.3)(folder)")
    assert "its TTL of 0.3 s passed" in kernel.value("late.error")
    (folder / "go").touch()
    assert run(kernel, "[(await job).output for job in busy]") == "['went', 'went']"
    reply = kernel.run("waits.options(time_out=3)")
    assert (reply.ename, "did you mean 'timeout'?" in reply.evalue) == ("ResourceError", True)


def test_webhook_of_one_call(kernel: Kernel, folder) -> None:
    messages = []

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            messages.append(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))
            self.send_response(204)
            self.end_headers()

        def log_message(self, *_: object) -> None:
            """Stay silent."""

    (folder / "text").write_text("told")
    with http.server.HTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        url = f"http://127.0.0.1:{server.server_port}/"
        try:
            assert run(kernel, f"(await flaky.options(webhook={url!r})(folder / 'text')).output") == "'told'"
            wait_for(lambda: messages)
        finally:
            server.shutdown()
            thread.join()
    assert (messages[0]["status"], messages[0]["output"]["json_result"]) == ("COMPLETED", "told")


LEAVE = {
    "close": "thing = Thing(folder / 'gone')\nname = (await thing.touch()).output\nthing.close()",
    "with": "with Thing(folder / 'gone') as thing:\n    name = (await thing.touch()).output",
    "async with": "async with Thing(folder / 'gone') as thing:\n    name = (await thing.touch()).output",
    "an error in the block": (
        "try:\n    with Thing(folder / 'gone') as thing:\n        name = (await thing.touch()).output\n"
        "        1 / 0\nexcept ZeroDivisionError: pass"
    ),
    "del": "thing = Thing(folder / 'gone')\nname = (await thing.touch()).output\ndel thing",
}


@pytest.mark.parametrize("leave", LEAVE)
def test_an_object_is_released(kernel: Kernel, folder, leave: str) -> None:
    run(kernel, LEAVE[leave])
    assert kernel.value("name") == "gone"
    wait_for((folder / "gone").exists)


def test_objects_are_released_when_their_kernel_ends(engine: Engine, folder, kernel: Kernel) -> None:
    script = folder / "script.py"
    body = SETUP + FUNCTIONS.format(folder=str(folder))
    body += textwrap.dedent(
        """
        import os, sys
        async def main():
            thing = Thing(folder / sys.argv[1])
            print((await thing.touch()).output, flush=True)
            if sys.argv[1] == "killed":
                os.kill(os.getpid(), 9)
            return thing
        thing = asyncio.run(main())
        """
    )
    script.write_text(body)
    for end in ("ended", "killed"):
        ran = subprocess.run(
            [sys.executable, script, end],
            capture_output=True,
            text=True,
            check=False,
            env=os.environ,
        )
        assert ran.stdout == f"{end}\n", ran.stderr
        assert ran.returncode == (0 if end == "ended" else -9)
        wait_for((folder / end).exists, timeout=30)


@pytest.mark.parametrize(("number", "accelerate", "limit"), [(3, True, None), (4, False, "1")])
def test_downloads(kernel: Kernel, folder, number: int, accelerate: bool, limit: str | None) -> None:
    """A package that is built from source here notes how uv was told to download."""
    run(
        kernel,
        f"""
        @remote(
            resource_config=config,
            dependencies=[{requirement(folder, number)!r}],
            accelerate_downloads={accelerate},
        )
        def limit():
            import probe_{number}
            return probe_{number}.LIMIT
        """,
    )
    run(kernel, "out = await limit()")
    assert kernel.value("out.unwrap()") == limit
