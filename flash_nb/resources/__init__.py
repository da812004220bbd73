"""What a function runs on: the resources that a user declares. Values only, no IO.

::

    ServerlessResource              every field that Runpod's `saveEndpoint` takes, checked here
    └── LiveServerless              queue-based, image chosen by flash_nb; GPU, or CPU by `instanceIds`
        └── CpuLiveServerless       the same with a CPU instance by default

A resource is frozen and compared by value. Whatever cannot work raises `ResourceError` where it is
declared, unknown and misspelt fields included: the official SDK ignores those silently.

Names are imported on first use, because pydantic takes longer to import than the rest of flash_nb.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from .cpu import CpuInstanceType
    from .cuda import CudaVersion
    from .datacenter import DataCenter
    from .gpu import GpuGroup, GpuType
    from .live import CpuLiveServerless, LiveServerless
    from .serverless import ScalerType, ServerlessType
    from .template import PodTemplate
    from .volume import NetworkVolume

__all__ = [
    "CpuInstanceType",
    "CpuLiveServerless",
    "CudaVersion",
    "DataCenter",
    "GpuGroup",
    "GpuType",
    "LiveServerless",
    "NetworkVolume",
    "PodTemplate",
    "ScalerType",
    "ServerlessType",
]

_MODULES = {
    "CpuInstanceType": "cpu",
    "CpuLiveServerless": "live",
    "CudaVersion": "cuda",
    "DataCenter": "datacenter",
    "GpuGroup": "gpu",
    "GpuType": "gpu",
    "LiveServerless": "live",
    "NetworkVolume": "volume",
    "PodTemplate": "template",
    "ScalerType": "serverless",
    "ServerlessType": "serverless",
}


def __getattr__(name: str) -> object:
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f".{_MODULES[name]}", __name__), name)


def __dir__() -> list[str]:
    return __all__
