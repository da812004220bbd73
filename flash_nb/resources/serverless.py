"""A serverless resource: every field of an endpoint, its rules, and its wire form."""

# ruff: noqa: N815 - the fields are Runpod's wire names

import hashlib
import json
from abc import abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from typing import Annotated, Any, ClassVar, Literal

from pydantic import AfterValidator, BeforeValidator, PlainValidator, model_validator

from .choice import Choice, parse
from .cpu import CpuInstanceType
from .cuda import CudaVersion, cuda_versions, parse_cuda
from .datacenter import DataCenter, parse_datacenter, parse_locations
from .declared import Declared, Name, as_tuple, between, one_word
from .env import Env, parse_env
from .gpu import Gpu, GpuGroup, describe_gpu, gpu_ids, parse_gpu
from .template import GPU_DISK_GB, PodTemplate
from .volume import NetworkVolume


class ServerlessType(Choice):
    """How requests reach workers. Source: the two values of Runpod's `saveEndpoint`."""

    QB = "QB"
    """Queue-based: jobs wait in a queue, are retried, and keep their result."""
    LB = "LB"
    """Load-balanced: HTTP requests go straight to a worker."""


class ScalerType(Choice):
    """What makes an endpoint start another worker. Source: the two values of Runpod's `saveEndpoint`."""

    QUEUE_DELAY = "QUEUE_DELAY"
    """A job has waited for `scalerValue` seconds."""
    REQUEST_COUNT = "REQUEST_COUNT"
    """There are more than `scalerValue` requests for each worker."""


ServerlessScalerType = ScalerType


def parse_type(value: object) -> ServerlessType:
    """Return the type that `value` names; ValueError if it is none."""
    return parse(ServerlessType, value)


def parse_scaler(value: object) -> ScalerType:
    """Return the scaler that `value` names; ValueError if it is none."""
    return parse(ScalerType, value)


def _not_empty(instances: Sequence[CpuInstanceType]) -> Sequence[CpuInstanceType]:
    if not instances:
        raise ValueError("must name a CPU instance")
    return instances


# Annotated as what a user may write; what is kept is a tuple or an `Env`, so that resources are hashable.
Gpus = Annotated[Sequence[Annotated[Gpu, PlainValidator(parse_gpu)]], BeforeValidator(as_tuple)]
Instances = Annotated[
    Sequence[Annotated[CpuInstanceType, PlainValidator(lambda value: parse(CpuInstanceType, value))]],
    BeforeValidator(as_tuple),
]
CpuInstances = Annotated[Instances, AfterValidator(_not_empty)]
CudaVersions = Annotated[
    Sequence[Annotated[CudaVersion | str, PlainValidator(parse_cuda)]], BeforeValidator(as_tuple)
]


