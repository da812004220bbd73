"""The machine: each race is an order of events that a test writes down."""

from __future__ import annotations

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from flash_nb.engine import events, machine
from flash_nb.engine.machine import Machine
from flash_nb.engine.state import Job, Needs, Scaling, WorkerStatus
from flash_nb.jobs import RETRYABLE, JobStatus

PLAIN = Needs("3.12")
NUMPY = Needs("3.12", frozenset({"numpy"}))


class World:
    """A machine with its clock; keeps what it asked for."""

    def __init__(self, **scaling: float) -> None:
        self.machine = Machine()
        self.now = 1000.0
        self.done: list[events.Action] = []
        self.finished: dict[str, Job] = {}
        self.post(events.EndpointSaved("ep", Scaling(**{"workers_max": 2, **scaling}), PLAIN))

    def post(self, event: events.Event) -> list[events.Action]:
        actions = list(self.machine.handle(event, self.now))
        self.done += actions
        for action in actions:
            if isinstance(action, events.JobChanged) and action.job.status.is_final:
                assert action.job.id not in self.finished, "a final job changed again"
                self.finished[action.job.id] = action.job
        return actions

    def submit(self, job_id: str = "j1", needs: Needs = PLAIN, **fields: object) -> list[events.Action]:
        job = Job(job_id, "ep", needs, self.now, self.now + 3600.0, **fields)
        return self.post(events.JobSubmitted(job))

    def ready(self, needs: Needs = PLAIN) -> list[events.Action]:
        return self.post(events.EnvironmentReady(needs))

    def connect(self, worker_id: str, needs: Needs = PLAIN, **fields: object) -> list[events.Action]:
        return self.post(events.WorkerConnected(worker_id, "ep", needs, **fields))

    def tick(self, seconds: float) -> list[events.Action]:
        self.now += seconds
        return self.post(events.Tick())

    def running(self, job_id: str = "j1") -> str:
        """Bring a job onto a worker; return the worker's id."""
        self.submit(job_id)
        started = of(self.ready(), events.StartWorker)[0].worker_id
        assert of(self.connect(started), events.SendJob) == [events.SendJob(started, job_id)]
        return started


def of(actions, kind):
    return [action for action in actions if isinstance(action, kind)]


def test_a_job_waits_for_its_environment_then_for_its_worker():
    world = World()
    assert of(world.submit(), events.BuildEnvironment) == [events.BuildEnvironment(PLAIN)]
    (start,) = of(world.ready(), events.StartWorker)
    world.now += 3
    assert of(world.connect(start.worker_id), events.SendJob)
    job = world.machine.jobs["j1"]
    assert (job.status, job.attempts, job.cold_s, job.queued_s) == (JobStatus.IN_PROGRESS, 1, 3.0, 0.0)


def test_an_environment_is_built_once_for_many_jobs():
    world = World()
    world.submit("j1")
    assert not of(world.submit("j2"), events.BuildEnvironment)


def test_a_failed_environment_fails_all_that_wait_for_it_and_no_other():
    world = World()
    world.submit("j1", NUMPY)
    world.submit("j2", PLAIN)
    world.post(events.EnvironmentFailed(NUMPY, "no such package"))
    assert world.finished["j1"].error == "no such package"
    assert world.finished["j1"].error_type == "WorkerEnvironmentError"
    assert "j2" in world.machine.jobs


def retry(world: World, job_id: str = "j1") -> list[events.Action]:
    return world.post(events.JobRetried(world.finished.pop(job_id)))


def test_a_retried_job_waits_as_if_it_were_new():
    world = World()
    worker = world.running()
    world.now += 5
    world.post(events.JobFinished(worker, "j1", error="KeyError"))
    world.now += 100
    actions = retry(world)
    job = world.machine.jobs["j1#1"]
    assert of(actions, events.SendJob) == [events.SendJob(worker, "j1#1")]
    assert (job.public_id, job.attempts, job.former_attempts, job.error) == ("j1", 1, 1, "")
    assert (job.submitted_at, job.expires_at - job.submitted_at, job.ended_at) == (world.now, 3600.0, None)


