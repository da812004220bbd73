"""Which backend runs endpoints: what the settings say, or what is found here."""

from __future__ import annotations

from flash_nb.backends.auth import find_key
from flash_nb.backends.base import Backend
from flash_nb.errors import SettingsError, did_you_mean
from flash_nb.settings import BACKENDS, Settings


def choose(settings: Settings) -> str:
    """Return the name of the backend: ``"auto"`` is Runpod if a key is found, else local.

    Raises:
        SettingsError: There is no such backend, or a file that may hold a key makes no sense.
        ApiKeyError: What was found is no key.
    """
    name = settings.backend
    if name not in BACKENDS:
        raise SettingsError(f"There is no backend {name!r}{did_you_mean(name, BACKENDS) or '.'}")
    if name == "auto":
        return "runpod" if find_key() is not None else "local"
    return name


def make(name: str, settings: Settings) -> Backend:
    """Return a new backend of this name.

    Raises:
        ApiKeyError: It needs a key, and there is none.
    """
    if name == "runpod":
        from flash_nb.backends.runpod import RunpodBackend

        return RunpodBackend(settings)
    from flash_nb.backends.local import LocalBackend

    return LocalBackend(settings)
