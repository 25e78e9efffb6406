r"""Assertions on stochastic gradients, for the tests of other projects: a statistical `check_grads`.

A gradient with a wrong sign, a forgotten factor or a baseline that has seen its own sample still trains, and no test of
one draw can tell. Here many draws are held against a truth, and both errors are stated: a right gradient fails with
probability at most `false_alarm`, and a coordinate off by `detects` or more passes with probability at most `missed`. An
assertion without the power for that fails, and says how many replicates it would need. For a given key all is
deterministic.

A gradient is any function of a key that JAX can trace; it returns a pytree. The truth is a pytree of the same
structure, another such function that is trusted, or a problem of this suite. In a test file:

    def test_my_gradient():
        logits = jnp.array([-1.0, 0.5])
        f = lambda b: (b.sum() - 0.45) ** 2

        def score_function(key):
            b = jax.random.bernoulli(key, jax.nn.sigmoid(logits)).astype(float)
            return f(b) * (b - jax.nn.sigmoid(logits))

        assert_unbiased(score_function, Expectation(Bernoulli(logits), f).truth().gradient.logits)

Estimators of this suite are given with a problem, or with a distribution and an `f`:

>>> import jax, jax.numpy as jnp
>>> from estimators import Bernoulli, LeaveOneOut
>>> dist, f = Bernoulli(logits=[-1.0, 0.5]), lambda x: (x.sum() - 0.45) ** 2
>>> assert_unbiased(LeaveOneOut(num_samples=2), (dist, f))
>>> assert_variance_below(LeaveOneOut(num_samples=2), 0.4, (dist, f))

A failure names the coordinates:

>>> def wrong(key):
...     return {"w": jnp.array([1.5, 1.0]) + jax.random.normal(key, (2,)), "b": jnp.ones(())}
>>> assert_unbiased(wrong, {"w": jnp.ones(2), "b": 1.0}, replicates=10_000)  # doctest: +ELLIPSIS
Traceback (most recent call last):
AssertionError: `wrong` is biased: 1 of 3 coordinates is off by more than chance allows.
  coordinate   mean  truth  standard error      z  adjusted p
  ['w'][0]    1.5...      1        0.009...
10,000 replicates; a right gradient fails with probability 1e-06, family-wise over the 3 coordinates tested.

Tests are those of the tables (`statistics.bias`): t statistics corrected for skewness, and family-wise (Sidak) over the
coordinates.
"""

from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import PyTree

from estimators import AbstractDistribution, AbstractEstimator

from .adaptor import Unseen, gradient_function
from .findings import bias_complaint, power_complaint
from .limits import doubt, variance_complaint, variance_limits
from .measurement import REFERENCE, Measurement, flatten, measure, unflatten
from .problems import AbstractProblem, Expectation, Truth

# A reference function is run this many times as often as what is tested.
REFERENCE_SHARE = 4

Subject = AbstractEstimator | Callable


def assert_unbiased(
    subject: Subject,
    truth: PyTree | Callable,
    *,
    key: jax.Array | None = None,
    replicates: int = 100_000,
    detects: float | int | None = None,
    false_alarm: float = 1e-6,
    missed: float = 1e-3,
    allow_underpowered: bool = False,
    **options,
) -> None:
    """Raise `AssertionError` if the mean of `subject` is not `truth`, or if `replicates` are too few to tell.

    **Arguments:**

    - `subject`: a function `key -> pytree`, or an estimator of this suite.
    - `truth`: for a function, a pytree of its structure, a function of that kind that is trusted (its mean over four
      times the replicates, on a stream of its own, with its standard error), or a `Truth`; for either, a problem, or a
      pair of a distribution and an `f`.
    - `key`: what the draws are made from; `jax.random.key(0)` by default.
    - `detects`: the bias of one coordinate, in the unit of the gradient, that passes with probability `missed` at most;
      a tenth of the norm of the truth by default.
    - `false_alarm`: the probability, over keys, that a right gradient fails, over all its coordinates.
    - `allow_underpowered`: pass what cannot be judged, or not with this power.
    - `options`: those of `measure`, as `chunk` or `warm_up_steps`.

    Raises `ValueError` or `TypeError` for arguments that make no test.
    """
    _check_probabilities(false_alarm, missed)
    m = measured(subject, truth, key, replicates, **options)
    detects = _tenth_of_the_truth(m) if detects is None else detects
    if not detects > 0:
        raise ValueError(f"`detects` is the size of a bias that must be found and needs to be positive, got {detects}.")
    complaint = bias_complaint(_title(subject), m, false_alarm)
    if complaint is None and not allow_underpowered:
        complaint = power_complaint(_title(subject), m, detects, false_alarm, missed)
    if complaint is not None:
        raise AssertionError(complaint)


