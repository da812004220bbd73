"""The port of a server that somebody looks at: the next free one is offered if it is taken."""

from __future__ import annotations

import socket
import sys
from collections.abc import Callable

import typer


def open_port(listen: Callable[[int], socket.socket], port: int | None, default: int) -> socket.socket:
    """Return a listening socket: at another port if the one that is wanted is taken and that is all right.

    A terminal is asked. Elsewhere only the default gives way, and that is said.

    Args:
        listen: Listens at a port, or raises `PortBusyError`.
        port: What was asked for; None: the default.
        default: The port otherwise.

    Raises:
        ProjectError: It cannot be had.
        typer.Exit: The other one is not wanted.
    """
    from flash_nb.project.address import PortBusyError

    try:
        return listen(default if port is None else port)
    except PortBusyError as busy:
        if not busy.next_port:
            raise
        if sys.stdin.isatty():
            if not typer.confirm(f"{busy.message} Use {busy.next_port}?", default=True):
                raise typer.Exit(1) from None
        elif port is None:
            typer.echo(f"{busy.message} This is {busy.next_port}.", err=True)
        else:
            raise
        return listen(busy.next_port)
