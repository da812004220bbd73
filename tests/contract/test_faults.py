"""The network fails between us and Runpod: what may be repeated is, what must not be sent twice is not."""

from __future__ import annotations

import asyncio
import contextlib
import json
from dataclasses import replace

import pytest
from door import Door
from faults import Fault
from real import Following, cell, spec, values_of

from flash_nb.jobs import JobStatus, StreamEvent
from flash_nb.protocol import graphql
from flash_nb.resources import NetworkVolume

VOLUMES = "/v2/network-volumes"
SLOW = "import time; time.sleep(1.5); x = 1"


@pytest.fixture(scope="module")
def door(tmp_path_factory):
    """One engine for all tests of the module."""
    with Door.open() as opened:
        yield opened


def test_no_fault_of_a_poll_aborts_a_job(door):
    plan = [
        Fault("/status/", "drop"),
        Fault("/status/", "status", status=500),
        Fault("/status/", "status", status=429, headers={"Retry-After": "0"}),
        Fault("/status/", "cut"),
        Fault("/status/", "half"),
        Fault("/status/", "lose", times=2),
        Fault("/status/", "status", status=503),
    ]

    async def main(backend, proxy):
        endpoint = await backend.ensure(spec())
        job = Following()
        endpoint.run(cell(SLOW, "x"), job)
        assert values_of(await job.end()) == {"x": 1}
        assert proxy.count("/runsync") == 1
        assert not [fault for fault in plan if fault.times]

    door.run(main, plan)


def test_a_refused_job_is_sent_again(door):
    async def main(backend, proxy):
        endpoint = await backend.ensure(spec())
        job = Following()
        endpoint.run(cell("x = 1", "x"), job)
        assert values_of(await job.end()) == {"x": 1}
        assert [len([p for p, _ in found if "/runsync" in p]) for found in (proxy.seen, proxy.sent)] == [3, 1]

    door.run(main, [Fault("/runsync", "status", status=429, headers={"retry-after": "0"}, times=2)])


@pytest.mark.parametrize(
    ("fault", "reached"),
    [
        (Fault("/runsync", "lose"), 1),
        (Fault("/runsync", "cut"), 1),
        (Fault("/runsync", "half"), 1),
        (Fault("/runsync", "drop"), 0),
        (Fault("/runsync", "status", status=502), 0),
    ],
    ids=lambda value: getattr(value, "kind", ""),
)
def test_a_job_whose_answer_is_lost_is_not_sent_twice(door, fault, reached):
    async def main(backend, proxy):
        endpoint = await backend.ensure(spec())
        job = Following()
        endpoint.run(cell("x = 1", "x"), job)
        info = (await job.end()).info
        assert info.status is JobStatus.FAILED
        assert info.error.startswith("nobody knows if Runpod took it: ")
        assert "It was not sent again. Its endpoint has" in info.error
        assert len([path for path, _ in proxy.seen if "/runsync" in path]) == 1
        assert proxy.count("/runsync") == reached

    door.run(main, [fault])


def test_a_key_that_is_revoked_ends_the_wait_while_the_job_goes_on(door):
    async def main(backend, proxy):
        endpoint = await backend.ensure(spec())
        job, request = Following(), cell(SLOW, "x")
        endpoint.run(request, job)
        info = (await job.end()).info
        assert info.status is JobStatus.FAILED
        assert info.error.startswith("Runpod refuses the API key from the engine's state.")
        assert "it goes on at Runpod as sync-" in info.error
        follower = Following()
        backend.attach(request.job_id, follower)
        assert values_of(await follower.end()) == {"x": 1}

    door.run(main, [Fault("/status/", "status", status=401)])


def test_an_endpoint_whose_creation_was_answered_by_nothing_is_found(door):
    async def main(backend, proxy):
        endpoint = await backend.ensure(spec(name="lost"))
        assert proxy.count("/graphql", "saveEndpoint(") == 1
        assert (await backend.ensure(spec(name="lost"))).id == endpoint.id

    door.run(main, [Fault("/graphql", "lose", body="saveEndpoint(")])


