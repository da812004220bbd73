"""Killing a worker, the engine and the kernel in turn loses nothing."""

from __future__ import annotations

import asyncio
import os
import signal

from real import Following, call, cell, is_alive, until, value_of, values_of, wait_gone

from flash_nb.jobs import ItemEvent, JobStatus, StreamEvent


def steps(folder, *, until_file: str = "go", value: int = 42) -> str:
    """A job that notes its start, waits for a file, and returns a value."""
    return (
        "import os, pathlib, time\n"
        f"folder = pathlib.Path({str(folder)!r})\n"
        "with (folder / 'starts').open('a') as file: file.write(f'{os.getpid()}\\n')\n"
        "print('started')\n"
        f"while not (folder / {until_file!r}).exists(): time.sleep(0.01)\n"
        "print('ended')\n"
        f"x = {value}\n"
    )


def starts(folder) -> list[int]:
    file = folder / "starts"
    return [int(line) for line in file.read_text().split()] if file.exists() else []


def test_the_job_of_a_killed_worker_runs_again(world, tmp_path):
    async def scenario():
        async with world.endpoint() as endpoint:
            job = Following()
            endpoint.run(cell(steps(tmp_path), "x"), job)
            await until(lambda: starts(tmp_path))
            os.kill(starts(tmp_path)[0], signal.SIGKILL)
            await until(lambda: len(starts(tmp_path)) == 2)
            (tmp_path / "go").touch()
            event = await job.end()
            assert (event.info.status, event.info.attempts) == (JobStatus.COMPLETED, 2)
            assert values_of(event) == {"x": 42}

    asyncio.run(scenario())


def test_a_job_that_kills_its_workers_fails_with_the_reason(world):
    async def scenario():
        async with world.endpoint() as endpoint:
            job = Following()
            endpoint.run(cell("import os, signal; os.kill(os.getpid(), signal.SIGKILL)"), job)
            event = await job.end()
            assert (event.info.status, event.info.attempts) == (JobStatus.FAILED, 3)
            assert event.info.error_type == "WorkerLostError"
            assert "died 3 times; the last one was killed by signal 9" in event.info.error

    asyncio.run(scenario())


def test_a_running_job_outlives_its_engine(world, tmp_path):
    queued = tmp_path / "queued"
    queued.mkdir()
    (queued / "go").touch()

    async def scenario():
        async with world.endpoint(workers_max=1) as endpoint:
            running, waiting = Following(), Following()
            endpoint.run(cell(steps(tmp_path), "x", durable=True), running)
            endpoint.run(cell(steps(queued, value=7), "x", durable=True), waiting)
            await until(lambda: running.text and running.is_stored and waiting.is_stored)
            former = world.engine_pid()
            world.kill_engine()
            await until(lambda: world.settings.state_file.exists() and is_alive(world.engine_pid()))
            assert world.engine_pid() != former
            assert not running.finished.done()
            (tmp_path / "go").touch()
            first, second = await running.end(), await waiting.end()
            assert values_of(first) == {"x": 42}
            assert values_of(second) == {"x": 7}
            assert (first.info.attempts, second.info.attempts) == (1, 1)
            assert len(starts(tmp_path)) == len(starts(queued)) == 1
            assert running.text == "started\nended\n"
            assert first.info.worker == second.info.worker

    asyncio.run(scenario())


def test_what_is_printed_while_the_engine_is_away_arrives_once(world, tmp_path):
    source = (
        "import pathlib, time\n"
        f"end = pathlib.Path({str(tmp_path)!r}) / 'go'\n"
        "n = 0\n"
        "while not end.exists():\n"
        "    print(n, flush=True); n += 1; time.sleep(0.005)\n"
        "print(n)"
    )

    async def scenario():
        async with world.endpoint() as endpoint:
            job = Following()
            endpoint.run(cell(source, durable=True), job)
            for lines in (20, 300):
                await until(lambda lines=lines: job.text.count("\n") > lines)
                world.kill_engine()
            await until(lambda: job.text.count("\n") > 600)
            (tmp_path / "go").touch()
            await job.end()
            numbers = [int(line) for line in job.text.split()]
            # What was on its way at the very moment of a kill may be lost; nothing is twice or out of order.
            assert numbers == sorted(set(numbers))
            assert numbers[-1] + 1 - len(numbers) < 20

    asyncio.run(scenario())


