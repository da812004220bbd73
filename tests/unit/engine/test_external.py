"""External workers in the machine: who asks gets a job, who is not heard any more loses it."""

from __future__ import annotations

import pytest

from flash_nb.engine import events, external, machine
from flash_nb.engine.machine import Machine
from flash_nb.engine.state import Job, Needs, Scaling
from flash_nb.jobs import JobStatus

PLAIN = Needs("3.12")


class World:
    """A machine of one endpoint without workers of its own."""

    def __init__(self, workers_max: int = 0) -> None:
        self.machine = Machine()
        self.now = 1000.0
        self.finished: dict[str, Job] = {}
        self.post(events.EndpointSaved("ep", Scaling(workers_max=workers_max), PLAIN))

    def post(self, event: events.Event) -> list[events.Action]:
        actions = list(self.machine.handle(event, self.now))
        for action in actions:
            if isinstance(action, events.JobChanged) and action.job.status.is_final:
                self.finished[action.job.id] = action.job
        return actions

    def submit(self, job_id: str = "j1", needs: Needs = PLAIN, **fields: str) -> list[events.Action]:
        return self.post(events.JobSubmitted(Job(job_id, "ep", needs, self.now, self.now + 1e6, **fields)))

    def ask(self, worker: str = "x", count: int = 1, *, holds_none: bool = True, stop: bool = False):
        self.post(events.PollsChanged(worker, "ep", 2 if stop else 1, can_stop=stop))
        return self.sent(self.post(events.JobsAsked(worker, "ep", count, holds_none)))

    def answered(self, worker: str = "x", *, broke: bool = False, stop: bool = False) -> None:
        """Its question is over: answered, or cut off."""
        self.post(events.JobsAsked(worker, "ep", 0))
        self.post(events.PollsChanged(worker, "ep", 1 if stop else 0, can_stop=stop, broke=broke))

    def tick(self, seconds: float) -> list[events.Action]:
        self.now += seconds
        return self.post(events.Tick())

    @staticmethod
    def sent(actions) -> list[tuple[str, str]]:
        return [(a.worker_id, a.job_id) for a in actions if isinstance(a, events.SendJob)]

    def status(self, job_id: str = "j1") -> JobStatus:
        return (self.machine.jobs.get(job_id) or self.finished[job_id]).status


def test_a_job_waits_for_who_asks_and_its_phase_says_how():
    world = World()
    actions = world.submit("j1", Needs("3.12", frozenset({"numpy"})))
    phases = [action.phase for action in actions if isinstance(action, events.PhaseChanged)]
    assert phases == ["waiting for an external worker: flash engine worker-env ep says how to start one"]
    assert not [action for action in actions if isinstance(action, events.BuildEnvironment)]
    assert world.ask() == [("x", "j1")]
    world.post(events.JobFinished("x", "j1"))
    assert world.status() is JobStatus.COMPLETED


def test_who_asks_first_gets_the_job_that_comes():
    world = World()
    assert world.ask() == []
    assert world.sent(world.submit()) == [("x", "j1")]
    assert world.sent(world.submit("j2")) == [], "it asked for one"


def test_a_batch_is_as_large_as_it_was_asked_for():
    world = World()
    for number in range(4):
        world.submit(f"j{number}")
    assert world.ask(count=3) == [("x", "j0"), ("x", "j1"), ("x", "j2")]
    world.answered()
    assert world.ask(count=1, holds_none=False) == [("x", "j3")]


def test_our_own_idle_worker_goes_first_and_none_is_started_while_somebody_asks():
    world = World(workers_max=1)
    world.ask()
    actions = world.submit()
    assert world.sent(actions) == [("x", "j1")]
    assert not [a for a in actions if isinstance(a, (events.StartWorker, events.BuildEnvironment))]
    world.post(events.WorkerConnected("w-1", "ep", PLAIN))
    world.answered()
    world.ask(holds_none=False)
    assert world.sent(world.submit("j2")) == [("w-1", "j2")]


def test_who_says_that_it_holds_nothing_has_lost_its_job():
    world = World()
    world.submit()
    for attempt in (1, 2, 3):
        assert world.ask() == [("x", "j1")]
        assert world.machine.jobs["j1"].attempts == attempt
        world.answered()
    world.ask()
    assert world.status() is JobStatus.FAILED
    assert world.finished["j1"].error.startswith("it was given to a worker 3 times, and no result came")
    assert world.finished["j1"].error_type == "WorkerLostError"


def test_a_job_that_did_not_reach_its_worker_was_no_attempt():
    world = World()
    world.ask()
    world.submit()
    world.post(events.JobsReturned("x", ("j1",)))
    assert (world.status(), world.machine.jobs["j1"].attempts) == (JobStatus.IN_QUEUE, 0)


def test_a_silent_worker_is_lost_and_its_job_waits_again():
    world = World()
    world.ask()
    world.submit()
    world.answered()
    world.tick(external.SILENT_GRACE_S - 1)
    assert world.status() is JobStatus.IN_PROGRESS
    world.tick(2)
    assert world.status() is JobStatus.IN_QUEUE
    assert not world.machine.external.workers


