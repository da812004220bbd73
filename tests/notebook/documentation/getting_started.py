# %% a first function, the same in a notebook and as a script
import asyncio

from flash_nb import LiveServerless, remote

first_gpu = LiveServerless(name="first-gpu")


@remote(resource_config=first_gpu, dependencies=["numpy"])
async def add_up(readings):
    import numpy as np

    array = np.array(readings)
    return {"sum": array.sum().item(), "device": "none"}


async def main():
    answer = await add_up([2, 4, 6, 8])
    print(answer)


if __name__ == "__main__":
    asyncio.run(main())
