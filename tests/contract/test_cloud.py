"""What the engine cannot play: endpoints of one name, outcomes by word, and what is kept of it all."""

from __future__ import annotations

import asyncio
import json
import pickle
import subprocess
import sys
from dataclasses import replace

import pytest
from cloud import Cloud
from door import QUICK, point_to
from real import Following, spec
from starlette.responses import JSONResponse, Response

import flash_nb
from flash_nb.backends.auth import ApiKey
from flash_nb.backends.base import HttpRequest, JobRequest
from flash_nb.backends.runpod import RunpodBackend
from flash_nb.errors import ApiKeyError, BackendError, EndpointNotFoundError
from flash_nb.jobs import FinishedEvent, ItemEvent, JobStatus, PhaseEvent, StoredEvent, new_job_id
from flash_nb.resources import NetworkVolume
from flash_nb.resources.prices import shipped
from flash_nb.sdk import failures
from flash_nb.sdk.session import Session, set_session
from flash_nb.settings import Settings, load

KEY = "rpa_SECRETSECRETSECRET"


def payload(**fields) -> JobRequest:
    request = {"execution_type": "handler", "input": {"text": "a"}}
    return JobRequest(new_job_id(), request, (), **fields)


@pytest.fixture
def run(tmp_path):
    """Run a scenario with a cloud, and a factory of backends by the name of their home."""

    def runner(scenario, **settings):
        async def main():
            backends = []

            def backend(home: str = "home", key: str = KEY) -> RunpodBackend:
                where = Settings(home=tmp_path / home, cache=tmp_path, **settings)
                backends.append(RunpodBackend(where, ApiKey(key, "the test"), backoff=QUICK))
                return backends[-1]

            async with Cloud(KEY).running() as cloud:
                point_to(cloud.url)
                try:
                    return await scenario(cloud, backend)
                finally:
                    for each in backends:
                        await each.aclose()

        return asyncio.run(main())

    return runner


async def finished(
    backend, cloud, request: JobRequest | None = None, **answers
) -> tuple[Following, FinishedEvent]:
    cloud.answers = {name: list(told) for name, told in answers.items()}
    endpoint = await backend.ensure(spec())
    job = Following()
    endpoint.run(request or payload(), job)
    return job, await job.end()


# --- endpoints ------------------------------------------------------------------------------------


def test_an_endpoint_is_saved_once_and_again_when_it_changes(run):
    async def scenario(cloud, backend):
        first = await backend().ensure(spec())
        assert (await backend().ensure(spec())).id == first.id
        assert cloud.count("saveEndpoint") == 1
        assert (await backend().ensure(spec(workers_max=1))).id == first.id
        assert [given.get("id") for name, given in cloud.log if name == "saveEndpoint"] == [None, first.id]
        assert cloud.endpoints[first.id]["workersMax"] == 1

    run(scenario)


def test_a_catalog_that_makes_no_sense_is_not_believed(run):
    async def scenario(cloud, backend):
        cloud.endpoints["catalog"] = {}
        cloud.answers = {"gpus": [{"gpus": [{"id": "odd"}]}]}
        offers = await backend().offers()
        assert (offers.is_live, offers.table) == (False, shipped())
        assert offers.note == "Runpod's catalog lists no GPU groups"

    run(scenario)


def test_one_of_its_name_is_used_from_another_machine_with_a_word(run):
    async def scenario(cloud, backend):
        first = await backend("one").ensure(spec())
        second = await backend("two").ensure(spec())
        assert second.id == first.id
        assert "existed already" in second.take_note()
        other = await backend("two").ensure(spec(kind="LiveServerless"))
        assert other.id != first.id

    run(scenario)


def test_two_machines_at_once_end_with_one_endpoint(run):
    async def scenario(cloud, backend):
        waiting = asyncio.Event()
        arrived = []

        async def together():
            arrived.append(1)
            if len(arrived) >= 2:
                waiting.set()
            await asyncio.wait_for(waiting.wait(), 5)

        cloud.before_save = together
        first, second = await asyncio.gather(backend("one").ensure(spec()), backend("two").ensure(spec()))
        assert first.id == second.id
        assert list(cloud.endpoints) == [first.id]

    run(scenario)


def test_a_volume_is_found_by_name_and_data_center_or_made(run):
    async def scenario(cloud, backend):
        cloud.volumes.append({"id": "other", "name": "data", "dataCenter": "US-KS-2", "size": 10})
        volume = NetworkVolume(name="data", size=10).wire()
        for name in ("a", "b"):
            wanted = spec(name=name)
            endpoint = await backend().ensure(replace(wanted, wire={**wanted.wire, "networkVolume": volume}))
            assert cloud.endpoints[endpoint.id]["networkVolumeId"] == "vol1"
            assert "networkVolume" not in cloud.endpoints[endpoint.id]
        assert cloud.count("volume") == 1

    run(scenario)


