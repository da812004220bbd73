"""Environments: real uv, real folders, and PyPI with packages of a few kilobytes."""

import asyncio
import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest
from filelock import FileLock

from flash_nb.engine import environments as module
from flash_nb.engine.environments import (
    CompletedRun,
    Environment,
    Environments,
    EnvironmentSpec,
    explain_install_failure,
    install_system_packages,
    missing_system_packages,
    run_command,
)
from flash_nb.errors import WorkerEnvironmentError

NOWHERE = "http://127.0.0.1:9/simple"  # the discard port: refuses at once
EMPTY = EnvironmentSpec.of(sys.executable)


def silent(_: str) -> None:
    pass


class Recorder:
    """Runs commands for real, and remembers which, and how many installs ran at once."""

    def __init__(self):
        self.commands = []
        self.installing = self.most = 0

    async def __call__(self, argv, cwd, env, on_line):
        self.commands.append(argv[1])
        self.installing += argv[1] == "pip"
        self.most = max(self.most, self.installing)
        try:
            return await run_command(argv, cwd, env, on_line)
        finally:
            self.installing -= argv[1] == "pip"


def build(folder: Path, *requirements: str, python: str = sys.executable, run=run_command) -> Environment:
    spec = EnvironmentSpec.of(python, requirements)
    return asyncio.run(_in_new(folder, lambda made: made.build(spec, silent), run))


async def _in_new(folder: Path, use: Callable[[Environments], Awaitable[Environment]], run) -> Environment:
    return await use(Environments(folder, run=run))


def failure(folder: Path, *requirements: str, python: str = sys.executable) -> WorkerEnvironmentError:
    with pytest.raises(WorkerEnvironmentError) as caught:
        build(folder, *requirements, python=python)
    assert caught.value.hint
    return caught.value


def first_line(error: WorkerEnvironmentError) -> str:
    return error.message.splitlines()[0]


def ask(environment: Environment, code: str) -> str:
    variables = environment.variables({"PATH": os.defpath})
    return subprocess.check_output([environment.python, "-c", code], text=True, env=variables).strip()


@pytest.fixture
def backend(tmp_path):
    """Make a source package whose build backend runs the given code; it needs no index."""

    def make(code: str) -> str:
        source = tmp_path / "homemade"
        source.mkdir()
        (source / "pyproject.toml").write_text(
            '[build-system]\nrequires = []\nbuild-backend = "backend"\nbackend-path = ["."]\n'
            '[project]\nname = "homemade"\nversion = "1.0"\n'
        )
        (source / "backend.py").write_text(
            f"def build_wheel(folder, settings=None, metadata=None):\n    {code}\n"
            "def build_sdist(folder, settings=None): ...\n"
        )
        return f"homemade @ {source.as_uri()}"

    return make


# ---- what is asked for


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ([], ()),
        (["", "  "], ()),
        ([" six "], ("six",)),
        (["six", "iniconfig"], ("iniconfig", "six")),
        (["Six", "six", "SIX"], ("six",)),
        (["typing.Extensions"], ("typing-extensions",)),
        (["numpy", "numpy >= 2, <3"], ("numpy<3,>=2",)),
        (["numpy>=2", "numpy<3"], ("numpy<3", "numpy>=2")),
        (["a[y,x]"], ("a[x,y]",)),
        (["a @ https://x.test/a.whl"], ("a @ https://x.test/a.whl",)),
    ],
)
def test_requirements_get_one_spelling(given, expected):
    assert EnvironmentSpec.of("3.12", given).requirements == expected
    assert EnvironmentSpec.of("3.12", reversed(given)).requirements == expected


@pytest.mark.parametrize("bad", ["-r requirements.txt", "numpy=2", "./here", "git+https://x.test/a"])
def test_what_is_not_a_requirement_is_named(bad):
    with pytest.raises(WorkerEnvironmentError) as caught:
        EnvironmentSpec.of("3.12", ["six", bad])
    assert repr(bad) in first_line(caught.value)


