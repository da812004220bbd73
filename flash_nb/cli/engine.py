"""``flash engine start|status|token|worker-env|stop|logs``: the engine by hand. It also starts by itself."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import shlex
from pathlib import Path
from typing import Annotated, Any

import typer

from flash_nb import settings as settings_
from flash_nb.backends.local import EngineClient, connect, read_state
from flash_nb.errors import EngineError
from flash_nb.settings import Settings

app = typer.Typer(help="The local engine: it starts by itself, and this is how to look after it.")

Json = Annotated[bool, typer.Option("--json", help="Print JSON.")]

CLIENT_ID = "cli"
RUNPOD_CONFIG = Path.home() / ".runpod" / "config.toml"


@app.command()
def start(as_json: Json = False) -> None:
    """Start the engine, if it does not run; say how to reach it, also for Runpod's own clients.

    ``runpod`` names the variables that make the official packages talk to the engine instead; with the key
    of ``--json`` as ``RUNPOD_API_KEY``.
    """
    settings = settings_.load()
    answer, url = asyncio.run(_start(settings))
    runpod = {
        "RUNPOD_API_BASE_URL": url,
        "RUNPOD_REST_API_URL": f"{url}/rest",
        "RUNPOD_ENDPOINT_BASE_URL": f"{url}/v2",
    }
    _show({**_with_address(settings, answer), "runpod": runpod}, as_json=as_json)


@app.command()
def status(as_json: Json = False) -> None:
    """Say what the engine is doing; status 1 if it does not run."""
    settings = settings_.load()
    try:
        answer = asyncio.run(_ask(settings, "status"))
    except EngineError:
        _show({"running": False}, as_json=as_json)
        raise typer.Exit(1) from None
    _show(_with_address(settings, answer), as_json=as_json)


@app.command()
def token() -> None:
    """Print the engine's token.

    ``curl -H "Authorization: Bearer $(flash engine token)" …``
    """
    state = read_state(settings_.load())
    if state is None:
        typer.echo("The engine is not running. Start it: flash engine start", err=True)
        raise typer.Exit(1)
    typer.echo(state.api_key)


@app.command()
def worker_env(
    endpoint: Annotated[str, typer.Argument(help="Its id or its name.")],
    as_json: Json = False,
) -> None:
    """Print the environment of a worker of your own: eval "$(flash engine worker-env NAME)".

    A process that calls runpod.serverless.start in this environment takes the endpoint's jobs. Each call
    gives another worker id: run one process in each, and end it before the engine: it asks without a pause
    when nobody answers. The output holds the engine's token.
    """
    environment = asyncio.run(_worker_environment(settings_.load(), endpoint))
    for name in ("NO_PROXY", "no_proxy"):
        environment[name] = ",".join(filter(None, (os.environ.get(name), "127.0.0.1,localhost")))
    if RUNPOD_CONFIG.is_file():
        typer.echo(
            f"Note: the key in {RUNPOD_CONFIG} beats RUNPOD_AI_API_KEY in Runpod's workers. "
            "Give the worker another HOME if it is refused.",
            err=True,
        )
    if as_json:
        typer.echo(json.dumps(environment))
        return
    for name, value in environment.items():
        typer.echo(f"export {name}={shlex.quote(value)}")


@app.command()
def stop(as_json: Json = False) -> None:
    """Stop the engine and its workers; unfinished jobs go on when it starts again."""
    try:
        stopped = asyncio.run(_stop(settings_.load()))
    except EngineError:
        stopped = False
    _show({"stopped": stopped}, as_json=as_json)


@app.command()
def logs(
    as_json: Json = False,
    lines: Annotated[int, typer.Option("--lines", "-n", help="How many lines of each log.")] = 50,
) -> None:
    """Show the end of the engine's log, and of its workers' logs."""
    settings = settings_.load()
    files = [settings.log_file, *sorted((settings.home / "workers").glob("*.log"))]
    tails: dict[str, list[str]] = {}
    for file in files:
        with contextlib.suppress(FileNotFoundError):
            tails[file.name] = file.read_text(errors="replace").splitlines()[-lines:]
    if as_json:
        typer.echo(json.dumps(tails))
        return
    for name, tail in tails.items():
        if tail:
            typer.secho(f"── {name}", bold=True)
            typer.echo("\n".join(tail))


async def _ask(settings: Settings, method: str) -> dict[str, Any]:
    client = await connect(settings, CLIENT_ID, start=False)
    try:
        answer: dict[str, Any] = await client.call(method)
        return answer
    finally:
        client.close()


async def _start(settings: Settings) -> tuple[dict[str, Any], str]:
    """Start the engine and open its HTTP door; return its status and the door's address."""
    client = await connect(settings, CLIENT_ID, start=True)
    try:
        return await client.call("status"), await client.call("http")
    finally:
        client.close()


async def _worker_environment(settings: Settings, endpoint: str) -> dict[str, str]:
    client = await connect(settings, CLIENT_ID, start=True)
    try:
        environment: dict[str, str] = await client.call("worker_environment", endpoint=endpoint)
        return environment
    finally:
        client.close()


async def _stop(settings: Settings) -> bool:
    client = await connect(settings, CLIENT_ID, start=False)
    await _send_stop(client)
    await client.closed
    return True


async def _send_stop(client: EngineClient) -> None:
    with contextlib.suppress(EngineError):  # it may be gone before its answer is out
        await client.call("stop")


def _with_address(settings: Settings, answer: dict[str, Any]) -> dict[str, Any]:
    state = read_state(settings)
    key = state.api_key if state else ""
    return {"running": True, "url": answer["url"], "api_key": key, **answer}


def _show(facts: dict[str, Any], *, as_json: bool) -> None:
    if as_json:
        typer.echo(json.dumps(facts))
        return
    for name, value in facts.items():
        if name != "api_key":
            typer.echo(f"{name:<10} {_plain(value)}")


def _plain(value: Any) -> str:
    if isinstance(value, dict):
        return ", ".join(f"{key} {item}" for key, item in value.items()) or "none"
    if isinstance(value, list):
        return ", ".join(map(str, value)) or "none"
    return {True: "yes", False: "no"}.get(value, str(value)) if isinstance(value, bool) else str(value)
