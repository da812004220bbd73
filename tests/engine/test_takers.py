"""Runpod's worker protocol, spoken by hand: what the official worker does not do, or does not show."""

from __future__ import annotations

import asyncio
import json
import subprocess
import time
from contextlib import asynccontextmanager

import httpx
from real import Following

from flash_nb.backends.base import JobRequest
from flash_nb.engine.takers import HOLD_S
from flash_nb.jobs import JobStatus, new_job_id


class Outside:
    """A worker by hand; `urls` are what it is told."""

    def __init__(self, world, endpoint, environment: dict[str, str]) -> None:
        self.world = world
        self.endpoint = endpoint
        self.id = environment["RUNPOD_POD_ID"]
        self.take_url = environment["RUNPOD_WEBHOOK_GET_JOB"].replace("$ID", self.id)
        self.done_url = environment["RUNPOD_WEBHOOK_POST_OUTPUT"].replace("$RUNPOD_POD_ID", self.id)
        self.http = httpx.AsyncClient(
            headers={"Authorization": environment["RUNPOD_AI_API_KEY"]}, timeout=httpx.Timeout(40)
        )

    async def take(self, **query) -> httpx.Response:
        asked = "&".join(f"{name}={value}" for name, value in {"job_in_progress": 0, **query}.items())
        url = self.take_url
        if "batch_size" in query:
            url = url.replace("/job-take/", "/job-take-batch/")
        return await self.http.get(f"{url}&{asked}")

    async def stop(self) -> httpx.Response:
        return await self.http.get(self.take_url.replace("/job-take/", "/job-stop/"))

    async def keep_stopping(self) -> None:
        """Keep the stop channel open, with the pause that the official worker makes."""
        while True:
            await self.stop()
            await asyncio.sleep(1)

    async def done(self, job_id: str, body: bytes | dict, **headers: str) -> httpx.Response:
        url = self.done_url.replace("$ID", job_id) + "&isStream=false"
        content = body if isinstance(body, bytes) else json.dumps(body).encode()
        form = {"Content-Type": "application/x-www-form-urlencoded", "charset": "utf-8"}
        return await self.http.post(url, content=content, headers={**form, **headers})

    async def chunk(self, job_id: str, output: object) -> None:
        url = self.done_url.replace("/job-done/", "/job-stream/").replace("$ID", job_id)
        await self.http.post(url, content=json.dumps({"output": output}))

    def submit(self, **given) -> tuple[str, Following]:
        following = Following()
        request = JobRequest(new_job_id(), {"execution_type": "handler", "input": given}, ())
        self.endpoint.run(request, following)
        return request.job_id, following

    async def waits(self, task: asyncio.Task) -> bool:
        """Say if a question is still open after a moment in which the engine must have heard of it."""
        done, _ = await asyncio.wait([task], timeout=0.5)
        return not done


@asynccontextmanager
async def outside(world, **fields):
    fields = {"kind": "ServerlessEndpoint", "workers_max": 0, **fields}
    async with world.endpoint(**fields) as endpoint:
        environment = await world.call("worker_environment", endpoint=fields.get("name", "test"))
        worker = Outside(world, endpoint, environment)
        async with worker.http:
            yield worker


def test_a_question_is_held_and_answered_by_the_job_that_comes(world):
    async def scenario():
        async with outside(world) as worker:
            asking = asyncio.create_task(worker.take())
            assert await worker.waits(asking)
            job_id, following = worker.submit(x=1)
            answer = await asking
            assert answer.headers["content-type"] == "application/json"
            assert answer.json() == {"id": job_id, "input": {"x": 1}}
            # Raw JSON under another name, with what JSON does not know: as the official worker sends it.
            assert (await worker.done(job_id, b'{"output": {"y": NaN}}')).is_success
            done = await following.end()
            assert done.info.status is JobStatus.COMPLETED
            assert json.loads(bytes(done.buffers[0]))["y"] != 0
            assert done.info.worker == worker.id

    asyncio.run(scenario())


