"""Workers come and go with the jobs."""

from __future__ import annotations

import asyncio
import time

from real import Following, cell, spec, until, values_of

from flash_nb.jobs import JobStatus, StreamEvent

MEET = """
import os, pathlib, time
folder = pathlib.Path({folder!r})
(folder / str(os.getpid())).touch()
while len(list(folder.iterdir())) < {count}: time.sleep(0.01)
pid = os.getpid()
"""


async def run(endpoint, request):
    job = Following()
    endpoint.run(request, job)
    return await job.end()


def test_jobs_run_in_parallel_up_to_workers_max_and_workers_leave_when_idle(world, tmp_path):
    async def scenario():
        async with world.endpoint(workers_max=3, idle_timeout_s=1.0) as endpoint:
            assert not world.workers()
            source = MEET.format(folder=str(tmp_path), count=3)
            events = await asyncio.gather(*(run(endpoint, cell(source, "pid")) for _ in range(6)))
            assert {event.info.status for event in events} == {JobStatus.COMPLETED}
            assert len({values_of(event)["pid"] for event in events}) == 3
            counts = await world.call("health", endpoint_id=endpoint.id)
            assert counts["idle"] == 3
            idle_since = time.monotonic()
            assert len(world.workers()) == 3
            await until(lambda: not world.workers())
            assert 0.5 < time.monotonic() - idle_since < 4
            assert (await run(endpoint, cell("x = 1", "x"))).info.cold_s > 0

    asyncio.run(scenario())


def test_workers_min_are_kept_warm_and_replaced_when_they_die(world):
    async def scenario():
        async with world.endpoint(workers_min=1, idle_timeout_s=0.3) as endpoint:
            await until(world.workers)
            event = await run(endpoint, cell("import os; pid = os.getpid()", "pid"))
            first = values_of(event)["pid"]
            await asyncio.sleep(1.2)
            assert world.workers() == [first]
            import os
            import signal

            os.kill(first, signal.SIGKILL)
            await until(lambda: world.workers() not in ([], [first]))
            assert values_of(await run(endpoint, cell("x = 3", "x"))) == {"x": 3}

    asyncio.run(scenario())


def test_a_changed_environment_variable_reaches_the_next_job(world):
    source = "import os; found = os.environ['GREETING'], os.getpid()"

    async def scenario():
        backend = world.backend()
        endpoint = await backend.ensure(spec(env={"GREETING": "hello"}))
        first = values_of(await run(endpoint, cell(source, "found")))["found"]
        assert first[0] == "hello"
        same = await backend.ensure(spec(env={"GREETING": "hello"}, workers_max=3))
        again = values_of(await run(same, cell(source, "found")))["found"]
        assert again == first, "scaling alone replaces no worker"
        changed = await backend.ensure(spec(env={"GREETING": "goodbye"}))
        assert changed.id == endpoint.id
        second = values_of(await run(changed, cell(source, "found")))["found"]
        assert second[0] == "goodbye"
        assert second[1] != first[1]
        await backend.aclose()

    asyncio.run(scenario())


def test_a_busy_worker_of_the_old_settings_finishes_its_job(world, tmp_path):
    go = tmp_path / "go"
    source = f"import os, pathlib, time\nwhile not pathlib.Path({str(go)!r}).exists(): time.sleep(0.01)\n"

    async def scenario():
        backend = world.backend()
        endpoint = await backend.ensure(spec(env={"A": "1"}, workers_max=1))
        old = Following()
        endpoint.run(cell(source + "a = os.environ['A']", "a"), old)
        await until(lambda: old.status == "IN_PROGRESS")
        await backend.ensure(spec(env={"A": "2"}, workers_max=1))
        new = Following()
        endpoint.run(cell("import os; a = os.environ['A']", "a"), new)
        go.touch()
        assert values_of(await old.end()) == {"a": "1"}
        assert values_of(await new.end()) == {"a": "2"}
        await backend.aclose()

    asyncio.run(scenario())


def test_two_environments_take_turns_on_one_worker(world):
    async def scenario():
        async with world.endpoint(workers_max=1) as endpoint:
            plain = cell("import importlib.util; found = importlib.util.find_spec('iniconfig')", "found")
            assert values_of(await run(endpoint, plain)) == {"found": None}
            source = "import iniconfig; name = iniconfig.__name__"
            needing = await run(endpoint, cell(source, "name", requirements=("iniconfig",)))
            assert values_of(needing) == {"name": "iniconfig"}
            assert len(world.workers()) == 1
            assert values_of(await run(endpoint, cell("x = 1", "x"))) == {"x": 1}
            assert len(world.workers()) == 1

    asyncio.run(scenario())


def test_a_worker_that_cannot_start_is_an_error_and_not_a_loop(world):
    async def scenario():
        async with world.endpoint(env={"PYTHONHOME": "/nowhere"}) as endpoint:
            info = (await run(endpoint, cell("x = 1", "x"))).info
            assert info.status is JobStatus.FAILED
            assert info.error_type == "WorkerLostError"
            assert "could not be started 3 times" in info.error
            assert "it last said" in info.error

    asyncio.run(scenario())


def test_deleting_an_endpoint_cancels_its_jobs_and_ends_its_workers_until_it_is_used_again(world):
    async def scenario():
        async with world.endpoint() as endpoint:
            job = Following()
            endpoint.run(cell("while True: pass"), job)
            await until(lambda: job.status == "IN_PROGRESS")
            await world.call("delete", endpoint_id=endpoint.id)
            assert (await job.end()).info.status is JobStatus.CANCELLED
            await until(lambda: not world.workers())
            late = [Following() for _ in range(3)]
            for job in late:
                endpoint.run(cell("x = 1", "x"), job)
            assert [values_of(await job.end()) for job in late] == [{"x": 1}] * 3
            said = [event.text for job in late for event in job.events if isinstance(event, StreamEvent)]
            assert said == ["flash_nb: the endpoint 'test' had been deleted; it was made again.\n"]

    asyncio.run(scenario())
