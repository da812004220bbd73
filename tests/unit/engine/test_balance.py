"""Load balancing: requests, workers and scaling, as orders of events."""

from __future__ import annotations

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from flash_nb.engine import events, machine
from flash_nb.engine.balance import Balancer, Request
from flash_nb.engine.machine import Machine
from flash_nb.engine.state import Needs, Scaling, WorkerStatus

ENVIRONMENT = Needs("3.12", frozenset({"fastapi"}))


class World:
    """A machine with one load-balanced endpoint."""

    def __init__(self, **scaling: object) -> None:
        self.machine = Machine()
        self.now = 1000.0
        self.scaling = {"workers_max": 2, "requests_per_worker": 2, **scaling}
        self.save()

    def save(self, *, replace: bool = False) -> list[events.Action]:
        scaling = Scaling(**self.scaling)
        return self.post(
            events.EndpointSaved("ep", scaling, ENVIRONMENT, replace_workers=replace, balanced=True)
        )

    def post(self, event: events.Event) -> list[events.Action]:
        return list(self.machine.handle(event, self.now))

    def arrive(self, *names: str, deadline: float | None = None) -> list[events.Action]:
        actions = []
        for name in names:
            actions += self.post(events.RequestArrived(Request(name, "ep", deadline)))
        return actions

    def end(self, name: str) -> list[events.Action]:
        return self.post(events.RequestEnded("ep", name))

    def connect(self, worker_id: str) -> list[events.Action]:
        return self.post(events.WorkerConnected(worker_id, "ep", ENVIRONMENT))

    def tick(self, seconds: float) -> list[events.Action]:
        self.now += seconds
        return self.post(events.Tick())

    def up(self) -> str:
        """Bring one worker up for a request, and end that; return the worker's id."""
        self.arrive("first")
        (started,) = of(self.post(events.EnvironmentReady(ENVIRONMENT)), events.StartWorker)
        self.connect(started.worker_id)
        self.end("first")
        return started.worker_id

    def status(self, worker_id: str) -> WorkerStatus:
        return self.machine.workers[worker_id].status


def of(actions, kind):
    return [action for action in actions if isinstance(action, kind)]


def test_the_first_request_builds_the_environment_starts_a_worker_and_is_sent():
    world = World()
    assert of(world.arrive("a"), events.BuildEnvironment) == [events.BuildEnvironment(ENVIRONMENT)]
    (started,) = of(world.post(events.EnvironmentReady(ENVIRONMENT)), events.StartWorker)
    assert of(world.connect(started.worker_id), events.SendRequest) == [
        events.SendRequest(started.worker_id, "a")
    ]
    assert world.status(started.worker_id) is WorkerStatus.BUSY


def test_a_worker_runs_many_requests_at_once_and_is_idle_after_the_last():
    world = World(workers_max=1)
    worker = world.up()
    sent = of(world.arrive("a", "b", "c"), events.SendRequest)
    assert sent == [events.SendRequest(worker, name) for name in "abc"]
    world.end("b")
    world.end("a")
    assert world.status(worker) is WorkerStatus.BUSY
    world.end("c")
    assert world.status(worker) is WorkerStatus.IDLE


def test_more_requests_than_enough_for_one_worker_start_another():
    world = World(requests_per_worker=2)
    worker = world.up()
    assert not of(world.arrive("a", "b"), events.StartWorker)
    (started,) = of(world.arrive("c"), events.StartWorker)
    assert not of(world.arrive("d", "e", "f", "g"), events.StartWorker), "no more than workersMax"
    world.connect(started.worker_id)
    assert of(world.arrive("h"), events.SendRequest) == [events.SendRequest(started.worker_id, "h")]
    assert world.status(worker) is WorkerStatus.BUSY


def test_a_worker_that_dies_fails_its_requests_and_no_other_gets_them():
    world = World()
    worker = world.up()
    world.arrive("a", "b")
    actions = world.post(events.WorkerLost(worker, "killed by signal 9"))
    refused = of(actions, events.RefuseRequest)
    assert [(each.request_id, each.status) for each in refused] == [("a", 502), ("b", 502)]
    assert "killed by signal 9" in refused[0].reason
    assert not of(actions, events.SendRequest)
    assert not world.machine.endpoints["ep"].balancer.requests


def test_an_environment_that_cannot_be_built_refuses_what_waits_and_the_next_one_tries_again():
    world = World()
    world.arrive("a")
    (refused,) = of(
        world.post(events.EnvironmentFailed(ENVIRONMENT, "no such package")), events.RefuseRequest
    )
    assert (refused.status, refused.reason) == (503, "no such package")
    assert not of(world.tick(1), events.BuildEnvironment), "nobody asks for it"
    assert of(world.arrive("b"), events.BuildEnvironment)


def test_workers_that_cannot_be_started_refuse_what_waits():
    world = World(workers_max=1)
    world.arrive("a")
    world.post(events.EnvironmentReady(ENVIRONMENT))
    refused = []
    for _ in range(machine.MAX_START_FAILURES):
        (worker,) = world.machine.workers
        refused += of(world.post(events.WorkerLost(worker, "exited with status 1")), events.RefuseRequest)
    assert [each.status for each in refused] == [503]
    assert "3 times" in refused[0].reason


def test_a_request_that_takes_too_long_is_answered_and_its_worker_told():
    world = World()
    worker = world.up()
    world.arrive("a", deadline=world.now + 5)
    assert not of(world.tick(4), events.RefuseRequest)
    (refused,) = of(world.tick(2), events.RefuseRequest)
    assert (refused.status, refused.worker_id) == (504, worker)
    assert world.status(worker) is WorkerStatus.IDLE


