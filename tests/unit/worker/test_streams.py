"""Streams: what a job writes, by whatever way, becomes its events; real processes are the judges."""

import json
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flash_nb.worker.streams import CHUNK, collapse

PRELUDE = """
import json, os, subprocess, sys, threading, time
from flash_nb.worker.streams import StreamCapture

FILE = open(sys.argv[1], "a", buffering=1)
JOB = 0
COUNT = 0

def emit(event, buffers):
    global COUNT
    COUNT += 1
    FILE.write(json.dumps({**event, "job": JOB}) + "\\n")

class Job:
    def __enter__(self):
        global JOB
        JOB += 1
        capture.begin(emit)
    def __exit__(self, *_):
        capture.end()

def wait_for(condition):
    limit = time.monotonic() + 30
    while not condition():
        assert time.monotonic() < limit, "waited 30 s in vain"
        time.sleep(0.001)

capture = StreamCapture(max_bytes=int(sys.argv[2]))
capture.install()
"""


@dataclass
class Run:
    events: list
    log: str

    def text(self, name="stdout", job=1):
        return "".join(e["text"] for e in self.events if e["name"] == name and e["job"] == job)

    def pieces(self, job=1):
        """Return (name, text) in order, neighbours of one name joined."""
        joined = []
        for event in (e for e in self.events if e["job"] == job):
            if joined and joined[-1][0] == event["name"]:
                joined[-1] = (event["name"], joined[-1][1] + event["text"])
            else:
                joined.append((event["name"], event["text"]))
        return joined


@pytest.fixture
def run(tmp_path):
    def run_script(body, *, max_bytes=10_000_000):
        script, events = tmp_path / "script.py", tmp_path / "events"
        script.write_text(PRELUDE + body)
        command = [sys.executable, script, events, str(max_bytes)]
        done = subprocess.run(command, capture_output=True, timeout=100, check=False)
        assert done.returncode == 0, done.stderr.decode()
        lines = events.read_text().splitlines() if events.exists() else []
        return Run([json.loads(line) for line in lines], done.stderr.decode())

    return run_script


def test_python_text_keeps_its_order_over_both_streams(run):
    done = run("""
with Job():
    print("a"); print("b", file=sys.stderr); print("c"); sys.stderr.writelines(["d", "e"])
""")
    assert done.pieces() == [("stdout", "a\n"), ("stderr", "b\n"), ("stdout", "c\n"), ("stderr", "de")]
    assert done.log == ""


@pytest.mark.parametrize(
    ("code", "name", "expected"),
    [
        ("os.write(1, b'x')", "stdout", "x"),
        ("os.system('echo x >&2')", "stderr", "x\n"),
        ("subprocess.run(['echo', 'x'])", "stdout", "x\n"),
        ("subprocess.run(['echo', 'x'], stdout=sys.stderr)", "stderr", "x\n"),
        ("sys.stdout.buffer.write(b'x\\n')", "stdout", "x\n"),
        ("print('x', file=sys.__stdout__)", "stdout", "x\n"),
        ("import logging; logging.basicConfig(format='%(message)s'); logging.warning('x')", "stderr", "x\n"),
        ("import ctypes; ctypes.CDLL(None).printf(b'x')", "stdout", "x"),
        ("print('\\ud800')", "stdout", "\\ud800\n"),
        ("print('x' * 300)", "stdout", "x" * 300 + "\n"),
        ("sys.stdout.reconfigure(line_buffering=True); sys.stdout.close(); print('x')", "stdout", "x\n"),
    ],
)
def test_every_way_of_writing_is_seen(run, code, name, expected):
    done = run(f"with Job():\n    {code}\n")
    assert done.pieces() == [(name, expected)]


def test_faulthandler_can_use_the_streams(run):
    done = run("import faulthandler\nwith Job():\n    faulthandler.dump_traceback()\n")
    assert "Current thread" in done.text("stderr")


def test_stream_has_the_interface_of_a_text_file(run):
    done = run("""
with Job():
    out = sys.stdout
    assert (out.encoding, out.isatty(), out.writable(), out.fileno()) == ("utf-8", False, True, 1)
    assert sys.stderr.fileno() == 2 and out.write("é") == 1 and out.write("x" * 1000) == 1000
    for wrong in (b"bytes", 5):
        try:
            out.write(wrong)
        except TypeError as error:
            assert "must be str" in str(error)
        else:
            raise AssertionError
""")
    assert done.text() == "é" + "x" * 1000


