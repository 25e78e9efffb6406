"""The parameter-shift rule, summed over the cells of the uniform variables on which no bit changes at either end."""

import itertools
import math

import jax
import numpy as np
import pytest
from counts import prescribed
from prescribed import Tangled, counted_evaluations, exact_gradient, moments
from scipy import special

from estimators import Bernoulli, Normal, ParameterShift, incompatibility

LOGITS = np.array([-1.0, 0.4, 1.3])


def integrated(estimator, logits, f, shift):
    """Mean and variance; the shift is that of the cells, and of the estimator if it is right."""
    angle = np.arccos(1 - 2 * special.expit(logits))
    thresholds = np.sin((angle + shift * np.arange(-1, 2)[:, None]) / 2) ** 2
    edges = np.sort(np.concatenate([np.zeros((1, logits.size)), thresholds, np.ones((1, logits.size))]), axis=0)
    middles = np.array(list(itertools.product(*((edges[1:] + edges[:-1]) / 2).T)))
    volumes = np.prod(list(itertools.product(*np.diff(edges, axis=0).T)), axis=1)
    return moments(volumes, prescribed(estimator, Bernoulli(logits), f, middles).logits)


@pytest.mark.parametrize("shift", [0.2, math.pi / 2, 2.9])
def test_the_mean_is_the_gradient_whatever_the_shift(shift):
    mean, _ = integrated(ParameterShift(shift), LOGITS, Tangled(), shift)
    np.testing.assert_allclose(mean, exact_gradient(LOGITS, Tangled()), rtol=1e-11)


class InLogits(ParameterShift):
    """Wrong on purpose: the derivative in the angles."""

    def gradient(self, key, dist, f):
        grads = ParameterShift.gradient(self, key, dist, f)
        return jax.tree.map(lambda leaf, p: leaf / (p * (1 - p)) ** 0.5, grads, Bernoulli(dist.mean()))


def test_the_derivative_in_the_angles_is_rejected():
    with pytest.raises(AssertionError, match="Not equal to tolerance"):
        mean, _ = integrated(InLogits(), LOGITS, Tangled(), math.pi / 2)
        np.testing.assert_allclose(mean, exact_gradient(LOGITS, Tangled()), rtol=1e-11)


@pytest.mark.parametrize("logit", [-1.2, 0.0])
@pytest.mark.parametrize("shift", [0.7, math.pi / 2])
def test_closed_form_variance_of_one_bit(logit, shift):
    """The ends differ with probability `2 sin(s) sqrt(v)`; at `p = 1/2` and a quarter turn they always do."""
    root, difference = math.sqrt(special.expit(logit) * special.expit(-logit)), -1.4
    mean, variance = integrated(ParameterShift(shift), np.array([logit]), lambda x: 0.3 + difference * x[0], shift)
    np.testing.assert_allclose(mean, [root**2 * difference], rtol=1e-12)
    exact = difference**2 * root**3 * (1 / math.sin(shift) - 2 * root) / 2
    np.testing.assert_allclose(variance, [exact], rtol=1e-10, atol=1e-15)


def test_declared_evaluations_and_refusals():
    assert (
        counted_evaluations(ParameterShift(), Bernoulli(LOGITS)) == ParameterShift().evaluations(Bernoulli(LOGITS)) == 6
    )
    for shift, bound in ((0.0, "> 0"), (3.2, "< 3.14159")):
        with pytest.raises(ValueError, match=f"`ParameterShift` needs `shift {bound}`, got {shift}"):
            ParameterShift(shift)
    reason = incompatibility(ParameterShift(), Normal([0.0], [0.0]), lambda x: x[0])
    assert reason == "`ParameterShift` needs a `Bernoulli` distribution, and `Normal` is not one."
