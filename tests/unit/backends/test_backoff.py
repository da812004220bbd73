"""When to try again."""

from __future__ import annotations

import pytest

from flash_nb.backends.runpod.backoff import Backoff, poll_pause, retry_after


def test_pauses_grow_to_a_cap_and_are_jittered():
    backoff = Backoff(base_s=1.0, cap_s=5.0)
    assert [backoff.pause(n, chance=lambda: 1.0) for n in (0, 1, 2, 3, 1000)] == [1, 2, 4, 5, 5]
    assert [backoff.pause(n, chance=lambda: 0.0) for n in (0, 1, 2, 3)] == [0.5, 1, 2, 2.5]


def test_waiting_for_a_job_adds_a_tenth_of_its_time_at_most():
    assert poll_pause(0.0, chance=lambda: 0.5) == 0.05
    assert poll_pause(10.0, chance=lambda: 0.5) == pytest.approx(1.0)
    assert poll_pause(3600.0, chance=lambda: 0.5) == 5.0


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("", None),
        ("2", 2.0),
        ("0.5", 0.5),
        ("-3", 0.0),
        ("86400", 60.0),
        ("nan", None),
        ("soon", None),
        ("Thu, 01 Jan 1970 00:00:30 GMT", 20.0),
    ],
)
def test_what_a_server_asks_for(text, seconds):
    assert retry_after({"retry-after": text}, now=lambda: 10.0) == seconds
