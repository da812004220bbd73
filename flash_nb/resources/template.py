"""A pod template: how a worker's container is started."""

# ruff: noqa: N815 - the fields are Runpod's wire names

from collections.abc import Mapping, Sequence
from typing import Annotated, Any

from pydantic import PlainValidator

from .declared import Declared, between
from .env import Env, parse_env

GPU_DISK_GB = 64
"""The container disk of a GPU worker unless its template says otherwise (Flash's default)."""


class PodTemplate(Declared):
    """Pod-level settings, by Runpod's names, which are also the names they are sent under.

    Attributes:
        name: Unique in an account. Default '', which sends the endpoint's name and hash.
        imageName: The image, for the classes whose image is the user's. Default ''.
        containerDiskInGb: The container disk in GB, 1 or more; on CPU workers at most what the
            smallest of their instances may have. Default None: 64 on GPU, that limit on CPU.
        containerRegistryAuthId: The id of the registry login that may pull the image. Default ''.
        dockerArgs: Arguments for the image's command. Default ''.
        ports: A comma list of ports with their protocol, such as ``8000/http``. Default ''.
        startScript: A script that Runpod runs in place of the image's command, with
            `advancedStart`. Default ''.
        advancedStart: Whether `startScript` is run. Default False.
        env: Environment variables: a dict, or Runpod's list of ``{"key": …, "value": …}``.
            Default {}.
    """

    name: str = ""
    imageName: str = ""
    containerDiskInGb: Annotated[int, between(1)] | None = None
    containerRegistryAuthId: str = ""
    dockerArgs: str = ""
    ports: str = ""
    startScript: str = ""
    advancedStart: bool = False
    env: Annotated[Mapping[str, str] | Sequence[Mapping[str, str]], PlainValidator(parse_env)] = Env({})

    def wire(self, *, name: str, image: str, disk_gb: int, env: Mapping[str, str]) -> dict[str, Any]:
        """Return the `template` object of Runpod's `saveEndpoint`.

        Args:
            name: Its name, if the user gave none. Runpod wants names to be unique in an account.
            image: The image to run.
            disk_gb: The container disk in GB, if the user gave none.
            env: The variables of the endpoint; they win over those declared here.
        """
        return {
            "advancedStart": self.advancedStart,
            "config": {},
            "containerDiskInGb": self.containerDiskInGb or disk_gb,
            "containerRegistryAuthId": self.containerRegistryAuthId,
            "dockerArgs": self.dockerArgs,
            "env": Env({**parse_env(self.env), **env}).wire(),
            "imageName": image,
            "name": self.name or name,
            "ports": self.ports,
            "startScript": self.startScript,
        }
