r"""Bounds of importance weights whose gradient is known for every number of samples.

The conjugate model is `p(z) = N(0, 1)`, `p(x | z) = N(z, s^2)`, with the posterior shifted and stretched for `q`; its
evidence is `N(x; 0, 1 + s^2)`. What is a quadratic under a Gaussian has a closed form, and the bounds of several weights
are the integrals of `log_means`.
"""

import math

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from estimators import (
    AbstractDifferentiable,
    AbstractDistribution,
    AbstractMultiSampleBound,
    Bernoulli,
    ImportanceWeightedBound,
    InclusiveDivergence,
    JackknifeBound,
    LogEvidence,
    Normal,
    RenyiBound,
    ThermodynamicObjective,
)
from estimators.distributions.base import as_floating

from .base import PROBLEMS, Expectation, Scalar
from .log_means import slope_of_log_mean
from .toys import Number, mean_of_quadratic, require_at_least, spread_bits


class ConjugateLogJoint(AbstractDifferentiable):
    """`log N(z; mean, 1) + log N(x; z, noise^2)` for one variable `z`."""

    observation: Float[Array, ""] = eqx.field(converter=as_floating)
    mean: Float[Array, ""] = eqx.field(converter=as_floating)
    noise: Float[Array, ""] = eqx.field(converter=as_floating)

    def __call__(self, z: Float[Array, "1"]) -> Scalar:
        prior, residual = z[0] - self.mean, (self.observation - z[0]) / self.noise
        return -0.5 * (prior**2 + residual**2) - jnp.log(self.noise) - math.log(2 * math.pi)

    def posterior(self) -> Normal:
        """`p(z | x)`."""
        precision = 1 + self.noise**-2
        loc = (self.mean + self.observation * self.noise**-2) / precision
        return Normal(loc[None], -0.5 * jnp.log(precision)[None])


class GaussianLogLikelihood(AbstractDifferentiable):
    """`log N(x; z, noise^2)` for one variable `z`."""

    observation: Float[Array, ""] = eqx.field(converter=as_floating)
    noise: Float[Array, ""] = eqx.field(converter=as_floating)

    def __call__(self, z: Float[Array, "1"]) -> Scalar:
        residual = (self.observation - z[0]) / self.noise
        return -0.5 * residual**2 - jnp.log(self.noise) - 0.5 * math.log(2 * math.pi)


class BitsLogJoint(AbstractDifferentiable):
    """`log p(z) + log N(x; <loadings, z> + interaction z_1 z_2, noise^2)` for bits `z` of the law `prior`."""

    prior: Bernoulli
    loadings: Float[Array, "bits"] = eqx.field(converter=as_floating)
    interaction: Float[Array, ""] = eqx.field(converter=as_floating)
    observation: Float[Array, ""] = eqx.field(converter=as_floating)
    noise: Float[Array, ""] = eqx.field(converter=as_floating)

    def __call__(self, z: Float[Array, "bits"]) -> Scalar:
        predicted = jnp.vdot(self.loadings, z) + self.interaction * z[0] * z[1]
        residual = (self.observation - predicted) / self.noise
        return self.prior.log_prob(z) - 0.5 * residual**2 - jnp.log(self.noise) - 0.5 * math.log(2 * math.pi)


def bound_truth(dist: AbstractDistribution, f: AbstractMultiSampleBound) -> AbstractDistribution:
    """The gradient of the bound; one program serves every number of samples."""
    power = 1 - f.alpha if isinstance(f, RenyiBound) else jnp.ones(())

    def slope(number: int) -> AbstractDistribution:
        return slope_of_log_mean(dist, f.log_joint, jnp.asarray(float(number)), power)

    if not isinstance(f, JackknifeBound):
        return slope(f.num_samples)
    number = f.num_samples
    return jax.tree.map(lambda all, fewer: number * all - (number - 1) * fewer, slope(number), slope(number - 1))


