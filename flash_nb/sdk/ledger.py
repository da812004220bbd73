"""The ledger: the jobs of cells of all kernels of this home, and what was spent, in one SQLite file.

A kernel that starts anew finds here which jobs of its notebook it has not collected yet, how long a
cell ran last time, and the sums of the month. SQLite and not a file of JSON lines, because several
kernels write at once and rows change. Everything in it is text and numbers: nothing of it is executed,
and no value of the user is in it.
"""

from __future__ import annotations

import contextlib
import json
import sqlite3
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, astuple, dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any

from flash_nb.errors import SettingsError
from flash_nb.jobs import JobInfo, JobStatus
from flash_nb.resources.prices import Rate
from flash_nb.sdk.board import About, Origin
from flash_nb.sdk.money import Amount
from flash_nb.sdk.spending import Account, Spent, Totals

VERSION = 1
KEPT_S = 30 * 24 * 3600.0
"""How long the jobs of cells are kept; sums are kept for ever. An engine keeps results for a day."""

_SCHEMA = """
CREATE TABLE IF NOT EXISTS cells (
    job TEXT PRIMARY KEY, notebook TEXT, cell TEXT, source TEXT, submitted_at REAL, about TEXT,
    binding TEXT, status TEXT, ended_at REAL, run_s REAL, collected INTEGER NOT NULL DEFAULT 0
);
CREATE TABLE IF NOT EXISTS spending (
    month TEXT, backend TEXT, resource TEXT, jobs INTEGER, seconds REAL, low REAL, high REAL,
    unpriced INTEGER, PRIMARY KEY (month, backend, resource)
);
CREATE INDEX IF NOT EXISTS cells_of_notebook ON cells (notebook, collected);
CREATE INDEX IF NOT EXISTS cells_of_source ON cells (source, submitted_at);
"""


_SPEND = """
INSERT INTO spending VALUES (?,?,?,?,?,?,?,?) ON CONFLICT DO UPDATE SET
    jobs = jobs + excluded.jobs, seconds = seconds + excluded.seconds,
    low = low + excluded.low, high = high + excluded.high, unpriced = unpriced + excluded.unpriced
"""


@dataclass(frozen=True)
class Entry:
    """A cell's job.

    Attributes:
        job: Its id.
        about: What it is and where it came from.
        binding: What is needed to bind its names, as JSON: what `flash_nb.notebook.cell_job` makes.
        submitted_at: In POSIX seconds.
        status: The last one that a kernel heard of.
        is_collected: Its names were bound in some kernel.
    """

    job: str
    about: About
    binding: Mapping[str, Any]
    submitted_at: float
    status: JobStatus = JobStatus.IN_QUEUE
    is_collected: bool = False

    @property
    def display(self) -> str:
        """The id of the display that holds its record."""
        return str(self.binding["display"])


