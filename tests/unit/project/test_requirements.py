"""What has to be installed, and who asks for it."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from packaging.requirements import Requirement

from flash_nb.project.builder.requirements import logical_lines, read_file, requirements_of
from flash_nb.project.declared import Function, Group, Place, Project, TroubleError
from flash_nb.resources.live import LiveServerless


def project(root: Path, **dependencies: tuple[str, ...]) -> Project:
    """Return a project with a function for each keyword."""
    functions = tuple(
        Function(name, "workers", Place("workers.py", line), "function", True, dependencies=each)
        for line, (name, each) in enumerate(dependencies.items(), 1)
    )
    group = Group(LiveServerless(name="gpu"), "gpu", Place("workers.py", 1), functions)
    return Project(root.name, root, (group,))


def put(root: Path, **files: str) -> Path:
    for name, text in files.items():
        path = root / name.replace("__", "/").replace("_txt", ".txt")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return root


def told(root: Path, text: str) -> list[str]:
    put(root, requirements_txt=text)
    return [str(trouble) for trouble in read_file(root).troubles]


def test_the_file_the_functions_and_the_runtime_ask(tmp_path):
    put(tmp_path, requirements_txt="httpx>=0.27\nnumpy\n")
    found = requirements_of(
        project(tmp_path, f=("numpy", "Torch_Vision==1 ; python_version<'3.13'"), g=("pandas[excel]>=2",)),
        ("cloudpickle>=3.1", "httpx"),
    )
    assert [(each.name, each.text, str(each.place)) for each in found.wanted] == [
        ("cloudpickle", "cloudpickle>=3.1", "None"),
        ("httpx", "httpx>=0.27", "requirements.txt:1"),
        ("numpy", "numpy", "requirements.txt:2"),
        ("pandas", "pandas[excel]>=2", "workers.py:2"),
        ("torch-vision", "Torch_Vision==1 ; python_version<'3.13'", "workers.py:1"),
    ]
    assert str(found.wanted[0]) == "cloudpickle>=3.1 (the runtime of artifacts)"


def test_what_the_runtime_answers_for_is_left_out_and_said(tmp_path):
    put(tmp_path, requirements_txt="# from the template\nrunpod-flash==1.0.0\nflash_nb\n")
    found = requirements_of(project(tmp_path))
    assert not found.wanted
    assert [note.partition(" is left out")[0] for note in found.notes] == [
        "runpod-flash==1.0.0 (requirements.txt:2)",
        "flash_nb (requirements.txt:3)",
    ]


def test_contradicting_lines_all_stay_so_that_the_installer_may_name_them(tmp_path):
    put(tmp_path, requirements_txt="numpy<2\n")
    found = requirements_of(project(tmp_path, f=("numpy>=2",)))
    assert [str(each) for each in found.about("NumPy")] == [
        "numpy<2 (requirements.txt:1)",
        "numpy>=2 (workers.py:1)",
    ]


def test_includes_constraints_comments_and_continued_lines(tmp_path):
    text = "-r more/base.txt  # shared\n--constraint=limits.txt\npillow \\\n  >=10 # why\n\nb#1\n"
    put(
        tmp_path,
        requirements_txt=text,
        more__base_txt="-r ../requirements.txt\nscipy\n-rlast.txt",
        more__last_txt="einops",
        limits_txt="scipy<2\n",
    )
    found = read_file(tmp_path)
    assert [(each.name, str(each.place)) for each in found.wanted] == [
        ("scipy", "more/base.txt:2"),
        ("einops", "more/last.txt:1"),
        ("pillow", "requirements.txt:3"),
    ]
    assert [each.text for each in found.constraints] == ["scipy<2"]
    assert [str(trouble.place) for trouble in found.troubles] == ["requirements.txt:6"]  # no space before "#"


def test_hashes_and_places_of_packages_are_kept(tmp_path):
    put(
        tmp_path,
        requirements_txt="--index-url https://${USER_OF_INDEX}@x.test/simple\n--pre\n"
        "tool==1 --hash=sha256:aa \\\n   --hash=sha256:bb\n--require-hashes\n--only-binary :all:\n",
    )
    found = read_file(tmp_path, variables={"USER_OF_INDEX": "me:secret"})
    assert found.options == [("--index-url", "https://me:secret@x.test/simple"), ("--pre", "")]
    assert found.wanted[0].line == "tool==1 --hash=sha256:aa --hash=sha256:bb"
    assert "--require-hashes is not kept" in found.notes[0]
    assert not found.troubles


def test_a_wheel_of_the_project_or_of_an_address(tmp_path):
    put(tmp_path, **{"wheels__my_tool-1.0-py3-none-any.whl": ""})
    text = "./wheels/my_tool-1.0-py3-none-any.whl ; sys_platform == 'linux'\nhttps://x.test/b-2-py3-none-any.whl\n"
    assert told(tmp_path, text) == []
    found = read_file(tmp_path).wanted
    assert [each.name for each in found] == ["my-tool", "b"]
    assert found[0].text.startswith("my-tool @ file://")
    assert Requirement(found[0].text).marker
    assert found[1].text == "b @ https://x.test/b-2-py3-none-any.whl"


@pytest.mark.parametrize(
    ("line", "said", "fix"),
    [
        ("a b c", "'a b c' is not a requirement", "numpy>=1.26"),
        ("-r ../other.txt", "outside the project", "Move it"),
        ("-r nowhere.txt", "there is no nowhere.txt", "Correct"),
        ("-e .", "-e . is of this machine alone", "into the project"),
        ("./libs/mine", "is no wheel", "into the project"),
        ("git+https://x.test/a.git", "is no wheel", "address of a wheel"),
        ("../out-1.0-py3-none-any.whl", "outside the project", "Move it"),
        ("--no-binary :all:", "--no-binary has no meaning", "Leave it out"),
        ("numpy --config-settings x=1", "only wheels are installed", "Leave it out"),
        ("--frobnicate", "--frobnicate has no meaning", "Leave it out"),
    ],
)
def test_what_makes_no_sense_is_told_with_its_line(tmp_path, line, said, fix):
    [trouble] = told(tmp_path, f"numpy\n{line}\n")
    assert trouble.startswith("requirements.txt:2: ")
    assert said in trouble
    assert fix in trouble


def test_all_lines_are_told_at_once(tmp_path):
    put(tmp_path, requirements_txt="a b\n-e .\n")
    with pytest.raises(TroubleError) as caught:
        requirements_of(project(tmp_path))
    assert len(caught.value.troubles) == 2


def test_no_file_wants_nothing(tmp_path):
    assert read_file(tmp_path).wanted == []


WORDS = st.text("ab-=<>1.;[] #\\'\"/:@", max_size=20)


@given(lines=st.lists(WORDS, max_size=6))
def test_any_text_is_read_or_told(tmp_path_factory, lines):
    folder = tmp_path_factory.mktemp("any")
    text = "\n".join(lines)
    (folder / "requirements.txt").write_text(text)
    found = read_file(folder)
    numbers = {each.place.line for each in found.wanted} | {each.place.line for each in found.troubles}
    assert numbers <= set(range(1, len(text.splitlines()) + 1))
    for each in found.wanted:
        Requirement(each.text)


@given(st.lists(st.sampled_from(["numpy", "scipy>=1", "# a remark", "", "  "]), max_size=8))
def test_lines_keep_their_numbers(lines):
    expected = [(n, line) for n, line in enumerate(lines, 1) if line.strip() and not line.startswith("#")]
    assert [*logical_lines("\n".join(lines))] == expected
