"""Offers: what GPUs cost now and how many there are, as far as somebody can say."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from .choice import Choice
from .prices import PriceTable, shipped


class Stock(Choice):
    """How likely a worker gets a card now. Source: the levels of Runpod's catalog."""

    HIGH = "HIGH"
    MEDIUM = "MEDIUM"
    LOW = "LOW"
    NONE = "NONE"


LEVELS = (Stock.NONE, Stock.LOW, Stock.MEDIUM, Stock.HIGH)
"""From the worst to the best."""


@dataclass(frozen=True)
class Offers:
    """What can be had.

    Attributes:
        table: The groups and their prices.
        stock: By group, the stock of each data center that has its cards; empty if it is not known.
        is_live: Runpod said so just now; else `table` is the one that comes with this release.
        is_simulated: There are no GPUs, and nothing is paid.
        note: What a reader of the prices must know, such as why they are not live; may be empty.
    """

    table: PriceTable
    stock: Mapping[str, Mapping[str, Stock]] = field(default_factory=dict)
    is_live: bool = False
    is_simulated: bool = False
    note: str = ""

    def stock_of(self, group: str, datacenter: str = "") -> Stock | None:
        """Return the stock of a group in a data center, or the best of all for an empty name.

        Returns:
            The stock; None if it is not known.
        """
        if group not in self.stock:
            return None
        centers = self.stock[group]
        if datacenter:
            return centers.get(datacenter, Stock.NONE)
        return max(centers.values(), key=LEVELS.index, default=Stock.NONE)


def shipped_offers(note: str, *, is_simulated: bool = False) -> Offers:
    """Return the shipped prices, without stock."""
    return Offers(shipped(), note=note, is_simulated=is_simulated)
