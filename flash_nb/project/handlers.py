"""What a project's artifact has besides its own files and packages; see `flash_nb.protocol.artifact`."""

from __future__ import annotations

from collections.abc import Iterator

from flash_nb.project.declared import Project, Trouble, TroubleError
from flash_nb.protocol import artifact

handler_file = artifact.handler_file


def files_of(project: Project) -> dict[str, bytes]:
    """Return what an artifact has besides the user's files and packages: relative path to content.

    Raises:
        TroubleError: Two resources would have one handler file.
    """
    found: dict[str, bytes] = {}
    owners: dict[str, str] = {}
    for key, content in _handlers(project):
        file = handler_file(key)
        if file.lower() in owners:  # some file systems do not tell them apart either
            raise TroubleError([_clash(project, key, owners[file.lower()], file)])
        owners[file.lower()] = key
        found[file] = content
    return found | artifact.runtime()


def requirements_of(project: Project) -> tuple[str, ...]:
    """Return what the runtime needs in this artifact, as PEP 508 strings."""
    serves = project.mothership is not None or any(
        group.resource.is_load_balanced for group in project.groups
    )
    return artifact.requirements(serves_http=serves)


def _handlers(project: Project) -> Iterator[tuple[str, bytes]]:
    for group in project.groups:
        names = ", ".join(function.name for function in group.functions)
        yield group.key, artifact.handler(group.key, names, is_http=group.resource.is_load_balanced)
    if mothership := project.mothership:
        key, what = mothership.resource.name, f"{mothership.variable} of {mothership.file}"
        yield key, artifact.handler(key, what, is_http=True)


def _clash(project: Project, key: str, other: str, file: str) -> Trouble:
    place = next((group.place for group in project.groups if group.key == key), None)
    return Trouble(
        place,
        f"the resources {other!r} and {key!r} would both be started by {file}",
        f"rename one: {key!r} and {other!r} differ in signs or letters that a file name does not keep",
    )
