"""Shell commands: as IPython's, live through the streams."""

import os
import signal
import subprocess
import sys
import time

import pytest

from flash_nb.worker.shell import run_shell


def test_captured_lines_have_ipythons_short_names(tmp_path):
    lines = run_shell(f"echo one; echo two >&2; echo {tmp_path}", capture=True)
    assert lines == ["one", "two", str(tmp_path)]
    assert lines.l == list(lines)
    assert lines.n == f"one\ntwo\n{tmp_path}"
    assert lines.s == f"one two {tmp_path}"
    assert lines.p == [tmp_path]


def test_no_output_is_an_empty_list():
    assert run_shell("true", capture=True) == []


def test_bytes_that_are_no_text_do_not_fail():
    assert run_shell(r"printf '\377'", capture=True) == ["\N{REPLACEMENT CHARACTER}"]


@pytest.mark.parametrize(
    ("command", "code"), [("true", 0), ("exit 3", 3), ("kill -9 $$", -9), ("nothing-here", 127)]
)
def test_exit_code_is_set(command, code, capfd):
    names = {}
    assert run_shell(command, namespace=names) is None
    assert names == {"_exit_code": code}
    assert bool(capfd.readouterr().err) == (code == 127)  # only the shell itself says something


def test_output_goes_to_the_descriptors(capfd):
    assert run_shell("echo out; echo err >&2") is None
    assert capfd.readouterr() == ("out\n", "err\n")


def test_command_reads_an_empty_stdin():
    assert run_shell("cat", capture=True) == []


def test_environment_is_the_workers(monkeypatch):
    monkeypatch.setenv("PYTHONUNBUFFERED", "")
    monkeypatch.setenv("FLASH_TEST", "here")
    assert run_shell("echo $FLASH_TEST$PYTHONUNBUFFERED", capture=True) == ["here"]


SCRIPT = """
import os, signal, sys, threading
from flash_nb.worker.shell import run_shell
from flash_nb.worker.streams import StreamCapture

signal.signal(signal.SIGINT, signal.default_int_handler)  # as the worker does: it may be ignored here
events = []
def emit(event, buffers):
    events.append(event["text"])
    if "started" in event["text"]:  # it came while the command runs
        os.kill(os.getpid(), signal.SIGINT)

with StreamCapture() as capture:
    capture.begin(emit)
    print("before")
    try:
        run_shell("trap '' INT; sleep 100 & echo started $!; wait; sleep 100")
    except KeyboardInterrupt:
        print("interrupted")
    run_shell("echo after")
    print("end")
    capture.end()
print("".join(events))
"""


def test_output_is_live_and_an_interrupt_ends_the_whole_group():
    begun = time.monotonic()
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT], capture_output=True, text=True, timeout=60, check=True
    )
    before, started, *rest = done.stdout.split("\n")
    assert (before, rest) == ("before", ["interrupted", "after", "end", "", ""])
    assert time.monotonic() - begun < 50
    wait_until_gone(int(started.split()[1]))


def wait_until_gone(pid):
    limit = time.monotonic() + 20
    while time.monotonic() < limit:
        try:
            os.kill(pid, 0)
        except ProcessLookupError:
            return
        if is_zombie(pid):  # its parent is gone, and this container's init does not reap
            return
        time.sleep(0.01)
    os.kill(pid, signal.SIGKILL)
    pytest.fail(f"process {pid} still runs")


def is_zombie(pid):
    state = subprocess.run(["ps", "-o", "stat=", "-p", str(pid)], capture_output=True, text=True, check=False)
    return state.stdout.startswith("Z")
