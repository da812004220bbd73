"""A construction: the arguments of a call in a project -> the resource, template or volume that it makes.

It is our own class that is made, so its own validation speaks; what it says is reported at the argument that
it is about.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace

from flash_nb.errors import ResourceError
from flash_nb.project.declared import Place, Trouble
from flash_nb.project.scan.value import (
    Argument,
    Broken,
    Declaration,
    Definition,
    External,
    Package,
    Variable,
    is_plain,
    unknowns,
)
from flash_nb.resources.declared import Declared
from flash_nb.resources.template import PodTemplate


def declared(
    kind: type[Declared], positional: list[Argument], given: Mapping[str, Argument], place: Place
) -> Declaration | Broken:
    """Return what calling a class with these arguments makes.

    Args:
        kind: A resource's class, `PodTemplate` or `NetworkVolume`.
        positional: Arguments without a name, which none of these takes.
        given: Arguments by name.
        place: Of the call.
    """
    fields: dict[str, object] = {}
    env_from: dict[str, str] = {}
    troubles = [
        Trouble(each.place, f"{kind.__name__} takes its settings by name", f'{kind.__name__}(name="…")')
        for each in positional[:1]
    ]
    # The endpoint's own variables win over its template's, so they are read after it.
    for name, argument in sorted(given.items(), key=lambda item: item[0] == "env"):
        value = argument.value
        if isinstance(value, Declaration):
            if isinstance(value.value, PodTemplate):
                env_from.update(value.env_from)
            value = value.value
        if name == "env":
            value = _without_variables(value, env_from)
        troubles += setting_troubles(f"{kind.__name__}: {name}", value, argument.place)
        fields[name] = value
    if troubles:
        return Broken(tuple(troubles))
    try:
        return Declaration(kind(**fields), place, env_from)
    except ResourceError as error:
        refusals = [_refusal(line, given, place) for line in str(error).splitlines()]
        return Broken(tuple(refusals), is_refused=True)


def copied(
    base: Declaration, values: list[object], keywords: Mapping[str, Argument], place: Place
) -> Declaration | Broken | None:
    """Return what ``gpu.model_copy(update={…})`` makes, with the checks that pydantic leaves out.

    None if it is called otherwise.
    """
    update = keywords["update"].value if "update" in keywords else {}
    if values or set(keywords) - {"update", "deep"} or not isinstance(update, dict):
        return None
    fields = {name: getattr(base.value, name) for name in base.value.model_fields_set}
    given = {str(name): Argument(value, place) for name, value in {**fields, **update}.items()}
    made = declared(type(base.value), [], given, place)
    if isinstance(made, Broken) or "env" in update:
        return made
    return replace(made, env_from={**base.env_from, **made.env_from})


def _refusal(line: str, given: Mapping[str, Argument], place: Place) -> Trouble:
    words = line.partition(": ")[2]
    named = [name for name in given if words.startswith((f"{name}=", f"{name} ", f"{name}[", f"{name}:"))]
    where = given[max(named, key=len)].place if named else place
    return Trouble(where, line, "Correct the setting: Python refuses it too.")


def setting_troubles(what: str, value: object, place: Place) -> list[Trouble]:
    """Return why a value cannot be a setting."""
    troubles = unknown_troubles(what, value)
    if not troubles and not is_plain(value) and not isinstance(value, Declared | Mapping):
        troubles += _strangers(what, value, place)
    return troubles


def unknown_troubles(what: str, value: object) -> list[Trouble]:
    """Return what is not known of a value."""
    troubles: list[Trouble] = []
    for each in unknowns(value):
        if isinstance(each, Broken):
            troubles += each.troubles
        else:
            troubles.append(Trouble(each.place, f"{what} is not known: {each}", each.fix))
    return troubles


def _strangers(what: str, value: object, place: Place) -> Iterator[Trouble]:
    if isinstance(value, list | tuple | set | frozenset):
        for item in value:
            if not is_plain(item):
                yield from _strangers(what, item, place)
    elif isinstance(value, dict):
        yield from _strangers(what, list(value.values()), place)
    elif isinstance(value, Variable):
        yield Trouble(
            value.place,
            f"{what} is read from the variable {value.name}, which is known only when the code runs",
            "Write the value: only env may take variables from whoever deploys.",
        )
    else:
        yield Trouble(place, f"{what} is {_described(value)}", "Write a value that a setting can have.")


def _described(value: object) -> str:
    if isinstance(value, External | Package):
        return f"{value.path}, which is known only when the code runs"
    if isinstance(value, Definition):
        return f"{value.name}, which is a function or class of the project"
    return f"a {type(value).__name__}"


def _without_variables(env: object, env_from: dict[str, str]) -> object:
    """Return variables of workers without those that whoever deploys gives; these go to `env_from`."""
    if not isinstance(env, dict):
        return env
    kept: dict[object, object] = {}
    for name, value in env.items():
        if not isinstance(value, Variable) or not isinstance(name, str):
            kept[name] = value
            if isinstance(name, str):
                env_from.pop(name, None)
            continue
        env_from[name] = value.name
        if value.default is not None:
            kept[name] = value.default
    return kept
