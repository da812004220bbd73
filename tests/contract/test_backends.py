"""What `flash_nb.backends.base` promises, of every backend there is."""

from __future__ import annotations

import asyncio
import inspect

import pytest
from real import Following, call, cell, spec, until, value_of, values_of

from flash_nb.errors import BackendError
from flash_nb.jobs import (
    DisplayEvent,
    FinishedEvent,
    ItemEvent,
    JobStatus,
    PhaseEvent,
    StatusEvent,
    StoredEvent,
    StreamEvent,
)
from flash_nb.sdk import failures


async def run(endpoint, request) -> FinishedEvent:
    job = Following()
    endpoint.run(request, job)
    return await job.end()


def contract(scenario):
    """Run a scenario with a backend, and with a factory of further ones."""

    def test(new_backend, tmp_path):
        async def main():
            backend = new_backend()
            try:
                await scenario(backend, new_backend, **({"tmp_path": tmp_path} if wants_path else {}))
            finally:
                await backend.aclose()

        asyncio.run(main())

    wants_path = "tmp_path" in inspect.signature(scenario).parameters

    test.__name__ = scenario.__name__
    test.__doc__ = scenario.__doc__
    return test


@contract
async def test_ensuring_twice_gives_the_same_endpoint(backend, new_backend):
    first = await backend.ensure(spec())
    assert (await backend.ensure(spec())).id == first.id
    assert (await backend.ensure(spec(workers_max=1))).id == first.id
    assert (await backend.ensure(spec(name="other"))).id != first.id
    assert (await backend.ensure(spec(kind="LiveServerless"))).id != first.id
    another = new_backend()
    assert (await another.ensure(spec())).id == first.id
    await another.aclose()


@contract
async def test_a_run_tells_its_story_in_order(backend, new_backend):
    endpoint = await backend.ensure(spec())
    job = Following()
    endpoint.run(cell("print('hello')\nimport sys\nprint('oops', file=sys.stderr)\nx = 1", "x"), job)
    event = await job.end()
    await asyncio.sleep(0.1)
    kinds = [type(e) for e in job.events]
    assert kinds.count(FinishedEvent) == 1
    assert kinds[-1] is FinishedEvent
    statuses = [e.info.status for e in job.events if isinstance(e, StatusEvent)]
    assert statuses == sorted(statuses, key=[JobStatus.IN_QUEUE, JobStatus.IN_PROGRESS].index)
    streams = [(e.name, e.text) for e in job.events if isinstance(e, StreamEvent)]
    assert streams == [("stdout", "hello\n"), ("stderr", "oops\n")]
    assert all(isinstance(e, (StatusEvent, PhaseEvent)) for e in job.events[: kinds.index(StreamEvent)])
    info = event.info
    assert info.status is JobStatus.COMPLETED
    assert info.worker
    assert info.attempts == 1
    assert info.submitted_at <= info.started_at <= info.ended_at
    assert info.run_s <= info.ended_at - info.submitted_at
    assert (info.error, info.error_type) == ("", "")
    assert values_of(event) == {"x": 1}


@contract
async def test_what_is_displayed_comes_before_the_end(backend, new_backend):
    endpoint = await backend.ensure(spec())
    job = Following()
    source = "display({'text/html': '<b>x</b>'}, raw=True)"
    endpoint.run(cell(source), job)
    await job.end()
    (shown,) = [e for e in job.events if isinstance(e, DisplayEvent)]
    assert shown.data["text/html"] == "<b>x</b>"
    assert job.events[-1] is job.finished.result()


@contract
async def test_submitting_twice_is_one_job(backend, new_backend):
    endpoint = await backend.ensure(spec())
    first, second = Following(), Following()
    request = cell("import time; time.sleep(0.2); x = 1", "x")
    endpoint.run(request, first)
    endpoint.run(request, second)
    event = await second.end()
    assert values_of(event) == {"x": 1}
    assert event.info.attempts == 1


