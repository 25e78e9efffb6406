r"""Trajectories of a tabular policy in a known finite-horizon Markov decision process.

    p(x) = mu(s_0) pi(a_0 | s_0) P(s_1 | s_0, a_0) pi(a_1 | s_1) ... pi(a_{T-1} | s_{T-1}).

The policy is the soft-max of a row of `logits` for each state, and the only thing that has a derivative: where a
trajectory starts and where an action leads belong to the world. So the two are static fields, tuples of numbers that
are compiled in, and a gradient is a module of this type with one leaf.

An event marks the pair of state and action at each step with a one: `x[t, s, a]`. What a step earns, where it was and
how likely its action was are then sums of products.
"""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float

from .base import AbstractTransformable, Event, Noise, PRNGKey, Scalar, as_floating
from .discrete import AbstractEnumerable, AbstractSequential


def _nested(value) -> tuple | float:
    """An array as tuples of tuples of numbers, which can be compared and hashed."""
    array = np.asarray(value, np.float64)
    return tuple(map(_nested, array)) if array.ndim else float(array)


def _log(probabilities: tuple) -> np.ndarray:
    with np.errstate(divide="ignore"):
        return np.log(np.asarray(probabilities))


class TabularPolicy(AbstractEnumerable, AbstractSequential, AbstractTransformable):
    """`horizon` steps of the policy `softmax(logits)` in a world of finitely many states and actions.

    A trajectory starts at a state of law `initial[states]`, and the action `a` in the state `s` leads to a state of law
    `transitions[s, a]`. With a horizon of one it is a contextual bandit. A world that ends early has a state that is
    never left. An event has the shape `[horizon, states, actions]`; the state after the last action is not part of it.

    >>> dist = TabularPolicy(jnp.zeros((2, 2)), initial=[1, 0], transitions=np.full((2, 2, 2), 0.5), horizon=3)
    >>> dist.event_shape, dist.support_size
    ((3, 2, 2), 32)
    """

    logits: Float[Array, "states actions"] = eqx.field(converter=as_floating)
    initial: tuple[float, ...] = eqx.field(static=True, converter=_nested)
    transitions: tuple[tuple[tuple[float, ...], ...], ...] = eqx.field(static=True, converter=_nested)
    horizon: int = eqx.field(static=True)

    def __check_init__(self):
        if not isinstance(self.horizon, int) or self.horizon < 1:
            raise ValueError(f"`TabularPolicy` needs a whole number `horizon >= 1`, got {self.horizon}.")
        if self.logits.ndim != 2:
            raise ValueError(
                f"`TabularPolicy` needs `logits` of two axes, states and actions, got {self.logits.shape}."
            )
        states, actions = self.logits.shape
        for name, shape in (("initial", (states,)), ("transitions", (states, actions, states))):
            law = np.asarray(getattr(self, name))
            if law.shape != shape:
                raise ValueError(
                    f"`TabularPolicy` needs `{name}` of the shape {shape}, as `logits` have it, got {law.shape}."
                )
            if np.any(law < 0) or not np.allclose(law.sum(axis=-1), 1, rtol=0, atol=1e-6):
                raise ValueError(
                    f"`TabularPolicy` needs probabilities in `{name}`: not negative, with the sum 1 over the last axis."
                )

    @property
    def event_shape(self) -> tuple[int, ...]:
        return (self.horizon, *self.logits.shape)

    def sample(self, key: PRNGKey) -> Event:
        return self.transform(self.noise(key))

    def noise(self, key: PRNGKey) -> Noise:
        """Gumbel variables, for each step those of the state and those of the action."""
        return jax.random.gumbel(key, (self.horizon, sum(self.logits.shape)), self.logits.dtype)

    def transform(self, noise: Noise) -> Event:
        """States and actions in turn, each where its log-probability plus noise is largest (Gumbel-max); a state that
        cannot be reached never is."""
        states, actions = self.logits.shape
        log_transitions = jnp.asarray(_log(self.transitions), self.logits.dtype)

        def step(log_law: Float[Array, "states"], noise: Noise) -> tuple[Float[Array, "states"], Event]:
            state = jnp.argmax(log_law + noise[:states])
            action = jnp.argmax(self.logits[state] + noise[states:])
            pair = jax.nn.one_hot(state * actions + action, states * actions, dtype=noise.dtype)
            return log_transitions[state, action], pair.reshape(states, actions)

        return jax.lax.scan(step, jnp.asarray(_log(self.initial), self.logits.dtype), noise)[1]

    def log_prob(self, x: Event) -> Scalar:
        initial, transitions = (jnp.asarray(law, x.dtype) for law in (self.initial, self.transitions))
        states = self.states(x)
        reached = jnp.einsum("tsa,saz,tz->t", x[:-1], transitions, states[1:])
        world = jnp.log(jnp.vdot(initial, states[0])) + jnp.sum(jnp.log(reached))
        return jnp.sum(self.log_policy(x)) + world

    def states(self, x: Event) -> Float[Array, "steps states"]:
        return jnp.sum(x, axis=-1)

    def log_policy(self, x: Event) -> Float[Array, "steps"]:
        return jnp.sum(x * jax.nn.log_softmax(self.logits)[None], axis=(1, 2))

    @property
    def support_size(self) -> int:
        starts, follows = self._possible()
        # Python's integers, for there may be more trajectories than a machine word counts.
        paths = starts.astype(object)
        for _ in range(self.horizon - 1):
            paths = paths @ follows.astype(object)
        return int(paths.sum())

    def support(self) -> Float[Array, "events ..."]:
        """Every trajectory that the world admits."""
        starts, follows = self._possible()
        paths = np.flatnonzero(starts)[:, None]
        for _ in range(self.horizon - 1):
            rows, nexts = np.nonzero(follows[paths[:, -1]])
            paths = np.concatenate([paths[rows], nexts[:, None]], axis=1)
        events = jax.nn.one_hot(paths, len(starts), dtype=self.logits.dtype)
        return events.reshape(-1, *self.event_shape)

    def _possible(self) -> tuple[Bool[np.ndarray, "pairs"], Bool[np.ndarray, "pairs pairs"]]:
        """Which pairs of state and action may come first, and which after which."""
        actions = self.logits.shape[1]
        follows = np.repeat(np.asarray(self.transitions) > 0, actions, axis=-1)
        return np.repeat(np.asarray(self.initial) > 0, actions), follows.reshape(-1, follows.shape[-1])
