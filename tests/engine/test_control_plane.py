"""Endpoints and volumes over HTTP: the engine's GraphQL and REST."""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager

import httpx
import pytest
from real import spec

from flash_nb.backends.local import connect, read_state

SAVE = """
mutation saveEndpoint($input: EndpointInput!) {
  saveEndpoint(input: $input) {
    aiKey gpuIds id idleTimeout locations name networkVolumeId flashEnvironmentId scalerType scalerValue
    templateId type userId version workersMax workersMin workersStandby workersPFBTarget gpuCount
    allowedCudaVersions executionTimeoutMs instanceIds activeBuildid idePodId
  }
}
"""
DELETE = "mutation deleteEndpoint($id: String!) { deleteEndpoint(id: $id) }"
LIST = "query { myself { endpoints { id name } } }"
LIVE = {
    "name": "live-fb",
    "instanceIds": ["cpu3g-2-8"],
    "template": {"imageName": "runpod/flash-cpu:latest", "env": [{"key": "A", "value": "from the template"}]},
}
FUNCTION = {"function_name": "f", "serialization_format": "json", "args": []}
READ_A = {**FUNCTION, "function_code": "def f():\n    import os\n    return os.environ.get('A')"}


class Plane:
    """The control plane as Runpod's clients see it."""

    def __init__(self, world, url: str) -> None:
        self.url = url
        self.token = read_state(world.settings).api_key
        self.http = httpx.AsyncClient(headers={"Authorization": f"Bearer {self.token}"}, timeout=60)

    async def ask(self, query: str, **variables) -> dict:
        return (await self.post({"query": query, "variables": variables})).json()

    async def post(self, body) -> httpx.Response:
        return await self.http.post(f"{self.url}/graphql", json=body)

    async def save(self, **fields) -> dict:
        answer = await self.ask(SAVE, input=fields)
        assert "errors" not in answer, answer
        return answer["data"]["saveEndpoint"]

    async def names(self) -> list[str]:
        found = (await self.ask(LIST))["data"]["myself"]["endpoints"]
        return [endpoint["name"] for endpoint in found]

    async def run(self, endpoint_id: str, given) -> dict:
        answer = await self.http.post(f"{self.url}/v2/{endpoint_id}/runsync", json={"input": given})
        return answer.json()


@asynccontextmanager
async def plane(world):
    client = await connect(world.settings, "test")
    opened = Plane(world, await client.call("http"))
    client.close()
    async with opened.http:
        yield opened


def scenario(world, body) -> None:
    async def run():
        async with plane(world) as opened:
            await asyncio.wait_for(body(opened), 60)

    asyncio.run(run())


def test_an_endpoint_is_made_listed_used_and_deleted(world):
    async def body(p):
        saved = await p.save(**LIVE)
        assert (saved["name"], saved["type"], saved["instanceIds"]) == ("live-fb", "QB", ["cpu3g-2-8"])
        assert [type(saved[key]) for key in ("gpuIds", "allowedCudaVersions", "templateId")] == [str] * 3
        assert await p.names() == ["live-fb"]
        (listed,) = await world.call("endpoints")
        assert (listed["id"], listed["kind"], listed["env"]) == (saved["id"], "CpuLiveServerless", ["A"])
        assert (await p.run(saved["id"], READ_A))["output"]["json_result"] == "from the template"
        assert await p.ask(DELETE, id=saved["id"]) == {"data": {"deleteEndpoint": None}}
        assert await p.names() == []
        assert (await p.run(saved["id"], READ_A))["detail"]

    scenario(world, body)


def test_who_saves_a_name_at_once_gets_one_endpoint(world):
    async def body(p):
        saved = await asyncio.gather(*(p.save(**LIVE) for _ in range(5)))
        assert len({endpoint["id"] for endpoint in saved}) == 1
        assert await p.names() == ["live-fb"]

    scenario(world, body)


def test_a_kernel_and_graphql_mean_the_same_endpoint_by_kind_and_name(world):
    async def body(p):
        async with world.endpoint(name="live-fb") as endpoint:
            assert (await p.save(**LIVE))["id"] == endpoint.id
            assert (await p.save(**{**LIVE, "instanceIds": []}))["id"] != endpoint.id

    scenario(world, body)


