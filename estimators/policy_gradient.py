r"""Policy gradients: the score function of a sequence of decisions, each credited with what it can still change.

For the discounted return $f(x) = \sum_t \gamma^t r_t$ of a trajectory the score is a sum over steps,
$\nabla \log p(x) = \sum_t \nabla \log \pi(a_t \mid s_t)$, and given what came before it each term has mean zero. So the
rewards of steps before $t$ may be left out of what multiplies it, and anything decided before $a_t$ may be subtracted:

$$\nabla E[f(x)] = E\Big[\sum_t \gamma^t\, (G_t - b_t)\, \nabla \log \pi(a_t \mid s_t)\Big], \qquad
G_t = \sum_{k \ge t} \gamma^{k - t} r_k .$$

The factor $\gamma^t$ belongs to it: discounting counts from the first step. Much published code drops it, and what is
then followed is the gradient of no function of the parameters at all (Nota and Thomas, Is the policy gradient a
gradient?, 2020, arXiv:1906.07073). Here are the estimators whose $b_t$ does not look at the state; those with a value
function live in `actor_critic`.

The estimators of `score_function`, `baselines` and `sample_statistics` run here too, and take the return as a whole.
"""

from typing import ClassVar

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from .base import AbstractEstimator, AbstractStatelessEstimator, Grads, PRNGKey, draw
from .baselines import RunningMean
from .distributions import AbstractDistribution, AbstractSequential
from .distributions.base import Scalar, precision
from .objectives import AbstractReturn
from .registration import ESTIMATORS
from .validation import require_at_least

Steps = Float[Array, "steps"]


def accumulated(terms: Steps, factor: Scalar) -> Steps:
    """`sum_{k >= t} factor^(k - t) terms_k` for every `t`, from the last step backwards.

    >>> print(accumulated(jnp.array([1.0, 2.0, 4.0]), jnp.array(0.5)))
    [3. 4. 4.]
    """
    factor = factor.astype(terms.dtype)

    def step(later: Scalar, term: Scalar) -> tuple[Scalar, Scalar]:
        return (total := term + factor * later), total

    return jax.lax.scan(step, jnp.zeros_like(terms[0]), terms, reverse=True)[1]


def returns_to_go(f: AbstractReturn, rewards: Float[Array, "samples steps"]) -> Float[Array, "samples steps"]:
    """`G_t`, the return of what is still to come, discounted to the step it is seen from."""
    return jax.vmap(lambda r: accumulated(r, f.discount))(rewards)


def policy_score(
    dist: Grads, xs: Float[Array, "samples ..."], advantages: Float[Array, "samples steps"], f: AbstractReturn
) -> Grads:
    """The mean over samples of `sum_t discount^t advantages_t d/d theta log pi(a_t | s_t)`, by one pullback."""
    weights = advantages * f.discounts(advantages[0])[None] / len(xs)
    return jax.grad(lambda d: jnp.vdot(weights, jax.vmap(d.log_policy)(xs)))(dist)


@ESTIMATORS.register("reward-to-go")
class RewardToGo(AbstractStatelessEstimator):
    r"""The score function with each action credited with the rewards from its own step on (causality).

    For trajectories $x_1, \dots, x_n$ of `dist` with states $s_{it}$, actions $a_{it}$, rewards $r_{it}$, and $\gamma$
    the discount of `f`,

    $$\hat g = \frac1n \sum_i \sum_t \gamma^t G_{it}\, \nabla \log \pi(a_{it} \mid s_{it}), \qquad
    G_{it} = \sum_{k \ge t} \gamma^{k - t} r_{ik}.$$

    Unbiased: an earlier reward is decided before the action, whose score has mean zero given all that. It is the
    first derivative of the DiCE surrogate, and the downstream cost of Rao-Blackwellised black box inference. Its
    variance is mostly less than that of `ScoreFunction` and not always: a bonus that is paid at the first step and
    taken back at the last makes every return zero, and only the whole return sees it. Needs a sequential distribution
    and a return; `num_samples` evaluations of `f`.

    >>> from estimators import TabularPolicy
    >>> dist = TabularPolicy(jnp.zeros((1, 2)), initial=[1], transitions=[[[1], [1]]], horizon=3)
    >>> RewardToGo(num_samples=4).evaluations(dist)
    4

    **References:** Williams, Simple statistical gradient-following algorithms for connectionist reinforcement learning,
    1992. Baxter and Bartlett, Infinite-horizon policy-gradient estimation, 2001, arXiv:1106.0665. Schulman, Heess,
    Weber and Abbeel, Gradient estimation using stochastic computation graphs, 2015, arXiv:1506.05254.
    """

    num_samples: int = eqx.field(static=True, default=1)

    unbiased: ClassVar[bool] = True
    requires: ClassVar[tuple[type, ...]] = (AbstractSequential, AbstractReturn)

    def __check_init__(self):
        require_at_least(self, "num_samples", 1)

    def gradient(self, key: PRNGKey, dist: Grads, f: AbstractReturn) -> Grads:
        xs = draw(key, dist, self.num_samples)
        return policy_score(dist, xs, returns_to_go(f, jax.vmap(f.rewards)(xs)), f)

    def evaluations(self, dist: AbstractDistribution) -> int:
        del dist
        return self.num_samples


