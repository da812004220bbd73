"""The errors of flash_nb: each says what happened, where, and the next step.

::

    FlashError                          anything that flash_nb itself reports
    ├── SettingsError                   a setting that cannot be used
    ├── ResourceError (ValueError)      a resource declared with values that cannot work
    ├── CellError                       a cell refused before anything was sent
    │   ├── UndefinedNameError          it reads names that exist nowhere
    │   └── UnsupportedMagicError       it uses an IPython magic that a worker cannot run
    ├── BackendError                    the backend cannot be reached or answered nonsense
    │   ├── EngineError                 … the local engine
    │   └── EndpointNotFoundError       … no endpoint with this name or id
    └── FlashRuntimeError               a run went wrong (Flash's documented base class)
        ├── RemoteExecutionError        the remote code raised, or its worker could not run it
        │   ├── WorkerEnvironmentError  the dependencies could not be installed
        │   ├── WorkerLostError         the worker died, and so did every retry
        │   ├── JobCancelledError       the job was cancelled
        │   └── JobTimeoutError         the job ran over its time or waited over its TTL
        └── SerializationError          a value cannot be sent or received
            └── PayloadTooLargeError    … it is over the 10 MB that a request may hold
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable


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
    """A cell was refused before anything was sent."""


class UndefinedNameError(CellError):
    """A cell reads names that are defined nowhere."""


class UnsupportedMagicError(CellError):
    """A cell uses an IPython magic that a worker cannot run."""


class BackendError(FlashError):
    """The backend cannot be reached, or its answer makes no sense."""


class EngineError(BackendError):
    """The local engine cannot be started or reached."""


class EndpointNotFoundError(BackendError):
    """No endpoint has this name or id."""


class FlashRuntimeError(FlashError):
    """A run went wrong."""


class RemoteExecutionError(FlashRuntimeError):
    """The remote code raised an exception that cannot be rebuilt here, or could not run."""


class WorkerEnvironmentError(RemoteExecutionError):
    """The dependencies of the job could not be installed."""


class WorkerLostError(RemoteExecutionError):
    """The worker died while it ran the job, and so did the ones that tried again."""


class JobCancelledError(RemoteExecutionError):
    """The job was cancelled before it finished."""


class JobTimeoutError(RemoteExecutionError):
    """The job ran longer than its execution time-out, or its TTL passed."""


class SerializationError(FlashRuntimeError):
    """A value cannot be sent to a worker, or its result cannot be read back."""


class PayloadTooLargeError(SerializationError):
    """The encoded values are larger than one request may be."""


def did_you_mean(word: str, choices: Iterable[str]) -> str:
    """Return ``"; did you mean 'x'?"`` for the closest choice, or an empty string."""
    close = difflib.get_close_matches(word, list(choices), n=1, cutoff=0.6)
    return f"; did you mean {close[0]!r}?" if close else ""