def test_nothing_to_do_is_said_after_a_while(world):
    async def scenario():
        async with outside(world) as worker:
            begun = time.monotonic()
            assert (await worker.take()).status_code == 204
            assert HOLD_S - 1 < time.monotonic() - begun < HOLD_S + 5

    asyncio.run(scenario())


def test_a_batch_is_a_list(world):
    async def scenario():
        async with outside(world) as worker:
            job_ids = [worker.submit(number=number)[0] for number in range(3)]
            await until_queued(world, 3)
            assert [job["id"] for job in (await worker.take(batch_size=2)).json()] == job_ids[:2]
            assert [
                job["id"] for job in (await worker.take(job_in_progress=1, batch_size=2)).json()
            ] == job_ids[2:]

    asyncio.run(scenario())


async def until_queued(world, count: int) -> None:
    endpoint_id = (await world.call("endpoints"))[0]["id"]
    while (await world.call("health", endpoint_id=endpoint_id))["inQueue"] != count:  # noqa: ASYNC110
        await asyncio.sleep(0.01)  # the engine is another process: it can only be asked


def test_who_has_left_gets_no_job(world):
    async def scenario():
        async with outside(world) as worker:
            asking = asyncio.create_task(worker.take())
            assert await worker.waits(asking)
            asking.cancel()
            await asyncio.wait([asking])
            job_id, following = worker.submit()
            answer = await worker.take()
            assert answer.json()["id"] == job_id
            await worker.done(job_id, {"output": 1})
            assert (await following.end()).info.attempts == 1

    asyncio.run(scenario())


def test_an_engine_that_nobody_knows_is_refused_slowly(world):
    async def scenario():
        async with outside(world) as worker:
            begun = time.monotonic()
            worker.http.headers["Authorization"] = "wrong"
            refused = await asyncio.gather(worker.take(), worker.stop(), worker.done("j", {"output": 1}))
            assert [answer.status_code for answer in refused] == [401] * 3
            assert time.monotonic() - begun > 1
            assert "token" in refused[0].json()["detail"]

    asyncio.run(scenario())


def test_the_token_is_taken_bare_and_as_a_bearer(world):
    async def scenario():
        async with outside(world) as worker:
            job_id, _ = worker.submit()
            worker.http.headers["Authorization"] = f"Bearer {worker.http.headers['Authorization']}"
            assert (await worker.take()).json()["id"] == job_id

    asyncio.run(scenario())


def test_an_id_of_our_own_workers_and_an_endpoint_that_is_not_there_are_refused(world):
    async def scenario():
        async with outside(world) as worker:
            url = worker.take_url
            worker.take_url = url.replace(worker.id, "w-1")
            assert (await worker.take()).status_code == 409
            worker.take_url = url.replace(worker.endpoint.id, "nowhere")
            assert (await worker.take()).status_code == 404

    asyncio.run(scenario())


def test_a_stop_is_repeated_once_a_second_until_the_job_is_let_go(world):
    async def scenario():
        async with outside(world) as worker:
            job_id, following = worker.submit()
            stop = asyncio.create_task(worker.stop())
            await worker.take()
            worker.endpoint.cancel(job_id)
            assert (await following.end()).info.status is JobStatus.CANCELLED
            assert (await stop).json() == {"jobsToStop": [job_id]}
            begun = time.monotonic()
            for _ in range(2):
                assert (await worker.stop()).json() == {"jobsToStop": [job_id]}
            assert 1.8 < time.monotonic() - begun < 4
            assert (await worker.done(job_id, {"output": "late"})).is_success
            assert await worker.waits(asyncio.create_task(worker.stop()))

    asyncio.run(scenario())


