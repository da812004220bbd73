"""Apps, environments and builds: the engine's GraphQL in the words of official clients, and artifacts."""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import io
import json
import os
import re
import tarfile
import time

import httpx
import pytest
from real import until
from test_control_plane import DELETE, SAVE, Plane, scenario

from flash_nb.backends.local import connect

APPS = """
query getFlashApps { myself { flashApps {
  id name
  flashEnvironments { id name state createdAt activeBuildId }
  flashBuilds { id createdAt }
} } }
"""
APP = """
query getFlashApp($input: String!) { flashApp(flashAppId: $input) {
  id name flashEnvironments { id name state } flashBuilds { id objectKey createdAt }
} }
"""
APP_BY_NAME = """
query getFlashAppByName($flashAppName: String!) { flashAppByName(flashAppName: $flashAppName) {
  id name
  flashEnvironments { id name state activeBuildId createdAt }
  flashBuilds { id objectKey createdAt }
} }
"""
ENVIRONMENT = """
query getFlashEnvironment($flashEnvironmentId: String!) {
  flashEnvironment(flashEnvironmentId: $flashEnvironmentId) {
    id name state activeBuildId createdAt endpoints { id name } networkVolumes { id name }
  }
}
"""
ENVIRONMENT_BY_NAME = """
query getFlashEnvironmentByName($input: FlashEnvironmentByNameInput!) {
  flashEnvironmentByName(input: $input) {
    id name state activeBuildId endpoints { id name } networkVolumes { id name }
  }
}
"""
ENVIRONMENTS = """
query listFlashEnvironments($flashAppId: String!) { flashApp(flashAppId: $flashAppId) {
  flashEnvironments { id name state activeBuildId createdAt }
} }
"""
BUILDS = """
query listFlashBuilds($flashAppId: String!) { flashApp(flashAppId: $flashAppId) {
  flashBuilds { id objectKey createdAt }
} }
"""
BUILD = "query getFlashBuild($input: String!) { flashBuild(flashBuildId: $input) { id manifest } }"
CREATE_APP = (
    "mutation createFlashApp($input: CreateFlashAppInput!) { createFlashApp(input: $input) { id name } }"
)
DELETE_APP = "mutation deleteFlashApp($flashAppId: String!) { deleteFlashApp(flashAppId: $flashAppId) }"
CREATE_ENVIRONMENT = """
mutation createFlashEnvironment($input: CreateFlashEnvironmentInput!) {
  createFlashEnvironment(input: $input) { id name }
}
"""
UPDATE_ENVIRONMENT = """
mutation updateFlashEnvironment($input: UpdateFlashEnvironmentInput!) {
  updateFlashEnvironment(input: $input) { id name state }
}
"""
DELETE_ENVIRONMENT = """
mutation deleteFlashEnvironment($flashEnvironmentId: String!) {
  deleteFlashEnvironment(flashEnvironmentId: $flashEnvironmentId)
}
"""
ADD_ENDPOINT = """
mutation addEndpointToFlashEnvironment($input: AddEndpointToEnvironmentInput!) {
  addEndpointToFlashEnvironment(input: $input) { id name flashEnvironmentId }
}
"""
ADD_VOLUME = """
mutation addNetworkVolumeToFlashEnvironment($input: AddNetworkVolumeToEnvironmentInput!) {
  addNetworkVolumeToFlashEnvironment(input: $input) { id name flashEnvironmentId }
}
"""
PREPARE = """
mutation PrepareArtifactUpload($input: PrepareFlashArtifactUploadInput!) {
  prepareFlashArtifactUpload(input: $input) { uploadUrl objectKey expiresAt }
}
"""
FINALIZE = """
mutation FinalizeArtifactUpload($input: FinalizeFlashArtifactUploadInput!) {
  finalizeFlashArtifactUpload(input: $input) { id manifest }
}
"""
DEPLOY = """
mutation deployBuildToEnvironment($input: DeployBuildToEnvironmentInput!) {
  deployBuildToEnvironment(input: $input) { id name activeArtifact { objectKey downloadUrl expiresAt } }
}
"""
UPDATE_MANIFEST = """
mutation updateFlashBuildManifest($input: UpdateFlashBuildManifestInput!) {
  updateFlashBuildManifest(input: $input) { id manifest }
}
"""

