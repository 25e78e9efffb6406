"""Sharing: estimators of one problem that are compiled together, as one program with a choice.

Most of what it takes to compile a small program is the same whatever the estimator: the loop over replicates, the random
bits, the problem, the moments. A program of several estimators has that once, and which of them a run is of is one of its
arguments. So the points of a grid that sets shapes (numbers of samples, of pairs) come out of one compile, as those of a
temperature do without it.
"""

import functools
from collections import defaultdict
from collections.abc import Callable, Sequence

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Int, PyTree

from estimators import AbstractDistribution, AbstractEnumerable, AbstractEstimator, AbstractStatelessEstimator
from estimators.base import Grads, PRNGKey, State, Stats
from estimators.objectives import Objective

from .problems import AbstractProblem
from .work import default_chunk, gradient_shape, kind

# Beyond this many, a program takes long before its first cell is run, and half of it is compiled for nothing if a run is stopped.
MOST_TOGETHER = 8


class OneOf(AbstractEstimator):
    """The estimator `options[chosen]`, with the states and statistics of all, of which only its own are made and read."""

    chosen: Int[Array, ""]
    options: tuple[AbstractEstimator, ...]

    @property
    def unbiased(self) -> bool:
        """Whether all are."""
        return all(option.unbiased for option in self.options)

    @property
    def requires(self) -> tuple[type, ...]:
        """What any of them needs."""
        return tuple(dict.fromkeys(capability for option in self.options for capability in option.requires))

    def init(self, key: PRNGKey, dist: AbstractDistribution) -> State:
        # Each has the state that it would have by itself; one alone is read, so that no key is used twice.
        return tuple(option.init(jax.random.clone(key), dist) for option in self.options)

    def estimate(self, key: PRNGKey, state: State, dist: Grads, f: Objective) -> tuple[Grads, Stats]:
        def one(number: int, key: PRNGKey) -> tuple[Grads, Stats]:
            return self.options[number].estimate(key, state[number], dist, f)

        numbers = range(len(self.options))
        # Under `jit`, so that each is traced once, for its shapes and for its branch.
        each = [jax.jit(functools.partial(one, number)) for number in numbers]
        nothing = [None if own is None else _zeros(each[i], jax.random.clone(key)) for i, own in enumerate(state)]

        def branch(number: int, key: PRNGKey) -> tuple[Grads, Stats]:
            grads, stats = each[number](key)
            return grads, (*nothing[:number], stats, *nothing[number + 1 :])

        return jax.lax.switch(self.chosen, [functools.partial(branch, number) for number in numbers], key)

    def adapt(self, state: State, stats: Stats) -> State:
        return tuple(option.adapt(s, t) for option, s, t in zip(self.options, state, stats, strict=True))

    def evaluations(self, dist: AbstractDistribution) -> int:
        return max(option.evaluations(dist) for option in self.options)


def _zeros(estimate: Callable, key: PRNGKey) -> Stats:
    """The statistics of an estimator that is not chosen."""
    return jax.tree.map(lambda s: jnp.zeros(s.shape, s.dtype), eqx.filter_eval_shape(estimate, key)[1])


def one_of(estimator: AbstractEstimator, among: tuple[AbstractEstimator, ...]) -> AbstractEstimator:
    """The estimator as the one chosen `among` those that share its program; itself if there are no others. Raises `ValueError` if
    none of them has its structure."""
    if len(among) < 2:
        return estimator
    kinds = [kind(option) for option in among]
    if kind(estimator) not in kinds:
        name = type(estimator).__name__
        raise ValueError(
            f"`{name}` is not among the {len(among)} estimators of `among`; give what `sharing.together` found for it."
        )
    number = kinds.index(kind(estimator))
    return OneOf(jnp.int32(number), (*among[:number], estimator, *among[number + 1 :]))


def options(estimator: AbstractEstimator, state: State) -> list[tuple[AbstractEstimator, State]]:
    """Estimator and state of each of which one is chosen; of an estimator by itself its own."""
    return list(zip(estimator.options, state, strict=True)) if isinstance(estimator, OneOf) else [(estimator, state)]


def number_of(estimator: AbstractEstimator) -> int:
    """Which of the `options` it is."""
    return int(estimator.chosen) if isinstance(estimator, OneOf) else 0


def together(estimators: Sequence[AbstractEstimator], problem: AbstractProblem) -> list[tuple[AbstractEstimator, ...]]:
    """For each of the estimators those that are compiled with it, one of each structure, itself included.

    They have chunks of one size, so that none waits for another, and all have a state or none has; those of a class stay
    together. Estimators that are not of this project are left alone: their faults stay their own.
    """
    kinds = [kind(estimator) for estimator in estimators]
    own = {name: e for name, e in zip(kinds, estimators, strict=True) if type(e).__module__.startswith("estimators.")}
    groups, shapes = defaultdict(lambda: defaultdict(list)), gradient_shape(problem)
    for name, estimator in own.items():
        groups[_alike(estimator, problem, shapes)][type(estimator)].append(name)
    parts = [part for classes in groups.values() for part in _packed(list(classes.values()))]
    shared = {name: among for part in parts for among in [tuple(own[name] for name in part)] for name in part}
    return [shared.get(name, (estimator,)) for name, estimator in zip(kinds, estimators, strict=True)]


def _packed(lists: list[list]) -> list[list]:
    """Neighbouring lists joined to lists of at most `MOST_TOGETHER`, none of them divided.

    >>> _packed([[1, 2], [3, 4, 5], [6, 7, 8], [9]])
    [[1, 2, 3, 4, 5, 6, 7, 8], [9]]
    """
    packed = [[]]
    for items in lists:
        if packed[-1] and len(packed[-1]) + len(items) > MOST_TOGETHER:
            packed.append([])
        packed[-1] = packed[-1] + items
    return packed


def _alike(estimator: AbstractEstimator, problem: AbstractProblem, shapes: PyTree) -> tuple:
    """What those have in common that may be compiled together on a problem whose gradient has these `shapes`."""
    listing = AbstractEnumerable in estimator.requires
    chunk = default_chunk(estimator, problem, shapes, jax.local_devices()[0])
    return isinstance(estimator, AbstractStatelessEstimator), listing, chunk