def test_key_is_the_same_for_the_same_environment():
    specs = [
        EnvironmentSpec.of("3.12", ["six", "iniconfig"]),
        EnvironmentSpec.of("3.12", ["IniConfig ", "six", "six"]),
    ]
    assert len({spec.key for spec in specs}) == 1
    assert len(specs[0].key) >= 16


def test_key_differs_for_another_environment(tmp_path):
    copy = tmp_path / "python"
    copy.write_text("one")
    before = EnvironmentSpec.of(copy).key
    copy.write_text("upgraded")
    keys = {before, EnvironmentSpec.of(copy).key, EMPTY.key, EnvironmentSpec.of(sys.executable, ["six"]).key}
    keys |= {EnvironmentSpec.of(python).key for python in ("3.12", "3.13", "/no/such/python")}
    assert len(keys) == 7


def test_key_sees_through_links(tmp_path):
    link = tmp_path / "python"
    link.symlink_to(sys.executable)
    assert EnvironmentSpec.of(link).key == EMPTY.key


@pytest.mark.parametrize(
    ("requirements", "covered"),
    [
        ([], True),
        (["six"], True),
        (["Six"], True),
        (["numpy"], True),
        (["numpy <3, >=2", "six"], True),
        (["numpy>=2"], False),
        (["six==1.17"], False),
        (["attrs"], False),
    ],
)
def test_covers(requirements, covered):
    spec = EnvironmentSpec.of("3.12", ["six", "numpy>=2,<3"])
    assert spec.covers(requirements) is covered


# ---- building


def test_without_requirements_no_index_is_needed(tmp_path, monkeypatch):
    monkeypatch.setenv("UV_INDEX_URL", NOWHERE)
    recorder = Recorder()
    made = build(tmp_path, run=recorder)
    assert recorder.commands == ["venv"]
    assert made.packages == {}
    assert made.seconds > 0
    assert ask(made, "import sys; print(sys.prefix)") == str(made.python.parent.parent)
    assert ask(made, "import sys; print(sys.version)") == sys.version


def test_requirements_are_installed_and_the_next_build_is_instant(tmp_path):
    recorder = Recorder()
    made = build(tmp_path, "six", "iniconfig", run=recorder)
    assert recorder.commands == ["venv", "pip"]
    assert set(made.packages) == {"six", "iniconfig"}
    assert ask(made, "import six, iniconfig; print(six.__version__)") == made.packages["six"]
    again = build(tmp_path, "iniconfig", "six", run=recorder)
    assert recorder.commands == ["venv", "pip"]
    assert again.seconds == 0.0
    assert (again.python, again.packages) == (made.python, made.packages)


