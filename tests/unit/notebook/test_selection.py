"""What may be chosen: steps, rules, search, cost, the resource and its code, and the typed form."""

from __future__ import annotations

import shlex
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule
from IPython.core.error import UsageError

from flash_nb.errors import ResourceError
from flash_nb.notebook import commands
from flash_nb.notebook.default import chosen
from flash_nb.resources import (
    CpuInstanceType,
    CpuLiveServerless,
    DataCenter,
    GpuGroup,
    GpuType,
    LiveServerless,
)
from flash_nb.resources.offers import Offers, Stock
from flash_nb.resources.prices import shipped
from flash_nb.sdk.selection import (
    COMMAND,
    Selection,
    change,
    code,
    estimate,
    matching,
    move,
    problems,
    resource,
    toggle,
    typed,
    warnings,
    words,
)

USE = commands.group().commands["use"]
ENVIRON = {"HF_TOKEN": "hf_secret", "WANDB": "w_secret", "odd name": "x"}
GROUPS = [group.value for group in GpuGroup.all()]
A100 = Selection(gpus=("AMPERE_80",))
VOLUMES = st.just("") | st.from_regex(r"[a-z][a-z0-9 _.-]{0,9}", fullmatch=True)
SELECTIONS = st.builds(
    Selection,
    name=st.sampled_from(["train", "resource", "gpu_2"]),
    kind=st.sampled_from(["gpu", "cpu"]),
    gpus=st.lists(st.sampled_from([*GROUPS, "any", "NVIDIA L4", "RUBIN_288"]), unique=True, min_size=1).map(
        tuple
    ),
    gpu_count=st.integers(1, 8),
    instance=st.sampled_from([each.value for each in CpuInstanceType]),
    workers_min=st.integers(0, 3),
    workers_max=st.integers(3, 9),
    idle_s=st.integers(1, 3600),
    volume=VOLUMES,
    volume_gb=st.integers(10, 4096),
    datacenter=st.sampled_from([*(each.value for each in DataCenter), "AP-JP-1"]),
    env=st.lists(st.sampled_from(sorted(ENVIRON)), unique=True).map(tuple),
    deps=st.lists(st.sampled_from(["numpy", "torch>=2", "pandas[excel]==2.*"]), unique=True).map(tuple),
)


# --- choosing -----------------------------------------------------------------------------------------


def test_a_group_is_chosen_last_and_taken_away():
    both = toggle(A100, "ADA_80_PRO")
    assert both.gpus == ("AMPERE_80", "ADA_80_PRO")
    assert toggle(both, "AMPERE_80").gpus == ("ADA_80_PRO",)


def test_any_excludes_all_others():
    assert toggle(A100, "any").gpus == ("any",)
    assert toggle(toggle(A100, "any"), "ADA_24").gpus == ("ADA_24",)


@pytest.mark.parametrize(
    ("steps", "order"), [(-1, "bacd"), (-9, "bacd"), (1, "acbd"), (2, "acdb"), (9, "acdb"), (0, "abcd")]
)
def test_preference(steps, order):
    assert "".join(move(Selection(gpus=tuple("abcd")), "b", steps).gpus) == order


def test_moving_what_is_not_chosen_does_nothing():
    assert move(A100, "ADA_24", 1) == A100


def test_bounds_of_the_workers_push_each_other():
    assert change(A100, workers_min=5).workers_max == 5
    assert change(change(A100, workers_min=2), workers_max=1).workers_min == 1
    assert change(A100, workers_min=2).workers_max == 3