def assert_variance_below(
    subject: Subject,
    bound: PyTree,
    problem: AbstractProblem | tuple[AbstractDistribution, Callable] | None = None,
    *,
    key: jax.Array | None = None,
    replicates: int = 100_000,
    false_alarm: float = 1e-6,
    missed: float = 1e-3,
    allow_underpowered: bool = False,
    **options,
) -> None:
    """Raise `AssertionError` if the variance of one whole estimate is not below `bound`, or if it cannot be told.

    `bound` is a number for the trace of the covariance, or a pytree of the gradient's structure for each coordinate. A
    variance below it fails as above it with probability `false_alarm` at most, one above it passes with probability
    `missed` at most; where the bound lies inside the interval, or where tails are so heavy that no interval covers, the
    assertion fails as underpowered unless `allow_underpowered`. The problem is needed for an estimator of this suite only;
    the other arguments are those of `assert_unbiased`.
    """
    _check_probabilities(false_alarm, missed)
    m = measured(subject, problem, key, replicates, **options)
    if np.ndim(bound) or not isinstance(bound, int | float | np.ndarray | np.generic | jax.Array):
        _require_structure("bound", bound, m.work.shapes)
    limits = variance_limits(m, bound, false_alarm, missed)
    if not np.all(limits.bound > 0):
        raise ValueError("A variance is never below `bound` unless that is positive; give positive numbers.")
    complaint = variance_complaint(_title(subject), m, limits, false_alarm)
    if complaint is None and not allow_underpowered:
        complaint = doubt(_title(subject), m, limits)
    if complaint is not None:
        raise AssertionError(complaint)


def measured(
    subject: Subject, given: PyTree | Callable | None, key: jax.Array | None, replicates: int, **options
) -> Measurement:
    """The measurement behind the assertions, of a function `key -> pytree` as of any estimator; `given` is the `truth` of
    `assert_unbiased`, or `None` where it does not matter."""
    key = jax.random.key(0) if key is None else key
    # Other projects may still hold keys of the older kind.
    key = key if jnp.issubdtype(key.dtype, jax.dtypes.prng_key) else jax.random.wrap_key_data(key)
    problem = _as_problem(given)
    if isinstance(subject, AbstractEstimator):
        if problem is None:
            raise TypeError(f"{_title(subject)} needs a problem, or a pair of a distribution and an `f`, to run on.")
        return measure(subject, problem, key, replicates=replicates, **options)
    if not callable(subject):
        raise TypeError(f"What is tested must be an estimator or a function of a key, got `{type(subject).__name__}`.")
    estimator, shapes = gradient_function(subject, key)
    given = jax.tree.map(lambda shape: np.zeros(shape.shape), shapes) if given is None else problem or given
    truth = _truth(given, shapes, key, replicates, options)
    # What is not finite is reported as such, and not as a warning on the way.
    with np.errstate(invalid="ignore", over="ignore"):
        return measure(estimator, Unseen(shapes), key, replicates=replicates, truth=truth, **options)


def _as_problem(given) -> AbstractProblem | None:
    if isinstance(given, AbstractProblem):
        return given
    pair = isinstance(given, tuple) and len(given) == 2 and isinstance(given[0], AbstractDistribution)
    return Expectation(*given) if pair and callable(given[1]) else None


def _truth(given, shapes: PyTree, key: jax.Array, replicates: int, options: dict) -> Truth:
    """What the gradient of these shapes is held against, in any of the forms that a user may give it."""
    if isinstance(given, AbstractProblem):
        truth = given.truth()
        if truth is None:
            raise ValueError("The problem has no exact truth; give a pytree, a function that is trusted, or a `Truth`.")
    elif isinstance(given, Truth):
        truth = given
    elif callable(given) and jax.tree.structure(given) != jax.tree.structure(shapes):
        truth = _reference(given, shapes, jax.random.fold_in(key, REFERENCE), REFERENCE_SHARE * replicates, options)
    else:
        truth = Truth(given, "closed form")
    _require_structure("truth", truth.gradient, shapes)
    if truth.standard_error is not None:
        _require_structure("standard error of the truth", truth.standard_error, shapes)
    return truth


def _reference(function: Callable, shapes: PyTree, key: jax.Array, replicates: int, options: dict) -> Truth:
    """The mean of a trusted function, with its standard error."""
    estimator, own = gradient_function(function, key)
    _require_structure("reference", own, shapes)
    zeros = Truth(jax.tree.map(lambda shape: np.zeros(shape.shape), own), "closed form")
    m = measure(estimator, Unseen(own), key, replicates=replicates, truth=zeros, **options)
    return Truth(m.mean, "reference run", unflatten(np.sqrt(m.moments.variance / m.moments.count), own))


def _require_structure(what: str, tree: PyTree, shapes: PyTree) -> None:
    """Raise `ValueError` unless `tree` has the structure of the gradient, and leaves of its shapes."""
    if jax.tree.structure(tree) != jax.tree.structure(shapes) or _leaf_shapes(tree) != _leaf_shapes(shapes):
        raise ValueError(
            f"The {what} must have the structure of the gradient, {_in_words(shapes)}; it has {_in_words(tree)}."
        )


def _leaf_shapes(tree: PyTree) -> list[tuple[int, ...]]:
    return [np.shape(leaf) for leaf in jax.tree.leaves(tree)]


def _in_words(tree: PyTree) -> str:
    return f"`{jax.tree.unflatten(jax.tree.structure(tree), _leaf_shapes(tree))}`"


def _tenth_of_the_truth(m: Measurement) -> float:
    norm = float(np.linalg.norm(flatten(m.truth)))
    if norm == 0:
        raise ValueError("The truth is zero, which sets no scale: say with `detects` how large a bias must be found.")
    return norm / 10


def _check_probabilities(false_alarm: float, missed: float) -> None:
    for name, value in (("false_alarm", false_alarm), ("missed", missed)):
        if not 0 < value < 0.5:
            raise ValueError(f"`{name}` is a probability and needs to lie between 0 and 0.5, got {value}.")


def _title(subject: Subject) -> str:
    return f"`{getattr(subject, '__name__', type(subject).__name__)}`"