def test_relative_paths_are_understood(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    made = build(Path("cache"), "six", python=os.path.relpath(sys.executable))
    assert made.spec.python == sys.executable
    assert ask(made, "import six; print(six.__version__)") == made.packages["six"]


def test_variables_are_those_of_activate(tmp_path):
    made = build(tmp_path)
    base = {"PATH": "/bin", "PYTHONHOME": "/other", "KEPT": "1"}
    assert made.variables(base) == {
        "PATH": f"{made.python.parent}{os.pathsep}/bin",
        "VIRTUAL_ENV": str(made.python.parent.parent),
        "KEPT": "1",
    }


@pytest.mark.parametrize("text", ["", "{", "[]", "{}", '{"packages": 3}', '{"packages": ["six"]}', "\x00"])
def test_a_corrupt_marker_means_building_again(text, tmp_path):
    folder = build(tmp_path).folder
    (folder / "environment.json").write_text(text)
    assert build(tmp_path).seconds > 0
    assert build(tmp_path).seconds == 0.0
    assert [each.name for each in tmp_path.iterdir() if each.is_dir()] == [EMPTY.key]


def test_half_a_build_is_done_again(tmp_path):
    (tmp_path / EMPTY.key / "venv" / "bin").mkdir(parents=True)
    assert ask(build(tmp_path), "print(1)") == "1"


def test_an_environment_without_its_python_is_built_again(tmp_path):
    build(tmp_path).python.unlink()
    assert ask(build(tmp_path), "print(1)") == "1"


def test_builds_at_the_same_time_are_one(tmp_path):
    recorder = Recorder()
    told = ([], [])

    async def both():
        made = Environments(tmp_path, run=recorder)
        spec = EnvironmentSpec.of(sys.executable, ["six"])
        return await asyncio.gather(*(made.build(spec, each.append) for each in told))

    first, second = asyncio.run(both())
    assert first is second
    assert recorder.commands == ["venv", "pip"]
    assert told[0] == told[1]
    assert told[0][-1].startswith("installed 1 package in ")


def test_processes_build_one_after_the_other(tmp_path):
    code = (
        "import asyncio, sys, pathlib\n"
        "from flash_nb.engine.environments import *\n"
        "made = Environments(pathlib.Path(sys.argv[1]))\n"
        "spec = EnvironmentSpec.of(sys.executable, ['six'])\n"
        "print(asyncio.run(made.build(spec, lambda _: None)).seconds)\n"
    )
    argv = [sys.executable, "-c", code, str(tmp_path)]
    started = [subprocess.Popen(argv, stdout=subprocess.PIPE, text=True) for _ in range(3)]
    seconds = sorted(float(process.communicate(timeout=60)[0]) for process in started)
    assert seconds[:2] == [0.0, 0.0]
    assert seconds[2] > 0


def test_waiting_for_another_process_leaves_the_loop_free(tmp_path):
    async def scenario():
        made = Environments(tmp_path)
        with FileLock(tmp_path / f"{EMPTY.key}.lock"):
            waiting = asyncio.create_task(made.build(EMPTY, silent))
            await asyncio.sleep(3 * module.LOCK_POLL_SECONDS)
            assert not waiting.done()
            await made.build(EnvironmentSpec.of(sys.executable, ["six"]), silent)
        return await waiting

    assert asyncio.run(scenario()).seconds > 0


def test_two_installs_at_once(tmp_path):
    recorder = Recorder()

    async def many():
        made = Environments(tmp_path, run=recorder)
        specs = [EnvironmentSpec.of(sys.executable, [f"six==1.{minor}"]) for minor in (14, 15, 16)]
        return await asyncio.gather(*(made.build(spec, silent) for spec in specs))

    assert [made.packages["six"] for made in asyncio.run(many())] == ["1.14.0", "1.15.0", "1.16.0"]
    assert recorder.most == 2


def test_cancelling_the_last_waiter_kills_the_whole_build(tmp_path, backend):
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    requirement = backend(
        f"import time; held = open({str(pipe)!r}, 'w'); held.write('x'); held.flush(); time.sleep(600)"
    )
    spec = EnvironmentSpec.of(sys.executable, [requirement])

    async def scenario():
        made = Environments(tmp_path / "cache")
        first = asyncio.create_task(made.build(spec, silent))
        second = asyncio.create_task(made.build(spec, silent))
        with await asyncio.to_thread(pipe.open) as reader:
            assert await asyncio.to_thread(reader.read, 1) == "x"
            first.cancel()
            await asyncio.wait([first])
            assert not second.done()
            second.cancel()
            await asyncio.wait([second])
            assert await asyncio.to_thread(reader.read) == ""  # ends only when uv's child is dead
        return first.cancelled(), second.cancelled()

    assert asyncio.run(scenario()) == (True, True)
    assert not (tmp_path / "cache" / spec.key / "environment.json").exists()


def test_a_project_around_the_cache_has_no_say(tmp_path, monkeypatch):
    (tmp_path / "pyproject.toml").write_text(
        '[project]\nname = "x"\nversion = "1"\nrequires-python = ">=3.99"\n'
        f'[tool.uv]\nindex-url = "{NOWHERE}"\n'
    )
    (tmp_path / ".python-version").write_text("3.99")
    monkeypatch.chdir(tmp_path)
    for name in ("UV_PYTHON", "VIRTUAL_ENV"):
        monkeypatch.setenv(name, str(tmp_path))
    assert set(build(tmp_path / "cache", "six").packages) == {"six"}


@pytest.mark.parametrize("where", ["UV_INDEX_URL", "UV_DEFAULT_INDEX", "PIP_INDEX_URL", "uv.toml"])
def test_the_index_of_the_machine_is_used(where, tmp_path, monkeypatch):
    monkeypatch.setenv("UV_HTTP_RETRIES", "0")
    if where == "uv.toml":
        (tmp_path / "uv").mkdir()
        (tmp_path / "uv" / where).write_text(f'index-url = "{NOWHERE}"')
        monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    else:
        monkeypatch.setenv(where, NOWHERE)
    error = failure(tmp_path / "cache", "attrs", "six")
    assert "'attrs' and 'six'" in first_line(error)
    assert "network" in first_line(error)
    assert NOWHERE in error.message


# ---- failing


@pytest.mark.parametrize(
    ("requirements", "named"),
    [
        (["nosuchpkg-xyz-flash", "six"], ["'nosuchpkg-xyz-flash'", "not on the package index"]),
        (["six==99.0"], ["'six==99.0'", "no such version"]),
        (["six>99", "iniconfig"], ["'six>99'", "no such version"]),
        (["six<1", "six>1"], ["six<1", "six>1"]),
        (["pytest==7.0", "pluggy==0.5"], ["pytest==7.0", "pluggy"]),
        (["pytest==7.0", "tox==2.0"], ["pytest==7.0", "tox==2.0", "pluggy"]),
        (["triton-windows"], ["triton-windows", "no wheel"]),
        (["six @ http://127.0.0.1:9/six-1.0-py3-none-any.whl"], ["six"]),
        (["six @ file:///nope/six-1.0-py3-none-any.whl"], ["six"]),
    ],
    ids=lambda value: value[0] if isinstance(value, list) else None,
)
def test_a_failing_install_names_the_package(requirements, named, tmp_path):
    error = failure(tmp_path, *requirements)
    assert "uv said:" in error.message
    for name in named:
        assert name in first_line(error)


def test_a_failing_build_names_the_package_and_keeps_its_last_lines(tmp_path, backend):
    error = failure(tmp_path, backend("raise SystemExit('no compiler here')"))
    assert "homemade" in first_line(error)
    assert "build failed" in first_line(error)
    assert "no compiler here" in error.message


def test_offline_is_said(tmp_path, monkeypatch):
    monkeypatch.setenv("UV_OFFLINE", "1")
    monkeypatch.setenv("UV_CACHE_DIR", str(tmp_path / "uv"))
    error = failure(tmp_path, "six")
    assert "'six'" in first_line(error)
    assert "offline" in first_line(error)


@pytest.mark.parametrize("python", ["/no/such/python", "3.2"])
def test_a_python_that_cannot_be_had_is_named(python, tmp_path):
    assert repr(python) in first_line(failure(tmp_path, python=python))


def test_a_failed_build_is_tried_again(tmp_path, backend):
    requirement = backend("raise SystemExit('broken')")
    failure(tmp_path, requirement)
    failure(tmp_path, requirement)


# What uv wrote in other releases (0.5.31 draws trees), broken into lines as a narrow terminal would.
RECORDED = {
    """\
  × No solution found when resolving dependencies:
  ╰─▶ Because pandas==2.2.0 depends on numpy{python_full_version < '3.12'}>=1.23.2,<2 and you
      require pandas==2.2.0, we can conclude that you require numpy>=1.23.2,<2.
      And because you require numpy==2.1, we can conclude that your requirements are
      unsatisfiable.
""": ["pandas==2.2.0", "numpy==2.1"],
    """\
error: No solution found when resolving dependencies
  cause: Because boto3==1.34.0 depends on botocore>=1.34.0,<1.35.0 and aiobotocore==2.5.0 depends
         on botocore>=1.29.76,<1.29.77, we can conclude that aiobotocore==2.5.0 and boto3==1.34.0
         are incompatible.
""": ["boto3==1.34.0", "aiobotocore==2.5.0", "different versions of botocore."],
    """\
  × No solution found when resolving dependencies:
  ╰─▶ Because the current Python version (3.11.7) does not satisfy Python>=3.12 and numpy==2.5.3
      depends on Python>=3.12, we can conclude that numpy==2.5.3 cannot be used.
""": ["'numpy==2.5.3'", ">=3.12", "3.11.7"],
    """\
  × No solution found when resolving dependencies:
  ╰─▶ Because tensorflow==2.3.0 has no wheels with a matching Python ABI tag (e.g., `cp311`) and
      you require tensorflow==2.3.0, we can conclude that your requirements are unsatisfiable.
""": ["'tensorflow==2.3.0'", "no wheel"],
    """\
   Building sklearn==0.0.post12
  × Failed to build `sklearn==0.0.post12`
  ├─▶ The build backend returned an error
""": ["'sklearn==0.0.post12'", "build failed"],
    """\
error: Failed to fetch: `https://nohost.invalid/simple/six/`
  Caused by: Request failed after 3 retries
  Caused by: error sending request for url (https://nohost.invalid/simple/six/)
""": ["'a' and 'b'", "network"],
    """\
   Updating https://x.test/b (HEAD)
error: Failed to download and build `b @ git+https://x.test/b`
  cause: Git operation failed
""": ["'b @ git+https://x.test/b'", "git"],
    "thread 'main' panicked at src/main.rs\n": ["'a' and 'b'"],
    "": ["'a' and 'b'"],
}


@pytest.mark.parametrize(("output", "named"), RECORDED.items(), ids=range(len(RECORDED)))
def test_other_words_of_uv_are_understood(output, named):
    error = explain_install_failure(["a", "b"], output)
    for name in named:
        assert name in first_line(error)


def test_passwords_in_addresses_are_not_shown():
    output = "error: Failed to fetch: `https://me:secret@x.test/simple/a/`\n"
    error = explain_install_failure(["a @ git+https://token@x.test/a"], output)
    assert "secret" not in error.message
    assert "token" not in error.message
    assert "****@x.test" in first_line(error)


# ---- progress


def test_progress_names_the_download_that_takes_longest(tmp_path, monkeypatch):
    lines = (
        "Using Python 3.11.7 environment at: v",
        "Resolved 9 packages in 1.26s",
        "Downloading pandas (11.8MiB)",
        "Downloading torch (780.0MiB)",
        "Downloading cpython-3.12.16-linux-x86_64-gnu (download) (31.5MiB)",
        " Downloaded torch",
        "   Building numpy==1.19.5",
        "Prepared 9 packages in 643ms",
    )

    async def replay(argv, cwd, env, on_line):
        for line in lines if argv[1] == "pip" else ():
            on_line(line)
            await asyncio.sleep(0.02)
        return CompletedRun(0, "")

    async def scenario():
        told = []
        await Environments(tmp_path, run=replay).build(EnvironmentSpec.of("3.12", ["torch"]), told.append)
        return told

    monkeypatch.setattr(module, "PROGRESS_SECONDS", 0.001)
    assert asyncio.run(scenario())[-8:] == [
        "resolving",
        "resolved 9 packages",
        "downloading pandas (12 MB)",
        "downloading torch (818 MB) and 1 more",
        "downloading torch (818 MB) and 2 more",
        "downloading cpython-3.12.16-linux-x86_64-gnu (33 MB) and 1 more",
        "building numpy==1.19.5",
        "prepared 9 packages",
    ]
    monkeypatch.setattr(module, "PROGRESS_SECONDS", 60.0)
    shutil.rmtree(tmp_path)
    assert asyncio.run(scenario()) == ["creating the environment"]


# ---- pruning


def age(environment: Environment, days: float) -> None:
    then = time.time() - days * 86_400
    os.utime(environment.folder / "environment.json", (then, then))


def prune(folder: Path, days: float) -> tuple[str, ...]:
    return asyncio.run(Environments(folder).prune(days))


def test_what_is_unused_is_pruned(tmp_path):
    made = build(tmp_path)
    age(made, 8)
    assert prune(tmp_path, 9) == ()
    assert prune(tmp_path, 7) == (made.folder.name,)
    assert not made.folder.exists()
    assert prune(tmp_path, 7) == ()


def test_asking_for_it_keeps_it(tmp_path):
    age(build(tmp_path), 8)
    build(tmp_path)
    assert prune(tmp_path, 7) == ()


def test_what_is_being_built_is_not_pruned(tmp_path):
    age(build(tmp_path), 8)
    with FileLock(tmp_path / f"{EMPTY.key}.lock"):
        assert prune(tmp_path, 7) == ()


def test_the_rest_of_a_broken_build_is_pruned(tmp_path):
    rest = tmp_path / "abc"
    rest.mkdir()
    os.utime(rest, (0, 0))
    assert prune(tmp_path, 7) == ("abc",)
    assert prune(tmp_path / "absent", 7) == ()


# ---- commands


def test_a_command_runs_where_and_as_told(tmp_path):
    lines = []
    code = "import os, sys; print(os.getcwd(), os.environ['A'], flush=True); sys.exit('bad')"
    done = asyncio.run(run_command([sys.executable, "-c", code], tmp_path, {"A": "é"}, lines.append))
    assert (done.returncode, lines) == (1, [f"{tmp_path} é", "bad"])
    assert done.output.splitlines() == lines


def test_lines_may_be_long(tmp_path):
    done = asyncio.run(run_command([sys.executable, "-c", "print('x' * 1_000_000)"], tmp_path, {}, silent))
    assert len(done.output) == 1_000_000


# ---- system packages


@pytest.mark.skipif(not shutil.which("dpkg-query"), reason="asks dpkg")
def test_missing_system_packages():
    assert asyncio.run(missing_system_packages(["no-such-thing", "dpkg", "dpkg"])) == ("no-such-thing",)
    assert asyncio.run(missing_system_packages(["dpkg"])) == ()


def test_no_system_packages_need_no_dpkg(monkeypatch):
    monkeypatch.setenv("PATH", "")
    assert asyncio.run(missing_system_packages([])) == ()
    asyncio.run(install_system_packages([], silent))


def test_elsewhere_than_on_debian_it_is_said(tmp_path):
    async def absent(argv, cwd, env, on_line):
        return await run_command([str(tmp_path / argv[0])], cwd, env, on_line)

    with pytest.raises(WorkerEnvironmentError, match=r"'ffmpeg'.*no dpkg-query"):
        asyncio.run(missing_system_packages(["ffmpeg"], absent))


@pytest.mark.parametrize("name", ["-o", "vim-", "a b", "A", "", "x;y"])
def test_only_names_reach_apt(name):
    with pytest.raises(WorkerEnvironmentError, match="not the name"):
        asyncio.run(install_system_packages([name], silent))


def play_apt(returncode, *lines):
    """Return a runner that stands in for apt: the machine that tests run on is left as it is."""
    commands = []

    async def run(argv, cwd, env, on_line):
        commands.append(" ".join(argv).partition("apt-get ")[2])
        for line in lines:
            on_line(line)
        return CompletedRun(returncode, "\n".join(lines))

    return run, commands


def test_system_packages_are_installed_with_apt():
    run, commands = play_apt(0, "Setting up ffmpeg (7:5.1) ...")
    told = []
    asyncio.run(install_system_packages(["libgl1", "ffmpeg"], told.append, run=run))
    assert commands == ["-q update", "-q install -y --no-install-recommends ffmpeg libgl1"]
    assert told


def test_a_system_package_that_cannot_be_installed_is_named():
    run, _ = play_apt(100, "E: Unable to locate package nosuch")
    with pytest.raises(WorkerEnvironmentError, match="'nosuch'") as caught:
        asyncio.run(install_system_packages(["ffmpeg", "nosuch"], silent, run=run))
    assert "'ffmpeg'" not in first_line(caught.value)


def test_the_marker_tells_what_was_built(tmp_path):
    made = build(tmp_path)
    record = json.loads((made.folder / "environment.json").read_text())
    assert record["python"] == sys.executable
    assert record["requirements"] == []
