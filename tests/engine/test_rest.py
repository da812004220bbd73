"""Jobs over HTTP, asked with httpx: what Runpod's protocol promises, and where its clients trip."""

from __future__ import annotations

import asyncio
import base64
import json
import os
import signal
import subprocess
import textwrap
from contextlib import asynccontextmanager

import cloudpickle
import httpx
import pytest
from real import Following, call, cell, until
from test_webhook import no_proxy, receiver  # noqa: F401 - a fixture

from flash_nb.backends.local import connect, read_state

HANDLER = """
import os, time
def handler(job):
    given = job["input"]
    match given:
        case {"sleep": seconds}:
            time.sleep(seconds)
        case {"steps": n}:
            return steps(n, given.get("until"))
        case {"raise": text}:
            raise ValueError(text)
        case {"error": error}:
            return {"error": error}
        case {"die": file}:
            with open(file, "a") as log:
                log.write("x")
            if len(open(file).read()) < given.get("times", 9):
                os.kill(os.getpid(), 9)
        case {"print": text}:
            print(text)
        case {"object": True}:
            return object()
        case {"large": size}:
            return "x" * size
        case {"job": True}:
            return job
    return given
def steps(n, file):
    for i in range(n):
        yield {"step": i}
        while file and not os.path.exists(file):
            time.sleep(0.01)
"""
ITEM = {"name": "handler", "source": textwrap.dedent(HANDLER), "filename": "c", "first_line": 1}
IMAGE = {
    "name": "image",
    "kind": "CpuServerlessEndpoint",
    "workers_max": 1,
    "app": {"kind": "handler", "group": {"namespace": [ITEM], "buffers": [], "function": "handler"}},
}
LIVE = {"name": "live"}


class Queue:
    """An endpoint as Runpod's clients see it."""

    def __init__(self, world, endpoint, url: str) -> None:
        self.token = read_state(world.settings).api_key
        self.endpoint = endpoint
        self.url = f"{url}/v2/{endpoint.id}"
        self.http = httpx.AsyncClient(headers={"Authorization": f"Bearer {self.token}"}, timeout=60)

    async def post(self, path: str, given=None, **fields) -> httpx.Response:
        return await self.http.post(f"{self.url}/{path}", json=given, **fields)

    async def get(self, path: str) -> httpx.Response:
        return await self.http.get(f"{self.url}/{path}")

    async def run(self, given, **fields) -> str:
        answer = await self.post("run", {"input": given, **fields})
        assert answer.status_code == 200, answer.text
        assert answer.json() == {"id": answer.json()["id"], "status": "IN_QUEUE"}
        return answer.json()["id"]

    async def sync(self, given, **fields) -> dict:
        answer = await self.post("runsync", {"input": given, **fields})
        assert answer.status_code == 200, answer.text
        return answer.json()

    async def status(self, job_id: str) -> dict:
        return (await self.get(f"status/{job_id}")).json()

    async def until(self, job_id: str, *statuses: str) -> dict:
        """Ask until the job has one of these statuses."""
        found = await self.status(job_id)
        while found["status"] not in statuses:
            found = await self.status(job_id)
        return found


@asynccontextmanager
async def queue(world, **fields):
    async with world.endpoint(**fields) as endpoint:
        client = await connect(world.settings, "test")
        opened = Queue(world, endpoint, await client.call("http"))
        client.close()
        async with opened.http:
            yield opened


def scenario(world, body, fields=IMAGE) -> None:
    async def run():
        async with queue(world, **fields) as opened:
            await asyncio.wait_for(body(opened), 60)

    asyncio.run(run())


def live(code: str, *args, **fields) -> dict:
    return {
        "function_name": "f",
        "function_code": textwrap.dedent(code),
        "args": [base64.b64encode(cloudpickle.dumps(value)).decode() for value in args],
        "kwargs": {},
        **fields,
    }


# --- a job's life -----------------------------------------------------------------------------


def test_a_job_is_told_in_whole_milliseconds(world):
    async def body(q):
        job_id = await q.run({"text": "hi"})
        done = await q.until(job_id, "COMPLETED")
        assert sorted(done) == ["delayTime", "executionTime", "id", "output", "status", "workerId"]
        assert (done["id"], done["output"]) == (job_id, {"text": "hi"})
        assert [type(done[key]) for key in ("delayTime", "executionTime", "workerId")] == [int, int, str]

    scenario(world, body)


