"""The errors of flash_nb: each says what happened, where, and the next step.

::

    FlashError                          anything that flash_nb itself reports
    ├── SettingsError                   a setting that cannot be used
    ├── ResourceError (ValueError)      a resource declared with values that cannot work
    ├── CellError                       code refused before anything was sent
    │   ├── PreflightError              … for reasons of several sorts; it lists all of them
    │   ├── ScopeError                  it reads outside names, and strict=True forbids that
    │   ├── UndefinedNameError          it reads names that exist nowhere
    │   └── UnsupportedMagicError       it uses an IPython magic that a worker cannot run
    ├── ProjectError                    a project that cannot be exported, built or run as it is
    ├── BackendError                    the backend cannot be reached or answered nonsense
    │   ├── EngineError                 … the local engine
    │   ├── ApiKeyError                 there is no key for Runpod, or Runpod refuses it
    │   ├── OutcomeUnknownError         nobody knows if a request was carried out; it was not sent again
    │   ├── EndpointNotFoundError       … no endpoint with this name or id
    │   └── JobNotFoundError            … no job with this number or id
    └── FlashRuntimeError               a run went wrong (Flash's documented base class)
        ├── RemoteExecutionError        the remote code raised, or its worker could not run it
        │   ├── WorkerEnvironmentError  the dependencies could not be installed
        │   ├── WorkerLostError         the worker died, and so did every retry
        │   ├── JobCancelledError       the job was cancelled
        │   ├── JobTimeoutError         the job ran over its time or waited over its TTL
        │   └── MapError                items of a `flash_nb.map` failed, or it was cancelled
        ├── SerializationError          a value cannot be sent or received
        │   └── PayloadTooLargeError    … it is over the 10 MB that a request may hold
        ├── GraphQLError                Runpod's control API refused a request
        │   ├── GraphQLQueryError       … that asks
        │   └── GraphQLMutationError    … that changes something
        ├── ManifestError               a manifest is missing or makes no sense
        └── ManifestServiceUnavailableError  the service that keeps manifests cannot be reached

A job that failed gives back an exception (`JobOutput.exception`; `JobOutput.unwrap` raises it). It
is of its own type where that exists here, say ``ValueError``, else a `RemoteExecutionError`. What is
known of the failure is found in two places, whichever it is::

    out = await f(x)
    out.status, out.id, out.stdout         # "FAILED", the job's id, the tail of what it printed
    out.error                              # "ValueError: no" and the remote traceback, as text

    try:
        out.unwrap()
    except RemoteExecutionError as error:  # the type does not exist here, or no code raised
        error.remote_type, error.remote_message, error.remote_traceback, error.stdout, error.job_id
    except ValueError as error:            # its own type: the same five, on a RemoteExecutionError
        error.__flash__.remote_traceback, error.__flash__.stdout, error.__flash__.job_id

They are not set on exceptions of foreign types themselves: some have attributes of these names, as
``CalledProcessError.stdout``.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Mapping, Sequence
from types import MappingProxyType
from typing import Any


class FlashError(Exception):
    """Base of everything that flash_nb raises on purpose.

    Args:
        message: What happened, with the value and the place.
        hint: The next step, shown on its own line.
    """

    def __init__(self, message: str, *, hint: str | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint

    def __str__(self) -> str:
        return f"{self.message}\n{self.hint}" if self.hint else self.message

    def _render_traceback_(self) -> list[str]:
        """Show the sentence alone in IPython: the frames are ours, not the user's."""
        return f"{type(self).__name__}: {self}".splitlines()


class SettingsError(FlashError):
    """A setting has a value that cannot be used."""


class ResourceError(FlashError, ValueError):
    """A resource was declared with values that cannot work."""


class CellError(FlashError):
    """A cell or function was refused before anything was sent."""


class PreflightError(CellError):
    """A cell was refused for reasons of several sorts; those of one sort raise the error of that sort.

    Attributes:
        findings: All that was found, warnings too: each a `flash_nb.cells.finding.Finding`.
    """

    findings: Sequence[Any] = ()


