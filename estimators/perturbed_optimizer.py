r"""Perturbed optimizers: an argmax, smoothed by the noise that is added to its argument.

With $\eta$ the logits of `dist`, $Z$ noise of density $\mu$ and $y(z) = \mathrm{harden}(z)$ the event that maximises
$\langle z, x \rangle$, the map $\eta \mapsto E[f(y(\eta + \sigma Z))]$ is smooth although $y$ is a step: moved to the
variable $\eta + \sigma Z$, the dependence on $\eta$ is all in the density, so

$$\nabla_\eta E[f(y(\eta + \sigma Z))] = \tfrac1\sigma\, E[f(y(\eta + \sigma Z))\, \nu(Z)], \qquad \nu = -\nabla \log \mu.$$

It is the score function once more, with the score of the *noise* in place of that of the event. The density of the noise
decides what the event's law is: Gumbel noise at $\sigma = 1$ makes it `dist` itself, every other choice another law, and
the gradient one of another objective.

Given the event the score of the noise has the event's score as its mean (where the two laws are one), so the score
function is this estimator with the noise integrated out. What the noise is for is an argmax whose events have no
tractable probabilities.
"""

from typing import ClassVar

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from .base import AbstractStatelessEstimator, Grads, PRNGKey
from .distributions import AbstractAdditivelyPerturbed, AbstractDistribution
from .distributions.base import Event, as_floating, precision
from .objectives import Objective
from .registration import ESTIMATORS
from .validation import require_positive

Noises = Float[Array, "samples ..."]

NOISES = ("gumbel", "gaussian")
BASELINES = ("leave-one-out", "unperturbed", "none")


@ESTIMATORS.register("perturbed-argmax")
class PerturbedArgmax(AbstractStatelessEstimator):
    r"""The gradient of an objective of a perturbed argmax, by the score of the noise.

    For independent noises $Z_1, \dots, Z_n$ of score $\nu$, $\eta$ the logits, $\sigma$ the scale `sigma` and
    $y_k = \mathrm{harden}(\eta + \sigma Z_k)$,

    $$\hat g = \frac{1}{n \sigma} \sum_k (f(y_k) - b_k)\, \nu(Z_k).$$

    With `noise="gaussian"` $\nu(Z) = Z$; with `noise="gumbel"`, the noise of `dist` itself, $\nu(Z) = 1 - e^{-Z}$ for
    categorical variables and, for a bit, whose noise is the difference of two Gumbel variables, $\tanh(Z / 2)$. The
    `baseline` $b_k$ is the mean of `f` over the other samples (`"leave-one-out"`), $f(\mathrm{harden}(\eta))$
    (`"unperturbed"`, the paper's) or 0 (`"none"`); none of them sees $Z_k$.

    Unbiased for the smoothed objective $E[f(y_1)]$, and biased for that of `dist` wherever the law of $y_1$ is another:
    for bits with Gaussian noise it is Bernoulli with $p = \Phi(\eta / \sigma)$, and with Gumbel noise the law of
    `dist` at logits $\eta / \sigma$. At `noise="gumbel"`, `sigma=1` that is `dist`, and the estimate is unbiased; for
    bits it is then the augment-REINFORCE estimate $f(b) (2 u - 1)$. Needs a distribution that is perturbed additively,
    and no derivative of `f`; `num_samples` evaluations of `f`, one more with the unperturbed baseline.

    >>> from estimators import Bernoulli
    >>> PerturbedArgmax(num_samples=3, baseline="unperturbed").evaluations(Bernoulli(logits=[0.0]))
    4

    The paper smooths the argmax and then applies a loss to its mean; here `f` is inside the expectation, as in
    everything that this project measures. The two have one gradient where `f` is affine. The logits of a categorical
    variable are normalised first, and its gradient sums to zero: the score of the noise along the direction that
    changes nothing is left out.

    **References:** Berthet, Blondel, Teboul, Cuturi, Vert and Bach, Learning with differentiable perturbed optimizers,
    2020, arXiv:2002.08676. Abernethy, Lee and Tewari, Perturbation techniques in online learning and optimization,
    2016.
    """

    sigma: Float[Array, ""] = eqx.field(converter=as_floating, default=1.0)
    noise: str = eqx.field(static=True, default="gaussian")
    num_samples: int = eqx.field(static=True, default=2)
    baseline: str = eqx.field(static=True, default="leave-one-out")

    unbiased: ClassVar[bool] = False
    requires: ClassVar[tuple[type, ...]] = (AbstractAdditivelyPerturbed,)

    def __check_init__(self):
        require_positive(self, "sigma")
        for name, known in [("noise", NOISES), ("baseline", BASELINES)]:
            if (given := getattr(self, name)) not in known:
                choices = ", ".join(f'"{choice}"' for choice in known)
                raise ValueError(f"`PerturbedArgmax` needs `{name}` to be one of {choices}, got {given!r}.")
        least = 2 if self.baseline == "leave-one-out" else 1
        if self.num_samples < least:
            raise ValueError(
                f'`PerturbedArgmax` needs `num_samples >= {least}` with `baseline="{self.baseline}"`, '
                f"got {self.num_samples}."
            )

    def gradient(self, key: PRNGKey, dist: Grads, f: Objective) -> Grads:
        noises = self._noises(key, dist)
        scores = dist.noise_score(noises) if self.noise == "gumbel" else noises
        sigma = self.sigma.astype(noises.dtype)
        logits, pullback = jax.vjp(lambda d: d.perturb(jnp.zeros_like(noises[0])), dist)
        values = jax.vmap(lambda noise: f(dist.harden(logits + sigma * noise)))(noises)
        weights = self._weights(values, dist.harden(logits), f)
        return pullback(jnp.tensordot(weights.astype(scores.dtype), scores, axes=1) / sigma)[0]

    def _noises(self, key: PRNGKey, dist: AbstractAdditivelyPerturbed) -> Noises:
        keys = jax.random.split(key, self.num_samples)
        if self.noise == "gumbel":
            return jax.vmap(dist.noise)(keys)
        return jax.vmap(lambda key: jax.random.normal(key, dist.event_shape, precision(dist)))(keys)

    def _weights(self, values: Float[Array, "samples"], mode: Event, f: Objective) -> Float[Array, "samples"]:
        """What each score is weighted by: the value less its baseline, over the number of samples."""
        if self.baseline == "leave-one-out":
            return (values - jnp.mean(values)) / (self.num_samples - 1)
        if self.baseline == "unperturbed":
            values = values - f(mode)
        return values / self.num_samples

    def evaluations(self, dist: AbstractDistribution) -> int:
        del dist
        return self.num_samples + (self.baseline == "unperturbed")
