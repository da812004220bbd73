"""The codec: one memo for all names, a size and an error for each."""

from __future__ import annotations

import sys
import threading
import types

import pytest

from flash_nb.worker.codec import (
    IN_BAND_BYTES,
    Decoder,
    EncodeError,
    Encoder,
    decode,
    encode,
    never_portable,
)


def nothing(name: str):
    raise AttributeError(name)


def round_trip(**values):
    encoder = Encoder(never_portable)
    for name, value in values.items():
        encoder.add(name, value)
    decoder = Decoder(encoder.buffers(), nothing)
    return {item["name"]: decoder.load() for item in encoder.items}, encoder


@pytest.mark.parametrize(
    "value",
    [None, True, 1, 1.5, 1j, "text", b"bytes", [1, [2]], {"a": {1, 2}}, (1,), ..., range(3), bytearray(b"x")],
)
def test_values_come_back(value):
    assert decode(encode(value, never_portable), nothing) == value


def test_two_names_of_one_object_are_still_one():
    shared = [1]
    values, _ = round_trip(a=shared, b=shared, c={"inside": shared})
    assert values["a"] is values["b"] is values["c"]["inside"]


def test_an_array_and_its_view_share_memory_under_two_names():
    np = pytest.importorskip("numpy")
    array = np.zeros(100_000)
    values, _ = round_trip(a=array, again=array)
    values["a"][0] = 7
    assert values["again"][0] == 7


def test_every_name_has_its_own_size():
    np = pytest.importorskip("numpy")
    _, encoder = round_trip(small=1, large=np.zeros(100_000), same_text="x" * 1000)
    assert encoder.sizes["small"] < 20
    assert 800_000 < encoder.sizes["large"] < 801_000
    assert 1000 < encoder.sizes["same_text"] < 1100
    assert sum(encoder.sizes.values()) == sum(memoryview(b).nbytes for b in encoder.buffers())


def test_an_alias_costs_next_to_nothing():
    value = list(range(10_000))
    _, encoder = round_trip(a=value, b=value)
    assert encoder.sizes["a"] > 10_000
    assert encoder.sizes["b"] < 20


def test_large_arrays_travel_out_of_band_and_come_back_writable():
    np = pytest.importorskip("numpy")
    array = np.arange(IN_BAND_BYTES)
    buffers = encode(array, never_portable)
    assert len(buffers) == 2
    found = decode([bytearray(b) for b in buffers], nothing)
    found[0] = 5
    assert array[0] == 0
    assert np.array_equal(found[1:], array[1:])


def test_small_arrays_stay_in_band():
    np = pytest.importorskip("numpy")
    assert len(encode(np.zeros(10), never_portable)) == 1


@pytest.mark.parametrize("order", ["C", "F"])
def test_arrays_of_any_order_come_back(order):
    np = pytest.importorskip("numpy")
    array = np.asarray(np.random.default_rng(0).random((300, 200)), order=order)
    found = decode([bytearray(b) for b in encode(array, never_portable)], nothing)
    assert np.array_equal(found, array)
    assert np.array_equal(decode(encode(array[::2, ::3], never_portable), nothing), array[::2, ::3])


def test_what_cannot_be_pickled_is_named():
    encoder = Encoder(never_portable)
    encoder.add("fine", 1)
    with pytest.raises(EncodeError, match=r"^lock: TypeError: .*lock") as caught:
        encoder.add("lock", {"inside": threading.Lock()})
    assert caught.value.name == "lock"
    assert isinstance(caught.value.cause, TypeError)


def test_an_error_of_a_users_reduce_is_named_too():
    class Broken:
        def __reduce__(self):
            raise ZeroDivisionError("mine")

    with pytest.raises(EncodeError, match="the value: ZeroDivisionError: mine"):
        encode(Broken(), never_portable)


def test_an_interrupt_is_no_error_of_the_value():
    class Interrupts:
        def __reduce__(self):
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        encode(Interrupts(), never_portable)


@pytest.fixture
def main_definition(monkeypatch):
    """Define something in a __main__ of its own."""

    def define(source: str, name: str):
        module = types.ModuleType("__main__")
        exec(source, module.__dict__)
        monkeypatch.setitem(sys.modules, "__main__", module)
        return module.__dict__[name]

    return define


def test_a_known_definition_of_main_travels_as_its_name(main_definition):
    function = main_definition("def f(): return 'here'", "f")
    buffers = encode([function], lambda obj: obj is function)
    assert b"return" not in bytes(buffers[0])
    assert decode(buffers, {"f": "there"}.__getitem__) == ["there"]


def test_an_object_of_a_known_class_is_rebuilt_with_the_class_of_the_other_side(main_definition):
    there = main_definition("class Point:\n    def double(self): return 2 * self.x", "Point")
    here = main_definition("class Point: pass", "Point")
    point = here()
    point.x = 21
    found = decode(encode(point, lambda obj: obj is here), {"Point": there}.__getitem__)
    assert found.double() == 42


def test_an_unknown_function_travels_by_value():
    added = 2
    function = decode(encode(lambda x: x + added, never_portable), nothing)
    assert function(1) == 3


def test_the_modules_of_the_values_are_noted():
    np = pytest.importorskip("numpy")
    modules: set[str] = set()
    encode({"a": np.float64(1), "b": threading.Thread}, never_portable, modules)
    assert {"numpy", "threading"} <= {name.partition(".")[0] for name in modules}


def test_a_value_that_cannot_be_loaded_spoils_no_other():
    np = pytest.importorskip("numpy")
    module = types.ModuleType("only_there")
    exec("class Thing: pass", module.__dict__)
    sys.modules["only_there"] = module
    module.Thing.__module__ = "only_there"
    thing = module.Thing()
    thing.array = np.ones(100_000)
    encoder = Encoder(never_portable)
    values = {"a": np.zeros(100_000), "thing": thing, "b": np.full(100_000, 2.0), "shares": [thing]}
    for name, value in {**values, "same_class": module.Thing()}.items():
        encoder.add(name, value)
    del sys.modules["only_there"]
    decoder = Decoder(encoder.buffers(), nothing)
    assert decoder.load()[0] == 0
    with pytest.raises(ModuleNotFoundError, match="only_there"):
        decoder.load()
    assert decoder.load()[0] == 2
    for _ in ("shares", "same_class"):
        with pytest.raises(ModuleNotFoundError, match="only_there"):
            decoder.load()
