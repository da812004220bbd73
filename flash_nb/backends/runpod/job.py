"""One job at Runpod: sent, followed, and told to whoever listens."""

from __future__ import annotations

import asyncio
import contextlib
import json
import pickle
import time
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import replace
from typing import Any

from flash_nb.backends.base import JobRequest, OnEvent
from flash_nb.backends.events import worker_event
from flash_nb.backends.runpod.backoff import poll_pause
from flash_nb.backends.runpod.client import LONG_TIMEOUT_S, Client
from flash_nb.backends.runpod.inventory import JobEntry
from flash_nb.errors import (
    ApiKeyError,
    BackendError,
    EndpointNotFoundError,
    FlashError,
    OutcomeUnknownError,
    PayloadTooLargeError,
    WorkerEnvironmentError,
)
from flash_nb.jobs import (
    FinishedEvent,
    ItemEvent,
    JobEvent,
    JobInfo,
    JobStatus,
    PhaseEvent,
    StatusEvent,
    StoredEvent,
)
from flash_nb.protocol import live, urls

RUNSYNC_WAIT_MS = 1000
"""How long Runpod may hold the first request: its shortest. Until it answers, the job has no id there,
so it cannot be cancelled, and what it prints cannot be seen."""
RUN_BYTES = 10_000_000
RUNSYNC_BYTES = 20_000_000
MISSING_POLLS = 3
INSTALL_FAILED = "Failed tasks"  # how Flash's worker begins to say it
ITEM_PROTOCOL = 4

Gone = Callable[[str], Awaitable[str]]


