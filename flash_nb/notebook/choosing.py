"""``%flash use`` and ``%flash pick``: what cells run on."""

from __future__ import annotations

import os
from typing import Annotated

import typer

from flash_nb.cells.options import names
from flash_nb.errors import ApiKeyError
from flash_nb.notebook import choices
from flash_nb.notebook.default import Default, chosen, held_resource
from flash_nb.notebook.notebook import Notebook
from flash_nb.notebook.panel import has_person
from flash_nb.resources.offers import Offers, shipped_offers
from flash_nb.resources.prices import shipped
from flash_nb.sdk import selection as selections
from flash_nb.sdk.money import SIMULATED
from flash_nb.sdk.outputs import Place
from flash_nb.sdk.selection import COMMAND, NAME, Selection
from flash_nb.sdk.session import current_session

NO_DEFAULT = "A bare %%flash_remote has no resource of yours now: it runs on a CPU."

Groups = Annotated[
    list[str] | None,
    typer.Option("--gpu", metavar="GROUP", help="A GPU group; repeat it for alternatives, the best first."),
]
Variables = Annotated[
    list[str] | None,
    typer.Option("--env", metavar="NAME", help="A variable of this kernel for the workers; repeat it."),
]


def use(
    ctx: typer.Context,
    name: Annotated[
        str, typer.Argument(metavar="NAME", help=f"The variable; default: {NAME}. Alone: one that exists.")
    ] = "",
    *,
    gpu: Groups = None,
    cpu: Annotated[str, typer.Option(metavar="INSTANCE", help="A CPU such as cpu5c-4-8.")] = "",
    gpu_count: Annotated[int | None, typer.Option(metavar="N", help="GPUs of each worker.")] = None,
    workers: Annotated[str, typer.Option(metavar="MIN:MAX", help="How many, such as 0:3.")] = "",
    idle: Annotated[
        int | None, typer.Option(metavar="S", help="Seconds a worker stays without work.")
    ] = None,
    volume: Annotated[str, typer.Option(metavar="NAME[:GB]", help="A volume, made if need be.")] = "",
    datacenter: Annotated[str, typer.Option(metavar="ID", help="Such as EU-RO-1.")] = "",
    env: Variables = None,
    deps: Annotated[str, typer.Option(metavar="a,b", help="Packages that each cell gets.")] = "",
    none: Annotated[bool, typer.Option("--none", help="Have no default any more.")] = False,
) -> None:
    """Choose what a cell runs on that does not say it: a new resource, or one that a variable holds."""
    notebook: Notebook = ctx.obj
    machine = (gpu, cpu, gpu_count, workers, idle, volume, datacenter, env)
    if none:
        if name or deps or any(machine):
            raise typer.BadParameter("--none stands alone")
        notebook.default = None
        _show(choices.note_html(NO_DEFAULT), NO_DEFAULT)
    elif gpu or cpu:
        try:
            selection = selections.typed(
                name=name,
                gpu=gpu or (),
                cpu=cpu,
                gpu_count=gpu_count,
                workers=workers,
                idle=idle,
                volume=volume,
                datacenter=datacenter,
                env=env or (),
                deps=deps,
            )
        except ValueError as error:
            raise typer.BadParameter(str(error)) from None
        default = chosen(selection, os.environ)
        notebook.shell.push({default.name: default.resource})
        _keep(notebook, default, selections.code(selection))
    elif any(machine):
        raise typer.BadParameter("give --gpu or --cpu too, or only the NAME of a variable with a resource")
    elif name:
        held = held_resource(notebook.namespace, name, COMMAND)
        _keep(notebook, Default(name, held, names(deps)))
    else:
        raise typer.BadParameter("give --gpu GROUP, --cpu INSTANCE, the NAME of a variable, or --none")


def pick(ctx: typer.Context, name: Annotated[str, typer.Argument(help="The variable.")] = NAME) -> None:
    """Show a picker of GPUs and CPUs; where there are no widgets, their prices and what to type."""
    notebook: Notebook = ctx.obj
    if not name.isidentifier():
        raise typer.BadParameter(f"{name!r} is no name for a variable")
    offers = _offers()
    if not has_person(notebook.shell):
        typer.echo(choices.list_text(offers, Selection.datacenter))
        return
    from flash_nb.notebook.picker import Picker

    if notebook.picker is not None:
        notebook.picker.close()
    notebook.picker = Picker(notebook, Selection(name=name), offers)
    notebook.picker.open()


def _offers() -> Offers:
    try:
        return current_session().offers()
    except ApiKeyError as error:
        return shipped_offers(error.message.rstrip("."))


def _keep(notebook: Notebook, default: Default, code: str = "") -> None:
    notebook.default = default
    cost = selections.estimate_of(default.resource, shipped())
    note = f"prices of {shipped().date}" if cost else ""
    simulated = _is_simulated()
    html = choices.chosen_html(default, cost, code=code, note=note, simulated=simulated)
    _show(html, choices.chosen_text(default, cost, simulated=simulated))


def _is_simulated() -> bool:
    try:
        return current_session().backend.name in SIMULATED
    except ApiKeyError:  # it is to be Runpod, once there is a key
        return False


def _show(html: str, text: str) -> None:
    Place("use").show(html, text)
