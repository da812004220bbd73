"""Handlers for the official worker: ``python handlers.py NAME [FILE]``, with Runpod's own package.

`FILE` is where a handler notes what became of it.
"""

from __future__ import annotations

import asyncio
import base64
import contextlib
import io
import sys
import time
import traceback
from pathlib import Path

import cloudpickle
import runpod


def note(text: str) -> None:
    with Path(sys.argv[2]).open("a") as file:
        file.write(text + "\n")


def plain(job):  # noqa: PLR0911 - one for each kind of answer
    given = job["input"]
    match given.get("do"):
        case "raise":
            raise ValueError("no such model")
        case "error":
            return {"error": "out of tokens", "used": 3}
        case "error dict":
            return {"error": {"code": 7}}
        case "nothing":
            return None
        case "empty":
            return {}
        case "unserialisable":
            note("ran")
            return {1, 2}
        case "nan":
            return float("nan")
        case "large":
            return "x" * given["size"]
        case "sleep":
            note("began")
            time.sleep(given["seconds"])
            note("ended")
            return "slept"
        case "progress":
            for step in range(3):
                runpod.serverless.progress_update(job, {"step": step})
                time.sleep(0.3)
            while not Path(given["until"]).exists():
                time.sleep(0.05)
            return "done"
        case "die":
            note("began")
            time.sleep(600)
        case "refresh":
            return {"refresh_worker": True, "done": True}
    return {"got": given, "id": job["id"]}


async def waiting(job):
    note(f"began {job['id']}")
    try:
        await asyncio.sleep(job["input"]["seconds"])
    except asyncio.CancelledError:
        note(f"cancelled {job['id']}")
        raise
    note(f"ended {job['id']}")
    return job["input"]["seconds"]


def generator(job):
    for number in range(job["input"]["count"]):
        yield {"number": number}
    if job["input"].get("raise"):
        raise ValueError("no more")


async def async_generator(job):
    for number in range(job["input"]["count"]):
        await asyncio.sleep(0.01)
        yield number


async def live(job):
    """What Flash's image does with a function request: execute its source, call it, answer."""
    request = job["input"]
    printed = io.StringIO()
    try:
        with contextlib.redirect_stdout(printed), contextlib.redirect_stderr(printed):
            names: dict = {}
            exec(request["function_code"], names)
            args = [cloudpickle.loads(base64.b64decode(arg)) for arg in request.get("args", [])]
            found = request.get("kwargs", {}).items()
            kwargs = {name: cloudpickle.loads(base64.b64decode(arg)) for name, arg in found}
            function = names[request["function_name"]]
            called = function(*args, **kwargs)
            result = await called if asyncio.iscoroutine(called) else called
    except Exception as error:  # noqa: BLE001 - as the image does
        text = f"{error}\n{traceback.format_exc()}"
        return {"success": False, "result": None, "error": text, "stdout": printed.getvalue()}
    encoded = base64.b64encode(cloudpickle.dumps(result)).decode()
    return {"success": True, "result": encoded, "error": None, "stdout": printed.getvalue()}


CONFIGS = {
    "plain": {"handler": plain},
    "refreshing": {"handler": plain, "refresh_worker": True},
    "waiting": {"handler": waiting},
    "concurrent": {"handler": waiting, "concurrency_modifier": lambda current: 4},
    "generator": {"handler": generator},
    "aggregate": {"handler": generator, "return_aggregate_stream": True},
    "async_generator": {"handler": async_generator, "return_aggregate_stream": True},
    "live": {"handler": live},
}

if __name__ == "__main__":
    name = sys.argv[1]
    runpod.serverless.start(CONFIGS[name])
