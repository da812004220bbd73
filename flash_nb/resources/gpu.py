"""A GPU: pools (groups) of cards, single cards (types), and how a choice of them is encoded.

What the cards of a pool are called, how much memory they have and what they cost is in `prices`.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable, Mapping

from flash_nb.errors import did_you_mean

from .choice import Choice, find
from .prices import shipped

_POOL = re.compile(r"(?P<family>[A-Z]+)_(?P<gigabytes>\d+)(_[A-Z]+)?")
_CARD = re.compile(r"(AMD|Intel|NVIDIA|Tesla)(?=.*\d)( [A-Za-z0-9.-]+)+")
_NEAR_CARDS = {"NVIDIA GB200", "NVIDIA GH200"}
"""Cards of their own, although their names are one letter away from that of a card in a pool."""


class GpuGroup(Choice):
    """A pool of interchangeable GPUs, by Runpod's pool id, from the smallest to the largest.

    Newer ones may be given as text: ``"RUBIN_288"``.

    Source: Runpod's table of pools on the day in `prices.shipped`. The official SDK has the
    ``BLACKWELL`` pools from its 1.9.0 on, the others from its 1.0.0.
    """

    ANY = "any"
    AMPERE_16 = "AMPERE_16"
    AMPERE_24 = "AMPERE_24"
    ADA_24 = "ADA_24"
    ADA_32_PRO = "ADA_32_PRO"
    AMPERE_48 = "AMPERE_48"
    ADA_48_PRO = "ADA_48_PRO"
    AMPERE_80 = "AMPERE_80"
    ADA_80_PRO = "ADA_80_PRO"
    BLACKWELL_96 = "BLACKWELL_96"
    HOPPER_141 = "HOPPER_141"
    BLACKWELL_180 = "BLACKWELL_180"

    @classmethod
    def all(cls) -> list[GpuGroup]:
        """Return every pool, without `ANY`."""
        return [group for group in cls if group is not cls.ANY]


class GpuType(Choice):
    """One card, by Runpod's GPU type id. Newer ones may be given as text: ``"NVIDIA GB300"``.

    Source: the official SDK's cards with their pools; L40, L40S, H100 PCIe and H100 NVL, which it
    leaves out, are from Runpod's table of pools, with the ids of its reference of GPU types.
    """

    ANY = "any"
    NVIDIA_GEFORCE_RTX_4090 = "NVIDIA GeForce RTX 4090"
    NVIDIA_GEFORCE_RTX_5090 = "NVIDIA GeForce RTX 5090"
    NVIDIA_RTX_6000_ADA_GENERATION = "NVIDIA RTX 6000 Ada Generation"
    NVIDIA_L40 = "NVIDIA L40"
    NVIDIA_L40S = "NVIDIA L40S"
    NVIDIA_H100_80GB_HBM3 = "NVIDIA H100 80GB HBM3"
    NVIDIA_H100_PCIe = "NVIDIA H100 PCIe"
    NVIDIA_H100_NVL = "NVIDIA H100 NVL"
    NVIDIA_RTX_A4000 = "NVIDIA RTX A4000"
    NVIDIA_RTX_A4500 = "NVIDIA RTX A4500"
    NVIDIA_RTX_4000_ADA_GENERATION = "NVIDIA RTX 4000 Ada Generation"
    NVIDIA_RTX_2000_ADA_GENERATION = "NVIDIA RTX 2000 Ada Generation"
    NVIDIA_RTX_A5000 = "NVIDIA RTX A5000"
    NVIDIA_L4 = "NVIDIA L4"
    NVIDIA_GEFORCE_RTX_3090 = "NVIDIA GeForce RTX 3090"
    NVIDIA_A40 = "NVIDIA A40"
    NVIDIA_RTX_A6000 = "NVIDIA RTX A6000"
    NVIDIA_A100_80GB_PCIe = "NVIDIA A100 80GB PCIe"
    NVIDIA_A100_SXM4_80GB = "NVIDIA A100-SXM4-80GB"
    NVIDIA_H200 = "NVIDIA H200"
    NVIDIA_RTX_PRO_6000_BLACKWELL_SERVER_EDITION = "NVIDIA RTX PRO 6000 Blackwell Server Edition"
    NVIDIA_RTX_PRO_6000_BLACKWELL_WORKSTATION_EDITION = "NVIDIA RTX PRO 6000 Blackwell Workstation Edition"
    NVIDIA_RTX_PRO_6000_BLACKWELL_MAX_Q_WORKSTATION_EDITION = (
        "NVIDIA RTX PRO 6000 Blackwell Max-Q Workstation Edition"
    )
    NVIDIA_B200 = "NVIDIA B200"


TYPES: Mapping[GpuGroup, tuple[GpuType, ...]] = {
    GpuGroup.AMPERE_16: (
        GpuType.NVIDIA_RTX_A4000,
        GpuType.NVIDIA_RTX_A4500,
        GpuType.NVIDIA_RTX_4000_ADA_GENERATION,
        GpuType.NVIDIA_RTX_2000_ADA_GENERATION,
    ),
    GpuGroup.AMPERE_24: (GpuType.NVIDIA_RTX_A5000, GpuType.NVIDIA_L4, GpuType.NVIDIA_GEFORCE_RTX_3090),
    GpuGroup.ADA_24: (GpuType.NVIDIA_GEFORCE_RTX_4090,),
    GpuGroup.ADA_32_PRO: (GpuType.NVIDIA_GEFORCE_RTX_5090,),
    GpuGroup.AMPERE_48: (GpuType.NVIDIA_A40, GpuType.NVIDIA_RTX_A6000),
    GpuGroup.ADA_48_PRO: (
        GpuType.NVIDIA_RTX_6000_ADA_GENERATION,
        GpuType.NVIDIA_L40,
        GpuType.NVIDIA_L40S,
    ),
    GpuGroup.AMPERE_80: (GpuType.NVIDIA_A100_80GB_PCIe, GpuType.NVIDIA_A100_SXM4_80GB),
    GpuGroup.ADA_80_PRO: (
        GpuType.NVIDIA_H100_80GB_HBM3,
        GpuType.NVIDIA_H100_PCIe,
        GpuType.NVIDIA_H100_NVL,
    ),
    GpuGroup.BLACKWELL_96: (
        GpuType.NVIDIA_RTX_PRO_6000_BLACKWELL_SERVER_EDITION,
        GpuType.NVIDIA_RTX_PRO_6000_BLACKWELL_WORKSTATION_EDITION,
        GpuType.NVIDIA_RTX_PRO_6000_BLACKWELL_MAX_Q_WORKSTATION_EDITION,
    ),
    GpuGroup.HOPPER_141: (GpuType.NVIDIA_H200,),
    GpuGroup.BLACKWELL_180: (GpuType.NVIDIA_B200,),
}
"""The cards of each pool: it is these that an encoding can exclude."""

GROUPS: Mapping[GpuType, GpuGroup] = {card: group for group, cards in TYPES.items() for card in cards}
"""The pool of each card."""

Gpu = GpuGroup | GpuType | str
"""A pool, a card, or the id of one newer than this release."""


def parse_gpu(value: object) -> Gpu:
    """Return the pool or card that `value` names.

    Both are open: Runpod adds them. An unknown pool id is taken as it is if it is written
    ``FAMILY_GB`` or ``FAMILY_GB_CLASS`` in capitals *and* its family or its size is new. So
    ``RUBIN_288`` and ``AMPERE_96`` pass; ``AMPERE_8O``, ``ampere80``, ``AMPER_80`` and ``ADA_80``
    (for ``ADA_80_PRO``) are taken for misspellings.

    An unknown card is taken as it is if it is a vendor's name and a model, and not a known card
    with a slip. Other digits make another model: ``NVIDIA B300`` and ``NVIDIA GeForce RTX 6090``
    pass; ``NVIDIA L44`` (one digit too many), ``NVIDA L4`` and ``NVIDIA RTX 4090`` do not.

    Raises:
        ValueError: It names neither; the message reads on from "field='value'".
    """
    known = find(GpuGroup, value) or find(GpuType, value)
    if known is not None:
        return known
    if isinstance(value, str) and (_is_new_pool(value) or _is_new_card(value)):
        return value
    near = _nearest(value) if isinstance(value, str) else ""
    raise ValueError(f"is not a GpuGroup or GpuType{near or '; the groups are ' + ', '.join(GpuGroup)}")


def _is_new_pool(text: str) -> bool:
    match = _POOL.fullmatch(text)
    if match is None:
        return False
    family = match["family"]
    sizes = {(pool["family"], pool["gigabytes"]) for pool in map(_POOL.fullmatch, GpuGroup.all()) if pool}
    families = {known for known, _ in sizes}
    if family in families:
        return (family, match["gigabytes"]) not in sizes
    return not did_you_mean(family, families)


def _is_new_card(text: str) -> bool:
    if text in _NEAR_CARDS:
        return True
    if not _CARD.fullmatch(text) or _pool_called(text):
        return False
    # Ignoring case, a slip adds, drops or changes one character; a longer name is another model.
    names = {card.casefold(): card for card in GROUPS if abs(len(card) - len(text)) <= 1}
    near = difflib.get_close_matches(text.casefold(), names, n=len(GROUPS), cutoff=0.9)
    return all(_without_digits(names[name]) == _without_digits(text) for name in near)


def _without_digits(text: str) -> str:
    return re.sub(r"\d", "#", text)


def _pool_called(text: str) -> GpuGroup | None:
    """Return the pool of a card by its short name, as in ``A100`` or ``NVIDIA RTX 4090``."""
    words = re.escape(text.removeprefix("NVIDIA "))
    for pool in shipped().groups:
        if words and any(re.search(rf"\b{words}\b", card, re.IGNORECASE) for card in pool.cards):
            return GpuGroup(pool.group)
    return None


def _nearest(text: str) -> str:
    if (pool := _pool_called(text)) and (known := shipped().find(pool)):
        return f"; did you mean {pool!r} ({known.label})?"
    names = {card.casefold(): card for card in GROUPS}
    near = difflib.get_close_matches(text.casefold(), names, n=1)
    return did_you_mean(text.upper(), GpuGroup) or (f"; did you mean {names[near[0]]!r}?" if near else "")


def gpu_ids(gpus: Iterable[Gpu]) -> str:
    """Return Runpod's encoding of a choice of GPUs.

    A pool is its id; a card is the id of its pool and ``-<type>`` for every other card of it, unless
    the pool itself was chosen too; an id that we do not know is passed on as written. Pool ids keep
    the given order, which is the order of preference; exclusions follow, sorted. The result depends
    on nothing else: the official 1.0.0 walked a set, so that every new process saw its endpoint as
    changed.

    >>> gpu_ids([GpuType.NVIDIA_L4, GpuGroup.AMPERE_80])
    'AMPERE_24,AMPERE_80,-NVIDIA GeForce RTX 3090,-NVIDIA RTX A5000'
    """
    chosen = set(gpus := tuple(gpus))
    if GpuGroup.ANY in chosen:
        return ",".join(GpuGroup.all())
    pools = dict.fromkeys(GROUPS[gpu] if isinstance(gpu, GpuType) else gpu for gpu in gpus)
    excluded = [
        f"-{card}"
        for pool in pools
        if isinstance(pool, GpuGroup) and pool not in chosen
        for card in TYPES[pool]
        if card not in chosen
    ]
    return ",".join([*pools, *sorted(excluded)])


def describe_gpu(gpu: Gpu) -> str:
    """Return one GPU for people: ``A100 80 GB (AMPERE_80)``, ``NVIDIA L4``, ``any GPU``."""
    if gpu is GpuGroup.ANY:
        return "any GPU"
    pool = shipped().find(gpu)
    return f"{pool.label} ({gpu})" if pool else str(gpu)
