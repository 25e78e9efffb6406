"""The pairs that the contract is tested on: every registered estimator with every small case that it accepts.

They are derived from `ESTIMATORS` and `incompatibility`, so a new estimator is in the list by being registered, and a case
may be added to `CASES` for a capability that no other case offers. A case is a function, lest arrays be made on import.
"""

from collections.abc import Callable, Iterator
from typing import NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np

from benchmarks.problems.evidence import divergence
from estimators import (
    ESTIMATORS,
    AbstractDifferentiable,
    AbstractDistribution,
    AbstractLinearLayer,
    AbstractRegularizedLogWeight,
    AbstractReturn,
    AbstractSum,
    AbstractSurrogate,
    AbstractUnrolled,
    Bernoulli,
    Binomial,
    BlackBox,
    Categorical,
    Delta,
    Gamma,
    Geometric,
    ImportanceWeightedBound,
    InclusiveDivergence,
    LogEvidence,
    MultivariateNormal,
    Normal,
    NormalMixture,
    Poisson,
    TabularPolicy,
    ThermodynamicObjective,
    Uniform,
    incompatibility,
)
from estimators.objectives import Objective


class Case(NamedTuple):
    """A distribution, another one of the same shape with extreme parameters, and an objective."""

    dist: AbstractDistribution
    extreme: AbstractDistribution
    f: Objective


def bernoulli() -> tuple[Bernoulli, Bernoulli]:
    return Bernoulli(np.array([-1.0, 0.4, 1.3])), Bernoulli(np.array([-10.0, 10.0, 10.0]))


def categorical() -> tuple[Categorical, Categorical]:
    extreme = np.array([[-10.0, 0.0, 10.0], [10.0, 10.0, -10.0]])
    return Categorical(np.array([[0.3, -1.0, 0.8], [1.2, 0.0, -0.5]])), Categorical(extreme)


def normal() -> tuple[Normal, Normal]:
    return Normal(np.array([0.7, -1.2]), np.array([-0.3, 0.4])), Normal(np.array([-10.0, 10.0]), np.array([-10.0, 2.0]))


def correlated() -> tuple[MultivariateNormal, MultivariateNormal]:
    return MultivariateNormal([0.7, -1.2], [-0.3, 0.8, 0.4]), MultivariateNormal([-10.0, 10.0], [-10.0, 10.0, 2.0])


def poisson() -> tuple[Poisson, Poisson]:
    return Poisson(np.array([-0.4, 0.9])), Poisson(np.array([-10.0, 10.0]))


def geometric() -> tuple[Geometric, Geometric]:
    return Geometric(np.array([0.8, -0.5])), Geometric(np.array([-10.0, 10.0]))


def binomial() -> tuple[Binomial, Binomial]:
    return Binomial(np.array([-1.0, 0.4]), 3), Binomial(np.array([-10.0, 10.0]), 3)


def weights() -> tuple[Normal, Normal]:
    """As many inputs as the layer below has examples, so that pre-activations have the shape of weights."""
    spread = np.linspace(-1.0, 1.0, 6).reshape(3, 2)
    return Normal(spread, 0.4 * spread), Normal(10 * spread, 6 * spread - 4)


def delta() -> tuple[Delta, Delta]:
    return Delta(np.array([0.7, -1.2, 0.2])), Delta(np.array([-10.0, 10.0, 10.0]))


def uniform() -> tuple[Uniform, Uniform]:
    """Of which the support moves, so that an estimator that accepts it makes do without the score."""
    return Uniform(np.array([0.7, -1.2]), np.array([-0.3, 0.4])), Uniform(
        np.array([-10.0, 10.0]), np.array([-10.0, 2.0])
    )


def policy() -> tuple[TabularPolicy, TabularPolicy]:
    """Of so many trajectories that none who lists them all takes it."""
    transitions = np.array(
        [[[0.1, 0.6, 0.3], [0.7, 0.0, 0.3]], [[0.2, 0.2, 0.6], [1.0, 0.0, 0.0]], [[0.5, 0.5, 0.0]] * 2]
    )
    logits, extreme = (
        np.array([[0.3, -1.0], [0.8, 1.2], [0.0, -0.5]]),
        np.array([[-10.0, 10.0], [10.0, -10.0], [10.0, 10.0]]),
    )
    return tuple(TabularPolicy(leaf, [0.5, 0.0, 0.5], transitions, horizon=12) for leaf in (logits, extreme))


