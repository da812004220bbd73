"""flash_nb: run notebook cells and functions on serverless GPUs and CPUs.

In a notebook::

    %load_ext flash_nb

    %%flash_remote --gpu AMPERE_80
    ...

In a notebook or a script::

    from flash_nb import CpuLiveServerless, remote

    @remote(resource_config=CpuLiveServerless(name="worker"), dependencies=["numpy"])
    async def total(values):
        import numpy as np

        return float(np.sum(values))

Names are imported when they are first used, so that loading the extension stays fast.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from flash_nb.version import __version__ as __version__

if TYPE_CHECKING:
    from flash_nb import errors as errors
    from flash_nb.errors import ApiKeyError as ApiKeyError
    from flash_nb.errors import BackendError as BackendError
    from flash_nb.errors import CellError as CellError
    from flash_nb.errors import EndpointNotFoundError as EndpointNotFoundError
    from flash_nb.errors import EngineError as EngineError
    from flash_nb.errors import FlashError as FlashError
    from flash_nb.errors import FlashRuntimeError as FlashRuntimeError
    from flash_nb.errors import GraphQLError as GraphQLError
    from flash_nb.errors import GraphQLMutationError as GraphQLMutationError
    from flash_nb.errors import GraphQLQueryError as GraphQLQueryError
    from flash_nb.errors import JobCancelledError as JobCancelledError
    from flash_nb.errors import JobNotFoundError as JobNotFoundError
    from flash_nb.errors import JobTimeoutError as JobTimeoutError
    from flash_nb.errors import ManifestError as ManifestError
    from flash_nb.errors import ManifestServiceUnavailableError as ManifestServiceUnavailableError
    from flash_nb.errors import MapError as MapError
    from flash_nb.errors import OutcomeUnknownError as OutcomeUnknownError
    from flash_nb.errors import PayloadTooLargeError as PayloadTooLargeError
    from flash_nb.errors import PreflightError as PreflightError
    from flash_nb.errors import ProjectError as ProjectError
    from flash_nb.errors import RemoteExecutionError as RemoteExecutionError
    from flash_nb.errors import ResourceError as ResourceError
    from flash_nb.errors import ScopeError as ScopeError
    from flash_nb.errors import SerializationError as SerializationError
    from flash_nb.errors import SettingsError as SettingsError
    from flash_nb.errors import UndefinedNameError as UndefinedNameError
    from flash_nb.errors import UnsupportedMagicError as UnsupportedMagicError
    from flash_nb.errors import WorkerEnvironmentError as WorkerEnvironmentError
    from flash_nb.errors import WorkerLostError as WorkerLostError
    from flash_nb.jobs import JobOutput as JobOutput
    from flash_nb.jobs import JobStatus as JobStatus
    from flash_nb.resources import CpuInstanceType as CpuInstanceType
    from flash_nb.resources import CpuLiveLoadBalancer as CpuLiveLoadBalancer
    from flash_nb.resources import CpuLiveServerless as CpuLiveServerless
    from flash_nb.resources import CpuLoadBalancerSlsResource as CpuLoadBalancerSlsResource
    from flash_nb.resources import CpuServerlessEndpoint as CpuServerlessEndpoint
    from flash_nb.resources import CudaVersion as CudaVersion
    from flash_nb.resources import DataCenter as DataCenter
    from flash_nb.resources import GpuGroup as GpuGroup
    from flash_nb.resources import GpuType as GpuType
    from flash_nb.resources import LiveLoadBalancer as LiveLoadBalancer
    from flash_nb.resources import LiveServerless as LiveServerless
    from flash_nb.resources import LoadBalancerSlsResource as LoadBalancerSlsResource
    from flash_nb.resources import NetworkVolume as NetworkVolume
    from flash_nb.resources import PodTemplate as PodTemplate
    from flash_nb.resources import ScalerType as ScalerType
    from flash_nb.resources import ServerlessEndpoint as ServerlessEndpoint
    from flash_nb.resources import ServerlessType as ServerlessType
    from flash_nb.resources.serverless import ServerlessScalerType as ServerlessScalerType
    from flash_nb.sdk.job import Job as Job
    from flash_nb.sdk.map import map as map  # noqa: A004 - the counterpart of the builtin
    from flash_nb.sdk.remote import remote as remote
    from flash_nb.sdk.stand_in import stand_in as stand_in

_PLACES = {
    "ApiKeyError": "flash_nb.errors",
    "BackendError": "flash_nb.errors",
    "CellError": "flash_nb.errors",
    "CpuInstanceType": "flash_nb.resources",
    "CpuLiveLoadBalancer": "flash_nb.resources",
    "CpuLiveServerless": "flash_nb.resources",
    "CpuLoadBalancerSlsResource": "flash_nb.resources",
    "CpuServerlessEndpoint": "flash_nb.resources",
    "CudaVersion": "flash_nb.resources",
    "DataCenter": "flash_nb.resources",
    "EndpointNotFoundError": "flash_nb.errors",
    "EngineError": "flash_nb.errors",
    "FlashError": "flash_nb.errors",
    "FlashRuntimeError": "flash_nb.errors",
    "GpuGroup": "flash_nb.resources",
    "GpuType": "flash_nb.resources",
    "GraphQLError": "flash_nb.errors",
    "GraphQLMutationError": "flash_nb.errors",
    "GraphQLQueryError": "flash_nb.errors",
    "Job": "flash_nb.sdk.job",
    "JobCancelledError": "flash_nb.errors",
    "JobNotFoundError": "flash_nb.errors",
    "JobOutput": "flash_nb.jobs",
    "JobStatus": "flash_nb.jobs",
    "JobTimeoutError": "flash_nb.errors",
    "LiveLoadBalancer": "flash_nb.resources",
    "LiveServerless": "flash_nb.resources",
    "LoadBalancerSlsResource": "flash_nb.resources",
    "ManifestError": "flash_nb.errors",
    "ManifestServiceUnavailableError": "flash_nb.errors",
    "MapError": "flash_nb.errors",
    "NetworkVolume": "flash_nb.resources",
    "OutcomeUnknownError": "flash_nb.errors",
    "PayloadTooLargeError": "flash_nb.errors",
    "PodTemplate": "flash_nb.resources",
    "PreflightError": "flash_nb.errors",
    "ProjectError": "flash_nb.errors",
    "RemoteExecutionError": "flash_nb.errors",
    "ResourceError": "flash_nb.errors",
    "ScalerType": "flash_nb.resources",
    "ScopeError": "flash_nb.errors",
    "SerializationError": "flash_nb.errors",
    "ServerlessEndpoint": "flash_nb.resources",
    # ScalerType by the name that the official SDK exports since its 1.6.1.
    "ServerlessScalerType": "flash_nb.resources.serverless",
    "ServerlessType": "flash_nb.resources",
    "SettingsError": "flash_nb.errors",
    "UndefinedNameError": "flash_nb.errors",
    "UnsupportedMagicError": "flash_nb.errors",
    "WorkerEnvironmentError": "flash_nb.errors",
    "WorkerLostError": "flash_nb.errors",
    "map": "flash_nb.sdk.map",
    "remote": "flash_nb.sdk.remote",
    "stand_in": "flash_nb.sdk.stand_in",
}

__all__ = sorted(_PLACES)  # noqa: PLE0605 - a sorted list of names


def __getattr__(name: str) -> Any:
    if name not in _PLACES:
        raise AttributeError(f"module 'flash_nb' has no attribute {name!r}")
    value = getattr(import_module(_PLACES[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return [*globals(), *_PLACES]


def load_ipython_extension(shell: Any) -> None:
    """Register the magics: ``%load_ext flash_nb``."""
    from flash_nb.notebook.magics import load

    load(shell)


def unload_ipython_extension(shell: Any) -> None:
    """Remove them: ``%unload_ext flash_nb``."""
    from flash_nb.notebook.magics import unload

    unload(shell)
