# ruff: noqa: E402, F704, PLE1142 - these are cells: they import late and await at the top
# %% a queue: look at the error
from flash_nb import CpuLiveServerless, remote

parser = CpuLiveServerless(name="parser")


@remote(resource_config=parser)
async def parse(text):
    return int(text)


messages = []
for text in ("12", "twelve"):
    job_output = await parse(text)
    if job_output.error:
        messages.append(f"Failed: {job_output.error}")
    else:
        number = job_output.output

# %% a load balancer: catch the exception
from flash_nb import CpuLiveLoadBalancer

gate = CpuLiveLoadBalancer(name="gate")


@remote(gate, method="POST", path="/gate/open")
async def open_gate(code: str):
    if code != "sesame":
        raise PermissionError("wrong word")
    return {"gate": "open"}


opened = await open_gate("sesame")
try:
    opened = await open_gate("barley")
except Exception as e:  # noqa: BLE001 - as documented
    refused = f"Error: {e}"
