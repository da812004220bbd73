"""Live resources: queue-based endpoints whose image can run any function or cell that arrives."""

# ruff: noqa: N815 - the fields are Runpod's wire names

from collections.abc import Iterator, Mapping, Sequence
from typing import Annotated, ClassVar, Literal

from pydantic import AfterValidator, BeforeValidator

from .cpu import CpuInstanceType
from .serverless import Instances, ServerlessResource, ServerlessType, parse_type

_GPU_IMAGE = "runpod/flash:latest"
_CPU_IMAGE = "runpod/flash-cpu:latest"
_NO_IMAGE = "cannot be chosen: a Live resource runs the image that can take functions and cells"


def _not_empty(instances: Sequence[CpuInstanceType]) -> Sequence[CpuInstanceType]:
    if not instances:
        raise ValueError("must name a CPU instance")
    return instances


class LiveServerless(ServerlessResource):
    """Runs functions and cells as they are, from a queue, on GPUs, or on CPUs with `instanceIds`.

    >>> LiveServerless(name="train", gpus=[GpuGroup.AMPERE_80], workersMax=1)
    LiveServerless(name='train', gpus=[GpuGroup.AMPERE_80], workersMax=1)
    """

    not_fields: ClassVar[Mapping[str, str]] = {**ServerlessResource.not_fields, "imageName": _NO_IMAGE}

    type: Annotated[Literal[ServerlessType.QB], BeforeValidator(parse_type)] = ServerlessType.QB

    @property
    def image(self) -> str:
        """Runpod's image for live functions. The official 1.0.0 gives CPU workers the one for GPU."""
        return _CPU_IMAGE if self.is_cpu else _GPU_IMAGE

    def _conflicts(self) -> Iterator[str]:
        yield from super()._conflicts()
        if self.template is not None and self.template.imageName:
            yield f"template.imageName={self.template.imageName!r} {_NO_IMAGE}"


class CpuLiveServerless(LiveServerless):
    """The same on CPUs: 2 vCPU and 8 GB unless `instanceIds` says otherwise."""

    instanceIds: Annotated[Instances, AfterValidator(_not_empty)] = (CpuInstanceType.CPU3G_2_8,)
