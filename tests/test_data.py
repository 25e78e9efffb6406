"""The packaged data: shapes, counts, and that a changed file is refused."""

import numpy as np
import pytest

from benchmarks.data import DIGITS_SHA256, load, read_packaged
from estimators.registry import UnknownName


def test_digits_are_the_test_set_of_uci():
    images, labels = load("digits")
    assert images.shape == (1797, 64) and images.dtype == np.uint8
    assert images.min() == 0 and images.max() == 16
    assert np.bincount(labels).tolist() == [178, 182, 177, 183, 181, 182, 181, 179, 174, 180]
    np.testing.assert_allclose(images.mean() / 16, 0.305, atol=5e-4)


def test_the_first_digits_are_in_the_order_of_the_source():
    images, labels = load("digits")
    assert labels[:12].tolist() == [0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 0, 1]
    zero = [
        [0, 0, 5, 13, 9, 1, 0, 0],
        [0, 0, 13, 15, 10, 15, 5, 0],
        [0, 3, 15, 2, 0, 11, 8, 0],
        [0, 4, 12, 0, 0, 8, 8, 0],
        [0, 5, 8, 0, 0, 9, 8, 0],
        [0, 4, 11, 0, 1, 12, 7, 0],
        [0, 2, 14, 5, 10, 12, 0, 0],
        [0, 0, 6, 13, 10, 0, 0, 0],
    ]
    assert images[0].reshape(8, 8).tolist() == zero


TABLES = {
    "breast-cancer": ((569, 30), [212, 357], [17.99, 10.38, 122.8, 1001.0]),
    "german": ((1000, 24), [700, 300], [1, 6, 4, 12]),
    "australian": ((690, 14), [383, 307], [1, 22.08, 11.46, 2]),
    "ionosphere": ((351, 34), [126, 225], [1, 0, 0.99539, -0.05889]),
    "sonar": ((208, 60), [97, 111], [0.02, 0.0371, 0.0428, 0.0207]),
}


@pytest.mark.parametrize("name", TABLES)
def test_tables_are_those_of_uci(name):
    """Shape, number of each class, and how the first row starts."""
    shape, counts, first = TABLES[name]
    features, labels = load(name)
    assert features.shape == shape and features.dtype == np.float64
    assert np.bincount(labels).tolist() == counts
    np.testing.assert_array_equal(features[0, :4], first)


def test_arrays_are_fresh_at_each_load():
    load("digits").images[:] = 0
    assert load("digits").images.sum() > 0


def test_a_changed_file_is_refused():
    with pytest.raises(ValueError, match="'digits.npz' has sha256 af104d81.*install the package again"):
        read_packaged("digits.npz", DIGITS_SHA256[::-1])


def test_an_unknown_name_is_a_sentence():
    with pytest.raises(UnknownName, match="There is no data set named 'digit'; did you mean 'digits'?"):
        load("digit")
