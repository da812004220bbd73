"""The public names of flash_nb and runpod_flash, as deployed code finds them.

A resource is a record here: its settings were used when it was deployed, and only its name counts. They can
still be read; what the source does not say is taken from the manifest. What exists in notebooks only can be
imported, and says so when it is used.
"""

from __future__ import annotations

import sys
import types
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NoReturn, TypeVar

from . import errors, jobs
from .errors import *  # noqa: F403
from .errors import FlashRuntimeError, ManifestError, did_you_mean
from .jobs import JobOutput, JobStatus
from .production import PayloadFunction, ProductionWrapper, RemoteClass, RemoteFunction
from .registry import ServiceRegistry, registry
from .route import RemoteRoute
from .version import __version__

F = TypeVar("F", bound=Callable[..., Any])


def remote(  # noqa: PLR0917 - the documented signature
    resource_config: Any,
    dependencies: Sequence[str] | None = None,  # noqa: ARG001 - they are installed
    system_dependencies: Sequence[str] | None = None,  # noqa: ARG001 - the same
    accelerate_downloads: bool = True,  # noqa: ARG001 - nothing is downloaded
    local: bool = False,
    method: str | None = None,
    path: str | None = None,
    strict: bool = False,  # noqa: ARG001 - checked when it was built
) -> Callable[[Any], ProductionWrapper]:
    """Have the decorated function or class run on a resource; see `flash_nb.runtime.production`."""

    def decorate(target: Any) -> ProductionWrapper:
        if resource_config.is_load_balanced:
            return RemoteRoute(
                target, resource_config, local=local, method=method or "POST", path=path or "/"
            )
        if isinstance(target, type):
            return RemoteClass(target, resource_config, local=local)
        kind = RemoteFunction if resource_config.is_live else PayloadFunction
        return kind(target, resource_config, local=local)

    return decorate


stand_ins: dict[str, Callable[..., Any]] = {}
"""What plays a container image where none runs, by image: `flash build --preview` asks."""


def stand_in(
    image: str,
    dependencies: Sequence[str] | None = None,  # noqa: ARG001 - they are installed
    system_dependencies: Sequence[str] | None = None,  # noqa: ARG001 - the same
) -> Callable[[F], F]:
    """Let the decorated function stand for a container image in a preview. Deployed, the image answers."""

    def register(function: F) -> F:
        stand_ins[image] = function
        return function

    return register


class Record:
    """A declared thing: whatever it was given, as attributes."""

    def __init__(self, **settings: Any) -> None:
        vars(self).update(settings)

    def model_copy(self, *, update: Mapping[str, Any] | None = None, deep: bool = False) -> Any:  # noqa: ARG002 - pydantic's signature
        """Return a copy with other settings."""
        return type(self)(**{**vars(self), **(update or {})})

    def __repr__(self) -> str:
        return f"{type(self).__name__}({', '.join(f'{k}={v!r}' for k, v in vars(self).items())})"

    def __eq__(self, other: object) -> bool:
        return type(self) is type(other) and vars(self) == vars(other)

    def __hash__(self) -> int:
        return hash((type(self), *vars(self)))


class PodTemplate(Record):
    """Pod-level settings."""


class NetworkVolume(Record):
    """A volume."""


class Resource(Record):
    """What a function runs on."""

    is_load_balanced = False
    is_live = True
    name: str

    def __getattr__(self, setting: str) -> Any:
        if not setting.startswith("_"):
            try:
                entry = registry.resource(vars(self).get("name", ""))
            except ManifestError:
                entry = {}
            if setting in entry:
                return entry[setting]
        raise AttributeError(f"{type(self).__name__} {vars(self).get('name')!r} has no setting {setting!r}")


class LiveServerless(Resource):
    """A queue on GPUs."""


class CpuLiveServerless(Resource):
    """A queue on CPUs."""


class ServerlessEndpoint(Resource):
    """A queue on GPUs, with an image of the user's own."""

    is_live = False


class CpuServerlessEndpoint(ServerlessEndpoint):
    """A queue on CPUs, with an image of the user's own."""


class LoadBalancerSlsResource(Resource):
    """Routes on GPUs, with an image of the user's own."""

    is_load_balanced = True
    is_live = False


class CpuLoadBalancerSlsResource(LoadBalancerSlsResource):
    """Routes on CPUs, with an image of the user's own."""


class LiveLoadBalancer(Resource):
    """Routes on GPUs."""

    is_load_balanced = True


class CpuLiveLoadBalancer(LiveLoadBalancer):
    """Routes on CPUs."""


class _Words(type):
    """Makes each attribute a word: which ones there are was checked when the project was built."""

    def __getattr__(cls, name: str) -> Any:
        if name.startswith("_"):
            raise AttributeError(name)
        return cls(cls.spelt(name))


