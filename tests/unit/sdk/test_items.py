"""The items of a map: a small machine without jobs and threads; and what `map` refuses."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import flash_nb
from flash_nb import CpuLiveServerless, EngineError, ResourceError, remote
from flash_nb.sdk.items import Items
from flash_nb.sdk.map import MapRun
from flash_nb.sdk.progress import MapStatus
from flash_nb.sdk.session import Session, set_session
from flash_nb.settings import Settings

config = CpuLiveServerless(name="never-started")


def start(items: Items) -> tuple[int, tuple[Any, ...]]:
    taken = items.take()
    assert taken is not None
    items.start(*taken)
    return taken


def test_items_are_taken_when_asked_for() -> None:
    made: list[int] = []

    def source() -> Iterator[int]:
        for n in range(3):
            made.append(n)
            yield n

    items = Items((source(),))
    assert (items.total, made) == (None, [])
    assert start(items) == (0, (0,))
    assert made == [0]
    assert [start(items)[0], start(items)[0]] == [1, 2]
    assert items.take() is None
    assert items.total == 3


TOTALS = {
    "list": (([1, 2],), 2),
    "shortest": (([1, 2], range(5)), 2),
    "lazy": ((iter([1, 2]),), None),
    "one of two is lazy": (([1, 2], iter([1])), None),
    "text": (("abc",), 3),
    "nothing": (([],), 0),
}


@pytest.mark.parametrize("name", TOTALS)
def test_total(name: str) -> None:
    iterables, total = TOTALS[name]
    assert Items(iterables).total == total


def test_tuples_stay_one_argument() -> None:
    items = Items(([(1, 2)], "x"))
    assert items.take() == (0, ((1, 2), "x"))


def test_results_are_in_order_whatever_is_done_first() -> None:
    items = Items(("abc",))
    for _ in range(3):
        start(items)
    items.finish(2, "C")
    items.fail(1, ValueError())
    items.finish(0, None)
    assert items.results() == [None, None, "C"]
    assert items.order == [2, 0]
    assert not items.is_complete


def test_only_what_failed_or_was_given_back_comes_again() -> None:
    items = Items((iter("abcd"),))
    for _ in range(3):
        start(items)
    items.fail(2, ValueError())
    items.finish(1, "B")
    items.give_back(0, ("a",))
    items.again()
    assert [start(items), start(items), start(items), items.take()] == [
        (0, ("a",)),
        (2, ("c",)),
        (3, ("d",)),
        None,
    ]
    for index in (0, 2, 3):
        items.finish(index, index)
    assert (items.is_complete, items.results(), items.failures) == (True, [0, "B", 2, 3], {})


def test_done_items_are_forgotten_but_for_their_values() -> None:
    items = Items((iter(range(1000)),))
    for _ in range(1000):
        index, _args = start(items)
        items.finish(index, None)
    assert (items.running, items._failed, len(items._again)) == ({}, {}, 0)


def test_an_iterable_that_raised_raises_again() -> None:
    def source() -> Iterator[int]:
        yield 1
        raise KeyError("broken")

    items = Items((source(),))
    start(items)
    for _ in range(2):
        with pytest.raises(KeyError, match="broken"):
            items.take()
    assert not items.is_complete


def plain(x: int) -> int:
    return x


@remote(resource_config=config)
class Model:
    def predict(self, x: int) -> int:
        return x


REFUSED = {
    "plain function": (plain, "plain is not a remote function", "@remote(resource_config=…)"),
    "builtin": (len, "len is not a remote function", "[*map(len, items)]"),
    "class": (Model, "Model is a remote class", "flash_nb.map(Model().method, items)"),
    "items first": ([1], "[1] is not a remote function", "flash_nb.map(f, items)"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_refused(name: str) -> None:
    function, said, fix = REFUSED[name]
    with pytest.raises(ResourceError) as caught:
        flash_nb.map(function, [1])
    assert said in caught.value.message
    assert fix in str(caught.value.hint)


def test_misuse() -> None:
    function = remote(resource_config=config)(plain)
    with pytest.raises(TypeError, match="something to iterate over"):
        flash_nb.map(function)
    with pytest.raises(TypeError, match="not iterable"):
        flash_nb.map(function, 5)  # type: ignore[arg-type]
    with pytest.raises(ResourceError, match="max_parallel=0"):
        flash_nb.map(function, [1], max_parallel=0)


def test_here() -> None:
    """With ``local=True`` nothing is started anywhere."""

    @remote(resource_config=config, local=True)
    async def half(x: float, y: float = 2) -> float:
        return x / y

    assert flash_nb.map(half, [2, 4]).result() == [1, 2]
    run = flash_nb.map(half, iter([1, 2, 3]), [1, 0, 3])
    assert isinstance(run, MapRun)
    assert next(iter(run.completed())) == (0, 1)
    with pytest.raises(Exception, match="1 of 3 items of half"):
        run.result()
    assert (run.results, [*run.failures], run.done()) == ([1, None, 1], [1], True)


def test_no_backend_stops_the_run(tmp_path: Path) -> None:
    """It would be the same with every item: the run says it once, and `retry` goes on from there."""
    file = tmp_path / "file"
    file.touch()
    set_session(Session(Settings(home=file / "below", cache=tmp_path)))
    try:
        run = flash_nb.map(remote(resource_config=config)(plain), range(10_000), max_parallel=2)
        with pytest.raises(EngineError):
            run.result(timeout=30)
        assert (run.failures, run.progress.status) == ({}, MapStatus.STOPPED)
        with pytest.raises(EngineError):
            run.retry().result(timeout=30)
    finally:
        set_session(None)
