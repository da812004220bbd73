"""Values as JSON has them."""

from __future__ import annotations

import dataclasses
import datetime as dt
import enum
import uuid
from pathlib import PurePosixPath

import numpy as np
import pydantic
import pytest


class Colour(enum.Enum):
    RED = "red"


@dataclasses.dataclass
class Point:
    x: int
    when: dt.date


class Model(pydantic.BaseModel):
    name: str
    parts: list[int]


@pytest.mark.parametrize(
    ("value", "plain"),
    [
        ({"a": (1, 2)}, {"a": [1, 2]}),
        ({3}, [3]),
        (Point(1, dt.date(2026, 1, 2)), {"x": 1, "when": "2026-01-02"}),
        (dt.timedelta(minutes=1), 60.0),
        ([Colour.RED], ["red"]),
        (uuid.UUID(int=1), "00000000-0000-0000-0000-000000000001"),
        (PurePosixPath("/a"), "/a"),
        (b"text", "text"),
        (Model(name="m", parts=[1]), {"name": "m", "parts": [1]}),
        (np.arange(3), [0, 1, 2]),
        ({"x": np.float32(0.5)}, {"x": 0.5}),
    ],
)
def test_values_are_converted(runtime, value, plain):
    assert runtime("plain").jsonable("it", value) == plain


@pytest.mark.parametrize("value", [object(), b"\xff", {(1, 2): 3}, lambda: 0])
def test_what_json_cannot_hold_is_refused(runtime, value):
    with pytest.raises(runtime("errors").SerializationError, match="It cannot be sent as JSON"):
        runtime("plain").jsonable("It", [value])


def test_a_circle_is_refused(runtime):
    circle: list = []
    circle.append(circle)
    with pytest.raises(runtime("errors").SerializationError):
        runtime("plain").jsonable("It", circle)
