"""The answer: what Runpod's ``/status`` and its webhooks say of a job.

A job's result comes in two forms. One that is JSON already (``{"ok": true, "json": true}`` and one buffer:
of a handler, of an official worker) is the output as it stands; with ``"live": true`` only what was printed
is added. That of our own channel is a pickle; it becomes the output of a Flash worker, its
*FunctionResponse*: the value stays the pickle that the worker made (the engine unpickles nothing), and where
it is plain JSON, it is there as JSON too.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Iterable, Sequence
from pathlib import Path

from flash_nb.engine.state import Job
from flash_nb.jobs import JobStatus
from flash_nb.worker.frames import Buffer, FrameReader, Header, unspill

TOO_LARGE = "The result is too large for an answer in JSON: take it with the job's handle."


def is_expired(job: Job) -> bool:
    """Say if a job's time to live ended it: Runpod forgets such a job."""
    return job.status is JobStatus.TIMED_OUT and (job.ended_at or 0.0) >= job.expires_at


def status_of(job: Job, frame: bytes | None = None, text: str = "", *, is_live: bool = True) -> Header:
    """Return a job in Runpod's words; times in milliseconds.

    Args:
        job: As it is.
        frame: Its result, as it is stored; None while it has none.
        text: What it printed.
        is_live: Its code came with it, so its output is a *FunctionResponse* even if it never ran.
    """
    status: Header = {
        "id": job.public_id,
        "status": job.status.value,
        "delayTime": round((job.queued_s + job.cold_s) * 1000),
        "executionTime": round(job.run_s * 1000),
        "workerId": job.worker_id,
    }
    if not job.status.is_final:
        return status
    status["output"] = None
    result, values = _result(frame)
    if "json" in result and result["ok"]:
        output = json.loads(bytes(values[0]))
        status["output"] = {**output, "stdout": text or None} if "live" in result else output
    elif "json" in result:
        status["error"] = _raised(job, result) or job.error
    elif is_live:
        status["output"] = _response(job, result, values, text)
    if job.error:
        status.setdefault("error", job.error)
    return status


def chunks_of(events: Iterable[Header]) -> list[Header]:
    """Return what a job yielded, as ``/stream`` gives it."""
    return [{"output": event["json"] if "json" in event else {"result": event["value"]}} for event in events]


def _result(frame: bytes | None) -> tuple[Header, Sequence[Buffer]]:
    """Return what a worker said in the end, and its values; nothing if none said anything.

    Of values that lie in a file only JSON is read: a pickle of that size has buffers beside it.
    """
    if frame is None:
        return {}, ()
    header, buffers = next(FrameReader().feed(frame))
    if "spill" in header:
        if not Path(header["spill"]["path"]).exists():
            return {"spilled": True}, ()
        result, *values = unspill(header, buffers)
        found: Header = json.loads(bytes(result))
        return (found if found.get("json") else {"spilled": True}), values
    if not buffers:
        return {}, ()
    return json.loads(bytes(buffers[0])), buffers[1:]


def _response(job: Job, result: Header, values: Sequence[Buffer], text: str) -> Header:
    output: Header = {
        "success": job.status is JobStatus.COMPLETED,
        "result": None,
        "error": job.error or None,
        "stdout": text or None,
    }
    if result.get("error"):
        error = result["error"]
        return output | {"error": f"{error['type']}: {error['message']}\n{error['text']}"}
    if "spilled" in result or len(values) > 1:
        return output | {"error": TOO_LARGE}
    if not result or "namespace" in result:  # a cell's variables are not a value
        return output
    plain = {"json_result": result["json_result"]} if "json_result" in result else {}
    return output | {"result": base64.b64encode(values[0]).decode("ascii"), **plain}


def _raised(job: Job, result: Header) -> str:
    """Return what a handler raised, as Runpod's workers write it; an error that it returned as it is."""
    error = result.get("error")
    if not error:
        return ""
    if error["type"] == "HandlerError":
        return str(error["message"])
    return json.dumps(
        {
            "error_type": f"<class '{error['type']}'>",
            "error_message": error["message"],
            "error_traceback": error["text"],
            "hostname": "127.0.0.1",
            "worker_id": job.worker_id,
        }
    )
