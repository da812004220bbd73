"""What a scan finds, and what it refuses."""

from __future__ import annotations

import inspect
from pathlib import Path

import pytest

from flash_nb.project.declared import Place, Project, Trouble, TroubleError
from flash_nb.project.scan import PARAMETERS, scan
from flash_nb.sdk.remote import remote


def scanned(folder: Path, files: dict[str, str]) -> Project:
    for name, text in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return scan(folder, files)


def troubles(folder: Path, files: dict[str, str]) -> list[Trouble]:
    with pytest.raises(TroubleError) as caught:
        scanned(folder, files)
    return caught.value.troubles


def test_a_function_on_a_resource(tmp_path):
    project = scanned(
        tmp_path,
        {
            "work.py": "from runpod_flash import LiveServerless, remote\n"
            'gpu = LiveServerless(name="gpu", workersMax=2)\n\n'
            '@remote(resource_config=gpu, dependencies=["numpy"])\n'
            "async def total(values):\n    return sum(values)\n"
        },
    )
    (group,) = project.groups
    (function,) = group.functions
    assert (group.key, group.variable, group.place) == ("gpu", "gpu", Place("work.py", 2))
    assert group.resource.workersMax == 2
    assert (function.name, function.module, function.is_async) == ("total", "work", True)
    assert function.dependencies == ("numpy",)


def test_nothing_found_says_where_it_was_looked(tmp_path):
    (trouble,) = troubles(tmp_path, {"a.py": "x = 1\n"})
    assert "1 Python file" in trouble.message
    assert ".flashignore" in trouble.fix


HEAD = "from runpod_flash import CpuLiveLoadBalancer, LiveLoadBalancer, LiveServerless, remote\n"
IMPORTS = "import os\nfrom runpod_flash import *\n"
ONE = HEAD + '@remote(LiveServerless(name="one"))\ndef one(x):\n    return x\n'


def only(found: list[Trouble], *words: str) -> Trouble:
    (trouble,) = found
    for word in words:
        assert word in f"{trouble}", (word, str(trouble))
    return trouble


def test_two_modules_share_a_config(tmp_path):
    project = scanned(
        tmp_path,
        {
            "configs.py": HEAD + 'gpu = LiveServerless(name="gpu")\n',
            "a.py": "from flash_nb import remote\nfrom configs import gpu\n@remote(gpu)\ndef a(): ...\n",
            "pkg/__init__.py": "",
            "pkg/b.py": "import flash_nb as f\nimport configs\n@f.remote(configs.gpu)\ndef b(): ...\n",
        },
    )
    (group,) = project.groups
    assert [function.module for function in group.functions] == ["a", "pkg.b"]
    assert (group.place, group.variable) == (Place("configs.py", 2), "gpu")


@pytest.mark.parametrize("take", ["from a import gpu", "import a\ngpu = a.gpu", "from a import *"])
def test_modules_that_import_each_other(tmp_path, take):
    """`b` needs a name that `a` binds below its import of `b`; Python gets there from `b`."""
    project = scanned(
        tmp_path,
        {
            "a.py": HEAD
            + 'import b\ngpu = LiveServerless(name="gpu")\n@remote(gpu)\ndef f(): return b.g()\n',
            "b.py": f"{HEAD}{take}\n@remote(gpu)\ndef g(): ...\n",
        },
    )
    assert {function.name: function.calls for function in project.functions} == {"f": {"g"}, "g": set()}


def test_a_config_that_needs_a_module_which_needs_it(tmp_path):
    files = {
        "a.py": HEAD + "from b import g\ngpu = LiveServerless(name=g.__name__)\n@remote(gpu)\ndef f(): ...\n",
        "b.py": HEAD + "from a import gpu\n@remote(gpu)\ndef g(): ...\n",
    }
    assert troubles(tmp_path, files)


