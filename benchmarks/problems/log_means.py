r"""The expectation of a log-mean of independent weights, for any number of them, as one integral.

For `K` independent weights the expectation of `log mean_k w_k` is an integral over `K` variables, but by

    log a = int_0^inf (exp(-t) - exp(-a t)) / t dt,    E exp(-t sum_k w_k / K) = phi(t / K)^K,

with the Laplace transform `phi(t) = E exp(-t w)` of one weight, it is one integral over `log t` of a function that takes
one integral (or sum) over `z`, whatever `K` is. Its derivative is the gradient of every bound that is made of log-means,
`q` inside the weights included.
"""

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from estimators import AbstractDistribution
from estimators.objectives import Objective

from .base import Scalar
from .evidence import summation

# Steps of a quarter in `log t`, where the integrand is analytic in a strip of half-width pi / 2, leave exp(-39).
STEPS = 2**11
EVENTS = 1025


def mean_of_log_mean(log_weights: Float[Array, "events"], masses: Float[Array, "events"], number: Scalar) -> Scalar:
    """`E[log mean_k w_k]` for `number` independent weights, each of which is `w_i` with the probability `masses_i`.

    An event of a mass below 1e-20 does not decide how far the integral goes.
    """
    level = jax.lax.stop_gradient(jax.nn.logsumexp(log_weights, b=masses))
    least = jax.lax.stop_gradient(jnp.min(jnp.where(masses > 1e-20, log_weights - level, jnp.inf)))
    low, high = -40.0, jnp.log(number) + jnp.maximum(-least, 0.0) + 5.0
    log_t = low + (high - low) * jnp.linspace(0, 1, STEPS)
    exponents = log_t[:, None] - jnp.log(number) + (log_weights - level)[None]
    # exp(-exp(8)) is zero, and so is its derivative.
    survived = jnp.exp(-jnp.exp(jnp.minimum(exponents, 8.0)))
    transform = jnp.sum(masses[None] * survived, axis=1) / jnp.sum(masses)
    integrand = jnp.exp(-jnp.exp(log_t)) - transform**number
    return level + (high - low) / (STEPS - 1) * jnp.sum(integrand)


@eqx.filter_jit
def slope_of_log_mean(
    dist: AbstractDistribution, log_joint: Objective, number: Scalar, power: Scalar
) -> AbstractDistribution:
    """The derivative of `E[log mean_k w_k^power] / power`, for a Gaussian in one dimension or a finite support."""

    def value(q: AbstractDistribution) -> Scalar:
        terms = summation(q, EVENTS)
        log_weights = jax.vmap(log_joint)(terms.events) - terms.log_densities
        return mean_of_log_mean(power * log_weights, terms.weights, number) / power

    return jax.grad(value)(dist)
