"""Display: bundles as IPython computes them, and its functions without IPython."""

import base64
import json
import subprocess
import sys

import matplotlib.figure
import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from IPython.core.formatters import DisplayFormatter
from IPython.lib.pretty import pretty

from flash_nb.worker import display as module
from flash_nb.worker.display import (
    DisplayHandle,
    clear_output,
    display,
    last_value_event,
    mimebundle,
    publish_display_data,
    update_display,
)


@pytest.fixture
def events(monkeypatch):
    seen = []
    monkeypatch.setattr(module._output, "emit", lambda event, buffers: seen.append(event))
    monkeypatch.setattr(module._output, "flush", lambda: seen.append("flush"))
    return seen


def one(events):
    assert events[0] == "flush"
    assert len(events) == 2
    return events[1]


class Rich:
    def __repr__(self):
        return "plain"

    def _repr_html_(self):
        return "<b>html</b>", {"isolated": True}

    def _repr_markdown_(self):
        return "*md*"

    def _repr_svg_(self):
        return "<svg/>"

    def _repr_png_(self):
        return b"\x89PNG"

    def _repr_json_(self):
        return {"a": np.int64(1), "b": (1, 2)}

    def _repr_latex_(self):
        return "$x$"

    def _repr_jpeg_(self):
        return None


def test_every_method_is_asked():
    data, metadata = mimebundle(Rich())
    assert data == {
        "text/plain": "plain",
        "text/html": "<b>html</b>",
        "text/markdown": "*md*",
        "image/svg+xml": "<svg/>",
        "image/png": base64.b64encode(b"\x89PNG").decode(),
        "application/json": {"a": 1, "b": [1, 2]},
        "text/latex": "$x$",
    }
    assert metadata == {"text/html": {"isolated": True}}


def test_include_and_exclude():
    assert set(mimebundle(Rich(), include=["text/html", "text/plain"])[0]) == {"text/html", "text/plain"}
    assert set(mimebundle(Rich(), include={"image/png"})[0]) == {"image/png"}
    assert "text/html" not in mimebundle(Rich(), exclude=["text/html"])[0]


@pytest.mark.parametrize(
    "obj",
    [
        Rich,
        1,
        None,
        "text",
        [1, {"a": None}],
        pd.DataFrame({"a": [1, 2]}),
        pd.DataFrame,
        np.arange(3),
        {"x": np.eye(2)},
    ],
)
def test_bundles_are_ipythons(obj):
    assert mimebundle(obj) == DisplayFormatter().format(obj)


def test_bundle_method_wins_over_the_others():
    class Bundled(Rich):
        def _repr_mimebundle_(self, include=None, exclude=None):
            assert (include, exclude) == (None, ["image/png"])
            return {"text/html": "bundle", "text/plain": "p", "image/png": b"1"}, {"text/html": {"x": 1}}

    data, metadata = mimebundle(Bundled(), exclude=["image/png"])
    assert data["text/html"] == "bundle"
    assert data["text/plain"] == "p"
    assert data["text/markdown"] == "*md*"
    assert "image/png" not in data
    assert metadata == {"text/html": {"x": 1}}


def test_method_that_raises_is_mentioned_and_passed_over(capsys):
    class Broken(Rich):
        def _repr_html_(self):
            raise ValueError("no html today")

        def _repr_markdown_(self):
            raise NotImplementedError

    data, _ = mimebundle(Broken())
    assert "text/html" not in data
    assert data["text/plain"] == "plain"
    assert capsys.readouterr().err == "Broken._repr_html_() raised ValueError: no html today\n"


def test_repr_that_raises_leaves_an_output(capsys):
    class Mute:
        def __repr__(self):
            raise ValueError("no repr")

    assert "Mute object at 0x" in mimebundle(Mute())[0]["text/plain"]
    assert "Mute.__repr__() raised ValueError: no repr" in capsys.readouterr().err


def test_object_that_answers_to_every_name():
    class Everything:
        def __getattr__(self, name):
            return lambda *_, **__: "wrong"

        def __repr__(self):
            return "everything"

    assert mimebundle(Everything()) == ({"text/plain": "everything"}, {})


def test_object_that_displays_itself(events):
    class Own:
        def _ipython_display_(self):
            publish_display_data({"text/plain": "own"})

    assert last_value_event(Own()) is None
    assert one(events)["data"] == {"text/plain": "own"}


