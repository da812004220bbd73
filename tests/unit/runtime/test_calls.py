"""Calls of other endpoints, answered by a server that can do what Runpod does when things go wrong."""

from __future__ import annotations

import asyncio
import base64
import json
import threading
from collections import Counter
from datetime import timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import cloudpickle
import pytest

JOB = "/q/status/job-1"


class Server(ThreadingHTTPServer):
    """Answers what it was told to; the last answer for a path is repeated.

    Attributes:
        asked: ``(method, path, key, body)`` of each request.
    """

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Asked)
        self.answers: dict[str, list[tuple[int, object]]] = {}
        self.asked: list[tuple[str, str, str, bytes]] = []
        self.met = threading.Condition()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}"

    def tell(self, path: str, *answers) -> None:
        self.answers[path] = [answer if isinstance(answer, tuple) else (200, answer) for answer in answers]

    def count(self, path: str) -> int:
        return Counter(each[1] for each in self.asked)[path]


class _Asked(BaseHTTPRequestHandler):
    server: Server

    def _answer(self) -> None:
        body = self.rfile.read(int(self.headers.get("content-length") or 0))
        with self.server.met:
            self.server.asked.append((self.command, self.path, self.headers.get("authorization", ""), body))
            self.server.met.notify_all()
        waiting = self.server.answers.get(self.path.partition("?")[0]) or [(404, {"detail": "nothing"})]
        status, value = waiting.pop(0) if len(waiting) > 1 else waiting[0]
        if status == 0:
            self.close_connection = True
            return
        data = value if isinstance(value, bytes) else json.dumps(value).encode()
        self.send_response(status)
        self.send_header("content-type", "text/plain" if isinstance(value, bytes) else "application/json")
        self.send_header("content-length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    do_GET = do_POST = do_PUT = do_DELETE = do_PATCH = _answer  # noqa: N815 - http.server's names

    def log_message(self, *_) -> None:
        pass


@pytest.fixture
def server():
    made = Server()
    thread = threading.Thread(target=made.serve_forever, args=(0.01,))
    thread.start()
    made.tell("/q/run", {"id": "job-1", "status": "IN_QUEUE"})
    yield made
    made.shutdown()
    thread.join()
    made.server_close()


@pytest.fixture
def remote(runtime, server, monkeypatch, tmp_path):
    """Gives functions of the resources ``q`` and ``api``, which the server is."""
    declare, registry = runtime("declare"), runtime("registry")
    manifest = tmp_path / "flash_manifest.json"
    manifest.write_text(
        json.dumps(
            {
                "resources": {"q": {}, "api": {"is_load_balanced": True}, "pq": {}},
                "resources_endpoints": {name: f"{server.url}/{name}" for name in ("q", "api", "pq")},
            }
        )
    )
    monkeypatch.setenv("FLASH_MANIFEST_PATH", str(manifest))
    monkeypatch.setenv("RUNPOD_API_KEY", "rpa-secret")
    monkeypatch.delenv("FLASH_RESOURCE_NAME", raising=False)
    monkeypatch.setattr(registry.registry, "_loaded_at", None)
    for name, value in (("FIRST_POLL_S", 0.001), ("LAST_POLL_S", 0.01)):
        monkeypatch.setattr(runtime("client"), name, value)
    return declare.remote(declare.CpuLiveServerless(name="q"))


def pickled(value) -> str:
    return base64.b64encode(cloudpickle.dumps(value)).decode()


def completed(value) -> dict:
    output = {"success": True, "result": pickled(value), "error": None}
    return {
        "id": "job-1", "status": "COMPLETED", "output": output, "delayTime": 1500, "executionTime": 20,
        "workerId": "w1",
    }  # fmt: skip


async def double(x):
    raise AssertionError("it must not run here")


def test_a_job_is_followed_to_its_end(remote, server):
    server.tell(
        JOB, {"status": "IN_QUEUE"}, {"status": "IN_PROGRESS"}, {"status": "IN_PROGRESS"}, completed({1, 2})
    )
    out = asyncio.run(remote(double)(3))
    assert (out.id, out.status, out.output, out.error, out.workerId) == (
        "job-1",
        "COMPLETED",
        {1, 2},
        "",
        "w1",
    )
    assert (out.delayTime, out.executionTime, out.unwrap()) == (1500, 20, {1, 2})
    (method, path, key, body), *_ = server.asked
    assert (method, path, key) == ("POST", "/q/run", "Bearer rpa-secret")
    sent = json.loads(body)["input"]
    assert (sent["function_name"], sent["args"], sent["execution_type"]) == (
        "double",
        [pickled(3)],
        "function",
    )


@pytest.mark.parametrize(
    ("end", "kind", "words"),
    [
        ({"status": "CANCELLED"}, "JobCancelledError", "was cancelled"),
        ({"status": "TIMED_OUT", "error": "30 s"}, "JobTimeoutError", "ran over its time: 30 s"),
        ({"status": "FAILED"}, "RemoteExecutionError", "no reason given"),
        ({"status": "FAILED", "error": "boom\nTraceback"}, "RemoteExecutionError", "boom"),
        (
            {"status": "COMPLETED", "output": {"success": False, "result": None, "error": "no\nTraceback"}},
            "RemoteExecutionError",
            "no",
        ),
        (
            {"status": "COMPLETED", "output": {"success": True, "result": "%%"}},
            "SerializationError",
            "no base64 of a pickle",
        ),
    ],
)
def test_other_ends(runtime, remote, server, end, kind, words):  # noqa: PLR0917 - a table
    server.tell(JOB, end)
    out = asyncio.run(remote(double)(3))
    assert words in out.error
    assert out.status in ("CANCELLED", "TIMED_OUT", "FAILED")
    with pytest.raises(getattr(runtime("errors"), kind), match=words):
        out.unwrap()


def test_the_error_that_a_worker_of_runpods_tells(remote, server):
    told = {
        "error_type": "<class 'KeyError'>",
        "error_message": "'k'",
        "error_traceback": "Traceback: line 3",
    }
    server.tell(JOB, {"status": "FAILED", "error": json.dumps(told)})
    out = asyncio.run(remote(double)(3))
    error = out.exception
    assert (error.remote_type, error.remote_message) == ("KeyError", "'k'")
    assert error.remote_traceback == "Traceback: line 3"
    assert out.error == "KeyError: 'k'\nTraceback: line 3"


def test_a_status_that_cannot_be_had_for_a_while_is_asked_for_again(runtime, remote, server, monkeypatch):
    monkeypatch.setattr(runtime("client"), "RETRY_S", 0.001)
    server.tell(JOB, (502, b"bad gateway"), (0, ""), (429, {}), {"status": "IN_PROGRESS"}, completed(1))
    assert asyncio.run(remote(double)(3)).output == 1
    assert server.count("/q/run") == 1


def test_a_job_of_which_nothing_is_heard_is_given_up(runtime, remote, server, monkeypatch):
    monkeypatch.setattr(runtime("client"), "RETRY_S", 0.001)
    server.tell(JOB, (503, b""))
    with pytest.raises(runtime("errors").BackendError, match="Nothing is heard of the job job-1 of q"):
        asyncio.run(remote(double)(3))


@pytest.mark.parametrize(
    ("answers", "kind", "words"),
    [
        ([(401, {"detail": "no"})], "ApiKeyError", "RUNPOD_API_KEY"),
        ([(404, {"detail": "gone"})], "EndpointNotFoundError", "Deploy the project again"),
        ([(500, b"oops")], "BackendError", "answered 500: oops"),
        ([b"<html>"], "BackendError", "no JSON object"),
        ([(0, "")], "OutcomeUnknownError", "was not sent again"),
    ],
)
def test_a_job_that_cannot_be_started(runtime, remote, server, answers, kind, words):  # noqa: PLR0917
    server.tell("/q/run", *answers)
    with pytest.raises(getattr(runtime("errors"), kind)) as raised:
        asyncio.run(remote(double)(3))
    assert words in str(raised.value)
    assert "rpa-secret" not in str(raised.value)
    assert server.count("/q/run") == 1


def test_a_busy_endpoint_is_asked_again(runtime, remote, server, monkeypatch):
    monkeypatch.setattr(runtime("client"), "RETRY_S", 0.001)
    server.tell("/q/run", (429, {}), (429, {}), {"id": "job-1"})
    server.tell(JOB, completed("late"))
    assert asyncio.run(remote(double)(3)).output == "late"


def test_nobody_there(runtime, remote, server):
    server.shutdown()
    server.server_close()
    with pytest.raises(runtime("errors").BackendError, match="The endpoint of q cannot be reached"):
        asyncio.run(remote(double)(3))


def test_a_call_that_is_cancelled_cancels_its_job(remote, server):
    server.tell(JOB, {"status": "IN_PROGRESS"})
    server.tell("/q/cancel/job-1", {"status": "CANCELLED"})

    async def main():
        call = asyncio.create_task(remote(double)(3))
        while not server.count(JOB):  # noqa: ASYNC110 - the server is in another thread
            await asyncio.sleep(0.005)
        call.cancel()
        with pytest.raises(asyncio.CancelledError):
            await call

    asyncio.run(main())
    assert server.asked[-1][:2] == ("POST", "/q/cancel/job-1")


def test_too_much_is_refused_before_anything_is_sent(runtime, remote, server):
    with pytest.raises(runtime("errors").PayloadTooLargeError):
        asyncio.run(remote(double)(b"x" * 10_000_000))
    assert server.asked == []


def test_arguments_may_be_outcomes(runtime, remote, server):
    server.tell(JOB, completed(1))
    output = runtime("jobs").JobOutput
    asyncio.run(remote(double)(output("a", "COMPLETED", output=5)))
    assert json.loads(server.asked[0][3])["input"]["args"] == [pickled(5)]
    failed = output("a", "FAILED", exception=KeyError("k"))
    with pytest.raises(KeyError):
        asyncio.run(remote(double)(failed))


def test_methods_of_one_object_name_it(runtime, server, remote):
    class Model:
        def __init__(self, size):
            raise AssertionError("it must not be made here")

        def predict(self, x): ...

    server.tell(JOB, completed("a"))

    async def main():
        model = remote(Model)(size=2)
        await model.predict(1)
        await model.predict(x=2)
        await remote(Model)(3).predict(1)

    asyncio.run(main())
    first, second, third = [json.loads(each[3])["input"] for each in server.asked if each[1] == "/q/run"]
    assert first["instance_id"] == second["instance_id"] != third["instance_id"]
    assert first["constructor_kwargs"] == {"size": pickled(2)}
    assert (second["method_name"], second["kwargs"]) == ("predict", {"x": pickled(2)})
    assert not first["create_new_instance"]


def test_options_of_a_call(runtime, server, remote):
    class Model:
        def predict(self): ...

    server.tell(JOB, completed(1))
    function = remote(double)

    async def main():
        await function.options(timeout=60, ttl=timedelta(hours=1), webhook="https://a.example/b")(1)
        await remote(Model).options(timeout=5)().predict()
        await function(1)

    asyncio.run(main())
    bodies = [json.loads(each[3]) for each in server.asked if each[1] == "/q/run"]
    assert bodies[0]["policy"] == {"executionTimeout": 60_000, "ttl": 3_600_000}
    assert bodies[0]["webhook"] == "https://a.example/b"
    assert bodies[1]["policy"] == {"executionTimeout": 5_000}
    assert set(bodies[2]) == {"input"}


def test_the_function_of_an_image_makes_the_payload_here(runtime, server, remote):
    declare = runtime("declare")
    server.tell("/pq/run", {"id": "job-1"})
    server.tell("/pq/status/job-1", {"id": "job-1", "status": "COMPLETED", "output": {"text": "A"}})

    @declare.remote(declare.CpuServerlessEndpoint(name="pq", imageName="me/img:1"))
    async def upper(text):
        return {"prompt": text}

    assert asyncio.run(upper("a")).output == {"text": "A"}
    assert json.loads(server.asked[0][3]) == {"input": {"prompt": "a"}}


def test_routes_are_called_as_they_are_declared(runtime, server, remote):
    declare = runtime("declare")
    api = declare.CpuLiveLoadBalancer(name="api")

    @declare.remote(api, method="POST", path="/items/{item}/{rest:path}")
    async def post(item: str, rest: str, x: int, tags: list = ()): ...

    @declare.remote(api, method="GET", path="/find")
    async def find(words: list, limit: int = 3, since=None): ...

    server.tell("/api/items/a%20b%2F/c/d", {"ok": True})
    server.tell("/api/find", b"plain")
    assert asyncio.run(post("a b/", "c/d", x=2, tags={"t"})) == {"ok": True}
    assert asyncio.run(find(["u", "v"], since=None)) == "plain"
    (_, _, key, body), (method, path, _, _) = server.asked
    assert (key, json.loads(body)) == ("Bearer rpa-secret", {"x": 2, "tags": ["t"]})
    assert (method, path) == ("GET", "/api/find?words=u&words=v")
    assert post.url == f"{server.url}/api/items/{{item}}/{{rest:path}}"


def test_errors_of_routes(runtime, server, remote):
    declare, errors = runtime("declare"), runtime("errors")

    @declare.remote(declare.CpuLiveLoadBalancer(name="api"), method="POST", path="/p")
    async def post(x: int): ...

    told = {"detail": "ValueError: no", "type": "ValueError", "message": "no", "traceback": "Traceback"}
    server.tell("/api/p", (500, told), (0, ""))
    with pytest.raises(
        errors.RemoteExecutionError, match="POST /p of api answered 500: ValueError: no"
    ) as raised:
        asyncio.run(post(1))
    assert (raised.value.remote_type, raised.value.remote_traceback) == ("ValueError", "Traceback")
    with pytest.raises(errors.OutcomeUnknownError, match="was not answered"):
        asyncio.run(post(1))
    with pytest.raises(TypeError):
        asyncio.run(post(y=1))
    with pytest.raises(errors.SerializationError, match="Argument x of post"):
        asyncio.run(post(x=object()))


def test_addresses_follow_from_ids(runtime, monkeypatch):
    registry = runtime("registry")

    class Fixed:
        def load(self):
            return {
                "resources": {"q": {"endpoint_id": "abc"}, "api": {"is_load_balanced": True}, "u": {}},
                "resources_endpoints": {"api": "xyz", "u": "https://u.example/"},
            }

    found = registry.ServiceRegistry(Fixed())
    monkeypatch.setenv("RUNPOD_ENDPOINT_BASE_URL", "https://api.example.ai/v2/")
    assert found.url("q") == "https://api.example.ai/v2/abc"
    assert found.url("api") == "https://xyz.api.example.ai"
    assert found.url("u") == "https://u.example"


def test_a_manifest_is_loaded_again_when_it_is_old(runtime):
    loads = []

    class Counting:
        def load(self):
            loads.append(1)
            return {"resources": {"q": {}}}

    kept = runtime("registry").ServiceRegistry(Counting())
    assert kept.resource("q") == kept.resource("q") == {}
    assert len(loads) == 1
    forgetful = runtime("registry").ServiceRegistry(Counting(), ttl_s=-1)
    forgetful.resource("q")
    forgetful.resource("q")
    assert len(loads) == 3


def test_this_machine_is_reached_without_a_proxy(remote, server, monkeypatch):
    server.tell(JOB, completed(1))
    for name in ("HTTP_PROXY", "http_proxy"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    assert asyncio.run(remote(double)(3)).output == 1
