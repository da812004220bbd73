"""``%flash wait|cancel|retry|logs|attach``, also after the kernel was killed."""

from __future__ import annotations

import json
import re
from pathlib import Path

from kernels import Engine, Kernel, Reply, detach, detached, wait_for


def job_of(reply: Reply) -> str:
    """Return the id of the job that a record tells of."""
    return re.findall(r"[0-9a-f]{16,}-u1", reply.displays[0].data["text/html"])[0]


def test_wait_binds_names_and_shows_what_was_printed(kernel: Kernel, flag: Path) -> None:
    detach(kernel, flag, "print('one')\nfirst = 1")
    detach(kernel, flag, "print('two')\nsecond = 2")
    flag.touch()
    assert kernel.run("%flash wait").ok().stdout.split() == ["one", "two"]
    assert kernel.value("first, second") == (1, 2)


def test_stop_ends_the_waiting_and_not_the_job(kernel: Kernel, engine: Engine, flag: Path) -> None:
    detach(kernel, flag, "waited = 1")
    reply = kernel.start("print('begun')\n%flash wait")
    kernel.wait(reply, until=lambda r: r.stdout == "begun\n")
    kernel.interrupt()
    assert kernel.wait(reply).ename == "KeyboardInterrupt"
    assert engine.jobs()[0]["status"] in {"IN_QUEUE", "IN_PROGRESS"}
    flag.touch()
    assert kernel.run("waited").ok().result == {"text/plain": "1"}


def test_wait_raises_what_a_job_failed_with(kernel: Kernel, flag: Path) -> None:
    reply = detach(kernel, flag, "1 / 0")
    flag.touch()
    waited = kernel.run(f"%flash wait {job_of(reply)}")
    assert waited.ename == "ZeroDivisionError"
    assert "1 / 0" in waited.traceback


def test_wait_for_the_job_of_a_function(kernel: Kernel) -> None:
    kernel.run(
        """
        from flash_nb import CpuLiveServerless, remote
        @remote(CpuLiveServerless(name="waited"))
        def double(x):
            print("doubles")
            return 2 * x
        job = double.submit(4)
        """
    ).ok()
    kernel.run("%flash wait {job.id}").ok()
    assert kernel.value("job.result().output") == 8
    assert kernel.run("%flash logs {job.id}").ok().stdout == "doubles\n"


def test_cancel_and_retry(kernel: Kernel, flag: Path) -> None:
    reply = detach(kernel, flag, "late = 5")
    job = job_of(reply)
    said = kernel.run(f"%flash cancel {job}").ok().stdout
    assert re.fullmatch(r"Job \d+ is being cancelled.\n", said)
    wait_for(lambda: kernel.value("0") == 0 and "⊘ cancelled" in reply.record)
    assert kernel.run("late").ename == "JobCancelledError"
    assert re.fullmatch(r"Job \d+ is over: CANCELLED.\n", kernel.run(f"%flash cancel {job}").ok().stdout)
    assert re.fullmatch(r"Job \d+ runs again.\n", kernel.run(f"%flash retry {job}").ok().stdout)
    flag.touch()
    assert kernel.run("late").ok().result == {"text/plain": "5"}
    assert "✓ completed" in reply.record


def test_retry_of_what_completed_is_refused(kernel: Kernel) -> None:
    reply = kernel.remote("1").ok()
    refused = kernel.run(f"%flash retry {job_of(reply)}")
    assert refused.ename == "BackendError"
    assert "COMPLETED" in refused.evalue


def test_cancel_all(kernel: Kernel, flag: Path) -> None:
    replies = [detach(kernel, flag, "never = 1") for _ in range(3)]
    assert kernel.run("%flash cancel --all").ok().stdout.count("is being cancelled") == 3
    wait_for(lambda: kernel.value("0") == 0 and all("⊘ cancelled" in each.record for each in replies))


