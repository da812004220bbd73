"""Frames: one JSON header and any number of raw buffers, on a local stream.

Layout, big-endian: ``u32`` header size, ``u32`` number of buffers, one ``u64`` size for each
buffer, the header in UTF-8 JSON, the buffers. A stream never carries more than
`SPILL_BYTES` of buffers in one frame: larger ones go to a *spill* file that both ends can map
(``/dev/shm`` where there is room), and the header names the file under ``"spill"``.
Measured on two cores: 8 MB there and back took 92 ms through a socket, 15 ms through a file.
"""

from __future__ import annotations

import json
import mmap
import os
import secrets
import struct
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

Buffer = bytes | bytearray | memoryview
Header = dict[str, Any]
Frame = tuple[Header, Sequence[Buffer]]

SPILL_BYTES = 1_000_000
IN_BAND_SPILL_BYTES = 20_000_000  # of a result that others read too: Runpod's limit of an output
ALIGNMENT = 64  # arrays are rebuilt over the mapped file: keep them on cache lines
MAX_HEADER_BYTES = 64_000_000
MAX_BUFFERS = 1_000_000
MAX_BUFFER_BYTES = 1_000_000_000

_PREFIX = struct.Struct("!II")
_dumps = json.JSONEncoder(separators=(",", ":"), check_circular=False).encode


class FrameError(ValueError):
    """The bytes on the stream are not a frame."""


def encode(header: Header, buffers: Sequence[Buffer] = ()) -> bytes:
    """Return one frame as bytes. Buffers over `SPILL_BYTES` in all belong in a spill file first."""
    head = _dumps(header).encode()
    if not buffers:
        return b"".join((_PREFIX.pack(len(head), 0), head))
    sizes = [len(b) if isinstance(b, (bytes, bytearray)) else b.nbytes for b in buffers]
    return b"".join(
        (_PREFIX.pack(len(head), len(sizes)), struct.pack(f"!{len(sizes)}Q", *sizes), head, *buffers)
    )


class FrameReader:
    """Cuts a byte stream into frames, whatever the pieces it arrives in."""

    def __init__(self) -> None:
        self._pending = bytearray()

    @property
    def pending_bytes(self) -> int:
        """How many bytes wait for the rest of their frame."""
        return len(self._pending)

    def feed(self, data: Buffer) -> Iterator[Frame]:
        """Yield every frame that `data` completes.

        Raises:
            FrameError: The stream is not ours; the connection should be closed.
        """
        pending = self._pending
        pending += data
        position = 0
        try:
            while (end := _frame_end(pending, position)) is not None:
                yield _decode(pending, position)
                position = end
        finally:
            if position:
                del pending[:position]


def _frame_end(data: bytearray, start: int) -> int | None:
    if len(data) - start < _PREFIX.size:
        return None
    head, count = _PREFIX.unpack_from(data, start)
    if head > MAX_HEADER_BYTES or count > MAX_BUFFERS:
        raise FrameError(f"not a frame: a header of {head} bytes with {count} buffers")
    body = start + _PREFIX.size + 8 * count
    if len(data) < body:
        return None
    sizes = struct.unpack_from(f"!{count}Q", data, start + _PREFIX.size)
    if sum(sizes) > MAX_BUFFER_BYTES:
        raise FrameError(f"not a frame: buffers of {sum(sizes)} bytes")
    end: int = body + head + sum(sizes)
    return end if len(data) >= end else None


def _decode(data: bytearray, start: int) -> Frame:
    head, count = _PREFIX.unpack_from(data, start)
    sizes = struct.unpack_from(f"!{count}Q", data, start + _PREFIX.size)
    position = start + _PREFIX.size + 8 * count
    try:
        header = json.loads(data[position : position + head])
    except (ValueError, RecursionError) as error:
        raise FrameError(f"not a frame: its header is not JSON ({error})") from error
    if not isinstance(header, dict):
        raise FrameError(f"not a frame: its header is a JSON {type(header).__name__}")
    position += head
    buffers: list[Buffer] = []
    for size in sizes:
        buffers.append(data[position : position + size])
        position += size
    return header, buffers


def header_of(frame: Buffer) -> Header:
    """Return the header of an encoded frame without reading its buffers."""
    head, count = _PREFIX.unpack_from(frame)
    start = _PREFIX.size + 8 * count
    header: Header = json.loads(bytes(memoryview(frame)[start : start + head]))
    return header


def size_of(buffers: Sequence[Buffer]) -> int:
    """Return the bytes of all buffers together."""
    return sum(memoryview(b).nbytes for b in buffers)


def spill(
    header: Header, buffers: Sequence[Buffer], folders: Sequence[str], limit: int = SPILL_BYTES
) -> Frame:
    """Move large buffers to a file in the first folder that has room; small ones stay as they are.

    The receiver maps the file, and who owns the job deletes it; a file that no job owns is deleted by its
    receiver, see `take`.
    """
    size = size_of(buffers)
    if size <= limit or not folders:
        return header, buffers
    folder = next((f for f in folders if _has_room(f, size)), folders[-1])
    path = Path(folder) / f"{secrets.token_hex(12)}.buffers"
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    places: list[tuple[int, int]] = []
    position = 0
    with os.fdopen(descriptor, "wb", buffering=0) as file:
        for buffer in buffers:
            view = memoryview(buffer).cast("B")
            file.seek(position)
            _write_all(file.fileno(), view)
            places.append((position, view.nbytes))
            position = -(-(position + view.nbytes) // ALIGNMENT) * ALIGNMENT
    return {**header, "spill": {"path": str(path), "places": places}}, ()


def unspill(header: Header, buffers: Sequence[Buffer]) -> Sequence[Buffer]:
    """Return the buffers of a frame, mapping its spill file copy-on-write if it has one.

    Raises:
        FileNotFoundError: The spill file is gone: the job was deleted.
    """
    place = header.get("spill")
    if place is None:
        return buffers
    with Path(place["path"]).open("rb") as file:
        view = memoryview(mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_COPY))
    return [view[start : start + size] for start, size in place["places"]]


def take(header: Header, buffers: Sequence[Buffer]) -> bytes:
    """Return the buffers of a frame as one, and delete its spill file: for who alone receives it.

    Raises:
        FileNotFoundError: The spill file is gone.
    """
    joined = b"".join(unspill(header, buffers))
    if "spill" in header:
        Path(header["spill"]["path"]).unlink(missing_ok=True)
    return joined


def _has_room(folder: str, size: int) -> bool:
    try:
        room = os.statvfs(folder)
    except OSError:
        return False
    return room.f_bavail * room.f_frsize > 4 * size


def _write_all(descriptor: int, data: memoryview) -> None:
    while data:
        data = data[os.write(descriptor, data) :]
