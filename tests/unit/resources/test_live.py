"""Live resources as values: defaults, equality, wire form, hash, and how they read."""

import copy
import inspect
import json
import pickle
import subprocess
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flash_nb.resources import (
    CpuInstanceType,
    CpuLiveServerless,
    CudaVersion,
    DataCenter,
    GpuGroup,
    GpuType,
    LiveServerless,
    NetworkVolume,
    PodTemplate,
    ScalerType,
    ServerlessType,
)

DIFFERENT = {
    "name": "other",
    "gpus": [GpuGroup.AMPERE_80],
    "gpuCount": 2,
    "cudaVersions": [CudaVersion.V12_8],
    "instanceIds": [CpuInstanceType.CPU5C_4_8],
    "datacenter": "US-KS-2",
    "locations": "EU-RO-1,US-KS-2",
    "workersMin": 1,
    "workersMax": 4,
    "idleTimeout": 60,
    "executionTimeoutMs": 1000,
    "scalerType": "REQUEST_COUNT",
    "scalerValue": 5,
    "workersPFBTarget": 1,
    "networkVolume": NetworkVolume(name="models"),
    "networkVolumeId": "vol_1",
    "env": {"A": "1"},
    "flashboot": False,
    "template": PodTemplate(containerDiskInGb=100),
    "templateId": "tpl_1",
}
GPUS = st.lists(st.sampled_from([*GpuGroup.all(), *GpuType, "RUBIN_288"]), min_size=1, max_size=5)
RESOURCES = st.builds(
    LiveServerless,
    name=st.from_regex(r"[A-Za-z0-9][A-Za-z0-9 _.-]{0,20}", fullmatch=True),
    gpus=GPUS,
    cudaVersions=st.lists(st.sampled_from(CudaVersion)),
    workersMin=st.integers(0, 3),
    workersMax=st.integers(3, 9),
    idleTimeout=st.integers(1, 3600),
    env=st.dictionaries(st.from_regex(r"[A-Z]{1,8}", fullmatch=True), st.text()),
    flashboot=st.booleans(),
    template=st.none() | st.builds(PodTemplate, containerDiskInGb=st.none() | st.integers(1, 500)),
)


def test_defaults_are_those_of_flash():
    resource = LiveServerless(name="demo")
    assert (resource.workersMin, resource.workersMax, resource.idleTimeout) == (0, 3, 5)
    assert (resource.scalerType, resource.scalerValue) == (ScalerType.QUEUE_DELAY, 4)
    assert (resource.executionTimeoutMs, resource.datacenter) == (0, DataCenter.EU_RO_1)
    assert (resource.type, resource.kind, resource.is_cpu) == (ServerlessType.QB, "gpu", False)
    assert resource.gpus == (GpuGroup.ANY,)
    assert resource.env == {}


def test_env_file_is_not_read(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / ".env").write_text("RUNPOD_API_KEY=secret")
    assert LiveServerless(name="demo").wire()["template"]["env"] == []


def test_wire_form_of_a_gpu_resource():
    resource = LiveServerless(
        name="train", gpus=[GpuGroup.AMPERE_80], cudaVersions=["12.8", "12.4"], env={"B": "2", "A": "1"}
    )
    assert resource.wire() == {
        "name": "train",
        "type": "QB",
        "workersMin": 0,
        "workersMax": 3,
        "workersPFBTarget": 0,
        "idleTimeout": 5,
        "executionTimeoutMs": 0,
        "scalerType": "QUEUE_DELAY",
        "scalerValue": 4,
        "locations": "EU-RO-1",
        "flashBootType": "FLASHBOOT",
        "gpuIds": "AMPERE_80",
        "gpuCount": 1,
        "allowedCudaVersions": "12.4,12.8",
        "template": {
            "advancedStart": False,
            "config": {},
            "containerDiskInGb": 64,
            "containerRegistryAuthId": "",
            "dockerArgs": "",
            "env": [{"key": "A", "value": "1"}, {"key": "B", "value": "2"}],
            "imageName": "runpod/flash:latest",
            "name": f"train__PodTemplate_{resource.config_hash}",
            "ports": "",
            "startScript": "",
        },
    }


