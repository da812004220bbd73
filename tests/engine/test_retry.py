"""A job that did not complete runs again under its id, for the kernel that had it and for others."""

from __future__ import annotations

import asyncio
import os
import signal

import pytest
from real import Following, call, cell, until, value_of, values_of

from flash_nb.errors import BackendError
from flash_nb.jobs import JobStatus

# Fails until the file is there.
FLAKY = """
def f(file, data):
    import pathlib
    print("one")
    yield 1
    print("two")
    yield len(data)
    if not pathlib.Path(file).exists():
        raise LookupError("not yet")
    print("three")
    yield 3
"""


def test_a_failed_job_completes_and_its_new_events_replace_the_former(world, tmp_path):
    file = tmp_path / "go"

    async def scenario():
        backend = world.backend()
        async with world.endpoint() as endpoint:
            first, request = Following(), call(FLAKY, str(file), bytes(3_000_000), durable=True)
            endpoint.run(request, first)
            event = await first.end()
            assert (event.info.status, first.text, first.items) == (
                JobStatus.FAILED,
                "one\ntwo\n",
                [1, 3_000_000],
            )
            again = Following()
            await backend.retry(request.job_id, again)
            assert (await again.end()).info.status is JobStatus.FAILED
            assert (again.text, again.items) == ("one\ntwo\n", [1, 3_000_000])
            file.touch()
            last, later = Following(), Following()
            await backend.retry(request.job_id, last)
            event = await last.end()
            assert value_of(event) == [1, 3_000_000, 3]
            assert (event.info.id, event.info.attempts, event.info.error) == (request.job_id, 1, "")
            backend.attach(request.job_id, later)
            assert value_of(await later.end()) == [1, 3_000_000, 3]
            assert later.text == last.text == "one\ntwo\nthree\n"
            assert later.items == last.items == [1, 3_000_000, 3]
            await until(lambda: not world.spills())
        await backend.aclose()

    asyncio.run(scenario())


def test_a_failed_job_survives_the_engine_and_is_retried(world, tmp_path):
    file = tmp_path / "go"

    async def scenario():
        async with world.endpoint() as endpoint:
            first, request = Following(), call(FLAKY, str(file), bytes(3_000_000))
            endpoint.run(request, first)
            await first.end()
            jobs = []
            while [job["status"] for job in jobs] != ["FAILED"]:
                jobs = await world.call("jobs")
            world.kill_engine()
            file.touch()
            backend = world.backend()
            again = Following()
            await backend.retry(request.job_id, again)
            assert value_of(await again.end()) == [1, 3_000_000, 3]
            await backend.aclose()

    asyncio.run(scenario())


def test_a_cancelled_job_and_one_that_timed_out_run_again(world, tmp_path):
    go = tmp_path / "go"
    source = (
        "import pathlib, time\nprint('on')\n"
        f"while not pathlib.Path({str(go)!r}).exists(): time.sleep(0.01)\nx = 1"
    )

    async def scenario():
        backend = world.backend()
        async with world.endpoint(workers_max=1) as endpoint:
            cancelled, late = cell(source, "x"), cell(source, "x", timeout_s=0.3)
            job = Following()
            endpoint.run(cancelled, job)
            await until(lambda: job.text)
            endpoint.cancel(cancelled.job_id)
            assert (await job.end()).info.status is JobStatus.CANCELLED
            job = Following()
            endpoint.run(late, job)
            assert (await job.end()).info.status is JobStatus.TIMED_OUT
            go.touch()
            for request in (cancelled, late):
                again = Following()
                await backend.retry(request.job_id, again)
                assert values_of(await again.end()) == {"x": 1}
        await backend.aclose()

    asyncio.run(scenario())


def test_cancel_and_retry_at_once_many_times(world):
    """Whatever a worker still says about the former run is not about the new one."""
    source = "def f():\n    import time\n    time.sleep(0.01)\n    return 1"

    async def scenario():
        backend = world.backend()
        async with world.endpoint(workers_max=1) as endpoint:
            for _ in range(3):
                await _run(endpoint, call(source))  # from now on jobs are sent ahead
            requests = [call(source) for _ in range(30)]
            jobs = [Following() for _ in requests]
            for request, job in zip(requests, jobs, strict=True):
                endpoint.run(request, job)
            for request in requests:
                endpoint.cancel(request.job_id)
            for request, job in zip(requests, jobs, strict=True):
                event = await job.end()
                if event.info.status is JobStatus.CANCELLED:
                    again = Following()
                    await backend.retry(request.job_id, again)
                    event = await again.end()
                assert value_of(event) == 1
        await backend.aclose()

    asyncio.run(scenario())


async def _run(endpoint, request):
    job = Following()
    endpoint.run(request, job)
    return await job.end()


def test_attempts_begin_anew(world, tmp_path):
    source = (
        "def f(file):\n    import os, pathlib\n    pathlib.Path(file).exists() or os.kill(os.getpid(), 9)"
    )

    async def scenario():
        backend = world.backend()
        async with world.endpoint() as endpoint:
            request = call(source, str(tmp_path / "go"))
            assert (await _run(endpoint, request)).info.attempts == 3
            again = Following()
            await backend.retry(request.job_id, again)
            event = await again.end()
            assert (event.info.status, event.info.attempts) == (JobStatus.FAILED, 3)
            (tmp_path / "go").touch()
            last = Following()
            await backend.retry(request.job_id, last)
            assert (await last.end()).info.status is JobStatus.COMPLETED
        await backend.aclose()

    asyncio.run(scenario())


def test_what_cannot_be_retried(world):
    async def scenario():
        backend = world.backend()
        async with world.endpoint() as endpoint:
            done, running, failed = (
                cell("x = 1"),
                cell("print('on'); import time; time.sleep(60)"),
                cell("1 / 0"),
            )
            await _run(endpoint, done)
            job = Following()
            endpoint.run(running, job)
            await until(lambda: job.text)
            for request, why in ((done, "it is COMPLETED"), (running, "it is IN_PROGRESS")):
                with pytest.raises(BackendError, match=f"The job {request.job_id} cannot be retried: {why}"):
                    await backend.retry(request.job_id, Following())
            with pytest.raises(BackendError, match="The engine has no job nobody"):
                await backend.retry("nobody", Following())
            await _run(endpoint, failed)
            await world.call("delete", endpoint_id=endpoint.id)
            with pytest.raises(BackendError, match="its endpoint does not exist any more"):
                await backend.retry(failed.job_id, Following())
        await backend.aclose()

    asyncio.run(scenario())


def test_an_object_made_anew_serves_a_retried_method(world):
    async def scenario():
        backend = world.backend()
        async with world.endpoint(workers_max=1) as endpoint:
            request = cell(
                "import os, signal, pathlib\nassert pathlib.Path('go').exists()", instance="thing_1"
            )
            assert (await _run(endpoint, request)).info.status is JobStatus.FAILED
            await _run(endpoint, cell("import pathlib\npathlib.Path('go').touch()"))
            again = Following()
            await backend.retry(request.job_id, again)
            assert (await again.end()).info.status is JobStatus.COMPLETED
            os.kill(world.workers()[0], signal.SIGKILL)
            endpoint.release("thing_1")
        await backend.aclose()

    asyncio.run(scenario())
