"""The eight classes: what each runs, and every field of each, described, checked and sent."""

import inspect
import re
import subprocess
import sys

import pytest

import flash_nb
from flash_nb.errors import ResourceError
from flash_nb.resources import (
    CpuLiveLoadBalancer,
    CpuLiveServerless,
    CpuLoadBalancerSlsResource,
    CpuServerlessEndpoint,
    CudaVersion,
    GpuGroup,
    LiveLoadBalancer,
    LiveServerless,
    LoadBalancerSlsResource,
    NetworkVolume,
    PodTemplate,
    ScalerType,
    ServerlessEndpoint,
    ServerlessType,
)

MINE = "me/image:1"
GPU = {"gpuIds": ",".join(GpuGroup.all()), "gpuCount": 1, "allowedCudaVersions": ""}
CPU = {"instanceIds": ["cpu3g-2-8"]}
QUEUE = {"type": "QB", "scalerType": "QUEUE_DELAY"}
HTTP = {"type": "LB", "scalerType": "REQUEST_COUNT"}

# Class, live, load-balanced, what it sends, image.
TABLE = [
    (LiveServerless, True, False, QUEUE | GPU, "runpod/flash:latest"),
    (CpuLiveServerless, True, False, QUEUE | CPU, "runpod/flash-cpu:latest"),
    (ServerlessEndpoint, False, False, QUEUE | GPU, MINE),
    (CpuServerlessEndpoint, False, False, QUEUE | CPU, MINE),
    (LiveLoadBalancer, True, True, HTTP | GPU, "runpod/flash-lb:latest"),
    (CpuLiveLoadBalancer, True, True, HTTP | CPU, "runpod/flash-lb-cpu:latest"),
    (LoadBalancerSlsResource, False, True, HTTP | GPU, MINE),
    (CpuLoadBalancerSlsResource, False, True, HTTP | CPU, MINE),
]
EIGHT = [row[0] for row in TABLE]
CUSTOM = [kind for kind, live, *_ in TABLE if not live]
LIVE = [kind for kind, live, *_ in TABLE if live]
ON_GPU = [kind for kind, *_ in TABLE if not kind.__name__.startswith("Cpu")]
ON_CPU = [kind for kind, *_ in TABLE if kind.__name__.startswith("Cpu")]
LOAD_BALANCED = [kind for kind, _, load_balanced, *_ in TABLE if load_balanced]

CHANGED = {
    "name": "other",
    "gpus": [GpuGroup.AMPERE_80],
    "gpuCount": 2,
    "cudaVersions": [CudaVersion.V12_8],
    "instanceIds": ["cpu5c-4-8"],
    "datacenter": "US-KS-2",
    "locations": "EU-RO-1, US-KS-2",
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
    "template": PodTemplate(containerDiskInGb=15),
    "templateId": "tpl_1",
    "imageName": "me/image:2",
}
TEMPLATE_CHANGED = {
    "name": "mine",
    "imageName": "me/image:2",
    "containerDiskInGb": 15,
    "containerRegistryAuthId": "auth_1",
    "dockerArgs": "--verbose",
    "ports": "8000/http",
    "startScript": "echo 1",
    "advancedStart": True,
    "env": [{"key": "A", "value": "1"}],
}
VOLUME_CHANGED = {"name": "other", "size": 50, "dataCenterId": "US-KS-2"}

# A value that a field refuses, and how the refusal shows it.
REFUSED = {
    "name": ("", "name=''"),
    "gpus": (["AMPERE_8O"], "gpus[0]='AMPERE_8O'"),
    "gpuCount": (-1, "gpuCount=-1"),
    "cudaVersions": (["12"], "cudaVersions[0]='12'"),
    "instanceIds": (["cpu3g-4-8"], "instanceIds[0]='cpu3g-4-8'"),
    "datacenter": ("EU-RO1", "datacenter='EU-RO1'"),
    "locations": ("EU-RO-1,Mars", "locations='EU-RO-1,Mars' names 'Mars', which is not a DataCenter"),
    "workersMin": (-1, "workersMin=-1"),
    "workersMax": (-1, "workersMax=-1"),
    "idleTimeout": (3601, "idleTimeout=3601"),
    "executionTimeoutMs": (-1, "executionTimeoutMs=-1"),
    "scalerType": ("QUEUE", "scalerType='QUEUE'"),
    "scalerValue": (0, "scalerValue=0"),
    "type": ("HTTP", "type='HTTP'"),
    "workersPFBTarget": (-1, "workersPFBTarget=-1"),
    "networkVolume": (3, "networkVolume=3"),
    "networkVolumeId": ("", "networkVolumeId=''"),
    "env": ({"A=B": "secret"}, "env cannot hold a variable named 'A=B'"),
    "flashboot": ("yes", "flashboot='yes'"),
    "template": (3, "template=3"),
    "templateId": ("", "templateId=''"),
    "imageName": ("my image", "imageName='my image'"),
    "size": (5, "size=5"),
    "dataCenterId": ("EU-RO1", "dataCenterId='EU-RO1'"),
    "containerDiskInGb": (0, "containerDiskInGb=0"),
    "containerRegistryAuthId": (3, "containerRegistryAuthId=3"),
    "dockerArgs": (3, "dockerArgs=3"),
    "ports": (3, "ports=3"),
    "startScript": (3, "startScript=3"),
    "advancedStart": ("yes", "advancedStart='yes'"),
}
TEMPLATE_REFUSED = REFUSED | {"name": (3, "name=3"), "imageName": (3, "imageName=3")}


