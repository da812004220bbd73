"""A warm call through Runpod's protocol: flash_nb against the official SDK 1.0.0, in the same run.

``python -m tests.benchmarks.runpod`` starts the engine, which plays Runpod, behind a proxy that adds
80 ms to every answer, and calls a function of 100 ms from both. The official package gets an
environment of its own. Rounds alternate, so that a noisy minute meets both.
"""

from __future__ import annotations

import asyncio
import json
import os
import statistics
import subprocess
import sys
import tempfile
import threading
from pathlib import Path

LATENCY_S = 0.08
ROUNDS = 5
CALLS = 10

OURS = """
import asyncio, json, statistics, time
from flash_nb import CpuLiveServerless, remote

@remote(resource_config=CpuLiveServerless(name="bench-ours", idleTimeout=60))
def work(x):
    import time
    time.sleep(0.1)
    return x

async def call(n):
    assert (await work(n)).unwrap() == n
"""

OFFICIAL = """
import asyncio, json, statistics, time
from runpod_flash import LiveServerless, remote

@remote(resource_config=LiveServerless(name="bench-official", idleTimeout=60))
def work(x):
    import time
    time.sleep(0.1)
    return x

async def call(n):
    assert await work(n) == n
"""

MEASURE = """
async def main():
    for n in range(3):
        await call(n)
    calls = []
    for n in range(CALLS):
        begun = time.perf_counter(); await call(n)
        calls.append(time.perf_counter() - begun)
    print("\\n" + json.dumps(statistics.median(calls)))

asyncio.run(main())
"""


class SlowProxy:
    """Passes bytes on, those of answers `LATENCY_S` later."""

    def __init__(self, port: int) -> None:
        self._target = port
        self.port = 0
        self._connections: set[object] = set()
        ready = threading.Event()
        threading.Thread(target=lambda: asyncio.run(self._serve(ready)), daemon=True).start()
        ready.wait()

    async def _serve(self, ready: threading.Event) -> None:
        server = await asyncio.start_server(self._connect, "127.0.0.1", 0)
        self.port = server.sockets[0].getsockname()[1]
        ready.set()
        await server.serve_forever()

    async def _connect(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._connections.add(asyncio.current_task())  # a loop keeps only weak references to its tasks
        there, back = await asyncio.open_connection("127.0.0.1", self._target)
        await asyncio.gather(_pass(reader, back, 0.0), _pass(there, writer, LATENCY_S))


async def _pass(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, delay_s: float) -> None:
    loop = asyncio.get_running_loop()
    while data := await reader.read(65_536):
        loop.call_later(delay_s, writer.write, data)
    loop.call_later(delay_s, writer.close)


def main() -> None:
    """Measure, and print both medians."""
    with tempfile.TemporaryDirectory(prefix="flash-bench-") as folder:
        official = _official_python(Path(folder))
        environment = {
            **os.environ,
            "HOME": folder,
            "FLASH_HOME": f"{folder}/home",
            "FLASH_BACKEND": "runpod",
            "NO_PROXY": "127.0.0.1",
        }
        flash = [sys.executable, "-m", "flash_nb", "engine"]
        started = subprocess.run(
            [*flash, "start", "--json"], env=environment, capture_output=True, text=True, check=True
        )
        engine = json.loads(started.stdout)
        root = engine["runpod"]["RUNPOD_API_BASE_URL"]
        slow = f"http://127.0.0.1:{SlowProxy(int(root.rpartition(':')[2])).port}"
        environment |= {name: url.replace(root, slow) for name, url in engine["runpod"].items()}
        environment["RUNPOD_API_KEY"] = engine["api_key"]
        try:
            rounds = [
                (
                    _run(sys.executable, OURS + MEASURE, environment, folder),
                    _run(official, OFFICIAL + MEASURE, environment, folder),
                )
                for _ in range(ROUNDS)
            ]
        finally:
            subprocess.run([*flash, "stop"], env=environment, capture_output=True, check=False)
    ours, theirs = (statistics.median(times) for times in zip(*rounds, strict=True))
    print("| what | flash_nb | runpod-flash 1.0.0 | to reach | ratio |\n| --- | --- | --- | --- | --- |")
    what = f"warm call of 100 ms, {LATENCY_S * 1000:.0f} ms from the service"
    print(f"| {what} | {ours * 1000:.0f} ms | {theirs * 1000:.0f} ms | at most half | {ours / theirs:.2f} |")


def _official_python(folder: Path) -> str:
    from uv import find_uv_bin

    uv, python = str(find_uv_bin()), str(folder / "official" / "bin" / "python")
    subprocess.run([uv, "venv", "--quiet", "--python", sys.executable, str(folder / "official")], check=True)
    subprocess.run([uv, "pip", "install", "--quiet", "--python", python, "runpod-flash==1.0.0"], check=True)
    return python


def _run(python: str, code: str, environment: dict[str, str], folder: str) -> float:
    program = Path(folder) / "program.py"
    program.write_text(code.replace("CALLS", str(CALLS)))
    done = subprocess.run(
        [python, str(program)], env=environment, capture_output=True, text=True, check=False, cwd=folder
    )
    if done.returncode:
        raise SystemExit(done.stdout + done.stderr)
    return float(json.loads(done.stdout.splitlines()[-1]))


if __name__ == "__main__":
    main()
