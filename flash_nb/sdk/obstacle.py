"""Obstacles: what in a value stands against sending it, seen while it is pickled."""

from __future__ import annotations

import io
import re
import types
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Literal

Kind = Literal["code", "file", "gpu", "redefined", "remote", "unpicklable"]

_ON_GPU = re.compile(r"cuda|gpu|mps|xpu", re.IGNORECASE)
_GPU_LIBRARIES = frozenset({"cudf", "cupy", "jax", "jaxlib", "tensorflow", "torch"})


@dataclass(frozen=True)
class Obstacle:
    """Something that stands against sending a name of the notebook.

    Attributes:
        name: The name.
        kind: What it is: pickled code, an open file, a value on this machine's GPU, a class as it was
            before it was defined again, a remote function, or something that cannot be pickled.
        part: The object itself.
        said: What pickle said. Not its exception: that holds on to all that was being pickled.
    """

    name: str
    kind: Kind
    part: Any
    said: str = ""


def kind_of(obj: Any) -> Kind | None:
    """Return what stands against sending an object that pickle takes apart; None as a rule.

    Args:
        obj: Neither a function nor a class.
    """
    kind = _kind_of_type(type(obj))  # type: ignore[arg-type]  # types are hashable
    return None if kind == "gpu" and not _ON_GPU.search(gpu_of(obj)) else kind


@lru_cache(maxsize=1024)  # it is asked for every object in every value
def _kind_of_type(kind: type) -> Kind | None:
    if kind is types.CodeType:
        return "code"
    if issubclass(kind, io.IOBase):
        return None if issubclass(kind, (io.BytesIO, io.StringIO)) else "file"
    return "gpu" if kind.__module__.partition(".")[0] in _GPU_LIBRARIES else None


def gpu_of(obj: Any) -> str:
    """Return the device of a tensor or array as its library writes it: ``cuda:0``; may be empty."""
    if type(obj).__module__.partition(".")[0] == "cudf":
        return "gpu"
    try:
        device = getattr(obj, "device", "")
        return str(device() if callable(device) else device)  # JAX before 0.4.31 has a method
    except Exception:  # noqa: BLE001 - a library's own code, for an object that has no device
        return ""
