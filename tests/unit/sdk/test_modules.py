"""Modules that are files of this machine: which ones are found, and what travels of them."""

from __future__ import annotations

import sys
from importlib.machinery import EXTENSION_SUFFIXES
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flash_nb.errors import CellError, PayloadTooLargeError
from flash_nb.sdk.capture import Capture
from flash_nb.sdk.modules import ModuleFiles, find_modules


def write(folder: Path, files: dict[str, str]) -> None:
    for name, text in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text)


def digests(found: ModuleFiles) -> dict[str, str]:
    return {item["name"]: item["digest"] for item in found.items}


def test_a_file_beside_the_code_and_what_it_imports(tmp_path: Path) -> None:
    write(
        tmp_path,
        {
            "near.py": "import os, numpy\nimport deeper\nraise SystemExit",
            "deeper.py": "def f():\n    from pack import part, NAME\n    import pandas",
            "pack/__init__.py": "NAME = 1",
            "pack/part.py": "from . import sibling\nfrom .sibling import x",
            "pack/sibling.py": "import near",
            "pack/unused.py": "import no_such_package",
            "other.py": "",
        },
    )
    found = find_modules(["near", "os", "scipy"], near=[tmp_path])
    assert found.names == ("deeper", "near", "pack", "pack.part", "pack.sibling")
    assert {"numpy", "pandas", "scipy"} <= found.outside
    assert not {"near", "pack", "no_such_package"} & found.outside
    assert found.via["pandas"] == found.via["pack.sibling"] == "near"
    by_name = {item["name"]: item for item in found.items}
    assert [name for name, item in by_name.items() if item["package"]] == ["pack"]
    assert by_name["near"]["source"] == (tmp_path / "near.py").read_text()
    assert by_name["near"]["file"] == str(tmp_path / "near.py")
    assert not found.troubles
    assert not {"near", "deeper", "pack"} & sys.modules.keys()


def test_a_digest_changes_with_all_that_is_imported(tmp_path: Path) -> None:
    write(tmp_path, {"a.py": "import b", "b.py": "import c", "c.py": "X = 1", "d.py": ""})
    before = digests(find_modules(["a", "d"], near=[tmp_path]))
    assert digests(find_modules(["a", "d"], near=[tmp_path])) == before
    (tmp_path / "c.py").write_text("X = 22")
    after = digests(find_modules(["a", "d"], near=[tmp_path]))
    assert {name for name in before if before[name] != after[name]} == {"a", "b", "c"}


def test_a_folder_without_init_is_a_package_for_what_is_in_it(tmp_path: Path) -> None:
    write(tmp_path, {"jobs/shared.py": "x = 1", "data/numbers.csv": "1,2"})
    assert find_modules(["jobs.shared"], near=[tmp_path]).names == ("jobs", "jobs.shared")
    found = find_modules(["jobs"], ["jobs.shared", "jobs.nothing"], [tmp_path])
    assert (found.names, found.outside) == (("jobs", "jobs.shared"), frozenset())
    assert find_modules(["data"], near=[tmp_path]).outside == {"data"}


def test_installed_packages_and_the_standard_library_are_not_files(tmp_path: Path) -> None:
    write(tmp_path, {"json.py": "", "pytest.py": "", "flash_nb.py": "", "site-packages/mine.py": ""})
    found = find_modules(["json", "pytest", "flash_nb", "mine"], near=[tmp_path, tmp_path / "site-packages"])
    assert found.items == ()


def test_a_file_before_installed_packages_wins_as_in_python(tmp_path: Path, monkeypatch) -> None:
    write(tmp_path, {"fastapi_offline.py": "x = 1"})
    monkeypatch.delitem(sys.modules, "fastapi_offline", raising=False)
    assert find_modules(["fastapi_offline"], near=[tmp_path]).names == ()
    monkeypatch.syspath_prepend(tmp_path)
    assert find_modules(["fastapi_offline"]).names == ("fastapi_offline",)


def test_what_code_can_do_without_is_not_asked_for(tmp_path: Path) -> None:
    write(
        tmp_path,
        {
            "near.py": "try:\n    import no_such_package\nexcept ImportError:\n    pass\n"
            "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    import no_such_types\n"
            "import no_such_need\ntry:\n    import numpy\nexcept ImportError:\n    numpy = None\n"
        },
    )
    found = find_modules(["near"], near=[tmp_path])
    assert found.outside == {"typing", "no_such_need", "numpy"}


TROUBLES = {
    "compiled": (
        {"p/__init__.py": "from . import fast", f"p/fast{EXTENSION_SUFFIXES[0]}": ""},
        "p.fast is compiled",
    ),
    "syntax": ({"p.py": "x = 1\nx ="}, "p.py cannot be read (line 2)"),
    "flash": ({"p.py": "import os\nfrom flash_nb import remote"}, "p imports flash_nb (line 2)"),
}


@pytest.mark.parametrize(("files", "said"), TROUBLES.values(), ids=TROUBLES)
def test_what_cannot_travel(tmp_path: Path, files: dict[str, str], said: str) -> None:
    write(tmp_path, files)
    found = find_modules(["p"], near=[tmp_path])
    with pytest.raises(CellError) as raised:
        found.refuse()
    assert said in str(raised.value)
    assert str(tmp_path) not in str(raised.value)


def test_doubts(tmp_path: Path) -> None:
    token = "ghp_" + "a1B2" * 9
    write(tmp_path, {"p.py": f"KEY = {token!r}\nopen(__file__)"})
    found = find_modules(["p"], near=[tmp_path])
    assert [(name, doubt.code) for name, doubt in found.doubts] == [("p", "secret"), ("p", "import")]
    assert token not in str([doubt for _, doubt in found.doubts])
    found.refuse()


def test_all_of_it_is_below_the_limit(tmp_path: Path) -> None:
    write(tmp_path, {"p.py": "# " + "x" * 9_000_000})
    captured = Capture(modules={"p"})
    captured.take_files(near=[tmp_path])
    with pytest.raises(PayloadTooLargeError, match="module p"):
        captured.refuse_files()


@given(st.lists(st.tuples(st.integers(0, 5), st.integers(0, 5)), max_size=12))
def test_every_graph_of_imports_ends(
    tmp_path_factory: pytest.TempPathFactory, edges: list[tuple[int, int]]
) -> None:
    folder = tmp_path_factory.mktemp("graph")
    for number in range(6):
        (folder / f"m{number}.py").write_text("".join(f"import m{b}\n" for a, b in edges if a == number))
    reached = {0}
    while more := {b for a, b in edges if a in reached} - reached:
        reached |= more
    assert find_modules(["m0"], near=[folder]).names == tuple(f"m{number}" for number in sorted(reached))
