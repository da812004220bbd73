"""Tracebacks from the project's first frame on."""

from __future__ import annotations

import logging
from pathlib import Path

import pytest

from flash_nb.errors import ProjectError
from flash_nb.project.serve.files import is_of, module_files
from flash_nb.project.serve.trace import Shortening, shown


def raised(file: Path, source: str, **names: object) -> BaseException:
    """Return what a module's code raises."""
    with pytest.raises(Exception, match=r".") as caught:
        exec(compile(source, str(file), "exec"), dict(names))
    return caught.value


def fail_inside() -> None:
    raise ProjectError("ours")


def test_frames_before_the_project_are_left_out(tmp_path: Path):
    text = shown(raised(tmp_path / "main.py", "x = 1\nint('a')\n"), tmp_path)
    first, second, *_, last = text.splitlines()
    assert first == "Traceback (most recent call last):"
    assert second == f'  File "{tmp_path}/main.py", line 2, in <module>'
    assert last == "ValueError: invalid literal for int() with base 10: 'a'"
    assert __file__ not in text


def test_of_an_error_of_ours_no_frame_of_ours_is_shown(tmp_path: Path):
    text = shown(raised(tmp_path / "main.py", "fail()", fail=fail_inside), tmp_path)
    assert "fail_inside" not in text
    assert text.endswith("ProjectError: ours\n")


def test_an_error_from_elsewhere_has_no_part_in_the_project(tmp_path: Path):
    assert shown(raised(tmp_path.parent / "main.py", "1 / 0"), tmp_path) == ""


def test_a_log_shows_the_short_one_or_all(tmp_path: Path, caplog: pytest.LogCaptureFixture):
    logger = logging.getLogger("a server")
    logger.addFilter(shortening := Shortening(tmp_path))
    try:
        logger.error("own", exc_info=raised(tmp_path / "main.py", "1 / 0"))
        logger.error("foreign", exc_info=raised(tmp_path.parent / "main.py", "1 / 0"))
    finally:
        logger.removeFilter(shortening)
    own, foreign = caplog.text.split("foreign")
    assert __file__ not in own
    assert f"{tmp_path}/main.py" in own
    assert __file__ in foreign


def test_modules_of_environments_and_hidden_folders_are_not_the_projects(tmp_path: Path):
    mine = ["app.py", "package/__init__.py", "package/part.py"]
    foreign = [".venv/a.py", ".flash/b.py", "env/lib/c.py", "__pycache__/d.py", "node_modules/e.py"]
    for name in [*mine, *foreign, "notes.txt"]:
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    (tmp_path / "env" / "pyvenv.cfg").touch()
    assert list(module_files(tmp_path)) == mine
    assert [name for name in [*mine, *foreign] if is_of(tmp_path, tmp_path / name)] == mine
    assert not is_of(tmp_path, tmp_path.parent / "app.py")
