"""Export: how long a long notebook takes to become a project, and to be compared with it."""

from __future__ import annotations

import statistics
import tempfile
import time
from pathlib import Path

from flash_nb.cells.reading import Cell
from flash_nb.project.export import export
from flash_nb.project.export.drift import drift_of
from flash_nb.project.export.folder import compare, export_to

CELLS = 500
ALLOWED_S = 1.0


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


def main() -> list[tuple[str, float, float]]:
    """Return rows of what was measured, the median in seconds, and what is allowed."""
    cells = notebook()
    rows = [("export 500 cells", _median(lambda: export("a.ipynb", cells)), ALLOWED_S)]
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "project"
        export_to(path, "a.ipynb", cells)
        rows.append(
            ("diff 500 cells", _median(lambda: drift_of(*compare(path, "a.ipynb", cells))), ALLOWED_S)
        )
    return rows


def _median(run, times: int = 5) -> float:
    taken = []
    for _ in range(times):
        began = time.perf_counter()
        run()
        taken.append(time.perf_counter() - began)
    return statistics.median(taken)


if __name__ == "__main__":
    for name, seconds, allowed in main():
        print(f"{name:<24} {seconds:6.3f} s   (at most {allowed} s)")
