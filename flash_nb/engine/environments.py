"""The Python environments that workers run in: made with uv, built once, kept on disk.

Layout, one folder for each `EnvironmentSpec.key` under the folder of `Environments`::

    <key>.lock                     held while somebody looks at, builds or prunes the folder
    <key>/pyproject.toml           an empty workspace: see `_FENCE`
    <key>/venv/                    the virtual environment
    <key>/environment.json         written last: without it the build was cut short and is done again;
                                   its date says when the environment was last asked for

The rest of the module is what one build needs: running a command, telling uv's progress, saying in
one sentence why uv failed, and the system packages that only apt can bring.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import json
import os
import re
import shutil
import signal
import sysconfig
import textwrap
import time
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from flash_nb import uv
from flash_nb.errors import WorkerEnvironmentError

Progress = Callable[[str], None]

FORMAT = 1  # raise it when a folder made by an older flash_nb cannot be used any more
INSTALLS_AT_ONCE = 2
PROGRESS_SECONDS = 0.25
LOCK_POLL_SECONDS = 0.05
KEPT_LINES = 2_000  # of a command's output: enough for any resolver message, not for a runaway build
SHOWN_LINES = 15

_ONE_AT_A_TIME = {"UV_CONCURRENT_DOWNLOADS": "1"}

_MARKER = "environment.json"
# uv takes settings from the nearest project above its working directory. The cache may lie inside a
# user's project, so each environment is a workspace of its own. `--no-config` would do as much, but
# it also hides the machine's own settings (~/.config/uv), and with them a company's index.
_FENCE = "[tool.uv.workspace]\n"


# ---- what is asked for ----------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class EnvironmentSpec:
    """What a worker needs: a Python and a set of requirements. Make it with `of`.

    Attributes:
        python: Path of an interpreter, or a version such as ``"3.12"``.
        requirements: PEP 508 strings as `normalise` writes them.
    """

    python: str
    requirements: tuple[str, ...] = ()

    @classmethod
    def of(cls, python: str | os.PathLike[str], requirements: Iterable[str] = ()) -> EnvironmentSpec:
        """Return the spec for these requirements, whatever their order and spelling.

        Raises:
            WorkerEnvironmentError: One of them is not a requirement.
        """
        name = os.fspath(python)
        absolute = os.path.abspath(name) if _is_path(name) else name  # noqa: PTH100 - a venv's link stays
        return cls(absolute, normalise(requirements))

    @property
    def key(self) -> str:
        """Name of the environment on disk: equal for specs that one environment can serve."""
        facts = [FORMAT, _python_identity(self.python), sysconfig.get_platform(), *self.requirements]
        return hashlib.sha256(json.dumps(facts).encode()).hexdigest()[:20]

    def covers(self, requirements: Iterable[str]) -> bool:
        """Tell whether these requirements ask for nothing beyond this spec's own."""
        asked = tuple(requirements)
        own = self.requirements
        return set(asked) <= set(own) or normalise((*own, *asked)) == own


def normalise(requirements: Iterable[str]) -> tuple[str, ...]:
    """Return the requirements in one spelling, sorted, each once.

    A bare name is left out where the same package is also asked for with a version or an extra. Two
    different versions of one package both stay: uv then says that they contradict each other.

    Raises:
        WorkerEnvironmentError: One of them is not a requirement.
    """
    texts = [stripped for text in requirements if (stripped := text.strip())]
    if not texts:
        return ()
    names = {canonical: name for name, canonical in map(_parse, texts)}
    detailed = {name for canonical, name in names.items() if canonical != name}
    return tuple(sorted(canonical for canonical in names if canonical not in detailed))


def _parse(text: str) -> tuple[str, str]:
    """Return the canonical name in a requirement, and the requirement in canonical spelling."""
    from packaging.requirements import InvalidRequirement, Requirement
    from packaging.utils import canonicalize_name

    try:
        requirement = Requirement(text)
    except InvalidRequirement as error:
        raise WorkerEnvironmentError(
            f"The dependency {text!r} is not a requirement: {str(error).splitlines()[0]}.",
            hint="Write a name ('numpy'), a name with versions ('numpy>=2,<3'), or a name with an address "
            "('pkg @ git+https://…').",
        ) from None
    requirement.name = canonicalize_name(requirement.name)
    return requirement.name, str(requirement)


