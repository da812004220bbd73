"""The cache of results: kept as they were, for their user alone, within a limit, whoever else is at it."""

from __future__ import annotations

import multiprocessing
import os
import stat
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest

from flash_nb.jobs import ClearEvent, DisplayEvent, StreamEvent
from flash_nb.sdk.cache import CacheError, Kept, ResultCache, Usage

KEY, OTHER = "a" * 64, "b" * 64
KEPT = Kept(
    label="train",
    resource="gpu",
    created=1_700_000_000.5,
    run_s=252.0,
    cost="$0.12",
    shown=(
        StreamEvent("stdout", "epoch 1\n"),
        DisplayEvent({"text/html": "<b>1</b>"}, {"width": 3}, display_id="d", update=True),
        ClearEvent(wait=True),
        DisplayEvent({"text/plain": "42"}, {}, is_result=True),
    ),
    result={"ok": True, "namespace": [{"name": "x", "value": True}], "counts": [2, 0]},
    buffers=(b"one", bytearray(b""), memoryview(b"\x00three")),
)


@pytest.fixture
def said():
    return []


@pytest.fixture
def cache(tmp_path, said):
    return ResultCache(tmp_path / "cache" / "results", say=said.append)


def files(cache):
    return sorted(cache._folder.iterdir())


def test_what_is_kept_comes_back(cache, said):
    assert cache.get(KEY) is None
    assert cache.usage() == Usage(0, 0)
    assert cache.clear() == Usage(0, 0)
    size = cache.put(KEY, KEPT)
    found = cache.get(KEY)
    assert replace(found, buffers=()) == replace(KEPT, buffers=())
    assert [bytes(buffer) for buffer in found.buffers] == [b"one", b"", b"\x00three"]
    assert cache.get(OTHER) is None
    assert cache.usage() == Usage(1, size)
    cache.put(KEY, replace(KEPT, label="again", cost=""))
    assert (cache.get(KEY).label, cache.get(KEY).cost, cache.usage().results) == ("again", "", 1)
    assert cache.clear().results == 1
    assert (cache.get(KEY), files(cache), said) == (None, [], [])


def test_only_the_user_may_read_and_write(cache):
    before = os.umask(0)
    try:
        cache.put(KEY, KEPT)
    finally:
        os.umask(before)
    (file,) = files(cache)
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert stat.S_IMODE(cache._folder.stat().st_mode) == 0o700


@pytest.mark.parametrize("mode", [0o720, 0o702, 0o777])
@pytest.mark.parametrize("which", ["file", "folder"])
def test_what_others_may_write_is_not_read(cache, which, mode):
    cache.put(KEY, KEPT)
    path = files(cache)[0] if which == "file" else cache._folder
    path.chmod(mode)
    with pytest.raises(CacheError, match="others may write to the cache") as refused:
        cache.get(KEY)
    assert str(path) not in str(refused.value)
    assert len(files(cache)) == 1
    if which == "folder":
        with pytest.raises(CacheError, match="others may write to the cache"):
            cache.put(OTHER, KEPT)


@pytest.mark.skipif(os.getuid() != 0, reason="only root can give a file away")
@pytest.mark.parametrize("which", ["file", "folder"])
def test_what_is_somebody_elses_is_not_read(cache, which):
    cache.put(KEY, KEPT)
    os.chown(files(cache)[0] if which == "file" else cache._folder, 12345, -1)
    with pytest.raises(CacheError, match="belongs to another user"):
        cache.get(KEY)


def test_links_are_not_followed(cache, tmp_path):
    cache.put(KEY, KEPT)
    (file,) = files(cache)
    (cache._folder / f"{OTHER}.result").symlink_to(file)
    with pytest.raises(CacheError, match="symbolic links"):
        cache.get(OTHER)
    elsewhere = tmp_path / "link"
    elsewhere.symlink_to(cache._folder)
    with pytest.raises(CacheError, match="not a folder"):
        ResultCache(elsewhere, say=print).get(KEY)


DAMAGES = {
    "empty": lambda data: b"",
    "cut": lambda data: data[:-1],
    "longer": lambda data: data + b"\x00",
    "one bit": lambda data: data[:100] + bytes([data[100] ^ 1]) + data[101:],
    "other version": lambda data: data.replace(b"result 1", b"result 0"),
    "other file": lambda data: b"#!/bin/sh\n" * 50,
}