MANIFEST = {
    "version": "1.0",
    "resources": {
        "worker": {"resource_type": "CpuLiveServerless", "is_load_balanced": False},
        "api": {"resource_type": "CpuLiveLoadBalancer", "is_load_balanced": True},
    },
    "function_registry": {"hello": "worker"},
}
HANDLER = """
import json, os
from pathlib import Path

def handler(job):
    registered = json.loads(Path(os.environ["FLASH_MANIFEST_PATH"]).read_text())["resources_endpoints"]
    return {"said": "WORD", "given": job["input"], "environment": os.environ["FLASH_ENVIRONMENT_ID"],
            "registered": registered}
"""
APPLICATION = """
async def app(scope, receive, send):
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": b"WORD"})
"""


def artifact(word: str = "first", **files: str) -> bytes:
    """Return an artifact whose handlers say a word."""
    found = {
        "flash_manifest.json": json.dumps(MANIFEST),
        **dict.fromkeys((f"{each}/__init__.py" for each in ("flash_runtime", "cloudpickle", "fastapi")), ""),
        "handler_worker.py": HANDLER.replace("WORD", word),
        "handler_api.py": APPLICATION.replace("WORD", word),
        **files,
    }
    return packed([(name, text.encode()) for name, text in found.items()])


def packed(members: list[tuple[str, bytes]]) -> bytes:
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w:gz") as tar:
        for name, content in members:
            member = tarfile.TarInfo(name)
            member.size = len(content)
            tar.addfile(member, io.BytesIO(content))
    return stream.getvalue()


class Deployer(Plane):
    """Asks for apps as official clients do; a refusal is an exception."""

    async def said(self, query: str, **variables) -> dict:
        """Return the root field of an answer."""
        answer = await self.ask(query, **variables)
        assert "errors" not in answer, answer
        (value,) = answer["data"].values()
        return value

    async def refusal(self, query: str, **variables) -> str:
        answer = await self.ask(query, **variables)
        assert not any((answer["data"] or {}).values()), answer
        return answer["errors"][0]["message"]

    async def app(self, name: str = "shop") -> str:
        return (await self.said(CREATE_APP, input={"name": name}))["id"]

    async def environment(self, app: str, name: str = "production") -> str:
        return (await self.said(CREATE_ENVIRONMENT, input={"flashAppId": app, "name": name}))["id"]

    async def prepare(self, app: str, size: int) -> dict:
        return await self.said(PREPARE, input={"flashAppId": app, "tarballSize": size})

    async def put(self, url: str, content) -> httpx.Response:
        """Upload as official clients do: without a key."""
        async with httpx.AsyncClient(timeout=60) as http:
            return await http.put(url, content=content, headers={"Content-Type": "application/gzip"})

    async def build(self, app: str, content: bytes, manifest: dict = MANIFEST) -> str:
        prepared = await self.prepare(app, len(content))
        assert (await self.put(prepared["uploadUrl"], content)).is_success
        given = {"flashAppId": app, "objectKey": prepared["objectKey"], "manifest": manifest}
        built = await self.said(FINALIZE, input=given)
        assert built["manifest"] == manifest
        return built["id"]

    async def deploy(self, environment: str, build: str) -> dict:
        return await self.said(DEPLOY, input={"flashEnvironmentId": environment, "flashBuildId": build})

    async def endpoint(self, environment: str, key: str = "worker", **fields) -> dict:
        """Save an endpoint as ``flash deploy send`` does."""
        is_api = key == "api"
        image = "runpod/flash-lb-cpu:latest" if is_api else "runpod/flash-cpu:latest"
        env = [{"key": "FLASH_RESOURCE_NAME", "value": key}]
        return await self.save(
            **{
                "name": f"{key}-fb",
                "type": "LB" if is_api else "QB",
                "instanceIds": ["cpu3g-2-8"],
                "flashEnvironmentId": environment,
                "template": {"imageName": image, "env": env},
                **fields,
            }
        )


