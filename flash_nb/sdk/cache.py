"""The cache: results of cells that ran, found again by a key.

One file for each result, in a folder of the user's. The key says all that the result may depend on, and
it is the file's name; whoever asks makes it (`flash_nb.notebook.cell_cache`). A file is a line that
says what it is, a digest of the rest, and one frame (`flash_nb.worker.frames`): a JSON header, and the
values as the worker sent them.

These values are pickles, and reading one may run code. What makes that safe is not what is in them but
who could write them: they are what the user's own cell brought back, and would be unpickled all the same
had it run again. So nothing is read from a folder or a file that belongs to somebody else or that others
may write to. It is not state either: a result that is lost, or that a newer version cannot read, is only
computed again, and no other part of the package is ever kept like this.

Several kernels may use one folder. Files are written beside their name and moved there; the results
used longest ago go when the folder grows over its limit.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import secrets
import stat
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from flash_nb.jobs import ClearEvent, DisplayEvent, StreamEvent
from flash_nb.worker import frames
from flash_nb.worker.frames import Buffer

LIMIT_BYTES = 2_000_000_000
MAX_RESULT_BYTES = 500_000_000
STALE_S = 3600.0  # a file that is still being written is younger

Shown = StreamEvent | DisplayEvent | ClearEvent

_MAGIC = b"flash_nb result 1\n"
_DIGEST_BYTES = 32
_SUFFIX = ".result"
_SHOWN: dict[str, type[Shown]] = {"stream": StreamEvent, "display": DisplayEvent, "clear": ClearEvent}
_KINDS = {kind: name for name, kind in _SHOWN.items()}


class CacheError(Exception):
    """A result cannot be kept, or may not be read; the text says why, without naming a path."""


@dataclass(frozen=True)
class Kept:
    """A result with all that is needed to have it again.

    Attributes:
        label: What ran, for people.
        resource: The name of the resource it ran on.
        created: When it was there, in POSIX seconds.
        run_s: Seconds that it took on the worker.
        cost: What that cost, for people; empty where no price is known.
        shown: What it printed and displayed, in order.
        result: What `flash_nb.worker.execution` answered.
        buffers: The values of it.
    """

    label: str
    resource: str
    created: float
    run_s: float
    cost: str
    shown: Sequence[Shown]
    result: dict[str, Any]
    buffers: Sequence[Buffer] = field(repr=False)


@dataclass(frozen=True)
class Usage:
    """How many results there are, and the bytes of their files together."""

    results: int
    bytes: int


class ResultCache:
    """The results in one folder.

    Args:
        folder: Where they are; made when the first one is kept.
        say: Takes a sentence that the user should read.
        limit_bytes: How large the folder may grow.
    """

    def __init__(self, folder: Path, *, say: Callable[[str], object], limit_bytes: int = LIMIT_BYTES) -> None:
        self._folder = folder
        self._say = say
        self._limit_bytes = limit_bytes

    def get(self, key: str) -> Kept | None:
        """Return a result, and note that it was used; None if there is none that can be read.

        Raises:
            CacheError: Others may have written it.
        """
        file = self._file(key)
        try:
            self._check_folder()
            data = self._read(file)
        except FileNotFoundError:
            return None
        except OSError as error:
            raise CacheError(error.strerror or str(error)) from error
        kept = _decoded(data)
        if kept is None:
            self._say(f"the result {key[:12]} in the cache was damaged: it is deleted, and the cell runs")
            file.unlink(missing_ok=True)
            return None
        with contextlib.suppress(FileNotFoundError):  # another kernel may have cleared the cache
            os.utime(file)
        return kept

    def put(self, key: str, kept: Kept) -> int:
        """Keep a result, in place of the one that has its key; return the bytes of its file.

        Raises:
            CacheError: It is too large, it cannot be written, or the folder is not the user's alone.
        """
        size = frames.size_of(kept.buffers)
        if size > min(MAX_RESULT_BYTES, self._limit_bytes):
            raise CacheError(f"it has {size / 1e6:,.0f} MB, which is too large")
        data = _encoded(kept)
        try:
            self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            self._check_folder()
            self._write(self._file(key), data)
        except OSError as error:
            raise CacheError(error.strerror or str(error)) from error
        self._trim()
        return len(data)

    def usage(self) -> Usage:
        """Return how much is kept."""
        sizes = [found.st_size for _, found in self._files()]
        return Usage(len(sizes), sum(sizes))

    def clear(self) -> Usage:
        """Delete all results; return what is gone."""
        gone = [(file, found.st_size) for file, found in self._files()]
        for file, _ in gone:
            file.unlink(missing_ok=True)
        return Usage(len(gone), sum(size for _, size in gone))

    # --- files --------------------------------------------------------------------------------

    def _file(self, key: str) -> Path:
        return self._folder / f"{key}{_SUFFIX}"

    def _check_folder(self) -> None:
        found = self._folder.lstat()
        if not stat.S_ISDIR(found.st_mode):
            raise CacheError("the cache is not a folder")
        _check_owner(found)

    @staticmethod
    def _read(file: Path) -> bytes:
        descriptor = os.open(file, os.O_RDONLY | os.O_NOFOLLOW)
        with os.fdopen(descriptor, "rb") as opened:
            _check_owner(os.fstat(descriptor))
            return opened.read()

    @staticmethod
    def _write(file: Path, data: bytes) -> None:
        beside = file.with_name(f"{secrets.token_hex(8)}.part")
        descriptor = os.open(beside, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        try:
            with os.fdopen(descriptor, "wb") as opened:
                opened.write(data)
            beside.replace(file)
        except BaseException:
            beside.unlink(missing_ok=True)
            raise

    def _files(self, suffix: str = _SUFFIX) -> Iterator[tuple[Path, os.stat_result]]:
        for file in [*self._folder.glob(f"*{suffix}")] if self._folder.is_dir() else []:
            with contextlib.suppress(FileNotFoundError):  # another kernel is faster
                yield file, file.lstat()

    def _trim(self) -> None:
        """Delete the results used longest ago, and what a kernel left half written."""
        oldest_first = sorted(self._files(), key=lambda pair: pair[1].st_mtime_ns)
        size = sum(found.st_size for _, found in oldest_first)
        for file, found in oldest_first:
            if size <= self._limit_bytes:
                break
            file.unlink(missing_ok=True)
            size -= found.st_size
        for file, found in self._files(".part"):
            if found.st_mtime < time.time() - STALE_S:
                file.unlink(missing_ok=True)


def _check_owner(found: os.stat_result) -> None:
    """Refuse what somebody else could have written.

    Raises:
        CacheError: It is not the user's, or others may write to it.
    """
    if found.st_uid != os.getuid():
        raise CacheError("the cache belongs to another user")
    if found.st_mode & (stat.S_IWGRP | stat.S_IWOTH):
        raise CacheError("others may write to the cache: `flash cache` says where it is, chmod go-w helps")


def _encoded(kept: Kept) -> bytes:
    header = {
        "label": kept.label,
        "resource": kept.resource,
        "created": kept.created,
        "run_s": kept.run_s,
        "cost": kept.cost,
        "shown": [{"type": _KINDS[type(event)], **asdict(event)} for event in kept.shown],
        "result": kept.result,
    }
    frame = frames.encode(header, kept.buffers)
    return b"".join((_MAGIC, hashlib.sha256(frame).digest(), frame))


def _decoded(data: bytes) -> Kept | None:
    """Return the result in a file; None if it is not what was written."""
    start = len(_MAGIC) + _DIGEST_BYTES
    frame = memoryview(data)[start:]
    if data[:start] != _MAGIC + hashlib.sha256(frame).digest():
        return None
    # What has this digest was written by this version of the format: it is as it should be.
    ((header, buffers),) = frames.FrameReader().feed(frame)
    shown = []
    for event in header.pop("shown"):
        kind = _SHOWN[event.pop("type")]
        shown.append(kind(**event))
    return Kept(**header, shown=tuple(shown), buffers=tuple(buffers))
