"""Events in which one variable was changed and the others were left alone, and grids of events.

Both are what derivatives along one parameter, and sums over a product of supports or of quadrature rules, are made of.
"""

import math

import jax.numpy as jnp
from jaxtyping import Array, Float

from .base import Event


def replaced(x: Event, values: Event, variables: tuple[int, ...] | None = None) -> Float[Array, "..."]:
    """For each variable the event `x` with that variable taken from `values`: axes of the variables, then those of the
    event.

    `variables` is the shape of the independent variables, if that is not the shape of the event.

    >>> print(replaced(jnp.array([1.0, 2.0]), jnp.array([5.0, 6.0])))
    [[5. 2.]
     [1. 6.]]
    """
    variables = x.shape if variables is None else variables
    own = x.shape[len(variables) :]
    ones, shape = tuple(1 for _ in variables), (*variables, *x.shape)
    this = jnp.eye(math.prod(variables), dtype=bool).reshape(*variables, *variables, *(1 for _ in own))
    spread = values.reshape(*variables, *ones, *own)
    return jnp.where(jnp.broadcast_to(this, shape), jnp.broadcast_to(spread, shape), jnp.broadcast_to(x, shape))


def grid(first: Event, number: int) -> Float[Array, "events ..."]:
    """Every combination of the values `first`, `first + 1`, ..., `number` of them, of each variable.

    >>> print(grid(jnp.array([0.0, 7.0]), 2))
    [[0. 7.]
     [0. 8.]
     [1. 7.]
     [1. 8.]]
    """
    axes = jnp.meshgrid(*[jnp.arange(number, dtype=first.dtype)] * first.size, indexing="ij")
    offsets = jnp.stack(axes, axis=-1).reshape(number**first.size, *first.shape)
    return first[None] + offsets


def product_rule(
    line: Float[Array, "resolution"], weights: Float[Array, "resolution"], shape: tuple[int, ...]
) -> tuple[Float[Array, "nodes ..."], Float[Array, "nodes"]]:
    """The quadrature rule for an array of `shape` made of one for each of its entries.

    >>> nodes, weights = product_rule(jnp.array([0.0, 1.0]), jnp.array([0.25, 0.75]), (2,))
    >>> print(nodes[1], weights)
    [0. 1.] [0.0625 0.1875 0.1875 0.5625]
    """
    dimensions = math.prod(shape)
    nodes = jnp.stack(jnp.meshgrid(*[line] * dimensions, indexing="ij"), axis=-1)
    products = jnp.prod(jnp.stack(jnp.meshgrid(*[weights] * dimensions, indexing="ij"), axis=-1), axis=-1)
    return nodes.reshape(-1, *shape), products.reshape(-1)
