from __future__ import annotations

import sys

import pytest

from flash_nb.engine.serving import complete, served

MANIFEST = {
    "resources": {
        "gpu worker": {"functions": [{"name": "f"}, {"name": "g"}]},
        "api": {"is_load_balanced": True, "is_mothership": True},
    }
}
HERE = f"{sys.version_info.major}.{sys.version_info.minor}"


def test_an_artifact_of_the_official_builder_gets_what_its_workers_start_from(tmp_path):
    for name in ("runpod_flash/core/thing.py", "worker.py"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text("theirs")
    complete(tmp_path, MANIFEST)
    assert "queue_handler('gpu worker')" in (tmp_path / "handler_gpu_worker.py").read_text()
    assert "application('api')" in (tmp_path / "handler_api.py").read_text()
    assert (tmp_path / "flash_runtime" / "factory.py").is_file()
    assert "flash_runtime" in (tmp_path / "runpod_flash" / "__init__.py").read_text()
    assert not (tmp_path / "runpod_flash" / "core").exists(), "the official package is not mixed with ours"
    assert (tmp_path / "worker.py").read_text() == "theirs"


def test_an_artifact_of_ours_stays_as_it_is(tmp_path):
    (tmp_path / "flash_runtime").mkdir()
    complete(tmp_path, MANIFEST)
    assert [each.name for each in tmp_path.iterdir()] == ["flash_runtime"]


def test_a_queue_is_a_handler_and_what_balances_load_an_application(tmp_path):
    found = served(tmp_path, "gpu worker", MANIFEST, python="p")
    assert found["app"] == {
        "kind": "handler",
        "artifact": {"folder": str(tmp_path), "module": "handler_gpu_worker"},
    }
    assert served(tmp_path, "api", MANIFEST, python="p")["app"]["kind"] == "asgi"


def test_only_what_the_artifact_lacks_is_installed(tmp_path):
    def names(key: str) -> list[str]:
        return [
            each.partition(">")[0] for each in served(tmp_path, key, MANIFEST, python="p")["requirements"]
        ]

    assert (names("gpu worker"), names("api")) == (["cloudpickle"], ["cloudpickle", "fastapi"])
    (tmp_path / "cloudpickle").mkdir()
    assert (names("gpu worker"), names("api")) == ([], ["fastapi"])


@pytest.mark.parametrize(
    ("said", "file", "python", "expected"),
    [
        (None, "a/b.py", "/bin/python", "/bin/python"),
        (None, "a/b.cpython-310-x86_64-linux-gnu.so", "/bin/python", "3.10"),
        (None, "a/b.abi3.so", "/bin/python", "/bin/python"),
        ("3.13", "a/b.cpython-310-x86_64-linux-gnu.so", "/bin/python", "3.13"),
        (HERE, "a/b.py", sys.executable, sys.executable),
        (HERE, "a/b.py", "/bin/python", HERE),
    ],
)
def test_python_is_what_the_artifact_was_made_for(tmp_path, said, file, python, expected):
    (tmp_path / file).parent.mkdir()
    (tmp_path / file).write_bytes(b"")
    manifest = {**MANIFEST, **({"python_version": said} if said else {})}
    assert served(tmp_path, "api", manifest, python=python)["python"] == expected
