"""A notebook as a project: what travels, what is refused, and that it means the same."""

from __future__ import annotations

import ast
import builtins
import json
import re
import sys
import types
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from flash_nb.cells.definitions import names_of
from flash_nb.cells.plan import PROVIDED_NAMES, plan_cell
from flash_nb.cells.reading import Cell
from flash_nb.project.declared import Trouble, TroubleError
from flash_nb.project.export import TARGETS, Export, export
from flash_nb.sdk.notebook_file import read_cells

NOTEBOOKS = sorted((Path(__file__).parents[3] / "notebooks").glob("*.ipynb"))
HEAD = 'from flash_nb import CpuLiveServerless, remote\nw = CpuLiveServerless(name="work")'


def exported(*sources: str, **options) -> Export:
    return export("a.ipynb", cells(*sources), **options)


def cells(*sources: str) -> list[Cell]:
    return [Cell(number, source, f"c{number}") for number, source in enumerate(sources, 1)]


def module(made: Export, name: str = "work.py") -> str:
    return "\n\n\n".join(block.text for block in made.files[name]) + "\n"


def running(text: str) -> dict:
    """Execute a module; return its functions and classes, without what makes them remote."""
    found = types.ModuleType("exported")
    sys.modules["exported"] = found
    exec(compile(text, "exported", "exec"), vars(found))
    return {name: getattr(value, "__wrapped__", value) for name, value in vars(found).items()}


def refused(*sources: str, **options) -> str:
    with pytest.raises(TroubleError) as caught:
        exported(*sources, **options)
    return str(caught.value)


# --- what travels ------------------------------------------------------------------------------------


def test_a_function_takes_along_what_it_reads_in_order_and_nothing_else():
    made = exported(
        HEAD,
        "BASE = 3  # of everything\nOTHER = 4\nSCALE = BASE * 2",
        "def unused(): return OTHER\n\ndef double(x):\n    return x * SCALE",
        "class Point:\n    def __init__(self, x): self.x = double(x)",
        "@remote(w)\ndef f(x):\n    return Point(x).x",
    )
    text = module(made)
    assert text.index("BASE = 3  # of everything") < text.index("SCALE") < text.index("def double")
    assert "OTHER" not in text
    assert running(text)["f"](2) == 12
    assert [block.id for block in made.files["work.py"]] == ["imports", "c1", "c2", "c3", "c4", "c5"]


def test_imports_go_into_the_functions_that_read_them_and_eager_ones_to_the_top():
    text = module(
        exported(
            HEAD,
            "import math, json\nimport decimal as d\nfrom functools import cache\nimport os.path, os",
            "@cache\ndef root(x): return math.sqrt(x)",
            '@remote(w)\ndef f(x: d.Decimal):\n    """Doc."""\n    return root(x), json.dumps(1)',
        )
    )
    tree = ast.parse(text)
    top = [ast.unparse(node) for node in tree.body if isinstance(node, (ast.Import, ast.ImportFrom))]
    flash = "from flash_nb import CpuLiveServerless, remote"
    assert top == ["import decimal as d", flash, "from functools import cache"]
    functions = {node.name: node for node in tree.body if isinstance(node, ast.FunctionDef)}
    assert ast.unparse(functions["root"].body[0]) == "import math"
    assert ast.get_docstring(functions["f"]) == "Doc."
    assert ast.unparse(functions["f"].body[1]) == "import json"
    assert running(text)["f"](4.0) == (2.0, "1")


def test_each_method_imports_what_it_reads():
    text = module(
        exported(
            HEAD,
            "import math\nimport json",
            "@remote(w)\nclass C:\n    def a(self): return math.pi\n    def b(self):\n        return json",
        )
    )
    assert text.count("import math") == text.count("import json") == 1
    assert running(text)["C"]().a() > 3


def test_tabs_semicolons_and_signs_beyond_ascii_are_kept():
    text = module(
        exported(
            HEAD,
            "import math; ü = 'é'; k = 1  # one",
            "@remote(w)\ndef f(x):\n\tif x:\n\t\treturn math.floor(x), ü, k",
            "@remote(w)\ndef g(x): y = 'é'; return math.floor(x), y",
        )
    )
    assert "k = 1  # one" in text
    assert running(text)["f"](1.5) == (1, "é", 1)
    assert running(text)["g"](1.5) == (1, "é")


