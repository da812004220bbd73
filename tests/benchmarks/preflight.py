"""Preflight of a typical remote cell: 40 lines that read arrays, a table, a helper and a class.

``python -m tests.benchmarks.preflight`` prints the median of many runs in this process, and what it is
made of. What encoding the values takes is part of it: they are encoded once, and that is what is sent.
"""

from __future__ import annotations

import linecache
import statistics
import sys
import time
from collections.abc import Callable
from typing import Any

ROUNDS = 200

ABOVE = """
import numpy as np
import pandas as pd
from collections import Counter

rng = np.random.default_rng(0)
images = rng.random((200, 28, 28))
labels = rng.integers(0, 10, 200)
weights = [rng.random((784, 64)), rng.random((64, 10))]
frame = pd.DataFrame({"x": rng.random(1000), "y": rng.random(1000)})
settings = {"rate": 0.01, "epochs": 3, "name": "small", "tokens": ["a", "b"]}

class Scaler:
    def __init__(self, low, high):
        self.low, self.high = low, high
    def __call__(self, values):
        return (values - self.low) / (self.high - self.low)

scaler = Scaler(0.0, 1.0)

def softmax(values):
    shifted = np.exp(values - values.max(axis=1, keepdims=True))
    return shifted / shifted.sum(axis=1, keepdims=True)
"""

CELL = """
import time
from dataclasses import dataclass

@dataclass
class Epoch:
    number: int
    loss: float
    seconds: float

def forward(batch, weights):
    hidden = np.maximum(batch.reshape(len(batch), -1) @ weights[0], 0)
    return hidden, softmax(hidden @ weights[1])

def loss_of(probabilities, labels):
    picked = probabilities[np.arange(len(labels)), labels]
    return float(-np.log(picked + 1e-9).mean())

history = []
data = scaler(images)
for number in range(settings["epochs"]):
    begun = time.perf_counter()
    hidden, probabilities = forward(data, weights)
    error = probabilities.copy()
    error[np.arange(len(labels)), labels] -= 1
    error /= len(labels)
    gradient = hidden.T @ error
    back = (error @ weights[1].T) * (hidden > 0)
    weights[1] -= settings["rate"] * gradient
    weights[0] -= settings["rate"] * data.reshape(len(data), -1).T @ back
    loss = loss_of(probabilities, labels)
    history.append(Epoch(number, loss, time.perf_counter() - begun))
    print(f"epoch {number}: {loss:.3f}")

counts = Counter(labels.tolist())
summary = frame.describe()
best = min(history, key=lambda epoch: epoch.loss)
with_names = {settings["name"]: best.loss, "counts": dict(counts)}
best, summary
"""


def main() -> None:
    """Measure, and print a table."""
    from flash_nb.cells.options import CellOptions
    from flash_nb.cells.plan import plan_cell
    from flash_nb.cells.preflight import check_text
    from flash_nb.cells.shell import Translated
    from flash_nb.cells.syntax import parse
    from flash_nb.notebook.preflight import inspect_cell, known_around
    from flash_nb.sdk.capture import survey
    from flash_nb.sdk.target import Target

    namespace = _run_above()
    known = frozenset(name for name in namespace if not name.startswith("__"))
    plan = plan_cell(CELL, known)
    around = known_around(plan, known, namespace)
    target, options, text = Target(sys.version_info[:2]), CellOptions(), Translated(CELL)

    def whole() -> Any:
        return inspect_cell(text, plan_cell(CELL, known), options, around, target, namespace=namespace)

    checked = whole()
    assert checked.findings == (), checked.findings
    size = sum(checked.captured.sizes.values())
    rows: dict[str, Callable[[], Any]] = {
        "the whole preflight": whole,
        "of it: names in and out": lambda: plan_cell(CELL, known),
        "of it: the text": lambda: list(check_text(parse(CELL), plan, around)),
        "of it: encoding the values, which are then sent": lambda: survey(plan.inputs, namespace),
    }
    print(f"{CELL.count(chr(10)) - 1} lines, {len(plan.inputs)} names in, {size / 1e6:.1f} MB of values\n")
    print("| what | median of 200 |\n| --- | --- |")
    for what, run in rows.items():
        print(f"| {what} | {_median_ms(run):.2f} ms |")


def _run_above() -> dict[str, Any]:
    """Run the cell above as a notebook does, so that its definitions have a source."""
    namespace: dict[str, Any] = vars(sys.modules["__main__"])
    lines = ABOVE.splitlines(keepends=True)
    linecache.cache["<cell 1>"] = (len(ABOVE), None, lines, "<cell 1>")
    exec(compile(ABOVE, "<cell 1>", "exec"), namespace)
    return namespace


def _median_ms(run: Callable[[], Any]) -> float:
    taken = []
    for _ in range(ROUNDS):
        begun = time.perf_counter()
        run()
        taken.append(time.perf_counter() - begun)
    return statistics.median(taken) * 1000


if __name__ == "__main__":
    main()
