"""Modules that come with a job, imported from their source."""

from __future__ import annotations

import importlib
import inspect
import pickle
import sys
import traceback
import types
from collections.abc import Iterator

import pytest

from flash_nb.worker.modules import Modules


@pytest.fixture
def modules() -> Iterator[Modules]:
    before = dict(sys.modules)
    made = Modules()
    yield made
    made.provide([])
    sys.meta_path.remove(made)
    assert {name for name in sys.modules if name.startswith("mine")} == set()
    assert all(sys.modules[name] is module for name, module in before.items() if name in sys.modules)


def item(name: str, source: str = "", *, digest: str = "", package: bool = False) -> dict[str, object]:
    file = f"/nowhere/{name.replace('.', '/')}.py"
    return {
        "name": name,
        "file": file,
        "source": source,
        "package": package,
        "digest": digest or source,
    }


def test_one_source_is_imported_once(modules: Modules) -> None:
    given = [item("mine", "made = []")]
    modules.provide(given)
    first = importlib.import_module("mine")
    modules.provide([dict(given[0])])
    assert importlib.import_module("mine") is first
    modules.provide([])
    with pytest.raises(ModuleNotFoundError):
        importlib.import_module("mine")
    modules.provide(given)
    assert importlib.import_module("mine") is first


def test_changed_source_is_imported_anew_and_objects_of_the_old_one_live(modules: Modules) -> None:
    old, new = item("mine", "class A:\n    def f(self): return g()\ndef g(): return 1"), item("mine", "A = 2")
    modules.provide([old])
    made = importlib.import_module("mine").A()
    modules.provide([new])
    assert importlib.import_module("mine").A == 2
    assert made.f() == 1
    modules.provide([old])
    assert type(pickle.loads(pickle.dumps(made))) is type(made)


def test_what_did_not_change_stays(modules: Modules) -> None:
    def given(version: str) -> list[dict[str, object]]:
        return [
            item("mine", f"import mine_shared\nversion = {version!r}", digest=version),
            item("mine_shared", "state = []"),
        ]

    modules.provide(given("1"))
    importlib.import_module("mine").mine_shared.state.append(1)
    modules.provide(given("2"))
    again = importlib.import_module("mine")
    assert (again.version, again.mine_shared.state) == ("2", [1])


def test_packages_and_what_is_inside(modules: Modules) -> None:
    package = item("mine", "", digest="p", package=True)
    modules.provide([package, item("mine.part", "from .other import x"), item("mine.other", "x = 1")])
    assert importlib.import_module("mine.part").x == 1
    modules.provide([package, item("mine.part", "from . import other"), item("mine.other", "x = 2")])
    namespace: dict[str, types.ModuleType] = {}
    exec("from mine import part", namespace)  # the package is the same: its attribute must not be the old one
    assert namespace["part"].other.x == 2
    modules.provide([package])
    with pytest.raises(ImportError):
        exec("from mine import part", {})


def test_a_module_of_the_image_is_put_aside_and_comes_back(modules: Modules) -> None:
    theirs = sys.modules["mine_theirs"] = types.ModuleType("mine_theirs")
    modules.provide([item("mine_theirs", "ours = True")])
    assert importlib.import_module("mine_theirs").ours
    modules.provide([])
    assert sys.modules.pop("mine_theirs") is theirs


def test_tracebacks_and_inspect_show_the_file(modules: Modules) -> None:
    modules.provide([item("mine", "\n\ndef f():\n    return 1 / 0  # here\n")])
    found = importlib.import_module("mine")
    with pytest.raises(ZeroDivisionError) as raised:
        found.f()
    last = traceback.extract_tb(raised.value.__traceback__)[-1]
    assert (last.filename, last.lineno, last.line) == ("/nowhere/mine.py", 4, "return 1 / 0  # here")
    assert found.__file__ == "/nowhere/mine.py"
    assert inspect.getsource(found.f).startswith("def f()")


def test_one_that_fails_is_tried_again_and_names_its_file(modules: Modules) -> None:
    modules.provide([item("mine", "raise RuntimeError('no')")])
    for _ in range(2):
        with pytest.raises(RuntimeError):
            importlib.import_module("mine")
    modules.provide([item("mine", "x =")])
    with pytest.raises(SyntaxError) as raised:
        importlib.import_module("mine")
    assert raised.value.filename == "/nowhere/mine.py"
