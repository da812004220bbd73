"""``flash endpoints`` and ``flash down``: what exists and what it costs now, and the end of it."""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import asdict
from typing import Annotated, Any, TypeVar

import typer
from rich.console import Console
from rich.table import Table

from flash_nb import settings as settings_
from flash_nb.backends.base import Backend, EndpointInfo
from flash_nb.backends.choice import choose, make
from flash_nb.errors import EndpointNotFoundError, SettingsError, did_you_mean
from flash_nb.loop import LoopThread

T = TypeVar("T")

Chosen = Annotated[
    str | None, typer.Option("--backend", metavar="NAME", help="auto, local or runpod. Default: the setting.")
]


def endpoints(
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
    backend: Chosen = None,
) -> None:
    """List the endpoints that exist, and the workers that are up: on Runpod they are billed."""
    name, found = _with_backend(backend, lambda chosen: chosen.endpoints())
    if as_json:
        typer.echo(json.dumps([{**asdict(each), "billing": each.billing} for each in found]))
    elif not found:
        typer.echo(f"There are no endpoints ({name}).")
    else:
        Console(highlight=False).print(_table(found))
        typer.echo(_bill(name, found))


def down(
    names: Annotated[
        list[str] | None, typer.Argument(metavar="NAME", help="Names or ids of endpoints.")
    ] = None,
    every: Annotated[
        bool, typer.Option("--all", help="All that were created here; nobody else's, whatever its name.")
    ] = False,
    backend: Chosen = None,
) -> None:
    """Delete endpoints with their workers: by name those that were created here, by id any."""
    if bool(names) == every:
        raise SettingsError("Say which endpoints: flash down NAME, or flash down --all")

    async def delete(chosen: Backend) -> list[EndpointInfo]:
        found = await chosen.endpoints()
        wanted = [each for each in found if each.is_ours] if every else _meant(names or (), found)
        for each in wanted:
            await chosen.delete(each.id)
        return wanted

    name, gone = _with_backend(backend, delete)
    for each in gone:
        typer.echo(f"Deleted {each.name} ({each.id}).")
    if not gone:
        typer.echo(f"There is nothing to delete ({name}).")


def _meant(names: Sequence[str], found: Sequence[EndpointInfo]) -> list[EndpointInfo]:
    """Return the endpoints that are named.

    Raises:
        EndpointNotFoundError: There is none, or it is not ours and was not named by its id.
    """
    wanted: dict[str, EndpointInfo] = {}
    for name in names:
        matching = [each for each in found if each.id == name or (each.name == name and each.is_ours)]
        if not matching:
            foreign = [each.id for each in found if each.name == name]
            if foreign:
                raise EndpointNotFoundError(
                    f"The endpoint {name!r} was not created here.",
                    hint=f"Name it by its id, if it is to go all the same: {', '.join(foreign)}",
                )
            ours = [each.name for each in found if each.is_ours]
            raise EndpointNotFoundError(f"There is no endpoint {name!r}{did_you_mean(name, ours) or '.'}")
        wanted |= {each.id: each for each in matching}
    return list(wanted.values())


def _with_backend(name: str | None, ask: Callable[[Backend], Awaitable[T]]) -> tuple[str, T]:
    """Ask a backend something; return its name and its answer."""
    settings = settings_.load(backend=name, down_on_exit=False)
    chosen = choose(settings)

    async def run() -> T:
        backend = make(chosen, settings)
        try:
            return await ask(backend)
        finally:
            await backend.aclose()

    return chosen, LoopThread().run(run())


def _table(found: Sequence[EndpointInfo]) -> Table:
    table = Table(
        "name", "id", "what", "workers", "up now", "jobs", "created", box=None, title_justify="left"
    )
    for each in found:
        table.add_row(
            each.name,
            each.id,
            each.note,
            f"{each.workers_min}–{each.workers_max}",
            _counts(each.workers),
            _counts(each.jobs),
            "here" if each.is_ours else "elsewhere",
        )
    return table


def _counts(counts: Mapping[str, Any]) -> str:
    return ", ".join(f"{count} {state}" for state, count in counts.items() if count) or "–"


def _bill(name: str, found: Sequence[EndpointInfo]) -> str:
    up = sum(each.billing for each in found)
    if name == "local":
        return "They run on this machine: nothing is billed."
    return f"{up} worker{'s' * (up != 1)} billed now." if up else "No worker is up: nothing is billed now."
