"""Assertions for other projects: a slip is found and named, what is right passes, and what cannot be told says so."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from benchmarks.planted import planted
from benchmarks.testing import assert_unbiased, assert_variance_below
from estimators import Bernoulli, LeaveOneOut

LOGITS = np.array([-1.0, 0.5, 2.0])


def nonseparable(x):
    return (x[0] + 2 * x[1] - x[2] - 0.3) ** 2


def pair():
    """A distribution and an `f`."""
    return Bernoulli(jnp.asarray(LOGITS)), nonseparable


def noisy(key):
    """A function of a key as another project has it: a dict, its mean zero and one, its standard deviations one and two."""
    first, second = jax.random.split(key)
    return {"a": jax.random.normal(first, (2,)), "b": 1 + 2 * jax.random.normal(second)}


TRUTH = {"a": np.zeros(2), "b": np.ones(())}


@pytest.mark.parametrize("slip", planted())
def test_planted_bugs_are_found(slip):
    with pytest.raises(AssertionError, match="is biased"):
        assert_unbiased(planted()[slip], pair(), warm_up_steps=100)


def test_what_is_right_passes_in_every_form_of_truth():
    assert_unbiased(LeaveOneOut(num_samples=2), pair())
    assert_unbiased(noisy, TRUTH, replicates=20_000, detects=0.2)
    assert_unbiased(noisy, noisy, replicates=20_000, detects=0.2)


def test_a_failure_names_the_coordinate():
    wrong = {"a": np.array([0.0, 0.5]), "b": np.ones(())}
    with pytest.raises(AssertionError, match=r"1 of 3 coordinates(.|\n)*\['a'\]\[1\]"):
        assert_unbiased(noisy, wrong, replicates=20_000, detects=0.2)


def test_too_few_replicates_are_no_evidence():
    """A hundred cannot see a bias of a hundredth of a standard deviation, and say so unless that is allowed."""
    with pytest.raises(AssertionError, match="replicates"):
        assert_unbiased(noisy, TRUTH, replicates=100, detects=0.01)
    assert_unbiased(noisy, TRUTH, replicates=100, detects=0.01, allow_underpowered=True)


def test_variances_are_held_against_bounds():
    """The trace is six; per coordinate it is one, one and four."""
    assert_variance_below(noisy, 6.5, replicates=20_000)
    with pytest.raises(AssertionError):
        assert_variance_below(noisy, 5.5, replicates=20_000)
    assert_variance_below(noisy, {"a": np.full(2, 1.2), "b": np.array(4.8)}, replicates=20_000)
    with pytest.raises(AssertionError, match=r"\['b'\]"):
        assert_variance_below(noisy, {"a": np.full(2, 1.2), "b": np.array(3.2)}, replicates=20_000)


def test_arguments_that_make_no_test_are_sentences():
    with pytest.raises(ValueError, match="structure of the gradient"):
        assert_unbiased(noisy, {"a": np.zeros(3), "b": np.ones(())}, replicates=100)
    with pytest.raises(ValueError, match="probability"):
        assert_unbiased(noisy, TRUTH, false_alarm=2.0)
    with pytest.raises(ValueError, match="sets no scale"):
        assert_unbiased(lambda key: jax.random.normal(key, (2,)), np.zeros(2), replicates=100)