def deploying(world, body) -> None:
    async def run(opened: Plane) -> None:
        deployer = Deployer(world, opened.url)
        async with deployer.http:
            await body(deployer)

    scenario(world, run)


def test_apps_and_environments_are_made_listed_and_deleted(world):
    async def body(d):
        assert (await d.said(APPS))["flashApps"] == []
        assert await d.refusal(APP_BY_NAME, flashAppName="shop") == "App not found: 'shop'"
        app = await d.app()
        assert "did you mean 'shop'" in await d.refusal(APP_BY_NAME, flashAppName="shops")
        environment = await d.environment(app)
        found = await d.said(APP_BY_NAME, flashAppName="shop")
        (listed,) = found.pop("flashEnvironments")
        assert found == {"id": app, "name": "shop", "flashBuilds": []}
        assert listed.pop("createdAt").endswith("Z")
        assert listed == {
            "id": environment,
            "name": "production",
            "state": "PENDING",
            "activeBuildId": None,
        }
        short = {"id": environment, "name": "production", "state": "PENDING"}
        assert (await d.said(APP, input=app))["flashEnvironments"] == [short]
        assert (await d.said(ENVIRONMENTS, flashAppId=app))["flashEnvironments"][0]["id"] == environment
        (mine,) = (await d.said(APPS))["flashApps"]
        assert (mine["id"], mine["flashEnvironments"][0]["id"]) == (app, environment)

        by_name = {"flashAppId": app, "name": "production"}
        expected = {**short, "activeBuildId": None, "endpoints": [], "networkVolumes": []}
        assert await d.said(ENVIRONMENT_BY_NAME, input=by_name) == expected
        state = await d.said(
            UPDATE_ENVIRONMENT, input={"flashEnvironmentId": environment, "status": "DEPLOYING"}
        )
        assert state == {**short, "state": "DEPLOYING"}
        assert (await d.said(ENVIRONMENT, flashEnvironmentId=environment))["state"] == "DEPLOYING"

        await d.said(DELETE_ENVIRONMENT, flashEnvironmentId=environment)
        missing = await d.refusal(ENVIRONMENT_BY_NAME, input=by_name)
        assert missing == "Environment not found: 'production' of the app 'shop'"
        assert "not found" in await d.refusal(ENVIRONMENT, flashEnvironmentId=environment)
        await d.said(DELETE_APP, flashAppId=app)
        assert (await d.said(APPS))["flashApps"] == []

    deploying(world, body)


def test_names_are_their_owners(world):
    async def body(d):
        app, other = await d.app("one"), await d.app("two")
        await d.environment(app)
        await d.environment(other)
        assert "already" in await d.refusal(CREATE_APP, input={"name": "one"})
        twice = {"flashAppId": app, "name": "production"}
        assert "already" in await d.refusal(CREATE_ENVIRONMENT, input=twice)
        for name in ("", " x", "../../x", "a/b", "x\n", "x" * 101):
            assert "characters" in await d.refusal(CREATE_APP, input={"name": name})
            given = {"flashAppId": app, "name": name}
            assert "characters" in await d.refusal(CREATE_ENVIRONMENT, input=given)
        assert await d.refusal(CREATE_ENVIRONMENT, input={"flashAppId": "../x", "name": "x"}) == (
            "App not found: '../x'"
        )

    deploying(world, body)


