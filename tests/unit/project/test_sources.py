"""Which files belong into an artifact; git itself is the judge of its syntax."""

import os
import shutil
import subprocess
from pathlib import Path

import pytest
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st

from flash_nb.project.sources import files_in, fingerprint, secrets_in, sources_in, why_left_out


def put(root: Path, files: dict[str, str]) -> Path:
    for name, text in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return root


def test_what_no_project_means_to_ship_is_left_out(tmp_path):
    put(
        tmp_path,
        {
            "main.py": "",
            "workers/gpu.py": "",
            "prompts/hello.md": "",
            "docs/guide.txt": "",
            "__pycache__/main.cpython-312.pyc": "",
            "tests/test_a.py": "",
            "workers/test_gpu.py": "",
            ".git/config": "",
            ".flash/artifact.tar.gz": "",
            "build/lib/x.py": "",
            "explore.ipynb": "",
            ".gitignore": "",
        },
    )
    assert files_in(tmp_path) == ("docs/guide.txt", "main.py", "prompts/hello.md", "workers/gpu.py")


def test_a_rule_of_the_project_takes_a_usual_one_back(tmp_path):
    put(tmp_path, {"tests/data.py": "", "main.py": "", ".flashignore": "!tests/\n"})
    assert files_in(tmp_path) == ("main.py", "tests/data.py")


def test_flashignore_wins_over_gitignore_and_deeper_files_over_higher_ones(tmp_path):
    put(
        tmp_path,
        {
            ".gitignore": "*.bin\n*.log\n",
            ".flashignore": "!weights.bin\n",
            "weights.bin": "",
            "other.bin": "",
            "a/.gitignore": "!keep.log\n",
            "a/keep.log": "",
            "a/drop.log": "",
            "keep.log": "",
        },
    )
    assert files_in(tmp_path) == ("a/keep.log", "weights.bin")


SECRETS = """
.env .env.local prod.env .ENV certs/server.pem tls.key id_rsa id_ed25519 .netrc .pypirc .npmrc
.aws/credentials .ssh/config .runpod/config.toml kubeconfig a/.kube/config credentials.json
service-account-prod.json
"""


@pytest.mark.parametrize("path", SECRETS.split())
def test_no_rule_brings_a_secret_in(tmp_path, path):
    put(
        tmp_path,
        {path: "x", "main.py": "", ".flashignore": f"!{path}\n!*\n!.*\n", ".gitignore": f"!/{path}\n"},
    )
    assert set(files_in(tmp_path)) == {".flashignore", ".gitignore", "main.py"}
    assert "never packed" in why_left_out(tmp_path, path)


@pytest.mark.parametrize("path", [".env.example", "id_rsa.pub", "keys.py", "environment.py", "env/x.py"])
def test_what_only_looks_like_a_secret_is_packed(tmp_path, path):
    put(tmp_path, {path: "x"})
    assert files_in(tmp_path) == (path,)


def test_why_a_file_is_left_out_names_the_rule_and_its_line(tmp_path):
    put(
        tmp_path,
        {"data/big.csv": "", "a/b.log": "", ".gitignore": "# ours\n\ndata/\n", "a/.flashignore": "*.log"},
    )
    assert why_left_out(tmp_path, "data/big.csv") == "by the rule 'data/' in .gitignore:3"
    assert why_left_out(tmp_path, "a/b.log") == "by the rule '*.log' in a/.flashignore:1"
    assert why_left_out(tmp_path, "nowhere.py") == ""


def test_environments_are_found_by_what_they_hold(tmp_path):
    put(tmp_path, {"myenv/pyvenv.cfg": "", "myenv/lib/x.py": "", "main.py": ""})
    assert files_in(tmp_path) == ("main.py",)


def test_links_are_followed_within_the_project_only(tmp_path):
    root = tmp_path / "project"
    put(root, {"shared/x.py": "1", ".env": "KEY=1", "a/main.py": ""})
    put(tmp_path, {"outside/secret.txt": "s"})
    links = {
        "a/shared": "../shared",
        "a/x.py": "../shared/x.py",
        "a/out": "../../outside",
        "a/out.txt": "../../outside/secret.txt",
        "a/settings.txt": "../.env",
        "a/loop": "..",
        "a/nothing": "nowhere",
    }
    for name, target in links.items():
        (root / name).symlink_to(target)
    found = sources_in(root)
    assert found.files == ("a/main.py", "a/shared/x.py", "a/x.py", "shared/x.py")
    assert "outside the project" in found.left_out["a/out.txt"]
    assert "never packed" in found.left_out["a/settings.txt"]
    assert "folder that it is in" in found.left_out["a/loop"]
    assert "nothing" in found.left_out["a/nothing"]


