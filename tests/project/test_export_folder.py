"""An export in a real folder: again, around the user's own, and back when a write fails."""

from __future__ import annotations

import subprocess
import sys
from importlib.machinery import EXTENSION_SUFFIXES
from pathlib import Path

import pytest

from flash_nb.cells.reading import Cell
from flash_nb.errors import FlashError
from flash_nb.project.declared import TroubleError
from flash_nb.project.export.drift import drift_of
from flash_nb.project.export.folder import Changes, _replace, compare, export_to, projects_of, read_folder
from flash_nb.project.scan import scan
from flash_nb.project.sources import files_in

HEAD = 'from flash_nb import CpuLiveServerless, remote\nw = CpuLiveServerless(name="work")'
SOURCES = (HEAD, "k = 1", "@remote(w)\ndef f(x): return x + k", "%%flash_remote --name other\ny = 2")


def cells(*sources: str) -> list[Cell]:
    return [Cell(number, source, f"c{number}") for number, source in enumerate(sources, 1)]


def contents(path: Path) -> dict[str, bytes]:
    return {str(each.relative_to(path)): each.read_bytes() for each in path.rglob("*") if each.is_file()}


def edit(path: Path, old: str, new: str) -> None:
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new))


def drifts(path: Path, *sources: str) -> list[tuple[str, str, int]]:
    return [(each.kind, each.id, each.cell) for each in drift_of(*compare(path, "a.ipynb", cells(*sources)))]


@pytest.fixture
def project(tmp_path):
    export_to(tmp_path / "p", "a.ipynb", cells(*SOURCES))
    return tmp_path / "p"


def test_the_same_notebook_gives_the_same_bytes(project, tmp_path):
    before = contents(project)
    _, changes = export_to(project, "a.ipynb", cells(*SOURCES))
    assert not changes.written
    assert contents(project) == before
    export_to(tmp_path / "q", "a.ipynb", cells(*SOURCES))
    assert contents(tmp_path / "q") == before
    assert sorted(each.name for each in tmp_path.iterdir()) == ["p", "q"]


def test_what_is_written_around_blocks_survives_a_change_of_the_notebook(project):
    edit(project / "work.py", "# %% flash a.ipynb#c2", "MINE = 1\n\n# %% flash a.ipynb#c2")
    (project / "work.py").write_text((project / "work.py").read_text() + "\n\ndef mine(): return MINE\n")
    (project / "mine.py").write_text("x = 1\n")
    edit(project / "requirements.txt", "# %% end", "# %% end\nmy-package")
    export_to(project, "a.ipynb", cells(HEAD, "k = 5", *SOURCES[2:]))
    text = (project / "work.py").read_text()
    assert "MINE = 1" in text
    assert text.index("k = 5") > text.index("MINE = 1")
    assert text.endswith("def mine(): return MINE\n")
    assert (project / "mine.py").read_text() == "x = 1\n"
    assert "my-package" in (project / "requirements.txt").read_text()


def test_a_change_inside_a_block_is_listed_and_nothing_is_written(project):
    edit(project / "work.py", "return x + k", "return x - k")
    edit(project / "main.py", "FastAPI()", "FastAPI(debug=True)")
    before = contents(project)
    with pytest.raises(TroubleError) as caught:
        export_to(project, "a.ipynb", cells(HEAD, "k = 5", *SOURCES[2:]))
    assert [str(each.place) for each in caught.value.troubles] == ["work.py:16", "main.py:1"]
    assert contents(project) == before
    export_to(project, "a.ipynb", cells(HEAD, "k = 5", *SOURCES[2:]), overwrite=True)
    assert "return x + k" in (project / "work.py").read_text()


def test_blocks_and_files_of_cells_that_are_gone_go_but_for_what_is_the_users(project):
    edit(project / "work.py", "# %% flash a.ipynb#c3", "MINE = 1\n\n# %% flash a.ipynb#c3")
    export_to(project, "a.ipynb", cells("%%flash_remote --name new\ny = 2"))
    assert not (project / "other.py").exists()
    assert (project / "work.py").read_text() == "MINE = 1\n"
    assert (project / "new.py").exists()


def test_files_of_the_user_are_never_overwritten(tmp_path):
    for name in ("main.py", "work.py", "README.md", ".gitignore"):
        (tmp_path / name).write_text("mine\n")
    before = contents(tmp_path)
    with pytest.raises(TroubleError) as caught:
        export_to(tmp_path, "a.ipynb", cells(*SOURCES), overwrite=True)
    assert [str(each.place) for each in caught.value.troubles] == ["work.py:1", "main.py:1"]
    assert contents(tmp_path) == before
    (tmp_path / "main.py").unlink()
    (tmp_path / "work.py").unlink()
    _, changes = export_to(tmp_path, "a.ipynb", cells(*SOURCES))
    assert changes.kept == (".gitignore", "README.md")
    assert (tmp_path / "README.md").read_text() == "mine\n"


