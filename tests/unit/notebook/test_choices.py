"""How choices look: as HTML that is safe to keep, and as text."""

from __future__ import annotations

import re
from dataclasses import replace
from html.parser import HTMLParser

import pytest

from flash_nb.notebook import choices
from flash_nb.notebook.default import Default
from flash_nb.resources.offers import Offers, Stock, shipped_offers
from flash_nb.resources.prices import GroupPrice, PriceTable, shipped
from flash_nb.sdk.selection import Selection, code, estimate, matching, resource

A100 = Selection(name="train", gpus=("AMPERE_80", "ADA_80_PRO"), deps=("numpy",))
LOCAL = shipped_offers("simulated on this machine: nothing is paid", is_simulated=True)
HOSTILE = "<img src=x onerror=alert(1)>"


class Texts(HTMLParser):
    """Collects the pieces of text between tags."""

    def __init__(self, html):
        super().__init__()
        self.pieces, self.tags = [], set()
        self.feed(html)

    def handle_data(self, data):
        self.pieces.append(data)

    def handle_starttag(self, tag, attrs):
        self.tags.add(tag)
        assert {name for name, _ in attrs} <= {"style"}


def chosen(cost=True):
    default = Default("train", resource(A100, {}), A100.deps)
    return default, estimate(A100, shipped()) if cost else None


def all_html():
    default, cost = chosen()
    yield choices.list_html(shipped().groups, LOCAL, A100)
    yield choices.cost_html(cost, "gpu", LOCAL)
    yield choices.chosen_html(default, cost, code=code(A100), note=choices.sources(LOCAL))
    yield choices.note_html("done")


@pytest.mark.parametrize("html", [*all_html()])
def test_html_is_plain_and_no_text_has_two_dollars(html):
    texts = Texts(html)
    assert texts.tags <= {"div", "span", "b", "table", "tr", "td", "details", "summary", "pre"}
    assert all(piece.count("$") <= 1 for piece in texts.pieces), "JupyterLab takes that for a formula"
    assert not re.search(r"var\(|class=|id=", html)


def test_what_a_service_says_is_only_text():
    table = PriceTable(HOSTILE, HOSTILE, (GroupPrice("NEW_1", (HOSTILE,), 1, 0.1),))
    offers = Offers(table, {"NEW_1": {}}, note=HOSTILE)
    selection = replace(A100, gpus=("NEW_1",))
    shown = choices.list_html(table.groups, offers, selection) + choices.cost_html(None, "gpu", offers)
    assert "<img" not in shown
    assert "&lt;img" in shown


def test_a_row_says_its_place_stock_and_prices():
    stock = {"ADA_80_PRO": {"EU-RO-1": Stock.LOW}, "HOPPER_141": {"EU-RO-1": Stock.HIGH}, "ADA_24": {}}
    html = choices.list_html(matching(shipped(), ""), Offers(shipped(), stock, is_live=True), A100)
    rows = {row[1]: row for row in (Texts(row).pieces for row in html.split("</tr>")) if len(row) > 1}
    assert Texts(html).pieces[:6] == ["Group", "Cards", "VRAM", "$/s", "$/h", "Available"]
    assert rows["ADA_80_PRO"] == [
        "2",
        "ADA_80_PRO",
        "H100 PCIe, HBM3, NVL",
        "80 GB",
        "0.00116",
        "4.18",
        "●○○",
        " low",
    ]
    assert "●●● high" in "".join(Texts(html).pieces)
    assert "○○○ none" in "".join(Texts(html).pieces)
    assert "No group is like that." in choices.list_html((), LOCAL, A100)


def test_text_for_places_without_widgets():
    text = choices.list_text(LOCAL, "EU-RO-1").splitlines()
    assert text[0].split() == ["Group", "Cards", "VRAM", "$/s", "$/h", "Available"]
    assert len(text) == 1 + len(shipped().groups) + 3
    assert re.fullmatch(r"AMPERE_80 +A100 PCIe, A100 SXM4 +80 GB +0\.00076 +2\.74 +simulated", text[7])
    assert re.fullmatch(r"ADA_32_PRO +RTX 5090 +32 GB +– +– +simulated", text[4])
    assert len({line.index(" GB") for line in text[1:12]}) == 1, "the columns are aligned"
    assert text[-2] == f"Prices of {shipped().date} (Runpod's documentation) · {LOCAL.note}"
    assert text[-1].startswith("Choose: %flash use --gpu GROUP")


def test_costs():
    default, cost = chosen()
    text = "".join(Texts(choices.cost_html(cost, "gpu", LOCAL)).pieces)
    assert (
        "$2.74–4.18 an hour of work · $0.23–0.35 idling 5 min after it · $8.21–12.53 an hour of 3 workers"
        in text
    )
    kept = estimate(replace(A100, workers_min=1, gpus=("AMPERE_80", "ADA_32_PRO")), shipped())
    text = "".join(Texts(choices.cost_html(kept, "gpu", LOCAL)).pieces)
    assert "$2.74 an hour of a worker kept without work" in text
    assert "no price is known for ADA_32_PRO" in text
    assert "No price is known for CPU instances" in choices.cost_html(None, "cpu", LOCAL)
    assert choices.chosen_text(default, cost) == (
        "✓ train is this notebook's default · A100 80 GB (AMPERE_80) or 1 more · 0–3 workers · idle 300 s · "
        "$2.74–4.18 an hour of work · with numpy"
    )


def test_live_prices_say_so():
    offers = Offers(replace(shipped(), date="2030-01-02", source="Runpod's catalog"), is_live=True)
    assert choices.sources(offers) == "Prices and stock live from Runpod's catalog, 2030-01-02"
