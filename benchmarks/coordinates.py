"""Coordinate by coordinate: what a measurement says of each number of a gradient, under the name that its user gave it.

A record speaks of the gradient as a whole. An assertion that fails must say *where*, so here are the paths of the
coordinates in their pytree, their sample as `statistics` takes it, and Bonett's interval for the variance of each.
"""

import math

import jax
import numpy as np
from jaxtyping import PyTree

from . import statistics
from .intervals import bonett
from .measurement import Measurement, flatten, unflatten


def names(tree: PyTree) -> list[str]:
    """The path of each coordinate of a gradient, in the order of `measurement.flatten`; of arrays or of their shapes.

    >>> names({"w": np.zeros((1, 2)), "b": np.zeros(())})
    ["['b']", "['w'][0, 0]", "['w'][0, 1]"]
    """
    return [
        jax.tree_util.keystr(path) + (str(list(index)) if index else "")
        for path, leaf in jax.tree_util.tree_leaves_with_path(tree)
        for index in np.ndindex(leaf.shape)
    ]


def sample_of(m: Measurement, where: np.ndarray | None = None) -> statistics.Sample:
    """The coordinates `where` of a measured gradient, or all of them, against its truth. Raises `ValueError` where the truth
    is unknown."""
    if m.truth_record is None:
        raise ValueError("A bias needs a truth, and this measurement has none; give `truth` to `measure`.")
    where = np.arange(m.work.size) if where is None else where
    truth, known = flatten(m.truth)[where], m.truth_record.standard_error
    mean, variance = m.moments.mean[where], m.moments.variance[where]
    term = truth if m.truth_record.term is None else flatten(m.truth_record.term)[where]
    size = max(*map(np.linalg.norm, (truth, term)), math.sqrt(float(np.sum(mean**2) + variance.sum())))
    units = statistics.ROUNDING_UNITS * float(np.finfo(m.work.dtype).eps)
    return statistics.Sample(
        count=m.moments.count,
        offset=mean - truth,
        variance=variance,
        third=None if m.moments.third is None else m.moments.third[where],
        fourth=None if m.moments.fourth is None else m.moments.fourth[where],
        blocks=m.moments.block_means()[:, where],
        truth_se=np.zeros_like(truth) if known is None else flatten(known)[where],
        resolution=units * float(size) / math.sqrt(len(truth)),
        deterministic=m.work.deterministic,
    )


def variance_intervals(m: Measurement, z: float = statistics.Z95) -> tuple[PyTree, PyTree]:
    """The ends of an interval of the variance of each coordinate, in the structure of the gradient; see `bonett`.

    Raises `ValueError` for gradients so wide that the harness does not keep their fourth moments.
    """
    variance, fourth = m.moments.variance, m.moments.fourth
    if fourth is None:
        raise ValueError(
            f"An interval for the variance of each coordinate needs fourth moments, which are not kept of {m.work.size:,} "
            "coordinates; ask for the trace of the covariance, or for fewer coordinates."
        )
    # A deterministic estimate is run once, and its variance is known.
    ends = (variance, variance) if m.work.deterministic else bonett(m.moments.count, variance, fourth, z)
    low, high = (unflatten(end, m.work.shapes) for end in ends)
    return low, high
