# ruff: noqa: F704, PLE1142 - these are cells: they await at the top
# %% routes
from flash_nb import LiveLoadBalancer, remote

till = LiveLoadBalancer(name="till")


@remote(till, method="POST", path="/till/sum")
async def charge(price: int, tip: int):
    return {"total": price + tip}


@remote(till, method="GET", path="/till/state")
def till_state():
    return {"open": True}


charged = await charge(20, 3)
state = await till_state()
