"""Which package may patch asyncio."""

from __future__ import annotations

import pytest

from flash_nb.errors import SettingsError
from flash_nb.notebook.nested import choose


@pytest.mark.parametrize(
    ("versions", "chosen"),
    [
        ({"nest-asyncio2": "1.7.4", "nest-asyncio": "1.6.0", "ipykernel": "7.4.0"}, "nest-asyncio2"),
        ({"nest-asyncio2": "1.7.4", "ipykernel": "6.29.5"}, "nest-asyncio2"),
        ({"nest-asyncio": "1.6.0", "ipykernel": "7.0.1"}, "nest-asyncio"),
        ({"nest-asyncio": "1.6.0"}, "nest-asyncio"),
    ],
)
def test_the_fork_else_the_original_where_it_works(versions: dict[str, str], chosen: str) -> None:
    assert choose(versions) == chosen


@pytest.mark.parametrize(
    ("versions", "said"),
    [
        ({"nest-asyncio": "1.6.0", "ipykernel": "7.1.0"}, "nest-asyncio 1.6.0 loses cells"),
        ({"nest-asyncio": "1.6.0", "ipykernel": "7.4.0"}, "on ipykernel 7.4.0"),
        ({"ipykernel": "7.4.0"}, "Nothing is installed"),
    ],
)
def test_what_loses_cells_is_refused(versions: dict[str, str], said: str) -> None:
    with pytest.raises(SettingsError, match=said) as refused:
        choose(versions)
    assert "%pip install nest-asyncio2" in str(refused.value.hint)