@contract
async def test_a_durable_job_is_confirmed_before_it_ends(backend, new_backend):
    endpoint = await backend.ensure(spec())
    job = Following()
    endpoint.run(cell("import time; time.sleep(0.3)", durable=True), job)
    await job.end()
    assert [type(e) for e in job.events].count(StoredEvent) == 1


@contract
async def test_cancelling_ends_a_job_and_harms_no_finished_one(backend, new_backend):
    endpoint = await backend.ensure(spec())
    request = cell("print('on')\nimport time\ntime.sleep(60)")
    job = Following()
    endpoint.run(request, job)
    await until(lambda: job.text)
    endpoint.cancel(request.job_id)
    event = await job.end()
    assert (event.info.status, event.result) == (JobStatus.CANCELLED, None)
    assert isinstance(failures.without_result(event.info), failures.JobCancelledError)
    endpoint.cancel(request.job_id)
    endpoint.cancel("unknown")
    assert values_of(await run(endpoint, cell("x = 1", "x"))) == {"x": 1}


@contract
async def test_attaching_replays_a_running_job_and_follows_it(backend, new_backend):
    endpoint = await backend.ensure(spec())
    job, request = Following(), cell("print('one')\nimport time\ntime.sleep(1)\nprint('two')\nx = 1", "x")
    endpoint.run(request, job)
    await until(lambda: job.text == "one\n")
    other, follower = new_backend(), Following()
    other.attach(request.job_id, follower)
    await until(lambda: follower.text == "one\n")
    assert follower.status == "IN_PROGRESS"
    first, second = await job.end(), await follower.end()
    assert follower.text == job.text == "one\ntwo\n"
    assert values_of(first) == values_of(second) == {"x": 1}
    assert first.info == second.info
    await other.aclose()


@contract
async def test_attaching_replays_a_finished_job(backend, new_backend):
    endpoint = await backend.ensure(spec())
    request = cell("print('hello')\nx = 1", "x")
    event = await run(endpoint, request)
    for _ in range(2):
        follower = Following()
        backend.attach(request.job_id, follower)
        assert values_of(await follower.end()) == {"x": 1}
        assert follower.text == "hello\n"
        assert follower.finished.result().info == event.info


@contract
async def test_attaching_to_an_unknown_job_ends_at_once(backend, new_backend):
    follower = Following()
    backend.attach("nobody", follower)
    info = (await follower.end()).info
    assert info.status is JobStatus.FAILED
    assert "has no such job" in info.error


@contract
async def test_a_failure_carries_type_message_and_place(backend, new_backend):
    endpoint = await backend.ensure(spec())
    event = await run(endpoint, cell("x = 1\ndef f():\n    raise KeyError('lost')\nf()", "x"))
    assert event.info.status is JobStatus.FAILED
    assert event.info.error == "KeyError: 'lost'"
    assert event.info.error_type == ""
    result = event.result
    assert not result["ok"]
    assert (result["error"]["type"], result["error"]["message"]) == ("KeyError", "'lost'")
    frames = result["error"]["chain"][0]["frames"]
    assert [(each["file"], each["span"][0]) for each in frames] == [("<cell>", 4), ("<cell>", 3)]
    assert [item["name"] for item in result["namespace"]] == ["x"], "what was bound before comes back"
    raised = failures.rebuild(result["error"], event.buffers[result["counts"][0] :], lambda name: None)
    assert isinstance(raised, KeyError)
    assert raised.args == ("lost",)


@contract
async def test_an_environment_that_cannot_be_is_an_error_of_its_own(backend, new_backend):
    endpoint = await backend.ensure(spec())
    event = await run(endpoint, cell("x = 1", requirements=("not a requirement",)))
    assert event.info.status is JobStatus.FAILED
    assert event.result is None
    assert isinstance(failures.without_result(event.info), failures.WorkerEnvironmentError)


@contract
async def test_buffers_travel_out_of_band(backend, new_backend):
    endpoint = await backend.ensure(spec())
    data = bytearray(range(256)) * 10_000
    event = await run(endpoint, cell("b = a[::-1]", "b", values={"a": data}))
    assert values_of(event)["b"] == data[::-1]
    assert event.result["sizes"]["b"] >= len(data)


