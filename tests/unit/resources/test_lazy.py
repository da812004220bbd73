"""The package's names: complete, sorted, and imported only when they are used."""

import subprocess
import sys

import pytest

from flash_nb import resources


def test_names_are_sorted_and_all_can_be_imported():
    assert resources.__all__ == sorted(resources.__all__) == dir(resources)
    assert set(resources.__all__) == set(resources._MODULES)
    for name in resources.__all__:
        assert getattr(resources, name).__name__ == name


def test_unknown_name():
    with pytest.raises(AttributeError, match="no attribute 'LiveServerles'"):
        _ = resources.LiveServerles


@pytest.mark.parametrize(
    "code", ["pass", "flash_nb.resources.GpuGroup.AMPERE_80, flash_nb.resources.CpuInstanceType"]
)
def test_pydantic_is_not_imported_before_a_resource_is_used(code):
    program = f"import sys, flash_nb.resources; {code}; print('pydantic' in sys.modules)"
    run = subprocess.run([sys.executable, "-c", program], check=True, capture_output=True, text=True)
    assert run.stdout.strip() == "False"
