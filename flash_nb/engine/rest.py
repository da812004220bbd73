"""Jobs over HTTP: Runpod's client protocol, ``/v2/ENDPOINT/…``.

======================= ==============================================================================
``POST run``            starts a job; its id
``POST runsync``        … and waits for its end: `WAIT_S`, or ``?wait=`` in ms
``GET status/JOB``      what is known of it; see `flash_nb.engine.answer`
``GET stream/JOB``      what it yielded since the last time
``POST cancel/JOB``     ends it
``POST retry/JOB``      runs it again, after FAILED or TIMED_OUT
``GET health``          counts of workers and jobs
``POST purge-queue``    cancels what waits
======================= ==============================================================================

A job of a kernel's is found by its id as well. One whose time to live is over is not found any more.
"""

from __future__ import annotations

import asyncio
import json
from collections import OrderedDict
from dataclasses import replace
from typing import TYPE_CHECKING

from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from flash_nb.engine import answer, order
from flash_nb.engine.events import CancelRequested
from flash_nb.engine.gate import Handle, RefusalError, admit, body_of, endpoint_of, object_of
from flash_nb.engine.machine import counters
from flash_nb.engine.state import Job, WorkerStatus
from flash_nb.errors import BackendError
from flash_nb.jobs import JobStatus, new_job_id
from flash_nb.worker import frames

if TYPE_CHECKING:
    from flash_nb.engine.server import Server

RUN_BYTES = 10_000_000
RUNSYNC_BYTES = 20_000_000
WAIT_S = 90.0
WAIT_RANGE_MS = (1_000, 300_000)
MAX_STREAMS = 10_000
CLIENT = ""  # of jobs that no kernel submitted


