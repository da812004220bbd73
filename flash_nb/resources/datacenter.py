"""A data center of Runpod's."""

from __future__ import annotations

import re

from .choice import Choice, parse_open

_SHAPE = re.compile(r"[A-Z]{2,3}-[A-Z]{2}-\d+")


class DataCenter(Choice):
    """A data center. Newer ones may be given as text: ``"AP-JP-1"``.

    Source: the official SDK, EU-RO-1 in its 1.0.0, the others in its 1.21.0.
    """

    US_CA_2 = "US-CA-2"
    US_IL_1 = "US-IL-1"
    US_KS_2 = "US-KS-2"
    US_MO_1 = "US-MO-1"
    US_MO_2 = "US-MO-2"
    US_NC_2 = "US-NC-2"
    US_NE_1 = "US-NE-1"
    US_WA_1 = "US-WA-1"
    EU_CZ_1 = "EU-CZ-1"
    EU_RO_1 = "EU-RO-1"
    EUR_NO_1 = "EUR-NO-1"


def parse_datacenter(value: object) -> DataCenter | str:
    """Return the data center that `value` names; ValueError if it is none."""
    return parse_open(DataCenter, value, _SHAPE)


def parse_locations(text: str) -> str:
    """Return a comma list of data centers without spaces; ValueError if it names something else."""
    return ",".join(map(_parse_location, text.split(",")))


def _parse_location(text: str) -> str:
    try:
        return str(parse_datacenter(text.strip()))
    except ValueError as error:
        raise ValueError(f"names {text.strip()!r}, which {error}") from None
