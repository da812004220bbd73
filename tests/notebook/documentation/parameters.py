# ruff: noqa: E402, F704, PLE1142 - these are cells: they import late and await at the top
# %% the common parameters
from flash_nb import GpuGroup, LiveServerless, PodTemplate, remote

common = LiveServerless(
    name="all-settings",
    gpus=[GpuGroup.AMPERE_80],
    workersMin=0,
    workersMax=2,
    idleTimeout=120,
    networkVolumeId="vol_4711",
    env={"MODE": "careful"},
    template=PodTemplate(containerDiskInGb=80),
)


@remote(resource_config=common)
def settings_seen():
    import os

    return os.environ["MODE"], os.environ["RUNPOD_VOLUME_PATH"].rpartition("/")[2]


seen = await settings_seen()

# %% CPU machines, by instance
from flash_nb import CpuInstanceType

cores = LiveServerless(name="cores", instanceIds=[CpuInstanceType.CPU5C_4_8], workersMax=4)


@remote(resource_config=cores)
def on_cores():
    import os

    return os.environ.get("CUDA_VISIBLE_DEVICES")


devices = await on_cores()

# %% CPU machines, by class
from flash_nb import CpuLiveServerless

plain_cores = CpuLiveServerless(name="plain-cores", workersMax=4)


@remote(resource_config=plain_cores)
def on_plain_cores():
    return "here"


plain = await on_plain_cores()

# %% a pod template
from flash_nb import PodTemplate

pod = PodTemplate(
    containerDiskInGb=90,
    env=[{"key": "DATA_ROOT", "value": "/data"}, {"key": "MODE", "value": "template"}],
)
templated = LiveServerless(name="templated", template=pod, env={"MODE": "endpoint"})


@remote(resource_config=templated)
def template_seen():
    import os

    return os.environ["DATA_ROOT"], os.environ["MODE"]


from_template = await template_seen()

# %% a network volume
from flash_nb import DataCenter, NetworkVolume

weights = NetworkVolume(
    name="weights",
    size=50,
    dataCenterId=DataCenter.EU_RO_1,
)
keeper = CpuLiveServerless(name="keeper", networkVolume=weights)
reader = CpuLiveServerless(name="reader", networkVolume=weights)


@remote(resource_config=keeper)
def keep(text):
    import os
    import pathlib

    pathlib.Path(os.environ["RUNPOD_VOLUME_PATH"], "kept.txt").write_text(text)


@remote(resource_config=reader)
def read():
    import os
    import pathlib

    return pathlib.Path(os.environ["RUNPOD_VOLUME_PATH"], "kept.txt").read_text()


await keep("weights of the model")
kept = await read()

# %% scaling from zero, and less churn
thrifty = CpuLiveServerless(name="thrifty", workersMin=0, idleTimeout=600)
