"""Nothing answers without the token, and no secret shows."""

from __future__ import annotations

import asyncio
import json
import socket
import stat
import struct
from pathlib import Path

import pytest
from real import Following, cell, cmdline, is_alive, read_json, spec, values_of

from flash_nb.backends.local import EngineState, read_state
from flash_nb.worker import frames

SECRET = "s3cr3t-value-of-an-endpoint"
TOKEN = "0" * 43


def mode(path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def dial(url: str) -> socket.socket:
    scheme, _, place = url.partition(":")
    if scheme == "unix":
        stream = socket.socket(socket.AF_UNIX)
        stream.connect(place)
    else:
        host, _, port = place.rpartition(":")
        stream = socket.create_connection((host, int(port)))
    stream.settimeout(5)
    return stream


def hello(**fields) -> bytes:
    return frames.encode({"type": "client", "client": "x", "instances": [], **fields})


REFUSED = {
    "wrong token": hello(token=TOKEN),
    "no token": hello(),
    "token of another type": hello(token=7),
    "surrogate token": hello(token="\ud800"),
    "worker with a wrong token": frames.encode({"type": "worker", "token": TOKEN, "worker": "w"}),
    "no hello": frames.encode({"type": "call", "call": 1, "method": "status", "params": {}}),
    "garbage": b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n" * 4,
    "header that is not JSON": struct.pack("!II", 4, 0) + b"\xff\xfe{}",
    "header that is not an object": struct.pack("!II", 2, 0) + b"[]",
    "header nested beyond sense": struct.pack("!II", 200_000, 0) + b"[" * 200_000,
    "oversized header": struct.pack("!II", 2**31, 0),
    "oversized number of buffers": struct.pack("!II", 2, 2**31),
    "oversized buffer": struct.pack("!IIQ", 2, 1, 2**62),
    "endless hello": struct.pack("!II", 50_000_000, 0) + b"{" * 3_000_000,
}


@pytest.mark.parametrize("transport", ["unix", "tcp"])
def test_a_stranger_is_told_nothing(make_world, transport):
    world = make_world(transport=transport)

    async def scenario():
        async with world.endpoint() as endpoint:
            state = read_state(world.settings)
            assert state.url.startswith(transport)
            for what, sent in REFUSED.items():
                answer = await asyncio.to_thread(refused, state.url, sent)
                assert answer == b"", what
            job = Following()
            endpoint.run(cell("x = 1", "x"), job)
            assert values_of(await job.end()) == {"x": 1}

    def refused(url: str, sent: bytes) -> bytes:
        with dial(url) as stream:
            try:
                stream.sendall(sent)
                return stream.recv(1000)
            except (ConnectionResetError, BrokenPipeError):
                return b""

    asyncio.run(scenario())


def test_the_right_token_is_welcome(world):
    async def scenario():
        async with world.endpoint():
            state = read_state(world.settings)
            with dial(state.url) as stream:
                stream.sendall(hello(token=state.api_key))
                assert b"welcome" in stream.recv(1000)
            assert state.api_key not in repr(state)

    asyncio.run(scenario())


def test_only_the_user_can_reach_the_engine(world):
    async def scenario():
        async with world.endpoint():
            assert mode(world.home) == 0o700
            assert mode(world.settings.state_file) == 0o600
            assert mode(world.home / "engine.sock") == 0o600
            client = await world.backends[0].client()
            assert {mode(path) for path in map(Path, client.spill_folders)} == {0o700}

    asyncio.run(scenario())


def test_a_home_with_open_doors_is_closed(world):
    world.home.chmod(0o755)

    async def scenario():
        async with world.endpoint():
            assert mode(world.home) == 0o700

    asyncio.run(scenario())


def test_a_worker_sees_neither_the_token_nor_the_secrets_of_the_client(world, monkeypatch):
    monkeypatch.setenv("RUNPOD_API_KEY", "rpa_secret")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "aws_secret")
    source = "import os, sys; seen = dict(os.environ); argv = sys.orig_argv"

    async def scenario():
        async with world.endpoint(env={"MY_TOKEN": SECRET}) as endpoint:
            job = Following()
            endpoint.run(cell(source, "seen", "argv"), job)
            found = values_of(await job.end())
            token = read_json(world.settings.state_file)["api_key"]
            (worker,) = world.workers()
            environ = Path(f"/proc/{worker}/environ").read_text()
            for text in (environ, json.dumps(found["seen"]), cmdline(worker), " ".join(found["argv"])):
                assert token not in text
                assert "rpa_secret" not in text
                assert "aws_secret" not in text
            assert found["seen"]["MY_TOKEN"] == SECRET
            assert found["seen"]["HOME"].startswith(str(world.home))
            assert token not in cmdline(world.engine_pid())
            assert token not in Path(f"/proc/{world.engine_pid()}/environ").read_text()

    asyncio.run(scenario())


def test_values_of_environment_variables_do_not_show(world):
    async def scenario():
        async with world.endpoint(env={"MY_TOKEN": SECRET}) as endpoint:
            job = Following()
            endpoint.run(cell("x = 1", "x"), job)
            await job.end()
            (listed,) = await world.call("endpoints")
            assert listed["env"] == ["MY_TOKEN"]
            assert SECRET not in json.dumps(listed)
            assert SECRET not in repr(spec(env={"MY_TOKEN": SECRET}))
            assert SECRET not in json.dumps(await world.call("jobs"))
            token = read_json(world.settings.state_file)["api_key"]
            for command in (("status",), ("status", "--json"), ("logs",), ("logs", "--json")):
                shown = await asyncio.to_thread(world.flash, "engine", *command)
                assert shown.returncode == 0, shown
                assert SECRET not in shown.stdout + shown.stderr
                if command != ("status", "--json"):
                    assert token not in shown.stdout + shown.stderr
            # Workers know the token, and everything that reached a log is in the logs.
            assert token not in world.log()

    asyncio.run(scenario())


def test_a_client_with_an_old_token_is_refused_and_asks_again(world):
    from flash_nb.backends.local import EngineClient
    from flash_nb.errors import EngineError

    async def scenario():
        async with world.endpoint():
            state = read_state(world.settings)
            wrong = EngineState(state.url, TOKEN, state.pid, state.version)
            with pytest.raises(EngineError, match="refused the connection"):
                await EngineClient.open(wrong, "x")

    asyncio.run(scenario())


def test_a_client_that_sends_nonsense_gets_an_error_and_harms_nobody(world):
    from flash_nb.errors import BackendError

    async def scenario():
        async with world.endpoint() as endpoint:
            with pytest.raises(BackendError, match="no call 'dance'"):
                await world.call("dance")
            with pytest.raises(BackendError, match="cannot answer ensure"):
                await world.call("ensure", nonsense=1)
            state = read_state(world.settings)
            for frame in ({"type": "submit"}, {"nothing": 1}, {"type": "watch", "job": "no", "seen": 0}):
                with dial(state.url) as stream:
                    stream.sendall(hello(token=state.api_key) + frames.encode(frame))
                    stream.recv(1000)
            job = Following()
            endpoint.run(cell("x = 1", "x"), job)
            assert values_of(await job.end()) == {"x": 1}
            assert is_alive(state.pid)
            world.settings.log_file.write_text("")  # what a broken client caused is in the log: rightly so

    asyncio.run(scenario())