def test_a_volume_that_is_refused_is_refused_in_runpods_words(run):
    async def scenario(cloud, backend):
        wanted = spec()
        volume = NetworkVolume(name="data").wire() | {"tier": 1}
        told = r"the volume 'data' with status 422: Request validation failed\.; fields: .*'tier'"
        with pytest.raises(BackendError, match=told):
            await backend().ensure(replace(wanted, wire={**wanted.wire, "networkVolume": volume}))
        assert not cloud.endpoints

    run(scenario)


def test_what_exists_and_what_is_billed(run):
    async def scenario(cloud, backend):
        endpoint = await backend().ensure(spec())
        cloud.endpoints["foreign"] = {"id": "foreign", "name": "x", "type": "QB", "gpuIds": "ADA_24"}
        ours, foreign = await backend().endpoints()
        assert (ours.id, ours.is_ours, ours.billing, ours.jobs["inQueue"]) == (endpoint.id, True, 3, 2)
        assert not foreign.is_ours
        await backend().delete(endpoint.id)
        assert list(cloud.endpoints) == ["foreign"]
        with pytest.raises(EndpointNotFoundError):
            await backend().delete(endpoint.id)

    run(scenario)


def test_down_on_exit_removes_what_this_session_created(run):
    async def scenario(cloud, backend):
        await backend("other").ensure(spec(name="kept"))
        mine = backend()
        await mine.ensure(spec(name="kept"))
        await mine.ensure(spec(name="mine"))
        await mine.aclose()
        assert [each["name"] for each in cloud.endpoints.values()] == ["kept"]

    run(scenario, down_on_exit=True)


@pytest.mark.parametrize(
    "content", ["{", "[]", '{"format": "other"}', '{"format": "flash_nb endpoints 1"}', "\x80"]
)
def test_a_foreign_state_file_is_refused_and_left_alone(run, tmp_path, content):
    async def scenario(cloud, backend):
        file = tmp_path / "home" / "runpod.json"
        file.parent.mkdir()
        file.write_text(content, encoding="latin-1")
        with pytest.raises(BackendError, match=r"runpod\.json is not what flash_nb wrote there"):
            await backend().ensure(spec())
        assert file.read_text(encoding="latin-1") == content
        assert not cloud.endpoints

    run(scenario)


def test_a_pickle_is_not_executed(run, tmp_path):
    async def scenario(cloud, backend):
        class Bomb:
            def __reduce__(self):
                return (open, (str(tmp_path / "boom"), "w"))

        (tmp_path / "home").mkdir()
        (tmp_path / "home" / "runpod.json").write_bytes(pickle.dumps(Bomb()))
        with pytest.raises(BackendError):
            await backend().ensure(spec())
        assert not (tmp_path / "boom").exists()

    run(scenario)


# --- jobs -----------------------------------------------------------------------------------------


def test_a_quick_job_is_one_request(run):
    async def scenario(cloud, backend):
        told = {"id": "j", "status": "COMPLETED", "delayTime": 20, "executionTime": 30, "workerId": "w"}
        request = payload(timeout_s=60, ttl_s=120, webhook="https://example.org/hook")
        _, event = await finished(backend(), cloud, request, runsync=[{**told, "output": {"text": "A"}}])
        assert json.loads(event.buffers[0]) == {"text": "A"}
        info = event.info
        assert (info.id, info.worker, info.queued_s, info.run_s) == (request.job_id, "w", 0.02, 0.03)
        assert [entry for entry in cloud.log if entry[0] in ("run", "runsync", "status", "stream")] == [
            (
                "runsync",
                {
                    "input": {"text": "a"},
                    "policy": {"executionTimeout": 60000, "ttl": 120000},
                    "webhook": "https://example.org/hook",
                },
            )
        ]

    run(scenario)


def test_a_durable_job_goes_to_run_and_is_found_by_another_kernel(run):
    async def scenario(cloud, backend):
        done = {"id": "j", "status": "COMPLETED", "output": 1, "stream": [], "workerId": "w"}
        request = payload(durable=True)
        job, event = await finished(
            backend(), cloud, request, run=[{"id": "j", "status": "IN_QUEUE"}], stream=[done], status=[done]
        )
        assert [type(e) for e in job.events].count(StoredEvent) == 1
        assert cloud.count("runsync") == 0
        for job_id in (request.job_id, "j"):
            follower = Following()
            backend().attach(job_id, follower)
            assert json.loads((await follower.end()).buffers[0]) == 1
            assert follower.finished.result().info == event.info

    run(scenario)


