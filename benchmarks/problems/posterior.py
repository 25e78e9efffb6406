"""Approximate posteriors without an encoder: the evidence bound of one `q` of the unknowns of one data set.

A normal `q` makes what a linear model sees of its unknowns normal too, so that the expected log-likelihood is a closed form
or an integral in one dimension for each datum, in as many dimensions as one likes. Each likelihood of this room knows its
own expectation, and the truth is the derivative of that less the divergence.
"""

from abc import abstractmethod
from typing import ClassVar

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int, PyTree

from estimators import AbstractDifferentiable, AbstractSum, Normal

from .base import (
    PROBLEMS,
    AbstractProblem,
    Estimate,
    PRNGKey,
    Scalar,
    Truth,
    as_numpy,
    in_float64,
)
from .evidence import LogWeight, divergence
from .forms import estimated, integrand, leaves_of, require_form
from .toys import Number, require_at_least


class AbstractLikelihood(AbstractDifferentiable):
    """`f(z) = log p(x | z)`, with an expectation under a normal distribution that is known."""

    kind: eqx.AbstractClassVar[str]

    @abstractmethod
    def expectation(self, dist: Normal) -> Scalar:
        """`E[f(z)], z ~ dist`, differentiable in `dist`."""


class LinearGaussian(AbstractLikelihood, AbstractSum):
    """`x ~ N(weight z, noise^2)`, each coordinate of `x` with a noise and a term of its own."""

    weight: Float[Array, "data latents"]
    log_noise: Float[Array, "data"]
    x: Float[Array, "data"]

    kind: ClassVar[str] = "closed form"

    def __call__(self, z: Float[Array, "latents"]) -> Scalar:
        return Normal(self.weight @ z, self.log_noise).log_prob(self.x)

    @property
    def terms(self) -> int:
        return len(self.x)

    def term(self, n: Int[Array, ""], z: Float[Array, "latents"]) -> Scalar:
        return Normal(jnp.vdot(self.weight[n], z), self.log_noise[n]).log_prob(self.x[n])

    def expectation(self, dist: Normal) -> Scalar:
        """The value at the mean, less half the variance of each mean of `x` in units of its noise."""
        variance = self.weight**2 @ dist.scale**2
        return self(dist.loc) - 0.5 * jnp.sum(variance * jnp.exp(-2 * self.log_noise))


class EvidenceBound(AbstractProblem):
    """The gradient of the evidence bound of a normal `q` with respect to its leaves, to be followed upwards.

    `kl` is as for `VariationalAutoencoder`: see `forms`.
    """

    dist: Normal
    likelihood: AbstractLikelihood
    prior: Normal
    kl: str = eqx.field(static=True, default="sampled")

    def __check_init__(self):
        require_form("EvidenceBound", self.kl)

    def weight(self) -> LogWeight:
        """The integrand of the bound."""
        return LogWeight(self.likelihood, self.prior, self.dist)

    def example(self) -> tuple[Normal, AbstractDifferentiable]:
        return self.dist, integrand(self.weight(), self.kl)

    def gradient(self, estimate: Estimate, key: PRNGKey) -> tuple[Normal, PyTree]:
        return estimated(estimate, key, self.weight(), self.kl)

    def parts(self, gradient: Normal) -> dict[str, PyTree]:
        return {"distribution": gradient, **leaves_of(gradient)}

    def elbo(self, dist: Normal) -> Scalar:
        """The exact bound of any `dist`, in nats."""
        return self.likelihood.expectation(dist) - divergence(dist, self.prior)

    def truth(self) -> Truth:
        with jax.enable_x64(True):
            gradient, term = as_numpy(slopes(in_float64(self)))
        return Truth(gradient, self.likelihood.kind, term=term)


@eqx.filter_jit
def slopes(problem: EvidenceBound) -> tuple[Normal, Normal]:
    """The gradients of the exact bound and of the expected log-likelihood in it."""
    return jax.grad(problem.elbo)(problem.dist), jax.grad(problem.likelihood.expectation)(problem.dist)


def standard_normal_prior(dimension: int) -> Normal:
    """In float32, as all of a problem is."""
    return Normal(jnp.zeros(dimension, jnp.float32), jnp.zeros(dimension, jnp.float32))


@PROBLEMS.register("conjugate-gaussian")
def conjugate_gaussian(
    distance: Number = 1.0, dimension: int = 1, noise: Number = 0.5, kl: str = "sampled"
) -> EvidenceBound:
    r"""A normal mean with a normal prior: the bound of a `q` at a known distance from the exact posterior.

    Coordinate $i$ has a standard normal prior and is seen once, as $x_i \sim N(z_i, \sigma_i^2)$ with
    $\sigma_i = \texttt{noise} / \sqrt{i}$ and $x_i = 1, -1/2, 1/3, \dots$; its posterior is
    $N(m_i, s_i^2)$ with $s_i^{-2} = 1 + \sigma_i^{-2}$ and $m_i = s_i^2 x_i / \sigma_i^2$. With `distance` $d$, which may be
    negative, `q` is $N(m_i + d\, s_i, e^{-d} s_i^2)$, and the gradient of the bound is $-d / s_i$ along `loc` and
    $1 - e^{-d}$ along `log_scale`: at distance 0 `q` is the posterior, and the gradient is zero.

    There the path derivative of the bound vanishes for every draw, which is what "sticking the landing" is about, and minus
    the score is left of its total derivative. That is no law of nature: the variances along `loc` are
    $((e^{d/2} - e^{-d/2}) / s_i)^2$ and $e^{-d} / s_i^2$, so that beyond $d = \log 2$, where `q` is narrower than half of the
    posterior's variance, leaving out the score is a loss.

    **References:** Roeder, Wu and Duvenaud, Sticking the landing: simple, lower-variance gradient estimators for
    variational inference, 2017, arXiv:1703.09194.
    """
    require_at_least(1, "conjugate-gaussian", dimension=dimension)
    if noise <= 0:
        raise ValueError(f"`conjugate-gaussian` needs `noise > 0`, got {noise}; it is a standard deviation.")
    order = np.arange(1, dimension + 1)
    x, variance = -((-1.0) ** order) / order, noise**2 / order
    scale = (1 + 1 / variance) ** -0.5
    loc = scale**2 * x / variance
    likelihood = LinearGaussian(*map(float32, (np.eye(dimension), np.log(variance) / 2, x)))
    dist = Normal(float32(loc + distance * scale), float32(np.log(scale) - distance / 2))
    return EvidenceBound(dist, likelihood, standard_normal_prior(dimension), kl)


def float32(values: np.ndarray | float) -> Array:
    """An array on the device, in the precision of the suite."""
    return jnp.asarray(values, jnp.float32)
