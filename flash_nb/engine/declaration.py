"""A declaration: an endpoint as Runpod's ``saveEndpoint`` says it, to the engine's spec and back.

The kind of an endpoint is the class that an official client has for it: it follows from the type, the image
and the machines. An endpoint is live if its image is one of Flash's; then our workers run what its jobs
bring. Any other image is only a name here: somebody must answer for it.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping
from typing import Any

from flash_nb.errors import ResourceError

LIVE_IMAGES = frozenset(
    {"runpod/flash", "runpod/flash-cpu", "runpod/flash-lb", "runpod/flash-lb-cpu"}
)  # with any tag
DEFAULT_SCALER = ("QUEUE_DELAY", 4)
EXECUTE = {"kind": "execute"}
_KINDS = {
    (True, False): "LiveServerless",
    (True, True): "LiveLoadBalancer",
    (False, False): "ServerlessEndpoint",
    (False, True): "LoadBalancerSlsResource",
}
_DEFAULTS: Mapping[str, Any] = {
    "type": "QB",
    "gpuIds": "",
    "gpuCount": 1,
    "allowedCudaVersions": "",
    "instanceIds": [],
    "workersMin": 0,
    "workersMax": 3,
    "workersPFBTarget": 0,
    "idleTimeout": 5,
    "executionTimeoutMs": 0,
    "scalerType": "QUEUE_DELAY",
    "scalerValue": 4,
}
_VOLUME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_. -]*")


def is_live(image: str) -> bool:
    """Say if an image is one of Flash's, which run whatever function or class arrives."""
    return image.removeprefix("docker.io/").partition(":")[0] in LIVE_IMAGES


def spec_of(given: Mapping[str, Any], known: Mapping[str, Any] | None = None) -> dict[str, Any]:
    """Return the spec of an endpoint.

    Args:
        given: The input of ``saveEndpoint``; None is as good as not given.
        known: The spec that it changes, if it does. What stands for its image stays.

    Raises:
        ResourceError: It cannot be.
    """
    known = known or {}
    given = {name: value for name, value in given.items() if value is not None and name != "id"}
    if given.get("networkVolumeId") == "":  # as Runpod's own client says that there is none
        given["networkVolumeId"] = None
    template: dict[str, Any] | None = given.pop("template", None)
    declared = {**_DEFAULTS, **_declared(known), **given}
    env = known.get("env", {})
    if template is not None:
        env = {entry["key"]: entry["value"] for entry in template.get("env") or ()}
        declared["template"] = {name: value for name, value in template.items() if name != "env"}
    image = declared.get("template", {}).get("imageName") or declared.get("templateId") or ""
    _check(declared, image, known)
    is_balanced, is_cpu = declared["type"] == "LB", bool(declared["instanceIds"])
    kind = _KINDS[is_live(image), is_balanced] if image else known["kind"].removeprefix("Cpu")
    machines = ", ".join(declared["instanceIds"]) or declared["gpuIds"] or "any GPU"
    return {
        "name": declared["name"],
        "kind": f"Cpu{kind}" if is_cpu else kind,
        "hash": hashlib.sha256(json.dumps(declared, sort_keys=True).encode()).hexdigest()[:16],
        "hardware": f"{machines} · {declared['workersMin']}–{declared['workersMax']} workers",
        "gpu_count": 0 if is_cpu else declared["gpuCount"],
        "env": env,
        "volume": declared.get("networkVolumeId"),
        "balanced": is_balanced,
        "app": undeployed(known).get("app") or (EXECUTE if is_balanced and is_live(image) else None),
        "requirements": known.get("requirements", []),
        "system": known.get("system", []),
        "scaling": _scaling(declared),
        "image": image,
        "declared": declared,
    }


def undeployed(spec: Mapping[str, Any]) -> dict[str, Any]:
    """Return the spec of an endpoint without the build that it serves, if it serves one."""
    if "artifact" not in (spec.get("app") or {}):
        return dict(spec)
    is_execute = spec["balanced"] and is_live(spec["image"])
    return {**spec, "app": EXECUTE if is_execute else None, "requirements": [], "python": None}


