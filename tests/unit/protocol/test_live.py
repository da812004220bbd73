"""Our jobs as Flash's function requests: there, executed as an official worker does, and back."""

from __future__ import annotations

import base64
import json
import pickle
import subprocess
import sys

import pytest
from real import call, cell

from flash_nb.protocol import live
from flash_nb.worker import frames
from flash_nb.worker.codec import decode, encode, never_portable

WORKER = """
import asyncio, base64, contextlib, io, json, pickle, sys

async def execute(request):
    names = {}
    exec(request["function_code"], names)
    args = [pickle.loads(base64.b64decode(text)) for text in request["args"]]
    text = io.StringIO()
    with contextlib.redirect_stdout(text), contextlib.redirect_stderr(text):
        result = await names[request["function_name"]](*args)
    encoded = base64.b64encode(pickle.dumps(result)).decode()
    return {"success": True, "result": encoded, "error": None, "stdout": text.getvalue()}

async def main():
    out = [await execute(request) for request in json.load(sys.stdin)]
    print(json.dumps(out))

asyncio.run(main())
"""


def run(*requests: dict) -> list[live.Outcome]:
    """Have a process that knows nothing of flash_nb answer requests, one after the other."""
    done = subprocess.run(
        [sys.executable, "-c", WORKER],
        input=json.dumps(requests),
        capture_output=True,
        text=True,
        check=False,
    )
    assert not done.returncode, done.stderr
    return [live.result_of(response) for response in json.loads(done.stdout)]


def request_of(job, **given) -> dict:
    return live.function_request(job.request, job.buffers, **given)


def text_of(outcome: live.Outcome) -> str:
    return "".join(event["text"] for _, event in outcome.events if event["type"] == "stream")


def value_of(outcome: live.Outcome):
    assert outcome.header["ok"], outcome.header["error"]["text"]
    return decode(outcome.buffers[: outcome.header["counts"][0]], lambda name: None)


def test_a_function_comes_back_with_its_value_and_its_text():
    (outcome,) = run(request_of(call("def f(x):\n    print('x is', x)\n    return {'y': x * 2}", 21)))
    assert value_of(outcome) == {"y": 42}
    assert text_of(outcome) == "x is 21\n"


def test_modules_come_along_and_leave_those_of_the_worker_alone():
    def job(source: str) -> dict:
        made = call("def f():\n    import base64 as mine, later\n    return mine.x, later.__file__")
        items = [("base64", source), ("later", "")]
        made.request["modules"] = [
            {"name": name, "file": f"/my/{name}.py", "source": text, "package": False, "digest": text}
            for name, text in items
        ]
        return request_of(made)

    # The worker's own loop imports base64, and uses it after each job.
    outcomes = run(job("x = 1"), job("x = 2"), request_of(call("def f():\n    import later")))
    assert [value_of(outcome) for outcome in outcomes[:2]] == [(1, "/my/later.py"), (2, "/my/later.py")]
    assert outcomes[2].header["error"]["type"] == "ModuleNotFoundError"


def test_a_cell_brings_its_names_its_displays_and_what_its_commands_print():
    source = "import os\nprint('a', flush=True)\nos.system('echo b')\ndisplay(y)\nx = y + 1\n"
    (outcome,) = run(request_of(cell(source, "x", values={"y": 1})))
    assert [item["name"] for item in outcome.header["namespace"]] == ["x"]
    assert text_of(outcome) == "a\nb\n"
    assert [event["data"]["text/plain"] for _, event in outcome.events if event["type"] == "display"] == ["1"]


def test_what_the_code_raises_is_its_result():
    (outcome,) = run(request_of(call("def f():\n    return 1 / 0")))
    error = outcome.header["error"]
    assert (outcome.header["ok"], error["type"], error["message"]) == (
        False,
        "ZeroDivisionError",
        "division by zero",
    )
    assert error["chain"][0]["frames"][-1]["file"] == "<code>"


def test_a_generator_sends_items_and_their_list():
    (outcome,) = run(request_of(call("def f():\n    yield 1\n    yield 2")))
    assert value_of(outcome) == [1, 2]
    assert [event["index"] for _, event in outcome.events] == [0, 1]