class RunpodJob:
    """A job from its submission, or from where it is taken up, to its end.

    Args:
        client: How Runpod is asked.
        job_id: The kernel's id of the job.
        endpoint: Its endpoint's id.
        is_live: It brings its code.
        submitted_at: In POSIX seconds.
    """

    def __init__(
        self, client: Client, job_id: str, *, endpoint: str, is_live: bool, submitted_at: float | None = None
    ) -> None:
        self.id = job_id
        self.remote_id = ""
        self.cancelled = False
        self._client = client
        self._endpoint = endpoint
        self._is_live = is_live
        self._submitted_at = time.time() if submitted_at is None else submitted_at
        self._begun = time.monotonic()
        self._listeners: list[OnEvent] = []
        self._told: JobInfo | None = None
        self._ordered = live.Ordered()
        self._items = 0
        self._wake = asyncio.Event()
        self._trouble = False

    @property
    def entry(self) -> JobEntry:
        """What the journal keeps of it."""
        return JobEntry(self.id, self.remote_id, self._endpoint, self._is_live, self._submitted_at)

    def listen(self, on_event: OnEvent) -> None:
        """Tell this one too what happens from now on, and how the job stands now."""
        self._listeners.append(on_event)
        if self._told is not None:
            on_event(StatusEvent(self._told))

    async def run(self, request: JobRequest, sent: Callable[[], None], gone: Gone) -> None:
        """Send the job, and follow it to its end.

        Args:
            request: The job.
            sent: Called when Runpod's id is known.
            gone: Called when the endpoint does not exist; makes it again, and returns its id.
        """
        try:
            answer = await self._send(request, gone)
        except OutcomeUnknownError as error:
            self._end(JobStatus.FAILED, await self._unknown(error))
            return
        except FlashError as error:
            self.fail(error)
            return
        self.remote_id = str(answer["id"])
        sent()
        if request.durable:
            self._tell(StoredEvent())
        await self.follow(answer)

    async def follow(self, answer: Mapping[str, Any] | None = None) -> None:
        """Follow a job that Runpod has.

        Args:
            answer: What it said last, if anything.
        """
        try:
            await self._follow(answer)
        except ApiKeyError as error:
            self._end(
                JobStatus.FAILED,
                f"{error.message} Nobody waits for it any more; it goes on at Runpod as {self.remote_id}\n"
                f"{error.hint}",
            )
        except FlashError as error:
            self.fail(error)

    async def _follow(self, answer: Mapping[str, Any] | None) -> None:
        pause = 0.0
        if answer is not None:
            if await self._take(answer):
                return
            pause = self._pause()
        if self.cancelled:
            await self._cancel()
        missing = 0
        while True:
            await self._sleep(pause)
            try:
                answer = await self._poll()
            except EndpointNotFoundError:
                missing += 1
                if missing == MISSING_POLLS:
                    self._end(JobStatus.TIMED_OUT, _FORGOTTEN)
                    return
                pause = self._client.backoff.pause(missing)
                continue
            missing = 0
            if await self._take(answer):
                return
            pause = self._pause()

    async def cancel(self) -> None:
        """Have it ended, now or as soon as Runpod has named it."""
        self.cancelled = True
        if self.remote_id:
            await self._cancel()
        self._wake.set()

    def say(self, event: JobEvent) -> None:
        """Tell the listeners something that Runpod did not."""
        self._tell(event)

    def fail(self, error: Exception) -> None:
        """End the wait for it with an error."""
        message = error.message if isinstance(error, FlashError) else f"{type(error).__name__}: {error}"
        hint = error.hint if isinstance(error, FlashError) else None
        self._end(JobStatus.FAILED, "\n".join([message.rstrip("."), *([hint] if hint else [])]))

    # --- sending ------------------------------------------------------------------------------

    async def _send(self, request: JobRequest, gone: Gone) -> Mapping[str, Any]:
        body = _body(request)
        limit = RUN_BYTES if request.durable else RUNSYNC_BYTES
        if len(body) > limit:
            raise PayloadTooLargeError(
                f"The job has {len(body) / 1e6:.1f} MB with its values; Runpod takes {limit / 1e6:.0f} MB",
                hint="Load large data inside the function, from a URL or a volume.",
            )
        while (answer := await self._post(body, durable=request.durable)) is None:
            self._endpoint = await gone(self._endpoint)
        return answer

    async def _post(self, body: bytes, *, durable: bool) -> Mapping[str, Any] | None:
        """Send the job; None if its endpoint does not exist."""
        route = "run" if durable else f"runsync?wait={RUNSYNC_WAIT_MS}"
        url = f"{urls.queue(self._endpoint)}/{route}"
        try:
            answer = await self._client.post(url, body, f"job {self.id}", timeout_s=LONG_TIMEOUT_S)
        except EndpointNotFoundError:
            return None
        if not isinstance(answer, Mapping) or not answer.get("id"):
            raise OutcomeUnknownError(f"job {self.id}: Runpod answered without naming it")
        return answer

    async def _unknown(self, error: OutcomeUnknownError) -> str:
        """Return what is unknown, and what the endpoint says of itself."""
        said = ""
        with contextlib.suppress(BackendError):
            url = f"{urls.queue(self._endpoint)}/health"
            jobs = (await self._client.get(url, "the endpoint's health")).get("jobs") or {}
            said = (
                f" Its endpoint has {jobs.get('inQueue', 0)} waiting and {jobs.get('inProgress', 0)} running."
            )
        return (
            f"nobody knows if Runpod took it: {error.message.partition(': ')[2]}\n"
            f"It was not sent again.{said} Submit it again if running it twice does no harm; "
            f"see https://console.runpod.io/serverless/user/endpoint/{self._endpoint}"
        )

    async def _cancel(self) -> None:
        with contextlib.suppress(BackendError):  # the next poll says how it stands
            await self._client.repeat(f"{self._base}/cancel/{self.remote_id}", f"cancelling {self.id}")

    # --- following ----------------------------------------------------------------------------

    @property
    def _base(self) -> str:
        return urls.queue(self._endpoint)

    async def _poll(self) -> Mapping[str, Any]:
        route = "status" if self._is_live else "stream"
        answer = await self._get(route)
        if not self._is_live:
            self._take_chunks(answer)
            while _status(answer).is_final and answer.get("stream"):  # one answer need not hold them all
                answer = await self._get(route)
                self._take_chunks(answer)
            if _status(answer).is_final and "output" not in answer:
                answer = await self._get("status")
        return answer

    async def _get(self, route: str) -> Mapping[str, Any]:
        url = f"{self._base}/{route}/{self.remote_id}"
        answer = await self._client.get(url, f"job {self.id}", on_trouble=self._on_trouble)
        self._trouble = False
        if not isinstance(answer, Mapping):
            raise BackendError(f"Runpod's answer about job {self.id} makes no sense: {str(answer)[:200]}")
        return answer

    def _on_trouble(self, reason: str) -> None:
        if not self._trouble:
            self._trouble = True
            self._tell(PhaseEvent(f"Runpod does not answer ({reason}): asking again"))

    def _take_chunks(self, answer: Mapping[str, Any]) -> None:
        for chunk in answer.get("stream") or ():
            self._tell(ItemEvent(self._items, pickle.dumps(chunk.get("output"), ITEM_PROTOCOL)))
            self._items += 1

    async def _take(self, answer: Mapping[str, Any]) -> bool:
        """Take what Runpod says; True if the job is over."""
        info = self._info(answer)
        if not info.status.is_final:
            if self._told is None or self._told.status is not info.status:
                self._told = info
                self._tell(StatusEvent(info))
            self._take_progress(answer.get("output"))
            return False
        if answer.get("output") == [] and not self._is_live and not self._items:
            with contextlib.suppress(BackendError):  # a generator that aggregates nothing, and was quick
                self._take_chunks(await self._get("stream"))
        self._finish(info, answer)
        return True

    def _take_progress(self, output: object) -> None:
        events = live.events_of(output)
        if events is not None:
            self._tell_in_order(self._ordered.add(events))
        elif output is not None:
            self._tell(PhaseEvent(output if isinstance(output, str) else json.dumps(output)[:200]))

    def _finish(self, info: JobInfo, answer: Mapping[str, Any]) -> None:
        if self._is_live and (reason := _not_installed(info, answer.get("output"))):
            info = replace(
                info, status=JobStatus.FAILED, error=reason, error_type=WorkerEnvironmentError.__name__
            )
            self._tell(FinishedEvent(info, None, ()))
            return
        outcome = self._outcome(info, answer)
        if outcome is None:
            self._tell(FinishedEvent(info, None, ()))
            return
        self._tell_in_order(self._ordered.end(outcome.events))
        if not outcome.header["ok"]:
            error = outcome.header["error"]
            message = f"{error['type']}: {error['message']}"
            info = replace(info, status=JobStatus.FAILED, error=message)
        self._tell(FinishedEvent(info, outcome.header, outcome.buffers))

    def _outcome(self, info: JobInfo, answer: Mapping[str, Any]) -> live.Outcome | None:
        """Return the result that a final answer holds; None if no worker sent one."""
        output = answer.get("output")
        if info.status is JobStatus.COMPLETED:
            if self._is_live:
                return live.result_of(output)
            return live.Outcome({"ok": True, "counts": [1]}, [json.dumps(output).encode()], ())
        if info.status is not JobStatus.FAILED:
            return None
        if self._is_live and isinstance(output, Mapping) and "success" in output:
            return live.result_of(output)
        return _raised(answer.get("error"))

    def _info(self, answer: Mapping[str, Any]) -> JobInfo:
        status = _status(answer)
        delay_s, run_s = _seconds(answer, "delayTime"), _seconds(answer, "executionTime")
        worker = str(answer.get("workerId") or "")
        started_at = self._submitted_at + delay_s if worker else None
        ended_at = self._submitted_at + delay_s + run_s if status.is_final else None
        error = answer.get("error") if status is not JobStatus.COMPLETED else ""
        if status is JobStatus.TIMED_OUT:
            error = error or "it ran longer than it may"
        return JobInfo(
            id=self.id,
            endpoint=self._endpoint,
            status=status,
            submitted_at=self._submitted_at,
            worker=worker,
            attempts=1 if worker else 0,
            started_at=started_at,
            ended_at=ended_at,
            queued_s=delay_s,
            run_s=run_s,
            error=_text(error),
        )

    def _tell_in_order(self, numbered: Any) -> None:
        for _, event in numbered:
            self._tell(worker_event(event))

    def _tell(self, event: JobEvent) -> None:
        for listener in list(self._listeners):
            listener(event)

    def _end(self, status: JobStatus, error: str) -> None:
        info = JobInfo(self.id, self._endpoint, status, self._submitted_at, error=error)
        self._tell(FinishedEvent(info, None, ()))

    def _pause(self) -> float:
        return poll_pause(time.monotonic() - self._begun)

    async def _sleep(self, seconds: float) -> None:
        """Wait, or until somebody cancels."""
        with contextlib.suppress(asyncio.TimeoutError):
            await asyncio.wait_for(self._wake.wait(), seconds)
        self._wake.clear()


