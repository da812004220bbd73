"""Every detail of execution has an effect that a function, a file or a process shows.

What a function sees is compared; where time is the matter, it is waited for and only bounded from
below, or generously from above.
"""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from kernels import Engine, Kernel, is_alive, run, value, wait_for

SETUP = """
import asyncio
import pathlib
import tempfile
from flash_nb import CpuLiveServerless, NetworkVolume, PodTemplate, ScalerType, remote
"""
BARRIER = """
def meet(folder, count):
    import os, pathlib, time
    folder = pathlib.Path(folder)
    (folder / f"{os.getpid()}-{time.monotonic_ns()}").touch()
    give_up_at = time.monotonic() + 20
    while len(list(folder.iterdir())) < count and time.monotonic() < give_up_at:
        time.sleep(0.01)
    return len(list(folder.iterdir())) >= count, os.getpid()
"""


def counts(engine: Engine, name: str) -> dict[str, int]:
    (found,) = [endpoint for endpoint in engine.call("endpoints") if endpoint["name"] == name]
    counted: dict[str, int] = found["counts"]
    return counted


# --- volumes and variables ----------------------------------------------------------------------------


def test_endpoints_with_one_volume_share_its_files(kernel: Kernel) -> None:
    run(kernel, SETUP)
    run(
        kernel,
        """
        def volume_file():
            import os, pathlib
            return pathlib.Path(os.environ["RUNPOD_VOLUME_PATH"]) / "shared.txt"
        def on(**settings):
            return remote(resource_config=CpuLiveServerless(**settings))
        def write(text):
            volume_file().write_text(text)
        def read():
            return volume_file().read_text() if volume_file().exists() else None
        shared, other = NetworkVolume(name="shared"), NetworkVolume(name="other")
        await on(name="writer", networkVolume=shared)(write)("by object")
        await on(name="writer-by-id", networkVolumeId="vol_1")(write)("by id")
        found = [
            (await on(name="reader-1", networkVolume=NetworkVolume(name="shared", size=20))(read)()).output,
            (await on(name="reader-2", networkVolumeId="vol_1")(read)()).output,
            (await on(name="reader-3", networkVolume=other)(read)()).output,
            (await on(name="reader-4", networkVolumeId="vol_2")(read)()).output,
        ]
        """,
    )
    assert kernel.value("found") == ["by object", "by id", None, None]


def test_variables_are_those_of_resource_and_template_and_not_the_kernels(kernel: Kernel) -> None:
    run(kernel, SETUP)
    run(
        kernel,
        """
        import os
        os.environ["OF_KERNEL"] = "kernel"
        def seen():
            import os
            return [os.environ.get(name) for name in ("OF_KERNEL", "OF_RESOURCE", "OF_TEMPLATE", "OF_BOTH")]
        template = PodTemplate(env={"OF_TEMPLATE": "template", "OF_BOTH": "template"})
        found = []
        for settings in (
            {},
            {"env": {"OF_RESOURCE": "resource"}},
            {"template": template},
            {"env": {"OF_RESOURCE": "resource", "OF_BOTH": "resource"}, "template": template},
        ):
            varied = CpuLiveServerless(name="varied", idleTimeout=60, **settings)
            found.append((await remote(resource_config=varied)(seen)()).output)
        """,
    )
    assert kernel.value("found") == [
        [None, None, None, None],
        [None, "resource", None, None],
        [None, None, "template", "template"],
        [None, "resource", "template", "resource"],
    ]


# --- time limits --------------------------------------------------------------------------------------


def test_execution_timeout_ends_the_run_and_the_next_job_can_run(kernel: Kernel, tmp_path: Path) -> None:
    run(kernel, SETUP)
    run(
        kernel,
        f"""
        limited = CpuLiveServerless(name="limited", executionTimeoutMs=700, workersMax=1, idleTimeout=60)
        @remote(resource_config=limited)
        def work(ticks):
            import pathlib, time
            for _ in range(ticks):
                with pathlib.Path({str(tmp_path)!r}, "ticks").open("a") as file:
                    file.write("x")
                time.sleep(0.02)
            return "done"
        short, long, after = await work(1), await work(10_000), await work(1)
        """,
    )
    assert kernel.value("short.output, after.output") == ("done", "done")
    assert kernel.value("long.status, long.output") == ("TIMED_OUT", None)
    assert kernel.value("long.error").startswith("JobTimeoutError: ")
    assert kernel.value("700 <= long.executionTime < 30_000") is True
    assert len((tmp_path / "ticks").read_text()) < 1000
    run(kernel, "await work(1)")
    ticks = (tmp_path / "ticks").read_text()
    run(kernel, "await work(0)")
    assert (tmp_path / "ticks").read_text() == ticks  # nobody goes on in the background


