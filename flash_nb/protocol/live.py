"""Our jobs in Flash's own words: any Runpod worker that takes a *FunctionRequest* runs them.

The request's ``function_code`` is `flash_nb.worker.guest`, and its arguments bring the island and the job
as it travels on our channel; so the worker needs nothing of ours, and the notebook sees no difference.
The worker installs the dependencies, as for any request. Pickled code never travels: the arguments are
plain bytes, so the two Pythons need not be the same.

What comes back is a *FunctionResponse* whose result is a frame again: the result, all events, the values.
Where the worker has a progress channel, events come before that too: see `events_of` and `Ordered`.
"""

from __future__ import annotations

import base64
import functools
import hashlib
import io
import json
import pickle
import zlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple, NoReturn

import flash_nb.worker
from flash_nb.worker import frames
from flash_nb.worker.frames import Buffer, FrameReader, Header
from flash_nb.worker.progress import KEY

Numbered = tuple[int, dict[str, Any]]

PICKLE_PROTOCOL = 4  # every Python that a worker may run reads it
_NOT_TRAVELLING = frozenset({"__main__.py", "asgi.py", "channel.py", "guest.py", "lifespan.py"})


class Outcome(NamedTuple):
    """What a job ended with: its result as `flash_nb.worker.execution` makes it, and all its events."""

    header: Header
    buffers: Sequence[Buffer]
    events: Sequence[Numbered]


def function_request(
    request: Mapping[str, Any],
    buffers: Sequence[Buffer],
    *,
    requirements: Iterable[str] = (),
    system: Iterable[str] = (),
    accelerate: bool = True,
    released: Iterable[str] = (),
) -> dict[str, Any]:
    """Return the *FunctionRequest* of a job; it is the ``input`` of Runpod's job.

    Field by field it is what the official SDK sends for a function, defaults included.

    Args:
        request: A `flash_nb.protocol.channel.Request`.
        buffers: Its values.
        requirements: Python packages that the worker is to install, as PEP 508 strings.
        system: Operating system packages that it is to install.
        accelerate: It may download them at the same time.
        released: Remote objects that it is to forget.
    """
    digest, island = _island()
    job = frames.encode({"released": [*released]}, [json.dumps(request).encode(), *buffers])
    found: dict[str, Any] = {
        "function_name": "run",
        "function_code": _source("guest.py"),
        "args": [_pickled(digest), island, _pickled(job)],
        "kwargs": {},
        "execution_type": "function",
        "constructor_args": [],
        "constructor_kwargs": {},
        "method_name": "__call__",
        "create_new_instance": True,
        "accelerate_downloads": accelerate,
    }
    for name, packages in (("dependencies", requirements), ("system_dependencies", system)):
        if listed := sorted(packages):
            found[name] = listed
    if request.get("instance") is not None:
        found |= {"instance_id": request["instance"], "create_new_instance": False}
    return found


def result_of(response: object) -> Outcome:
    """Return what a *FunctionResponse* says; what it fails with is a result too.

    What is printed where it did not reach us as events is an event of its own.
    """
    if not isinstance(response, Mapping) or "success" not in response:
        return failure_of(
            "the worker's handler does not take Flash's function requests: "
            f"it answered {_shorten(repr(response))}"
        )
    if response["success"]:
        try:
            return _unpacked(response.get("result"))
        except Exception as error:  # noqa: BLE001 - whatever is in there, it is not ours
            return failure_of(f"the worker's answer cannot be read: {type(error).__name__}: {error}")
    printed = response.get("stdout")
    events = [(0, {"type": "stream", "name": "stderr", "text": str(printed)})] if printed else []
    reason = response.get("error") or response.get("result") or "it does not say why"
    return failure_of(f"the worker could not run the job: {reason}")._replace(events=events)


def failure_of(text: str, kind: str = "") -> Outcome:
    """Return the result of a job that failed outside its own code, or in code that is not ours.

    Args:
        text: What is known: a message, and perhaps a traceback below it.
        kind: The exception's type; empty: it has none.
    """
    message, _, rest = text.partition("\n")
    kind = kind or "WorkerError"
    entry = {"type": kind, "message": message, "frames": [], "link": "", "buffers": 1}
    error = {"type": kind, "message": message, "text": rest or text, "chain": [entry]}
    header = {"ok": False, "error": error, "namespace": [], "counts": [0, 1]}
    return Outcome(header, [pickle.dumps(None, PICKLE_PROTOCOL)], ())  # no exception to be had


def events_of(output: object) -> Sequence[Numbered] | None:
    """Return the events in a progress value; None if it is not one of ours."""
    ours = output.get(KEY) if isinstance(output, Mapping) else None
    if not isinstance(ours, Mapping):
        return None
    return [(number, event) for number, event in ours["events"]]


class Ordered:
    """Puts events in order that come in any order, late, and more than once."""

    def __init__(self) -> None:
        self._next = 0
        self._early: dict[int, dict[str, Any]] = {}

    def add(self, events: Iterable[Numbered]) -> Iterator[Numbered]:
        """Take events; yield those whose turn it is, each once."""
        for number, event in events:
            if number >= self._next:
                self._early[number] = event
        while self._next in self._early:
            yield self._next, self._early.pop(self._next)
            self._next += 1

    def end(self, events: Iterable[Numbered]) -> Iterator[Numbered]:
        """Take the last events; yield all that were not yielded yet: what is missing now never comes."""
        yield from self.add(events)
        rest, self._early = sorted(self._early.items()), {}
        for number, event in rest:
            self._next = number + 1
            yield number, event


def _unpacked(result: object) -> Outcome:
    if not isinstance(result, str):
        raise TypeError("it holds no result")
    data = _PlainUnpickler(io.BytesIO(base64.b64decode(result))).load()
    if not data:
        return failure_of("the job was interrupted")
    ((_, (header, events, *values)),) = FrameReader().feed(data)
    numbered = [(number, event) for number, event in json.loads(zlib.decompress(events))]
    return Outcome(json.loads(bytes(header)), values, numbered)


class _PlainUnpickler(pickle.Unpickler):
    """Loads plain data only: what a worker sends is executed nowhere but in the user's own kernel."""

    def find_class(self, module: str, name: str) -> NoReturn:
        raise pickle.UnpicklingError(f"it names {module}.{name}")


def _pickled(value: object) -> str:
    return base64.b64encode(pickle.dumps(value, PICKLE_PROTOCOL)).decode("ascii")


def _source(name: str) -> str:
    return (Path(flash_nb.worker.__file__).parent / name).read_text(encoding="utf-8")


@functools.cache
def _island() -> tuple[str, str]:
    """Return the island's digest, and its modules as they travel: made once, they never change."""
    folder = Path(flash_nb.worker.__file__).parent
    modules = {
        file.name: _source(file.name)
        for file in sorted(folder.glob("*.py"))
        if file.name not in _NOT_TRAVELLING
    }
    text = json.dumps(modules).encode()
    return hashlib.sha256(text).hexdigest()[:16], _pickled(zlib.compress(text, 9))


def _shorten(text: str, limit: int = 200) -> str:
    return text if len(text) <= limit else f"{text[: limit - 1]}…"