@pytest.mark.parametrize(
    "value", [None, 0, "", {}, [], {"input": {}}, {"stdout": None, "success": 1}, "é" * 9]
)
def test_any_json_goes_in_and_comes_out(world, value):
    async def body(q):
        assert (await q.sync(value))["output"] == value

    scenario(world, body)


def test_the_token_is_taken_with_and_without_bearer_and_all_else_is_refused_in_json(world):
    async def body(q):
        for given in (q.token, f"Bearer {q.token}", f"bearer {q.token}"):
            assert (
                await httpx.AsyncClient().get(f"{q.url}/health", headers={"Authorization": given})
            ).is_success
        for headers in ({}, {"Authorization": "Bearer x"}, {"Cookie": f"flash-{q.http.base_url.port}=x"}):
            refused = await httpx.AsyncClient().get(f"{q.url}/health", headers=headers)
            assert (refused.status_code, list(refused.json())) == (401, ["detail"])
        elsewhere = {"Authorization": q.token, "Host": "evil.example"}
        assert (await httpx.AsyncClient().get(f"{q.url}/health", headers=elsewhere)).status_code == 403

    scenario(world, body)


def test_what_is_not_there_is_404_in_json(world):
    async def body(q):
        for method, path in (
            ("POST", "run"),
            ("POST", "runsync"),
            ("GET", "status/x"),
            ("GET", "health"),
            ("POST", "purge-queue"),
        ):
            absent = await q.http.request(
                method, q.url.replace("/ep-", "/no-") + f"/{path}", json={"input": 1}
            )
            assert (absent.status_code, list(absent.json())) == (404, ["detail"]), path
        for method, path in (
            ("GET", "status/x"),
            ("GET", "stream/x"),
            ("POST", "cancel/x"),
            ("POST", "retry/x"),
        ):
            absent = await q.http.request(method, f"{q.url}/{path}")
            assert (absent.status_code, list(absent.json())) == (404, ["detail"]), path

    scenario(world, body)


def test_a_job_is_found_under_its_own_endpoint_only(world):
    async def body(q):
        job_id = await q.run(1)
        async with queue(world, name="other") as other:
            assert (await other.get(f"status/{job_id}")).status_code == 404

    scenario(world, body)


@pytest.mark.parametrize(
    ("content", "status"),
    [(b"", 400), (b"{", 400), (b"[1]", 400), (b"{}", 400), (b'{"input": 1, "policy": {"ttl": 1}}', 400)],
)
def test_bodies_that_make_no_sense_are_refused(world, content, status):
    async def body(q):
        for path in ("run", "runsync"):
            refused = await q.http.post(f"{q.url}/{path}", content=content)
            assert (refused.status_code, list(refused.json())) == (status, ["detail"])

    scenario(world, body)


def test_ten_megabytes_for_run_and_twenty_for_runsync(world):
    async def body(q):
        ten, twenty = "x" * 9_999_980, "x" * 19_999_980
        assert (await q.post("run", {"input": ten + "x" * 50})).status_code == 413
        assert (await q.post("runsync", {"input": twenty + "x" * 50})).status_code == 413
        assert (await q.until(await q.run(ten), "COMPLETED"))["output"] == ten
        assert (await q.sync(twenty))["output"] == twenty

    scenario(world, body)


def test_an_output_over_the_limit_of_a_frame_is_told_too(world):
    async def body(q):
        assert len((await q.sync({"large": 25_000_000}))["output"]) == 25_000_000

    scenario(world, body)


# --- waiting ----------------------------------------------------------------------------------


def test_runsync_stops_waiting_and_the_job_goes_on(world, tmp_path):
    async def body(q):
        given = {"steps": 1, "until": str(tmp_path / "go")}
        answer = await q.post("runsync?wait=1000", {"input": given})
        assert answer.status_code == 200
        assert answer.json()["status"] in ("IN_QUEUE", "IN_PROGRESS")
        (tmp_path / "go").touch()
        assert (await q.until(answer.json()["id"], "COMPLETED"))["output"] == [{"step": 0}]

    scenario(world, body)


@pytest.mark.parametrize("wait", ["999", "300001", "x", "-1", ""])
def test_a_wait_out_of_range_is_refused(world, wait):
    async def body(q):
        assert (await q.post(f"runsync?wait={wait}", {"input": 1})).status_code == 400

    scenario(world, body)


