"""The notebook's default resource: what a bare ``%%flash_remote`` runs on."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeGuard

from IPython.core.error import UsageError

if TYPE_CHECKING:
    from flash_nb.resources.serverless import ServerlessResource
    from flash_nb.sdk.selection import Selection


@dataclass(frozen=True)
class Default:
    """A resource, and what its cells need besides.

    Attributes:
        name: The variable that holds it.
        resource: The resource.
        deps: Python packages that each cell on it gets, as PEP 508 strings.
    """

    name: str
    resource: ServerlessResource
    deps: tuple[str, ...] = ()

    def current(self, namespace: Mapping[str, Any]) -> ServerlessResource:
        """Return what the variable holds now, if that takes cells: its cell may have run again."""
        held = namespace.get(self.name)
        return held if takes_cells(held) else self.resource


def takes_cells(value: object) -> TypeGuard[ServerlessResource]:
    """Say if a value is a resource that can run cells."""
    from flash_nb.resources.serverless import ServerlessResource

    return isinstance(value, ServerlessResource) and value.is_live and not value.is_load_balanced


def held_resource(namespace: Mapping[str, Any], name: str, prog: str) -> ServerlessResource:
    """Return the resource that a variable holds and that takes cells.

    Args:
        namespace: The user's.
        name: The variable.
        prog: The magic that asks, for the error.

    Raises:
        UsageError: There is none of this name, or it takes no cells.
    """
    from flash_nb.errors import did_you_mean
    from flash_nb.resources.serverless import ServerlessResource

    found = namespace.get(name)
    if not isinstance(found, ServerlessResource):
        held = [other for other, value in namespace.items() if isinstance(value, ServerlessResource)]
        raise UsageError(f"{prog}: no resource is called {name!r}{did_you_mean(name, held)}")
    if not takes_cells(found):
        raise UsageError(
            f"{prog}: {name} is a {type(found).__name__}, which takes no cells.\n"
            "Run the cell on a LiveServerless or a CpuLiveServerless."
        )
    return found


def chosen(selection: Selection, environ: Mapping[str, str]) -> Default:
    """Return what a selection makes the default of a notebook.

    Raises:
        UsageError: It cannot work; a line for each reason.
    """
    from flash_nb.sdk.selection import COMMAND, problems, resource

    if wrong := problems(selection, environ):
        raise UsageError("\n".join(f"{COMMAND}: {problem}" for problem in wrong))
    return Default(selection.name, resource(selection, environ), selection.deps)