def test_idle_workers_end_after_their_time_and_not_before(kernel: Kernel, engine: Engine) -> None:
    run(kernel, SETUP)
    run(
        kernel,
        """
        def pid():
            import os
            return os.getpid()
        def on(**settings):
            return remote(resource_config=CpuLiveServerless(**settings))(pid)
        pids = [
            (await on(name="soon", idleTimeout=1)()).output,
            (await on(name="late", idleTimeout=600)()).output,
            (await on(name="kept", idleTimeout=1, workersMin=1)()).output,
        ]
        """,
    )
    soon, late, kept = kernel.value("pids")
    wait_for(lambda: not is_alive(soon), timeout=30)
    assert is_alive(late)
    assert is_alive(kept)
    wait_for(lambda: sum(counts(engine, "soon").values()) == 0)


# --- how many workers ---------------------------------------------------------------------------------


@pytest.mark.parametrize("most", [1, 3])
def test_no_more_than_workers_max_run_at_once(kernel: Kernel, most: int) -> None:
    run(kernel, SETUP + BARRIER)
    run(
        kernel,
        f"""
        together = remote(resource_config=CpuLiveServerless(name="most-{most}", workersMax={most}))(meet)
        folder = tempfile.mkdtemp()
        outs = await asyncio.gather(*(together(folder, {most}) for _ in range(2 * {most})))
        spans = [(out.started_at, out.ended_at) for out in outs]
        """,
    )
    assert value(kernel, "[out.output[0] for out in outs]") == [True] * (2 * most)  # so many did meet
    assert kernel.value("len({out.output[1] for out in outs})") <= most
    busy = "max(sum(begin <= moment < end for begin, end in spans) for moment, _ in spans)"
    assert value(kernel, f"(lambda spans: {busy})(spans)") <= most


def test_workers_min_are_kept_after_the_first_job(kernel: Kernel, engine: Engine) -> None:
    run(kernel, SETUP)
    run(
        kernel,
        """
        @remote(resource_config=CpuLiveServerless(name="two-kept", workersMin=2, workersMax=2, idleTimeout=1))
        def nothing(): pass
        await nothing()
        """,
    )
    wait_for(lambda: counts(engine, "two-kept").get("idle") == 2, timeout=30)


# --- the scaler ---------------------------------------------------------------------------------------


def scaled(kernel: Kernel, name: str, settings: str) -> None:
    """Define `job` for at most 4 workers: it waits until as many have begun in `folder` as it is told."""
    run(kernel, SETUP + BARRIER)
    run(
        kernel,
        f"""
        @remote(resource_config=CpuLiveServerless(name={name!r}, workersMax=4, idleTimeout=60, {settings}))
        def job(folder, count):
            return meet(folder, count)
        folder = tempfile.mkdtemp()
        """,
    )


def test_queue_delay_keeps_the_second_worker_back(kernel: Kernel) -> None:
    scaled(kernel, "delayed", "scalerType=ScalerType.QUEUE_DELAY, scalerValue=2")
    run(kernel, "first, second = await asyncio.gather(job(folder, 2), job(folder, 2))")
    assert kernel.value("first.output[0], second.output[0]") == (True, True)  # it did come
    assert kernel.value("first.output[1] != second.output[1]") is True
    assert kernel.value("second.delayTime") >= 1900
    assert kernel.value("first.delayTime < second.delayTime") is True


def test_without_a_chosen_scaler_a_waiting_job_gets_its_worker_at_once(kernel: Kernel) -> None:
    """A worker of this machine costs nothing; QUEUE_DELAY of 4 s is only Flash's default."""
    scaled(kernel, "at-once", "")
    run(kernel, "await job(tempfile.mkdtemp(), 1)")  # the environment is there
    run(kernel, "first, second = await asyncio.gather(job(folder, 2), job(folder, 2))")
    assert kernel.value("first.output[0], second.output[0]") == (True, True)
    assert kernel.value("second.delayTime") < 4000


