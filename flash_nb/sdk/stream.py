"""The items of a generator, one by one as it yields them.

`Stream` follows a job, `StreamHere` a generator of this process. Both are for ``async for`` and, where
no event loop must go on meanwhile, for ``for``.
"""

from __future__ import annotations

import asyncio
import inspect
import weakref
from collections.abc import AsyncGenerator, Generator
from typing import TYPE_CHECKING, Any

from flash_nb.errors import BackendError, SerializationError
from flash_nb.loop import settled, wait
from flash_nb.worker.codec import decode

if TYPE_CHECKING:
    from flash_nb.sdk.job import Job


class _Closing:
    """What both have in common: leaving a ``with`` block closes them."""

    def close(self) -> None:
        raise NotImplementedError

    async def aclose(self) -> None:
        """Close it, from a coroutine."""
        self.close()

    def __enter__(self) -> Any:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    async def __aenter__(self) -> Any:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.aclose()


class Stream(_Closing):
    """The items of a job, from the first one on, also if it runs or ran before.

    What the remote code raises is raised after the items that it had yielded. A job that runs again
    because its worker died yields from the start; items that were given are not given twice.

    Args:
        job: Whose.
        owned: Nobody else has the job: it is cancelled when the stream is closed, dropped (a loop that
            was left by ``break``) or interrupted.
    """

    def __init__(self, job: Job, *, owned: bool) -> None:
        self.job = job
        self._position = 0
        self._closed = False
        self._drop = weakref.finalize(self, job.cancel if owned else _leave)
        self._drop.atexit = False  # a job outlives its kernel

    def close(self) -> None:
        """Stop: there are no further items, and a job that only this stream follows is cancelled."""
        self._closed = True
        self._drop()

    def __iter__(self) -> Stream:
        return self

    def __next__(self) -> Any:
        try:
            while not self._closed and (news := self.job.news(self._position)) is not None:
                wait(news)
        except KeyboardInterrupt:
            self.close()
            raise
        return self._take(StopIteration)

    def __aiter__(self) -> Stream:
        return self

    async def __anext__(self) -> Any:
        try:
            while not self._closed and (news := self.job.news(self._position)) is not None:
                await settled(news)
        except asyncio.CancelledError:
            self.close()
            raise
        return self._take(StopAsyncIteration)

    def __repr__(self) -> str:
        return f"<Stream of {self.job!r}, {self._position} items taken>"

    def _take(self, end: type[Exception]) -> Any:
        """Return the next item, or raise what the stream ends with: nothing more will come."""
        if self._closed:
            raise end
        pickled = self.job.items.get(self._position)
        if pickled is not None:
            self._position += 1
            return self._load(pickled)
        try:
            return self._take_missed(end)
        except BaseException:
            self._closed = True
            raise

    def _take_missed(self, end: type[Exception]) -> Any:
        """Take an item that got lost on its way from the list of all, which comes with the result."""
        output, position = self.job.output(), self._position
        if output.exception is not None:
            if position < max(self.job.items, default=-1):
                raise BackendError(f"Item {position} was lost: the engine died.") from output.exception
            raise output.exception
        count = (self.job.finished().result or {}).get("items")
        if count is None:
            kind = type(output.output).__name__
            raise TypeError(f"{self.job.label} does not yield, it returns a {kind}: await it instead")
        if position >= count:
            raise end
        self._position += 1
        return output.output[position]

    def _load(self, pickled: bytes) -> Any:
        try:
            return decode([pickled], self.job.resolve)
        except Exception as error:
            raise SerializationError(
                f"Item {self._position - 1} cannot be read here: {type(error).__name__}: {error}.",
                hint="Install the package that it comes from here too, or yield plain data.",
            ) from error


class StreamHere(_Closing):
    """The items of a generator that runs in this process.

    Raises:
        TypeError: It is not a generator.
    """

    def __init__(self, generator: Generator[Any, Any, Any] | AsyncGenerator[Any, Any], label: str) -> None:
        if not isinstance(generator, (Generator, AsyncGenerator)):
            if inspect.iscoroutine(generator):
                generator.close()
            kind = type(generator).__name__
            raise TypeError(f"{label} does not yield, it returns a {kind}: await it instead")
        self._generator = generator
        self._label = label

    def close(self) -> None:
        """Stop the generator; one that is async is stopped by `aclose`, or when it is dropped."""
        if isinstance(self._generator, Generator):
            self._generator.close()

    async def aclose(self) -> None:
        """Stop the generator."""
        if isinstance(self._generator, AsyncGenerator):
            await self._generator.aclose()
        self.close()

    def __iter__(self) -> StreamHere:
        return self

    def __next__(self) -> Any:
        if isinstance(self._generator, AsyncGenerator):
            raise TypeError(f"{self._label} is an async generator that runs here: use 'async for'")
        return next(self._generator)

    def __aiter__(self) -> StreamHere:
        return self

    async def __anext__(self) -> Any:
        if isinstance(self._generator, AsyncGenerator):
            return await self._generator.__anext__()
        try:
            return next(self._generator)
        except StopIteration:
            raise StopAsyncIteration from None


def _leave() -> None:
    """Let a job go on that others may follow."""
