"""``flash init``, through ``python -m flash_nb``: what is there already is not overwritten unasked."""

from __future__ import annotations

import os
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest
from running import flash
from terminal import at_terminal

ENVIRONMENT = dict(os.environ)


def test_a_new_folder(tmp_path: Path):
    done = flash(ENVIRONMENT, tmp_path, "init", "shop")
    assert done.returncode == 0
    assert done.stdout == (
        "Wrote 11 of 11 files into shop/.\n\nNext:\n  cd shop\n"
        "  python -m pip install -r requirements.txt\n"
        "  flash run        # then open http://localhost:8888/docs\n\n"
        "Functions run on this machine until there is an API key: flash login\n"
    )
    assert 'title="shop"' in (tmp_path / "shop" / "main.py").read_text()


@pytest.mark.parametrize("arguments", [(), (".",)])
def test_this_folder(tmp_path: Path, arguments: tuple[str, ...]):
    folder = tmp_path / 'my shop\'s "best"'
    folder.mkdir()
    (folder / "notes.txt").write_text("mine")
    done = flash(ENVIRONMENT, folder, "init", *arguments)
    assert done.stdout.startswith("Wrote 11 of 11 files into this folder.\n\nNext:\n  python -m pip")
    assert 'title="my shop-s -best"' in (folder / "main.py").read_text()
    assert (folder / "notes.txt").read_text() == "mine"
    again = flash(ENVIRONMENT, folder, "init")
    assert again.returncode == 0
    assert again.stdout.startswith("Wrote 0 of 11 files into this folder: all are there.")


def test_without_a_terminal_nothing_is_overwritten_unless_forced(tmp_path: Path):
    (tmp_path / "main.py").write_text("mine")
    done = flash(ENVIRONMENT, tmp_path, "init")
    assert done.returncode == 1
    assert "has 1 of these files already, with another content:\n  main.py\n" in done.stderr
    assert "--force" in done.stderr
    assert [path.name for path in tmp_path.iterdir()] == ["main.py"]
    assert flash(ENVIRONMENT, tmp_path, "init", "--force").returncode == 0
    assert "FastAPI" in (tmp_path / "main.py").read_text()


def test_at_a_terminal_it_asks(tmp_path: Path):
    (tmp_path / "main.py").write_text("mine")
    status, shown = at_terminal(ENVIRONMENT, tmp_path, "init", asked="Overwrite them? [y/N]: ", answer="")
    assert (status, (tmp_path / "main.py").read_text()) == (1, "mine")
    assert "Nothing was written." in shown
    assert not (tmp_path / "README.md").exists()
    status, shown = at_terminal(ENVIRONMENT, tmp_path, "init", asked="Overwrite them? [y/N]: ", answer="y")
    assert status == 0, shown
    assert "Wrote 11 of 11 files" in shown
    assert "FastAPI" in (tmp_path / "main.py").read_text()


def test_a_name_that_is_no_folder_is_refused(tmp_path: Path):
    done = flash(ENVIRONMENT, tmp_path, "init", "../elsewhere")
    assert done.returncode == 1
    assert "'../elsewhere' cannot be the name of a project" in done.stderr
    assert not (tmp_path.parent / "elsewhere").exists()


def test_a_wheel_has_all_of_it(tmp_path: Path):
    root = Path(__file__).parents[2]
    command = [sys.executable, "-m", "uv", "build", "--wheel", "--out-dir", str(tmp_path), str(root)]
    built = subprocess.run(command, capture_output=True, text=True, check=False)
    if built.returncode and "hatchling" in built.stderr:
        pytest.skip("no index to have the build backend from")
    assert built.returncode == 0, built.stderr
    (wheel,) = tmp_path.glob("*.whl")
    with zipfile.ZipFile(wheel) as opened:
        opened.extractall(tmp_path / "installed")
    environment = {**ENVIRONMENT, "PYTHONPATH": str(tmp_path / "installed")}
    done = flash(environment, tmp_path, "init", "shop")
    assert done.stdout.startswith("Wrote 11 of 11 files into shop/."), done.stderr
    assert "RUNPOD_API_KEY" in (tmp_path / "shop" / ".env").read_text()
