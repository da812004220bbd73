"""The notebook's names, rebuilt for one job."""

from __future__ import annotations

import sys
import traceback

import pytest

from flash_nb.worker import namespace
from flash_nb.worker.codec import Encoder
from flash_nb.worker.namespace import Definitions, MissingModuleError, fill, new_main


@pytest.fixture(autouse=True)
def main():
    """Leave the tests' own __main__ as it was."""
    kept = sys.modules["__main__"]
    yield
    sys.modules["__main__"] = kept


def source(name: str, text: str, **fields):
    return {"name": name, "source": text, "filename": "<cell 3>", "first_line": 1, **fields}


def filled(*items, **values):
    encoder = Encoder(lambda obj: obj.__module__ == "__main__")
    for name, value in values.items():
        encoder.add(name, value)
    names: dict = {}
    found = fill(names, [*items, *encoder.items], encoder.buffers() if values else ())
    return names, found


def test_modules_definitions_and_values_are_bound():
    names, values = filled(
        {"name": "m", "module": "math"}, source("f", "def f(x): return m.floor(x) + y"), y=40
    )
    assert names["f"](2.5) == 42
    assert values == {"y": 40}


def test_a_submodule_is_bound_as_itself():
    names, _ = filled({"name": "path", "module": "os.path"})
    import os.path

    assert names["path"] is os.path


def test_definitions_see_each_other_whatever_their_order():
    names, _ = filled(source("f", "def f(): return g()"), source("g", "def g(): return 'g'"))
    assert names["f"]() == "g"


def test_what_a_definition_needs_to_be_executed_comes_first():
    names, _ = filled(
        source("Child", "class Child(Base): size = LIMIT", eager=["Base", "LIMIT"]),
        source("Base", "class Base: pass"),
        LIMIT=3,
    )
    assert names["Child"].__mro__[1] is names["Base"]
    assert names["Child"].size == 3


def test_eager_definitions_in_a_circle_end():
    definitions = Definitions({}, [source("a", "a = 1", eager=["b"]), source("b", "b = 2", eager=["a"])])
    definitions.define("a")
    assert definitions.names == ()


def test_a_value_defines_its_class_when_it_is_decoded():
    class Point:
        pass

    Point.__module__, Point.__qualname__ = "__main__", "Point"
    point = Point()
    point.x = 1
    main_ = new_main()
    main_.Point = Point
    names, values = filled(source("Point", "class Point:\n    def y(self): return self.x + 1"), p=point)
    assert values["p"].y() == 2
    assert type(values["p"]) is names["Point"]


def test_a_definition_is_executed_once():
    names: dict = {"log": []}
    definitions = Definitions(names, [source("f", "log.append(1)\ndef f(): pass")])
    definitions.define("f")
    definitions.define("f")
    assert definitions.resolve("f") is names["f"]
    assert names["log"] == [1]


def test_dotted_names_are_resolved():
    definitions = Definitions({}, [source("A", "class A:\n    class B:\n        c = 5")])
    assert definitions.resolve("A.B.c") == 5
    with pytest.raises(AttributeError, match="has no attribute 'Nobody'"):
        definitions.resolve("Nobody")


def test_a_missing_module_is_named():
    with pytest.raises(MissingModuleError, match="np: No module named 'no_such_module'") as caught:
        filled({"name": "np", "module": "no_such_module.inner"})
    assert caught.value.name == "no_such_module.inner"


def test_line_numbers_and_text_are_those_of_the_cell():
    names, _ = filled(source("f", "def f():\n    return 1 / 0", first_line=7))
    with pytest.raises(ZeroDivisionError) as caught:
        names["f"]()
    last = traceback.extract_tb(caught.value.__traceback__)[-1]
    assert (last.filename, last.lineno, last.line) == ("<cell 3>", 8, "return 1 / 0")


def test_definitions_of_one_cell_share_its_text():
    names, _ = filled(
        source("f", "def f():\n    return 1 / 0", first_line=2),
        source("g", "def g():\n    return [][0]", first_line=6),
    )
    for name, line, text in (("f", 3, "return 1 / 0"), ("g", 7, "return [][0]")):
        with pytest.raises((ZeroDivisionError, IndexError)) as caught:
            names[name]()
        last = traceback.extract_tb(caught.value.__traceback__)[-1]
        assert (last.lineno, last.line) == (line, text)


def test_future_imports_of_the_cell_hold():
    import __future__

    names, _ = filled(
        source("f", "def f(x: nowhere): pass", flags=__future__.annotations.compiler_flag),
    )
    assert names["f"].__annotations__ == {"x": "nowhere"}


def test_our_own_future_imports_do_not_leak():
    text = "def f(x: nowhere): pass\nf.__annotations__"  # 3.14 evaluates them when they are asked for
    with pytest.raises(NameError, match="nowhere"):
        filled(source("f", text))


def test_a_new_main_is_what_pickles_look_into():
    module = new_main()
    assert sys.modules["__main__"] is module
    assert module.__name__ == "__main__"
    assert new_main() is not module
    assert namespace.MAIN == "__main__"
