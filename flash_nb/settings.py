"""Settings: frozen, layered, and read when used.

Precedence: argument > environment (``FLASH_…``) > ``[tool.flash_nb]`` of the nearest
``pyproject.toml`` > default. Only what this version uses is a setting; unknown keys of the table
are refused with a suggestion.
"""

from __future__ import annotations

import hashlib
import os
import socket
import sys
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any

from flash_nb.errors import SettingsError, did_you_mean

TRANSPORTS = ("unix", "tcp")
BACKENDS = ("auto", "local", "runpod")
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
    """

    home: Path
    cache: Path
    python: str = sys.executable
    engine_idle_s: float = 300.0
    transport: str = "unix" if hasattr(socket, "AF_UNIX") else "tcp"
    allow_apt: bool = False
    backend: str = "auto"
    down_on_exit: bool = False

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
    found = _from_pyproject(folder or Path.cwd())
    found |= _from_environment(os.environ if environ is None else environ)
    found |= {name: value for name, value in arguments.items() if value is not None}
    settings = _defaults()
    for name, value in found.items():
        settings = replace(settings, **{name: _convert(name, value)})
    return settings


def _defaults() -> Settings:
    import platformdirs

    return Settings(
        home=Path(platformdirs.user_state_dir("flash_nb", appauthor=False)),
        cache=Path(platformdirs.user_cache_dir("flash_nb", appauthor=False)),
    )


_NAMES = tuple(field.name for field in fields(Settings))


def _from_environment(environ: Mapping[str, str]) -> dict[str, Any]:
    return {name: environ[key] for name in _NAMES if (key := f"FLASH_{name.upper()}") in environ}


def _from_pyproject(folder: Path) -> dict[str, Any]:
    for place in (folder, *folder.parents):
        file = place / "pyproject.toml"
        if file.is_file():
            table = _read_table(file)
            for name in table:
                if name not in _NAMES:
                    raise SettingsError(
                        f"{file}: [tool.flash_nb] has no setting {name!r}{did_you_mean(name, _NAMES)}",
                        hint=f"Settings are: {', '.join(_NAMES)}.",
                    )
            return table
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


def _convert(name: str, value: Any) -> Any:
    kind = _KINDS.get(name, str)
    if kind is Path:
        return Path(str(value)).expanduser().absolute()
    if kind is bool:
        return _convert_bool(name, value)
    words = {"transport": TRANSPORTS, "backend": BACKENDS}.get(name)
    if words and value not in words:
        raise SettingsError(
            f"{name} = {value!r} is not one of {', '.join(words)}{did_you_mean(str(value), words)}"
        )
    try:
        return kind(value)
    except (TypeError, ValueError) as error:
        raise SettingsError(f"{name} = {value!r} is not a {kind.__name__}") from error


def _convert_bool(name: str, value: Any) -> bool:
    word = str(value).lower()
    if word not in {"1", "true", "yes", "on", "0", "false", "no", "off", ""}:
        raise SettingsError(f"{name} = {value!r} is neither true nor false")
    return word in {"1", "true", "yes", "on"}
