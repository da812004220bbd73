"""What a scan finds, and what it refuses."""

from __future__ import annotations

from pathlib import Path

import pytest

from flash_nb.project.declared import Place, Project, Trouble, TroubleError
from flash_nb.project.scan import scan


def scanned(folder: Path, files: dict[str, str]) -> Project:
    for name, text in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return scan(folder, files)


def troubles(folder: Path, files: dict[str, str]) -> list[Trouble]:
    with pytest.raises(TroubleError) as caught:
        scanned(folder, files)
    return caught.value.troubles


def test_a_function_on_a_resource(tmp_path):
    project = scanned(
        tmp_path,
        {
            "work.py": "from runpod_flash import LiveServerless, remote\n"
            'gpu = LiveServerless(name="gpu", workersMax=2)\n\n'
            '@remote(resource_config=gpu, dependencies=["numpy"])\n'
            "async def total(values):\n    return sum(values)\n"
        },
    )
    (group,) = project.groups
    (function,) = group.functions
    assert (group.key, group.variable, group.place) == ("gpu", "gpu", Place("work.py", 2))
    assert group.resource.workersMax == 2
    assert (function.name, function.module, function.is_async) == ("total", "work", True)
    assert function.dependencies == ("numpy",)


def test_nothing_found_says_where_it_was_looked(tmp_path):
    (trouble,) = troubles(tmp_path, {"a.py": "x = 1\n"})
    assert "1 Python file" in trouble.message
    assert ".flashignore" in trouble.fix
