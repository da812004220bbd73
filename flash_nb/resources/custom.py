"""Custom resources: endpoints whose image is the user's own."""

# ruff: noqa: N815 - the fields are Runpod's wire names

from collections.abc import Iterator
from typing import Annotated

from .cpu import CpuInstanceType
from .declared import one_word
from .delivery import LoadBalanced, QueueBased
from .serverless import CpuInstances, ServerlessResource


class Custom(ServerlessResource):
    """A resource whose image the user gives, in one of three places.

    They are `imageName`, a `template` with an ``imageName``, and `templateId`.

    Attributes:
        imageName: The container image, with its tag. Default None; sent as ``template.imageName``.
    """

    imageName: Annotated[str, one_word("me/image:1.0")] | None = None

    @property
    def is_live(self) -> bool:
        """False: its workers run what is in the image."""
        return False

    @property
    def image(self) -> str:
        """The user's image; empty where a template at Runpod says it."""
        return self.imageName or (self.template.imageName if self.template else "")

    def _conflicts(self) -> Iterator[str]:
        yield from super()._conflicts()
        places = {
            "imageName": self.imageName,
            "template.imageName": self.template and self.template.imageName,
            "templateId": self.templateId,
        }
        given = [f"{place}={value!r}" for place, value in places.items() if value]
        if not given:
            yield "needs an image: give imageName, or a template with imageName, or templateId"
        if len(given) > 1:
            yield f"has {' and '.join(given)}, and each says the image: give one"


class ServerlessEndpoint(QueueBased, Custom):
    """Runs jobs from a queue on the user's image, on GPUs, or on CPUs with `instanceIds`.

    >>> ServerlessEndpoint(name="ocr", imageName="me/ocr:1.0", gpus=[GpuGroup.ADA_24])
    ServerlessEndpoint(name='ocr', gpus=[GpuGroup.ADA_24], imageName='me/ocr:1.0')
    """


class CpuServerlessEndpoint(ServerlessEndpoint):
    """The same on CPUs: 2 vCPU and 8 GB unless `instanceIds` says otherwise.

    Attributes:
        instanceIds: Acceptable CPU machines, one or more. Default [CpuInstanceType.CPU3G_2_8].
    """

    instanceIds: CpuInstances = (CpuInstanceType.CPU3G_2_8,)


class LoadBalancerSlsResource(LoadBalanced, Custom):
    """Serves HTTP with the user's image, on GPUs, or on CPUs with `instanceIds`.

    >>> LoadBalancerSlsResource(name="api", imageName="me/api:1.0").is_load_balanced
    True
    """


class CpuLoadBalancerSlsResource(LoadBalancerSlsResource):
    """The same on CPUs: 2 vCPU and 8 GB unless `instanceIds` says otherwise.

    Attributes:
        instanceIds: Acceptable CPU machines, one or more. Default [CpuInstanceType.CPU3G_2_8].
    """

    instanceIds: CpuInstances = (CpuInstanceType.CPU3G_2_8,)