def gamma() -> tuple[Gamma, Gamma]:
    return Gamma(np.array([-0.4, 0.9]), np.array([0.3, -0.2])), Gamma(np.array([-10.0, 10.0]), np.array([1.0, 5.0]))


def mixture() -> tuple[NormalMixture, NormalMixture]:
    loc, log_scale = np.array([[-0.5, 0.3], [0.6, -0.4]]), np.array([[-0.3, 0.1], [0.2, -0.4]])
    return NormalMixture(np.array([0.5, -0.2]), loc, log_scale), NormalMixture(
        np.array([-10.0, 10.0]), 3 * loc, log_scale
    )


def smooth(x):
    """Non-separable and differentiable everywhere, of any shape."""
    weights = jnp.cos(jnp.arange(1, x.size + 1, dtype=x.dtype))
    return (jnp.vdot(weights, x.ravel()) - 0.45) ** 2 + 0.3 * jnp.prod(1 + 0.3 * x)


def without_derivative(function: Callable) -> Callable:
    """`function`, with the derivative NaN, so that whoever differentiates it is found out."""
    guarded = jax.custom_jvp(function)
    guarded.defjvp(lambda primals, tangents: (function(*primals), jnp.nan * jnp.sum(tangents[0])))
    return guarded


@without_derivative
def stairs(x):
    """`smooth` rounded down to thirds."""
    return jnp.floor(3 * smooth(x)) / 3


@without_derivative
def stairs_at_bits(x):
    """`stairs`, and NaN off the support of discrete events."""
    return jnp.where(jnp.all((x == 0) | (x == 1)), jnp.floor(3 * smooth(x)) / 3, jnp.nan)


def single(dist: AbstractDistribution) -> AbstractDistribution:
    return jax.tree.map(lambda leaf: leaf.astype(jnp.float32), dist)


class Evidence(AbstractRegularizedLogWeight):
    """`function` taken for the log-likelihood of an evidence bound; a prior and a posterior in single precision leave the precision of a
    value to the event."""

    function: Callable
    prior: AbstractDistribution
    posterior: AbstractDistribution

    def log_likelihood(self, z):
        return self.function(z)

    def divergence(self, dist):
        return divergence(dist, self.prior)


class Layer(AbstractLinearLayer):
    """`function` of the pre-activations of three examples; the last has no inputs. Single precision, as above."""

    function: Callable
    inputs: jax.Array

    def loss(self, preactivations):
        return self.function(preactivations)


def layer(function: Callable) -> Layer:
    return Layer(function, jnp.asarray(np.array([[0.3, -1.0, 0.8], [1.2, 0.5, -0.5], [0.0, 0.0, 0.0]], np.float32)))


def smooth_rows(x):
    """A sum over the rows of `x`."""
    return jnp.sum(jax.vmap(smooth)(x))


class Terms(AbstractSum, AbstractDifferentiable):
    """Ten terms, which share out `function` unevenly."""

    function: Callable
    terms: int = 10

    def term(self, n, x):
        # An event that does not depend on the term would be counted once for all of them.
        return (0.05 + n / 90).astype(x.dtype) * self.function(x + (0 * n).astype(x.dtype))

    def __call__(self, x):
        return jnp.sum(jax.vmap(self.term, in_axes=(0, None))(jnp.arange(self.terms), x))


class System(AbstractUnrolled, AbstractSurrogate, AbstractDifferentiable):
    """A system that pays in the second of its two windows, with two guesses of its gradient."""

    function: Callable
    windows: int = 2

    def losses(self, xs):
        value = self.function(jnp.mean(xs, axis=0))
        return jnp.stack([jnp.zeros_like(value), value])

    def surrogates(self, x):
        return jnp.stack([jnp.ones_like(x), jnp.cos(jnp.arange(x.size, dtype=x.dtype))])


class Return(AbstractReturn):
    """The return of a sequence of steps that earn `function(x)`."""

    function: Callable
    discount: float = eqx.field(converter=lambda value: jnp.asarray(value, jnp.float32), default=0.9)

    def rewards(self, x):
        return self.function(x)


