"""An export in a real folder: again, around the user's own, and back when a write fails."""

from __future__ import annotations

from pathlib import Path

import pytest

from flash_nb.cells.reading import Cell
from flash_nb.errors import FlashError
from flash_nb.project.declared import TroubleError
from flash_nb.project.export.drift import drift_of
from flash_nb.project.export.folder import Changes, _replace, compare, export_to, projects_of, read_folder

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