def test_what_makes_no_sense_is_one_sentence(kernel: Kernel) -> None:
    assert "This notebook has no job '99999'" in kernel.run("%flash logs 99999").evalue
    assert "say which jobs" in kernel.run("%flash cancel").stderr
    assert "did you mean 'cancel'" in kernel.run("%flash cancle 1").stderr


# --- after the kernel was killed ------------------------------------------------------------------


def test_attach_fills_in_what_finished_meanwhile(kernel: Kernel, engine: Engine, flag: Path) -> None:
    kernel.run("%flash attach").ok()
    body = "class Point:\n    x = 3\nprint('done')\npoints = [Point()]\nbig = bytes(30_000_000)"
    job = job_of(detach(kernel, flag, body))
    kernel.restart()
    flag.touch()
    wait_for(lambda: next(each for each in engine.jobs() if each["id"] == job)["status"] == "COMPLETED")
    reply = kernel.run("%flash attach").ok()
    assert reply.stdout == "done\n"
    assert "✓ completed" in reply.record
    assert kernel.value("isinstance(points[0], Point), points[0].x, len(big)") == (True, 3, 30_000_000)
    assert kernel.run("%flash attach").ok().stdout == "No job of this notebook waits to be taken up.\n"


def test_attach_to_what_finished_before_the_restart_but_bound_nothing(
    kernel: Kernel, engine: Engine, flag: Path
) -> None:
    reply = detach(kernel, flag, "big = bytes(30_000_000)")
    flag.touch()
    wait_for(lambda: kernel.value("0") == 0 and "✓ completed" in reply.record)
    kernel.restart()
    kernel.run("%flash attach").ok()
    assert kernel.value("len(big)") == 30_000_000


def test_attach_to_what_still_runs(kernel: Kernel, flag: Path) -> None:
    detach(kernel, flag, "late = 5")
    kernel.restart()
    reply = kernel.run("%flash attach").ok()
    assert "running" in reply.record or "detached" in reply.record
    assert kernel.value("late").startswith("<pending late")
    flag.touch()
    assert kernel.run("late").ok().result == {"text/plain": "5"}
    assert "✓ completed" in reply.record


def test_attach_finds_the_jobs_of_a_notebook_that_was_renamed(
    kernel: Kernel, tmp_path: Path, flag: Path
) -> None:
    kernel.wait(kernel.start_as_is(detached(flag, "late = 5"), cell="ab12")).ok()
    kernel.restart()
    flag.touch()
    other, renamed = tmp_path / "other.ipynb", tmp_path / "renamed.ipynb"
    other.write_text(json.dumps({"cells": [{"id": "cd34", "source": "other"}]}))
    renamed.write_text(json.dumps({"cells": [{"id": "ab12", "source": ["other", " text"]}]}))
    kernel.run(f"import os; os.environ['JPY_SESSION_NAME'] = {str(other)!r}").ok()
    assert "No job" in kernel.run("%flash attach").ok().stdout
    kernel.run(f"os.environ['JPY_SESSION_NAME'] = {str(renamed)!r}").ok()
    assert "has been edited since" in kernel.run("%flash attach").ok().stdout
    assert kernel.run("late").ok().result == {"text/plain": "5"}
    kernel.run("del os.environ['JPY_SESSION_NAME']").ok()


def test_attach_finds_the_jobs_of_a_renamed_notebook_by_their_text_if_nobody_told_ids(
    kernel: Kernel, tmp_path: Path, flag: Path
) -> None:
    code = detached(flag, "late = 5")
    kernel.wait(kernel.start_as_is(f"# above\n{code}")).ok()
    kernel.restart()
    flag.touch()
    renamed = tmp_path / "renamed.ipynb"
    renamed.write_text(json.dumps({"cells": [{"id": "ab12", "source": f"# above\n{code}\n"}]}))
    kernel.run(f"import os; os.environ['JPY_SESSION_NAME'] = {str(renamed)!r}").ok()
    assert "edited" not in kernel.run("%flash attach").ok().stdout
    assert kernel.run("late").ok().result == {"text/plain": "5"}
    kernel.run("del os.environ['JPY_SESSION_NAME']").ok()
