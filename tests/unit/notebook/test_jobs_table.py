"""The table of jobs: what it counts, which rows it shows in which order, and that its HTML is harmless."""

from __future__ import annotations

import json
from dataclasses import replace
from html.parser import HTMLParser

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flash_nb.jobs import JobInfo, JobStatus
from flash_nb.notebook.jobs_table import MOST_ROWS, SIMULATION, JobsTable, as_line, render_html, render_text
from flash_nb.resources.prices import Rate
from flash_nb.sdk.board import About, Origin, Row

NOW = 1_795_000_000.0
RUNNING = Row(
    7,
    About("cell", "gpu-big", "A100 80 GB (AMPERE_80)", "local", Origin(number=12)),
    JobInfo(
        "ab12-u1",
        "e",
        JobStatus.IN_PROGRESS,
        NOW - 130,
        worker="w-7f3a91c2",
        attempts=1,
        started_at=NOW - 100.9,
    ),
    last_line="epoch 3 of 10",
)


def row(number: int, status: JobStatus, **changes: object) -> Row:
    return replace(
        RUNNING, number=number, info=replace(RUNNING.info, id=f"{number}-u1", status=status), **changes
    )


def failed(error: str) -> Row:
    info = replace(RUNNING.info, status=JobStatus.FAILED, ended_at=NOW - 1, run_s=3.2, error=error)
    return replace(RUNNING, info=info)


