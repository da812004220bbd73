"""What an engine keeps is bounded: memory, files, rows."""

from __future__ import annotations

import asyncio
import sqlite3
import time
from pathlib import Path

from real import Following, call, cell, until, value_of, values_of

from flash_nb.engine.state import Job, Needs
from flash_nb.engine.store import MAX_EVENTS_PER_JOB, Store
from flash_nb.jobs import JobStatus
from flash_nb.worker import frames


def rss_mb(pid: int) -> float:
    fields = dict(line.split(":", 1) for line in Path(f"/proc/{pid}/status").read_text().splitlines())
    return int(fields["VmRSS"].split()[0]) / 1000


def files(pid: int) -> int:
    return len(list(Path(f"/proc/{pid}/fd").iterdir()))


async def burst(endpoint, count: int) -> None:
    jobs = [Following() for _ in range(count)]
    for job in jobs:
        endpoint.run(cell("x = 1", "x"), job)
    for job in jobs:
        assert (await job.end(60)).info.status is JobStatus.COMPLETED


def test_five_thousand_jobs_leave_nothing_in_memory(world):
    async def scenario():
        async with world.endpoint(workers_max=2) as endpoint:
            await burst(endpoint, 200)
            engine, workers = world.engine_pid(), world.workers()
            before = rss_mb(engine), files(engine), [rss_mb(w) for w in workers], [files(w) for w in workers]
            for _ in range(5):
                await burst(endpoint, 1000)
            assert rss_mb(engine) - before[0] < 50
            assert files(engine) - before[1] <= 2
            assert max(rss_mb(w) - b for w, b in zip(workers, before[2], strict=True)) < 50
            assert [files(w) for w in workers] == before[3]
            assert (await world.call("status"))["jobs"] == 0
            assert not world.backends[0]._open_jobs

    asyncio.run(scenario())


def test_connections_that_come_and_go_leave_no_file_open(world):
    async def scenario():
        async with world.endpoint() as endpoint:
            await burst(endpoint, 1)
            before = files(world.engine_pid())
            for _ in range(50):
                await world.call("status")
            await until(lambda: files(world.engine_pid()) <= before + 1)

    asyncio.run(scenario())


def test_a_job_that_prints_without_end_is_bounded(world):
    async def scenario():
        async with world.endpoint() as endpoint:
            job, request = Following(), cell("for n in range(4000): print(n, flush=True)\nx = 1", "x")
            endpoint.run(request, job)
            await job.end()
            late = Following()
            world.backends[0].attach(request.job_id, late)
            assert values_of(await late.end()) == {"x": 1}
            assert len(late.events) <= MAX_EVENTS_PER_JOB + 2
            assert job.text.startswith(late.text)

    asyncio.run(scenario())


def test_items_are_kept_beyond_that_bound_and_take_no_room_from_text(world):
    source = "def f(count):\n    for n in range(count): yield n\n    print('end')"
    count = 2 * MAX_EVENTS_PER_JOB

    async def scenario():
        async with world.endpoint() as endpoint:
            job, request = Following(), call(source, count)
            endpoint.run(request, job)
            assert value_of(await job.end()) == job.items == list(range(count))
            late = Following()
            world.backend().attach(request.job_id, late)
            await late.end()
            assert late.items == list(range(count))
            assert late.text == "end\n"

    asyncio.run(scenario())


def test_a_database_of_an_engine_of_before_goes_on(world):
    """Columns were added since."""

    async def before():
        store = Store(world.home / "engine.sqlite")
        store.save_job(job("old", ended_at=time.time()), None, frames.encode({"type": "done"}))
        store.close()
        with sqlite3.connect(world.home / "engine.sqlite") as db:
            for column in ("former_attempts", "webhook", "webhook_due"):
                db.execute(f"ALTER TABLE jobs DROP COLUMN {column}")

    async def scenario():
        async with world.endpoint() as endpoint:
            job = Following()
            endpoint.run(call("def f(): return 1"), job)
            assert value_of(await job.end()) == 1
            assert "old" in {known["id"] for known in await world.call("jobs")}

    asyncio.run(before())
    asyncio.run(scenario())


def job(job_id: str, *, ended_at: float | None, endpoint: str = "ep") -> Job:
    status = JobStatus.IN_QUEUE if ended_at is None else JobStatus.COMPLETED
    return Job(job_id, endpoint, Needs("3"), 0.0, 1e12, status=status, ended_at=ended_at)


def test_the_store_forgets_old_jobs_with_their_events(tmp_path):
    async def scenario():
        store = Store(tmp_path / "engine.sqlite")
        writing = asyncio.create_task(store.run())
        for name, ended_at in (("old", 10.0), ("new", 100.0), ("open", None)):
            store.save_job(job(name, ended_at=ended_at), b"", b"")
            store.save_event(name, 0, {"type": "stream"})
        await store.flushed()
        store.prune(50.0)
        assert store.job("old") is None
        assert store.events("old") == []
        assert {j.id for j in store.jobs(10)} == {"new", "open"}
        assert len(store.events("new")) == len(store.events("open")) == 1
        writing.cancel()
        store.close()
        with sqlite3.connect(tmp_path / "engine.sqlite") as db:
            assert db.execute("SELECT count(*) FROM events").fetchone() == (2,)

    asyncio.run(scenario())


def test_the_store_answers_from_what_it_has_not_written_yet(tmp_path):
    async def scenario():
        store = Store(tmp_path / "engine.sqlite")
        store.save_job(job("j", ended_at=5.0), None, b"result")
        found = store.job("j")
        assert found is not None
        assert found[1] == b"result"
        writing = asyncio.create_task(store.run())
        await until(lambda: not store._jobs)
        assert store.job("j") is not None, "while it is being written"
        await store.flushed()
        assert store.job("j")[0].status is JobStatus.COMPLETED
        writing.cancel()
        store.close()

    asyncio.run(scenario())


def test_the_store_counts_events_of_unfinished_jobs(tmp_path):
    async def scenario():
        store = Store(tmp_path / "engine.sqlite")
        writing = asyncio.create_task(store.run())
        store.save_job(job("open", ended_at=None), b"", None)
        store.save_job(job("done", ended_at=1.0), None, b"")
        for number in range(3):
            store.save_event("open", number, {"n": number})
            store.save_event("done", number, {"n": number})
            store.save_event("open", 10 + number, {"type": "item", "index": number, "value": ""})
        await store.flushed()
        assert store.event_counts() == {"open": 3}
        assert store.events("open", 2)[0] == (2, {"n": 2})
        assert [number for number, _ in store.events("open", 2)] == [2, 10, 11, 12]
        writing.cancel()
        store.close()

    asyncio.run(scenario())


def test_an_unfinished_job_without_its_endpoint_is_failed(world, tmp_path):
    async def before():
        store = Store(world.home / "engine.sqlite")
        store.save_job(job("orphan", ended_at=None, endpoint="ep-gone"), frames.encode({}), None)
        store.close()

    async def scenario():
        backend, follower = world.backend(), Following()
        backend.attach("orphan", follower)
        info = (await follower.end()).info
        assert info.status is JobStatus.FAILED
        assert "ep-gone does not exist any more" in info.error
        await backend.aclose()

    asyncio.run(before())
    asyncio.run(scenario())
