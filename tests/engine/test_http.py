"""The HTTP door, asked by foreign clients: httpx and curl."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
import textwrap
from contextlib import asynccontextmanager
from pathlib import Path

import httpx
import pytest
from real import spec, until

from flash_nb.backends.base import HttpRequest
from flash_nb.backends.local import read_state
from flash_nb.errors import BackendError
from flash_nb.sdk.app import ROUTE_REQUIREMENTS

SOURCE = """
import asyncio, os, time
calls = []
async def add(x: int, y: int = 0):
    return {"result": x + y}
def pid():
    return os.getpid()
async def meet(count: int):
    calls.append(1)
    while len(calls) < count:
        await asyncio.sleep(0.01)
    return len(calls)
def die(file: str):
    with open(file, "a") as log:
        log.write("x")
    os.kill(os.getpid(), 9)
async def slow(file: str, seconds: float):
    try:
        open(file, "w").write("begun")
        await asyncio.sleep(seconds)
        open(file, "w").write("done")
    except asyncio.CancelledError:
        open(file, "w").write("cancelled")
        raise
    return "slow"
def large(size: int):
    return "x" * size
def length(text: str):
    return len(text)
async def drip(file: str):
    from fastapi.responses import StreamingResponse
    async def pieces():
        yield "first\\n"
        while not os.path.exists(file):
            await asyncio.sleep(0.01)
        yield "last\\n"
    return StreamingResponse(pieces(), media_type="text/plain")
def where():
    return os.environ.get("RUNPOD_VOLUME_PATH")