class Ledger:
    """The ledger of a home. Its methods may be called in any thread, and return when all is written.

    Args:
        home: The folder; it is made if need be.

    Raises:
        SettingsError: A newer version of flash_nb wrote it, or it is no ledger.
    """

    def __init__(self, home: Path) -> None:
        self.file = home / "ledger.sqlite"
        self._lock = threading.Lock()
        home.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._db = self._open()

    def began(self, entry: Entry) -> None:
        """Note a job that is about to be sent."""
        origin = entry.about.origin
        with self._transaction():
            self._db.execute("DELETE FROM cells WHERE submitted_at < ?", (time.time() - KEPT_S,))
            self._db.execute(
                "INSERT OR REPLACE INTO cells VALUES (?,?,?,?,?,?,?,?,NULL,NULL,0)",
                (
                    entry.job,
                    origin.notebook,
                    origin.cell,
                    origin.source,
                    entry.submitted_at,
                    json.dumps(asdict(entry.about)),
                    json.dumps(entry.binding),
                    entry.status.value,
                ),
            )

    def ended(self, info: JobInfo) -> None:
        """Note the end of a job."""
        with self._transaction():
            self._db.execute(
                "UPDATE cells SET status = ?, ended_at = ?, run_s = ? WHERE job = ?",
                (info.status.value, info.ended_at, info.run_s, info.id),
            )

    def collected(self, job_id: str) -> None:
        """Note that the names of a job were bound, or that it has none to bind."""
        with self._transaction():
            self._db.execute("UPDATE cells SET collected = 1 WHERE job = ?", (job_id,))

    def uncollected(self, notebook: str, cells: Mapping[str, str] = MappingProxyType({})) -> list[Entry]:
        """Return the jobs of a notebook whose names nobody has bound, the oldest first.

        Args:
            notebook: Its path.
            cells: The ids of its cells, each with the hash of its text. So its jobs are found under another
                path too: by the id, or by the text where a front end did not tell ids.
        """
        marks = ",".join("?" * len(cells))
        return self._entries(
            f"collected = 0 AND (notebook = ? OR cell IN ({marks}) OR cell = '' AND source IN ({marks}))"
            " ORDER BY submitted_at",
            (notebook, *cells, *cells.values()),
        )

    def entry(self, job_id: str) -> Entry | None:
        """Return the job with this id, if it was a cell's."""
        return next(iter(self._entries("job = ?", (job_id,))), None)

    def last_run_s(self, source: str) -> float | None:
        """Return how many seconds the newest completed job of the same text ran; None if there is none."""
        with self._lock:
            row = self._db.execute(
                "SELECT run_s FROM cells WHERE source = ? AND status = ? ORDER BY submitted_at DESC LIMIT 1",
                (source, JobStatus.COMPLETED.value),
            ).fetchone()
        return None if row is None else row[0]

    def spend(self, totals: Totals) -> None:
        """Add to the sums of this month."""
        rows = [
            (_month(), *astuple(account), spent.jobs, spent.seconds, *astuple(spent.cost), spent.unpriced)
            for account, spent in totals.items()
        ]
        with self._transaction():
            self._db.executemany(_SPEND, rows)

    def spent(self, month: str = "") -> Totals:
        """Return the sums of a month.

        Args:
            month: As ``2026-11``. Default: this one, in UTC.
        """
        with self._lock:
            rows = self._db.execute(
                "SELECT backend, resource, jobs, seconds, low, high, unpriced FROM spending WHERE month = ?",
                (month or _month(),),
            ).fetchall()
        return {
            Account(backend, resource): Spent(jobs, seconds, Amount(low, high), unpriced)
            for backend, resource, jobs, seconds, low, high, unpriced in rows
        }

    def close(self) -> None:
        """Close the file."""
        with self._lock:
            self._db.close()

    def _entries(self, where: str, values: Sequence[str]) -> list[Entry]:
        with self._lock:
            rows = self._db.execute(
                "SELECT job, about, binding, submitted_at, status, collected FROM cells WHERE "  # noqa: S608
                + where,
                values,
            ).fetchall()
        return [
            Entry(job, _about(json.loads(about)), json.loads(binding), at, JobStatus(status), bool(collected))
            for job, about, binding, at, status, collected in rows
        ]

    def _open(self) -> sqlite3.Connection:
        try:
            db = sqlite3.connect(self.file, check_same_thread=False, isolation_level=None)
            db.executescript(
                "PRAGMA busy_timeout = 5000; PRAGMA journal_mode = WAL; PRAGMA synchronous = NORMAL"
            )
            version = db.execute("PRAGMA user_version").fetchone()[0]
            if version > VERSION:
                raise SettingsError(
                    f"{self.file} was written by a newer flash_nb (its format is {version}, ours {VERSION}).",
                    hint="Update flash_nb, or choose another FLASH_HOME.",
                )
            db.executescript(f"{_SCHEMA} PRAGMA user_version = {VERSION}")
            self.file.chmod(0o600)
        except sqlite3.DatabaseError as error:
            raise SettingsError(
                f"{self.file} cannot be used: {error}.",
                hint="Move it away; then a new one is made. Jobs that it knows are found by their id only.",
            ) from error
        return db

    @contextlib.contextmanager
    def _transaction(self) -> Iterator[None]:
        with self._lock, self._db:  # which commits, or rolls back
            self._db.execute("BEGIN IMMEDIATE")
            yield


def _about(fields: dict[str, Any]) -> About:
    origin, rate = Origin(**fields.pop("origin")), fields.pop("rate")
    rate = rate and Rate(rate["low"], rate["high"], tuple(rate["unpriced"]))
    return About(**fields, origin=origin, rate=rate)


def _month() -> str:
    return time.strftime("%Y-%m", time.gmtime())
