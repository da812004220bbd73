"""Time-outs, TTL and cancelling: no process is left computing."""

from __future__ import annotations

import asyncio
import os
import time
from pathlib import Path

import pytest
from real import Following, cell, until, values_of

from flash_nb.jobs import JobStatus

SPIN = "print('spinning', flush=True)\nwhile True: pass"
SLEEP = "import time\nprint('sleeping', flush=True)\ntime.sleep(600)"
AWAIT = "import asyncio\nprint('waiting', flush=True)\nawait asyncio.sleep(600)"
CHILD = "import subprocess\nprint('calling', flush=True)\nsubprocess.run(['sleep', '600'])"
STUBBORN = """
import time
print('started', flush=True)
while True:
    try:
        time.sleep(600)
    except KeyboardInterrupt:
        pass
"""


async def started(endpoint, request) -> Following:
    job = Following()
    endpoint.run(request, job)
    await until(lambda: job.text)
    return job


def cpu_seconds(pid: int) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


@pytest.mark.parametrize("source", [SPIN, SLEEP, AWAIT, CHILD])
def test_a_cancelled_job_stops_computing_and_its_worker_goes_on(world, source):
    async def scenario():
        async with world.endpoint(workers_max=1) as endpoint:
            request = cell(source)
            job = await started(endpoint, request)
            workers = world.workers()
            begun = time.monotonic()
            endpoint.cancel(request.job_id)
            event = await job.end()
            assert time.monotonic() - begun < 0.5
            assert (event.info.status, event.result) == (JobStatus.CANCELLED, None)
            after = Following()
            endpoint.run(cell("x = 1", "x"), after)
            assert values_of(await after.end()) == {"x": 1}
            assert world.workers() == workers
            before = cpu_seconds(workers[0])
            await asyncio.sleep(0.3)
            assert cpu_seconds(workers[0]) - before < 0.1
            assert [p for p in world.processes() if p not in workers] == [world.engine_pid()]

    asyncio.run(scenario())


def test_a_job_that_swallows_the_interrupt_is_killed_and_its_worker_replaced(world):
    async def scenario():
        async with world.endpoint(workers_max=1) as endpoint:
            request = cell(STUBBORN)
            job = await started(endpoint, request)
            (worker,) = world.workers()
            begun = time.monotonic()
            endpoint.cancel(request.job_id)
            assert (await job.end()).info.status is JobStatus.CANCELLED
            assert time.monotonic() - begun < 0.5
            await until(lambda: worker not in world.workers())
            assert time.monotonic() - begun < 3.5
            after = Following()
            endpoint.run(cell("x = 1", "x"), after)
            assert values_of(await after.end()) == {"x": 1}

    asyncio.run(scenario())


def test_a_cancelled_job_in_the_queue_never_runs(world, tmp_path):
    async def scenario():
        async with world.endpoint(workers_max=1) as endpoint:
            first = cell(SLEEP)
            running = await started(endpoint, first)
            queued, request = Following(), cell(f"open({str(tmp_path / 'ran')!r}, 'w')")
            endpoint.run(request, queued)
            endpoint.cancel(request.job_id)
            info = (await queued.end()).info
            assert (info.status, info.attempts) == (JobStatus.CANCELLED, 0)
            assert not running.finished.done()
            endpoint.cancel(first.job_id)
            await running.end()
            last = Following()
            endpoint.run(cell("x = 1", "x"), last)
            await last.end()
            assert not (tmp_path / "ran").exists()

    asyncio.run(scenario())


def test_a_job_cancelled_at_once_ends_cancelled(world):
    async def scenario():
        async with world.endpoint(workers_max=1) as endpoint:
            for _ in range(20):
                job, request = Following(), cell(SLEEP)
                endpoint.run(request, job)
                endpoint.cancel(request.job_id)
                assert (await job.end()).info.status is JobStatus.CANCELLED
            assert len(world.workers()) <= 1

    asyncio.run(scenario())


def test_the_execution_time_out_ends_the_run(world):
    async def scenario():
        async with world.endpoint(workers_max=1, timeout_s=1.0) as endpoint:
            by_endpoint, by_job = Following(), Following()
            endpoint.run(cell(SPIN), by_endpoint)
            info = (await by_endpoint.end()).info
            assert info.status is JobStatus.TIMED_OUT
            assert info.error == "it ran longer than its execution time-out of 1 s"
            assert 1.0 <= info.run_s < 1.6
            endpoint.run(cell(SPIN, timeout_s=0.3), by_job)
            assert 0.3 <= (await by_job.end()).info.run_s < 0.9
            after = Following()
            endpoint.run(cell("x = 1", "x"), after)
            assert values_of(await after.end()) == {"x": 1}

    asyncio.run(scenario())


def test_the_ttl_ends_a_job_that_waits(world):
    async def scenario():
        async with world.endpoint(workers_max=1) as endpoint:
            await started(endpoint, cell(SLEEP))
            waiting = Following()
            endpoint.run(cell("x = 1", ttl_s=0.5), waiting)
            info = (await waiting.end()).info
            assert (info.status, info.attempts) == (JobStatus.TIMED_OUT, 0)
            assert info.error == "its TTL of 0.5 s passed"

    asyncio.run(scenario())


def test_a_late_result_is_ignored(world):
    """The job ends within its grace with a value of its own: it stays cancelled."""
    source = """
import time
print('started', flush=True)
try:
    time.sleep(600)
except KeyboardInterrupt:
    x = bytearray(2_000_000)
"""

    async def scenario():
        async with world.endpoint(workers_max=1) as endpoint:
            request = cell(source, "x")
            job = await started(endpoint, request)
            endpoint.cancel(request.job_id)
            event = await job.end()
            assert (event.info.status, event.result) == (JobStatus.CANCELLED, None)
            after = Following()
            endpoint.run(cell("y = 1", "y"), after)
            await after.end()
            again = Following()
            world.backends[0].attach(request.job_id, again)
            event = await again.end()
            assert (event.info.status, event.result) == (JobStatus.CANCELLED, None)
            assert not world.spills()

    asyncio.run(scenario())
