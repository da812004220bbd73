"""Targets: whose `remote` an exported project uses, and what that asks of the project."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Literal, get_args

TargetName = Literal["flash_nb", "runpod-flash"]
TARGETS: tuple[TargetName, ...] = get_args(TargetName)

OFFICIAL_VERSION = "1.0.0"
"""Of runpod-flash, the documented one; 1.21.0 builds the same project."""

_LEAST_NAME = 3
_NOT_DEPLOYED = frozenset({"CpuLoadBalancerSlsResource", "CpuServerlessEndpoint", "ServerlessEndpoint"})
_EXPORTED = frozenset(
    {"CpuInstanceType", "CpuLiveLoadBalancer", "CpuLiveServerless", "CudaVersion", "DataCenter", "GpuGroup"}
    | {"GpuType", "LiveLoadBalancer", "LiveServerless", "LoadBalancerSlsResource", "NetworkVolume"}
    | {"PodTemplate", "ServerlessType", "remote"}
)


@dataclass(frozen=True)
class Target:
    """Whose Flash it is.

    Attributes:
        name: Ours, or the official one's.
    """

    name: TargetName = "flash_nb"

    @property
    def is_official(self) -> bool:
        """Whether Runpod's own ``flash build`` is to take the project."""
        return self.name == "runpod-flash"

    @property
    def package(self) -> str:
        """The name of its module."""
        return self.name.replace("-", "_")

    def endpoint_name(self, name: str) -> str:
        """Return the name that an endpoint gets.

        The official builders make file names of it, and add ``-fb`` and ``live-`` themselves.
        """
        if not self.is_official:
            return name
        name = re.sub(r"\W+", "_", name.removeprefix("live-").removesuffix("-fb"))
        return name if len(name) >= _LEAST_NAME else f"{name}_endpoint"

    def refuses(self, cls: str) -> bool:
        """Tell whether the official ``flash deploy`` cannot make a resource of this class again."""
        return self.is_official and cls in _NOT_DEPLOYED

    def has(self, name: str) -> bool:
        """Tell whether its package has a name of ours."""
        return not self.is_official or name in _EXPORTED
