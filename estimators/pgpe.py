r"""Parameter-exploring policy gradients: evolution strategies that learn how far to perturb.

Of a normal law of parameters, mirrored pairs `loc + step` and `loc - step` have opposite scores in `loc` and equal ones
in `log_scale`. So the score function averaged over a pair is a difference of two values along `loc`, where no baseline
matters, and a mean of two values along `log_scale`, where one does.
"""

from typing import ClassVar

import equinox as eqx
import jax.numpy as jnp
from jaxtyping import Array, Float

from .base import AbstractEstimator, PRNGKey
from .baselines import RunningMean, require_decay
from .distributions import AbstractDistribution, Normal
from .distributions.base import Scalar, as_floating, precision
from .evolution_strategies import mirrored_values
from .objectives import Objective
from .parameter_perturbation import Directions, gaussian
from .registration import ESTIMATORS
from .validation import require_at_least


@ESTIMATORS.register("pgpe")
class PGPE(AbstractEstimator):
    r"""Policy gradients with parameter-based exploration: mirrored pairs, and a baseline for the scale alone.

    With `loc` $\mu$, `scale` $\sigma$, independent standard normal $\varepsilon_1, \dots, \varepsilon_n$, the values
    $f_k^\pm = f(\mu \pm \sigma \varepsilon_k)$ and $b$ the mean of past values, the latest at weight one and each older
    one at `decay` times the next,

    $$\hat g_\mu = \frac1n \sum_k \frac{f_k^+ - f_k^-}{2}\, \frac{\varepsilon_k}{\sigma}, \qquad
    \hat g_{\log\sigma} = \frac1n \sum_k \Big(\frac{f_k^+ + f_k^-}{2} - b\Big) (\varepsilon_k^2 - 1).$$

    Unbiased: it is the score function averaged over mirrored pairs, whose scores are opposite in `loc` and equal in
    `log_scale`; and $b$ has not seen the sample. Needs a `Normal`, and of `f` its values; two evaluations for each of
    `num_pairs`. This is the symmetric sampling of the paper, and the gradient itself: the paper's step sizes in
    proportion to $\sigma^2$ and its scaling by the range of rewards belong to an optimiser.

    >>> PGPE(num_pairs=3).evaluations(Normal(loc=[1.0], log_scale=[0.0]))
    6

    **References:** Sehnke, Osendorfer, Rückstieß, Graves, Peters and Schmidhuber, Parameter-exploring policy gradients,
    2010.
    """

    num_pairs: int = eqx.field(static=True, default=1)
    decay: Float[Array, ""] = eqx.field(converter=as_floating, default=0.99)

    unbiased: ClassVar[bool] = True
    requires: ClassVar[tuple[type, ...]] = (Normal,)

    def __check_init__(self):
        require_at_least(self, "num_pairs", 1)
        require_decay(self)

    def init(self, key: PRNGKey, dist: AbstractDistribution) -> RunningMean:
        del key
        zero = jnp.zeros((), precision(dist))
        return RunningMean(zero, zero)

    def estimate(self, key: PRNGKey, state: RunningMean, dist: Normal, f: Objective) -> tuple[Normal, Scalar]:
        return self.along(gaussian(key, (self.num_pairs, *dist.loc.shape), dist), state, dist, f)

    def along(self, noises: Directions, state: RunningMean, dist: Normal, f: Objective) -> tuple[Normal, Scalar]:
        """The estimate that `noises` make, and the mean of the values."""
        plus, minus = mirrored_values(f, dist.loc, dist.scale[None] * noises)
        along_loc = jnp.tensordot((plus - minus) / 2, noises, axes=1) / dist.scale
        means = (plus + minus) / 2
        along_log_scale = jnp.tensordot(means - state.mean, noises**2 - 1, axes=1)
        return Normal(along_loc / self.num_pairs, along_log_scale / self.num_pairs), jnp.mean(means)

    def adapt(self, state: RunningMean, stats: Scalar) -> RunningMean:
        return state.updated(stats, self.decay)

    def evaluations(self, dist: AbstractDistribution) -> int:
        del dist
        return 2 * self.num_pairs
