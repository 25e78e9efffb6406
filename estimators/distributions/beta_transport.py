"""How a Beta variable moves with its parameters: minus the derivative of its distribution function, over its density.

With `z` the variable or its complement, whichever lies below its mean, and `p`, `q` the parameters that go with `z` and
with `1 - z`, the distribution function is (Abramowitz and Stegun 1964, 26.5.4)

`F(z) = z^p (1 - z)^q S / (p B(p, q))`, `S = sum_n t_n`, `t_0 = 1`, `t_n / t_(n - 1) = z (p + q + n - 1) / (p + n)`,

a sum of positive terms. The density being `z^(p - 1) (1 - z)^(q - 1) / B(p, q)`, the logit of `z` moves with a parameter
at the speed `-(S d/d theta log(F / S) + d/d theta S) / p`, in which nothing overflows.
"""

import jax
import jax.numpy as jnp
from jax.scipy.special import digamma
from jaxtyping import Array, Bool, Float

Values = Float[Array, "..."]


@jax.custom_jvp
def transported(logit: Values, concentration: Values, other: Values) -> Values:
    """`logit`, that of a Beta variable, which moves with its first parameter, `concentration`, and with no other.

    What was drawn is not differentiated, however it was drawn.

    >>> print(f"{jax.grad(transported, argnums=1)(jnp.array(0.0), jnp.array(1.0), jnp.array(1.0)):.4f}")
    1.3863
    """
    del concentration, other
    return logit


@transported.defjvp
def _transported_jvp(primals, tangents):
    return primals[0], _speed(*primals) * tangents[1]


def _speed(logit: Values, concentration: Values, other: Values) -> Values:
    x, rest = jax.nn.sigmoid(logit), jax.nn.sigmoid(-logit)
    lower = x * (concentration + other + 2) <= concentration + 1
    p, q = jnp.where(lower, concentration, other), jnp.where(lower, other, concentration)
    total, slope = _series(jnp.where(lower, x, rest), p, q, lower)
    start = digamma(p + q) - digamma(jnp.where(lower, concentration + 1, concentration))
    return jnp.where(lower, -1, 1) * (total * (jax.nn.log_sigmoid(logit) + start) + slope) / p


def _series(z: Values, p: Values, q: Values, first: Bool[Array, "..."]) -> tuple[Values, Values]:
    """`S`, and its derivative in `p` where `first`, in `q` elsewhere, up to terms that no longer count."""
    least = jnp.finfo(z.dtype).eps

    def unfinished(carry: tuple[Values, ...]) -> Bool[Array, ""]:
        _, term, _, total, _ = carry
        return jnp.any(term > least * total)

    def add(carry: tuple[Values, ...]) -> tuple[Values, ...]:
        n, term, along, total, slope = carry
        term = term * z * (p + q + n - 1) / (p + n)
        along = along + 1 / (p + q + n - 1) - jnp.where(first, 1 / (p + n), 0)
        return n + 1, term, along, total + term, slope + term * along

    one, zero = jnp.ones_like(z), jnp.zeros_like(z)
    return jax.lax.while_loop(unfinished, add, (one, one, zero, one, zero))[3:]
