"""The contract of `estimators.base`, clause by clause, of every registered estimator on every case that it accepts.

The pairs are derived (see `cases`), and a new estimator is held to all of this by being registered. One program is
compiled for a pair in each precision and serves all clauses: a batch of estimates, and the state adapted to their statistics.
"""

import functools
import inspect
import re

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from cases import CASES, case, pairs
from jax.custom_batching import custom_vmap

import estimators
from estimators import ESTIMATORS, AbstractEstimator, ScoreFunction
from estimators.base import score

BATCH = 6


class Tally:
    """Counts the events that an objective is evaluated at, a batch of them element by element, and notes their form."""

    def __init__(self):
        self.count, self.forms = 0, set()

    def __call__(self, x):
        self.forms.add((x.shape, x.dtype))
        # Nothing flows back through a count, and `custom_vmap` has no transpose.
        self.counter(1)(jax.lax.stop_gradient(x))

    def add(self, number):
        self.count += int(number)

    @functools.cache  # noqa: B019
    def counter(self, number):
        """The identity, counting `number` each time; under `vmap` as often as there are elements, in one call-back."""

        @custom_vmap
        def count(x):
            jax.debug.callback(self.add, number)
            return x

        count.def_vmap(lambda size, batched, x: (self.counter(number * size)(x), True))
        return count


class Run:
    """One pair with its compiled program, `program(estimator, state, dist, keys) -> gradients, adapted state`."""

    def __init__(self, estimator, case_name):
        self.tally, self.traces = Tally(), 0
        self.estimator, self.case = estimator, case(case_name, self.tally)
        self.state = self.estimator.init(jax.random.key(1), self.case.dist)

        @eqx.filter_jit
        def program(estimator, state, dist, keys):
            self.traces += 1
            grads, stats = jax.vmap(lambda key: estimator.estimate(key, state, dist, self.case.f))(keys)
            return grads, estimator.adapt(state, jax.tree.map(lambda leaf: jnp.mean(leaf, axis=0), stats))

        self.program = program

    def keys(self):
        """The same keys each time, each to be used once."""
        return jax.random.split(jax.random.key(20260101), BATCH)

    @functools.cached_property
    def batch(self):
        """Gradients for all keys, and the adapted state."""
        return self.program(self.estimator, self.state, self.case.dist, self.keys())

    def eager(self, index):
        return self.estimator.estimate(self.keys()[index], self.state, self.case.dist, self.case.f)


@pytest.fixture(scope="module", params=list(pairs()), ids="-".join)
def run(request):
    estimator_name, case_name = request.param
    return Run(ESTIMATORS.create(estimator_name), case_name)


def form(tree):
    """Structure, shapes and dtypes of the arrays; the other leaves as they are."""
    leaves, structure = jax.tree.flatten(tree)
    return structure, [(leaf.shape, leaf.dtype) if eqx.is_array(leaf) else leaf for leaf in leaves]


def single(tree):
    """The same in float32."""
    return jax.tree.map(lambda leaf: leaf.astype(jnp.float32) if eqx.is_inexact_array(leaf) else leaf, tree)


def exact(estimator):
    """Whether the estimator says to have no variance."""
    return re.search(r"(no|without) variance", inspect.getdoc(type(estimator)), re.IGNORECASE) is not None


def test_gradient_has_the_form_of_the_distribution(run):
    grads, _ = jax.eval_shape(run.eager, 0)
    assert jax.tree.structure(grads) == jax.tree.structure(run.case.dist)
    for grad, leaf in zip(jax.tree.leaves(grads), jax.tree.leaves(run.case.dist), strict=True):
        assert (grad.shape, grad.dtype) == (leaf.shape, leaf.dtype)


def test_compiled_batch_equals_eager_estimates(run):
    """So `jit` changes nothing, and neither does `vmap` over keys; an estimate consumes its key once, or this raises."""
    grads, _ = run.batch
    for index in (0, BATCH - 1):
        alone, _ = run.eager(index)
        for batched, one in zip(jax.tree.leaves(grads), jax.tree.leaves(alone), strict=True):
            np.testing.assert_allclose(batched[index], one, rtol=1e-9, atol=1e-12)


def test_the_key_decides(run):
    """One key, one estimate; different keys differ unless the estimator says to have no variance."""
    first, again = run.batch[0], run.program(run.estimator, run.state, run.case.dist, run.keys())[0]
    for a, b in zip(jax.tree.leaves(first), jax.tree.leaves(again), strict=True):
        np.testing.assert_array_equal(a, b)
    spread = max(float(np.ptp(leaf, axis=0).max()) for leaf in jax.tree.leaves(first))
    assert (spread == 0) == exact(run.estimator)


def test_finite_at_extreme_parameters(run):
    """At logits of 10 and -10; a black box returns NaN off its support and for a derivative, so it was asked for neither."""
    for dist in (run.case.dist, run.case.extreme):
        for leaf in jax.tree.leaves(run.program(run.estimator, run.state, dist, run.keys())):
            assert not eqx.is_array(leaf) or np.all(np.isfinite(leaf))


def test_adapt_keeps_the_form_of_the_state(run):
    assert form(run.batch[1]) == form(run.state)


