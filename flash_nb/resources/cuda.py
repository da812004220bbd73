"""A CUDA version that a worker's driver must support."""

from __future__ import annotations

import re
from collections.abc import Sequence

from .choice import Choice, parse_open

_SHAPE = re.compile(r"\d+\.\d+")


class CudaVersion(Choice):
    """A CUDA version. Newer ones may be given as text: ``"13.1"``.

    Source: the official SDK, 11.8 to 12.8 in its 1.0.0, 12.9 and 13.0 in its 1.21.0.
    """

    V11_8 = "11.8"
    V12_0 = "12.0"
    V12_1 = "12.1"
    V12_2 = "12.2"
    V12_3 = "12.3"
    V12_4 = "12.4"
    V12_5 = "12.5"
    V12_6 = "12.6"
    V12_7 = "12.7"
    V12_8 = "12.8"
    V12_9 = "12.9"
    V13_0 = "13.0"


def parse_cuda(value: object) -> CudaVersion | str:
    """Return the CUDA version that `value` names; ValueError if it is none."""
    return parse_open(CudaVersion, value, _SHAPE)


def cuda_versions(versions: Sequence[CudaVersion | str]) -> str:
    """Return Runpod's comma list, sorted: they are alternatives without an order."""
    return ",".join(sorted(set(versions), key=lambda version: [*map(int, version.split("."))]))
