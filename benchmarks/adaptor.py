"""The adaptor: any function of a key that returns a gradient, as an estimator on a problem, for the harness to measure.

    function(key) -> gradient

knows its own distribution and its own objective, if it has any, so the problem here offers a placeholder for both.
Streaming, float64 moments and statistics are those of every other measurement.
"""

from collections.abc import Callable
from typing import ClassVar

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import PyTree

from estimators import AbstractDistribution, AbstractEstimator, Normal
from estimators.distributions.base import PRNGKey
from estimators.objectives import Objective

from .problems import AbstractProblem, Truth
from .problems.base import Estimate

_FAILURES = (jax.errors.ConcretizationTypeError, jax.errors.TracerArrayConversionError)


class GradientFunction(AbstractEstimator):
    """`function(key)` as one estimate. A pytree that can be called, such as `equinox.Partial`, is compiled once for all
    values of its arrays; of a plain function, what it closes over is a constant of the program."""

    function: Callable[[PRNGKey], PyTree]

    unbiased: ClassVar[bool] = True
    requires: ClassVar[tuple[type, ...]] = ()

    def init(self, key: PRNGKey, dist: AbstractDistribution) -> None:
        del key, dist

    def estimate(self, key: PRNGKey, state: None, dist: PyTree, f: Objective) -> tuple[PyTree, None]:
        del state, dist, f
        return jax.tree.map(_floating, self.function(key)), None

    def adapt(self, state: None, stats: None) -> None:
        del state, stats

    def evaluations(self, dist: AbstractDistribution) -> int:
        del dist
        return 1


class Unseen(AbstractProblem):
    """An expectation of which nothing is seen but estimates of its gradient, which has the shapes and precisions of `gradient`.
    Its truth, if it is known, goes to `measure`: kept here, it would be a part of what is compiled."""

    zeros: PyTree
    placeholder: AbstractDistribution

    def __init__(self, gradient: PyTree):
        self.zeros = jax.tree.map(lambda leaf: jnp.zeros(jnp.shape(leaf), jnp.result_type(leaf)), gradient)
        self.placeholder = Normal(loc=[0.0], log_scale=[0.0])

    def example(self) -> tuple[AbstractDistribution, Objective]:
        return self.placeholder, jnp.sum

    def gradient(self, estimate: Estimate, key: PRNGKey) -> tuple[PyTree, PyTree]:
        return estimate(key, self.zeros, jnp.sum)

    def parts(self, gradient: PyTree) -> dict[str, PyTree]:
        return {"gradient": gradient}

    def truth(self) -> Truth | None:
        return None


def gradient_function(function: Callable[[PRNGKey], PyTree], key: PRNGKey) -> tuple[GradientFunction, PyTree]:
    """The function as an estimator, and the shapes of what it returns. Raises `TypeError` unless JAX can trace it."""
    name = getattr(function, "__name__", type(function).__name__)
    arrays = jax.tree.map(lambda leaf: jnp.asarray(leaf) if isinstance(leaf, np.ndarray) else leaf, function)
    estimator = GradientFunction(arrays)
    try:
        shapes = eqx.filter_eval_shape(lambda e, k: e.estimate(k, None, None, jnp.sum)[0], estimator, key)
    except _FAILURES as error:
        raise TypeError(
            f"`{name}` must be a function of a key that JAX can trace, since it is compiled and run in batches; it needs "
            "the value of an array, as `float`, `if` and NumPy do. Write it in `jax.numpy`."
        ) from error
    if not jax.tree.leaves(shapes):
        raise TypeError(f"`{name}` must return a pytree of arrays, its gradient; it returned one without any.")
    return estimator, shapes


def _floating(leaf) -> jax.Array:
    """`leaf` as a floating array, in its own precision if it has one."""
    return jnp.asarray(leaf, jnp.result_type(leaf, 0.0))
