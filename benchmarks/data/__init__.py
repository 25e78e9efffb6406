"""Data sets: those that travel with the package are here, read without a network.

Every file is checked against its sha256 before it is opened: a changed file is a changed problem, and no number of the suite
would say so.
"""

import hashlib
import io
from collections.abc import Mapping
from importlib.resources import files
from typing import NamedTuple

import numpy as np

from estimators.registry import Registry

DATASETS = Registry("data set", "scorepath.datasets")

DIGITS_SHA256 = "af104d81e7cd419be5f343d23c6ca2e4e4ff847b06636260802df8e903c6183f"


class LabelledImages(NamedTuple):
    """Images as rows of grey levels, and the class of each."""

    images: np.ndarray
    labels: np.ndarray


class LabelledTable(NamedTuple):
    """Rows of features in float64, and the class of each row, 0 or 1."""

    features: np.ndarray
    labels: np.ndarray


def load(name: str, **arguments) -> LabelledImages | LabelledTable:
    """The data set called `name`, as arrays on the host.

    >>> images, labels = load("digits")
    >>> images.shape, images.dtype.name, labels[:5].tolist()
    ((1797, 64), 'uint8', [0, 1, 2, 3, 4])
    """
    return DATASETS.create(name, **arguments)


@DATASETS.register("digits")
def digits() -> LabelledImages:
    """Handwritten digits, 1797 images of 8x8 pixels with grey levels 0 to 16, in the order of the source.

    The test set of UCI's optical recognition of handwritten digits, as scikit-learn ships it; each grey level counts the pixels that are
    on in a 4x4 block of the scan. Licensed under CC BY 4.0: see the NOTICE file.

    **References:** Alpaydin and Kaynak, Optical recognition of handwritten digits, UCI Machine Learning Repository, 1998,
    doi:10.24432/C50P49.
    """
    arrays = read_packaged("digits.npz", DIGITS_SHA256)
    return LabelledImages(arrays["images"], arrays["labels"])


def read_packaged(filename: str, sha256: str) -> Mapping[str, np.ndarray]:
    """The arrays of an npz file of this package; `ValueError` if its bytes are not the ones that `sha256` names."""
    content = (files(__name__) / filename).read_bytes()
    found = hashlib.sha256(content).hexdigest()
    if found != sha256:
        raise ValueError(
            f"The packaged data file {filename!r} has sha256 {found}, but {sha256} is needed; install the package again."
        )
    with np.load(io.BytesIO(content), allow_pickle=False) as archive:
        return dict(archive)


# Each of these registers data sets: `mnist` one that does not travel with the package, `tables` those of two classes.
from . import mnist as mnist, tables as tables  # noqa: E402
