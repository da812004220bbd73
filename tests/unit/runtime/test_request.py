"""What the input of a job asks for."""

from __future__ import annotations

import base64

import cloudpickle
import pytest
from hypothesis import given
from hypothesis import strategies as st

import flash_nb.jobs

TEXT = st.text(max_size=8)
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | TEXT,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXT, inner, max_size=3),
    max_leaves=8,
)
WORDS = st.sampled_from(
    [
        "function_name", "class_name", "method", "method_name", "args", "kwargs", "constructor_args",
        "constructor_kwargs", "instance_id", "execution_type", "serialization_format", "__empty", "x",
    ]
)  # fmt: skip


def packed(value) -> str:
    return base64.b64encode(cloudpickle.dumps(value)).decode()


@pytest.mark.parametrize(
    ("sent", "parameters", "name", "method", "kwargs"),
    [
        ({"x": 1}, ["x"], "", "", {"x": 1}),
        ({"__empty": True}, ["x"], "", "", {}),
        (None, ["x"], "", "", {}),
        ({"function_name": "f", "kwargs": {"x": 1}}, None, "f", "", {"x": 1}),
        ({"function_name": "f", "x": 1}, None, "f", "", {"x": 1}),
        ({"function_name": "f", "kwargs": {"x": 1}}, ["x"], "f", "", {"x": 1}),
        ({"function_name": "f"}, ["function_name"], "", "", {"function_name": "f"}),
        ({"method": "predict", "x": 1}, None, "", "predict", {"x": 1}),
        ({"method": "POST", "x": 1}, ["method", "x"], "", "", {"method": "POST", "x": 1}),
        ({"class_name": "C", "method_name": "m", "kwargs": {}}, None, "C", "m", {}),
        (
            {"function_name": "f", "kwargs": 3, "args": {}},
            ["args", "kwargs"],
            "f",
            "",
            {"args": {}, "kwargs": 3},
        ),
    ],
)
def test_json_forms(  # noqa: PLR0917 - a table
    runtime, sent, parameters, name, method, kwargs
):
    call = runtime("request").read(sent, parameters)
    assert (call.name, call.method, dict(call.kwargs), call.form) == (name, method, kwargs, "value")


def test_positional_arguments_in_json(runtime):
    assert runtime("request").read({"function_name": "f", "args": [1, 2]}).args == [1, 2]


def test_the_request_of_the_official_sdk(runtime):
    call = runtime("request").read(
        {
            "function_name": "f", "args": [packed(2)], "kwargs": {"b": packed({3})},
            "execution_type": "function",
            "constructor_args": [], "constructor_kwargs": {}, "method_name": "__call__",
            "create_new_instance": True, "accelerate_downloads": True,
        }
    )  # fmt: skip
    assert (call.name, call.args, call.kwargs, call.form) == ("f", [2], {"b": {3}}, "pickle")
    assert call.method == ""


def test_a_method_with_the_arguments_of_its_class(runtime):
    call = runtime("request").read(
        {
            "execution_type": "class", "class_name": "C", "method_name": "m", "args": [packed(1)],
            "constructor_args": [packed("a")], "constructor_kwargs": {"k": packed("b")}, "instance_id": "C_1",
            "create_new_instance": False,
        }
    )  # fmt: skip
    assert (call.name, call.method, call.made_with, call.instance) == ("C", "m", (["a"], {"k": "b"}), "C_1")
    assert not call.is_new


def test_json_values_where_the_request_says_so(runtime):
    call = runtime("request").read(
        {"function_name": "f", "args": [1], "kwargs": {"x": "gASVBA=="}, "serialization_format": "json"}
    )
    assert (call.args, call.kwargs, call.form) == ([1], {"x": "gASVBA=="}, "json")


@pytest.mark.parametrize("sent", [[1], "text", 3, True])
def test_an_input_that_is_no_object_is_refused(runtime, sent):
    with pytest.raises(runtime("errors").RemoteExecutionError, match="is an object, not"):
        runtime("request").read(sent)


@pytest.mark.parametrize("value", ["%%%", "aGVsbG8=", 3])
def test_a_value_that_is_no_pickle_is_refused(runtime, value):
    sent = {"function_name": "f", "args": [value], "execution_type": "function"}
    with pytest.raises(runtime("errors").SerializationError):
        runtime("request").read(sent)


@given(st.dictionaries(WORDS, JSON), st.none() | st.lists(WORDS))
def test_nothing_but_our_errors_comes_of_any_input(runtime, sent, parameters):
    request, errors = runtime("request"), runtime("errors")
    try:
        call = request.read(sent, parameters)
    except errors.FlashError:
        return
    assert isinstance(call.kwargs, dict)


@given(st.text(min_size=1), st.lists(JSON, max_size=3), st.dictionaries(TEXT, JSON, max_size=3))
def test_a_request_of_ours_is_read_as_it_was_meant(runtime, name, args, kwargs):
    request = runtime("request")
    call = request.read(request.FunctionRequest(name, args, kwargs).wire())
    assert (call.name, list(call.args), call.kwargs, call.form) == (name, args, kwargs, "pickle")
    made = (args, kwargs)
    sent = request.FunctionRequest(name, args, kwargs, method="m", made_with=made, instance="i")
    call = request.read(sent.wire())
    assert (call.name, call.method, call.instance, call.is_new) == (name, "m", "i", False)
    assert (list(call.made_with[0]), call.made_with[1]) == made


def test_arguments_over_ten_megabytes_are_refused_before_anything_is_sent(runtime):
    request = runtime("request")
    with pytest.raises(
        runtime("errors").PayloadTooLargeError, match=r"arguments of f have 1\d\.\d MB.*10 MB"
    ):
        request.FunctionRequest("f", [b"x" * 8_000_000], {}).wire()
    request.FunctionRequest("f", [b"x" * 7_000_000], {}).wire()


def test_an_argument_that_cannot_be_pickled_is_named(runtime):
    import threading

    with pytest.raises(runtime("errors").SerializationError, match="Argument lock of f cannot be sent"):
        runtime("request").FunctionRequest("f", [], {"lock": threading.Lock()}).wire()


def test_a_job_output_stands_for_its_output(runtime):
    request = runtime("request")
    output = runtime("jobs").JobOutput("id", "COMPLETED", output=[1])
    assert request.read(request.FunctionRequest("f", [output], {}).wire()).args == [[1]]
    assert type(output).__doc__ == flash_nb.jobs.JobOutput.__doc__


def test_a_job_output_that_is_returned_stands_for_its_output(runtime):
    request, output = runtime("request"), runtime("jobs").JobOutput
    call = request.Call("f", (), {})
    assert request.answer(call, output("id", "COMPLETED", output=3)) == 3
    with pytest.raises(KeyError):
        request.answer(call, output("id", "FAILED", exception=KeyError("k")))


@pytest.mark.parametrize("form", ["value", "json", "pickle"])
def test_answers(runtime, form):
    request = runtime("request")
    call = request.Call("f", (), {}, form=form)
    answer = request.answer(call, (1, {"a": 2}))
    if form == "value":
        assert answer == [1, {"a": 2}]
    else:
        assert answer["success"] is True
        assert set(answer) - {"json_result"} == {
            "success", "result", "error", "stdout", "instance_id", "instance_info",
        }  # fmt: skip
    if form == "pickle":
        assert cloudpickle.loads(base64.b64decode(answer["result"])) == (1, {"a": 2})
    if form == "json":
        assert answer["json_result"] == [1, {"a": 2}]
