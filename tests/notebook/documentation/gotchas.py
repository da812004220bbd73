# ruff: noqa: E402, F821 - these are cells, and some of them are wrong on purpose
# %% 1 a name from outside
from flash_nb import CpuLiveServerless, remote

trap = CpuLiveServerless(name="trap")

rate = 3


def rated(x):
    return x * rate


@remote(resource_config=trap)
async def uses_outside(x):
    return rated(x)


@remote(resource_config=trap)
async def uses_nothing_that_exists(x):
    return x * rate_of_nobody


# %% 2 no await
@remote(resource_config=trap)
async def never_awaited(x):
    return {"x": x}


forgotten = never_awaited(1)


# %% 3 an undeclared dependency
@remote(resource_config=trap)
async def undeclared():
    import six

    return six.__version__


@remote(resource_config=trap)
async def undeclared_and_nowhere():
    import flash_nb_has_no_such_project

    return flash_nb_has_no_such_project.__version__


# %% 4 a queue taken for a load balancer
@remote(resource_config=trap)
async def queue_like(x):
    return {"x": x}


# %% 5 large values
@remote(resource_config=trap)
async def takes_much(blob):
    return len(blob)


# %% 6 an import at module level
import collections


@remote(resource_config=trap)
async def counts(text):
    return collections.Counter(text).most_common(1)


# %% 7 a route without method and path
from flash_nb import LiveLoadBalancer

hatch = LiveLoadBalancer(name="hatch")


@remote(hatch)
async def no_route(x):
    return {"x": x}


# %% 9 endpoints accumulate
again = CpuLiveServerless(name="trap", workersMax=2)


@remote(resource_config=again)
async def on_the_same_endpoint():
    return "one endpoint"
