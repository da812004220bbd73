"""Where a project is served: a socket that listens, and the next free port if one is taken."""

from __future__ import annotations

import errno
import socket

from flash_nb.errors import ProjectError

BACKLOG = 2048
PORTS = 100
"""How many ports are tried after the one that is wanted."""


def listen(host: str, port: int) -> socket.socket:
    """Return a socket that listens; port 0 is any.

    Raises:
        PortBusyError: Somebody else listens there.
        ProjectError: The address cannot be had.
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    # With the protocol named asyncio sends small pieces at once: else each request takes 40 ms longer.
    opened = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    opened.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        opened.bind((host, port))
        opened.listen(BACKLOG)
    except (OSError, UnicodeError) as error:
        opened.close()
        if getattr(error, "errno", None) == errno.EADDRINUSE:
            raise PortBusyError(host, port) from None
        raise ProjectError(f"{host}:{port} cannot be listened at: {error}.") from None
    return opened


class PortBusyError(ProjectError):
    """Somebody else listens at a port.

    Attributes:
        next_port: The next one that is free; 0 if there is none nearby.
    """

    def __init__(self, host: str, port: int) -> None:
        self.next_port = next(filter(lambda other: _is_free(host, other), range(port + 1, port + PORTS)), 0)
        free = f"The next free one: --port {self.next_port}" if self.next_port else "Choose another: --port"
        super().__init__(f"Port {port} of {host} is in use.", hint=free)


def _is_free(host: str, port: int) -> bool:
    try:
        listen(host, port).close()
    except (ProjectError, OverflowError):
        return False
    return True


def address(host: str, opened: socket.socket) -> str:
    """Return the URL of a socket, as it is typed into a browser on this machine."""
    name = {"0.0.0.0": "localhost", "::": "localhost"}.get(host, f"[{host}]" if ":" in host else host)  # noqa: S104
    return f"http://{name}:{opened.getsockname()[1]}"
