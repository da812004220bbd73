"""An archive: the files of an artifact as one tar.gz, the same bytes for the same content.

Nothing of the machine that packs is in it: entries are sorted, times are `SOURCE_DATE_EPOCH` or 0, owners are
0, modes are one of two, and the gzip header has no name and no time.

Most of a build's time goes into compression. Measured on 2 cores with 131 MB of wheels (6,400 files):
level 9, as Python's tarfile compresses, takes 26 s for 46.9 MB; level 6 takes 8 s for 47.1 MB; level 1
takes 2.2 s for 51.8 MB, and 1.3 s with two threads. So it is level 1, in blocks that threads compress
at the same time, and level 6 only where the content is larger than the limit: there the last tenth may
decide. As pigz does, the blocks are joined into one gzip member, which any program reads.
"""

from __future__ import annotations

import os
import struct
import tarfile
import zlib
from collections import Counter, deque
from collections.abc import Generator, Iterable, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from flash_nb.errors import ProjectError

LIMIT = 500 * 1024 * 1024
"""The largest archive that Runpod takes, in bytes as uploaded."""

_BLOCK = 1024 * 1024
_LEAST = 64 * 1024
_SAMPLE = 64 * 1024
_SAMPLES = 512  # about, at most
_FAST, _SMALL = 1, 6
_HEADER = b"\x1f\x8b\x08\0\0\0\0\0\0\xff"  # gzip: deflate, no flags, no time, no extra flags, unknown system
_LAST_BLOCK = b"\x03\0"  # deflate: an empty block that is the last one
_RECORD = tarfile.BLOCKSIZE


@dataclass(frozen=True, order=True)
class Entry:
    """A file of an archive.

    Attributes:
        name: Its path there, with ``/``.
        path: The file with its content.
        owner: The package that it belongs to; empty for the project itself.
    """

    name: str
    path: Path
    owner: str = ""


@dataclass(frozen=True)
class Packed:
    """What a packing gave.

    Attributes:
        size: Bytes of the archive.
        shares: How many of them each owner has.
    """

    size: int
    shares: Mapping[str, int]


class ArchiveTooLargeError(ProjectError):
    """An archive is over its limit."""


def level_for(raw: int, limit: int = LIMIT) -> int:
    """Return how hard to compress so many bytes."""
    return _SMALL if raw > limit else _FAST


def pack(
    entries: Iterable[Entry], target: Path, *, level: int = _FAST, limit: int = LIMIT
) -> Generator[int, None, Packed]:
    """Write an archive; yield how many bytes of content went in since the last time.

    Args:
        entries: The files, in any order.
        target: The file to write; what was there is lost.
        level: Of the compression.
        limit: The most bytes that the archive may have.

    Raises:
        ArchiveTooLargeError: It became larger than the limit; the half of it is removed.
    """
    size, check, length = len(_HEADER), 0, 0
    shares: Counter[str] = Counter()
    done = False
    try:
        with target.open("wb") as file:
            file.write(_HEADER)
            for block in _compressed(_blocks(sorted(entries)), level):
                file.write(block.data)
                size += len(block.data)
                check = zlib.crc32(block.raw, check)
                length += len(block.raw)
                for owner, count in block.owners.items():
                    shares[owner] += round(len(block.data) * count / len(block.raw))
                if size > limit:
                    raise ArchiveTooLargeError(f"The archive would be larger than {limit} bytes.")
                yield len(block.raw)
            end = _LAST_BLOCK + struct.pack("<LL", check, length & 0xFFFFFFFF)
            file.write(end)
            done = True
    finally:
        if not done:
            target.unlink(missing_ok=True)
    return Packed(size + len(end), dict(shares))


