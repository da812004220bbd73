"""A scan finds what Python finds: generated projects are scanned, and then really imported."""

from __future__ import annotations

import asyncio
import contextlib
import importlib
import inspect
import random
import sys
import tempfile
import types
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import flash_nb
from flash_nb import resources
from flash_nb.project.declared import Function, Group, Project, TroubleError
from flash_nb.project.manifest import check, manifest_of, resource_of
from flash_nb.project.scan import scan

FOREVER = settings(deadline=None, max_examples=150, suppress_health_check=[HealthCheck.too_slow])


@dataclass(frozen=True)
class Seen:
    """A definition that Python has decorated."""

    module: str
    name: str
    kind: str
    is_async: bool
    resource: object
    options: dict = field(hash=False)


@contextlib.contextmanager
def recording() -> Iterator[list[Seen]]:
    """Put a `remote` in place that writes down what it decorates, under both names of the package."""
    seen: list[Seen] = []

    def remote(resource_config, dependencies=None, system_dependencies=None, **options):
        def decorate(target):
            kind = "class" if isinstance(target, type) else "function"
            is_async = asyncio.iscoroutinefunction(target)
            if not options.get("local"):
                options["dependencies"] = tuple(dependencies or ())
                seen.append(
                    Seen(target.__module__, target.__name__, kind, is_async, resource_config, options)
                )
            return target

        return decorate

    official = types.ModuleType("runpod_flash")
    official.client = types.ModuleType("runpod_flash.client")
    for module in (official, official.client):
        module.remote = remote
        for name in resources.__all__:
            setattr(module, name, getattr(resources, name))
    added = {"runpod_flash": official, "runpod_flash.client": official.client}
    before = {name: sys.modules.get(name) for name in added}
    ours = flash_nb.__dict__.get("remote")
    sys.modules.update(added)
    flash_nb.remote = remote
    try:
        yield seen
    finally:
        for name, module in before.items():
            if module is None:
                del sys.modules[name]
            else:
                sys.modules[name] = module
        del flash_nb.remote
        if ours is not None:
            flash_nb.remote = ours


def imported(folder: Path, modules: list[str]) -> list[Seen]:
    """Import modules of a folder as a worker would, and return what Python decorated."""
    tops = {module.partition(".")[0] for module in modules}
    assert not tops & set(sys.modules)
    sys.path.insert(0, str(folder))
    importlib.invalidate_caches()
    try:
        with recording() as seen:
            for module in modules:
                importlib.import_module(module)
        return seen
    finally:
        sys.path.remove(str(folder))
        for name in [name for name in sys.modules if name.partition(".")[0] in tops]:
            del sys.modules[name]


# Pieces of a generated module. {r} is how it calls remote, {c} its config, {n} a name of its own.

GUARDS = [
    ("{}", "seen"),
    ("if True:\n{}", "seen"),
    ("if DEBUG:\n    pass\nelse:\n{}", "seen"),
    ("if not DEBUG and LEVEL > 2:\n{}", "seen"),
    ("if not TYPE_CHECKING:\n{}", "seen"),
    ("try:\n    import json\n{}\nfinally:\n    pass", "seen"),
    ("try:\n{}\nexcept ImportError:\n    pass", "seen"),
    ("with contextlib.suppress(ImportError):\n{}", "seen"),
    ("match LEVEL:\n    case 3:\n{}", "seen"),
    ("for _ in (1,):\n{}", "seen"),
    ("if os.environ.get('FLASH_SCAN_TEST_UNSET'):\n    pass\nelse:\n{}", "seen"),
    ("if os.environ.get('FLASH_SCAN_TEST_UNSET'):\n{}", "perhaps"),
    ("try:\n    import module_that_is_not_there\nexcept ImportError:\n{}", "seen"),
    (
        "try:\n    LATE = 1\n    import not_there\nexcept ImportError:\n{}\nfinally:\n    del LATE",
        "seen",
    ),
    ("with contextlib.suppress(ImportError):\n    import module_that_is_not_there\n{}", "perhaps"),
    ("if TYPE_CHECKING:\n{}", "unseen"),
    ("if __name__ == '__main__':\n{}", "unseen"),
    ("while True:\n{}\n    break", "seen"),
    ("if (flag := LEVEL) == 3:\n{}", "seen"),
]

