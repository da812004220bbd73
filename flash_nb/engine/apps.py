"""Apps, as Runpod knows them: their environments and their builds; what there may be and what not.

::

    App ──┬── Environment ── has endpoints and volumes, serves one active Build
          ├── Build       ── an artifact and its manifest
          └── Upload      ── an artifact on its way: prepared, received, then a Build

What can be lost is not deleted on the side: an environment or an app that still has endpoints stays.
(Runpod deletes the app; its endpoints stay alone, and cost.) An app keeps its `KEPT_BUILDS` newest
builds, and those that an environment serves.

Files and addresses are in `flash_nb.engine.artifacts`; an endpoint's environment is in its spec.
"""

from __future__ import annotations

import secrets
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import Any, Protocol, TypeVar

from flash_nb.errors import BackendError, did_you_mean

MAX_ARTIFACT_BYTES = 1500 * 1024 * 1024  # what the newest official client sends; 1.0.0 stops at 500
UPLOAD_S = 3600.0
KEPT_BUILDS = 10
RESOURCE = "FLASH_RESOURCE_NAME"  # the variable by which an endpoint says which resource it is
MAX_NAME = 100


@dataclass(frozen=True)
class App:
    """A project's place in the engine; its name is its own."""

    id: str
    name: str
    created_at: float


@dataclass(frozen=True)
class Environment:
    """One deployment of an app, such as ``production``; its name is its app's.

    Attributes:
        state: ``PENDING``, ``DEPLOYING``, ``HEALTHY`` or what a client says.
        build: The id of the active build; None: nothing was deployed yet.
        volumes: Ids of the network volumes that were added to it.
    """

    id: str
    app: str
    name: str
    created_at: float
    state: str = "PENDING"
    build: str | None = None
    volumes: tuple[str, ...] = ()


@dataclass(frozen=True)
class Build:
    """An artifact with its manifest.

    Attributes:
        artifact: Names its file.
        manifest: As its client said it, and updated it.
    """

    id: str
    app: str
    artifact: str
    created_at: float
    manifest: Mapping[str, Any]


@dataclass(frozen=True)
class Upload:
    """An artifact on its way.

    Attributes:
        id: Names its file.
        size: Bytes that were announced; no more are taken, and no fewer.
        received: All of them are there.
    """

    id: str
    app: str
    size: int
    expires_at: float
    received: bool = False

    @property
    def object_key(self) -> str:
        """How clients name it."""
        return object_key(self.app, self.id)


_Any = App | Environment | Build | Upload
_Found = TypeVar("_Found", App, Environment, Build, Upload)


class RecordStore(Protocol):
    """Where records are kept; see `flash_nb.engine.store.Store`."""

    def records(self, kind: str) -> list[dict[str, Any]]:
        """Return the records of a kind, oldest first."""

    def save_records(self, changes: Mapping[tuple[str, str], Mapping[str, Any] | None]) -> None:
        """Write records by kind and id, all or none; None forgets one."""