class Word(str, metaclass=_Words):
    """A member of a closed set, as text."""

    __slots__ = ()

    @classmethod
    def spelt(cls, name: str) -> str:
        """Return the value of the member of this name."""
        return name

    @property
    def value(self) -> str:
        """Its value."""
        return str(self)

    @classmethod
    def all(cls) -> list[Word]:
        """Return no members: which there are is not known here."""
        return []


class GpuGroup(Word):
    """A pool of GPUs."""

    __slots__ = ()

    @classmethod
    def spelt(cls, name: str) -> str:  # noqa: D102
        return "any" if name == "ANY" else name


class GpuType(GpuGroup):
    """A card."""

    __slots__ = ()


class CpuInstanceType(Word):
    """A CPU machine: ``CPU5C_4_8`` is ``cpu5c-4-8``."""

    __slots__ = ()

    @classmethod
    def spelt(cls, name: str) -> str:  # noqa: D102
        return name.lower().replace("_", "-")


class DataCenter(Word):
    """A data center: ``EU_RO_1`` is ``EU-RO-1``."""

    __slots__ = ()

    @classmethod
    def spelt(cls, name: str) -> str:  # noqa: D102
        return name.replace("_", "-")


class CudaVersion(Word):
    """A CUDA version: ``V12_8`` is ``12.8``."""

    __slots__ = ()

    @classmethod
    def spelt(cls, name: str) -> str:  # noqa: D102
        return name.removeprefix("V").replace("_", ".")


class ScalerType(Word):
    """What makes an endpoint start another worker."""

    __slots__ = ()


class ServerlessType(Word):
    """How requests reach workers."""

    __slots__ = ()


ServerlessScalerType = ScalerType


class Absent:
    """A name that exists in notebooks only.

    Args:
        name: The name.
        instead: What to do in deployed code.
    """

    def __init__(self, name: str, instead: str) -> None:
        self._name = name
        self._instead = instead

    def __call__(self, *_: Any, **__: Any) -> NoReturn:
        """Say so."""
        raise FlashRuntimeError(f"{self._name} does not exist in deployed code.", hint=self._instead)

    def __getattr__(self, name: str) -> NoReturn:
        if name.startswith("__"):  # asked by Python itself
            raise AttributeError(name)
        self()


_NO_DEPLOYING = "Endpoints are managed by the flash command, where the project is."
map = Absent("map", "Send the items at once: await asyncio.gather(*(f(x) for x in items))")  # noqa: A001
Job = Absent("Job", "Start a call and go on: asyncio.create_task(f(x))")
FlashApp = Absent("FlashApp", _NO_DEPLOYING)
ResourceManager = Absent("ResourceManager", _NO_DEPLOYING)


def provide(package: str) -> None:
    """Let the modules of a package be imported from which deployed code may take these names.

    Args:
        package: ``flash_nb`` or ``runpod_flash``; it has been imported.
    """
    here = sys.modules[__name__]
    modules: Mapping[str, types.ModuleType] = {
        "errors": errors,
        "jobs": jobs,
        "resources": here,
        "client": here,
        "core": here,
        "core.exceptions": errors,
        "core.resources": here,
        "runtime": here,
        "runtime.exceptions": errors,
    }
    for name, module in modules.items():
        sys.modules[f"{package}.{name}"] = module
        parent, _, last = f"{package}.{name}".rpartition(".")
        if parent == package:
            setattr(sys.modules[package], last, module)


def __getattr__(name: str) -> NoReturn:
    """Say what is near a name that does not exist."""
    near = "" if name.startswith("_") else did_you_mean(name, __all__)
    raise AttributeError(f"deployed code has no flash name {name!r}{near}")


__all__ = [  # noqa: PLE0604 - the errors are named where they are
    "CpuInstanceType",
    "CpuLiveLoadBalancer",
    "CpuLiveServerless",
    "CpuLoadBalancerSlsResource",
    "CpuServerlessEndpoint",
    "CudaVersion",
    "DataCenter",
    "FlashApp",
    "GpuGroup",
    "GpuType",
    "Job",
    "JobOutput",
    "JobStatus",
    "LiveLoadBalancer",
    "LiveServerless",
    "LoadBalancerSlsResource",
    "NetworkVolume",
    "PodTemplate",
    "ProductionWrapper",
    "ResourceManager",
    "ScalerType",
    "ServerlessEndpoint",
    "ServerlessScalerType",
    "ServerlessType",
    "ServiceRegistry",
    "__version__",
    "map",
    "remote",
    "stand_in",
    *(name for name in vars(errors) if name.endswith("Error")),
]
