"""What live values tell: found while they are encoded once, with the path to the part at fault."""

from __future__ import annotations

import linecache
import socket
import sys
import threading
import types
from importlib.machinery import EXTENSION_SUFFIXES

import numpy as np
import pytest

from flash_nb.cells.finding import Severity, in_order
from flash_nb.cells.plan import plan_cell
from flash_nb.cells.preflight import import_lines
from flash_nb.cells.syntax import parse
from flash_nb.errors import CellError
from flash_nb.resources import CpuLiveServerless, LiveServerless, ServerlessEndpoint
from flash_nb.sdk.capture import Capture, survey
from flash_nb.sdk.dependencies import requirements_for, unprovided
from flash_nb.sdk.preflight import Places, check_packages, check_values, coroutine_names
from flash_nb.sdk.target import GPU_IMAGE_PACKAGES, Target, target_of
from flash_nb.settings import load

HERE = Target(sys.version_info[:2])
OTHER = Target((3, 99))
KEY = "rpa_" + "A1" * 20


def values(source, namespace, target=HERE, allowed=()):
    """Return the findings of a cell's values."""
    plan = plan_cell(source, namespace)
    captured = survey(plan.inputs, namespace)
    places = Places(plan.reads, captured.via)
    return in_order(check_values(captured, namespace, places, target=target, allowed=allowed))


class Box:
    def __init__(self, **parts):
        vars(self).update(parts)


def fake_tensor(module, device):
    """Return an object that looks like a library's tensor: there is no GPU where tests run."""
    kind = type("Tensor", (), {"__module__": module, "cpu": lambda self: self})
    vars(sys.modules[module])["Tensor"] = kind
    tensor = kind()
    tensor.device = device
    return tensor


@pytest.fixture
def tensor(monkeypatch):
    for module in ("torch", "cupy"):
        monkeypatch.setitem(sys.modules, module, types.ModuleType(module))
    return fake_tensor


def generator():
    yield 1


async def coroutine():
    pass


OBSTACLES = {
    "lock": (lambda: {"a": [threading.Lock()]}, "lock", "v['a'][0] cannot be sent: _thread.lock objects"),
    "rlock": (lambda: Box(x=Box(lock=threading.RLock())), "lock", "v.x.lock cannot be sent"),
    "event": (threading.Event, "lock", "v._cond"),
    "socket": (socket.socket, "socket", "v cannot be sent: socket.socket objects"),
    "generator": (generator, "generator", "v cannot be sent: builtins.generator objects"),
    "frame": (sys._getframe, "unpicklable", "v cannot be sent: builtins.frame objects"),
}


@pytest.mark.parametrize("name", OBSTACLES)
def test_what_cannot_be_pickled_is_found_with_its_path(name):
    make, code, begin = OBSTACLES[name]
    value = make()
    found = values("\n\nprint(v)", {"v": value})
    assert [(each.code, each.line) for each in found] == [(code, 3)]
    assert found[0].message.startswith(begin)
    if isinstance(value, socket.socket):
        value.close()


def test_files(tmp_path):
    path = tmp_path / "text"
    with path.open("w") as writing:
        found = values("v", {"v": Box(log=writing)})
        assert [(each.code, each.severity) for each in found] == [("file", Severity.ERROR)]
        assert found[0].message.startswith("v.log cannot be sent")
    with path.open() as reading:
        found = values("v", {"v": [reading]})
    assert [(each.code, each.severity) for each in found] == [("file", Severity.WARNING)]
    assert found[0].message == "v[0] is an open file: a copy of its text is sent"


def test_tensors_on_a_gpu(tensor):
    model = Box(weight=tensor("torch", "cuda:0"))
    found = values("model\narray", {"model": model, "array": tensor("cupy", "<CUDA Device 0>")})
    assert [(each.code, each.line) for each in found] == [("gpu", 1), ("gpu", 2)]
    assert found[0].message == "model.weight lives on a GPU of this machine (cuda:0)"
    assert found[0].fix == "send model.weight.cpu(), and move it back on the worker"
    assert found[1].fix.startswith("send array.get()")
    assert values("v", {"v": [tensor("torch", "cpu"), np.zeros(3)]}) == ()