def test_a_waiting_client_hears_of_a_cancel_and_of_the_engines_end(world, tmp_path):
    async def body(q):
        waiting = asyncio.create_task(q.sync({"sleep": 60}))
        job_id = await first_job(world)
        assert (await q.post(f"cancel/{job_id}")).json() == {"id": job_id, "status": "CANCELLED"}
        assert (await waiting)["status"] == "CANCELLED"
        waiting = asyncio.create_task(q.sync({"sleep": 60}))
        await first_job(world, besides=job_id)
        await asyncio.to_thread(world.flash, "engine", "stop")
        assert (await waiting)["status"] in ("IN_QUEUE", "IN_PROGRESS")

    scenario(world, body)


async def first_job(world, besides: str = "") -> str:
    """Wait for a job to run; return its id."""
    while True:
        jobs = [j for j in await world.call("jobs") if j["status"] == "IN_PROGRESS" and j["id"] != besides]
        if jobs:
            return jobs[0]["id"]
        await asyncio.sleep(0.01)


# --- ending -----------------------------------------------------------------------------------


def test_errors_of_a_handler(world):
    async def body(q):
        raised = await q.sync({"raise": "no"})
        assert (raised["status"], raised["output"]) == ("FAILED", None)
        written = json.loads(raised["error"])
        assert (written["error_type"], written["error_message"]) == ("<class 'ValueError'>", "no")
        assert "raise ValueError(text)" in written["error_traceback"]
        returned = await q.sync({"error": "bad input"})
        assert (returned["status"], returned["error"]) == ("FAILED", "bad input")
        assert "JSON" in (await q.sync({"object": True}))["error"]

    scenario(world, body)


def test_a_cancelled_job_has_every_field_and_stays_cancelled(world):
    async def body(q):
        running, waiting = await q.run({"sleep": 60}), await q.run({"sleep": 60})
        await q.until(running, "IN_PROGRESS")
        for job_id in (waiting, running, running):
            answer = await q.post(f"cancel/{job_id}")
            assert (answer.status_code, answer.json()) == (200, {"id": job_id, "status": "CANCELLED"})
            found = await q.status(job_id)
            assert {type(found[key]) for key in ("delayTime", "executionTime")} == {int}
            assert isinstance(found["workerId"], str)
        assert (await q.post(f"retry/{running}")).status_code == 400

    scenario(world, body)


def test_cancelling_what_is_over_changes_nothing(world):
    async def body(q):
        done = await q.sync(1)
        assert (await q.post(f"cancel/{done['id']}")).json()["status"] == "COMPLETED"

    scenario(world, body)


def test_purge_takes_only_what_waits(world, tmp_path):
    async def body(q):
        running = await q.run({"steps": 1, "until": str(tmp_path / "go")})
        await q.until(running, "IN_PROGRESS")
        waiting = [await q.run(n) for n in range(3)]
        assert (await q.post("purge-queue")).json() == {"removed": 3, "status": "completed"}
        assert [(await q.status(job_id))["status"] for job_id in waiting] == ["CANCELLED"] * 3
        (tmp_path / "go").touch()
        await q.until(running, "COMPLETED")
        assert (await q.post("purge-queue")).json()["removed"] == 0

    scenario(world, body)


def test_an_execution_timeout_can_be_retried_and_keeps_its_id(world, tmp_path):
    fields = {**IMAGE, "timeout_s": 0.5}

    async def body(q):
        job_id = await q.run({"steps": 1, "until": str(tmp_path / "go")})
        late = await q.until(job_id, "TIMED_OUT")
        assert "time-out" in late["error"]
        (tmp_path / "go").touch()
        assert (await q.post(f"retry/{job_id}")).json() == {"id": job_id, "status": "IN_QUEUE"}
        assert (await q.until(job_id, "COMPLETED"))["output"] == [{"step": 0}]
        assert (await q.post(f"retry/{job_id}")).status_code == 400

    scenario(world, body, fields)


def test_a_job_whose_time_to_live_is_over_is_forgotten(world):
    async def body(q):
        job_id = await q.run({"sleep": 60}, policy={"ttl": 10_000})
        late = await q.run({"sleep": 60}, policy={"ttl": 10_000})
        answer = await q.get(f"status/{late}")
        while answer.is_success:
            answer = await q.get(f"status/{late}")
        for method, path in (("GET", "status"), ("GET", "stream"), ("POST", "cancel"), ("POST", "retry")):
            for gone in (job_id, late):
                assert (await q.http.request(method, f"{q.url}/{path}/{gone}")).status_code == 404

    scenario(world, body)


