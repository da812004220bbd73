"""The webhook: where a job is told that it is over. What is posted is `flash_nb.engine.answer`'s."""

from __future__ import annotations

import asyncio
from typing import Any

TRIES = 3
PAUSE_S = 10.0
TIMEOUT_S = 10.0


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
