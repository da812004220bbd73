"""Projects: what it takes to scan one, to export a notebook as one, and to compare the two.

``python -m tests.benchmarks.project`` prints a table of medians, beside what is allowed. CPU seconds say more
where others use the machine too. The projects and the notebook are generated, the same in every run.
"""

from __future__ import annotations

import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from flash_nb.cells.reading import Cell

ROUNDS = 5
SCAN_S = 2.0
EXPORT_S = 1.0
CELLS = 500

MODULE = '''\
"""Step {n} of the pipeline: reads a batch, cleans it, and scores it."""

from __future__ import annotations

import json
import logging
import os
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from package{p}.settings import BATCH, MODELS, PACKAGES
from package{p}.step{before} import clean_{before}

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

logger = logging.getLogger(__name__)

LIMITS = {{"batch": BATCH, "retries": 3, "models": [*MODELS, "small-{n}"]}}
NAME = f"step-{n}"
{declared}

@dataclass(frozen=True)
class Batch_{n}:
    """Rows with what is known of them."""

    rows: list[dict[str, float]]
    source: str = "unknown"
    notes: dict[str, str] = field(default_factory=dict)

    def columns(self) -> set[str]:
        return {{name for row in self.rows for name in row}}

    def without(self, names: Iterable[str]) -> Batch_{n}:
        dropped = set(names)
        rows = [{{key: value for key, value in row.items() if key not in dropped}} for row in self.rows]
        return Batch_{n}(rows, self.source, dict(self.notes))


def clean_{n}(rows: list[dict[str, float]], limits: Mapping[str, int] = LIMITS) -> list[dict[str, float]]:
    """Drop rows with missing values."""
    kept = []
    for row in rows:
        try:
            values = {{key: float(value) for key, value in row.items()}}
        except (TypeError, ValueError) as error:
            logger.warning("row %r is dropped: %s", row, error)
            continue
        if all(value == value for value in values.values()):
            kept.append(values)
    return kept[: limits["batch"]]


def scale_{n}(values: list[float]) -> list[float]:
    low, high = min(values), max(values)
    if low == high:
        return [0.0 for _ in values]
    return [(value - low) / (high - low) for value in values]


{on_gpu}async def score_{n}(rows: list[dict[str, float]], threshold: float = 0.5) -> dict[str, object]:
    """Score a batch."""
    import numpy as np
    import torch

    device = "cuda" if torch.cuda.is_available() else "cpu"
    batch = Batch_{n}(clean_{n}(clean_{before}(rows)))
    scores = {{}}
    for column in sorted(batch.columns()):
        values = scale_{n}([row[column] for row in batch.rows if column in row])
        tensor = torch.tensor(np.asarray(values), device=device)
        scores[column] = float(tensor.mean())
    above = [name for name, value in scores.items() if value > threshold]
    return {{"scores": scores, "above": above, "device": device, "limits": json.dumps(LIMITS)}}


{on_gpu_too}class Model_{n}:
    def __init__(self, size: int = 3) -> None:
        self.size = size
        self.seen = 0

    def predict(self, rows: list[dict[str, float]]) -> list[float]:
        self.seen += len(rows)
        return [sum(row.values()) / self.size for row in clean_{n}(rows)]


if __name__ == "__main__":
    import asyncio

    print(asyncio.run(score_{n}([{{"a": 1.0}}])))
'''

DECLARED = """
from package{p}.settings import volume
from runpod_flash import GpuGroup, LiveServerless, PodTemplate, remote

gpu = LiveServerless(
    name=NAME,
    gpus=[GpuGroup.AMPERE_80, GpuGroup.ADA_24],
    workersMin=0,
    workersMax=2 + 1,
    idleTimeout=60 * 2,
    env={{"MODEL": MODELS[0], "HF_TOKEN": os.environ["HF_TOKEN"]}},
    networkVolume=volume,
    template=PodTemplate(containerDiskInGb=80),
)
"""
ON_GPU = '@remote(resource_config=gpu, dependencies=PACKAGES, system_dependencies=["ffmpeg"])\n'
ON_GPU_TOO = "@remote(gpu)\n"

SETTINGS = '''\
"""What the steps of package {p} share."""

from runpod_flash import NetworkVolume

BATCH = 512
MODELS = ["large", "base"]
PACKAGES = ["numpy", "torch"] + ["pandas"]
volume = NetworkVolume(name="models-{p}", size=100)


def clean_first(rows):
    return rows
'''


