"""`accelerate_downloads`: uv downloads packages at the same time, or one after the other."""

from __future__ import annotations

import asyncio
import textwrap

import pytest
from real import Following, call, value_of

# A build backend of its own, without dependencies: it notes how uv was told to download.
BACKEND = """
import os, zipfile
from pathlib import Path

INFO = "probe_{number}-1.dist-info"

def build_wheel(folder, config_settings=None, metadata_directory=None):
    name = "probe_{number}-1-py3-none-any.whl"
    limit = os.environ.get("UV_CONCURRENT_DOWNLOADS")
    with zipfile.ZipFile(Path(folder) / name, "w") as wheel:
        wheel.writestr("probe_{number}.py", f"LIMIT = {{limit!r}}")
        wheel.writestr(INFO + "/METADATA", "Metadata-Version: 2.1\\nName: probe-{number}\\nVersion: 1\\n")
        wheel.writestr(INFO + "/WHEEL", "Wheel-Version: 1.0\\nRoot-Is-Purelib: true\\nTag: py3-none-any\\n")
        wheel.writestr(INFO + "/RECORD", "")
    return name
"""
PROJECT = """
[project]
name = "probe-{number}"
version = "1"
[build-system]
requires = []
build-backend = "backend"
backend-path = ["."]
"""


def requirement(folder, number: int) -> str:
    project = folder / f"probe-{number}"
    project.mkdir()
    (project / "backend.py").write_text(textwrap.dedent(BACKEND.format(number=number)))
    (project / "pyproject.toml").write_text(PROJECT.format(number=number))
    return f"probe-{number} @ {project.as_uri()}"


@pytest.fixture(autouse=True)
def without_limit(monkeypatch):
    monkeypatch.delenv("UV_CONCURRENT_DOWNLOADS", raising=False)


@pytest.mark.parametrize(("number", "accelerate", "limit"), [(1, True, None), (2, False, "1")])
def test_one_at_a_time_where_it_is_asked_for(world, tmp_path, number, accelerate, limit):
    source = f"def f():\n    import probe_{number}\n    return probe_{number}.LIMIT"
    needed = requirement(tmp_path, number)

    async def scenario():
        async with world.endpoint() as endpoint:
            job = Following()
            request = call(source, requirements=(needed,), accelerate_downloads=accelerate)
            endpoint.run(request, job)
            assert value_of(await job.end()) == limit

    asyncio.run(scenario())
