"""The engine's own life: it starts when needed, once, and ends without a trace."""

from __future__ import annotations

import asyncio
import os
import signal
import sqlite3
import subprocess
import sys
import time

import pytest
from real import Following, cell, is_alive, read_json, until, values_of, wait_gone

from flash_nb.backends.local import start_engine
from flash_nb.errors import EngineError
from flash_nb.jobs import JobStatus


async def one(world, value: int = 1) -> None:
    """Run a job in a new kernel."""
    async with world.endpoint() as endpoint:
        job = Following()
        endpoint.run(cell(f"x = {value}", "x"), job)
        assert values_of(await job.end()) == {"x": value}


def nothing_is_left(world) -> bool:
    home = world.home
    return not (world.processes() or world.settings.state_file.exists() or (home / "engine.sock").exists())


def test_the_engine_ends_when_nobody_needs_it(make_world):
    world = make_world(engine_idle_s=1.0)

    async def scenario():
        async with world.endpoint(idle_timeout_s=0.2) as endpoint:
            job = Following()
            endpoint.run(cell("x = 1", "x"), job)
            await job.end()
            await asyncio.sleep(2)
            assert is_alive(world.engine_pid()), "a kernel is connected"
        left_at = time.monotonic()
        await until(lambda: nothing_is_left(world))
        assert time.monotonic() - left_at < 4
        assert not world.spills()
        await one(world)

    asyncio.run(scenario())


def test_the_engine_does_not_end_while_a_job_runs_without_a_kernel(make_world):
    world = make_world(engine_idle_s=0.3)

    async def scenario():
        async with world.endpoint(idle_timeout_s=0.2) as endpoint:
            job, request = Following(), cell("import time; time.sleep(2); x = 1", "x", durable=True)
            endpoint.run(request, job)
            await until(lambda: job.is_stored)
        await until(lambda: nothing_is_left(world))
        backend, late = world.backend(), Following()
        backend.attach(request.job_id, late)
        event = await late.end()
        assert values_of(event) == {"x": 1}
        assert event.info.run_s >= 2
        await backend.aclose()

    asyncio.run(scenario())


def test_engines_started_at_once_end_as_one(world):
    async def scenario():
        engines = [start_engine(world.settings) for _ in range(3)]
        await until(lambda: [e.poll() for e in engines].count(None) == 1)
        await until(world.settings.state_file.exists)
        assert sorted(e.poll() for e in engines if e.poll() is not None) == [0, 0]
        (alive,) = [e.pid for e in engines if e.poll() is None]
        assert world.engine_pid() == alive
        await asyncio.gather(*(one(world, value) for value in range(3)))
        assert world.engine_pid() == alive
        await world.call("stop")
        await until(lambda: all(e.poll() == 0 for e in engines))

    asyncio.run(scenario())


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_ends_the_engine_with_its_workers_and_files(world, number):
    async def scenario():
        async with world.endpoint() as endpoint:
            job = Following()
            endpoint.run(cell("print('on', flush=True)\nwhile True: pass"), job)
            await until(lambda: job.text)
            world.backends[0]._open_jobs.clear()  # this kernel does not mind
            pid = world.engine_pid()
            os.kill(pid, number)
            wait_gone(pid)
            await until(lambda: nothing_is_left(world))
            assert not world.log()

    asyncio.run(scenario())


def test_a_stop_and_a_start_without_a_pause(world):
    async def scenario():
        for value in range(4):
            await one(world, value)
            await world.call("stop")

    asyncio.run(scenario())


def test_a_stale_state_file_is_replaced_and_its_token_kept(world):
    asyncio.run(one(world))
    world.kill_engine()
    stale = read_json(world.settings.state_file)
    assert world.flash("engine", "status").returncode == 1
    asyncio.run(one(world))
    fresh = read_json(world.settings.state_file)
    assert fresh["pid"] != stale["pid"]
    assert fresh["api_key"] == stale["api_key"]


@pytest.mark.parametrize(
    "text", ["", "{", "[]", "null", '{"url": 1}', '{"url": "unix:/nowhere", "pid": "x"}']
)
def test_a_broken_state_file_without_an_engine_is_replaced(world, text):
    world.settings.state_file.write_text(text)
    asyncio.run(one(world))


