r"""Decisions in sequence: the discounted return of a policy in a Markov decision process, and a contextual bandit.

With `V_t(s) = sum_a pi(a | s) Q_t(s, a)`, `Q_t(s, a) = r(s, a) + gamma sum_z P(z | s, a) V_{t+1}(z)` from the last step
backwards (`V_T = 0`), and the probability `d_t(s)` of each state from the first step forwards, the policy gradient
theorem is exact and costs no more than that:

    d/d logits[s, a] E[f(x)] = sum_t gamma^t d_t(s) pi(a | s) (Q_t(s, a) - V_t(s)).

So a horizon of any length has a closed form, however many trajectories there are.
"""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from estimators import AbstractReturn, TabularPolicy
from estimators.distributions.base import as_floating

from .base import PROBLEMS, Expectation
from .toys import Number, require_at_least, standard_normals

Table = Float[Array, "states actions"]


class TabularReturn(AbstractReturn):
    """The discounted return of trajectories that earn `table[s, a]` for the action `a` in the state `s`."""

    table: Table = eqx.field(converter=as_floating)
    discount: Float[Array, ""] = eqx.field(converter=as_floating)

    def rewards(self, x: Float[Array, "steps states actions"]) -> Float[Array, "steps"]:
        return jnp.sum(x * self.table[None], axis=(1, 2))


def action_values(dist: TabularPolicy, f: TabularReturn) -> Float[Array, "steps states actions"]:
    """`Q_t(s, a)`, what is earned from step `t` on by the action `a` in the state `s`, discounted to that step."""
    policy, transitions = jax.nn.softmax(dist.logits), jnp.asarray(dist.transitions, dist.logits.dtype)

    def step(following: Float[Array, "states"], _: None) -> tuple[Float[Array, "states"], Table]:
        q = f.table + f.discount * transitions @ following
        return jnp.sum(policy * q, axis=1), q

    _, q = jax.lax.scan(step, jnp.zeros_like(policy[:, 0]), length=dist.horizon, reverse=True)
    return q


def occupancies(dist: TabularPolicy) -> Float[Array, "steps states"]:
    """`d_t(s)`, the probability of each state at each step."""
    policy, transitions = jax.nn.softmax(dist.logits), jnp.asarray(dist.transitions, dist.logits.dtype)
    moves = jnp.einsum("sa,saz->sz", policy, transitions)
    initial = jnp.asarray(dist.initial, dist.logits.dtype)
    return jax.lax.scan(lambda d, _: (d @ moves, d), initial, length=dist.horizon)[1]


@jax.jit
def return_truth(dist: TabularPolicy, f: TabularReturn) -> TabularPolicy:
    """The policy gradient theorem, summed over steps and states."""
    policy, q = jax.nn.softmax(dist.logits), action_values(dist, f)
    weights = f.discounts(q[:, 0, 0])[:, None] * occupancies(dist)
    advantages = q - jnp.sum(policy[None] * q, axis=-1, keepdims=True)
    return eqx.tree_at(lambda d: d.logits, dist, policy * jnp.einsum("ts,tsa->sa", weights, advantages))


def corridor(states: int, slip: float) -> np.ndarray:
    """Transitions of a corridor with two actions, left and right, that go the other way with the probability `slip`; at
    a wall one stays."""
    place = np.arange(states)
    left = np.eye(states)[np.maximum(place - 1, 0)]
    right = np.eye(states)[np.minimum(place + 1, states - 1)]
    return np.stack([(1 - slip) * left + slip * right, (1 - slip) * right + slip * left], axis=1)


@PROBLEMS.register("tabular-mdp")
def tabular_mdp(
    states: int = 4, horizon: int = 6, discount: Number = 0.9, slip: Number = 0.2, seed: int = 0
) -> Expectation:
    """A corridor walked from its left end, with a small reward there and a large one at the far end.

    The actions left and right go the other way with the probability `slip`; pushing against the left wall earns 0.2 at
    each step and against the right one 1. The logits are standard normal, drawn from `seed`. What is good depends on
    how many steps are left: the far end must still be reached. Chains of this kind are the standard hard case of
    exploration; the truth is that of the return discounted from the first step.

    **References:** Strens, A Bayesian framework for reinforcement learning, 2000. Strehl and Littman, An analysis of
    model-based interval estimation for Markov decision processes, 2008.
    """
    require_at_least(2, "tabular-mdp", states=states)
    require_at_least(1, "tabular-mdp", horizon=horizon)
    for name, value in {"discount": discount, "slip": slip}.items():
        if not 0 <= value <= 1:
            raise ValueError(f"`tabular-mdp` needs `0 <= {name} <= 1`, got {value}.")
    (logits,) = standard_normals(seed, (states, 2))
    table = np.zeros((states, 2))
    table[0, 0], table[-1, 1] = 0.2, 1.0
    dist = TabularPolicy(logits, np.eye(states)[0], corridor(states, slip), horizon)
    return Expectation(dist, TabularReturn(table, discount), return_truth)


@PROBLEMS.register("contextual-bandit")
def contextual_bandit(contexts: int = 4, actions: int = 3, seed: int = 0) -> Expectation:
    """One decision: a context of probability falling like `1 / (1 + i)`, an action, and a reward for the pair.

    Logits and rewards are standard normal, drawn from `seed` in this order, and every context also shifts the rewards
    of all its actions, by `2 i`: a baseline that knows the context has most of the variance to gain. The gradient is
    `p(i) pi(a | i) (r(i, a) - sum_b pi(b | i) r(i, b))`.

    **References:** Langford and Zhang, The epoch-greedy algorithm for contextual multi-armed bandits, 2007.
    """
    require_at_least(1, "contextual-bandit", contexts=contexts)
    require_at_least(2, "contextual-bandit", actions=actions)
    logits, rewards = standard_normals(seed, (contexts, actions), (contexts, actions))
    weights = 1 / (1 + np.arange(contexts))
    # Nothing comes after the one decision; the law needs somewhere to go.
    nowhere = np.broadcast_to(np.eye(contexts)[:, None], (contexts, actions, contexts))
    dist = TabularPolicy(logits, weights / weights.sum(), nowhere, horizon=1)
    return Expectation(dist, TabularReturn(rewards + 2 * np.arange(contexts)[:, None], 1.0), return_truth)