@pytest.mark.parametrize(
    ("search", "found"),
    [
        ("", GROUPS),
        ("h100", ["ADA_80_PRO"]),
        ("H100 nvl", ["ADA_80_PRO"]),
        ("at least 141 GB", ["HOPPER_141", "BLACKWELL_180"]),
        ("At Least 100", ["HOPPER_141", "BLACKWELL_180"]),
        ("96 gb", ["BLACKWELL_96", "HOPPER_141", "BLACKWELL_180"]),
        (">= 141", ["HOPPER_141", "BLACKWELL_180"]),
        (">=141gb", ["HOPPER_141", "BLACKWELL_180"]),
        ("≥ 100", ["HOPPER_141", "BLACKWELL_180"]),
        ("96+", ["BLACKWELL_96", "HOPPER_141", "BLACKWELL_180"]),
        ("min 80 blackwell", ["BLACKWELL_96", "BLACKWELL_180"]),
        ("4090", ["ADA_24"]),
        ("ampere 48", ["AMPERE_48"]),
        ("a100 at least 40 GB", ["AMPERE_80"]),
        ("tpu", []),
        ("at least 999 GB", []),
    ],
)
def test_search(search, found):
    assert [entry.group for entry in matching(shipped(), search)] == found


# --- rules --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("fields", "problem"),
    [
        ({"gpus": ()}, "Choose a GPU group"),
        ({"gpus": ("AMPERE_8O",)}, "did you mean GpuGroup.AMPERE_80"),
        ({"name": "my gpu"}, "'my gpu' is no name for a variable"),
        ({"name": "class"}, "'class' is no name for a variable"),
        ({"name": ""}, "'' is no name for a variable"),
        ({"name": "_train"}, "must have 1 to 100 letters"),
        ({"workers_min": 4}, "workersMin=4 must not be more than workersMax=3"),
        ({"idle_s": 0}, "idleTimeout=0 must be from 1 to 3600"),
        ({"gpu_count": 0}, "gpuCount of 1 or more"),
        ({"volume": "data", "volume_gb": 5}, "size=5 must be from 10 to 4096"),
        ({"volume": "-"}, "must have 1 to 100 letters"),
        ({"datacenter": "EU-RO1"}, "is not a DataCenter"),
        ({"env": ("NOPE", "HF_TOKEN", "NEITHER")}, "NOPE, NEITHER: not set in the environment"),
        ({"deps": ("numpy ==",)}, "'numpy ==' is no requirement"),
        ({"kind": "cpu", "instance": "cpu9"}, "is not a CpuInstanceType"),
    ],
)
def test_what_cannot_be_used_is_said(fields, problem):
    selection = replace(A100, **fields)
    found = problems(selection, ENVIRON)
    assert any(problem in line for line in found), found
    assert not any("hf_secret" in line or "LiveServerless:" in line for line in found)
    with pytest.raises(UsageError, match=rf"^{COMMAND}: "):
        chosen(selection, ENVIRON)


def test_gpu_choices_do_not_count_on_cpu():
    selection = replace(A100, kind="cpu", gpu_count=8)
    assert problems(selection, {}) == ()
    made = resource(selection, {})
    assert (type(made), made.gpus, made.gpuCount) == (CpuLiveServerless, (), 0)
    assert change(selection, kind="gpu").gpus == ("AMPERE_80",), "and come back"


def test_a_volume_lies_where_the_workers_run():
    made = resource(replace(A100, volume="data", datacenter="US-KS-2"), {})
    assert made.networkVolume.dataCenterId == made.datacenter == DataCenter.US_KS_2


def test_variables_are_read_when_the_resource_is_made():
    selection = replace(A100, env=("HF_TOKEN",))
    assert resource(selection, {"HF_TOKEN": "later"}).env["HF_TOKEN"] == "later"
    assert "secret" not in f"{selection} {code(selection)} {words(selection)} {resource(selection, ENVIRON)}"


def test_no_stock_is_a_warning_for_the_data_center():
    offers = Offers(shipped(), {"AMPERE_80": {"US-KS-2": Stock.LOW}, "ADA_24": {}})
    assert warnings(A100, offers) == ("no AMPERE_80 in EU-RO-1 now",)
    assert warnings(replace(A100, gpus=("AMPERE_80", "ADA_24")), offers) == (
        "no AMPERE_80 and no ADA_24 in EU-RO-1 now",
    )
    assert warnings(replace(A100, datacenter="US-KS-2"), offers) == ()
    assert warnings(replace(A100, gpus=("HOPPER_141",)), offers) == ()
    assert warnings(replace(A100, kind="cpu"), offers) == ()


