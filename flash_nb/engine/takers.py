"""Takers: Runpod's worker protocol, ``/v2/ENDPOINT/…``, for workers that the engine did not start.

========================== ===========================================================================
``GET job-take/W``         asks for a job; held until there is one, `HOLD_S` at most
``GET job-take-batch/W``   … for ``batch_size`` jobs
``GET job-stop/W``         asks which of its jobs to stop; held as well
``POST job-done/W/JOB``    brings a result, or what a running job has to say (``"status": "IN_PROGRESS"``)
``POST job-stream/W/JOB``  brings what a generator yielded
``GET ping/W``             says that something of the worker lives, and which jobs it holds
========================== ===========================================================================

What the official worker (runpod 1.12) makes of answers decides much here. It asks again at once after
almost every answer, so no question is answered in a hurry, refusals least of all. It drops a stop that
reaches it a moment too early, so a stop is repeated, but once a second only. It never sends a result
twice. It does not quote ids in paths, so a run's ``#`` travels as ``~``.

A job of a handler goes out as it came in. A job of our own channel goes out as Flash's function request,
and what comes back becomes its events and its result: see `flash_nb.protocol.live`.
"""

from __future__ import annotations

import asyncio
import base64
import contextlib
import json
import pickle
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from flash_nb.engine.events import JobFinished, JobsAsked, JobsHeld, JobsReturned, PollsChanged
from flash_nb.engine.gate import (
    Handle,
    RefusalError,
    body_of,
    check_name,
    check_token,
    disconnected,
    endpoint_of,
    object_of,
)
from flash_nb.engine.state import is_ours, public_id
from flash_nb.protocol import live
from flash_nb.worker.frames import FrameReader, header_of, unspill

if TYPE_CHECKING:
    from flash_nb.engine.server import Server

HOLD_S = 25.0
STOP_HOLD_S = 60.0  # the worker itself gives up after 90 s
STOP_EVERY_S = 1.0
REFUSAL_DELAY_S = 2.0
REST_S = 2.0
REST_DELAY_S = 1.0
MAX_BODY_BYTES = 256_000_000
SLOW_BYTES = 100_000  # from here on JSON is made and read in a thread


@dataclass(slots=True)
class _Talk:
    """What a running job has said so far: its events in order, and how many items it yielded.

    `is_plain`: it is a handler's, and what it reports is not ours to read; None: nobody has looked yet.
    """

    ordered: live.Ordered = field(default_factory=live.Ordered)
    items: int = 0
    is_plain: bool | None = None


class _Taker:
    """One worker as its connections show it.

    Attributes:
        asking: Its newest question for jobs, while it is open: the jobs that answer it.
        stop_told_at: When it was last told to stop jobs.
        released: Remote objects that it is told to forget with its next job.
        rests_until: It asked to be replaced and gets no jobs until then: it may end by itself.
    """

    def __init__(self, worker_id: str, endpoint_id: str) -> None:
        self.id = worker_id
        self.endpoint_id = endpoint_id
        self.asking: asyncio.Future[None] | None = None
        self.given: list[str] = []
        self.stop_news = asyncio.Event()
        self.stop_told_at = 0.0
        self.rests_until = 0.0
        self.released: list[str] = []
        self.polls = 0
        self.stop_polls = 0


