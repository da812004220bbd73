"""The official worker, unmodified, takes jobs from the engine."""

from __future__ import annotations

import asyncio
import json
import signal
import time

from official import Worker, serving
from real import until


def run(scenario) -> None:
    asyncio.run(scenario)


def test_plain_handlers_and_every_kind_of_answer(world, official):
    async def scenario():
        async with serving(world, official, "plain") as endpoint:
            done = await endpoint.run(text="héllo")
            assert done["status"] == "COMPLETED"
            assert done["output"] == {"got": {"text": "héllo"}, "id": done["id"]}
            assert done["workerId"] == endpoint.workers[0].id
            for what, output in (("nothing", None), ("empty", None), ("large", "x" * 6_000_000)):
                assert (await endpoint.run(do=what, size=6_000_000))["output"] == output
            assert str((await endpoint.run(do="nan"))["output"]) == "nan"
            raised = await endpoint.run(do="raise")
            error = json.loads(raised["error"])
            assert raised["status"] == "FAILED"
            assert (error["error_type"], error["error_message"]) == ("<class 'ValueError'>", "no such model")
            assert "in plain" in error["error_traceback"]
            assert (await endpoint.run(do="error"))["error"] == "out of tokens"
            assert json.loads((await endpoint.run(do="error dict"))["error"]) == {"code": 7}

    run(scenario())


def test_an_idle_worker_asks_seldom_and_answers_fast(world, official):
    async def scenario():
        async with serving(world, official, "plain") as endpoint:
            begun = time.monotonic()
            await endpoint.run(number=1)
            assert time.monotonic() - begun < 2
            await asyncio.sleep(3)
            asked = endpoint.workers[0].log.count("get_job: http")
            assert asked < 6, "its questions are held"

    run(scenario())


def test_a_result_that_json_cannot_hold_fails_after_three_attempts(world, official):
    async def scenario():
        async with serving(world, official, "plain") as endpoint:
            done = await endpoint.run(do="unserialisable")
            assert done["status"] == "FAILED"
            assert "no result came" in done["error"]
            assert endpoint.workers[0].notes == ["ran"] * 3

    run(scenario())


def test_the_result_of_a_sync_job_of_some_seconds_is_not_lost(world, official):
    async def scenario():
        async with serving(world, official, "plain") as endpoint:
            job_id = await endpoint.submit(do="sleep", seconds=6.5)
            assert (await endpoint.end(job_id))["output"] == "slept"
            assert endpoint.workers[0].notes == ["began", "ended"]

    run(scenario())


def test_progress_is_the_output_while_the_job_runs(world, official, tmp_path):
    async def scenario():
        async with serving(world, official, "plain") as endpoint:
            gate = tmp_path / "gate"
            job_id = await endpoint.submit(do="progress", until=str(gate))
            await endpoint.until(f"status/{job_id}", lambda found: found.get("output") == {"step": 2})
            gate.touch()
            assert (await endpoint.end(job_id))["output"] == "done"

    run(scenario())


def test_generators_stream_and_are_aggregated_where_they_say_so(world, official):
    async def scenario():
        async with serving(world, official, "aggregate") as endpoint:
            job_id = await endpoint.submit(count=3)
            chunks = [{"number": number} for number in range(3)]
            assert (await endpoint.end(job_id))["output"] == chunks
            assert [chunk["output"] for chunk in (await endpoint.get(f"stream/{job_id}"))["stream"]] == chunks
            failed = await endpoint.run(count=1, **{"raise": True})
            assert failed["status"] == "FAILED"
            assert failed["error"].startswith("handler: no more")

    run(scenario())


def test_a_generator_that_does_not_aggregate_has_its_chunks_in_the_stream_alone(world, official):
    async def scenario():
        async with serving(world, official, "generator") as endpoint:
            job_id = await endpoint.submit(count=2)
            assert (await endpoint.end(job_id))["output"] == []
            assert len((await endpoint.get(f"stream/{job_id}"))["stream"]) == 2

    run(scenario())


def test_an_async_generator_streams(world, official):
    async def scenario():
        async with serving(world, official, "async_generator") as endpoint:
            assert (await endpoint.run(count=3))["output"] == [0, 1, 2]

    run(scenario())


def test_an_async_job_is_cancelled_and_its_worker_goes_on(world, official):
    async def scenario():
        async with serving(world, official, "waiting") as endpoint:
            (worker,) = endpoint.workers
            job_id = await endpoint.submit(seconds=600)
            await endpoint.noted(worker, "began")
            assert (await endpoint.post(f"cancel/{job_id}"))["status"] == "CANCELLED"
            await endpoint.noted(worker, f"cancelled {job_id}")
            assert (await endpoint.run(seconds=0.1))["output"] == 0.1
            assert worker.log.count("Stopping job") == 1

    run(scenario())


def test_a_job_is_stopped_at_its_time_out(world, official):
    async def scenario():
        async with serving(world, official, "waiting", timeout_s=1.0) as endpoint:
            done = await endpoint.run(seconds=600)
            assert done["status"] == "TIMED_OUT"
            await endpoint.noted(endpoint.workers[0], "cancelled")

    run(scenario())


