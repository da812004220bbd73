"""When to try again: growing, jittered pauses, and what a server says about it."""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from email.utils import parsedate_to_datetime

MAX_RETRY_AFTER_S = 60.0


@dataclass(frozen=True)
class Backoff:
    """Pauses between attempts.

    Attributes:
        base_s: About the first pause, in seconds; each further one is twice as long.
        cap_s: The longest pause, in seconds.
        patience_s: For how long to try, in seconds.
    """

    base_s: float = 0.2
    cap_s: float = 5.0
    patience_s: float = 60.0

    def pause(self, attempt: int, *, chance: Callable[[], float] = random.random) -> float:
        """Return the seconds to wait after an attempt, from 0 on: half fixed, half by chance."""
        full = min(self.cap_s, self.base_s * 2.0 ** min(attempt, 30))
        return full * (0.5 + chance() / 2)


POLL_CAP_S = 5.0
_POLL_MIN_S = 0.05
_POLL_SHARE = 0.1


def poll_pause(elapsed_s: float, *, chance: Callable[[], float] = random.random) -> float:
    """Return the seconds until a job is asked about again.

    A tenth of the time that it took until now: whatever its length, waiting adds a tenth at most, and
    a job of an hour is not asked about a hundred thousand times.
    """
    return min(POLL_CAP_S, max(_POLL_MIN_S, elapsed_s * _POLL_SHARE)) * (0.8 + 0.4 * chance())


def retry_after(headers: Mapping[str, str], *, now: Callable[[], float] = time.time) -> float | None:
    """Return the seconds that a ``Retry-After`` asks for, 60 at most; None if it says nothing usable."""
    text = headers.get("retry-after", "").strip()
    if not text:
        return None
    try:
        seconds = float(text)
    except ValueError:
        try:
            seconds = parsedate_to_datetime(text).timestamp() - now()
        except (TypeError, ValueError):
            return None
    if seconds != seconds:  # noqa: PLR0124 - the test for NaN
        return None
    return min(MAX_RETRY_AFTER_S, max(0.0, seconds))
