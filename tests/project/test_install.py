"""Installing for workers, with the real uv and wheels of the test."""

from __future__ import annotations

import contextlib
import http.server
import threading
from importlib.metadata import distributions
from pathlib import Path

import pytest
from wheelhouse import wheel, write

from flash_nb.project.builder.install import Machine, install
from flash_nb.project.builder.requirements import Requirements, Wanted, read_file
from flash_nb.project.builder.step import run
from flash_nb.project.declared import Place, TroubleError

PY312 = Machine("3.12")


def wanted(*texts: str) -> Requirements:
    def of(number: int, text: str) -> Wanted:
        from flash_nb.cells.requirements import requirement_name

        return Wanted(requirement_name(text), text, Place("requirements.txt", number))

    return Requirements(tuple(of(number, text) for number, text in enumerate(texts, 1)))


def installed(tmp_path: Path, requirements: Requirements, **more):
    arguments = {"machine": PY312, "cwd": tmp_path, **more}
    return run(install(requirements, tmp_path / "target", **arguments))


def refused(tmp_path: Path, requirements: Requirements, **more):
    with pytest.raises(TroubleError) as caught:
        installed(tmp_path, requirements, **more)
    [trouble] = caught.value.troubles
    return trouble


def test_wheels_are_those_of_the_workers_machine(tmp_path, wheels):
    for tag in (
        "cp312-cp312-manylinux_2_35_x86_64",
        "cp311-cp311-manylinux_2_35_x86_64",
        "cp312-cp312-macosx_11_0_arm64",
        "cp312-cp312-win_amd64",
        "cp312-cp312-manylinux_2_17_aarch64",
    ):
        wheel(wheels, "fast", files={"fast.py": f"TAG = {tag!r}"}, tag=tag)
    found = installed(tmp_path, wanted("fast"))
    assert (found.folder / "fast.py").read_text() == "TAG = 'cp312-cp312-manylinux_2_35_x86_64'"
    other = run(install(wanted("fast"), tmp_path / "other", machine=Machine("3.11"), cwd=tmp_path))
    assert "cp311" in (other.folder / "fast.py").read_text()


def test_an_image_of_the_users_own_may_be_older(tmp_path, wheels):
    wheel(wheels, "fast", files={"fast.py": ""}, tag="cp312-cp312-manylinux_2_35_x86_64")
    trouble = refused(tmp_path, wanted("fast"), machine=Machine("3.12", "x86_64-manylinux_2_28"))
    assert "no wheel for Python 3.12 on Linux x86_64 (manylinux_2_28)" in trouble.message


def test_markers_are_those_of_the_workers(tmp_path, wheels):
    for name in ("on-linux", "on-windows", "new", "old"):
        wheel(wheels, name)
    asked = wanted(
        "on-linux; sys_platform == 'linux'",
        "on-windows; sys_platform == 'win32'",
        "new; python_version >= '3.12'",
        "old; python_version < '3.12'",
    )
    assert [*installed(tmp_path, asked).distributions] == ["new", "on-linux"]


def test_excluded_packages_and_what_only_they_need_are_left_out(tmp_path, wheels):
    wheel(wheels, "torch", needs=["nvidia-big"])
    wheel(wheels, "nvidia-big")
    wheel(wheels, "lightning", needs=["torch>=1", "small"])
    wheel(wheels, "small")
    asked = wanted("lightning", "torch")
    assert [*installed(tmp_path, asked, excluded=["torch"]).distributions] == ["lightning", "small"]
    everything = run(install(asked, tmp_path / "all", machine=PY312, cwd=tmp_path))
    assert [*everything.distributions] == ["lightning", "nvidia-big", "small", "torch"]


def test_without_needs(tmp_path, wheels):
    wheel(wheels, "lightning", needs=["small"])
    assert [*installed(tmp_path, wanted("lightning"), with_needs=False).distributions] == ["lightning"]


def test_the_runtimes_own_names_are_not_installed_though_a_package_needs_them(tmp_path, wheels):
    wheel(wheels, "extra-tools", needs=["runpod-flash>=1", "flash-nb"])
    assert [*installed(tmp_path, wanted("extra-tools")).distributions] == ["extra-tools"]


def test_what_differs_by_machine_is_gone_and_the_records_agree(tmp_path, wheels):
    files = {"tool/__init__.py": "", "tool/old.pyc": "", "tool-1.0.data/scripts/native": b"\x7fELF"}
    wheel(wheels, "tool", files=files, programs=["tool"])
    found = installed(tmp_path, wanted("tool"))
    there = {path.relative_to(found.folder).as_posix() for path in found.folder.rglob("*") if path.is_file()}
    info = "tool-1.0.dist-info"
    assert there == {
        "bin/native",
        "tool/__init__.py",
        f"{info}/METADATA",
        f"{info}/RECORD",
        f"{info}/WHEEL",
        f"{info}/entry_points.txt",
    }
    [metadata] = distributions(path=[str(found.folder)])
    assert {str(file) for file in metadata.files} == there
    assert found.owners["tool/__init__.py"] == "tool"


def test_the_cache_of_uv_is_not_changed(tmp_path, wheels):
    wheel(wheels, "tool", programs=["tool"])
    first = installed(tmp_path, wanted("tool"))
    (first.folder / "tool" / "__init__.py").unlink()
    second = run(install(wanted("tool"), tmp_path / "again", machine=PY312, cwd=tmp_path))
    assert (second.folder / "tool" / "__init__.py").read_text() == "VERSION = '1.0'\n"
    records = [(each.folder / "tool-1.0.dist-info" / "RECORD").read_bytes() for each in (first, second)]
    assert records[0] == records[1]


