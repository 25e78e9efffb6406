"""Bisection: quantiles of laws whose distribution function has no inverse in closed form."""

from collections.abc import Callable

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

Values = Float[Array, "..."]


def turning_point(beyond: Callable[[Values], Bool[Array, "..."]], low: Values, high: Values) -> Values:
    """For each entry the point between `low` and `high` from which on `beyond` is true, in their precision.

    >>> print(turning_point(lambda x: x**2 > 2, jnp.array([0.0]), jnp.array([2.0])).round(5))
    [1.41421]
    """

    def halve(_, ends: tuple[Values, Values]) -> tuple[Values, Values]:
        middle = (ends[0] + ends[1]) / 2
        passed = beyond(middle)
        return jnp.where(passed, ends[0], middle), jnp.where(passed, middle, ends[1])

    low, high = jax.lax.fori_loop(0, jnp.finfo(low.dtype).nmant + 3, halve, (low, high))
    return (low + high) / 2
