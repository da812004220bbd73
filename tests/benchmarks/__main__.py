"""The benchmark table of README: flash_nb against Ray local, both in the same run.

``python -m tests.benchmarks`` (needs the ``bench`` extra) prints the table in Markdown. Each number
is the median of several processes or calls on this machine; every process starts with nothing
running. Rounds of both alternate, so that a noisy minute meets both.
"""

from __future__ import annotations

import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

ROUNDS = 5
CALLS = 500
BURST = 1_000

START_OURS = """
import time; begun = time.perf_counter()
from IPython.core.interactiveshell import InteractiveShell
shell = InteractiveShell.instance()
begun = time.perf_counter()
shell.run_line_magic("load_ext", "flash_nb")
loaded = time.perf_counter()
result = shell.run_cell("%%flash_remote\\nanswer = 6 * 7\\n")
assert result.success and shell.user_ns["answer"] == 42
import json; print(json.dumps({"load": loaded - begun, "start": time.perf_counter() - begun}))
"""

START_RAY = """
import time; begun = time.perf_counter()
import ray
ray.init(num_cpus=2, include_dashboard=False, log_to_driver=False, logging_level="ERROR")
@ray.remote
def answer():
    return 6 * 7
assert ray.get(answer.remote()) == 42
import json; print(json.dumps({"start": time.perf_counter() - begun}))
"""

CALLS_OURS = """
import asyncio, json, statistics, time
import numpy as np
from flash_nb import CpuLiveServerless, remote

@remote(resource_config=CpuLiveServerless(name="bench", workersMax=2, idleTimeout=60))
def same(x):
    return x

async def main():
    array = np.random.default_rng(0).random(7_000_000 // 8)
    await asyncio.gather(*(same(array) for _ in range(6)))
    for n in range(50):
        await same(n)
    calls = []
    for n in range(CALLS):
        begun = time.perf_counter(); assert (await same(n)).output == n
        calls.append(time.perf_counter() - begun)
    begun = time.perf_counter()
    done = await asyncio.gather(*(same(n) for n in range(BURST)))
    burst = time.perf_counter() - begun
    assert [job.output for job in done] == list(range(BURST))
    arrays = []
    for _ in range(30):
        begun = time.perf_counter(); out = (await same(array)).output
        arrays.append(time.perf_counter() - begun)
    assert (out == array).all()
    print(json.dumps({"call": statistics.median(calls), "rate": BURST / burst,
                      "array": statistics.median(arrays)}))

asyncio.run(main())
"""

CALLS_RAY = """
import json, statistics, time
import numpy as np
import ray
ray.init(num_cpus=2, include_dashboard=False, log_to_driver=False, logging_level="ERROR")

@ray.remote
def same(x):
    return x

array = np.random.default_rng(0).random(7_000_000 // 8)
ray.get([same.remote(array) for _ in range(6)])
for n in range(50):
    ray.get(same.remote(n))
calls = []
for n in range(CALLS):
    begun = time.perf_counter(); assert ray.get(same.remote(n)) == n
    calls.append(time.perf_counter() - begun)
begun = time.perf_counter()
done = ray.get([same.remote(n) for n in range(BURST)])
burst = time.perf_counter() - begun
assert done == list(range(BURST))
arrays = []
for _ in range(30):
    begun = time.perf_counter(); out = ray.get(same.remote(array))
    arrays.append(time.perf_counter() - begun)
assert (out == array).all()
print(json.dumps({"call": statistics.median(calls), "rate": BURST / burst,
                  "array": statistics.median(arrays)}))
"""