class Takers:
    """Answers external workers.

    Args:
        server: The engine.
    """

    def __init__(self, server: Server) -> None:
        self._server = server
        self._takers: dict[tuple[str, str], _Taker] = {}
        self._talks: dict[str, _Talk] = {}
        self._closed = asyncio.Event()

    @property
    def routes(self) -> list[Route]:
        """Their paths."""
        gets: dict[str, Handle] = {
            "job-take/{worker}": self._take,
            "job-take-batch/{worker}": self._take,
            "job-stop/{worker}": self._stop,
            "ping/{worker}": self._ping,
        }
        posts: dict[str, Handle] = {
            "job-done/{worker}/{job}": self._done,
            "job-stream/{worker}/{job}": self._chunk,
        }
        return [
            Route(f"/v2/{{endpoint}}/{path}", self._guarded(handle), methods=[method])
            for method, handles in (("GET", gets), ("POST", posts))
            for path, handle in handles.items()
        ]

    def give(self, worker_id: str, job_id: str) -> None:
        """Answer a worker's question with a job. Called by the server for an external worker."""
        self._talks.pop(job_id, None)  # of an attempt before
        for taker in self._takers.values():
            if taker.id == worker_id and taker.asking is not None:
                taker.given.append(job_id)
                if not taker.asking.done():
                    taker.asking.set_result(None)
                return
        self._server.post(JobsReturned(worker_id, (job_id,)))

    def stop(self, worker_id: str) -> None:
        """Tell a worker to stop what it should not run. Called by the server."""
        for taker in self._takers.values():
            if taker.id == worker_id:
                taker.stop_news.set()

    def drop(self, worker_id: str, instance_id: str) -> None:
        """Tell a worker to forget a remote object, with its next job. Called by the server."""
        for taker in self._takers.values():
            if taker.id == worker_id:
                taker.released.append(instance_id)

    def forget(self, job_id: str) -> None:
        """Forget what a job said while it ran. Called by the server when it is over."""
        self._talks.pop(job_id, None)

    def close(self) -> None:
        """Answer every open question: the engine ends."""
        self._closed.set()
        for taker in self._takers.values():
            self._end_polls(taker)

    @staticmethod
    def _end_polls(taker: _Taker) -> None:
        taker.stop_news.set()
        if taker.asking is not None and not taker.asking.done():
            taker.asking.set_result(None)

    # --- who asks -----------------------------------------------------------------------------

    def _guarded(self, handle: Handle) -> Handle:
        async def guarded(request: Request) -> Response:
            try:
                check_name(request)
                check_token(request, self._server.token)
                self._check(request)
            except RefusalError:
                await asyncio.sleep(REFUSAL_DELAY_S)
                raise
            self._server.stay_awake()  # not by asking for an endpoint that is gone
            return await handle(request)

        return guarded

    def _check(self, request: Request) -> None:
        endpoint_id, worker_id = request.path_params["endpoint"], request.path_params["worker"]
        spec = endpoint_of(request, self._server)
        if spec["balanced"]:
            raise RefusalError(400, f"The endpoint {spec['name']!r} has no queue to take jobs from.")
        known = self._server.machine.external.workers.get(worker_id)
        if is_ours(worker_id) or (known is not None and known.endpoint_id != endpoint_id):
            raise RefusalError(
                409, f"The worker id {worker_id!r} is taken: flash engine worker-env gives one."
            )

    def _taker(self, request: Request) -> _Taker:
        endpoint_id, worker_id = request.path_params["endpoint"], request.path_params["worker"]
        key = (endpoint_id, worker_id)
        if key not in self._takers:
            self._takers[key] = _Taker(worker_id, endpoint_id)
        return self._takers[key]

    @contextlib.contextmanager
    def _open(self, taker: _Taker, request: Request, *, stop: bool = False) -> Iterator[asyncio.Task[None]]:
        """Count a question while it is open; gives a task that ends when the worker has left."""
        left = asyncio.get_running_loop().create_task(disconnected(request))
        taker.polls += 1
        taker.stop_polls += stop
        self._tell_polls(taker)
        try:
            yield left
        finally:
            taker.polls -= 1
            taker.stop_polls -= stop
            self._tell_polls(taker, broke=left.done())
            left.cancel()
            if not taker.polls:
                self._forget_silent(taker)

    def _tell_polls(self, taker: _Taker, *, broke: bool = False) -> None:
        can_stop = bool(taker.stop_polls)
        self._server.post(PollsChanged(taker.id, taker.endpoint_id, taker.polls, can_stop, broke))

    def _forget_silent(self, taker: _Taker) -> None:
        """Forget the takers that the machine has lost."""
        known = self._server.machine.external.workers
        for key, each in [*self._takers.items()]:
            if each is not taker and not each.polls and each.id not in known:
                del self._takers[key]

    # --- taking -------------------------------------------------------------------------------

    async def _take(self, request: Request) -> Response:
        taker = self._taker(request)
        is_batch = "/job-take-batch/" in request.url.path
        count = _count(request.query_params.get("batch_size", "1")) if is_batch else 1
        with self._open(taker, request) as left:
            if self._closed.is_set():
                return Response(status_code=429)
            if taker.rests_until > time.monotonic():
                await asyncio.wait([left], timeout=REST_DELAY_S)
                return Response(status_code=204)
            holds_none = request.query_params.get("job_in_progress") == "0"
            given = await self._ask(taker, count, left, holds_none=holds_none)
            jobs = [job for job_id in given if (job := await self._job(taker, job_id)) is not None]
            if left.done():
                self._server.post(JobsReturned(taker.id, tuple(given)))
                return Response(status_code=204)
        if not jobs:
            return Response(status_code=204)
        content = await _dumped(jobs if is_batch else jobs[0], sum(map(_size, jobs)))
        return Response(content, media_type="application/json")

    async def _ask(
        self, taker: _Taker, count: int, left: asyncio.Task[None], *, holds_none: bool
    ) -> list[str]:
        """Wait for jobs; return those that were given."""
        asking = taker.asking = asyncio.get_running_loop().create_future()
        given: list[str] = []
        taker.given = given
        self._server.post(JobsAsked(taker.id, taker.endpoint_id, count, holds_none))
        await asyncio.wait([asking, left], timeout=HOLD_S, return_when=asyncio.FIRST_COMPLETED)
        if taker.asking is asking:  # else the worker has asked anew meanwhile
            taker.asking = None
            self._server.post(JobsAsked(taker.id, taker.endpoint_id, 0))
        return given

    async def _job(self, taker: _Taker, job_id: str) -> dict[str, Any] | None:
        """Return a job as workers get it; None if it has ended, or cannot be sent at all."""
        frame, job = self._server.request_of(job_id), self._server.machine.jobs.get(job_id)
        if frame is None or job is None:
            self._server.post(JobFinished(taker.id, job_id))  # the worker does not get it after all
            return None
        needs = job.needs
        released, taker.released = taker.released, []

        def made() -> dict[str, Any]:
            header, buffers = next(FrameReader().feed(frame))
            content, *values = unspill(header, buffers)
            request = json.loads(bytes(content))
            if "input" in request:
                given = request["input"]
            else:
                given = live.function_request(
                    request,
                    values,
                    requirements=needs.requirements,
                    system=needs.system,
                    accelerate=header.get("accelerate", True),
                    released=released,
                )
            return {"id": _wire(job_id), "input": given, **request.get("extra", {})}

        try:
            return await asyncio.to_thread(made) if _is_slow(frame) else made()
        except FileNotFoundError:
            self._server.post(JobFinished(taker.id, job_id, "its arguments are lost"))
            return None

    async def _stop(self, request: Request) -> Response:
        taker, machine = self._taker(request), self._server.machine
        began_at = time.monotonic()
        with self._open(taker, request, stop=True) as left:
            while not left.done() and not self._closed.is_set():
                now = time.monotonic()
                unwanted = machine.unwanted(taker.id)
                if unwanted and now >= taker.stop_told_at + STOP_EVERY_S:
                    taker.stop_told_at = now
                    return JSONResponse({"jobsToStop": [*map(_wire, unwanted)]})
                if taker.rests_until > now:
                    break
                known = machine.external.workers.get(taker.id)
                holds = known is not None and known.held
                give_up_at = now + STOP_HOLD_S if holds else began_at + STOP_HOLD_S
                if now >= give_up_at:
                    break
                until = taker.stop_told_at + STOP_EVERY_S if unwanted else give_up_at
                taker.stop_news.clear()
                news = asyncio.ensure_future(taker.stop_news.wait())
                await asyncio.wait([news, left], timeout=until - now, return_when=asyncio.FIRST_COMPLETED)
                news.cancel()
        return Response(status_code=204)

    async def _ping(self, request: Request) -> Response:
        held = request.query_params.get("job_id", "")
        job_ids = tuple(_ours(job_id) for job_id in held.split(",") if job_id)
        self._server.post(JobsHeld(request.path_params["worker"], job_ids))
        return JSONResponse({})

    # --- telling ------------------------------------------------------------------------------

    async def _done(self, request: Request) -> Response:
        taker, job_id = self._taker(request), _ours(request.path_params["job"])
        try:
            body = await body_of(request, MAX_BODY_BYTES)
        except RefusalError as error:
            if error.status == 413:  # noqa: PLR2004 - the one that says that it is too large
                self._fail(taker.id, job_id, f"its result is over {MAX_BODY_BYTES // 1_000_000} MB")
            raise
        said = await asyncio.to_thread(object_of, body) if len(body) > SLOW_BYTES else object_of(body)
        self._tell_polls(taker)  # it was heard
        if said.get("status") == "IN_PROGRESS":
            self._report(taker.id, job_id, said.get("output"))
            return JSONResponse({})
        if said.get("stopPod"):
            taker.rests_until = time.monotonic() + REST_S
            self._end_polls(taker)
        await self._finish(taker.id, job_id, said)
        return JSONResponse({})

    async def _chunk(self, request: Request) -> Response:
        taker, job_id = self._taker(request), _ours(request.path_params["job"])
        said = object_of(await body_of(request, MAX_BODY_BYTES))
        self._tell_polls(taker)
        if self._runs(taker.id, job_id):
            talk = self._talk(job_id)
            chunk = said.get("output")
            value = base64.b64encode(pickle.dumps(chunk, 4)).decode("ascii")
            event = {"type": "item", "index": talk.items, "value": value, "json": chunk}
            self._server.take_event(taker.id, job_id, event, talk.items)
            talk.items += 1
        return JSONResponse({})

    def _report(self, worker_id: str, job_id: str, output: Any) -> None:
        """Take what a running job says; a job that is over says nothing any more."""
        frame = self._server.request_of(job_id)
        if frame is None or not self._runs(worker_id, job_id):
            return
        talk = self._talk(job_id)
        talk.is_plain = _is_plain(frame) if talk.is_plain is None else talk.is_plain
        events = None if talk.is_plain else live.events_of(output)
        if events is None:
            self._server.progress[public_id(job_id)] = output
            return
        for number, event in talk.ordered.add(events):
            self._server.take_event(worker_id, job_id, event, number)

    async def _finish(self, worker_id: str, job_id: str, said: dict[str, Any]) -> None:
        frame = self._server.request_of(job_id)
        if frame is None or not self._runs(worker_id, job_id):
            self._server.post(JobFinished(worker_id, job_id))  # it is let go, and that is all
            return
        is_plain = await asyncio.to_thread(_is_plain, frame)
        outcome = _of_handler(said) if is_plain else await asyncio.to_thread(_of_function, said)
        if not self._runs(worker_id, job_id):  # it was cancelled meanwhile
            self._server.post(JobFinished(worker_id, job_id))
            return
        for number, event in self._talk(job_id).ordered.end(outcome.events):
            self._server.take_event(worker_id, job_id, event, number)
        self._server.take_result(worker_id, job_id, outcome.header, outcome.buffers, _sentence(said, outcome))

    def _fail(self, worker_id: str, job_id: str, error: str) -> None:
        self._server.post(JobFinished(worker_id, job_id, error))

    def _runs(self, worker_id: str, job_id: str) -> bool:
        job = self._server.machine.jobs.get(job_id)
        return job is not None and job.worker_id == worker_id

    def _talk(self, job_id: str) -> _Talk:
        return self._talks.setdefault(job_id, _Talk())


