"""The store: endpoints, apps, jobs and their events in SQLite, written in batches.

The loop of the engine never waits for the disk: changes gather in memory, the latest state of each
job replacing the one before, and a thread writes them in one transaction every `FLUSH_S`.
Payloads are the very frames that travel (`flash_nb.worker.frames`), as BLOBs; what is over a
megabyte is in spill files that the frames name.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import sqlite3
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from flash_nb.engine.state import Job, Needs, run_id
from flash_nb.jobs import JobStatus
from flash_nb.worker import frames

FLUSH_S = 0.02
MAX_EVENTS_PER_JOB = 2_000

_SCHEMA = """
CREATE TABLE IF NOT EXISTS endpoints (id TEXT PRIMARY KEY, spec TEXT NOT NULL);
CREATE TABLE IF NOT EXISTS records (kind TEXT NOT NULL, id TEXT NOT NULL, record TEXT NOT NULL,
    PRIMARY KEY (kind, id));
CREATE TABLE IF NOT EXISTS jobs (
    id TEXT PRIMARY KEY, endpoint TEXT NOT NULL, client TEXT NOT NULL, needs TEXT NOT NULL,
    status TEXT NOT NULL, worker TEXT NOT NULL, attempts INTEGER NOT NULL,
    submitted_at REAL NOT NULL, expires_at REAL NOT NULL, timeout_s REAL,
    started_at REAL, ended_at REAL, cold_s REAL NOT NULL, error TEXT NOT NULL, error_type TEXT NOT NULL,
    request BLOB, result BLOB,
    former_attempts INTEGER NOT NULL DEFAULT 0, webhook TEXT NOT NULL DEFAULT '',
    webhook_due INTEGER NOT NULL DEFAULT 0
);
CREATE INDEX IF NOT EXISTS jobs_by_status ON jobs (status, submitted_at);
CREATE TABLE IF NOT EXISTS events (job TEXT NOT NULL, number INTEGER NOT NULL, event TEXT NOT NULL,
    PRIMARY KEY (job, number)) WITHOUT ROWID;
"""
_SAVE_JOB = """
INSERT INTO jobs VALUES (?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?)
ON CONFLICT (id) DO UPDATE SET client=excluded.client, status=excluded.status, worker=excluded.worker,
    submitted_at=excluded.submitted_at, expires_at=excluded.expires_at, attempts=excluded.attempts,
    former_attempts=excluded.former_attempts, webhook_due=excluded.webhook_due,
    started_at=excluded.started_at, ended_at=excluded.ended_at,
    cold_s=excluded.cold_s, error=excluded.error,
    error_type=excluded.error_type, request=excluded.request, result=excluded.result