def test_a_build_is_uploaded_deployed_served_and_downloaded(world):
    async def body(d):
        app = await d.app()
        environment = await d.environment(app)
        content = artifact()
        prepared = await d.prepare(app, len(content))
        unfinished = {"flashAppId": app, "objectKey": prepared["objectKey"], "manifest": MANIFEST}
        assert "PUT it" in await d.refusal(FINALIZE, input=unfinished)
        build = await d.build(app, content)
        assert await d.said(BUILD, input=build) == {"id": build, "manifest": MANIFEST}
        (listed,) = (await d.said(BUILDS, flashAppId=app))["flashBuilds"]
        assert (listed["id"], app in listed["objectKey"]) == (build, True)

        deployed = await d.deploy(environment, build)
        active = deployed.pop("activeArtifact")
        assert deployed == {"id": environment, "name": "production"}
        async with httpx.AsyncClient() as http:
            fetched = await http.get(active["downloadUrl"])
            assert (fetched.status_code, fetched.content) == (200, content)
            forged = active["downloadUrl"][:-1] + ("0" if active["downloadUrl"][-1] != "0" else "1")
            assert (await http.get(forged)).status_code == 403
        assert listed["objectKey"] == active["objectKey"]
        found = await d.said(ENVIRONMENT, flashEnvironmentId=environment)
        assert (found["activeBuildId"], found["state"]) == (build, "HEALTHY")

        saved, balanced = await d.endpoint(environment), await d.endpoint(environment, "api")
        assert (saved["flashEnvironmentId"], saved["activeBuildid"]) == (environment, build)
        found = await d.said(ENVIRONMENT, flashEnvironmentId=environment)
        assert [endpoint["name"] for endpoint in found["endpoints"]] == ["worker-fb", "api-fb"]
        ran = await d.run(saved["id"], {"x": 1})
        assert ran["output"] == {
            "said": "first",
            "given": {"x": 1},
            "environment": environment,
            "registered": {
                "worker": f"{d.url}/v2/{saved['id']}",
                "api": f"{d.url}/{balanced['id']}",
            },
        }
        assert (await d.http.get(f"{d.url}/{balanced['id']}/any")).text == "first"

        told = {**MANIFEST, "resources_endpoints": {"worker": "https://elsewhere"}}
        changed = await d.said(UPDATE_MANIFEST, input={"flashBuildId": build, "manifest": told})
        assert changed == {"id": build, "manifest": told} == await d.said(BUILD, input=build)
        assert (await d.run(saved["id"], {}))["output"]["registered"]["worker"] == f"{d.url}/v2/{saved['id']}"

    deploying(world, body)


def test_another_build_reaches_every_endpoint_and_no_request_fails(world):
    async def body(d):
        app = await d.app()
        environment = await d.environment(app)
        await d.deploy(environment, await d.build(app, artifact("old")))
        queued, balanced = await d.endpoint(environment), await d.endpoint(environment, "api")
        url = f"{d.url}/{balanced['id']}/x"
        assert (await d.http.get(url)).text == "old"
        assert (await d.run(queued["id"], {}))["output"]["said"] == "old"
        over = asyncio.Event()

        async def keep_asking() -> list[str]:
            words = []
            while not over.is_set() or words[-1] != "new":
                answer = await d.http.get(url)
                assert answer.status_code == 200, answer.text
                words.append(answer.text)
            return words

        asking = asyncio.create_task(keep_asking())
        await d.deploy(environment, await d.build(app, artifact("new")))
        assert (await d.run(queued["id"], {}))["output"]["said"] == "new"
        over.set()
        words = await asking
        assert words == sorted(words, key=["old", "new"].index), "and never back"

    deploying(world, body)


def test_a_build_that_comes_after_its_endpoints_is_served_too(world):
    async def body(d):
        app = await d.app()
        environment = await d.environment(app)
        saved, balanced = await d.endpoint(environment), await d.endpoint(environment, "api")
        await d.deploy(environment, await d.build(app, artifact()))
        assert (await d.run(saved["id"], {}))["output"]["said"] == "first"
        assert (await d.http.get(f"{d.url}/{balanced['id']}/")).text == "first"

    deploying(world, body)