def test_another_notebooks_project_is_not_touched(project):
    before = contents(project)
    with pytest.raises(TroubleError, match=r"was exported from a\.ipynb"):
        export_to(project, "b.ipynb", cells(*SOURCES))
    assert contents(project) == before


def test_a_notebook_that_cannot_be_exported_changes_nothing(project, tmp_path):
    before = contents(project)
    for path in (project, tmp_path / "new"):
        with pytest.raises(TroubleError):
            export_to(path, "a.ipynb", cells(HEAD, "k = input()", *SOURCES[2:]))
    assert contents(project) == before
    assert not (tmp_path / "new").exists()


def test_a_write_that_fails_halfway_is_taken_back(project, tmp_path):
    before = contents(project)
    drafts = tmp_path / "drafts"
    drafts.mkdir()
    (drafts / "new.py").write_text("x = 1\n")
    (drafts / "work.py").write_text("x = 1\n")
    changes = Changes(project, {"new.py": "", "work.py": "", "main.py": ""}, ("other.py",))
    with pytest.raises(FileNotFoundError):  # there is no draft of main.py
        _replace(changes, drafts)
    assert contents(project) == before


def test_the_target_is_remembered(project, tmp_path):
    export_to(tmp_path / "o", "a.ipynb", cells(*SOURCES), target="runpod-flash")
    assert read_folder(tmp_path / "o").target == "runpod-flash"
    export_to(tmp_path / "o", "a.ipynb", cells(*SOURCES))
    assert "runpod_flash" in (tmp_path / "o" / "work.py").read_text()
    assert read_folder(project).target == "flash_nb"


def test_drift_is_told_by_cell(project):
    assert drifts(project, *SOURCES) == []
    assert drifts(project, HEAD, "k = 5", *SOURCES[2:]) == [("changed", "c2", 2)]
    found = drifts(project, *SOURCES[:3], "@remote(w)\ndef g(): return 1")
    assert ("gone", "c4", 4) in found
    assert ("new", "c4", 4) in found
    edit(project / "work.py", "return x + k", "return x - k")
    assert drifts(project, *SOURCES) == [("edited", "c3", 3)]


def test_versions_are_no_drift(project):
    edit(project / "requirements.txt", "fastapi==", "fastapi==9")
    text = (project / "requirements.txt").read_text()
    block = read_folder(project).files["requirements.txt"].found[0].block
    (project / "requirements.txt").write_text(block.written(markdown=False) + "\n")
    assert text != (project / "requirements.txt").read_text()
    assert drifts(project, *SOURCES) == []


def test_projects_are_found_near_their_notebook(project, tmp_path):
    inner = tmp_path / "notebooks"
    inner.mkdir()
    assert [each.name for each in projects_of(tmp_path / "a.ipynb")] == ["p"]
    assert projects_of(inner / "a.ipynb") == []
    (tmp_path / "pyproject.toml").touch()
    assert [each.name for each in projects_of(inner / "a.ipynb")] == ["p"]
    assert projects_of(tmp_path / "b.ipynb") == []


def test_a_folder_that_is_no_project_is_refused(tmp_path):
    with pytest.raises(FlashError, match=r"is no project of a\.ipynb"):
        drifts(tmp_path / "nothing", *SOURCES)
    (tmp_path / "file").write_text("")
    with pytest.raises(FlashError, match="is a file"):
        export_to(tmp_path / "file", "a.ipynb", cells(*SOURCES))


# --- modules that are files beside the notebook --------------------------------------------------------


USING = "import near\n@remote(w)\ndef f(x): return near.double(x)"
FILES = {
    "near.py": "import rich\nfrom pack.part import times\n\n\ndef double(x):\n    return times(2, x)\n",
    "pack/__init__.py": "",
    "pack/part.py": "from .deep import zero\n\n\ndef times(a, b):\n    return zero() + a * b\n",
    "pack/deep.py": "def zero():\n    return 0\n",
    "pack/unused.py": "import no_such_package\n",
    "other.py": "",
}


@pytest.fixture
def beside(tmp_path):
    folder = tmp_path / "beside"
    put(folder, FILES)
    return folder


def put(folder: Path, files: dict[str, str]) -> None:
    for name, text in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text)


def export_using(path: Path, beside: Path, *sources: str, **options):
    return export_to(path, "a.ipynb", cells(HEAD, *(sources or (USING,))), beside=beside, **options)


def refusal(path: Path, beside: Path, *sources: str, **options) -> list[str]:
    with pytest.raises(TroubleError) as caught:
        export_using(path, beside, *sources, **options)
    return [str(each) for each in caught.value.troubles]


