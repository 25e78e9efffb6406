r"""Many control variates at once, with the coefficients of least variance found by regression.

If the columns of $W$ are random vectors of mean zero, $g - W a$ has the mean of $g$ for every fixed $a$, and the least
variance where $E[W^\top W]\, a = E[W^\top g]$. Both expectations are small matrices and are estimated along the way,
from estimates of the past; the present one never sees its own sample in $a$, or it would be biased.
"""

from typing import ClassVar

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, PyTree

from .base import AbstractEstimator, Grads, PRNGKey
from .baselines import RunningMean
from .distributions import AbstractDistribution, AbstractFixedSupport, AbstractReparameterizable, AbstractUncorrelated
from .distributions.base import Noise, Scalar, as_floating, precision
from .objectives import AbstractDifferentiable, Objective
from .registration import ESTIMATORS
from .taylor import expansion
from .validation import require_positive

MEMBERS = 4


@ESTIMATORS.register("control-variate-ensemble")
class ControlVariateEnsemble(AbstractEstimator):
    r"""The pathwise estimator with an ensemble of control variates, weighted by regularised least squares.

    With $g$ the pathwise estimate, the columns of $W$ the control variates below, and for each leaf the coefficients

    $$\hat g = g - W a, \qquad a = D (D \overline{W^\top W} D + \lambda I)^{-1} D\, \overline{W^\top g},$$

    where the bars are means over all estimates of the past, $D$ is diagonal and scales $\overline{W^\top W}$ to ones on
    its diagonal, and $\lambda$ is the `ridge`. With $q_1$ and $q_2$ the terms of first and second order of the
    expansion of `f` about the mean $\mu$, $x = T(\varepsilon; \theta)$, and $s$ the score at $x$, the columns are

    $$\nabla_\theta (E[q_1(x)] - q_1(x)), \quad \nabla_\theta (E[q_2(x)] - q_2(x)), \quad f(\mu)\, s, \quad
    (f(x) - f(\mu))\, s - \nabla_\theta f(x).$$

    Unbiased, because each column has mean zero and $a$ has not seen $x$. Before anything was seen, $a = 0$ and this is
    `Pathwise`. Needs a reparameterizable distribution of uncorrelated variables with known moments, and an `f` that is
    differentiable twice; two evaluations of `f` with their derivatives, and at the mean as many Hessian-vector
    products as an event has numbers.

    >>> from estimators import Normal
    >>> estimator, dist = ControlVariateEnsemble(), Normal(loc=[0.0], log_scale=[0.0])
    >>> print(estimator.coefficients(estimator.init(jax.random.key(0), dist)).loc)
    [0. 0. 0. 0.]

    Each leaf has coefficients of its own, where the paper has one set for all of them. The first two columns are those
    of `RVRGE`, the others make a score-function estimate with a baseline of the pathwise one. The paper's ensemble for
    evidence bounds has terms for their entropy and their prior, which a general `f` does not reveal, and its
    regularisation is that of a prior on the moments; this is a ridge.

    **References:** Geffner and Domke, Using large ensembles of control variates for variational inference, 2018,
    arXiv:1810.12482.
    """

    ridge: Float[Array, ""] = eqx.field(converter=as_floating, default=1e-3)

    unbiased: ClassVar[bool] = True
    requires: ClassVar[tuple[type, ...]] = (
        AbstractFixedSupport,
        AbstractReparameterizable,
        AbstractUncorrelated,
        AbstractDifferentiable,
    )

    def __check_init__(self):
        require_positive(self, "ridge")

    def init(self, key: PRNGKey, dist: AbstractDistribution) -> RunningMean:
        del key
        gram = jax.tree.map(lambda leaf: jnp.zeros((MEMBERS, MEMBERS), leaf.dtype), dist)
        cross = jax.tree.map(lambda leaf: jnp.zeros(MEMBERS, leaf.dtype), dist)
        return RunningMean((gram, cross), jnp.zeros((), precision(dist)))

    def coefficients(self, state: RunningMean) -> AbstractDistribution:
        """The vector `a` of each leaf; zero for what has been zero so far."""

        def solve(gram: Float[Array, "members members"], cross: Float[Array, "members"]) -> Float[Array, "members"]:
            diagonal = jnp.diagonal(gram)
            scale = jnp.where(diagonal > 0, 1 / jnp.sqrt(jnp.where(diagonal > 0, diagonal, 1)), 0)
            regularised = jnp.outer(scale, scale) * gram + self.ridge.astype(gram.dtype) * jnp.eye(len(cross))
            factor = jax.scipy.linalg.cho_factor(regularised.astype(gram.dtype))
            return scale * jax.scipy.linalg.cho_solve(factor, scale * cross)

        return jax.tree.map(solve, *state.mean)

    def estimate(self, key: PRNGKey, state: RunningMean, dist: Grads, f: Objective) -> tuple[Grads, PyTree]:
        path, columns = members(dist, f, dist.noise(key))
        weights = self.coefficients(state)
        grads = jax.tree.map(lambda g, w, a: g - jnp.tensordot(a, w, axes=1), path, columns, weights)
        flat = jax.tree.map(lambda w: w.reshape(MEMBERS, -1), columns)
        gram = jax.tree.map(lambda w: w @ w.T, flat)
        return grads, (gram, jax.tree.map(lambda w, g: w @ jnp.ravel(g), flat, path))

    def adapt(self, state: RunningMean, stats: PyTree) -> RunningMean:
        return state.updated(stats, 1.0)

    def evaluations(self, dist: AbstractDistribution) -> int:
        del dist
        return 2


def members(dist: Grads, f: Objective, noise: Noise) -> tuple[Grads, Grads]:
    """The pathwise estimate, and the control variates stacked along a new first axis of each leaf."""
    quadratic, x = expansion(f, dist.mean()), dist.reparameterize(noise)
    first = eqx.tree_at(lambda q: q.curvature, quadratic, jnp.zeros_like(quadratic.curvature))
    second = eqx.tree_at(lambda q: q.slope, quadratic, jnp.zeros_like(quadratic.slope))

    def terms(d: Grads) -> tuple[Scalar, Scalar, Scalar, Scalar]:
        moved = d.reparameterize(noise)
        return f(moved), first.expectation(d) - first(moved), second.expectation(d) - second(moved), d.log_prob(x)

    (value, *_), pullback = jax.vjp(terms, dist)
    # Rows of the identity pull back one term each.
    path, linear, curved, slopes = (pullback(tuple(row))[0] for row in jnp.eye(4, dtype=value.dtype))
    baseline = jax.tree.map(lambda s: quadratic.value * s, slopes)
    exchange = jax.tree.map(lambda s, g: (value - quadratic.value) * s - g, slopes, path)
    return path, jax.tree.map(lambda *columns: jnp.stack(columns), linear, curved, baseline, exchange)