def dependencies_of(body: bytes) -> frozenset[str]:
    """Return the Python packages that a function request names; its worker tells who sends nonsense."""
    try:
        given = json.loads(body)
        named = given.get("input", given).get("dependencies") or ()
        return frozenset(str(package) for package in named)
    except (ValueError, AttributeError, TypeError):
        return frozenset()


def answer_of(endpoint_id: str, spec: Mapping[str, Any]) -> dict[str, Any]:
    """Return an endpoint as ``saveEndpoint`` and ``myself`` answer; texts are never null."""
    declared = {**_DEFAULTS, **_declared(spec)}
    volume = spec["volume"]
    template = {"containerDiskInGb": 0, "dockerArgs": "", "imageName": "", **declared.get("template", {})}
    env = [{"key": key, "value": value} for key, value in spec["env"].items()]
    template_id = declared.get("templateId") or f"tpl-{endpoint_id.removeprefix('ep-')}"
    return {
        **declared,
        "id": endpoint_id,
        "locations": declared.get("locations", ""),
        "templateId": template_id,
        "template": {**template, "id": template_id, "env": env},
        "env": env,
        "networkVolumeId": volume,
        "networkVolumeIds": [{"networkVolumeId": volume}] if volume else [],
        "networkVolume": {"id": volume} if volume else None,
        "userId": "local",
        "version": 0,
        "workersStandby": 0,
    }


def _declared(spec: Mapping[str, Any]) -> dict[str, Any]:
    """Return what was declared of an endpoint; of one of our own kernels, what its spec tells."""
    if "declared" in spec or not spec:
        return dict(spec.get("declared", {}))
    scaling = spec["scaling"]
    declared = {
        "name": spec["name"],
        "type": "LB" if spec["balanced"] else "QB",
        "gpuCount": spec["gpu_count"],
        "instanceIds": [] if spec["gpu_count"] else ["cpu"],
        "workersMin": scaling["workers_min"],
        "workersMax": scaling["workers_max"],
        "idleTimeout": round(scaling["idle_timeout_s"]),
        "executionTimeoutMs": round((scaling["timeout_s"] or 0) * 1000),
        "networkVolumeId": spec["volume"],
    }
    if scaling["requests_per_worker"] is not None:
        declared |= {"scalerType": "REQUEST_COUNT", "scalerValue": scaling["requests_per_worker"]}
    return declared


def _check(declared: Mapping[str, Any], image: str, known: Mapping[str, Any]) -> None:
    name = declared.get("name")
    if not name:
        raise ResourceError("saveEndpoint: name is required")
    if not image and not known:
        raise ResourceError(f"saveEndpoint: {name} needs a template with imageName, or a templateId")
    if declared["type"] not in ("QB", "LB"):
        raise ResourceError(f"saveEndpoint: type must be QB or LB, not {declared['type']!r}")
    if not 0 <= declared["workersMin"] <= declared["workersMax"]:
        raise ResourceError(
            f"saveEndpoint: workersMin={declared['workersMin']} must be from 0 to "
            f"workersMax={declared['workersMax']}"
        )
    volume = declared.get("networkVolumeId")
    if volume is not None and not _VOLUME.fullmatch(volume):
        raise ResourceError(f"saveEndpoint: there is no network volume {volume!r}")


def _scaling(declared: Mapping[str, Any]) -> dict[str, Any]:
    """Return how it scales. A queue's default scaler means none: a worker of this machine costs nothing."""
    scaler = (declared["scalerType"], declared["scalerValue"])
    counts = declared["scalerType"] == "REQUEST_COUNT"
    return {
        "workers_min": declared["workersMin"],
        "workers_max": declared["workersMax"],
        "idle_timeout_s": float(declared["idleTimeout"]),
        "timeout_s": declared["executionTimeoutMs"] / 1000 or None,
        "queue_delay_s": None if counts or scaler == DEFAULT_SCALER else float(scaler[1]),
        "requests_per_worker": scaler[1] if counts else None,
    }