class Rest:
    """Answers the requests of Runpod's clients for jobs.

    Args:
        server: The engine.
    """

    def __init__(self, server: Server) -> None:
        self._server = server
        self._streams: OrderedDict[str, tuple[int, int]] = OrderedDict()

    @property
    def routes(self) -> list[Route]:
        """Its paths."""
        posts: dict[str, Handle] = {
            "run": self._run,
            "runsync": self._run_sync,
            "cancel/{job}": self._cancel,
            "retry/{job}": self._retry,
            "purge-queue": self._purge,
        }
        gets: dict[str, Handle] = {
            "status/{job}": self._status,
            "stream/{job}": self._stream,
            "health": self._health,
        }
        return [
            Route(f"/v2/{{endpoint}}/{path}", self._guarded(handle), methods=[method])
            for method, handles in (("POST", posts), ("GET", gets))
            for path, handle in handles.items()
        ]

    def _guarded(self, handle: Handle) -> Handle:
        async def guarded(request: Request) -> Response:
            admit(request, self._server)
            spec = endpoint_of(request, self._server)
            if spec["balanced"] and handle != self._health:
                url = f"{self._server.http_url()}/{request.path_params['endpoint']}"
                raise RefusalError(
                    400, f"The endpoint {spec['name']!r} has no queue: its routes are at {url}"
                )
            return await handle(request)

        return guarded

    # --- starting and ending ------------------------------------------------------------------

    async def _run(self, request: Request) -> Response:
        job_id = await self._submit(request, new_job_id(), RUN_BYTES)
        return JSONResponse({"id": job_id, "status": JobStatus.IN_QUEUE.value})

    async def _run_sync(self, request: Request) -> Response:
        wait_s = _wait_s(request.query_params.get("wait"))
        job_id = await self._submit(request, f"sync-{new_job_id()}", RUNSYNC_BYTES)
        await self._server.ended(job_id, wait_s)
        return await self._said(*self._found(request, job_id))

    async def _submit(self, request: Request, job_id: str, limit: int) -> str:
        server, endpoint_id = self._server, request.path_params["endpoint"]
        body = object_of(await body_of(request, limit))
        spec = server.control.endpoints[endpoint_id]
        python = server.control.python_of(spec)
        header, content = order.submission(job_id, endpoint_id, spec, body, python=python)
        payload = await asyncio.to_thread(lambda: json.dumps(content).encode())
        header, buffers = frames.spill(header, [payload], server.spill_folders)
        if endpoint_id not in server.control.endpoints:  # it was deleted while we read
            raise RefusalError(404, f"The endpoint {endpoint_id!r} was deleted.")
        server.submit(CLIENT, header, buffers)
        return job_id

    async def _cancel(self, request: Request) -> Response:
        job, _ = self._found(request)
        self._server.post(CancelRequested(job.id))
        job, _ = self._found(request)
        return JSONResponse({"id": job.public_id, "status": job.status.value})

    async def _retry(self, request: Request) -> Response:
        job, _ = self._found(request)
        if job.status not in (JobStatus.FAILED, JobStatus.TIMED_OUT):
            raise RefusalError(400, f"The job {job.public_id} is {job.status.value}: it cannot be retried.")
        try:
            await self._server.retry(job.public_id, CLIENT)
        except BackendError as error:
            raise RefusalError(400, str(error)) from None
        return JSONResponse({"id": job.public_id, "status": JobStatus.IN_QUEUE.value})

    async def _purge(self, request: Request) -> Response:
        endpoint_id = request.path_params["endpoint"]
        queued = [
            job.id
            for job in self._server.machine.jobs.values()
            if job.endpoint_id == endpoint_id and job.status is JobStatus.IN_QUEUE
        ]
        for job_id in queued:
            self._server.post(CancelRequested(job_id))
        return JSONResponse({"removed": len(queued), "status": "completed"})

    # --- asking -------------------------------------------------------------------------------

    async def _status(self, request: Request) -> Response:
        return await self._said(*self._found(request))

    async def _said(self, job: Job, frame: bytes | None) -> Response:
        return Response(await self._server.answer(replace(job), frame), media_type="application/json")

    async def _stream(self, request: Request) -> Response:
        await self._server.store.flushed()
        job, _ = self._found(request)
        number, index = self._streams.pop(job.id, (0, 0))
        events = self._server.store.events(job.public_id, number)
        items = [event for _, event in events if event["type"] == "item" and event["index"] >= index]
        if events:
            number = events[-1][0] + 1
        if items:
            index = items[-1]["index"] + 1
        self._streams[job.id] = (number, index)
        if len(self._streams) > MAX_STREAMS:
            self._streams.popitem(last=False)
        return JSONResponse({**answer.status_of(job, is_live=False), "stream": answer.chunks_of(items)})

    async def _health(self, request: Request) -> Response:
        server, endpoint_id = self._server, request.path_params["endpoint"]
        await server.store.flushed()
        up = counters(server.machine, endpoint_id)
        idle = up[WorkerStatus.IDLE.value]
        running = up[WorkerStatus.BUSY.value] + up[WorkerStatus.RELEASING.value]
        workers = {
            "idle": idle,
            "initializing": up[WorkerStatus.STARTING.value],
            "ready": idle + running,
            "running": running,
            "throttled": 0,
            "unhealthy": 0,
        }
        statuses = [j.status for j in server.machine.jobs.values() if j.endpoint_id == endpoint_id]
        jobs = {
            **server.store.ended_counts(endpoint_id),
            "inProgress": statuses.count(JobStatus.IN_PROGRESS),
            "inQueue": statuses.count(JobStatus.IN_QUEUE),
        }
        return JSONResponse({"jobs": jobs, "workers": workers})

    def _found(self, request: Request, job_id: str = "") -> tuple[Job, bytes | None]:
        """Return a job of the endpoint with its result.

        Raises:
            RefusalError: 404.
        """
        job_id = job_id or request.path_params["job"]
        found = self._server.store.job(job_id)
        endpoint_id = request.path_params["endpoint"]
        if found is None or found[0].endpoint_id != endpoint_id or answer.is_expired(found[0]):
            raise RefusalError(404, f"The endpoint {endpoint_id} has no job {job_id!r}, or no longer.")
        return found


def _wait_s(given: str | None) -> float:
    if given is None:
        return WAIT_S
    low, high = WAIT_RANGE_MS
    if not given.isdecimal() or not low <= int(given) <= high:
        raise RefusalError(400, f"wait must be from {low} to {high} milliseconds, not {given!r}.")
    return int(given) / 1000
