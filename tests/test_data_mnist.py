"""MNIST: the loader on files that the test makes, its refusals, and the original where it is at hand."""

import gzip
import hashlib
import os
from pathlib import Path

import numpy as np
import pytest

from benchmarks.data import load, mnist


def idx(array: np.ndarray) -> bytes:
    """An array as a compressed idx file."""
    header = bytes([0, 0, 8, array.ndim]) + np.array(array.shape, ">i4").tobytes()
    return gzip.compress(header + array.tobytes(), mtime=0)


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """A folder with small files in place of the originals, whose hashes are taken for the right ones."""
    images = np.arange(2 * 28 * 28, dtype=np.uint8).reshape(2, 28, 28)
    contents = {
        "train-images-idx3-ubyte.gz": idx(images),
        "train-labels-idx1-ubyte.gz": idx(np.array([7, 3], np.uint8)),
    }
    for name, content in contents.items():
        (tmp_path / "mnist").mkdir(exist_ok=True)
        (tmp_path / "mnist" / name).write_bytes(content)
        monkeypatch.setitem(mnist.SHA256, name, hashlib.sha256(content).hexdigest())
    monkeypatch.setenv(mnist.FOLDER, str(tmp_path))
    return tmp_path / "mnist"


def test_images_are_rows_in_the_order_of_the_file(folder):
    images, labels = load("mnist")
    assert images.shape == (2, 784) and images.dtype == np.uint8 and labels.tolist() == [7, 3]
    assert images[1, :3].tolist() == [784 % 256, 785 % 256, 786 % 256]


def test_a_file_that_is_not_the_original_is_refused(folder):
    (folder / "train-labels-idx1-ubyte.gz").write_bytes(idx(np.array([0, 0], np.uint8)))
    with pytest.raises(ValueError, match="is not MNIST's train-labels-idx1-ubyte.gz: its sha256 is"):
        load("mnist")


def test_a_missing_file_and_a_wrong_split_are_sentences(folder):
    with pytest.raises(ValueError, match="t10k-images-idx3-ubyte.gz` does not exist; put MNIST's"):
        load("mnist", split="test")
    with pytest.raises(ValueError, match="has the splits train, test; got 'valid'"):
        load("mnist", split="valid")
    with pytest.raises(ValueError, match="starts with 0, 0, 8; this one starts with"):
        mnist.parse_idx(gzip.compress(b"\x00\x00\x0d\x01rest"))


def test_a_download_that_fails_says_where_to_get_the_file(monkeypatch):
    """A mirror that refuses the connection at once."""
    monkeypatch.delenv(mnist.FOLDER, raising=False)
    monkeypatch.setattr(mnist, "MIRRORS", ("http://127.0.0.1:9/",))
    monkeypatch.setitem(mnist.SHA256, "train-images-idx3-ubyte.gz", "0" * 64)
    with pytest.raises(ValueError, match="could not be downloaded .* set\\s+SCOREPATH_DATA_DIR"):
        load("mnist")


def test_the_original_where_it_is_at_hand():
    """Of the developers' copy, if the environment names one: shapes, mean grey level and share of black pixels."""
    place = Path(os.environ.get(mnist.FOLDER, ""), "mnist", "train-images-idx3-ubyte.gz")
    if place.is_file():
        images, labels = load("mnist")
        assert images.shape == (60_000, 784) and len(labels) == 60_000
        np.testing.assert_allclose(images.mean() / 255, 0.13066, atol=1e-5)
        np.testing.assert_allclose((images > 127).mean(), 0.1323, atol=1e-4)