def test_flushed_text_and_children_keep_their_order(run):
    done = run("""
with Job():
    for i in range(3):
        print("python", i, flush=True)
        os.system(f"echo child {i}")
    print("end", flush=True)
with Job():
    print("a", file=sys.stderr)
    sys.stdout.flush()
    os.system("echo b >&2")
    sys.stdout.flush()
    print("c", file=sys.stderr)
""")
    assert done.text() == "".join(f"python {i}\nchild {i}\n" for i in range(3)) + "end\n"
    assert done.text("stderr", job=2) == "a\nb\nc\n"


def test_end_waits_for_nothing_and_misses_nothing(run):
    done = run("""
for _ in range(20):
    with Job():
        subprocess.run("head -c 300000 /dev/zero | tr '\\\\0' x", shell=True)
""")
    assert [len(done.text(job=job)) for job in range(1, 21)] == [300_000] * 20


def test_characters_cut_in_two_are_joined(run):
    done = run("""
with Job():
    os.write(1, b"\\xe2\\x82")
    capture.flush()
    os.write(1, b"\\xac")
    sys.stdout.buffer.write(b"\\xe2\\x82")
    sys.stdout.buffer.write(b"\\xac\\xff")
with Job():
    os.write(1, b"cut \\xe2\\x82")
with Job():
    print("clean")
""")
    assert done.text(job=1) == "€€\N{REPLACEMENT CHARACTER}"
    assert done.text(job=2) == "cut \N{REPLACEMENT CHARACTER}"
    assert done.text(job=3) == "clean\n"


def test_output_between_jobs_goes_to_the_log(run):
    done = run("""
print("early"); os.write(1, b"early too\\n")
with Job():
    print("job")
print("between"); os.system("echo between too")
with Job():
    pass
""")
    assert done.pieces(1) == [("stdout", "job\n")]
    assert done.pieces(2) == []
    assert {"early", "early too", "between", "between too"} == set(done.log.split("\n")) - {""}


def test_threads_belong_to_the_job_that_started_them(run):
    done = run("""
go, said = threading.Event(), threading.Event()
def linger():
    print("mine")
    go.wait()
    print("leftover")
    said.set()
with Job():
    thread = threading.Thread(target=linger); thread.start()
    wait_for(lambda: COUNT)
with Job():
    go.set(); said.wait(); thread.join()
    again = threading.Thread(target=print, args=["new thread"]); again.start(); again.join()
    print("main")
""")
    assert done.text(job=1) == "mine\n"
    assert done.text(job=2) == "new thread\nmain\n"
    assert done.log == "leftover\n"


def test_text_leaves_while_the_job_runs(run):
    done = run("""
with Job():
    for _ in range(5):
        before = COUNT
        print("tick")
        wait_for(lambda: COUNT > before)
        before = COUNT
        os.write(2, b"tock")
        wait_for(lambda: COUNT > before)
        time.sleep(0.1)
with Job():
    os.write(2, b"tock")
    before = COUNT
    wait_for(lambda: COUNT > before)
""")
    assert done.text() == "tick\n" * 5
    assert done.text("stderr") == "tock" * 5


def test_text_leaves_while_the_job_computes(run):
    done = run("""
with Job():
    print("now")
    limit = time.monotonic() + 30
    while not COUNT:
        assert time.monotonic() < limit
""")
    assert done.text() == "now\n"


def test_flood_arrives_whole_in_few_events(run):
    done = run("with Job():\n    for i in range(200_000): print(i)\n")
    assert done.text() == "".join(f"{i}\n" for i in range(200_000))
    assert max(len(e["text"]) for e in done.events) <= CHUNK
    assert len(done.events) < 300


def test_one_long_text_is_cut_into_events(run):
    done = run("with Job():\n    print('é' * 200_000)\n")
    assert done.text() == "é" * 200_000 + "\n"
    assert max(len(e["text"]) for e in done.events) <= CHUNK


def test_fast_progress_bar_does_not_flood(run):
    done = run("""
from tqdm import tqdm
with Job():
    for _ in tqdm(range(20_000), mininterval=0, miniters=1, ncols=60): pass
    print("done")
""")
    text = done.text("stderr")
    assert screen(text).rstrip().startswith("100%|")
    assert "20000/20000" in screen(text)
    assert len(text) < 200_000  # as written it is 1.2 million


