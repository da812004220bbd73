"""The endpoints of a project that is served: made before, and deleted after it if they were made for it."""

from __future__ import annotations

import asyncio
import contextlib
import os
import shutil
import sys
import tempfile
import time
from collections.abc import Collection, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

from flash_nb.backends.base import Backend, EndpointInfo
from flash_nb.backends.choice import make
from flash_nb.errors import FlashError
from flash_nb.loop import LoopThread
from flash_nb.project.declared import Group, Project
from flash_nb.sdk.remote import Remote
from flash_nb.sdk.session import current_session
from flash_nb.settings import Settings

DELETE_PATIENCE_S = 30.0
AT_ONCE = 3
"""How many endpoints are made at the same time."""

RUNNERS = {
    "local": "the local engine of this machine",
    "runpod": "Runpod, where workers that are up are billed",
}
"""Who runs them, by the name of the backend, for people."""


class Created:
    """Files that say which endpoints were created: one for each process, an id in each line.

    Args:
        folder: Where they lie.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def tell(self) -> None:
        """Write which endpoints this process has created until now."""
        with contextlib.suppress(FlashError, OSError):
            ids = sorted(current_session().backend.created)
            (self.folder / str(os.getpid())).write_text("".join(f"{each}\n" for each in ids))

    def ids(self) -> frozenset[str]:
        """Return what all processes told."""
        return frozenset(each for file in self.folder.iterdir() for each in file.read_text().split())


@contextlib.contextmanager
def created() -> Iterator[Created]:
    """Give a folder for such files, deleted at the end."""
    folder = Path(tempfile.mkdtemp(prefix="flash-run-"))
    try:
        yield Created(folder)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def provision(project: Project, functions: Mapping[str, Remote]) -> None:
    """Make the endpoint of each group, several at once; print how it goes. One that fails stops no other."""

    def ensure(group: Group) -> None:
        begun = time.monotonic()
        known = set(current_session().backend.created)
        print(f"  … {group.key}: {group.resource.describe()}")
        try:
            endpoint = functions[group.functions[0].name].ensure()
        except FlashError as error:
            print(f"  ✗ {group.key}: {error}")
            return
        is_new = endpoint.id in current_session().backend.created and endpoint.id not in known
        state = "created" if is_new else "was there already"
        print(f"  ✓ {group.key}: {state}, {endpoint.id}, {time.monotonic() - begun:.1f} s")

    print(f"Endpoints, at {RUNNERS[current_session().backend.name]}:")
    with ThreadPoolExecutor(AT_ONCE) as pool:
        list(pool.map(ensure, project.groups))


def delete(ids: Collection[str], settings: Settings, backend: str) -> None:
    """Delete the endpoints of these ids that still exist, with a line each; prints what cannot be deleted.

    Args:
        ids: Which.
        settings: Those of this process.
        backend: Where they are.
    """
    if not ids:
        return

    async def delete_all() -> None:
        chosen = make(backend, replace(settings, down_on_exit=False))
        try:
            for each in await chosen.endpoints():
                if each.id in ids:
                    await _delete(chosen, each)
        finally:
            await chosen.aclose()

    async def bounded() -> None:
        await asyncio.wait_for(delete_all(), DELETE_PATIENCE_S)

    try:
        LoopThread().run(bounded())
    except (FlashError, TimeoutError, asyncio.TimeoutError) as error:
        reason = str(error) or f"no answer within {DELETE_PATIENCE_S:g} s"
        print(f"Not all endpoints could be deleted: {reason}\nSee: flash endpoints", file=sys.stderr)


async def _delete(backend: Backend, endpoint: EndpointInfo) -> None:
    try:
        await backend.delete(endpoint.id)
    except FlashError as error:
        print(f"The endpoint {endpoint.name} ({endpoint.id}) stays: {error}", file=sys.stderr)
    else:
        print(f"Deleted the endpoint {endpoint.name} ({endpoint.id}).")
