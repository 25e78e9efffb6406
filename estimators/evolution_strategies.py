r"""Evolution strategies: the gradient of a smoothed objective, from its values at Gaussian perturbations of parameters.

With $f_\sigma(\theta) = E[f(\theta + \sigma \varepsilon)]$ for standard normal noise, $\nabla f_\sigma(\theta) =
E[f(\theta + \sigma \varepsilon)\, \varepsilon] / \sigma$ is a score-function identity, and needs no derivative of `f`.
A pair of mirrored perturbations takes what is even in the noise out of it. The gradient of $f_\sigma$ is that of `f`
where `f` is quadratic, and not elsewhere: all of this room are biased for it. Where the scale is a parameter too, the
smoothed objective is the expectation asked for: that is `PGPE`.
"""

from abc import abstractmethod
from typing import ClassVar

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from .base import AbstractStatelessEstimator, PRNGKey
from .distributions import AbstractDistribution, Delta
from .distributions.base import as_floating
from .objectives import AbstractSurrogate, Objective
from .parameter_perturbation import AbstractPerturbation, Directions, gaussian
from .registration import ESTIMATORS
from .validation import require_at_least, require_in_unit_interval, require_positive

Values = Float[Array, "directions"]


def mirrored_values(f: Objective, centre: Float[Array, "..."], steps: Directions) -> tuple[Values, Values]:
    """The values of `f` at `centre + step` and at `centre - step`, for every step."""
    return jax.vmap(lambda step: f(centre + step))(steps), jax.vmap(lambda step: f(centre - step))(steps)


def centred_ranks(values: Values) -> Values:
    """The ranks of `values` spread evenly from -1/2 to 1/2; equal values share the mean of theirs."""
    return jnp.sum(jnp.sign(values[:, None] - values[None]), axis=1) / (2 * (len(values) - 1))


class AbstractMirroredSmoothing(AbstractPerturbation):
    """Values at mirrored Gaussian perturbations; what tells the estimators apart is how they are `shaped`."""

    sigma: eqx.AbstractVar[Float[Array, ""]]
    num_directions: eqx.AbstractVar[int]

    @abstractmethod
    def shaped(self, values: Values) -> Values:
        """What stands for the values of `f` at all perturbations, the mirrored ones last."""

    def __check_init__(self):
        require_positive(self, "sigma")
        require_at_least(self, "num_directions", 1)

    def directions(self, key: PRNGKey, dist: Delta) -> Directions:
        return gaussian(key, (self.num_directions, *dist.loc.shape), dist)

    def along(self, directions: Directions, dist: Delta, f: Objective) -> Delta:
        sigma = self.sigma.astype(dist.loc.dtype)
        values = jnp.concatenate(mirrored_values(f, dist.loc, sigma * directions))
        plus, minus = self.shaped(values).reshape(2, -1)
        return Delta(jnp.tensordot(plus - minus, directions, axes=1) / (2 * sigma * self.num_directions))

    def evaluations(self, dist: AbstractDistribution) -> int:
        del dist
        return 2 * self.num_directions


@ESTIMATORS.register("evolution-strategies")
class EvolutionStrategies(AbstractMirroredSmoothing):
    r"""Mirrored Gaussian smoothing (OpenAI's evolution strategies, without the shaping of fitness).

    With `loc` $\theta$, `sigma` $\sigma$ and independent standard normal $\varepsilon_1, \dots, \varepsilon_n$,

    $$\hat g = \frac{1}{2 n \sigma} \sum_k (f(\theta + \sigma \varepsilon_k) - f(\theta - \sigma \varepsilon_k))\,
    \varepsilon_k.$$

    Biased for the gradient of `f`, and declared so: its mean is the gradient of the smoothed $f_\sigma(\theta) =
    E[f(\theta + \sigma \varepsilon)]$, off by $\frac{\sigma^2}{2} \nabla \operatorname{tr} \nabla^2 f$ to leading
    order, and by nothing if `f` is quadratic. For the gradient of $f_\sigma$ itself take a `Normal` and `PGPE`, whose
    part in `loc` is this. Needs a `Delta`, and of `f` its values; two evaluations for each of `num_directions`.

    >>> EvolutionStrategies(num_directions=3).evaluations(Delta(loc=[1.0]))
    6

    **References:** Salimans, Ho, Chen, Sidor and Sutskever, Evolution strategies as a scalable alternative to
    reinforcement learning, 2017, arXiv:1703.03864.
    """

    sigma: Float[Array, ""] = eqx.field(converter=as_floating, default=0.3)
    num_directions: int = eqx.field(static=True, default=1)

    unbiased: ClassVar[bool] = False
    requires: ClassVar[tuple[type, ...]] = (Delta,)

    def shaped(self, values: Values) -> Values:
        return values