def test_a_retried_job_has_three_attempts_again():
    world = World()
    worker = world.running()
    for ids in (("j1", "j1#3"), ("j1#3", "j1#6")):
        for _ in range(2):
            (start,) = of(world.post(events.WorkerLost(worker, "killed")), events.StartWorker)
            worker = start.worker_id
            world.connect(worker)
        world.post(events.WorkerLost(worker, "killed"))
        assert world.finished[ids[0]].attempts == 3
        (start,) = of(retry(world, ids[0]), events.StartWorker)
        worker = start.worker_id
        assert of(world.connect(worker), events.SendJob) == [events.SendJob(worker, ids[1])]


def test_what_a_worker_says_of_a_former_run_is_not_about_the_new_one():
    world = World(workers_max=1)
    worker = world.running()
    world.post(events.CancelRequested("j1"))
    assert not of(retry(world), events.SendJob), "the worker is not free yet"
    assert of(world.post(events.JobFinished(worker, "j1", error="interrupted")), events.SendJob) == [
        events.SendJob(worker, "j1#1")
    ]
    world.connect(worker, finished=frozenset({"j1"}), job_id="j1#1")
    world.post(events.JobFinished(worker, "j1", error="interrupted"))
    assert world.machine.jobs["j1#1"].status is JobStatus.IN_PROGRESS
    world.post(events.JobFinished(worker, "j1#1"))
    assert world.finished["j1#1"].status is JobStatus.COMPLETED


def test_a_retried_method_of_a_lost_object_fails_at_once():
    world = World()
    worker = "w"
    world.connect(worker)
    world.submit("j1", PLAIN._replace(instance="counter_1"), client_id="c")
    world.post(events.JobFinished(worker, "j1", error="KeyError"))
    world.post(events.WorkerLost(worker, "killed"))
    retry(world)
    assert "died, and its state with it" in world.finished["j1#1"].error


@pytest.mark.parametrize("status", [status for status in JobStatus if status not in RETRYABLE])
def test_no_other_job_is_retried(status):
    world = World()
    job = Job("j1", "ep", PLAIN, 0.0, 10.0, status=status)
    with pytest.raises(AssertionError, match=f"is {status.value} and cannot be retried"):
        world.post(events.JobRetried(job))


def test_no_more_workers_than_jobs_and_than_the_maximum():
    world = World(workers_max=3)
    world.ready()
    assert len(of(world.submit("j1"), events.StartWorker)) == 1
    assert len(of(world.submit("j2"), events.StartWorker)) == 1
    for number in range(3, 9):
        world.submit(f"j{number}")
    assert len(of(world.done, events.StartWorker)) == 3


def test_a_worker_with_more_packages_serves_a_job_that_needs_less():
    world = World()
    world.connect("w", NUMPY)
    assert of(world.submit("j1", PLAIN), events.SendJob) == [events.SendJob("w", "j1")]


def test_an_idle_worker_of_another_environment_makes_room():
    world = World(workers_max=1)
    world.connect("w", PLAIN)
    world.ready(NUMPY)
    assert of(world.submit("j1", NUMPY), events.StopWorker) == [events.StopWorker("w")]
    assert of(world.post(events.WorkerLost("w", "exited")), events.StartWorker)


def test_a_dead_worker_gives_its_job_back_three_times_then_it_fails():
    world = World()
    worker = world.running()
    for attempt in (2, 3):
        (start,) = of(world.post(events.WorkerLost(worker, "killed by signal 9")), events.StartWorker)
        worker = start.worker_id
        world.connect(worker)
        assert world.machine.jobs["j1"].attempts == attempt
    world.post(events.WorkerLost(worker, "killed by signal 9"))
    job = world.finished["j1"]
    assert job.status is JobStatus.FAILED
    assert job.error == "its worker died 3 times; the last one was killed by signal 9"