def generated(files: int, workers: int, packages: int = 20) -> Iterator[tuple[str, str]]:
    """Give the files of a project.

    Args:
        files: How many of about 100 lines; each imports from the one before it in its package.
        workers: How many of them declare a resource, with a remote function and a remote class.
        packages: In how many folders they lie.
    """
    for package in range(packages):
        yield f"package{package}/__init__.py", ""
        yield f"package{package}/settings.py", SETTINGS.format(p=package)
        yield f"package{package}/stepfirst.py", "from .settings import clean_first as clean_first\n"
    for number in range(files):
        before = number - packages
        is_worker = number >= files - workers
        names = {
            "n": number,
            "p": number % packages,
            "before": before if before >= 0 else "first",
        }
        text = MODULE.format(
            **names,
            declared=DECLARED.format(**names) if is_worker else "",
            on_gpu=ON_GPU if is_worker else "",
            on_gpu_too=ON_GPU_TOO if is_worker else "",
        )
        yield f"package{number % packages}/step{number}.py", text


def write(folder: Path, files: int, workers: int) -> list[str]:
    """Write a project; return its files."""
    names = []
    for name, text in generated(files, workers):
        path = folder / name
        path.parent.mkdir(exist_ok=True)
        path.write_text(text)
        names.append(name)
    return names


def notebook(count: int = CELLS) -> list[Cell]:
    """Return a notebook with helpers, constants, remote functions and remote cells, some of each."""
    kinds = (
        "k{n} = {n}\nname{n} = f'number {{k{n}}}'",
        "def helper{n}(x):\n    return np.sum([x, k{m}]) + len(name{m})",
        "@remote(w)\ndef f{n}(x, y=2):\n    total = helper{m}(x)\n    return float(total) * y",
        "%%flash_remote --name cells\nvalues{n} = [helper{o}(i) for i in range(k{p})]\nsum(values{n})",
        "plot = [n for n in range({n})]\nprint(len(plot), k{q})",
    )
    head = (
        "import numpy as np\nfrom flash_nb import CpuLiveServerless, remote\n"
        'w = CpuLiveServerless(name="work")'
    )
    made = [Cell(1, head, "c1")]
    for n in range(2, count + 1):
        kind = (n - 2) % len(kinds)
        base = n - kind
        text = kinds[kind].format(n=n, m=n - 1, o=base + 1, p=base, q=base)
        made.append(Cell(n, text, f"c{n}"))
    return made


def medians(work: Callable[[], object], rounds: int = ROUNDS) -> tuple[float, float]:
    """Return the medians of what some rounds of work take: seconds by the clock, and of the CPU."""
    wall, cpu = [], []
    for _ in range(rounds):
        begun = time.perf_counter(), time.process_time()
        work()
        wall.append(time.perf_counter() - begun[0])
        cpu.append(time.process_time() - begun[1])
    return statistics.median(wall), statistics.median(cpu)


@dataclass(frozen=True)
class Row:
    """A line of the table; all times in seconds.

    Attributes:
        what: What is measured.
        wall, cpu: Medians.
        allowed: By the clock.
    """

    what: str
    wall: float
    cpu: float
    allowed: float


def scanning(workers: int) -> Row:
    """Scan 1,000 files, of which some declare a resource, with a remote function and a remote class."""
    from flash_nb.project.scan import scan

    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        files = write(folder, 1_000, workers)
        project = scan(folder, files)
        assert len(list(project.functions)) == 2 * workers
        assert len(project.groups) == workers
        lines = len((folder / files[-1]).read_text().splitlines())
        wall, cpu = medians(lambda: scan(folder, files))
    what = f"scan of {len(files):,} files of up to {lines} lines, {workers:,} with endpoints"
    return Row(what, wall, cpu, SCAN_S)


def exporting() -> Row:
    """Export a long notebook."""
    from flash_nb.project.export import export

    cells = notebook()
    assert len(export("a.ipynb", cells).functions) == 2 * (CELLS // 5)
    return Row(f"export of {CELLS} cells", *medians(lambda: export("a.ipynb", cells)), EXPORT_S)


def comparing() -> Row:
    """Compare a long notebook with its project."""
    from flash_nb.project.export.drift import drift_of
    from flash_nb.project.export.folder import compare, export_to

    cells = notebook()
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "project"
        export_to(path, "a.ipynb", cells)
        times = medians(lambda: drift_of(*compare(path, "a.ipynb", cells)))
    return Row(f"diff of {CELLS} cells", *times, EXPORT_S)


ROWS: list[Callable[[], Row]] = [partial(scanning, 100), partial(scanning, 1_000), exporting, comparing]


def main() -> None:
    """Print the table."""
    print("| What | Median | of the CPU | Allowed |\n| --- | --- | --- | --- |")
    for row in ROWS:
        made = row()
        print(f"| {made.what} | {made.wall:.2f} s | {made.cpu:.2f} s | {made.allowed:g} s |", flush=True)


if __name__ == "__main__":
    main()
