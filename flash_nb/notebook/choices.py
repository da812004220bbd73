"""How choices look: the list of GPU groups, what a selection costs, and what was chosen. Pure rendering.

What stays below a cell is one small piece of HTML with inline styles only, as every record is. An amount
stands in an element of its own there: JupyterLab takes what is between two ``$`` of a text for a formula.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from html import escape

from flash_nb.notebook.default import Default
from flash_nb.resources.offers import Offers, Stock
from flash_nb.resources.prices import GroupPrice
from flash_nb.sdk.look import AMBER, BLUE, BOX, GREEN, RED, human_time
from flash_nb.sdk.money import HOUR_S, amount
from flash_nb.sdk.selection import COMMAND, Estimate, Selection

ROW_PX = 26
UNKNOWN = "–"

_STOCK = {
    Stock.HIGH: ("●●●", "high", GREEN),
    Stock.MEDIUM: ("●●○", "medium", GREEN),
    Stock.LOW: ("●○○", "low", AMBER),
    Stock.NONE: ("○○○", "none", RED),
}
_TABLE = (
    "color:inherit;border-collapse:collapse;font-size:13px;"
    "font-variant-numeric:tabular-nums;white-space:nowrap"
)
_CELL = (
    f"height:{ROW_PX}px;line-height:{ROW_PX}px;padding:0 12px 0 0;min-width:{{width}}px;text-align:{{align}}"
)
_FAINT = "opacity:.65"
_PLACE = (
    "display:inline-block;min-width:15px;padding:0 2px;border-radius:9px;text-align:center;font-size:11px;"
    f"line-height:17px;font-weight:600;color:#fff;background:{BLUE}"
)
_MORE = f"padding-left:15px;font-size:12px;{_FAINT}"
_PRE = (
    "margin:4px 0 2px 0;padding:6px 8px;font-size:12px;line-height:1.45;"
    "border:1px solid rgba(128,128,128,.35);border-radius:3px"
)
_RIGHT = ("VRAM", "$/s", "$/h")
COLUMNS = ("", "Group", "Cards", *_RIGHT, "Available")
_WIDTHS = (18, 112, 236, 46, 52, 36, 76)


# --- the list of groups -------------------------------------------------------------------------------


def list_html(entries: Sequence[GroupPrice], offers: Offers, selection: Selection) -> str:
    """Return the table of groups: each row is `ROW_PX` high, so that a control can stand beside it."""
    head = _row(COLUMNS, f"{_FAINT};font-weight:400")
    rows = [_row(_cells(entry, offers, selection)) for entry in entries]
    if not entries:
        rows = [_row(["", "No group is like that."])]
    return f'<table style="{_TABLE}">{head}{"".join(rows)}</table>'


def _cells(entry: GroupPrice, offers: Offers, selection: Selection) -> list[str]:
    is_chosen = entry.group in selection.gpus
    return [
        f'<span style="{_PLACE}">{selection.gpus.index(entry.group) + 1}</span>' if is_chosen else "",
        f"<b>{escape(entry.group)}</b>" if is_chosen else escape(entry.group),
        escape(", ".join(_short(entry.cards))),
        f"{entry.vram_gb} GB",
        _per_s(entry),
        _per_h(entry),
        _stock_html(offers, entry.group, selection.datacenter),
    ]


def _short(cards: Sequence[str]) -> Iterator[str]:
    """Yield cards without the first word of the one before: ``RTX A4000, A4500``."""
    before = ""
    for card in cards:
        series, space, model = card.partition(" ")
        yield model if space and series == before else card
        before = series


def _row(cells: Sequence[str], style: str = "") -> str:
    drawn = (
        f'<td style="{_CELL.format(align="right" if column in _RIGHT else "left", width=width)}">{text}</td>'
        for text, column, width in zip(cells, COLUMNS, _WIDTHS, strict=False)
    )
    return f'<tr style="{style}">{"".join(drawn)}</tr>'


def _stock_html(offers: Offers, group: str, datacenter: str) -> str:
    stock = offers.stock_of(group, datacenter)
    if stock is None:
        return f'<span style="{_FAINT}">{_stock_text(offers, group, datacenter)}</span>'
    dots, word, colour = _STOCK[stock]
    return f'<span style="color:{colour};font-size:9px;letter-spacing:1px">{dots}</span> {word}'


def _stock_text(offers: Offers, group: str, datacenter: str) -> str:
    stock = offers.stock_of(group, datacenter)
    if stock is not None:
        return _STOCK[stock][1]
    return "simulated" if offers.is_simulated else UNKNOWN


def _per_s(entry: GroupPrice) -> str:
    return UNKNOWN if entry.usd_per_s is None else f"{entry.usd_per_s:.5f}"


def _per_h(entry: GroupPrice) -> str:
    return UNKNOWN if entry.usd_per_s is None else f"{entry.usd_per_s * HOUR_S:.2f}"


def list_text(offers: Offers, datacenter: str) -> str:
    """Return the groups as a text table, with what to type: for places without widgets."""
    lines = [
        (
            entry.group,
            ", ".join(entry.cards),
            f"{entry.vram_gb} GB",
            _per_s(entry),
            _per_h(entry),
            _stock_text(offers, entry.group, datacenter),
        )
        for entry in offers.table.groups
    ]
    table = [COLUMNS[1:], *lines]
    widths = [max(len(line[column]) for line in table) for column in range(len(COLUMNS) - 1)]
    drawn = [
        "  ".join(
            text.rjust(width) if column in _RIGHT else text.ljust(width)
            for text, width, column in zip(line, widths, COLUMNS[1:], strict=True)
        ).rstrip()
        for line in table
    ]
    usage = f"{COMMAND} --gpu GROUP [--gpu GROUP] | --cpu INSTANCE [--workers MIN:MAX] [--idle S] [NAME]"
    return "\n".join([*drawn, "", sources(offers), f"Choose: {usage}"])


def sources(offers: Offers) -> str:
    """Return where the prices are from, and of which day."""
    if offers.is_live:
        return f"Prices and stock live from {offers.table.source}, {offers.table.date}"
    why = f" · {offers.note}" if offers.note else ""
    return f"Prices of {offers.table.date} ({offers.table.source}){why}"


# --- what it costs ------------------------------------------------------------------------------------


def cost_facts(cost: Estimate | None) -> Iterator[tuple[str, str]]:
    """Yield an amount and what it pays for, for each of the costs of a resource."""
    if cost is None:
        return
    yield str(amount(cost.rate, HOUR_S)), "an hour of work"
    yield str(amount(cost.rate, cost.idle_s)), f"idling {human_time(cost.idle_s)} after it"
    if cost.workers_min:
        kept = "a worker" if cost.workers_min == 1 else f"{cost.workers_min} workers"
        yield str(amount(cost.rate, HOUR_S * cost.workers_min)), f"an hour of {kept} kept without work"
    if cost.workers_max > 1:
        yield str(amount(cost.rate, HOUR_S * cost.workers_max)), f"an hour of {cost.workers_max} workers"


def cost_html(cost: Estimate | None, kind: str, offers: Offers) -> str:
    """Return the estimate: amounts, then what they leave out and where they are from."""
    facts = [f"<b>{amount}</b> {escape(what)}" for amount, what in cost_facts(cost)]
    if not facts:
        facts = ["No price is known for CPU instances" if kind == "cpu" else "No price yet"]
    notes = [sources(offers)]
    if cost and cost.rate.unpriced:
        notes.insert(0, f"no price is known for {', '.join(cost.rate.unpriced)}")
    return (
        f'<div style="{BOX.format(colour=AMBER if offers.is_simulated else BLUE)}">'
        f"<div>{' · '.join(facts)}</div>"
        f'<div style="font-size:12px;{_FAINT}">{escape(" · ".join(notes))}</div></div>'
    )


# --- what was chosen ----------------------------------------------------------------------------------


def chosen_text(default: Default, cost: Estimate | None, *, simulated: bool = False) -> str:
    """Return the record of a choice for terminals; arguments as for `chosen_html`."""
    facts = [f"✓ {default.name} is this notebook's default", default.resource.describe()]
    facts += [f"{amount}{_paid(simulated)} {what}" for amount, what in cost_facts(cost)][:1]
    return " · ".join([*facts, *_deps(default)])


def chosen_html(
    default: Default, cost: Estimate | None, *, code: str = "", note: str = "", simulated: bool = False
) -> str:
    """Return the record of a choice: a line that is always seen, and details that fold out.

    Args:
        default: What was chosen.
        cost: What it costs, if that is known.
        code: Python that makes the same.
        note: Where the prices are from.
        simulated: Nobody has to pay that.
    """
    sign = f'<span style="color:{GREEN};font-weight:600">✓</span>'
    amounts = [f"<span>{amount}</span>{_paid(simulated)} {escape(what)}" for amount, what in cost_facts(cost)]
    facts = [
        f"{sign} <b>{escape(default.name)}</b> is this notebook's default",
        escape(default.resource.describe()),
        *amounts[:1],
        *map(escape, _deps(default)),
    ]
    more = " · ".join([*amounts[1:], *([escape(note)] if note else [])])
    details = (f'<div style="{_MORE}">{more}</div>' if more else "") + (code_html(code) if code else "")
    line = " · ".join(facts)
    if details:
        line = f'<details><summary style="cursor:pointer">{line}</summary>{details}</details>'
    return f'<div style="{BOX.format(colour=GREEN)}">{line}</div>'


def _paid(simulated: bool) -> str:
    return " simulated" if simulated else ""


def _deps(default: Default) -> list[str]:
    return [f"with {', '.join(default.deps)}"] if default.deps else []


def code_html(code: str) -> str:
    """Return code to copy."""
    return f'<pre style="{_PRE}">{escape(code)}</pre>'


def note_html(text: str) -> str:
    """Return a remark that stays below a cell."""
    return f'<div style="font-size:13px;{_FAINT}">{escape(text)}</div>'