_FORGOTTEN = (
    "Runpod does not know it any more: its time to live was over (a day, unless set), "
    "its result was not fetched in time, or its endpoint was deleted"
)


def _body(request: JobRequest) -> bytes:
    """Return the body of a job's request: its input, and its policy as far as it has one."""
    content = request.request
    if content["execution_type"] == "handler":
        given = content["input"]
    else:
        given = live.function_request(
            content,
            request.buffers,
            requirements=request.requirements,
            system=request.system,
            accelerate=request.accelerate_downloads,
        )
    body: dict[str, Any] = {"input": given}
    policy = {
        name: round(seconds * 1000)
        for name, seconds in (("executionTimeout", request.timeout_s), ("ttl", request.ttl_s))
        if seconds is not None
    }
    if policy:
        body["policy"] = policy
    if request.webhook is not None:
        body["webhook"] = request.webhook
    return json.dumps(body).encode()


def _status(answer: Mapping[str, Any]) -> JobStatus:
    text = answer.get("status")
    if text == "RUNNING":  # so it stands in Runpod's documentation
        return JobStatus.IN_PROGRESS
    try:
        return JobStatus(text)
    except ValueError:
        return JobStatus.IN_QUEUE


def _seconds(answer: Mapping[str, Any], name: str) -> float:
    value = answer.get(name)
    return max(0.0, value / 1000) if isinstance(value, int | float) else 0.0


def _text(error: object) -> str:
    if not error:
        return ""
    return error if isinstance(error, str) else json.dumps(error)


def _not_installed(info: JobInfo, output: object) -> str:
    """Return why a job's packages could not be had; empty if its code ran, or we cannot know."""
    if not isinstance(output, Mapping) or output.get("success") is not False:
        return ""
    error = _text(output.get("error"))
    return error if not info.worker or error.startswith(INSTALL_FAILED) else ""


def _raised(error: object) -> live.Outcome | None:
    """Return the outcome of a handler that raised: Runpod's workers write that as JSON in a text."""
    text = _text(error)
    try:
        described = json.loads(text)
        kind = str(described["error_type"]).removeprefix("<class '").removesuffix("'>")
        message, trace = str(described["error_message"]), str(described.get("error_traceback") or "")
    except (ValueError, TypeError, KeyError):
        return None
    return live.failure_of(f"{message}\n{trace}", kind.removeprefix("builtins."))