def test_an_endpoint_is_changed_by_id_even_its_name(world):
    async def body(p):
        saved = await p.save(**LIVE)
        changed = await p.save(id=saved["id"], name="renamed", workersMax=7)
        assert (changed["id"], changed["name"], changed["workersMax"]) == (saved["id"], "renamed", 7)
        assert (await p.run(saved["id"], READ_A))["output"]["json_result"] == "from the template"
        again = await p.save(**LIVE)
        assert again["id"] != saved["id"], "the name is free again"
        assert sorted(await p.names()) == ["live-fb", "renamed"]
        assert (await p.save(**{**LIVE, "name": "renamed"}))["id"] == saved["id"]

    scenario(world, body)


def test_new_variables_reach_the_next_job(world):
    async def body(p):
        saved = await p.save(**LIVE)
        assert (await p.run(saved["id"], READ_A))["output"]["json_result"] == "from the template"
        template = {"imageName": "runpod/flash-cpu:latest", "env": [{"key": "A", "value": "new"}]}
        await p.save(id=saved["id"], template=template)
        assert (await p.run(saved["id"], READ_A))["output"]["json_result"] == "new"

    scenario(world, body)


def test_a_template_is_read_and_saved_by_its_id(world):
    get = "query getTemplate($id: String!) { podTemplate(id: $id) { id imageName env { key value } readme } }"
    change = (
        "mutation saveTemplate($input: SaveTemplateInput) { saveTemplate(input: $input) {"
        " id containerDiskInGb dockerArgs env { key value } imageName name readme } }"
    )

    async def body(p):
        saved = await p.save(**LIVE)
        template_id = saved["templateId"]
        found = (await p.ask(get, id=template_id))["data"]["podTemplate"]
        env = [{"key": "A", "value": "from the template"}]
        image = "runpod/flash-cpu:latest"
        assert found == {"id": template_id, "imageName": image, "env": env, "readme": None}
        given = {
            "id": template_id,
            "imageName": image,
            "env": [{"key": "A", "value": "new"}],
            "volumeInGb": 0,
        }
        assert (await p.ask(change, input=given))["data"]["saveTemplate"]["env"] == given["env"]
        assert (await p.run(saved["id"], READ_A))["output"]["json_result"] == "new"
        assert (await p.save(id=saved["id"], templateId=template_id))["templateId"] == template_id
        assert (await p.ask(get, id=template_id))["data"]["podTemplate"]["imageName"] == image
        for query, variables in ((get, {"id": "tpl-x"}), (change, {"input": {**given, "id": "tpl-x"}})):
            assert "'tpl-x'" in (await p.ask(query, **variables))["errors"][0]["message"]

    scenario(world, body)


def test_an_endpoint_survives_the_engine_and_its_door_opens_again(world):
    async def body(p):
        saved = await p.save(**LIVE)
        world.kill_engine()
        client = await connect(world.settings, "test")
        client.close()
        assert await p.names() == ["live-fb"], "at the address of before"
        assert (await p.run(saved["id"], READ_A))["output"]["success"]

    scenario(world, body)


def test_jobs_of_a_foreign_image_fail_with_its_name_unless_something_stands_for_it(world):
    async def body(p):
        template = {"imageName": "me/upper:1"}
        saved = await p.save(name="upper", instanceIds=["cpu3g-2-8"], template=template)
        failed = await p.run(saved["id"], {"text": "x"})
        assert failed["status"] == "FAILED"
        assert "me/upper:1" in failed["error"]
        assert failed["executionTime"] == 0
        source = "def handler(job):\n    return job['input']['text'].upper()"
        item = {"name": "handler", "source": source, "filename": "c", "first_line": 1}
        app = {"kind": "handler", "group": {"namespace": [item], "buffers": [], "function": "handler"}}
        backend = world.backend()
        stood_in = await backend.ensure(spec(name="upper", kind="CpuServerlessEndpoint", app=app))
        assert stood_in.id == saved["id"]
        assert (await p.run(saved["id"], {"text": "x"}))["output"] == "X"
        await p.save(name="upper", instanceIds=["cpu3g-2-8"], template=template, workersMax=9)
        assert (await p.run(saved["id"], {"text": "y"}))["output"] == "Y", "it still stands for the image"
        await backend.aclose()

    scenario(world, body)


