"""The resource picker, ``%flash pick``: a `Selection` with widgets around it.

The list of groups is one table of HTML with a checkbox beside each row: real controls, reached with Tab
and switched with Space, and few of them. A style sheet lays each checkbox's label over its row, so that a
click anywhere in the row counts; without it the checkboxes are still there.

A click may come in another thread (subshells), also while a cell runs: each is one change of the
selection under a lock.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Sequence
from functools import partial
from html import escape
from typing import Any

import ipywidgets as widgets
from IPython.core.error import UsageError
from ipywidgets.widgets.widget_bool import CheckboxStyle

from flash_nb.cells.options import names
from flash_nb.notebook import choices
from flash_nb.notebook.default import chosen
from flash_nb.notebook.notebook import Notebook
from flash_nb.notebook.panel import Panel
from flash_nb.resources.cpu import CpuInstanceType
from flash_nb.resources.datacenter import DataCenter
from flash_nb.resources.offers import Offers
from flash_nb.sdk.look import AMBER, BLUE
from flash_nb.sdk.selection import (
    Selection,
    change,
    code,
    estimate,
    estimate_of,
    matching,
    move,
    problems,
    toggle,
    warnings,
)

LISTS = ("env", "deps")  # typed with commas
CLOSED = "The picker is closed; nothing was chosen."

_ROW = f"{choices.ROW_PX}px"
_STYLE = f"""<style>
.flash-pick .flash-group {{ position: relative; overflow: visible }}
.flash-pick .flash-group label span {{ display: none }}
.flash-pick .flash-group label::after {{ content: ""; position: absolute; left: -4px; top: 0; z-index: 1;
  width: 700px; height: {_ROW}; border-radius: 3px; cursor: pointer }}