YIELDING = """
def f(folder, count):
    import os, pathlib, time
    folder = pathlib.Path(folder)
    with (folder / "starts").open("a") as file: file.write(f"{os.getpid()}\\n")
    for number in range(count):
        yield number
        time.sleep(0.002)
    while not (folder / "go").exists():
        time.sleep(0.01)
"""


def test_items_outlive_the_engine(world, tmp_path):
    """Text may be lost that was on its way when the engine died; items are sent again."""

    async def scenario():
        async with world.endpoint() as endpoint:
            job = Following()
            request = call(YIELDING, str(tmp_path), 400, durable=True)
            endpoint.run(request, job)
            for count in (20, 200):
                await until(lambda count=count: len(job.items) > count and job.is_stored)
                world.kill_engine()
            (tmp_path / "go").touch()
            event = await job.end()
            assert value_of(event) == job.items == list(range(400))
            assert [e.index for e in job.events if isinstance(e, ItemEvent)] == job.items, "each once"
            assert len(starts(tmp_path)) == 1
            later = Following()
            world.backend().attach(request.job_id, later)
            await later.end()
            assert later.items == job.items

    asyncio.run(scenario())


def test_items_of_a_killed_worker_come_again_under_their_places(world, tmp_path):
    async def scenario():
        async with world.endpoint() as endpoint:
            job = Following()
            endpoint.run(call(YIELDING, str(tmp_path), 10), job)
            await until(lambda: len(job.items) == 10)
            os.kill(starts(tmp_path)[0], signal.SIGKILL)
            (tmp_path / "go").touch()
            assert value_of(await job.end()) == job.items == list(range(10))
            assert len(starts(tmp_path)) == 2

    asyncio.run(scenario())


CLIENT = """
import asyncio, sys
from real import *
from flash_nb import settings

async def main():
    backend = LocalBackend(settings.load())
    endpoint = await backend.ensure(spec(workers_max=1))
    jobs = []
    for source in {sources!r}:
        job, request = Following(), cell(source, "x", durable=True)
        endpoint.run(request, job)
        await until(lambda: job.is_stored)
        print(request.job_id, flush=True)
    await asyncio.sleep(600)

asyncio.run(main())
"""


def test_a_job_outlives_its_kernel(world, tmp_path):
    client = world.run(CLIENT.format(sources=[steps(tmp_path)]))
    job_id = client.stdout.readline().strip()

    async def scenario():
        await until(lambda: starts(tmp_path))
        client.kill()
        client.wait()
        (tmp_path / "go").touch()
        follower, later = Following(), Following()
        world.backend().attach(job_id, follower)
        event = await follower.end()
        assert values_of(event) == {"x": 42}
        assert event.info.attempts == 1
        world.backend().attach(job_id, later)
        assert values_of(await later.end()) == {"x": 42}
        assert later.text == follower.text == "started\nended\n"
        assert [type(e) for e in later.events].count(StreamEvent) >= 1

    asyncio.run(scenario())


def test_queued_jobs_and_results_outlive_engine_and_kernel_together(world, tmp_path):
    queued = tmp_path / "queued"
    queued.mkdir()
    client = world.run(CLIENT.format(sources=["x = 1", steps(tmp_path), steps(queued, value=3)]))
    done, running, waiting = (client.stdout.readline().strip() for _ in range(3))

    async def scenario():
        await until(lambda: starts(tmp_path))
        client.kill()
        client.wait()
        world.kill_engine()
        assert world.flash("engine", "start").returncode == 0
        for folder in (tmp_path, queued):
            (folder / "go").touch()
        backend = world.backend()
        for job_id, value in ((done, 1), (running, 42), (waiting, 3)):
            job = Following()
            backend.attach(job_id, job)
            event = await job.end()
            assert values_of(event) == {"x": value}
            assert event.info.attempts == 1
        assert len(starts(tmp_path)) == len(starts(queued)) == 1
        await backend.aclose()

    asyncio.run(scenario())


def test_a_queued_job_runs_after_a_restart_without_any_kernel(world, tmp_path):
    """Nothing but the engine itself wakes it: its worker is dead and no client is there."""
    client = world.run(CLIENT.format(sources=[steps(tmp_path, until_file="never"), "x = 5"]))
    running, waiting = (client.stdout.readline().strip() for _ in range(2))

    async def scenario():
        await until(lambda: starts(tmp_path))
        client.kill()
        client.wait()
        world.kill_engine()
        os.kill(starts(tmp_path)[0], signal.SIGKILL)
        assert world.flash("engine", "start").returncode == 0
        backend = world.backend()
        job = Following()
        backend.attach(running, job)
        # The engine leaves the running job with its worker for a while, then starts it again.
        await until(lambda: len(starts(tmp_path)) == 2)
        (await backend.client()).send({"type": "cancel", "job": running})
        assert (await job.end()).info.status is JobStatus.CANCELLED
        last = Following()
        backend.attach(waiting, last)
        assert values_of(await last.end()) == {"x": 5}
        await backend.aclose()

    asyncio.run(scenario())


