"""``%flash cost``: what was spent, and what still costs."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import reduce
from html import escape
from operator import add

import typer

from flash_nb.backends.base import EndpointInfo
from flash_nb.notebook.notebook import Notebook
from flash_nb.resources.prices import Rate
from flash_nb.sdk.look import AMBER, BLUE, BOX, human_time
from flash_nb.sdk.money import HOUR_S, amount
from flash_nb.sdk.outputs import Place
from flash_nb.sdk.session import current_session
from flash_nb.sdk.spending import Spent, Totals

_CELL = "text-align:{side};padding:1px 14px 1px 0;white-space:nowrap;border:none;font-weight:{weight}"
_TABLE = "border:none;border-collapse:collapse;font-size:12px;margin:2px 0;font-variant-numeric:tabular-nums"
_FAINT = "opacity:.65;font-size:12px"
_HEAD = ("", "resource", "jobs", "worker time", "cost")
_NUMBERS = 2  # from this column on they are numbers

Row = tuple[str, ...]


@dataclass(frozen=True)
class Bill:
    """What there is to show.

    Attributes:
        session: What this notebook's kernel has spent.
        month: What all notebooks of this machine have spent this month.
        idle: A line for each endpoint whose workers cost money now.
        prices: Where prices come from.
    """

    session: Totals
    month: Totals
    idle: Sequence[str] = ()
    prices: str = ""

    def rows(self) -> list[Row]:
        """Return the rows of the table."""
        return [*_rows("this notebook", self.session), *_rows("this month", self.month)]


def cost(ctx: typer.Context) -> None:
    """Show what this notebook and this month have spent, and what costs money now."""
    notebook: Notebook = ctx.obj
    session = current_session()
    session.spending.flush()
    offers = session.offers()
    bill = Bill(
        session.spending.totals,
        session.ledger.spent(),
        tuple(idle_lines(session.backend.name, session.endpoints(), session.rates())),
        f"prices: {offers.table.source}, {offers.table.date}",
    )
    if hasattr(notebook.shell, "kernel"):
        Place("cost").show(render_html(bill), render_text(bill))
    else:
        typer.echo(render_text(bill))


def idle_lines(backend: str, endpoints: Sequence[EndpointInfo], rates: Mapping[str, Rate]) -> Iterator[str]:
    """Yield a line for each endpoint that has workers up and no job for them.

    Args:
        backend: Who runs them.
        endpoints: Those that exist.
        rates: What a worker costs, by the endpoint's name, as far as it is known.
    """
    for endpoint in endpoints:
        idle = endpoint.workers.get("idle", 0)
        if not idle:
            continue
        rate = rates.get(endpoint.name)
        hourly = f", {amount(rate, HOUR_S * idle).told(backend)} an hour" if rate else ""
        stop = endpoint.name if endpoint.is_ours else endpoint.id
        yield f"{endpoint.name}: {idle} idle worker{'s' * (idle != 1)}{hourly} · stop: %flash down {stop}"


def render_html(bill: Bill) -> str:
    """Return the bill as HTML."""
    lines = "".join(f"<div>{escape(line)}</div>" for line in bill.idle)
    body = "".join(_html_row(row, "600" if not row[1] else "400") for row in bill.rows())
    table = (
        f'<table style="{_TABLE}">{_html_row(_HEAD, "500")}{body}</table>' if body else "Nothing was spent."
    )
    colour = AMBER if bill.idle else BLUE
    return (
        f'<div style="{BOX.format(colour=colour)}">{table}{lines}'
        f'<div style="{_FAINT}">{escape(bill.prices)}</div></div>'
    )


def render_text(bill: Bill) -> str:
    """Return the bill for a terminal."""
    rows = [_HEAD, *bill.rows()]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = ["  ".join(map(_padded, range(len(row)), row, widths)).rstrip() for row in rows]
    return "\n".join([*(lines if len(rows) > 1 else ["Nothing was spent."]), *bill.idle, bill.prices])


def _rows(title: str, totals: Totals) -> Iterator[Row]:
    """Yield a row for each resource, and one for the sum if there are several."""
    for account, spent in sorted(totals.items(), key=lambda pair: -pair[1].cost.high):
        yield (title, account.resource, *_numbers(spent, account.backend))
        title = ""
    for backend in dict.fromkeys(account.backend for account in totals):
        parts = [spent for account, spent in totals.items() if account.backend == backend]
        if len(parts) > 1:
            yield (f"sum on {backend}", "", *_numbers(reduce(add, parts), backend))


def _numbers(spent: Spent, backend: str) -> Row:
    unknown = spent.unpriced == spent.jobs
    return (
        f"{spent.jobs:,}",
        human_time(spent.seconds),
        "no price known" if unknown else spent.cost.told(backend),
    )


def _html_row(row: Row, weight: str) -> str:
    return f"<tr>{''.join(_html_cell(place, text, weight) for place, text in enumerate(row))}</tr>"


def _html_cell(place: int, text: str, weight: str) -> str:
    style = _CELL.format(side="right" if place >= _NUMBERS else "left", weight=weight)
    return f'<td style="{style}">{escape(text)}</td>'


def _padded(place: int, text: str, width: int) -> str:
    return text.rjust(width) if place >= _NUMBERS else text.ljust(width)
