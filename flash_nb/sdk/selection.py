"""A selection: what somebody chooses to run on, step by step. Values and rules, no widgets, no IO.

A `Selection` may be incomplete or wrong while it is made: `problems` says why it cannot be used yet,
and most of that is what the resource classes say themselves. Where two choices exclude each other, the
newer one wins (`change`). Of environment variables only names are chosen; their values are read when
the resource is made, and stand neither here nor in `code`.
"""

from __future__ import annotations

import json
import keyword
import re
import shlex
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

from packaging.requirements import InvalidRequirement, Requirement

from flash_nb.cells.options import names
from flash_nb.errors import ResourceError
from flash_nb.resources.choice import Choice
from flash_nb.resources.cpu import CpuInstanceType
from flash_nb.resources.datacenter import DataCenter
from flash_nb.resources.gpu import Gpu, GpuGroup, parse_gpu
from flash_nb.resources.live import CpuLiveServerless, LiveServerless
from flash_nb.resources.offers import Offers, Stock
from flash_nb.resources.prices import GroupPrice, PriceTable, Rate, usd_per_s
from flash_nb.resources.serverless import ServerlessResource
from flash_nb.resources.volume import NetworkVolume

COMMAND = "%flash use"
NAME = "resource"

IDLE_TIMEOUT_S = 300
"""How long a worker that a notebook asked for stays, unless the user says otherwise: somebody types."""

UNNAMED = "notebook"
"""What the endpoint of a cell that names none is called, with its hardware."""

_LEAST = re.compile(
    r"(?:(?:at least|min\.?|>=?|≥)\s*(\d+)(?:\s*g[bB]?)?\b)|(\d+)\s*(?:\+|g[bB]\b\+?)", re.IGNORECASE
)


@dataclass(frozen=True)
class Selection:
    """What is chosen.

    Attributes:
        name: The variable that will hold the resource; its endpoint gets this name too.
        kind: On GPUs or on CPUs. What was chosen for the other one is kept, and not used.
        gpus: Acceptable GPU groups (or cards), the preferred first.
        gpu_count: GPUs of each worker.
        instance: The CPU machine.
        workers_min, workers_max: Bounds of scaling.
        idle_s: Seconds that a worker without work stays.
        volume: The name of a network volume, which lies in `datacenter`; empty for none.
        volume_gb: Its size in GB, if it has to be made.
        datacenter: Where workers run.
        env: Names of environment variables that workers get.
        deps: Python packages that each cell gets, as PEP 508 strings.
    """

    name: str = NAME
    kind: Literal["gpu", "cpu"] = "gpu"
    gpus: tuple[str, ...] = ()
    gpu_count: int = 1
    instance: str = CpuInstanceType.CPU3G_2_8.value
    workers_min: int = 0
    workers_max: int = 3
    idle_s: int = IDLE_TIMEOUT_S
    volume: str = ""
    volume_gb: int = 100
    datacenter: str = DataCenter.EU_RO_1.value
    env: tuple[str, ...] = ()
    deps: tuple[str, ...] = ()


# --- choosing -----------------------------------------------------------------------------------------


def toggle(selection: Selection, group: str) -> Selection:
    """Add a group as the last choice, or take it away; `GpuGroup.ANY` excludes all others."""
    if group in selection.gpus:
        return replace(selection, gpus=tuple(gpu for gpu in selection.gpus if gpu != group))
    if group == GpuGroup.ANY:
        return replace(selection, gpus=(GpuGroup.ANY.value,))
    return replace(selection, gpus=(*(gpu for gpu in selection.gpus if gpu != GpuGroup.ANY), group))


def move(selection: Selection, group: str, steps: int) -> Selection:
    """Move a chosen group towards the front (negative `steps`) or the end of the preference."""
    if group not in selection.gpus:
        return selection
    rest = [gpu for gpu in selection.gpus if gpu != group]
    place = min(max(selection.gpus.index(group) + steps, 0), len(rest))
    return replace(selection, gpus=(*rest[:place], group, *rest[place:]))


def change(selection: Selection, **fields: Any) -> Selection:
    """Set fields; a bound of the workers moves the other one where they would cross."""
    changed = replace(selection, **fields)
    if changed.workers_min <= changed.workers_max:
        return changed
    if "workers_min" in fields:
        return replace(changed, workers_max=changed.workers_min)
    return replace(changed, workers_min=changed.workers_max)


def matching(table: PriceTable, search: str) -> tuple[GroupPrice, ...]:
    """Return the groups that a search finds: by memory (``at least 40 GB``, ``80+``), by words (``H100``)."""
    least = [int(first or second) for first, second in _LEAST.findall(search)]
    words = _LEAST.sub(" ", search).casefold().split()

    def fits(entry: GroupPrice) -> bool:
        text = f"{entry.group} {' '.join(entry.cards)} {entry.vram_gb} GB".casefold()
        return entry.vram_gb >= max(least, default=0) and all(word in text for word in words)

    return tuple(filter(fits, table.groups))


