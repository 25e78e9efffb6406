"""Logarithms of Gamma variables, of which Gamma, Beta, Dirichlet and Student-t events are made: small ones underflow,
their logarithms do not.

`log_g` is that of a variable with density `g^(a - 1) exp(-g) / Gamma(a)`. As the concentration `a` grows it moves at the
speed `-d/da F(g) / (g q(g))` (Figurnov, Mohamed and Mnih, Implicit reparameterization gradients, 2018,
arXiv:1805.08498). Below a small `g` that is the first terms of the series of `F`, in which only the logarithm of `g` is
large; elsewhere it is JAX's `random_gamma_grad`. (JAX's own derivative of `loggamma` takes the least normal number for a
smaller `g`: in float32, at concentration 0.01, its mean is 58 where `a trigamma(a)` is 100.)

Marsaglia and Tsang (2000) accept or reject a normal variable `e` and make `g = (a - 1/3) (1 + e / sqrt(9 a - 3))^3` of it,
for `a >= 1`. An accepted one is known by its `g`.
"""

import jax
import jax.numpy as jnp
from jax.scipy.special import digamma, gammaln
from jaxtyping import Array, Float

from .base import PRNGKey

Values = Float[Array, "..."]


def log_gamma(key: PRNGKey, concentration: Values) -> Values:
    """One draw for each concentration."""
    return jax.random.loggamma(key, concentration, concentration.shape, concentration.dtype)


def log_density(log_g: Values, concentration: Values) -> Values:
    """The log-density of `log_g`, on the line."""
    return concentration * log_g - jnp.exp(log_g) - gammaln(concentration)


@jax.custom_jvp
def moving(log_g: Values, concentration: Values) -> Values:
    """`log_g`, which moves with its concentration; what was drawn is not differentiated, however it was drawn.

    >>> print(f"{jax.grad(moving, argnums=1)(jnp.array(-1000.0), jnp.array(0.5)):.3f}")
    2000.073
    """
    del concentration
    return log_g


@moving.defjvp
def _moving_jvp(primals, tangents):
    return primals[0], _speed(*primals) * tangents[1]


def _speed(log_g: Values, a: Values) -> Values:
    g, least = jnp.exp(log_g), jnp.finfo(log_g.dtype).eps ** 0.5
    small, large = jnp.minimum(g, least), jnp.maximum(g, least)
    log_small = jnp.minimum(log_g, jnp.log(least).astype(log_g.dtype))
    series = (log_small - digamma(a + 1)) * (1 - a * small / (a + 1)) - small / (a + 1) ** 2
    return jnp.where(g < least, -(1 + small) * series / a, jax.lax.random_gamma_grad(a, large) / large)


def accepted_normal(log_g: Values, concentration: Values) -> Values:
    """The `e` that was accepted."""
    third = concentration - 1 / 3
    return 3 * jnp.sqrt(third) * jnp.expm1((log_g - jnp.log(third)) / 3)


def from_normal(e: Values, concentration: Values) -> Values:
    """The `log_g` that `e` makes, smooth in both."""
    return jnp.log(concentration - 1 / 3) + 3 * jnp.log1p(e / jnp.sqrt(9 * concentration - 3))


def log_density_of_accepted(e: Values, concentration: Values) -> Values:
    """The log-density of the accepted `e`: that of the `log_g` which it makes, and the derivative of that in `e`."""
    slope = 3 / (jnp.sqrt(9 * concentration - 3) + e)
    return log_density(from_normal(e, concentration), concentration) + jnp.log(slope)


def accepted(key: PRNGKey, concentration: Values, augmentation: int) -> Float[Array, "noises ..."]:
    """The accepted normal of a variable with `augmentation` more concentration, and the logarithms of as many uniform
    variables, each of which takes one off again: `g u^(1 / a)` has concentration `a` if `g` has `a + 1`."""
    key_g, key_u = jax.random.split(key)
    augmented = concentration + augmentation
    shape = (augmentation, *concentration.shape)
    log_u = -jax.random.exponential(key_u, shape, concentration.dtype)
    return jnp.concatenate([accepted_normal(log_gamma(key_g, augmented), augmented)[None], log_u])


def from_accepted(noise: Float[Array, "noises ..."], concentration: Values) -> Values:
    """The `log_g` that the variables of `accepted` make."""
    augmentation = noise.shape[0] - 1
    steps = jnp.arange(augmentation, dtype=noise.dtype).reshape(augmentation, *(1 for _ in concentration.shape))
    return from_normal(noise[0], concentration + augmentation) + jnp.sum(
        noise[1:] / (concentration[None] + steps), axis=0
    )


def accepted_log_density(noise: Float[Array, "noises ..."], concentration: Values) -> Values:
    """Of the accepted normal; the uniform variables have a law of their own, in which the concentration has no part."""
    return log_density_of_accepted(noise[0], concentration + (noise.shape[0] - 1))