@pytest.mark.parametrize(
    ("made", "expected"),
    [
        ("GPU(workersMax=2 * 3 - 1)", {"workersMax": 5}),
        ("LiveServerless(name='g', idleTimeout=120 // 2)", {"idleTimeout": 60}),
        ("LiveServerless(name='g', env={**{'A': '1'}, 'B': f'{2}x'})", {"env": {"A": "1", "B": "2x"}}),
        ("LiveServerless(name='g', gpus=[GpuGroup('AMPERE_80')])", {"gpuIds": "AMPERE_80"}),
        ("LiveServerless(name='g', gpus=[GpuGroup.AMPERE_80.value])", {"gpuIds": "AMPERE_80"}),
        ("LiveServerless(name='g', flashboot=1 > 2)", {"flashboot": False}),
        ("GPU(workersMax=[1, 7][-1])", {"workersMax": 7}),
        ("GPU(workersMax={'a': 8}.get('a', 1))", {"workersMax": 8}),
        ("GPU(workersMax=int('9'))", {"workersMax": 9}),
        ("LiveServerless(name='g', env=dict(A='1'))", {"env": {"A": "1"}}),
        ("LiveServerless(name=LiveServerless(name='inner').name)", {"name": "inner"}),
        ("LiveServerless(name='g', template=None or NOTHING)", {"template": None}),
        ("LiveServerless(name='g', scalerType=ServerlessScalerType.REQUEST_COUNT)", {}),
        ("CpuLiveServerless(name='g', env={}).model_copy(update={'workersMax': 9})", {"workersMax": 9}),
        (
            "CpuLiveServerless(name='g', instanceIds=[CpuInstanceType.CPU5C_4_8]).model_copy()",
            {"kind": "cpu"},
        ),
    ],
)
def test_a_setting(tmp_path, made, expected):
    made = made.replace("GPU(", "LiveServerless(name='g', ")
    text = f"{IMPORTS}import b\nNOTHING = b.NOTHING\ngpu = {made}\n@remote(gpu)\ndef f(): ...\n"
    project = scanned(tmp_path, {"a.py": text, "b.py": "NOTHING = None\n"})
    resource = project.groups[0].resource
    for name, value in expected.items():
        assert getattr(resource, name) == value


@pytest.mark.parametrize(
    ("above", "made", "words"),
    [  # what stands above, the resource's arguments or the expression itself, what is said
        ("", "GPU(workersMax=int(os.environ['N']))", ["a.py:3", "workersMax", "int(os."]),
        ("", "LiveServerless(name=os.environ['N'])", ["name", "the variable N", "only env may"]),
        ("", "LiveServerless(name=f'{os.getpid()}')", ["os.getpid()", "known only when the code runs"]),
        ("", "LiveServerless(name='g', env={'A': f'x{os.environ[\"N\"]}'})", ["env"]),
        ("", "LiveServerless(name='g', env=dict(os.environ))", ["env"]),
        ("", "LiveServerless(name='g', workerMax=3)", ["workerMax", "did you mean 'workersMax'"]),
        ("", "GPU(workersMax=-3)", ["workersMax=-3", "must be 0 or more"]),
        ("", "LiveServerless(name='g', gpus=[GpuGroup.AMPER_80])", ["AMPER_80", "did you mean 'AMPERE_80'"]),
        ("", "LiveServerless('g')", ["by name"]),
        ("", "LiveServerless()", ["name is required"]),
        ("", "make_config()", ["make_config is not defined in a.py"]),
        ("def make(): ...\n", "make()", ["make()", "known only when the code runs"]),
        ("class Gpu: ...\n", "Gpu", ["is no resource"]),
        ("", "'gpu'", ["is no resource"]),
        ("", "PodTemplate()", ["is no resource"]),
        ("", "1 / 0", ["ZeroDivisionError"]),
        ("", "[][0]", ["IndexError"]),
        ("N = [3]\nN.append(os.getpid())\n", "GPU(workersMax=N[1])", ["os.getpid()"]),
        ("N = {'a': 3}\nN[os.name] = 4\n", "GPU(workersMax=N['a'])", ["changed there"]),
        ("N = [3]\nN.reverse()\n", "GPU(workersMax=N[0])", ["changed there"]),
        ("N = [3]\ntry:\n    x()\nexcept E:\n    N[0] = 4\n", "GPU(workersMax=N[0])", ["changed there"]),
        ("N = [3]\nfor i in 'ab':\n    N[0] += 1\n", "GPU(workersMax=N[0])", ["changed there"]),
        ("N = 1\nfor i in 'ab':\n    N += 1\n", "GPU(workersMax=N)", ["N is set in a loop"]),
        ("N = 1 if os.getpid() else 2\n", "GPU(workersMax=N)", ["1 if os.getpid() else 2"]),
        ("if os.getpid():\n    N = 1\nelse:\n    N = 2\n", "GPU(workersMax=N)", ["N depends"]),
        ("try:\n    import x\n    N = 1\nexcept ImportError:\n    N = 2\n", "GPU(workersMax=N)", ["N dep"]),
        ("N = [1]\nif os.getpid():\n    N.append(2)\n", "GPU(workersMax=N[0])", ["there, after"]),
    ],
)  # fmt: skip
def test_a_setting_that_cannot_be(tmp_path, above, made, words):
    made = made.replace("GPU(", "LiveServerless(name='g', ")
    text = f"{IMPORTS}{above}gpu = {made}\n@remote(gpu)\ndef f(): ...\n"
    only(troubles(tmp_path, {"a.py": text}), *words)


