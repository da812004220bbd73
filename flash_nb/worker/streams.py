"""Standard streams: everything that a job writes becomes events, in order.

Two ways lead to one queue, which one *reader* thread empties into `Emit`:

* ``sys.stdout`` and ``sys.stderr`` are replaced, so that text written by Python keeps its order.
* File descriptors 1 and 2 become pipes, so that C code and child processes are seen too.

Python's order is exact. A descriptor's text is put before the Python text that has not been flushed
yet, as unflushed standard streams do it: ``print("a", flush=True); os.system("echo b"); print("c")``
comes as a, b, c.

Why a thread and not a ``poll()`` that the IO thread calls: text must leave while the main thread
computes, with two different rhythms, and a pipe must be emptied while C code fills it, or that code
waits for ever. The IO thread would need our descriptors, our timer and our lock; here they stay inside.

From the first text of a job to its end the reader looks again every `QUIET` or `FLOW` seconds instead
of being woken. So a ``print`` of the job's own thread is an append to a list: no lock, no wake-up.
Nothing is lost, because only that thread appends, and only that thread opens and closes a job.

Known limits: code that writes more than a pipe holds (1 MB on Linux, 64 KB elsewhere) without
releasing the GIL stops the process; a child process left behind by a job writes into the next one.
"""

from __future__ import annotations

import codecs
import contextlib
import fcntl
import io
import os
import re
import select
import sys
import threading
import time
from collections.abc import Callable, Iterable, Sequence
from threading import get_ident
from typing import Any, Final, Literal, NoReturn, TextIO, cast

Emit = Callable[[dict[str, Any], Sequence[bytes]], None]
Name = Literal["stdout", "stderr"]

QUIET: Final = 0.012  # seconds that the first text after a silence waits for more
FLOW: Final = 0.050  # seconds between events while text keeps coming
CHUNK: Final = 65_536  # characters of one event: at most 256 KiB of UTF-8
MAX_BYTES: Final = 10_000_000

_PIPE_BYTES: Final = 1_048_576
_READ_BYTES: Final = 65_536
_LONG: Final = 256  # characters; with _MANY this bounds what waits outside the lock
_MANY: Final = 4096
_ERRORS: Final = "backslashreplace"  # a lone surrogate must not make print() fail

_NO_INPUT: Final = (
    "A remote cell cannot ask for input: input() and sys.stdin are empty on a worker. "
    "Ask in a local cell and use the variable in the remote one."
)