def test_widget_view_is_left_out():
    class Widget:
        def _repr_mimebundle_(self, **_):
            return {"application/vnd.jupyter.widget-view+json": {"model_id": "1"}, "text/plain": "Widget()"}

    assert mimebundle(Widget()) == ({"text/plain": "Widget()"}, {})


def test_last_value():
    assert last_value_event(None) is None
    assert last_value_event(0) == {"type": "result", "data": {"text/plain": "0"}, "metadata": {}}


def test_figure_is_a_png_of_its_dpi():
    figure = matplotlib.figure.Figure(figsize=(2, 1), dpi=50)
    figure.subplots().plot([1, 2])
    data, _ = mimebundle(figure)
    small = png_width(data["image/png"])
    figure.set_dpi(200)
    assert png_width(mimebundle(figure)[0]["image/png"]) > 3 * small
    assert data["text/plain"].startswith("<Figure size 100x50 with 1 Axes>")
    assert set(mimebundle(matplotlib.figure.Figure())[0]) == {"text/plain"}


def png_width(text):
    data = base64.b64decode(text)
    assert data.startswith(b"\x89PNG")
    return int.from_bytes(data[16:20], "big")


def test_figure_that_cannot_be_drawn(capsys):
    figure = matplotlib.figure.Figure()
    figure.subplots().set_title("$\\nonsense{$")
    assert set(mimebundle(figure)[0]) == {"text/plain"}
    assert "cannot be drawn: ValueError" in capsys.readouterr().err


# --- text/plain ---


VALUES = st.recursive(
    st.integers() | st.text(max_size=30) | st.none() | st.floats(allow_nan=False),
    lambda inner: (
        st.lists(inner, max_size=30)
        | st.dictionaries(st.text(max_size=5), inner, max_size=8)
        | st.tuples(inner, inner)
        | st.frozensets(st.integers(), max_size=40)
    ),
    max_leaves=60,
)


@given(VALUES)
def test_containers_are_laid_out_as_ipython_does(value):
    assert module._pretty(value, 0, 0, 0, frozenset()) == pretty(value)


@pytest.mark.parametrize(
    "value",
    [
        list(range(2000)),
        {i: i for i in range(2000)},
        [],
        set(),
        {3, 1, 2},
        (1,),
        [np.eye(2), 1],
        {"a": [np.eye(3)] * 2},
    ],
)
def test_containers_in_particular(value):
    assert module._pretty(value, 0, 0, 0, frozenset()) == pretty(value)


def test_container_in_itself():
    inner = []
    inner.append({"a": inner})
    assert module._pretty(inner, 0, 0, 0, frozenset()) == "[{'a': [...]}]"


# --- IPython's functions ---


def test_display_emits_after_the_text(events):
    assert display(Rich(), metadata={"text/html": {"more": 1}}) is None
    event = one(events)
    assert (event["type"], event["display_id"], event["update"]) == ("display", None, False)
    assert event["metadata"] == {"text/html": {"isolated": True, "more": 1}}
    json.dumps(event)


def test_handle_updates(events):
    handle = display(1, display_id=True)
    handle.update(2)
    handle.display(3)
    update_display(4, display_id=handle.display_id)
    shown = [e for e in events if e != "flush"]
    assert {e["display_id"] for e in shown} == {handle.display_id}
    assert [(e["data"]["text/plain"], e["update"]) for e in shown] == [
        ("1", False),
        ("2", True),
        ("3", False),
        ("4", True),
    ]
    assert display("x", display_id="mine").display_id == "mine"
    assert DisplayHandle().display_id != DisplayHandle().display_id


def test_empty_display_to_be_filled_later(events):
    display(display_id="later")
    assert one(events)["data"] == {}


def test_update_needs_an_id(events):
    with pytest.raises(TypeError, match="display_id required"):
        display(1, update=True)


def test_raw_data_is_made_json(events):
    display(
        {"application/x": {1: np.float32(0.5), "n": float("nan"), "b": b"ab", "a": np.arange(2)}}, raw=True
    )
    event = one(events)
    assert event["data"] == {"application/x": {"1": 0.5, "n": None, "b": "YWI=", "a": [0, 1]}}
    json.dumps(event, allow_nan=False)


