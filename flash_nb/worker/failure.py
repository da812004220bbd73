"""An exception as plain data: its chain, its frames, and itself where pickle can carry it.

The other side rebuilds real exceptions with real tracebacks, so that a notebook shows the failing
line of the cell as if it had run there.
"""

from __future__ import annotations

import types
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import Any

from .codec import EncodeError, Portable, encode
from .frames import Buffer
from .raised import formatted, message, type_of

MAX_CHAIN = 8
_ISLAND = str(Path(__file__).parent)


def describe(error: BaseException, portable: Portable) -> tuple[dict[str, Any], list[Buffer]]:
    """Return the error as a JSON object and the buffers with its pickles.

    The object has ``type``, ``message``, ``text`` (the formatted traceback) and ``chain``: one
    entry an exception, the raised one first, each with ``frames`` (see `_frames`), ``link``
    ("cause" or "context": how the one before refers to it) and ``buffers`` (how many hold its
    pickle; 0 if it cannot be pickled).
    """
    buffers: list[Buffer] = []
    chain = []
    for link, item in _chain(error):
        pickled = _pickle(item, portable)
        buffers += pickled
        chain.append(
            {
                "type": type_of(item),
                "message": message(item),
                "frames": _frames(item.__traceback__),
                "link": link,
                "buffers": len(pickled),
            }
        )
    described = {
        "type": chain[0]["type"],
        "message": chain[0]["message"],
        "text": formatted(error),
        "chain": chain,
    }
    return described, buffers


def sentence(result: dict[str, Any]) -> str | None:
    """Return in one sentence what went wrong, from the header of a result; None if nothing did."""
    if result["ok"]:
        return None
    error = result["error"]
    return f"{error['type']}: {error['message']}" if error else "interrupted"


def _chain(error: BaseException) -> Iterator[tuple[str, BaseException]]:
    link = ""
    current: BaseException | None = error
    seen: set[int] = set()
    while current is not None and id(current) not in seen and len(seen) < MAX_CHAIN:
        seen.add(id(current))
        yield link, current
        if current.__cause__ is not None:
            link, current = "cause", current.__cause__
        elif current.__context__ is not None and not current.__suppress_context__:
            link, current = "context", current.__context__
        else:
            return


def _pickle(error: BaseException, portable: Portable) -> list[Buffer]:
    try:
        return encode(error, portable)
    except EncodeError:
        return []


def _frames(trace: types.TracebackType | None) -> list[dict[str, Any]]:
    """Return where each frame stands: ``span`` is (line, last line, column, last column)."""
    frames = []
    while trace is not None:
        code = trace.tb_frame.f_code
        if not code.co_filename.startswith(_ISLAND):
            frames.append(
                {
                    "file": code.co_filename,
                    "function": code.co_name,
                    "first_line": code.co_firstlineno,
                    "span": _span(trace),
                }
            )
        trace = trace.tb_next
    return frames


def _span(trace: types.TracebackType) -> tuple[int, int, int, int]:
    code, line = trace.tb_frame.f_code, trace.tb_lineno
    if hasattr(code, "co_positions"):  # since Python 3.11
        where = next(islice(code.co_positions(), trace.tb_lasti // 2, None), (None,) * 4)
        first, last, start, end = where
        if first is not None and last is not None and start is not None and end is not None:
            return first, last, start, end
    return line, line, 0, 0
