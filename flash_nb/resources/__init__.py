"""What a function runs on: the resources that a user declares. Values only, no IO.

::

    ServerlessResource                      every field that Runpod's `saveEndpoint` takes, checked here
    ├── QueueBased, LoadBalanced            how requests reach workers
    └── Live, Custom                        whose image it is: Flash's or the user's own
        ├── LiveServerless                  queue-based and live; GPU, or CPU by `instanceIds`
        │   └── CpuLiveServerless           … with a CPU instance by default
        ├── LiveLoadBalancer                load-balanced and live
        │   └── CpuLiveLoadBalancer
        ├── ServerlessEndpoint              queue-based, the user's image
        │   └── CpuServerlessEndpoint
        └── LoadBalancerSlsResource         load-balanced, the user's image
            └── CpuLoadBalancerSlsResource

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
    from .custom import (
        CpuLoadBalancerSlsResource,
        CpuServerlessEndpoint,
        LoadBalancerSlsResource,
        ServerlessEndpoint,
    )
    from .datacenter import DataCenter
    from .gpu import GpuGroup, GpuType
    from .live import CpuLiveLoadBalancer, CpuLiveServerless, LiveLoadBalancer, LiveServerless
    from .serverless import ScalerType, ServerlessType
    from .template import PodTemplate
    from .volume import NetworkVolume

__all__ = [
    "CpuInstanceType",
    "CpuLiveLoadBalancer",
    "CpuLiveServerless",
    "CpuLoadBalancerSlsResource",
    "CpuServerlessEndpoint",
    "CudaVersion",
    "DataCenter",
    "GpuGroup",
    "GpuType",
    "LiveLoadBalancer",
    "LiveServerless",
    "LoadBalancerSlsResource",
    "NetworkVolume",
    "PodTemplate",
    "ScalerType",
    "ServerlessEndpoint",
    "ServerlessType",
]

_MODULES = {
    "CpuInstanceType": "cpu",
    "CpuLiveLoadBalancer": "live",
    "CpuLiveServerless": "live",
    "CpuLoadBalancerSlsResource": "custom",
    "CpuServerlessEndpoint": "custom",
    "CudaVersion": "cuda",
    "DataCenter": "datacenter",
    "GpuGroup": "gpu",
    "GpuType": "gpu",
    "LiveLoadBalancer": "live",
    "LiveServerless": "live",
    "LoadBalancerSlsResource": "custom",
    "NetworkVolume": "volume",
    "PodTemplate": "template",
    "ScalerType": "serverless",
    "ServerlessEndpoint": "custom",
    "ServerlessType": "serverless",
}


def __getattr__(name: str) -> object:
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f".{_MODULES[name]}", __name__), name)


def __dir__() -> list[str]:
    return __all__