def test_a_job_whose_worker_died_is_run_again(world, tmp_path):
    async def body(q):
        done = await q.sync({"die": str(tmp_path / "log"), "times": 2})
        assert done["status"] == "COMPLETED"
        assert (await q.get("health")).json()["jobs"]["retried"] == 1

    scenario(world, body)


def test_a_job_survives_its_engine(world, tmp_path):
    async def body(q):
        job_id = await q.run({"steps": 1, "until": str(tmp_path / "go")})
        await q.until(job_id, "IN_PROGRESS")
        world.kill_engine()
        client = await connect(world.settings, "test")
        q.url = f"{await client.call('http')}/v2/{q.endpoint.id}"
        client.close()
        (tmp_path / "go").touch()
        assert (await q.until(job_id, "COMPLETED"))["output"] == [{"step": 0}]

    scenario(world, body)


def test_a_webhook_is_told_what_status_says(world):
    async def body(q):
        with receiver() as hook:
            job_id = await q.run({"text": "hi"}, webhook=hook.url)
            done = await q.until(job_id, "COMPLETED")
            await until(lambda: hook.messages)
            assert hook.messages == [done]

    scenario(world, body)


def test_the_handler_sees_its_job(world):
    async def body(q):
        done = await q.sync({"job": True}, s3Config={"bucketName": "b"})
        assert done["output"] == {"id": done["id"], "input": {"job": True}, "s3Config": {"bucketName": "b"}}

    scenario(world, body)


# --- streams ----------------------------------------------------------------------------------


def test_a_stream_gives_each_chunk_once_and_its_key_always(world, tmp_path):
    async def body(q):
        job_id = await q.run({"steps": 3, "until": str(tmp_path / "go")})
        chunks = []
        while not chunks:
            chunks += (await q.get(f"stream/{job_id}")).json()["stream"]
        assert chunks == [{"output": {"step": 0}}]
        first = (await q.get(f"stream/{job_id}")).json()
        assert (first["status"], first["stream"]) == ("IN_PROGRESS", [])
        (tmp_path / "go").touch()
        done = await q.until(job_id, "COMPLETED")
        last = (await q.get(f"stream/{job_id}")).json()
        assert (last["status"], last["stream"]) == ("COMPLETED", [{"output": {"step": n}} for n in (1, 2)])
        assert (await q.get(f"stream/{job_id}")).json()["stream"] == []
        assert done["output"] == [{"step": n} for n in range(3)]

    scenario(world, body)


def test_a_job_that_yields_nothing_has_an_empty_stream(world):
    async def body(q):
        done = await q.sync(5)
        assert (await q.get(f"stream/{done['id']}")).json()["stream"] == []

    scenario(world, body)


# --- health -----------------------------------------------------------------------------------


def test_health_counts_workers_and_jobs(world, tmp_path):
    async def body(q):
        empty = (await q.get("health")).json()
        assert empty == {
            "jobs": dict.fromkeys(["completed", "failed", "inProgress", "inQueue", "retried"], 0),
            "workers": dict.fromkeys(
                ["idle", "initializing", "ready", "running", "throttled", "unhealthy"], 0
            ),
        }
        await q.sync(1)
        await q.sync({"raise": "no"})
        running = await q.run({"steps": 1, "until": str(tmp_path / "go")})
        await q.until(running, "IN_PROGRESS")
        waiting = await q.run(1)
        busy = (await q.get("health")).json()
        assert busy["jobs"] == {"completed": 1, "failed": 1, "inProgress": 1, "inQueue": 1, "retried": 0}
        assert (busy["workers"]["running"], busy["workers"]["ready"], busy["workers"]["idle"]) == (1, 1, 0)
        (tmp_path / "go").touch()
        await q.until(waiting, "COMPLETED")

    scenario(world, body)


# --- live endpoints ---------------------------------------------------------------------------


def test_a_function_request_gives_a_function_response(world):
    async def body(q):
        code = """
            def f(x):
                print("hello")
                return {x}
        """
        done = await q.sync(live(code, 5))
        output = done["output"]
        assert done["status"] == "COMPLETED"
        assert cloudpickle.loads(base64.b64decode(output.pop("result"))) == {5}
        assert output == {
            "success": True,
            "error": None,
            "stdout": "hello\n",
            "instance_id": None,
            "instance_info": None,
        }

    scenario(world, body, LIVE)


def test_what_a_live_function_raises_completes_the_job(world):
    async def body(q):
        done = await q.sync(live("def f():\n    print('on')\n    raise LookupError('gone')"))
        output = done["output"]
        assert (done["status"], output["success"], output["stdout"]) == ("COMPLETED", False, "on\n")
        assert output["error"].startswith("gone\nTraceback (most recent call last):\n")

    scenario(world, body, LIVE)


