"""Network volumes over HTTP: ``/v2/network-volumes``, and ``/rest/networkvolumes`` for clients of REST v1.

A volume is a folder of this machine. Its id is its data center and its name, as our own kernels name the
folder: who makes a volume that exists gets that one. What is kept of it has the words of REST v1, and the
``type`` that v2 adds. What v2 says and refuses: `flash_nb.protocol.volumes`.
"""

from __future__ import annotations

import json
import re
from http import HTTPStatus
from pathlib import Path
from typing import TYPE_CHECKING, Any

from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from flash_nb.engine.gate import Handle, RefusalError, admit, body_of, object_of

if TYPE_CHECKING:
    from flash_nb.engine.server import Server

MAX_BODY_BYTES = 100_000
MIN_GB, MAX_GB = 10, 4096
FIELDS = ("name", "size", "dataCenter", "type")
TYPES = ("STANDARD", "HIGH_PERFORMANCE")
_PART = re.compile(r"[A-Za-z0-9][A-Za-z0-9_. -]{0,99}")


class Volumes:
    """Answers the requests of Runpod's clients for volumes.

    Args:
        server: The engine.
    """

    def __init__(self, server: Server) -> None:
        self._server = server
        self._home = server.settings.home

    @property
    def routes(self) -> list[Route]:
        """Its paths."""
        v1, v2 = "/rest/networkvolumes", "/v2/network-volumes"
        return [
            Route(v1, self._list_v1, methods=["GET"]),
            Route(v1, self._create_v1, methods=["POST"]),
            Route(v2, _with_problems(self._list), methods=["GET"]),
            Route(v2, _with_problems(self._create), methods=["POST"]),
        ]

    async def _list(self, request: Request) -> Response:
        admit(request, self._server)
        return JSONResponse({"networkVolumes": [_in_v2(volume) for volume in known_volumes(self._home)]})

    async def _create(self, request: Request) -> Response:
        volume, _ = self._provided(asked_of_v2(await self._given(request)))
        return JSONResponse(_in_v2(volume), status_code=201)

    async def _list_v1(self, request: Request) -> Response:
        admit(request, self._server)
        return JSONResponse([_in_v1(volume) for volume in known_volumes(self._home)])

    async def _create_v1(self, request: Request) -> Response:
        volume, is_new = self._provided(asked_of_v1(await self._given(request)))
        return JSONResponse(_in_v1(volume), status_code=201 if is_new else 200)

    async def _given(self, request: Request) -> dict[str, Any]:
        admit(request, self._server)
        return object_of(await body_of(request, MAX_BODY_BYTES))

    def _provided(self, volume: dict[str, Any]) -> tuple[dict[str, Any], bool]:
        """Return the volume of this id, and if it was made for that."""
        known = known_volumes(self._home)
        for found in known:
            if found["id"] == volume["id"]:
                return found, False
        (self._home / "volumes" / volume["id"]).mkdir(parents=True, exist_ok=True)
        _file(self._home).write_text(json.dumps([*known, volume]))
        return volume, True


def known_volumes(home: Path) -> list[dict[str, Any]]:
    """Return the volumes of an engine's home."""
    try:
        known: list[dict[str, Any]] = json.loads(_file(home).read_text())
    except (OSError, ValueError):
        return []
    return known


def asked_of_v1(given: dict[str, Any]) -> dict[str, Any]:
    """Return the volume that a body asks for: ``name``, ``dataCenterId``, ``size`` in GB.

    Raises:
        RefusalError: 400, it cannot be.
    """
    return _volume(given, "dataCenterId", 400)


def asked_of_v2(given: dict[str, Any]) -> dict[str, Any]:
    """Return the volume that a body asks for: ``name``, ``dataCenter``, ``size`` in GB, perhaps ``type``.

    Raises:
        RefusalError: 422, it cannot be.
    """
    for field in given:
        if field not in FIELDS:
            raise RefusalError(422, f"There is no field {field!r}; there are {', '.join(FIELDS)}.")
    volume = _volume(given, "dataCenter", 422)
    if not MIN_GB <= volume["size"] <= MAX_GB:
        raise RefusalError(422, f"size must be from {MIN_GB} to {MAX_GB} GB, not {volume['size']}.")
    kind = given.get("type", TYPES[0])
    if kind not in TYPES:
        raise RefusalError(422, f"type must be {' or '.join(TYPES)}, not {kind!r}.")
    return {**volume, "type": kind}


def _volume(given: dict[str, Any], place_field: str, status: int) -> dict[str, Any]:
    place, name, size = given.get(place_field), given.get("name"), given.get("size")
    for field, value in ((place_field, place), ("name", name)):
        if not isinstance(value, str) or not _PART.fullmatch(value):
            raise RefusalError(
                status, f"{field} must be letters, digits, spaces, '_', '.' or '-', not {value!r}."
            )
    if not isinstance(size, int) or isinstance(size, bool) or size < 1:
        raise RefusalError(status, f"size must be a number of GB, 1 or more, not {size!r}.")
    return {"id": f"{place}-{name}", "name": name, "dataCenterId": place, "size": size}


def _file(home: Path) -> Path:
    return home / "volumes.json"


def _in_v1(volume: dict[str, Any]) -> dict[str, Any]:
    return {field: volume[field] for field in ("id", "name", "dataCenterId", "size")}


def _in_v2(volume: dict[str, Any]) -> dict[str, Any]:
    told = {"dataCenter": volume["dataCenterId"], "type": volume.get("type", TYPES[0])}
    return {"id": volume["id"], "name": volume["name"], "size": volume["size"], **told}


def _with_problems(handle: Handle) -> Handle:
    """Answer refusals as v2 does: with a problem (RFC 9457)."""

    async def handled(request: Request) -> Response:
        try:
            return await handle(request)
        except RefusalError as error:
            title = HTTPStatus(error.status).phrase
            return JSONResponse(
                {"title": title, "status": error.status, "detail": error.detail},
                status_code=error.status,
                media_type="application/problem+json",
            )

    return handled