class ServerlessResource(Declared):
    """An endpoint as a user declares it. Field names are Runpod's.

    A subclass says which image its workers run (`image`, `is_live`) and narrows `type`.

    Each field is sent in `saveEndpoint` under its own name, unless "sent as" says otherwise.

    Attributes:
        name: Identifies the endpoint among the user's: 1 to 100 characters. Required.
        gpus: Acceptable GPUs, the preferred first; a set is sorted. Pools, cards, or ids of newer
            ones; none on CPU. Default [GpuGroup.ANY]; sent as ``gpuIds``.
        gpuCount: GPUs for each worker, 1 or more; 0 on CPU. Default 1.
        cudaVersions: Acceptable CUDA versions; empty for any. Default []; sent as
            ``allowedCudaVersions``.
        instanceIds: Acceptable CPU machines. With any, this is a CPU resource. Default [].
        datacenter: Where workers run, unless `locations` says it. Default DataCenter.EU_RO_1; sent
            as ``locations``.
        locations: A comma list of data centers, for more than one. Default None.
        workersMin: Workers kept (and paid for) without jobs: 0 to `workersMax`. Default 0.
        workersMax: Workers at most, 0 or more. Default 3.
        idleTimeout: Seconds that a worker without jobs stays: 1 to 3600. Default 5.
        executionTimeoutMs: Milliseconds that one job may run; 0 for the platform's limit. Default 0.
        scalerType: What makes the endpoint start another worker. Default ScalerType.QUEUE_DELAY.
        scalerValue: The threshold of the scaler, 1 or more: seconds of waiting for ``QUEUE_DELAY``,
            requests for each worker for ``REQUEST_COUNT``. Default 4.
        type: How requests reach workers; each class has one. Default ServerlessType.QB.
        workersPFBTarget: Workers, 0 or more; passed on as Runpod's own field. Default 0.
        networkVolume: A volume by name, made if it does not exist. Default None; sent as
            ``networkVolumeId`` by the backend, which learns the id.
        networkVolumeId: The id of a volume that exists, instead. Default None.
        env: Variables of the workers. Nothing is read from ``.env``: what is not here is not sent.
            Default {}; sent as ``template.env``.
        flashboot: Whether workers are kept warm after stopping, which shortens cold starts.
            Default True; sent as ``flashBootType``.
        template: Pod-level settings. Default None, which sends those of a plain `PodTemplate`.
        templateId: The id of a template that exists at Runpod, instead. Default None.
    """

    not_fields: ClassVar[Mapping[str, str]] = {
        "gpuIds": "is derived: give gpus, for example gpus=[GpuGroup.AMPERE_80]",
        "allowedCudaVersions": "is derived: give cudaVersions, for example cudaVersions=['12.8']",
        "id": "belongs to an endpoint, not to a resource: the backend finds the endpoint by name",
    }

    name: Name
    gpus: Gpus = (GpuGroup.ANY,)
    gpuCount: Annotated[int, between(0)] = 1
    cudaVersions: CudaVersions = ()
    instanceIds: Instances = ()
    datacenter: Annotated[DataCenter | str, PlainValidator(parse_datacenter)] = DataCenter.EU_RO_1
    locations: Annotated[str, AfterValidator(parse_locations)] | None = None
    workersMin: Annotated[int, between(0)] = 0
    workersMax: Annotated[int, between(0)] = 3
    idleTimeout: Annotated[int, between(1, 3600)] = 5
    executionTimeoutMs: Annotated[int, between(0)] = 0
    scalerType: Annotated[ScalerType, PlainValidator(parse_scaler)] = ScalerType.QUEUE_DELAY
    scalerValue: Annotated[int, between(1)] = 4
    type: Annotated[ServerlessType, PlainValidator(parse_type)] = ServerlessType.QB
    workersPFBTarget: Annotated[int, between(0)] = 0
    networkVolume: NetworkVolume | None = None
    networkVolumeId: Annotated[str, one_word("vol_abc123")] | None = None
    env: Annotated[Mapping[str, str], PlainValidator(parse_env)] = Env({})
    flashboot: bool = True
    template: PodTemplate | None = None
    templateId: Annotated[str, one_word("tpl_abc123")] | None = None

    @model_validator(mode="before")
    @classmethod
    def _cpu_has_no_gpus(cls, fields: dict[str, Any]) -> dict[str, Any]:
        instances = fields.get("instanceIds", cls.model_fields["instanceIds"].default)
        return {"gpus": (), "gpuCount": 0, **fields} if instances else fields

    def __repr_args__(self) -> Iterator[tuple[str | None, Any]]:
        """Leave out the GPU fields of a CPU resource: they follow from its `instanceIds`."""
        unwritten = {"gpus", "gpuCount"} if self.is_cpu else set()
        return (argument for argument in super().__repr_args__() if argument[0] not in unwritten)

    @property
    @abstractmethod
    def image(self) -> str:
        """The container image that its workers run."""

    @property
    @abstractmethod
    def is_live(self) -> bool:
        """True if its workers run whatever function or cell arrives, on an image of Flash's."""

    @property
    def is_load_balanced(self) -> bool:
        """True if HTTP requests go straight to a worker, False if jobs wait in a queue."""
        return self.type is ServerlessType.LB

    @property
    def kind(self) -> Literal["cpu", "gpu"]:
        """The hardware that its workers have."""
        return "cpu" if self.instanceIds else "gpu"

    @property
    def is_cpu(self) -> bool:
        """True if its workers have no GPU."""
        return self.kind == "cpu"

    @property
    def gpuIds(self) -> str:  # noqa: N802 - Runpod's wire name
        """Runpod's encoding of `gpus`; empty for CPU."""
        return gpu_ids(self.gpus)

    @property
    def _locations(self) -> str:
        return self.locations or str(self.datacenter)

    @property
    def _disk_gb(self) -> int:
        """The container disk of a worker, unless a template made at Runpod says it."""
        declared = self.template.containerDiskInGb if self.template else None
        return declared or self._max_disk_gb or GPU_DISK_GB

    @property
    def _max_disk_gb(self) -> int | None:
        """What every one of the CPU machines can have; None for GPU, where Runpod gives no limit."""
        return min((instance.max_disk_gb for instance in self.instanceIds), default=None)

    @property
    def config_hash(self) -> str:
        """A hash of all that is sent: equal in every process, different after any change."""
        volume = self.networkVolume.wire() if self.networkVolume else None
        return _digest([self._settings(), self._template_wire("") or self.templateId, volume])

    @property
    def result_hash(self) -> str:
        """A hash of what a result may depend on: machines, image, variables, template and volume.

        The name, the place, the scaling and the time-outs are left out: two resources that differ in
        nothing else compute the same.
        """
        volume = self.networkVolume.wire() if self.networkVolume else self.networkVolumeId
        template = self._template_wire("") or {"id": self.templateId, "image": self.image}
        return _digest([self._machines(), {**template, "name": ""}, volume])

    def wire(self) -> dict[str, Any]:
        """Return the input of Runpod's `saveEndpoint`.

        Whoever sends it adds ``id`` to update an endpoint, and ``networkVolumeId`` once
        `networkVolume` has one.
        """
        template = self._template_wire(f"{self.name}__PodTemplate_{self.config_hash}")
        return self._settings() | ({"template": template} if template else {"templateId": self.templateId})

    def describe(self) -> str:
        """Return the resource in one short line for people."""
        workers = f"{self.workersMin}–{self.workersMax} workers"
        return f"{self._hardware()} · {workers} · idle {self.idleTimeout} s"

    def _hardware(self) -> str:
        if self.is_cpu:
            first, *others = (instance.describe() for instance in self.instanceIds)
        else:
            first, *others = dict.fromkeys(map(describe_gpu, self.gpus))
        count = f"{self.gpuCount} × " if self.gpuCount > 1 else ""
        return f"{count}{first}" + (f" or {len(others)} more" if others else "")

    def _settings(self) -> dict[str, Any]:
        """Return `saveEndpoint`'s fields, all but the template."""
        settings = {
            "name": self.name,
            "type": str(self.type),
            "workersMin": self.workersMin,
            "workersMax": self.workersMax,
            "workersPFBTarget": self.workersPFBTarget,
            "idleTimeout": self.idleTimeout,
            "executionTimeoutMs": self.executionTimeoutMs,
            "scalerType": str(self.scalerType),
            "scalerValue": self.scalerValue,
            "locations": self._locations,
            "networkVolumeId": self.networkVolumeId,
            "flashBootType": "FLASHBOOT" if self.flashboot else None,
        }
        return {key: value for key, value in settings.items() if value is not None} | self._machines()

    def _machines(self) -> dict[str, Any]:
        if self.is_cpu:
            return {"instanceIds": [str(instance) for instance in self.instanceIds]}
        return {
            "gpuIds": self.gpuIds,
            "gpuCount": self.gpuCount,
            "allowedCudaVersions": cuda_versions(self.cudaVersions),
        }

    def _template_wire(self, name: str) -> dict[str, Any] | None:
        if self.templateId is not None:
            return None
        template = self.template or PodTemplate()
        return template.wire(name=name, image=self.image, disk_gb=self._disk_gb, env=self.env)

    def _conflicts(self) -> Iterator[str]:
        if self.workersMin > self.workersMax:
            yield f"workersMin={self.workersMin} must not be more than workersMax={self.workersMax}"
        yield from self._machine_conflicts()
        yield from self._volume_conflicts()
        yield from self._template_conflicts()

    def _machine_conflicts(self) -> Iterator[str]:
        if not self.is_cpu and not (self.gpus and self.gpuCount):
            yield "needs gpus and a gpuCount of 1 or more, or instanceIds for a CPU resource"
        if self.is_cpu and (self.gpus or self.gpuCount or self.cudaVersions):
            yield "has instanceIds, which make it a CPU resource: leave out gpus, gpuCount and cudaVersions"
        limit = self._max_disk_gb
        if limit is not None and self._disk_gb > limit:
            machine = min(self.instanceIds, key=lambda instance: instance.max_disk_gb)
            yield f"template.containerDiskInGb={self._disk_gb} must be at most {limit}, as {machine} has"

    def _volume_conflicts(self) -> Iterator[str]:
        if self.networkVolume is None:
            return
        if self.networkVolumeId is not None:
            yield "has both networkVolume and networkVolumeId: give one"
        if self.networkVolume.dataCenterId not in self._locations.split(","):
            yield (
                f"runs in {self._locations!r}, but its networkVolume {self.networkVolume.name!r} lies in "
                f"{str(self.networkVolume.dataCenterId)!r}: make that the datacenter"
            )

    def _template_conflicts(self) -> Iterator[str]:
        if self.templateId is None:
            return
        if self.template is not None:
            yield "has both template and templateId: give one"
        if self.env:
            yield "has env and templateId: Runpod keeps variables in the template, so set them there"


def _digest(value: object) -> str:
    text = json.dumps(value, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()[:16]
