"""The API key: one object that shows it to nobody, where it is found, and where `login` keeps it.

A key is looked for in this order, and the first place that has one counts:

1. an argument
2. ``RUNPOD_API_KEY`` of the environment
3. ``RUNPOD_API_KEY`` in ``.env`` of the working folder; the file is read, the environment stays as it is
4. ``~/.runpod/config.toml``: ``api_key`` under ``[default]``, then runpodctl's ``apikey`` at the top
"""

from __future__ import annotations

import contextlib
import os
import secrets
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

from flash_nb.errors import ApiKeyError, SettingsError
from flash_nb.settings import read_dotenv

if TYPE_CHECKING:
    import httpx

VARIABLE = "RUNPOD_API_KEY"


class ApiKey:
    """An API key and where it comes from.

    Nothing but `authorize` and `hide` uses the key itself: it stands in no repr, text, pickle or copy.

    Args:
        secret: The key.
        source: Where it was found, for people.

    Raises:
        ApiKeyError: No key looks like this: it has spaces, or signs that no header can hold.
    """

    __slots__ = ("__secret", "source")

    def __init__(self, secret: str, source: str) -> None:
        if not secret or not secret.isascii() or not secret.isprintable() or " " in secret:
            raise ApiKeyError(f"What {source} holds is no API key: a key is one word of ASCII letters.")
        self.__secret = secret
        self.source = source

    def authorize(self, request: httpx.Request) -> httpx.Request:
        """Put the key into a request at the moment when it is sent; an ``auth`` of httpx."""
        request.headers["Authorization"] = f"Bearer {self.__secret}"
        return request

    def hide(self, text: str) -> str:
        """Return a text of somebody else's without the key, if that was so kind as to quote it."""
        return text.replace(self.__secret, "[API key]")

    def keep(self, file: Path) -> None:
        """Write the key to a config file, readable by the user only; what else it says is kept.

        Raises:
            SettingsError: The file is not TOML, or cannot be written.
        """
        _write(file, self.__secret)

    def __repr__(self) -> str:
        return f"<API key from {self.source}>"

    def __reduce_ex__(self, protocol: Any) -> NoReturn:
        raise TypeError("an API key cannot be pickled or copied")


def config_file(environ: Mapping[str, str] | None = None) -> Path:
    """Return where Runpod's tools keep their settings: ``~/.runpod/config.toml``."""
    home = (os.environ if environ is None else environ).get("HOME")
    return (Path(home) if home else Path.home()) / ".runpod" / "config.toml"


def find_key(
    argument: str | None = None,
    *,
    environ: Mapping[str, str] | None = None,
    folder: Path | None = None,
) -> ApiKey | None:
    """Return the key that holds here and now; None if there is none.

    Args:
        argument: A key that wins over all others.
        environ: Default: ``os.environ``.
        folder: Where ``.env`` is looked for. Default: the working folder.

    Raises:
        SettingsError: The config file is not TOML.
        ApiKeyError: What was found is no key.
    """
    environ = os.environ if environ is None else environ
    for found, source in _places(argument, environ, folder or Path.cwd()):
        if found is not None and found.strip():
            return ApiKey(found.strip(), source)
    return None


def _places(
    argument: str | None, environ: Mapping[str, str], folder: Path
) -> Iterator[tuple[str | None, str]]:
    """Yield what each place holds, and its name; one is only read if those before it hold no key."""
    yield argument, "the argument"
    yield environ.get(VARIABLE), f"the environment ({VARIABLE})"
    yield _from_dotenv(folder)
    yield _from_config(config_file(environ))


def require_key(argument: str | None = None, **where: Any) -> ApiKey:
    """Return the key that holds here and now.

    Raises:
        ApiKeyError: There is none.
    """
    key = find_key(argument, **where)
    if key is None:
        raise ApiKeyError(
            "Runpod needs an API key, and there is none.",
            hint=f"Store one: flash login. Or set {VARIABLE}; keys are made at "
            "https://console.runpod.io/user/settings. Without a key: FLASH_BACKEND=local",
        )
    return key


def _from_dotenv(folder: Path) -> tuple[str | None, str]:
    values, file = read_dotenv(folder)
    return values.get(VARIABLE), str(file)


def _from_config(file: Path) -> tuple[str | None, str]:
    try:
        text = file.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError):
        return None, ""
    table = _parse(file, text)
    default = table.get("default")
    found = default.get("api_key") if isinstance(default, Mapping) else None
    found = found or table.get("apikey")
    return (found if isinstance(found, str) else None), str(file)


def _parse(file: Path, text: str) -> dict[str, Any]:
    if sys.version_info >= (3, 11):
        import tomllib
    else:
        import tomli as tomllib
    try:
        table: dict[str, Any] = tomllib.loads(text)
    except tomllib.TOMLDecodeError:
        # Not chained, and without the parser's words: the line may hold the key.
        raise SettingsError(
            f"{file} is not TOML, so that no API key can be read from it.",
            hint="Repair it, or move it away and run: flash login. Without a key: FLASH_BACKEND=local",
        ) from None
    return table


def _write(file: Path, secret: str) -> None:
    import tomlkit

    text = file.read_text(encoding="utf-8") if file.exists() else ""
    _parse(file, text)
    document = tomlkit.parse(text)
    table = document.get("default")
    if not isinstance(table, Mapping):
        table = tomlkit.table()
        document["default"] = table
    table["api_key"] = secret  # type: ignore[index]  # tomlkit's tables can be changed
    new = file.with_name(f".{file.name}.{secrets.token_hex(4)}")
    try:
        file.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        handle = os.open(new, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(handle, "w", encoding="utf-8") as opened:
            opened.write(tomlkit.dumps(document))
        new.replace(file)
    except OSError as error:
        with contextlib.suppress(OSError):
            new.unlink()
        raise SettingsError(f"{file} cannot be written: {error.strerror}.") from None