def test_all_that_is_unknown_is_said_at_once_and_in_order(tmp_path):
    found = troubles(
        tmp_path,
        {
            "b.py": f"{IMPORTS}@remote(LiveServerless(name='b', workerMax=1))\ndef b(): ...\n",
            "a.py": f"{IMPORTS}@remote(LiveServerless(\n    name=os.name,\n    idleTimeout=os.getpid(),\n"
            "    typo=1,\n))\ndef a(): ...\n",
        },
    )
    assert [str(trouble.place) for trouble in found] == ["a.py:4", "a.py:5", "b.py:3"]


def test_a_config_that_is_used_before_its_definition(tmp_path):
    text = HEAD + '@remote(gpu)\ndef f(): ...\n\ngpu = LiveServerless(name="g")\n'
    only(troubles(tmp_path, {"a.py": text}), "a.py:2", "before its definition at a.py:5")


def test_a_config_that_another_module_does_not_have(tmp_path):
    files = {
        "configs.py": 'from flash_nb import LiveServerless\ngpu = LiveServerless(name="g")\n',
        "a.py": HEAD + "from configs import gpus\n@remote(gpus)\ndef f(): ...\n",
    }
    only(troubles(tmp_path, files), "a.py:2", "configs has no name 'gpus'", "did you mean 'gpu'")


class TestVariablesOfWhoeverDeploys:
    @pytest.mark.parametrize(
        "read",
        [
            "os.environ['TOKEN']",
            "os.environ.get('TOKEN')",
            "os.getenv('TOKEN')",
            "__import__('os') and os.getenv('TOKEN')",
            "environ['TOKEN']",
            "system.environ['TOKEN']",
            "token",
        ],
    )
    def test_are_kept_by_name(self, tmp_path, read, monkeypatch):
        monkeypatch.setenv("TOKEN", "the secret itself")
        text = (
            f"{IMPORTS}import os as system\nfrom os import environ\ntoken = os.environ['TOKEN']\n"
            f"gpu = LiveServerless(name='g', env={{'HF': {read}, 'A': 'b'}})\n@remote(gpu)\ndef f(): ...\n"
        )
        if "__import__" in read:
            assert troubles(tmp_path, {"a.py": text})
            return
        (group,) = scanned(tmp_path, {"a.py": text}).groups
        assert group.env_from == {"HF": "TOKEN"}
        assert dict(group.resource.env) == {"A": "b"}

    @pytest.mark.parametrize("read", ["os.getenv('M', 'tiny')", "os.environ.get('M') or 'tiny'"])
    def test_may_have_a_default(self, tmp_path, read):
        text = f"{IMPORTS}@remote(LiveServerless(name='g', env={{'MODEL': {read}}}))\ndef f(): ...\n"
        (group,) = scanned(tmp_path, {"a.py": text}).groups
        assert (group.env_from, dict(group.resource.env)) == ({"MODEL": "M"}, {"MODEL": "tiny"})

    def test_of_a_template_count_too(self, tmp_path):
        text = (
            f"{IMPORTS}@remote(LiveServerless(name='g', env={{'A': '1'}}, template=PodTemplate("
            "env={'A': os.environ['A'], 'B': os.environ['C']})))\ndef f(): ...\n"
        )
        (group,) = scanned(tmp_path, {"a.py": text}).groups
        assert (group.env_from, dict(group.resource.env)) == ({"B": "C"}, {"A": "1"})

    def test_stay_in_a_copy(self, tmp_path):
        text = (
            f"{IMPORTS}base = LiveServerless(name='b', env={{'A': os.environ['A']}})\n"
            "@remote(base.model_copy(update={'name': 'g'}))\ndef f(): ...\n"
        )
        assert scanned(tmp_path, {"a.py": text}).groups[0].env_from == {"A": "A"}


