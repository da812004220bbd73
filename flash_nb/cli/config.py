"""``flash config``: each setting, its value, where it comes from, and what it is."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated

import typer

from flash_nb import settings as settings_
from flash_nb.backends.auth import VARIABLE, find_key
from flash_nb.errors import FlashError, SettingsError, did_you_mean
from flash_nb.settings import ARGUMENT, MEANINGS, NAMES, Settings, read_dotenv, shown, variable

KEY = "api_key"
ELSEWHERE = frozenset({"FLASH_HOST", "FLASH_PORT"})
"""Variables that Flash's documentation gives another meaning: they are no settings misspelt."""

Name = Annotated[str, typer.Argument(metavar="SETTING", help="Default: all.")]
Value = Annotated[str, typer.Argument(metavar="VALUE", help="Its new value, for this notebook.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON.")]


@dataclass(frozen=True)
class Line:
    """A setting, for people.

    Attributes:
        name: Its name.
        value: Its value; of the API key, whether there is one.
        origin: Where it comes from.
        meaning: What it is.
    """

    name: str
    value: str
    origin: str
    meaning: str


def config(
    name: Name = "",
    value: Annotated[str, typer.Argument(hidden=True)] = "",
    as_json: AsJson = False,
) -> None:
    """Show each setting, its value and where it comes from."""
    settings = settings_.load()
    if value:
        settings.changed(name, value, origin=ARGUMENT)  # refuses what makes no sense
        raise SettingsError(
            "A command at a terminal keeps no settings.",
            hint=f"Set {variable(name)}={value} in the environment or in .env; "
            f"or {name} below [tool.flash_nb] in pyproject.toml.",
        )
    show(settings, name, as_json=as_json)


def show(settings: Settings, name: str = "", *, as_json: bool = False) -> None:
    """Print settings, or the one of this name.

    Raises:
        SettingsError: There is no such setting.
    """
    known = (*NAMES, KEY)
    if name and name not in known:
        raise SettingsError(
            f"There is no setting {name!r}{did_you_mean(name, known)}",
            hint=f"Settings are: {', '.join(NAMES)}.",
        )
    lines = [line for line in _lines(settings) if name in ("", line.name)]
    if as_json:
        typer.echo(json.dumps([asdict(line) for line in lines]))
        return
    widths = [max(len(text) for text in column) for column in zip(*map(_columns, lines), strict=True)]
    for line in lines:
        first, second, third = (text.ljust(width) for text, width in zip(_columns(line), widths, strict=True))
        typer.echo(f"{first}  {second}  {third}".rstrip())
        typer.echo(f"{' ' * widths[0]}  {line.meaning}")
    for note in _misspelt(os.environ, read_dotenv(Path.cwd())[0]):
        typer.echo(note)


def _columns(line: Line) -> tuple[str, str, str]:
    return line.name, line.value, line.origin


def _lines(settings: Settings) -> Iterator[Line]:
    for name in NAMES:
        yield Line(
            name, _text(getattr(settings, name)), settings.origins.get(name, "default"), MEANINGS[name]
        )
    yield _key_line()


def _text(value: object) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, Path) or (isinstance(value, str) and Path(value).is_absolute()):
        return shown(Path(value))
    return f"{value:g}" if isinstance(value, float) else str(value)


def _key_line() -> Line:
    """Describe the API key without a character of it."""
    meaning = "key of your Runpod account; flash login keeps one"
    try:
        key = find_key()
    except FlashError as error:
        return Line(KEY, "unusable", error.message, meaning)
    if key is None:
        return Line(KEY, "missing", "", meaning)
    source = Path(key.source)
    origin = VARIABLE if not source.is_absolute() else shown(source)
    return Line(KEY, "set", origin, meaning)


def _misspelt(*places: Mapping[str, object]) -> Iterator[str]:
    """Yield a sentence for each variable that looks like one of ours and is not."""
    ours = [name.upper() for name in NAMES]
    for name in dict.fromkeys(name for place in places for name in place):
        prefix, _, word = name.partition("_")
        near = did_you_mean(word, ours) if prefix == "FLASH" and word not in ours else ""
        if near and name not in ELSEWHERE:
            yield f"{name} is no setting" + near.replace("'", "'FLASH_", 1)
