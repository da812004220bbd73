"""An archive: the same bytes for the same content, read by any program, unpacked safely."""

import gzip
import io
import os
import subprocess
import tarfile
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from flash_nb.errors import ProjectError
from flash_nb.project.builder.archive import ArchiveTooLargeError, Entry, estimate, level_for, pack
from flash_nb.unpack import unpack


def run(steps):
    """Take all of a generator; return the sum of what it yielded, and what it returned."""
    ended = []

    def through():
        ended.append((yield from steps))

    total = sum(through())
    return total, ended[0]


def entries(folder: Path, files: dict[str, bytes]) -> list[Entry]:
    made = []
    for number, (name, content) in enumerate(files.items()):
        path = folder / str(number)
        path.write_bytes(content)
        made.append(Entry(name, path, "big" if len(content) > 5000 else ""))
    return made


NAMES = (
    st.lists(st.text("abcé漢 _-.", min_size=1, max_size=60), min_size=1, max_size=4)
    .map("/".join)
    .filter(lambda name: not {"", ".", ".."} & set(name.split("/")))
)
CONTENTS = st.one_of(
    st.binary(max_size=2000), st.integers(0, 3_000_000).map(lambda size: os.urandom(99) * (size // 99))
)


@settings(max_examples=40)
@given(files=st.dictionaries(NAMES, CONTENTS, max_size=6))
def test_what_is_packed_comes_out_again(tmp_path_factory, files):
    files = {name: text for name, text in files.items() if not any(o.startswith(f"{name}/") for o in files)}
    folder = tmp_path_factory.mktemp("pack")
    archive = folder / "a.tar.gz"
    done, packed = run(pack(entries(folder, files), archive))
    assert packed.size == archive.stat().st_size
    assert done == len(gzip.decompress(archive.read_bytes()))
    with tarfile.open(archive) as tar:  # Python's own reader
        assert tar.getnames() == sorted(files)
    out = folder / "out"
    assert sorted(unpack(archive, out)) == sorted(files)
    assert {name: (out / name).read_bytes() for name in files} == files


def test_tar_and_gzip_read_it(tmp_path):
    files = {"a.txt": b"one", "b/" + "long" * 60 + ".py": b"x" * 3_000_000, "empty": b""}
    archive = tmp_path / "a.tar.gz"
    run(pack(entries(tmp_path, files), archive))
    subprocess.run(["gzip", "-t", archive], check=True)
    listed = subprocess.run(["tar", "tzf", archive], check=True, capture_output=True, text=True)
    assert listed.stdout.splitlines() == sorted(files)


def test_order_times_owners_and_modes_of_files_do_not_matter(tmp_path):
    files = {f"{letter}.py": os.urandom(100_000) * 20 for letter in "cab"}
    archives = []
    for name, order, age, mode in (("one", 1, 5, 0o600), ("two", -1, 500, 0o664)):
        folder = tmp_path / name
        folder.mkdir()
        made = entries(folder, dict(list(files.items())[::order]))
        for entry in made:
            os.utime(entry.path, (age, age))
            entry.path.chmod(mode)
        run(pack(made, folder / f"{name}.tar.gz"))
        archives.append((folder / f"{name}.tar.gz").read_bytes())
    assert archives[0] == archives[1]


def test_programs_stay_programs(tmp_path):
    [entry] = entries(tmp_path, {"run": b"#!/bin/sh\n"})
    entry.path.chmod(0o700)
    run(pack([entry], tmp_path / "a.tar.gz"))
    unpack(tmp_path / "a.tar.gz", tmp_path / "out")
    assert (tmp_path / "out" / "run").stat().st_mode & 0o777 == 0o755


def test_the_date_is_that_of_source_date_epoch(tmp_path, monkeypatch):
    monkeypatch.setenv("SOURCE_DATE_EPOCH", "1700000000")
    run(pack(entries(tmp_path, {"a": b"1"}), tmp_path / "a.tar.gz"))
    with tarfile.open(tmp_path / "a.tar.gz") as tar:
        assert tar.getmember("a").mtime == 1700000000


def test_each_owner_has_its_share(tmp_path):
    made = entries(tmp_path, {"small": b"x", "large": os.urandom(4_000_000), "text": b"abc" * 1_000_000})
    _, packed = run(pack(made, tmp_path / "a.tar.gz"))
    assert packed.shares["big"] == pytest.approx(packed.size, rel=0.01)
    guess = estimate(made)
    assert guess["big"] == pytest.approx(4_000_000, rel=0.05)


def test_an_archive_over_its_limit_leaves_nothing(tmp_path):
    made = entries(tmp_path, {"large": os.urandom(3_000_000)})
    with pytest.raises(ArchiveTooLargeError):
        run(pack(made, tmp_path / "a.tar.gz", limit=2_000_000))
    assert not (tmp_path / "a.tar.gz").exists()
    assert level_for(10, limit=5) > level_for(5, limit=5)


def test_a_packing_that_is_given_up_leaves_nothing(tmp_path):
    steps = pack(entries(tmp_path, {"large": os.urandom(9_000_000)}), tmp_path / "a.tar.gz")
    next(steps)
    steps.close()
    assert not (tmp_path / "a.tar.gz").exists()


# ---- unpacking what others made


def made_by_others(path: Path, *members: tuple[str, bytes, str]) -> Path:
    """Write an archive with members: name, type, and where it links to."""
    with tarfile.open(path, "w:gz") as tar:
        for name, kind, link in members:
            info = tarfile.TarInfo(name)
            info.type, info.linkname = kind, link
            info.size = 1 if kind == tarfile.REGTYPE else 0
            tar.addfile(info, io.BytesIO(b"x"))
    return path


@pytest.mark.parametrize(
    ("members", "said"),
    [
        ([("../out.txt", tarfile.REGTYPE, "")], "not in it"),
        ([("a/../../out.txt", tarfile.REGTYPE, "")], "not in it"),
        ([("/tmp/flash_nb_out.txt", tarfile.REGTYPE, "")], "not in it"),
        ([("a", tarfile.SYMTYPE, "/etc"), ("a/passwd", tarfile.REGTYPE, "")], "a link"),
        ([("a", tarfile.LNKTYPE, "/etc/passwd")], "a link"),
        ([("a", tarfile.FIFOTYPE, "")], "no file"),
        ([("a", tarfile.CHRTYPE, "")], "no file"),
        ([("a", tarfile.REGTYPE, ""), ("a", tarfile.REGTYPE, "")], "File exists"),
        ([("a", tarfile.REGTYPE, ""), ("a/b", tarfile.REGTYPE, "")], "cannot be unpacked"),
    ],
)
def test_nothing_gets_out_of_the_folder(tmp_path, members, said):
    archive = made_by_others(tmp_path / "bad.tar.gz", *members)
    with pytest.raises(ProjectError, match=said):
        unpack(archive, tmp_path / "in" / "folder")
    assert not (tmp_path / "out.txt").exists()
    assert not (tmp_path / "in" / "out.txt").exists()


def test_names_as_the_official_builder_writes_them(tmp_path):
    archive = made_by_others(
        tmp_path / "a.tar.gz", (".", tarfile.DIRTYPE, ""), ("./a/b.py", tarfile.REGTYPE, "")
    )
    assert unpack(archive, tmp_path / "out") == ["a/b.py"]


def test_a_folder_with_files_is_not_unpacked_into(tmp_path):
    archive = made_by_others(tmp_path / "a.tar.gz", ("b", tarfile.REGTYPE, ""))
    with pytest.raises(ProjectError, match="not empty"):
        unpack(archive, tmp_path)


@pytest.mark.parametrize("content", [b"", b"no archive", gzip.compress(b"no tar" * 999)])
def test_what_is_no_archive_is_refused(tmp_path, content):
    path = tmp_path / "a.tar.gz"
    path.write_bytes(content)
    with pytest.raises(ProjectError, match="cannot be unpacked"):
        unpack(path, tmp_path / "out")


def test_an_archive_cut_short_is_refused(tmp_path):
    path = tmp_path / "a.tar.gz"
    run(pack(entries(tmp_path, {"a": os.urandom(100_000)}), path))
    path.write_bytes(path.read_bytes()[:50_000])
    with pytest.raises(ProjectError, match="cannot be unpacked"):
        unpack(path, tmp_path / "out")
