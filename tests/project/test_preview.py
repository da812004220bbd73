"""A preview of a real artifact: its processes, its address, its end."""

from __future__ import annotations

import asyncio
import json
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from contextlib import asynccontextmanager, closing
from pathlib import Path

import httpx
import pytest
from artifacts import PYTHON, RESOURCES, SOURCES, pack, write
from real import cmdline, cwd, is_alive, processes

from flash_nb.errors import ManifestError, ProjectError
from flash_nb.project import skeleton
from flash_nb.project.preview import Preview, listen
from flash_nb.project.preview.interpreter import interpreter

PATIENCE_S = 60.0
ONE = """
from flash_nb import CpuLiveServerless, remote
@remote(CpuLiveServerless(name="one"))
async def f():
    return 1
"""


@pytest.fixture(scope="module")
def archive(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("sample") / "artifact"
    return pack(write(folder, SOURCES))


@pytest.fixture(autouse=True)
def temporary(tmp_path_factory, monkeypatch):
    """All that previews write: it must be empty in the end."""
    tmp_path_factory.getbasetemp()  # before the place changes
    folder = Path(tempfile.mkdtemp(prefix="fp-"))
    monkeypatch.setattr(tempfile, "tempdir", str(folder))
    monkeypatch.setenv("TMPDIR", str(folder))
    yield folder
    left = list(folder.iterdir())
    shutil.rmtree(folder)
    assert left == []
    assert [pid for pid in processes() if str(folder) in cwd(pid) + cmdline(pid)] == []


def free_port() -> int:
    with closing(socket.socket()) as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


@asynccontextmanager
async def previewed(archive: Path, **fields):
    """Give a preview that is up, a client of it, and its log."""
    lines: list[tuple[str, str]] = []
    preview = Preview(archive, listen(port=0), say=lambda *line: lines.append(line), **fields)
    async with preview:
        await asyncio.wait_for(preview.ready(), PATIENCE_S)
        async with httpx.AsyncClient(base_url=preview.url, timeout=PATIENCE_S, trust_env=False) as client:
            yield preview, client, lines
            spilled = preview._server.spill_folders
    assert not any(Path(folder).exists() for folder in spilled)


async def run(client: httpx.AsyncClient, resource: str, **given):
    answer = await client.post(f"/v2/{resource}/runsync", json={"input": given})
    assert answer.status_code == 200, answer.text
    return answer.json()


async def status_of(client: httpx.AsyncClient, job: str, status: str) -> None:
    """Wait until a job of ``drip`` has this status."""
    give_up_at = time.monotonic() + PATIENCE_S
    while (await client.get(f"/v2/drip/status/{job}")).json()["status"] != status:
        assert time.monotonic() < give_up_at
        await asyncio.sleep(0.02)


async def until(condition) -> None:
    give_up_at = time.monotonic() + PATIENCE_S
    while not condition():
        assert time.monotonic() < give_up_at
        await asyncio.sleep(0.02)


def test_every_kind_of_endpoint_answers_at_one_address(archive):
    async def scenario():
        async with previewed(archive, environ={"MY_TOKEN": "t0ken"}) as (_, client, lines):
            assert (await run(client, "cpu-worker", function_name="add", x=1))["output"] == 2
            assert (await run(client, "drip", n=2))["output"] == [{"number": 0}, {"number": 1}]
            job = (await client.post("/v2/drip/run", json={"input": {"n": 1}})).json()["id"]
            await status_of(client, job, "COMPLETED")
            assert (await client.get(f"/v2/drip/stream/{job}")).json()["stream"] == [
                {"output": {"number": 0}}
            ]
            assert (await client.get("/v2/drip/health")).json()["jobs"]["completed"] == 2
            failed = await run(client, "cpu-worker", function_name="fail", text="oh no")
            assert failed["status"] == "FAILED"
            assert json.loads(failed["error"])["error_message"] == "oh no"
            assert (await client.post("/api/scale", json={"value": 4})).json() == {"scaled": 8}
            assert (await client.get("/api/items/a%20b?loud=1")).json() == "A B"
            assert (await client.get("/api/ping")).json() == {"status": "healthy"}
            assert (await client.get("/api/openapi.json")).json()["servers"] == [{"url": "/api"}]
            assert "/api/openapi.json" in (await client.get("/api/docs")).text
            headers = {"authorization": "Bearer mine", "cookie": "c=1"}
            home = (await client.get("/", headers=headers)).json()
            assert home == {"model": "ready", "cookie": "1", "auth": "Bearer mine"}
            assert (await client.get("/ping")).json() == {"status": "healthy"}
            assert (await client.get("/no/such")).status_code == 404
            assert (await client.get("/v2/nothing/health")).status_code == 404
            listed = (await client.get("/v2")).json()["resources"]
            assert set(listed) == RESOURCES
            assert listed["drip"]["example"].endswith("""/v2/drip/runsync -d '{"input": {}}'""")
            assert '{"function_name": "add", "kwargs": {}}' in listed["cpu-worker"]["example"]
            assert ("mothership", "the model is loaded") in lines
            assert any(name == "gpu_worker" and "NOT_SET is not set" in line for name, line in lines)
            await run(client, "cpu-worker", function_name="pid")
            await until(lambda: ("cpu-worker", "pid was asked") in lines)

    asyncio.run(scenario())


def test_endpoints_call_each_other_in_processes_of_their_own(archive):
    async def scenario():
        async with previewed(archive) as (_, client, _):
            through = (await client.post("/through/4")).json()
            assert (through["status"], through["output"]["sum"]) == ("COMPLETED", 88)
            mine = (await run(client, "cpu-worker", function_name="pid"))["output"]
            theirs = (await run(client, "gpu_worker", function_name="where"))["output"]["pid"]
            assert through["output"]["pid"] == mine != theirs
            broken = await run(client, "gpu_worker", function_name="break_it", kind="why")
            assert broken["output"] == ["FAILED", "RemoteExecutionError", "ValueError", "why", True]
            assert (await run(client, "cpu-worker", function_name="count_there", start=10))["output"] == 16
            assert (await client.post("/api/sum", json={"values": [3, 4]})).json() == {
                "total": 7,
                "status": "COMPLETED",
            }

    asyncio.run(scenario())


def test_a_worker_has_its_python_the_artifact_and_nothing_else(archive, monkeypatch, tmp_path):
    (tmp_path / "leaked.py").write_text("")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))

    async def scenario():
        async with previewed(archive, environ={"MY_TOKEN": "t0ken"}) as (_, client, _):
            found = (await run(client, "gpu_worker", function_name="where"))["output"]
            base = Path(sys.base_prefix).resolve()
            artifact = Path(found["cwd"])
            for place in map(Path, found["path"]):
                is_bare = place.parts[-1] == "site-packages" and artifact.parent in place.parents
                assert place == artifact or is_bare or base in place.resolve().parents, found["path"]
            assert found["version"] == list(sys.version_info[:2])
            assert (found["resource"], found["token"]) == ("gpu_worker", "t0ken")
            assert "numpy" not in found["modules"]

    asyncio.run(scenario())