@ESTIMATORS.register("leave-one-out-reward-to-go")
class LeaveOneOutRewardToGo(AbstractStatelessEstimator):
    r"""Rewards to go, with their mean over the other trajectories at the same step as baseline.

    For trajectories $x_1, \dots, x_n$ of `dist`, with $\bar G_t$ the mean of $G_{it}$ over $i$,

    $$\hat g = \frac{1}{n - 1} \sum_i \sum_t \gamma^t (G_{it} - \bar G_t)\, \nabla \log \pi(a_{it} \mid s_{it}).$$

    Unbiased: $G_{it} - \bar G_t$ is $(n - 1) / n$ times the difference from the mean of the others, which are
    independent of $x_i$, and the factor is undone. At a horizon of one it is `LeaveOneOut`. Needs a sequential
    distribution and a return; `num_samples` evaluations of `f`.

    The mean is over all other trajectories, wherever they are at that step. No step is averaged over: with one baseline
    for all steps of a group, or a division by its standard deviation, it would be another estimator.

    >>> from estimators import TabularPolicy
    >>> dist = TabularPolicy(jnp.zeros((1, 2)), initial=[1], transitions=[[[1], [1]]], horizon=3)
    >>> LeaveOneOutRewardToGo(num_samples=4).evaluations(dist)
    4

    **References:** Kool, van Hoof and Welling, Buy 4 REINFORCE samples, get a baseline for free!, 2019. Greensmith,
    Bartlett and Baxter, Variance reduction techniques for gradient estimates in reinforcement learning, 2004.
    """

    num_samples: int = eqx.field(static=True, default=2)

    unbiased: ClassVar[bool] = True
    requires: ClassVar[tuple[type, ...]] = (AbstractSequential, AbstractReturn)

    def __check_init__(self):
        require_at_least(self, "num_samples", 2)

    def gradient(self, key: PRNGKey, dist: Grads, f: AbstractReturn) -> Grads:
        xs = draw(key, dist, self.num_samples)
        returns = returns_to_go(f, jax.vmap(f.rewards)(xs))
        deviations = returns - jnp.mean(returns, axis=0, keepdims=True)
        return policy_score(dist, xs, deviations * (self.num_samples / (self.num_samples - 1)), f)

    def evaluations(self, dist: AbstractDistribution) -> int:
        del dist
        return self.num_samples


@ESTIMATORS.register("step-baseline")
class StepBaseline(AbstractEstimator):
    r"""Rewards to go, with their mean over past trajectories at the same step as baseline.

    For trajectories $x_1, \dots, x_n$ of `dist`, and $m_t$ the mean of $G_t$ over all of the past,

    $$\hat g = \frac1n \sum_i \sum_t \gamma^t (G_{it} - m_t)\, \nabla \log \pi(a_{it} \mid s_{it}), \qquad
    m_t = 0 \text{ before any}.$$

    Unbiased, because $m$ has not seen the trajectories. It is a constant for each step, and what is left to come at a
    late step is less than at an early one; `StateBaseline` also looks at where a trajectory is. Needs a sequential
    distribution and a return; `num_samples` evaluations of `f`.

    >>> from estimators import TabularPolicy
    >>> dist = TabularPolicy(jnp.zeros((1, 2)), initial=[1], transitions=[[[1], [1]]], horizon=3)
    >>> print(StepBaseline().init(jax.random.key(0), dist).mean)
    [0. 0. 0.]

    **References:** Peters and Schaal, Reinforcement learning of motor skills with policy gradients, 2008.
    """

    num_samples: int = eqx.field(static=True, default=1)

    unbiased: ClassVar[bool] = True
    requires: ClassVar[tuple[type, ...]] = (AbstractSequential, AbstractReturn)

    def __check_init__(self):
        require_at_least(self, "num_samples", 1)

    def init(self, key: PRNGKey, dist: AbstractSequential) -> RunningMean:
        del key
        zeros = jnp.zeros(dist.event_shape[0], precision(dist))
        return RunningMean(zeros, zeros[0])

    def estimate(self, key: PRNGKey, state: RunningMean, dist: Grads, f: AbstractReturn) -> tuple[Grads, Steps]:
        xs = draw(key, dist, self.num_samples)
        returns = returns_to_go(f, jax.vmap(f.rewards)(xs))
        return policy_score(dist, xs, returns - state.mean[None], f), jnp.mean(returns, axis=0)

    def adapt(self, state: RunningMean, stats: Steps) -> RunningMean:
        return state.updated(stats, 1.0)

    def evaluations(self, dist: AbstractDistribution) -> int:
        del dist
        return self.num_samples