def test_a_job_that_comes_back_goes_first():
    world = World(workers_max=1)
    worker = world.running()
    world.submit("j2")
    (start,) = of(world.post(events.WorkerLost(worker, "exited")), events.StartWorker)
    assert of(world.connect(start.worker_id), events.SendJob) == [events.SendJob(start.worker_id, "j1")]


def test_cancelling_a_queued_job_tells_no_worker():
    world = World()
    world.submit()
    assert not of(world.post(events.CancelRequested("j1")), events.SendCancel)
    assert world.finished["j1"].status is JobStatus.CANCELLED


def test_cancelling_a_running_job_frees_its_worker_when_it_lets_go():
    world = World()
    worker = world.running()
    assert of(world.post(events.CancelRequested("j1")), events.SendCancel)
    assert world.finished["j1"].status is JobStatus.CANCELLED
    world.submit("j2")
    assert of(world.post(events.JobFinished(worker, "j1")), events.SendJob) == [events.SendJob(worker, "j2")]


def test_a_worker_that_does_not_let_go_is_killed():
    world = World()
    worker = world.running()
    world.post(events.CancelRequested("j1"))
    assert not of(world.tick(machine.RELEASE_GRACE_S - 0.1), events.KillWorker)
    assert of(world.tick(0.2), events.KillWorker) == [events.KillWorker(worker)]
    assert worker not in world.machine.workers


def test_a_late_result_of_a_cancelled_job_changes_nothing():
    world = World()
    worker = world.running()
    world.post(events.CancelRequested("j1"))
    world.post(events.JobFinished(worker, "j1", error=None))
    assert world.finished["j1"].status is JobStatus.CANCELLED


def test_the_execution_time_out_ends_the_run_and_not_the_wait():
    world = World(timeout_s=10)
    world.submit()
    world.tick(60)
    (start,) = of(world.ready(), events.StartWorker)
    world.connect(start.worker_id)
    world.tick(9)
    assert not world.finished
    assert of(world.tick(1), events.SendCancel)
    assert world.finished["j1"].status is JobStatus.TIMED_OUT
    assert "execution time-out of 10 s" in world.finished["j1"].error


def test_the_ttl_ends_a_job_that_waits():
    world = World()
    world.submit()
    world.tick(3600)
    assert world.finished["j1"].status is JobStatus.TIMED_OUT
    assert "TTL of 3600 s" in world.finished["j1"].error


def test_an_idle_worker_ends_after_the_idle_timeout_but_not_the_last_wanted_one():
    world = World(idle_timeout_s=5, workers_min=1)
    world.connect("w1")
    world.connect("w2")
    assert not of(world.tick(4.9), events.StopWorker)
    assert len(of(world.tick(0.2), events.StopWorker)) == 1
    assert not of(world.tick(60), events.StopWorker)


def test_workers_min_are_started_with_the_endpoint():
    world = World(workers_min=2)
    assert of(world.done, events.BuildEnvironment)
    assert len(of(world.ready(), events.StartWorker)) == 2


def test_a_changed_endpoint_replaces_idle_workers_now_and_busy_ones_after_their_job():
    world = World()
    busy = world.running()
    world.connect("idle")
    saved = events.EndpointSaved("ep", Scaling(workers_max=2), PLAIN, replace_workers=True)
    assert of(world.post(saved), events.StopWorker) == [events.StopWorker("idle")]
    assert of(world.post(events.JobFinished(busy, "j1")), events.StopWorker) == [events.StopWorker(busy)]


def test_a_worker_that_cannot_start_fails_the_jobs_with_the_reason():
    world = World(workers_max=1)
    world.submit()
    world.ready()
    for _ in range(machine.MAX_START_FAILURES):
        (worker_id,) = world.machine.workers
        world.post(events.WorkerLost(worker_id, "exited with status 1"))
    assert "could not be started 3 times: exited with status 1" in world.finished["j1"].error