def test_a_load_balanced_endpoint_without_routes_says_so(world):
    async def body(p):
        saved = await p.save(name="api", type="LB", template={"imageName": "me/api:1"})
        assert "no queue" in (await p.run(saved["id"], {}))["detail"]
        assert (await p.http.get(f"{p.url}/v2/{saved['id']}/health")).is_success
        answer = await p.http.get(f"{p.url}/{saved['id']}/ping")
        assert answer.status_code == 404
        assert "no routes yet" in answer.json()["detail"]

    scenario(world, body)


def test_arguments_in_the_query_itself_are_read_too(world):
    async def body(p):
        made = await p.ask(
            'mutation { saveEndpoint(input: {name: "x", templateId: "me/image", workersMax: 1,'
            ' gpuIds: "AMPERE_16"}) { id gpuIds templateId } }'
        )
        saved = made["data"]["saveEndpoint"]
        assert (saved["gpuIds"], saved["templateId"]) == ("AMPERE_16", "me/image")
        assert "errors" not in await p.ask(f'mutation {{ deleteEndpoint(id: "{saved["id"]}") }}')

    scenario(world, body)


@pytest.mark.parametrize(
    ("query", "variables", "word"),
    [
        ("query {", {}, "Syntax Error"),
        ("query { myself { endpointz { id } } }", {}, "endpointz"),
        (SAVE, {"input": {"name": "x", "workers": 1}}, "workers"),
        (SAVE, {"input": {"name": "x"}}, "imageName"),
        (SAVE, {"input": {"id": "ep-none"}}, "ep-none"),
        (SAVE, {"input": {"name": "x", "templateId": "i", "workersMax": "3"}}, "Int"),
        (SAVE, {"input": {"name": "x", "templateId": "i", "networkVolumeId": "../x"}}, "volume"),
        (DELETE, {"id": "ep-none"}, "ep-none"),
        ("query q($n: String!) { flashAppByName(flashAppName: $n) { id } }", {"n": "a"}, "App not found"),
    ],
)
def test_errors_are_graphqls(world, query, variables, word):
    async def body(p):
        answer = await p.ask(query, **variables)
        assert word in answer["errors"][0]["message"]
        assert await p.names() == []

    scenario(world, body)


def test_only_the_token_opens_the_control_plane(world):
    async def body(p):
        for path in ("graphql", "rest/networkvolumes"):
            for headers in ({}, {"Authorization": "Bearer x"}):
                refused = await httpx.AsyncClient().post(f"{p.url}/{path}", json={}, headers=headers)
                assert (refused.status_code, list(refused.json())) == (401, ["detail"])
            by_address = await httpx.AsyncClient().post(f"{p.url}/{path}?token={p.token}", json={})
            assert by_address.status_code == 401
        assert (await p.post([])).status_code == 400
        assert (await p.post({"query": 5})).status_code == 400
        assert (await p.http.get(f"{p.url}/graphql")).status_code == 405

    scenario(world, body)


def test_volumes_are_made_once_and_shared(world):
    async def body(p):
        url = f"{p.url}/rest/networkvolumes"
        assert (await p.http.get(url)).json() == []
        given = {"name": "data", "size": 10, "dataCenterId": "EU-RO-1"}
        made = await p.http.post(url, json=given)
        assert (made.status_code, made.json()) == (201, {"id": "EU-RO-1-data", **given})
        again = await p.http.post(url, json=given)
        assert (again.status_code, again.json()) == (200, made.json())
        assert (await p.http.get(url)).json() == [made.json()]
        saved = await p.save(**LIVE, networkVolumeId=made.json()["id"])
        assert saved["networkVolumeId"] == made.json()["id"]
        code = "def f():\n    import os\n    return os.environ['RUNPOD_VOLUME_PATH']"
        output = (await p.run(saved["id"], {**FUNCTION, "function_code": code}))["output"]
        assert output["json_result"] == str(world.home / "volumes" / "EU-RO-1-data")

    scenario(world, body)


@pytest.mark.parametrize(
    "given",
    [
        {},
        {"name": "../x", "size": 1, "dataCenterId": "EU-RO-1"},
        {"name": "x", "size": 1, "dataCenterId": ".."},
        {"name": "x", "size": 0, "dataCenterId": "EU-RO-1"},
        {"name": "x", "size": "1", "dataCenterId": "EU-RO-1"},
    ],
)
def test_a_volume_that_cannot_be_is_refused(world, given):
    async def body(p):
        refused = await p.http.post(f"{p.url}/rest/networkvolumes", json=given)
        assert (refused.status_code, list(refused.json())) == (400, ["detail"])

    scenario(world, body)