@pytest.mark.parametrize(
    ("decorator", "words"),
    [
        ("@remote", ["has no resource_config"]),
        ("@remote()", ["has no resource_config"]),
        ("@remote(gpu, dependecies=['numpy'])", ["dependecies", "did you mean 'dependencies'"]),
        ("@remote(gpu, workersMax=3)", ["workersMax", "belong to the resource"]),
        ("@remote(gpu, dependencies='numpy')", ["not a list of texts"]),
        ("@remote(gpu, dependencies=['num py'])", ["'num py' is not a requirement"]),
        ("@remote(gpu, dependencies=[os.name])", ["dependencies", "os.name"]),
        ("@remote(gpu, local=bool(os.name))", ["local"]),
        ("@remote(gpu, **os.environ)", ["**"]),
        ("@remote(gpu, method='GET', path='/x')", ["has a queue and no routes"]),
        ("@remote(gpu, None, None, True, False, None, None, False, 1)", ["too many"]),
        ("@remote(gpu)\n@remote(gpu)", ["twice"]),
        ("@Endpoint(name='x')", ["Endpoint", "not supported"]),
        ("@FlashApp('x').remote(gpu)", ["FlashApp", "not supported"]),
        ("@app.remote(gpu)", ["FlashApp", "not supported"]),
        ("@choose(remote)(gpu)", ["known only when the code runs"]),
    ],
)
def test_a_decorator_that_cannot_be(tmp_path, decorator, words):
    text = (
        f"{IMPORTS}from runpod_flash import Endpoint, FlashApp\nfrom elsewhere import choose\n"
        f"app = FlashApp('x')\ngpu = LiveServerless(name='g')\n{decorator}\ndef f(): ...\n"
    )
    only(troubles(tmp_path, {"a.py": text, "b.py": ONE}), "a.py:", *words)


@pytest.mark.parametrize(
    ("above", "words"),
    [
        ("", ["f: remote is not defined in a.py", "from flash_nb import remote"]),
        ("from torch import *\n", ["remote may come from the import * at a.py:2"]),
        ("if os.name:\n    pass\nelse:\n    del remote\n    from flash_nb import remote\ndel remote\n", []),
    ],
)
def test_remote_is_not_imported(tmp_path, above, words):
    text = f"import os\n{above}@remote(1)\ndef f(): ...\n"
    only(troubles(tmp_path, {"a.py": text}), "a.py:", *words)


CONDITIONAL = "if os.getpid():\n    from flash_nb import remote as on\nelse:\n    {}\n"


@pytest.mark.parametrize("other", ["from x import on", "def on(*_): return lambda f: f", "on = None"])
def test_remote_that_depends_on_a_condition(tmp_path, other):
    text = f"{IMPORTS}{CONDITIONAL.format(other)}@on(LiveServerless(name='x'))\ndef f(): ...\n"
    only(troubles(tmp_path, {"a.py": text, "b.py": ONE}), "a.py:7", "f: on depends on a condition")


def test_remote_that_is_the_same_either_way(tmp_path):
    text = f"{IMPORTS}{CONDITIONAL.format('from runpod_flash import remote as on')}"
    text += "@on(LiveServerless(name='x'))\ndef f(): ...\n"
    assert len(list(scanned(tmp_path, {"a.py": text}).functions)) == 1


def test_a_setting_that_depends_on_what_is_installed(tmp_path):
    text = (
        f"{IMPORTS}SIZE = 1\ntry:\n    import torch\n    SIZE = 2\nexcept ImportError:\n    pass\n"
        "@remote(LiveServerless(name='g', workersMax=SIZE))\ndef f(): ...\n"
    )
    only(troubles(tmp_path, {"a.py": text}), "SIZE depends on whether the try at a.py:4 succeeds")


def test_what_only_looks_like_remote_is_none(tmp_path):
    text = (
        "from celery import app\nfrom x import remote\n@app.remote()\ndef f(): ...\n"
        "@remote(1)\ndef g(): ...\n"
    )
    project = scanned(tmp_path, {"a.py": text, "b.py": ONE})
    assert [function.name for function in project.functions] == ["one"]