def test_modules_beside_the_notebook_go_along_with_what_they_import(beside, tmp_path):
    made, _ = export_using(tmp_path / "p", beside)
    copied = ("near.py", "pack/__init__.py", "pack/deep.py", "pack/part.py")
    assert made.companions == copied
    assert {name for name in contents(tmp_path / "p") if name.endswith(".py")} == {
        *copied,
        "main.py",
        "work.py",
    }
    for name in copied:
        text = (tmp_path / "p" / name).read_text()
        assert text.startswith("# %% flash a.ipynb#module ")
        assert FILES[name] in text
    assert "rich==" in (tmp_path / "p" / "requirements.txt").read_text()
    assert "near" not in (tmp_path / "p" / "requirements.txt").read_text()
    program = "import inspect, work; print(inspect.unwrap(work.f)(21))"
    ran = subprocess.run(
        [sys.executable, "-c", program], cwd=tmp_path / "p", capture_output=True, text=True, check=True
    )
    assert ran.stdout == "42\n"


def test_their_project_is_scanned_with_what_they_import(beside, tmp_path):
    export_using(tmp_path / "p", beside)
    project = scan(tmp_path / "p", files_in(tmp_path / "p"))
    assert [each.module for each in project.imports["near"]] == ["rich"]


def test_again_they_are_the_same_bytes(beside, tmp_path):
    export_using(tmp_path / "p", beside)
    before = contents(tmp_path / "p")
    _, changes = export_using(tmp_path / "p", beside)
    assert not changes.written
    assert contents(tmp_path / "p") == before


def test_what_changed_in_them_is_drift_and_is_exported_again(beside, tmp_path):
    path = tmp_path / "p"
    export_using(path, beside)
    edit(beside / "pack/deep.py", "return 0", "return 7")
    found = drift_of(*compare(path, "a.ipynb", cells(HEAD, USING), beside=beside))
    assert [(each.kind, str(each.place), each.message) for each in found] == [
        ("changed", "pack/deep.py:1", "pack/deep.py beside the notebook has changed since the export")
    ]
    assert "+    return 7" in found[0].diff
    (path / "pack/deep.py").write_text((path / "pack/deep.py").read_text() + "\n\nMINE = 1\n")
    export_using(path, beside)
    assert not drift_of(*compare(path, "a.ipynb", cells(HEAD, USING), beside=beside))
    text = (path / "pack/deep.py").read_text()
    assert "return 7" in text
    assert text.endswith("MINE = 1\n")


def test_a_copy_that_was_changed_by_hand_is_not_overwritten(beside, tmp_path):
    path = tmp_path / "p"
    export_using(path, beside)
    edit(path / "pack/deep.py", "return 0", "return 5")
    edit(beside / "pack/deep.py", "return 0", "return 7")
    before = contents(path)
    assert refusal(path, beside)[0].startswith("pack/deep.py:1: the block a.ipynb#module was changed by hand")
    assert contents(path) == before
    export_using(path, beside, overwrite=True)
    assert "return 7" in (path / "pack/deep.py").read_text()


def test_copies_that_nothing_imports_any_more_go_with_their_folder(beside, tmp_path):
    path = tmp_path / "p"
    export_using(path, beside)
    (path / "near.py").write_text((path / "near.py").read_text() + "\n\nMINE = 1\n")
    drifts = drift_of(*compare(path, "a.ipynb", cells(HEAD, SOURCES[2], SOURCES[1]), beside=beside))
    assert ("gone", "pack/part.py") in {(each.kind, each.place.file) for each in drifts}
    export_using(path, beside, SOURCES[1], SOURCES[2])
    assert not (path / "pack").exists()
    assert (path / "near.py").read_text() == "MINE = 1\n"


def test_they_stay_as_they_are_where_the_project_is_the_notebooks_folder(beside):
    before = contents(beside)
    made, _ = export_using(beside, beside)
    assert not made.companions
    assert {name: text for name, text in contents(beside).items() if name in before} == before
    assert not drift_of(*compare(beside, "a.ipynb", cells(HEAD, USING), beside=beside))
    export_using(beside, beside, SOURCES[1], SOURCES[2])
    assert {name: text for name, text in contents(beside).items() if name in before} == before


def test_files_of_the_users_at_their_place_are_not_overwritten(beside, tmp_path):
    path = tmp_path / "p"
    put(path, {"near.py": "mine = 1\n", "pack/deep.py": FILES["pack/deep.py"]})
    before = contents(path)
    assert [each.partition(" is a file of yours")[0] for each in refusal(path, beside)] == [
        "near.py:1: near.py"
    ]
    assert contents(path) == before
    (path / "near.py").unlink()
    _, changes = export_using(path, beside)
    assert changes.kept == ("pack/deep.py",)
    assert (path / "pack/deep.py").read_text() == FILES["pack/deep.py"]


