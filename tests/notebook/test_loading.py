"""The ways to load the extension, each in an IPython with a profile of its own."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from IPython.core.magic import MagicsManager
from kernels import Engine, Kernel, started

LAZY = """{"flash": "flash_nb", "flash_remote": "flash_nb", "flash_map": "flash_nb"}"""
COMMENTED = "# a comment\n\n%%flash_remote\nlow = 1\nlow + 1"


def profile(folder: Path, line: str) -> Path:
    """Make an IPython folder whose default profile is configured by a line."""
    (folder / "profile_default").mkdir(parents=True)
    config = folder / "profile_default" / "ipython_config.py"
    config.write_text(f"c = get_config()\n{line}\n")
    return folder


@pytest.fixture
def lazy(engine: Engine, tmp_path: Path) -> Iterator[Kernel]:
    """Start a kernel that knows our magics by name."""
    folder = profile(tmp_path / "ipython", f"c.MagicsManager.lazy_magics = {LAZY}")
    with started(tmp_path, IPYTHONDIR=str(folder)) as kernel:
        assert kernel.value("'flash_nb' in __import__('sys').modules") is False
        yield kernel


def test_what_loading_imports(fresh: Kernel) -> None:
    fresh.run("import sys; before = {*sys.modules}").ok()
    fresh.run("%load_ext flash_nb").ok()
    loaded = fresh.value("sorted({name.partition('.')[0] for name in {*sys.modules} - before})")
    others = [name for name in loaded if name not in sys.stdlib_module_names]
    assert set(others) <= {"flash_nb", "IPython"}
    ours = fresh.value("sorted(name for name in sys.modules if name.startswith('flash_nb.'))")
    assert {each.split(".")[1] for each in ours} == {"cells", "errors", "notebook", "version"}


def test_as_an_option_of_ipython(engine: Engine, tmp_path: Path) -> None:
    code = f"get_ipython().run_cell({COMMENTED!r}); print('here', low)"
    ran = subprocess.run(
        [sys.executable, "-m", "IPython", "--ext", "flash_nb", "--colors=NoColor", "-c", code],
        env={**os.environ, "IPYTHONDIR": str(tmp_path)},
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    assert "completed cell on notebook" in ran.stdout
    assert "here 1" in ran.stdout


def test_as_an_extension_of_the_profile(engine: Engine, tmp_path: Path) -> None:
    folder = profile(tmp_path / "ipython", "c.InteractiveShellApp.extensions = ['flash_nb']")
    with started(tmp_path, IPYTHONDIR=str(folder)) as kernel:
        assert kernel.wait(kernel.start_as_is(COMMENTED)).ok().result == {"text/plain": "2"}
        assert kernel.complete("%%flash_remote --gp") == ["--gpu"]


def test_lazily_by_a_cell(lazy: Kernel) -> None:
    first = lazy.wait(lazy.start_as_is("%%flash_remote\n\nlow = 1\nlow / 0", cell="ab12"))
    assert (first.ename, lazy.value("low")) == ("ZeroDivisionError", 1)
    assert "line 4" in first.traceback
    assert lazy.value("get_ipython()._flash_magics.notebook.origin('').cell") == "ab12"
    assert lazy.wait(lazy.start_as_is(COMMENTED)).ok().result == {"text/plain": "2"}
    assert lazy.complete("%%flash_remote --gp") == ["--gpu"]


@pytest.mark.xfail(
    strict=True,
    reason="before its first use IPython knows no cell magic of ours below a comment, only at the top",
)
def test_lazily_by_a_cell_below_a_comment(lazy: Kernel) -> None:
    lazy.wait(lazy.start_as_is(COMMENTED)).ok()


def test_lazily_by_a_command(lazy: Kernel) -> None:
    assert lazy.run("%flash backend local").ok().stdout == "Endpoints are run by: local\n"
    assert lazy.wait(lazy.start_as_is(COMMENTED)).ok().result == {"text/plain": "2"}


@pytest.mark.xfail(
    not hasattr(MagicsManager, "find"), strict=True, reason="IPython 8 looks lazy magics up to run them only"
)
@pytest.mark.parametrize(
    ("asked", "shown"), [("%flash?", "%flash COMMAND"), ("%%flash_remote?", "--gpu GROUP")]
)
def test_lazily_by_asking_for_help(lazy: Kernel, asked: str, shown: str) -> None:
    assert shown in lazy.run(asked).ok().paged


def test_unloaded_there_is_no_completion_of_ours(kernel: Kernel) -> None:
    assert "--gpu" in kernel.complete("%%flash_remote --gp")
    kernel.run("%unload_ext flash_nb").ok()
    try:
        assert "--gpu" not in kernel.complete("%%flash_remote --gp")
        assert kernel.value("len(get_ipython().Completer.custom_matchers)") == 0
    finally:
        kernel.run("%load_ext flash_nb").ok()
