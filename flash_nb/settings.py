"""Settings: frozen, layered, and read when used.

Precedence: argument > environment (``FLASH_…``) > ``.env`` of the working folder (``FLASH_…``) >
``[tool.flash_nb]`` of the nearest ``pyproject.toml`` > default. Only what this version uses is a setting;
unknown keys of the table are refused with a suggestion. `Settings.origins` says where each came from.
"""

from __future__ import annotations

import hashlib
import os
import socket
import sys
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import Any, NamedTuple

from flash_nb.errors import SettingsError, did_you_mean

TRANSPORTS = ("unix", "tcp")
BACKENDS = ("auto", "local", "runpod")
ARGUMENT = "argument"
TYPED = "this notebook"
MAX_SOCKET_PATH = 100  # sockaddr_un holds 108 bytes on Linux, 104 on macOS


@dataclass(frozen=True)
class Settings:
    """What can be set.

    Attributes:
        home: Folder of the engine's state (``FLASH_HOME``); one engine per home.
        cache: Folder of worker environments and kept results (``FLASH_CACHE``), shared by all homes.
        python: Interpreter of workers (``FLASH_PYTHON``): a path or a version such as "3.12".
            Default: the one that runs the notebook.
        engine_idle_s: Seconds without kernels, jobs and workers after which the engine ends
            (``FLASH_ENGINE_IDLE_S``).
        transport: How kernels and workers reach the engine (``FLASH_TRANSPORT``): ``"unix"``, a socket
            that only the user can open, or ``"tcp"``, a port of 127.0.0.1 guarded by the token. Default:
            unix where there is such a thing.
        allow_apt: Install missing ``system_dependencies`` (``FLASH_ALLOW_APT``); default: only
            name them.
        backend: Who runs endpoints (``FLASH_BACKEND``): ``"local"``, the engine on this machine;
            ``"runpod"``; or ``"auto"``, the default: Runpod if an API key is found, else local.
        down_on_exit: Remove at the end of this process the endpoints that it created at Runpod
            (``FLASH_DOWN_ON_EXIT``); default: they stay, and without workers they cost nothing.
        origins: Where those that are no defaults came from, for people.
    """

    home: Path
    cache: Path
    python: str = sys.executable
    engine_idle_s: float = 300.0
    transport: str = "unix" if hasattr(socket, "AF_UNIX") else "tcp"
    allow_apt: bool = False
    backend: str = "auto"
    down_on_exit: bool = False
    origins: Mapping[str, str] = field(default_factory=dict, repr=False, compare=False)

    def changed(self, name: str, value: Any, *, origin: str) -> Settings:
        """Return them with another value of one.

        Args:
            name: The setting.
            value: Its value, or the text that says it.
            origin: Where it comes from, for people.

        Raises:
            SettingsError: There is no such setting, or the value cannot be used.
        """
        if name not in NAMES:
            raise SettingsError(
                f"There is no setting {name!r}{did_you_mean(name, NAMES)}",
                hint=f"Settings are: {', '.join(NAMES)}.",
            )
        hint = None if origin in (ARGUMENT, TYPED) else f"It comes from: {origin}"
        value = _convert(name, value, hint)
        return replace(self, **{name: value}, origins={**self.origins, name: origin})

    @property
    def state_file(self) -> Path:
        """Where the running engine says how to reach it; readable by the user only."""
        return self.home / "engine.json"

    @property
    def log_file(self) -> Path:
        """The engine's log."""
        return self.home / "engine.log"

    @property
    def results(self) -> Path:
        """Where results of cells with ``--cache`` are kept."""
        return self.cache / "results"

    @property
    def engine_url(self) -> str:
        """Where the engine listens: the same place after a restart, so that workers find it again.

        Port 0 is any port: the state file says which.
        """
        if self.transport == "tcp":
            return "tcp:127.0.0.1:0"
        path = self.home / "engine.sock"
        if len(str(path)) > MAX_SOCKET_PATH:
            digest = hashlib.sha256(str(self.home).encode()).hexdigest()[:12]
            path = Path(tempfile.gettempdir()) / f"flash-{os.getuid()}-{digest}" / "engine.sock"
        return f"unix:{path}"


def load(
    *, environ: Mapping[str, str] | None = None, folder: Path | None = None, **arguments: Any
) -> Settings:
    """Return the settings that hold here and now.

    Args:
        environ: Default: ``os.environ``.
        folder: Where the search for ``pyproject.toml`` starts, upwards. Default: the current one.
        **arguments: Settings that win over everything.

    Raises:
        SettingsError: A key is unknown or a value cannot be used.
    """
    environ, folder = os.environ if environ is None else environ, folder or Path.cwd()
    settings = _defaults()
    found = {
        **_from_pyproject(folder),
        **_from_dotenv(folder),
        **_from_environment(environ),
        **{name: _Found(value, ARGUMENT) for name, value in arguments.items() if value is not None},
    }
    for name, (value, origin) in found.items():
        settings = settings.changed(name, value, origin=origin)
    return settings