def test_pipes_and_sockets_are_left_out(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    assert sources_in(tmp_path).left_out == {"pipe": "because it is no regular file"}


PARTS = st.sampled_from(["a", "b", "c.txt", "d.log"])
PATHS = st.lists(PARTS, min_size=1, max_size=3).map("/".join)
RULES = st.tuples(
    st.sampled_from(["", "!"]),
    st.sampled_from(["", "/"]),
    st.lists(
        st.sampled_from(["a", "b", "*.txt", "*", "**", "d.log", "c.*", "[ab]", "?"]), min_size=1, max_size=2
    ),
    st.sampled_from(["", "/"]),
).map(lambda rule: rule[0] + rule[1] + "/".join(rule[2]) + rule[3])


def takes_back_by_path(rule: str) -> bool:
    """Tell whether a rule takes back one folder: see the strict xfail below."""
    return rule.startswith("!") and "/" in rule[1:].rstrip("/")


@pytest.mark.xfail(strict=True, reason="pathspec takes a folder back with all the folders that are in it")
def test_a_folder_taken_back_does_not_take_back_one_of_its_name_in_it(tmp_path):
    put(tmp_path, {".gitignore": "a/\n!/a", "a/b": "", "a/a/b": ""})
    assert files_in(tmp_path) == ("a/b",)


@pytest.mark.skipif(not shutil.which("git"), reason="git is the judge")
@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(paths=st.sets(PATHS, max_size=6), rules=st.lists(RULES, max_size=4), below=st.lists(RULES, max_size=2))
def test_git_says_the_same(tmp_path_factory, paths, rules, below):
    assume(not any(map(takes_back_by_path, [*rules, *below])))
    root = tmp_path_factory.mktemp("rules")
    folders = {"/".join(path.split("/")[:count]) for path in paths for count in range(1, path.count("/") + 1)}
    files = dict.fromkeys(paths - folders, "")
    if any(file.split("/")[0] in files for file in files if "/" in file):
        return
    files = {f: "" for f in files if not any(f.startswith(f"{o}/") for o in files)}
    files[".gitignore"] = "\n".join(rules)
    if any(path.startswith("a/") for path in files):
        files["a/.gitignore"] = "\n".join(below)
    put(root, files)
    subprocess.run(["git", "init", "-q"], cwd=root, check=True)
    shown = subprocess.run(
        ["git", "-c", "core.excludesFile=", "ls-files", "-o", "--exclude-standard"],
        cwd=root,
        check=True,
        capture_output=True,
        text=True,
    )
    of_git = [path for path in shown.stdout.splitlines() if not path.endswith(".gitignore")]
    ours = [path for path in files_in(root) if not path.endswith(".gitignore")]
    assert ours == sorted(of_git), (rules, below)


# ---- what the content says


def test_the_fingerprint_is_of_paths_and_contents(tmp_path):
    one, two = put(tmp_path / "one", {"a": "1", "b": "2"}), put(tmp_path / "two", {"b": "2", "a": "1"})
    assert fingerprint(one, ["a", "b"]) == fingerprint(two, ["b", "a"])
    put(two, {"b": "3"})
    assert fingerprint(one, ["a", "b"]) != fingerprint(two, ["a", "b"])
    put(two, {"b": "2", "a": "", "c": "1"})
    assert fingerprint(one, ["a", "b"]) != fingerprint(two, ["a", "b", "c"])


def test_a_key_in_a_text_is_told_with_its_line_and_never_shown(tmp_path):
    key = "hf_" + "Ab1" * 12
    put(
        tmp_path,
        {"config.py": f"import os\n\nTOKEN = '{key}'\n", "fine.py": "hf_token = os.environ['HF_TOKEN']"},
    )
    (tmp_path / "weights.bin").write_bytes(b"\0\1" + key.encode())
    [trouble] = secrets_in(tmp_path, files_in(tmp_path))
    assert str(trouble.place) == "config.py:3"
    assert "Hugging Face" in trouble.message
    assert "os.environ" in trouble.fix
    assert key[:8] not in str(trouble)


@given(lines=st.integers(0, 6000), width=st.integers(0, 40))
@settings(max_examples=25)
def test_a_key_is_found_wherever_it_stands(tmp_path_factory, lines, width):
    folder = tmp_path_factory.mktemp("text")
    text = ("x" * width + "\n") * lines + "k = 'rpa_" + "A1" * 20 + "'\n" + "y\n" * 50
    put(folder, {"a.txt": text})
    [trouble] = secrets_in(folder, ["a.txt"])
    assert trouble.place.line == lines + 1