def test_an_endpoint_is_found_by_the_names_of_all_that_it_belongs_to(world):
    async def body(d):
        app = await d.app()
        environment = await d.environment(app)
        await d.deploy(environment, await d.build(app, artifact()))
        saved, _ = await d.endpoint(environment), await d.endpoint(environment, "api")

        async def ask(method: str, path: str, *names: str, **fields) -> httpx.Response:
            headers = dict(
                zip(("X-Flash-App", "X-Flash-Environment", "X-Flash-Endpoint"), names, strict=False)
            )
            return await d.http.request(method, f"{d.url}{path}", headers=headers, **fields)

        for name in ("worker", "worker-fb"):
            ran = await ask("POST", "/v2/flash/runsync", "shop", "production", name, json={"input": {"x": 1}})
            assert ran.json()["output"]["given"] == {"x": 1}
        job_id = (
            await ask("POST", "/v2/flash/run", "shop", "production", "worker", json={"input": {}})
        ).json()["id"]
        status = await ask("GET", f"/v2/flash/status/{job_id}", "shop", "production", "worker")
        assert status.json()["id"] == job_id
        assert (await d.http.get(f"{d.url}/v2/{saved['id']}/status/{job_id}")).json()["id"] == job_id
        assert (await ask("GET", "/flash/any", "shop", "production", "api")).text == "first"
        for names, words in (
            ((), "App not found: ''"),
            (("shops", "production", "worker"), "did you mean 'shop'?"),
            (("shop", "staging", "worker"), "Environment not found: 'staging'"),
            (("shop", "production", "wrker"), "did you mean 'worker'?"),
        ):
            for method, path in (("POST", "/v2/flash/runsync"), ("GET", "/flash/any")):
                refused = await ask(method, path, *names, json={"input": {}})
                assert (refused.status_code, words in refused.json()["detail"]) == (404, True)

    deploying(world, body)


def test_what_a_build_has_no_more_is_not_served_and_comes_back(world):
    async def body(d):
        app = await d.app()
        environment = await d.environment(app)
        full = await d.build(app, artifact())
        await d.deploy(environment, full)
        queued, balanced = await d.endpoint(environment), await d.endpoint(environment, "api")
        assert (await d.run(queued["id"], {}))["output"]["said"] == "first"
        less = {**MANIFEST, "resources": {"api2": MANIFEST["resources"]["api"]}}
        await d.deploy(environment, await d.build(app, artifact("less"), less))
        failed = await d.run(queued["id"], {})
        assert failed["status"] == "FAILED"
        assert "is the resource 'worker' of 'production'" in failed["error"]
        refused = await d.http.get(f"{d.url}/{balanced['id']}/x")
        assert (refused.status_code, "did you mean 'api2'?" in refused.json()["detail"]) == (404, True)
        await d.deploy(environment, full)
        assert (await d.run(queued["id"], {}))["output"]["said"] == "first"
        assert (await d.http.get(f"{d.url}/{balanced['id']}/x")).text == "first"

    deploying(world, body)


def test_environments_have_endpoints_of_the_same_name(world):
    async def body(d):
        app = await d.app()
        production, staging = await d.environment(app), await d.environment(app, "staging")
        await d.deploy(production, await d.build(app, artifact("p")))
        await d.deploy(staging, await d.build(app, artifact("s")))
        saved = [await d.endpoint(each) for each in (production, staging)]
        live = await d.endpoint("")
        assert len({each["id"] for each in [*saved, live]}) == 3
        for endpoint, word in zip(saved, "ps", strict=True):
            assert (await d.run(endpoint["id"], {}))["output"]["said"] == word
        assert (await d.endpoint(production))["id"] == saved[0]["id"]
        moved = await d.endpoint(staging, id=saved[0]["id"])
        assert moved["flashEnvironmentId"] == staging
        assert (await d.run(moved["id"], {}))["output"]["said"] == "s"

    deploying(world, body)


