"""``%flash nested``: event loops inside the kernel's loop, for code that insists on them.

Nothing of ours needs it: there is ``await``, and what waits here waits in a loop of its own thread. Other
code may call ``loop.run_until_complete`` in a cell, and that fails in a kernel, whose loop runs already.
Packages exist that patch asyncio to allow it; no cell of ours does that by itself.

The original, nest_asyncio, silently loses queued cells on ipykernel 7.1 and later: of seven cells of Run
All two ended. Its fork nest_asyncio2, which ipykernel requires since 7.3, loses none (both measured; for the
fork see ``tests/notebook/test_run_all.py``). So the fork is taken where it is, and the broken pair refused.
"""

from __future__ import annotations

import asyncio
import importlib
import importlib.metadata
from collections.abc import Mapping
from typing import Annotated

import typer
from packaging.version import Version

from flash_nb.errors import SettingsError, did_you_mean

FORK, ORIGINAL = "nest-asyncio2", "nest-asyncio"
BROKEN_SINCE = Version("7.1")
SWITCHES = ("on", "off")


def nested(
    switch: Annotated[str, typer.Argument(metavar="on|off", help="Default: only say how it is.")] = "",
) -> None:
    """Allow event loops inside the kernel's own, for code that calls run_until_complete in a cell."""
    if switch and switch not in SWITCHES:
        raise typer.BadParameter(f"{switch!r} is neither on nor off{did_you_mean(switch, SWITCHES)}")
    if switch == "on" and not is_on():
        importlib.import_module(choose(_installed()).replace("-", "_")).apply()
    if switch == "off" and is_on():
        raise SettingsError(
            "Nested event loops cannot be switched off: asyncio is patched until the kernel ends.",
            hint="Restart the kernel.",
        )
    typer.echo(f"Nested event loops: {'on' if is_on() else 'off'}")


def is_on() -> bool:
    """Tell whether asyncio is patched, by whomever."""
    return hasattr(asyncio, "_nest_patched") or hasattr(asyncio, "_nest_asyncio2")


def choose(versions: Mapping[str, str]) -> str:
    """Return the package to patch asyncio with.

    Args:
        versions: Of the installed packages among the two and ipykernel.

    Raises:
        SettingsError: There is none, or only one that loses cells.
    """
    if FORK in versions:
        return FORK
    install = f"Install the fork that works: %pip install {FORK}"
    if ORIGINAL not in versions:
        raise SettingsError("Nothing is installed that allows nested event loops.", hint=install)
    kernel = versions.get("ipykernel", "0")
    if Version(kernel) >= BROKEN_SINCE:
        raise SettingsError(
            f"{ORIGINAL} {versions[ORIGINAL]} loses cells of Run All on ipykernel {kernel}.", hint=install
        )
    return ORIGINAL


def _installed() -> dict[str, str]:
    wanted = {FORK, ORIGINAL, "ipykernel"}
    found = (each for name in wanted for each in importlib.metadata.distributions(name=name))
    return {each.metadata["Name"].replace("_", "-"): each.version for each in found}