def test_clear(events):
    clear_output()
    display(1, clear=True)
    kinds = [(e["type"], e.get("wait")) for e in events if e != "flush"]
    assert kinds == [("clear", False), ("clear", True), ("display", None)]


def test_without_a_job_it_prints(capsys):
    display([1, 2])
    assert capsys.readouterr().out == "[1, 2]\n"


# --- in a process of its own ---

PRELUDE = """
import builtins, json, os, sys
from flash_nb.worker.display import install
real = sys.stdout
def emit(event, buffers=()):
    print(json.dumps(event), file=real, flush=True)
"""


def events_of(body, *arguments):
    command = [sys.executable, "-c", PRELUDE + body, *arguments]
    done = subprocess.run(command, capture_output=True, text=True, timeout=100, check=False)
    assert done.returncode == 0, done.stderr
    return [json.loads(line) for line in done.stdout.splitlines()], done.stderr


USE_IPYTHON = """
from IPython.display import HTML, Image, Markdown, clear_output, display_html, update_display
from IPython.display import display as shown
assert shown is display
shown(HTML("<b>x</b>"), Markdown("*m*"))
handle = shown(Image(data=b"\\x89PNG\\r\\n\\x1a\\n" + bytes(16), format="png"), display_id=True)
update_display(1, display_id=handle.display_id)
clear_output(wait=True)
display_html("<i>raw</i>", raw=True)
from IPython.core.getipython import get_ipython
assert get_ipython() is None and "get_ipython" not in vars(builtins)
"""


@pytest.mark.parametrize("order", ["install first", "IPython first"])
def test_ipythons_own_functions_are_ours(order):
    imports = "" if order == "install first" else "import IPython.display\n"
    events, _ = events_of(
        f"{imports}install(emit, lambda: None)\nfinders = len(sys.meta_path)\n{USE_IPYTHON}"
    )
    assert [e["type"] for e in events] == ["display", "display", "display", "display", "clear", "display"]
    assert events[0]["data"]["text/html"] == "<b>x</b>"
    assert events[1]["data"]["text/markdown"] == "*m*"
    assert "image/png" in events[2]["data"]
    assert (events[3]["update"], events[3]["display_id"]) == (True, events[2]["display_id"])
    assert events[5]["data"]["text/html"] == "<i>raw</i>"


def test_install_twice_leaves_no_traces():
    events, _ = events_of("""
before = list(sys.meta_path)
install(emit, lambda: None); install(emit, lambda: None)
assert len(sys.meta_path) == len(before) + 1
from IPython.display import display as shown
assert sys.meta_path == before and shown is display
shown(1)
""")
    assert len(events) == 1


def test_forked_child_prints_instead():
    events, _ = events_of("""
install(emit, lambda: None)
pid = os.fork()
if not pid:
    display(3); sys.stdout.flush(); os._exit(0)
os.waitpid(pid, 0)
""")
    assert events == [3]


FIGURES = """
install(emit, lambda: None)
from flash_nb.worker import mpl_backend
mpl_backend.flush_figures()
assert "matplotlib" not in sys.modules
os.environ["MPLBACKEND"] = mpl_backend.BACKEND
import matplotlib.pyplot as plt
for number, code in enumerate(json.loads(sys.argv[1])):
    exec(code)
    mpl_backend.flush_figures()
    assert not plt.get_fignums()
    emit(number)
plt.switch_backend("agg")
plt.plot([1])
mpl_backend.flush_figures()
assert plt.get_fignums()
"""


def test_figures_are_shown_and_closed():
    cases = {
        "plt.show()": 0,
        "plt.plot([1]); plt.show()": 1,
        "plt.plot([1]); plt.figure(); plt.plot([2]); plt.show(block=True)": 2,
        "plt.plot([1])": 1,
        "plt.plot([1]); plt.close()": 0,
        "fig, ax = plt.subplots(); ax.plot([1]); fig.show(); plt.close(fig)": 1,
        "plt.plot([1]); plt.pause(0.01)": 1,
        "plt.ion(); plt.plot([1]); plt.draw()": 1,
    }
    events, stderr = events_of(FIGURES, json.dumps(list(cases)))
    expected = []
    for number, count in enumerate(cases.values()):
        expected += ["image/png"] * count + [number]
    assert [e if isinstance(e, int) else min(e["data"]) for e in events] == expected
    assert "Warning" not in stderr