def test_an_endpoint_is_added_to_an_environment_with_a_volume(world):
    async def body(d):
        environment = await d.environment(await d.app())
        saved = await d.endpoint("")
        given = {"flashEnvironmentId": environment, "endpointId": saved["id"]}
        expected = {"id": saved["id"], "name": "worker-fb", "flashEnvironmentId": environment}
        assert await d.said(ADD_ENDPOINT, input=given) == expected
        volume = {"name": "data", "size": 10, "dataCenterId": "EU-RO-1"}
        made = (await d.http.post(f"{d.url}/rest/networkvolumes", json=volume)).json()
        given = {"flashEnvironmentId": environment, "networkVolumeId": made["id"]}
        expected = {"id": made["id"], "name": "data", "flashEnvironmentId": environment}
        for _ in range(2):
            assert await d.said(ADD_VOLUME, input=given) == expected
        found = await d.said(ENVIRONMENT, flashEnvironmentId=environment)
        assert found["endpoints"] == [{"id": saved["id"], "name": "worker-fb"}]
        assert found["networkVolumes"] == [{"id": made["id"], "name": "data"}]
        for query, unknown in (
            (ADD_VOLUME, {**given, "networkVolumeId": "none"}),
            (ADD_VOLUME, {**given, "flashEnvironmentId": "none"}),
            (ADD_ENDPOINT, {"flashEnvironmentId": environment, "endpointId": "none"}),
            (ADD_ENDPOINT, {"flashEnvironmentId": "none", "endpointId": saved["id"]}),
        ):
            assert "none" in await d.refusal(query, input=unknown)
        assert "none" in await d.refusal(SAVE, input={"id": saved["id"], "flashEnvironmentId": "none"})

    deploying(world, body)


def test_what_has_endpoints_is_not_deleted_and_what_is_deleted_leaves_no_file(world):
    async def body(d):
        app = await d.app()
        environment = await d.environment(app)
        await d.deploy(environment, await d.build(app, artifact()))
        waiting = await d.prepare(app, 5)
        saved = await d.endpoint(environment)
        for query, asked in (
            (DELETE_APP, {"flashAppId": app}),
            (DELETE_ENVIRONMENT, {"flashEnvironmentId": environment}),
        ):
            refused = await d.refusal(query, **asked)
            assert saved["id"] in refused
            assert "flash undeploy" in refused
        await d.said(DELETE, id=saved["id"])
        assert list((world.home / "artifacts").iterdir())
        await d.said(DELETE_APP, flashAppId=app)
        for folder in ("artifacts", "builds", "environments"):
            assert list((world.home / folder).iterdir()) == []
        assert (await d.put(waiting["uploadUrl"], b"12345")).status_code == 409
        assert "not found" in await d.refusal(DELETE_ENVIRONMENT, flashEnvironmentId=environment)

    deploying(world, body)


def test_an_artifact_is_put_once_whole_and_by_its_address_only(world):
    async def body(d):
        app = await d.app()
        content = artifact()
        prepared = await d.prepare(app, len(content))
        url = prepared["uploadUrl"]
        assert d.token not in url
        address, _, query = url.partition("?")
        other = await d.prepare(app, 5)
        for forged in (
            address,
            f"{address}?{query[:-1]}",
            f"{address}?{query.replace('expires=', 'expires=9')}",
            f"{other['uploadUrl'].partition('?')[0]}?{query}",
            f"{d.url}/artifacts/..%2Fengine.sqlite?{query}",
        ):
            assert (await d.put(forged, content)).status_code in (401, 403), forged
        async with httpx.AsyncClient() as http:
            assert (await http.get(url)).status_code == 403, "it is for putting"

        async def longer():
            yield content
            yield b"!"

        async def shorter():
            yield content[:-1]

        for wrong, status in ((content + b"!", 413), (content[:-1], 400), (longer(), 413), (shorter(), 400)):
            assert (await d.put(url, wrong)).status_code == status
        assert list((world.home / "artifacts").iterdir()) == []
        assert (await d.put(url, content)).status_code == 200
        assert (await d.put(url, content)).status_code == 409
        given = {"flashAppId": app, "objectKey": prepared["objectKey"], "manifest": MANIFEST}
        for wrong in ({"objectKey": "../engine.sqlite"}, {"objectKey": f"{app}/../x.tar.gz"}):
            assert "expects no artifact" in await d.refusal(FINALIZE, input={**given, **wrong})
        second = await d.app("second")
        assert "expects no artifact" in await d.refusal(FINALIZE, input={**given, "flashAppId": second})
        for manifest in ({}, [], "x", {"resources": []}):
            assert "manifest" in await d.refusal(FINALIZE, input={**given, "manifest": manifest})
        build = (await d.said(FINALIZE, input=given))["id"]
        assert f"already: it is the build '{build}'" in await d.refusal(FINALIZE, input=given)

    deploying(world, body)


