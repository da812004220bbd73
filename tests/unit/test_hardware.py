"""GPUs: reading nvidia-smi's listing, and sharing devices out."""

import os

import pytest

from flash_nb.engine import hardware
from flash_nb.engine.hardware import Gpu, assign, parse

LISTING = """\
0, NVIDIA H100 80GB HBM3, 81559, GPU-5e2c1a7e-0000-0000-0000-000000000000
1, NVIDIA GeForce RTX 4090, 24564, GPU-5e2c1a7e-0000-0000-0000-000000000001
"""


def test_listing_is_read():
    assert parse(LISTING) == (
        Gpu(0, "NVIDIA H100 80GB HBM3", 81559, "GPU-5e2c1a7e-0000-0000-0000-000000000000"),
        Gpu(1, "NVIDIA GeForce RTX 4090", 24564, "GPU-5e2c1a7e-0000-0000-0000-000000000001"),
    )


@pytest.mark.parametrize(
    "listing",
    [
        "",
        "\n",
        "No devices were found\n",
        "NVIDIA-SMI has failed, because it couldn't, talk, to the driver\n",
    ],
)
def test_what_is_not_a_gpu_is_left_out(listing):
    assert parse(listing) == ()


def test_shared_memory_counts_as_unknown():
    assert parse("0, NVIDIA GB10, [N/A], GPU-1")[0].memory_mb == 0


@pytest.mark.parametrize(
    ("script", "names"),
    [
        (None, []),
        ("echo '0, NVIDIA A40, 46068, GPU-1'", ["NVIDIA A40"]),
        ("echo '0, NVIDIA A40, 46068, GPU-1'; exit 9", []),
        ("exec sleep 60", []),
    ],
    ids=["absent", "present", "failing", "hanging"],
)
def test_the_program_is_asked(script, names, tmp_path, monkeypatch):
    if script is not None:
        program = tmp_path / "nvidia-smi"
        program.write_text(f"#!/bin/sh\n{script}\n")
        program.chmod(0o755)
        monkeypatch.setenv("PATH", f"{tmp_path}{os.pathsep}{os.defpath}")
    else:
        monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr(hardware, "QUERY_SECONDS", 1.0)
    assert [gpu.name for gpu in hardware.gpus()] == names


@pytest.mark.parametrize(
    ("in_use", "count", "available", "expected"),
    [
        ({}, 0, [0, 1], ()),
        ({}, 1, [], ()),
        ({}, 1, [0, 1], (0,)),
        ({"a": frozenset({0})}, 1, [0, 1], (1,)),
        ({"a": frozenset({0, 1})}, 1, [0, 1], (0,)),
        ({"a": frozenset({0, 1}), "b": frozenset({0})}, 1, [0, 1], (1,)),
        ({"a": frozenset({1})}, 2, [0, 1, 2], (0, 2)),
        ({"a": frozenset({7})}, 3, [0, 1], (0, 1)),
    ],
)
def test_the_least_used_devices_are_assigned(in_use, count, available, expected):
    assert assign(in_use, count, available) == expected