@ESTIMATORS.register("rank-shaped-es")
class RankShapedES(AbstractMirroredSmoothing):
    r"""Evolution strategies with the ranks of values in place of the values.

    With `loc` $\theta$, `sigma` $\sigma$ and independent standard normal $\varepsilon_1, \dots, \varepsilon_n$, and
    with $R$ the rank of a value among all $2 n$, spread evenly from $-1/2$ to $1/2$,

    $$\hat g = \frac{1}{2 n \sigma} \sum_k (R(f(\theta + \sigma \varepsilon_k)) - R(f(\theta - \sigma \varepsilon_k)))\,
    \varepsilon_k.$$

    Biased: it does not change if `f` is multiplied by a positive number, so its mean is no gradient of `f` or of any
    smoothed `f`. For a linear `f` it has the direction of the gradient, and the length $\big(\sqrt{2 / \pi} + 2 (n - 1)
    / \sqrt\pi\big) / (2 \sigma (2 n - 1))$ whatever the slope. It is here as a direction for an optimiser that chooses
    its own step. Needs a `Delta`, and of `f` its values; two evaluations for each of `num_directions`. Equal values
    share the mean of their ranks, so that a constant `f` gives zero.

    >>> RankShapedES(num_directions=3).evaluations(Delta(loc=[1.0]))
    6

    **References:** Salimans, Ho, Chen, Sidor and Sutskever, Evolution strategies as a scalable alternative to
    reinforcement learning, 2017, arXiv:1703.03864.
    """

    sigma: Float[Array, ""] = eqx.field(converter=as_floating, default=0.3)
    num_directions: int = eqx.field(static=True, default=4)

    unbiased: ClassVar[bool] = False
    requires: ClassVar[tuple[type, ...]] = (Delta,)

    def shaped(self, values: Values) -> Values:
        return centred_ranks(values)


@ESTIMATORS.register("guided-es")
class GuidedES(AbstractStatelessEstimator):
    r"""Evolution strategies that search more along guesses of the gradient.

    With `loc` $\theta$ of $D$ entries, $U$ an orthonormal basis of the span of the $k$ surrogate gradients of `f`,
    `sigma` $\sigma$, and independent $\varepsilon_1, \dots, \varepsilon_n$ from $N(0, \sigma^2 \Sigma)$,

    $$\Sigma = \frac{\alpha}{D} 1 + \frac{1 - \alpha}{k} U U^\top, \qquad \hat g = \frac{\beta}{2 n \sigma^2} \sum_j
    (f(\theta + \varepsilon_j) - f(\theta - \varepsilon_j))\, \varepsilon_j.$$

    Biased: its mean is $\beta \Sigma$ times the gradient of `f` smoothed by that noise, so that even for a linear `f`
    the part outside the guesses is shrunk to $\beta \alpha / D$ of itself. That is the bias which the paper trades for
    less variance, and with `alpha` 1 and `beta` $D$ only the smoothing is left. Needs a `Delta` and an objective with
    surrogate gradients; two evaluations for each of `num_directions`, beside what the guesses cost. The form is that of
    the paper, with its `beta` and not divided by $\Sigma$.

    >>> GuidedES(num_directions=3).evaluations(Delta(loc=[1.0]))
    6

    **References:** Maheswaranathan, Metz, Tucker, Choi and Sohl-Dickstein, Guided evolutionary strategies: Augmenting
    random search with surrogate gradients, 2019, arXiv:1806.10230.
    """

    sigma: Float[Array, ""] = eqx.field(converter=as_floating, default=0.3)
    alpha: Float[Array, ""] = eqx.field(converter=as_floating, default=0.5)
    beta: Float[Array, ""] = eqx.field(converter=as_floating, default=1.0)
    num_directions: int = eqx.field(static=True, default=1)

    unbiased: ClassVar[bool] = False
    requires: ClassVar[tuple[type, ...]] = (Delta, AbstractSurrogate)

    def __check_init__(self):
        require_positive(self, "sigma")
        require_in_unit_interval(self, "alpha")
        require_positive(self, "beta")
        require_at_least(self, "num_directions", 1)

    def gradient(self, key: PRNGKey, dist: Delta, f: AbstractSurrogate) -> Delta:
        guesses = f.surrogates(dist.loc)
        keys = jax.random.split(key)
        everywhere = gaussian(keys[0], (self.num_directions, dist.loc.size), dist)
        return self.along(everywhere, gaussian(keys[1], (self.num_directions, len(guesses)), dist), guesses, dist, f)

    def along(
        self,
        everywhere: Float[Array, "directions entries"],
        guided: Float[Array, "directions guesses"],
        guesses: Float[Array, "guesses ..."],
        dist: Delta,
        f: Objective,
    ) -> Delta:
        """The estimate that standard normal noise makes, in all directions and along the basis of the guesses."""
        basis = jnp.linalg.qr(guesses.reshape(len(guesses), -1).T.astype(dist.loc.dtype))[0]
        sigma, alpha = self.sigma.astype(dist.loc.dtype), self.alpha.astype(dist.loc.dtype)
        along_guesses = jnp.sqrt((1 - alpha) / len(guesses)) * (guided @ basis.T)
        directions = (jnp.sqrt(alpha / dist.loc.size) * everywhere + along_guesses).reshape(-1, *dist.loc.shape)
        plus, minus = mirrored_values(f, dist.loc, sigma * directions)
        scale = self.beta.astype(dist.loc.dtype) / (2 * sigma * self.num_directions)
        return Delta(scale * jnp.tensordot(plus - minus, directions, axes=1))

    def evaluations(self, dist: AbstractDistribution) -> int:
        del dist
        return 2 * self.num_directions