class ScopeError(CellError):
    """A function with ``strict=True`` reads names from outside."""


class UndefinedNameError(CellError):
    """A cell or function reads names that are defined nowhere."""


class UnsupportedMagicError(CellError):
    """A cell uses an IPython magic that a worker cannot run.

    Attributes:
        line: Where it stands in the cell.
    """

    line: int = 1


class ProjectError(FlashError):
    """A project cannot be exported, built or run as it is."""


class BackendError(FlashError):
    """The backend cannot be reached, or its answer makes no sense."""


class EngineError(BackendError):
    """The local engine cannot be started or reached."""


class ApiKeyError(BackendError):
    """There is no API key for Runpod, or Runpod refuses the one there is."""


class OutcomeUnknownError(BackendError):
    """A request may have been carried out or not: its answer was lost, and it was not sent again."""


class EndpointNotFoundError(BackendError):
    """No endpoint has this name or id."""


class JobNotFoundError(BackendError):
    """No job has this number or id."""


class FlashRuntimeError(FlashError):
    """A run went wrong."""


class RemoteExecutionError(FlashRuntimeError):
    """The remote code raised an exception that cannot be rebuilt here, or could not run.

    Attributes:
        remote_type: The type of the remote exception, e.g. ``"ValueError"``; empty if no code raised.
        remote_message: Its message; if no code raised, what ended the job.
        remote_traceback: Its formatted traceback; empty if no code raised.
        stdout: The tail of what the job printed.
        job_id: The job; empty for an error that no job has brought.
    """

    def __init__(
        self,
        message: str,
        *,
        hint: str | None = None,
        remote_type: str = "",
        remote_message: str = "",
        remote_traceback: str = "",
        stdout: str = "",
        job_id: str = "",
    ) -> None:
        super().__init__(message, hint=hint)
        self.remote_type = remote_type
        self.remote_message = remote_message
        self.remote_traceback = remote_traceback
        self.stdout = stdout
        self.job_id = job_id


class WorkerEnvironmentError(RemoteExecutionError):
    """The dependencies of the job could not be installed."""


class WorkerLostError(RemoteExecutionError):
    """The worker died while it ran the job, and so did the ones that tried again."""


class JobCancelledError(RemoteExecutionError):
    """The job was cancelled before it finished."""


class JobTimeoutError(RemoteExecutionError):
    """The job ran longer than its execution time-out, or its TTL passed."""


class MapError(RemoteExecutionError):
    """Items of a `flash_nb.map` failed, or it was cancelled before all were done.

    Attributes:
        run: The `flash_nb.sdk.map.MapRun`; its `retry` goes on.
        results: The outputs in the order of the items; None where there is none.
        failures: The exceptions by the index of their item.
    """

    run: Any = None
    results: Sequence[Any] = ()
    failures: Mapping[int, BaseException] = MappingProxyType({})


class SerializationError(FlashRuntimeError):
    """A value cannot be sent to a worker, or its result cannot be read back."""


class PayloadTooLargeError(SerializationError):
    """The encoded values are larger than one request may be."""


class GraphQLError(FlashRuntimeError):
    """Runpod's control API refused a request, or answered without what was asked for."""


class GraphQLQueryError(GraphQLError):
    """A query, which only asks, failed."""


class GraphQLMutationError(GraphQLError):
    """A mutation, which changes something, failed."""


class ManifestError(FlashRuntimeError):
    """A manifest is missing, or makes no sense."""


class ManifestServiceUnavailableError(FlashRuntimeError):
    """The service that keeps the manifests cannot be reached."""


def did_you_mean(word: str, choices: Iterable[str]) -> str:
    """Return ``"; did you mean 'x'?"`` for the closest choice, or an empty string."""
    close = difflib.get_close_matches(word, list(choices), n=1, cutoff=0.6)
    return f"; did you mean {close[0]!r}?" if close else ""