@jax.jit
def inclusive_truth(dist: Normal, f: InclusiveDivergence) -> Normal:
    """The gradient of `E_{p(z|x)}[log q(z)]`, a quadratic under a Gaussian."""
    posterior = f.log_joint.posterior()
    return jax.grad(lambda q: mean_of_quadratic(q.log_prob, posterior.loc, posterior.scale**2))(dist)


@jax.jit
def thermodynamic_truth(dist: Normal, f: ThermodynamicObjective) -> Normal:
    """The gradient of the Riemann sum: `pi_beta` is the Gaussian whose precision is the mean of the two."""
    posterior = f.log_joint.posterior()

    def value(q: Normal) -> Scalar:
        def node(beta: Scalar, width: Scalar) -> Scalar:
            ours, theirs = (1 - beta) / q.scale**2, beta / posterior.scale**2
            mean = (ours * q.loc + theirs * posterior.loc) / (ours + theirs)
            return width * mean_of_quadratic(lambda z: f.log_joint(z) - q.log_prob(z), mean, 1 / (ours + theirs))

        return jnp.sum(jax.vmap(node)(f.betas, f.widths()))

    return jax.grad(value)(dist)


@jax.jit
def evidence_truth(dist: Normal, f: LogEvidence) -> Normal:
    """The gradient of `log N(x; loc, scale^2 + noise^2)`."""
    likelihood = f.log_likelihood

    def value(prior: Normal) -> Scalar:
        marginal = Normal(prior.loc, 0.5 * jnp.log(prior.scale**2 + likelihood.noise**2))
        return marginal.log_prob(likelihood.observation[None])

    return jax.grad(value)(dist)


def conjugate(family: str, observation: Number, noise: Number, shift: Number, stretch: Number) -> tuple:
    """The log-joint density with a standard normal prior, and the posterior moved by `shift` of its standard deviations
    and stretched by `stretch`."""
    for name, value in {"noise": noise, "stretch": stretch}.items():
        if value <= 0:
            raise ValueError(f"`{family}` needs `{name} > 0`, got {value}; it scales a standard deviation.")
    precision = 1 + noise**-2
    loc = observation * noise**-2 / precision + shift / math.sqrt(precision)
    q = Normal(loc=[loc], log_scale=[math.log(stretch) - 0.5 * math.log(precision)])
    return ConjugateLogJoint(observation, 0.0, noise), q


@PROBLEMS.register("conjugate-iwae")
def conjugate_iwae(
    num_samples: int = 4,
    observation: Number = 1.5,
    noise: Number = 0.7,
    shift: Number = 0.5,
    stretch: Number = 1.3,
) -> Expectation:
    """The importance-weighted bound of `z ~ N(0, 1)`, `x ~ N(z, noise^2)`, for a `q` that misses the posterior.

    `q` is the posterior, its mean moved by `shift` of its standard deviations and its scale stretched by `stretch`. As
    `num_samples` grows the gradient vanishes like its inverse, and Rainforth et al. ask what is left of it above the
    noise. For `stretch` below 1 the weights have a tail like `w ** (-1 / (1 - stretch ** 2))`, and below `sqrt(1/2)` no variance.

    **References:** Rainforth et al., Tighter variational bounds are not necessarily better, 2018, arXiv:1802.04537.
    """
    require_at_least(1, "conjugate-iwae", num_samples=num_samples)
    log_joint, q = conjugate("conjugate-iwae", observation, noise, shift, stretch)
    return Expectation(q, ImportanceWeightedBound(log_joint, num_samples), bound_truth, kind="quadrature")


@PROBLEMS.register("conjugate-renyi")
def conjugate_renyi(
    alpha: Number = 0.5,
    num_samples: int = 4,
    observation: Number = 1.5,
    noise: Number = 0.7,
    shift: Number = 0.5,
    stretch: Number = 1.3,
) -> Expectation:
    """The Rényi bound of `num_samples` weights of order `alpha`, for the model of `conjugate-iwae`.

    `alpha` 0 is that bound; -1 is the chi-squared upper bound, as far as so many samples show it.
    """
    require_at_least(1, "conjugate-renyi", num_samples=num_samples)
    log_joint, q = conjugate("conjugate-renyi", observation, noise, shift, stretch)
    return Expectation(q, RenyiBound(log_joint, num_samples, alpha), bound_truth, kind="quadrature")


