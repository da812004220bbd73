"""The arguments of a call, ready to travel."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from flash_nb.jobs import JobOutput
from flash_nb.sdk.capture import Collector, check_size, said, unpicklable
from flash_nb.worker.codec import EncodeError, encode
from flash_nb.worker.frames import Buffer, size_of

CHECK_SIZE_FROM_BYTES = 1_000_000


class Arguments:
    """Arguments of a call, each encoded on its own.

    Attributes:
        args, kwargs: How many buffers each argument takes.
        buffers: All of them in order.
        modules: What their types come from.
    """

    def __init__(
        self,
        args: tuple[Any, ...],
        kwargs: Mapping[str, Any],
        collector: Collector,
        parameters: Callable[[str | None], Sequence[str]],
        method: str | None,
    ) -> None:
        self.args: list[int] = []
        self.kwargs: dict[str, int] = {}
        self.buffers: list[Buffer] = []
        self.modules: set[str] = set()
        self._collector = collector
        for position, value in enumerate(args):
            self.args.append(self._add(f"argument {position + 1}", value))
        for name, value in kwargs.items():
            self.kwargs[name] = self._add(f"argument {name}", value)
        if size_of(self.buffers) > CHECK_SIZE_FROM_BYTES:
            check_size(self._sizes(parameters(method)))

    def _add(self, label: str, value: Any) -> int:
        value = plain(value)
        try:
            buffers = encode(value, self._collector.portable, self.modules)
        except EncodeError as error:
            raise unpicklable(label, value, said(error)) from error.cause
        self.buffers += buffers
        return len(buffers)

    def _sizes(self, names: Sequence[str]) -> dict[str, int]:
        labels = [names[i] if i < len(names) else f"argument {i + 1}" for i in range(len(self.args))]
        sizes, position = {}, 0
        for label, count in [*zip(labels, self.args, strict=True), *self.kwargs.items()]:
            sizes[label] = size_of(self.buffers[position : position + count])
            position += count
        return sizes


def plain(value: Any) -> Any:
    """Return what an argument stands for: a `JobOutput` its output."""
    return value.unwrap() if isinstance(value, JobOutput) else value