@contract
async def test_an_object_keeps_to_one_worker(backend, new_backend):
    endpoint = await backend.ensure(spec(workers_max=2))
    ids = [f"object_{number}" for number in range(2)]
    workers: dict[str, set[str]] = {instance: set() for instance in ids}
    for _ in range(4):
        for instance in ids:
            event = await run(endpoint, cell("x = 1", instance=instance))
            workers[instance].add(event.info.worker)
    assert [len(found) for found in workers.values()] == [1, 1]
    for instance in ids:
        endpoint.release(instance)
    endpoint.release("unknown")
    assert values_of(await run(endpoint, cell("x = 1", "x"))) == {"x": 1}


STEPS = """
def f(go, count):
    import pathlib, time
    for number in range(count):
        print("before", number)
        yield {"number": number}
        while number and not pathlib.Path(go).exists():
            time.sleep(0.01)
"""


@contract
async def test_items_come_while_the_generator_runs(backend, new_backend, tmp_path):
    endpoint = await backend.ensure(spec())
    job, request = Following(), call(STEPS, str(tmp_path / "go"), 3)
    endpoint.run(request, job)
    await until(lambda: len(job.items) == 2)
    other, follower = new_backend(), Following()
    other.attach(request.job_id, follower)
    await until(lambda: len(follower.items) == 2)
    assert not job.finished.done()
    (tmp_path / "go").touch()
    for each in (job, follower):
        event = await each.end()
        assert each.items == value_of(event) == [{"number": number} for number in range(3)]
        assert event.result["items"] == 3
        told = [e for e in each.events if isinstance(e, (ItemEvent, StreamEvent))]
        kinds = [type(e).__name__[0] for e in told]
        assert kinds == ["S", "I"] * 3, "an item comes after the text before it"
    await other.aclose()


@contract
async def test_items_come_before_the_failure(backend, new_backend, tmp_path):
    endpoint = await backend.ensure(spec())
    job = Following()
    endpoint.run(call("def f():\n    yield 1\n    yield 2\n    raise LookupError"), job)
    event = await job.end()
    assert job.items == [1, 2]
    assert event.info.status is JobStatus.FAILED
    assert event.result["error"]["type"] == "LookupError"


@contract
async def test_cancelling_closes_a_generator(backend, new_backend, tmp_path):
    endpoint = await backend.ensure(spec())
    closed = tmp_path / "closed"
    source = (
        "def f(closed):\n    import pathlib, time\n    try:\n        yield 1\n        time.sleep(60)\n"
        "    finally:\n        pathlib.Path(closed).touch()"
    )
    job, request = Following(), call(source, str(closed))
    endpoint.run(request, job)
    await until(lambda: job.items)
    endpoint.cancel(request.job_id)
    assert (await job.end()).info.status is JobStatus.CANCELLED
    await until(closed.exists)


@contract
async def test_a_failed_job_is_retried_under_its_id(backend, new_backend, tmp_path):
    endpoint = await backend.ensure(spec())
    source = "def f(file):\n    print('on')\n    return open(file).read()"
    request = call(source, str(tmp_path / "file"))
    assert (await run(endpoint, request)).info.status is JobStatus.FAILED
    (tmp_path / "file").write_text("there")
    other, job = new_backend(), Following()
    await other.retry(request.job_id, job)
    event = await job.end()
    assert value_of(event) == "there"
    assert (event.info.id, event.info.attempts, job.text) == (request.job_id, 1, "on\n")
    for job_id in (request.job_id, "nobody"):
        with pytest.raises(BackendError):
            await backend.retry(job_id, Following())
    await other.aclose()


@contract
async def test_many_jobs_at_once_all_end(backend, new_backend):
    endpoint = await backend.ensure(spec())
    events = await asyncio.gather(*(run(endpoint, cell(f"x = {n}", "x")) for n in range(300)))
    assert [values_of(event)["x"] for event in events] == list(range(300))