def test_an_address_holds_for_an_hour(world):
    async def body(d):
        app = await d.app()
        prepared = await d.prepare(app, 5)
        artifact_id = prepared["objectKey"].partition("/")[2].partition(".")[0]
        expires = re.search(r"expires=(\d+)", prepared["uploadUrl"])[1]
        assert 3500 < int(expires) - time.time() < 3700
        url, _, _ = prepared["uploadUrl"].partition("?")

        def signed(at: int) -> str:
            message = f"PUT {artifact_id} {at}".encode()
            signature = hmac.new(d.token.encode(), message, hashlib.sha256).hexdigest()
            return f"{url}?expires={at}&signature={signature}"

        assert signed(int(expires)) == prepared["uploadUrl"]
        late = await d.put(signed(int(time.time()) - 1), b"12345")
        assert (late.status_code, "expired" in late.json()["detail"]) == (403, True)
        assert (await d.put(signed(int(time.time()) + 9), b"12345")).is_success

    deploying(world, body)


def test_an_upload_that_breaks_off_can_be_made_again(world):
    async def body(d):
        app = await d.app()
        content = artifact()
        prepared = await d.prepare(app, len(content))
        place = httpx.URL(prepared["uploadUrl"])
        _, writer = await asyncio.open_connection(place.host, place.port)
        head = f"PUT {place.raw_path.decode()} HTTP/1.1\r\nHost: {place.host}:{place.port}\r\n"
        writer.write(f"{head}Content-Length: {len(content)}\r\n\r\n".encode() + content[:9])
        await writer.drain()
        folder = world.home / "artifacts"
        await until(lambda: folder.is_dir() and list(folder.iterdir()))
        assert (await d.put(prepared["uploadUrl"], content)).status_code == 409, "one at a time"
        writer.close()
        await until(lambda: not list(folder.iterdir()))
        assert (await d.put(prepared["uploadUrl"], content)).is_success

    deploying(world, body)


def test_what_is_too_large_is_refused_before_it_comes(world):
    async def body(d):
        app = await d.app()
        for size in (0, -1, 1500 * 1024 * 1024 + 1):
            refused = await d.refusal(PREPARE, input={"flashAppId": app, "tarballSize": size})
            assert "1500 MB" in refused or "room" in refused

    deploying(world, body)


def test_what_is_no_gzip_is_refused_and_forgotten(world):
    async def body(d):
        app = await d.app()
        prepared = await d.prepare(app, 5)
        assert (await d.put(prepared["uploadUrl"], b"PK\3\4x")).is_success
        given = {"flashAppId": app, "objectKey": prepared["objectKey"], "manifest": MANIFEST}
        assert "gzip" in await d.refusal(FINALIZE, input=given)
        assert list((world.home / "artifacts").iterdir()) == []
        assert "prepare" in await d.refusal(FINALIZE, input=given)

    deploying(world, body)


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"\x1f\x8bnonsense", "cannot be unpacked"),
        (packed([("x.py", b"1")])[:-20], "cannot be unpacked"),
        (packed([("../evil.py", b"1")]), "'../evil.py' is not in it"),
        (packed([("/tmp/evil.py", b"1")]), "'/tmp/evil.py' is not in it"),
    ],
)
def test_what_cannot_be_unpacked_is_not_deployed(world, content, words):
    async def body(d):
        app = await d.app()
        environment = await d.environment(app)
        good = await d.build(app, artifact())
        await d.deploy(environment, good)
        bad = await d.build(app, content)
        given = {"flashEnvironmentId": environment, "flashBuildId": bad}
        assert words in await d.refusal(DEPLOY, input=given)
        assert (await d.said(ENVIRONMENT, flashEnvironmentId=environment))["activeBuildId"] == good
        assert [each.name for each in (world.home / "builds").iterdir()] == [good]

    deploying(world, body)


