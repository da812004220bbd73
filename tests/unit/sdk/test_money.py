"""Money: what is billed, what is quoted, and how it reads."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flash_nb import CpuLiveServerless, GpuGroup, LiveServerless
from flash_nb.jobs import JobInfo, JobStatus
from flash_nb.resources.prices import Rate, shipped, usd_per_s
from flash_nb.sdk.board import About
from flash_nb.sdk.money import Amount, amount, billed_s, idling, quote, usd
from flash_nb.sdk.spending import Account, Spending, Spent

A100 = Rate(0.00076, 0.00076)
EITHER = Rate(0.00076, 0.00116)


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0, "$0"),
        (1.4e-4, "$0.00014"),
        (0.0098, "$0.0098"),
        (0.00995, "$0.010"),
        (0.0996, "$0.10"),
        (0.355, "$0.35"),
        (12.4, "$12.40"),
        (1234.5, "$1,234.50"),
    ],
)
def test_an_amount_reads_with_two_digits_that_count(value: float, text: str) -> None:
    assert usd(value) == text


@given(st.floats(1e-9, 1e6))
def test_an_amount_is_never_off_by_more_than_rounding(value: float) -> None:
    assert float(usd(value).removeprefix("$").replace(",", "")) == pytest.approx(value, rel=0.06)


def test_a_range_and_what_nobody_pays() -> None:
    assert str(amount(EITHER, 3600)) == "$2.74–4.18"
    assert amount(A100, 3600).told("runpod") == "$2.74"
    assert amount(A100, 3600).told("local") == "$2.74 simulated"


@pytest.mark.parametrize(
    ("status", "seconds"),
    [
        (JobStatus.IN_QUEUE, 0),
        (JobStatus.IN_PROGRESS, 3 + 10),
        (JobStatus.COMPLETED, 3 + 7),
        (JobStatus.CANCELLED, 3 + 7),
    ],
)
def test_a_cold_start_and_the_run_are_billed(status: JobStatus, seconds: float) -> None:
    info = JobInfo("j", "e", status, 90.0, started_at=100.0, cold_s=3.0, run_s=7.0)
    assert billed_s(info, now=110.0) == seconds


def test_a_quote_is_by_the_last_run_else_by_the_hour() -> None:
    assert quote(A100, 100.0, "runpod") == "about $0.076"
    assert quote(A100, None, "local") == "$2.74 simulated an hour"


def test_idling_says_what_it_costs_and_how_to_stop_it() -> None:
    resource = LiveServerless(name="a", gpus=[GpuGroup.AMPERE_80], idleTimeout=300)
    assert idling(A100, resource, "runpod") == "up to $0.23 in 5 min · stop it: %flash down a"
    always = LiveServerless(name="a", gpus=[GpuGroup.AMPERE_80], workersMin=2)
    assert idling(A100, always, "runpod").startswith("$5.47 an hour until it is deleted (workersMin=2)")


def test_the_sums_are_those_of_all_jobs_and_are_stored_once() -> None:
    stored: list[dict[Account, Spent]] = []
    spending = Spending(lambda totals: stored.append(dict(totals)), every_s=1e9)
    done = JobInfo("j", "e", JobStatus.COMPLETED, 0.0, cold_s=1.0, run_s=9.0)
    for about in (About("c", "gpu", backend="runpod", rate=A100), About("c", "cpu", backend="local")):
        spending.add(about, done)
        spending.add(about, done)
    spending.flush()
    spending.flush()
    assert stored == [spending.totals]
    gpu, cpu = (stored[0][Account(*key)] for key in (("runpod", "gpu"), ("local", "cpu")))
    assert (gpu.jobs, gpu.seconds, gpu.unpriced) == (2, 20.0, 0)
    assert gpu.cost.high == pytest.approx(0.0152)
    assert (cpu.jobs, cpu.unpriced, cpu.cost) == (2, 2, Amount())


def test_cpu_has_no_price() -> None:
    assert usd_per_s(CpuLiveServerless(name="c"), shipped()) is None