@pytest.mark.parametrize(
    "resource",
    [
        CpuLiveServerless(name="cpu", instanceIds=[CpuInstanceType.CPU5C_4_8, "cpu3g-2-8"]),
        LiveServerless(name="cpu", instanceIds=["CPU5C_4_8", CpuInstanceType.CPU3G_2_8]),
    ],
)
def test_wire_form_of_a_cpu_resource(resource):
    wire = resource.wire()
    assert resource.is_cpu
    assert wire["instanceIds"] == ["cpu5c-4-8", "cpu3g-2-8"]
    assert not {"gpuIds", "gpuCount", "allowedCudaVersions"} & set(wire)
    assert wire["template"]["imageName"] == "runpod/flash-cpu:latest"
    assert wire["template"]["containerDiskInGb"] == 20


def test_cpu_class_has_a_default_instance():
    assert CpuLiveServerless(name="cpu").wire()["instanceIds"] == ["cpu3g-2-8"]


def test_variables_of_the_endpoint_win_over_those_of_the_template():
    template = PodTemplate(env=[{"key": "A", "value": "template"}, {"key": "B", "value": "template"}])
    wire = LiveServerless(name="demo", env={"A": "endpoint"}, template=template).wire()
    assert wire["template"]["env"] == [{"key": "A", "value": "endpoint"}, {"key": "B", "value": "template"}]


def test_template_id_stands_instead_of_a_template():
    wire = LiveServerless(name="demo", templateId="tpl_1").wire()
    assert wire["templateId"] == "tpl_1"
    assert "template" not in wire


def test_flashboot_off_sends_nothing():
    assert "flashBootType" not in LiveServerless(name="demo", flashboot=False).wire()


def test_volume_wire_form():
    volume = NetworkVolume(name="models", size=50)
    assert volume.wire() == {"dataCenter": "EU-RO-1", "name": "models", "size": 50}


def test_every_field_but_the_class_s_own_type_is_in_the_table_above():
    assert set(DIFFERENT) == set(LiveServerless.model_fields) - {"type"}


@pytest.mark.parametrize(("field", "value"), DIFFERENT.items())
def test_every_field_changes_equality_and_hash(field, value):
    plain, changed = LiveServerless(name="demo"), LiveServerless(**{"name": "demo", field: value})
    assert plain != changed
    assert plain.config_hash != changed.config_hash


SAME_RESULT = {
    "name", "datacenter", "locations", "workersMin", "workersMax", "idleTimeout", "executionTimeoutMs",
    "scalerType", "scalerValue", "workersPFBTarget", "flashboot",
}  # fmt: skip


@pytest.mark.parametrize(("field", "value"), DIFFERENT.items())
def test_which_fields_a_result_may_depend_on(field, value):
    plain, changed = LiveServerless(name="demo"), LiveServerless(**{"name": "demo", field: value})
    assert (plain.result_hash == changed.result_hash) is (field in SAME_RESULT)


def test_the_name_of_a_template_changes_no_result():
    one, other = (LiveServerless(name="demo", template=PodTemplate(name=name)) for name in ("a", "b"))
    assert one.result_hash == other.result_hash


@pytest.mark.parametrize(
    "change", [{"workersMax": 5}, {"instanceIds": ["cpu5c-1-2"]}, {"env": {"A": "1"}}, {"idleTimeout": 9}]
)
def test_changes_of_a_cpu_resource_are_drift(change):
    assert CpuLiveServerless(name="cpu").config_hash != CpuLiveServerless(name="cpu", **change).config_hash


@given(RESOURCES)
def test_values_survive_copies_pickle_and_json(resource):
    for again in (pickle.loads(pickle.dumps(resource)), copy.deepcopy(resource)):
        assert again == resource
        assert hash(again) == hash(resource)
        assert again.wire() == resource.wire()
    assert json.loads(json.dumps(resource.wire())) == resource.wire()