def worker_environment(url: str, endpoint_id: str, worker_id: str, token: str) -> dict[str, str]:
    """Return the environment variables that an external worker needs.

    Args:
        url: The engine's HTTP door.
        endpoint_id: Whose jobs it takes.
        worker_id: Its id, of its own.
        token: The engine's.
    """
    base = f"{url}/v2/{endpoint_id}"
    return {
        "RUNPOD_WEBHOOK_GET_JOB": f"{base}/job-take/$ID?",
        "RUNPOD_WEBHOOK_POST_OUTPUT": f"{base}/job-done/$RUNPOD_POD_ID/$ID?",
        "RUNPOD_WEBHOOK_POST_STREAM": f"{base}/job-stream/$RUNPOD_POD_ID/$ID?",
        "RUNPOD_WEBHOOK_PING": f"{base}/ping/$RUNPOD_POD_ID",
        "RUNPOD_POD_ID": worker_id,
        "RUNPOD_AI_API_KEY": token,
        "RUNPOD_ENDPOINT_ID": endpoint_id,
        "RUNPOD_PING_INTERVAL": "10000",
        "RUNPOD_SKIP_AUTO_SYSTEM_CHECKS": "true",
        "RUNPOD_SKIP_GPU_CHECK": "true",
    }


def _is_plain(frame: bytes) -> bool:
    """Say if a job brings an input for a handler, and no code of our channel."""
    header, buffers = next(FrameReader().feed(frame))
    return "input" in json.loads(bytes(unspill(header, buffers)[0]))


