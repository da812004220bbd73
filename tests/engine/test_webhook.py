"""The webhook: a real receiver is told how a job ended."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import http.server
import json
import socket
import threading
import time
from collections.abc import Iterator

import cloudpickle
import pytest
from real import Following, call, cell, spec, until, value_of

from flash_nb.engine import webhook
from flash_nb.jobs import JobStatus


class Receiver(http.server.ThreadingHTTPServer):
    """Takes what is posted; answers with these statuses in turn, then with 200."""

    def __init__(self, *statuses: int, port: int = 0) -> None:
        super().__init__(("127.0.0.1", port), _Handler)
        self.statuses = [*statuses]
        self.messages: list[dict] = []
        self.headers: list[dict[str, str]] = []

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}/hook?key=secret"


class _Handler(http.server.BaseHTTPRequestHandler):
    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        self.server.messages.append(json.loads(body))
        self.server.headers.append(dict(self.headers))
        status = self.server.statuses.pop(0) if self.server.statuses else 200
        self.send_response(status)
        if status == 307:
            self.send_header("Location", "/elsewhere")
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, *_: object) -> None:
        """Stay silent."""


@contextlib.contextmanager
def receiver(*statuses: int, port: int = 0) -> Iterator[Receiver]:
    server = Receiver(*statuses, port=port)
    thread = threading.Thread(target=server.serve_forever, args=(0.01,))
    thread.start()
    try:
        yield server
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


@pytest.fixture(autouse=True)
def no_proxy(monkeypatch):
    for name in ("NO_PROXY", "no_proxy"):
        monkeypatch.setenv(name, "127.0.0.1")


def post(url: str, **options) -> str:
    return asyncio.run(webhook.post(url, b"{}", **options))


async def ran(endpoint, request):
    job = Following()
    endpoint.run(request, job)
    return await job.end()


def unpickled(output: dict):
    return cloudpickle.loads(base64.b64decode(output["result"]))


def test_a_completed_job(world):
    source = "def f(x):\n    print('hello')\n    return {'x': x, 'more': [1, 2.5, None]}"

    async def scenario(hook):
        async with world.endpoint() as endpoint:
            request = call(source, 7, webhook=hook.url)
            event = await ran(endpoint, request)
            await until(lambda: hook.messages)
        (message,) = hook.messages
        value = {"x": 7, "more": [1, 2.5, None]}
        assert value_of(event) == value
        assert hook.headers[0]["Content-Type"] == "application/json"
        assert sorted(message) == ["delayTime", "executionTime", "id", "output", "status", "workerId"]
        assert (message["id"], message["status"]) == (request.job_id, "COMPLETED")
        assert message["workerId"] == event.info.worker
        assert message["executionTime"] == round(event.info.run_s * 1000)
        assert message["delayTime"] == round((event.info.queued_s + event.info.cold_s) * 1000)
        output = message["output"]
        assert unpickled(output) == output.pop("json_result") == value
        del output["result"]
        assert output == {"success": True, "error": None, "stdout": "hello\n"}

    with receiver() as hook:
        asyncio.run(scenario(hook))


# what f returns -> is it in `json_result`?
VALUES = {
    "bytes(3_000_000)": False,
    "bytearray(range(256)) * 400": False,
    "(1, 2)": False,
    "{1: 2}": False,
    "float('nan')": False,
    "None": True,
    "'é' * 3": True,
    "(n for n in range(3))": True,
}


@pytest.mark.parametrize("value", VALUES)
def test_any_value_travels_in_one_pickle(world, value):
    async def scenario(hook):
        async with world.endpoint() as endpoint:
            event = await ran(endpoint, call(f"def f():\n    return {value}", webhook=hook.url))
            await until(lambda: hook.messages)
        output = hook.messages[0]["output"]
        assert repr(unpickled(output)) == repr(value_of(event))
        assert ("json_result" in output) is VALUES[value]

    with receiver() as hook:
        asyncio.run(scenario(hook))


def test_a_result_over_the_limit_is_not_posted(world):
    async def scenario(hook):
        async with world.endpoint() as endpoint:
            event = await ran(endpoint, call("def f():\n    return bytes(21_000_000)", webhook=hook.url))
            assert len(value_of(event)) == 21_000_000
            await until(lambda: hook.messages)
        output = hook.messages[0]["output"]
        assert (output["success"], output["result"]) == (True, None)
        assert "too large for an answer" in output["error"]

    with receiver() as hook:
        asyncio.run(scenario(hook))


def test_jobs_that_do_not_complete(world):
    async def scenario(hook):
        async with world.endpoint() as endpoint:
            source = "def f():\n    print('on')\n    raise LookupError('gone')"
            await ran(endpoint, call(source, webhook=hook.url))
            await until(lambda: len(hook.messages) == 1)
            running, request = Following(), cell("print('x'); import time; time.sleep(60)", webhook=hook.url)
            endpoint.run(request, running)
            await until(lambda: running.text)
            endpoint.cancel(request.job_id)
            await until(lambda: len(hook.messages) == 2)
            await ran(endpoint, cell("import time; time.sleep(60)", timeout_s=0.2, webhook=hook.url))
            await until(lambda: len(hook.messages) == 3)
        failed, cancelled, late = hook.messages
        assert (failed["status"], failed["error"]) == ("FAILED", "LookupError: gone")
        assert (failed["output"]["success"], failed["output"]["stdout"]) == (False, "on\n")
        assert failed["output"]["error"].startswith("LookupError: gone\nTraceback")
        assert (cancelled["status"], cancelled["output"]["success"]) == ("CANCELLED", False)
        assert (late["status"], late["error"]) == (
            "TIMED_OUT",
            "it ran longer than its execution time-out of 0.2 s",
        )

    with receiver() as hook:
        asyncio.run(scenario(hook))


def test_a_retried_job_is_told_again(world, tmp_path):
    source = "def f(file):\n    import pathlib\n    return pathlib.Path(file).read_text()"

    async def scenario(hook):
        backend = world.backend()
        async with world.endpoint() as endpoint:
            request = call(source, str(tmp_path / "file"), webhook=hook.url)
            await ran(endpoint, request)
            (tmp_path / "file").write_text("there")
            again = Following()
            await backend.retry(request.job_id, again)
            await until(lambda: len(hook.messages) == 2)
        assert [m["status"] for m in hook.messages] == ["FAILED", "COMPLETED"]
        assert {m["id"] for m in hook.messages} == {request.job_id}
        assert hook.messages[1]["output"]["json_result"] == "there"
        await backend.aclose()

    with receiver() as hook:
        asyncio.run(scenario(hook))


def test_a_dead_receiver_harms_nobody_and_the_next_engine_tells_it(world):
    with receiver() as gone:
        pass

    async def scenario():
        async with world.endpoint() as endpoint:
            event = await ran(endpoint, call("def f():\n    return 5", webhook=gone.url))
            assert event.info.status is JobStatus.COMPLETED
            assert (await ran(endpoint, call("def f():\n    return 6"))).info.status is JobStatus.COMPLETED
            jobs = []
            while [job["status"] for job in jobs] != ["COMPLETED"] * 2:
                jobs = await world.call("jobs")
            world.kill_engine()
            with receiver(port=gone.server_port) as hook:
                await world.backend().client()
                await until(lambda: hook.messages)
                assert hook.messages[0]["output"]["json_result"] == 5
                world.flash("engine", "stop")
            with receiver(port=gone.server_port) as hook:
                backend = world.backend()
                await ran(await backend.ensure(spec()), call("def f():\n    return 7"))
                assert not hook.messages, "it was told already"
                await backend.aclose()

    asyncio.run(scenario())


def test_tries_three_times(world):
    with receiver(500, 404) as hook:
        assert post(hook.url, pause_s=0.0) == ""
        assert len(hook.messages) == 3
    with receiver(500, 500, 500, 200) as hook:
        assert post(hook.url, pause_s=0.0) == "HTTP status 500"
        assert len(hook.messages) == 3


def test_follows_no_redirect():
    with receiver(307, 307, 307) as hook:
        assert post(hook.url, pause_s=0.0) == "HTTP status 307"


@pytest.mark.parametrize(
    "url", ["http://127.0.0.1:1/", "http://[", "ftp://127.0.0.1/", "http://nowhere.invalid/"]
)
def test_what_cannot_be_reached_is_given_up(url):
    assert post(url, pause_s=0.0)


def test_a_slow_receiver_is_given_up():
    with socket.create_server(("127.0.0.1", 0)) as deaf:
        began = time.monotonic()
        assert post(f"http://127.0.0.1:{deaf.getsockname()[1]}/", pause_s=0.0, timeout_s=0.2)
        assert time.monotonic() - began < 5


def test_the_address_is_not_in_the_log(world):
    async def scenario(hook):
        async with world.endpoint() as endpoint:
            await ran(endpoint, call("def f(): pass", webhook=hook.url))
            await until(lambda: hook.messages)
        assert "secret" not in world.log()

    with receiver() as hook:
        asyncio.run(scenario(hook))
