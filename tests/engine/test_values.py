"""Large values travel through files, and the files go away."""

from __future__ import annotations

import asyncio
import stat

import pytest
from real import Following, cell, until, values_of

from flash_nb.engine.server import KEPT_BYTES
from flash_nb.jobs import JobStatus

pytest.importorskip("numpy")


@pytest.mark.parametrize("transport", ["unix", "tcp"])
def test_seven_megabytes_there_and_back(make_world, transport):
    import numpy as np

    world = make_world(transport=transport)
    array = np.arange(875_000, dtype="float64")

    async def scenario():
        async with world.endpoint() as endpoint:
            job = Following()
            request = cell("b = a + 1", "b", values={"a": array}, requirements=("numpy",))
            endpoint.run(request, job)
            await until(world.spills)
            assert {stat.S_IMODE(path.stat().st_mode) for path in world.spills()} <= {0o600}
            found = values_of(await job.end(60))["b"]
            assert np.array_equal(found, array + 1)
            found[0] = 5.0
            assert found[0] == 5.0
            await until(lambda: not world.spills())

    asyncio.run(scenario())


def test_fifty_megabytes_come_back(world):
    async def scenario():
        async with world.endpoint() as endpoint:
            job = Following()
            endpoint.run(cell("x = bytearray(50_000_000); x[-1] = 9", "x"), job)
            found = values_of(await job.end())["x"]
            assert (len(found), found[-1]) == (50_000_000, 9)
            await until(lambda: not world.spills())

    asyncio.run(scenario())


def test_the_result_of_a_detached_job_stays_until_it_is_taken(world):
    async def scenario():
        backend = world.backend()
        async with world.endpoint() as endpoint:
            job, request = (
                Following(),
                cell("import time; time.sleep(0.3); x = bytes(3_000_000)", "x", durable=True),
            )
            endpoint.run(request, job)
            await until(lambda: job.is_stored)
        status = {"jobs": 1}
        while status["jobs"]:
            status = await world.call("status")
        assert len(world.spills()) == 1
        taker = Following()
        backend.attach(request.job_id, taker)
        assert len(values_of(await taker.end())["x"]) == 3_000_000
        assert len(world.spills()) == 1, "nobody has said yet that its names are bound"
        backend.received(request.job_id)
        await until(lambda: not world.spills())
        late = Following()
        backend.attach(request.job_id, late)
        info = (await late.end()).info
        assert (info.status, info.error) == (JobStatus.FAILED, "its result was delivered already")
        await backend.aclose()

    asyncio.run(scenario())


@pytest.mark.parametrize("source", ["1 / 0", "import os; os._exit(7)"])
def test_a_failed_job_keeps_its_values_until_its_endpoint_is_deleted(world, source):
    """It could be retried: then its file goes when it completes; see `test_retry`."""

    async def scenario():
        async with world.endpoint() as endpoint:
            job = Following()
            endpoint.run(cell(source, values={"a": bytes(3_000_000)}), job)
            await until(world.spills)
            assert (await job.end()).info.status is JobStatus.FAILED
            after = Following()
            endpoint.run(cell("x = 1", "x"), after)
            await after.end()
            assert len(world.spills()) == 1
            await world.call("delete", endpoint_id=endpoint.id)
            await until(lambda: not world.spills())

    asyncio.run(scenario())


def test_what_failed_jobs_keep_is_bounded(world):
    """A mistake in a cell with a large input is corrected many times: memory must not fill up."""

    async def scenario():
        async with world.endpoint() as endpoint:
            for _ in range(4):
                job = Following()
                endpoint.run(cell("1 / 0", values={"a": bytes(KEPT_BYTES // 3)}), job)
                await job.end()
            await until(lambda: len(world.spills()) <= 3)
            assert len(world.spills()) >= 1

    asyncio.run(scenario())


def test_a_cancelled_job_leaves_no_file_behind_when_its_endpoint_is_deleted(world):
    async def scenario():
        async with world.endpoint() as endpoint:
            job, request = Following(), cell("import time; time.sleep(60)", values={"a": bytes(3_000_000)})
            endpoint.run(request, job)
            await until(lambda: job.status == "IN_PROGRESS")
            endpoint.cancel(request.job_id)
            assert (await job.end()).info.status is JobStatus.CANCELLED
            await world.call("delete", endpoint_id=endpoint.id)
            await until(lambda: not world.spills())

    asyncio.run(scenario())


def test_tcp_survives_the_death_of_the_engine(make_world, tmp_path):
    world = make_world(transport="tcp")
    go = tmp_path / "go"
    source = (
        "import pathlib, time\nprint('started')\n"
        f"while not pathlib.Path({str(go)!r}).exists(): time.sleep(0.01)\nx = 1"
    )

    async def scenario():
        async with world.endpoint() as endpoint:
            job = Following()
            endpoint.run(cell(source, "x", durable=True), job)
            await until(lambda: job.text and job.is_stored)
            world.kill_engine()
            go.touch()
            event = await job.end()
            assert values_of(event) == {"x": 1}
            assert event.info.attempts == 1

    asyncio.run(scenario())