def test_an_object_stays_on_its_worker_and_keeps_it_up():
    world = World(idle_timeout_s=5)
    world.connect("w1")
    world.connect("w2")
    counter = PLAIN._replace(instance="Counter_1")
    (sent,) = of(world.submit("j1", counter, client_id="c"), events.SendJob)
    world.post(events.JobFinished(sent.worker_id, "j1"))
    world.tick(60)
    assert list(world.machine.workers) != []
    again = of(world.submit("j2", counter, client_id="c"), events.SendJob)
    assert again == [events.SendJob(sent.worker_id, "j2")]
    world.post(events.JobFinished(sent.worker_id, "j2"))
    assert of(world.post(events.ClientLeft("c")), events.DropInstance)


def test_a_lost_object_fails_its_calls_instead_of_starting_anew():
    world = World()
    world.connect("w1")
    counter = PLAIN._replace(instance="Counter_1")
    world.submit("j1", counter, client_id="c")
    world.post(events.JobFinished("w1", "j1"))
    world.post(events.WorkerLost("w1", "killed"))
    world.submit("j2", counter, client_id="c")
    assert "state with it" in world.finished["j2"].error


LEASED = PLAIN._replace(instance="ep/Counter_1")


def leased(**scaling) -> World:
    """Return a world with an object of a client that has no stream, on the worker ``w1``."""
    world = World(**scaling)
    world.connect("w1")
    world.submit("j1", LEASED)
    world.post(events.JobFinished("w1", "j1"))
    return world


def test_a_leased_object_keeps_its_worker_until_it_is_not_used_for_long():
    world = leased(idle_timeout_s=5)
    assert not of(world.tick(machine.LEASE_S - 1), events.StopWorker)
    assert of(world.submit("j2", LEASED), events.SendJob) == [events.SendJob("w1", "j2")]
    assert not of(world.tick(machine.LEASE_S + 1), events.DropInstance), "its job runs"
    world.post(events.JobFinished("w1", "j2"))
    assert of(world.tick(machine.ORPHAN_GRACE_S + 1), events.DropInstance) == [
        events.DropInstance("w1", "ep/Counter_1")
    ]
    assert of(world.tick(1), events.StopWorker)


def test_a_leased_object_is_made_anew_after_its_worker_died():
    world = leased()
    world.post(events.WorkerLost("w1", "killed"))
    world.connect("w2")
    assert of(world.submit("j2", LEASED), events.SendJob) == [events.SendJob("w2", "j2")]
    world.post(events.WorkerLost("w2", "killed"))
    assert not world.finished.keys() - {"j1"}
    assert of(world.connect("w3"), events.SendJob) == [events.SendJob("w3", "j2")]


def test_a_leased_object_makes_room_and_its_calls_go_elsewhere():
    world = leased(workers_max=1)
    world.ready(NUMPY)
    world.ready(PLAIN)
    assert of(world.submit("j2", NUMPY), events.StopWorker) == [events.StopWorker("w1")]
    world.submit("j3", LEASED)
    (started,) = of(world.post(events.WorkerLost("w1", "stopped")), events.StartWorker)
    assert of(world.connect(started.worker_id, NUMPY), events.SendJob) == [
        events.SendJob(started.worker_id, "j2")
    ]
    again = of(world.post(events.JobFinished(started.worker_id, "j2")), events.SendJob)
    assert again == [events.SendJob(started.worker_id, "j3")]


def test_an_engine_that_comes_back_leaves_a_running_job_with_its_worker():
    world = World()
    job = Job("j1", "ep", PLAIN, 990.0, 9999.0, status=JobStatus.IN_PROGRESS, worker_id="w-1", attempts=1)
    job.started_at = 991.0
    world.machine.restore([job], world.now)
    world.connect("w-1", job_id="j1")
    world.tick(machine.RECONNECT_GRACE_S + 1)
    world.post(events.JobFinished("w-1", "j1"))
    assert world.finished["j1"].status is JobStatus.COMPLETED
    assert world.finished["j1"].attempts == 1