def walk(kinds):
    return [
        pytest.param(kind, field, id=f"{kind.__name__}-{field}")
        for kind in kinds
        for field in kind.model_fields
    ]


def declare(kind, **fields):
    """Declare a resource; a custom one has an image, wherever the fields do not say another."""
    if kind in CUSTOM and isinstance(template := fields.get("template"), PodTemplate):
        fields["template"] = template.model_copy(update={"imageName": template.imageName or MINE})
    elif kind in CUSTOM and "templateId" not in fields:
        fields = {"imageName": MINE, **fields}
    return kind(**{"name": "demo", **fields})


def fixed(kind, field):
    """Return why a class rightly refuses another value of a field; None if it takes it."""
    if field == "type":
        other = "LiveServerless" if kind in LOAD_BALANCED else "LiveLoadBalancer"
        return f"must be ServerlessType.{'LB' if kind in LOAD_BALANCED else 'QB'} here: declare a {other}"
    if field == "scalerType" and kind in LOAD_BALANCED:
        return (
            "needs a queue, and a load-balanced endpoint has none: leave it out for ScalerType.REQUEST_COUNT"
        )
    if field in {"gpus", "gpuCount", "cudaVersions"} and kind in ON_CPU:
        return "has instanceIds, which make it a CPU resource: leave out gpus, gpuCount and cudaVersions"
    return None


def described(kind, field):
    """Return what the nearest docstring says of a field."""
    for base in kind.__mro__:
        text = inspect.cleandoc(base.__dict__.get("__doc__") or "").partition("Attributes:\n")[2]
        if found := re.search(rf"^    {field}: (.+(?:\n     +.+)*)", text, re.MULTILINE):
            return " ".join(found[1].split())
    raise AssertionError(f"no docstring of {kind.__name__} describes {field}")


def flat(wire):
    template = wire.get("template", {})
    return {**wire, "template": None, **{f"template.{key}": value for key, value in template.items()}}


@pytest.mark.parametrize(
    ("kind", "live", "load_balanced", "sent", "image"), TABLE, ids=[kind.__name__ for kind in EIGHT]
)
def test_what_each_class_is(kind, live, load_balanced, sent, image):
    resource = declare(kind)
    wire = resource.wire()
    assert (resource.is_live, resource.is_load_balanced) == (live, load_balanced)
    assert {key: wire[key] for key in sent} == sent
    assert not ((GPU | CPU).keys() - sent.keys()) & wire.keys()
    assert wire["template"]["imageName"] == resource.image == image


@pytest.mark.parametrize("kind", EIGHT)
def test_each_class_is_public(kind):
    assert getattr(flash_nb, kind.__name__) is kind
    assert kind.__name__ in flash_nb.__all__


def test_the_scaler_has_the_official_name_too():
    assert flash_nb.ServerlessScalerType is flash_nb.ScalerType is ScalerType


@pytest.mark.parametrize(("kind", "field"), walk([*EIGHT, PodTemplate, NetworkVolume]))
def test_every_field_is_described_with_its_default(kind, field):
    text, info = described(kind, field), kind.model_fields[field]
    if info.is_required():
        assert "Required." in text
        return
    default = info.get_default()
    shown = "{}" if field == "env" else list(default) if isinstance(default, tuple) else repr(default)
    assert f"Default {shown}" in text


@pytest.mark.parametrize(("kind", "field"), walk([*EIGHT, PodTemplate, NetworkVolume]))
@pytest.mark.parametrize("misspell", [lambda name: name[:-1], lambda name: name + "s"])
def test_every_misspelt_field_is_refused_with_the_right_name(kind, field, misspell):
    with pytest.raises(ResourceError, match=rf"{misspell(field)} is not a field; did you mean '{field}'\?"):
        kind(name="demo", **{misspell(field): 1})


