"""What to leave out of an artifact so that it fits."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from flash_nb.project.builder.install import Distribution
from flash_nb.project.builder.size import freed, of_the_image, too_large, what_fits
from flash_nb.project.declared import Group, Place, Project
from flash_nb.resources.custom import ServerlessEndpoint
from flash_nb.resources.live import CpuLiveServerless, LiveServerless

MB = 1_000_000
NEEDS = {
    "torch": {"nvidia-a", "nvidia-b", "numpy"},
    "nvidia-a": set(),
    "nvidia-b": {"nvidia-a"},
    "numpy": set(),
    "pandas": {"numpy"},
}
SHARES = {
    "": MB,
    "torch": 200 * MB,
    "nvidia-a": 400 * MB,
    "nvidia-b": 100 * MB,
    "numpy": 18 * MB,
    "pandas": 12 * MB,
}


def installed(needs: dict[str, set[str]]) -> dict[str, Distribution]:
    return {name: Distribution(name, "1", frozenset(), frozenset(each)) for name, each in needs.items()}


def test_what_only_an_excluded_package_needs_goes_with_it():
    assert freed(installed(NEEDS), ["torch", "pandas"], ["torch"]) == {"torch", "nvidia-a", "nvidia-b"}
    assert freed(installed(NEEDS), ["torch"], ["torch"]) == set(NEEDS)
    assert freed(installed(NEEDS), ["torch", "pandas"], []) == set()


def test_too_large_names_the_largest_and_what_would_fit():
    error = too_large(SHARES, installed(NEEDS), ["torch", "pandas"], limit=500 * MB)
    [trouble] = error.troubles
    assert "about 731 MB" in trouble.message
    assert "nvidia-a 400 MB, torch 200 MB, nvidia-b 100 MB" in trouble.message
    assert trouble.fix == "flash build --exclude torch"


def test_own_files_that_are_too_large():
    error = too_large(
        {"": 600 * MB, "numpy": MB},
        installed({"numpy": set()}),
        ["numpy"],
        limit=500 * MB,
        largest_files=["w.bin 590 MB"],
    )
    assert "w.bin 590 MB" in error.troubles[0].fix
    assert ".flashignore" in error.troubles[0].fix


NAMES = st.sampled_from("abcdef")


@given(
    needs=st.dictionaries(NAMES, st.sets(NAMES), min_size=1),
    sizes=st.lists(st.integers(0, 100), min_size=6, max_size=6),
    limit=st.integers(0, 300),
    data=st.data(),
)
def test_what_fits_fits_and_nothing_of_it_is_needless(needs, sizes, limit, data):
    distributions = installed({name: each & set(needs) for name, each in needs.items()})
    shares = dict(zip("abcdef", sizes, strict=True))
    shares = {name: size for name, size in shares.items() if name in needs}
    asked = data.draw(st.lists(st.sampled_from(sorted(needs)), unique=True))
    asked += sorted(freed(distributions, asked, []))  # everything that is installed was asked for somehow
    chosen = what_fits(shares, distributions, asked, limit)
    left = sum(shares.values()) - sum(shares[name] for name in freed(distributions, asked, chosen))
    assert left <= limit
    if sum(shares.values()) <= limit:
        assert chosen == ()


def project(*resources) -> Project:
    place = Place("a.py", 1)
    return Project("p", None, tuple(Group(each, "", place, ()) for each in resources))


def test_packages_of_the_image_are_suggested_never_dropped():
    gpu, cpu = LiveServerless(name="gpu_worker"), CpuLiveServerless(name="cpu_worker")
    note = of_the_image(project(gpu), SHARES, installed(NEEDS), ["torch", "pandas"])
    assert note == "The images of GPU endpoints have torch: --exclude torch saves 700 MB"
    note = of_the_image(project(gpu, cpu), SHARES, installed(NEEDS), ["torch", "pandas"])
    assert note.endswith(". Not if cpu_worker need it: images of CPU endpoints do not have it")
    assert of_the_image(project(cpu), SHARES, installed(NEEDS), ["torch"]) == ""
    own = ServerlessEndpoint(name="own_image", imageName="me/mine:1")
    assert of_the_image(project(gpu, own), SHARES, installed(NEEDS), ["torch"]) == ""