def main() -> None:
    """Measure, and print the table."""
    with tempfile.TemporaryDirectory(prefix="flash-bench-") as folder:
        environment = {**os.environ, "FLASH_HOME": f"{folder}/home", "RAY_TMPDIR": f"{folder}/ray"}
        run = _runner(environment, Path(folder))
        run(START_OURS), run(START_RAY)  # files of both come into the page cache
        ours = _medians([run(START_OURS) for _ in range(ROUNDS)])
        ray = _medians([run(START_RAY) for _ in range(ROUNDS)])
        rounds = [(run(CALLS_OURS), run(CALLS_RAY)) for _ in range(ROUNDS)]
        ours |= _medians([first for first, _ in rounds])
        ray |= _medians([second for _, second in rounds])
    ours["plan"] = _plan_cell()
    _print(ours, ray)


def _runner(environment: dict[str, str], folder: Path) -> Callable[[str], dict[str, float]]:
    home = Path(environment["FLASH_HOME"])

    def run(code: str) -> dict[str, float]:
        program = folder / "program.py"
        program.write_text(code.replace("CALLS", str(CALLS)).replace("BURST", str(BURST)))
        done = subprocess.run(
            [sys.executable, str(program)], env=environment, capture_output=True, text=True, check=False
        )
        subprocess.run(
            [sys.executable, "-m", "flash_nb", "engine", "stop"],
            env=environment,
            capture_output=True,
            check=False,
        )
        shutil.rmtree(home, ignore_errors=True)
        if done.returncode:
            raise SystemExit(done.stderr)
        answer: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
        return answer

    return run


def _medians(rounds: list[dict[str, float]]) -> dict[str, float]:
    return {name: statistics.median(each[name] for each in rounds) for name in rounds[0]}


def _plan_cell() -> float:
    from flash_nb.cells import plan_cell

    block = (
        "import numpy as np\nfrom math import sqrt as root\n\n"
        "def step(x, *, rate=rate0):\n    y = [root(v) for v in x if v > low]\n    return y, rate\n\n"
        "class Model:\n    size = width\n\n    def fit(self, data):\n        for row in data:\n"
        "            with open(row.path) as f:\n                self.last = f.read()\n        return self\n\n"
        "try:\n    model = Model().fit(frames)\nexcept ValueError as error:\n"
        "    print(f'{error!r:>{width}}')\n"
    )
    source = (block * 5).rstrip() + "\n"
    assert 95 <= source.count("\n") <= 105, source.count("\n")
    known = {"rate0", "low", "width", "frames"}
    times = []
    for _ in range(200):
        begun = time.perf_counter()
        plan_cell(source, known)
        times.append(time.perf_counter() - begun)
    return statistics.median(times)


def _print(ours: dict[str, float], ray: dict[str, float]) -> None:
    rows = [
        (
            "warm no-op call, p50",
            _ms(ours["call"]),
            _ms(ray["call"]),
            "at most half",
            ours["call"] / ray["call"],
        ),
        (
            f"{BURST:,} no-op calls at once, 2 workers",
            f"{ours['rate']:,.0f}/s",
            f"{ray['rate']:,.0f}/s",
            "at least twice",
            ours["rate"] / ray["rate"],
        ),
        (
            "extension, engine, worker and first result from nothing",
            _ms(ours["start"]),
            _ms(ray["start"]),
            "at most a third",
            ours["start"] / ray["start"],
        ),
        ("`%load_ext flash_nb` alone", _ms(ours["load"]), "", "100 ms", None),
        (
            "7 MB array there and back",
            _ms(ours["array"]),
            _ms(ray["array"]),
            "no slower",
            ours["array"] / ray["array"],
        ),
        ("`plan_cell`, 100 lines", _ms(ours["plan"]), "", "2 ms", None),
    ]
    print("| what | flash_nb | Ray local | to reach | ratio |\n| --- | --- | --- | --- | --- |")
    for what, mine, theirs, goal, ratio in rows:
        print(f"| {what} | {mine} | {theirs} | {goal} | {'' if ratio is None else f'{ratio:.2f}'} |")


def _ms(seconds: float) -> str:
    return f"{seconds * 1000:.3g} ms"


if __name__ == "__main__":
    main()