def test_volumes_are_those_of_rest_v1_in_the_words_of_v2(world):
    async def body(p):
        v1, v2 = f"{p.url}/rest/networkvolumes", f"{p.url}/v2/network-volumes"
        assert (await p.http.get(v2)).json() == {"networkVolumes": []}
        given = {"name": "data", "size": 10, "dataCenter": "EU-RO-1"}
        fast = {"name": "fast", "size": 4096, "dataCenter": "EU-RO-1", "type": "HIGH_PERFORMANCE"}
        first = {"id": "EU-RO-1-data", "type": "STANDARD", **given}
        for asked, told in ((given, first), (given, first), (fast, {"id": "EU-RO-1-fast", **fast})):
            made = await p.http.post(v2, json=asked)
            assert (made.status_code, made.json()) == (201, told)
        old = {"name": "old", "size": 5, "dataCenterId": "US-KS-2"}
        assert (await p.http.post(v1, json=old)).status_code == 201
        listed = (await p.http.get(v2)).json()["networkVolumes"]
        assert [each["id"] for each in listed] == ["EU-RO-1-data", "EU-RO-1-fast", "US-KS-2-old"]
        assert listed[2] == {
            "id": "US-KS-2-old",
            "name": "old",
            "size": 5,
            "dataCenter": "US-KS-2",
            "type": "STANDARD",
        }
        in_v1 = (await p.http.get(v1)).json()
        assert in_v1[0] == {"id": "EU-RO-1-data", "name": "data", "dataCenterId": "EU-RO-1", "size": 10}
        assert (world.home / "volumes" / "EU-RO-1-fast").is_dir()

    scenario(world, body)


VOLUME = {"name": "x", "size": 10, "dataCenter": "EU-RO-1"}


@pytest.mark.parametrize(
    ("status", "given"),
    [
        (400, []),
        (422, {}),
        (422, VOLUME | {"dataCenterId": "EU-RO-1"}),
        (422, VOLUME | {"name": "../x"}),
        (422, VOLUME | {"size": 9}),
        (422, VOLUME | {"size": 4097}),
        (422, VOLUME | {"size": True}),
        (422, VOLUME | {"type": "FAST"}),
        (422, VOLUME | {"type": []}),
    ],
)
def test_a_volume_that_cannot_be_is_a_problem_in_v2(world, status, given):
    async def body(p):
        url = f"{p.url}/v2/network-volumes"
        refused = await p.http.post(url, json=given)
        assert (refused.status_code, refused.json()["status"]) == (status, status)
        assert list(refused.json()) == ["title", "status", "detail"]
        assert refused.headers["content-type"] == "application/problem+json"
        for headers in ({}, {"Authorization": "Bearer x"}):
            unknown = await httpx.AsyncClient().post(url, json=VOLUME, headers=headers)
            assert (unknown.status_code, unknown.json()["title"]) == (401, "Unauthorized")
        assert (await p.http.get(url)).json() == {"networkVolumes": []}

    scenario(world, body)


def test_a_live_load_balanced_endpoint_executes_what_its_clients_send(world):
    async def body(p):
        template = {"imageName": "runpod/flash-lb-cpu:latest", "env": [{"key": "A", "value": "b"}]}
        saved = await p.save(name="lb", type="LB", instanceIds=["cpu3g-2-8"], template=template)

        async def execute(given) -> httpx.Response:
            return await p.http.post(f"{p.url}/{saved['id']}/execute", json=given)

        assert (await p.http.get(f"{p.url}/{saved['id']}/ping")).json() == {"status": "healthy"}
        assert (await execute(READ_A)).json()["json_result"] == "b"
        assert (await execute({"input": READ_A})).json()["success"] is True
        code = "async def f():\n    import six\n    print('said')\n    return six.__version__"
        told = (await execute({**FUNCTION, "function_code": code, "dependencies": ["six==1.16.0"]})).json()
        assert (told["json_result"], told["stdout"]) == ("1.16.0", "said\n")
        failed = (await execute({**FUNCTION, "function_code": "def f():\n    raise KeyError('k')"})).json()
        assert failed["success"] is False
        assert failed["error"].startswith("'k'\n")
        assert (await p.http.post(f"{p.url}/{saved['id']}/execute", content=b"[")).status_code == 422
        assert (await p.http.get(f"{p.url}/{saved['id']}/elsewhere")).status_code == 404

    scenario(world, body)