DEFINITIONS = [
    "@{r}({c})\ndef {n}(x):\n    return x\n",
    "@{r}(resource_config={c}, dependencies=PACKAGES)\nasync def {n}(x):\n    return x\n",
    """\
@{r}({c}, dependencies=['numpy', 'pandas'], system_dependencies=['ffmpeg'])
class {n}:
    def __init__(self):
        self.x = 1
    def get(self):
        return self.x
""",
    "@functools.lru_cache\n@{r}({c})\ndef {n}(x):\n    return x\n",
    "@{r}({c})\n@functools.lru_cache\ndef {n}(x):\n    return x\n",
    "def {n}(x):\n    return x\nother_{n} = {r}({c})({n})\n",
    "decorate_{n} = {r}({c}, accelerate_downloads=False)\n@decorate_{n}\ndef {n}(x):\n    return x\n",
    "p_{n} = functools.partial({r}, dependencies=['scipy'])\n@p_{n}({c})\nasync def {n}(x):\n    return x\n",
    "@{r}(**dict(resource_config={c}, dependencies=['scipy']))\ndef {n}(x):\n    return x\n",
]
LOCAL = "@{r}({c}, local=True)\ndef {n}(x):\n    return x\n"

CONFIGS = [
    "{v} = {m}",
    "{v}: LiveServerless = {m}",
    "{v} = also_{v} = {m}",
    "{v}, other_{v} = {m}, 5",
    "[{v}, *rest_{v}] = {m}, 5\n{v} = {m}",
    "if TYPE_CHECKING:\n    {v} = None\nelse:\n    {v} = {m}",
    "try:\n    {v} = {m}\nexcept ValueError:\n    raise",
    "first_{v} = {m}\n{v} = first_{v}.model_copy(update={{'idleTimeout': 77}})",
    "class Settings_{v}:\n    A = {m}\n{v} = Settings_{v}.A",
    "all_{v} = {{'a': [{m}]}}\n{v} = all_{v}['a'][0]",
    "class Settings_{v}:\n    A = {m}\nclass More_{v}(Settings_{v}):\n    B = 1\n{v} = More_{v}.A",
    "all_{v} = []\nall_{v}.append({m})\n{v} = all_{v}[-1]",
    "all_{v} = {{}}\nall_{v}['x'] = {m}\n{v} = all_{v}['x']",
    "{v} = None or {m}",
    "{v}, *_ = [{m}]\n{v} = {m}",
    "del DEBUG\nDEBUG = not True\n{v} = {m} if not DEBUG else 5",
    "import sys as system\n{v} = {m} if LEVEL > 1 else None",
]
MADE = [
    "LiveServerless(name='{k}')",
    "CpuLiveServerless(name=f'{{PREFIX}}{k}', workersMax=1 + 2, env={{'A': 'b', **COMMON}})",
    "LiveServerless(name=PREFIX + '{k}', gpus=[GpuGroup.AMPERE_80, GpuGroup['ADA_24']], idleTimeout=60 * 2)",
    "LiveServerless(name='{k}', template=PodTemplate(containerDiskInGb=LEVEL * 10))",
    "LiveServerless(**{{'name': '{k}', 'gpuCount': LEVEL - 1}})",
    "LiveServerless(name='{k}', networkVolume=NetworkVolume(name='models', size=50), cudaVersions=['12.8'])",
    "CpuLiveServerless(name='{k}', instanceIds=[CpuInstanceType.CPU5C_4_8], datacenter=DataCenter.US_KS_2)",
    "LiveServerless(name='{k}', gpus=GpuGroup.all())",
    "LiveServerless(name='{k}', gpus={{GpuType.NVIDIA_L4, GpuGroup.ADA_24}}, flashboot=not True)",
]
NAMES = ", ".join(sorted(set(resources.__all__)))
REMOTES = [
    ("from flash_nb import remote", "remote"),
    ("from runpod_flash import remote as r", "r"),
    ("import runpod_flash as rf", "rf.remote"),
    ("import flash_nb", "flash_nb.remote"),
    ("import runpod_flash.client", "runpod_flash.client.remote"),
    ("from runpod_flash.client import remote", "remote"),
    ("from flash_nb import *", "remote"),
    (
        "try:\n    from runpod_flash import remote\nexcept ImportError:\n    from flash_nb import remote",
        "remote",
    ),
    ("from zbase import remote", "remote"),
    ("from zbase import gpu_remote as g", "g"),
    ("import zbase", "zbase.remote"),
    ("import zpkg.inner.again as again", "again.remote"),
    ("from zpkg.inner import again", "again.remote"),
    ("from zpkg import *", "remote"),
    (
        "try:\n    from runpod_flash import remote as t\n    import not_there\nexcept ImportError:\n    pass",
        "t",
    ),
    ("import zpkg\nn = zpkg.inner", "n.again.remote"),
    ("class Names:\n    from flash_nb import remote as inside", "Names.inside"),
    ("import runpod_flash.client as c\nd = {'r': c.remote}", "d['r']"),
    ("import zpkg.inner.again", "zpkg.inner.again.remote"),
]
INSIDE = [
    *REMOTES,
    ("from .inner.again import remote", "remote"),
    ("from . import inner", "inner.again.remote"),
]

