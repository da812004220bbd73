"""The ledger: what several kernels write, what is found again, and what is refused."""

from __future__ import annotations

import sqlite3
import subprocess
import sys
import time
from pathlib import Path

import pytest

from flash_nb.errors import SettingsError
from flash_nb.jobs import JobInfo, JobStatus
from flash_nb.sdk.board import About, Origin
from flash_nb.sdk.ledger import KEPT_S, Entry, Ledger

HERE = Origin("a.ipynb", "ab12", 3, "f00d")


def entry(job: str = "j1", origin: Origin = HERE, submitted_at: float | None = None) -> Entry:
    about = About("cell", "gpu", "A100", "local", origin)
    return Entry(job, about, {"outputs": ["x"], "display": "flash-1"}, submitted_at or time.time())


def ended(job: str, status: JobStatus = JobStatus.COMPLETED, run_s: float = 2.0) -> JobInfo:
    return JobInfo(job, "e", status, 0.0, ended_at=1.0, run_s=run_s)


@pytest.fixture
def ledger(tmp_path: Path) -> Ledger:
    return Ledger(tmp_path / "home")


def test_an_entry_comes_back_as_it_was(ledger: Ledger) -> None:
    ledger.began(entry())
    assert Ledger(ledger.file.parent).entry("j1") == ledger.uncollected("a.ipynb")[0] == ledger.entry("j1")
    found = ledger.entry("j1")
    assert found is not None
    assert (found.about, found.binding, found.display) == (entry().about, entry().binding, "flash-1")
    assert ledger.entry("j2") is None


def test_only_the_owner_can_read_it(ledger: Ledger) -> None:
    assert ledger.file.stat().st_mode & 0o777 == 0o600
    assert ledger.file.parent.stat().st_mode & 0o777 == 0o700


def test_uncollected_are_found_by_path_and_by_cell(ledger: Ledger) -> None:
    ledger.began(entry("j1", submitted_at=time.time() - 2))
    ledger.began(entry("j2", Origin("b.ipynb", "cd34")))
    ledger.began(entry("j3", Origin("c.ipynb", "ef56")))
    ledger.began(entry("j4", Origin("d.ipynb", "", source="b00c")))
    assert [each.job for each in ledger.uncollected("", {"gh78": "b00c"})] == ["j4"]
    assert [each.job for each in ledger.uncollected("", {"gh78": "f00d"})] == [], "its cell has an id"
    assert [each.job for each in ledger.uncollected("a.ipynb", {"cd34": "other"})] == ["j1", "j2"]
    ledger.collected("j1")
    assert ledger.uncollected("a.ipynb") == []


def test_the_last_run_of_the_same_text(ledger: Ledger) -> None:
    assert ledger.last_run_s("f00d") is None
    for number, (status, run_s) in enumerate(
        [(JobStatus.COMPLETED, 2.0), (JobStatus.COMPLETED, 3.0), (JobStatus.FAILED, 9.0)]
    ):
        ledger.began(entry(f"j{number}", submitted_at=time.time() + number))
        ledger.ended(ended(f"j{number}", status, run_s))
    assert ledger.last_run_s("f00d") == 3.0


def test_old_entries_go(ledger: Ledger) -> None:
    ledger.began(entry("old", submitted_at=time.time() - KEPT_S - 1))
    ledger.began(entry("new"))
    assert ledger.entry("old") is None


def test_several_processes_write_at_once(ledger: Ledger) -> None:
    script = (
        "import sys, time; from pathlib import Path; from flash_nb.sdk.ledger import *; "
        "from flash_nb.sdk.board import *; l = Ledger(Path(sys.argv[1]))\n"
        "about = About('c', origin=Origin('a'))\n"
        "for n in range(100): l.began(Entry(f'{sys.argv[2]}-{n}', about, {}, time.time()))"
    )
    command = [sys.executable, "-c", script, str(ledger.file.parent)]
    writers = [subprocess.Popen([*command, name]) for name in ("a", "b", "c")]
    assert [writer.wait() for writer in writers] == [0, 0, 0]
    assert len(ledger.uncollected("a")) == 300


def test_a_newer_format_and_a_foreign_file_are_refused_and_left_alone(tmp_path: Path) -> None:
    file = tmp_path / "ledger.sqlite"
    with sqlite3.connect(file) as db:
        db.execute("PRAGMA user_version = 99")
    with pytest.raises(SettingsError, match="newer"):
        Ledger(tmp_path)
    file.write_bytes(b"something else entirely" * 99)
    with pytest.raises(SettingsError, match="cannot be used"):
        Ledger(tmp_path)
    assert file.read_bytes().startswith(b"something else")
