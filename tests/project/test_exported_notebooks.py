"""What our notebooks are exported to builds, for either Flash, with the packages that it names."""

from __future__ import annotations

import tarfile
from pathlib import Path

import pytest

from flash_nb.project.builder import BuildOptions, build
from flash_nb.project.builder.step import run
from flash_nb.project.export import TARGETS
from flash_nb.project.export.folder import export_to
from flash_nb.sdk.notebook_file import read_cells

NOTEBOOKS = sorted((Path(__file__).parents[2] / "notebooks").glob("*.ipynb"))


@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize("notebook", NOTEBOOKS, ids=lambda path: path.stem)
def test_it_builds(notebook, target, tmp_path):
    made, _ = export_to(tmp_path, notebook.name, read_cells(notebook), target=target)
    built = run(build(tmp_path, BuildOptions()))
    exported = {each.name for each in made.functions}
    assert exported
    assert exported == {function.name for function in built.project.functions}
    with tarfile.open(built.archive) as archive:
        names = set(archive.getnames())
    assert {each.file for each in made.functions} <= names
    assert "flash_manifest.json" in names