def test_a_running_job_whose_worker_does_not_come_back_is_queued_again():
    world = World()
    job = Job("j1", "ep", PLAIN, 990.0, 9999.0, status=JobStatus.IN_PROGRESS, worker_id="w-1", attempts=1)
    job.started_at = 991.0
    world.machine.restore([job], world.now)
    world.tick(machine.RECONNECT_GRACE_S + 1)
    assert world.machine.jobs["j1"].status is JobStatus.IN_QUEUE


def test_a_worker_that_comes_back_empty_handed_lost_the_job():
    world = World()
    worker = world.running()
    world.connect(worker, job_id=None)
    assert world.machine.jobs["j1"].attempts == 2


def test_a_worker_that_comes_back_with_a_job_of_the_past_drops_it():
    world = World()
    actions = world.connect("w9", job_id="gone")
    assert of(actions, events.SendCancel) == [events.SendCancel("w9", "gone")]
    world.post(events.JobFinished("w9", "gone"))
    assert world.machine.workers["w9"].status is WorkerStatus.IDLE


def restored(*jobs: Job) -> World:
    """A world whose engine has just come back with these jobs."""
    world = World()
    world.machine.restore(jobs, world.now)
    return world


def stored(job_id: str, worker_id: str = "", needs: Needs = PLAIN) -> Job:
    job = Job(job_id, "ep", needs, 0.0, 1e12)
    if worker_id:
        job.status, job.worker_id, job.attempts, job.started_at = JobStatus.IN_PROGRESS, worker_id, 1, 1.0
    return job


def test_queued_jobs_of_an_engine_that_died_run_without_any_further_event():
    world = restored(stored("j1"))
    assert of(world.tick(0.25), events.BuildEnvironment) == [events.BuildEnvironment(PLAIN)]


def test_an_idle_worker_that_comes_back_takes_a_restored_job():
    world = restored(stored("j1"))
    assert of(world.connect("w-old"), events.SendJob) == [events.SendJob("w-old", "j1")]


def test_a_worker_that_comes_back_with_a_job_believed_queued_goes_on_with_it():
    world = restored(stored("j1"))
    assert not of(world.connect("w-old", job_id="j1"), events.SendJob)
    assert world.machine.jobs["j1"].status is JobStatus.IN_PROGRESS
    world.post(events.JobFinished("w-old", "j1"))
    assert (world.finished["j1"].status, world.finished["j1"].attempts) == (JobStatus.COMPLETED, 1)


def test_results_that_the_engine_lost_are_not_computed_again():
    world = restored(stored("j1", "w-old"), stored("j2"), stored("j3"))
    actions = world.connect("w-old", job_id="j3", finished=frozenset({"j1", "j2"}))
    assert not of(actions, events.SendJob)
    for job_id in ("j1", "j2", "j3"):
        world.post(events.JobFinished("w-old", job_id))
    assert {job.status for job in world.finished.values()} == {JobStatus.COMPLETED}
    assert [world.finished[job_id].attempts for job_id in ("j1", "j2", "j3")] == [1, 1, 1]
    assert world.machine.workers["w-old"].status is WorkerStatus.IDLE


def test_a_worker_that_dies_before_it_sends_a_kept_result_gives_the_job_back():
    world = restored(stored("j1", "w-old"), stored("j2"))
    world.connect("w-old", job_id="j2", finished=frozenset({"j1"}))
    world.post(events.WorkerLost("w-old", "killed"))
    assert {job.status for job in world.machine.jobs.values()} == {JobStatus.IN_QUEUE}


def test_a_worker_that_comes_back_with_another_job_lost_the_first():
    world = restored(stored("j1", "w-old"), stored("j2"))
    world.connect("w-old", job_id="j2")
    assert world.machine.jobs["j1"].status is JobStatus.IN_QUEUE
    assert world.machine.jobs["j2"].worker_id == "w-old"