@pytest.mark.parametrize(
    "text",
    [
        "def make():\n    @remote(gpu)\n    def f(): ...\n",
        "def make(f):\n    return remote(gpu)(f)\n",
        "def make():\n    from flash_nb import remote as r\n    @r(gpu)\n    def f(): ...\n",
        "def make():\n    import flash_nb\n    flash_nb.remote(gpu)(len)\n",
        "on_gpu = remote(gpu)\ndef make():\n    @on_gpu\n    def f(): ...\n",
        "class A:\n    @remote(gpu)\n    def f(self): ...\n",
        "class A:\n    def f(self):\n        @remote(gpu)\n        def g(): ...\n",
        "fs = [remote(gpu)(f) for f in (one, one)]\n",
        "f = remote(gpu)(lambda x: x)\n",
        "f = map(remote(gpu), [one])\n",
        "if os.name:\n    def make():\n        return remote(gpu)\n",
    ],
)
def test_a_use_that_cannot_be_followed_is_said(tmp_path, text):
    found = troubles(tmp_path, {"a.py": f"{IMPORTS}gpu = LiveServerless(name='g')\n{text}", "b.py": ONE})
    assert {trouble.place.file for trouble in found} == {"a.py"}


def test_a_local_function_inside_another_is_nobodys_business(tmp_path):
    text = HEAD + "def make():\n    @remote(LiveServerless(name='x'), local=True)\n    def f(): ...\n"
    assert len(list(scanned(tmp_path, {"a.py": text, "b.py": ONE}).functions)) == 1


class TestNames:
    def test_of_functions_are_unique(self, tmp_path):
        files = {"a.py": ONE, "b.py": ONE}
        only(troubles(tmp_path, files), "b.py:3", "one is the name", "a.py:3")

    def test_of_resources_are_unique(self, tmp_path):
        files = {
            "a.py": ONE,
            "b.py": ONE.replace('name="one"', 'name="one", workersMax=1').replace("f one", "f x"),
        }
        only(troubles(tmp_path, files), "b.py:2", "two different resources are named 'one'", "a.py:2")

    def test_equal_resources_are_one(self, tmp_path):
        files = {"a.py": ONE, "b.py": ONE.replace("def one", "def two")}
        (group,) = scanned(tmp_path, files).groups
        assert [function.name for function in group.functions] == ["one", "two"]

    def test_give_different_files(self, tmp_path):
        files = {"a.py": ONE, "b.py": ONE.replace('"one"', '"One"').replace("f one", "f two")}
        only(troubles(tmp_path, files), "would both be started by handler_one.py")

    def test_of_a_file_that_no_import_can_name(self, tmp_path):
        only(troubles(tmp_path, {"a.b.py": ONE}), "a.b.py:3", "no import can name")

    def test_of_a_file_beside_a_package_of_its_name(self, tmp_path):
        files = {"a.py": ONE, "a/__init__.py": ""}
        only(troubles(tmp_path, files), "a.py:3", "no import can name")


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ("", ["needs method and path"]),
        ("method='GET'", ["needs path"]),
        ("method='get', path='/x'", ["method='get'", "did you mean 'GET'"]),
        ("method='GET', path='x'", ["must begin with '/'"]),
        ("method='GET', path='/ping'", ["is taken"]),
        ("method='POST', path='/execute'", ["is taken"]),
        ("method='GET', path='/items/{item}'", ["{item}", "no such parameter"]),
        ("method=5, path='/x'", ["method='5'"]),
    ],
)
def test_a_route_that_cannot_be(tmp_path, given, words):
    text = f"{HEAD}api = LiveLoadBalancer(name='api')\n@remote(api, {given})\ndef f(x): ...\n"
    only(troubles(tmp_path, {"a.py": text}), "a.py:3", *words)


def test_two_functions_on_one_route(tmp_path):
    text = HEAD + "api = CpuLiveLoadBalancer(name='api')\n" + "".join(
        f"@remote(api, method='{method}', path='/x')\ndef {name}(): ...\n"
        for name, method in (("a", "GET"), ("b", "POST"), ("c", "GET"))
    )  # fmt: skip
    only(troubles(tmp_path, {"a.py": text}), "a.py:8", "GET /x already, by a at a.py:4")


def test_a_class_needs_a_live_queue(tmp_path):
    text = HEAD + "@remote(LiveLoadBalancer(name='api'), method='GET', path='/x')\nclass A: ...\n"
    only(troubles(tmp_path, {"a.py": text}), "A is a class", "LiveServerless")


