"""Network volumes over HTTP: the part of Runpod's REST that the engine serves, ``/rest/networkvolumes``.

A volume is a folder of this machine. Its id is its data center and its name, as our own kernels name the
folder: who makes a volume that exists gets that one.
"""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from flash_nb.engine.gate import RefusalError, admit, body_of, object_of

if TYPE_CHECKING:
    from flash_nb.engine.server import Server

MAX_BODY_BYTES = 100_000
_PART = re.compile(r"[A-Za-z0-9][A-Za-z0-9_. -]{0,99}")


class Volumes:
    """Answers the requests of Runpod's clients for volumes.

    Args:
        server: The engine.
    """

    def __init__(self, server: Server) -> None:
        self._server = server

    @property
    def routes(self) -> list[Route]:
        """Its paths."""
        path = "/rest/networkvolumes"
        return [
            Route(path, self._list, methods=["GET"]),
            Route(path, self._create, methods=["POST"]),
        ]

    async def _list(self, request: Request) -> Response:
        admit(request, self._server)
        return JSONResponse(self._known())

    async def _create(self, request: Request) -> Response:
        admit(request, self._server)
        given = object_of(await body_of(request, MAX_BODY_BYTES))
        volume = volume_of(given)
        known = self._known()
        for found in known:
            if found["id"] == volume["id"]:
                return JSONResponse(found)
        (self._server.settings.home / "volumes" / volume["id"]).mkdir(parents=True, exist_ok=True)
        self._file.write_text(json.dumps([*known, volume]))
        return JSONResponse(volume, status_code=201)

    @property
    def _file(self) -> Path:
        return self._server.settings.home / "volumes.json"

    def _known(self) -> list[dict[str, Any]]:
        try:
            known: list[dict[str, Any]] = json.loads(self._file.read_text())
        except (OSError, ValueError):
            return []
        return known


def volume_of(given: dict[str, Any]) -> dict[str, Any]:
    """Return the volume that a body asks for: ``name``, ``dataCenterId``, ``size`` in GB.

    Raises:
        RefusalError: 400, it cannot be.
    """
    place, name, size = given.get("dataCenterId"), given.get("name"), given.get("size")
    for field, value in (("dataCenterId", place), ("name", name)):
        if not isinstance(value, str) or not _PART.fullmatch(value):
            raise RefusalError(
                400, f"{field} must be letters, digits, spaces, '_', '.' or '-', not {value!r}."
            )
    if not isinstance(size, int) or isinstance(size, bool) or size < 1:
        raise RefusalError(400, f"size must be a number of GB, 1 or more, not {size!r}.")
    return {"id": f"{place}-{name}", "name": name, "dataCenterId": place, "size": size}
