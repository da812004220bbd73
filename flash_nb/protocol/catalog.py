"""Runpod's catalog of GPUs: what its answer says about groups, their prices and their stock.

The catalog is part of Runpod's REST API v2: ``GET /v2/catalog/gpus``. It is the one documented place
that has serverless prices: `gpuTypes` of GraphQL knows those of pods. An entry is a card; it names the
pool (our group) it belongs to, the pool's list price (``price.serverless``, USD per hour for one card),
and, when asked with ``include=AVAILABILITY&product=SERVERLESS``, the stock in each data center.

Its prices of CPUs (``/v2/catalog/cpus``) are not read: the documentation does not say of which time
``serverlessPerVcpu`` is the price.

Source: Runpod's OpenAPI document of API v2 (``api-reference-v2/openapi.json`` in its documentation).
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

from flash_nb.errors import BackendError
from flash_nb.resources.choice import find
from flash_nb.resources.offers import LEVELS, Offers, Stock
from flash_nb.resources.prices import GroupPrice, PriceTable, shipped

QUERY = "include=AVAILABILITY&product=SERVERLESS"
SECONDS = 3600  # its prices are for an hour

Card = Mapping[str, Any]

_GROUP = re.compile(r"[A-Z0-9_]+")


def offers(answer: object, *, date: str) -> Offers:
    """Return what an answer of the catalog offers; cards that are in no group are left out.

    Args:
        answer: The JSON that came.
        date: The day it came, as ``YYYY-MM-DD``.

    Raises:
        BackendError: It is no catalog, or it has no groups.
    """
    cards: dict[str, list[Card]] = {}
    for card in _objects(answer.get("gpus") if isinstance(answer, Mapping) else None):
        if _is_group(card.get("pool")):
            cards.setdefault(card["pool"], []).append(card)
    if not cards:
        raise BackendError("Runpod's catalog lists no GPU groups.")
    groups = sorted(
        (_group(group, members) for group, members in cards.items()),
        key=lambda entry: (entry.vram_gb, entry.usd_per_s or float("inf")),
    )
    return Offers(
        PriceTable(date, "Runpod's catalog", tuple(groups)),
        {group: _stock(members) for group, members in cards.items() if any(map(_has_stock, members))},
        is_live=True,
    )


def _is_group(value: object) -> bool:
    return isinstance(value, str) and _GROUP.fullmatch(value) is not None


def _objects(value: object) -> list[Card]:
    """Return the objects in a list; nothing for what is no list."""
    return [each for each in value if isinstance(each, Mapping)] if isinstance(value, list) else []


def _group(group: str, cards: Sequence[Card]) -> GroupPrice:
    known = shipped().find(group)
    names = tuple(str(card.get("name") or card.get("id")) for card in cards)
    memories = [size for card in cards if (size := _number(card.get("memory")))]
    prices = [price for card in cards if (price := _price(card)) is not None]
    return GroupPrice(
        group,
        known.cards if known else names,
        int(min(memories, default=known.vram_gb if known else 0)),
        max(prices) / SECONDS if prices else None,
    )


def _price(card: Card) -> float | None:
    price = card.get("price")
    return _number(price.get("serverless")) if isinstance(price, Mapping) else None


def _number(value: object) -> float | None:
    """Return a positive number; None for anything else: a price of 0 is none."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    return float(value) if 0 < value < float("inf") else None


def _has_stock(card: Card) -> bool:
    """Say if the stock of a card was told: its data centers are left out when there is none of it."""
    return "availability" in card or "dataCenters" in card


def _stock(cards: Sequence[Card]) -> dict[str, Stock]:
    """Return the best stock of any of these cards, by data center."""
    best: dict[str, Stock] = {}
    for card in cards:
        for center in _objects(card.get("dataCenters")):
            name, stock = str(center.get("id")), find(Stock, center.get("availability"))
            if stock is not None:
                best[name] = max(best.get(name, Stock.NONE), stock, key=LEVELS.index)
    return best
