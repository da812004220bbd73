"""What ``flash init`` writes."""

from __future__ import annotations

import ast
import string
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flash_nb.errors import ProjectError
from flash_nb.project.scan import scan
from flash_nb.project.skeleton import checked_name, conflicts, files_of, write
from flash_nb.project.sources import files_in
from flash_nb.resources import CpuLiveServerless

DOCUMENTED = {
    "main.py",
    "workers/__init__.py",
    "workers/gpu/__init__.py",
    "workers/gpu/endpoint.py",
    "workers/cpu/__init__.py",
    "workers/cpu/endpoint.py",
    ".env",
    ".gitignore",
    ".flashignore",
    "requirements.txt",
    "README.md",
}


def keywords(source: bytes, name: str) -> list[str]:
    """Return the values that a keyword has in a module's calls."""
    found = [
        keyword.value
        for node in ast.walk(ast.parse(source))
        if isinstance(node, ast.Call)
        for keyword in node.keywords
        if keyword.arg == name
    ]
    return [node.value for node in found if isinstance(node, ast.Constant)]


def test_the_documented_files():
    assert set(files_of("shop")) == DOCUMENTED


def test_no_key_and_nothing_but_comments_in_the_key_file():
    lines = files_of("shop")[".env"].decode().splitlines()
    assert all(line.startswith("#") for line in lines)
    assert lines[-1] == "# RUNPOD_API_KEY="
    assert ".env" in files_of("shop")[".gitignore"].decode().splitlines()


def test_requirements_can_be_had_from_the_index():
    lines = files_of("shop")["requirements.txt"].decode().splitlines()
    assert [line for line in lines if not line.startswith("#")] == ["fastapi>=0.110"]


@given(st.text(min_size=1) | st.text(alphabet="\"'\\{}\n#%-_. ab", min_size=1))
def test_any_folder_makes_python_that_says_its_name(folder: str):
    files = files_of(folder)
    assert set(files) == DOCUMENTED
    for path, content in files.items():
        assert b"{{" not in content, path
        if path.endswith(".py"):
            ast.parse(content)
    (title,) = keywords(files["main.py"], "title")
    assert title.strip(" -") or title == "project"
    for path in ("workers/cpu/endpoint.py", "workers/gpu/endpoint.py"):
        (name,) = keywords(files[path], "name")
        assert CpuLiveServerless(name=name).name == name


def test_a_plain_name_is_taken_as_it_is():
    files = files_of("my-shop_2")
    assert b'app = FastAPI(title="my-shop_2")' in files["main.py"]
    assert b'name="my_shop_2_gpu"' in files["workers/gpu/endpoint.py"]
    assert files["README.md"].startswith(b"# my-shop_2\n")


@given(st.text(alphabet=string.ascii_letters + string.digits, min_size=1, max_size=64))
def test_sane_names(name: str):
    assert checked_name(name) == name


@pytest.mark.parametrize(
    "name", ["", "..", ".hidden", "a/b", "../x", "/x", "a\\b", "a b", "-f", "~", "a\n", "é", "x" * 65, "a."]
)
def test_other_names_are_refused_with_one_that_works(name: str):
    with pytest.raises(ProjectError, match="cannot be the name of a project") as caught:
        checked_name(name)
    assert caught.value.hint
    suggested = caught.value.hint.rpartition("flash init ")[2]
    assert checked_name(suggested) == suggested


def test_files_are_written_once(tmp_path: Path):
    files = files_of("shop")
    assert set(write(tmp_path / "shop", files)) == DOCUMENTED
    assert conflicts(tmp_path / "shop", files) == []
    assert write(tmp_path / "shop", files) == []
    assert (tmp_path / "shop" / "main.py").read_bytes() == files["main.py"]


def test_a_file_with_another_content_is_a_conflict_and_a_key_is_kept(tmp_path: Path):
    files = files_of("shop")
    (tmp_path / "main.py").write_text("mine")
    (tmp_path / "README.md").write_bytes(files["README.md"])
    (tmp_path / ".env").write_text("RUNPOD_API_KEY=mine")
    assert conflicts(tmp_path, files) == ["main.py"]
    assert set(write(tmp_path, files)) == DOCUMENTED - {".env", "README.md"}
    assert (tmp_path / ".env").read_text() == "RUNPOD_API_KEY=mine"


def test_what_a_link_points_to_stays_as_it_is(tmp_path: Path):
    elsewhere = tmp_path / "elsewhere.py"
    elsewhere.write_text("mine")
    folder = tmp_path / "shop"
    folder.mkdir()
    (folder / "main.py").symlink_to(elsewhere)
    files = files_of("shop")
    assert conflicts(folder, files) == ["main.py"]
    write(folder, files)
    assert elsewhere.read_text() == "mine"
    assert (folder / "main.py").read_bytes() == files["main.py"]


def test_files_and_folders_in_each_others_place(tmp_path: Path):
    files = files_of("shop")
    (tmp_path / "workers").write_text("a file")
    with pytest.raises(ProjectError, match="workers is a file"):
        conflicts(tmp_path, files)
    (tmp_path / "workers").unlink()
    (tmp_path / "main.py").mkdir()
    with pytest.raises(ProjectError, match=r"main\.py is a folder"):
        conflicts(tmp_path, files)


def test_it_can_be_built(tmp_path: Path):
    folder = tmp_path / "my-shop"
    write(folder, files_of("my-shop"))
    project = scan(folder, files_in(folder))
    assert {group.key: [each.name for each in group.functions] for group in project.groups} == {
        "my_shop_cpu": ["word_lengths"],
        "my_shop_gpu": ["summarize"],
    }
    assert project.mothership is not None
    assert (project.mothership.file, project.mothership.variable) == ("main.py", "app")
    assert project.mothership.calls == {"word_lengths", "summarize"}