def test_a_text_of_several_lines_keeps_its_value():
    cell = '%%flash_remote\ntext = """a\n  b\nc"""\nother = f"""{text}\n d"""'
    found = running(module(exported(cell), "notebook.py"))
    assert found["make_text_and_other"]() == {"text": "a\n  b\nc", "other": "a\n  b\nc\n d"}


def test_a_cell_is_a_function_of_its_values():
    made = exported(
        "scale = 3\nxs = [1, 2]\ndef double(x): return x * 2",
        "%%flash_remote --name work\n"
        "xs.append(scale)\ntotal = sum(map(double, xs))\nif total > 100:\n    big = 1\ntotal",
    )
    f = running(module(made))["make_total"]
    assert f([1], scale=5) == {"xs": [1, 5], "total": 12, "result": 12}
    assert f([100]) == {"xs": [100, 3], "total": 206, "big": 1, "result": 206}
    (function,) = made.functions
    assert [(each.name, each.default) for each in function.parameters] == [("xs", ""), ("scale", "3")]


def test_a_cell_that_awaits_is_a_coroutine_function():
    text = module(exported("%%flash_remote\nimport asyncio\nawait asyncio.sleep(0)\nx = 1"), "notebook.py")
    assert "async def make_x" in text


def test_the_options_of_a_cell_become_the_decorator_and_the_resource():
    text = module(
        exported(
            "%%flash_remote --gpu AMPERE_80 --gpu ADA_24 --deps numpy,pandas --system-deps ffmpeg"
            " --timeout 90\n%pip install rich\nx = 1"
        ),
        "notebook_ampere_80_ada_24.py",
    )
    assert 'dependencies=["numpy", "pandas", "rich"],\n    system_dependencies=["ffmpeg"],\n' in text
    assert "def make_x():\n    x = 1\n    return" in text
    assert "gpus=[GpuGroup.AMPERE_80, GpuGroup.ADA_24]" in text
    assert "executionTimeoutMs=90000" in text


def test_flash_use_is_what_bare_cells_run_on():
    text = module(
        exported("%flash use --cpu cpu5c-4-8 --workers 1:2 --deps rich big", "%%flash_remote\nx = 1"),
        "big.py",
    )
    assert 'big = CpuLiveServerless(\n    name="big",' in text
    assert '@remote(resource_config=big, dependencies=["rich"])' in text


def test_a_map_is_a_function_of_one_item():
    made = exported("k = 2", "%%flash_map a, b in [(1, 2), (3, 4)]\nc = a * b * k")
    assert running(module(made, "notebook.py"))["make_c"](3, 4) == {"c": 24}


def test_a_shell_line_runs_without_a_worker():
    text = module(exported("%%flash_remote\n!true\nfound = !echo one"), "notebook.py")
    assert running(text)["make_found"]() == {"found": ["one"]}


def test_a_cell_that_only_defines_makes_functions_that_call_each_other_plainly():
    made = exported(
        "import math",
        "%%flash_remote --name work\ndef g(x): return math.floor(x)\n\ndef f(x):\n    return g(x) + 1",
    )
    assert [each.name for each in made.functions] == ["g", "f"]
    assert running(module(made))["f"](2.5) == 3


def test_routes_keep_their_method_and_path():
    made = exported(
        'import flash_nb\napi = flash_nb.CpuLiveLoadBalancer(name="api")\nPATH = "/x"',
        '@flash_nb.remote(api, method="GET", path=PATH)\ndef f(): return 1',
    )
    assert '@remote(resource_config=api, method="GET", path="/x")' in module(made, "api.py")
    assert made.functions[0].route == "GET /x"
    assert "@app" not in made.files["main.py"][0].text


def test_the_last_definition_of_a_name_is_exported():
    made = exported(HEAD, "@remote(w)\ndef f(): return 1", "@remote(w)\ndef f(): return 2")
    assert running(module(made))["f"]() == 2
    assert made.notes == ("f is defined in cells 2 and 3: the last one is exported",)


