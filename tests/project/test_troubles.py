"""The troubles that the documentation lists, each as its user meets it: what, where, and the way out."""

from __future__ import annotations

import os

import pytest
from wheelhouse import wheel, write

from flash_nb.project.builder import BuildOptions, archive, build
from flash_nb.project.builder.step import run
from flash_nb.project.declared import TroubleError

CONFIG = """\
from runpod_flash import remote, CpuLiveServerless, CpuLiveLoadBalancer

cpu = CpuLiveServerless(name="cpu_worker")
web = CpuLiveLoadBalancer(name="web_worker")

"""
FUNCTION = "@remote(cpu)\nasync def f(x):\n    return x\n"


@pytest.fixture
def root(tmp_path):
    folder = tmp_path / "demo"
    folder.mkdir()
    return folder


def troubles(root, files: dict[str, str], **options) -> list[str]:
    write(root, files)
    with pytest.raises(TroubleError) as caught:
        run(build(root, BuildOptions(**options)))
    assert not (root / ".flash" / "artifact.tar.gz").exists()
    assert not (root / ".flash" / ".build").exists()
    return [str(trouble) for trouble in caught.value.troubles]


def only(found: list[str], *parts: str) -> None:
    """Check that there is one trouble, with these parts."""
    [trouble] = found
    for part in parts:
        assert part in trouble, trouble
    assert "\n    → " in trouble


def test_no_remote_function(root, wheels):
    only(troubles(root, {"main.py": "def f():\n    pass\n"}), "@remote", ".flashignore")


def test_a_syntax_error(root, wheels):
    files = {"workers/gpu.py": CONFIG + FUNCTION, "workers/cpu.py": "x = 1\ndef broken(:\n"}
    only(troubles(root, files), "workers/cpu.py:2")


def test_a_config_variable_before_its_definition(root, wheels):
    text = "from runpod_flash import remote, LiveServerless\n\n@remote(gpu)\ndef f():\n    pass\n\n"
    files = {"gpu.py": text + "gpu = LiveServerless(name='gpu_worker')\n"}
    only(troubles(root, files), "gpu.py:3", "gpu.py:7")


def test_a_duplicate_route(root, wheels):
    route = "@remote(web, method='POST', path='/a')\nasync def {}():\n    pass\n\n"
    only(troubles(root, {"web.py": CONFIG + route.format("f") + route.format("g")}), "web.py:", "POST /a")


def test_a_duplicate_function_name(root, wheels):
    other = "from one import cpu\nfrom runpod_flash import remote\n" + FUNCTION
    only(troubles(root, {"one.py": CONFIG + FUNCTION, "two.py": other}), "two.py:4", "one.py:7", "f is")


def test_an_excluded_file_is_imported(root, wheels):
    files = {
        "worker.py": CONFIG + "import shared\n" + FUNCTION,
        "shared.py": "",
        ".gitignore": "build\nshared.py\n",
    }
    only(troubles(root, files), "worker.py:6", "shared.py", ".gitignore")


def test_an_import_of_a_missing_module(root, wheels):
    text = CONFIG + "@remote(cpu)\nasync def f(x):\n    import yaml\n    return x\n"
    only(troubles(root, {"worker.py": text}), "worker.py:8", "'yaml'", 'dependencies=["pyyaml"]')


def test_a_guarded_import_and_one_of_a_dependency_are_fine(root, wheels):
    wheel(wheels, "tool")
    text = CONFIG + "try:\n    import ujson\nexcept ImportError:\n    ujson = None\n"
    text += "@remote(cpu, dependencies=['tool'])\nasync def f(x):\n    import tool\n    return x\n"
    write(root, {"worker.py": text})
    assert run(build(root)).size


def test_over_size_fails_before_it_is_packed_and_says_what_to_exclude(root, wheels, monkeypatch):
    wheel(wheels, "torch", files={"torch/__init__.py": os.urandom(3_000_000)}, needs=["nvidia-big"])
    wheel(wheels, "nvidia-big", files={"nvidia/big.py": os.urandom(4_000_000)})
    files = {"worker.py": CONFIG + FUNCTION, "requirements.txt": "torch\n"}
    packed = []
    monkeypatch.setattr(archive, "pack", lambda *_, **__: packed.append(1))
    found = troubles(root, files, limit=5_000_000)
    only(found, "7.0 MB", "nvidia-big 4.0 MB, torch 3.0 MB", "flash build --exclude torch")
    assert not packed


def test_just_over_size_is_found_when_it_is_packed(root, wheels):
    wheel(wheels, "tool", files={"tool/__init__.py": os.urandom(3_000_000)})
    files = {"worker.py": CONFIG + FUNCTION, "requirements.txt": "tool\n"}
    only(troubles(root, files, limit=2_900_000), "tool 3.0 MB", "--exclude tool")


def test_ones_own_files_are_too_large(root, wheels):
    (root / "weights.bin").write_bytes(os.urandom(3_000_000))
    files = {"worker.py": CONFIG + FUNCTION}
    only(troubles(root, files, limit=2_000_000), "your own files 3.0 MB", "weights.bin", ".flashignore")


def test_no_linux_wheel(root, wheels):
    wheel(wheels, "hard", "2.0", tag="cp312-cp312-win_amd64")
    wheel(wheels, "hard", "1.0")
    files = {"worker.py": CONFIG + FUNCTION, "requirements.txt": "\nhard==2.0\n"}
    only(troubles(root, files), "requirements.txt:2", "hard==2.0 has no wheel", "Version 1.0 has")


def test_a_secret_in_a_text(root, wheels):
    key = "rpa_" + "A1" * 20
    files = {"worker.py": CONFIG + FUNCTION, "settings.py": f"\nKEY = '{key}'\n"}
    found = troubles(root, files)
    only(found, "settings.py:2", "a Runpod key", "os.environ")
    assert key[:8] not in found[0]
    assert run(build(root, BuildOptions(allow_secrets=True))).size


def test_troubles_of_one_step_are_told_together(root, wheels):
    files = {
        "worker.py": CONFIG + FUNCTION,
        "settings.py": f"KEY = 'rpa_{'A1' * 20}'\n",
        "requirements.txt": "a b\n",
    }
    found = troubles(root, files)
    assert [trouble.partition(": ")[0] for trouble in found] == ["settings.py:1", "requirements.txt:1"]
