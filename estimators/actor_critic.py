r"""Policy gradients with a critic: what is expected of a state is learned, and subtracted or put in place of rewards.

With $V$ a table of what is expected to be earned from each state on, $\delta_t = r_t + \gamma V(s_{t+1}) - V(s_t)$ is
the surprise of one step, and since the sum telescopes, $G_t - V(s_t) = \sum_{k \ge t} \gamma^{k - t} \delta_k$ whatever
$V$ is, with nothing to come after the last step. As a baseline, $V(s_t)$ is decided before $a_t$ and free of bias. Cut
the sum short, and $V(s_{t+1})$ stands for rewards not looked at: less noise, and a bias if $V$ is wrong.

$V$ is the mean return of past visits, learned before and frozen; an estimate never depends on a table that has seen its
own trajectory. The identity of policy gradients, and why every step carries $\gamma^t$, are in `policy_gradient`.
"""

from typing import ClassVar

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from .base import AbstractEstimator, Grads, PRNGKey, draw
from .baselines import RunningMean
from .distributions import AbstractDistribution, AbstractSequential
from .distributions.base import as_floating, precision
from .objectives import AbstractReturn
from .policy_gradient import accumulated, policy_score, returns_to_go
from .registration import ESTIMATORS
from .validation import require_at_least, require_in_unit_interval

Table = Float[Array, "steps states"]
Tables = tuple[Table, Table]


def no_visits(dist: AbstractSequential) -> RunningMean:
    """The critic before any trajectory: means over trajectories of `states * returns to go` and of `states`."""
    x = jnp.zeros(dist.event_shape, precision(dist))
    table = jnp.zeros_like(dist.states(x))
    return RunningMean((table, table), table[0, 0])


def visits(states: Float[Array, "samples steps states"], returns: Float[Array, "samples steps"]) -> Tables:
    """What the critic averages."""
    return jnp.mean(states * returns[..., None], axis=0), jnp.mean(states, axis=0)


def values(critic: RunningMean, stationary: bool) -> Table:
    """The mean return to go of the visits of each state, at each step or at all steps together; zero where there were
    none."""
    earned, seen = critic.mean
    if stationary:
        earned, seen = (jnp.broadcast_to(jnp.sum(table, axis=0, keepdims=True), table.shape) for table in critic.mean)
    return earned / jnp.where(seen > 0, seen, 1)


@ESTIMATORS.register("state-baseline")
class StateBaseline(AbstractEstimator):
    r"""Rewards to go, with the value of the state as baseline, learned from past trajectories.

    For trajectories $x_1, \dots, x_n$ of `dist`, and $V_t(s)$ the mean of $G_t$ over all past trajectories that were in
    the state $s$ at the step $t$,

    $$\hat g = \frac1n \sum_i \sum_t \gamma^t (G_{it} - V_t(s_{it}))\, \nabla \log \pi(a_{it} \mid s_{it}), \qquad
    V_t(s) = 0 \text{ before any visit}.$$

    Unbiased for every table, because it has not seen the trajectories and does not look at the action. What is expected
    of a state depends on how many steps are left, hence a table with a row for each step. It tends to the value
    function, which is near the best of all baselines of states and not it: that weights returns by the square of the
    score. Needs a sequential distribution and a return; `num_samples` evaluations of `f`.

    >>> from estimators import TabularPolicy
    >>> dist = TabularPolicy(jnp.zeros((1, 2)), initial=[1], transitions=[[[1], [1]]], horizon=3)
    >>> StateBaseline(num_samples=4).evaluations(dist)
    4

    **References:** Sutton, McAllester, Singh and Mansour, Policy gradient methods for reinforcement learning with
    function approximation, 2000. Greensmith, Bartlett and Baxter, Variance reduction techniques for gradient estimates
    in reinforcement learning, 2004.
    """

    num_samples: int = eqx.field(static=True, default=1)

    unbiased: ClassVar[bool] = True
    requires: ClassVar[tuple[type, ...]] = (AbstractSequential, AbstractReturn)

    def __check_init__(self):
        require_at_least(self, "num_samples", 1)

    def init(self, key: PRNGKey, dist: AbstractSequential) -> RunningMean:
        del key
        return no_visits(dist)

    def estimate(self, key: PRNGKey, state: RunningMean, dist: Grads, f: AbstractReturn) -> tuple[Grads, Tables]:
        xs = draw(key, dist, self.num_samples)
        states, returns = jax.vmap(dist.states)(xs), returns_to_go(f, jax.vmap(f.rewards)(xs))
        expected = jnp.einsum("nts,ts->nt", states, values(state, stationary=False))
        return policy_score(dist, xs, returns - expected, f), visits(states, returns)

    def adapt(self, state: RunningMean, stats: Tables) -> RunningMean:
        return state.updated(stats, 1.0)

    def evaluations(self, dist: AbstractDistribution) -> int:
        del dist
        return self.num_samples