def test_a_name_is_what_it_is_when_the_function_is_called():
    sources = [HEAD, "k = 1", "@remote(w)\ndef f(): return k", "k = 2", "await f()"]
    assert running(module(exported(*sources)))["f"]() == 2
    said = refused(*sources[:3], "await f()", "k = 2", "await f()")
    assert "cell 2, line 1 and cell 5, line 1" in said


def test_a_function_is_called_where_what_calls_it_is_called():
    sources = [HEAD, "k = 1\nasync def both(): return await f()", "@remote(w)\ndef f(): return k", "k = 2"]
    assert running(module(exported(*sources, "await both()")))["f"]() == 2
    assert "not the same" in refused(*sources[:3], "await both()", "k = 2", "await both()")
    assert running(module(exported(*sources[:3], "await both()", "k = 2")))["f"]() == 1


def test_a_long_chain_of_helpers_is_followed():
    chain = [f"def h{n}(x): return h{n - 1}(x) + 1" for n in range(1, 1500)]
    made = exported(HEAD, "def h0(x): return x", *chain, "@remote(w)\ndef f(x): return h1499(x)")
    assert module(made).count("def h") == 1500


def test_names_of_cells_stay_when_a_cell_is_inserted():
    first = exported("%%flash_remote\nx = 1", "%%flash_remote\nx = 2")
    names = [each.name for each in first.functions]
    assert names == ["make_x", "make_x_c2"]
    again = export(
        "a.ipynb",
        [Cell(1, "%%flash_remote\nx = 0", "new"), Cell(2, "%%flash_remote\nx = 1", "c1")],
        names={"c1": "make_x"},
    )
    assert {each.cell_id: each.name for each in again.functions} == {"new": "make_x_new", "c1": "make_x"}


def test_a_constant_is_what_it_was_where_it_was_made():
    made = exported("a = 1", "b = a", "a = 9", "c = b", "%%flash_remote\nx = c")
    assert running(module(made, "notebook.py"))["make_x"]() == {"x": 1}


# --- what is refused ---------------------------------------------------------------------------------


def test_all_that_cannot_be_exported_is_listed_at_once_with_cell_line_and_fix():
    said = refused(
        HEAD,
        "data = open('x').read()\nxs = []",
        "xs.append(1)",
        "@remote(w)\ndef f():\n    return data\n\n@remote(w)\ndef g():\n    return xs, missing",
    )
    assert re.findall(r"a\.ipynb, cell 4 \(c4\):(\d+): (\w+) reads (\w+)", said) == [
        ("3", "f", "data"),
        ("7", "g", "missing"),
        ("7", "g", "xs"),
    ]
    assert "exists only where the notebook has run (cell 2, line 1: data = open('x').read())" in said
    assert "is changed (cell 3, line 1: xs.append(1))" in said
    assert said.count("→") == 3


def test_partial_leaves_out_what_cannot_be_exported():
    made = exported(
        HEAD, "x = input()", "@remote(w)\ndef f(): return x", "@remote(w)\ndef g(): return 1", partial=True
    )
    assert [each.name for each in made.functions] == ["g"]
    assert "f reads x" in str(made.left_out[0])


@pytest.mark.parametrize(
    ("sources", "said"),
    [
        ([HEAD, "if 1:\n    @remote(w)\n    def f(): pass"], "f is made remote below the top level"),
        ([HEAD, "def f(): pass\ng = remote(w)(f)"], "remote(w)(f) is made remote below the top level"),
        ([HEAD, "login = {'password': 'hunter2'}\n@remote(w)\ndef f(): return login"], "value of password"),
        ([HEAD, "@remote(w)\ndef f(): return dict(api_key='hunter2')"], "value of api_key"),
        (["%%flash_remote\nfrom math import *"], "imports * from math"),
        (["%%flash_remote\nx = globals()"], "uses globals()"),
        (["%%flash_remote\n%matplotlib inline"], "a worker has no IPython magics"),
        (["%%flash_remote -r nothing\nx = 1"], "nothing is not defined"),
        (["%flash pick gpu", "%%flash_remote -r gpu\nx = 1"], "chosen by hand"),
        ([HEAD, "@remote(w)\ndef f(): return 1", "@remote(w)\ndef g(): return f()"], "a remote function"),
        ([HEAD, "@remote(w)\ndef f(): return 1", "%%flash_remote\nx = f()"], "a remote function"),
        ([HEAD + "\nn = input()", "@remote(CpuLiveServerless(name=n))\ndef f(): return 1"], "is computed"),
        (
            [HEAD, "deps = open('x').read().split()", "@remote(w, dependencies=deps)\ndef f(): pass"],
            "computed",
        ),
        (["x = 1"], "nothing in a.ipynb runs on a resource"),
        ([HEAD, "from math import *", "@remote(w)\ndef f(): return sin(1)"], "from math import sin"),
        ([HEAD, "@remote(w)\ndef f(): return 'ghp_" + "a" * 36 + "'"], "what looks like a GitHub token"),
        (["%%flash_remote\ndef f():\n    global n\n    n = 1\nf()"], "with `global` alone"),
    ],
)
def test_what_cannot_be_exported_says_why(sources, said):
    assert said in refused(*sources)