@pytest.mark.parametrize(("kind", "field"), walk(EIGHT))
def test_every_value_out_of_range_is_refused_and_shown(kind, field):
    value, message = REFUSED[field]
    with pytest.raises(ResourceError) as caught:
        declare(kind, **{field: value})
    assert message in str(caught.value)
    assert "secret" not in str(caught.value)


@pytest.mark.parametrize(
    ("kind", "field", "refused"),
    [
        *((PodTemplate, field, TEMPLATE_REFUSED[field]) for field in TEMPLATE_CHANGED),
        *((NetworkVolume, field, REFUSED[field]) for field in VOLUME_CHANGED),
    ],
)
def test_every_value_out_of_range_is_refused_and_shown_in_what_a_resource_holds(kind, field, refused):
    value, message = refused
    with pytest.raises(ResourceError) as caught:
        kind(**{"name": "demo", field: value})
    assert message in str(caught.value)


@pytest.mark.parametrize(("kind", "field"), walk(EIGHT))
def test_every_change_is_drift_unless_the_class_has_but_one_value(kind, field):
    plain = declare(kind)
    if reason := fixed(kind, field):
        other = {"type": "QB" if plain.is_load_balanced else "LB", "scalerType": "QUEUE_DELAY"} | {
            name: CHANGED[name] for name in ("gpus", "gpuCount", "cudaVersions")
        }
        with pytest.raises(ResourceError, match=re.escape(reason)):
            declare(kind, **{field: other[field]})
        return
    changed = declare(kind, **{field: CHANGED[field]})
    assert changed != plain
    assert changed.config_hash != plain.config_hash


@pytest.mark.parametrize(("kind", "field"), walk(EIGHT))
def test_every_field_is_sent_under_its_documented_name(kind, field):
    if fixed(kind, field) or field == "networkVolume":  # the backend sends its id, once there is one
        return
    sent_as = re.search(r"sent as ``([\w.]+)``", described(kind, field))
    before, after = (flat(declare(kind, **fields).wire()) for fields in ({}, {field: CHANGED[field]}))
    differing = {key for key in before | after if before.get(key) != after.get(key)}
    if field == "template":
        assert {key.partition(".")[0] for key in differing} == {"template"}
    else:
        assert (sent_as[1] if sent_as else field) in differing


@pytest.mark.parametrize("kind", EIGHT)
@pytest.mark.parametrize("field", TEMPLATE_CHANGED)
def test_every_change_of_the_template_is_drift(kind, field):
    if kind in LIVE and field == "imageName":
        with pytest.raises(ResourceError, match=r"template\.imageName='me/image:2' cannot be chosen"):
            declare(kind, template=PodTemplate(imageName="me/image:2"))
        return
    changed = PodTemplate(**{field: TEMPLATE_CHANGED[field]})
    plain = declare(kind, template=PodTemplate())
    assert declare(kind, template=changed).config_hash != plain.config_hash


@pytest.mark.parametrize("field", VOLUME_CHANGED)
def test_every_change_of_the_volume_is_drift(field):
    plain, changed = (
        LiveServerless(
            name="demo",
            locations="EU-RO-1,US-KS-2",
            networkVolume=NetworkVolume(**{"name": "models", **fields}),
        )
        for fields in ({}, {field: VOLUME_CHANGED[field]})
    )
    assert plain.config_hash != changed.config_hash


def test_the_tables_above_name_every_field():
    fields = {field for kind in EIGHT for field in kind.model_fields}
    assert set(CHANGED) == fields - {"type"}
    assert set(TEMPLATE_CHANGED) == set(PodTemplate.model_fields)
    assert set(VOLUME_CHANGED) == set(NetworkVolume.model_fields)


def test_two_classes_with_the_same_name_are_different():
    assert len({declare(kind).config_hash for kind in EIGHT}) == len(EIGHT)