def test_an_object_keeps_its_state_between_calls():
    source = "class C:\n    def __init__(self, n): self.n = n\n    def add(self):\n        self.n += 1\n"
    source += "        return self.n"
    request = {
        "execution_type": "class",
        "class": "C",
        "instance": "C_1",
        "method": "add",
        "constructor": {"args": [1], "kwargs": {}},
        "namespace": [{"name": "C", "source": source, "filename": "<code>", "first_line": 1}],
        "namespace_buffers": 0,
        "args": [],
        "kwargs": {},
    }
    buffers = encode(10, never_portable)
    sent = live.function_request(request, buffers)
    assert (sent["instance_id"], sent["create_new_instance"]) == ("C_1", False)
    anew = live.function_request(request, buffers, released=["C_1"])
    assert [value_of(outcome) for outcome in run(sent, sent, anew)] == [11, 12, 11]


def test_dependencies_are_named_for_the_worker_to_install():
    sent = request_of(call("def f(): pass"), requirements={"b", "a>=1"}, system=["ffmpeg"], accelerate=False)
    assert (sent["dependencies"], sent["system_dependencies"]) == (["a>=1", "b"], ["ffmpeg"])
    assert sent["accelerate_downloads"] is False
    assert sent["execution_type"] == "function"


def test_a_request_is_small():
    assert len(json.dumps(request_of(call("def f(): pass")))) < 80_000


@pytest.mark.parametrize(
    ("response", "said"),
    [
        (
            {"success": False, "error": "Failed tasks: no\nTraceback", "stdout": "pip says"},
            "Failed tasks: no",
        ),
        ({"success": False, "result": "Function 'f' not found", "error": None}, "Function 'f' not found"),
        ({"success": True, "result": None}, "cannot be read"),
        ({"success": True, "result": "!!"}, "cannot be read"),
        ({"success": True, "result": live._pickled(b"")}, "interrupted"),
        ("hello", "does not take Flash's function requests: it answered 'hello'"),
        (None, "does not take Flash's function requests"),
    ],
)
def test_an_answer_without_a_result_is_a_failure_that_says_why(response, said):
    outcome = live.result_of(response)
    assert not outcome.header["ok"]
    assert said in outcome.header["error"]["message"]
    assert len(outcome.buffers) == sum(outcome.header["counts"])


def test_what_was_printed_of_a_failed_installation_is_shown():
    outcome = live.result_of({"success": False, "error": "no", "stdout": "pip says"})
    assert [event["text"] for _, event in outcome.events] == ["pip says"]


def test_a_worker_cannot_have_code_executed_here():
    class Evil:
        def __reduce__(self):
            return print, ("executed",)

    response = {"success": True, "result": base64.b64encode(pickle.dumps(Evil())).decode()}
    message = live.result_of(response).header["error"]["message"]
    assert "it names builtins.print" in message


def test_events_come_in_order_once_and_all_in_the_end():
    ordered = live.Ordered()
    events = [(number, {"text": str(number)}) for number in range(7)]
    assert [n for n, _ in ordered.add([events[1]])] == []
    assert [n for n, _ in ordered.add(events[:3])] == [0, 1, 2]
    assert [n for n, _ in ordered.add(events[:4])] == [3]
    assert [n for n, _ in ordered.add([events[5]])] == []
    assert [n for n, _ in ordered.end([events[4], events[3]])] == [4, 5]
    assert [n for n, _ in ordered.end(events)] == [6]


def test_only_our_progress_holds_events():
    assert live.events_of("10 %") is None
    assert live.events_of({"flash_nb": 1}) is None
    assert live.events_of({"flash_nb": {"events": [[3, {"type": "stream"}]]}}) == [(3, {"type": "stream"})]


def test_large_values_travel_whole():
    value = bytes(3_000_000)
    (outcome,) = run(request_of(call("def f(x):\n    return x", value)))
    assert value_of(outcome) == value
    assert frames.size_of(outcome.buffers) > 3_000_000
