# ruff: noqa: E402, F704, PLE1142 - these are cells: they import late and await at the top
# %% what is inside runs there, what is outside runs here
from flash_nb import LiveServerless, remote

bench = LiveServerless(name="bench")


@remote(resource_config=bench, dependencies=["numpy", "six"])
async def mean_square(samples):
    import os

    import numpy as np

    return {"result": float(np.square(samples).mean()), "process": os.getpid()}


squared = await mean_square([1, 2, 3])

# %% every keyword of the decorator, for a queue
from flash_nb import CpuLiveServerless

workshop = CpuLiveServerless(name="workshop")


@remote(
    resource_config=workshop,
    dependencies=["six"],
    system_dependencies=["dpkg"],
    accelerate_downloads=False,
    local=False,
    method=None,
    path=None,
)
def check_tools():
    import shutil

    import six

    return six.__name__, shutil.which("dpkg-query") is not None


tools = await check_tools()

# %% by position, in the documented order
from flash_nb import LiveLoadBalancer

desk = LiveLoadBalancer(name="desk")


@remote(desk, ["six"], ["dpkg"], True, False, "GET", "/desk/greeting")
async def greeting():
    return {"text": "good day"}


greeted = await greeting()
