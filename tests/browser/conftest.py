"""One JupyterLab and one Chromium for all tests; a notebook and its kernel for each."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import pytest

pytest.importorskip("jupyterlab")
pytest.importorskip("playwright")

from lab import TIMEOUT_S, LabServer, OpenNotebook
from playwright.sync_api import Page, expect, sync_playwright

CHROMIUM = shutil.which("chromium") or "/usr/bin/chromium"
FLAGS = (
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
)


@pytest.fixture(scope="module")
def lab() -> Iterator[LabServer]:
    root = Path(tempfile.mkdtemp(prefix="fnb-lab-"))  # short: the engine's socket lies below it
    server = LabServer(root)
    try:
        server.wait_ready()
        yield server
    finally:
        server.stop()
        shutil.rmtree(root, ignore_errors=True)


@pytest.fixture(scope="module")  # its event loop runs until it ends, and no test outside wants one
def page(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Page]:
    if not Path(CHROMIUM).exists():
        pytest.skip("there is no chromium (Debian: apt-get install chromium)")
    expect.set_options(timeout=TIMEOUT_S * 1000)
    with sync_playwright() as playwright:
        context = playwright.chromium.launch_persistent_context(
            tmp_path_factory.mktemp("chromium"),
            executable_path=CHROMIUM,
            args=FLAGS,
            headless=True,
            viewport={"width": 1200, "height": 1100},
        )
        context.set_default_timeout(TIMEOUT_S * 1000)
        yield context.pages[0]
        context.close()


@pytest.fixture(scope="session")
def screenshots(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where pictures go: ``FLASH_TEST_SCREENSHOTS``, to look at them afterwards."""
    chosen = os.environ.get("FLASH_TEST_SCREENSHOTS")
    folder = Path(chosen) if chosen else tmp_path_factory.mktemp("screenshots")
    folder.mkdir(parents=True, exist_ok=True)
    return folder


@pytest.fixture
def notebook(
    lab: LabServer, page: Page, screenshots: Path, request: pytest.FixtureRequest
) -> Iterator[Callable[[Sequence[str]], OpenNotebook]]:
    """Write a notebook of these cells and open it."""
    name = f"{request.node.name}.ipynb"

    def open_notebook(cells: Sequence[str]) -> OpenNotebook:
        return OpenNotebook.write(lab, page, name, cells=cells, screenshots=screenshots)

    yield open_notebook
    page.screenshot(path=screenshots / f"end-of-{request.node.name}.png")
    page.goto("about:blank")
    lab.shut_kernels_down()
    lab.set_theme("JupyterLab Light")