def test_responses_stream_through(archive):
    async def scenario():
        async with previewed(archive) as (_, client, _), client.stream("GET", "/api/drip?count=20") as answer:
            pieces = [piece async for piece in answer.aiter_text()]
            assert "".join(pieces) == "".join(f"{n}\n" for n in range(20))
            assert len(pieces) > 5

    asyncio.run(scenario())


def test_strangers_are_refused(archive):
    async def scenario():
        async with previewed(archive) as (preview, client, _):
            assert (await client.get("/", headers={"host": "evil.example"})).status_code == 403
            far = {"sec-fetch-site": "cross-site"}
            assert (await client.post("/v2/drip/run", json={"input": {}}, headers=far)).status_code == 403
            assert (await client.get("/v2", headers=far)).status_code == 200
            door = preview._server.http_url()
            endpoint = preview.resources[0].endpoint
            answer = await client.post(f"{door}/v2/{endpoint}/run", json={"input": {}})
            assert answer.status_code == 401

    asyncio.run(scenario())


def test_without_a_mothership_the_address_lists_what_there_is(tmp_path):
    source = """
    from flash_nb import CpuLiveServerless, remote
    @remote(CpuLiveServerless(name="one", env={"A": "1"}))
    async def shown():
        import os
        return os.environ["A"], os.path.exists("data/words.txt")
    """
    folder = write(tmp_path / "a", {"jobs.py": source, "data/words.txt": "x"})

    async def scenario():
        async with previewed(pack(folder)) as (_, client, _):
            (listed,) = (await client.get("/")).json()["resources"].values()
            assert listed["example"].startswith("curl http://localhost:")
            assert (await run(client, "one"))["output"] == ["1", True]

    asyncio.run(scenario())


def test_the_project_that_init_writes_runs_as_it_is(tmp_path):
    files = {name: content.decode() for name, content in skeleton.files_of("demo").items()}

    async def scenario():
        async with previewed(pack(write(tmp_path / "a", files))) as (_, client, lines):
            assert (await client.get("/")).json() == {"project": "demo", "documentation": "/docs"}
            report = await client.post("/report", json={"text": "one two three"})
            assert report.status_code == 200, report.text
            assert report.json()["words"] == 3
            assert (await client.post("/cpu/words", json={"text": "ab c"})).json() == [2, 1]
            await until(lambda: ("demo_cpu", "3 words") in lines)

    asyncio.run(scenario())


def test_code_that_cannot_be_imported_is_told_in_the_log_and_to_who_calls(tmp_path):
    folder = write(tmp_path / "a", {"jobs.py": "import no_such_package\n" + ONE})

    async def scenario():
        async with previewed(pack(folder)) as (_, client, lines):
            failed = await run(client, "one")
            assert failed["status"] == "FAILED"
            assert "No module named 'no_such_package'" in failed["error"]
            await until(lambda: any("No module named 'no_such_package'" in line for _, line in lines))

    asyncio.run(scenario())


