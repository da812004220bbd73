"""GPU pools and cards: what is accepted, how a choice is encoded."""

import itertools
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flash_nb.resources.gpu import (
    GROUPS,
    TYPES,
    GpuGroup,
    GpuType,
    describe_gpu,
    gpu_ids,
    parse_gpu,
)

L4, A5000, RTX3090 = GpuType.NVIDIA_L4, GpuType.NVIDIA_RTX_A5000, GpuType.NVIDIA_GEFORCE_RTX_3090
GPUS = st.sampled_from([*GpuGroup.all(), *GROUPS, "RUBIN_288", "NVIDIA GB300"])


@pytest.mark.parametrize(
    ("gpus", "encoded"),
    [
        ([GpuGroup.AMPERE_80], "AMPERE_80"),
        ([GpuGroup.ADA_24, GpuGroup.AMPERE_80], "ADA_24,AMPERE_80"),
        ([GpuGroup.AMPERE_80, GpuGroup.ADA_24], "AMPERE_80,ADA_24"),
        ([GpuGroup.AMPERE_80, GpuGroup.AMPERE_80], "AMPERE_80"),
        ([L4], "AMPERE_24,-NVIDIA GeForce RTX 3090,-NVIDIA RTX A5000"),
        ([L4, A5000], "AMPERE_24,-NVIDIA GeForce RTX 3090"),
        ([L4, A5000, RTX3090], "AMPERE_24"),
        ([L4, GpuGroup.AMPERE_24], "AMPERE_24"),
        ([L4, GpuGroup.ADA_24], "AMPERE_24,ADA_24,-NVIDIA GeForce RTX 3090,-NVIDIA RTX A5000"),
        (["RUBIN_288", L4], "RUBIN_288,AMPERE_24,-NVIDIA GeForce RTX 3090,-NVIDIA RTX A5000"),
        ([GpuType.NVIDIA_H200], "HOPPER_141"),
        ([GpuType.NVIDIA_L40S], "ADA_48_PRO,-NVIDIA L40,-NVIDIA RTX 6000 Ada Generation"),
        (["NVIDIA GB300"], "NVIDIA GB300"),
        (
            [L4, "NVIDIA GB300"],
            "AMPERE_24,NVIDIA GB300,-NVIDIA GeForce RTX 3090,-NVIDIA RTX A5000",
        ),
        ([GpuGroup.ANY], ",".join(GpuGroup.all())),
        ([GpuGroup.AMPERE_80, GpuGroup.ANY], ",".join(GpuGroup.all())),
        ([], ""),
    ],
)
def test_encoding(gpus, encoded):
    assert gpu_ids(gpus) == encoded


@given(st.lists(GPUS, min_size=1, max_size=6))
def test_encoding_puts_pools_in_the_given_order_and_then_sorted_exclusions(gpus):
    ids = gpu_ids(gpus).split(",")
    pools = list(itertools.takewhile(lambda text: not text.startswith("-"), ids))
    excluded = ids[len(pools) :]
    assert pools == list(dict.fromkeys(str(GROUPS.get(gpu, gpu)) for gpu in gpus))
    assert excluded == sorted(set(excluded))
    assert all(text.startswith("-") for text in excluded)


@given(st.lists(GPUS, min_size=1, max_size=6))
def test_encoding_excludes_no_card_that_was_chosen_and_no_card_of_a_chosen_pool(gpus):
    excluded = {text.removeprefix("-") for text in gpu_ids(gpus).split(",") if text.startswith("-")}
    allowed = set(gpus) | {card for gpu in gpus for card in TYPES.get(gpu, ())}
    assert not excluded & {str(gpu) for gpu in allowed}


@pytest.mark.parametrize(
    ("written", "meant"),
    [
        (GpuGroup.AMPERE_80, GpuGroup.AMPERE_80),
        ("AMPERE_80", GpuGroup.AMPERE_80),
        ("any", GpuGroup.ANY),
        ("ANY", GpuGroup.ANY),
        (GpuType.ANY, GpuGroup.ANY),
        ("NVIDIA L4", L4),
        ("NVIDIA_L4", L4),
        ("RUBIN_288", "RUBIN_288"),
        ("RUBIN_288_PRO", "RUBIN_288_PRO"),
        ("AMPERE_96", "AMPERE_96"),
        ("BLACKWELL_96", GpuGroup.BLACKWELL_96),
        ("BLACKWELL_180", GpuGroup.BLACKWELL_180),
        ("NVIDIA_H100_NVL", GpuType.NVIDIA_H100_NVL),
    ],
)
def test_accepted(written, meant):
    parsed = parse_gpu(written)
    assert parsed == meant
    assert type(parsed) is type(meant)


