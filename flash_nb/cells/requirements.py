"""Requirements: imported modules -> what a worker has to install, at the versions used here."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache

from packaging.requirements import InvalidRequirement, Requirement
from packaging.utils import canonicalize_name
from packaging.version import InvalidVersion, Version

from flash_nb.errors import CellError

_NOT_INSTALLED = sys.stdlib_module_names | {"__main__", "flash_nb", "flash_worker"}

# Modules whose distribution has another name, for those that are not installed here.
_WELL_KNOWN = {
    "Bio": "biopython",
    "Crypto": "pycryptodome",
    "OpenSSL": "pyopenssl",
    "PIL": "pillow",
    "attr": "attrs",
    "bs4": "beautifulsoup4",
    "cv2": "opencv-python-headless",  # workers have no screen, nor the libraries of one
    "dateutil": "python-dateutil",
    "docx": "python-docx",
    "dotenv": "python-dotenv",
    "faiss": "faiss-cpu",
    "fitz": "pymupdf",
    "git": "gitpython",
    "google.cloud.bigquery": "google-cloud-bigquery",
    "google.cloud.storage": "google-cloud-storage",
    "google.genai": "google-genai",
    "google.protobuf": "protobuf",
    "jose": "python-jose",
    "jwt": "pyjwt",
    "llama_cpp": "llama-cpp-python",
    "magic": "python-magic",
    "mpl_toolkits": "matplotlib",
    "pkg_resources": "setuptools",
    "pptx": "python-pptx",
    "serial": "pyserial",
    "skimage": "scikit-image",
    "sklearn": "scikit-learn",
    "skopt": "scikit-optimize",
    "slugify": "python-slugify",
    "umap": "umap-learn",
    "usb": "pyusb",
    "yaml": "pyyaml",
    "zmq": "pyzmq",
}


@dataclass(frozen=True, slots=True)
class Inferred:
    """What a set of imported modules needs.

    Attributes:
        requirements: What to install from PyPI, sorted.
        local: Distributions that exist only on this machine, sorted: their code has to travel.
    """

    requirements: tuple[str, ...]
    local: tuple[str, ...]


def infer(
    modules: Iterable[str],
    *,
    distributions: Mapping[str, Sequence[str]],
    version: Callable[[str], str],
    is_local: Callable[[str], bool],
) -> Inferred:
    """Find the distributions that provide modules, each pinned to the version installed here.

    Args:
        modules: Names of imported modules, dotted or not; the standard library's may be among them.
        distributions: Top-level module -> distributions, as `importlib.metadata.packages_distributions`.
        version: The installed version of a distribution.
        is_local: Whether a distribution is editable or was installed from a folder.
    """
    requirements, local = set(), set()
    for module in set(modules):
        root = module.partition(".")[0]
        if root in _NOT_INSTALLED:
            continue
        if root not in distributions:
            requirements.add(distribution_of(module))
            continue
        for distribution in _providers(module, distributions[root]):
            if is_local(distribution):
                local.add(distribution)
            else:
                requirements.add(_pinned(distribution, version(distribution)))
    return Inferred(tuple(sorted(requirements)), tuple(sorted(local)))


def merge(explicit: Iterable[str], inferred: Iterable[str]) -> tuple[str, ...]:
    """Join the requirements that the user wrote with inferred ones; the user's win by name.

    Raises:
        CellError: The user wrote something that is not a requirement.
    """
    written = {text.strip(): requirement_name(text) for text in explicit}
    named = written | {
        text: name for text in inferred if (name := requirement_name(text)) not in written.values()
    }
    return tuple(sorted(named, key=lambda text: (named[text], text)))


@lru_cache(maxsize=1024)  # asked anew at every call of a remote function
def requirement_name(text: str) -> str:
    """Return the canonical name of the distribution that a requirement is about.

    Raises:
        CellError: The text is not a requirement.
    """
    try:
        return canonicalize_name(Requirement(text).name)
    except InvalidRequirement as error:
        raise CellError(
            f"{text.strip()!r} is not a requirement: {str(error).splitlines()[0]}",
            hint="Write it as 'numpy', 'numpy>=1.26', or 'name @ https://…' for what PyPI does not have.",
        ) from None


def _providers(module: str, candidates: Sequence[str]) -> list[str]:
    """Return the distributions that provide a module, out of those that share its top-level name.

    Only namespace packages such as ``google`` or ``azure`` have several. Their distributions are
    called like their modules as a rule: the longest part of the dotted name that is a distribution's
    name decides (``azure.storage.blob`` -> azure-storage-blob), else that begins the names of some
    (``google.cloud`` -> google-cloud-storage, google-cloud-bigquery). Where the names say nothing, as
    for ``google.protobuf``, all of them are taken: too many works, too few does not.
    """
    names = {canonicalize_name(candidate): candidate for candidate in candidates}
    for prefix in _prefixes(module):
        wanted = canonicalize_name(prefix)
        if wanted in names:
            return [names[wanted]]
        below = [candidate for name, candidate in names.items() if name.startswith(f"{wanted}-")]
        if below and "." in prefix:
            return below
    return list(names.values())


def distribution_of(module: str) -> str:
    """Return the distribution that most likely provides a module that is not installed here."""
    found = (_WELL_KNOWN[prefix] for prefix in _prefixes(module) if prefix in _WELL_KNOWN)
    return next(found, canonicalize_name(module.partition(".")[0]))


def _prefixes(module: str) -> Iterator[str]:
    """Yield ``a.b.c``, ``a.b``, ``a``."""
    parts = module.split(".")
    return (".".join(parts[:length]) for length in range(len(parts), 0, -1))


def _pinned(distribution: str, version: str) -> str:
    """Return ``name==version``, without what PyPI does not have: a label as in ``2.1+cpu``."""
    try:
        return f"{canonicalize_name(distribution)}=={Version(version).public}"
    except InvalidVersion:
        return canonicalize_name(distribution)