@without_derivative
def takings(x):
    """What each step earns: what it is worth, in thirds, and how often its state was visited before; NaN off the support."""
    worth = jnp.cos(jnp.arange(1, x[0].size + 1, dtype=x.dtype)).reshape(x[0].shape)
    states = jnp.sum(x, axis=2)
    before = jnp.cumsum(states, axis=0) - states
    valid = jnp.all((x == 0) | (x == 1)) & jnp.all(jnp.sum(states, axis=1) == 1)
    earned = jnp.floor(3 * jnp.sum(x * worth[None], axis=(1, 2))) / 3 + jnp.sin(jnp.sum(before * states, axis=1))
    return jnp.where(valid, earned, jnp.nan)


@without_derivative
def stairs_at_counts(x):
    """`stairs`, and NaN where an event does not count."""
    return jnp.where(jnp.all((x == jnp.floor(x)) & (x >= 0)), jnp.floor(3 * smooth(x)) / 3, jnp.nan)


@without_derivative
def stairs_up_to_three(x):
    """`stairs_at_counts`, and NaN above three."""
    return jnp.where(jnp.all((x == jnp.floor(x)) & (x >= 0) & (x <= 3)), jnp.floor(3 * smooth(x)) / 3, jnp.nan)


CASES: dict[str, tuple[Callable, Callable, Callable]] = {
    "bernoulli": (bernoulli, smooth, lambda f: f),
    "bernoulli-black-box": (bernoulli, stairs_at_bits, BlackBox),
    "categorical": (categorical, smooth, lambda f: f),
    "categorical-black-box": (categorical, stairs_at_bits, BlackBox),
    "poisson-black-box": (poisson, stairs_at_counts, BlackBox),
    "geometric-black-box": (geometric, stairs_at_counts, BlackBox),
    "binomial-black-box": (binomial, stairs_up_to_three, BlackBox),
    "poisson": (poisson, smooth, lambda f: f),
    "policy-return": (policy, takings, Return),
    "gamma": (gamma, smooth, lambda f: f),
    "mixture": (mixture, smooth, lambda f: f),
    "normal": (normal, smooth, lambda f: f),
    "normal-black-box": (normal, stairs, BlackBox),
    "bernoulli-bound-black-box": (
        bernoulli,
        stairs_at_bits,
        lambda f: ImportanceWeightedBound(BlackBox(f), num_samples=3),
    ),
    "normal-bound": (normal, smooth, lambda f: ImportanceWeightedBound(f, num_samples=3)),
    "normal-inclusive": (normal, smooth, InclusiveDivergence),
    "normal-thermodynamic": (normal, smooth, lambda f: ThermodynamicObjective(f, np.array([0.0, 0.3, 0.7]))),
    "normal-evidence": (normal, smooth, lambda f: LogEvidence(f, single(normal()[0]))),
    "uniform": (uniform, smooth, lambda f: f),
    "multivariate-normal": (correlated, smooth, lambda f: f),
    "normal-layer": (weights, smooth_rows, layer),
    "normal-sum": (normal, smooth, Terms),
    "delta": (delta, smooth, System),
    "normal-log-weight": (
        normal,
        smooth,
        lambda f: Evidence(f, single(Normal(np.array([0.2, 0.1]), np.array([0.1, -0.2]))), single(normal()[0])),
    ),
}
# Others like them are met elsewhere, so only an estimator that accepts no other case is tried on these.
SPECIAL = ("multivariate-normal", "normal-layer", "normal-sum", "poisson")


def case(name: str, tap: Callable = lambda x: None) -> Case:
    """The case called `name`; its objective calls `tap(x)` with every event that it is evaluated at."""
    dists, function, declare = CASES[name]

    def f(x):
        tap(x)
        return function(x)

    return Case(*dists(), declare(f))


def pairs() -> Iterator[tuple[str, str]]:
    """The names of every registered estimator with every case that it accepts."""
    for estimator_name in ESTIMATORS:
        estimator = ESTIMATORS.create(estimator_name)
        accepted = [name for name in CASES if incompatibility(estimator, *case(name)[::2]) is None]
        for case_name in [name for name in accepted if name not in SPECIAL] or accepted:
            yield estimator_name, case_name
