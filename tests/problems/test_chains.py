"""Chains, against the sum over all events where it is short, and at full length against messages from both ends.

The second route knows nothing of the distributions nor of derivatives: for independent variables,
`d/d logit_vc E[f] = pi_vc (E[f | variable v is c] - E[f])`.
"""

import jax
import numpy as np
import pytest

from benchmarks.problems import PROBLEMS, chains
from benchmarks.problems.base import exact_truth
from estimators import Enumeration

NAMES = [name for name in PROBLEMS if PROBLEMS.factory(name).__module__ == chains.__name__]
SHORT = {"bernoulli": {"dimension": 7}, "categorical": {"variables": 4, "categories": 3}}


def definition(name):
    """Probabilities and tables of the problem at its defaults, written out again."""
    if name.startswith("bernoulli"):
        p = 1 / (1 + np.exp(-(np.arange(50) * 2.5 / 49 - 1.5)))
        couplings = np.random.RandomState(0).standard_normal(49)
        return np.stack([1 - p, p], axis=1), np.stack([j * np.array([[1, -1], [-1, 1]]) for j in couplings])
    generator = np.random.RandomState(0)
    weights = np.exp(generator.standard_normal((50, 4)))
    return weights / weights.sum(axis=1, keepdims=True), generator.standard_normal((49, 4, 4))


def mean_energy_given(pi, tables):
    """`E[sum of the tables | variable v is c]` less what does not depend on `c`: the tables to the left and right."""
    given = np.zeros_like(pi)
    for v, table in enumerate(tables):
        given[v] += table @ pi[v + 1]
        given[v + 1] += pi[v] @ table
    return given


def mean_weight_given(pi, tables):
    """`E[exp(sum of the tables / 7) | variable v is c]`: a message from the left times one from the right."""
    factors = np.exp(tables / 7)
    left, right = np.ones_like(pi), np.ones_like(pi)
    for v in range(len(factors)):
        left[v + 1] = (left[v] * pi[v]) @ factors[v]
    for v in reversed(range(len(factors))):
        right[v] = factors[v] @ (right[v + 1] * pi[v + 1])
    return left * right


@pytest.mark.parametrize("name", NAMES)
def test_truth_of_fifty_variables(name):
    pi, tables = definition(name)
    given = (mean_weight_given if name.endswith("weight") else mean_energy_given)(pi, tables)
    expected = pi * (given - np.sum(pi * given, axis=1, keepdims=True))
    truth = PROBLEMS.create(name).truth()
    assert truth.kind == "closed form"
    expected = expected[:, 1] if name.startswith("bernoulli") else expected
    np.testing.assert_allclose(truth.gradient.logits, expected, rtol=1e-9, atol=1e-14)


@pytest.mark.parametrize("name", NAMES)
def test_truth_of_a_short_chain_is_the_sum_over_its_events(name):
    problem = PROBLEMS.create(name, **SHORT[name.split("-")[0]])
    enumerated = exact_truth(problem, Enumeration(), "enumeration")
    np.testing.assert_allclose(problem.truth().gradient.logits, enumerated.gradient.logits, rtol=1e-10, atol=1e-14)


@pytest.mark.parametrize("name", NAMES)
def test_values_are_those_of_neighbours(name):
    problem = PROBLEMS.create(name)
    _, tables = definition(name)
    event = problem.dist.sample(jax.random.key(0))
    x = np.asarray(event)
    states = (x if x.ndim == 1 else x.argmax(axis=-1)).astype(int)
    total = sum(table[a, b] for table, a, b in zip(tables, states, states[1:], strict=False))
    expected = np.exp(total / 7) if name.endswith("weight") else total
    np.testing.assert_allclose(problem.f(event), expected, rtol=1e-11)


@pytest.mark.parametrize("name", NAMES)
def test_a_chain_has_two_links(name):
    argument = "dimension" if name.startswith("bernoulli") else "variables"
    with pytest.raises(ValueError, match=f"`{name}` needs `{argument} >= 2`, got 1"):
        PROBLEMS.create(name, **{argument: 1})
