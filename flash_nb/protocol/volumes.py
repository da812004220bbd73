"""Runpod's network volumes: what its answers about them say.

They are part of Runpod's REST API v2, at ``/v2/network-volumes``. Version 1 (``rest.runpod.io``) is retired
on 2026-12-01.

* ``GET`` answers 200 and ``{"networkVolumes": [VOLUME, …]}``: all of the account. It takes no parameters and
  has no pages.
* ``POST`` takes ``name``, ``size`` (GB, 10 to 4096), ``dataCenter``, and optionally ``type`` (``STANDARD`` or
  ``HIGH_PERFORMANCE``; the data center's own where it is left out). Other fields are refused. It answers 201
  and the volume. No idempotency key is documented, and names need not be unique: asked twice, it makes two.
* A VOLUME has ``id``, ``name``, ``size``, ``dataCenter`` and ``type``.
* An error is a problem (RFC 9457): ``title``, ``status``, ``detail`` and perhaps ``errors``, a list of texts.
  422 is a body that breaks the schema, 400 one that breaks a rule.

Source: the OpenAPI document of API v2 (``api-reference-v2/openapi.json`` in Runpod's documentation:
`CreateNetworkVolumeRequest`, `ListNetworkVolumesResponse`, `NetworkVolume`), and its guide
https://docs.runpod.io/api-reference-v2/migrate-from-v1, which also names the day.
"""

from __future__ import annotations

from collections.abc import Mapping

from flash_nb.errors import BackendError, OutcomeUnknownError


def find(answer: object, name: str, data_center: str) -> str | None:
    """Return the id of the volume of this name and data center; None if the list has none.

    Raises:
        BackendError: The answer is no list of volumes: what it does not say must not be made anew.
    """
    volumes = answer.get("networkVolumes") if isinstance(answer, Mapping) else None
    if not isinstance(volumes, list) or not all(map(_has_id, volumes)):
        raise BackendError(
            "Runpod's list of volumes is none: it has no list 'networkVolumes' of what has ids."
        )
    for each in volumes:
        if (each.get("name"), each.get("dataCenter")) == (name, data_center):
            return str(each["id"])
    return None


def made(answer: object) -> str:
    """Return the id of the volume that was made.

    Raises:
        OutcomeUnknownError: The answer does not name it.
    """
    if isinstance(answer, Mapping) and _has_id(answer):
        return str(answer["id"])
    raise OutcomeUnknownError("Runpod's answer names no volume")


def _has_id(volume: object) -> bool:
    found = volume.get("id") if isinstance(volume, Mapping) else None
    return isinstance(found, str) and bool(found)