def test_text_over_the_cap_is_counted(run):
    done = run(
        """
with Job():
    for _ in range(30): print("x" * 99_999)
with Job():
    print("fresh")
""",
        max_bytes=1_000_000,
    )
    assert len(done.text()) == 1_000_000
    assert done.text("stderr").count("[flash_nb]") == 2
    assert "has written 1 MB" in done.text("stderr")
    assert "2.0 MB of further output were dropped" in done.text("stderr")
    assert done.text(job=2) == "fresh\n"


def test_input_says_why_there_is_none(run):
    done = run("""
with Job():
    for ask in (lambda: input("name? "), sys.stdin.read, sys.stdin.readline, lambda: list(sys.stdin)):
        try:
            ask()
        except EOFError as error:
            print(error)
    print(subprocess.run(["cat"], capture_output=True, timeout=20).stdout)
""")
    assert done.text().count("A remote cell cannot ask for input") == 4
    assert done.text().startswith("name? ")
    assert done.text().endswith("b''\n")


def test_forked_children_write_through_the_pipe(run):
    done = run("""
import multiprocessing
with Job():
    print("parent")
    child = multiprocessing.get_context("fork").Process(target=print, args=["child"])
    child.start(); child.join()
    assert child.exitcode == 0
    pid = os.fork()
    if not pid:
        sys.stderr.write("forked\\n"); os._exit(0)
    os.waitpid(pid, 0)
""")
    assert sorted(done.text().split()) == ["child", "parent"]
    assert "forked\n" in done.text("stderr")  # Python 3.12 adds a warning of its own


def test_broken_emit_is_logged(run):
    done = run("""
def broken(event, buffers):
    raise OSError("connection lost")
capture.begin(broken)
os.write(1, b"x")
os.write(1, b"y" * 3_000_000)
capture.end()
with Job():
    print("fine")
""")
    assert done.text() == "fine\n"
    assert "connection lost" in done.log


def test_close_gives_the_streams_back(run):
    done = run("""
kept = sys.stdout
capture.close()
print("again", file=sys.stderr)
print("late", file=kept, flush=True)
assert type(sys.stdout).__module__ == "_io" and type(sys.stdin).__module__ == "_io"
with StreamCapture() as capture, Job():
    print("second life")
""")
    assert done.log == "again\nlate\n"
    assert done.text() == "second life\n"


def screen(text):
    """Return what a terminal shows: a carriage return overwrites, a longer line's end stays."""
    rows = []
    for line in text.split("\n"):
        row = ""
        for piece in line.split("\r"):
            row = piece + row[len(piece) :]
        rows.append(row)
    return "\n".join(rows)


@given(st.text("abé█\r\r\n"), st.text("ab\r\n"), st.text("ab\r\n"))
def test_collapsed_text_looks_the_same(text, before, after):
    assert screen(before + collapse(text) + after) == screen(before + text + after)


@pytest.mark.parametrize(
    ("text", "collapsed"),
    [
        ("\n10%\r20%\r30%", "\n30%"),
        ("\n10%\r20%\r", "\n20%\r"),
        ("\n10%\r20%\r\nnext", "\n20%\r\nnext"),
        ("\nlonger\rlong", "\nlonger\rlong"),
        ("10%\r20%\r30%", "10%\r30%"),
        ("\n\x1b[31mred\x1b[0m\rblue and long", "\n\x1b[31mred\x1b[0m\rblue and long"),
        ("\nab\r\x1b[1A\rcd", "\nab\r\x1b[1A\rcd"),
        ("\n漢\rab", "\n漢\rab"),
        ("no return", "no return"),
    ],
)
def test_collapse_only_where_it_is_safe(text, collapsed):
    assert collapse(text) == collapsed


def test_module_stands_alone(tmp_path):
    (tmp_path / "flash_worker").symlink_to(Path(__file__).parents[3] / "flash_nb" / "worker")
    code = (
        "import sys; before = set(sys.modules); "
        "from flash_worker import streams, display, shell, mpl_backend; "
        "print({n.partition('.')[0] for n in set(sys.modules) - before} - sys.stdlib_module_names)"
    )
    command = [sys.executable, "-S", "-c", code]
    done = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path, check=True)
    assert done.stdout.strip() == "{'flash_worker'}"
