"""Deployed code in a Python that has the standard library and the artifact, and nothing else."""

from __future__ import annotations

import json

import pytest
from artifacts import bare, write

import flash_nb

ONE = """
from runpod_flash import CpuLiveServerless, remote
import threading

one = CpuLiveServerless(name="one", workersMax=5)
calls = []

@remote(resource_config=one, dependencies=["numpy"], system_dependencies=["ffmpeg"])
def only(prompt, size: int = 2):
    calls.append(threading.current_thread().name)
    if size < 0:
        raise ValueError(f"size={size}")
    if size > 100:
        raise SystemExit(3)
    return {"text": prompt * size, "thread": calls[-1]}
"""
MANY = """
from flash_nb import CpuLiveServerless, remote

many = CpuLiveServerless(name="many")

@remote(many)
async def first(x):
    return x + 1

@remote(many)
def second(x):
    return {x}

@remote(many)
async def third():
    return [(await first(1)).output, (await second(await first(2))).unwrap(), (await fails()).error]

@remote(many)
def fails():
    raise KeyError("k")

@remote(many, local=True)
def here(x):
    return x

@remote(many)
class Model:
    made = 0
    def __init__(self, name="small"):
        Model.made += 1
        Model._last = Model.made
        assert vars(type(self))["_last"] == Model._last
        assert isinstance(self, Model)
        assert issubclass(Larger, Model)
        self.name = name
        self.calls = 0
    def predict(self, x):
        self.calls += 1
        return [self.name, self.calls, x]
    async def reset(self):
        self.calls = 0
    def _hidden(self):
        pass

class Larger(Model):
    pass
"""
SOLE = """
from flash_nb import CpuLiveServerless, remote

@remote(CpuLiveServerless(name="sole"))
class Sole:
    def predict(self, x, method="best"):
        return [x, method]
"""


@pytest.fixture(scope="module")
def one(tmp_path_factory):
    return write(tmp_path_factory.mktemp("one"), {"jobs.py": ONE})


@pytest.fixture(scope="module")
def many(tmp_path_factory):
    return write(tmp_path_factory.mktemp("many"), {"jobs.py": MANY})


@pytest.fixture(scope="module")
def sole(tmp_path_factory):
    return write(tmp_path_factory.mktemp("sole"), {"jobs.py": SOLE})


def answers(folder, key: str, *inputs) -> list:
    """Return what the handler of a resource makes of inputs, one after the other, in one worker."""
    done = bare(
        folder,
        f"""
        import asyncio, importlib, json
        handler = importlib.import_module("handler_{key}").handler
        async def main():
            for given in json.loads({json.dumps(json.dumps(inputs))}):
                try:
                    answer = handler({{"id": "1", "input": given}})
                    if hasattr(answer, "__aiter__"):
                        print(json.dumps({{"items": [item async for item in answer]}}))
                    else:
                        print(json.dumps({{"output": await answer}}))
                except Exception as error:
                    print(json.dumps({{"error": f"{{type(error).__name__}}: {{error}}"}}))
        asyncio.run(main())
        """,
    )
    assert done.returncode == 0, done.stderr
    return [json.loads(line) for line in done.stdout.splitlines()]


def test_the_only_function_is_called_with_the_input(one):
    found = answers(one, "one", {"prompt": "a"}, {"prompt": "b", "size": 3})
    assert [each["output"]["text"] for each in found] == ["aa", "bbb"]
    assert len({each["output"]["thread"] for each in found}) == 1, "code that is not async has a thread"
    assert "flash-handler" in found[0]["output"]["thread"]


@pytest.mark.parametrize(
    ("sent", "words"),
    [
        (
            {"promt": "a"},
            ["only() cannot be called so: it takes no 'promt'; did you mean 'prompt'?", "size: int = 2"],
        ),
        ({}, ["missing a required argument: 'prompt'"]),
        ({"__empty": True}, ["missing a required argument: 'prompt'"]),
        ([1], ["The input of a job is an object, not list"]),
        ({"prompt": "a", "size": -1}, ["ValueError: size=-1"]),
        ({"prompt": "a", "size": 101}, ["The code called sys.exit(3)"]),
        ({"function_name": "onyl", "kwargs": {}}, ["no function 'onyl'; did you mean 'only'?"]),
        (
            {"class_name": "Model", "execution_type": "class", "args": []},
            ["The endpoint one has no function 'Model'"],
        ),
    ],
)
def test_what_is_wrong_is_said_and_the_worker_goes_on(one, sent, words):
    wrong, right = answers(one, "one", sent, {"prompt": "x"})
    assert right["output"]["text"] == "xx"
    for word in words:
        assert word in wrong["error"]