def test_methods_of_a_class_and_its_bases(tmp_path):
    text = HEAD + (
        "class Base:\n    def load(self): ...\n    def predict(self): ...\n    def _no(self): ...\n"
        "@remote(LiveServerless(name='g'))\nclass A(Base):\n    def __init__(self): ...\n"
        "    def predict(self): ...\n    @property\n    def size(self): ...\n    async def train(self): ...\n"
    )
    (function,) = scanned(tmp_path, {"a.py": text}).functions
    assert function.methods == ("predict", "train", "load")
    assert (function.kind, function.is_async) == ("class", False)


def test_a_file_that_is_not_python(tmp_path):
    only(troubles(tmp_path, {"a.py": ONE, "b/c.py": "x = 1\ndef f(:\n"}), "b/c.py:2", "is not valid Python")


class TestCalls:
    def test_go_through_helpers_modules_aliases_and_lists(self, tmp_path):
        files = {
            "a.py": HEAD
            + "import b, pkg.c\nfrom pkg.c import three as drei\ncpu = LiveServerless(name='a')\n"
            "def helper(): return b.two()\n"
            "@remote(cpu)\ndef one():\n    helper()\n    return drei(1) + pkg.c.four.submit(2)\n"
            "@remote(cpu)\nclass Model:\n    def go(self):\n        from pkg import c\n"
            "        return c.four()\n"
            "STEPS = [one, {'x': drei}]\n"
            "@remote(cpu)\ndef runs():\n    return [step() for step in STEPS]\n"
            "@remote(cpu)\ndef alone(one, b):\n    drei = b\n    return one, drei\n",
            "b.py": HEAD + "@remote(LiveServerless(name='b'))\ndef two(): ...\n",
            "pkg/__init__.py": "",
            "pkg/c.py": HEAD + "gpu = LiveServerless(name='c')\n@remote(gpu)\ndef three(): ...\n"
            "@remote(gpu)\ndef four(): ...\n",
        }
        calls = {function.name: function.calls for function in scanned(tmp_path, files).functions}
        assert calls == {
            "one": {"two", "three", "four"},
            "Model": {"four"},
            "runs": {"one", "three"},
            "alone": frozenset(),
            "two": frozenset(),
            "three": frozenset(),
            "four": frozenset(),
        }


APP = "from fastapi import FastAPI\napp = FastAPI()\n"


