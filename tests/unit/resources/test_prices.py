"""The shipped prices, and what a worker of a resource costs."""

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flash_nb.resources import CpuLiveServerless, GpuGroup, LiveServerless
from flash_nb.resources.gpu import TYPES, GpuType
from flash_nb.resources.prices import GroupPrice, PriceTable, Rate, shipped, usd_per_s


def cost(*gpus, count=1, table=None):
    return usd_per_s(LiveServerless(name="r", gpus=list(gpus), gpuCount=count), table or shipped())


def test_every_group_is_in_the_table_from_small_to_large():
    table = shipped()
    assert re.fullmatch(r"20\d\d-\d\d-\d\d", table.date)
    assert [entry.group for entry in table.groups] == list(GpuGroup.all()) == list(TYPES)
    assert all(entry.vram_gb == int(entry.group.split("_")[1]) for entry in table.groups)
    assert all(entry.cards for entry in table.groups)


@pytest.mark.parametrize(("group", "price"), [("AMPERE_80", 0.00076), ("HOPPER_141", 0.00155)])
def test_one_group(group, price):
    assert shipped().find(group).usd_per_s == price
    assert cost(group) == Rate(price, price)


def test_a_group_without_a_published_price_has_none():
    assert shipped().find("ADA_32_PRO").usd_per_s is None
    assert shipped().find("RUBIN_288") is None
    assert cost("ADA_32_PRO") is None
    assert cost("RUBIN_288") is None


def test_several_groups_give_a_range_and_say_what_it_leaves_out():
    assert cost("AMPERE_80", "ADA_80_PRO", "AMPERE_16") == Rate(0.00016, 0.00116)
    assert cost("AMPERE_80", "ADA_32_PRO", "RUBIN_288") == Rate(0.00076, 0.00076, ("ADA_32_PRO", "RUBIN_288"))


def test_any_is_the_range_of_all():
    assert cost(GpuGroup.ANY) == Rate(0.00016, 0.0024, ("ADA_32_PRO",))


def test_a_card_costs_what_its_group_does():
    assert cost(GpuType.NVIDIA_L4) == cost(GpuGroup.AMPERE_24)


def test_cpu_has_no_known_price():
    assert usd_per_s(CpuLiveServerless(name="c"), shipped()) is None


@given(st.lists(st.sampled_from(GpuGroup.all()), min_size=1, max_size=5), st.integers(1, 8))
def test_the_range_holds_the_price_of_each_group_times_the_cards(groups, count):
    rate = cost(*groups, count=count)
    singles = [price for group in groups if (price := shipped().find(group).usd_per_s) is not None]
    assert (rate is None) == (not singles)
    if rate is not None:
        assert (rate.low, rate.high) == (min(singles) * count, max(singles) * count)


def test_another_table_gives_its_own_prices():
    table = PriceTable("2030-01-01", "somewhere", (GroupPrice("AMPERE_80", ("A100",), 80, 0.5),))
    assert cost("AMPERE_80", count=2, table=table) == Rate(1.0, 1.0)


def test_label():
    assert shipped().find("AMPERE_48").label == "A40 / RTX A6000 48 GB"
    assert shipped().find("ADA_80_PRO").label == "H100 80 GB"
