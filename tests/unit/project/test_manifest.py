"""A manifest keeps every setting, has all that the official one has, and is read back as it was."""

from __future__ import annotations

import contextlib
import copy
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flash_nb.errors import ManifestError, ResourceError, SettingsError
from flash_nb.project.declared import Function, Group, Mothership, Place, Project
from flash_nb.project.manifest import TYPES, check, from_text, manifest_of, resource_of, to_text
from flash_nb.project.scan import scan
from flash_nb.resources.cpu import CpuInstanceType
from flash_nb.resources.custom import Custom
from flash_nb.resources.datacenter import DataCenter
from flash_nb.resources.gpu import GpuGroup, GpuType
from flash_nb.resources.serverless import ScalerType
from flash_nb.resources.template import PodTemplate
from flash_nb.resources.volume import NetworkVolume

OFFICIAL = Path(__file__).parent / "official"
MAIN = 'from fastapi import FastAPI\napp = FastAPI()\n@app.get("/")\ndef home(): ...\n'


def all_kinds(folder: Path) -> Project:
    (folder / "workers_all.py").write_text((OFFICIAL / "workers_all.txt").read_text())
    (folder / "main.py").write_text(MAIN)
    return scan(folder, ["workers_all.py", "main.py"])


def missing(theirs: object, ours: object, path: tuple[str, ...] = ()) -> Iterator[tuple[str, ...]]:
    """Give where something of theirs is not in ours, or is another value there."""
    if isinstance(theirs, dict):
        for key, value in theirs.items():
            if not isinstance(ours, dict) or key not in ours:
                yield (*path, key)
            else:
                yield from missing(value, ours[key], (*path, key))
    elif isinstance(theirs, list):
        for index, value in enumerate(theirs):
            yield from missing(value, ours[index] if index < len(ours) else None, (*path, str(index)))
    elif path[-1] == "gpuIds":
        if not set(theirs.split(",")) <= set(ours.split(",")):  # ours has pools that came later
            yield path
    elif theirs != ours or type(theirs) is not type(ours):
        yield path


DIFFERENT = {
    # What differs by design.
    ("generated_at",): "ours is the same for the same project",
    ("project_name",): "the folders have different names",
    # Defects of the official 1.0.0.
    ("resources", "localcfg"): "its only function is local=True, so nothing would run there",
    ("function_registry", "k"): "the same",
    ("resources", "plb-cpu", "is_load_balanced"): "1.0.0 takes CpuLoadBalancerSlsResource for a queue",
    ("resources", "plb-cpu", "functions", "0", "is_load_balanced"): "the same",
    # 1.0.0 calls only the two Live load balancers live; 1.21.0 calls all Live resources so.
    ("resources", "inline-cfg", "is_live_resource"): "a LiveServerless is live",
    ("resources", "inline-cfg", "functions", "0", "is_live_resource"): "the same",
    ("resources", "q-cpu", "is_live_resource"): "a CpuLiveServerless is live",
    ("resources", "q-cpu", "functions", "0", "is_live_resource"): "the same",
    ("resources", "q-gpu", "is_live_resource"): "a LiveServerless is live",
    ("resources", "q-gpu", "functions", "0", "is_live_resource"): "the same",
    ("resources", "q-gpu", "functions", "1", "is_live_resource"): "the same",
    ("resources", "q-gpu", "functions", "2", "is_live_resource"): "the same",
}


def test_all_that_the_official_manifest_has_is_in_ours(tmp_path):
    theirs = json.loads((OFFICIAL / "manifest_1.0.0.json").read_text())
    ours = manifest_of(all_kinds(tmp_path), python_version="3.12")
    assert set(missing(theirs, ours)) == set(DIFFERENT)