def test_a_build_is_of_its_app(world):
    async def body(d):
        app, other = await d.app(), await d.app("other")
        build = await d.build(app, artifact())
        environment = await d.environment(other)
        given = {"flashEnvironmentId": environment, "flashBuildId": build}
        assert "is of the app 'shop'" in await d.refusal(DEPLOY, input=given)
        for wrong in ({"flashBuildId": "build-x"}, {"flashEnvironmentId": "env-x"}):
            assert "not found" in await d.refusal(DEPLOY, input={**given, **wrong})
        assert "not found" in await d.refusal(BUILD, input="build-x")

    deploying(world, body)


def test_everything_survives_the_engine(world):
    async def body(d):
        app = await d.app()
        environment = await d.environment(app)
        build = await d.build(app, artifact())
        await d.deploy(environment, build)
        saved = await d.endpoint(environment)
        begun = await d.prepare(app, len(artifact("late")))
        before = await d.said(APP_BY_NAME, flashAppName="shop")
        world.kill_engine()
        (await connect(world.settings, "test")).close()
        assert await d.said(APP_BY_NAME, flashAppName="shop") == before
        found = await d.said(ENVIRONMENT, flashEnvironmentId=environment)
        assert (found["activeBuildId"], found["endpoints"][0]["id"]) == (build, saved["id"])
        assert (await d.run(saved["id"], {}))["output"]["said"] == "first"
        assert (await d.put(begun["uploadUrl"], artifact("late"))).is_success
        given = {"flashAppId": app, "objectKey": begun["objectKey"], "manifest": MANIFEST}
        await d.deploy(environment, (await d.said(FINALIZE, input=given))["id"])
        assert (await d.run(saved["id"], {}))["output"]["said"] == "late"

    deploying(world, body)


def test_only_the_newest_builds_are_kept_and_those_that_are_served(world):
    async def body(d):
        app = await d.app()
        environment = await d.environment(app)
        first = await d.build(app, artifact())
        await d.deploy(environment, first)
        later = [await d.build(app, artifact(str(number))) for number in range(12)]
        kept = [build["id"] for build in (await d.said(BUILDS, flashAppId=app))["flashBuilds"]]
        assert kept == [first, *later[-10:]]
        assert len(list((world.home / "artifacts").iterdir())) == len(kept)
        await d.deploy(environment, later[-1])
        assert (await d.said(ENVIRONMENT, flashEnvironmentId=environment))["activeBuildId"] == later[-1]

    deploying(world, body)


def test_what_nobody_needs_is_deleted_in_time(world):
    """A day after it was last served; an engine looks when it starts."""

    async def body(d):
        app = await d.app()
        environment = await d.environment(app)
        builds = [await d.build(app, artifact(word)) for word in ("a", "b", "c")]
        for build in builds:
            await d.deploy(environment, build)
        folder = world.home / "builds"
        assert sorted(each.name for each in folder.iterdir()) == sorted(builds)
        long_ago = time.time() - 2 * 24 * 3600
        for name in (builds[0], builds[2]):
            os.utime(folder / name, (long_ago, long_ago))
        world.kill_engine()
        (await connect(world.settings, "test")).close()
        await until(lambda: not (folder / builds[0]).exists())
        assert sorted(each.name for each in folder.iterdir()) == sorted(builds[1:])
        await d.deploy(environment, builds[0])
        assert (folder / builds[0]).is_dir(), "it is unpacked again"

    deploying(world, body)


def test_only_the_token_opens_apps(world):
    async def body(d):
        for headers in ({}, {"Authorization": "Bearer x"}):
            async with httpx.AsyncClient(headers=headers) as http:
                refused = await http.post(f"{d.url}/graphql", json={"query": APPS, "variables": {}})
                assert (refused.status_code, list(refused.json())) == (401, ["detail"])
        async with httpx.AsyncClient(headers={"Host": "evil.example"}) as http:
            prepared = await d.prepare(await d.app(), 5)
            assert (await http.put(prepared["uploadUrl"], content=b"12345")).status_code == 403

    deploying(world, body)