def test_chunks_are_items_and_text_is_a_phase(run):
    async def scenario(cloud, backend):
        job, event = await finished(
            backend(),
            cloud,
            runsync=[{"id": "j", "status": "IN_PROGRESS", "output": "half done"}],
            stream=[
                {"status": "IN_PROGRESS", "stream": [{"output": 1}, {"output": {"a": 2}}]},
                {"status": "COMPLETED", "stream": [{"output": 3}]},
                {"status": "COMPLETED", "stream": []},
            ],
            status=[{"id": "j", "status": "COMPLETED", "output": []}],
        )
        items = [(e.index, pickle.loads(e.value)) for e in job.events if isinstance(e, ItemEvent)]
        assert items == [(0, 1), (1, {"a": 2}), (2, 3)]
        assert PhaseEvent("half done") in job.events
        assert event.info.status is JobStatus.COMPLETED

    run(scenario)


def test_a_handlers_exception_comes_with_its_type_and_traceback(run):
    raised = {"error_type": "<class 'ValueError'>", "error_message": "no", "error_traceback": "Traceback …"}

    async def scenario(cloud, backend):
        told = {"id": "j", "status": "FAILED", "error": json.dumps(raised), "workerId": "w"}
        _, event = await finished(backend(), cloud, runsync=[told])
        assert (event.info.status, event.info.error) == (JobStatus.FAILED, "ValueError: no")
        error = failures.rebuild(event.result["error"], event.buffers, lambda name: None)
        assert (error.remote_type, error.remote_message) == ("ValueError", "no")
        assert "Traceback …" in error.remote_traceback

    run(scenario)


@pytest.mark.parametrize(
    ("told", "status", "error"),
    [
        ({"status": "FAILED", "error": "worker exited"}, JobStatus.FAILED, "worker exited"),
        ({"status": "CANCELLED"}, JobStatus.CANCELLED, ""),
        ({"status": "TIMED_OUT"}, JobStatus.TIMED_OUT, "it ran longer than it may"),
        ({"http": 404, "error": "job not found"}, JobStatus.TIMED_OUT, "Runpod does not know it any more"),
        ({"http": 400, "error": "bad"}, JobStatus.FAILED, "Runpod refused job"),
    ],
)
def test_every_end_has_its_reason(run, told, status, error):
    async def scenario(cloud, backend):
        told_first = {"id": "j", "status": "IN_QUEUE"}
        _, event = await finished(backend(), cloud, runsync=[told_first], stream=[told], status=[told])
        assert event.info.status is status
        assert event.info.error.startswith(error)
        assert event.result is None
        assert str(failures.without_result(event.info))

    run(scenario)


def test_a_job_over_the_limit_is_not_sent(run):
    async def scenario(cloud, backend):
        request = payload(durable=True)
        request.request["input"]["text"] = "a" * 10_000_001
        _, event = await finished(backend(), cloud, request)
        assert event.info.error.startswith("The job has 10.0 MB with its values; Runpod takes 10 MB")
        assert cloud.count("run") == 0

    run(scenario)


def test_retry_is_for_what_failed_outside_its_code(run):
    async def scenario(cloud, backend):
        failed = {"id": "j", "status": "FAILED", "error": "lost", "workerId": "w"}
        done = {"id": "j", "status": "COMPLETED", "output": 1, "stream": [], "workerId": "w"}
        request = payload()
        await finished(backend(), cloud, request, runsync=[failed])
        cloud.answers = {
            "status": [failed, done],
            "stream": [done],
            "retry": [{"id": "j", "status": "IN_QUEUE"}],
        }
        job = Following()
        await backend().retry(request.job_id, job)
        assert json.loads((await job.end()).buffers[0]) == 1
        for job_id in (request.job_id, "nobody"):
            cloud.answers["status"] = [done if job_id != "nobody" else {"http": 404}]
            with pytest.raises(BackendError, match="cannot be retried"):
                await backend().retry(job_id, Following())

    run(scenario)


# --- load-balanced --------------------------------------------------------------------------------


def api(**fields):
    return spec(name="api", kind="CpuLiveLoadBalancer", balanced=True, **fields)