# --- secrets -----------------------------------------------------------------------------------------


def test_secrets_are_read_from_the_environment():
    token = "hf_" + "a1B2" * 9
    made = exported(
        "import os\nfrom flash_nb import CpuLiveServerless, remote",
        f'HF_TOKEN = "{token}"',
        'w = CpuLiveServerless(name="work", env={"API_KEY": "k123", "LEVEL": "debug", "X": os.environ["Y"]})',
        "@remote(w)\ndef f(): return HF_TOKEN",
    )
    everything = "\n".join(block.text for blocks in made.files.values() for block in blocks)
    assert token not in everything
    assert "k123" not in everything
    assert 'env={"API_KEY": os.environ["API_KEY"], "LEVEL": "debug", "X": os.environ["Y"]}' in everything
    assert made.files[".env.example"][0].text.split("\n")[1:] == ["API_KEY=", "HF_TOKEN=", "Y="]


def test_a_secret_that_a_cell_is_allowed_is_a_parameter():
    made = exported(
        'my_token = "abcdefgh12345678xyz"', "%%flash_remote --allow-secret my_token\nx = my_token"
    )
    assert "def make_x(my_token):" in module(made, "notebook.py")


def test_a_template_holds_no_secret_either():
    made = exported(
        "from flash_nb import *",
        'w = LiveServerless(name="work", template=PodTemplate(env=[{"key": "API_KEY", "value": "hunter2"}]))',
        "@remote(w)\ndef f(): return 1",
    )
    assert 'PodTemplate(env=[{"key": "API_KEY", "value": os.environ["API_KEY"]}])' in module(made)
    assert "import os\n" in module(made)


# --- the project's other files -----------------------------------------------------------------------


def test_main_takes_each_parameter_of_each_queue_function():
    made = exported(HEAD, "@remote(w)\nasync def f(a: int, b=2, *, c: list[str] = [], d=max): return a")
    text = made.files["main.py"][0].text
    compile(text, "main.py", "exec")
    assert '@app.post("/f")' in text
    for part in (
        "a: int = Body(embed=True)",
        "b: Any = Body(2, embed=True)",
        "d: Any = Body(None, embed=True)",
    ):
        assert part in text


CLASSES = """class Base:
    def __init__(self, start=1): self.n = start
    def add(self, by: int = 1, *, twice: bool = False): return by
    def reset(self): return 0
    def hidden(self): return 0

@remote(w)
class Counter(Base):
    hidden = None
    @property
    def size(self): return 1
    @staticmethod
    def pure(x, y=2): return x
    @classmethod
    def make(cls, z): return z
    def add(self, by: float): return by
    def odd(self=None): return 1
    def _own(self): return 1
    async def many(self, *rows, **words): return words"""


def test_main_takes_each_parameter_of_each_method_of_a_class():
    made = exported(HEAD, CLASSES)
    (counter,) = made.functions
    assert [(each.name, [one.name for one in each.parameters]) for each in counter.methods] == [
        ("pure", ["x", "y"]),
        ("make", ["z"]),
        ("add", ["by"]),
        ("odd", []),
        ("many", ["rows", "words"]),
        ("reset", []),
    ]
    assert counter.route.startswith("POST /Counter/pure, POST /Counter/make, POST /Counter/add, ")
    main = made.files["main.py"][0].text
    compile(main, "main.py", "exec")
    assert (
        '@app.post("/Counter/add")\nasync def post_Counter_add(by: float = Body(embed=True)) -> Any:' in main
    )
    assert "return await _answer(_object_of_Counter().add(by=by))" in main
    assert "_own" not in main
    assert "`POST /Counter/pure, " in made.files["README.md"][0].text