"""
_ADDED_COLUMNS = {
    "former_attempts": "INTEGER NOT NULL DEFAULT 0",
    "webhook": "TEXT NOT NULL DEFAULT ''",
    "webhook_due": "INTEGER NOT NULL DEFAULT 0",
}
_UNFINISHED = (JobStatus.IN_QUEUE.value, JobStatus.IN_PROGRESS.value)


class Store:
    """The engine's memory on disk. Open it once; `close` writes what is left.

    Args:
        path: The database file; created with its folder's permissions.
    """

    def __init__(self, path: Path) -> None:
        self._db = _open(path)
        self._reader = sqlite3.connect(path, isolation_level=None)
        self._lock = threading.Lock()
        self._jobs: dict[str, _Entry] = {}
        self._writing: dict[str, _Entry] = {}
        self._events: list[tuple[str, int, str]] = []
        self._written = asyncio.Event()
        self._changed = asyncio.Event()

    # --- writing ------------------------------------------------------------------------------

    def save_endpoint(self, endpoint_id: str, spec: dict[str, Any]) -> None:
        """Write an endpoint at once: they are few."""
        with self._transaction():
            self._db.execute(
                "INSERT INTO endpoints VALUES (?,?) ON CONFLICT (id) DO UPDATE SET spec=excluded.spec",
                (endpoint_id, json.dumps(spec)),
            )

    def delete_endpoint(self, endpoint_id: str) -> None:
        """Forget an endpoint."""
        with self._transaction():
            self._db.execute("DELETE FROM endpoints WHERE id = ?", (endpoint_id,))

    def save_records(self, changes: Mapping[tuple[str, str], Mapping[str, Any] | None]) -> None:
        """Write records at once, all or none of them.

        Args:
            changes: By kind and id; None: it is to be forgotten.
        """
        with self._transaction():
            for (kind, record_id), record in changes.items():
                if record is None:
                    self._db.execute("DELETE FROM records WHERE kind = ? AND id = ?", (kind, record_id))
                else:
                    self._db.execute(
                        "INSERT INTO records VALUES (?,?,?)"
                        " ON CONFLICT (kind, id) DO UPDATE SET record=excluded.record",
                        (kind, record_id, json.dumps(record)),
                    )

    def save_job(self, job: Job, request: bytes | None, result: bytes | None) -> None:
        """Note a job for the next flush."""
        self._jobs[job.public_id] = (job, request, result)
        self._changed.set()

    def _row(self, job: Job, request: bytes | None, result: bytes | None) -> tuple[Any, ...]:
        needs = job.needs
        return (
            job.public_id,
            job.endpoint_id,
            job.client_id,
            json.dumps([needs.python, sorted(needs.requirements), sorted(needs.system), needs.instance]),
            job.status.value,
            job.worker_id,
            job.attempts,
            job.submitted_at,
            job.expires_at,
            job.timeout_s,
            job.started_at,
            job.ended_at,
            job.cold_s,
            job.error,
            job.error_type,
            request,
            result,
            job.former_attempts,
            job.webhook,
            bool(job.webhook) and job.status.is_final,
        )

    def save_event(self, job_id: str, number: int, event: dict[str, Any]) -> None:
        """Note an event of a job for the next flush.

        Nobody notes more than `MAX_EVENTS_PER_JOB`, items left aside.
        """
        self._events.append((job_id, number, json.dumps(event)))
        self._changed.set()

    async def run(self) -> None:
        """Flush for ever; cancel it, then `close`."""
        while True:
            await self._changed.wait()
            self._changed.clear()
            self._writing = self._jobs
            jobs, events = self._take()
            written, self._written = self._written, asyncio.Event()
            await asyncio.to_thread(self._write, jobs, events)
            self._writing = {}
            written.set()
            await asyncio.sleep(FLUSH_S)

    async def flushed(self) -> None:
        """Wait until everything that was noted before this call is on disk."""
        self._changed.set()
        await self._written.wait()

    def close(self) -> None:
        """Write what is left and close the database."""
        self._write(*self._take())
        self._reader.close()
        self._db.close()

    def _take(self) -> tuple[Sequence[tuple[Any, ...]], Sequence[tuple[str, int, str]]]:
        jobs, self._jobs = [self._row(*entry) for entry in self._jobs.values()], {}
        events, self._events = self._events, []
        return jobs, events

    def _write(self, jobs: Sequence[tuple[Any, ...]], events: Sequence[tuple[str, int, str]]) -> None:
        with self._transaction():
            self._db.executemany(_SAVE_JOB, jobs)
            self._db.executemany("INSERT OR REPLACE INTO events VALUES (?,?,?)", events)

    @contextlib.contextmanager
    def _transaction(self) -> Iterator[None]:
        with self._lock, self._db:  # which commits, or rolls back
            self._db.execute("BEGIN")
            yield

    # --- reading ------------------------------------------------------------------------------

    def endpoints(self) -> dict[str, dict[str, Any]]:
        """Return the stored endpoints: id to spec."""
        rows = self._reader.execute("SELECT id, spec FROM endpoints ORDER BY rowid")
        return {endpoint_id: json.loads(spec) for endpoint_id, spec in rows}

    def records(self, kind: str) -> list[dict[str, Any]]:
        """Return the records of a kind, oldest first."""
        rows = self._reader.execute("SELECT record FROM records WHERE kind = ? ORDER BY rowid", (kind,))
        return [json.loads(record) for (record,) in rows]

    def unfinished(self) -> list[tuple[Job, bytes]]:
        """Return the unfinished jobs with their requests, oldest first."""
        rows = self._reader.execute(
            "SELECT * FROM jobs WHERE status IN (?,?) ORDER BY submitted_at", _UNFINISHED
        )
        return [(_job(row), row[15]) for row in rows]

    def job(self, job_id: str) -> tuple[Job, bytes | None] | None:
        """Return a job and its result, if there is such a job, as it was last saved."""
        entry = self._jobs.get(job_id) or self._writing.get(job_id)
        if entry is not None:
            return entry[0], entry[2]
        row = self._reader.execute("SELECT * FROM jobs WHERE id = ?", (job_id,)).fetchone()
        return None if row is None else (_job(row), row[16])

    def request(self, job_id: str) -> bytes | None:
        """Return the request of a job, as far as it is kept."""
        entry = self._jobs.get(job_id) or self._writing.get(job_id)
        if entry is not None:
            return entry[1]
        row = self._reader.execute("SELECT request FROM jobs WHERE id = ?", (job_id,)).fetchone()
        return None if row is None else row[0]

    def webhooks_due(self) -> list[tuple[Job, bytes]]:
        """Return the jobs whose end is still to be posted, with their results."""
        rows = self._reader.execute("SELECT * FROM jobs WHERE webhook_due")
        return [(_job(row), row[16]) for row in rows]

    def text(self, job_id: str) -> str:
        """Return what a job printed, as far as it is kept; call `flushed` before."""
        rows = self._reader.execute(
            'SELECT event FROM events WHERE job = ? AND event LIKE \'{"type": "stream"%\' ORDER BY number',
            (job_id,),
        )
        return "".join(json.loads(event)["text"] for (event,) in rows)

    def jobs(self, limit: int) -> list[Job]:
        """Return the newest jobs."""
        rows = self._reader.execute("SELECT * FROM jobs ORDER BY submitted_at DESC LIMIT ?", (limit,))
        return [_job(row) for row in rows]

    def ended_counts(self, endpoint_id: str) -> dict[str, int]:
        """Count an endpoint's jobs that are over, and all that ran more than once; call `flushed` before."""
        rows = self._reader.execute(
            "SELECT status, COUNT(*), SUM(attempts + former_attempts > 1) FROM jobs WHERE endpoint = ?"
            " GROUP BY status",
            (endpoint_id,),
        )
        counts = {"completed": 0, "failed": 0, "retried": 0}
        for status, count, retried in rows:
            counts["retried"] += retried
            if status == JobStatus.COMPLETED.value:
                counts["completed"] += count
            elif status in (JobStatus.FAILED.value, JobStatus.TIMED_OUT.value):
                counts["failed"] += count
        return counts

    def events(self, job_id: str, first: int = 0) -> list[tuple[int, dict[str, Any]]]:
        """Return the events of a job with their numbers, from a number on; call `flushed` before."""
        rows = self._reader.execute(
            "SELECT number, event FROM events WHERE job = ? AND number >= ? ORDER BY number", (job_id, first)
        )
        waiting = [
            (number, event) for job, number, event in self._events if job == job_id and number >= first
        ]
        return [(number, json.loads(event)) for number, event in [*rows, *waiting]]

    def event_counts(self) -> dict[str, int]:
        """Return how many events each unfinished job has, items left aside, to go on counting."""
        rows = self._reader.execute(
            "SELECT job, COUNT(*) FROM events JOIN jobs ON jobs.id = job WHERE status IN (?,?)"
            ' AND event NOT LIKE \'{"type": "item"%\' GROUP BY job',
            _UNFINISHED,
        )
        return dict(rows.fetchall())

    # --- forgetting ---------------------------------------------------------------------------

    def webhook_done(self, job_id: str) -> None:
        """Note that the end of a job was posted; call `flushed` before."""
        with self._transaction():
            self._db.execute("UPDATE jobs SET webhook_due = 0 WHERE id = ?", (job_id,))

    def forget_events(self, job_id: str) -> None:
        """Delete the events of a job that runs anew; call `flushed` before."""
        with self._transaction():
            self._db.execute("DELETE FROM events WHERE job = ?", (job_id,))

    def forget_requests(self, endpoint_id: str) -> list[bytes]:
        """Delete the requests of an endpoint's jobs, and return them; call `flushed` before."""
        with self._transaction():
            kept = "FROM jobs WHERE endpoint = ? AND request IS NOT NULL AND ended_at IS NOT NULL"
            rows = self._db.execute(f"SELECT request {kept}", (endpoint_id,)).fetchall()
            self._db.execute(
                "UPDATE jobs SET request = NULL WHERE endpoint = ? AND ended_at IS NOT NULL", (endpoint_id,)
            )
        return [request for (request,) in rows]

    def prune(self, ended_before: float) -> None:
        """Delete jobs that ended before a time, with their events."""
        with self._transaction():
            rows = self._db.execute("DELETE FROM jobs WHERE ended_at < ? RETURNING id", (ended_before,))
            self._db.executemany("DELETE FROM events WHERE job = ?", rows.fetchall())


