"""How requests reach the workers of a resource: from a queue, or straight by HTTP."""

# ruff: noqa: N815 - the fields are Runpod's wire names

from typing import Annotated, Literal

from pydantic import AfterValidator, BeforeValidator, PlainValidator

from .serverless import ScalerType, ServerlessResource, ServerlessType, parse_scaler, parse_type


def _only(wanted: ServerlessType, other: str) -> BeforeValidator:
    """Return a check that a type is `wanted`; `other` names the classes for the other one."""

    def check(value: object) -> ServerlessType:
        if parse_type(value) is not wanted:
            raise ValueError(f"must be {wanted!r} here: declare a {other} instead")
        return wanted

    return BeforeValidator(check)


def _counts_requests(scaler: ScalerType) -> ScalerType:
    if scaler is ScalerType.QUEUE_DELAY:
        raise ValueError(
            "needs a queue, and a load-balanced endpoint has none: leave it out for ScalerType.REQUEST_COUNT"
        )
    return scaler


# Both go first among the bases of a class: pydantic takes an inherited field from the first base
# that has it, and every base has every field of `ServerlessResource`.
class QueueBased(ServerlessResource):
    """Jobs wait in a queue, are retried, and keep their result.

    Attributes:
        type: Queue-based only. Default ServerlessType.QB.
    """

    type: Annotated[
        Literal[ServerlessType.QB],
        _only(ServerlessType.QB, "LiveLoadBalancer or LoadBalancerSlsResource"),
    ] = ServerlessType.QB


class LoadBalanced(ServerlessResource):
    """HTTP requests go straight to a worker: no queue, no retries.

    Attributes:
        type: Load-balanced only. Default ServerlessType.LB.
        scalerType: ``QUEUE_DELAY`` is refused: there is no queue. Default ScalerType.REQUEST_COUNT.
    """

    type: Annotated[
        Literal[ServerlessType.LB],
        _only(ServerlessType.LB, "LiveServerless or ServerlessEndpoint"),
    ] = ServerlessType.LB
    scalerType: Annotated[ScalerType, PlainValidator(parse_scaler), AfterValidator(_counts_requests)] = (
        ScalerType.REQUEST_COUNT
    )
