"""What `flash_nb.backends.base` promises of load-balanced endpoints, of every backend there is."""

from __future__ import annotations

import asyncio
import json

from real import spec, until
from test_backends import contract

from flash_nb.backends.base import HttpRequest
from flash_nb.sdk.app import ROUTE_REQUIREMENTS

SOURCE = """
import asyncio, os
def double(x: int):
    return 2 * x
def fail():
    raise ValueError("no")
def die(file: str):
    open(file, "a").write("x")
    os.kill(os.getpid(), 9)
async def wait(file: str):
    open(file, "w").write("begun")
    try:
        await asyncio.sleep(60)
    finally:
        open(file, "w").write("ended")
"""


def served(source: str = SOURCE):
    item = {"name": "double", "source": source, "filename": "c", "first_line": 1}
    names = ("double", "fail", "die", "wait")
    routes = [{"method": "POST", "path": f"/{name}", "function": name} for name in names]
    group = {"namespace": [item], "buffers": [], "routes": routes}
    return spec(
        name="api",
        kind="CpuLiveLoadBalancer",
        balanced=True,
        requests_per_worker=4,
        requirements=ROUTE_REQUIREMENTS,
        app={"kind": "routes", "title": "api", "groups": [group]},
    )


def post(path: str, **fields) -> HttpRequest:
    headers = [("content-type", "application/json")]
    return HttpRequest("POST", path, headers=headers, body=json.dumps(fields).encode())


@contract
async def test_a_route_answers_whatever_its_status(backend, new_backend):
    endpoint = await backend.ensure(served())
    answer = await endpoint.request(post("/double", x=4))
    assert (answer.status, json.loads(answer.body)) == (200, 8)
    assert answer.headers["content-type"] == "application/json"
    assert (await endpoint.request(post("/double", x="four"))).status == 422
    assert (await endpoint.request(post("/nowhere"))).status == 404
    assert (await endpoint.request(HttpRequest("GET", "/double"))).status == 405
    failed = await endpoint.request(post("/fail"))
    assert failed.status == 500
    assert json.loads(failed.body)["detail"] == "ValueError: no"
    assert endpoint.url.startswith("http")


@contract
async def test_a_request_is_never_sent_twice(backend, new_backend, tmp_path):
    endpoint = await backend.ensure(served())
    answer = await endpoint.request(post("/die", file=str(tmp_path / "log")))
    assert answer.status == 502
    assert (tmp_path / "log").read_text() == "x"
    assert json.loads((await endpoint.request(post("/double", x=1))).body) == 2


@contract
async def test_many_requests_at_once(backend, new_backend):
    endpoint = await backend.ensure(served())
    answers = await asyncio.gather(*(endpoint.request(post("/double", x=n)) for n in range(100)))
    assert [json.loads(answer.body) for answer in answers] == [2 * n for n in range(100)]


@contract
async def test_who_stops_waiting_ends_the_request(backend, new_backend, tmp_path):
    endpoint = await backend.ensure(served())
    file = tmp_path / "log"
    waiting = asyncio.create_task(endpoint.request(post("/wait", file=str(file))))
    await until(file.exists)
    waiting.cancel()
    await until(lambda: file.read_text() == "ended")


@contract
async def test_a_changed_app_is_served_from_the_next_request_on(backend, new_backend):
    endpoint = await backend.ensure(served())
    assert json.loads((await endpoint.request(post("/double", x=1))).body) == 2
    again = await backend.ensure(served(SOURCE.replace("2 * x", "3 * x")))
    assert again.id == endpoint.id
    assert json.loads((await again.request(post("/double", x=1))).body) == 3
