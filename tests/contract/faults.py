"""A proxy on the way to Runpod that makes what networks make: lost, late, refused and cut answers.

It reads each request, takes the first fault of its plan that fits, and keeps a log of what it saw and
of what went on to the server.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from dataclasses import dataclass, field

import httpx


@dataclass
class Fault:
    """What happens to the next request that fits, `times` times.

    Attributes:
        path: Part of the request's path.
        kind: ``drop`` (closed before the server sees it), ``lose`` (the server's answer is lost),
            ``cut`` (half of it, then closed), ``half`` (half of it, as if it were whole), ``status``
            (answered here), ``delay`` (sent on later).
        body: Part of the request's body.
        status: For ``status``.
        headers: For ``status``.
        seconds: For ``delay``.
        skip: So many requests that fit are left alone first.
    """

    path: str
    kind: str
    body: str = ""
    status: int = 503
    headers: dict[str, str] = field(default_factory=dict)
    seconds: float = 0.0
    times: int = 1
    skip: int = 0


@dataclass
class Proxy:
    """See the module. `seen` and `sent` hold ``(path, body)``, `heads` the method and headers of `seen`."""

    upstream: str
    plan: list[Fault] = field(default_factory=list)
    seen: list[tuple[str, str]] = field(default_factory=list)
    sent: list[tuple[str, str]] = field(default_factory=list)
    heads: list[tuple[str, dict[str, str]]] = field(default_factory=list)
    url: str = ""

    def count(self, part: str, body: str = "") -> int:
        """Return how many requests with this in their path reached the server."""
        return sum(part in path and body in text for path, text in self.sent)

    @contextlib.asynccontextmanager
    async def running(self) -> AsyncIterator[Proxy]:
        async with httpx.AsyncClient(base_url=self.upstream, trust_env=False, timeout=60) as client:
            self._client = client
            server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
            host, port = server.sockets[0].getsockname()
            self.url = f"http://{host}:{port}"
            try:
                yield self
            finally:
                server.close()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(ConnectionError, asyncio.IncompleteReadError):
            while await self._one(reader, writer):
                pass
        writer.close()

    async def _one(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
        head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1")
        first, *lines = head.strip().split("\r\n")
        method, path, _ = first.split(" ")
        headers = dict(line.split(": ", 1) for line in lines)
        lower = {name.lower(): value for name, value in headers.items()}
        body = await reader.readexactly(int(lower.get("content-length", "0")))
        text = body.decode(errors="replace")
        self.seen.append((path, text))
        self.heads.append((method, lower))
        fault = self._next(path, text)
        if fault and fault.kind == "drop":
            return False
        if fault and fault.kind == "status":
            _write(writer, fault.status, b'{"error": "planned"}', fault.headers)
            return True
        if fault and fault.kind == "delay":
            await asyncio.sleep(fault.seconds)
        self.sent.append((path, text))
        kept = {name: value for name, value in headers.items() if name.lower() not in ("host", "connection")}
        answer = await self._client.request(method, path, headers=kept, content=body)
        if fault and fault.kind == "lose":
            return False
        content = answer.content
        if fault and fault.kind == "half":
            content = content[: len(content) // 2]
        told = {"content-type": answer.headers.get("content-type", "")}
        cut = len(content) // 2 if fault and fault.kind == "cut" else None
        _write(writer, answer.status_code, content, told, cut)
        await writer.drain()
        return cut is None

    def _next(self, path: str, text: str) -> Fault | None:
        for fault in self.plan:
            if fault.path not in path or fault.body not in text or not fault.times:
                continue
            if fault.skip:
                fault.skip -= 1
                continue
            fault.times -= 1
            return fault
        return None


def _write(
    writer: asyncio.StreamWriter, status: int, body: bytes, headers: dict[str, str], cut: int | None = None
) -> None:
    told = {**headers, "content-length": str(len(body))}
    lines = "".join(f"{name}: {value}\r\n" for name, value in told.items())
    writer.write(f"HTTP/1.1 {status} Planned\r\n{lines}\r\n".encode() + body[:cut])