@pytest.mark.parametrize(
    "text",
    [
        "class C:\n    def __init__(self, a, b=1): ...\n    def m(self): ...",
        "class C:\n    def __init__(self, *, a): ...\n    def m(self): ...",
        "@dataclass\nclass C:\n    a: int\n    b: int = 1\n    def m(self): ...",
        "class C(Base):\n    def m(self): ...",
    ],
)
def test_a_class_that_is_made_with_arguments_has_no_routes(text):
    above = "from dataclasses import dataclass\nclass Base:\n    def __init__(self, a): ..."
    made = exported(HEAD, above, f"@remote(w)\n{text}")
    assert "C is made with arguments: main.py has no routes for its methods" in made.notes[0]
    assert [each.route for each in made.functions] == [""]
    assert "/C/" not in made.files["main.py"][0].text


def test_a_cpu_resource_of_the_official_target_says_so_by_its_class():
    sources = (
        "from flash_nb import CpuInstanceType, LiveServerless, remote",
        'w = LiveServerless(name="work", instanceIds=[CpuInstanceType.CPU5C_4_8])',
        "@remote(w)\ndef f(): return 1",
    )
    assert "w = LiveServerless(" in module(exported(*sources))
    assert "w = CpuLiveServerless(" in module(exported(*sources, target="runpod-flash"))


def test_a_time_that_cannot_be_kept_is_noted():
    notes = exported("%%flash_remote --timeout 5\nx = 1", "%%flash_remote\ny = 1").notes
    assert any("make_x is no longer stopped after 5 s" in note for note in notes)


def test_requirements_are_pinned_to_what_is_installed_here():
    import numpy as np

    made = exported(
        HEAD,
        "import numpy\nimport not_there",
        '@remote(w, dependencies=["rich"])\ndef f(): return numpy, not_there',
    )
    lines = made.files["requirements.txt"][0].text.split("\n")
    assert f"numpy=={np.__version__}" in lines
    assert any(re.fullmatch(r"rich==[\d.]+", line) for line in lines)
    assert "not-there" in lines or "not_there" in lines
    assert any(line.startswith("# not-there is not installed") for line in lines)


def test_the_official_target_gets_its_names_imports_and_dependencies():
    made = exported(
        'import flash_nb\ngpu = flash_nb.LiveServerless(name="my-model-fb", gpus=[flash_nb.GpuGroup.ANY])',
        "import numpy as np",
        "@flash_nb.remote(gpu)\ndef f(x):\n    import torch\n    return np.sum(x)",
        target="runpod-flash",
    )
    text = module(made, "my_model.py")
    assert "from runpod_flash import GpuGroup, LiveServerless, remote" in text
    assert 'gpu = LiveServerless(name="my_model", gpus=[GpuGroup.ANY])' in text
    assert '@remote(resource_config=gpu, dependencies=["numpy"])' in text
    assert "flash_nb" not in text
    lines = made.files["requirements.txt"][0].text.split("\n")
    assert "runpod-flash==1.0.0" in lines
    assert not any(line.startswith("torch") for line in lines)


# --- every notebook ----------------------------------------------------------------------------------


@pytest.mark.parametrize("target", ["flash_nb", "runpod-flash"])
@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_our_notebooks_are_exported_whole(path, target):
    made = export(path.name, read_cells(path), target=target)
    assert not made.left_out
    for name, blocks in made.files.items():
        if name.endswith(".py"):
            compile("\n".join(block.text for block in blocks), name, "exec")
    assert "@remote" in json.dumps([block.text for blocks in made.files.values() for block in blocks])


# --- properties --------------------------------------------------------------------------------------

NAMES = ("a", "b", "c")
numbers = st.integers(0, 9)


@st.composite
def expressions(draw, names: tuple[str, ...] = NAMES) -> str:
    kind = draw(st.sampled_from(["number", "name", "sum", "call", "math"]))
    if kind == "number":
        return str(draw(numbers))
    if kind == "name":
        return draw(st.sampled_from(names))
    if kind == "sum":
        return f"{draw(st.sampled_from(names))} + {draw(numbers)}"
    if kind == "math":
        return f"math.floor({draw(st.sampled_from(names))} / 2)"
    return f"h{draw(st.integers(0, 1))}({draw(numbers)})"