def test_a_worker_that_dies_is_told_of_and_comes_back(tmp_path):
    source = """
    import os
    from flash_nb import CpuLiveServerless, remote
    @remote(CpuLiveServerless(name="one"))
    def die(now: bool):
        return os._exit(3) if now else "alive"
    """

    async def scenario():
        async with previewed(pack(write(tmp_path / "a", {"jobs.py": source}))) as (_, client, lines):
            assert (await run(client, "one", now=True))["status"] == "FAILED"
            assert any(name == "one" and "exited with status 3" in line for name, line in lines)
            assert (await run(client, "one", now=False))["output"] == "alive"

    asyncio.run(scenario())


def start(archive: Path, port: int) -> subprocess.Popen:
    """Start a preview as a terminal does."""
    code = (
        "import pathlib, signal, sys\n"
        "signal.signal(signal.SIGINT, signal.default_int_handler)\n"
        "from flash_nb.project.preview import Preview, listen\n"
        "Preview(pathlib.Path(sys.argv[1]), listen(port=int(sys.argv[2]))).run()\n"
        "print('it returned')\n"
    )
    return subprocess.Popen(
        [sys.executable, "-c", code, archive, str(port)],
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, start_new_session=True,
    )  # fmt: skip


def wait_for_port(port: int, process: subprocess.Popen) -> None:
    give_up_at = time.monotonic() + PATIENCE_S
    while True:
        try:
            if httpx.get(f"http://127.0.0.1:{port}/", trust_env=False, timeout=PATIENCE_S).status_code == 200:
                return
        except httpx.TransportError:
            assert process.poll() is None, process.stdout.read()
        assert time.monotonic() < give_up_at
        time.sleep(0.02)


@pytest.mark.parametrize(
    "signals",
    [(signal.SIGINT,), (signal.SIGTERM,), (signal.SIGINT, signal.SIGINT), (signal.SIGINT, signal.SIGTERM)],
)
def test_a_signal_or_two_leave_nothing_behind(archive, temporary, signals):
    port = free_port()
    process = start(archive, port)
    wait_for_port(port, process)
    workers = [pid for pid in processes() if str(temporary) in cwd(pid)]
    assert len(workers) == 5
    for number in signals:
        process.send_signal(number)
        time.sleep(0.05)
    output, _ = process.communicate(timeout=PATIENCE_S)
    assert process.returncode == 0, output
    assert "Traceback" not in output
    assert output.rstrip().endswith("it returned")
    assert "mothership | the model is loaded" in output
    assert not any(map(is_alive, workers))
    with closing(socket.socket()) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        probe.bind(("127.0.0.1", port))


@pytest.mark.parametrize("delay", [0.0, 0.3, 0.6])
def test_a_signal_while_it_starts_leaves_nothing_behind(archive, temporary, delay):
    process = start(archive, free_port())
    give_up_at = time.monotonic() + PATIENCE_S
    while not any(temporary.iterdir()):
        assert time.monotonic() < give_up_at
        time.sleep(0.005)
    time.sleep(delay)
    process.send_signal(signal.SIGINT)
    output, _ = process.communicate(timeout=PATIENCE_S)
    assert process.returncode == 0, output
    assert "Traceback" not in output
    assert not [pid for pid in processes() if str(temporary) in cwd(pid)], output


def test_a_port_that_is_taken_is_said_with_one_that_is_free():
    with closing(socket.socket()) as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]

        with pytest.raises(ProjectError, match=rf"Port {port} .*(\n.*--port \d+)"):
            listen(port=port)


def test_what_is_no_artifact_is_refused(tmp_path):
    (tmp_path / "x").mkdir()
    (tmp_path / "x/readme").write_text("hi")
    foreign = write(tmp_path / "y", {"jobs.py": ONE})
    (foreign / "handler_one.py").unlink()
    for folder, words in ((tmp_path / "x", "has no flash_manifest.json"), (foreign, "has no handler_one.py")):
        with pytest.raises(ManifestError, match=words):
            Preview(pack(folder), listen(port=0)).run()


def test_a_python_that_is_not_here_is_named_with_the_way_out():
    with pytest.raises(ProjectError, match=rf"Python 3\.4.*none here(.|\n)*--python-version {PYTHON}"):
        interpreter("3.4")
    assert interpreter(PYTHON) == sys.executable


def test_a_notebook_is_told_to_use_a_terminal(archive):
    async def scenario():
        Preview(archive, listen(port=0)).run()

    with pytest.raises(ProjectError, match="in a terminal"):
        asyncio.run(scenario())


def test_only_this_machine_is_served(archive):
    with pytest.raises(ProjectError, match="asks for no key"):
        listen(host="0.0.0.0")
    with pytest.raises(ProjectError, match="containers are not supported"):
        Preview(archive, listen(port=0), docker=True)