_Entry = tuple[Job, bytes | None, bytes | None]  # with its request and its result


def _open(path: Path) -> sqlite3.Connection:
    """Open the database; one that cannot be read is put aside, with a word in the log."""
    try:
        return _connect(path)
    except sqlite3.DatabaseError as error:
        if isinstance(error, sqlite3.OperationalError):  # the disk is full, the folder cannot be written
            raise
        aside = path.with_name(f"{path.name}.broken-{time.time():.0f}")
        print(f"{path} cannot be read ({error}): starting anew; the old file is {aside}", flush=True)
        path.rename(aside)
        for extra in ("-wal", "-shm"):
            path.with_name(path.name + extra).unlink(missing_ok=True)
        return _connect(path)


def _connect(path: Path) -> sqlite3.Connection:
    db = sqlite3.connect(path, check_same_thread=False, isolation_level=None)
    try:
        db.executescript("PRAGMA journal_mode=WAL; PRAGMA synchronous=NORMAL;" + _SCHEMA)
        _add_columns(db)
        for table in ("endpoints", "records", "jobs", "events"):
            db.execute(f"SELECT * FROM {table} LIMIT 1").fetchall()  # noqa: S608 - not from outside
    except BaseException:
        db.close()
        raise
    return db


def _add_columns(db: sqlite3.Connection) -> None:
    """Bring a database of an engine of before up to date: columns are only ever added at the end."""
    known = {row[1] for row in db.execute("PRAGMA table_info(jobs)")}
    for name, kind in _ADDED_COLUMNS.items():
        if name not in known:
            db.execute(f"ALTER TABLE jobs ADD COLUMN {name} {kind}")


def spill_path(frame: bytes | None) -> str | None:
    """Return the spill file that a stored frame names."""
    place = None if frame is None else frames.header_of(frame).get("spill")
    return None if place is None else str(place["path"])


def _job(row: Sequence[Any]) -> Job:
    python, requirements, system, instance = json.loads(row[3])
    return Job(
        id=run_id(row[0], row[17]),
        endpoint_id=row[1],
        client_id=row[2],
        needs=Needs(python, frozenset(requirements), frozenset(system), instance),
        status=JobStatus(row[4]),
        worker_id=row[5],
        attempts=row[6],
        submitted_at=row[7],
        expires_at=row[8],
        timeout_s=row[9],
        started_at=row[10],
        ended_at=row[11],
        cold_s=row[12],
        error=row[13],
        error_type=row[14],
        former_attempts=row[17],
        webhook=row[18],
    )
