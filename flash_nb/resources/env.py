"""Environment variables of a worker: readable by code, never shown."""

from __future__ import annotations

from collections.abc import Iterator, Mapping


class Env(Mapping[str, str]):
    """A frozen mapping whose repr gives only the names: the values may be secrets."""

    __slots__ = ("_values",)

    def __init__(self, values: Mapping[str, str]) -> None:
        self._values = dict(values)

    def __getitem__(self, name: str) -> str:
        return self._values[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._values)

    def __len__(self) -> int:
        return len(self._values)

    def __hash__(self) -> int:
        return hash(frozenset(self._values.items()))

    def __repr__(self) -> str:
        return f"<{', '.join(self)}>"

    def wire(self) -> list[dict[str, str]]:
        """Return Runpod's list of key and value, sorted by key."""
        return [{"key": name, "value": self[name]} for name in sorted(self)]


def parse_env(value: object) -> Env:
    """Return the variables in a mapping, or in Runpod's list of ``{"key": …, "value": …}``.

    Raises:
        ValueError: Some name or value cannot be used; the message shows no value.
    """
    if isinstance(value, list | tuple):
        value = dict(map(_read_pair, value))
    if not isinstance(value, Mapping):
        raise ValueError(f"must be a dict of names and values, not {type(value).__name__}")  # noqa: TRY004
    for name, text in value.items():
        _check(name, text)
    return Env(value)


def _read_pair(pair: object) -> tuple[object, object]:
    if not isinstance(pair, Mapping) or set(pair) != {"key", "value"}:
        raise ValueError("must hold entries such as {'key': 'NAME', 'value': 'text'}")
    return pair["key"], pair["value"]


def _check(name: object, text: object) -> None:
    if not isinstance(name, str) or not name or "=" in name:
        raise ValueError(f"cannot hold a variable named {name!r}: a name is text without '='")
    if not isinstance(text, str):
        # TypeError would escape from pydantic instead of joining the other problems.
        raise ValueError(f"needs text for {name!r}, not {type(text).__name__}")  # noqa: TRY004
