"""``flash run``: a real process with a real engine, called over HTTP."""

from __future__ import annotations

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import httpx
import pytest
from running import Run, environment_of, flash
from terminal import at_terminal

from flash_nb.cells.reading import Cell
from flash_nb.project.export.folder import export_to

MAIN = """
from fastapi import FastAPI
from work import shout

app = FastAPI()

@app.get("/hello/{name}")
async def hello(name: str):
    return {"said": (await shout(name)).unwrap(), "version": 1}
"""

WORK = '''
from flash_nb import CpuLiveServerless, remote

cpu = CpuLiveServerless(name="shouter")

@remote(resource_config=cpu)
async def shout(text: str, times: int = 1) -> str:
    """Say it loudly."""
    print(f"shouting {text}")
    return (text.upper() + "!") * times
'''

Start = Callable[..., Run]


@pytest.fixture
def home() -> Iterator[Path]:
    folder = Path(tempfile.mkdtemp(prefix="fr-"))  # short: the engine's socket lies below it
    yield folder
    flash(environment_of(folder), folder, "engine", "stop")
    shutil.rmtree(folder)


@pytest.fixture
def start(home: Path) -> Iterator[Start]:
    """Write a project's files, and run it at any free port."""
    started: list[Run] = []

    def begin(files: dict[str, str], *arguments: str) -> Run:
        write(home / "shop", files)
        run = Run(home / "shop", environment_of(home), *(arguments or ("--port", "0")))
        started.append(run)
        return run

    yield begin
    for run in started:
        run.kill()


def write(folder: Path, files: dict[str, str]) -> None:
    for name, text in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text)


def endpoints(home: Path) -> list[str]:
    found = json.loads(flash(environment_of(home), home, "endpoints", "--json").stdout)
    return sorted(each["name"] for each in found)


def test_routes_and_functions_answer_and_nothing_is_left(start: Start, home: Path):
    run = start({"main.py": MAIN, "work.py": WORK}).until_served()
    assert "Functions run on the local engine of this machine:" in run.said
    assert "shouter: CPU" in run.said
    assert "POST /functions/shout" in run.said
    assert run.get("/hello/you").json() == {"said": "YOU!", "version": 1}
    assert run.post("/functions/shout", {"text": "a", "times": 2}).json() == "A!A!"
    run.until_said("shouting a")
    assert run.post("/functions/shout", {"times": "x"}).status_code == 422
    schema = run.get("/openapi.json").json()
    assert schema["paths"]["/functions/shout"]["post"]["tags"] == ["functions, run on their resources"]
    assert schema["paths"]["/functions/shout"]["post"]["description"] == "Say it loudly."
    assert [*schema["paths"]] == ["/hello/{name}", "/functions/shout"]  # the project's own come first
    assert "swagger" in run.get("/docs").text
    assert endpoints(home) == ["shouter"]

    run.interrupt()
    assert run.ended() == 0
    assert "Deleted the endpoint shouter" in run.said
    assert "Traceback" not in run.said
    run.until_alone()
    assert endpoints(home) == []


def test_functions_import_the_files_of_the_project(start: Start) -> None:
    work = """
from flash_nb import CpuLiveServerless, remote

cpu = CpuLiveServerless(name="counter", workersMax=1)

@remote(resource_config=cpu)
async def count(text: str) -> list:
    import words
    from shared.numbers import limited
    return [type(words).__name__, limited(words.count(text))]
"""
    files = {
        "work.py": work,
        "words.py": "from shared import numbers\n\ndef count(text):\n    return len(text.split())\n",
        "shared/__init__.py": "LIMIT = 3\n",
        "shared/numbers.py": "from . import LIMIT\n\ndef limited(x):\n    return min(x, LIMIT)\n",
    }
    run = start(files).until_served()
    assert run.post("/functions/count", {"text": "a b"}).json() == ["module", 2]
    assert run.post("/functions/count", {"text": "a b c d e"}).json() == ["module", 3]
    (run.folder / "shared" / "__init__.py").write_text("LIMIT = 4\n")
    run.until_said("Served again at")
    assert run.post("/functions/count", {"text": "a b c d e"}).json() == ["module", 4]


def test_a_new_project_works_at_once(start: Start, home: Path):
    assert flash(environment_of(home), home, "init", "shop").returncode == 0
    run = start({}).until_served()
    assert run.get("/").json() == {"project": "shop", "documentation": "/docs"}
    reported = run.post("/report", {"text": "one three"}).json()
    assert (reported["words"], reported["summary"]["mean"], reported["summary"]["spread"]) == (2, 4.0, 1.0)
    assert reported["summary"]["device"] == "CPU: no GPU here"
    assert run.post("/cpu/words", {"text": "a bc"}).json() == [1, 2]
    assert run.post("/gpu/summary", {"values": []}).status_code == 500