def test_what_the_official_manifest_loses_is_in_ours(tmp_path):
    manifest = manifest_of(all_kinds(tmp_path), python_version="3.12", source_fingerprint="abc")
    gpu = manifest["resources"]["q-gpu"]
    assert gpu["env"] == {"A": "1"}
    assert gpu["idleTimeout"] == 77
    assert gpu["networkVolume"] == {"name": "models", "size": 50, "dataCenterId": "EU-RO-1"}
    assert gpu["dependencies"] == ["torch", "numpy"]
    assert [function["dependencies"] for function in gpu["functions"]] == [["torch"], ["numpy"], []]
    assert gpu["functions"][2]["class_methods"] == ["predict"]
    assert manifest["resources"]["q-cpu"]["instanceIds"] == ["cpu5c-4-8"]
    assert manifest["routes"]["plb-cpu"] == {"DELETE /e": "e_"}
    assert manifest["source_fingerprint"] == "abc"
    assert list(manifest["resources"])[-1] == "mothership"
    assert manifest["python_version"] == gpu["target_python_version"] == "3.12"


def test_the_bytes_are_the_same_in_every_process(tmp_path):
    project = all_kinds(tmp_path)
    text = to_text(manifest_of(project, python_version="3.12"))
    program = (
        "import sys; from pathlib import Path; from flash_nb.project.scan import scan\n"
        "from flash_nb.project.manifest import manifest_of, to_text\n"
        "project = scan(Path(sys.argv[1]), {'main.py', 'workers_all.py'})\n"
        "sys.stdout.buffer.write(to_text(manifest_of(project, python_version='3.12')))"
    )
    for seed in ("1", "2"):
        environment = {**os.environ, "PYTHONHASHSEED": seed}
        environment.pop("SOURCE_DATE_EPOCH", None)
        command = [sys.executable, "-c", program, str(tmp_path)]
        assert subprocess.run(command, env=environment, capture_output=True, check=True).stdout == text


def test_the_time_is_said_by_source_date_epoch(tmp_path, monkeypatch):
    project = all_kinds(tmp_path)
    monkeypatch.delenv("SOURCE_DATE_EPOCH", raising=False)
    assert manifest_of(project, python_version="3.12")["generated_at"] == "1970-01-01T00:00:00Z"
    monkeypatch.setenv("SOURCE_DATE_EPOCH", "1700000000")
    assert manifest_of(project, python_version="3.12")["generated_at"] == "2023-11-14T22:13:20Z"
    monkeypatch.setenv("SOURCE_DATE_EPOCH", "soon")
    with pytest.raises(SettingsError, match="'soon'"):
        manifest_of(project, python_version="3.12")


def test_a_secret_is_no_part_of_it(tmp_path, monkeypatch):
    monkeypatch.setenv("HF_TOKEN", "hf_the_secret_itself")
    (tmp_path / "a.py").write_text(
        "import os\nfrom flash_nb import LiveServerless, remote\n"
        "gpu = LiveServerless(name='gpu', env={'TOKEN': os.environ['HF_TOKEN'], 'A': 'b'})\n"
        "@remote(gpu)\ndef f(): ...\n"
    )
    manifest = manifest_of(scan(tmp_path, ["a.py"]), python_version="3.12")
    assert b"hf_the_secret" not in to_text(manifest)
    assert manifest["resources"]["gpu"]["env"] == {"A": "b"}
    assert manifest["resources"]["gpu"]["env_from"] == {"TOKEN": "HF_TOKEN"}


def test_calls_of_other_endpoints_are_told(tmp_path):
    (tmp_path / "main.py").write_text(MAIN.replace("...", "return one(1)") + "from a import one\n")
    (tmp_path / "a.py").write_text(
        "from flash_nb import LiveServerless, remote\n"
        "a = LiveServerless(name='a')\nb = LiveServerless(name='b')\n"
        "@remote(a)\ndef one(x): return same(x)\n@remote(a)\ndef same(x): ...\n"
        "@remote(b)\ndef two(x): return one(x)\n"
    )
    resources = manifest_of(scan(tmp_path, ["a.py", "main.py"]), python_version="3.12")["resources"]
    assert {name: entry["makes_remote_calls"] for name, entry in resources.items()} == {
        "a": False,
        "b": True,
        "mothership": True,
    }
    assert resources["a"]["functions"][0]["calls"] == ["same"]
    assert resources["mothership"]["calls"] == ["one"]