def test_a_job_cancelled_while_its_worker_was_away_is_cancelled_when_it_comes_back():
    world = restored(stored("j1", "w-old"))
    world.post(events.CancelRequested("j1"))
    actions = world.connect("w-old", job_id="j1")
    assert of(actions, events.SendCancel) == [events.SendCancel("w-old", "j1")]
    assert of(world.tick(machine.RELEASE_GRACE_S + 0.1), events.KillWorker) == [events.KillWorker("w-old")]


def test_suspending_puts_running_jobs_back_without_an_end():
    world = World()
    world.running()
    (job,) = world.machine.suspend()
    assert (job.status, job.worker_id, job.started_at, job.attempts) == (JobStatus.IN_QUEUE, "", None, 1)
    assert not world.finished


def test_an_object_that_comes_back_belongs_to_the_client_that_claims_it():
    world = restored()
    world.connect("w-old", instances=("a",))
    world.post(events.ClientCame("kernel", ("a",)))
    assert not of(world.tick(machine.ORPHAN_GRACE_S + 1), events.DropInstance)
    actions = world.post(events.ClientLeft("kernel"))
    assert of(actions, events.DropInstance) == [events.DropInstance("w-old", "a")]


def test_a_claim_may_come_before_the_worker():
    world = restored()
    world.post(events.ClientCame("kernel", ("a",)))
    world.connect("w-old", instances=("a",))
    assert not of(world.tick(machine.ORPHAN_GRACE_S + 1), events.DropInstance)


def test_an_object_that_nobody_claims_is_released():
    world = restored()
    world.connect("w-old", instances=("a",))
    assert not of(world.tick(machine.ORPHAN_GRACE_S - 1), events.DropInstance)
    assert of(world.tick(2), events.DropInstance) == [events.DropInstance("w-old", "a")]


def test_deleting_an_endpoint_ends_its_jobs_and_workers():
    world = World()
    worker = world.running()
    world.submit("j2", NUMPY)
    actions = world.post(events.EndpointDeleted("ep"))
    assert of(actions, events.KillWorker) == [events.KillWorker(worker)]
    assert {job.status for job in world.finished.values()} == {JobStatus.CANCELLED}
    assert world.machine.is_idle


def test_a_job_that_no_worker_will_make_room_for_is_told_why_once():
    world = World(workers_max=1)
    world.connect("w1")
    world.submit("j1", PLAIN._replace(instance="Counter_1"), client_id="c")
    world.post(events.JobFinished("w1", "j1"))
    world.ready(NUMPY)
    told = of(world.submit("j2", NUMPY), events.PhaseChanged)
    assert told == [events.PhaseChanged("j2", machine.ALL_HELD)]
    assert not of(world.tick(0.25), events.PhaseChanged)
    assert of(world.post(events.InstanceReleased("Counter_1")), events.StopWorker)


def busy_with_short_runs(world: World) -> str:
    worker = world.running("j0")
    world.now += 0.001
    world.post(events.JobFinished(worker, "j0"))
    world.submit("j1")
    return worker


def test_a_worker_with_short_runs_is_sent_jobs_ahead_and_goes_on_by_itself():
    world = World(workers_max=1)
    worker = busy_with_short_runs(world)
    assert of(world.submit("j2"), events.SendJob) == [events.SendJob(worker, "j2")]
    assert world.machine.jobs["j2"].status is JobStatus.IN_QUEUE
    actions = world.post(events.JobFinished(worker, "j1"))
    assert not of(actions, events.SendJob)
    assert world.machine.jobs["j2"].status is JobStatus.IN_PROGRESS


def test_a_long_run_gives_back_what_waits_behind_it():
    world = World(workers_max=2)
    worker = busy_with_short_runs(world)
    world.submit("j2")
    (other,) = of(world.done, events.StartWorker)[1:]
    assert not of(world.connect(other.worker_id), events.SendJob)
    assert of(world.tick(0.25), events.RecallJobs) == [events.RecallJobs(worker)]
    actions = world.post(events.JobsReturned(worker, ("j2",)))
    assert of(actions, events.SendJob) == [events.SendJob(other.worker_id, "j2")]