@pytest.mark.parametrize("damage", ["write", "unlink"])
def test_a_running_engine_repairs_its_state_file(world, damage):
    asyncio.run(one(world))
    file = world.settings.state_file
    before = read_json(file)
    if damage == "write":
        file.write_text("{broken")
    else:
        file.unlink()
    asyncio.run(one(world))
    assert read_json(file) == before


def test_a_broken_database_is_put_aside_with_a_word(world):
    (world.home / "engine.sqlite").write_bytes(b"this is not a database, whatever its name says" * 100)
    asyncio.run(one(world))
    (aside,) = world.home.glob("engine.sqlite.broken-*")
    assert aside.read_bytes().startswith(b"this is not")
    assert "cannot be read (file is not a database): starting anew" in world.log()


def test_a_kernel_goes_on_when_the_database_is_lost(world):
    async def scenario():
        async with world.endpoint() as endpoint:
            first = Following()
            endpoint.run(cell("x = 1", "x"), first)
            await first.end()
            world.kill_engine()
            for file in world.home.glob("engine.sqlite*"):
                file.write_bytes(b"nonsense" * 1000)
            second = Following()
            endpoint.run(cell("x = 2", "x"), second)
            assert values_of(await second.end()) == {"x": 2}

    asyncio.run(scenario())


def test_a_home_that_cannot_be_written_is_a_clear_error(make_world):
    world = make_world()
    file = world.home / "file"
    file.touch()
    unusable = type(world.settings)(home=file / "home", cache=world.settings.cache)

    async def scenario():
        from flash_nb.backends.local import LocalBackend

        with pytest.raises(EngineError, match=r"home .*file/home cannot be used: Not a directory"):
            await LocalBackend(unusable).client()

    asyncio.run(scenario())
    shown = world.flash("engine", "start", FLASH_HOME=str(file / "home"))
    assert shown.returncode == 1
    assert "cannot be used" in shown.stderr
    assert "Traceback" not in shown.stderr


def test_an_engine_that_always_dies_is_an_error_and_not_a_loop(world):
    """The database's place is taken by a folder: no engine can start."""
    (world.home / "engine.sqlite").mkdir()

    async def scenario():
        with pytest.raises(EngineError, match="did not come up: it ended with status 1") as caught:
            await world.backend().client()
        assert str(world.settings.log_file) in caught.value.hint

    asyncio.run(scenario())
    assert "unable to open database file" in world.log()
    world.settings.log_file.unlink()


def test_an_engine_that_dies_again_and_again_fails_its_jobs(world, monkeypatch):
    async def scenario():
        async with world.endpoint() as endpoint:
            job = Following()
            endpoint.run(cell("import time; time.sleep(600)"), job)
            pid = 0
            while not job.finished.done():
                if world.settings.state_file.exists() and world.engine_pid() != pid:
                    pid = world.engine_pid()
                    os.kill(pid, signal.SIGKILL)
                await asyncio.sleep(0.02)
            info = (await job.end()).info
            assert info.status is JobStatus.FAILED
            assert info.error.startswith("the engine cannot be started again: ")
            assert str(world.settings.log_file) in info.error

    asyncio.run(scenario())
    for worker in world.workers():
        os.kill(worker, signal.SIGKILL)


def test_an_engine_whose_home_is_gone_ends(world):
    asyncio.run(one(world))
    pid = world.engine_pid()
    elsewhere = world.home.with_name(world.home.name + "-moved")
    world.home.rename(elsewhere)
    try:
        wait_gone(pid)
        assert (
            "another engine has this home now, or the home is gone" in (elsewhere / "engine.log").read_text()
        )
    finally:
        elsewhere.rename(world.home)


def test_the_engine_is_quiet(world):
    asyncio.run(one(world))
    assert not world.log()
    with sqlite3.connect(world.home / "engine.sqlite") as db:
        assert db.execute("SELECT count(*) FROM jobs").fetchone() == (1,)


def test_python_m_engine_ends_at_once_where_one_runs(world):
    asyncio.run(one(world))
    done = subprocess.run(
        [sys.executable, "-m", "flash_nb.engine"], env=world.environment, timeout=20, check=False
    )
    assert done.returncode == 0