def test_every_function_and_class_of_a_resource_is_reachable(many):
    found = answers(
        many,
        "many",
        {"function_name": "first", "kwargs": {"x": 1}},
        {"function_name": "second", "x": 2},
        {"function_name": "third"},
        {"class_name": "Model", "method": "predict", "x": 1},
        {"x": 1},
        {"function_name": "Model", "method": "predit", "x": 1},
        {"function_name": "Model", "x": 1},
        {"function_name": "here", "x": 1},
    )
    assert [each["output"] for each in found[:4]] == [2, [2], [2, [3], "KeyError: 'k'"], ["small", 1, 1]]
    assert "The endpoint many has 5 functions: first, second, third, fails, Model." in found[4]["error"]
    assert "no method 'predit'; did you mean 'predict'?" in found[5]["error"]
    assert "has 2 methods" in found[6]["error"]
    assert "has no function 'here'" in found[7]["error"]


def test_objects_keep_their_state(many):
    predict = {"class_name": "Model", "method": "predict", "x": 0}
    large = {**predict, "constructor_kwargs": {"name": "large"}}
    found = answers(
        many,
        "many",
        predict,
        predict,
        large,
        {**predict, "instance_id": "mine"},
        large,
        {"class_name": "Model", "method": "reset"},
        predict,
    )
    assert [each["output"] for each in found] == [
        ["small", 1, 0],
        ["small", 2, 0],
        ["large", 1, 0],
        ["small", 1, 0],
        ["large", 2, 0],
        None,
        ["small", 1, 0],
    ]


def test_the_only_method_needs_no_name_and_may_have_a_parameter_of_that_name(sole):
    found = answers(
        sole,
        "sole",
        {"x": 1},
        {"x": 1, "method": "fast"},
        {"class_name": "Sole", "method": "predict", "x": 2},
    )
    assert [each["output"] for each in found] == [[1, "best"], [1, "fast"], [2, "best"]]


@pytest.mark.parametrize("form", ["def", "async def"])
def test_a_generator_streams(tmp_path, form):
    source = f"""
    from flash_nb import CpuLiveServerless, remote
    @remote(CpuLiveServerless(name="drip"))
    {form} numbers(n):
        for number in range(n):
            yield {{"number": number}}
        if n > 3:
            raise ValueError("too many")
    """
    folder = write(tmp_path, {"jobs.py": source})
    found = answers(
        folder,
        "drip",
        {"n": 2},
        {"n": 4},
        {"function_name": "numbers", "args": [2], "serialization_format": "json"},
        {"m": 2},
    )
    assert found[0] == {"items": [{"number": 0}, {"number": 1}]}
    assert found[1] == {"error": "ValueError: too many"}
    (response,) = found[2]["items"]
    assert response["json_result"] == [{"number": 0}, {"number": 1}]
    assert "numbers() cannot be called so" in found[3]["error"]


def test_a_traceback_begins_with_the_users_code(one):
    done = bare(
        one,
        """
        import asyncio, traceback
        from handler_one import handler
        try:
            asyncio.run(handler({"input": {"prompt": "a", "size": -1}}))
        except ValueError:
            traceback.print_exc()
        """,
    )
    assert done.stderr.count("flash_runtime") == 1, done.stderr
    assert "concurrent" not in done.stderr
    assert 'raise ValueError(f"size={size}")' in done.stderr


def test_a_stand_in_answers_for_an_image(tmp_path):
    source = """
    from flash_nb import CpuServerlessEndpoint, remote, stand_in
    own = CpuServerlessEndpoint(name="own", imageName="me/upper:1")
    @remote(own)
    def upper(text):
        return {"text": text}
    async def image(job):
        return job["input"]["text"].upper()
    stand_in("me/upper:1")(image)
    """
    folder = write(tmp_path, {"jobs.py": source})
    assert answers(folder, "own", {"text": "a"}) == [{"output": "A"}]


