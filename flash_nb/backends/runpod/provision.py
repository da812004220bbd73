"""Endpoints and volumes by name: found, created, updated on real drift, deleted."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import random
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from filelock import FileLock, Timeout

from flash_nb.backends.base import EndpointInfo, EndpointSpec
from flash_nb.backends.runpod.client import Client
from flash_nb.backends.runpod.inventory import Entry, Inventory
from flash_nb.errors import BackendError, EndpointNotFoundError, OutcomeUnknownError
from flash_nb.protocol import graphql, urls, volumes
from flash_nb.protocol.graphql import Listed

T = TypeVar("T")

MAX_ATTEMPTS = 5
LOOK_AGAIN_S = 0.5
LOCK_POLL_S = 0.05
MADE_AGAIN = "the endpoint {!r} had been deleted; it was made again"


@dataclass(frozen=True)
class Provided:
    """An endpoint that can be used.

    Attributes:
        id: Its id.
        note: What its user should hear, usually nothing.
        created: It did not exist before.
    """

    id: str
    note: str = ""
    created: bool = False


class Provision:
    """Makes sure that endpoints exist; one home makes each of them once.

    Args:
        client: How Runpod is asked.
        inventory: What is known of before.
        home: Where locks lie.
    """

    def __init__(self, client: Client, inventory: Inventory, home: Path) -> None:
        self._client = client
        self._inventory = inventory
        self._home = home
        self.created: list[str] = []

    async def ensure(self, spec: EndpointSpec) -> Provided:
        """Return the endpoint of a spec: found, created, or updated if its settings have changed.

        Raises:
            GraphQLError, BackendError: It cannot be had.
        """
        async with self._alone(spec):
            for _ in range(MAX_ATTEMPTS):
                provided = await self._ensure(spec)
                if provided is not None:
                    return provided
                await asyncio.sleep(LOOK_AGAIN_S * (0.5 + random.random()))  # noqa: S311 - not a secret
        raise BackendError(
            f"Somebody else creates the endpoint {spec.name!r} again and again.",
            hint="Look at https://console.runpod.io/serverless, or give it another name.",
        )

    async def exists(self, endpoint_id: str) -> bool:
        """Say if an endpoint exists."""
        return any(each.id == endpoint_id for each in await self._listed())

    async def endpoints(self) -> Sequence[EndpointInfo]:
        """List all endpoints of the account, with their workers and jobs."""
        ours = {entry.id for entry in self._inventory.entries(urls.graphql())}
        found = await self._listed()
        health = await asyncio.gather(*(self._health(each) for each in found))
        return [
            EndpointInfo(
                id=each.id,
                name=each.name,
                note=("CPU" if each.is_cpu else "GPU") + (", load-balanced" if each.is_load_balanced else ""),
                workers_min=each.workers_min,
                workers_max=each.workers_max,
                workers=counts.get("workers") or {},
                jobs=counts.get("jobs") or {},
                is_ours=each.id in ours,
            )
            for each, counts in zip(found, health, strict=True)
        ]

    async def delete(self, endpoint_id: str) -> None:
        """Delete an endpoint, and forget it.

        Raises:
            EndpointNotFoundError: There is none.
            GraphQLError, BackendError: It still exists.
        """
        if not await self.exists(endpoint_id):
            self._forget(endpoint_id)
            raise EndpointNotFoundError(f"Runpod has no endpoint {endpoint_id!r}.")
        await self._delete(endpoint_id)
        self._forget(endpoint_id)

    # --- inside -------------------------------------------------------------------------------

    async def _ensure(self, spec: EndpointSpec) -> Provided | None:
        """Do it once; None if somebody else created the same at the same time, and ours was taken back."""
        service = urls.graphql()
        entries = self._inventory.entries(service)
        known = self._inventory.find(service, spec.kind, spec.name)
        listed = await self._listed()
        found = _find(spec, known, listed, {entry.id for entry in entries})
        if found is not None and known is not None and (known.id, known.hash) == (found.id, spec.hash):
            return Provided(found.id)
        wire = await self._wire(spec)
        if found is not None:
            endpoint_id = await self._save({**wire, "id": found.id}, spec)
            adopted = known is None or known.id != found.id
            note = f"the endpoint {spec.name!r} existed already: it is used, with these settings" * adopted
        else:
            before = {each.id for each in listed}
            endpoint_id = await self._create(wire, spec, before)
            if [each for each in await self._listed() if _fits(spec, each) and each.id not in before][1:]:
                await self._delete(endpoint_id)
                return None
            self.created.append(endpoint_id)
            note = MADE_AGAIN.format(spec.name) * (known is not None)
        created_at = known.created_at if known and known.id == endpoint_id else time.time()
        self._inventory.put(Entry(endpoint_id, spec.name, spec.kind, spec.hash, created_at, service))
        return Provided(endpoint_id, f"flash_nb: {note}.\n" if note else "", created=found is None)

    async def _save(self, wire: dict[str, Any], spec: EndpointSpec) -> str:
        """Update an endpoint: done twice, it is the same."""

        async def save() -> str:
            return graphql.saved_id(await self._client.mutate(graphql.SAVE_ENDPOINT, input=wire))

        return await self._insist(save, _nothing, f"The endpoint {spec.name!r} may have its new settings")

    async def _create(self, wire: dict[str, Any], spec: EndpointSpec, before: set[str]) -> str:
        async def create() -> str:
            return graphql.saved_id(await self._client.mutate(graphql.SAVE_ENDPOINT, input=wire))

        async def find() -> str | None:
            made = [e for e in await self._listed() if _fits(spec, e) and e.id not in before]
            return made[0].id if made else None

        return await self._insist(create, find, f"The endpoint {spec.name!r} may have been created")

    async def _delete(self, endpoint_id: str) -> None:
        async def delete() -> bool:
            await self._client.mutate(graphql.DELETE_ENDPOINT, id=endpoint_id)
            return True

        async def look() -> bool | None:
            return None if await self.exists(endpoint_id) else True

        await self._insist(delete, look, f"The endpoint {endpoint_id!r} may have been deleted")

    async def _insist(
        self, attempt: Callable[[], Awaitable[T]], look: Callable[[], Awaitable[T | None]], what: str
    ) -> T:
        """Do something; if its answer is lost, look for what it did before it is done again.

        Raises:
            OutcomeUnknownError: Nobody knows if it was done.
        """
        reason = ""
        for number in range(MAX_ATTEMPTS):
            try:
                return await attempt()
            except OutcomeUnknownError as error:
                reason = error.message
            await asyncio.sleep(self._client.backoff.pause(number))
            if (found := await look()) is not None:
                return found
        raise OutcomeUnknownError(
            f"{what}, or not: {reason}.",
            hint="Look at https://console.runpod.io/serverless before you run it again.",
        )

    async def _wire(self, spec: EndpointSpec) -> dict[str, Any]:
        """Return the input of `saveEndpoint`, with the id of the volume that it names."""
        wire = dict(spec.wire)
        volume = wire.pop("networkVolume", None)
        if volume is not None:
            wire["networkVolumeId"] = await self._volume(volume)
        return wire

    async def _volume(self, wanted: dict[str, Any]) -> str:
        """Return the id of the volume of this name and data center, created if there is none."""

        async def create() -> str:
            return volumes.made(
                await self._client.post(urls.volumes(), wanted, f"the volume {wanted['name']!r}")
            )

        async def find() -> str | None:
            listed = await self._client.get(urls.volumes(), "the list of volumes")
            return volumes.find(listed, wanted["name"], wanted["dataCenter"])

        what = f"The volume {wanted['name']!r} in {wanted['dataCenter']} may have been created"
        found = await find()
        return await self._insist(create, find, what) if found is None else found

    async def _listed(self) -> list[Listed]:
        return graphql.listed(await self._client.query(graphql.ENDPOINTS))

    async def _health(self, endpoint: Listed) -> dict[str, Any]:
        with contextlib.suppress(BackendError):
            answer = await self._client.get(f"{urls.queue(endpoint.id)}/health", "an endpoint's health")
            if isinstance(answer, dict):
                return answer
        return {}

    def _forget(self, endpoint_id: str) -> None:
        self._inventory.drop(endpoint_id)
        with contextlib.suppress(ValueError):
            self.created.remove(endpoint_id)

    @contextlib.asynccontextmanager
    async def _alone(self, spec: EndpointSpec) -> AsyncIterator[None]:
        """Keep other kernels of this home from creating the same endpoint meanwhile."""
        name = hashlib.sha256(f"{urls.graphql()} {spec.kind} {spec.name}".encode()).hexdigest()[:12]
        folder = self._home / "locks"
        try:
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        except OSError as error:
            raise BackendError(
                f"The folder {folder} cannot be used: {error.strerror}.",
                hint="Choose one that you can write to: FLASH_HOME=/path/to/it",
            ) from error
        lock = FileLock(folder / f"{name}.lock", thread_local=False)
        while True:
            try:
                lock.acquire(timeout=0)
                break
            except Timeout:
                await asyncio.sleep(LOCK_POLL_S)
        try:
            yield
        finally:
            lock.release()


def _find(spec: EndpointSpec, known: Entry | None, listed: list[Listed], ours: set[str]) -> Listed | None:
    """Return the endpoint that is meant: the one that we remember, else one of its name.

    Names are not unique at Runpod. One that we remember for another resource is not taken.
    """
    if known is not None:
        for each in listed:
            if each.id == known.id:
                return each
    return next((each for each in listed if _fits(spec, each) and each.id not in ours), None)


def _fits(spec: EndpointSpec, endpoint: Listed) -> bool:
    """Say if an endpoint has the name and the nature of a spec; Runpod may append ``-fb`` to names."""
    return (
        endpoint.name in (spec.name, f"{spec.name}-fb", f"{spec.name} -fb")
        and endpoint.is_load_balanced == spec.balanced
        and endpoint.is_cpu == bool(spec.wire.get("instanceIds"))
    )


async def _nothing() -> None:
    """Find nothing: what was done shows nowhere, and does no harm when it is done again."""