def test_the_settings_of_each_function_are_kept(tmp_path):
    (tmp_path / "a.py").write_text(
        "from flash_nb import LiveServerless, remote\n"
        "a = LiveServerless(name='a')\n"
        "@remote(a)\ndef usual(): ...\n"
        "@remote(a, accelerate_downloads=False, strict=True)\ndef unusual(): ...\n"
    )
    manifest = manifest_of(scan(tmp_path, ["a.py"]), python_version="3.12")
    assert {
        each["name"]: (each["accelerate_downloads"], each["strict"])
        for each in manifest["resources"]["a"]["functions"]
    } == {"usual": (True, False), "unusual": (False, True)}


NAMES = st.from_regex(r"[A-Za-z0-9][A-Za-z0-9 _.-]{0,20}", fullmatch=True)
TEXTS = st.text(st.characters(exclude_categories=["Cs"]), max_size=8)
ENVS = st.dictionaries(st.from_regex(r"[A-Z_]{1,8}", fullmatch=True), TEXTS, max_size=3)
TEMPLATES = st.builds(
    PodTemplate,
    name=TEXTS,
    containerDiskInGb=st.none() | st.integers(1, 10),
    dockerArgs=TEXTS,
    ports=TEXTS,
    startScript=TEXTS,
    advancedStart=st.booleans(),
    containerRegistryAuthId=TEXTS,
    env=ENVS,
)
GPUS = st.lists(st.sampled_from([*GpuGroup, *GpuType, "RUBIN_288", "NVIDIA GB300"]), min_size=1, max_size=3)


@st.composite
def declared(draw):
    """Give resources of all classes, with any of their settings."""
    kind = draw(st.sampled_from(list(TYPES.values())))
    fields = {
        "name": NAMES,
        "workersMin": st.integers(0, 2),
        "workersMax": st.integers(2, 9),
        "workersPFBTarget": st.integers(0, 9),
        "idleTimeout": st.integers(1, 3600),
        "executionTimeoutMs": st.integers(0, 10**7),
        "scalerValue": st.integers(1, 50),
        "flashboot": st.booleans(),
        "env": ENVS,
        "template": TEMPLATES,
    }
    if kind.__name__.startswith("Cpu"):
        fields["instanceIds"] = st.lists(st.sampled_from(CpuInstanceType), min_size=1, max_size=2)
    else:
        fields["gpus"] = GPUS
        fields["gpuCount"] = st.integers(1, 8)
        fields["cudaVersions"] = st.lists(st.sampled_from(["12.8", "11.8", "13.9"]), max_size=2)
    if not kind(name="x", **({"imageName": "x"} if issubclass(kind, Custom) else {})).is_load_balanced:
        fields["scalerType"] = st.sampled_from(ScalerType)
    place = draw(st.sampled_from(["datacenter", "locations", "networkVolume", "networkVolumeId", ""]))
    fields |= {
        "datacenter": {"datacenter": st.sampled_from([*DataCenter, "AP-JP-1"])},
        "locations": {"locations": st.sampled_from(["EU-RO-1,US-KS-2", "US-KS-2"])},
        "networkVolume": {"networkVolume": st.builds(NetworkVolume, name=NAMES, size=st.integers(10, 4096))},
        "networkVolumeId": {"networkVolumeId": st.just("vol_1")},
        "": {},
    }[place]
    chosen = {"name", place} | draw(st.sets(st.sampled_from(sorted(fields))))
    given = {name: draw(strategy) for name, strategy in fields.items() if name in chosen}
    if issubclass(kind, Custom):
        image = draw(st.sampled_from(["imageName", "template", "templateId"]))
        if image == "template":
            given["template"] = PodTemplate(imageName="me/img:1", env={"T": "1"})
        elif image == "templateId":
            given = {name: value for name, value in given.items() if name not in ("template", "env")}
            given["templateId"] = "tpl_1"
        else:
            given["imageName"] = "me/img:2"
    try:
        return kind(**given)
    except ResourceError:  # a disk that the smallest machine cannot have
        return kind(**{name: value for name, value in given.items() if name != "template"})