def test_a_change_starts_new_workers_while_the_old_finish():
    world = World(workers_max=1)
    old = world.up()
    world.arrive("a")
    (started,) = of(world.save(replace=True), events.StartWorker)
    assert not of(world.arrive("b"), events.SendRequest)
    assert of(world.connect(started.worker_id), events.SendRequest) == [
        events.SendRequest(started.worker_id, "b")
    ]
    assert of(world.end("a"), events.StopWorker) == [events.StopWorker(old)]


def test_an_idle_worker_of_the_old_settings_is_stopped_at_once():
    world = World()
    old = world.up()
    assert of(world.save(replace=True), events.StopWorker) == [events.StopWorker(old)]


def test_workers_min_are_kept_and_the_others_leave_when_idle():
    world = World(workers_min=1, idle_timeout_s=5.0)
    first = world.up()
    (second,) = of(world.arrive("a", "b", "c"), events.StartWorker)
    world.connect(second.worker_id)
    for name in "abc":
        world.end(name)
    assert len(of(world.tick(6), events.StopWorker)) == 1
    assert {first, second.worker_id} == set(world.machine.workers)


def test_deleting_the_endpoint_refuses_its_requests():
    world = World()
    world.up()
    world.arrive("a")
    actions = world.post(events.EndpointDeleted("ep"))
    assert [each.status for each in of(actions, events.RefuseRequest)] == [404]
    assert of(actions, events.KillWorker)
    assert not world.end("a")


def test_a_waiting_request_keeps_the_engine_up():
    world = World()
    assert world.machine.is_idle
    world.arrive("a")
    assert not world.machine.is_idle
    world.end("a")
    assert world.machine.is_idle


def test_the_balancer_gives_each_request_to_the_worker_with_the_fewest():
    balancer = Balancer()
    for name in "abcd":
        balancer.add(Request(name, "ep"))
    assigned = [(request.id, request.worker_id) for request in balancer.assign(["v", "w"])]
    assert assigned == [("a", "v"), ("b", "w"), ("c", "v"), ("d", "w")]
    balancer.remove("b")
    balancer.remove("b")
    balancer.add(Request("e", "ep"))
    assert [request.worker_id for request in balancer.assign(["v", "w"])] == ["w"]
    assert balancer.wanted(2) == 2
    assert balancer.wanted(3) == 2


class Requests(RuleBasedStateMachine):
    """Whatever happens: each request is answered once, and no dead or old worker gets one."""

    def __init__(self) -> None:
        super().__init__()
        self.world = World(workers_max=3, idle_timeout_s=5.0)
        self.count = 0
        self.open: set[str] = set()
        self.stale: set[str] = set()

    def perform(self, actions: list[events.Action]) -> None:
        for action in actions:
            match action:
                case events.SendRequest(worker, request):
                    assert request in self.open
                    assert worker not in self.stale
                    assert worker in self.world.machine.workers
                case events.RefuseRequest(request):
                    assert request in self.open, "answered twice"
                    self.open.discard(request)
                case events.BuildEnvironment():
                    self.perform(self.world.post(events.EnvironmentReady(ENVIRONMENT)))

    @rule()
    def arrive(self) -> None:
        self.count += 1
        self.open.add(f"r{self.count}")
        self.perform(self.world.arrive(f"r{self.count}", deadline=self.world.now + 20))

    @rule(pick=st.integers(0, 99))
    def answer(self, pick: int) -> None:
        balancer = self.world.machine.endpoints["ep"].balancer
        running = sorted(r.id for r in balancer.requests.values() if r.worker_id)
        if running:
            name = running[pick % len(running)]
            self.open.discard(name)
            self.perform(self.world.end(name))

    @rule(pick=st.integers(0, 99))
    def leave(self, pick: int) -> None:
        if self.open:
            name = sorted(self.open)[pick % len(self.open)]
            self.open.discard(name)
            self.perform(self.world.end(name))

    @rule(pick=st.integers(0, 99))
    def connect(self, pick: int) -> None:
        workers = self.world.machine.workers.values()
        starting = sorted(w.id for w in workers if w.status is WorkerStatus.STARTING)
        if starting:
            self.perform(self.world.connect(starting[pick % len(starting)]))

    @rule(pick=st.integers(0, 99))
    def lose(self, pick: int) -> None:
        workers = sorted(self.world.machine.workers)
        if workers:
            self.perform(self.world.post(events.WorkerLost(workers[pick % len(workers)], "killed")))

    @rule()
    def change(self) -> None:
        self.stale |= set(self.world.machine.workers)
        self.perform(self.world.save(replace=True))

    @rule(seconds=st.sampled_from([0.25, 6.0, 30.0]))
    def tick(self, seconds: float) -> None:
        self.perform(self.world.tick(seconds))

    @invariant()
    def books_are_right(self) -> None:
        endpoint = self.world.machine.endpoints["ep"]
        requests = endpoint.balancer.requests
        assert set(requests) == self.open
        for worker in endpoint.workers.values():
            running = sum(request.worker_id == worker.id for request in requests.values())
            assert endpoint.balancer.load[worker.id] == running
            if worker.status is WorkerStatus.IDLE:
                assert running == 0
            if running:
                assert worker.status is WorkerStatus.BUSY
        assert len(endpoint.current_workers) <= 3
        up = [w for w in endpoint.current_workers if w.status is not WorkerStatus.STARTING]
        assert not up or all(request.worker_id for request in requests.values())


Requests.TestCase.settings = settings(max_examples=120, stateful_step_count=40, deadline=None)
TestRequests = Requests.TestCase
