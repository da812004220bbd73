"""What Runpod's answers about volumes say."""

from __future__ import annotations

import pytest

from flash_nb.errors import BackendError, OutcomeUnknownError
from flash_nb.protocol import volumes


def volume(volume_id: str, name: str, place: str) -> dict[str, object]:
    return {"id": volume_id, "name": name, "size": 50, "dataCenter": place, "type": "STANDARD"}


def test_a_volume_is_found_by_its_name_and_its_data_center():
    answer = {"networkVolumes": [volume("a", "data", "US-KS-2"), volume("b", "data", "EU-RO-1")]}
    assert volumes.find(answer, "data", "EU-RO-1") == "b"
    assert volumes.find(answer, "data", "EU-CZ-1") is None
    assert volumes.find(answer, "other", "EU-RO-1") is None
    assert volumes.find({"networkVolumes": []}, "data", "EU-RO-1") is None


@pytest.mark.parametrize(
    "answer",
    [
        [],
        {},
        None,
        {"networkVolumes": None},
        {"networkVolumes": ["a"]},
        {"networkVolumes": [{"name": "data"}]},
    ],
)
def test_what_is_no_list_is_not_an_empty_one(answer):
    with pytest.raises(BackendError, match="networkVolumes"):
        volumes.find(answer, "data", "EU-RO-1")


def test_an_answer_without_an_id_leaves_open_what_was_made():
    assert volumes.made(volume("b", "data", "EU-RO-1")) == "b"
    for answer in (None, [], {}, {"id": ""}, {"id": 5}):
        with pytest.raises(OutcomeUnknownError):
            volumes.made(answer)
