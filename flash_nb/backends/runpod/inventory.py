"""What was created at Runpod from this home, as JSON: endpoints, and where jobs went.

Two files, both readable by the user only, neither with a key in it:

``runpod.json``
    The endpoints. It is replaced as a whole. Whatever else lies there is refused, never guessed at.
``runpod-jobs.jsonl``
    A journal of jobs, one line each: a kernel's own id, and the endpoint and id that Runpod gave.
    Lines that make no sense are passed over; the older half goes when it has grown to a megabyte.
"""

from __future__ import annotations

import contextlib
import json
import os
import secrets
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from filelock import FileLock

from flash_nb.errors import BackendError

FORMAT = "flash_nb endpoints 1"
MAX_JOURNAL_BYTES = 1_000_000


@dataclass(frozen=True)
class Entry:
    """An endpoint that was created or taken over.

    Attributes:
        id: Its id at Runpod.
        name: Its name.
        kind: The resource's class name.
        hash: The resource's, when it was last saved.
        created_at: When it was first saved from here, in POSIX seconds.
        service: The GraphQL address where it exists.
    """

    id: str
    name: str
    kind: str
    hash: str
    created_at: float
    service: str


@dataclass(frozen=True)
class JobEntry:
    """A job that was sent.

    Attributes:
        job: The kernel's id.
        id: Runpod's.
        endpoint: Its endpoint's id.
        live: It brought its code.
        submitted_at: In POSIX seconds.
    """

    job: str
    id: str
    endpoint: str
    live: bool
    submitted_at: float


class Inventory:
    """The two files of a home."""

    def __init__(self, home: Path) -> None:
        self.file = home / "runpod.json"
        self.journal = home / "runpod-jobs.jsonl"
        self._lock = FileLock(home / "runpod.lock", thread_local=False)

    def entries(self, service: str) -> list[Entry]:
        """Return the endpoints of one service.

        Raises:
            BackendError: The file is not ours, or damaged.
        """
        return [entry for entry in self._read() if entry.service == service]

    def find(self, service: str, kind: str, name: str) -> Entry | None:
        """Return the endpoint of this kind and name; None if there is none. Raises as `entries`."""
        found = [entry for entry in self.entries(service) if (entry.kind, entry.name) == (kind, name)]
        return found[0] if found else None

    def put(self, entry: Entry) -> None:
        """Remember an endpoint in place of the one of its kind and name. Raises as `entries`."""
        place = (entry.service, entry.kind, entry.name)
        with self._locked():
            others = [e for e in self._read() if (e.service, e.kind, e.name) != place and e.id != entry.id]
            self._write([*others, entry])

    def drop(self, endpoint_id: str) -> None:
        """Forget an endpoint. Raises as `entries`."""
        with self._locked():
            self._write([entry for entry in self._read() if entry.id != endpoint_id])

    def note(self, job: JobEntry) -> None:
        """Remember a job. A disk that is full does not stop it."""
        with contextlib.suppress(OSError):
            self._shorten()
            line = json.dumps(asdict(job), separators=(",", ":")) + "\n"
            handle = os.open(self.journal, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
            with os.fdopen(handle, "wb") as opened:
                opened.write(line.encode())

    def job(self, job_id: str) -> JobEntry | None:
        """Return the newest job of this id, the kernel's or Runpod's; None if it is not known."""
        try:
            lines = self.journal.read_text(encoding="utf-8", errors="replace").splitlines()
        except OSError:
            return None
        for line in reversed(lines):
            if job_id in line and (entry := _job_entry(line)) and job_id in (entry.job, entry.id):
                return entry
        return None

    # --- inside -------------------------------------------------------------------------------

    @contextlib.contextmanager
    def _locked(self) -> Iterator[None]:
        try:
            self.file.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            with self._lock:
                yield
        except OSError as error:
            raise BackendError(
                f"{self.file} cannot be written: {error.strerror or error}.",
                hint="It says what was created at Runpod. Choose a folder that you can write to: "
                "FLASH_HOME=/path/to/it",
            ) from error

    def _read(self) -> list[Entry]:
        try:
            text = self.file.read_text(encoding="utf-8")
        except FileNotFoundError:
            return []
        except (OSError, UnicodeDecodeError) as error:
            raise self._refusal(str(error)) from None
        try:
            content = json.loads(text)
            if content["format"] != FORMAT:
                raise self._refusal(f"its format is {content['format']!r}, not {FORMAT!r}")
            return [_entry(fields) for fields in content["endpoints"]]
        except (ValueError, TypeError, KeyError, RecursionError) as error:
            raise self._refusal(f"{type(error).__name__}: {error}") from None

    def _write(self, entries: list[Entry]) -> None:
        content = {"format": FORMAT, "endpoints": [asdict(entry) for entry in entries]}
        new = self.file.with_name(f".{self.file.name}.{secrets.token_hex(4)}")
        handle = os.open(new, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(handle, "w", encoding="utf-8") as opened:
            json.dump(content, opened, indent=1)
        new.replace(self.file)

    def _refusal(self, reason: str) -> BackendError:
        return BackendError(
            f"{self.file} is not what flash_nb wrote there: {reason[:200]}.",
            hint="Move it away: endpoints are found again by their names.",
        )

    def _shorten(self) -> None:
        with contextlib.suppress(FileNotFoundError):
            if self.journal.stat().st_size > MAX_JOURNAL_BYTES:
                lines = self.journal.read_bytes().splitlines(keepends=True)
                new = self.journal.with_name(f".{self.journal.name}.{secrets.token_hex(4)}")
                handle = os.open(new, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
                with os.fdopen(handle, "wb") as opened:
                    opened.writelines(lines[len(lines) // 2 :])
                new.replace(self.journal)


def _entry(fields: dict[str, Any]) -> Entry:
    texts = {name: fields[name] for name in ("id", "name", "kind", "hash", "service")}
    if not all(isinstance(value, str) for value in texts.values()):
        raise ValueError("an endpoint's fields must be text")
    return Entry(**texts, created_at=float(fields["created_at"]))


def _job_entry(line: str) -> JobEntry | None:
    try:
        fields = json.loads(line)
        return JobEntry(
            job=str(fields["job"]),
            id=str(fields["id"]),
            endpoint=str(fields["endpoint"]),
            live=bool(fields["live"]),
            submitted_at=float(fields["submitted_at"]),
        )
    except (ValueError, TypeError, KeyError, RecursionError):
        return None