@dataclass
class Apps:
    """All apps of an engine.

    Args:
        store: Where they are kept.
        endpoints: Returns the specs of the endpoints, by id.
        clock: Returns the time in seconds.
    """

    store: RecordStore
    endpoints: Callable[[], Mapping[str, Mapping[str, Any]]]
    clock: Callable[[], float] = time.time
    apps: dict[str, App] = field(default_factory=dict)
    environments: dict[str, Environment] = field(default_factory=dict)
    builds: dict[str, Build] = field(default_factory=dict)
    uploads: dict[str, Upload] = field(default_factory=dict)

    def restore(self) -> None:
        """Take over what an engine that went before knew."""
        for kind, table in self._tables():
            for record in self.store.records(kind.__name__.lower()):
                if kind is Environment:
                    record["volumes"] = tuple(record["volumes"])
                table[record["id"]] = kind(**record)

    # --- apps ---------------------------------------------------------------------------------

    def app(self, app_id: str) -> App:
        """Return the app with this id."""
        return _found(self.apps, app_id, "App")

    def app_of(self, name: str) -> App:
        """Return the app with this name.

        Raises:
            BackendError: There is none; official clients know it by the words "App not found".
        """
        named = {app.name: app for app in self.apps.values()}
        if name not in named:
            raise BackendError(f"App not found: {name!r}{did_you_mean(name, named)}")
        return named[name]

    def create_app(self, name: str) -> App:
        """Make an app."""
        _check_name("an app", name)
        if any(app.name == name for app in self.apps.values()):
            raise BackendError(f"There is an app {name!r} already.")
        app = App(_new_id("app"), name, self.clock())
        self._save(app)
        return app

    def delete_app(self, app_id: str) -> list[Build]:
        """Delete an app with its environments; return its builds, which are deleted too.

        Raises:
            BackendError: It still has endpoints.
        """
        app = self.app(app_id)
        environments = self.environments_of(app.id)
        for environment in environments:
            self._check_empty(environment, f"The app {app.name!r}")
        builds = self.builds_of(app.id)
        uploads = [upload for upload in self.uploads.values() if upload.app == app.id]
        self._save(forget=[app, *environments, *builds, *uploads])
        return builds

    # --- environments -------------------------------------------------------------------------

    def environment(self, environment_id: str) -> Environment:
        """Return the environment with this id."""
        return _found(self.environments, environment_id, "Environment")

    def environment_of(self, app_id: str, name: str) -> Environment:
        """Return the environment of an app with this name."""
        app = self.app(app_id)
        named = {found.name: found for found in self.environments_of(app.id)}
        if name not in named:
            raise BackendError(
                f"Environment not found: {name!r} of the app {app.name!r}{did_you_mean(name, named)}"
            )
        return named[name]

    def environments_of(self, app_id: str) -> list[Environment]:
        """Return the environments of an app, oldest first."""
        return [found for found in self.environments.values() if found.app == app_id]

    def create_environment(self, app_id: str, name: str) -> Environment:
        """Make an environment."""
        _check_name("an environment", name)
        app = self.app(app_id)
        if any(found.name == name for found in self.environments_of(app.id)):
            raise BackendError(f"The app {app.name!r} has an environment {name!r} already.")
        environment = Environment(_new_id("env"), app.id, name, self.clock())
        self._save(environment)
        return environment

    def delete_environment(self, environment_id: str) -> None:
        """Delete an environment; builds and volumes stay.

        Raises:
            BackendError: It still has endpoints.
        """
        environment = self.environment(environment_id)
        self._check_empty(environment, f"The environment {environment.name!r}")
        self._save(forget=[environment])

    def set_state(self, environment_id: str, state: str) -> Environment:
        """Note the state of an environment as a client says it."""
        _check_name("a state", state)
        return self._change(self.environment(environment_id), state=state)

    def add_volume(self, environment_id: str, volume_id: str) -> Environment:
        """Note that a volume belongs to an environment."""
        environment = self.environment(environment_id)
        volumes = dict.fromkeys((*environment.volumes, volume_id))
        return self._change(environment, volumes=tuple(volumes))

    def members(self, environment_id: str) -> list[str]:
        """Return the ids of an environment's endpoints."""
        return [
            endpoint_id
            for endpoint_id, spec in self.endpoints().items()
            if environment_in(spec) == environment_id
        ]

    def endpoint_of(self, app: str, environment: str, resource: str) -> str:
        """Return the id of an endpoint by the names of all that it belongs to.

        Args:
            app: The app's name.
            environment: The environment's.
            resource: The resource's, in the manifest; or the endpoint's.

        Raises:
            BackendError: There is none.
        """
        found = self.environment_of(self.app_of(app).id, environment)
        specs = self.endpoints()
        named = {specs[each]["name"]: each for each in self.members(found.id)}
        named |= {key: each for each in named.values() if (key := specs[each]["env"].get(RESOURCE))}
        if resource not in named:
            raise BackendError(
                f"Endpoint not found: {resource!r} in {environment!r} of the app {app!r}"
                f"{did_you_mean(resource, named)}"
            )
        return named[resource]

    # --- builds -------------------------------------------------------------------------------

    def build(self, build_id: str) -> Build:
        """Return the build with this id."""
        return _found(self.builds, build_id, "Build")

    def builds_of(self, app_id: str) -> list[Build]:
        """Return the builds of an app, oldest first."""
        return [build for build in self.builds.values() if build.app == app_id]

    @property
    def active(self) -> frozenset[str]:
        """The ids of the builds that environments serve."""
        return frozenset(found.build for found in self.environments.values() if found.build)

    def prepare(self, app_id: str, size: int) -> Upload:
        """Expect an artifact.

        Args:
            app_id: Whose it is.
            size: Its bytes.

        Raises:
            BackendError: It is too large, or empty.
        """
        app = self.app(app_id)
        if not 0 < size <= MAX_ARTIFACT_BYTES:
            megabytes = MAX_ARTIFACT_BYTES // 1024**2
            raise BackendError(
                f"An artifact has from 1 byte to {megabytes} MB; this one has {size / 1024**2:,.1f} MB: "
                "leave out packages that the workers' image has (flash build --exclude)."
            )
        upload = Upload(secrets.token_hex(16), app.id, size, self.clock() + UPLOAD_S)
        self._save(upload)
        return upload

    def receive(self, upload_id: str) -> None:
        """Note that all bytes of an artifact have come."""
        self._change(self.uploads[upload_id], received=True)

    def upload_of(self, app_id: str, key: str) -> Upload:
        """Return the upload that a client wants to finalize.

        Raises:
            BackendError: There is none, it is not here yet, or it is too late.
        """
        app = self.app(app_id)
        for upload in self.uploads.values():
            if upload.object_key == key and upload.app == app.id:
                if not upload.received:
                    raise BackendError(
                        f"The artifact {key!r} was not uploaded: PUT it to its uploadUrl first."
                    )
                return upload
        for build in self.builds_of(app.id):
            if object_key(build.app, build.artifact) == key:
                raise BackendError(
                    f"The artifact {key!r} was finalized already: it is the build {build.id!r}."
                )
        raise BackendError(f"The app {app.name!r} expects no artifact {key!r}: prepare its upload again.")

    def finalize(self, upload: Upload, manifest: Mapping[str, Any]) -> Build:
        """Make a received artifact a build; the oldest builds that nobody needs are forgotten."""
        build = Build(_new_id("build"), upload.app, upload.id, self.clock(), manifest)
        others = [found for found in self.builds_of(upload.app) if found.id not in self.active]
        surplus = others[: max(0, len(others) + 1 - KEPT_BUILDS)]
        self._save(build, forget=[upload, *surplus])
        return build

    def discard(self, upload: Upload) -> None:
        """Forget an upload: it is no artifact."""
        self._save(forget=[upload])

    def forget_expired(self) -> None:
        """Forget the uploads whose time is over."""
        self._save(forget=[upload for upload in self.uploads.values() if upload.expires_at < self.clock()])

    @property
    def artifacts(self) -> frozenset[str]:
        """The artifacts that somebody needs."""
        return frozenset(self.uploads).union(build.artifact for build in self.builds.values())

    def set_manifest(self, build_id: str, manifest: Mapping[str, Any]) -> Build:
        """Replace the manifest of a build."""
        return self._change(self.build(build_id), manifest=manifest)

    def check_deployable(self, environment_id: str, build_id: str) -> Build:
        """Return a build that is about to be deployed to an environment.

        Raises:
            BackendError: They are of different apps.
        """
        environment, build = self.environment(environment_id), self.build(build_id)
        if environment.app != build.app:
            names = [self.app(found.app).name for found in (build, environment)]
            raise BackendError(
                f"The build {build_id!r} is of the app {names[0]!r}, "
                f"and the environment {environment.name!r} of {names[1]!r}."
            )
        return build

    def activate(self, environment_id: str, build_id: str) -> Environment:
        """Have an environment serve a build."""
        build = self.check_deployable(environment_id, build_id)
        return self._change(self.environment(environment_id), build=build.id, state="HEALTHY")

    # ------------------------------------------------------------------------------------------

    def _check_empty(self, environment: Environment, what: str) -> None:
        if members := self.members(environment.id):
            specs = self.endpoints()
            named = ", ".join(f"{specs[endpoint_id]['name']} ({endpoint_id})" for endpoint_id in members)
            raise BackendError(
                f"{what} still has endpoints in {environment.name!r}: {named}. Delete them first: "
                "flash undeploy NAME."
            )

    def _change(self, found: _Found, **changes: Any) -> _Found:
        changed = replace(found, **changes)
        self._save(changed)
        return changed

    def _save(self, *records: _Any, forget: Sequence[_Any] = ()) -> None:
        changes: dict[tuple[str, str], dict[str, Any] | None] = {}
        for record in forget:
            changes[type(record).__name__.lower(), record.id] = None
        for record in records:
            changes[type(record).__name__.lower(), record.id] = asdict(record)
        self.store.save_records(changes)
        tables = dict(self._tables())
        for record in forget:
            del tables[type(record)][record.id]
        for record in records:
            tables[type(record)][record.id] = record

    def _tables(self) -> list[tuple[type[Any], dict[str, Any]]]:
        return [
            (App, self.apps),
            (Environment, self.environments),
            (Build, self.builds),
            (Upload, self.uploads),
        ]


def environment_in(spec: Mapping[str, Any]) -> str:
    """Return the id of the environment that an endpoint belongs to; empty: to none."""
    return spec.get("declared", {}).get("flashEnvironmentId") or ""


def object_key(app_id: str, artifact: str) -> str:
    """Return how clients name an artifact."""
    return f"{app_id}/{artifact}.tar.gz"


def _found(table: Mapping[str, _Found], record_id: str, word: str) -> _Found:
    if record_id not in table:
        raise BackendError(f"{word} not found: {record_id!r}")
    return table[record_id]


def _new_id(prefix: str) -> str:
    return f"{prefix}-{secrets.token_hex(6)}"


def _check_name(what: str, name: str) -> None:
    """Refuse names that cannot be shown, typed or told apart."""
    if not name or len(name) > MAX_NAME or name != name.strip() or not name.isprintable() or "/" in name:
        raise BackendError(
            f"The name of {what} has from 1 to {MAX_NAME} characters that can be printed, no '/' and no "
            f"spaces around it, not {name!r}."
        )