"""
ROUTES = {
    "add": "POST", "pid": "GET", "meet": "POST", "die": "POST", "slow": "POST",
    "large": "GET", "length": "POST", "drip": "GET", "where": "GET",
}  # fmt: skip


def api(source: str = SOURCE, routes: dict[str, str] = ROUTES, **fields):
    """Return the spec of a load-balanced endpoint; every function is served under its name."""
    item = {"name": "add", "source": textwrap.dedent(source), "filename": "c", "first_line": 1}
    served = [{"method": method, "path": f"/{name}", "function": name} for name, method in routes.items()]
    group = {"namespace": [item], "buffers": [], "routes": served}
    return {
        "name": "api",
        "kind": "CpuLiveLoadBalancer",
        "balanced": True,
        "requests_per_worker": 100,
        "requirements": ROUTE_REQUIREMENTS,
        "app": {"kind": "routes", "title": "api", "groups": [group]},
        **fields,
    }


class Api:
    """An endpoint over HTTP."""

    def __init__(self, world, endpoint) -> None:
        self.token = read_state(world.settings).api_key
        self.endpoint = endpoint
        self.http = httpx.AsyncClient(
            base_url=endpoint.url, headers={"Authorization": f"Bearer {self.token}"}, timeout=60
        )

    async def call(self, name: str, **fields) -> httpx.Response:
        return await self.http.request(ROUTES[name], f"/{name}", **fields)


@asynccontextmanager
async def serving(world, **fields):
    async with world.endpoint(**api(**fields)) as endpoint:
        opened = Api(world, endpoint)
        async with opened.http:
            yield opened


async def get(url: str, **fields) -> httpx.Response:
    """Ask as somebody who was never here before."""
    async with httpx.AsyncClient() as client:
        return await client.get(url, **fields)


def test_curl_calls_a_route(world):
    async def scenario():
        async with serving(world) as opened:
            command = [
                "curl",
                "-sS",
                f"{opened.endpoint.url}/add",
                "-H",
                f"Authorization: Bearer {opened.token}",
            ]
            command += ["-H", "Content-Type: application/json", "-d", '{"x": 1, "y": 2}']
            done = await asyncio.to_thread(
                subprocess.run, command, capture_output=True, text=True, check=True
            )
            assert json.loads(done.stdout) == {"result": 3}

    asyncio.run(scenario())


def test_validation_methods_and_unknown_routes_are_http_errors(world):
    async def scenario():
        async with serving(world) as opened:
            wrong = await opened.call("add", json={"x": "one"})
            assert wrong.status_code == 422
            assert wrong.json()["detail"][0]["loc"] == ["body", "x"]
            assert (await opened.http.get("/add")).status_code == 405
            assert (await opened.http.get("/nowhere")).status_code == 404
            assert (await opened.http.get("/ping")).json() == {"status": "healthy"}
            schema = (await opened.http.get("/openapi.json")).json()
            assert set(schema["paths"]) == {f"/{name}" for name in ROUTES}
            page = (await opened.http.get("/docs")).text
            for link in [
                part.split('"')[0] for part in page.split('"/')[1:] if "static" in part.split('"')[0]
            ]:
                root = opened.endpoint.url.rsplit("/", 1)[0]
                assert (await opened.http.get(f"{root}/{link}")).status_code == 200

    asyncio.run(scenario())


def test_without_the_token_or_under_another_name_nothing_is_told(world):
    async def scenario():
        async with serving(world) as opened:
            url = f"{opened.endpoint.url}/pid"
            for wrong in ({}, {"Authorization": "Bearer wrong"}, {"Authorization": f"Basic {opened.token}"}):
                refused = await get(url, headers=wrong)
                assert refused.status_code == 401
                assert opened.token not in refused.text
            elsewhere = {"Authorization": f"Bearer {opened.token}", "Host": "evil.example"}
            assert (await get(url, headers=elsewhere)).status_code == 403
            assert (await get(url, params={"token": "wrong"})).status_code == 401
            assert not world.workers()

    asyncio.run(scenario())


def test_a_browser_gives_the_token_once(world):
    async def scenario():
        async with serving(world) as opened:
            browser = httpx.AsyncClient(follow_redirects=True, timeout=60)
            async with browser:
                page = await browser.get(f"{opened.endpoint.url}/docs", params={"token": opened.token})
                assert page.status_code == 200
                assert "token" not in str(page.url)
                assert (await browser.get(f"{opened.endpoint.url}/pid")).status_code == 200
                (cookie,) = browser.cookies.jar
                assert opened.token not in cookie.value
                assert cookie.has_nonstandard_attr("HttpOnly")
            assert (await opened.call("pid", params={"token": "of the route"})).status_code == 200

    asyncio.run(scenario())


def test_the_door_listens_on_the_loopback_only(world):
    async def scenario():
        async with serving(world) as opened:
            port = httpx.URL(opened.endpoint.url).port
            listening = Path("/proc/net/tcp").read_text().splitlines()[1:]
            addresses = [line.split()[1] for line in listening if line.split()[3] == "0A"]
            assert [a for a in addresses if a.endswith(f":{port:04X}")] == [f"0100007F:{port:04X}"]

    asyncio.run(scenario())


def test_only_load_balanced_endpoints_have_routes(world):
    async def scenario():
        async with serving(world) as opened:
            queue = await world.backends[0].ensure(spec(name="queue"))
            root = opened.endpoint.url.rsplit("/", 1)[0]
            headers = {"Authorization": f"Bearer {opened.token}"}
            refused = await get(f"{root}/{queue.id}/x", headers=headers)
            assert refused.status_code == 404
            assert "queue" in refused.json()["detail"]
            assert (await get(f"{root}/ep-nothing/x", headers=headers)).status_code == 404
            with pytest.raises(BackendError, match="has a queue and no routes"):
                await queue.request(HttpRequest("GET", "/x"))

    asyncio.run(scenario())


def test_requests_run_at_the_same_time_on_one_worker(world):
    async def scenario():
        async with serving(world, workers_max=1) as opened:
            answers = await asyncio.gather(*(opened.call("meet", json={"count": 20}) for _ in range(20)))
            assert [answer.json() for answer in answers] == [20] * 20
            assert len(world.workers()) == 1

    asyncio.run(scenario())


def test_more_requests_than_the_scaler_allows_start_another_worker(world):
    async def scenario():
        async with serving(world, workers_max=3, requests_per_worker=2) as opened:
            await opened.call("pid")
            assert len(world.workers()) == 1
            body = {"file": os.devnull, "seconds": 60}
            busy = [asyncio.create_task(opened.call("slow", json=body)) for _ in range(5)]
            await until(lambda: len(world.workers()) == 3)
            for task in busy:
                task.cancel()
            await asyncio.gather(*busy, return_exceptions=True)

    asyncio.run(scenario())


def test_workers_leave_when_idle_and_come_back(world):
    async def scenario():
        async with serving(world, idle_timeout_s=0.5) as opened:
            first = (await opened.call("pid")).json()
            await until(lambda: not world.workers())
            assert (await opened.call("pid")).json() != first

    asyncio.run(scenario())


def test_a_request_whose_worker_dies_is_not_sent_again(world, tmp_path):
    async def scenario():
        async with serving(world) as opened:
            answer = await opened.call("die", json={"file": str(tmp_path / "log")})
            assert answer.status_code == 502
            assert "killed by signal 9" in answer.json()["detail"]
            assert (tmp_path / "log").read_text() == "x"
            assert (await opened.call("add", json={"x": 1})).json() == {"result": 1}

    asyncio.run(scenario())


def test_a_client_that_leaves_ends_its_request(world, tmp_path):
    async def scenario():
        async with serving(world) as opened:
            file = tmp_path / "log"
            body = {"file": str(file), "seconds": 60}
            task = asyncio.create_task(opened.call("slow", json=body))
            await until(lambda: file.exists() and file.read_text() == "begun")
            task.cancel()
            await until(lambda: file.read_text() == "cancelled")

    asyncio.run(scenario())


def test_the_execution_time_out_is_a_504(world, tmp_path):
    async def scenario():
        async with serving(world, timeout_s=5.0) as opened:
            await opened.call("pid")
            file = tmp_path / "log"
            answer = await opened.call("slow", json={"file": str(file), "seconds": 60})
            assert answer.status_code == 504
            await until(lambda: file.read_text() == "cancelled")

    asyncio.run(scenario())


def test_an_answer_streams(world, tmp_path):
    async def scenario():
        async with serving(world) as opened:
            file = tmp_path / "gate"
            async with opened.http.stream("GET", "/drip", params={"file": str(file)}) as response:
                lines = response.aiter_lines()
                assert await anext(lines) == "first"
                file.touch()
                assert await anext(lines) == "last"

    asyncio.run(scenario())


def test_a_stream_that_breaks_is_seen_to_break(world, tmp_path):
    async def scenario():
        async with serving(world) as opened:
            request = opened.http.build_request("GET", "/drip", params={"file": str(tmp_path / "never")})
            response = await opened.http.send(request, stream=True)
            lines = response.aiter_lines()
            assert await anext(lines) == "first"
            os.kill(world.workers()[0], signal.SIGKILL)
            with pytest.raises(httpx.RemoteProtocolError):
                [line async for line in lines]

    asyncio.run(scenario())


def test_large_bodies_go_both_ways_and_too_large_ones_are_refused(world):
    async def scenario():
        async with serving(world) as opened:
            answer = await opened.call("large", params={"size": 5_000_000})
            assert len(answer.json()) == 5_000_000
            answer = await opened.call("length", json={"text": "y" * 5_000_000})
            assert answer.json() == 5_000_000
            answer = await opened.endpoint.request(HttpRequest("GET", "/large", "size=3000000"))
            assert len(json.loads(answer.body)) == 3_000_000
            answer = await opened.call("length", json={"text": "y" * 31_000_000})
            assert answer.status_code == 413
            assert world.spills() == []

    asyncio.run(scenario())


def test_a_change_of_the_app_fails_no_request(world, tmp_path):
    async def scenario():
        async with serving(world, workers_max=1) as opened:
            file = tmp_path / "log"
            running = asyncio.create_task(opened.call("slow", json={"file": str(file), "seconds": 1.0}))
            await until(file.exists)
            changed = SOURCE.replace("x + y", "x * 100 + y")
            await world.backends[0].ensure(spec(**api(changed, workers_max=1)))
            assert (await opened.call("add", json={"x": 1})).json() == {"result": 100}
            assert (await running).json() == "slow"
            await until(lambda: len(world.workers()) == 1)

    asyncio.run(scenario())


def test_code_that_cannot_be_executed_is_told_to_every_caller(world):
    async def scenario():
        async with serving(world, source=SOURCE + "\nraise RuntimeError('no model')\n") as opened:
            for _ in range(2):
                answer = await opened.call("pid")
                assert answer.status_code == 500
                assert answer.json()["detail"] == "RuntimeError: no model"

    asyncio.run(scenario())


def test_a_dependency_that_cannot_be_installed_is_a_503(world):
    async def scenario():
        async with serving(world, requirements=["no-such-package-of-anybody==9"]) as opened:
            answer = await opened.call("pid")
            assert answer.status_code == 503
            assert "no-such-package-of-anybody" in answer.json()["detail"]

    asyncio.run(scenario())


def test_the_address_stays_when_the_engine_comes_back(world):
    async def scenario():
        async with serving(world) as opened:
            await opened.call("pid")
            url = opened.endpoint.url
            world.kill_engine()
            again = await world.backend().ensure(spec(**api()))
            assert again.url == url
            assert (await opened.call("add", json={"x": 4})).json() == {"result": 4}

    asyncio.run(scenario())


def test_the_volume_is_a_folder_that_workers_share(world):
    async def scenario():
        async with serving(world, volume="EU-RO-1-models") as opened:
            folder = Path((await opened.call("where")).json())
            assert folder.is_dir()
            assert folder.name == "EU-RO-1-models"

    asyncio.run(scenario())