def test_several_at_once_each_encoded_once():
    encoded = []

    class Counted:
        def __init__(self, name):
            self.name = name

        def __reduce__(self):
            encoded.append(self.name)
            return (str, (self.name,))

    namespace = {
        "a": Counted("a"),
        "b": threading.Lock(),
        "c": Counted("c"),
        "d": generator(),
        "e": Counted("e"),
    }
    found = values("a\nb\nc\nd\ne", namespace)
    assert [(each.code, each.line) for each in found] == [("lock", 2), ("generator", 4)]
    assert sorted(encoded) == ["a", "c", "e"]


def test_a_class_that_comes_with_its_instance_does_not_have_values_encoded_again(monkeypatch):
    encoded = []

    class Counted:
        def __reduce__(self):
            encoded.append(1)
            return (int, ())

    namespace = {"__name__": "__main__"}
    text = "class Net:\n    pass\nnet = Net()\n"
    monkeypatch.setitem(
        linecache.cache,
        "<cell 1>",
        (len(text), None, text.splitlines(keepends=True), "<cell 1>"),
    )
    exec(compile(text, "<cell 1>", "exec"), namespace)
    namespace["counted"] = Counted()
    captured = survey(["counted", "net"], namespace)
    assert [item["name"] for item in captured.items if "source" in item] == ["Net"]
    assert encoded == [1]


def test_the_payload_with_the_size_of_each_name():
    namespace = {"small": np.zeros(10), "big": np.zeros(2_000_000), "f": lambda: 0}
    found = values("small\nbig", namespace)
    assert [(each.code, each.line) for each in found] == [("too-large", 2)]
    assert "20.3 MB encoded, over the limit of 10.0 MB" in found[0].message
    assert "big 20.3 MB, small 0.0 MB" in found[0].message


def test_bytecode_for_another_python_and_a_class_defined_again():
    namespace = {"__name__": "__main__"}
    exec("class Net: pass\nold = Net()\nalias = Net\nclass Net: pass\nnew = Net()\nf = lambda: 1", namespace)
    for name, what in {"old": "an instance of Net", "alias": "Net"}.items():
        found = values(f"new\nf\nnp\n{name}", namespace | {"np": np})
        assert [(each.code, each.line, each.severity) for each in found] == [
            ("redefined", 4, Severity.WARNING)
        ]
        assert found[0].message == f"{name} is {what} as it was before Net was defined again"
    elsewhere = [each for each in values("f", namespace, OTHER) if each.code == "python"]
    assert "and the worker runs Python 3.99" in elsewhere[0].message
    assert values("f", namespace, Target(None)) == ()


SECRETS = {
    "the name": ("password", "hunter2", "password has the name of a secret"),
    "bytes": ("api_key", b"hunter2", "api_key has the name of a secret"),
    "the form": ("v", KEY, "v looks like a Runpod key"),
    "in a dict": ("v", {"n": 1, "db": {"password": "x"}}, "v['db']['password'] has the name of a secret"),
    "in a list": ("v", ["a", KEY], "v[1] looks like a Runpod key"),
    "in a key too": ("v", {KEY: KEY}, "v[…] looks like a Runpod key"),
}


@pytest.mark.parametrize("name", SECRETS)
def test_secrets(name):
    called, value, message = SECRETS[name]
    found = values(f"\n{called}", {called: value})
    assert [(each.code, each.line, each.message) for each in found] == [("secret", 2, message)]
    assert found[0].fix.endswith(f"--allow-secret {called}")
    assert KEY[:6] not in str(found)
    assert "hunter2" not in str(found)
    assert values(called, {called: value}, allowed=(called,)) == ()


