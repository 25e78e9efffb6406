"""Wrappers: estimators made of estimators.

A wrapper takes its declarations from what it wraps, passes state and statistics through, and works on every estimator,
those of others included. It has no name of its own in the registry, for it is nothing without an estimator inside.
"""

import equinox as eqx
import jax
import jax.numpy as jnp

from .base import AbstractEstimator, Grads, PRNGKey, State, Stats
from .distributions import AbstractDistribution
from .objectives import Objective


class Averaged(AbstractEstimator):
    r"""The mean of `num_estimates` independent estimates of `estimator`.

    $$\hat g = \frac1n \sum_{k=1}^{n} \hat g_k.$$

    Unbiased if `estimator` is; its variance is that of `estimator` divided by `num_estimates`, its bias the same. Needs
    what `estimator` needs; `num_estimates` times its evaluations of `f`. All estimates read one state, which adapts to
    the mean of their statistics.

    >>> from estimators import Bernoulli, LeaveOneOut
    >>> Averaged(LeaveOneOut(num_samples=2), num_estimates=3).evaluations(Bernoulli(logits=[0.0]))
    6
    """

    estimator: AbstractEstimator
    num_estimates: int = eqx.field(static=True)

    def __check_init__(self):
        if self.num_estimates < 1:
            raise ValueError(f"`Averaged` needs `num_estimates >= 1`, got {self.num_estimates}.")

    @property
    def unbiased(self) -> bool:
        return self.estimator.unbiased

    @property
    def requires(self) -> tuple[type, ...]:
        return self.estimator.requires

    def init(self, key: PRNGKey, dist: AbstractDistribution) -> State:
        return self.estimator.init(key, dist)

    def estimate(self, key: PRNGKey, state: State, dist: Grads, f: Objective) -> tuple[Grads, Stats]:
        keys = jax.random.split(key, self.num_estimates)
        estimates = jax.vmap(lambda key: self.estimator.estimate(key, state, dist, f))(keys)
        return jax.tree.map(lambda leaf: jnp.mean(leaf, axis=0), estimates)

    def adapt(self, state: State, stats: Stats) -> State:
        return self.estimator.adapt(state, stats)

    def evaluations(self, dist: AbstractDistribution) -> int:
        return self.num_estimates * self.estimator.evaluations(dist)