class Page(HTMLParser):
    """Collects what HTML shows: the rows of its table, the text around, all tags and attributes."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.rows: list[list[str]] = []
        self.text = ""
        self.tags: list[str] = []
        self.attributes: dict[str, list[str]] = {}
        self._open: list[str] = []
        self.feed(html)
        self.close()
        assert not self._open

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self._open.append(tag)
        self.tags.append(tag)
        for name, value in attrs:
            self.attributes.setdefault(name, []).append(value or "")
        if tag == "tr":
            self.rows.append([])
        if tag in {"td", "th"}:
            self.rows[-1].append("")

    def handle_endtag(self, tag: str) -> None:
        assert self._open.pop() == tag

    def handle_data(self, data: str) -> None:
        if self._open[-1] in {"td", "th"}:
            self.rows[-1][-1] += data
        else:
            self.text += data


def page(*rows: Row, **options: object) -> Page:
    return Page(render_html(JobsTable(rows, NOW, **options)))


def lines(*rows: Row, **options: object) -> list[str]:
    return render_text(JobsTable(rows, NOW, **options)).splitlines()


def test_a_row_that_runs() -> None:
    titles, cells = page(RUNNING).rows
    assert titles == ["#", "status", "cell", "resource", "worker", "age", "run", "last line"]
    assert cells == [
        "7",
        "◐ running",
        "In [12]",
        "gpu-big",
        "w-7f3a91c2",
        "2 min",
        "1 min 40 s",
        "epoch 3 of 10",
    ]
    head, titles_line, line = lines(RUNNING)
    assert head.startswith("◐ 1 running · 20")
    assert titles_line.split(maxsplit=7) == titles
    assert [text.strip() for text in line.split("  ") if text.strip()] == cells


@pytest.mark.parametrize(
    ("changed", "line"),
    [
        (failed("ValueError: no\nTraceback …"), "ValueError: no"),
        (row(1, JobStatus.CANCELLED), "epoch 3 of 10"),
        (
            replace(row(1, JobStatus.IN_QUEUE), phase="downloading torch (780 MB)"),
            "downloading torch (780 MB)",
        ),
        (failed("x" * 200), "x" * 119 + "…"),
        (replace(RUNNING, last_line="\x1b[32mgreen\x1b[0m\tand more"), "green and more"),
    ],
)
def test_the_last_line_is_the_error_what_is_waited_for_or_what_was_printed(changed: Row, line: str) -> None:
    assert page(changed).rows[1][-1] == line


@pytest.mark.parametrize(
    ("age_s", "text"),
    [(0.4, "0 s"), (59.9, "59 s"), (60, "1 min"), (7300, "2 h"), (200_000, "2 d"), (-2, "0 s")],
)
def test_age(age_s: float, text: str) -> None:
    old = replace(RUNNING, info=replace(RUNNING.info, submitted_at=NOW - age_s))
    assert page(old).rows[1][5] == text


def test_run_time() -> None:
    assert page(failed("no")).rows[1][6] == "3.2 s"
    assert page(replace(RUNNING, info=replace(RUNNING.info, started_at=NOW - 0.2))).rows[1][6] == "0 s"
    assert page(row(1, JobStatus.IN_QUEUE)).rows[1][6] == ""


def test_a_function_has_its_name_for_a_cell() -> None:
    assert page(replace(RUNNING, about=About("train()", "gpu-big"))).rows[1][2] == "train()"


def test_costs_have_a_column_where_they_are_known() -> None:
    priced = replace(RUNNING, about=replace(RUNNING.about, rate=Rate(0.001, 0.002), backend="runpod"))
    titles, first, second = page(priced, row(1, JobStatus.COMPLETED)).rows
    assert titles[7] == "cost"
    assert (first[7], second[7]) == ("≤ $0.20", "")
    assert SIMULATION not in page(priced).text
    local = replace(priced, about=replace(priced.about, backend="local"))
    assert page(local).text.endswith(SIMULATION)
    assert lines(local)[-1] == SIMULATION


def test_what_runs_is_above_what_is_queued_above_what_is_over() -> None:
    statuses = [JobStatus.COMPLETED, JobStatus.IN_QUEUE, JobStatus.FAILED, JobStatus.IN_PROGRESS]
    rows = [row(8 - place, statuses[place % 4]) for place in range(8)]
    assert [cells[0] for cells in page(*rows).rows[1:]] == ["5", "1", "7", "3", "8", "6", "4", "2"]


def test_what_is_left_out_is_counted() -> None:
    rows = [row(300 - n, JobStatus.IN_PROGRESS if n > 296 else JobStatus.COMPLETED) for n in range(300)]
    shown = page(*rows)
    assert len(shown.rows) - 1 == MOST_ROWS
    assert [cells[0] for cells in shown.rows[1:5]] == ["3", "2", "1", "300"]
    assert shown.text.startswith("◐ 3 running · ✓ 297 completed · ")
    assert shown.text.endswith("and 270 more: %flash jobs --all")
    assert lines(*rows)[-1] == "and 270 more: %flash jobs --all"
    assert len(page(*rows, most=None).rows) - 1 == 300
    assert len(render_html(JobsTable(rows, NOW))) < 30_000


@pytest.mark.parametrize(
    ("count", "said"),
    [(1, "1 job of a former kernel can be taken up: %flash attach"), (3, "3 jobs of a former kernel")],
)
def test_jobs_of_former_kernels_are_told(count: int, said: str) -> None:
    assert said in page(RUNNING, uncollected=count).text
    assert lines(uncollected=count)[0] == "No jobs in this kernel yet."
    assert said in lines(uncollected=count)[1]


def test_json() -> None:
    told = json.loads(as_line(RUNNING, NOW))
    assert {
        "number": 7,
        "id": "ab12-u1",
        "status": "IN_PROGRESS",
        "cell": 12,
        "cost": "",
    }.items() <= told.items()
    assert "\n" not in as_line(failed("two\nlines"), NOW)


def test_live_until_all_are_over() -> None:
    assert JobsTable([row(1, JobStatus.COMPLETED), row(2, JobStatus.IN_QUEUE)], NOW).is_live
    assert not JobsTable([row(1, JobStatus.COMPLETED)], NOW).is_live


@given(st.text(), st.text(), st.text(), st.sampled_from(JobStatus))
def test_html_is_harmless_whatever_jobs_say(label: str, line: str, error: str, status: JobStatus) -> None:
    about = replace(RUNNING.about, label=label, resource=label, origin=Origin())
    info = replace(RUNNING.info, status=status, error=error, worker=line)
    shown = page(Row(1, about, info, line, line))
    assert {*shown.tags} <= {"div", "span", "table", "thead", "tbody", "tr", "th", "td"}
    assert {*shown.attributes} <= {"style", "title"}
    assert all("var(" not in style for style in shown.attributes["style"])
    assert {len(cells) for cells in shown.rows} == {8}