# --- what it costs ------------------------------------------------------------------------------------


def test_cost():
    cost = estimate(replace(A100, gpus=("AMPERE_80", "ADA_80_PRO"), gpu_count=2, idle_s=60), shipped())
    assert (cost.rate.low * 3600, cost.rate.high * 3600) == pytest.approx((5.472, 8.352))
    assert (cost.idle_s, cost.workers_min, cost.workers_max) == (60, 0, 3)


@pytest.mark.parametrize(
    "fields", [{"gpus": ()}, {"kind": "cpu"}, {"gpus": ("ADA_32_PRO",)}, {"workers_min": 9}]
)
def test_no_cost_where_none_is_known_or_it_cannot_work(fields):
    assert estimate(replace(A100, **fields), shipped()) is None


@pytest.mark.parametrize("fields", [{"name": "no name"}, {"env": ("NOPE",)}, {"deps": ("==",)}])
def test_cost_does_not_wait_for_what_it_does_not_depend_on(fields):
    assert estimate(replace(A100, **fields), shipped()) == estimate(A100, shipped())


# --- resource and code --------------------------------------------------------------------------------


@given(SELECTIONS)
def test_code_makes_the_same_resource(selection):
    with pytest.MonkeyPatch.context() as patch:
        for name, value in ENVIRON.items():
            patch.setenv(name, value)
        names: dict[str, object] = {}
        exec(code(selection), names)
    made = resource(selection, ENVIRON)
    assert names[selection.name] == made
    assert type(names[selection.name]) is type(made)
    assert names[selection.name].config_hash == made.config_hash


def test_code_reads_as_somebody_writes_it():
    selection = replace(
        A100, name="train", volume="data", datacenter="US-KS-2", env=("HF_TOKEN",), deps=("torch",)
    )
    assert code(selection) == (
        "import os\n"
        "\n"
        "from flash_nb import DataCenter, GpuGroup, LiveServerless, NetworkVolume\n"
        "\n"
        "train = LiveServerless(\n"
        '    name="train",\n'
        "    gpus=[GpuGroup.AMPERE_80],\n"
        "    datacenter=DataCenter.US_KS_2,\n"
        "    idleTimeout=300,\n"
        '    networkVolume=NetworkVolume(name="data", dataCenterId=DataCenter.US_KS_2),\n'
        '    env={"HF_TOKEN": os.environ["HF_TOKEN"]},\n'
        ")\n"
        "\n"
        "# Run a cell on it: %%flash_remote --resource train --deps torch\n"
    )


# --- typed --------------------------------------------------------------------------------------------


@given(SELECTIONS)
def test_the_typed_form_says_the_same(selection):
    line = words(selection)
    again = parse(line.removeprefix(COMMAND))
    assert resource(again, ENVIRON) == resource(selection, ENVIRON)
    assert (again.name, again.env, again.deps) == (selection.name, selection.env, selection.deps)
    assert words(again) == line


def parse(line):
    """Return what the command makes of its words."""
    params = USE.make_context("use", shlex.split(line)).params
    assert params.pop("none") is False
    return typed(**{name: value for name, value in params.items() if value is not None})


def test_typed():
    selection = parse(
        "--gpu AMPERE_80 --gpu 'NVIDIA_L4' --workers 1:4 --idle 60 --gpu-count 2 --volume data train"
    )
    assert selection == Selection(
        name="train",
        gpus=("AMPERE_80", "NVIDIA L4"),
        workers_min=1,
        workers_max=4,
        idle_s=60,
        gpu_count=2,
        volume="data",
    )
    made = resource(selection, {})
    assert made.gpus == (GpuGroup.AMPERE_80, GpuType.NVIDIA_L4)
    assert parse("--cpu cpu5c-4-8 --workers 7").workers_max == 7
    assert parse("--gpu ADA_24 --deps numpy,pandas --env A --env B --volume d:20").volume_gb == 20


