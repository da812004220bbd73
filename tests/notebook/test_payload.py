"""Resources with an image of the user's own: dictionaries in, what the handler says out."""

from __future__ import annotations

from kernels import Kernel, run, value

SETUP = """
import flash_nb
from flash_nb import CpuServerlessEndpoint, ServerlessEndpoint, remote

@flash_nb.stand_in("me/upper:1")
def handler(job):
    return {"text": job["input"]["text"].upper(), "id": len(job["id"]) > 0}

upper = ServerlessEndpoint(name="upper", imageName="me/upper:1", idleTimeout=60)

@remote(upper)
def shout(text, times=1):
    return {"text": text * times}

@remote(upper)
async def shout_async(text):
    return {"text": text}
"""


def test_the_function_makes_the_payload_and_the_handler_answers(kernel: Kernel) -> None:
    run(kernel, SETUP)
    run(kernel, "out = await shout('hi', times=2)")
    assert kernel.value("out.status, out.output") == ("COMPLETED", {"text": "HIHI", "id": True})
    assert value(kernel, "(await shout_async('ho')).output['text']") == "HO"
    assert value(kernel, "shout.submit('x').result().output['text']") == "X"


def test_a_resource_with_a_template_of_its_own(kernel: Kernel) -> None:
    run(kernel, SETUP)
    run(
        kernel,
        """
        from flash_nb import PodTemplate

        @remote(CpuServerlessEndpoint(name="upper-cpu", template=PodTemplate(imageName="me/upper:1")))
        def whisper(text):
            return {"text": text}
        """,
    )
    assert value(kernel, "(await whisper('a')).output['text']") == "A"


def test_without_a_stand_in_it_is_refused_with_the_next_step(kernel: Kernel) -> None:
    run(kernel, SETUP)
    run(
        kernel,
        """
        @remote(ServerlessEndpoint(name="nobody", imageName="me/nobody:1"))
        def ask(text):
            return {"text": text}
        """,
    )
    reply = kernel.run("await ask('a')")
    assert reply.ename == "ResourceError"
    assert "'me/nobody:1'" in reply.evalue
    assert '@flash_nb.stand_in("me/nobody:1")' in reply.evalue


def test_what_is_no_payload_is_refused(kernel: Kernel) -> None:
    run(kernel, SETUP)
    run(kernel, "@remote(upper)\ndef number(): return 3")
    assert "takes a dict as payload" in kernel.run("await number()").evalue
    run(kernel, "@remote(upper)\ndef odd(): return {'a': [1, {2: object()}]}")
    assert "the payload of odd['a'][1][2] cannot be sent as JSON" in kernel.run("await odd()").evalue
    assert "is a class" in kernel.run("@remote(upper)\nclass C: ...").evalue
    assert "takes no cells" in kernel.run("%%flash_remote --resource upper\nx = 1").evalue


def test_handlers_fail_stream_and_keep_state(kernel: Kernel) -> None:
    run(
        kernel,
        """
        import flash_nb
        from flash_nb import ServerlessEndpoint, remote

        count = []

        @flash_nb.stand_in("me/odd:1")
        async def handler(job):
            what = job["input"]["what"]
            count.append(what)
            if what == "raise":
                raise KeyError("gone")
            if what == "error":
                return {"error": "the model is not loaded"}
            if what == "object":
                return object()
            return {"count": len(count)}

        @flash_nb.stand_in("me/stream:1")
        def pieces(job):
            for number in range(job["input"]["n"]):
                yield {"number": number}

        odd = ServerlessEndpoint(name="odd", imageName="me/odd:1", workersMax=1, idleTimeout=60)

        @remote(odd)
        def ask(what):
            return {"what": what}

        @remote(ServerlessEndpoint(name="stream", imageName="me/stream:1", idleTimeout=60))
        def stream(n):
            return {"n": n}
        """,
    )
    run(kernel, "first = await ask('raise')")
    assert kernel.value("first.status, first.error.splitlines()[0]") == ("FAILED", "KeyError: 'gone'")
    run(kernel, "second = await ask('error')")
    assert kernel.value("second.status") == "FAILED"
    assert "the model is not loaded" in kernel.value("second.error")
    assert "what JSON cannot hold" in value(kernel, "(await ask('object')).error")
    assert value(kernel, "(await ask('x')).output") == {"count": 4}
    assert value(kernel, "(await stream(3)).output") == [{"number": 0}, {"number": 1}, {"number": 2}]


def test_an_asgi_application_stands_for_a_load_balanced_image(kernel: Kernel) -> None:
    run(
        kernel,
        """
        import flash_nb
        from flash_nb import LoadBalancerSlsResource, remote

        @flash_nb.stand_in("me/api:1", dependencies=["fastapi"])
        def application():
            import fastapi

            app = fastapi.FastAPI()

            @app.post("/generate")
            def generate(prompt: str = fastapi.Body(embed=True)):
                return {"text": prompt + "!"}

            return app

        api = LoadBalancerSlsResource(name="own-api", imageName="me/api:1", idleTimeout=60)

        @remote(api, method="POST", path="/generate")
        def generate(prompt: str):
            "Answered by the image."

        nobody = LoadBalancerSlsResource(name="no-api", imageName="me/no-api:1")

        @remote(nobody, method="GET", path="/x")
        def ask(): ...
        """,
    )
    assert value(kernel, "await generate('hi')") == {"text": "hi!"}
    assert "returns its ASGI application" in kernel.run("await ask()").evalue
