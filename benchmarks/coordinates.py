"""Coordinate by coordinate: what a measurement says of each number of a gradient, under the name that its user gave it.

A record speaks of the gradient as a whole. An assertion that fails must say *where*, so here are the paths of the
coordinates in their pytree, their sample as `statistics` takes it, and an interval for the variance of each.

The interval is Bonett's (2006). With `s^2` the sample variance, `g` the sample kurtosis, `n` replicates and the normal
quantile `z`,

    c s^2 exp(-+ z e),    c = n / (n - z),    e = c sqrt((g - (n - 3) / n) / (n - 1)),

which needs a fourth moment and no normality. His kurtosis is taken about a trimmed mean, for small samples; of a stream
there are moments about the mean only, and the trim `1 / (2 sqrt(n - 4))` vanishes as `n` grows.

**References:** Bonett, Approximate confidence interval for standard deviation of nonnormal distributions, 2006.
"""

import math

import jax
import numpy as np
from jaxtyping import Float, PyTree

from . import statistics
from .measurement import Measurement, flatten, unflatten

Vector = Float[np.ndarray, "coordinates"]


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


def sample_of(m: Measurement) -> statistics.Sample:
    """All coordinates of a measured gradient against its truth. Raises `ValueError` where the truth is unknown."""
    if m.truth_record is None:
        raise ValueError("A bias needs a truth, and this measurement has none; give `truth` to `measure`.")
    truth, known = flatten(m.truth), m.truth_record.standard_error
    mean, variance = m.moments.mean, m.moments.variance
    size = max(float(np.linalg.norm(truth)), math.sqrt(float(np.sum(mean**2 + variance))))
    units = statistics.ROUNDING_UNITS * float(np.finfo(m.work.dtype).eps)
    return statistics.Sample(
        count=m.moments.count,
        offset=mean - truth,
        variance=variance,
        third=m.moments.third,
        fourth=m.moments.fourth,
        blocks=m.moments.block_means(),
        truth_se=np.zeros_like(truth) if known is None else flatten(known),
        resolution=units * size / math.sqrt(len(truth)),
        deterministic=m.work.deterministic,
    )


def bonett(count: int, variance: Vector, fourth: Vector, z: float = statistics.Z95) -> tuple[Vector, Vector]:
    """The ends of the interval of each variance, from `count` replicates with the sample variances (divisor `count - 1`)
    and the fourth central moments (divisor `count`); `z` is the normal quantile of one side, that of 95 % by default.

    A coordinate that did not vary has an interval of no width.
    """
    if count <= max(z, 3):
        return np.zeros_like(variance), np.full_like(variance, math.inf)
    varies = variance > 0
    kurtosis = fourth * (count / (count - 1)) ** 2 / np.where(varies, variance, 1.0) ** 2
    c = count / (count - z)
    error = c * np.sqrt(np.maximum(kurtosis - (count - 3) / count, 0.0) / (count - 1))
    width, centre = np.where(varies, z * error, 0.0), np.where(varies, c * variance, variance)
    return centre * np.exp(-width), centre * np.exp(width)


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
