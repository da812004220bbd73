"""Live requests, answered as official workers answer them."""

from __future__ import annotations

import asyncio
import base64
import json
import sys
import textwrap

import cloudpickle
import pytest

from flash_nb.worker.execution import Executor


@pytest.fixture
def items():
    return []


@pytest.fixture
def executor(items, monkeypatch):
    monkeypatch.setitem(sys.modules, "__main__", sys.modules["__main__"])
    monkeypatch.setattr(sys, "path", [*sys.path])
    yield Executor(
        show_value=lambda _: None,
        send_item=lambda index, value, as_json: items.append((index, cloudpickle.loads(value), as_json)),
        finish_cell=lambda: None,
    )
    asyncio.set_event_loop(None)


def packed(value) -> str:
    return base64.b64encode(cloudpickle.dumps(value)).decode()


def ask(executor, given: dict, instance: str | None = None) -> dict:
    request = {"execution_type": "live", "input": given, "instance": instance, "id": "j1"}
    result, (response,) = executor.run(request, [])
    assert result == {"ok": True, "json": True, "live": True, "counts": [1]}
    return json.loads(bytes(response))


def function(code: str, *args, **fields) -> dict:
    sent = [packed(value) for value in args]
    return {"function_name": "f", "function_code": textwrap.dedent(code), "args": sent, **fields}


def value_of(response: dict):
    assert response["success"], response
    return cloudpickle.loads(base64.b64decode(response["result"]))


def test_a_function_gets_its_arguments_and_gives_a_pickle(executor):
    given = function("def f(a, *, b):\n    return a, b", {1, 2}, kwargs={"b": packed(None)})
    assert value_of(ask(executor, given)) == ({1, 2}, None)


def test_every_key_of_the_response_is_there(executor):
    response = ask(executor, function("def f(): pass"))
    assert sorted(response) == ["error", "instance_id", "instance_info", "result", "stdout", "success"]
    assert value_of(response) is None


def test_coroutines_are_awaited(executor):
    code = "import asyncio\nasync def f(x):\n    await asyncio.sleep(0)\n    return x + 1"
    assert value_of(ask(executor, function(code, 1))) == 2


def test_generators_are_lists_whose_items_travel_at_once(executor, items):
    assert value_of(ask(executor, function("def f():\n    yield 1\n    yield {2}"))) == [1, {2}]
    assert items == [(0, 1, {"json": 1}), (1, {2}, {})]


def test_json_goes_in_and_out_as_it_is(executor):
    code = "def f(a, b):\n    return {'both': [a, b]}"
    given = {"function_name": "f", "function_code": code, "args": [[1]], "kwargs": {"b": "x"}}
    response = ask(executor, {**given, "serialization_format": "json"})
    assert (response["json_result"], response["result"]) == ({"both": [[1], "x"]}, None)
    refused = ask(executor, {**function("def f():\n    return {1}"), "serialization_format": "json"})
    assert "JSON" in refused["error"]


def test_what_the_code_raises_is_an_answer(executor):
    response = ask(executor, function("def f():\n    raise LookupError('gone')"))
    message, first, *trace = response["error"].splitlines()
    assert (response["success"], response["result"], message) == (False, None, "gone")
    assert first == "Traceback (most recent call last):"
    assert trace == ['  File "<f>", line 2, in f', "    raise LookupError('gone')", "LookupError: gone"]


@pytest.mark.parametrize(
    ("given", "word"),
    [
        (function("def g(): pass"), "'f'"),
        (function("def f(:"), "SyntaxError"),
        (function("import threading\ndef f():\n    return threading.Lock()"), "lock"),
        (function("import sys\ndef f():\n    sys.exit(3)"), "3"),
        ({"function_name": "f"}, "function_code"),
        ({"function_name": "f", "args": ["!"], "function_code": "def f(x): pass"}, "Error"),
        ({}, "function_code"),
        ({"execution_type": "class"}, "class_code"),
        (function("def f(): pass", modules={"../x.py": ""}), "../x.py"),
    ],
)
def test_what_cannot_be_served_says_why(executor, given, word):
    response = ask(executor, given)
    assert response["success"] is False
    assert word in response["error"]


def test_each_request_has_a_namespace_of_its_own(executor):
    ask(executor, function("x = 1\ndef f(): pass"))
    assert "NameError" in ask(executor, function("def f():\n    return x"))["error"]


def test_classes_of_the_request_come_back(executor):
    code = "class P:\n    def __init__(self, x):\n        self.x = x\ndef f():\n    return P(5)"
    assert value_of(ask(executor, function(code))).x == 5


COUNTER = """
class Counter:
    def __init__(self, n, *, step=1):
        self.n, self.step = n, step
    def up(self):
        self.n += self.step
        return self.n
    async def later(self):
        return self.n
    def __call__(self):
        return -self.n
"""


def method(name: str | None, **fields) -> dict:
    named = {} if name is None else {"method_name": name}
    return {
        "execution_type": "class",
        "class_name": "Counter",
        "class_code": COUNTER,
        "constructor_args": [packed(10)],
        "constructor_kwargs": {"step": packed(5)},
        "instance_id": "Counter_1",
        "create_new_instance": False,
        **named,
        **fields,
    }


def test_an_object_keeps_its_state(executor):
    assert [value_of(ask(executor, method("up"), "ep/Counter_1")) for _ in range(2)] == [15, 20]
    assert value_of(ask(executor, method("later"), "ep/Counter_1")) == 20
    response = ask(executor, method(None), "ep/Counter_1")
    assert value_of(response) == -20
    assert response["instance_id"] == "Counter_1"
    info = response["instance_info"]
    assert (info["class_name"], info["method_calls"]) == ("Counter", 4)
    assert info["created_at"] < info["last_used"]
    assert executor.instances == ("ep/Counter_1",)


def test_an_object_is_dropped_or_made_anew_on_request(executor):
    assert value_of(ask(executor, method("up"), "ep/Counter_1")) == 15
    assert value_of(ask(executor, method("up", create_new_instance=True), "ep/Counter_1")) == 15
    executor.drop("ep/Counter_1")
    assert executor.instances == ()
    assert value_of(ask(executor, method("up"), "ep/Counter_1")) == 15


def test_an_object_without_an_id_lives_for_one_call(executor):
    assert [value_of(ask(executor, method("up", instance_id=None))) for _ in range(2)] == [15, 15]
    assert executor.instances == ()


def test_modules_come_along(executor):
    code = "from live_project.part import value\nimport live_alone\ndef f():\n    return value, live_alone.x"
    modules = {"live_project/__init__.py": "", "live_project/part.py": "value = 1", "live_alone.py": "x = 2"}
    assert value_of(ask(executor, function(code, modules=modules))) == (1, 2)
    modules["live_project/part.py"] = "value = 'new'"
    assert value_of(ask(executor, function(code, modules=modules))) == ("new", 2)
    assert sum("flash-modules-" in place for place in sys.path) == 1
