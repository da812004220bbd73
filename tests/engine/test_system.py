"""System packages are checked, named where missing, and installed only where that is allowed."""

from __future__ import annotations

import asyncio
import shutil

import pytest
from real import Following, cell, values_of

from flash_nb.jobs import JobStatus

MISSING = "flash-nb-has-no-such-package"

pytestmark = pytest.mark.skipif(shutil.which("dpkg-query") is None, reason="needs Debian's dpkg-query")


async def run(world, **fields):
    async with world.endpoint() as endpoint:
        job = Following()
        endpoint.run(cell("x = 1", "x", **fields), job)
        return await job.end()


def test_a_package_that_is_there_is_no_matter(world):
    assert values_of(asyncio.run(run(world, system=("dpkg",)))) == {"x": 1}


def test_a_missing_package_is_named_and_not_installed(world):
    info = asyncio.run(run(world, system=("dpkg", MISSING))).info
    assert info.status is JobStatus.FAILED
    assert info.error_type == "WorkerEnvironmentError"
    assert f"System packages are missing on this machine: {MISSING}." in info.error
    assert "--allow-apt" in info.error
    assert "apt-get" not in info.error.splitlines()[0]


def test_a_name_that_is_none_is_refused(world):
    info = asyncio.run(run(world, system=("--force",), allow_apt=True)).info
    assert info.status is JobStatus.FAILED
    assert "'--force' is not the name of a Debian package" in info.error


def test_a_dependency_that_cannot_be_installed_is_named(world):
    info = asyncio.run(run(world, requirements=("flash-nb-has-no-such-project",))).info
    assert info.status is JobStatus.FAILED
    assert info.error_type == "WorkerEnvironmentError"
    assert "flash-nb-has-no-such-project" in info.error