def test_all_public_names_can_be_imported_as_users_do(one):
    names = ", ".join(flash_nb.__all__)
    done = bare(
        one,
        f"""
        from flash_nb import {names}
        from runpod_flash import FlashApp, ResourceManager, remote
        from runpod_flash.client import remote as again
        from runpod_flash.core.resources import LiveServerless, ServerlessScalerType
        from runpod_flash.runtime.exceptions import RemoteExecutionError as theirs
        import flash_nb.errors, runpod_flash as rf, flash_nb.resources
        assert again is remote is rf.remote and theirs is flash_nb.errors.RemoteExecutionError
        assert flash_nb.__version__ == {flash_nb.__version__!r}
        assert issubclass(flash_nb.JobTimeoutError, RemoteExecutionError)
        gpu = LiveServerless(name="one", gpus=[GpuGroup.AMPERE_80], env={{"A": "1"}})
        print(gpu.name, gpu.gpus, gpu.resource_type, gpu.model_copy(update={{"name": "b"}}).name)
        print(CpuInstanceType.CPU5C_4_8.value, DataCenter.EU_RO_1, CudaVersion.V12_8, GpuGroup.ANY)
        PodTemplate(containerDiskInGb=1), NetworkVolume(name="v", size=1, dataCenterId=DataCenter.EU_RO_1)
        for use in (lambda: flash_nb.map(print, []), lambda: Job.status, lambda: FlashApp("a")):
            try:
                use()
            except flash_nb.FlashError as error:
                print(error)
        try:
            flash_nb.remotee
        except AttributeError as error:
            print(error)
        try:
            gpu.workers
        except AttributeError as error:
            print(error)
        """,
    )
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    assert lines[:2] == ["one ['AMPERE_80'] CpuLiveServerless b", "cpu5c-4-8 EU-RO-1 12.8 any"]
    assert lines[2] == "map does not exist in deployed code."
    assert "asyncio.gather" in lines[3]
    assert "did you mean 'remote'?" in done.stdout
    assert "LiveServerless 'one' has no setting 'workers'" in done.stdout


def test_what_notebooks_alone_can_do_is_said(many):
    done = bare(
        many,
        """
        from flash_nb import FlashRuntimeError
        from jobs import Model, first
        print(first, Model)
        for name in ("submit", "stream", "carries"):
            try:
                getattr(first, name)(1)
            except FlashRuntimeError as error:
                print(error)
        try:
            first.nothing
        except AttributeError as error:
            print(error)
        try:
            Model().predit(1)
        except AttributeError as error:
            print(error)
        """,
    )
    assert done.returncode == 0, done.stderr
    assert "<remote function first on many> <remote class Model on many>" in done.stdout
    assert "asyncio.create_task(f(x))" in done.stdout
    assert "the remote function first has no attribute 'nothing'" in done.stdout
    assert "no method 'predit'; did you mean 'predict'?" in done.stdout


def test_objects_in_place(many):
    done = bare(
        many,
        """
        import asyncio
        from jobs import Model, first, here
        async def main():
            async with Model(name="m") as model:
                outs = [await model.predict(1), await model.predict(await first(1)), await model.reset()]
            print([out.output for out in outs], [out.status for out in outs], (await here(7)).output)
        asyncio.run(main())
        """,
        FLASH_RESOURCE_NAME="many",
    )
    assert (
        done.stdout.strip() == "[['m', 1, 1], ['m', 2, 2], None] ['COMPLETED', 'COMPLETED', 'COMPLETED'] 7"
    ), done.stderr


def test_without_a_manifest_or_an_endpoint_it_says_so(many, tmp_path):
    code = """
    import asyncio
    from jobs import first
    try:
        asyncio.run(first(1))
    except Exception as error:
        print(type(error).__name__, error)
    """
    assert "names no endpoint for the resource 'many': it is not deployed" in bare(many, code).stdout
    found = bare(many, code, FLASH_MANIFEST_PATH=str(tmp_path / "none.json")).stdout
    assert found.startswith("ManifestError The manifest")
    (tmp_path / "bad.json").write_text('{"resources": 3}')
    assert "has no resources" in bare(many, code, FLASH_MANIFEST_PATH=str(tmp_path / "bad.json")).stdout
    (tmp_path / "bad.json").write_text('{"resources": {"mamy": {}}}')
    found = bare(many, code, FLASH_MANIFEST_PATH=str(tmp_path / "bad.json")).stdout
    assert "did you mean 'mamy'?" in found


def test_a_manifest_that_names_what_the_code_has_not(tmp_path):
    folder = write(tmp_path, {"jobs.py": ONE})
    (folder / "jobs.py").write_text(ONE.replace("def only(", "def onlly("))
    done = bare(folder, "import handler_one")
    assert "jobs has no 'only'; did you mean 'onlly'?" in done.stderr


def test_variables_that_a_declaration_reads_need_not_exist_on_every_worker(tmp_path):
    source = """
    import os
    from flash_nb import CpuLiveServerless, remote
    other = CpuLiveServerless(name="other", env={"TOKEN": os.environ["TOKEN"]})
    @remote(other)
    async def there(): ...
    @remote(CpuLiveServerless(name="one"))
    async def here():
        return os.environ["TOKEN"]
    """
    folder = write(tmp_path, {"jobs.py": source})
    assert answers(folder, "one", {}) == [{"output": ""}]