# --- what is wrong with it, and what it costs ---------------------------------------------------------


def problems(selection: Selection, environ: Mapping[str, str]) -> tuple[str, ...]:
    """Return why a selection cannot be used, a sentence each; nothing if it can."""
    return tuple(_problems(selection, environ))


def _problems(selection: Selection, environ: Mapping[str, str]) -> Iterator[str]:
    if not selection.name.isidentifier() or keyword.iskeyword(selection.name):
        yield f"{selection.name!r} is no name for a variable"
        return
    if selection.kind == "gpu" and not selection.gpus:
        yield "Choose a GPU group"
        return
    missing = [name for name in selection.env if name not in environ]
    if missing:
        yield f"{', '.join(missing)}: not set in the environment of this kernel"
    for text in filter(_is_odd, selection.deps):
        yield f"{text!r} is no requirement such as 'numpy' or 'torch>=2'"
    try:
        resource(replace(selection, env=()), {})
    except ResourceError as error:
        yield from (line.partition(": ")[2] or line for line in error.message.splitlines())


def _is_odd(requirement: str) -> bool:
    try:
        Requirement(requirement)
    except InvalidRequirement:
        return True
    return False


def warnings(selection: Selection, offers: Offers) -> tuple[str, ...]:
    """Return what speaks against a selection that can be used."""
    if selection.kind == "cpu":
        return ()
    empty = [g for g in selection.gpus if offers.stock_of(g, selection.datacenter) is Stock.NONE]
    return (f"no {' and no '.join(empty)} in {selection.datacenter} now",) if empty else ()


@dataclass(frozen=True)
class Estimate:
    """What a resource costs: a rate, and the times that are paid.

    Attributes:
        rate: One worker, in USD for a second.
        idle_s: Seconds that a worker without work stays, after each burst of work.
        workers_min: Workers that are kept, and paid for, without work.
        workers_max: Workers at most.
    """

    rate: Rate
    idle_s: int
    workers_min: int
    workers_max: int


def estimate(selection: Selection, table: PriceTable) -> Estimate | None:
    """Return what a selection costs; None where no price is known, as on CPU, or where it cannot work."""
    try:
        return estimate_of(resource(replace(selection, name=NAME, env=()), {}), table)
    except ResourceError:
        return None


def estimate_of(chosen: ServerlessResource, table: PriceTable) -> Estimate | None:
    """Return what a resource costs; None where no price is known, as on CPU."""
    rate = usd_per_s(chosen, table)
    if rate is None:
        return None
    return Estimate(rate, chosen.idleTimeout, chosen.workersMin, chosen.workersMax)


# --- the resource, and its code -----------------------------------------------------------------------


def resource(selection: Selection, environ: Mapping[str, str]) -> LiveServerless:
    """Return the chosen resource.

    Args:
        selection: The choices.
        environ: Where the values of its environment variables are read.

    Raises:
        ResourceError: The choices cannot work.
        KeyError: A chosen environment variable is not set.
    """
    fields = _fields(selection)
    if selection.env:
        fields["env"] = {name: environ[name] for name in selection.env}
    return _class(selection)(name=selection.name, **fields)


def code(selection: Selection) -> str:
    """Return Python that makes the same resource."""
    fields = {"name": selection.name, **_fields(selection)}
    lines = [f"    {field}={_literal(value)},\n" for field, value in fields.items()]
    if selection.env:
        pairs = ", ".join(f"{_literal(name)}: os.environ[{_literal(name)}]" for name in selection.env)
        lines.append(f"    env={{{pairs}}},\n")
    text = "import os\n\n" if selection.env else ""
    text += f"from flash_nb import {', '.join(sorted(_imports(selection, fields)))}\n\n"
    text += f"{selection.name} = {_class(selection).__name__}(\n{''.join(lines)})\n"
    text += f"\n# Run a cell on it: %%flash_remote --resource {selection.name}"
    return text + (f" --deps {','.join(selection.deps)}\n" if selection.deps else "\n")


def _class(selection: Selection) -> type[LiveServerless]:
    return LiveServerless if selection.kind == "gpu" else CpuLiveServerless


def _fields(selection: Selection) -> dict[str, Any]:
    """Return the fields of the resource that differ from its defaults, name and env aside."""
    chosen: dict[str, Any]
    if selection.kind == "gpu":
        chosen = {"gpus": [_known(gpu) for gpu in selection.gpus], "gpuCount": selection.gpu_count}
    else:
        chosen = {"instanceIds": [_member(CpuInstanceType, selection.instance)]}
    datacenter = _member(DataCenter, selection.datacenter)
    chosen |= {
        "datacenter": datacenter,
        "workersMin": selection.workers_min,
        "workersMax": selection.workers_max,
        "idleTimeout": selection.idle_s,
    }
    if selection.volume:
        chosen["networkVolume"] = NetworkVolume(
            name=selection.volume, size=selection.volume_gb, dataCenterId=datacenter
        )
    defaults = {name: field.default for name, field in _class(selection).model_fields.items()}
    return {name: value for name, value in chosen.items() if value != defaults[name]}


