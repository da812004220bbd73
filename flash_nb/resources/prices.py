"""Prices: what one second of a GPU of each group costs, and of a worker with a given resource.

The shipped table is for estimates without a network; `flash_nb.backends` asks the service for a newer
one. Runpod bills a *flex* worker, which is there only while there is work, for each second from its
start until it ends, idling included. That is the price here, also for *active* workers (``workersMin``):
Runpod's discounts on those are a matter of contract.

No price of a CPU instance is here: we have no source with a date for one.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from .serverless import ServerlessResource

_FORM_FACTOR = re.compile(r" (PCIe|SXM4|HBM3|NVL)$")
_DAY = re.compile(r"\d{4}-\d\d-\d\d")


@dataclass(frozen=True)
class GroupPrice:
    """One GPU group and its price.

    Attributes:
        group: Its id, such as ``"AMPERE_80"``.
        cards: The cards that a job may get, in the table's short spelling.
        vram_gb: The memory of one card, in GB.
        usd_per_s: The flex price of one card for one second in USD; None where none is known.
    """

    group: str
    cards: tuple[str, ...]
    vram_gb: int
    usd_per_s: float | None

    @property
    def label(self) -> str:
        """The cards without their form factors, and their memory: ``A100 80 GB``."""
        names = dict.fromkeys(_FORM_FACTOR.sub("", card) for card in self.cards)
        return f"{' / '.join(names)} {self.vram_gb} GB"


@dataclass(frozen=True)
class PriceTable:
    """The groups that there are, from the smallest to the largest.

    Attributes:
        date: The day the prices were read, as ``YYYY-MM-DD``.
        source: Where they were read, for people.
        groups: The groups with their prices.
    """

    date: str
    source: str
    groups: tuple[GroupPrice, ...]

    def find(self, group: str) -> GroupPrice | None:
        """Return the entry of a group; None if it is not in the table."""
        return next((entry for entry in self.groups if entry.group == group), None)


@dataclass(frozen=True)
class Rate:
    """What one worker costs, in USD for each second that it is up.

    Attributes:
        low, high: Bounds; equal if the resource has one group.
        unpriced: Groups that the resource may get and whose price is not known: the worker may cost
            less or more than the bounds say if it gets one of these.
    """

    low: float
    high: float
    unpriced: tuple[str, ...] = ()


@cache
def shipped() -> PriceTable:
    """Return the table that comes with this release (`gpu_prices.tsv`), read on first use."""
    from importlib.resources import files

    title, _, *rows = files(__package__).joinpath("gpu_prices.tsv").read_text("utf-8").splitlines()
    day = _DAY.search(title)
    assert day is not None
    return PriceTable(date=day[0], source="Runpod's documentation", groups=tuple(map(_read_row, rows)))


def _read_row(row: str) -> GroupPrice:
    group, cards, vram, price = row.split("\t")
    return GroupPrice(group, tuple(cards.split(", ")), int(vram), float(price) if price else None)


def usd_per_s(resource: ServerlessResource, table: PriceTable) -> Rate | None:
    """Return what one worker of a resource costs for each second that it is up.

    It has the cards of one of the resource's groups, which one is Runpod's choice: several groups
    give a range, `GpuGroup.ANY` that of all. A card counts as its group, times ``gpuCount``.

    Returns:
        The rate; None if no price is known for any of the groups, as on CPU.
    """
    groups = [word for word in resource.gpuIds.split(",") if word and not word.startswith("-")]
    known = {group: entry.usd_per_s for group in groups if (entry := table.find(group))}
    prices = [price * resource.gpuCount for price in known.values() if price is not None]
    if not prices:
        return None
    unpriced = tuple(group for group in groups if known.get(group) is None)
    return Rate(min(prices), max(prices), unpriced)
