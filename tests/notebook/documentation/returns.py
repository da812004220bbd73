# ruff: noqa: E402, F704, PLE1142 - these are cells: they import late and await at the top
# %% a queue gives a JobOutput
from flash_nb import CpuLiveServerless, remote

queue = CpuLiveServerless(name="queue")


@remote(resource_config=queue)
def half(number):
    return {"half": number / 2}


queued = await half(7)
fields = (queued.status, queued.output, queued.error)
facts = (queued.id, queued.started_at, queued.ended_at)

# %% a load balancer gives the dict itself
from flash_nb import CpuLiveLoadBalancer

counter = CpuLiveLoadBalancer(name="counter")


@remote(counter, method="PUT", path="/half")
def half_directly(number: float):
    return {"half": number / 2}


direct = await half_directly(7)
