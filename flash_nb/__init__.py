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
    from flash_nb.jobs import JobOutput as JobOutput
    from flash_nb.jobs import JobStatus as JobStatus
    from flash_nb.resources import CpuInstanceType as CpuInstanceType
    from flash_nb.resources import CpuLiveServerless as CpuLiveServerless
    from flash_nb.resources import CudaVersion as CudaVersion
    from flash_nb.resources import DataCenter as DataCenter
    from flash_nb.resources import GpuGroup as GpuGroup
    from flash_nb.resources import GpuType as GpuType
    from flash_nb.resources import LiveServerless as LiveServerless
    from flash_nb.resources import NetworkVolume as NetworkVolume
    from flash_nb.resources import PodTemplate as PodTemplate
    from flash_nb.sdk.job import Job as Job
    from flash_nb.sdk.remote import remote as remote

_PLACES = {
    "CpuInstanceType": "flash_nb.resources",
    "CpuLiveServerless": "flash_nb.resources",
    "CudaVersion": "flash_nb.resources",
    "DataCenter": "flash_nb.resources",
    "FlashError": "flash_nb.errors",
    "FlashRuntimeError": "flash_nb.errors",
    "GpuGroup": "flash_nb.resources",
    "GpuType": "flash_nb.resources",
    "Job": "flash_nb.sdk.job",
    "JobOutput": "flash_nb.jobs",
    "JobStatus": "flash_nb.jobs",
    "LiveServerless": "flash_nb.resources",
    "NetworkVolume": "flash_nb.resources",
    "PodTemplate": "flash_nb.resources",
    "RemoteExecutionError": "flash_nb.errors",
    "SerializationError": "flash_nb.errors",
    "remote": "flash_nb.sdk.remote",
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
