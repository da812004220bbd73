"""What GPUs cost, asked of every backend, and of a Runpod that does not answer."""

from __future__ import annotations

from datetime import datetime, timezone

import pytest
from door import Door
from faults import Fault
from test_backends import contract

from flash_nb.resources.offers import Stock
from flash_nb.resources.prices import shipped


@contract
async def test_offers_have_every_group_with_its_price(backend, new_backend):
    offers = await backend.offers()
    assert [entry.group for entry in offers.table.groups] == [entry.group for entry in shipped().groups]
    for entry, known in zip(offers.table.groups, shipped().groups, strict=True):
        assert entry.usd_per_s == (known.usd_per_s and pytest.approx(known.usd_per_s))
        assert (entry.cards, entry.vram_gb) == (known.cards, known.vram_gb)
    if backend.name == "local":
        assert (offers.is_live, offers.table.date) == (False, shipped().date)
        assert "simulated" in offers.note
        assert offers.stock_of("AMPERE_80") is None
    else:
        assert (offers.is_live, offers.note) == (True, "")
        assert offers.table.date == datetime.now(timezone.utc).date().isoformat()
        assert offers.stock_of("AMPERE_80", "EU-RO-1") is Stock.HIGH


@pytest.fixture(scope="module")
def door():
    with Door.open() as opened:
        yield opened


CATALOG = "/v2/catalog/gpus"


async def ask(backend, proxy):
    return await backend.offers()


@pytest.mark.parametrize("kind", ["drop", "lose", "cut", "half", "status"])
def test_a_fault_that_passes_is_not_seen(door, kind):
    assert door.run(ask, [Fault(CATALOG, kind)]).is_live


@pytest.mark.parametrize(
    ("fault", "note"),
    [
        (Fault(CATALOG, "status", status=500, times=10_000), "did not answer within"),
        (Fault(CATALOG, "status", status=404), "404"),
        (Fault(CATALOG, "status", status=401), "refuses the API key"),
        (Fault(CATALOG, "delay", seconds=3.0), "did not answer within"),
    ],
)
def test_without_an_answer_the_shipped_prices_are_given_and_it_is_said_why(door, fault, note, monkeypatch):
    monkeypatch.setattr("flash_nb.backends.runpod.backend.OFFERS_PATIENCE_S", 1.0)
    offers = door.run(ask, [fault])
    assert (offers.table, offers.is_live) == (shipped(), False)
    assert note in offers.note
    assert door.token not in offers.note