def test_what_comes_late_is_taken_politely_and_changes_nothing(world):
    async def scenario():
        async with outside(world) as worker:
            job_id, following = worker.submit()
            await worker.take()
            await worker.chunk(job_id, "early")
            assert (await worker.done(job_id, {"output": 1})).is_success
            done = await following.end()
            for late in ({"output": 2}, {"error": "late"}, {"status": "IN_PROGRESS", "output": "late"}):
                assert (await worker.done(job_id, late)).is_success
            await worker.chunk(job_id, "late")
            assert json.loads(bytes(done.buffers[0])) == 1
            assert following.items == ["early"]

    asyncio.run(scenario())


def test_the_body_may_be_large_and_must_be_json(world):
    async def scenario():
        async with outside(world) as worker:
            job_id, following = worker.submit()
            await worker.take()
            assert (await worker.done(job_id, b"no json")).status_code == 400
            await worker.done(job_id, {"output": "x" * 25_000_000})
            done = await following.end()
            assert len(json.loads(bytes(done.buffers[0]))) == 25_000_000

    asyncio.run(scenario())


def test_a_worker_that_asks_for_its_replacement_rests_first(world):
    async def scenario():
        async with outside(world) as worker:
            job_id, _ = worker.submit()
            await worker.take()
            stop = asyncio.create_task(worker.stop())
            assert await worker.waits(stop)
            await worker.done(job_id, {"output": 1, "stopPod": True})
            assert (await stop).status_code == 204
            begun = time.monotonic()
            following = worker.submit()[1]
            assert (await worker.take()).status_code == 204
            assert time.monotonic() - begun > 0.5
            stop = asyncio.create_task(worker.keep_stopping())
            while (answer := await worker.take()).status_code == 204:
                pass
            stop.cancel()
            await worker.done(answer.json()["id"], {"output": 2})
            await following.end()

    asyncio.run(scenario())


def test_a_retried_job_has_an_id_that_fits_into_a_path(world):
    async def scenario():
        async with outside(world) as worker:
            job_id, following = worker.submit()
            await worker.take()
            await worker.done(job_id, {"error": "no"})
            assert (await following.end()).info.error == "no"
            again = Following()
            await world.backends[-1].retry(job_id, again)
            taken = (await worker.take()).json()["id"]
            assert taken == f"{job_id}~1"
            await worker.done(taken, {"output": "yes"})
            done = await again.end()
            assert (done.info.id, done.info.status) == (job_id, JobStatus.COMPLETED)

    asyncio.run(scenario())


def test_the_engine_that_ends_leaves_nobody_hanging(world):
    async def scenario():
        async with outside(world) as worker:
            asking = asyncio.create_task(worker.take())
            assert await worker.waits(asking)
            await world.call("stop")
            assert (await asking).status_code == 204

    asyncio.run(scenario())


def test_the_command_prints_an_environment_for_a_shell(world):
    async def scenario():
        async with world.endpoint(name="my model", workers_max=0, kind="ServerlessEndpoint"):
            printed = await asyncio.to_thread(world.flash, "engine", "worker-env", "my model")
            script = f"{printed.stdout}\nenv"
            shell = await asyncio.to_thread(
                subprocess.run, ["sh", "-c", script], capture_output=True, text=True, env={}, check=True
            )
            found = dict(line.split("=", 1) for line in shell.stdout.splitlines())
            assert found["RUNPOD_WEBHOOK_GET_JOB"].endswith("/job-take/$ID?")
            assert found["RUNPOD_WEBHOOK_POST_OUTPUT"].endswith("/job-done/$RUNPOD_POD_ID/$ID?")
            assert found["RUNPOD_POD_ID"].startswith("x-my-model-")
            assert "127.0.0.1" in found["NO_PROXY"]
            as_json = await asyncio.to_thread(world.flash, "engine", "worker-env", "my model", "--json")
            assert json.loads(as_json.stdout)["RUNPOD_ENDPOINT_ID"] == found["RUNPOD_ENDPOINT_ID"]
            wrong = await asyncio.to_thread(world.flash, "engine", "worker-env", "my modle")
            assert (wrong.returncode, "did you mean 'my model'?" in wrong.stderr) == (1, True)

    asyncio.run(scenario())