def _of_function(said: dict[str, Any]) -> live.Outcome:
    if "error" in said:
        kind, text = _error_of(said["error"])
        return live.failure_of(text, kind)
    return live.result_of(said.get("output"))


def _of_handler(said: dict[str, Any]) -> live.Outcome:
    if "error" not in said:
        return live.Outcome(
            {"ok": True, "json": True, "counts": [1]}, [json.dumps(said.get("output")).encode()], ()
        )
    kind, text = _error_of(said["error"])
    outcome = live.failure_of(text, kind or "HandlerError")
    return outcome._replace(header={**outcome.header, "json": True})


def _error_of(error: Any) -> tuple[str, str]:
    """Return type and text of an error: a worker sends a handler's exception as JSON in a string."""
    if not isinstance(error, str):
        return "", json.dumps(error)
    with contextlib.suppress(ValueError, KeyError, TypeError):
        found = json.loads(error)
        kind = str(found["error_type"]).removeprefix("<class '").removesuffix("'>")
        return kind, f"{found['error_message']}\n{found['error_traceback']}"
    return "", error


def _sentence(said: dict[str, Any], outcome: live.Outcome) -> str | None:
    """Return what went wrong in the words of the worker, or of the job's own code."""
    if outcome.header["ok"]:
        return None
    if "error" in said:
        return said["error"] if isinstance(said["error"], str) else json.dumps(said["error"])
    error = outcome.header["error"]
    return f"{error['type']}: {error['message']}" if error else "interrupted"


def _wire(job_id: str) -> str:
    return job_id.replace("#", "~")


def _ours(job_id: str) -> str:
    return job_id.replace("~", "#")


def _count(text: str) -> int:
    return max(1, int(text)) if text.isdecimal() else 1


def _is_slow(frame: bytes) -> bool:
    return len(frame) > SLOW_BYTES or "spill" in header_of(frame)


def _size(job: dict[str, Any]) -> int:
    """Return about how much text a job is."""
    given = job["input"]
    texts = given.get("args") if isinstance(given, dict) else None
    return sum(len(text) for text in texts if isinstance(text, str)) if isinstance(texts, list) else 0


async def _dumped(value: Any, size: int) -> bytes:
    if size > SLOW_BYTES:
        return await asyncio.to_thread(lambda: json.dumps(value).encode())
    return json.dumps(value).encode()