def _is_path(python: str) -> bool:
    return os.sep in python


def _python_identity(python: str) -> list[str | int]:
    """Return what tells interpreters apart: for a path the real file, its size and its date.

    Running it for its version would take longer than building an empty environment, and an upgrade
    in place changes the file. The Python of a virtual environment is the one it was made from.
    """
    if not _is_path(python):
        return [python]
    real = Path(python).resolve()
    try:
        status = real.stat()
    except OSError:  # the build says so in full
        return [str(real)]
    return [str(real), status.st_size, status.st_mtime_ns]


# ---- what is had ----------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Environment:
    """An environment that exists.

    Attributes:
        spec: What was asked for.
        folder: The environment's folder in the cache.
        python: The interpreter to start workers with.
        packages: Version of each installed distribution, by canonical name.
        seconds: What building it took; 0.0 when it was there already.
    """

    spec: EnvironmentSpec
    folder: Path
    python: Path
    packages: Mapping[str, str]
    seconds: float

    def variables(self, base: Mapping[str, str]) -> dict[str, str]:
        """Return `base` as the environment's ``activate`` would change it."""
        programs = self.python.parent
        variables = {name: value for name, value in base.items() if name != "PYTHONHOME"}
        variables["VIRTUAL_ENV"] = str(programs.parent)
        variables["PATH"] = os.pathsep.join(filter(None, (str(programs), base.get("PATH", os.defpath))))
        return variables


def _interpreter(folder: Path) -> Path:
    return folder / "venv" / "bin" / "python"


def _put_aside(folder: Path) -> Path | None:
    """Rename what is left of an earlier build, if anything, and return where it is."""
    return folder.rename(folder.with_name(f"{folder.name}.{time.time_ns()}")) if folder.exists() else None


def _prepare(folder: Path) -> None:
    folder.mkdir(parents=True)
    (folder / "pyproject.toml").write_text(_FENCE)


def _load(folder: Path, spec: EnvironmentSpec) -> Environment | None:
    """Return the finished environment in this folder and note its use; None if there is none."""
    marker = folder / _MARKER
    python = _interpreter(folder)
    try:
        packages = json.loads(marker.read_bytes())["packages"]
        environment = Environment(spec, folder, python, dict(packages), 0.0)
        os.utime(marker)
    except (OSError, ValueError, KeyError, TypeError):  # absent, cut short, or somebody else's file
        return None
    return environment if python.exists() else None  # its base Python may have been removed since


def _save(environment: Environment) -> None:
    marker = environment.folder / _MARKER
    half = marker.with_suffix(".half")
    record = {
        "python": environment.spec.python,
        "requirements": environment.spec.requirements,
        "packages": dict(environment.packages),
        "seconds": round(environment.seconds, 3),
    }
    half.write_text(json.dumps(record, indent=1))
    half.replace(marker)


def _installed(folder: Path) -> dict[str, str]:
    """Return name and version of what lies in the environment, by its metadata: uv's words may change."""
    from importlib.metadata import distributions

    from packaging.utils import canonicalize_name

    sites = [str(site) for site in (folder / "venv" / "lib").glob("python*/site-packages")]
    found = distributions(path=sites)
    return dict(sorted((canonicalize_name(each.metadata["Name"]), each.version) for each in found))


# ---- running a command ----------------------------------------------------------------------------


class CompletedRun(NamedTuple):
    """A command that ended, and the last lines that it wrote to either stream."""

    returncode: int
    output: str


Runner = Callable[[Sequence[str], Path, Mapping[str, str], Callable[[str], None]], Awaitable[CompletedRun]]
"""Runs ``(argv, cwd, env, on_line)``, gives each line to `on_line`, stops everything when cancelled."""


async def run_command(
    argv: Sequence[str], cwd: Path, env: Mapping[str, str], on_line: Callable[[str], None]
) -> CompletedRun:
    """Run a command in a process group of its own, which does not outlive a cancellation.

    Raises:
        FileNotFoundError: There is no such program.
    """
    process = await asyncio.create_subprocess_exec(
        *argv,
        cwd=cwd,
        env=env,
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
        start_new_session=True,
    )
    kept: deque[str] = deque(maxlen=KEPT_LINES)
    assert process.stdout is not None
    try:
        async for line in _lines(process.stdout):
            kept.append(line)
            on_line(line)
        returncode = await process.wait()
    finally:
        if process.returncode is None:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            await process.wait()
    return CompletedRun(returncode, "\n".join(kept))