def test_a_request_waits_for_a_worker_and_is_sent_once(run):
    async def scenario(cloud, backend):
        pings = iter([204, 204, 200])

        def served(request, body):
            if request.url.path.endswith("/ping"):
                return Response(status_code=next(pings))
            return JSONResponse({"got": body.decode(), "q": request.url.query}, status_code=500)

        cloud.served = served
        endpoint = await backend().ensure(api())
        assert endpoint.url == f"{cloud.url}/{endpoint.id}"
        for _ in range(2):
            answer = await endpoint.request(HttpRequest("POST", "/x", "a=1", [("x-y", "z")], b"body"))
            assert (answer.status, json.loads(answer.body)) == (500, {"got": "body", "q": "a=1"})
        assert [name for name, _ in cloud.log if name in ("ping", "x")] == ["ping"] * 3 + ["x"] * 2

    run(scenario)


def test_a_deleted_load_balanced_endpoint_is_made_again(run):
    async def scenario(cloud, backend):
        endpoint = await backend().ensure(api())
        assert (await endpoint.request(HttpRequest("GET", "/x"))).note == ""
        cloud.endpoints.clear()
        answer = await endpoint.request(HttpRequest("GET", "/x"))
        assert (answer.status, list(cloud.endpoints)) == (200, [endpoint.id])
        assert "had been deleted; it was made again" in answer.note

    run(scenario)


# --- the key --------------------------------------------------------------------------------------


def test_a_bad_key_is_one_clear_error_that_does_not_show_it(run):
    async def scenario(cloud, backend):
        with pytest.raises(ApiKeyError, match=r"Runpod refuses the API key from the test\.") as caught:
            await backend(key="rpa_WRONGWRONG").ensure(spec())
        assert "rpa_" not in str(caught.value)
        assert cloud.count("endpoints") == 0

    run(scenario)


def test_a_service_that_quotes_the_key_is_not_quoted(run):
    async def scenario(cloud, backend):
        told = {"http": 400, "error": f"bad key {KEY}"}
        _, event = await finished(backend(), cloud, runsync=[told])
        assert KEY not in repr(event)
        assert "bad key [API key]" in event.info.error

    run(scenario)


# --- what the SDK makes of it ---------------------------------------------------------------------

WORKER = """
import asyncio, json, sys
request = json.load(sys.stdin)
names = {}
exec(request["function_code"], names)
import base64, pickle
values = [pickle.loads(base64.b64decode(value)) for value in request["args"]]
result = asyncio.run(names[request["function_name"]](*values))
print(json.dumps({"success": True, "result": base64.b64encode(pickle.dumps(result)).decode(), "stdout": ""}))
"""


def executed(request, body) -> Response:
    """Do what Flash's image for load-balanced endpoints does."""
    if not request.url.path.endswith("/execute"):
        return Response(status_code=200)
    done = subprocess.run([sys.executable, "-c", WORKER], input=body, capture_output=True, check=True)
    return Response(done.stdout, media_type="application/json")


def test_a_live_route_takes_its_source_to_execute(run, capsys):
    api = flash_nb.CpuLiveLoadBalancer(name="api")

    @flash_nb.remote(api, method="POST", path="/half")
    def half(number: float, parts: int = 2) -> float:
        print("halving")
        return number / parts

    async def scenario(cloud, backend):
        cloud.served = executed
        session = Session(load(), backend())
        set_session(session)
        try:
            assert await half(3) == 1.5
            assert "halving" in capsys.readouterr().out
            with pytest.raises(ZeroDivisionError):
                await half(3, parts=0)
            sent = [json.loads(body) for name, body in cloud.log if name == "execute"]
            assert len(sent) == 2
            assert sent[0]["execution_type"] == "function"
            assert half.url == f"{cloud.url}/{next(iter(cloud.endpoints))}/half"
        finally:
            set_session(None)
            await asyncio.to_thread(session.close)

    run(scenario)


def test_an_image_of_ones_own_needs_no_stand_in(run):
    resource = flash_nb.CpuServerlessEndpoint(name="own", imageName="me/own:1")

    @flash_nb.remote(resource)
    def prompt(text):
        return {"text": text}

    async def scenario(cloud, backend):
        done = {"id": "j", "status": "COMPLETED", "output": {"text": "A"}, "workerId": "w"}
        cloud.answers = {"runsync": [done]}
        session = Session(load(), backend())
        set_session(session)
        try:
            out = await prompt("a")
            assert (out.status, out.output, out.workerId) == ("COMPLETED", {"text": "A"}, "w")
            (saved,) = [given for name, given in cloud.log if name == "saveEndpoint"]
            assert saved == resource.wire()
        finally:
            set_session(None)
            await asyncio.to_thread(session.close)

    run(scenario)
