from __future__ import annotations

from pathlib import Path

import pytest
from wheelhouse import settings, wheel


@pytest.fixture
def wheels(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Give a folder whose wheels are all that uv finds; what the runtime needs is there."""
    folder = tmp_path / "wheels"
    for name in ("cloudpickle", "fastapi", "uvicorn"):
        wheel(folder, name, "9.0")
    for variable, value in settings(folder, tmp_path / "uv-cache").items():
        monkeypatch.setenv(variable, value)
    return folder