def test_a_write_that_fails_takes_their_folders_back(beside, tmp_path):
    path, drafts = tmp_path / "p", tmp_path / "drafts"
    export_using(path, beside, SOURCES[1], SOURCES[2])
    before = contents(path)
    put(drafts, {"pack/deep.py": "x\n"})
    with pytest.raises(FileNotFoundError):
        _replace(Changes(path, {"pack/deep.py": "x\n", "not_there.py": ""}, ()), drafts)
    assert contents(path) == before
    assert not (path / "pack").exists()


def test_the_notebooks_own_folder_comes_before_the_current_one(beside, tmp_path, monkeypatch):
    put(tmp_path / "here", {"near.py": "def double(x):\n    return 'wrong'\n"})
    monkeypatch.chdir(tmp_path / "here")
    monkeypatch.syspath_prepend(str(tmp_path / "here"))
    export_using(tmp_path / "p", beside)
    assert FILES["near.py"] in (tmp_path / "p/near.py").read_text()


def test_a_copy_that_is_found_in_the_project_stays_what_it_was(beside, tmp_path, monkeypatch):
    path = tmp_path / "p"
    export_using(path, beside)
    before = contents(path)
    for name in FILES:
        (beside / name).unlink()
    monkeypatch.syspath_prepend(str(path))
    export_using(path, beside)
    assert contents(path) == before


def test_a_copy_of_another_project_is_copied_whole(beside, tmp_path):
    export_using(beside / "near", beside)
    (beside / "near/near.py").write_text((beside / "near/near.py").read_text() + "\n\nMINE = 1\n")
    (beside / "near.py").unlink()
    source = "import near.near\n@remote(w)\ndef f(): return near.near.MINE"
    export_using(tmp_path / "p", beside, source)
    assert "\nMINE = 1\n" in (tmp_path / "p/near/near.py").read_text()
    before = contents(tmp_path / "p")
    export_using(tmp_path / "p", beside, source)
    assert contents(tmp_path / "p") == before


def test_what_cannot_go_along_is_listed(beside, tmp_path):
    token = "hf_" + "a1B2" * 9
    put(
        beside,
        {
            f"fast{EXTENSION_SUFFIXES[0]}": "",
            f"pack/quick{EXTENSION_SUFFIXES[0]}": "",
            "main.py": "X = 1\n",
            "secret.py": f"KEY = {token!r}\n",
            "broken.py": "def\n",
        },
    )
    sources = [
        f"@remote(w)\ndef f{number}():\n    {line}"
        for number, line in enumerate(
            ["import fast", "from pack import quick", "import main", "import secret", "import broken"]
        )
    ]
    said = refusal(tmp_path / "p", beside, *sources)
    for number, (line, part) in enumerate(
        zip(
            said,
            (
                "fast is a file of this machine",
                "pack.quick is compiled code of this machine",
                "main.py beside the notebook is called as a file of the project\n    → give it another name",
                "secret.py holds what looks like",
                "broken.py cannot be read",
            ),
            strict=True,
        )
    ):
        assert line.startswith(f"a.ipynb, cell {number + 2} (c{number + 2}):3: f{number}: ")
        assert part in line
    assert token not in str(said)
    assert not (tmp_path / "p").exists()


def test_the_file_of_an_endpoint_leaves_their_names_alone(beside, tmp_path):
    put(beside, {"near.py": "import work\n", "work.py": "X = 1\n"})
    made, _ = export_using(tmp_path / "p", beside)
    assert made.companions == ("near.py", "work.py")
    assert [each.file for each in made.functions] == ["on_work.py"]


def test_modules_that_are_called_like_tests_are_built_all_the_same(beside, tmp_path):
    put(
        beside,
        {"near.py": "import tests.shared\nimport test_data\n", "tests/shared.py": "", "test_data.py": ""},
    )
    export_using(tmp_path / "p", beside)
    assert {"tests/shared.py", "test_data.py"} <= set(files_in(tmp_path / "p"))


def test_a_source_in_another_encoding_is_written_as_utf8(beside, tmp_path):
    (beside / "near.py").write_bytes("# -*- coding: latin-1 -*-\nWORD = 'é'\n".encode("latin-1"))
    export_using(tmp_path / "p", beside)
    ran = subprocess.run(
        [sys.executable, "-c", "import near; print(ascii(near.WORD))"],
        cwd=tmp_path / "p",
        capture_output=True,
        text=True,
        check=True,
    )
    assert ran.stdout == "'\\xe9'\n"
