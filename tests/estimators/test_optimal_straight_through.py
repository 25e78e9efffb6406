"""The optimal straight-through estimator against what defines it: exact for quadratics, and the least that is so.

The estimate is linear in the derivative at its event. With affine objectives of unit slopes its matrices are read off
and compared with the solution of least norm of the equations of exactness, by a general least-squares routine.
"""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from enumerated import ONE_OF_FOUR, TWO_OF_THREE, PrescribedCategorical, enumerated, jacobian, polynomial
from prescribed import counted_evaluations
from scipy import special

from estimators import ZGR, Bernoulli, BlackBox, Categorical, incompatibility
from estimators.optimal_straight_through import OptimalStraightThrough

PAIR = np.array([[0.4, -0.9]])
LOPSIDED = np.log([[0.98, 0.01, 0.01]])


@eqx.filter_jit
def _matrices(estimator, logits):
    def column(event, slope):
        dist = PrescribedCategorical(logits[None], event[None])
        return estimator.gradient(jax.random.key(0), dist, lambda x: jnp.vdot(slope, x)).logits[0]

    each = jnp.eye(logits.size)
    return jax.vmap(lambda event: jax.vmap(lambda slope: column(event, slope), out_axes=1)(each))(each)


def matrices(estimator, logits):
    """`M_c` for each category of one variable."""
    return np.asarray(_matrices(estimator, jnp.asarray(logits[0])))


def least(pi):
    """The matrices exact for `e_k . x` and `(e_c . x) (e_k . x)`, of least `sum_c pi_c ||M_c||^2`, row by row.

    The mean derivative of the monomial `(e_c . x) (e_k . x)` is that of `pi_c 1[c = k]`.
    """
    size, (each, half) = len(pi), (np.eye(len(pi)), np.sqrt(pi))
    rows, right = [], []
    for k in range(size):
        rows.append(half[:, None] * each[k])
        right.append(jacobian(pi)[k])
    for c in range(size):
        for k in range(c + 1):
            slopes = np.outer(each[:, c], each[k]) + np.outer(each[:, k], each[c])
            rows.append(half[:, None] * slopes)
            right.append(jacobian(pi)[k] if c == k else np.zeros(size))
    solution, *_ = np.linalg.lstsq(np.reshape(rows, (len(rows), -1)), np.array(right), rcond=1e-12)
    return np.moveaxis(solution.reshape(size, size, size), 2, 1) / half[:, None, None]


def second_moment(pi, made):
    return np.einsum("c,cij->", pi, made**2)


@pytest.mark.parametrize("logits", [PAIR, TWO_OF_THREE[:1], LOPSIDED, ONE_OF_FOUR], ids=lambda logits: f"{logits.size}")
def test_it_is_the_least_of_those_that_are_exact_for_quadratics(logits):
    pi = special.softmax(logits[0])
    made = matrices(OptimalStraightThrough(), logits)
    np.testing.assert_allclose(made, least(pi), rtol=1e-8, atol=1e-11)
    zgr = matrices(ZGR(), logits)
    if len(pi) == 2:
        np.testing.assert_allclose(made, zgr, rtol=1e-12)
    else:
        assert second_moment(pi, made) < 0.999 * second_moment(pi, zgr)


def test_where_all_categories_are_alike_it_is_zgr():
    logits = np.zeros((1, 4))
    np.testing.assert_allclose(
        matrices(OptimalStraightThrough(), logits), matrices(ZGR(), logits), rtol=1e-12, atol=1e-14
    )


@pytest.mark.parametrize("logits", [TWO_OF_THREE, ONE_OF_FOUR], ids=["two of three", "one of four"])
def test_it_is_exact_for_what_is_quadratic_in_each_variable_and_no_further(logits):
    made = enumerated(OptimalStraightThrough(), logits, polynomial(logits, quadratic=True, squares=True))
    np.testing.assert_allclose(made.mean, made.exact, rtol=1e-11, atol=1e-13)
    np.testing.assert_allclose(made.estimates.sum(axis=-1), 0, atol=1e-13)
    cubic = enumerated(OptimalStraightThrough(), logits, polynomial(logits, cubic=True))
    assert np.all(np.abs(cubic.mean - cubic.exact) > 1e-3)


def test_bias_beyond_quadratics_is_the_flow():
    """`sum_c pi_c M_c f'(e_c)`, with the matrices from the general solution."""
    made = enumerated(OptimalStraightThrough(), ONE_OF_FOUR, polynomial(ONE_OF_FOUR, quadratic=True, cubic=True))
    pi = special.softmax(ONE_OF_FOUR[0])
    expected = np.einsum("c,cij,cj->i", pi, least(pi), made.slopes[:, 0])
    np.testing.assert_allclose(made.mean[0], expected, rtol=1e-9)


@pytest.mark.parametrize("dtype, tolerance", [(jnp.float64, 1e-9), (jnp.float32, 1e-4)])
def test_rare_categories(dtype, tolerance):
    """With probabilities of `2e-9` and `4e-5` beside 1: the mean for an affine `f` is the gradient, to precision."""
    logits = jnp.array([[-10.0, 0.0, 10.0]], dtype)
    slope = jnp.array([1.0, -2.0, 0.5], dtype)

    def estimate(event):
        dist = PrescribedCategorical(logits, event[None])
        return OptimalStraightThrough().gradient(jax.random.key(0), dist, lambda x: jnp.vdot(slope, x[0])).logits[0]

    made = np.asarray(jax.vmap(estimate)(jnp.eye(3, dtype=dtype)), float)
    pi = special.softmax([-10.0, 0.0, 10.0])
    np.testing.assert_allclose(pi @ made, jacobian(pi) @ np.asarray(slope, float), rtol=tolerance)


def test_declared_evaluations_and_refusals():
    dist = Categorical(TWO_OF_THREE)
    assert counted_evaluations(OptimalStraightThrough(), dist) == OptimalStraightThrough().evaluations(dist) == 1
    reason = incompatibility(OptimalStraightThrough(), Bernoulli([0.0]), np.sum)
    assert reason == "`OptimalStraightThrough` needs a `Categorical` distribution, and `Bernoulli` is not one."
    reason = incompatibility(OptimalStraightThrough(), dist, BlackBox(np.sum))
    assert reason == (
        "`OptimalStraightThrough` needs a differentiable objective, and `BlackBox` does not declare to be one."
    )