class TestApplication:
    @pytest.mark.parametrize(
        "text",
        [
            APP + "@app.get('/')\ndef home(): ...\n",
            "import fastapi as f\napp: f.FastAPI = f.FastAPI(title='x')\napp.include_router(f.APIRouter())\n",
            "from fastapi import FastAPI as F\napp = F()\napp.add_api_route('/', print)\n",
            APP + "app.mount('/static', print)\n",
            APP + "from api import add_routes\nadd_routes(app)\n",
            APP + "with open('x') as f:\n    @app.websocket('/ws')\n    async def ws(): ...\n",
            "from api import app\n",
        ],
    )
    def test_is_found_by_its_routes(self, tmp_path, text):
        files = {"main.py": text, "api.py": APP + "@app.post('/')\ndef post(): ...\n"}
        mothership = scanned(tmp_path, files).mothership
        assert (mothership.file, mothership.variable, mothership.is_explicit) == ("main.py", "app", False)
        assert repr(mothership.resource) == "CpuLiveLoadBalancer(name='mothership', workersMin=1)"

    def test_needs_a_route(self, tmp_path):
        assert scanned(tmp_path, {"main.py": APP, "a.py": ONE}).mothership is None

    def test_is_the_first_of_three_files(self, tmp_path):
        with_route = APP + "app.mount('/', print)\n"
        files = {"main.py": APP, "app.py": with_route.replace("app", "web"), "server.py": with_route}
        mothership = scanned(tmp_path, files).mothership
        assert (mothership.file, mothership.variable) == ("app.py", "web")

    def test_gives_way_to_an_endpoint_of_its_name(self, tmp_path):
        files = {"main.py": APP + "app.mount('/', print)\n", "a.py": ONE.replace('"one"', '"mothership"')}
        assert scanned(tmp_path, files).mothership.resource.name == "mothership-entrypoint"

    def test_has_a_resource_of_its_own(self, tmp_path):
        files = {
            "main.py": APP,
            "mothership.py": "import os\nfrom flash_nb import LiveLoadBalancer\n"
            "mothership = LiveLoadBalancer(name='front', workersMax=9, env={'K': os.environ['K']})\n",
        }
        mothership = scanned(tmp_path, files).mothership
        assert mothership.is_explicit
        assert repr(mothership.resource) == "LiveLoadBalancer(name='front', workersMax=9)"
        assert mothership.env_from == {"K": "K"}

    @pytest.mark.parametrize(
        ("text", "words"),
        [
            ("mothership = LiveServerless(name='m')", ["not a load-balanced resource"]),
            ("mothership = 5", ["not a load-balanced resource"]),
            ("mothership = LiveLoadBalancer(name='one')", ["two different resources are named 'one'"]),
            ("mothership = LiveLoadBalancer(nam='m')", ["did you mean 'name'", "name is required"]),
        ],
    )
    def test_has_a_resource_that_cannot_be(self, tmp_path, text, words):
        files = {"main.py": APP, "mothership.py": HEAD + text, "a.py": ONE}
        found = "\n".join(map(str, troubles(tmp_path, files)))
        for word in words:
            assert word in found

    def test_is_missing(self, tmp_path):
        text = HEAD + "mothership = CpuLiveLoadBalancer(name='m')\n"
        only(troubles(tmp_path, {"mothership.py": text}), "mothership.py:2", "main.py, app.py, server.py")

    @pytest.mark.parametrize(
        "made",
        [
            "def create_app():\n    app = FastAPI()\n    app.get('/')(print)\n    return app\n",
            "def create_app():\n    return FastAPI(title='x')\n",
            "def create_app() -> FastAPI: ...\n",
            "def create_app() -> 'fastapi.FastAPI': ...\n",
            "def create_app():\n    import fastapi\n    made: object = fastapi.FastAPI()\n    return made\n",
            "def other():\n    return FastAPI()\ndef create_app():\n    return other()\n",
        ],
    )
    @pytest.mark.parametrize(
        ("main", "place"),
        [
            ("from web.make import create_app\napp = create_app()\n", "main.py:2"),
            ("import web.make\n\napp = web.make.create_app(1)\napp.get('/')(print)\n", "main.py:3"),
            ("from web.app import app\n", "web/app.py:2"),
        ],
    )
    def test_of_a_factory_is_said_to_have_no_endpoint(self, tmp_path, main, place, made):
        files = {
            "main.py": main,
            "web/app.py": "from .make import create_app\napp = create_app()\n",
            "web/make.py": "from fastapi import FastAPI\n" + made,
            "a.py": ONE,
        }
        project = scanned(tmp_path, files)
        assert project.mothership is None
        assert [group.key for group in project.groups] == ["one"]
        note = only(
            list(project.notes), "app is made by create_app() (web/make.py:", "app = FastAPI() in main.py"
        )
        assert str(note.place) == place
        (tmp_path / "mothership.py").write_text(HEAD + "mothership = CpuLiveLoadBalancer(name='m')\n")
        only(troubles(tmp_path, {**files, "mothership.py": (tmp_path / "mothership.py").read_text()}), place)

    def test_alone_of_a_factory_stands_against_a_build(self, tmp_path):
        text = "from fastapi import FastAPI\ndef make():\n    return FastAPI()\napp = make()\n"
        only(troubles(tmp_path, {"main.py": text}), "main.py:4", "app is made by make() (main.py:2)")

    @pytest.mark.parametrize(
        "text",
        [
            "def make():\n    def inner(): return FastAPI()\n    return 1\napp = make()\n",
            "def make():\n    return make()\napp = make()\n",
            "class Make: ...\napp = Make()\n",
            "app = FastAPI()\n@app.get('/')\ndef home(): ...\ndef make(): return FastAPI()\nb = make()\n",
            "from elsewhere import make\napp = make()\n",
        ],
    )
    def test_of_no_factory_is_no_note(self, tmp_path, text):
        assert not scanned(tmp_path, {"main.py": "from fastapi import FastAPI\n" + text, "a.py": ONE}).notes

    def test_calls_what_its_routers_call(self, tmp_path):
        files = {
            "main.py": APP + "from workers import router\napp.include_router(router)\n",
            "workers/__init__.py": "from .gpu import router\n",
            "workers/gpu.py": "from fastapi import APIRouter\n"
            + ONE
            + ONE.replace("one", "not_called")
            + "if __name__ == '__main__':\n    not_called(1)\nrouter = APIRouter()\n"
            "@router.get('/')\nasync def hello():\n    return await one(1)\n",
            "other.py": ONE.replace("one", "other"),
        }
        assert scanned(tmp_path, files).mothership.calls == {"one"}


