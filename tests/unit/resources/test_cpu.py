"""CPU instances: all twelve, with the sizes that Runpod documents."""

import pytest

from flash_nb.errors import ResourceError
from flash_nb.resources import CpuInstanceType, CpuLiveServerless

SIZES = {
    "cpu3g-1-4": (1, 4, 10),
    "cpu3g-2-8": (2, 8, 20),
    "cpu3g-4-16": (4, 16, 40),
    "cpu3g-8-32": (8, 32, 80),
    "cpu3c-1-2": (1, 2, 10),
    "cpu3c-2-4": (2, 4, 20),
    "cpu3c-4-8": (4, 8, 40),
    "cpu3c-8-16": (8, 16, 80),
    "cpu5c-1-2": (1, 2, 15),
    "cpu5c-2-4": (2, 4, 30),
    "cpu5c-4-8": (4, 8, 60),
    "cpu5c-8-16": (8, 16, 120),
}


def test_there_are_twelve():
    assert {str(instance) for instance in CpuInstanceType} == set(SIZES)


@pytest.mark.parametrize(("name", "size"), SIZES.items())
def test_size(name, size):
    instance = CpuInstanceType(name)
    assert (instance.vcpu, instance.memory_gb, instance.max_disk_gb) == size


def test_reads_as_code_and_as_text():
    assert repr(CpuInstanceType.CPU3G_4_16) == "CpuInstanceType.CPU3G_4_16"
    assert str(CpuInstanceType.CPU3G_4_16) == "cpu3g-4-16"
    assert CpuInstanceType.CPU3G_4_16.describe() == "CPU 4 vCPU 16 GB (cpu3g-4-16)"


@pytest.mark.parametrize(
    ("written", "suggestion"),
    [
        ("cpu3g-4-8", "CpuInstanceType.CPU3"),
        ("cpu5g-4-16", "CpuInstanceType"),
        ("CPU5G_4_16", "'CPU3G_4_16'"),
    ],
)
def test_a_wrong_one_is_refused_with_the_nearest(written, suggestion):
    with pytest.raises(ResourceError) as caught:
        CpuLiveServerless(name="demo", instanceIds=[written])
    message = f"instanceIds[0]={written!r} is not a CpuInstanceType; did you mean {suggestion}"
    assert message in str(caught.value)
