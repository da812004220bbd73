"""The size of an artifact: what makes it large, and what to leave out so that it fits."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from flash_nb.project.builder.install import Distribution
from flash_nb.project.declared import Project, Trouble, TroubleError
from flash_nb.sdk.look import human_size
from flash_nb.sdk.target import GPU_IMAGE_PACKAGES

_MOST_NAMED = 6


def freed(
    distributions: Mapping[str, Distribution], asked: Iterable[str], excluded: Iterable[str]
) -> frozenset[str]:
    """Return the packages that are not installed if some are excluded: those, and what only they need.

    Args:
        distributions: All that are installed, by name.
        asked: Names of those that are asked for.
        excluded: Names of those to leave out.
    """
    left_out = frozenset(excluded)
    kept: set[str] = set()
    waiting = [name for name in asked if name in distributions and name not in left_out]
    while waiting:
        name = waiting.pop()
        kept.add(name)
        waiting += [each for each in distributions[name].needs - kept - left_out if each in distributions]
    return frozenset(distributions) - kept


def what_fits(
    shares: Mapping[str, int], distributions: Mapping[str, Distribution], asked: Iterable[str], limit: int
) -> tuple[str, ...]:
    """Return the fewest packages to exclude so that the rest is within a limit, the image's own first.

    Empty if nothing helps: the project's own files are too large.
    """
    asked = tuple(asked)
    total = sum(shares.values())
    chosen: list[str] = []
    candidates = [name for name in asked if name in distributions] or [*distributions]
    while total - _sum(shares, freed(distributions, asked, chosen)) > limit:
        left = [name for name in candidates if name not in chosen]
        if not left:
            return ()
        gain = {name: _sum(shares, freed(distributions, asked, [*chosen, name])) for name in left}
        chosen.append(max(left, key=lambda name: (name in GPU_IMAGE_PACKAGES, gain[name])))
    return tuple(chosen)


def too_large(
    shares: Mapping[str, int],
    distributions: Mapping[str, Distribution],
    asked: Iterable[str],
    *,
    limit: int,
    largest_files: Sequence[str] = (),
) -> TroubleError:
    """Return the error for an artifact that does not fit.

    Args:
        shares: About how many bytes of it each package has; ``""`` are the project's own files.
        distributions: What is installed.
        asked: Names of what is asked for.
        limit: The most bytes that it may have.
        largest_files: The largest of the project's own.
    """
    ordered = sorted(((size, name) for name, size in shares.items() if size), reverse=True)
    named = [f"{name or 'your own files'} {human_size(size)}" for size, name in ordered[:_MOST_NAMED]]
    more = len(ordered) - len(named)
    total = human_size(sum(shares.values()))
    message = f"The archive would have about {total}, and Runpod takes {human_size(limit)}: "
    message += ", ".join(named)
    message += f" and {more} more" if more else ""
    if excluded := what_fits(shares, distributions, asked, limit):
        fix = f"flash build --exclude {','.join(excluded)}"
        if not GPU_IMAGE_PACKAGES.issuperset(excluded):
            fix += " fits, if your images have them or your code does without"
        return TroubleError([Trouble(None, message, fix)])
    files = f" ({', '.join(largest_files)})" if largest_files else ""
    fix = f"Leave out large files{files} by .flashignore, and read them from a network volume or an address"
    return TroubleError([Trouble(None, message, fix)])


def too_much(sizes: Mapping[str, int], asked: Iterable[str], *, limit: int) -> TroubleError:
    """Return the error for wheels that cannot fit, known as soon as their download begins.

    A wheel is compressed already, so it takes about as much of the archive.

    Args:
        sizes: Bytes of the wheels that are known so far.
        asked: Names of what is asked for.
        limit: The most bytes that the archive may have.
    """
    ordered = sorted(((size, name) for name, size in sizes.items()), reverse=True)
    named = ", ".join(f"{name} {human_size(size)}" for size, name in ordered[:_MOST_NAMED])
    total = human_size(sum(sizes.values()))
    message = f"The archive would have over {total}, and Runpod takes {human_size(limit)}: {named}"
    if of_image := sorted(GPU_IMAGE_PACKAGES & {*asked}) or sorted(GPU_IMAGE_PACKAGES & {*sizes}):
        return TroubleError([Trouble(None, message, f"flash build --exclude {','.join(of_image)}")])
    fix = f"Leave out what your images have: --exclude {ordered[0][1]}, or do without it"
    return TroubleError([Trouble(None, message, fix)])


def of_the_image(
    project: Project,
    shares: Mapping[str, int],
    distributions: Mapping[str, Distribution],
    asked: Iterable[str],
) -> str:
    """Return a note on packages that are packed though the images of all GPU endpoints have them, if any."""
    resources = [*project.resources]
    on_gpu = [resource for resource in resources if not resource.is_cpu]
    packed = sorted(GPU_IMAGE_PACKAGES & set(distributions))
    if not (packed and on_gpu and all(resource.is_live for resource in on_gpu)):
        return ""
    names = ",".join(packed)
    saved = human_size(_sum(shares, freed(distributions, asked, packed)))
    note = f"The images of GPU endpoints have {names}: --exclude {names} saves {saved}"
    others = ", ".join(resource.name for resource in resources if resource.is_cpu)
    return note + (f". Not if {others} need it: images of CPU endpoints do not have it" if others else "")


def _sum(shares: Mapping[str, int], names: Iterable[str]) -> int:
    return sum(shares.get(name, 0) for name in names)