@pytest.mark.parametrize(
    ("line", "error"),
    [
        ("", "give --gpu GROUP or --cpu INSTANCE"),
        ("--gpu ADA_24 --cpu cpu3g-2-8", "not both"),
        ("--cpu cpu3g-2-8 --gpu-count 2", "--gpu-count and --cpu exclude each other"),
        ("--gpu ADA_24 --workers few", "'few' is neither MIN:MAX nor MAX"),
        ("--gpu ADA_24 --volume d:big", "'d:big' is neither NAME nor NAME:GB"),
        ("--gpu ADA_24 --env A=secret", "--env takes the name of a variable"),
    ],
)
def test_typed_wrong(line, error):
    with pytest.raises(ValueError, match=error) as raised:
        parse(line)
    assert "secret" not in str(raised.value)


# --- step by step -------------------------------------------------------------------------------------


class Choosing(RuleBasedStateMachine):
    """Somebody who clicks around: whatever they do, the rules hold."""

    @initialize()
    def start(self):
        self.selection = Selection()

    @rule(group=st.sampled_from([*GROUPS, "any"]))
    def toggles(self, group):
        before = self.selection
        self.selection = toggle(before, group)
        assert (group in self.selection.gpus) is not (group in before.gpus)
        if "any" not in {group, *before.gpus}:
            assert [g for g in self.selection.gpus if g != group] == [g for g in before.gpus if g != group]

    @rule(group=st.sampled_from(GROUPS), steps=st.integers(-3, 3))
    def moves(self, group, steps):
        before = self.selection
        self.selection = move(before, group, steps)
        assert sorted(self.selection.gpus) == sorted(before.gpus)
        assert [g for g in self.selection.gpus if g != group] == [g for g in before.gpus if g != group]

    @rule(kind=st.sampled_from(["gpu", "cpu"]))
    def switches(self, kind):
        self.selection = change(self.selection, kind=kind)

    @rule(count=st.integers(0, 9), field=st.sampled_from(["workers_min", "workers_max"]))
    def scales(self, count, field):
        self.selection = change(self.selection, **{field: count})
        assert getattr(self.selection, field) == count

    @rule(center=st.sampled_from([each.value for each in DataCenter]), volume=VOLUMES)
    def places(self, center, volume):
        self.selection = change(self.selection, datacenter=center, volume=volume)

    @invariant()
    def it_can_be_used_or_lacks_a_group(self):
        selection = self.selection
        assert selection.workers_min <= selection.workers_max
        assert len(set(selection.gpus)) == len(selection.gpus)
        assert "any" not in selection.gpus or len(selection.gpus) == 1
        if selection.kind == "gpu" and not selection.gpus:
            assert problems(selection, {}) == ("Choose a GPU group",)
            return
        assert problems(selection, {}) == ()
        made = resource(selection, {})
        assert isinstance(made, LiveServerless)
        assert made.is_cpu is (selection.kind == "cpu")

    def teardown(self):
        """Type the end of it: parsing is slow, so not every step."""
        selection = self.selection
        if selection.kind == "cpu" or selection.gpus:
            again = parse(words(selection).removeprefix(COMMAND))
            assert again == replace(selection, **_unused(selection))


def _unused(selection):
    """Return what the typed form leaves out."""
    left_out = {"gpus": (), "gpu_count": 1} if selection.kind == "cpu" else {"instance": Selection.instance}
    return left_out | ({} if selection.volume else {"volume_gb": Selection.volume_gb})


TestChoosing = Choosing.TestCase


def test_a_wrong_choice_is_a_resource_error():
    with pytest.raises(ResourceError):
        resource(replace(A100, workers_min=9), {})
