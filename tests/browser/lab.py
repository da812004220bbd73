"""JupyterLab as a user sees it: a server with a home of its own, and a notebook in Chromium."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote

import nbformat
from playwright.sync_api import Locator, Page, expect

TIMEOUT_S = 60

RECORD = re.compile(r"(queued|running|completed|failed|cancelled|timed out) .* on ")
QUIET = {  # settings that only keep JupyterLab from asking: nothing here changes a notebook
    "@jupyterlab/apputils-extension/notification": {"fetchNews": "false", "checkForUpdates": False},
}


class LabServer:
    """A JupyterLab of this interpreter on a free port of 127.0.0.1; `root` is all that it knows."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.notebooks = root / "notebooks"
        self.notebooks.mkdir()
        self.environment = {
            **os.environ,
            "FLASH_HOME": str(root / "flash"),
            "IPYTHONDIR": str(root / "ipython"),
            "JUPYTER_CONFIG_DIR": str(root / "config"),
            "JUPYTER_DATA_DIR": str(root / "data"),
            "JUPYTER_RUNTIME_DIR": str(root / "runtime"),
            "JUPYTERLAB_SETTINGS_DIR": str(root / "settings"),
            "JUPYTERLAB_WORKSPACES_DIR": str(root / "workspaces"),
        }
        for name, values in QUIET.items():
            file = root / "settings" / f"{name}.jupyterlab-settings"
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text(json.dumps(values))
        self.log = root / "lab.log"
        command = [sys.executable, "-m", "jupyterlab", "--no-browser", "--ServerApp.port=0", "--allow-root"]
        with self.log.open("w") as log:
            self._process = subprocess.Popen(
                [*command, "--ServerApp.ip=127.0.0.1", f"--ServerApp.root_dir={self.notebooks}"],
                env=self.environment,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
            )
        self._info: dict[str, Any] = {}

    def wait_ready(self) -> None:
        """Wait until it answers."""
        info = self.root / "runtime" / f"jpserver-{self._process.pid}.json"
        give_up_at = time.monotonic() + TIMEOUT_S
        while True:
            assert self._process.poll() is None, self.log.read_text()
            assert time.monotonic() < give_up_at, self.log.read_text()
            try:
                self._info = json.loads(info.read_text())
                self.request("GET", "api/status")
                return
            except (FileNotFoundError, ValueError, urllib.error.URLError):
                time.sleep(0.1)

    def request(self, method: str, path: str, body: Any = None) -> Any:
        """Ask its REST API; None for an empty answer."""
        request = urllib.request.Request(
            f"{self._info['url']}{path}",
            method=method,
            data=None if body is None else json.dumps(body).encode(),
            headers={"Authorization": f"token {self._info['token']}"},
        )
        with urllib.request.urlopen(request, timeout=TIMEOUT_S) as response:
            text = response.read()
        return json.loads(text) if text else None

    def set_theme(self, theme: str) -> None:
        """Set the theme of pages that are loaded from now on."""
        body = {"raw": json.dumps({"theme": theme})}
        self.request("PUT", "lab/api/settings/@jupyterlab/apputils-extension:themes", body)

    def shut_kernels_down(self) -> None:
        """End all kernels and sessions."""
        for session in self.request("GET", "api/sessions"):
            self.request("DELETE", f"api/sessions/{session['id']}")

    def address(self, notebook: str) -> str:
        """Return where a notebook opens, in a workspace of its own."""
        stem = quote(notebook.removesuffix(".ipynb"))
        return f"{self._info['url']}lab/workspaces/{stem}/tree/{quote(notebook)}?token={self._info['token']}"

    def flash(self, *arguments: str) -> Any:
        """Run ``flash`` with ``--json`` against the engine that its kernels started."""
        command = [sys.executable, "-m", "flash_nb", *arguments, "--json"]
        ran = subprocess.run(command, env=self.environment, capture_output=True, text=True, check=False)
        return json.loads(ran.stdout)

    def stop(self) -> None:
        """End it, its kernels and their engine."""
        try:
            self.flash("engine", "stop")
        finally:
            self._process.terminate()
            try:
                self._process.wait(20)
            except subprocess.TimeoutExpired:
                self._process.kill()
                self._process.wait()


