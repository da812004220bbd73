"""Frames: whatever pieces a stream arrives in, the same frames come out."""

from __future__ import annotations

import json
import stat
import struct
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flash_nb.worker import frames
from flash_nb.worker.frames import FrameError, FrameReader

json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)
headers = st.dictionaries(st.text(max_size=8), json_values, max_size=4)
a_frame = st.tuples(headers, st.lists(st.binary(max_size=300), max_size=4))


@given(sent=st.lists(a_frame, max_size=5), data=st.data())
def test_frames_survive_any_chunking(sent, data):
    stream = b"".join(frames.encode(header, buffers) for header, buffers in sent)
    cuts = data.draw(st.lists(st.integers(0, len(stream)), max_size=12).map(sorted))
    reader = FrameReader()
    received = []
    for start, end in zip([0, *cuts], [*cuts, len(stream)], strict=True):
        received += reader.feed(stream[start:end])
    assert [(header, [bytes(b) for b in buffers]) for header, buffers in received] == sent
    assert reader.pending_bytes == 0


def test_a_byte_at_a_time():
    stream = frames.encode({"a": "ü"}, [b"xyz", b""]) * 3
    reader = FrameReader()
    received = [frame for byte in stream for frame in reader.feed(bytes([byte]))]
    assert received == [({"a": "ü"}, [b"xyz", b""])] * 3


def test_buffers_of_every_kind_travel():
    array = memoryview(bytearray(range(8))).cast("I")
    ((_, buffers),) = FrameReader().feed(frames.encode({}, [b"b", bytearray(b"ba"), array]))
    assert [bytes(b) for b in buffers] == [b"b", b"ba", bytes(range(8))]


def test_a_reader_that_is_left_early_goes_on_after_the_frame_it_gave():
    reader = FrameReader()
    stream = frames.encode({"n": 1}) + frames.encode({"n": 2}) + frames.encode({"n": 3})
    for header, _ in reader.feed(stream):
        assert header == {"n": 1}
        break
    # What was given once may be given again, but nothing is lost.
    assert [h["n"] for h, _ in reader.feed(b"")][-2:] == [2, 3]


def test_the_header_can_be_read_alone():
    assert frames.header_of(frames.encode({"spill": None}, [b"x" * 100])) == {"spill": None}


@pytest.mark.parametrize(
    "data",
    [
        b"GET / HTTP/1.1\r\n\r\n",
        struct.pack("!II", frames.MAX_HEADER_BYTES + 1, 0),
        struct.pack("!II", 2, frames.MAX_BUFFERS + 1),
        struct.pack("!IIQ", 2, 1, frames.MAX_BUFFER_BYTES + 1),
        struct.pack("!II", 2, 0) + b"[]",
        struct.pack("!II", 4, 0) + b"null",
        struct.pack("!II", 3, 0) + b'{"a',
        struct.pack("!II", 2, 0) + b"\xff\xfe",
        struct.pack("!II", 0, 0),
        struct.pack("!II", 100_000, 0) + b"[" * 100_000,
    ],
)
def test_what_is_no_frame_is_refused(data):
    with pytest.raises(FrameError, match="not a frame"):
        list(FrameReader().feed(data))


@given(st.binary(max_size=64))
def test_noise_is_refused_or_waited_for(data):
    try:
        for header, _ in FrameReader().feed(data):
            assert isinstance(header, dict)
    except FrameError:
        pass


# ---- spill files


def test_small_buffers_stay_in_the_frame(tmp_path):
    header, buffers = frames.spill({"a": 1}, [b"x" * 1000], [str(tmp_path)])
    assert (header, buffers) == ({"a": 1}, [b"x" * 1000])
    assert not list(tmp_path.iterdir())


def test_large_buffers_go_through_a_private_file_and_come_back_writable(tmp_path):
    sent = [b"a" * 700_001, b"", bytearray(b"b" * 700_003)]
    header, buffers = frames.spill({"a": 1}, sent, [str(tmp_path)])
    assert list(buffers) == []
    (file,) = tmp_path.iterdir()
    assert header["a"] == 1
    assert header["spill"]["path"] == str(file)
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert all(start % frames.ALIGNMENT == 0 for start, _ in header["spill"]["places"])
    header = json.loads(json.dumps(header))
    received = frames.unspill(header, buffers)
    assert [bytes(b) for b in received] == [bytes(b) for b in sent]
    received[0][0] = 0
    assert bytes(frames.unspill(header, buffers)[0][:1]) == b"a", "one reader's changes are its own"
    file.unlink()
    assert bytes(received[2][:1]) == b"b", "what is mapped stays"


def test_a_spill_file_that_is_gone_is_an_error_of_its_own(tmp_path):
    header, buffers = frames.spill({}, [bytes(2_000_000)], [str(tmp_path)])
    Path(header["spill"]["path"]).unlink()
    with pytest.raises(FileNotFoundError):
        frames.unspill(header, buffers)


def test_what_is_taken_comes_as_one_and_leaves_no_file(tmp_path):
    header, buffers = frames.spill({}, [b"a" * 2_000_000, b"b"], [str(tmp_path)])
    assert frames.take(header, buffers) == b"a" * 2_000_000 + b"b"
    assert [*tmp_path.iterdir()] == []
    assert frames.take({}, [b"a", memoryview(b"b")]) == b"ab"


def test_the_first_folder_with_room_is_taken(tmp_path):
    header, _ = frames.spill({}, [bytes(2_000_000)], [str(tmp_path / "absent"), str(tmp_path)])
    assert Path(header["spill"]["path"]).parent == tmp_path


def test_without_a_folder_everything_stays_in_the_frame():
    buffers = [bytes(2_000_000)]
    assert frames.spill({}, buffers, []) == ({}, buffers)


def test_the_size_of_buffers_is_in_bytes():
    assert frames.size_of([b"abc", memoryview(bytearray(8)).cast("I")]) == 11