def test_a_pydantic_secret():
    from pydantic import SecretStr

    found = values("v", {"v": {"k": SecretStr("hunter2")}})
    assert [each.message for each in found] == ["v['k'] is a SecretStr"]


@pytest.mark.parametrize(
    "value", [3, None, ["a"], "", np.zeros(2), {"tokens": ["a", "b"]}, {"token": "walk"}, {"self": {}}]
)
def test_values_that_are_no_secrets(value):
    assert values("token", {"token": value}) == ()


def test_a_value_that_holds_itself():
    loop: list[object] = []
    loop.append(loop)
    assert values("loop", {"loop": loop}) == ()


def test_places_of_what_comes_with_something_else():
    plan = plan_cell("\nuse(1)", ["use"])
    places = Places(plan.reads, {"inner": "helper", "helper": "use"})
    assert [places.line(name) for name in ("use", "helper", "inner", "unknown")] == [2, 2, 2, 1]
    assert places.reader("inner") == " (read by helper)"
    assert places.reader("use") == ""


def test_coroutine_names():
    namespace = {"a": coroutine, "b": generator, "c": 3}
    assert coroutine_names(["a", "b", "c", "d"], namespace) == {"a"}


# --- packages ------------------------------------------------------------------------------------


def packages(source, explicit=(), target=HERE, folder=None):
    plan = plan_cell(source)
    found = check_packages(
        import_lines(parse(source)), explicit, Capture(), Places(plan.reads, {}), target, folder=folder
    )
    return [(each.code, each.line, each.severity.value, each.message) for each in found]


def test_packages(tmp_path):
    (tmp_path / "beside.py").write_text("raise SystemExit")
    assert packages("import os, numpy.linalg, flash_nb\nimport pandas as pd") == []
    assert packages("import os\nimport no_such_thing.x") == [
        (
            "import",
            2,
            "warning",
            "no_such_thing is not installed here: the newest no-such-thing of PyPI is taken",
        )
    ]
    assert packages("import no_such_thing", ["no-such-thing>=1"]) == []
    assert packages("import torch", target=Target((3, 12), GPU_IMAGE_PACKAGES)) == []
    assert packages("import beside", folder=tmp_path) == []
    assert "beside" not in sys.modules
    assert packages("x = 1", ["not a requirement"])[0][:3] == ("option", 1, "error")


def test_what_the_image_has_is_not_installed():
    present = frozenset({"numpy"})
    assert requirements_for({"numpy", "pandas"}, present=present) == requirements_for({"pandas"})
    assert requirements_for({"numpy"}, ["numpy>=1"], present=present) == ("numpy>=1",)


def test_a_compiled_file_is_refused_by_its_name_alone(tmp_path, monkeypatch):
    (tmp_path / f"mine_only{EXTENSION_SUFFIXES[0]}").write_bytes(b"")
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(CellError) as raised:
        requirements_for({"mine_only"})
    assert str(tmp_path) not in str(raised.value)
    found = unprovided("mine_only")
    assert found is not None
    assert found.package == ""


class FakeBackend:
    name = "runpod"
    runs_images = True


def test_targets():
    settings = load()
    gpu, cpu = LiveServerless(name="gpu"), CpuLiveServerless(name="cpu")
    cloud, local = FakeBackend(), types.SimpleNamespace(runs_images=False)
    assert target_of(gpu, cloud, settings) == Target((3, 12), GPU_IMAGE_PACKAGES)
    assert target_of(cpu, cloud, settings) == Target((3, 12))
    own = ServerlessEndpoint(name="own", imageName="mine/image:1")
    assert target_of(own, cloud, settings) == Target()
    assert target_of(gpu, local, settings) == Target(sys.version_info[:2])
    for python, minor in {"3.10": (3, 10), "/usr/bin/python3.13": (3, 13), "/somewhere/python": None}.items():
        assert target_of(gpu, local, load(python=python)).python == minor