BASE = {
    "zbase.py": "from runpod_flash import remote\nfrom flash_nb import remote as gpu_remote\n",
    "zpkg/__init__.py": "from .inner.again import remote\n",
    "zpkg/inner/__init__.py": "from . import again\n",
    "zpkg/inner/again.py": "import runpod_flash as _rf\nremote = _rf.remote\n",
}
HEAD = f"""\
from __future__ import annotations
import contextlib
import functools
import os
from typing import TYPE_CHECKING
from runpod_flash import {NAMES}
DEBUG = False
LEVEL = 3
PREFIX = "p-"
COMMON = {{"C": "d"}}
PACKAGES = ["numpy"] + ["torch"]
"""


def indented(text: str, depth: int = 1) -> str:
    return "".join("    " * depth + line if line.strip() else line for line in text.splitlines(keepends=True))


@st.composite
def projects(draw):
    """Give the files of a project, and the names of its functions by whether Python sees them."""
    files = dict(BASE)
    shared: list[tuple[str, str]] = []  # a module, a config in it
    expected: dict[str, str] = {}
    count = draw(st.integers(1, 4))
    for index in range(count):
        inside = draw(st.booleans())
        module = f"zpkg.m{index}" if inside else f"zm{index}"
        text, called = draw(st.sampled_from(INSIDE if inside else REMOTES))
        lines = [HEAD, text + "\n"]
        for number in range(draw(st.integers(0, 4))):
            name = f"f{index}{number}"
            key = f"k{index}{number}"
            made = draw(st.sampled_from(MADE)).format(k=key)
            how = draw(st.sampled_from(["inline", "own", "from", "attribute", "as", "star"]))
            if how == "inline" or (how != "own" and not shared):
                config = made
            elif how == "own":
                config = f"c{key}"
                lines.append(draw(st.sampled_from(CONFIGS)).format(v=config, m=made) + "\n")
                shared.append((module, config))
            else:
                other, config = draw(st.sampled_from(shared))
                if how == "from":
                    lines.append(f"from {other} import {config}\n")
                elif how == "star":
                    lines.append(f"from {other} import *\n{text}\n")
                elif how == "as":
                    lines.append(f"from {other} import {config} as renamed{key}\n")
                    config = f"renamed{key}"
                else:
                    lines.append(f"import {other} as module{key}\n")
                    config = f"module{key}.{config}"
            template, status = draw(st.sampled_from(GUARDS))
            if draw(st.integers(0, 5)) == 0:
                definition, status = LOCAL, "unseen"
            else:
                definition = draw(st.sampled_from(DEFINITIONS))
            body = definition.format(r=called, c=config, n=name)
            depth = 0 if template == "{}" else 2 if template.startswith("match") else 1
            lines.append(template.format(indented(body, depth).rstrip("\n")) + "\n")
            expected[name] = status
        files[module.replace(".", "/") + ".py"] = "".join(lines)
    return files, expected


def written(folder: Path, files: dict[str, str]) -> None:
    for name, text in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)


def module_names(files: dict[str, str]) -> list[str]:
    return sorted(
        file.removesuffix(".py").removesuffix("/__init__").replace("/", ".")
        for file in files
        if file.endswith(".py")
    )


@FOREVER
@given(projects())
def test_what_python_decorates_is_found(generated):
    files, expected = generated
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        written(folder, files)
        seen = imported(folder, module_names(files))
        assert {each.name for each in seen} == {name for name, status in expected.items() if status == "seen"}
        project = found(folder, files)
    if project is None:
        assert "perhaps" not in expected.values()
        assert not seen
        return
    scanned: dict[str, tuple[Function, Group]] = {
        function.name: (function, group) for group in project.groups for function in group.functions
    }
    assert set(scanned) == {name for name, status in expected.items() if status in ("seen", "perhaps")}
    for each in seen:
        function, group = scanned[each.name]
        # lru_cache keeps the module and name of what it wraps, but is no coroutine function.
        assert (function.module, function.kind) == (each.module, each.kind)
        assert group.resource == each.resource
        assert type(group.resource) is type(each.resource)
        assert function.dependencies == each.options["dependencies"]
        assert function.is_async == each.is_async
    manifest = check(manifest_of(project, python_version="3.12"))
    assert manifest["function_registry"] == {name: group.key for name, (_, group) in scanned.items()}
    for group in project.groups:
        assert resource_of(manifest["resources"][group.key]).config_hash == group.resource.config_hash