def variable(name: str) -> str:
    """Return the environment variable of a setting."""
    return f"FLASH_{name.upper()}"


def read_dotenv(folder: Path) -> tuple[Mapping[str, str | None], Path]:
    """Return what ``.env`` of a folder says, and where it lies; the environment stays as it is.

    Raises:
        SettingsError: It is no text.
    """
    file = folder / ".env"
    if not file.is_file():
        return {}, file
    from dotenv import dotenv_values

    try:
        return dotenv_values(file, interpolate=False), file
    except UnicodeDecodeError:
        raise SettingsError(f"{shown(file)} is not UTF-8 text.") from None


def shown(path: Path) -> str:
    """Return a path for people: from the working folder if it is below, else from ``~`` if it is there."""
    for place, name in ((Path.cwd(), "."), (Path.home(), "~")):
        if path.is_relative_to(place):
            return str(Path(name) / path.relative_to(place))
    return str(path)


class _Found(NamedTuple):
    """A value as it is written somewhere, and where."""

    value: Any
    origin: str


def _defaults() -> Settings:
    import platformdirs

    return Settings(
        home=Path(platformdirs.user_state_dir("flash_nb", appauthor=False)),
        cache=Path(platformdirs.user_cache_dir("flash_nb", appauthor=False)),
    )


NAMES = tuple(each.name for each in fields(Settings) if each.name != "origins")
"""All settings."""

CHANGEABLE = frozenset({"backend", "python", "allow_apt", "down_on_exit"})
"""Those that can change while a process runs; the others say where its engine is."""

MEANINGS: Mapping[str, str] = {
    "home": "folder of the engine's state: one engine for each",
    "cache": "folder of worker environments",
    "python": "interpreter of workers: a path, or a version such as 3.12",
    "engine_idle_s": "seconds after which an engine that nobody needs ends",
    "transport": "how kernels and workers reach the engine: unix or tcp",
    "allow_apt": "install missing system packages without asking",
    "backend": "who runs endpoints: local, runpod, or auto (Runpod if there is a key)",
    "down_on_exit": "delete at exit what this process created at Runpod",
}
"""What each is, in a line."""


def _from_environment(environ: Mapping[str, str]) -> dict[str, _Found]:
    return {
        name: _Found(environ[variable(name)], variable(name)) for name in NAMES if variable(name) in environ
    }


def _from_dotenv(folder: Path) -> dict[str, _Found]:
    values, file = read_dotenv(folder)
    return {
        name: _Found(value, f"{variable(name)} in {shown(file)}")
        for name in NAMES
        if (value := values.get(variable(name))) is not None
    }


def _from_pyproject(folder: Path) -> dict[str, _Found]:
    for place in (folder, *folder.parents):
        file = place / "pyproject.toml"
        if file.is_file():
            table = _read_table(file)
            for name in table:
                if name not in NAMES:
                    raise SettingsError(
                        f"{file}: [tool.flash_nb] has no setting {name!r}{did_you_mean(name, NAMES)}",
                        hint=f"Settings are: {', '.join(NAMES)}.",
                    )
            origin = os.path.relpath(file, folder)
            return {name: _Found(value, origin) for name, value in table.items()}
    return {}


def _read_table(file: Path) -> dict[str, Any]:
    text = file.read_text(encoding="utf-8")
    if "tool.flash_nb" not in text:
        return {}
    if sys.version_info >= (3, 11):
        import tomllib
    else:
        import tomli as tomllib
    try:
        table: dict[str, Any] = tomllib.loads(text).get("tool", {}).get("flash_nb", {})
    except tomllib.TOMLDecodeError as error:
        raise SettingsError(f"{file} is not TOML: {error}") from error
    return table


_KINDS: Mapping[str, type] = {
    "home": Path,
    "cache": Path,
    "engine_idle_s": float,
    "allow_apt": bool,
    "down_on_exit": bool,
}


WORDS: Mapping[str, tuple[str, ...]] = {
    "transport": TRANSPORTS,
    "backend": BACKENDS,
    "allow_apt": ("true", "false"),
    "down_on_exit": ("true", "false"),
}
"""The settings whose values are words of a set."""


def _convert(name: str, value: Any, hint: str | None) -> Any:
    kind = _KINDS.get(name, str)
    if kind is Path:
        return Path(str(value)).expanduser().absolute()
    if kind is bool:
        return _convert_bool(name, value, hint)
    words = WORDS.get(name)
    if words and value not in words:
        raise SettingsError(
            f"{name} = {value!r} is not one of {', '.join(words)}{did_you_mean(str(value), words)}",
            hint=hint,
        )
    try:
        return kind(value)
    except (TypeError, ValueError) as error:
        raise SettingsError(f"{name} = {value!r} is not a {kind.__name__}", hint=hint) from error


def _convert_bool(name: str, value: Any, hint: str | None) -> bool:
    word = str(value).lower()
    if word not in {"1", "true", "yes", "on", "0", "false", "no", "off", ""}:
        raise SettingsError(f"{name} = {value!r} is neither true nor false", hint=hint)
    return word in {"1", "true", "yes", "on"}