.flash-pick .flash-group label:hover::after {{ background: rgba(128, 128, 128, .13) }}
.flash-pick .flash-group:focus-within label::after {{ box-shadow: inset 0 0 0 1px {BLUE} }}
</style>"""
_FIRST = {"description_width": "86px"}  # of a row: what is typed begins below what is typed
_LATER = {"description_width": "initial"}

Step = Callable[[Selection], Selection]


class Controls:
    """The widgets, and where they stand. They know nothing of what they are for.

    Args:
        first: What they show at first.
        groups: The GPU groups to choose from.

    Attributes:
        fields: What holds the value of a field of the selection, by its name.
        boxes: The checkbox of each group.
        root: What holds all that is seen.
    """

    def __init__(self, first: Selection, groups: Sequence[str]) -> None:
        self._first = first
        self.fields: dict[str, widgets.Widget] = {}
        self.boxes = _boxes(groups)
        self._add_machines()
        self._add_numbers()
        self._add_texts()
        self._add_actions()
        self._arrange()

    def _add_machines(self) -> None:
        self.search = widgets.Text(placeholder="Search: H100, or at least 40 GB", layout={"width": "260px"})
        self.column = widgets.VBox(layout={"padding": f"{_ROW} 0 0 4px", "overflow": "visible"})
        self.list = widgets.HTML(layout={"margin": "0"})
        self.order = widgets.Select(
            description="Preference", rows=3, style=_FIRST, layout={"width": "290px", "height": "62px"}
        )
        self.up = widgets.Button(description="↑", tooltip="Prefer it more", layout={"width": "36px"})
        self.down = widgets.Button(description="↓", tooltip="Prefer it less", layout={"width": "36px"})
        self.fields["kind"] = widgets.ToggleButtons(
            options=[("GPU", "gpu"), ("CPU", "cpu")], value=self._first.kind, style={"button_width": "64px"}
        )
        machines = [
            (f"{each} · {each.vcpu} vCPU · {each.memory_gb} GB · disk {each.max_disk_gb} GB", each.value)
            for each in CpuInstanceType
        ]
        self.fields["instance"] = widgets.Select(
            options=machines, value=self._first.instance, rows=len(machines), layout={"width": "400px"}
        )

    def _add_numbers(self) -> None:
        self._number("workers_min", "Workers", 0, 10_000, begins=True)
        self._number("workers_max", "to", 0, 10_000)
        self._number("idle_s", "idle seconds", 1, 3600)
        self._number("gpu_count", "GPUs each", 1, 64)
        self._number("volume_gb", "GB", 10, 4096)

    def _number(self, field: str, label: str, least: int, most: int, *, begins: bool = False) -> None:
        self.fields[field] = widgets.BoundedIntText(
            value=getattr(self._first, field),
            min=least,
            max=most,
            **_label(label, 66 + (90 if begins else 8 * len(label)), begins=begins),
        )

    def _add_texts(self) -> None:
        self.fields["datacenter"] = widgets.Combobox(
            value=self._first.datacenter,
            options=[str(center) for center in DataCenter],
            **_label("Data center", 220, begins=True),
        )
        self._text("volume", "Volume", "none", 220)
        self._text("env", "Environment", "HF_TOKEN, …", 330, begins=True)
        self._text("deps", "Packages", "numpy, …", 330)
        self._text("name", "Name", "", 250, begins=True)

    def _text(self, field: str, label: str, example: str, width: int, *, begins: bool = False) -> None:
        value = getattr(self._first, field)
        self.fields[field] = widgets.Text(
            value=value if isinstance(value, str) else ", ".join(value),
            placeholder=example,
            **_label(label, width, begins=begins),
        )

    def _add_actions(self) -> None:
        self.cost = widgets.HTML(layout={"margin": "4px 0"})
        self.trouble = widgets.HTML(layout={"margin": "0"})
        self.use = _button("Use", "Bind it, and make it the default", button_style="primary")
        self.show_code = _button("Code", "The Python that makes the same")
        self.close_all = _button("Close", "Choose nothing")
        self.code = widgets.HTML(layout={"margin": "0"})

    def _arrange(self) -> None:
        self._top = widgets.HBox([self.fields["kind"], self.search])
        self._groups = widgets.HBox([self.column, self.list], layout={"overflow": "auto hidden"})
        self._preference = widgets.HBox([self.order, widgets.VBox([self.up, self.down])])
        self._machines = widgets.VBox(layout={"overflow": "visible"})
        rows = [
            self._row("workers_min", "workers_max", "idle_s", "gpu_count"),
            self._row("datacenter", "volume", "volume_gb"),
            self._row("env", "deps"),
            self.cost,
            self.trouble,
            self._row("name", after=(self.use, self.show_code, self.close_all)),
            self.code,
        ]
        style = widgets.HTML(_STYLE, layout={"display": "contents"})
        self.root = widgets.VBox([style, self._machines, *rows], layout={"max_width": "830px"})
        self.root.add_class("flash-pick")

    def _row(self, *fields: str, after: Sequence[widgets.Widget] = ()) -> widgets.HBox:
        return widgets.HBox([*(self.fields[field] for field in fields), *after], layout={"flex_flow": "wrap"})

    def show_kind(self, kind: str, count: int) -> None:
        """Show what chooses a machine of a kind, given how many groups are chosen."""
        on_gpu = kind == "gpu"
        chosen_by = (self._groups, self._preference) if on_gpu else (self.fields["instance"],)
        self._machines.children = (self._top, *chosen_by)
        self.search.layout.visibility = "visible" if on_gpu else "hidden"
        self._preference.layout.display = None if count > 1 else "none"
        self.fields["gpu_count"].layout.display = None if on_gpu else "none"

    @property
    def all(self) -> tuple[widgets.Widget, ...]:
        """Those that hold all others: also what is not shown now."""
        return (
            self.root,
            self._top,
            self._groups,
            self._preference,
            self.fields["instance"],
            *self.boxes.values(),
        )


class Picker:
    """One picker below one cell.

    Args:
        notebook: Where it is picked.
        selection: What is chosen at first.
        offers: What there is to choose from.
    """

    def __init__(self, notebook: Notebook, selection: Selection, offers: Offers) -> None:
        self._notebook = notebook
        self._selection = selection
        self._offers = offers
        self._panel = Panel("pick", self.close)
        self._lock = threading.RLock()
        self._is_drawing = False
        self._has_code = False
        self._controls = Controls(selection, [entry.group for entry in offers.table.groups])
        self._watch()

    def open(self) -> None:
        """Show it below the running cell."""
        with self._lock:
            self._draw()
            text = choices.list_text(self._offers, self._selection.datacenter)
            self._panel.open(self._controls.root, text, self._controls.all)

    def close(self) -> None:
        """End it with nothing chosen; harmless if it has ended."""
        self._end(choices.note_html(CLOSED), CLOSED)

    # --- what happens -------------------------------------------------------------------------

    def _watch(self) -> None:
        controls = self._controls
        for field, control in controls.fields.items():
            control.observe(partial(self._changed, field), "value")
        for group, box in controls.boxes.items():
            box.observe(partial(self._switched, group), "value")
        controls.search.observe(lambda _: self._apply(_nothing), "value")
        controls.up.on_click(lambda _: self._move(-1))
        controls.down.on_click(lambda _: self._move(1))
        controls.use.on_click(lambda _: self._use())
        controls.show_code.on_click(lambda _: self._toggle_code())
        controls.close_all.on_click(lambda _: self.close())

    def _apply(self, step: Step) -> None:
        """Take one step; what drawing itself sets is none."""
        with self._lock:
            if self._panel.is_open and not self._is_drawing:
                self._selection = step(self._selection)
                self._draw()

    def _changed(self, field: str, event: dict[str, Any]) -> None:
        value = event["new"]
        if field in LISTS:
            value = names(value)
        elif isinstance(value, str):
            value = value.strip()
        self._apply(lambda selection: change(selection, **{field: value}))

    def _switched(self, group: str, event: dict[str, Any]) -> None:
        self._apply(
            lambda selection: (
                selection if (group in selection.gpus) is event["new"] else toggle(selection, group)
            )
        )

    def _move(self, steps: int) -> None:
        self._apply(lambda selection: move(selection, self._controls.order.value or "", steps))

    def _toggle_code(self) -> None:
        with self._lock:
            self._has_code = not self._has_code
            self._apply(_nothing)

    def _use(self) -> None:
        with self._lock:
            if not self._panel.is_open:
                return
            try:
                default = chosen(self._selection, os.environ)
            except UsageError:
                self._apply(_nothing)  # it says why
                return
            self._notebook.shell.push({default.name: default.resource})
            self._notebook.default = default
            cost = estimate_of(default.resource, self._offers.table)
            note = choices.sources(self._offers) if cost else ""
            simulated = self._offers.is_simulated
            html = choices.chosen_html(
                default, cost, code=code(self._selection), note=note, simulated=simulated
            )
            self._end(html, choices.chosen_text(default, cost, simulated=simulated))

    def _end(self, html: str, text: str) -> None:
        with self._lock:
            self._panel.close(html, text)

    # --- what is seen -------------------------------------------------------------------------

    def _draw(self) -> None:
        self._is_drawing = True
        try:
            self._draw_groups(self._selection)
            self._draw_bounds(self._selection)
            self._draw_outcome(self._selection)
        finally:
            self._is_drawing = False

    def _draw_groups(self, selection: Selection) -> None:
        controls = self._controls
        found = matching(self._offers.table, controls.search.value)
        controls.show_kind(selection.kind, len(selection.gpus))
        controls.column.children = tuple(controls.boxes[entry.group] for entry in found)
        controls.list.value = choices.list_html(found, self._offers, selection)
        for group, box in controls.boxes.items():
            box.value = group in selection.gpus
        if controls.order.options != selection.gpus:
            added = [gpu for gpu in selection.gpus if gpu not in controls.order.options]
            marked = (*selection.gpus[-1:], controls.order.value, *added)
            controls.order.options = selection.gpus
            controls.order.value = next((gpu for gpu in reversed(marked) if gpu in selection.gpus), None)

    def _draw_bounds(self, selection: Selection) -> None:
        fields = self._controls.fields
        fields["workers_min"].value, fields["workers_max"].value = (
            selection.workers_min,
            selection.workers_max,
        )
        fields["volume_gb"].layout.display = None if selection.volume else "none"

    def _draw_outcome(self, selection: Selection) -> None:
        controls = self._controls
        cost = estimate(selection, self._offers.table)
        controls.cost.value = choices.cost_html(cost, selection.kind, self._offers)
        wrong = problems(selection, os.environ)
        told = wrong or warnings(selection, self._offers)
        controls.trouble.value = "".join(f'<div style="color:{AMBER}">{escape(text)}</div>' for text in told)
        controls.code.value = choices.code_html(code(selection)) if self._has_code and not wrong else ""


def _nothing(selection: Selection) -> Selection:
    return selection


def _boxes(groups: Sequence[str]) -> dict[str, widgets.Checkbox]:
    """Return a checkbox for each group; all share a layout and a style, to have fewer models."""
    layout = widgets.Layout(width="20px", height=_ROW, margin="0")
    style = CheckboxStyle(description_width="initial")
    boxes = {
        group: widgets.Checkbox(description=group, indent=False, layout=layout, style=style)
        for group in groups
    }
    for box in boxes.values():
        box.add_class("flash-group")
    return boxes


def _button(label: str, tooltip: str, **options: Any) -> widgets.Button:
    return widgets.Button(description=label, tooltip=tooltip, layout={"width": "84px"}, **options)


def _label(text: str, width: int, *, begins: bool) -> dict[str, Any]:
    """Return the label and size of a control that begins a row, or stands off the one before it."""
    margin = "2px" if begins else "2px 2px 2px 12px"
    style = _FIRST if begins else _LATER
    return {"description": text, "style": style, "layout": {"width": f"{width}px", "margin": margin}}
