"""A kernel with 300 detached jobs and the live table open: is its main thread free?

``python -m tests.benchmarks.jobs`` starts a kernel and an engine, runs 300 detached cells in it, short ones
and ones of some seconds, and while they are queued and run, executes cells that do nothing, one after the
other. A round trip is measured by the client, from the request until the kernel is idle again. The repaints
are the ``update_display_data`` messages of the table, by the kernel's own clock.
"""

from __future__ import annotations

import contextlib
import os
import queue
import statistics
import subprocess
import sys
import tempfile
import time
from collections import Counter
from datetime import datetime, timedelta
from typing import Any

from jupyter_client.blocking.client import BlockingKernelClient
from jupyter_client.manager import KernelManager

JOBS = 300
TIMEOUT_S = 120
PAUSE_S = 0.05
"""Between two cells of the one who types: without it they would measure each other."""

SHORT = "%%flash_remote --detach -r many\nshort = 1"
LONG = """\
%%flash_remote --detach -r many
import time
for step in range(20):
    print("step", step, flush=True)
    time.sleep(0.1)
long = 1"""
WORKERS = """\
%load_ext flash_nb
from flash_nb import CpuLiveServerless
many = CpuLiveServerless(name="many", workersMax=4, idleTimeout=60)"""


class FrontEnd:
    """What executes cells and counts what comes."""

    def __init__(self, client: BlockingKernelClient) -> None:
        self._client = client
        self.repaints: list[datetime] = []
        self.bytes = 0
        self.table = ""
        self.text = ""
        self.messages: Counter[str] = Counter()

    def run(self, code: str) -> float:
        """Execute a cell; return the seconds until the kernel was idle again."""
        begun = time.perf_counter()
        request = self._client.execute(code, allow_stdin=True)
        while True:
            message = self._client.get_iopub_msg(timeout=TIMEOUT_S)
            self._take(message)
            is_ours = message["parent_header"].get("msg_id") == request
            if is_ours and message["content"].get("execution_state") == "idle":
                took = time.perf_counter() - begun
                reply = self._reply(request)
                if reply["status"] != "ok":
                    raise SystemExit(f"{code}\n{reply['evalue']}")
                return took

    def _reply(self, request: str) -> dict[str, Any]:
        while True:
            message = self._client.get_shell_msg(timeout=TIMEOUT_S)
            if message["parent_header"].get("msg_id") == request:
                return dict(message["content"])

    def listen(self, seconds: float) -> None:
        """Take what comes for some time."""
        end = time.monotonic() + seconds
        with contextlib.suppress(queue.Empty):
            while (left := end - time.monotonic()) > 0:
                self._take(self._client.get_iopub_msg(timeout=left))

    def _take(self, message: dict[str, Any]) -> None:
        kind, content = message["msg_type"], message["content"]
        self.messages[kind] += 1
        display = content.get("transient", {}).get("display_id", "")
        if kind == "display_data" and display.startswith("jobs-") and "text/html" in content["data"]:
            self.table = display
        if display == self.table and kind in {"display_data", "update_display_data"}:
            self.text = content["data"]["text/plain"]
            self.bytes = max(self.bytes, len(content["data"].get("text/html", "")))
        if kind == "update_display_data" and display == self.table:
            self.repaints.append(message["header"]["date"])


def main() -> None:
    """Measure, and print the table."""
    with tempfile.TemporaryDirectory(prefix="flash-bench-") as folder:
        os.environ["FLASH_HOME"] = f"{folder}/home"
        manager = KernelManager(kernel_name="python3")
        manager.start_kernel(
            cwd=folder,
        )
        client = manager.blocking_client()
        client.start_channels()
        try:
            client.wait_for_ready(timeout=TIMEOUT_S)
            _measure(FrontEnd(client))
        finally:
            client.stop_channels()
            manager.shutdown_kernel(now=True)
            subprocess.run(
                [sys.executable, "-m", "flash_nb", "engine", "stop"], capture_output=True, check=False
            )


def _measure(front_end: FrontEnd) -> None:
    front_end.run(WORKERS)
    front_end.run("%%flash_remote -r many\n0")  # the environment is there
    empty = [_after_a_pause(front_end) for _ in range(50)]
    front_end.run("%flash jobs")
    submits = [front_end.run(LONG if n % 3 == 0 else SHORT) for n in range(JOBS)]
    print(front_end.text.partition("\n")[0])
    noops = []
    while "running" in front_end.text:
        noops.append(_after_a_pause(front_end))
    print(front_end.text.partition("\n")[0])
    most = max(_in_the_second_from(begun, front_end.repaints) for begun in front_end.repaints)
    print(f"{len(noops)} no-op cells; {len(front_end.repaints)} repaints of at most {front_end.bytes} bytes")
    print("\n| what | measured | to reach |\n| --- | --- | --- |")
    print(f"| no-op cell, no jobs: median, p95 | {_ms(empty)} | |")
    print(f"| detached cell returns: median, p95 | {_ms(submits)} | |")
    print(f"| no-op cell while {JOBS} jobs are there: median, p95 | {_ms(noops)} | median ≤ 50 ms |")
    print(f"| repaints of the table in any second, at most | {most} | 4 |")


def _after_a_pause(front_end: FrontEnd) -> float:
    front_end.listen(PAUSE_S)
    return front_end.run("pass")


def _in_the_second_from(begun: datetime, times: list[datetime]) -> int:
    return sum(timedelta() <= each - begun < timedelta(seconds=1) for each in times)


def _ms(seconds: list[float]) -> str:
    ordered = sorted(seconds)
    return f"{statistics.median(ordered) * 1000:.0f} ms, {ordered[int(len(ordered) * 0.95)] * 1000:.0f} ms"


if __name__ == "__main__":
    main()