def project_of(resource) -> Project:
    function = Function("f", "a", Place("a.py", 2), "function", is_async=False)
    group = Group(resource, "gpu", Place("a.py", 1), (function,))
    return Project(
        "p", Path("p"), (group,), Mothership("main.py", "app", TYPES["LiveLoadBalancer"](name="m m"))
    )


@given(declared())
def test_every_resource_comes_back_from_its_entry(resource):
    manifest = json.loads(to_text(manifest_of(project_of(resource), python_version="3.12")))
    if resource.name != "m m":
        again = resource_of(check(manifest)["resources"][resource.name])
        assert type(again) is type(resource)
        assert again.config_hash == resource.config_hash
        assert again.wire() == resource.wire()
        assert again.result_hash == resource.result_hash


@pytest.fixture(scope="module")
def manifest(tmp_path_factory) -> dict:
    return manifest_of(all_kinds(tmp_path_factory.mktemp("kinds")), python_version="3.12")


@pytest.mark.parametrize(
    ("path", "value", "words"),
    [
        (["version"], "2.0", ["version '2.0'", "flash build"]),
        (["generated_by"], None, ["not made by flash_nb", "flash build"]),
        (["resources"], [], ["resources is a list, not a dict"]),
        (["resources", "q-gpu"], 5, ["resources.q-gpu is a int"]),
        (["resources", "q-gpu", "resource_type"], "LiveServerles", ["did you mean 'LiveServerless'"]),
        (["resources", "q-gpu", "workersMax"], "3", ["workersMax"]),
        (["resources", "q-gpu", "name"], "other", ["resources.q-gpu is named 'other'"]),
        (["resources", "q-gpu", "networkVolume"], {"size": 50}, ["NetworkVolume: name is required"]),
        (["resources", "q-gpu", "template"], "x", ["template is a str"]),
        (["resources", "q-gpu", "functions"], None, ["functions is a NoneType"]),
        (["resources", "q-gpu", "functions", 0], {}, ["name is missing"]),
        (["resources", "q-gpu", "functions", 0, "is_async"], "no", ["is_async is a str"]),
        (["function_registry", "f_sync"], "q-gp", ["'q-gp', which is no resource", "did you mean 'q-gpu'"]),
    ],
)
def test_what_makes_no_sense_is_refused(manifest, path, value, words):
    changed = copy.deepcopy(manifest)
    inner = changed
    for key in path[:-1]:
        inner = inner[key]
    inner[path[-1]] = value
    with pytest.raises(ManifestError) as refusal:
        from_text(to_text(changed))
    for word in words:
        assert word in str(refusal.value)


@pytest.mark.parametrize("text", [b"", b"\xff", b"[]", b"null", b"{}", b'"x"', b"[" * 100_000])
def test_what_is_no_manifest_is_refused(text):
    with pytest.raises(ManifestError):
        from_text(text)


def test_the_official_manifest_is_foreign():
    with pytest.raises(ManifestError, match="not made by flash_nb"):
        from_text((OFFICIAL / "manifest_1.0.0.json").read_bytes())


@given(st.data())
def test_no_change_crashes_a_check(manifest, data):
    changed = copy.deepcopy(manifest)
    inner = changed
    while True:
        keys = list(inner) if isinstance(inner, dict) else range(len(inner))
        key = data.draw(st.sampled_from(keys))
        below = inner[key]
        if not isinstance(below, dict | list) or not below or data.draw(st.booleans()):
            break
        inner = below
    inner[key] = data.draw(st.none() | st.booleans() | st.integers() | TEXTS | st.lists(TEXTS) | ENVS)
    with contextlib.suppress(ManifestError):
        check(changed)