@dataclass(frozen=True)
class OpenNotebook:
    """A notebook that is open in a page."""

    lab: LabServer
    page: Page
    name: str
    screenshots: Path

    @property
    def file(self) -> Path:
        return self.lab.notebooks / self.name

    @classmethod
    def write(
        cls, lab: LabServer, page: Page, name: str, *, cells: Sequence[str], screenshots: Path
    ) -> OpenNotebook:
        """Make a notebook and open it."""
        document = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(cell) for cell in cells])
        document.metadata["kernelspec"] = {
            "name": "python3",
            "display_name": "Python 3",
            "language": "python",
        }
        nbformat.write(document, lab.notebooks / name)
        opened = cls(lab, page, name, screenshots)
        opened.open()
        return opened

    def open(self) -> None:
        """Open or reload its page, and wait until its kernel is ready."""
        self.page.goto(self.lab.address(self.name))
        self.page.locator("#jupyterlab-splash").wait_for(state="detached")
        expect(self.cell(0)).to_be_visible()
        self._wait_for_kernel()
        self._wait(self._kernel_is_ready, "its kernel is not ready")
        status = self.page.locator(".jp-Notebook-ExecutionIndicator:visible")
        expect(status).to_have_attribute("data-status", "idle")

    def _wait_for_kernel(self) -> None:
        """Wait until the page is connected to an idle kernel: before, running a cell asks for one."""
        give_up_at = time.monotonic() + TIMEOUT_S
        while not any(self._is_connected(session) for session in self.lab.request("GET", "api/sessions")):
            assert time.monotonic() < give_up_at, "no kernel was started for the notebook"
            self.page.wait_for_timeout(100)

    def _is_connected(self, session: dict[str, Any]) -> bool:
        kernel = session["kernel"]
        connected = kernel["connections"] > 0 and kernel["execution_state"] == "idle"
        return bool(session["path"] == self.name and connected)

    def cell(self, number: int) -> Locator:
        """Return a cell, counted from 0."""
        return self.page.locator(".jp-NotebookPanel:visible .jp-Cell").nth(number)

    def output(self, number: int) -> Locator:
        """Return what is below a cell."""
        return self.cell(number).locator(".jp-OutputArea")

    def record(self, number: int) -> Locator:
        """Return the job record below a cell."""
        return self.output(number).locator(".jp-RenderedHTMLCommon").filter(has_text=RECORD)

    def prompt(self, number: int) -> Locator:
        """Return ``[3]:``, ``[*]:`` or ``[ ]:``."""
        return self.cell(number).locator(".jp-InputPrompt")

    def run_all(self) -> None:
        """Use the menu as a user does."""
        self._choose("Run", "Run All Cells")

    def run_cell(self, number: int) -> None:
        """Run one cell with the keyboard."""
        self.cell(number).locator(".jp-InputArea-editor").click()
        self.page.keyboard.press("Control+Enter")

    def press_stop(self) -> None:
        """Press ■."""
        self.page.locator('.jp-NotebookPanel:visible [data-command="notebook:interrupt-kernel"]').click()

    def restart_kernel(self) -> None:
        """Use the menu, confirm, and wait for the new kernel."""
        self._choose("Kernel", "Restart Kernel…")
        self.page.locator(".jp-Dialog").locator(".jp-mod-accept").click()
        self.page.locator(".jp-Dialog").wait_for(state="detached")
        self._wait(self._kernel_is_ready, "its kernel is not ready")

    def shut_down_kernel(self) -> None:
        """Use the menu, and wait until there is none."""
        self._choose("Kernel", "Shut Down Kernel")
        self._wait(lambda: not self.lab.request("GET", "api/kernels"), "its kernel did not end")

    def save(self) -> None:
        """Save, and wait until the file is written."""
        before = self.file.stat().st_mtime_ns
        self._choose("File", "Save Notebook")
        self._wait(lambda: self.file.stat().st_mtime_ns != before and self._is_whole(), "it was not saved")

    def shut_kernel_down(self) -> None:
        """Use the menu as a user does."""
        self._choose("Kernel", "Shut Down Kernel")

    def screenshot(self, name: str) -> None:
        """Keep a picture of the page."""
        self.page.screenshot(path=self.screenshots / f"{name}.png")

    def _kernel_is_ready(self) -> bool:
        """Tell whether the page is connected to an idle kernel; before, it would ask which one."""
        kernels = [s["kernel"] for s in self.lab.request("GET", "api/sessions") if s["path"] == self.name]
        return any(kernel["connections"] and kernel["execution_state"] == "idle" for kernel in kernels)

    def _is_whole(self) -> bool:
        """Tell whether the file is not just being written."""
        try:
            json.loads(self.file.read_text())
        except ValueError:
            return False
        return True

    def _wait(self, condition: Callable[[], bool], otherwise: str) -> None:
        """Wait for something that the page does not show."""
        give_up_at = time.monotonic() + TIMEOUT_S
        while not condition():
            assert time.monotonic() < give_up_at, otherwise
            self.page.wait_for_timeout(100)

    def _choose(self, menu: str, entry: str) -> None:
        self.page.locator(".lm-MenuBar-itemLabel").get_by_text(menu, exact=True).click()
        self.page.locator(".lm-Menu-itemLabel").get_by_text(entry, exact=True).click()
