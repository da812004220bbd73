"""A network volume: storage that workers share and that outlives them."""

# ruff: noqa: N815 - the fields are Runpod's wire names

from typing import Annotated, Any

from pydantic import PlainValidator

from .datacenter import DataCenter, parse_datacenter
from .declared import Declared, Name, between


class NetworkVolume(Declared):
    """A volume, found by name and data center, and created where there is none.

    Attributes:
        name: Identifies it among the user's in its data center: 1 to 100 characters. Required.
        size: In GB: 10 to 4096. Default 100.
        dataCenterId: Where it lies; workers that use it run there. Default DataCenter.EU_RO_1.
    """

    name: Name
    size: Annotated[int, between(10, 4096)] = 100
    dataCenterId: Annotated[DataCenter | str, PlainValidator(parse_datacenter)] = DataCenter.EU_RO_1

    def wire(self) -> dict[str, Any]:
        """Return the body of Runpod's ``POST /v2/network-volumes``."""
        return {"dataCenter": str(self.dataCenterId), "name": self.name, "size": self.size}
