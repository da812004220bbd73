"""Misuse of resources: each mistake is refused in words that say what to write instead."""

import pytest

from flash_nb.errors import ResourceError
from flash_nb.resources import CpuLiveServerless, GpuGroup, LiveServerless, NetworkVolume, PodTemplate

VOLUME = NetworkVolume(name="models", dataCenterId="US-KS-2")
MISTAKES = [
    ({"name": ""}, "name='' must have 1 to 100 letters"),
    ({"name": "a/b"}, "name='a/b' must have 1 to 100 letters"),
    ({"name": "-a"}, "begin with a letter or digit"),
    ({"name": "a" * 101}, "must have 1 to 100 letters"),
    ({"name": None}, "name=None must be a valid string"),
    ({"worksMax": 3}, "worksMax is not a field; did you mean 'workersMax'?"),
    ({"zzz": 3}, "zzz is not a field; the fields are cudaVersions, datacenter, env"),
    ({"imageName": "me/image:1"}, "imageName cannot be chosen: a Live resource runs"),
    ({"template": PodTemplate(imageName="me/image:1")}, "template.imageName='me/image:1' cannot be chosen"),
    ({"gpuIds": "AMPERE_80"}, "gpuIds is derived: give gpus"),
    ({"allowedCudaVersions": "12.8"}, "allowedCudaVersions is derived: give cudaVersions"),
    ({"id": "abc"}, "id belongs to an endpoint"),
    ({"gpus": []}, "needs gpus and a gpuCount of 1 or more"),
    ({"gpus": "AMPERE_80"}, "gpus='AMPERE_80' must be a list"),
    (
        {"gpus": ["AMPERE_8O"]},
        "gpus[0]='AMPERE_8O' is not a GpuGroup or GpuType; did you mean GpuGroup.AMPERE_80?",
    ),
    ({"gpuCount": 0}, "needs gpus and a gpuCount of 1 or more"),
    ({"gpuCount": -1}, "gpuCount=-1 must be 0 or more"),
    ({"cudaVersions": ["12"]}, "cudaVersions[0]='12' is not a CudaVersion; did you mean CudaVersion.V12_"),
    ({"cudaVersions": [12.8]}, "cudaVersions[0]=12.8 is not a CudaVersion; known are 11.8"),
    ({"instanceIds": ["cpu3g-4-8"]}, "instanceIds[0]='cpu3g-4-8' is not a CpuInstanceType; did you mean"),
    ({"instanceIds": ["cpu3g-4-16"], "gpus": [GpuGroup.ADA_24]}, "leave out gpus, gpuCount and cudaVersions"),
    (
        {"instanceIds": ["cpu5c-8-16", "cpu3g-1-4"], "template": PodTemplate(containerDiskInGb=64)},
        "template.containerDiskInGb=64 must be at most 10, as cpu3g-1-4 has",
    ),
    ({"workersMin": 5}, "workersMin=5 must not be more than workersMax=3"),
    ({"workersMin": -1}, "workersMin=-1 must be 0 or more"),
    ({"workersMax": "3"}, "workersMax='3' must be a valid integer"),
    ({"workersMax": True}, "workersMax=True must be a valid integer"),
    ({"idleTimeout": 0}, "idleTimeout=0 must be from 1 to 3600"),
    ({"idleTimeout": 3601}, "idleTimeout=3601 must be from 1 to 3600"),
    ({"executionTimeoutMs": -1}, "executionTimeoutMs=-1 must be 0 or more"),
    ({"scalerType": "QUEUE"}, "scalerType='QUEUE' is not a ScalerType; did you mean ScalerType.QUEUE_DELAY?"),
    ({"scalerValue": 0}, "scalerValue=0 must be 1 or more"),
    ({"type": "LB"}, "must be ServerlessType.QB"),
    ({"datacenter": "EU-RO1"}, "datacenter='EU-RO1' is not a DataCenter; did you mean DataCenter.EU_RO_1?"),
    ({"networkVolume": VOLUME}, "runs in 'EU-RO-1', but its networkVolume 'models' lies in 'US-KS-2'"),
    (
        {"networkVolume": VOLUME, "locations": "EU-RO-1,EU-CZ-1"},
        "lies in 'US-KS-2': make that the datacenter",
    ),
    ({"networkVolume": VOLUME, "networkVolumeId": "v", "datacenter": "US-KS-2"}, "give one"),
    ({"networkVolume": {"name": "models", "size": 5}}, "NetworkVolume: size=5 must be from 10 to 4096"),
    ({"template": PodTemplate(), "templateId": "t"}, "has both template and templateId: give one"),
    ({"templateId": "t", "env": {"A": "1"}}, "has env and templateId"),
    ({"template": 3}, "template=3 must be a valid dictionary or instance of PodTemplate"),
    ({"env": {"A=B": "1"}}, "env cannot hold a variable named 'A=B'"),
]


@pytest.mark.parametrize(("fields", "message"), MISTAKES, ids=[message for _, message in MISTAKES])
def test_refused_with_a_reason(fields, message):
    with pytest.raises(ResourceError) as caught:
        LiveServerless(**{"name": "demo", **fields})
    assert message in str(caught.value)
    assert str(caught.value).startswith("LiveServerless: ")


def test_name_is_required():
    with pytest.raises(ResourceError, match="LiveServerless: name is required"):
        LiveServerless()


def test_every_problem_has_its_own_line():
    with pytest.raises(ResourceError) as caught:
        LiveServerless(name="demo", idleTimeout=0, workersMax=-1, gpu=[])
    lines = str(caught.value).splitlines()
    assert len(lines) == 3
    assert all(line.startswith("LiveServerless: ") for line in lines)


@pytest.mark.parametrize("instances", [[], None])
def test_a_cpu_resource_keeps_an_instance(instances):
    with pytest.raises(ResourceError, match="must name a CPU instance"):
        CpuLiveServerless(name="demo", instanceIds=instances)


@pytest.mark.parametrize(
    "fields",
    [
        {"env": {"TOKEN": 1234567}},
        {"env": {"TOKEN": b"1234567"}},
        {"env": "TOKEN=1234567"},
        {"env": [{"key": "TOKEN", "val": "1234567"}]},
        {"environment": {"TOKEN": "1234567"}},
        {"template": {"env": {"TOKEN": 1234567}}},
        {"template": {"env": [{"key": "TOKEN", "value": 1234567}]}},
        {"templateId": {"env": {"TOKEN": "1234567"}}},
    ],
)
def test_refusals_never_show_what_may_be_a_secret(fields):
    with pytest.raises(ResourceError) as caught:
        LiveServerless(name="demo", **fields)
    assert "1234567" not in f"{caught.value} {caught.value!r}"
    assert caught.value.__cause__ is None
    assert caught.value.__suppress_context__


def test_a_resource_cannot_be_changed():
    resource = LiveServerless(name="demo")
    with pytest.raises(ResourceError, match="workersMax cannot be changed: declare a new one"):
        resource.workersMax = 9
    with pytest.raises(TypeError):
        resource.env["A"] = "1"
