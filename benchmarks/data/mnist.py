"""MNIST, which is too large to travel with the package: found in a folder of the user's, or downloaded once.

The folder is that of the environment variable `SCOREPATH_DATA_DIR`, with the four original files in `mnist/`. Wherever a file comes
from, it is used only if its sha256 is the one below.
"""

import gzip
import hashlib
import os
from pathlib import Path

import numpy as np
import pooch

from . import DATASETS, LabelledImages

FOLDER = "SCOREPATH_DATA_DIR"
MIRRORS = (
    "https://storage.googleapis.com/cvdf-datasets/mnist/",
    "https://ossci-datasets.s3.amazonaws.com/mnist/",
)
SHA256 = {
    "train-images-idx3-ubyte.gz": "440fcabf73cc546fa21475e81ea370265605f56be210a4024d2ca8f203523609",
    "train-labels-idx1-ubyte.gz": "3552534a0a558bbed6aed32b30c495cca23d567ec52cac8be1a0730e8010255c",
    "t10k-images-idx3-ubyte.gz": "8d422c7b0a1c1c79245a5bcf07fe86e33eeafee792b84584aec276f5a2dbc4e6",
    "t10k-labels-idx1-ubyte.gz": "f7ae60f92e00ec6debd23a6088c31dbd2371eca3ffa0defaefb259924204aec6",
}


@DATASETS.register("mnist")
def mnist(split: str = "train") -> LabelledImages:
    """Handwritten digits, 28x28 pixels with grey levels 0 to 255: 60,000 to train on, or the 10,000 of the `test` split.

    Raises `ValueError` if the files are neither in the folder of `SCOREPATH_DATA_DIR` nor to be downloaded, or are not the originals.

    **References:** LeCun, Bottou, Bengio and Haffner, Gradient-based learning applied to document recognition, 1998.
    """
    names = {"train": "train", "test": "t10k"}
    if split not in names:
        raise ValueError(f"Data set 'mnist' has the splits {', '.join(names)}; got {split!r}.")
    images = parse_idx(original(f"{names[split]}-images-idx3-ubyte.gz"))
    labels = parse_idx(original(f"{names[split]}-labels-idx1-ubyte.gz"))
    return LabelledImages(images.reshape(len(images), -1), labels)


def original(name: str) -> bytes:
    """The bytes of one of the four files, verified."""
    folder = os.environ.get(FOLDER)
    path = Path(folder) / "mnist" / name if folder else download(name)
    if not path.is_file():
        raise ValueError(
            f"`{path}` does not exist; put MNIST's {name} there, or unset {FOLDER} to have it downloaded from {MIRRORS[0]}."
        )
    content = path.read_bytes()
    if (found := hashlib.sha256(content).hexdigest()) != SHA256[name]:
        raise ValueError(f"`{path}` is not MNIST's {name}: its sha256 is {found}, and {SHA256[name]} is needed.")
    return content


def download(name: str) -> Path:
    """Where the file is in the user's cache, after a download from the first mirror that answers."""
    for mirror in MIRRORS:
        try:
            return Path(
                pooch.retrieve(mirror + name, f"sha256:{SHA256[name]}", name, pooch.os_cache("scorepath") / "mnist")
            )
        except (OSError, ValueError) as error:
            reason = error
    raise ValueError(
        f"MNIST's {name} could not be downloaded ({reason}); get it from {' or '.join(MIRRORS)}, put it into a folder `mnist`, and set "
        f"{FOLDER} to the folder above."
    )


def parse_idx(content: bytes) -> np.ndarray:
    """The array of unsigned bytes in a compressed idx file: a magic number that holds the rank, the sizes, the data."""
    data = gzip.decompress(content)
    if data[:3] != b"\x00\x00\x08":
        raise ValueError(f"An idx file of bytes starts with 0, 0, 8; this one starts with {list(data[:3])}.")
    rank = data[3]
    shape = np.frombuffer(data, ">i4", rank, offset=4)
    return np.frombuffer(data, np.uint8, offset=4 + 4 * rank).reshape(shape)