@ESTIMATORS.register("actor-critic", trace_decay=0.0)
@ESTIMATORS.register("generalized-advantage")
class GeneralizedAdvantage(AbstractEstimator):
    r"""Actor-critic with the generalised advantage estimator, GAE($\gamma$, $\lambda$).

    For trajectories $x_1, \dots, x_n$ of `dist`, $V$ the critic, zero after the last step, and $\lambda$ the
    `trace_decay`,

    $$\hat g = \frac1n \sum_i \sum_t \gamma^t \hat A_{it}\, \nabla \log \pi(a_{it} \mid s_{it}), \qquad
    \hat A_t = \sum_{k \ge t} (\gamma \lambda)^{k - t} \delta_k, \quad \delta_t = r_t + \gamma V(s_{t+1}) - V(s_t).$$

    Biased for $\lambda < 1$ where $V$ is wrong: with $V^\pi_k$ the value function at step $k$, the mean is off by that
    of

    $$\sum_t \gamma^t\, \nabla \log \pi(a_t \mid s_t)
    \sum_{k > t} \gamma^{k - t} (1 - \lambda) \lambda^{k - t - 1} (V - V^\pi_k)(s_k).$$

    For $\lambda = 1$ the sum telescopes to $G_t - V(s_t)$ and $V$ is no more than a baseline; with $V = V^\pi_k$ at
    each step there is no bias at any $\lambda$. `actor-critic` is the case $\lambda = 0$, in which the reward of one
    step and the value of the next state stand for the return. Needs a sequential distribution and a return;
    `num_samples` evaluations of `f`.

    The critic is the mean return of past visits to a state: at all steps if `stationary`, as in the paper, and at the
    same step if not. A stationary critic does not know how many steps are left, and unless the states tell, it stays
    wrong however long it learns. The paper drops the factor $\gamma^t$ and standardises the advantages in its
    experiments; neither is done here, for both change the mean.

    >>> from estimators import TabularPolicy
    >>> dist = TabularPolicy(jnp.zeros((1, 2)), initial=[1], transitions=[[[1], [1]]], horizon=3)
    >>> GeneralizedAdvantage(trace_decay=0.9, num_samples=4).evaluations(dist)
    4

    **References:** Schulman, Moritz, Levine, Jordan and Abbeel, High-dimensional continuous control using generalized
    advantage estimation, 2016, arXiv:1506.02438. Pardo, Tavakoli, Levdik and Kormushev, Time limits in reinforcement
    learning, 2018, arXiv:1712.00378.
    """

    trace_decay: Float[Array, ""] = eqx.field(converter=as_floating, default=0.95)
    num_samples: int = eqx.field(static=True, default=1)
    stationary: bool = eqx.field(static=True, default=True)

    unbiased: ClassVar[bool] = False
    requires: ClassVar[tuple[type, ...]] = (AbstractSequential, AbstractReturn)

    def __check_init__(self):
        require_at_least(self, "num_samples", 1)
        require_in_unit_interval(self, "trace_decay")

    def init(self, key: PRNGKey, dist: AbstractSequential) -> RunningMean:
        del key
        return no_visits(dist)

    def estimate(self, key: PRNGKey, state: RunningMean, dist: Grads, f: AbstractReturn) -> tuple[Grads, Tables]:
        xs = draw(key, dist, self.num_samples)
        states, rewards = jax.vmap(dist.states)(xs), jax.vmap(f.rewards)(xs)
        expected = jnp.einsum("nts,ts->nt", states, values(state, self.stationary))
        advantages = jax.vmap(lambda r, v: self.advantages(r, v, f))(rewards, expected)
        return policy_score(dist, xs, advantages, f), visits(states, returns_to_go(f, rewards))

    def advantages(
        self, rewards: Float[Array, "steps"], expected: Float[Array, "steps"], f: AbstractReturn
    ) -> Float[Array, "steps"]:
        """The advantages of one trajectory, given the value of each of its states."""
        discount = f.discount.astype(rewards.dtype)
        following = jnp.append(expected[1:], jnp.zeros_like(expected[:1]))
        return accumulated(rewards + discount * following - expected, discount * self.trace_decay)

    def adapt(self, state: RunningMean, stats: Tables) -> RunningMean:
        return state.updated(stats, 1.0)

    def evaluations(self, dist: AbstractDistribution) -> int:
        del dist
        return self.num_samples
