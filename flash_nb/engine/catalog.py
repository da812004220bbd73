"""Runpod's catalog over HTTP, ``/v2/catalog/gpus``: every card, at the price of the shipped table.

The engine runs whatever is asked of it, so every card is in high stock in every data center.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from flash_nb.engine.gate import RefusalError, admit
from flash_nb.protocol.catalog import SECONDS
from flash_nb.resources.datacenter import DataCenter
from flash_nb.resources.gpu import TYPES, GpuGroup, GpuType
from flash_nb.resources.prices import GroupPrice, shipped

if TYPE_CHECKING:
    from flash_nb.engine.server import Server


class Catalog:
    """Answers the requests of Runpod's clients for GPUs.

    Args:
        server: The engine.
    """

    def __init__(self, server: Server) -> None:
        self._server = server

    @property
    def routes(self) -> list[Route]:
        """Its path."""
        return [Route("/v2/catalog/gpus", self._list, methods=["GET"])]

    async def _list(self, request: Request) -> Response:
        admit(request, self._server)
        included, product = (request.query_params.get(name) for name in ("include", "product"))
        if bool(included) != bool(product):
            raise RefusalError(400, "include=AVAILABILITY and product=SERVERLESS go together.")
        cards = [(card, entry) for entry in shipped().groups for card in TYPES[GpuGroup(entry.group)]]
        return JSONResponse({"gpus": [_card(*found, stock=bool(included)) for found in cards]})


def _card(card: GpuType, entry: GroupPrice, *, stock: bool) -> dict[str, Any]:
    price = {} if entry.usd_per_s is None else {"serverless": entry.usd_per_s * SECONDS}
    found: dict[str, Any] = {
        "id": str(card),
        "name": str(card).removeprefix("NVIDIA "),
        "manufacturer": "NVIDIA",
        "pool": entry.group,
        "memory": entry.vram_gb,
        "price": price,
    }
    if stock:
        centers = [{"id": str(center), "name": str(center), "availability": "HIGH"} for center in DataCenter]
        found |= {"availability": "HIGH", "dataCenters": centers}
    return found