async def _lines(stream: asyncio.StreamReader) -> AsyncIterator[str]:
    """Yield lines of any length (`StreamReader.readline` gives up at 64 KiB; compilers do not)."""
    rest = b""
    while chunk := await stream.read(65_536):
        *lines, rest = (rest + chunk).split(b"\n")
        for line in lines:
            yield line.decode(errors="replace")
    if rest:
        yield rest.decode(errors="replace")


# ---- building -------------------------------------------------------------------------------------


class Environments:
    """Builds environments, and finds those already built.

    Args:
        folder: The cache. Any number of processes may share it.
        run: How commands are run.
    """

    def __init__(self, folder: Path, *, run: Runner = run_command) -> None:
        self._folder = folder.absolute()  # uv runs in another directory
        self._run = run
        self._builds: dict[str, _SharedBuild] = {}
        self._installs = asyncio.Semaphore(INSTALLS_AT_ONCE)

    async def build(
        self, spec: EnvironmentSpec, on_progress: Progress, *, parallel: bool = True
    ) -> Environment:
        """Return the environment for `spec`, building it if need be.

        Callers that ask for the same environment wait for one build; it is stopped when the last of
        them is cancelled.

        Args:
            spec: What is needed.
            on_progress: Gets short phrases such as ``"downloading torch (818 MB)"``, a few a second.
            parallel: Download packages at the same time; else one after the other. Who asks first decides.

        Raises:
            WorkerEnvironmentError: It cannot be built; the first sentence says what is at fault.
        """
        key = spec.key
        build = self._builds.get(key)
        if build is None or build.closed:
            build = self._builds[key] = _SharedBuild(
                lambda tell: self._find_or_make(key, spec, tell, parallel=parallel)
            )
        try:
            return await build.join(on_progress)
        finally:
            if build.closed and self._builds.get(key) is build:
                del self._builds[key]

    async def prune(self, max_age_days: float) -> tuple[str, ...]:
        """Remove what nobody asked for in so many days, and return the keys.

        A worker may outlive its last `build`: let the age be longer than any worker lives.
        """
        return await asyncio.to_thread(_prune, self._folder, time.time() - max_age_days * 86_400)

    async def _find_or_make(
        self, key: str, spec: EnvironmentSpec, tell: Progress, *, parallel: bool
    ) -> Environment:
        folder = self._folder / key
        async with _locked(folder):
            return _load(folder, spec) or await self._make(folder, spec, tell, parallel=parallel)

    async def _make(
        self, folder: Path, spec: EnvironmentSpec, tell: Progress, *, parallel: bool
    ) -> Environment:
        begun = time.monotonic()
        if stale := _put_aside(folder):  # moved first: a thread cannot be cancelled, a build can
            await asyncio.to_thread(shutil.rmtree, stale, ignore_errors=True)
        _prepare(folder)
        with _Throttle(tell) as say:
            say("creating the environment")
            await self._create(folder, spec, say)
            if spec.requirements:
                await self._install(folder, spec, say, parallel=parallel)
        packages = await asyncio.to_thread(_installed, folder) if spec.requirements else {}
        seconds = time.monotonic() - begun
        environment = Environment(spec, folder, _interpreter(folder), packages, seconds)
        _save(environment)
        if packages:
            tell(f"installed {len(packages)} package{'s' * (len(packages) != 1)} in {seconds:.1f} s")
        return environment

    async def _create(self, folder: Path, spec: EnvironmentSpec, say: Progress) -> None:
        done = await self._uv(folder, "venv", "--no-project", "--python", spec.python, "venv", say=say)
        if done.returncode:
            raise explain_python_failure(spec.python, done.output)

    async def _install(self, folder: Path, spec: EnvironmentSpec, say: Progress, *, parallel: bool) -> None:
        if self._installs.locked():
            say("waiting for other installs to end")
        async with self._installs:
            say("resolving")
            python = str(_interpreter(folder))
            argv = ("pip", "install", "--python", python, *spec.requirements)
            done = await self._uv(folder, *argv, say=say, variables={} if parallel else _ONE_AT_A_TIME)
        if done.returncode:
            raise explain_install_failure(spec.requirements, done.output)

    async def _uv(
        self, folder: Path, *arguments: str, say: Progress, variables: Mapping[str, str] | None = None
    ) -> CompletedRun:
        argv = (uv.program(), *arguments)
        environment = uv.variables(os.environ) | dict(variables or {})
        return await self._run(argv, folder, environment, uv.Progress(say).line)


