"""The channel door: one stream a peer, frames in and out, a token before anything else.

What a peer is told within one turn of the loop leaves in one write. A socket that closes is instant
news: `Peer.on_close` runs at once.
"""

from __future__ import annotations

import asyncio
import contextlib
import hmac
import os
import stat
from collections.abc import Callable, Sequence
from pathlib import Path

from flash_nb.worker import frames
from flash_nb.worker.frames import Buffer, FrameError, FrameReader, Header

MAX_UNSENT_BYTES = 256_000_000
MAX_HELLO_BYTES = 1_000_000
HELLO_TIMEOUT_S = 10.0

Accept = Callable[["Peer", Header], "Receive | None"]
Receive = Callable[[Header, Sequence[Buffer]], None]


class Peer(asyncio.Protocol):
    """One stream. `accept` sees its hello and returns who receives its frames; None refuses it."""

    def __init__(self, token: str, accept: Accept) -> None:
        self._token = token
        self._accept = accept
        self._receive: Receive | None = None
        self._reader = FrameReader()
        self._transport: asyncio.Transport | None = None
        self._unsent: list[bytes] = []
        self.on_close: Callable[[], None] = lambda: None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Remember the transport; the peer speaks first."""
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport
        asyncio.get_running_loop().call_later(HELLO_TIMEOUT_S, self._expect_hello)

    def data_received(self, data: bytes) -> None:
        """Hand on each frame; a stream that is not ours is closed without a word."""
        try:
            for header, buffers in self._reader.feed(data):
                if self._receive is None and not self._greet(header):
                    return
                if self._receive is not None and header["type"] not in {"client", "worker"}:
                    self._receive(header, buffers)
        except FrameError:
            self.close()
        if self._receive is None and self._reader.pending_bytes > MAX_HELLO_BYTES:
            self.close()

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002 - asyncio's signature
        """Tell the owner."""
        self._transport = None
        self.on_close()

    def send(self, header: Header, buffers: Sequence[Buffer] = ()) -> None:
        """Send a frame."""
        self.write(frames.encode(header, buffers))

    def write(self, frame: bytes) -> None:
        """Send an encoded frame at the end of this turn of the loop."""
        if self._transport is None:
            return
        if not self._unsent:
            asyncio.get_running_loop().call_soon(self._flush)
        self._unsent.append(frame)

    def close(self) -> None:
        """Close the stream after what was sent."""
        self._flush()
        if self._transport is not None:
            self._transport.close()

    def _expect_hello(self) -> None:
        if self._receive is None:
            self.close()

    def _greet(self, header: Header) -> bool:
        token = header.get("token")
        if isinstance(token, str) and hmac.compare_digest(
            token.encode(errors="replace"), self._token.encode()
        ):
            self._receive = self._accept(self, header)
        if self._receive is None:
            self.close()
        return self._receive is not None

    def _flush(self) -> None:
        unsent, self._unsent = self._unsent, []
        if self._transport is None or not unsent:
            return
        self._transport.write(unsent[0] if len(unsent) == 1 else b"".join(unsent))
        if self._transport.get_write_buffer_size() > MAX_UNSENT_BYTES:
            self._transport.abort()  # it does not read: better lost than the engine's memory


async def listen(url: str, make_peer: Callable[[], Peer]) -> tuple[asyncio.AbstractServer, str]:
    """Listen at ``unix:PATH`` or ``tcp:127.0.0.1:PORT``; return the server and its actual URL."""
    loop = asyncio.get_running_loop()
    scheme, _, place = url.partition(":")
    if scheme == "unix":
        path = Path(place)
        private_folder(path.parent)
        with contextlib.suppress(FileNotFoundError):
            path.unlink()
        server = await loop.create_unix_server(make_peer, place, backlog=256)
        path.chmod(0o600)
        return server, url
    # Windows has no Unix sockets. Whoever is on this machine can reach the port: the token decides.
    port = int(place.rpartition(":")[2])
    tcp = await loop.create_server(make_peer, "127.0.0.1", port, backlog=256)
    return tcp, f"tcp:127.0.0.1:{tcp.sockets[0].getsockname()[1]}"


def private_folder(folder: Path) -> None:
    """Make a folder that only its owner can enter; refuse one that belongs to somebody else.

    Raises:
        PermissionError: It exists and is not ours.
    """
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    found = folder.stat()
    if found.st_uid != os.getuid():
        raise PermissionError(f"{folder} belongs to another user")
    if stat.S_IMODE(found.st_mode) != 0o700:  # noqa: PLR2004 - the mode is the point
        folder.chmod(0o700)