def test_a_connection_that_breaks_is_a_worse_sign():
    world = World()
    world.ask(stop=True)
    world.submit()
    world.answered(stop=True)
    world.tick(1000)
    assert world.status() is JobStatus.IN_PROGRESS, "its stop channel is open: the process lives"
    world.post(events.PollsChanged("x", "ep", 0, can_stop=False, broke=True))
    world.post(events.JobsHeld("x", ("j1",)))
    world.tick(external.BROKEN_GRACE_S + 1)
    assert world.status() is JobStatus.IN_QUEUE, "its pings may come from a process that was left behind"


def test_pings_count_for_a_worker_that_has_no_stop_channel_but_not_for_ever():
    world = World()
    world.ask()
    world.submit()
    world.answered()
    for _ in range(59):
        world.tick(9)
        world.post(events.JobsHeld("x", ("j1",)))
    assert world.status() is JobStatus.IN_PROGRESS
    for _ in range(10):
        world.tick(9)
        world.post(events.JobsHeld("x", ("j1",)))
    assert world.status() is JobStatus.IN_QUEUE


def test_two_pings_in_a_row_that_do_not_name_a_job_say_that_it_is_lost():
    world = World()
    for number in (1, 2):
        world.submit(f"j{number}")
    world.ask(count=2, stop=True)
    world.answered(stop=True)
    world.post(events.JobsHeld("x", ("j1",)))
    world.now += 10
    world.post(events.JobsHeld("x", ("j1",)))
    assert world.status("j2") is JobStatus.IN_PROGRESS, "the first ping may have been sent before"
    world.now += 10
    world.post(events.JobsHeld("x", ("j1",)))
    assert (world.status("j1"), world.status("j2")) == (JobStatus.IN_PROGRESS, JobStatus.IN_QUEUE)


def test_no_job_is_given_while_the_stop_channel_is_closed():
    world = World()
    world.ask(stop=True)
    world.post(events.PollsChanged("x", "ep", 1, can_stop=False))
    assert world.sent(world.submit()) == []
    opened = world.post(events.PollsChanged("x", "ep", 2, can_stop=True))
    assert world.sent(opened) == [("x", "j1")]


def test_a_worker_that_does_not_open_its_stop_channel_again_is_not_left_out():
    world = World()
    world.ask(stop=True)
    world.post(events.PollsChanged("x", "ep", 1, can_stop=False))
    world.submit()
    assert world.sent(world.tick(external.SILENT_GRACE_S + 1)) == [("x", "j1")]


def test_a_cancelled_job_is_unwanted_until_its_worker_lets_it_go():
    world = World()
    world.ask()
    world.submit()
    world.answered()
    actions = world.post(events.CancelRequested("j1"))
    assert events.SendCancel("x", "j1") in actions
    assert world.machine.unwanted("x") == ["j1"]
    world.post(events.JobFinished("x", "j1"))
    assert (world.machine.unwanted("x"), world.status()) == ([], JobStatus.CANCELLED)


@pytest.mark.parametrize("late", ["result", "error"])
def test_what_comes_after_the_end_changes_nothing(late):
    world = World()
    world.ask()
    world.submit()
    world.post(events.CancelRequested("j1"))
    world.post(events.JobFinished("x", "j1", None if late == "result" else "ValueError"))
    assert world.status() is JobStatus.CANCELLED


def test_an_object_stays_on_its_worker_and_is_lost_with_it():
    world = World()
    counter = PLAIN._replace(instance="Counter_1")
    world.ask("x")
    world.submit("j1", counter, client_id="c")
    world.post(events.JobFinished("x", "j1"))
    world.answered()
    world.ask("y")
    assert world.sent(world.submit("j2", counter, client_id="c")) == []
    assert world.ask("x") == [("x", "j2")]
    world.post(events.WorkerLost("x", "killed"))
    assert "state with it" in world.finished["j2"].error


def test_a_deleted_endpoint_takes_its_workers_along():
    world = World()
    world.ask()
    world.submit("j1", PLAIN._replace(instance="Counter_1"))
    world.post(events.EndpointDeleted("ep"))
    assert world.status() is JobStatus.CANCELLED
    assert world.machine.is_idle
    assert world.sent(world.post(events.JobsAsked("x", "ep", 1))) == []


def test_a_job_of_an_engine_that_died_stays_with_its_worker():
    world = World()
    job = Job("j1", "ep", PLAIN, 990.0, 1e6, status=JobStatus.IN_PROGRESS, worker_id="x", attempts=1)
    job.started_at = 991.0
    world.machine.restore([job], world.now)
    world.tick(machine.RECONNECT_GRACE_S - 1)
    world.post(events.JobFinished("x", "j1"))
    assert world.status() is JobStatus.COMPLETED


def test_the_engine_is_not_idle_while_somebody_asks_and_counts_them():
    world = World()
    assert world.machine.is_idle
    world.ask()
    assert not world.machine.is_idle
    assert machine.counters(world.machine, "ep")["idle"] == 1
    world.submit()
    assert machine.counters(world.machine, "ep")["busy"] == 1
