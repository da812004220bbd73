"""The progress of a map: state in, text and HTML out."""

from __future__ import annotations

import io
import re
import sys
from html.parser import HTMLParser

import pytest

from flash_nb.sdk.progress import (
    ItemFailure,
    MapStatus,
    Progress,
    describe_failure,
    human_rate,
    place,
    render_html,
    render_line,
    render_text,
)

RUNNING = Progress(
    "double()", "tested", done=30, total=120, failed=2, running=8, queued=3, elapsed_s=9, working_s=8
)
WRONG = ItemFailure(7, "'seven'", "ValueError: <bad>")

LINES = {
    Progress("f()", "here", total=4): "◐ running f() on here · ░░░░░░░░░░░░░░░░░░░░ 0/4",
    Progress("f()", "here", total=4, queued=4): "◐ running f() on here · ░░░░░░░░░░░░░░░░░░░░ 0/4 · 4 queued",
    RUNNING: (
        "◐ running double() on tested · █████░░░░░░░░░░░░░░░ 32/120 · 2 failed · 8 running · 4/s · 22 s left"
    ),
    Progress("f()", "here", done=1234, running=2, working_s=10): (
        "◐ running f() on here · 1,234 items · 2 running · 123/s"
    ),
    Progress("f()", "here", done=2, total=10_000, working_s=120): (
        "◐ running f() on here · ░░░░░░░░░░░░░░░░░░░░ 2/10,000 · 1/min · 166 h 38 min left"
    ),
    Progress("f()", "here", MapStatus.CANCELLING, done=1, total=2, running=1, working_s=1): (
        "⊘ cancelling f() on here · ██████████░░░░░░░░░░ 1/2 · 1 running"
    ),
    Progress("f()", "here", MapStatus.COMPLETED, done=5, total=5, elapsed_s=2, working_s=1): (
        "✓ completed f() on here · 5/5 · 5/s · 2.0 s"
    ),
    Progress("f()", "here", MapStatus.COMPLETED, done=5, total=5, kept=4, elapsed_s=2, working_s=1): (
        "✓ completed f() on here · 5/5 · 4 from before · 2.0 s"
    ),
    Progress("f()", "here", MapStatus.CANCELLED, done=2, total=5, elapsed_s=2, working_s=1): (
        "⊘ cancelled f() on here · 2/5 · 2/s · 2.0 s"
    ),
    Progress("f()", "here", MapStatus.COMPLETED, done=1, total=1, elapsed_s=2, note="simulated"): (
        "✓ completed f() on here · 1/1 · 2.0 s · simulated"
    ),
    Progress(
        "f()", "here", MapStatus.COMPLETED, total=0, elapsed_s=0.01
    ): "✓ completed f() on here · 0/0 · 10 ms",
}


@pytest.mark.parametrize("progress", LINES, ids=LINES.values())
def test_line(progress: Progress) -> None:
    assert render_line(progress) == LINES[progress]


def test_text_says_what_failed() -> None:
    state = Progress("f()", "h", MapStatus.FAILED, done=1, failed=3, total=4, elapsed_s=1, failures=(WRONG,))
    assert render_text(state).splitlines() == [
        "✗ failed f() on h · 4/4 · 3 failed · 1.0 s",
        "  item 7 ('seven'): ValueError: <bad>",
        "  and 2 more in run.failures",
    ]


def test_text_says_why_it_stopped() -> None:
    state = Progress("f()", "h", MapStatus.STOPPED, done=1, elapsed_s=1, reason="KeyError: 'x'")
    assert render_text(state).splitlines() == ["✗ stopped f() on h · 1 item · 1.0 s", "  KeyError: 'x'"]


class _Tags(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.seen: list[str] = []
        self.styles = ""
        self.text = ""
        self.attributes: set[str] = set()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.seen.append(tag)
        self.attributes |= {name for name, _ in attrs}
        self.styles += "".join(f";{value}" for name, value in attrs if name == "style")

    def handle_data(self, data: str) -> None:
        self.text += data


@pytest.mark.parametrize("status", MapStatus)
def test_html_is_static_and_safe(status: MapStatus) -> None:
    state = Progress("f()", "h", status, done=1, failed=1, total=4, failures=(WRONG,), reason="<script>")
    tags = _Tags()
    tags.feed(render_html(state))
    assert set(tags.seen) <= {"div", "span", "b"}
    assert tags.attributes == {"style"}
    assert "ValueError: <bad>" in tags.text
    assert "var(" not in tags.styles
    assert not re.search(r";color:(black|white|#000|#fff)", tags.styles)


def test_bar_in_html() -> None:
    widths = [float(width) for width in re.findall(r"width:([\d.]+)%", render_html(RUNNING))]
    assert widths == pytest.approx([25, 100 * 2 / 120, 100 * 88 / 120], rel=1e-3)
    assert "%" not in render_html(Progress("f()", "h", done=3))  # nobody knows how many


def test_description_of_a_failure() -> None:
    assert str(describe_failure(3, (5,), ValueError("bad\nmore"))) == "item 3 (5): ValueError: bad"
    assert str(describe_failure(3, (5, "x"), KeyError())) == "item 3 ((5, 'x')): KeyError"
    long = describe_failure(0, ("y" * 5000,), ValueError("z" * 5000))
    assert len(str(long)) < 240

    class Angry:
        def __repr__(self) -> str:
            raise RuntimeError

    assert "Angry instance at" in describe_failure(0, (Angry(),), ValueError()).item


RATES = {4200: "4,200/s", 42: "42/s", 4.24: "4.2/s", 1: "1/s", 0.5: "30/min", 0.02: "1.2/min", 0.001: "3.6/h"}


def test_rates() -> None:
    assert {rate: human_rate(rate) for rate in RATES} == RATES


class _Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_terminal_rewrites_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "IPython", None)  # type: ignore[arg-type]  # as if it was never imported
    monkeypatch.setattr(sys, "stderr", _Terminal())
    show = place()
    show(RUNNING)
    show(Progress("f()", "h", MapStatus.FAILED, done=1, failed=1, total=2, failures=(WRONG,)))
    _, first, last = sys.stderr.getvalue().split("\r")
    assert "\n" not in first
    assert first == render_line(RUNNING)[:79]
    assert last.splitlines()[0].rstrip() == "✗ failed f() on h · 2/2 · 1 failed · 0 ms"
    assert len(last.splitlines()[0]) >= len(first)  # nothing of the longer line is left
    assert last.splitlines()[1] == f"  {WRONG}"


def test_silent_elsewhere(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "IPython", None)  # type: ignore[arg-type]
    monkeypatch.setattr(sys, "stderr", io.StringIO())
    place()(RUNNING)
    assert not sys.stderr.getvalue()
