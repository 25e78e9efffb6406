r"""Intervals that need a derivation: that of a squared bias, and Bonett's for a variance.

Squared bias. With `o` the offset of a mean from the truth, `theta = |b|^2` and `t = |o|^2 - tr Sigma / n` its unbiased
estimate, `Var t = 4 a theta + v`: `a` is the variance of the mean along `b`, and `v = 2 tr Sigma^2 / n^2` what is left without
a bias. An interval `t -+ z sqrt(4 a t + v)` believes a variance that was estimated from the same draw, and holds `theta` in
as few as 80 % of all runs where `|b|` is two standard errors. On the scale of `h = sqrt(theta + k)`, `k = v / (4 a)`, the
standard error is `sqrt(a)` whatever `theta` is, so that

    sqrt(t + k + a / 2) -+ z sqrt(a),   squared, less k - a / 2,

is an interval for `theta`. The terms in `a / 2` take off what a square root loses on average, `E sqrt(y) = sqrt(E y) - Var(y)
/ (8 (E y)^(3/2))`, to that order; in one dimension they make it the square of `|o| -+ z sqrt(a)`, which is exact. `a` is
estimated from block means in the direction of `o`, hence the t quantile, and is not believed below its average over the
directions of the noise, `tr Sigma^2 / (n tr Sigma)`: an offset that is small where the noise is wide would hide it.

Variance. With `s^2` the sample variance, `g` the sample kurtosis, `n` replicates and the normal quantile `z`, Bonett (2006) has

    c s^2 exp(-+ z e),    c = n / (n - z),    e = c sqrt((g - (n - 3) / n) / (n - 1)),

which needs a fourth moment and no normality. His kurtosis is taken about a trimmed mean, for small samples; of a stream
there are moments about the mean only, and the trim `1 / (2 sqrt(n - 4))` vanishes as `n` grows.

**References:** Bonett, Approximate confidence interval for standard deviation of nonnormal distributions, 2006.
"""

import math

import numpy as np
from jaxtyping import Float

Vector = Float[np.ndarray, "coordinates"]


def squared_bias_interval(squared: float, along: float, null_se: float, quantile: float) -> tuple[float, float]:
    """The ends of the interval of `|b|^2` around its estimate `squared`, which may be negative.

    `along` is `a > 0`, `null_se` is `sqrt(v)`. Where zero is not excluded, the lower end is zero or below.

    >>> low, high = squared_bias_interval(8.0, 1.0, math.sqrt(2), 2.0)
    >>> round(low, 6), round(high, 6)  # one coordinate, three standard errors off, give or take two
    (1.0, 25.0)
    """
    shift = null_se**2 / (4 * along) - along / 2
    root, radius = math.sqrt(max(squared + shift + along, 0.0)), quantile * math.sqrt(along)
    low = (root - radius) ** 2 - shift if root > radius else min(0.0, -shift)
    return min(low, squared), max((root + radius) ** 2 - shift, squared)


def bonett(count: int, variance: Vector, fourth: Vector, quantile: float) -> tuple[Vector, Vector]:
    """The ends of the interval of each variance, from `count` replicates with the sample variances (divisor `count - 1`)
    and the fourth central moments (divisor `count`); `quantile` is the normal one of each side.

    A coordinate that did not vary has an interval of no width.
    """
    if count <= max(quantile, 3):
        return np.zeros_like(variance), np.full_like(variance, math.inf)
    varies = variance > 0
    kurtosis = fourth * (count / (count - 1)) ** 2 / np.where(varies, variance, 1.0) ** 2
    c = count / (count - quantile)
    error = c * np.sqrt(np.maximum(kurtosis - (count - 3) / count, 0.0) / (count - 1))
    width, centre = np.where(varies, quantile * error, 0.0), np.where(varies, c * variance, variance)
    return centre * np.exp(-width), centre * np.exp(width)