def test_request_count_bounds_the_workers(kernel: Kernel) -> None:
    scaled(kernel, "counted", "scalerType=ScalerType.REQUEST_COUNT, scalerValue=2")
    run(kernel, "outs = await asyncio.gather(*(job(folder, 2) for _ in range(4)))")
    assert kernel.value("[out.output[0] for out in outs]") == [True] * 4  # two did run at once
    assert kernel.value("len({out.output[1] for out in outs})") == 2  # for four jobs, two for each
    scaled(kernel, "counted-10", "scalerType=ScalerType.REQUEST_COUNT, scalerValue=10")
    run(kernel, "outs = await asyncio.gather(*(job(folder, 1) for _ in range(4)))")
    assert kernel.value("len({out.output[1] for out in outs})") == 1


# --- what is installed --------------------------------------------------------------------------------


def test_a_dependency_has_the_version_that_was_asked_for(kernel: Kernel) -> None:
    run(kernel, SETUP)
    run(
        kernel,
        """
        import six
        bare = CpuLiveServerless(name="bare", idleTimeout=60)
        def version():
            import six
            return six.__version__
        found = [
            (await remote(resource_config=bare, dependencies=["six==1.15.0"])(version)()).output,
            (await remote(resource_config=bare)(version)()).output == six.__version__ != "1.15.0",
        ]
        """,
    )
    assert kernel.value("found") == ["1.15.0", True]


def test_a_dependency_that_does_not_exist_is_named(kernel: Kernel) -> None:
    run(kernel, SETUP)
    run(
        kernel,
        """
        @remote(
            resource_config=CpuLiveServerless(name="nowhere"), dependencies=["flash-nb-has-no-such-project"]
        )
        def never(): pass
        out = await never()
        """,
    )
    assert kernel.value("out.status, type(out.exception).__name__") == ("FAILED", "WorkerEnvironmentError")
    assert "'flash-nb-has-no-such-project' cannot be installed" in kernel.value("out.error")


@pytest.mark.skipif(shutil.which("dpkg-query") is None, reason="needs Debian's dpkg-query")
def test_a_missing_system_dependency_is_refused_with_its_name_and_the_next_step(kernel: Kernel) -> None:
    run(kernel, SETUP)
    run(
        kernel,
        """
        debian = CpuLiveServerless(name="debian", idleTimeout=60)
        @remote(resource_config=debian, system_dependencies=["dpkg"])
        def there():
            return "ran"
        @remote(resource_config=debian, system_dependencies=["dpkg", "flash-nb-has-no-such-package"])
        def missing():
            return "ran"
        out, bad = await there(), await missing()
        """,
    )
    assert kernel.value("out.output, bad.status, bad.output") == ("ran", "FAILED", None)
    said = kernel.value("str(bad.exception)")
    assert "System packages are missing on this machine: flash-nb-has-no-such-package." in said
    assert "Install them, or let flash_nb do it: --allow-apt" in said


# --- local --------------------------------------------------------------------------------------------


def test_local_runs_here_and_makes_neither_job_nor_endpoint(kernel: Kernel, engine: Engine) -> None:
    run(kernel, SETUP + "\nimport os\nhere_only = CpuLiveServerless(name='here-only')")
    run(kernel, "@remote(resource_config=CpuLiveServerless(name='started'))\ndef f(): ...\nawait f()")
    before = len(engine.jobs())
    run(
        kernel,
        """
        @remote(resource_config=here_only, dependencies=["flash-nb-has-no-such-project"], local=True)
        async def pid():
            return os.getpid()
        @remote(resource_config=here_only, local=True)
        class Place:
            def pid(self):
                return os.getpid()
        outs = [await pid(), await Place().pid()]
        """,
    )
    assert value(kernel, "[out.output == os.getpid() for out in outs]") == [True, True]
    assert len(engine.jobs()) == before
    assert "here-only" not in {endpoint["name"] for endpoint in engine.call("endpoints")}