def test_a_sync_job_runs_to_its_end_after_a_cancel_and_its_result_is_ignored(world, official):
    async def scenario():
        async with serving(world, official, "plain") as endpoint:
            (worker,) = endpoint.workers
            job_id = await endpoint.submit(do="sleep", seconds=2)
            await endpoint.noted(worker, "began")
            await endpoint.post(f"cancel/{job_id}")
            await endpoint.noted(worker, "ended")
            assert (await endpoint.run(number=1))["status"] == "COMPLETED"
            assert (await endpoint.get(f"status/{job_id}"))["status"] == "CANCELLED"

    run(scenario())


def test_a_concurrent_worker_takes_several_jobs_and_stops_one(world, official):
    async def scenario():
        async with serving(world, official, "concurrent") as endpoint:
            (worker,) = endpoint.workers
            job_ids = [await endpoint.submit(seconds=600) for _ in range(3)]
            for job_id in job_ids:
                await endpoint.noted(worker, f"began {job_id}")
            assert (await endpoint.get("health"))["jobs"]["inProgress"] == 3
            await endpoint.post(f"cancel/{job_ids[1]}")
            await endpoint.noted(worker, f"cancelled {job_ids[1]}")
            assert (await endpoint.get("health"))["jobs"]["inProgress"] == 2
            assert (await endpoint.run(seconds=0.1))["status"] == "COMPLETED"

    run(scenario())


def test_a_job_whose_worker_is_killed_runs_on_another_although_its_pings_go_on(world, official):
    async def scenario():
        async with serving(world, official, "plain") as endpoint:
            (first,) = endpoint.workers
            job_id = await endpoint.submit(do="die")
            await endpoint.noted(first, "began")
            first.signal(signal.SIGKILL)
            await endpoint.until("health", lambda found: found["workers"]["ready"] == 0)
            assert (await endpoint.get(f"status/{job_id}"))["status"] == "IN_QUEUE"
            endpoint.workers.clear()
            second = await endpoint.worker("plain")
            endpoint.workers.append(first)  # to be ended with its ping process
            await endpoint.noted(second, "began")
            assert (await endpoint.get(f"status/{job_id}"))["status"] == "IN_PROGRESS"

    run(scenario())


def test_a_worker_that_is_told_to_end_finishes_its_job_and_loses_none(world, official):
    async def scenario():
        async with serving(world, official, "waiting", "waiting") as endpoint:
            job_id = await endpoint.submit(seconds=1)
            await until(lambda: any(worker.notes for worker in endpoint.workers))
            (busy,) = [worker for worker in endpoint.workers if worker.notes]
            busy.signal(signal.SIGTERM)
            assert (await endpoint.end(job_id))["status"] == "COMPLETED"
            assert busy.notes[-1] == f"ended {job_id}"
            # One of these may go to the worker that ends: the official loop takes it and drops it.
            late = [await endpoint.submit(seconds=0.1) for _ in range(2)]
            for job_id in late:
                assert (await endpoint.end(job_id, 60))["status"] == "COMPLETED"

    run(scenario())


def test_a_worker_that_refreshes_itself_ends_at_once(world, official):
    async def scenario():
        async with serving(world, official, "refreshing") as endpoint:
            (worker,) = endpoint.workers
            assert (await endpoint.run(number=1))["status"] == "COMPLETED"
            assert await asyncio.to_thread(worker.process.wait, 10) == 0

    run(scenario())


def test_a_worker_that_asks_to_be_replaced_and_stays_takes_the_next_job(world, official):
    async def scenario():
        async with serving(world, official, "plain") as endpoint:
            assert (await endpoint.run(do="refresh"))["output"] == {"done": True}
            assert (await endpoint.run(number=1))["status"] == "COMPLETED"

    run(scenario())


def test_a_worker_with_a_wrong_key_is_refused_slowly(world, official):
    async def scenario():
        async with serving(world, official) as endpoint:
            environment = {**await endpoint.environment(), "RUNPOD_AI_API_KEY": "wrong"}
            worker = Worker(official, "plain", environment)
            endpoint.workers.append(worker)
            await until(lambda: worker.log.count("Failed to get job") >= 2)
            begun, count = time.monotonic(), worker.log.count("Failed to get job")
            await until(lambda: worker.log.count("Failed to get job") >= count + 2)
            assert time.monotonic() - begun > 2

    run(scenario())


def test_the_engine_comes_back_and_its_workers_with_it(world, official):
    async def scenario():
        async with serving(world, official, "waiting") as endpoint:
            (worker,) = endpoint.workers
            job_id = await endpoint.submit(seconds=4)
            await endpoint.noted(worker, "began")
            world.kill_engine()
            world.flash("engine", "start")
            done = await endpoint.end(job_id)
            assert done["status"] == "COMPLETED"
            assert len(worker.notes) == 2, "it ran once"

    run(scenario())