def test_copies_are_nobody_elses_files(tmp_path, wheels):
    wheel(wheels, "tool")
    found = installed(tmp_path, wanted("tool"), copies=True)
    (found.folder / "tool" / "__init__.py").write_text("broken")
    again = run(install(wanted("tool"), tmp_path / "again", machine=PY312, cwd=tmp_path))
    assert (again.folder / "tool" / "__init__.py").read_text() == "VERSION = '1.0'\n"


def test_constraints_hashes_and_find_links_of_a_requirements_file(tmp_path, wheels, monkeypatch):
    monkeypatch.delenv("UV_FIND_LINKS")
    elsewhere = tmp_path / "project" / "vendored"
    wheel(elsewhere, "tool", "1.0")
    wheel(elsewhere, "tool", "2.0")
    project = write(
        tmp_path / "project",
        {"requirements.txt": "--find-links vendored\n-c limits.txt\ntool\n", "limits.txt": "tool<2\n"},
    )
    written = read_file(project)
    asked = Requirements((*written.wanted,), (*written.constraints,), (*written.options,))
    assert installed(tmp_path, asked).distributions["tool"].version == "1.0"
    wrong = Requirements(
        (Wanted("tool", "tool==2.0", Place("requirements.txt", 1), ("sha256:" + "0" * 64,)),),
        options=asked.options,
    )
    trouble = refused(tmp_path, wrong)
    assert "hash" in trouble.message.lower()


# ---- why it cannot be done


def test_no_linux_wheel_names_the_versions_that_have_one(tmp_path, wheels):
    for version, tag in (
        ("1.0", "py3-none-any"),
        ("2.0", "py3-none-manylinux_2_17_x86_64"),
        ("3.0", "cp310-cp310-macosx_11_0_arm64"),
        ("4.0", "cp312-cp312-win_amd64"),
    ):
        wheel(wheels, "hard", version, tag=tag)
    trouble = refused(tmp_path, wanted("hard>=3"))
    assert str(trouble.place) == "requirements.txt:1"
    assert "hard" in trouble.message
    assert "no wheel for Python 3.12 on Linux x86_64" in trouble.message
    assert "from 1.0 to 2.0" in trouble.fix
    assert "hard==2.0" in trouble.fix


def test_no_wheel_at_all(tmp_path, wheels):
    wheel(wheels, "hard", "4.0", tag="cp312-cp312-win_amd64")
    trouble = refused(tmp_path, wanted("hard"))
    assert "no wheel" in trouble.message
    assert "--exclude hard" in trouble.fix


def test_a_package_that_others_need_has_no_wheel(tmp_path, wheels):
    wheel(wheels, "hard", "4.0", tag="cp312-cp312-win_amd64")
    wheel(wheels, "soft", needs=["hard"])
    trouble = refused(tmp_path, wanted("soft"))
    assert "hard" in trouble.message
    assert "no wheel" in trouble.message


def test_a_package_for_a_newer_python(tmp_path, wheels):
    wheel(wheels, "young", python=">=3.13")
    trouble = refused(tmp_path, wanted("young"))
    assert "young" in trouble.message
    assert "3.1" in trouble.message


def test_requirements_that_contradict_each_other_are_named_with_their_places(tmp_path, wheels):
    wheel(wheels, "tool", "1.0")
    wheel(wheels, "tool", "2.0")
    trouble = refused(tmp_path, wanted("tool<2", "tool>=2"))
    assert "contradict" in trouble.message
    assert "tool<2 (requirements.txt:1)" in trouble.message
    assert "tool>=2 (requirements.txt:2)" in trouble.message


def test_an_unknown_package(tmp_path, wheels):
    trouble = refused(tmp_path, wanted("nowhere-to-be-found"))
    assert "nowhere-to-be-found" in trouble.message
    assert str(trouble.place) == "requirements.txt:1"


def test_an_index_that_does_not_answer(tmp_path, wheels, monkeypatch):
    monkeypatch.setenv("UV_DEFAULT_INDEX", "http://127.0.0.1:9/simple")
    monkeypatch.setenv("UV_HTTP_RETRIES", "0")
    trouble = refused(tmp_path, wanted("tool"))
    assert "network is unreachable" in trouble.message


@contextlib.contextmanager
def serving(folder: Path):
    class Handler(http.server.SimpleHTTPRequestHandler):
        def __init__(self, *arguments):
            super().__init__(*arguments, directory=str(folder))

        def log_message(self, *_):
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()
        thread.join()


def test_an_index_of_the_projects_own_settings(tmp_path, wheels, monkeypatch):
    path = wheel(tmp_path / "index" / "tool", "tool", "5.0")
    (path.parent / "index.html").write_text(f'<a href="{path.name}">{path.name}</a>')
    for variable in ("UV_DEFAULT_INDEX", "UV_FIND_LINKS", "UV_NO_CONFIG"):
        monkeypatch.delenv(variable)
    with serving(tmp_path / "index") as url:
        (tmp_path / "uv.toml").write_text(f'index-url = "{url}"\n')
        assert installed(tmp_path, wanted("tool")).distributions["tool"].version == "5.0"
