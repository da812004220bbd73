"""A CPU instance type: its size is in its name."""

from __future__ import annotations

from .choice import Choice


class CpuInstanceType(Choice):
    """A CPU machine, by Runpod's instance id: ``cpu<generation><class>-<vCPU>-<GB of memory>``.

    Class ``g`` is general purpose, ``c`` is compute-optimized.

    Source: Flash's documentation of CPU instances; the disk limits are the official SDK's.
    """

    CPU3G_1_4 = "cpu3g-1-4"
    CPU3G_2_8 = "cpu3g-2-8"
    CPU3G_4_16 = "cpu3g-4-16"
    CPU3G_8_32 = "cpu3g-8-32"
    CPU3C_1_2 = "cpu3c-1-2"
    CPU3C_2_4 = "cpu3c-2-4"
    CPU3C_4_8 = "cpu3c-4-8"
    CPU3C_8_16 = "cpu3c-8-16"
    CPU5C_1_2 = "cpu5c-1-2"
    CPU5C_2_4 = "cpu5c-2-4"
    CPU5C_4_8 = "cpu5c-4-8"
    CPU5C_8_16 = "cpu5c-8-16"

    @property
    def vcpu(self) -> int:
        """How many virtual CPUs it has."""
        return int(self.value.split("-")[1])

    @property
    def memory_gb(self) -> int:
        """Memory in GB."""
        return int(self.value.split("-")[2])

    @property
    def max_disk_gb(self) -> int:
        """The largest container disk in GB: 10 per vCPU, 15 from the 5th generation on."""
        return self.vcpu * (15 if self.value.startswith("cpu5") else 10)

    def describe(self) -> str:
        """Return the machine for people: ``CPU 4 vCPU 16 GB (cpu3g-4-16)``."""
        return f"CPU {self.vcpu} vCPU {self.memory_gb} GB ({self})"
