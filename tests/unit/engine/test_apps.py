"""What apps, environments, builds and uploads may be, with a store of SQLite and a clock of the test."""

from __future__ import annotations

import asyncio
import contextlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flash_nb.engine.apps import KEPT_BUILDS, UPLOAD_S, Apps
from flash_nb.engine.store import Store
from flash_nb.errors import BackendError

NAMES = st.text(st.characters(codec="utf-8"), max_size=110)


@pytest.fixture
def make_apps(tmp_path):
    """Open the apps of an engine; again: those of the engine that follows."""
    stores, specs, clock = [], {}, [0.0]

    def make() -> Apps:
        for store in stores:
            store.close()
        stores[:] = [Store(tmp_path / "engine.sqlite")]
        apps = Apps(stores[0], lambda: specs, lambda: clock[0])
        apps.restore()
        apps.specs, apps.time = specs, clock
        return apps

    async def with_loop():
        return make  # the store makes events of asyncio

    yield asyncio.run(with_loop())
    for store in stores:
        store.close()


def state(apps: Apps) -> tuple:
    return apps.apps, apps.environments, apps.builds, apps.uploads


def test_what_there_is_is_there_again(make_apps):
    apps = make_apps()
    app = apps.create_app("shop")
    environment = apps.create_environment(app.id, "production")
    upload, waiting = apps.prepare(app.id, 5), apps.prepare(app.id, 6)
    apps.receive(upload.id)
    build = apps.finalize(apps.upload_of(app.id, upload.object_key), {"resources": {}})
    apps.activate(environment.id, build.id)
    apps.add_volume(environment.id, "v")
    apps.set_manifest(build.id, {"resources": {"a": {}}})
    again = make_apps()
    assert state(again) == state(apps)
    assert list(again.uploads) == [waiting.id]
    assert again.active == {build.id}
    again.delete_app(app.id)
    assert state(make_apps()) == ({}, {}, {}, {})


def test_an_upload_is_forgotten_when_its_time_is_over(make_apps):
    apps = make_apps()
    app = apps.create_app("shop")
    first = apps.prepare(app.id, 5)
    apps.time[0] = UPLOAD_S / 2
    second = apps.prepare(app.id, 5)
    apps.time[0] = UPLOAD_S + 1
    apps.forget_expired()
    assert apps.artifacts == {second.id}
    with pytest.raises(BackendError, match="expects no artifact"):
        apps.upload_of(app.id, first.object_key)


@pytest.mark.parametrize("served", [0, 3, KEPT_BUILDS])
def test_an_app_keeps_its_newest_builds_and_those_that_are_served(make_apps, served):
    apps = make_apps()
    app, other = apps.create_app("shop"), apps.create_app("other")

    def build(of) -> str:
        upload = apps.prepare(of.id, 5)
        apps.receive(upload.id)
        return apps.finalize(apps.upload_of(of.id, upload.object_key), {"resources": {}}).id

    foreign, builds = build(other), [build(app) for _ in range(KEPT_BUILDS)]
    environment = apps.create_environment(app.id, "production")
    if served < len(builds):
        apps.activate(environment.id, builds[served])
    builds += [build(app) for _ in range(KEPT_BUILDS)]
    expected = builds[-KEPT_BUILDS:]
    if served < KEPT_BUILDS:
        expected = [builds[served], *expected]
    assert [found.id for found in apps.builds_of(app.id)] == expected
    assert foreign in apps.builds
    assert len(apps.artifacts) == len(expected) + 1


def test_an_environment_with_endpoints_stays_with_its_app(make_apps):
    apps = make_apps()
    app = apps.create_app("shop")
    environment = apps.create_environment(app.id, "production")
    apps.specs["ep-1"] = {"name": "worker", "declared": {"flashEnvironmentId": environment.id}}
    apps.specs["ep-2"] = {"name": "of a kernel"}
    assert apps.members(environment.id) == ["ep-1"]
    for delete, found in ((apps.delete_app, app), (apps.delete_environment, environment)):
        with pytest.raises(BackendError, match=r"worker \(ep-1\)"):
            delete(found.id)
    del apps.specs["ep-1"]
    apps.delete_environment(environment.id)
    apps.delete_app(app.id)


@given(NAMES)
def test_a_name_can_be_shown_and_typed(name):
    class Nowhere:
        def records(self, kind):
            return []

        def save_records(self, changes):
            pass

    apps = Apps(Nowhere(), dict)
    with contextlib.suppress(BackendError):
        app = apps.create_app(name)
        assert name.strip() == name != ""
        assert name.isprintable()
        assert "/" not in name
        assert len(name) <= 100
        assert apps.app_of(name) == app
        return
    assert not name.isalnum() or len(name) > 100