@given(st.permutations([GpuType.NVIDIA_L4, "RUBIN_288", GpuGroup.ADA_24, GpuType.NVIDIA_A40]))
def test_a_set_of_gpus_has_one_order(gpus):
    resources = {LiveServerless(name="demo", gpus=kind(gpus)) for kind in (set, frozenset)}
    assert len(resources) == 1
    assert resources.pop().gpus == ("ADA_24", "NVIDIA A40", "NVIDIA L4", "RUBIN_288")


@given(st.permutations(sorted({"A": "1", "B": "2", "C": "3"}.items())))
def test_order_of_variables_is_no_drift(pairs):
    assert (
        LiveServerless(name="x", env=dict(pairs)).config_hash
        == LiveServerless(name="x", env={"A": "1", "B": "2", "C": "3"}).config_hash
    )


def test_hash_is_the_same_in_every_process():
    code = (
        "from flash_nb.resources import GpuType, LiveServerless;"
        "print(LiveServerless(name='x', gpus={GpuType.NVIDIA_L4, GpuType.NVIDIA_A40, 'ADA_24'}).config_hash)"
    )
    hashes = {
        subprocess.run(
            [sys.executable, "-c", code], env={"PYTHONHASHSEED": seed}, check=True, capture_output=True
        ).stdout
        for seed in ("1", "2", "3")
    }
    assert len(hashes) == 1


def test_a_default_written_out_is_no_difference():
    assert LiveServerless(name="demo", workersMax=3, env={}) == LiveServerless(name="demo")


@pytest.mark.parametrize(
    ("resource", "text"),
    [
        (LiveServerless(name="demo"), "LiveServerless(name='demo')"),
        (CpuLiveServerless(name="demo"), "CpuLiveServerless(name='demo')"),
        (
            LiveServerless(name="demo", gpus=["AMPERE_80"], workersMax=1),
            "LiveServerless(name='demo', gpus=[GpuGroup.AMPERE_80], workersMax=1)",
        ),
        (
            LiveServerless(name="demo", instanceIds=["cpu5c-4-8"]),
            "LiveServerless(name='demo', instanceIds=[CpuInstanceType.CPU5C_4_8])",
        ),
    ],
)
def test_repr(resource, text):
    assert repr(resource) == str(resource) == text


def test_values_of_variables_are_never_shown():
    resource = LiveServerless(
        name="demo",
        env={"TOKEN": "hush"},
        template=PodTemplate(env=[{"key": "OTHER", "value": "hush"}]),
    )
    shown = f"{resource!r} {resource} {resource.env} {resource.template} {resource.describe()}"
    assert "hush" not in shown
    assert "env=<TOKEN>" in shown
    assert "env=<OTHER>" in shown


@pytest.mark.parametrize(
    ("fields", "text"),
    [
        (
            {"gpus": ["AMPERE_80"], "idleTimeout": 60},
            "A100 80 GB (AMPERE_80) · 0–3 workers · idle 60 s",
        ),
        ({}, "any GPU · 0–3 workers · idle 5 s"),
        (
            {"gpus": ["AMPERE_80", "ADA_80_PRO", "RUBIN_288"], "gpuCount": 2, "workersMin": 1},
            "2 × A100 80 GB (AMPERE_80) or 2 more · 1–3 workers · idle 5 s",
        ),
        ({"instanceIds": ["cpu3g-4-16"]}, "CPU 4 vCPU 16 GB (cpu3g-4-16) · 0–3 workers · idle 5 s"),
    ],
)
def test_description(fields, text):
    assert LiveServerless(name="demo", **fields).describe() == text


def test_signature_is_readable_in_a_notebook():
    text = str(inspect.signature(CpuLiveServerless))
    assert text.startswith("(*, name, gpus=(GpuGroup.ANY,), gpuCount=1, ")
    assert "instanceIds=(CpuInstanceType.CPU3G_2_8,)" in text
    assert "Annotated" not in text
