"""The contract of `estimators.base`, clause by clause, of every registered estimator on every case that it accepts.

The pairs are derived (see `cases`), and a new estimator is held to all of this by being registered. One program is
compiled for a pair and serves all its clauses: a batch of estimates, and the state adapted to their statistics.
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
from estimators.base import evaluations, score

BATCH = 6
PAIRS = list(pairs())
FIRST = list({name: (name, case_name) for name, case_name in reversed(PAIRS)}.values())[::-1]
# Of an estimator that accepts many cases a few stand for the others, spread over the list; `-m slow` runs them all.
MOST_CASES = 3


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
    """One pair in one precision, and its program `(estimator, state, dist, keys) -> gradients, adapted state`."""

    def __init__(self, estimator, case_name, dtype=jnp.float32):
        self.tally, self.traces, self.dtype = Tally(), 0, dtype
        dist, extreme, self.f = case(case_name, self.tally)
        self.estimator, self.dist, self.extreme = self.cast((estimator, dist, extreme))
        self.state = self.cast(eqx.filter_jit(self.estimator.init)(jax.random.key(1), self.dist))

        @eqx.filter_jit
        def program(estimator, state, dist, keys):
            self.traces += 1

            def one(key, zero):
                # An event that does not depend on the key would be counted once for the whole batch.
                f = case(case_name, lambda x: self.tally(x + zero)).f
                return estimator.estimate(key, state, dist, f)

            grads, stats = jax.vmap(one)(keys, jnp.zeros(BATCH, dtype))
            return grads, estimator.adapt(state, jax.tree.map(lambda leaf: jnp.mean(leaf, axis=0), stats))

        self.program = program

    def cast(self, tree):
        return jax.tree.map(lambda leaf: leaf.astype(self.dtype) if eqx.is_inexact_array(leaf) else leaf, tree)

    def keys(self):
        """The same keys each time, each to be used once."""
        return jax.random.split(jax.random.key(20260101), BATCH)

    @functools.cached_property
    def batch(self):
        """Gradients for all keys, and the adapted state."""
        return self.program(self.estimator, self.state, self.dist, self.keys())


def in_default_run(pair):
    """Whether the pair is among the first `MOST_CASES` of its estimator when its cases are taken evenly from the list."""
    accepted = [other for other in PAIRS if other[0] == pair[0]]
    step = -(-len(accepted) // MOST_CASES)
    return accepted.index(pair) % step == 0


RUNS = [pytest.param(pair, marks=() if in_default_run(pair) else pytest.mark.slow, id="-".join(pair)) for pair in PAIRS]


@pytest.fixture(scope="module", params=RUNS)
def run(request):
    """Each pair in float32, the precision of the suite; where a draw is made in another, an event or a leaf shows it."""
    estimator_name, case_name = request.param
    return Run(ESTIMATORS.create(estimator_name), case_name)


def form(tree):
    """Structure, shapes and dtypes of the arrays; the other leaves as they are."""
    leaves, structure = jax.tree.flatten(tree)
    return structure, [(leaf.shape, leaf.dtype) if eqx.is_array(leaf) else leaf for leaf in leaves]


def exact(estimator):
    """Whether the estimator says to have no variance."""
    return re.search(r"(no|without) variance", inspect.getdoc(type(estimator)), re.IGNORECASE) is not None


def test_gradient_has_the_form_of_the_distribution(run):
    grads, _ = run.batch
    assert form(jax.tree.map(lambda leaf: leaf[0], grads)) == form(run.dist)


def test_the_key_decides(run):
    """One key gives one estimate, wherever in a batch it stands; keys differ unless the estimator says to have no variance.
    An estimate consumes its key once, or the program raises."""
    grads, _ = run.batch
    rolled, _ = run.program(run.estimator, run.state, run.dist, jnp.roll(run.keys(), 1))
    for leaf, other in zip(jax.tree.leaves(grads), jax.tree.leaves(rolled), strict=True):
        np.testing.assert_allclose(np.roll(leaf, 1, axis=0), other, rtol=1e-4, atol=1e-5)
    spread = max(float(np.ptp(leaf, axis=0).max()) for leaf in jax.tree.leaves(grads))
    assert (spread == 0) == exact(run.estimator)


def test_finite_at_extreme_parameters(run):
    """At logits of 10 and -10; a black box returns NaN off its support and for a derivative, so it was asked for neither."""
    for dist in (run.dist, run.extreme):
        made = run.program(run.estimator, run.state, dist, run.keys())
        for leaf in jax.tree.leaves(eqx.filter(made, eqx.is_inexact_array)):
            assert np.all(np.isfinite(leaf))


def test_adapt_keeps_the_form_of_the_state(run):
    assert form(run.batch[1]) == form(run.state)


def test_one_trace_serves_all_values(run):
    """Of hyper-parameters, states and distributions."""
    leaves, structure = jax.tree.flatten(run.estimator)
    for index, leaf in enumerate(leaves):
        if eqx.is_inexact_array(leaf):
            changed = leaves[:index] + [0.9 * leaf + 0.01] + leaves[index + 1 :]
            run.program(jax.tree.unflatten(structure, changed), run.state, run.dist, run.keys())
    run.program(run.estimator, run.batch[1], run.extreme, run.keys())
    assert run.traces == 1
    assert not any(isinstance(leaf, float) for leaf in leaves), "A number that is no array is compiled in."


def test_evaluations_are_counted(run):
    """And made at events of the right form."""
    run.tally.count = 0
    run.program(run.estimator, run.state, run.dist, run.keys())
    jax.effects_barrier()
    assert run.tally.count == BATCH * evaluations(run.estimator, run.dist, run.f)
    assert run.tally.forms == {(run.dist.event_shape, jnp.dtype(run.dtype))}


def eager(pair):
    """The pair, marked slow unless its estimator is the first of its file: without a compiler an estimate takes seconds."""
    module = type(ESTIMATORS.create(pair[0])).__module__
    first = next(name for name, _ in FIRST if type(ESTIMATORS.create(name)).__module__ == module)
    return pytest.param(*pair, marks=() if pair[0] == first else pytest.mark.slow)


@pytest.mark.parametrize("estimator_name, case_name", [eager(pair) for pair in FIRST])
def test_compiled_batch_equals_eager_estimates(estimator_name, case_name):
    compiled_batch_equals_eager_estimates(Run(ESTIMATORS.create(estimator_name), case_name, jnp.float64))


def compiled_batch_equals_eager_estimates(run):
    """`jit` changes nothing, and neither does `vmap` over keys; to the precision of float64."""
    grads, adapted = run.batch
    assert form(adapted) == form(run.state)
    for index in (0, BATCH - 1):
        alone, _ = run.estimator.estimate(run.keys()[index], run.state, run.dist, run.f)
        assert form(alone) == form(run.dist)
        for batched, one in zip(jax.tree.leaves(grads), jax.tree.leaves(alone), strict=True):
            np.testing.assert_allclose(batched[index], one, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("name", list(ESTIMATORS))
def test_declarations_and_documentation(name):
    """An estimator is a final class of the package that says what it is, and its docstring says the rest."""
    estimator, cls = ESTIMATORS.create(name), type(ESTIMATORS.create(name))
    assert re.fullmatch(r"[a-z][a-z0-9]*(-[a-z0-9]+)*", name)
    assert isinstance(estimator, AbstractEstimator) and not inspect.isabstract(cls)
    assert all(inspect.isabstract(base) for base in cls.__mro__[1:] if issubclass(base, AbstractEstimator))
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
        x = dist.sample(key)
        shift = 1.0 if isinstance(x, jax.core.Tracer) else 0.0
        return jax.tree.map(lambda leaf: (f(x) + shift) * leaf, score(dist, x))


@custom_vmap
def across_the_batch(x):
    return x


across_the_batch.def_vmap(lambda size, batched, x: (x - x[:1], True))


class LooksAtItsBatch(ScoreFunction):
    def gradient(self, key, dist, f):
        x = dist.sample(key)
        value = across_the_batch(f(x))
        return jax.tree.map(lambda leaf: value * leaf, score(dist, x))


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
        (UsesItsKeyTwice, test_the_key_decides, jax.errors.KeyReuseError),
        (LooksAtItsBatch, test_the_key_decides, AssertionError),
        (LooksAtTheCompiler, compiled_batch_equals_eager_estimates, AssertionError),
        (Miscounts, test_evaluations_are_counted, AssertionError),
        (CompilesItsNumberIn, test_one_trace_serves_all_values, AssertionError),
        (ForgetsThePrecision, test_evaluations_are_counted, AssertionError),
        (Relaxes, test_finite_at_extreme_parameters, AssertionError),
        (Grows, test_adapt_keeps_the_form_of_the_state, AssertionError),
    ],
)
def test_a_breach_of_the_contract_is_seen(double, clause, error):
    with pytest.raises(error):
        clause(Run(double(), "bernoulli-black-box"))