def test_a_large_result_outlives_an_engine_that_dies_right_after_it(world):
    async def scenario():
        async with world.endpoint() as endpoint:
            job = Following()
            request = cell("x = bytearray(3_000_000); x[-1] = 7", "x")
            endpoint.run(request, job)
            event = await job.end()
            world.kill_engine()
            assert values_of(event)["x"][-1] == 7
            again = Following()
            endpoint.run(cell("y = 1", "y"), again)
            assert values_of(await again.end()) == {"y": 1}

    asyncio.run(scenario())


def test_a_stored_result_survives_that_its_worker_sends_it_again(world):
    """The worker sends its last result to the engine that follows; the spill file is the same."""
    client = world.run(CLIENT.format(sources=["x = bytearray(3_000_000); x[-1] = 7"]))
    job_id = client.stdout.readline().strip()

    async def scenario():
        client.kill()
        client.wait()

        await until(world.spills)
        jobs = await world.call("jobs")
        while [job["status"] for job in jobs] != ["COMPLETED"]:
            jobs = await world.call("jobs")
        world.kill_engine()
        assert world.flash("engine", "start").returncode == 0
        backend = world.backend()
        status = {}
        while "idle" not in status.get("workers", {}).values():
            status = await world.call("status")
        job = Following()
        backend.attach(job_id, job)
        assert values_of(await job.end())["x"][-1] == 7
        await backend.aclose()

    asyncio.run(scenario())


def test_an_engine_that_dies_idle_is_not_noticed(world):
    async def scenario():
        async with world.endpoint() as endpoint:
            for value in range(3):
                job = Following()
                endpoint.run(cell(f"x = {value}", "x"), job)
                assert values_of(await job.end()) == {"x": value}
                world.kill_engine()

    asyncio.run(scenario())


def test_a_cancel_reaches_a_job_whose_engine_just_died(world, tmp_path):
    async def scenario():
        async with world.endpoint() as endpoint:
            job, request = Following(), cell(steps(tmp_path), durable=True)
            endpoint.run(request, job)
            await until(lambda: starts(tmp_path) and job.is_stored)
            world.kill_engine()
            endpoint.cancel(request.job_id)
            assert (await job.end()).info.status is JobStatus.CANCELLED
            after = Following()
            endpoint.run(cell("x = 1", "x"), after)
            assert values_of(await after.end()) == {"x": 1}

    asyncio.run(scenario())


def test_a_stopped_engine_goes_on_with_its_jobs_when_it_starts_again(world, tmp_path):
    async def scenario():
        async with world.endpoint() as endpoint:
            job = Following()
            endpoint.run(cell(steps(tmp_path), "x", durable=True), job)
            await until(lambda: starts(tmp_path) and job.is_stored)
            pid = world.engine_pid()
            stopped = await asyncio.to_thread(world.flash, "engine", "stop")
            assert stopped.returncode == 0, stopped.stderr
            wait_gone(pid)
            assert not world.workers()
            await until(lambda: any("stopped" in getattr(e, "phase", "") for e in job.events))
            assert not world.settings.state_file.exists()
            (tmp_path / "go").touch()
            started = await asyncio.to_thread(world.flash, "engine", "start")
            assert started.returncode == 0
            event = await job.end(10)
            assert values_of(event) == {"x": 42}
            assert event.info.attempts == 2

    asyncio.run(scenario())


def test_an_object_outlives_the_engine_and_ends_with_its_kernel(world):
    async def scenario():
        async with world.endpoint(idle_timeout_s=0.2) as endpoint:
            first = Following()
            request = cell("x = 1", "x", instance="counter_1")
            endpoint.run(request, first)
            worker = (await first.end()).info.worker
            world.kill_engine()
            await until(lambda: world.settings.state_file.exists() and is_alive(world.engine_pid()))
            second = Following()
            endpoint.run(cell("x = 2", "x", instance="counter_1"), second)
            assert (await second.end()).info.worker == worker
            await asyncio.sleep(1)
            assert len(world.workers()) == 1
            endpoint.release("counter_1")
            await until(lambda: not world.workers())

    asyncio.run(scenario())