def test_an_endpoint_that_was_there_before_stays(start: Start, home: Path):
    write(home / "before", {"x.py": f"{WORK}\nimport asyncio\nprint(asyncio.run(shout('x')).unwrap())\n"})
    done = subprocess.run(
        [sys.executable, "x.py"],
        cwd=home / "before",
        env=environment_of(home),
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.splitlines()[-1] == "X!"
    run = start({"main.py": MAIN, "work.py": WORK}).until_served()
    assert run.post("/functions/shout", {"text": "a"}).json() == "A!"
    run.process.terminate()
    assert run.ended() == 0
    assert "Deleted" not in run.said
    assert endpoints(home) == ["shouter"]


ROUTES = """
from fastapi import HTTPException, Request, UploadFile
from fastapi.responses import PlainTextResponse
from flash_nb import CpuLiveLoadBalancer, remote

api = CpuLiveLoadBalancer(name="desk")

@remote(api, method="POST", path="/add")
async def add(x: int, y: int = 1):
    return {"sum": x + y}

@remote(api, method="GET", path="/items/{item}")
async def find(item: str, limit: int = 3):
    if item == "none":
        raise HTTPException(404, "there is no such item")
    return {"item": item, "limit": limit}

@remote(api, method="PUT", path="/raw")
async def raw(request: Request):
    return PlainTextResponse(f"{len(await request.body())} bytes, {request.headers['x-mark']}", 201)

@remote(api, method="POST", path="/file", dependencies=["python-multipart"])
async def measure(file: UploadFile):
    return len(await file.read())
"""


def test_routes_of_a_load_balancer_are_served_as_declared(start: Start):
    run = start({"desk.py": ROUTES}).until_served()
    assert "GET /desk/items/{item}" in run.said
    assert run.post("/desk/add", {"x": 2}).json() == {"sum": 3}
    assert run.post("/desk/add", {}).status_code == 422
    assert run.get("/desk/items/a%20b?limit=5").json() == {"item": "a b", "limit": 5}
    missing = run.get("/desk/items/none")
    assert (missing.status_code, missing.json()["detail"]) == (404, "there is no such item")
    sent = httpx.put(f"{run.url}/desk/raw", content=b"12345", headers={"x-mark": "here"})
    assert (sent.status_code, sent.text) == (201, "5 bytes, here")
    assert sent.headers["content-type"].startswith("text/plain")
    assert httpx.post(f"{run.url}/desk/file", files={"file": b"1234567"}).json() == 7
    assert run.post("/functions/add", {"x": 2}).status_code == 404
    parameters = run.get("/openapi.json").json()["paths"]["/desk/items/{item}"]["get"]["parameters"]
    assert [each["name"] for each in parameters] == ["item", "limit"]


FUNCTIONS = """
import numpy as np
from runpod_flash import CpuLiveServerless, LiveServerless, remote

cpu = CpuLiveServerless(name="many")
gpu = LiveServerless(name="other")

@remote(resource_config=cpu)
def fails(x: int):
    raise KeyError(f"no {x}")

@remote(resource_config=cpu)
def dies():
    import os
    os._exit(3)

@remote(resource_config=cpu)
def takes_all(a, **others):
    return [a, others]

@remote(resource_config=cpu)
def by_position(a, /, b, *rest, c: float = float("inf")):
    return [a, b, c]

@remote(resource_config=cpu)
def odd_types(data: np.ndarray, stream: "nowhere.Type" = None) -> np.ndarray:
    return sum(data)

@remote(resource_config=cpu)
def makes_array():
    return [1], object()

@remote(resource_config=cpu)
def counts(n: int):
    yield from range(n)

@remote(resource_config=gpu)
class Counter:
    def __init__(self, start: int = 10):
        self.value = start

    def add(self, by: int = 1) -> int:
        self.value += by
        return self.value

    def _secret(self):
        return 0
"""


NOTEBOOK = (
    "from flash_nb import CpuLiveServerless, remote\nw = CpuLiveServerless(name='counters', workersMax=1)",
    """import near

class Base:
    def __init__(self, start: int = 10): self.value = start

@remote(w)
class Counter(Base):
    def add(self, by: int = 1, **more):
        self.value += near.double(by)
        return self.value
    async def value_of(self, name, /): return getattr(self, name)""",
)


def test_an_exported_notebook_has_its_classes_methods_and_modules(start: Start, home: Path):
    write(home / "beside", {"near.py": "def double(x):\n    return 2 * x\n"})
    cells = [Cell(number, source, f"c{number}") for number, source in enumerate(NOTEBOOK, 1)]
    export_to(home / "shop", "a.ipynb", cells, beside=home / "beside")
    run = start({}, "--port", "0", "--no-reload").until_served()
    for path in ("/Counter/", "/functions/Counter/"):  # an object for each
        assert run.post(f"{path}add", {}).json() == 12
        assert run.post(f"{path}add", {"by": 5}).json() == 22
        assert run.post(f"{path}value_of", {"name": "value"}).json() == 22
    assert run.post("/Counter/value_of", {}).status_code == 422
    assert {path for path in run.get("/openapi.json").json()["paths"] if path.startswith("/Counter")} == {
        "/Counter/add",
        "/Counter/value_of",
    }


def test_every_kind_of_function_without_an_application(start: Start):
    run = start({"functions.py": FUNCTIONS}, "--port", "0", "--no-reload").until_served()
    assert run.said.startswith("shop: its functions at http://localhost:")

    failed = run.post("/functions/fails", {"x": 3})
    assert failed.status_code == 500
    told = failed.json()
    assert (told["type"], told["message"]) == ("KeyError", "'no 3'")
    assert told["detail"] == "KeyError: 'no 3'"
    assert 'raise KeyError(f"no {x}")' in told["traceback"]

    lost = run.post("/functions/dies", {})
    assert (lost.status_code, lost.json()["type"]) == (502, "WorkerLostError")

    assert run.post("/functions/takes_all", {"a": 1, "b": 2}).json() == [1, {"b": 2}]
    missing = run.post("/functions/takes_all", {"b": 2})
    assert (missing.status_code, missing.json()["detail"]) == (422, "missing a required argument: 'a'")
    assert run.post("/functions/by_position", {"a": 1, "b": 2}).json() == [1, 2, None]
    assert run.post("/functions/odd_types", {"data": [1, 2]}).json() == 3
    unsendable = run.post("/functions/makes_array", {})
    assert unsendable.status_code == 500
    assert "what makes_array returned[1] cannot be sent as JSON" in unsendable.json()["message"]
    assert run.post("/functions/counts", {"n": 3}).json() == [0, 1, 2]

    assert run.post("/functions/Counter/add", {}).json() == 11
    assert run.post("/functions/Counter/add", {"by": 5}).json() == 16
    assert run.post("/functions/Counter/_secret", {}).status_code == 404
    assert run.get("/openapi.json").status_code == 200


def test_the_project_comes_first_in_its_routers_too_and_a_route_for_all_paths_hides_no_function(start: Start):
    own = """
from fastapi import APIRouter

router = APIRouter()

@router.post("/shout")
async def mine():
    return "mine"

app.include_router(router, prefix="/functions")

@app.get("/{rest:path}")
@app.post("/{rest:path}")
async def everything(rest: str):
    return rest
"""
    more = """
@remote(resource_config=cpu)
async def whisper(text: str) -> str:
    return text.lower()
"""
    run = start({"main.py": MAIN + own, "work.py": WORK + more}).until_served()
    assert run.post("/functions/shout").json() == "mine"
    assert run.post("/functions/whisper", {"text": "A"}).json() == "a"
    assert run.post("/some/where").json() == "some/where"


def test_changes_are_taken_up_and_a_mistake_is_shown_until_it_is_mended(start: Start, home: Path):
    run = start({"main.py": MAIN, "work.py": WORK, ".venv/lib/junk.py": "broken ("}).until_served()
    assert run.get("/hello/you").json()["version"] == 1
    write(home / "shop", {"main.py": MAIN.replace('"version": 1', '"version": 2')})
    run.until_said("Served again at")
    assert run.get("/hello/you").json() == {"said": "YOU!", "version": 2}

    write(home / "shop", {"main.py": MAIN + "\ndef broken(:\n"})
    run.until_said("Nothing is served now")
    assert "main.py:11" in run.said
    write(home / "shop", {"main.py": MAIN + "\nimport absent_module\n"})
    run.until_said("Nothing is served now", times=2)
    assert "ModuleNotFoundError: No module named 'absent_module'" in run.said
    shown = run.said.partition("Traceback")[2]
    assert "flash_nb" not in shown.partition("Nothing is served")[0]
    write(home / "shop", {"absent_module.py": "def unused(): ...\n"})  # a new file mends it too
    run.until_said("Ctrl-C ends it.", times=2)
    assert run.get("/hello/you").json()["version"] == 1
    assert endpoints(home) == ["shouter"]

    write(home / "shop", {".venv/lib/junk.py": "still broken ("})
    run.interrupt()
    run.interrupt()
    assert run.ended() == 0
    assert "junk" not in run.said
    assert run.said.count("Deleted the endpoint shouter") == 1
    run.until_alone()


def test_without_reload_a_broken_project_ends_it(start: Start):
    run = start({"main.py": MAIN + "\n1 / 0\n", "work.py": WORK}, "--port", "0", "--no-reload")
    assert run.ended() == 1
    assert run.said.startswith(
        "Traceback (most recent call last):\n"
        f'  File "{run.folder.resolve()}/main.py", line 11, in <module>\n'
        "    1 / 0\n"
    )
    assert run.said.endswith("\nZeroDivisionError: division by zero\n")
    assert "flash_nb" not in run.said


def test_an_error_of_a_declaration_shows_the_line_of_the_project(start: Start):
    text = (
        "from flash_nb import LiveServerless\nwrong = LiveServerless(name='x', workersMin=5, workersMax=1)\n"
    )
    run = start({"main.py": f"{MAIN}\n{text}", "work.py": WORK}, "--port", "0", "--no-reload")
    assert run.ended() == 1
    assert "main.py" in run.said
    assert "workersMin=5 must not be more than workersMax=1" in run.said
    assert "pydantic" not in run.said


def test_a_stop_cuts_off_a_request_and_a_loop_that_hangs(start: Start):
    stuck = """
import time

@app.get("/stuck")
async def stuck():
    print("stuck", flush=True)
    time.sleep(600)
"""
    run = start({"main.py": MAIN + stuck, "work.py": WORK}).until_served()
    client = subprocess.Popen(["curl", "-s", f"{run.url}/stuck"], stdout=subprocess.DEVNULL)
    try:
        run.until_said("stuck\n")
        run.interrupt()
        assert run.ended() == 0
        run.until_alone()
    finally:
        client.kill()
        client.wait()


def test_a_failing_route_of_the_project_is_logged_from_its_first_line_on(start: Start):
    failing = """
@app.get("/fail")
async def fail():
    return (await shout(7)).unwrap()
"""
    run = start({"main.py": MAIN + failing, "work.py": WORK}).until_served()
    assert run.get("/fail").status_code == 500
    run.until_said("AttributeError: 'int' object has no attribute 'upper'")
    logged = run.said.partition("Traceback (most recent call last):\n")[2]
    assert logged.startswith(f'  File "{run.folder.resolve()}/main.py", line 13, in fail\n')
    assert "starlette" not in logged
    assert "work.py" in logged


def test_it_ends_when_nobody_reads_what_it_prints(home: Path):
    write(home / "shop", {"main.py": MAIN, "work.py": WORK})
    command = [sys.executable, "-m", "flash_nb", "run", "--port", "0", "--auto-provision"]
    process = subprocess.Popen(
        command,
        cwd=home / "shop",
        env={**environment_of(home), "PYTHONUNBUFFERED": "1"},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdout
    try:
        while "Ctrl-C ends it." not in process.stdout.readline():
            assert process.poll() is None
        assert endpoints(home) == ["shouter"]
        process.stdout.close()
        assert process.wait(60) == 0
        assert endpoints(home) == []
    finally:
        process.kill()


def test_it_ends_when_its_terminal_is_closed(start: Start, home: Path):
    files = {"main.py": MAIN, "work.py": WORK}
    run = start(files, "--port", "0", "--auto-provision").until_served()
    os.killpg(run.process.pid, signal.SIGHUP)
    assert run.ended() == 0
    run.until_alone()
    assert endpoints(home) == []


def test_the_server_ends_with_its_first_process(start: Start):
    run = start({"main.py": MAIN, "work.py": WORK}).until_served()
    assert run.children()
    os.kill(run.process.pid, signal.SIGKILL)
    run.ended()
    run.until_alone()


@pytest.fixture
def busy() -> Iterator[int]:
    """A port at which somebody listens, with a free one after it."""
    with socket.create_server(("127.0.0.1", 0)) as listening:
        yield listening.getsockname()[1]


def test_a_busy_port_is_refused_with_the_next_one_if_it_was_chosen(start: Start, busy: int):
    run = start({"work.py": WORK}, "--port", str(busy))
    assert run.ended() == 1
    assert f"Port {busy} of localhost is in use." in run.said
    assert "The next free one: --port " in run.said


def test_the_variables_say_where(start: Start, home: Path, busy: int):
    write(home / "shop", {"work.py": WORK})
    environment = {**environment_of(home), "FLASH_HOST": "127.0.0.1", "FLASH_PORT": str(busy)}
    run = Run(home / "shop", environment)
    assert run.ended() == 1
    assert f"Port {busy} of 127.0.0.1 is in use." in run.said


def test_all_endpoints_are_made_before_and_a_failure_is_named(start: Start, home: Path):
    more = """
from flash_nb import ServerlessEndpoint
image = ServerlessEndpoint(name="of_an_image", imageName="me/it:1")

@remote(resource_config=image)
def payload(x: int):
    return {"x": x}
"""
    run = start({"main.py": MAIN, "work.py": WORK + more}, "--port", "0", "--auto-provision").until_served()
    assert "✓ shouter: created, ep-" in run.said
    assert "✗ of_an_image: of_an_image runs the image 'me/it:1'" in run.said
    assert endpoints(home) == ["shouter"]
    run.interrupt()
    run.until_said("Deleted the endpoint shouter")
    assert run.ended() == 0


def test_a_folder_without_a_project_says_so(start: Start):
    run = start({"notes.txt": "nothing"}, "--port", "0")
    assert run.ended() == 1
    assert "no @remote function and no application was found" in run.said


def test_a_terminal_is_asked_for_the_port_and_ctrl_c_ends_it(home: Path, busy: int):
    write(home / "shop", {"work.py": WORK})
    status, shown = at_terminal(
        environment_of(home),
        home / "shop",
        "run",
        "--port",
        str(busy),
        asked="? [Y/n]: ",
        answer="",
        last="Ctrl-C ends it.",
    )
    assert status == 0, shown
    assert f"Port {busy} of localhost is in use. Use " in shown
    assert "Traceback" not in shown
    status, shown = at_terminal(
        environment_of(home), home / "shop", "run", "--port", str(busy), asked="? [Y/n]: ", answer="n"
    )
    assert status == 1
    assert "Ctrl-C ends it." not in shown


@pytest.fixture
def runpod(home: Path) -> dict[str, str]:
    """An environment in which an engine plays Runpod."""
    environment = environment_of(home)
    started = json.loads(flash(environment, home, "engine", "start", "--json").stdout)
    keyed = {"FLASH_BACKEND": "runpod", "RUNPOD_API_KEY": started["api_key"]}
    return {**environment, **started["runpod"], **keyed}


def test_functions_run_on_runpod_with_a_key(home: Path, runpod: dict[str, str]):
    write(home / "shop", {"main.py": MAIN, "work.py": WORK})
    run = Run(home / "shop", runpod, "--port", "0", "--auto-provision")
    try:
        run.until_served()
        assert "Functions run on Runpod, where workers that are up are billed:" in run.said
        assert "✓ shouter: created, " in run.said
        assert run.post("/functions/shout", {"text": "a"}).json() == "A!"
        run.interrupt()
        assert run.ended() == 0
        assert "Deleted the endpoint shouter" in run.said
        assert runpod["RUNPOD_API_KEY"] not in run.said
    finally:
        run.kill()
    assert flash(runpod, home, "endpoints").stdout == "There are no endpoints (runpod).\n"


def test_many_endpoints_at_runpod_are_asked_for(home: Path, runpod: dict[str, str]):
    many = [f"@remote(CpuLiveServerless(name='w{n}'))\ndef f{n}(): ..." for n in range(6)]
    write(home / "shop", {"work.py": "\n".join(["from flash_nb import CpuLiveServerless, remote", *many])})
    arguments = ("run", "--port", "0", "--auto-provision")
    refused = flash(runpod, home / "shop", *arguments)
    assert refused.returncode == 1
    assert "--auto-provision makes 6 endpoints at Runpod" in refused.stderr
    status, shown = at_terminal(runpod, home / "shop", *arguments, asked="Go on? [y/N]: ", answer="")
    assert status == 1
    assert "created" not in shown
    status, shown = at_terminal(
        runpod, home / "shop", *arguments, asked="Go on? [y/N]: ", answer="y", last="Ctrl-C ends it."
    )
    assert (status, shown.count(": created, "), shown.count("Deleted the endpoint")) == (0, 6, 6), shown