def test_a_job_that_is_returned_after_the_end_of_the_one_before_it_is_not_lost():
    world = World(workers_max=1)
    worker = busy_with_short_runs(world)
    for number in (2, 3):
        world.submit(f"j{number}")
    assert of(world.tick(0.25), events.RecallJobs) == [events.RecallJobs(worker)]
    # The worker has emptied its queue; before it says so, its main thread tells the end of the first job.
    world.post(events.JobFinished(worker, "j1"))
    assert world.machine.jobs["j2"].status is JobStatus.IN_PROGRESS
    actions = world.post(events.JobsReturned(worker, ("j2", "j3")))
    assert [send.job_id for send in of(actions, events.SendJob)][:1] == ["j2"]
    assert world.machine.jobs["j2"].attempts == 1
    assert world.machine.workers[worker].job_id == "j2"


def test_cancelling_a_job_that_was_sent_ahead_tells_its_worker():
    world = World(workers_max=1)
    worker = busy_with_short_runs(world)
    world.submit("j2")
    assert of(world.post(events.CancelRequested("j2")), events.SendCancel) == [
        events.SendCancel(worker, "j2")
    ]
    assert not of(world.post(events.JobFinished(worker, "j1")), events.SendJob)
    assert world.machine.workers[worker].status is WorkerStatus.IDLE


def test_jobs_sent_ahead_survive_their_worker_without_counting_an_attempt():
    world = World(workers_max=1)
    worker = busy_with_short_runs(world)
    for number in (2, 3):
        world.submit(f"j{number}")
    (start,) = of(world.post(events.WorkerLost(worker, "killed")), events.StartWorker)
    world.connect(start.worker_id)
    assert world.machine.jobs["j1"].attempts == 2
    assert world.machine.jobs["j2"].attempts == 0