class _SharedBuild:
    """One build that any number of callers wait for."""

    def __init__(self, start: Callable[[Progress], Coroutine[Any, Any, Environment]]) -> None:
        self._listeners: list[Progress] = []
        self._abandoned = False
        self._task = asyncio.create_task(start(self._tell))

    @property
    def closed(self) -> bool:
        """True once it ended or nobody waits for it: who comes now needs a new one."""
        return self._abandoned or self._task.done()

    async def join(self, on_progress: Progress) -> Environment:
        """Wait for the end; the last one to give up stops the build and sees it stopped."""
        self._listeners.append(on_progress)
        try:
            return await asyncio.shield(self._task)
        finally:
            self._listeners.remove(on_progress)
            if not self._listeners and not self._task.done():
                self._abandoned = True
                self._task.cancel()
                await asyncio.wait([self._task])

    def _tell(self, phrase: str) -> None:
        for listener in self._listeners:
            listener(phrase)


@contextlib.asynccontextmanager
async def _locked(folder: Path) -> AsyncIterator[None]:
    """Hold the folder against other processes, without holding up the event loop."""
    from filelock import FileLock, Timeout

    folder.parent.mkdir(parents=True, exist_ok=True)
    lock = FileLock(_lock_path(folder))
    while True:
        with contextlib.suppress(Timeout):
            lock.acquire(timeout=0)
            break
        await asyncio.sleep(LOCK_POLL_SECONDS)
    try:
        yield
    finally:
        lock.release()


def _lock_path(folder: Path) -> Path:
    return folder.with_name(f"{folder.name}.lock")


def _prune(cache: Path, before: float) -> tuple[str, ...]:
    folders = sorted(each for each in cache.glob("*") if each.is_dir())
    return tuple(folder.name for folder in folders if _remove_old(folder, before))


def _remove_old(folder: Path, before: float) -> bool:
    """Remove the folder if it was last used before this time and nobody is at work on it."""
    from filelock import FileLock, Timeout

    try:
        if _last_use(folder) >= before:
            return False
        with FileLock(_lock_path(folder), timeout=0):
            if _last_use(folder) >= before:  # somebody came between
                return False
            (folder / _MARKER).unlink(missing_ok=True)  # first: a removal cut short leaves no marker
            shutil.rmtree(folder, ignore_errors=True)
    except (Timeout, FileNotFoundError):  # it is at work, or gone already
        return False
    return True


def _last_use(folder: Path) -> float:
    marker = folder / _MARKER
    return (marker if marker.exists() else folder).stat().st_mtime


# ---- telling the progress -------------------------------------------------------------------------


class _Throttle:
    """Passes on a phrase each `PROGRESS_SECONDS`; of those in between, the last."""

    def __init__(self, tell: Progress) -> None:
        self._tell = tell
        self._waiting: str | None = None
        self._timer: asyncio.TimerHandle | None = None

    def __enter__(self) -> Progress:
        return self._say

    def __exit__(self, *_: object) -> None:
        if self._timer is not None:
            self._timer.cancel()

    def _say(self, phrase: str) -> None:
        self._waiting = phrase
        if self._timer is None:
            self._pass_on()

    def _pass_on(self) -> None:
        self._timer = None
        if self._waiting is not None:
            phrase, self._waiting = self._waiting, None
            self._timer = asyncio.get_running_loop().call_later(PROGRESS_SECONDS, self._pass_on)
            self._tell(phrase)


# ---- saying why uv failed -------------------------------------------------------------------------


def explain_install_failure(requirements: Sequence[str], output: str) -> WorkerEnvironmentError:
    """Return an error whose first sentence names what is at fault, from what uv wrote."""
    failure = uv.explain(requirements, output)
    return _error(failure.sentence, "uv", failure.said, hint=failure.hint)