def test_dependencies_are_installed_or_the_job_says_why_not(world):
    async def body(q):
        done = await q.sync(live("def f():\n    import roman\n    return 1", dependencies=["roman==5.2"]))
        assert done["output"]["success"], done
        failed = await q.sync(live("def f(): pass", dependencies=["no such thing"]))
        assert failed["status"] == "FAILED"
        assert "no such thing" in failed["error"]
        assert (failed["output"]["success"], failed["output"]["error"]) == (False, failed["error"])

    scenario(world, body, LIVE)


def test_an_objects_calls_go_to_its_worker(world):
    code = """
import os
class C:
    n = 0
    def up(self):
        self.n += 1
        return [self.n, os.getpid()]
"""
    asked = {
        "execution_type": "class",
        "class_name": "C",
        "class_code": code,
        "method_name": "up",
        "instance_id": "C_1",
        "create_new_instance": False,
        "serialization_format": "json",
    }

    async def body(q):
        busy = await q.run(live("def f():\n    import time\n    time.sleep(60)"))
        await q.until(busy, "IN_PROGRESS")
        found = [(await q.sync(asked))["output"] for _ in range(3)]
        assert [output["json_result"][0] for output in found] == [1, 2, 3]
        assert len({output["json_result"][1] for output in found}) == 1
        assert found[-1]["instance_info"]["method_calls"] == 3
        other = (await q.sync({**asked, "instance_id": "C_2"}))["output"]
        assert other["json_result"][0] == 1

    scenario(world, body, {**LIVE, "workers_max": 3})


def test_a_live_generator_streams(world):
    async def body(q):
        done = await q.sync(live("def f():\n    yield 1\n    yield {2}"))
        first, second = (await q.get(f"stream/{done['id']}")).json()["stream"]
        assert first == {"output": 1}
        assert cloudpickle.loads(base64.b64decode(second["output"]["result"])) == {2}

    scenario(world, body, LIVE)


def test_jobs_of_a_kernel_are_seen_by_id(world):
    async def body(q):
        job, request = Following(), call("def f(x):\n    print('hi')\n    return x", [1])
        q.endpoint.run(request, job)
        await job.end()
        output = (await q.status(request.job_id))["output"]
        assert cloudpickle.loads(base64.b64decode(output["result"])) == [1]
        assert (output["success"], output["stdout"]) == (True, "hi\n")
        running, request = Following(), cell("import time; time.sleep(60)")
        q.endpoint.run(request, running)
        await q.until(request.job_id, "IN_PROGRESS")
        await q.post(f"cancel/{request.job_id}")
        assert (await running.end()).info.status.value == "CANCELLED"

    scenario(world, body, LIVE)


def test_a_live_endpoint_takes_function_requests_only(world):
    async def body(q):
        assert (await q.post("run", {"input": "hi"})).status_code == 400
        assert (await q.sync({}))["output"]["success"] is False

    scenario(world, body, LIVE)


# --- the engine -------------------------------------------------------------------------------


def test_questions_keep_the_engine_awake(make_world):
    world = make_world(engine_idle_s=1.0)

    async def body(q):
        pid = world.engine_pid()
        for _ in range(15):
            assert (await q.get("health")).is_success
            await asyncio.sleep(0.2)
        assert world.engine_pid() == pid

    async def run():
        async with world.endpoint(**IMAGE) as endpoint:
            client = await connect(world.settings, "test")
            opened = Queue(world, endpoint, await client.call("http"))
            client.close()
        async with opened.http:
            await body(opened)

    asyncio.run(run())


def test_curl_runs_a_job(world):
    async def body(q):
        command = [
            "curl",
            "-sS",
            f"{q.url}/runsync",
            "-H",
            f"Authorization: {q.token}",
            "-d",
            '{"input": [1]}',
        ]
        done = await asyncio.to_thread(subprocess.run, command, capture_output=True, text=True, check=True)
        assert json.loads(done.stdout)["output"] == [1]

    scenario(world, body)


def test_an_interrupted_engine_answers_who_waits(world):
    async def body(q):
        waiting = asyncio.create_task(q.sync({"sleep": 60}))
        await first_job(world)
        os.kill(world.engine_pid(), signal.SIGTERM)
        assert (await waiting)["status"] in ("IN_QUEUE", "IN_PROGRESS")

    scenario(world, body)
