# ruff: noqa: F704, PLE1142 - these are cells: they import late and await at the top
# %% wrong, says the documentation: the module is imported outside
import numpy as np

from flash_nb import CpuLiveServerless, remote

bounds = CpuLiveServerless(name="bounds")


@remote(resource_config=bounds)
async def outside(numbers):
    return np.cumsum(numbers).tolist()


# %% correct: everything is inside
@remote(resource_config=bounds, dependencies=["numpy"])
async def inside(numbers):
    import numpy as np

    return np.cumsum(numbers).tolist()


inside_sums = await inside([1, 2, 3])

# %% the four things that a function may always use


@remote(resource_config=bounds)
async def four_sources(parameter):
    import json

    local = max(parameter)
    return json.dumps({"parameter": parameter, "local": local, "builtin": len(parameter)})


four = await four_sources([3, 1, 2])