@pytest.mark.parametrize("name", DAMAGES)
def test_a_damaged_result_is_deleted_and_said(cache, said, name):
    cache.put(KEY, KEPT)
    (file,) = files(cache)
    file.write_bytes(DAMAGES[name](file.read_bytes()))
    assert cache.get(KEY) is None
    assert said == ["the result aaaaaaaaaaaa in the cache was damaged: it is deleted, and the cell runs"]
    assert files(cache) == []


def test_the_ones_used_longest_ago_go(tmp_path):
    size = ResultCache(tmp_path / "measure", say=print).put(KEY, replace(KEPT, buffers=[bytes(1000)]))
    cache = ResultCache(tmp_path / "results", say=print, limit_bytes=3 * size)
    keys = [letter * 64 for letter in "abcd"]
    for number, key in enumerate(keys[:3]):
        cache.put(key, replace(KEPT, buffers=[bytes(1000)]))
        os.utime(cache._file(key), (number, number))
    assert cache.get(keys[0]) is not None  # used now: not the oldest any more
    cache.put(keys[3], replace(KEPT, buffers=[bytes(1000)]))
    assert [key[0] for key in keys if cache.get(key)] == ["a", "c", "d"]
    assert cache.usage() == Usage(3, 3 * size)
    with pytest.raises(CacheError, match="too large"):
        cache.put(keys[1], replace(KEPT, buffers=[bytes(4 * size)]))


def test_what_was_left_half_written_goes(cache):
    cache.put(KEY, KEPT)
    old, new = cache._folder / "0.part", cache._folder / "1.part"
    for file in (old, new):
        file.touch()
    os.utime(old, (time.time() - 7200, time.time() - 7200))
    cache.put(OTHER, KEPT)
    assert (old.exists(), new.exists(), cache.usage().results) == (False, True, 2)


@pytest.mark.skipif(os.getuid() == 0, reason="root may write anywhere")
def test_a_folder_that_cannot_be_written(tmp_path):
    tmp_path.chmod(0o500)
    with pytest.raises(CacheError, match="Permission denied"):
        ResultCache(tmp_path / "results", say=print).put(KEY, KEPT)


def test_a_file_in_the_place_of_the_folder(tmp_path):
    (tmp_path / "results").touch()
    with pytest.raises(CacheError, match="File exists"):
        ResultCache(tmp_path / "results", say=print).put(KEY, KEPT)


def _hammer(folder: str, number: int) -> None:
    said: list[str] = []
    cache = ResultCache(Path(folder), say=said.append, limit_bytes=20_000)
    for turn in range(60):
        key = str((number + turn) % 6) * 64
        cache.put(key, replace(KEPT, label=key[:3], buffers=[bytes(2000)]))
        found = cache.get(str(turn % 6) * 64)
        assert found is None or found.label == str(turn % 6) * 3
        if turn % 20 == 19:
            cache.clear()
    assert said == []


def test_several_kernels_at_once(tmp_path):
    context = multiprocessing.get_context("spawn")
    workers = [context.Process(target=_hammer, args=(str(tmp_path / "results"), n)) for n in range(3)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    assert [worker.exitcode for worker in workers] == [0, 0, 0]
    assert not [*(tmp_path / "results").glob("*.part")]


def test_the_command(tmp_path):
    def flash(*words):
        command = [sys.executable, "-m", "flash_nb", "cache", *words]
        environ = {**os.environ, "FLASH_CACHE": str(tmp_path), "HOME": str(tmp_path.parent)}
        return subprocess.run(command, env=environ, capture_output=True, text=True, check=True).stdout

    where = f"~/{tmp_path.name}/results"
    assert flash() == f"No results are kept ({where}).\n"
    ResultCache(tmp_path / "results", say=print).put(KEY, replace(KEPT, buffers=[bytes(10_000)]))
    assert flash() == f"1 result, 11 KB of at most 2.0 GB ({where}).\n"
    assert flash("clear") == "Deleted 1 result, 11 KB.\n"
    assert flash("clear") == "Deleted 0 results, 0 B.\n"
