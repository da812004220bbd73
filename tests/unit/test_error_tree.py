"""The errors: one drawn tree, all of them at hand, and faithful when they travel."""

from __future__ import annotations

import copy
import inspect
import pickle
import re

import pytest

import flash_nb
from flash_nb import errors
from flash_nb.errors import FlashError, RemoteExecutionError, did_you_mean

CLASSES = [
    item
    for item in vars(errors).values()
    if isinstance(item, type) and issubclass(item, BaseException) and item.__module__ == errors.__name__
]
DRAWN = re.compile(r"^    ([│ ]*)(?:[├└]── )?(\w+)(?: \((\w+)\))?  +\S", re.MULTILINE)


def drawn_tree():
    """Return the classes of the docstring in order, each with its depth and its second base."""
    tree = errors.__doc__.partition("::\n")[2].partition("\n\nA job")[0]
    found = []
    for line in tree.splitlines():
        drawn = DRAWN.match(line)
        if drawn:
            depth = (line.index(drawn[2]) - 4) // 4
            found.append((drawn[2], depth, drawn[3]))
    return found


def test_every_class_is_drawn_once_below_its_base():
    path: list[str] = []
    bases = {}
    for name, depth, second in drawn_tree():
        del path[depth:]
        bases[name] = (*path[-1:], *([second] if second else []))
        path.append(name)
    assert len(bases) == len(drawn_tree())
    assert bases == {
        cls.__name__: tuple(base.__name__ for base in cls.__bases__ if base is not Exception)
        for cls in CLASSES
    }


def test_the_documented_tree():
    """Flash's documentation draws these."""
    documented = {
        "RemoteExecutionError": "FlashRuntimeError",
        "SerializationError": "FlashRuntimeError",
        "GraphQLError": "FlashRuntimeError",
        "GraphQLMutationError": "GraphQLError",
        "GraphQLQueryError": "GraphQLError",
        "ManifestError": "FlashRuntimeError",
        "ManifestServiceUnavailableError": "FlashRuntimeError",
    }
    assert {name: getattr(flash_nb, name).__base__.__name__ for name in documented} == documented


@pytest.mark.parametrize("cls", CLASSES, ids=lambda cls: cls.__name__)
def test_every_class_is_exported_and_described(cls):
    assert cls.__name__ in flash_nb.__all__
    assert getattr(flash_nb, cls.__name__) is cls
    assert inspect.cleandoc(cls.__doc__).splitlines()[0].endswith(".")
    assert cls.__name__.endswith("Error")


@pytest.mark.parametrize("travel", [copy.copy, copy.deepcopy, lambda e: pickle.loads(pickle.dumps(e))])
@pytest.mark.parametrize("cls", CLASSES, ids=lambda cls: cls.__name__)
def test_errors_travel_faithfully(cls, travel):
    given = {
        name: f"the {name}"
        for name, parameter in inspect.signature(cls).parameters.items()
        if parameter.kind is parameter.KEYWORD_ONLY and parameter.annotation in {"str", "str | None"}
    }
    error = cls("what happened", **given)
    found = travel(error)
    assert type(found) is cls
    assert vars(found) == vars(error)
    assert vars(error).items() >= {"message": "what happened", **given}.items()
    assert str(found) == "what happened\nthe hint"
    assert found.args == error.args


def test_an_error_without_a_hint_is_its_message():
    assert str(FlashError("no")) == "no"
    assert str(RemoteExecutionError("no", job_id="j")) == "no"


def test_ipython_shows_the_sentence_alone():
    assert FlashError("no", hint="Do it.")._render_traceback_() == ["FlashError: no", "Do it."]


def test_did_you_mean():
    assert did_you_mean("lenght", ["length", "width"]) == "; did you mean 'length'?"
    assert did_you_mean("x", ["length"]) == ""