def estimate(entries: Iterable[Entry], *, level: int = _SMALL) -> dict[str, int]:
    """Return about how many bytes each owner would have in an archive, from samples at even distances."""
    sizes = [(entry, entry.path.stat().st_size) for entry in entries]
    stride = max(_SAMPLE, sum(size for _, size in sizes) // _SAMPLES)
    lengths: Counter[str] = Counter()
    samples: list[tuple[Entry, int]] = []
    due: Counter[str] = Counter()
    for entry, size in sizes:
        begin = lengths[entry.owner]
        while due[entry.owner] < begin + size:
            samples.append((entry, due[entry.owner] - begin))
            due[entry.owner] += stride
        lengths[entry.owner] += size

    def ratio(sample: tuple[Entry, int]) -> float:
        entry, offset = sample
        with entry.path.open("rb") as file:
            file.seek(offset)
            data = file.read(_SAMPLE)
        return len(zlib.compress(data, level)) / len(data)

    ratios = dict.fromkeys(lengths, 0.0)  # their sums
    counts = Counter(entry.owner for entry, _ in samples)
    with ThreadPoolExecutor(_threads()) as pool:
        for (entry, _), found in zip(samples, pool.map(ratio, samples), strict=True):
            ratios[entry.owner] += found
    return {owner: round(size * ratios[owner] / max(counts[owner], 1)) for owner, size in lengths.items()}


@dataclass(frozen=True, slots=True)
class _Raw:
    data: bytes
    owners: Mapping[str, int]


@dataclass(frozen=True, slots=True)
class _Block:
    raw: bytes
    data: bytes
    owners: Mapping[str, int]


def _compressed(blocks: Iterable[_Raw], level: int) -> Iterator[_Block]:
    """Compress blocks at the same time, a few ahead of who takes them, in their order."""

    def compress(raw: _Raw) -> _Block:
        stream = zlib.compressobj(level, zlib.DEFLATED, -zlib.MAX_WBITS, 9)
        data = stream.compress(raw.data) + stream.flush(zlib.Z_SYNC_FLUSH)  # ends at a whole byte
        return _Block(raw.data, data, raw.owners)

    ahead = 2 * _threads()
    with ThreadPoolExecutor(_threads()) as pool:
        waiting: deque[Future[_Block]] = deque()
        for block in blocks:
            waiting.append(pool.submit(compress, block))
            if len(waiting) > ahead:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()


def _blocks(entries: Iterable[Entry]) -> Iterator[_Raw]:
    """Cut the tar into blocks, where another owner begins or one is full: the content alone decides."""
    gathered, owners = bytearray(), Counter[str]()
    for owner, piece in _pieces(entries):
        view = memoryview(piece)
        if len(gathered) >= _LEAST and owner not in owners:
            yield _Raw(bytes(gathered), owners)
            gathered, owners = bytearray(), Counter()
        while view:
            part = view[: _BLOCK - len(gathered)]
            gathered += part
            owners[owner] += len(part)
            view = view[len(part) :]
            if len(gathered) == _BLOCK:
                yield _Raw(bytes(gathered), owners)
                gathered, owners = bytearray(), Counter()
    if gathered:
        yield _Raw(bytes(gathered), owners)


def _pieces(entries: Iterable[Entry]) -> Iterator[tuple[str, bytes]]:
    moment = int(os.environ.get("SOURCE_DATE_EPOCH", "0"))
    for entry in entries:
        with entry.path.open("rb") as file:
            status = os.fstat(file.fileno())
            yield entry.owner, _head(entry.name, status, moment)
            left = status.st_size
            while left:
                piece = file.read(min(_BLOCK, left))
                if not piece:
                    raise ProjectError(f"{entry.path} was changed while it was packed.", hint="Build again.")
                left -= len(piece)
                yield entry.owner, piece
            if rest := -status.st_size % _RECORD:
                yield entry.owner, bytes(rest)
    yield "", bytes(2 * _RECORD)


def _head(name: str, status: os.stat_result, moment: int) -> bytes:
    head = tarfile.TarInfo(name)
    head.size, head.mtime = status.st_size, moment
    head.mode = 0o755 if status.st_mode & 0o100 else 0o644
    return head.tobuf(tarfile.PAX_FORMAT, "utf-8", "surrogateescape")


def _threads() -> int:
    return min(8, os.cpu_count() or 1)