def found(folder: Path, files: dict[str, str]) -> Project | None:
    """Scan; None if the only trouble is that nothing is decorated."""
    try:
        return scan(folder, files)
    except TroubleError as error:
        if [trouble for trouble in error.troubles if trouble.place]:
            raise
        return None


@FOREVER
@given(st.dictionaries(st.sampled_from(["a.py", "b.py", "c/__init__.py", "c/d.py", "x.y.py"]), st.binary()))
def test_no_bytes_break_it(files):
    refused_or_scanned(files)


WORDS = """import from as a b c d remote LiveServerless flash_nb runpod_flash name = ( ) [ ] { } , . :
    def class if else try except while for with match case async await return yield lambda @
    := == + * ** // % | - not and or in is None True 1 0 'x' "gpu" f'{a}' __name__ __all__ self global
    nonlocal del os environ getenv 99999999999999999999 1e400 ... @remote @remote( a=1 **a *a mothership
    FastAPI app update append"""
TOKENS = st.sampled_from([*WORDS.split(), "\n", "\n\n", "\n  ", "\n    "])


@FOREVER
@given(
    st.dictionaries(
        st.sampled_from(["a.py", "b.py", "c/__init__.py", "c/d.py", "mothership.py"]),
        st.lists(TOKENS, max_size=40).map(" ".join).map(str.encode),
    )
)
def test_no_tokens_break_it(files):
    refused_or_scanned(files)


SOURCES = [
    Path(inspect.getsourcefile(module) or "").read_text()
    for module in (contextlib, importlib, inspect, random, tempfile, types)
]


@FOREVER
@given(st.sampled_from(SOURCES), st.data())
def test_no_damaged_file_breaks_it(text, data):
    lines = text.splitlines(keepends=True)
    start = data.draw(st.integers(0, len(lines) - 1))
    end = data.draw(st.integers(start, len(lines)))
    refused_or_scanned({"a.py": "".join(lines[:start] + lines[end:]).encode()})


@pytest.mark.parametrize(
    "text",
    [
        "x = " + "(" * 90 + ")" * 90,
        "x = " + "+".join(["1"] * 5000),
        "x = " + "not " * 2000 + "1",
        "x = 'a' * 10 ** 9\ny = 2 ** 10 ** 9\nz = [0] * 10 ** 10\nw = 1 << 10 ** 10",
        "a = ['x' * 5000, 'y' * 5000]\n" + "a = [a, a, a, a]\n" * 60,
        "a = []\na.append(a)\nb = {}\nb['b'] = b\na += a\n",
        "x = f'{1:9999999999}'\ny = '%9999999999d' % 1\nz = '{:9999999999}'.format(1)",
        "x = 0x" + "f" * 9000 + "\ny = f'{x}'\nz = str(x)\nw = -x\nv = x + x",
        "if a:\n pass\n" + "elif a:\n pass\n" * 2000,
        "from a import a\nfrom a import *\nimport a.a\nfrom . import a\nfrom .... import b",
        "\0",
        "# coding: no-such-codec\n",
        "# coding: utf-16\nx = 1",
        "\ufeffx = 1",
        "x = '\\ud800'\nfrom flash_nb import *\n@remote(LiveServerless(name=x))\ndef f(): pass",
        "from flash_nb import *\n@remote(LiveServerless(name='g', env={'\\ud800': 'x'}))\ndef f(): pass",
    ],
)
def test_no_odd_file_breaks_it(text):
    refused_or_scanned({"a.py": text.encode("utf-8", "surrogatepass"), "b.py": b"from a import *\n"})


def refused_or_scanned(files: dict[str, bytes]) -> None:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        for file, text in files.items():
            path = folder / file
            path.parent.mkdir(exist_ok=True)
            path.write_bytes(text)
        try:
            project = scan(folder, files)
        except TroubleError as error:  # nothing else is allowed
            said = str(error)
        else:
            said = str(check(manifest_of(project, python_version="3.12")))
        assert said