@st.composite
def notebooks(draw) -> list[str]:
    """A notebook whose cells all run: constants, helpers, remote functions and cells, and new bindings."""
    made = [
        HEAD + "\nimport math",
        "a = 1\nb = 2\nc = 3",
        "def h0(x): return x + a",
        "def h1(x): return h0(x) * b",
    ]
    for number in range(draw(st.integers(1, 5))):
        kind = draw(st.sampled_from(["constant", "helper", "remote", "cell", "change", "call"]))
        value = draw(expressions())
        name = draw(st.sampled_from(NAMES))
        match kind:
            case "constant":
                made.append(f"{name} = {value if 'h' not in value else 4}")
            case "helper":
                made.append(f"def h{draw(st.integers(0, 1))}(x):\n    return x + {name}")
            case "remote":
                made.append(f"@remote(w)\ndef f{number}(x):\n    return x + {value}")
            case "cell":
                made.append(f"%%flash_remote --name work\n{name} = {value}\nz{number} = [{name}]\n{value}")
            case "change":
                made.append(f"{name} = int(open('/dev/null').read() or 7)")
            case "call":
                made.append(f"seen{number} = h1({draw(numbers)})")
    made.append("@remote(w)\ndef last(x):\n    return x + h1(1)\n\n@remote(w)\ndef pure(x):\n    return x")
    return made


def oracle(sources: list[str]) -> tuple[dict, dict[str, tuple[dict, dict]]]:
    """Run a notebook here; return its names at the end, and what each remote cell read and bound."""
    names: dict = {}
    runs = {}
    for number, source in enumerate(sources, 1):
        if not source.startswith("%%"):
            exec(source, names)
            continue
        body = source.partition("\n")[2]
        before = dict(names)
        tree = ast.parse(body)
        last = ast.Expression(tree.body.pop().value)  # type: ignore[attr-defined]
        exec(compile(tree, "cell", "exec"), names)
        value = eval(compile(last, "cell", "eval"), names)
        bound = {name: names[name] for name in plan_cell(body).outputs}
        runs[f"c{number}"] = before, {**bound, "result": value}
    return names, runs


@settings(max_examples=150, deadline=None)
@given(notebooks())
def test_exported_functions_compute_what_the_notebook_computes(sources):
    names, runs = oracle(sources)
    made = exported(*sources, partial=True)
    text = module(made)
    assert exported(*sources, partial=True) == made
    assert not plan_cell(text.replace("@remote(resource_config=w)\n", "")).reads, text
    found = running(text)
    wanted = {name for name in names if re.fullmatch(r"f\d|last|pure", name)} | set(runs)
    got = {each.cell_id if each.name.startswith("make_") else each.name for each in made.functions}
    refused_cells = {int(number) for t in made.left_out for number in re.findall(r"cell (\d+) \(", str(t))}
    if not refused_cells:
        texts = {source.strip() for source in sources if source.startswith("%%")}
        assert {name for name in wanted if not name.startswith("c")} <= got
        assert len([name for name in got if name in runs]) == len(texts)
    for each in made.functions:
        if each.cell_id in runs and each.name.startswith("make_"):
            before, after = runs[each.cell_id]
            assert found[each.name](**{p.name: before[p.name] for p in each.parameters}) == after, text
        else:
            assert found[each.name](5) == names[each.name].__wrapped__(5), text


