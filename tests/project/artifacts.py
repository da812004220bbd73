"""Artifacts for tests: a project's files and all that a build adds, packages from this environment."""

from __future__ import annotations

import shutil
import subprocess
import sys
import tarfile
import textwrap
from collections.abc import Iterable, Mapping
from importlib.metadata import distribution
from pathlib import Path

from packaging.requirements import Requirement

from flash_nb.project.handlers import files_of, requirements_of
from flash_nb.project.manifest import manifest_of, to_text
from flash_nb.project.scan import scan

PYTHON = ".".join(map(str, sys.version_info[:2]))

QUEUE = '''
import asyncio, os, sys, time
from flash_nb import CpuLiveServerless, GpuGroup, LiveServerless, PodTemplate, remote
from web import scale

cpu = CpuLiveServerless(name="cpu-worker", workersMax=3, template=PodTemplate(containerDiskInGb=10))
gpu = LiveServerless(
    name="gpu_worker", gpus=[GpuGroup.AMPERE_80],
    env={"HF_TOKEN": os.environ["MY_TOKEN"], "OTHER": os.environ["NOT_SET"]},
)
drip = CpuLiveServerless(name="drip")


@remote(resource_config=cpu, dependencies=["numpy"])
async def add(x, y=1):
    return x + y

@remote(cpu)
def pid():
    print("pid was asked", flush=True)
    return os.getpid()

@remote(cpu)
def fail(text):
    raise ValueError(text)

@remote(cpu)
async def through(x):
    """Calls functions of three endpoints, one of them its own."""
    doubled = await double(x)
    scaled = await scale(doubled.output, factor=10)
    return {"sum": (await add(doubled, y=scaled["scaled"])).unwrap(), "pid": os.getpid()}

@remote(gpu)
async def double(x):
    return x * 2

@remote(gpu)
def where():
    return {
        "path": sys.path, "cwd": os.getcwd(), "pid": os.getpid(), "token": os.environ.get("HF_TOKEN"),
        "resource": os.environ["FLASH_RESOURCE_NAME"], "version": sys.version_info[:2],
        "modules": sorted({n.partition(".")[0] for n in sys.modules}),
    }

@remote(gpu)
async def break_it(kind):
    out = await fail(kind)
    error = out.exception
    return [out.status, type(error).__name__, error.remote_type, error.remote_message,
            "raise ValueError(text)" in error.remote_traceback]

@remote(gpu)
class Counter:
    def __init__(self, start=0):
        self.value = start
    def count(self, by=1):
        self.value += by
        return self.value
    async def peek(self):
        return self.value

@remote(cpu)
async def count_there(start):
    counter = Counter(start)
    await counter.count()
    return (await counter.count(by=5)).unwrap()

@remote(drip)
def numbers(n):
    for number in range(n):
        yield {"number": number}
'''
WEB = """
from flash_nb import CpuLiveLoadBalancer, remote
from fastapi.responses import StreamingResponse

api = CpuLiveLoadBalancer(name="api")

@remote(api, method="POST", path="/scale")
async def scale(value: int, factor: int = 2):
    return {"scaled": value * factor}

@remote(api, method="GET", path="/items/{item}")
def item(item: str, loud: bool = False):
    return item.upper() if loud else item

@remote(api, method="GET", path="/drip")
async def drip(count: int):
    import asyncio
    async def pieces():
        for number in range(count):
            yield f"{number}\\n"
            await asyncio.sleep(0.05)
    return StreamingResponse(pieces(), media_type="text/plain")

@remote(api, method="POST", path="/sum")
async def sum_of(values: list[int]):
    from jobs import add
    total = await add(values[0], values[1])
    return {"total": total.output, "status": total.status}
"""
MAIN = """
from contextlib import asynccontextmanager
from fastapi import FastAPI, Request
from jobs import through

@asynccontextmanager
async def lifespan(app):
    print("the model is loaded", flush=True)
    yield {"model": "ready"}

app = FastAPI(lifespan=lifespan)

@app.get("/")
def home(request: Request):
    auth = request.headers.get("authorization")
    return {"model": request.state.model, "cookie": request.cookies.get("c"), "auth": auth}

@app.post("/through/{x}")
async def start(x: int):
    out = await through(x)
    return {"output": out.output, "status": out.status, "error": out.error}
"""


RESOURCES = {"cpu-worker", "gpu_worker", "drip", "api", "mothership"}
SOURCES = {"jobs.py": QUEUE, "web.py": WEB, "main.py": MAIN}


def write(folder: Path, sources: Mapping[str, str]) -> Path:
    """Write the unpacked artifact of a project with these files; return its folder."""
    for name, text in sources.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(textwrap.dedent(text))
    project = scan(folder, sources)
    for name, content in files_of(project).items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(content)
    (folder / "flash_manifest.json").write_bytes(to_text(manifest_of(project, python_version=PYTHON)))
    install(folder, requirements_of(project))
    return folder


def pack(folder: Path) -> Path:
    """Pack an artifact; return the archive."""
    archive = folder.with_suffix(".tar.gz")
    with tarfile.open(archive, "w:gz", compresslevel=1) as tar:
        for path in sorted(folder.rglob("*")):
            if path.is_file():
                tar.add(path, path.relative_to(folder).as_posix())
    return archive


def install(folder: Path, requirements: Iterable[str]) -> None:
    """Copy packages of this environment, with what they need, as an install from wheels would."""
    waiting, done = [Requirement(text) for text in requirements], set()
    while waiting:
        requirement = waiting.pop()
        if requirement.name in done or (
            requirement.marker and not requirement.marker.evaluate({"extra": ""})
        ):
            continue
        done.add(requirement.name)
        found = distribution(requirement.name)
        waiting += [Requirement(text) for text in found.requires or ()]
        for file in found.files or ():
            if ".." not in file.parts and file.suffix != ".pyc":
                target = folder / file
                target.parent.mkdir(parents=True, exist_ok=True)
                shutil.copyfile(found.locate_file(file), target)


def bare(folder: Path, code: str, **variables: str) -> subprocess.CompletedProcess:
    """Run code in a Python that has the standard library and the artifact, and nothing else."""
    program = f"import sys\nsys.path.insert(0, {str(folder)!r})\n" + textwrap.dedent(code)
    command, environment = [sys.executable, "-I", "-S", "-c", program], {"PATH": "/usr/bin:/bin", **variables}
    return subprocess.run(
        command, capture_output=True, text=True, check=False, timeout=60, cwd="/", env=environment
    )
