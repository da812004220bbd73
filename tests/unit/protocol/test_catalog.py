"""What Runpod's catalog says: groups out of cards, prices for a second, stock by data center."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flash_nb.errors import BackendError
from flash_nb.protocol import catalog
from flash_nb.resources.offers import LEVELS, Stock


def card(name="RTX 4090", pool="ADA_24", memory=24, price=1.116, **fields):
    return {"id": f"NVIDIA {name}", "name": name, "pool": pool, "memory": memory} | (
        {"price": {"secure": 9.0, "community": 8.0, "serverless": price}} | fields
    )


def center(name, level):
    return {"id": name, "name": name, "availability": level}


def read(*cards):
    return catalog.offers({"gpus": list(cards)}, date="2030-01-02")


def test_a_price_is_for_a_second_and_dated():
    offers = read(card())
    assert (offers.table.date, offers.is_live) == ("2030-01-02", True)
    (entry,) = offers.table.groups
    assert (entry.group, entry.cards, entry.vram_gb) == ("ADA_24", ("RTX 4090",), 24)
    assert entry.usd_per_s == pytest.approx(0.00031)


def test_cards_of_a_group_are_one_entry_with_the_smallest_memory_and_the_highest_price():
    offers = read(card("A", "NEW_16", 20, 1.8), card("B", "NEW_16", 16, 3.6))
    (entry,) = offers.table.groups
    assert (entry.cards, entry.vram_gb, entry.usd_per_s) == (("A", "B"), 16, pytest.approx(0.001))


def test_groups_go_from_the_smallest_to_the_largest():
    offers = read(card(pool="B_80", memory=80, price=2), card(pool="A_80", memory=80, price=1), card())
    assert [entry.group for entry in offers.table.groups] == ["ADA_24", "A_80", "B_80"]


@pytest.mark.parametrize("price", [None, 0, -1, "1", True, float("nan"), float("inf")])
def test_what_is_no_price_is_none(price):
    assert read(card(price=price)).table.groups[0].usd_per_s is None


def test_a_card_in_no_group_is_left_out():
    assert [entry.group for entry in read(card(pool=None), card()).table.groups] == ["ADA_24"]


def test_stock_is_the_best_of_the_cards_in_each_data_center():
    offers = read(
        card(dataCenters=[center("EU-RO-1", "LOW"), center("US-KS-2", "NONE")]),
        card(dataCenters=[center("EU-RO-1", "HIGH"), center("US-CA-2", "odd")]),
        card(pool="AMPERE_80", availability="NONE"),
        card(pool="AMPERE_48"),
    )
    assert offers.stock_of("ADA_24", "EU-RO-1") is Stock.HIGH
    assert offers.stock_of("ADA_24", "US-KS-2") is Stock.NONE
    assert offers.stock_of("ADA_24", "US-CA-2") is Stock.NONE
    assert offers.stock_of("ADA_24") is Stock.HIGH
    assert offers.stock_of("AMPERE_80") is Stock.NONE, "its data centers are left out if there is nothing"
    assert offers.stock_of("AMPERE_48") is None, "it was not asked for"
    assert offers.stock_of("HOPPER_141") is None


@pytest.mark.parametrize(
    "answer", [None, [], "text", {}, {"gpus": None}, {"gpus": [None, {"pool": 3}, {"pool": "<b>"}]}]
)
def test_what_is_no_catalog_is_refused(answer):
    with pytest.raises(BackendError, match="lists no GPU groups"):
        catalog.offers(answer, date="2030-01-02")


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=8,
)
CARDS = st.fixed_dictionaries(
    {},
    optional={
        "id": JSON,
        "name": JSON,
        "pool": st.sampled_from(["ADA_24", "NEW_1", None, 3]),
        "memory": JSON,
        "price": JSON | st.fixed_dictionaries({"serverless": JSON}),
        "dataCenters": JSON
        | st.lists(
            st.fixed_dictionaries(
                {"id": st.text(max_size=3), "availability": st.sampled_from([*LEVELS, "odd"])}
            )
        ),
    },
)


@given(st.lists(CARDS, max_size=4))
def test_odd_answers_are_read_or_refused_in_our_own_words(cards):
    try:
        offers = catalog.offers({"gpus": cards}, date="2030-01-02")
    except BackendError:
        return
    assert all(entry.usd_per_s is None or entry.usd_per_s > 0 for entry in offers.table.groups)