@pytest.mark.parametrize(
    "card",
    [
        "AMD Instinct MI300X OAM",
        "NVIDIA A100-SXM4-40GB",
        "NVIDIA A30",
        "NVIDIA B300",
        "NVIDIA B300 SXM6 AC",
        "NVIDIA GB200",
        "NVIDIA GB300",
        "NVIDIA GeForce RTX 3080",
        "NVIDIA GeForce RTX 3090 Ti",
        "NVIDIA GeForce RTX 4080 SUPER",
        "NVIDIA GeForce RTX 6090",
        "NVIDIA H200 NVL",
        "NVIDIA RTX 4000 SFF Ada Generation",
        "NVIDIA RTX 5000 Ada Generation",
        "NVIDIA RTX A2000",
        "NVIDIA RTX PRO 4500 Blackwell",
        "Tesla V100-PCIE-16GB",
    ],
)
def test_a_newer_card_is_taken_as_written(card):
    assert parse_gpu(card) == card
    assert gpu_ids([parse_gpu(card)]) == describe_gpu(card) == card


@pytest.mark.parametrize(
    ("written", "suggestion"),
    [
        ("AMPERE_8O", "GpuGroup.AMPERE_80"),
        ("ampere80", "GpuGroup.AMPERE_80"),
        ("ampere_80", "GpuGroup.AMPERE_80"),
        ("AMPER_80", "GpuGroup.AMPERE_80"),
        ("ADA_80", "GpuGroup.ADA_80_PRO"),
        ("A100", "GpuGroup.AMPERE_80 (A100 80 GB)"),
        ("h100", "GpuGroup.ADA_80_PRO (H100 80 GB)"),
        ("NVIDIA GeForce RTX 409O", "GpuType.NVIDIA_GEFORCE_RTX_4090"),
        ("NVIDIA Geforce RTX 4090", "GpuType.NVIDIA_GEFORCE_RTX_4090"),
        ("NVIDIA GeForce RTX 40900", "GpuType.NVIDIA_GEFORCE_RTX_4090"),
        ("NVIDIA L44", "GpuType.NVIDIA_L4"),
        ("NVIDA L4", "GpuType.NVIDIA_L4"),
        ("nvidia l4", "GpuType.NVIDIA_L4"),
        ("NVIDIA A100 80 GB PCIe", "GpuType.NVIDIA_A100_80GB_PCIe"),
        ("NVIDIA RTX 4090", "GpuGroup.ADA_24 (RTX 4090 24 GB)"),
        ("NVIDIA A100", "GpuGroup.AMPERE_80 (A100 80 GB)"),
    ],
)
def test_misspelt(written, suggestion):
    with pytest.raises(ValueError, match=rf"did you mean {re.escape(suggestion)}\?"):
        parse_gpu(written)


@pytest.mark.parametrize("written", ["", "zzzzzz", 80, None])
def test_unrecognisable_names_the_groups(written):
    with pytest.raises(ValueError, match=r"the groups are any, AMPERE_16, .*BLACKWELL_180"):
        parse_gpu(written)


@pytest.mark.parametrize(
    "written", ["NVIDIA ", "NVIDIA L4,NVIDIA T4", "-NVIDIA GB300", "GB300", "NVIDIA Rubin"]
)
def test_what_is_no_name_of_a_card_is_not_taken_for_a_new_one(written):
    with pytest.raises(ValueError, match="is not a GpuGroup or GpuType"):
        parse_gpu(written)


@pytest.mark.parametrize(
    ("gpu", "text"),
    [
        (GpuGroup.AMPERE_80, "A100 80 GB (AMPERE_80)"),
        (GpuGroup.ADA_80_PRO, "H100 80 GB (ADA_80_PRO)"),
        (GpuGroup.AMPERE_48, "A40 / RTX A6000 48 GB (AMPERE_48)"),
        (GpuGroup.ANY, "any GPU"),
        (L4, "NVIDIA L4"),
        ("RUBIN_288", "RUBIN_288"),
    ],
)
def test_description(gpu, text):
    assert describe_gpu(gpu) == text