def explain_python_failure(python: str, output: str) -> WorkerEnvironmentError:
    """Return the error for a Python that uv cannot make an environment with."""
    return _error(
        f"No environment can be made with Python {python!r}.",
        "uv",
        uv.error_lines(output),
        hint="Ask for a Python that is installed here (`uv python list` shows them) or that uv can download.",
    )


def _error(sentence: str, program: str, lines: Sequence[str], *, hint: str) -> WorkerEnvironmentError:
    shown = textwrap.dedent("\n".join(lines[-SHOWN_LINES:]))
    message = f"{sentence}\n{program} said:\n{textwrap.indent(shown, '  ')}"
    return WorkerEnvironmentError(uv.without_secrets(message), hint=hint)


# ---- system packages ------------------------------------------------------------------------------

# Names only: apt would read "x-" as "remove x", and a leading "-" as an option.
_SYSTEM_PACKAGE = re.compile(r"[a-z0-9][a-z0-9.+-]*[a-z0-9.+]")
_NO_DEBIAN = "Only Debian and Ubuntu are known here: install them by hand, or leave them out of the function."


async def missing_system_packages(names: Iterable[str], run: Runner = run_command) -> tuple[str, ...]:
    """Return those of these Debian packages that are not installed, sorted.

    Raises:
        WorkerEnvironmentError: A name is not one, or this machine has no dpkg.
    """
    wanted = _system_package_names(names)
    if not wanted:
        return ()
    argv = ("dpkg-query", "-W", "-f", "${Package} ${db:Status-Status}\n", *wanted)
    done = await _run_debian(argv, wanted, run, _ignore)
    present = {line.split()[0] for line in done.output.splitlines() if line.endswith(" installed")}
    return tuple(name for name in wanted if name not in present)


async def install_system_packages(
    names: Iterable[str], on_progress: Progress, *, run: Runner = run_command
) -> None:
    """Install Debian packages with apt-get, as root or through sudo. The caller has asked the user.

    A cancelled caller stops waiting, but apt goes on: killed half-way, dpkg must be repaired by hand.

    Raises:
        WorkerEnvironmentError: apt-get is absent, or could not install them.
    """
    wanted = _system_package_names(names)
    if wanted:
        await asyncio.shield(_apt_install(wanted, on_progress, run))


async def _apt_install(wanted: Sequence[str], on_progress: Progress, run: Runner) -> None:
    apt = ("apt-get", "-q") if os.geteuid() == 0 else ("sudo", "-n", "apt-get", "-q")
    with _Throttle(on_progress) as say:

        def on_line(line: str) -> None:
            if step := re.match(r"(Unpacking|Setting up) (\S+)", line):
                say(f"{step[1].lower()} {step[2]}")

        say("reading the lists of system packages")
        await _run_debian((*apt, "update"), wanted, run, _ignore)  # an old list may still do
        install = (*apt, "install", "-y", "--no-install-recommends", *wanted)
        done = await _run_debian(install, wanted, run, on_line)
    if done.returncode:
        unknown = sorted(set(re.findall(r"Unable to locate package (\S+)", done.output)))
        sentence = f"The system packages {uv.listed(unknown or wanted)} cannot be installed."
        hint = f"Try it in a terminal: sudo apt-get install {' '.join(wanted)}"
        raise _error(sentence, "apt-get", done.output.splitlines(), hint=hint)


def _system_package_names(names: Iterable[str]) -> tuple[str, ...]:
    wanted = tuple(sorted(set(names)))
    for name in wanted:
        if not _SYSTEM_PACKAGE.fullmatch(name):
            raise WorkerEnvironmentError(
                f"{name!r} is not the name of a Debian package.", hint="Write names alone, such as 'ffmpeg'."
            )
    return wanted


async def _run_debian(
    argv: Sequence[str], wanted: Sequence[str], run: Runner, on_line: Callable[[str], None]
) -> CompletedRun:
    variables = {**os.environ, "LC_ALL": "C", "DEBIAN_FRONTEND": "noninteractive"}
    try:
        return await run(argv, Path("/"), variables, on_line)
    except FileNotFoundError:
        raise WorkerEnvironmentError(
            f"The system packages {uv.listed(wanted)} are needed, but this machine has no {argv[0]}.",
            hint=_NO_DEBIAN,
        ) from None


def _ignore(_: str) -> None:
    """Let a line go by."""
