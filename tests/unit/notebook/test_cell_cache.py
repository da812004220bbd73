"""What the cache says to people."""

from __future__ import annotations

from datetime import datetime

import pytest

from flash_nb.notebook.cell_cache import kept_text, saved_text
from flash_nb.sdk.cache import Kept

NOW = datetime(2026, 11, 22, 16, 30).timestamp()


@pytest.mark.parametrize(
    ("made", "run_s", "cost", "text"),
    [
        (datetime(2026, 11, 22, 14, 2), 252.0, "$0.12", "reused from 14:02 · saved 4 min 12 s · $0.12"),
        (datetime(2026, 11, 22, 0, 0), 0.004, "", "reused from 00:00 · saved 4 ms"),
        (
            datetime(2026, 11, 21, 23, 59),
            9.0,
            "$0.0004 simulated",
            "reused from 2026-11-21 23:59 · saved 9.0 s · $0.0004 simulated",
        ),
        (datetime(2025, 11, 22, 14, 2), 3600, "$1–2", "reused from 2025-11-22 14:02 · saved 1 h · $1–2"),
    ],
)
def test_saved(made, run_s, cost, text):
    kept = Kept("cell", "gpu", made.timestamp(), run_s, cost, (), {}, ())
    assert saved_text(kept, NOW) == text


def test_kept():
    assert kept_text(1_234_567) == "kept, 1.2 MB"