class TestImports:
    def test_are_those_of_modules_that_run_on_workers(self, tmp_path):
        files = {
            "a.py": ONE + "import numpy.linalg as la, json\nfrom helpers.text import clean\n"
            "from torch import nn, cuda\ndef later():\n    import pandas\n",
            "helpers/__init__.py": "import re\n",
            "helpers/text.py": "try:\n    import ujson\nexcept ImportError:\n    import json as ujson\n"
            "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    import mypy\nelse:\n    import yaml\n"
            "import contextlib\nwith contextlib.suppress(ImportError):\n    import rich\n"
            "if __name__ == '__main__':\n    import never\n",
            "unused.py": "import unused_package\n",
        }
        imports = scanned(tmp_path, files).imports
        assert [(each.module, each.names) for each in imports["a"]] == [
            ("numpy.linalg", ()),
            ("json", ()),
            ("torch", ("nn", "cuda")),
            ("pandas", ()),
        ]
        assert [(each.module, each.guarded) for each in imports["helpers.text"]] == [
            ("ujson", True),
            ("json", True),
            ("typing", False),
            ("mypy", True),
            ("yaml", False),
            ("contextlib", False),
            ("rich", True),
        ]
        assert imports["a"][0].place == Place("a.py", 5)
        assert set(imports) == {"a", "helpers", "helpers.text"}

    @pytest.mark.parametrize(
        "text",
        [
            "import secrets_here\n",
            "from secrets_here import x\n",
            "def later():\n    import secrets_here\n",
            "from pkg import hidden\n",
            "import pkg.hidden\n",
            "from pkg.hidden import x\n",
            "from loose.hidden import x\n",
        ],
    )
    def test_of_a_file_that_is_left_out(self, tmp_path, text):
        (tmp_path / "secrets_here.py").write_text("x = 1\n")
        for folder in ("pkg", "loose"):
            (tmp_path / folder).mkdir()
            (tmp_path / folder / "hidden.py").write_text("x = 1\n")
        (tmp_path / ".gitignore").write_text("# mine\nhidden.py\nsecrets_here.py\n")
        files = {"a.py": ONE + text, "pkg/__init__.py": ""}
        only(troubles(tmp_path, files), "a.py:", "is left out by the rule", "in .gitignore:")

    def test_of_modules_that_run_on_no_worker(self, tmp_path):
        (tmp_path / ".gitignore").write_text("hidden.py\n")
        (tmp_path / "hidden.py").write_text("x = 1\n")
        local = HEAD + "import hidden\n@remote(LiveServerless(name='x'), local=True)\ndef here(): ...\n"
        assert (
            set(scanned(tmp_path, {"a.py": ONE, "b.py": local, "c.py": "import hidden\n"}).imports) == set()
        )

    @pytest.mark.parametrize("text", ["from . import x\n", "from .x import y\n", "from ..x import y\n"])
    def test_that_lead_out_of_the_project(self, tmp_path, text):
        only(troubles(tmp_path, {"a.py": ONE + text}), "a.py:5", "leads out of the project")

    def test_of_a_module_that_a_package_does_not_have(self, tmp_path):
        files = {"a.py": ONE + "import pkg.tex\n", "pkg/__init__.py": "", "pkg/text.py": ""}
        only(troubles(tmp_path, files), "a.py:5", "pkg.tex", "did you mean 'pkg.text'")

    def test_of_a_package_with_the_name_of_a_folder(self, tmp_path):
        files = {"a.py": ONE + "from datasets import load_dataset\n", "datasets/make.py": "x = 1\n"}
        (each,) = scanned(tmp_path, files).imports["a"]
        assert (each.module, each.names) == ("datasets", ("load_dataset",))


def test_parameters_are_those_of_remote():
    wanted = [name for name in inspect.signature(remote).parameters if not name.startswith("_")]
    assert list(PARAMETERS) == wanted