def _known(gpu: str) -> Gpu:
    """Return the member that a text names; the text itself if it names none, for the class to refuse."""
    try:
        return parse_gpu(gpu)
    except ValueError:
        return gpu


def _member(kind: type[Choice], text: str) -> Any:
    return next((member for member in kind if member.value == text), text)


def _imports(selection: Selection, fields: Mapping[str, Any]) -> set[str]:
    used = {_class(selection).__name__}
    for value in fields.values():
        parts = value if isinstance(value, list) else [value]
        used |= {type(part).__name__ for part in parts if isinstance(part, Choice | NetworkVolume)}
    return used


def _literal(value: Any) -> str:
    if isinstance(value, list):
        return f"[{', '.join(map(_literal, value))}]"
    if isinstance(value, str) and not isinstance(value, Choice):
        return json.dumps(value, ensure_ascii=False)
    if isinstance(value, NetworkVolume):
        shown = ", ".join(f"{name}={_literal(part)}" for name, part in value.__repr_args__() if name)
        return f"NetworkVolume({shown})"
    return repr(value)


# --- typed --------------------------------------------------------------------------------------------


def words(selection: Selection) -> str:
    """Return the line that chooses the same: ``%flash use --gpu AMPERE_80 --workers 0:3 train``."""
    plain = Selection()
    parts = [COMMAND]
    if selection.kind == "gpu":
        parts += [word for gpu in selection.gpus for word in ("--gpu", shlex.quote(gpu))]
    else:
        parts += ["--cpu", shlex.quote(selection.instance)]
    options = {
        "--gpu-count": _differs(selection.gpu_count, plain.gpu_count) if selection.kind == "gpu" else "",
        "--workers": _differs(
            f"{selection.workers_min}:{selection.workers_max}", f"{plain.workers_min}:{plain.workers_max}"
        ),
        "--idle": _differs(selection.idle_s, plain.idle_s),
        "--volume": f"{selection.volume}:{selection.volume_gb}" if selection.volume else "",
        "--datacenter": _differs(selection.datacenter, plain.datacenter),
    }
    parts += [word for option, text in options.items() if text for word in (option, shlex.quote(text))]
    parts += [word for name in selection.env for word in ("--env", shlex.quote(name))]
    parts += ["--deps", shlex.quote(",".join(selection.deps))] if selection.deps else []
    return " ".join([*parts, shlex.quote(selection.name)])


def _differs(value: object, default: object) -> str:
    return "" if value == default else str(value)


def typed(
    *,
    name: str = "",
    gpu: Sequence[str] = (),
    cpu: str = "",
    gpu_count: int | None = None,
    workers: str = "",
    idle: int | None = None,
    volume: str = "",
    datacenter: str = "",
    env: Sequence[str] = (),
    deps: str = "",
) -> Selection:
    """Return what the options of ``%flash use`` choose; an empty one is not given.

    Raises:
        ValueError: They make no sense; one sentence says why.
    """
    if bool(gpu) == bool(cpu):
        raise ValueError("give --gpu GROUP or --cpu INSTANCE" + (", not both" if gpu else ""))
    if cpu and gpu_count is not None:
        raise ValueError("--gpu-count and --cpu exclude each other")
    if any("=" in variable for variable in env):
        raise ValueError("--env takes the name of a variable, not its value")
    plain = Selection()
    least, most = _bounds(workers) if workers else (plain.workers_min, plain.workers_max)
    volume_name, volume_gb = _volume(volume) if volume else (plain.volume, plain.volume_gb)
    return Selection(
        name=name or NAME,
        kind="cpu" if cpu else "gpu",
        gpus=tuple(dict.fromkeys(str(_known(each)) for each in gpu)),
        gpu_count=plain.gpu_count if gpu_count is None else gpu_count,
        instance=cpu or plain.instance,
        workers_min=least,
        workers_max=most,
        idle_s=plain.idle_s if idle is None else idle,
        volume=volume_name,
        volume_gb=volume_gb,
        datacenter=datacenter or plain.datacenter,
        env=tuple(dict.fromkeys(env)),
        deps=tuple(dict.fromkeys(names(deps))),
    )


def _bounds(text: str) -> tuple[int, int]:
    match = re.fullmatch(r"(?:(\d+):)?(\d+)", text)
    if match is None:
        raise ValueError(f"--workers {text!r} is neither MIN:MAX nor MAX")
    return int(match[1] or 0), int(match[2])


def _volume(text: str) -> tuple[str, int]:
    match = re.fullmatch(r"([^:]+)(?::(\d+))?", text)
    if match is None:
        raise ValueError(f"--volume {text!r} is neither NAME nor NAME:GB")
    return match[1], int(match[2] or Selection.volume_gb)
