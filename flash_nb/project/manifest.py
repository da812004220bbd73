"""A manifest: a project as JSON, which says which function runs on which endpoint, and how that is set.

It has the keys of Runpod's own manifest, and every setting beside them: the official 1.0.0 loses most on the
way to the endpoint. A resource is rebuilt from its entry alone, so that a deployment needs no project.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime, timezone
from typing import Any

from flash_nb.errors import ManifestError, ResourceError, SettingsError, did_you_mean
from flash_nb.project.declared import Function, Project
from flash_nb.project.handlers import handler_file
from flash_nb.resources.custom import (
    CpuLoadBalancerSlsResource,
    CpuServerlessEndpoint,
    Custom,
    LoadBalancerSlsResource,
    ServerlessEndpoint,
)
from flash_nb.resources.env import parse_env
from flash_nb.resources.live import CpuLiveLoadBalancer, CpuLiveServerless, LiveLoadBalancer, LiveServerless
from flash_nb.resources.serverless import ServerlessResource
from flash_nb.resources.template import PodTemplate
from flash_nb.resources.volume import NetworkVolume
from flash_nb.version import __version__

VERSION = "1.0"
TYPES: Mapping[str, type[ServerlessResource]] = {
    kind.__name__: kind
    for kind in (
        LiveServerless,
        CpuLiveServerless,
        LiveLoadBalancer,
        CpuLiveLoadBalancer,
        ServerlessEndpoint,
        CpuServerlessEndpoint,
        LoadBalancerSlsResource,
        CpuLoadBalancerSlsResource,
    )
}
"""The classes that an entry may be of."""

_MAKER = "flash_nb"
_AS_THEY_ARE = (
    "gpuCount",
    "workersMin",
    "workersMax",
    "workersPFBTarget",
    "idleTimeout",
    "executionTimeoutMs",
    "scalerValue",
    "flashboot",
    "networkVolumeId",
    "templateId",
)
_TEMPLATE = ("dockerArgs", "startScript", "advancedStart", "containerRegistryAuthId", "ports", "name")
_REBUILT = (
    "name",
    *_AS_THEY_ARE,
    "gpus",
    "cudaVersions",
    "instanceIds",
    "locations",
    "scalerType",
    "type",
    "env",
)


def manifest_of(
    project: Project,
    *,
    python_version: str,
    source_fingerprint: str | None = None,
    epoch_s: int | None = None,
) -> dict[str, Any]:
    """Return the manifest of a project: equal projects have equal ones.

    Args:
        project: What a scan has found.
        python_version: Of the workers: ``3.12``.
        source_fingerprint: A hash of the project's files; None leaves it out.
        epoch_s: What ``generated_at`` says, in seconds since 1970; None for ``SOURCE_DATE_EPOCH``, or 0
            where that is not set: a manifest that says when it was made would never be the same twice.

    Raises:
        SettingsError: ``SOURCE_DATE_EPOCH`` is no time.
    """
    home = {function.name: group.key for group in project.groups for function in group.functions}
    resources = {}
    for group in project.groups:
        entry = _entry(group.resource, group.variable or None, group.env_from)
        entry["functions"] = [_function(each, group.resource, group.variable) for each in group.functions]
        entry["makes_remote_calls"] = _calls_others(
            [name for each in group.functions for name in each.calls], group.key, home
        )
        entry["dependencies"] = _each_once(group.functions, "dependencies")
        entry["system_dependencies"] = _each_once(group.functions, "system_dependencies")
        entry["handler_file"] = handler_file(group.key)
        entry["target_python_version"] = python_version
        resources[group.key] = entry
    if mothership := project.mothership:
        entry = _entry(
            mothership.resource, "mothership" if mothership.is_explicit else None, mothership.env_from
        )
        entry["is_mothership"] = True
        if mothership.is_explicit:
            entry["is_explicit"] = True
        entry["main_file"] = mothership.file
        entry["app_variable"] = mothership.variable
        entry["makes_remote_calls"] = bool(mothership.calls)
        entry["calls"] = sorted(mothership.calls)
        entry["handler_file"] = handler_file(mothership.resource.name)
        entry["target_python_version"] = python_version
        resources[mothership.resource.name] = entry
    manifest: dict[str, Any] = {
        "version": VERSION,
        "generated_by": f"{_MAKER} {__version__}",
        "generated_at": _time(epoch_s),
        "python_version": python_version,
        "project_name": project.name,
        "resources": resources,
        "function_registry": home,
    }
    if routes := _routes(project):
        manifest["routes"] = routes
    if source_fingerprint is not None:
        manifest["source_fingerprint"] = source_fingerprint
    return manifest


def to_text(manifest: Mapping[str, Any]) -> bytes:
    """Return a manifest as the bytes of its file: the same for the same manifest."""
    return json.dumps(manifest, indent=2, ensure_ascii=False).encode() + b"\n"


def from_text(text: bytes) -> dict[str, Any]:
    """Return the manifest in the bytes of its file.

    Raises:
        ManifestError: It is no JSON, or no manifest of ours.
    """
    try:
        manifest = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise ManifestError(f"The manifest is not JSON: {error}", hint="Make it anew: flash build") from None
    return check(manifest)


def check(manifest: object) -> dict[str, Any]:
    """Return a manifest that makes sense.

    Raises:
        ManifestError: It was not made by flash_nb, or it was changed so that it makes no sense.
    """
    if not isinstance(manifest, dict):
        raise _nonsense(f"it is a {type(manifest).__name__}, not an object")
    if not str(manifest.get("generated_by", "")).startswith(f"{_MAKER} "):
        raise ManifestError(
            "The manifest was not made by flash_nb: it may lack settings of its endpoints.",
            hint="Make one from the project: flash build",
        )
    if manifest.get("version") != VERSION:
        raise ManifestError(
            f"The manifest has version {manifest.get('version')!r}, and this flash_nb reads {VERSION!r}.",
            hint="Make it anew with this version: flash build",
        )
    resources = _part(manifest, "resources", dict)
    for name, entry in resources.items():
        if not isinstance(entry, dict):
            raise _nonsense(f"resources.{name} is a {type(entry).__name__}, not an object")
        resource = resource_of(entry)
        if resource.name != name:
            raise _nonsense(f"resources.{name} is named {resource.name!r}")
        for function in _part(entry, "functions", list, f"resources.{name}."):
            _check_function(function, name)
    for function, name in _part(manifest, "function_registry", dict).items():
        if not isinstance(name, str) or name not in resources:
            raise _nonsense(
                f"function_registry.{function} is {name!r}, which is no resource"
                f"{did_you_mean(str(name), resources)}"
            )
    return manifest


def resource_of(entry: Mapping[str, Any]) -> ServerlessResource:
    """Return the resource that an entry of ``resources`` describes, of the same `config_hash`.

    Raises:
        ManifestError: The entry makes no sense.
    """
    name = entry.get("name")
    kind = entry.get("resource_type")
    if not isinstance(kind, str) or kind not in TYPES:
        near = did_you_mean(str(kind), TYPES)
        raise _nonsense(
            f"the resource {name!r} has the resource_type {kind!r}, which is no class of ours{near}"
        )
    fields: dict[str, Any] = {field: entry[field] for field in _REBUILT if entry.get(field) is not None}
    try:
        if entry.get("networkVolume") is not None:
            fields["networkVolume"] = NetworkVolume(**_part(entry, "networkVolume", dict))
        if entry.get("template") is not None:
            fields["template"] = PodTemplate(**_part(entry, "template", dict))
        if issubclass(TYPES[kind], Custom) and entry.get("imageName"):
            fields["imageName"] = entry["imageName"]
        return TYPES[kind](**fields)
    except ResourceError as error:
        raise _nonsense(f"the resource {name!r} cannot be: {error}") from None


def _entry(resource: ServerlessResource, variable: str | None, env_from: Mapping[str, str]) -> dict[str, Any]:
    """Return what there is to say of a resource alone; None and what does not apply is left out."""
    entry: dict[str, Any] = {
        "name": resource.name,
        "resource_type": type(resource).__name__,
        "functions": [],
        "is_load_balanced": resource.is_load_balanced,
        "is_live_resource": resource.is_live,
        "config_variable": variable,
        "type": str(resource.type),
        "imageName": resource.image or None,
        "scalerType": str(resource.scalerType),
        "locations": resource.wire()["locations"],
        "env": dict(sorted(resource.env.items())),
        "env_from": dict(sorted(env_from.items())),
        **{field: getattr(resource, field) for field in _AS_THEY_ARE},
    }
    if resource.is_cpu:
        entry["instanceIds"] = [str(each) for each in resource.instanceIds]
    else:
        entry["gpus"] = [str(each) for each in resource.gpus]
        entry["gpuIds"] = resource.gpuIds
        entry["cudaVersions"] = [str(each) for each in resource.cudaVersions]
        entry["allowedCudaVersions"] = resource.wire()["allowedCudaVersions"]
    if volume := resource.networkVolume:
        entry["networkVolume"] = {
            "name": volume.name,
            "size": volume.size,
            "dataCenterId": str(volume.dataCenterId),
        }
    if resource.templateId is None:
        entry["template"] = _template(resource)
    left_out = {"gpuCount"} if resource.is_cpu else set()
    return {
        key: value
        for key, value in entry.items()
        if key not in left_out and (value is not None or key == "config_variable")
    }


def _template(resource: ServerlessResource) -> dict[str, Any]:
    template = resource.template or PodTemplate()
    return {
        "containerDiskInGb": resource.wire()["template"]["containerDiskInGb"],
        **{field: getattr(template, field) for field in _TEMPLATE},
        "env": dict(sorted(parse_env(template.env).items())),
    }


def _function(function: Function, resource: ServerlessResource, variable: str) -> dict[str, Any]:
    entry: dict[str, Any] = {
        "name": function.name,
        "module": function.module,
        "is_async": function.is_async,
        "is_class": function.kind == "class",
        "is_load_balanced": resource.is_load_balanced,
        "is_live_resource": resource.is_live,
        "config_variable": variable or None,
        "file": function.place.file,
        "line": function.place.line,
        "dependencies": list(function.dependencies),
        "system_dependencies": list(function.system_dependencies),
        "accelerate_downloads": function.accelerate_downloads,
        "strict": function.strict,
        "calls": sorted(function.calls),
    }
    if function.kind == "class":
        entry["class_methods"] = list(function.methods)
    if function.method:
        entry["http_method"] = function.method
        entry["http_path"] = function.path
    return entry


def _each_once(functions: Iterable[Function], field: str) -> list[str]:
    return list(dict.fromkeys(each for function in functions for each in getattr(function, field)))


def _calls_others(calls: Iterable[str], key: str, home: Mapping[str, str]) -> bool:
    return any(home.get(name) != key for name in calls)


def _routes(project: Project) -> dict[str, dict[str, str]]:
    return {
        group.key: {f"{each.method} {each.path}": each.name for each in group.functions}
        for group in project.groups
        if group.resource.is_load_balanced
    }


def _time(epoch_s: int | None) -> str:
    text = os.environ.get("SOURCE_DATE_EPOCH", "") or "0"
    try:
        moment = datetime.fromtimestamp(int(text) if epoch_s is None else epoch_s, timezone.utc)
    except (ValueError, OverflowError, OSError):
        raise SettingsError(
            f"SOURCE_DATE_EPOCH is {text!r}, not a number of seconds since 1970.",
            hint="Take the time of the last commit: SOURCE_DATE_EPOCH=$(git log -1 --format=%ct)",
        ) from None
    return moment.strftime("%Y-%m-%dT%H:%M:%SZ")


def _part(mapping: Mapping[str, Any], name: str, kind: type, before: str = "") -> Any:
    value = mapping.get(name)
    if not isinstance(value, kind):
        what = "missing" if name not in mapping else f"a {type(value).__name__}, not a {kind.__name__}"
        raise _nonsense(f"{before}{name} is {what}")
    return value


def _check_function(function: object, name: str) -> None:
    if not isinstance(function, dict):
        raise _nonsense(f"a function of {name} is a {type(function).__name__}, not an object")
    wanted: Sequence[tuple[str, type]] = (
        ("name", str),
        ("module", str),
        ("is_async", bool),
        ("is_class", bool),
        ("dependencies", list),
        ("system_dependencies", list),
        ("calls", list),
    )
    for key, kind in wanted:
        _part(function, key, kind, f"a function of {name}: ")


def _nonsense(what: str) -> ManifestError:
    return ManifestError(f"The manifest makes no sense: {what}.", hint="Make it anew: flash build")