def test_one_trace_serves_all_values(run):
    """Of hyper-parameters, states and distributions. A number that is no array leaf would be compiled in."""
    program, estimator, state = run.program, run.estimator, run.state
    leaves, structure = jax.tree.flatten(estimator)
    for index, leaf in enumerate(leaves):
        if eqx.is_inexact_array(leaf):
            changed = leaves[:index] + [0.9 * leaf + 0.01] + leaves[index + 1 :]
            program(jax.tree.unflatten(structure, changed), state, run.case.dist, run.keys())
    program(estimator, run.batch[1], run.case.extreme, run.keys())
    assert run.traces == 1
    assert not any(isinstance(value, float) for value in vars(estimator).values())


def test_evaluations_are_counted(run):
    run.tally.count = 0
    run.eager(0)
    jax.effects_barrier()
    assert run.tally.count == run.estimator.evaluations(run.case.dist)
    assert run.tally.forms <= {(run.case.dist.event_shape, jnp.dtype(dtype)) for dtype in (jnp.float32, jnp.float64)}


def test_single_precision_stays_single(run):
    """With the leaves in float32, the gradient, the state and the events are, and the values are finite."""
    estimator, dist, extreme = single((run.estimator, run.case.dist, run.case.extreme))
    state = single(estimator.init(jax.random.key(1), dist))
    run.tally.forms.clear()
    for at in (dist, extreme):
        grads, adapted = run.program(estimator, state, at, run.keys())
        assert form(jax.tree.map(lambda leaf: leaf[0], grads)) == form(dist)
        assert form(adapted) == form(state)
        for leaf in jax.tree.leaves((grads, adapted)):
            assert not eqx.is_array(leaf) or np.all(np.isfinite(leaf))
    assert run.tally.forms == {(dist.event_shape, jnp.dtype(jnp.float32))}


@pytest.mark.parametrize("name", list(ESTIMATORS))
def test_declarations_and_documentation(name):
    """An estimator is a final class of the package that says what it is, and its docstring says the rest."""
    estimator, cls = ESTIMATORS.create(name), type(ESTIMATORS.create(name))
    assert re.fullmatch(r"[a-z][a-z0-9]*(-[a-z0-9]+)*", name)
    assert isinstance(estimator, AbstractEstimator) and not cls.__subclasses__()
    assert vars(estimators).get(cls.__name__) is cls, f"`{cls.__name__}` is not exported by `estimators`"
    assert isinstance(estimator.unbiased, bool) and all(inspect.isclass(need) for need in estimator.requires)
    text = inspect.getdoc(cls)
    assert re.search(r"\bunbiased\b" if estimator.unbiased else r"\bbiased\b", text, re.IGNORECASE)
    assert "$$" in text and ">>> " in text
    assert exact(estimator) or re.search(r"\*\*References:\*\* .*\d{4}", text, re.DOTALL)


def test_every_estimator_accepts_a_case_and_every_case_is_accepted():
    """An estimator that needs what no case offers would be tested by nothing; it needs a case of its own in `cases`."""
    found = list(pairs())
    assert {estimator for estimator, _ in found} == set(ESTIMATORS)
    assert {case for _, case in found} == set(CASES)


class UsesItsKeyTwice(ScoreFunction):
    def gradient(self, key, dist, f):
        x, y = dist.sample(key), dist.sample(key)
        return jax.tree.map(lambda leaf: f(y) * leaf, score(dist, x))


class Miscounts(ScoreFunction):
    def evaluations(self, dist):
        return 2


class CompilesItsNumberIn(ScoreFunction):
    factor: float = 1.0


class ForgetsThePrecision(ScoreFunction):
    def gradient(self, key, dist, f):
        x = (jax.random.uniform(key, dist.event_shape, jnp.float64) < 0.5).astype(jnp.float64)
        return jax.tree.map(lambda leaf: f(x).astype(leaf.dtype) * leaf, score(dist, x.astype(dist.logits.dtype)))


class LooksAtTheCompiler(ScoreFunction):
    def gradient(self, key, dist, f):
        noise = dist.sample(key)
        shift = 1.0 if isinstance(jax.numpy.sum(noise), jax.core.Tracer) else 0.0
        return jax.tree.map(lambda leaf: (f(noise) + shift) * leaf, score(dist, noise))


class Relaxes(ScoreFunction):
    def gradient(self, key, dist, f):
        return jax.grad(lambda d: f(d.relax(d.perturb(d.noise(key)), jnp.ones(()))))(dist)


class Grows(ScoreFunction):
    def init(self, key, dist):
        return jnp.zeros(1)

    def estimate(self, key, state, dist, f):
        return self.gradient(key, dist, f), jnp.zeros(())

    def adapt(self, state, stats):
        return jnp.append(state, stats)


@pytest.mark.parametrize(
    "double, clause, error",
    [
        (UsesItsKeyTwice, test_compiled_batch_equals_eager_estimates, jax.errors.KeyReuseError),
        (LooksAtTheCompiler, test_compiled_batch_equals_eager_estimates, AssertionError),
        (Miscounts, test_evaluations_are_counted, AssertionError),
        (CompilesItsNumberIn, test_one_trace_serves_all_values, AssertionError),
        (ForgetsThePrecision, test_single_precision_stays_single, AssertionError),
        (Relaxes, test_finite_at_extreme_parameters, AssertionError),
        (Grows, test_adapt_keeps_the_form_of_the_state, AssertionError),
    ],
)
def test_a_breach_of_the_contract_is_seen(double, clause, error):
    with pytest.raises(error):
        clause(Run(double(), "bernoulli-black-box"))