class Rules(RuleBasedStateMachine):
    """Any order of events keeps the books straight, and a world that behaves finishes every job."""

    def __init__(self) -> None:
        super().__init__()
        self.world = World(idle_timeout_s=5, timeout_s=50)
        self.submitted: list[str] = []

    @rule(
        needs=st.sampled_from([PLAIN, NUMPY, PLAIN._replace(instance="a"), NUMPY._replace(instance="b")]),
        count=st.integers(1, 4),
    )
    def submit(self, needs, count):
        for _ in range(count):
            job_id = f"j{len(self.submitted)}"
            self.submitted.append(job_id)
            self.world.submit(job_id, needs)

    @rule(needs=st.sampled_from([PLAIN, NUMPY]), works=st.booleans())
    def environment(self, needs, works):
        event = events.EnvironmentReady(needs) if works else events.EnvironmentFailed(needs, "no")
        self.world.post(event)

    @rule(data=st.data())
    def worker(self, data):
        workers = list(self.world.machine.workers.values())
        if not workers:
            return
        worker = data.draw(st.sampled_from(workers))
        what = data.draw(st.sampled_from(["connect", "finish", "fail", "die", "again", "sent"]))
        if what == "die":
            self.world.post(events.WorkerLost(worker.id, "killed"))
        elif what == "connect" and worker.status is WorkerStatus.STARTING:
            self.world.connect(worker.id, worker.environment)
        elif what == "again" and worker.status is not WorkerStatus.STARTING:
            self.world.connect(worker.id, worker.environment, job_id=worker.job_id)
        elif what == "sent" and worker.status is WorkerStatus.BUSY:
            sent = frozenset({worker.job_id})
            self.world.connect(worker.id, worker.environment, finished=sent)
            self.world.post(events.JobFinished(worker.id, *sent))
        elif worker.job_id is not None:
            error = "ValueError" if what == "fail" else None
            self.world.post(events.JobFinished(worker.id, worker.job_id, error))

    @rule(data=st.data())
    def cancel(self, data):
        if self.submitted:
            self.world.post(events.CancelRequested(data.draw(st.sampled_from(self.submitted))))

    @rule(data=st.data(), count=st.integers(0, 8))
    def give_back(self, data, count):
        workers = list(self.world.machine.workers.values())
        if workers:
            worker = data.draw(st.sampled_from(workers))
            kept = list(worker.ahead)[:count]
            returned = tuple(job_id for job_id in worker.ahead if job_id not in kept)
            if worker.job_id is not None and not kept and data.draw(st.booleans()):
                returned = (worker.job_id, *returned)  # it was sent ahead when the worker was asked
            self.world.post(events.JobsReturned(worker.id, (*returned, "unknown")))

    @rule(data=st.data(), name=st.sampled_from(["x", "y"]), count=st.integers(0, 3))
    def external(self, data, name, count):
        what = data.draw(
            st.sampled_from(["ask", "ask anew", "finish", "open", "close", "ping", "undelivered"])
        )
        known = self.world.machine.external.workers.get(name)
        held = tuple(known.held) if known is not None else ()
        some = data.draw(st.lists(st.sampled_from(held), unique=True)) if held else ()
        if what.startswith("ask"):
            self.world.post(events.JobsAsked(name, "ep", count, holds_none=what == "ask anew"))
        elif what == "ping":
            self.world.post(events.JobsHeld(name, tuple(some)))
        elif what == "undelivered":
            self.world.post(events.JobsReturned(name, tuple(some)))
        elif what == "finish":
            for job_id in some:
                self.world.post(events.JobFinished(name, job_id))
        else:
            opened = what == "open"
            self.world.post(events.PollsChanged(name, "ep", int(opened), can_stop=opened, broke=not opened))

    @rule(seconds=st.floats(0.1, 70))
    def time_passes(self, seconds):
        self.world.tick(seconds)

    @rule(name=st.sampled_from(["a", "b"]))
    def release(self, name):
        self.world.post(events.InstanceReleased(name))

    @invariant()
    def every_job_is_in_one_place(self):
        machine = self.world.machine
        endpoint = machine.endpoints["ep"]
        waiting = [job_id for line in endpoint.lines.values() for job_id in line]
        waiting += [job_id for worker in machine.workers.values() for job_id in worker.ahead]
        held = [w.job_id for w in machine.workers.values() if w.status is WorkerStatus.BUSY]
        for external in machine.external.workers.values():
            held += [
                j for j in external.held if j in machine.jobs and machine.jobs[j].worker_id == external.id
            ]
        assert len(set(waiting)) == len(waiting)
        assert len(set(held)) == len(held)
        for job in machine.jobs.values():
            assert (job.id in waiting) == (job.status is JobStatus.IN_QUEUE)
            assert (job.id in held) == (job.status is JobStatus.IN_PROGRESS)
        assert set(self.submitted) == set(machine.jobs) | set(self.world.finished)

    @invariant()
    def workers_are_bounded(self):
        machine = self.world.machine
        assert len(machine.endpoints["ep"].workers) <= 2
        assert machine.endpoints["ep"].workers.keys() == machine.workers.keys()

    def teardown(self):
        """From here on everything works: no job may be left over."""
        world = self.world
        for name in list(world.machine.external.workers):
            world.post(events.PollsChanged(name, "ep", 0, broke=True))
        for _ in range(400):
            if not world.machine.jobs:
                return
            for needs in list(world.machine._building):
                world.ready(needs)
            for worker in list(world.machine.workers.values()):
                match worker.status:
                    case WorkerStatus.STARTING:
                        world.connect(worker.id, worker.environment)
                    case WorkerStatus.BUSY | WorkerStatus.RELEASING:
                        world.post(events.JobFinished(worker.id, worker.job_id))
                    case WorkerStatus.STOPPING:
                        world.post(events.WorkerLost(worker.id, "exited"))
            world.tick(0.25)
        raise AssertionError(f"left over: {world.machine.jobs}")


TestRules = Rules.TestCase
TestRules.settings = settings(max_examples=150, stateful_step_count=40, deadline=None)