@pytest.mark.parametrize(
    "fault",
    [
        Fault(VOLUMES, "lose", body="size"),
        Fault(VOLUMES, "cut", body="size"),
        Fault(VOLUMES, "half", body="size"),
        Fault(VOLUMES, "drop", body="size"),
        Fault(VOLUMES, "status", body="size", status=503),
        Fault(VOLUMES, "status", body="size", status=429, headers={"retry-after": "0"}),
        Fault(VOLUMES, "drop"),
        Fault(VOLUMES, "half"),
    ],
    ids=lambda fault: f"{fault.kind} {fault.body}",
)
def test_a_volume_is_made_once_whatever_becomes_of_the_answers(door, fault, request):
    async def main(backend, proxy):
        case = request.node.callspec.id.replace(" ", "-")
        for name in (f"{case}-1", f"{case}-2"):
            wanted = spec(name=name)
            wire = {**wanted.wire, "networkVolume": NetworkVolume(name=case).wire()}
            await backend.ensure(replace(wanted, wire=wire))
        assert proxy.count(VOLUMES, '"size"') == 1
        assert not fault.times

    door.run(main, [fault])


def test_questions_are_asked_again(door):
    plan = [Fault("/graphql", kind, body="endpoints {") for kind in ("drop", "status", "cut", "half", "lose")]

    async def main(backend, proxy):
        assert (await backend.ensure(spec(name="asked"))).id
        assert not [fault for fault in plan if fault.times]

    door.run(main, plan)


def test_two_kernels_at_once_end_with_one_endpoint(door):
    async def main(backend, proxy):
        other = door.backend()
        first, second = await asyncio.gather(*(b.ensure(spec(name="both")) for b in (backend, other)))
        assert first.id == second.id
        assert proxy.count("/graphql", "saveEndpoint(") == 1
        await other.aclose()

    door.run(main)


def test_an_endpoint_that_somebody_deleted_is_made_again_with_a_word(door):
    async def main(backend, proxy):
        endpoint = await backend.ensure(spec(name="gone"))
        await backend.client.mutate(graphql.DELETE_ENDPOINT, id=endpoint.id)
        jobs = [Following() for _ in range(3)]
        for job in jobs:
            endpoint.run(cell("x = 1", "x"), job)
        for job in jobs:
            assert values_of(await job.end()) == {"x": 1}
        notes = [e.text for job in jobs for e in job.events if isinstance(e, StreamEvent)]
        assert notes == ["flash_nb: the endpoint 'gone' had been deleted; it was made again.\n"]

    door.run(main)


def test_cancelling_before_runpod_has_named_the_job(door):
    async def main(backend, proxy):
        endpoint = await backend.ensure(spec())
        job, request = Following(), cell("import time; time.sleep(60)")
        endpoint.run(request, job)
        endpoint.cancel(request.job_id)
        assert (await job.end()).info.status is JobStatus.CANCELLED
        assert proxy.count("/cancel/") == 1

    door.run(main)


def test_the_key_is_nowhere_but_in_the_requests(door, caplog, tmp_path):
    caplog.set_level("DEBUG")

    async def main(backend, proxy):
        endpoint = await backend.ensure(spec())
        jobs = [Following() for _ in range(2)]
        for job in jobs:
            endpoint.run(cell("print(1); x = 1", "x"), job)
        said = [repr([await job.end() for job in jobs]), repr(backend.client), repr(backend.client.key)]
        said += [repr([job.events for job in jobs]), repr(vars(backend)), repr(vars(backend.client))]
        with contextlib.suppress(Exception):
            json.dumps(vars(backend.client))
        return said

    said = door.run(main, [Fault("/runsync", "lose")])
    files = [path.read_text() for path in door.world.home.glob("runpod*.json*")]
    assert len(files) == 2
    for text in [*said, *files, caplog.text]:
        assert door.token not in text
        assert door.token[:8] not in text
