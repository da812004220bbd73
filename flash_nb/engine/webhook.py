"""The webhook: where a job is told that it is over.

The message is what Runpod's ``/status`` says. Its output has the shape of Flash's function response:
the value stays the pickle that the worker made (the engine unpickles nothing), and where it is plain
JSON, it is there as JSON too.
"""

from __future__ import annotations

import asyncio
import base64
import json
from collections.abc import Sequence
from typing import Any

from flash_nb.engine.state import Job
from flash_nb.jobs import JobStatus
from flash_nb.worker.frames import Buffer, FrameReader

TRIES = 3
PAUSE_S = 10.0
TIMEOUT_S = 10.0


def message(job: Job, frame: bytes, text: str) -> bytes:
    """Return what is posted.

    Args:
        job: As it ended.
        frame: Its result, as it is stored.
        text: What it printed.
    """
    status: dict[str, Any] = {
        "id": job.public_id,
        "status": job.status.value,
        "delayTime": round((job.queued_s + job.cold_s) * 1000),
        "executionTime": round(job.run_s * 1000),
        "workerId": job.worker_id,
        "output": _output(job, frame, text),
    }
    if job.error:
        status["error"] = job.error
    return json.dumps(status).encode()


def _output(job: Job, frame: bytes, text: str) -> dict[str, Any]:
    output: dict[str, Any] = {
        "success": job.status is JobStatus.COMPLETED,
        "result": None,
        "error": job.error or None,
        "stdout": text or None,
    }
    header, buffers = next(FrameReader().feed(frame))
    if "spill" in header:
        output["error"] = "The result is too large for a webhook: take it with the job's handle."
    elif buffers:
        output |= _of_result(json.loads(bytes(buffers[0])), buffers[1:])
    return output


def _of_result(result: dict[str, Any], values: Sequence[Buffer]) -> dict[str, Any]:
    """Return what a worker's result adds; see `flash_nb.worker.execution`."""
    if result.get("error"):
        error = result["error"]
        return {"error": f"{error['type']}: {error['message']}\n{error['text']}"}
    if not result.get("in_band"):  # a cell's variables are not a value
        return {}
    plain = {"json_result": result["json_result"]} if "json_result" in result else {}
    return {"result": base64.b64encode(values[0]).decode("ascii"), **plain}


async def post(url: str, body: bytes, *, pause_s: float = PAUSE_S, timeout_s: float = TIMEOUT_S) -> str:
    """Post until somebody answers with a success, `TRIES` times at most; no redirect is followed.

    Returns:
        Why it was given up; empty if it was received.
    """
    import httpx  # not needed by most engines

    reason = ""
    async with httpx.AsyncClient(timeout=timeout_s) as client:
        for attempt in range(TRIES):
            if attempt:
                await asyncio.sleep(pause_s)
            try:
                reason = await asyncio.wait_for(_post_once(client, url, body), timeout_s)
            except (httpx.HTTPError, httpx.InvalidURL, asyncio.TimeoutError) as error:
                reason = type(error).__name__  # its text may hold the address, and that a secret
            if not reason:
                return ""
    return reason


async def _post_once(client: Any, url: str, body: bytes) -> str:
    headers = {"Content-Type": "application/json"}
    async with client.stream("POST", url, content=body, headers=headers) as response:
        return "" if response.is_success else f"HTTP status {response.status_code}"
