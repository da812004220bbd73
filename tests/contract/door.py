"""The engine's HTTP door as Runpod, with a proxy before it that fails by plan."""

from __future__ import annotations

import asyncio
import contextlib
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path

from faults import Fault, Proxy
from real import World

from flash_nb.backends.auth import ApiKey
from flash_nb.backends.local import connect, read_state
from flash_nb.backends.runpod import RunpodBackend
from flash_nb.backends.runpod.backoff import Backoff

QUICK = Backoff(base_s=0.01, cap_s=0.05, patience_s=10.0)


class Door:
    """An engine, and the way to it."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.root = asyncio.run(http_door(world))
        self.token = read_state(world.settings).api_key

    @classmethod
    @contextlib.contextmanager
    def open(cls) -> Iterator[Door]:
        with tempfile.TemporaryDirectory(prefix="fc-") as cache:
            world = World(Path(cache))
            try:
                yield cls(world)
            finally:
                world.close()

    def backend(self) -> RunpodBackend:
        """Return another kernel's backend."""
        return RunpodBackend(self.world.settings, ApiKey(self.token, "the engine's state"), backoff=QUICK)

    def run(self, scenario, plan: list[Fault] = ()):
        """Run a scenario with a backend and the proxy on its way."""

        async def main():
            async with Proxy(self.root, list(plan)).running() as proxy:
                point_to(proxy.url)
                backend = self.backend()
                try:
                    return await scenario(backend, proxy)
                finally:
                    await backend.aclose()

        return asyncio.run(main())


async def http_door(world: World) -> str:
    """Start the engine of a world; return the root of its HTTP door."""
    client = await connect(world.settings, "test")
    try:
        url = await client.call("http")
        assert isinstance(url, str)
        return url
    finally:
        client.close()


def point_to(root: str) -> None:
    """Have all of Runpod's addresses begin there."""
    os.environ["RUNPOD_API_BASE_URL"] = root
    os.environ["RUNPOD_ENDPOINT_BASE_URL"] = f"{root}/v2"
