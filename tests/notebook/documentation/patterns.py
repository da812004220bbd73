# ruff: noqa: E402, F704, PLE1142 - these are cells: they import late and await at the top
# %% from CPU to GPU
from flash_nb import CpuInstanceType, GpuGroup, LiveServerless, remote

clean_on = LiveServerless(name="cleaner", instanceIds=[CpuInstanceType.CPU5C_4_8])
score_on = LiveServerless(name="scorer", gpus=[GpuGroup.AMPERE_80])


@remote(resource_config=clean_on, dependencies=["pandas"])
async def clean(rows):
    import pandas as pd

    return pd.DataFrame(rows).dropna().to_dict("records")


@remote(resource_config=score_on, dependencies=["numpy"])
async def score(rows):
    import numpy as np

    return {"result": np.array([row["mass"] for row in rows]).sum().item()}


async def weigh(raw):
    cleaned = await clean(raw)
    return await score(cleaned)


weighed = await weigh({"mass": [1.5, None, 2.5]})

# %% at the same time
import asyncio


@remote(resource_config=clean_on)
async def upper(word):
    return word.upper()


words = await asyncio.gather(
    upper("one"),
    upper("two"),
    upper("three"),
)


# %% local testing
@remote(resource_config=score_on, local=True)
async def rehearse(rows):
    import os

    return {"rows": len(rows), "process": os.getpid()}


rehearsed = await rehearse([1, 2])
