"""Requirements: modules -> distributions, pinned, and merged with what the user wrote."""

import pytest

from flash_nb.cells.requirements import Inferred, infer, merge
from flash_nb.errors import CellError

VERSIONS = {
    "numpy": "1.26.4",
    "torch": "2.1.0+cu121",
    "scikit-learn": "1.5",
    "google-cloud-storage": "2.0",
    "google-cloud-bigquery": "3.0",
    "google-auth": "2.9",
    "protobuf": "5.0",
    "azure-core": "1.0",
    "azure-storage-blob": "12.0",
    "Odd_Name": "not a version",
    "mine": "0.1",
}
DISTRIBUTIONS = {
    "numpy": ["numpy", "numpy"],
    "torch": ["torch"],
    "sklearn": ["scikit-learn"],
    "google": ["google-cloud-storage", "google-cloud-bigquery", "google-auth", "protobuf"],
    "azure": ["azure-core", "azure-storage-blob"],
    "odd": ["Odd_Name"],
    "mine": ["mine"],
}
ALL_OF_GOOGLE = "google-auth==2.9 google-cloud-bigquery==3.0 google-cloud-storage==2.0 protobuf==5.0"


def infer_here(*modules):
    return infer(
        modules,
        distributions=DISTRIBUTIONS,
        version=VERSIONS.__getitem__,
        is_local=lambda name: name == "mine",
    )


@pytest.mark.parametrize(
    ("modules", "expected"),
    [
        ("", ""),
        ("os os.path sys __main__ __future__ flash_nb flash_worker.codec", ""),
        ("numpy numpy.linalg", "numpy==1.26.4"),
        ("torch.nn numpy", "numpy==1.26.4 torch==2.1.0"),
        ("sklearn.svm", "scikit-learn==1.5"),
        ("odd", "odd-name"),
        ("cv2 PIL yaml skimage.io", "opencv-python-headless pillow pyyaml scikit-image"),
        ("einops some_thing.inside", "einops some-thing"),
        ("google.cloud.storage", "google-cloud-storage==2.0"),
        ("google.cloud.storage.blob", "google-cloud-storage==2.0"),
        ("google.cloud", "google-cloud-bigquery==3.0 google-cloud-storage==2.0"),
        ("google.protobuf", ALL_OF_GOOGLE),
        ("google", ALL_OF_GOOGLE),
        ("azure.storage", "azure-storage-blob==12.0"),
        ("azure.core.exceptions", "azure-core==1.0"),
    ],
)
def test_requirements_are_inferred(modules, expected):
    assert infer_here(*modules.split()) == Inferred(tuple(expected.split()), ())


def test_modules_of_a_namespace_that_are_not_installed():
    found = infer(["google.protobuf", "google.genai.types"], distributions={}, version=str, is_local=bool)
    assert found.requirements == ("google-genai", "protobuf")


def test_local_distributions_travel():
    assert infer_here("mine.sub", "numpy") == Inferred(("numpy==1.26.4",), ("mine",))


@pytest.mark.parametrize(
    ("explicit", "inferred", "expected"),
    [
        ([], [], ()),
        ([], ["b==1", "a==2"], ("a==2", "b==1")),
        (["numpy<2"], ["numpy==1.26.4", "pandas==2.0"], ("numpy<2", "pandas==2.0")),
        (["Scikit_Learn"], ["scikit-learn==1.5"], ("Scikit_Learn",)),
        (["torch[all]>=2 "], ["torch==2.1"], ("torch[all]>=2",)),
        (["a>1", "a<3", "a>1"], [], ("a<3", "a>1")),
        (["a @ https://host/a.whl"], ["a==1"], ("a @ https://host/a.whl",)),
        (["b", "A"], ["c"], ("A", "b", "c")),
    ],
)
def test_what_the_user_wrote_wins(explicit, inferred, expected):
    assert merge(explicit, inferred) == expected


@pytest.mark.parametrize(
    "text", ["", "numpy=1.26", "-r requirements.txt", "./folder", "git+https://host/repo"]
)
def test_what_is_no_requirement_is_named(text):
    with pytest.raises(CellError) as raised:
        merge(["numpy", text], [])
    assert repr(text) in raised.value.message
    assert "name @" in raised.value.hint