@PROBLEMS.register("conjugate-jackknife")
def conjugate_jackknife(
    num_samples: int = 4,
    observation: Number = 1.5,
    noise: Number = 0.7,
    shift: Number = 0.5,
    stretch: Number = 1.3,
) -> Expectation:
    """The first-order jackknife of the bound of `conjugate-iwae`."""
    require_at_least(2, "conjugate-jackknife", num_samples=num_samples)
    log_joint, q = conjugate("conjugate-jackknife", observation, noise, shift, stretch)
    return Expectation(q, JackknifeBound(log_joint, num_samples), bound_truth, kind="quadrature")


@PROBLEMS.register("conjugate-inclusive")
def conjugate_inclusive(
    observation: Number = 1.5, noise: Number = 0.7, shift: Number = 0.5, stretch: Number = 1.3
) -> Expectation:
    """`E_{p(z|x)}[log q(z)]`, what reweighted wake-sleep climbs, for the model of `conjugate-iwae`."""
    log_joint, q = conjugate("conjugate-inclusive", observation, noise, shift, stretch)
    return Expectation(q, InclusiveDivergence(log_joint), inclusive_truth)


@PROBLEMS.register("conjugate-thermodynamic")
def conjugate_thermodynamic(
    nodes: int = 4, observation: Number = 1.5, noise: Number = 0.7, shift: Number = 0.5, stretch: Number = 1.3
) -> Expectation:
    """The thermodynamic objective with `nodes` equal steps, for the model of `conjugate-iwae`; one is the evidence bound."""
    require_at_least(1, "conjugate-thermodynamic", nodes=nodes)
    log_joint, q = conjugate("conjugate-thermodynamic", observation, noise, shift, stretch)
    betas = [step / nodes for step in range(nodes)]
    return Expectation(q, ThermodynamicObjective(log_joint, betas), thermodynamic_truth)


@PROBLEMS.register("conjugate-evidence")
def conjugate_evidence(
    observation: Number = 1.5, noise: Number = 0.7, shift: Number = 0.5, stretch: Number = 1.3
) -> Expectation:
    """`log p(x)` in the parameters of the prior, for the model of `conjugate-iwae`, whose `q` is the proposal.

    Here an importance-weighted bound is measured against what it bounds.
    """
    _, q = conjugate("conjugate-evidence", observation, noise, shift, stretch)
    likelihood = GaussianLogLikelihood(observation, noise)
    return Expectation(Normal(loc=[0.0], log_scale=[0.0]), LogEvidence(likelihood, q), evidence_truth)


@PROBLEMS.register("bernoulli-iwae")
def bernoulli_iwae(
    num_samples: int = 4, dimension: int = 4, observation: Number = 1.0, noise: Number = 0.7
) -> Expectation:
    """The importance-weighted bound of `x ~ N(sum_i a_i z_i + z_1 z_2, noise^2)` with bits `z` that are fair a priori.

    The loadings `a` run from -1 to 1.5 and `q` has logits from -1.5 to 1. What a bit is worth depends on the others
    through the likelihood, and on the other samples through the bound. At most 16 bits have a truth.
    """
    require_at_least(1, "bernoulli-iwae", num_samples=num_samples)
    require_at_least(2, "bernoulli-iwae", dimension=dimension)
    fair, loadings = Bernoulli(logits=np.zeros(dimension)), np.linspace(-1.0, 1.5, dimension)
    log_joint = BitsLogJoint(fair, loadings, 1.0, observation, noise)
    f = ImportanceWeightedBound(log_joint, num_samples)
    return Expectation(spread_bits("bernoulli-iwae", dimension), f, bound_truth, kind="quadrature")