class StreamCapture:
    """The standard streams of this process, installed once for its whole life.

    Descriptor 0 becomes ``/dev/null``: children of a job must not read what the worker was given there.

    Args:
        max_bytes: UTF-8 bytes of text that one job may send; the rest is only counted.
        log_fd: Where output outside any job goes; by default the original stderr.
        is_foreign: Says of a thread that what it prints belongs to no job, whatever it was started by.

    Attributes:
        log_fd: The same, for whoever has something to log (``faulthandler`` should: what a dying
            process writes to descriptor 2 dies in the pipe).
    """

    def __init__(
        self,
        *,
        max_bytes: int = MAX_BYTES,
        log_fd: int | None = None,
        is_foreign: Callable[[threading.Thread], bool] = lambda _: False,
    ) -> None:
        self._max_bytes = max_bytes
        self._is_foreign = is_foreign
        self._given_log_fd = log_fd
        self.log_fd = -1
        # Reentrant: a signal handler or a __del__ may print while its thread holds the lock.
        self._lock = threading.RLock()
        self._emit: Emit | None = None
        self._owner = 0
        self._leftovers: frozenset[threading.Thread] = frozenset()
        self._pending: list[str] = []  # text of the owner, not under the lock
        self._pending_name: Name = "stdout"
        self._runs: list[tuple[Name, list[str]]] = []
        self._size = 0
        self._sent_bytes = 0
        self._dropped_bytes = 0
        self._sent_at = 0.0
        self._ticking = False
        self._closed = True
        self._fflush: Callable[[None], object] | None = None

    def __enter__(self) -> StreamCapture:  # noqa: PYI034 - Self is newer than Python 3.10
        self.install()
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def install(self) -> None:
        """Take over the streams and the descriptors, and start the reader."""
        self._saved_streams = sys.stdin, sys.stdout, sys.stderr
        for stream in (sys.stdout, sys.stderr, sys.__stdout__):
            _make_unbuffered(stream)
        self._saved_fds = os.dup(0), os.dup(1), os.dup(2)
        _redirect(os.open(os.devnull, os.O_RDONLY), 0)
        self.log_fd = self._saved_fds[2] if self._given_log_fd is None else self._given_log_fd
        self._taps = _Tap("stdout", 1), _Tap("stderr", 2)
        self._streams = _Stream(self, "stdout", 1), _Stream(self, "stderr", 2)
        self._wake_reader, self._waker = os.pipe()
        os.set_blocking(self._wake_reader, False)
        os.set_blocking(self._waker, False)
        sys.stdin = cast("TextIO", _NoInput())
        sys.stdout, sys.stderr = (cast("TextIO", stream) for stream in self._streams)
        self._closed = False
        os.register_at_fork(after_in_child=self._after_fork)
        self._reader = threading.Thread(target=self._read, name="flash-streams", daemon=True)
        self._reader.start()

    def close(self) -> None:
        """Give everything back. Text that is still in the pipes goes to the log."""
        self.end()
        self._closed = True
        os.write(self._waker, b".")
        self._reader.join()
        sys.stdin, sys.stdout, sys.stderr = self._saved_streams
        for fd, saved in enumerate(self._saved_fds):
            os.dup2(saved, fd)
        with self._lock:
            self._drain()
            if self._given_log_fd is None:
                self.log_fd = 2  # for whoever still holds one of our streams
        for fd in (self._wake_reader, self._waker, *self._saved_fds, *(tap.reader for tap in self._taps)):
            os.close(fd)

    def begin(self, emit: Emit) -> None:
        """Open a job of the calling thread: from now on its output goes to `emit`."""
        with self._lock:
            self._drain()  # what came since the last job belongs to none
            self._sent_bytes = self._dropped_bytes = 0
            self._owner = get_ident()
            # Objects, not idents: the system gives the ident of a finished thread to a new one.
            self._leftovers = frozenset(threading.enumerate())
            self._emit = emit

    def end(self) -> None:
        """Send everything that the job has written, and close it."""
        self._flush_c()
        with self._lock:
            self._ticking = False
            for stream in self._streams:
                stream.owner = 0
            if self._emit is None:
                return
            self._finish()
            self._emit = None

    def _finish(self) -> None:
        self.gather()
        for source in (*self._taps, *self._streams):  # a character that was never completed
            self._add(source.channel, source.decoder.decode(b"", final=True))
        self._send()
        if self._dropped_bytes:
            self._notice(f"{self._dropped_bytes / 1e6:,.1f} MB of further output were dropped.")

    def flush(self) -> None:
        """Send what has been written until now, so that the next event comes after it."""
        with self._lock:
            self.gather()
            self._send()

    def gather(self) -> None:
        """Fix the order of what has been written until now, without sending it."""
        with self._lock:
            if not self._closed:  # logging flushes the stream that it knows at the very end
                self._drain()
                self._take_pending()

    def owns_thread(self) -> bool:
        """Say whether the calling thread belongs to the open job, and not to an earlier one."""
        if self._emit is None:
            return False
        if get_ident() == self._owner:
            return True
        thread = threading.current_thread()
        return thread not in self._leftovers and not self._is_foreign(thread)

    def write(self, stream: _Stream, text: str) -> None:
        """Take text that cannot go the short way: see `_Stream.write`."""
        with self._lock:
            if not self.owns_thread():
                self._log(text)
                return
            self._take_pending()
            self._add(stream.channel, text)
            if get_ident() == self._owner:
                self._pending_name = stream.channel
                for each in self._streams:
                    each.owner = self._owner if each is stream else 0
            if not self._ticking:
                self._ticking = True
                with contextlib.suppress(BlockingIOError):  # full of wake-ups already
                    os.write(self._waker, b".")

    def _read(self) -> None:
        """Run the reader thread: wait for text, let a little more of it come, send it."""
        sources = [self._wake_reader, *(tap.reader for tap in self._taps)]
        while not self._closed:
            if not self._ticking:
                select.select(sources, (), ())
                with contextlib.suppress(BlockingIOError):
                    os.read(self._wake_reader, 64)
            if not self._closed:
                time.sleep(max(QUIET, self._sent_at + FLOW - time.monotonic()))
            self.flush()

    def _drain(self) -> None:
        """Queue what the pipes hold. Each is read once over at most: its writer may be endless."""
        for tap in self._taps:
            for _ in range(_PIPE_BYTES // _READ_BYTES):
                try:
                    data = os.read(tap.reader, _READ_BYTES)
                except BlockingIOError:
                    break
                self._add(tap.channel, tap.decoder.decode(data))

    def _take_pending(self) -> None:
        # The owner may append meanwhile, without the lock: cut off exactly what was joined.
        count = len(self._pending)
        if count:
            text = "".join(self._pending[:count])
            del self._pending[:count]
            self._add(self._pending_name, text)

    def _add(self, name: Name, text: str) -> None:
        if not text:
            return
        if self._emit is None:
            self._log(text)
            return
        if self._runs and self._runs[-1][0] == name:
            self._runs[-1][1].append(text)
        else:
            self._runs.append((name, [text]))
        self._size += len(text)
        if self._size > CHUNK:
            self._shrink()

    def _shrink(self) -> None:
        """Make room: a fast progress bar collapses to its last state, other text is sent."""
        self._runs = [(name, [collapse("".join(parts))]) for name, parts in self._runs]
        self._size = sum(len(parts[0]) for _, parts in self._runs)
        if self._size > CHUNK // 2:
            self._send()

    def _send(self) -> None:
        if not self._runs:
            return
        runs, self._runs, self._size = self._runs, [], 0
        self._sent_at = time.monotonic()
        for name, parts in runs:
            self._send_text(name, collapse("".join(parts)))

    def _send_text(self, name: Name, text: str) -> None:
        data = text.encode("utf-8", _ERRORS)
        room = self._max_bytes - self._sent_bytes
        kept = data[:room]
        self._sent_bytes += len(kept)
        self._emit_text(name, kept.decode("utf-8", "ignore"))
        if len(data) > room:
            if not self._dropped_bytes:
                self._notice(
                    f"This job has written {self._max_bytes / 1e6:g} MB of text; "
                    "what follows is not sent to the notebook. Write long output to a file."
                )
            self._dropped_bytes += len(data) - len(kept)

    def _notice(self, text: str) -> None:
        self._emit_text("stderr", f"\n[flash_nb] {text}\n")

    def _emit_text(self, name: Name, text: str) -> None:
        if self._emit is None:
            return
        try:
            for start in range(0, len(text), CHUNK):
                self._emit({"type": "stream", "name": name, "text": text[start : start + CHUNK]}, ())
        except Exception as error:  # noqa: BLE001 - a lost connection is not an error of print()
            self._log(f"output lost: {error!r}\n")

    def _log(self, text: str) -> None:
        data = text.encode("utf-8", _ERRORS)
        with contextlib.suppress(OSError):  # nobody reads the log: nobody can be told
            while data:
                data = data[os.write(self.log_fd, data) :]

    def _flush_c(self) -> None:
        """Push out what C code has printed: into a pipe, C's stdout is block-buffered.

        ctypes is not loaded for it (5 ms); numpy and torch, whose code prints, load it themselves.
        Not under the lock: the reader must be able to make room in the pipe.
        """
        if self._fflush is None:
            cdll = getattr(sys.modules.get("ctypes"), "CDLL", None)
            if cdll is None:
                return
            self._fflush = cdll(None).fflush
        assert self._fflush is not None
        self._fflush(None)

    def _after_fork(self) -> None:
        """Let a forked child write to the pipes itself: it has no reader, and must not emit."""
        if self._closed:
            return
        self._lock = threading.RLock()  # another thread of the parent may have held it
        self._emit = None
        self._pending.clear()
        self._runs.clear()
        for stream in self._streams:
            stream.become_direct()


class _Tap:
    """A file descriptor whose output is read through a pipe."""

    def __init__(self, channel: Name, fd: int) -> None:
        self.channel = channel
        self.decoder = _decoder()
        self.reader, writer = os.pipe()
        os.set_blocking(self.reader, False)
        if hasattr(fcntl, "F_SETPIPE_SZ"):
            with contextlib.suppress(OSError):  # over the limit of this user
                fcntl.fcntl(writer, fcntl.F_SETPIPE_SZ, _PIPE_BYTES)
        _redirect(writer, fd)


class _Stream(io.TextIOBase):
    """``sys.stdout`` or ``sys.stderr`` of a worker.

    Attributes:
        owner: The thread that may append to the pending text without the lock, or 0.
        channel: The name that its events have.
        decoder: Turns what is written to `buffer` into text.
    """

    __slots__ = ("_pending", "owner")  # a slot is read faster: this takes a tenth off a flood of prints

    encoding = "utf-8"
    errors = _ERRORS
    mode = "w"

    def __init__(self, capture: StreamCapture, channel: Name, fd: int) -> None:
        self.name = f"<{channel}>"
        self.channel = channel
        self.owner = 0
        self.decoder = _decoder()
        self.buffer = _Bytes(self)
        self._capture = capture
        self._pending = capture._pending
        self._fd = fd
        self._direct: TextIO | None = None

    def write(self, text: str, /) -> int:
        # A million prints come here twice each: look at nothing that is not needed.
        if self.owner == get_ident() and text.__class__ is str:
            pending = self._pending
            pending.append(text)
            size = len(text)
            if size > _LONG or len(pending) > _MANY:
                self._capture.gather()
            return size
        if not isinstance(text, str):
            raise TypeError(f"write() argument must be str, not {type(text).__name__}")
        if self._direct is not None:
            return self._direct.write(text)
        self._capture.write(self, text)
        return len(text)

    def writelines(self, lines: Iterable[str], /) -> None:  # type: ignore[override]  # as TextIO has it
        for line in lines:
            self.write(line)

    def flush(self) -> None:
        """Order this text before what child processes write next. It is sent soon, not now.

        ``logging`` flushes after every record: an event for each would be a flood.
        """
        if self._direct is not None:
            self._direct.flush()
        else:
            self._capture.gather()

    def close(self) -> None:
        """Only flush: the stream serves the next job too."""
        self.flush()

    def reconfigure(self, **_: object) -> None:
        """Accept what scripts ask of a standard stream; it is line-buffered UTF-8 or better anyway."""

    def fileno(self) -> int:
        return self._fd

    def isatty(self) -> bool:
        return False

    def writable(self) -> bool:
        return True

    def become_direct(self) -> None:
        """Write to the descriptor from now on."""
        self.owner = 0
        # The decoder may hold half a character of the parent.
        self.decoder = _decoder()
        file = io.FileIO(self._fd, "w", closefd=False)
        self._direct = io.TextIOWrapper(
            io.BufferedWriter(file), encoding="utf-8", errors=_ERRORS, line_buffering=True
        )


class _Bytes(io.RawIOBase):
    """The ``buffer`` of a stream: bytes that are text in UTF-8."""

    def __init__(self, stream: _Stream) -> None:
        self._stream = stream

    def write(self, data: Any, /) -> int:
        raw = bytes(data)
        self._stream.write(self._stream.decoder.decode(raw))
        return len(raw)

    def flush(self) -> None:
        self._stream.flush()

    def close(self) -> None:
        self.flush()

    def fileno(self) -> int:
        return self._stream.fileno()

    def writable(self) -> bool:
        return True


class _NoInput(io.TextIOBase):
    """``sys.stdin`` of a worker: whoever reads it is told why there is nothing."""

    name = "<stdin>"
    encoding = "utf-8"
    errors = "strict"
    mode = "r"

    def read(self, size: int | None = -1, /) -> NoReturn:  # noqa: ARG002 - the signature of a stream
        raise EOFError(_NO_INPUT)

    def readline(self, size: int = -1, /) -> NoReturn:  # type: ignore[override]  # noqa: ARG002
        raise EOFError(_NO_INPUT)

    def fileno(self) -> int:
        return 0

    def isatty(self) -> bool:
        return False

    def readable(self) -> bool:
        return True


def collapse(text: str) -> str:
    r"""Drop what carriage returns overwrite, where no reader can tell the difference.

    ``"10%\r20%\r30%"`` on a line of its own is ``"30%"``. A piece is dropped only if a later one of the
    same line is as long and both consist of characters of one column each; so escape sequences, tabs
    and wide characters are never touched, nor is the line that an earlier event has begun.
    """
    if "\r" not in text:
        return text
    first, *rest = text.split("\n")
    return "\n".join([_collapse_line(first, known_start=False), *(_collapse_line(line) for line in rest)])


# ASCII, Latin, and what progress bars and spinners are drawn with.
_ONE_COLUMN_EACH = re.compile("[ -~\u00ae-\u02ff\u2500-\u25ff\u2800-\u28ff]*")


def _collapse_line(line: str, *, known_start: bool = True) -> str:
    pieces = line.split("\r")
    kept = [pieces.pop()]  # the last one is where the cursor stays, even if it is empty
    covered = len(kept[0]) if _ONE_COLUMN_EACH.fullmatch(kept[0]) else 0
    while pieces:
        piece = pieces.pop()
        plain = _ONE_COLUMN_EACH.fullmatch(piece) is not None
        if plain and len(piece) <= covered and (pieces or known_start):
            continue
        kept.append(piece)
        # An escape sequence may move the cursor: what follows it covers nothing before it.
        covered = len(piece) if plain else 0
    return "\r".join(reversed(kept))


def _decoder() -> codecs.IncrementalDecoder:
    return codecs.getincrementaldecoder("utf-8")("replace")


def _redirect(source: int, fd: int) -> None:
    os.dup2(source, fd)
    os.close(source)


def _make_unbuffered(stream: TextIO | None) -> None:
    """Let nothing wait inside a stream that we replace: some code keeps it (``sys.__stdout__``)."""
    if isinstance(stream, io.TextIOWrapper):
        stream.reconfigure(write_through=True, line_buffering=True)
