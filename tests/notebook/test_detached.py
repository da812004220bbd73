"""Detached cells: they return at once, and their names wait only where they are read."""

from __future__ import annotations

from pathlib import Path

import pytest
from kernels import Kernel, detach, wait_for, waiting


def test_names_are_pending_and_come_with_a_cell_after_the_end(kernel: Kernel, flag: Path) -> None:
    reply = detach(kernel, flag, "late = 5")
    assert "completed" not in reply.record
    assert kernel.value("late").startswith("<pending late: job ")
    flag.touch()
    # `value` runs no cell: the record changes while the kernel is idle.
    wait_for(lambda: kernel.value("late").startswith("<pending") and "✓ completed" in reply.record)
    kernel.run("0").ok()
    assert kernel.value("type(late).__name__, late") == ("int", 5)


def test_what_it_printed_comes_with_the_cell_after_its_end(kernel: Kernel, flag: Path) -> None:
    early = "print('early', flush=True)\n"
    reply = kernel.run(
        f"%%flash_remote --detach\n{early}{waiting(flag)}print('in the end')\nprinted = 1"
    ).ok()
    wait_for(lambda: kernel.run("0").ok().stdout == "" and "running" in reply.record)
    flag.touch()
    # What comes before the job is known to be safe is still seen in its own cell.
    assert reply.stdout + kernel.run("printed").ok().stdout == "early\nin the end\n"


@pytest.mark.parametrize(
    "read",
    [
        "late + 1",
        "def double(): return late * 2\ndouble() - 4",
        "from __future__ import annotations\nlate + 1",
        "get_late() + 1",
        "%time late + 1",
        "eval('late') + 1",
        "[late][0] + 1",
        "if True:\n    read = late\nread + 1",
        "late += 1\nlate",
        "for _ in range(2):\n    late = late\nlate + 1",
        "class Read:\n    late = late\nRead.late + 1",
    ],
)
def test_a_read_waits(kernel: Kernel, flag: Path, read: str) -> None:
    kernel.run("def get_late():\n    return late").ok()
    detach(kernel, flag, "late = 5")
    reply = kernel.start(read)
    other = kernel.start("untouched = 1")
    assert not reply.done
    flag.touch()
    assert kernel.wait(reply).ok().result == {"text/plain": "6"}
    kernel.wait(other).ok()


def test_the_reader_sees_the_value_itself(kernel: Kernel, flag: Path) -> None:
    detach(kernel, flag, "class Point:\n    x = 3\npoints = [Point()]")
    reply = kernel.start("type(points).__name__, isinstance(points[0], Point), points[0].x")
    flag.touch()
    assert kernel.wait(reply).ok().result == {"text/plain": "('list', True, 3)"}


def test_a_remote_cell_waits_for_what_it_sends(kernel: Kernel, flag: Path) -> None:
    detach(kernel, flag, "late = 5")
    reply = kernel.start("%%flash_remote\nlate + 1")
    flag.touch()
    assert kernel.wait(reply).ok().result == {"text/plain": "6"}


def test_what_does_not_read_does_not_wait(kernel: Kernel, flag: Path) -> None:
    detach(kernel, flag, "late = 5")
    kernel.run("def later(): return late\n").ok()
    kernel.run("late2 = 'late'").ok()
    assert "<pending late" in kernel.run("repr(globals()['late'])").ok().result["text/plain"]
    flag.touch()
    assert kernel.run("later()").ok().result == {"text/plain": "5"}


def test_a_name_bound_anew_stays_as_it_is(kernel: Kernel, flag: Path) -> None:
    reply = detach(kernel, flag, "mine = 5\ntheirs = 6")
    kernel.run("mine = 'kept'").ok()
    flag.touch()
    assert kernel.run("theirs").ok().result == {"text/plain": "6"}
    assert kernel.value("mine") == "kept"
    assert "kept yours" in reply.displays[0].data["text/html"]


def test_a_failure_is_raised_where_a_name_is_read(kernel: Kernel, flag: Path) -> None:
    reply = detach(kernel, flag, "print(1)\nbefore = 2\n1 / 0\nnever = 3")
    flag.touch()
    read = kernel.run("x = never")
    assert (read.status, read.ename) == ("error", "ZeroDivisionError")
    assert "1 / 0" in read.traceback
    assert "pending.py" not in read.traceback
    assert "ZeroDivisionError" in reply.record
    assert kernel.value("before") == 2
    assert "<pending never: job" in kernel.run("repr(globals()['never'])").ok().result["text/plain"]


def test_a_failure_is_raised_inside_the_statement_that_reads(kernel: Kernel, flag: Path) -> None:
    detach(kernel, flag, "1 / 0\nnever = 3")
    flag.touch()
    caught = "try:\n    never\nexcept ZeroDivisionError as error:\n    print('caught', error)"
    assert kernel.run(caught).ok().stdout == "caught division by zero\n"
    assert kernel.run("never").ename == "ZeroDivisionError"


def test_what_is_bound_or_skipped_before_it_is_read_does_not_wait(kernel: Kernel, flag: Path) -> None:
    detach(kernel, flag, "skipped = bound = 5")
    assert kernel.run("bound = 1\nbound").ok().result == {"text/plain": "1"}
    kernel.run("if False:\n    skipped + 1").ok()
    kernel.run("%flash cancel --all").ok()


def test_stop_while_waiting_leaves_the_job(kernel: Kernel, flag: Path) -> None:
    detach(kernel, flag, "late = 5")
    reply = kernel.start("print('waits')\nlate + 1")
    kernel.wait(reply, until=lambda r: r.stdout == "waits\n")
    kernel.interrupt()
    assert kernel.wait(reply).ename == "KeyboardInterrupt"
    flag.touch()
    assert kernel.run("late").ok().result == {"text/plain": "5"}
