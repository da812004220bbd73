"""The GPUs of this machine, asked of nvidia-smi, and which of them a worker gets."""

from __future__ import annotations

import subprocess
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

QUERY_SECONDS = 5.0  # a driver that nobody uses may have to wake first


@dataclass(frozen=True, slots=True)
class Gpu:
    """One device.

    Attributes:
        index: Its place in PCI order: CUDA counts so only with ``CUDA_DEVICE_ORDER=PCI_BUS_ID``.
        name: As the driver calls it, such as ``"NVIDIA H100 80GB HBM3"``.
        memory_mb: Its memory in MiB; 0 where the driver does not say (it is shared with the CPU).
        uuid: Its lasting name, which ``CUDA_VISIBLE_DEVICES`` takes too.
    """

    index: int
    name: str
    memory_mb: int
    uuid: str


def gpus() -> tuple[Gpu, ...]:
    """Return this machine's GPUs; none where there is no driver or it does not answer.

    It blocks for as long as nvidia-smi takes, at most `QUERY_SECONDS`: call it in a thread.
    """
    argv = ["nvidia-smi", "--query-gpu=index,name,memory.total,uuid", "--format=csv,noheader,nounits"]
    try:
        done = subprocess.run(argv, capture_output=True, text=True, timeout=QUERY_SECONDS, check=True)
    except (OSError, subprocess.SubprocessError):
        return ()
    return parse(done.stdout)


def parse(listing: str) -> tuple[Gpu, ...]:
    """Return the GPUs in nvidia-smi's listing; lines that are not a GPU are left out."""
    found = (_parse_line(line) for line in listing.splitlines())
    return tuple(gpu for gpu in found if gpu is not None)


def _parse_line(line: str) -> Gpu | None:
    match [cell.strip() for cell in line.split(",")]:
        case [index, name, memory, uuid] if index.isdecimal():
            return Gpu(int(index), name, int(memory) if memory.isdecimal() else 0, uuid)
    return None


def assign(
    gpus_in_use: Mapping[str, frozenset[int]], count: int, available: Iterable[int]
) -> tuple[int, ...]:
    """Return the devices for one more worker: those that the fewest workers use.

    Workers share devices when there are more workers than devices. A worker that asks for more
    devices than there are gets all of them.

    Args:
        gpus_in_use: The devices of each worker.
        count: How many the new worker asks for.
        available: The devices that there are.
    """
    uses = Counter(index for indices in gpus_in_use.values() for index in indices)
    by_use = sorted(set(available), key=lambda index: (uses[index], index))
    return tuple(sorted(by_use[:count]))