SNIPPETS = (
    HEAD,
    "import math, os.path as p\nimport os.path\nimport numpy as np\nfrom math import *",
    "from math import (\n    sin,\n    cos as c,\n)",
    "try:\n    import tomllib\nexcept ImportError:\n    tomllib = None",
    "from __future__ import annotations",
    "a = b = 3; k = a * 2  # both\n(x, y), *z = (1, 2), 3",
    "a += 1",
    "if a > 1:\n    a = 2",
    "del a",
    "for i in range(3):\n    total = i",
    "with open('f') as file:\n    text = file.read()",
    "names = ['x']\nnames.append('y')",
    'text = """one\n  two\n"""\nraw = f"""{a}\n {k!r:>{a}}"""',
    "big = {n: [m for m in range(n)] for n in range(3)}\nf0 = lambda x, k=k: x + math.pi + k",
    "def h(x, *rest, y=k, **more):\n    'doc'\n    return math.sin(x) + a",
    "def h(x): return np.sum(x); pass",
    "def outer():\n    global a\n    a = 1\n    def inner(): return p\n    return inner",
    "@functools.cache\ndef cached(x): return x",
    "import functools",
    "class Base:\n    k = a\n    def m(me): return sin(k)\n    class In:\n        def n(me): return np",
    "class Child(Base):\n    def m(self):\n        return super().m() + h(1)",
    "@remote(w)\ndef f(x: np.ndarray = None, *, n=k) -> Base:\n    return h(x), names, text, f0, Child",
    "@remote(w, dependencies=['numpy'], system_dependencies=('git',))\nasync def g(x): return await f(x)",
    "@remote(w, local=True)\ndef here(): return 1",
    "@remote(w)\nclass Model(Base):\n    def run(self): return here(), tomllib",
    "@remote(CpuLiveServerless(name='inline', workersMax=a))\n@functools.cache\ndef odd(): return i, file",
    "%flash use --gpu AMPERE_80 --env HF_TOKEN --volume models:20 gpu",
    "%flash use w",
    "%flash use --none",
    "%flash pick other",
    "# a comment\n%%flash_remote\n# another\nimport math as m\nvalue = m.floor(a)\nvalue;",
    "%%flash_remote -r gpu --out best\nbest = max(names)\nother = 1",
    "%%flash_remote --in a,names\nnames += [a]\ndel a\ntry:\n    z = 1\nexcept ValueError as e:\n    q = e",
    "%%flash_remote -r other\nx = 1",
    "%%flash_remote --name fns\nimport math\ndef one(): return two()\n\ndef two():\n    return math.e",
    "%%flash_remote --define\nN = 2\ndef three(): return N",
    "%%flash_remote\ndef loc():\n    global a\n    a = 2\na = 1\nloc()\nawait sleep(a)",
    "%%flash_remote\nclass T:\n    z = a\n\nt = T()\nh = h(1)\nresult = 1\n(walrus := 3)",
    "%%flash_remote\n!ls {a} $HOME\nout = !pwd\ndisplay(out)\nwhile True:\n    break",
    "%%flash_map (a, *rest), b in zip(z, z) --max-parallel 2\nsquare = a * b\nnames.append(b)\nsquare",
    "%%flash_map n in range(a)\nimport math\ndef each(): return n",
    "%%flash_remote --gup 1\nx",
    "%%flash_remote\nx = (",
    "%%bash\nls",
    "%time x = 3\n!ls",
    "x = (",
    "%%flash_remote",
    "match a:\n    case {'k': v}:\n        pass",
    "print(a)",
)


@settings(max_examples=150, deadline=None)
@given(st.lists(st.sampled_from(SNIPPETS), min_size=1, max_size=14), st.sampled_from(TARGETS))
def test_whatever_a_notebook_holds_its_project_compiles_and_reads_only_what_it_has(sources, target):
    refusals: list[Trouble] = []
    try:
        made = exported(*sources, target=target, partial=True)
    except TroubleError as error:
        refusals = error.troubles
    if refusals:
        assert all(trouble.message and trouble.fix for trouble in refusals)
        return
    assert exported(*sources, target=target, partial=True) == made
    for name, blocks in made.files.items():
        if not name.endswith(".py"):
            continue
        text = "\n\n\n".join(block.text for block in blocks)
        tree = ast.parse(text)
        compile(text, name, "exec")
        names = names_of(*tree.body, flags=0)
        known = {*dir(builtins), *PROVIDED_NAMES, *names.binds}
        assert (names.eager | names.lazy) <= known, text
    here = {each.name for each in made.functions}
    there = {
        node.name
        for name, blocks in made.files.items()
        if name.endswith(".py") and name != "main.py"
        for block in blocks
        for node in ast.parse(block.text).body
        if any("remote(" in ast.unparse(each) for each in getattr(node, "decorator_list", ()))
    }
    assert here == there
