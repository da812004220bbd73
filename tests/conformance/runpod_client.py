"""Runpod's own client against an endpoint: ``python runpod_client.py NAME ENDPOINT``; prints JSON.

It runs in an environment with Runpod's package, and knows nothing of ours.
"""

from __future__ import annotations

import asyncio
import json
import os
import sys
import time

import aiohttp
import requests
import runpod
from runpod import AsyncioEndpoint

runpod.api_key = os.environ["RUNPOD_API_KEY"]  # it does not read the variable by itself


def wait_for(job, *statuses: str) -> str:
    while (status := job.status()) not in statuses:
        time.sleep(0.05)
    return status


def sync(endpoint_id: str) -> dict:
    endpoint = runpod.Endpoint(endpoint_id)
    job = endpoint.run({"input": {"text": "hi"}, "policy": {"ttl": 60_000}})
    first = job.status()
    streaming = endpoint.run({"steps": 3})
    running = endpoint.run({"sleep": 60})
    wait_for(running, "IN_PROGRESS")
    waiting = [endpoint.run({"sleep": 60}) for _ in range(2)]
    return {
        "first": first,
        "output": job.output(timeout=20),
        "chunks": list(streaming.stream()),
        "all chunks": streaming.output(timeout=20),
        "health": endpoint.health(),
        "purged": endpoint.purge_queue(),
        "after purge": [each.status() for each in waiting],
        "cancelled": running.cancel(),
        "after cancel": running.status(),
        "output of a cancelled job": running.output(timeout=20),
        "run_sync": endpoint.run_sync({"text": "again"}),
        "wrapped": endpoint.run_sync({"input": {"text": "once"}}),
        "falsy": endpoint.run_sync({"input": {}}),
    }


def errors(endpoint_id: str) -> dict:
    endpoint = runpod.Endpoint(endpoint_id)
    failed = endpoint.run({"raise": "no"})
    wait_for(failed, "FAILED")
    found = {
        "failed output": failed.output(timeout=20),
        "failed": failed._fetch_job(),
        "failed run_sync": endpoint.run_sync({"raise": "no"}),
    }
    strange = runpod.Endpoint("ep-none")
    intruder = runpod.Endpoint(endpoint_id, api_key="wrong")
    unknown = runpod.endpoint.Job(endpoint_id, "none", endpoint.rp_client)
    return {
        **found,
        "unknown endpoint": raised(lambda: strange.run({"a": 1})),
        "unknown job": raised(unknown.status),
        "wrong key": raised(lambda: intruder.run({"a": 1})),
        "too large": raised(lambda: endpoint.run({"text": "x" * 10_100_000})),
    }


def raised(call) -> list[str]:
    try:
        return ["no error", str(call())]
    except (RuntimeError, requests.RequestException) as error:
        return [type(error).__name__, str(error)]


async def _asynchronous(endpoint_id: str) -> dict:
    async with aiohttp.ClientSession() as session:
        endpoint = AsyncioEndpoint(endpoint_id, session)
        job = await endpoint.run({"text": "hi"})
        streaming = await endpoint.run({"steps": 2})
        found = {
            "output": await job.output(20),
            "status": await job.status(),
            "chunks": [chunk async for chunk in streaming.stream()],
        }
        running = await endpoint.run({"sleep": 60})
        status = await running.status()
        while status != "IN_PROGRESS":
            status = await running.status()
        found["cancelled"] = await running.cancel()
        found["after cancel"] = await running.status()
        found["health"] = await endpoint.health()
        many = await asyncio.gather(*(endpoint.run({"number": n}) for n in range(10)))
        found["many"] = [await each.output(20) for each in many]
        return found


def asynchronous(endpoint_id: str) -> dict:
    return asyncio.run(_asynchronous(endpoint_id))


def control(_: str) -> dict:
    """Its GraphQL functions."""
    made = runpod.create_endpoint("by-client", "me/image:1", gpu_ids="AMPERE_24", workers_max=1)
    return {"made": made, "listed": runpod.get_endpoints()}


if __name__ == "__main__":
    print(json.dumps(globals()[sys.argv[1]](sys.argv[2])))