def test_hashes_are_the_same_in_every_process():
    code = """if True:
        import flash_nb
        gpus = {"NVIDIA L4", "NVIDIA A40", "ADA_24", "NVIDIA GB300"}
        for name in (
            "LiveServerless", "ServerlessEndpoint", "LiveLoadBalancer", "LoadBalancerSlsResource"
        ):
            image = {} if "Live" in name else {"imageName": "me/image:1"}
            for prefix, machines in (("", {"gpus": gpus, "cudaVersions": {"12.8", "12.4"}}), ("Cpu", {})):
                kind = getattr(flash_nb, prefix + name)
                print(kind(name="demo", env=dict(A="1", B="2"), **image, **machines).config_hash)
    """
    outputs = {
        subprocess.run(
            [sys.executable, "-c", code],
            env={"PYTHONHASHSEED": seed},
            check=True,
            capture_output=True,
            text=True,
        ).stdout
        for seed in ("1", "2", "3")
    }
    assert len(outputs) == 1
    assert len(set(outputs.pop().split())) == len(EIGHT)


@pytest.mark.parametrize("kind", LIVE)
def test_the_image_of_a_live_class_cannot_be_chosen(kind):
    with pytest.raises(ResourceError, match="imageName cannot be chosen: a Live resource runs"):
        kind(name="demo", imageName=MINE)


@pytest.mark.parametrize("kind", CUSTOM)
def test_an_image_may_come_from_three_places(kind):
    templated = kind(name="demo", template=PodTemplate(imageName=MINE))
    assert templated.wire()["template"]["imageName"] == templated.image == MINE
    beside = kind(name="demo", imageName=MINE, template=PodTemplate(containerDiskInGb=15))
    assert beside.wire()["template"]["imageName"] == beside.image == MINE
    stored = kind(name="demo", templateId="tpl_1")
    assert (stored.wire()["templateId"], stored.image) == ("tpl_1", "")
    assert "template" not in stored.wire()


@pytest.mark.parametrize("kind", CUSTOM)
@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({}, "needs an image: give imageName, or a template with imageName, or templateId"),
        ({"template": PodTemplate()}, "needs an image"),
        (
            {"imageName": MINE, "template": PodTemplate(imageName="me/other:1")},
            "has imageName='me/image:1' and template.imageName='me/other:1', and each says the image",
        ),
        (
            {"imageName": MINE, "templateId": "tpl_1"},
            "and templateId='tpl_1', and each says the image: give one",
        ),
        ({"template": PodTemplate(imageName=MINE), "templateId": "tpl_1"}, "and templateId='tpl_1'"),
    ],
)
def test_an_image_comes_from_exactly_one_place(kind, fields, message):
    with pytest.raises(ResourceError, match=re.escape(message)):
        kind(name="demo", **fields)


@pytest.mark.parametrize("kind", ON_CPU)
@pytest.mark.parametrize("instances", [[], None])
def test_a_cpu_class_keeps_an_instance(kind, instances):
    with pytest.raises(ResourceError, match="must name a CPU instance"):
        declare(kind, instanceIds=instances)


@pytest.mark.parametrize(("on_gpu", "on_cpu"), [*zip(ON_GPU, ON_CPU, strict=True)])
def test_a_gpu_class_with_instances_sends_what_the_cpu_class_sends(on_gpu, on_cpu):
    resource = declare(on_gpu, instanceIds=["cpu3g-2-8"])
    assert resource.is_cpu
    assert resource.wire() == declare(on_cpu).wire()


@pytest.mark.parametrize("kind", ON_CPU)
def test_the_disk_is_what_the_machine_has_and_not_more(kind):
    assert declare(kind).wire()["template"]["containerDiskInGb"] == 20
    with pytest.raises(ResourceError, match="containerDiskInGb=21 must be at most 20, as cpu3g-2-8 has"):
        declare(kind, template=PodTemplate(containerDiskInGb=21))


@pytest.mark.parametrize("kind", EIGHT)
def test_a_time_limit_is_sent_in_milliseconds(kind):
    assert declare(kind, executionTimeoutMs=90_000).wire()["executionTimeoutMs"] == 90_000


@pytest.mark.parametrize("kind", EIGHT)
def test_the_repr_is_what_was_written(kind):
    resource = declare(kind)
    image = f", imageName={MINE!r}" if kind in CUSTOM else ""
    assert repr(resource) == f"{kind.__name__}(name='demo'{image})"


@pytest.mark.parametrize("kind", EIGHT)
def test_the_own_type_and_scaler_may_be_written_out(kind):
    plain = declare(kind)
    written = declare(kind, type=str(plain.type), scalerType=str(plain.scalerType))
    assert written == plain
    assert isinstance(written.type, ServerlessType)


@pytest.mark.parametrize("kind", EIGHT)
@pytest.mark.parametrize("name", ["is_live", "is_load_balanced", "image", "workersMax"])
def test_nothing_can_be_changed(kind, name):
    with pytest.raises(ResourceError, match="cannot be changed: declare a new one"):
        setattr(declare(kind), name, 1)
