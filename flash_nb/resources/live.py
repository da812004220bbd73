"""Live resources: endpoints whose image can run any function or cell that arrives."""

# ruff: noqa: N815 - the fields are Runpod's wire names

from collections.abc import Iterator, Mapping
from typing import ClassVar

from .cpu import CpuInstanceType
from .delivery import LoadBalanced, QueueBased
from .serverless import CpuInstances, ServerlessResource, ServerlessType

_IMAGES = {
    (ServerlessType.QB, "gpu"): "runpod/flash:latest",
    (ServerlessType.QB, "cpu"): "runpod/flash-cpu:latest",
    (ServerlessType.LB, "gpu"): "runpod/flash-lb:latest",
    (ServerlessType.LB, "cpu"): "runpod/flash-lb-cpu:latest",
}
_NO_IMAGE = "cannot be chosen: a Live resource runs the image that can take functions and cells"


class Live(ServerlessResource):
    """A resource whose image is Flash's."""

    not_fields: ClassVar[Mapping[str, str]] = {**ServerlessResource.not_fields, "imageName": _NO_IMAGE}

    @property
    def is_live(self) -> bool:
        """True: its workers run whatever function or cell arrives."""
        return True

    @property
    def image(self) -> str:
        """Runpod's image for live functions. The official 1.0.0 gives CPU workers the one for GPU."""
        return _IMAGES[self.type, self.kind]

    def _conflicts(self) -> Iterator[str]:
        yield from super()._conflicts()
        if self.template is not None and self.template.imageName:
            yield f"template.imageName={self.template.imageName!r} {_NO_IMAGE}"


class LiveServerless(QueueBased, Live):
    """Runs functions and cells as they are, from a queue, on GPUs, or on CPUs with `instanceIds`.

    >>> LiveServerless(name="train", gpus=[GpuGroup.AMPERE_80], workersMax=1)
    LiveServerless(name='train', gpus=[GpuGroup.AMPERE_80], workersMax=1)
    """


class CpuLiveServerless(LiveServerless):
    """The same on CPUs: 2 vCPU and 8 GB unless `instanceIds` says otherwise.

    Attributes:
        instanceIds: Acceptable CPU machines, one or more. Default [CpuInstanceType.CPU3G_2_8].
    """

    instanceIds: CpuInstances = (CpuInstanceType.CPU3G_2_8,)


class LiveLoadBalancer(LoadBalanced, Live):
    """Serves functions over HTTP as they are, on GPUs, or on CPUs with `instanceIds`.

    >>> LiveLoadBalancer(name="api").wire()["template"]["imageName"]
    'runpod/flash-lb:latest'
    """


class CpuLiveLoadBalancer(LiveLoadBalancer):
    """The same on CPUs: 2 vCPU and 8 GB unless `instanceIds` says otherwise.

    Attributes:
        instanceIds: Acceptable CPU machines, one or more. Default [CpuInstanceType.CPU3G_2_8].
    """

    instanceIds: CpuInstances = (CpuInstanceType.CPU3G_2_8,)
