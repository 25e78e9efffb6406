"""The unrolled systems, against loops in NumPy whose derivatives are steps along the imaginary axis."""

import equinox as eqx
import jax.numpy as jnp
import numpy as np
import pytest

from benchmarks.problems import PROBLEMS
from benchmarks.problems.base import exact_truth
from estimators import Derivative

STEP = 1e-30


def run(problem, steps, matrix):
    """`steps[w]` is in force in window `w`; the loss of each window, by a loop that takes complex numbers."""
    f = problem.f
    state, losses = np.asarray(f.start, complex), []
    for x in steps:
        loss = 0
        for _ in range(f.length):
            if hasattr(f, "target"):
                state = matrix @ state + x
                loss = loss + np.sum((state - np.asarray(f.target)) ** 2)
            else:
                state = state - matrix @ state / (1 + np.exp(-x))
                loss = loss + state @ matrix @ state / 2
        losses.append(loss / (f.length * f.windows))
    return np.array(losses)


@pytest.mark.parametrize("name", ["unrolled-linear", "unrolled-gradient-descent"])
def test_losses_and_their_derivatives(name):
    """The truth by a closed form or by automatic differentiation, the guess of truncated backpropagation, and that nothing
    acts backwards in time."""
    problem = PROBLEMS.create(name, steps=6, window=2)
    matrix, loc, number = np.asarray(problem.f.matrix), np.asarray(problem.dist.loc), problem.f.windows
    steps = np.repeat(loc[None], number, axis=0)
    np.testing.assert_allclose(problem.f.losses(jnp.asarray(steps)), run(problem, steps, matrix).real, rtol=1e-12)
    response = np.zeros((number, number, 2))
    for window in range(number):
        for entry in range(2):
            moved = steps.astype(complex)
            moved[window, entry] += 1j * STEP
            response[:, window, entry] = run(problem, moved, matrix).imag / STEP
    assert np.all(np.triu(np.abs(response).sum(axis=2), 1) == 0)
    truth = problem.truth()
    assert truth.kind == "closed form"
    np.testing.assert_allclose(truth.gradient.loc, response.sum(axis=(0, 1)), rtol=1e-11)
    np.testing.assert_allclose(
        exact_truth(problem, Derivative(), "closed form").gradient.loc, truth.gradient.loc, rtol=1e-11
    )
    guess = eqx.filter_jit(lambda f, x: f.surrogates(x))(problem.f, jnp.asarray(loc))
    np.testing.assert_allclose(guess, np.einsum("wwi->i", response)[None], rtol=1e-11)


def test_one_window_is_the_whole_run():
    """Then nothing is truncated, and the loss does not depend on where the windows are."""
    whole, parts = (PROBLEMS.create("unrolled-linear", steps=6, window=window) for window in (6, 2))
    x = jnp.asarray(whole.dist.loc)
    np.testing.assert_allclose(whole.f(x), parts.f(x), rtol=1e-12)
    guess = eqx.filter_jit(lambda f, x: f.surrogates(x))(whole.f, x)
    np.testing.assert_allclose(guess[0], whole.truth().gradient.loc, rtol=1e-11)


def test_what_makes_no_sense_is_refused():
    for name in ("unrolled-linear", "unrolled-gradient-descent"):
        with pytest.raises(ValueError, match=f"`{name}` needs `steps` to be a multiple of `window`, got 12 and 5."):
            PROBLEMS.create(name, window=5)
        with pytest.raises(ValueError, match=f"`{name}` needs `window >= 1`, got 0."):
            PROBLEMS.create(name, window=0)
    with pytest.raises(ValueError, match="`unrolled-linear` needs `0 <= memory < 1`, got 1; the system"):
        PROBLEMS.create("unrolled-linear", memory=1)
    with pytest.raises(ValueError, match="`unrolled-gradient-descent` needs `0 < rate < 1`, got 1; it is"):
        PROBLEMS.create("unrolled-gradient-descent", rate=1)
