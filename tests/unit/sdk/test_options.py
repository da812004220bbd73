"""What one call may have of its own: time-out, time to live, webhook."""

from __future__ import annotations

from datetime import timedelta

import pytest

from flash_nb import CpuLiveServerless, remote
from flash_nb.errors import ResourceError

RESOURCE = CpuLiveServerless(name="options")


@remote(resource_config=RESOURCE)
def double(x):
    return 2 * x


@remote(resource_config=RESOURCE)
class Counter:
    def add(self): ...


def kept(how) -> tuple:
    return how.timeout_s, how.ttl_s, how.webhook


def test_a_copy_has_them_and_the_function_does_not():
    other = double.options(timeout=60, ttl=timedelta(hours=2), webhook="https://example.com/done?x=1")
    assert kept(other.how) == (60.0, 7200.0, "https://example.com/done?x=1")
    assert kept(double.how) == (None, None, None)
    assert other.__name__ == "double"
    assert other.how.resource is RESOURCE


def test_what_is_not_named_stays_and_none_is_the_default_again():
    once = double.options(timeout=60, webhook="http://127.0.0.1:8000")
    assert kept(once.options(ttl=0.5).how) == (60.0, 0.5, "http://127.0.0.1:8000")
    assert kept(once.options(timeout=None, webhook=None).how) == (None, None, None)
    assert kept(once.options().how) == kept(once.how)


def test_classes_objects_and_methods():
    counter = Counter.options(timeout=5)()
    assert kept(counter.add.how) == (5.0, None, None)
    assert kept(counter.add.options(ttl=9).how) == (5.0, 9.0, None)
    assert kept(counter.add.how) == (5.0, None, None)
    assert kept(Counter.how) == (None, None, None)


WRONG = {
    "timeout": [0, -1, "60", True, float("nan"), float("inf"), timedelta(0), [1]],
    "ttl": [0, -0.5, "1h", timedelta(seconds=-1)],
    "webhook": [
        "",
        "example.com",
        "ftp://example.com",
        "http://",
        "https://a b",
        "http://x:y",
        5,
        b"http://x",
    ],
}


@pytest.mark.parametrize(("name", "value"), [(name, value) for name in WRONG for value in WRONG[name]])
def test_values_that_cannot_work(name, value):
    with pytest.raises(ResourceError, match=name):
        double.options(**{name: value})


@pytest.mark.parametrize(
    ("given", "meant"), [("time_out", "timeout"), ("web_hook", "webhook"), ("dependencies", "")]
)
def test_unknown_ones(given, meant):
    with pytest.raises(ResourceError, match=f"no option '{given}'") as refused:
        double.options(**{given: 1})
    assert (f"did you mean '{meant}'?" in str(refused.value)) is bool(meant)
    assert "timeout, ttl and webhook" in str(refused.value)
