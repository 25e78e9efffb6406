r"""Implicit maximum likelihood: how far the argmax moves when a gradient step is taken on what it maximises.

The derivative of the mean event $m(\eta)$ along a slope $w$ is a difference of two means, and both come from the argmax
of perturbed logits:

$$\tfrac1\lambda\, E[\mathrm{harden}(z) - \mathrm{harden}(z - \lambda w)] = \tfrac1\lambda\, [m(\eta) - m(\eta - \lambda w)]
\;\to\; m'(\eta)\, w,$$

for a $w$ that does not depend on the noise: perturbation-based implicit differentiation. Here $w = f'(x)$ is taken at
the sample, and the argmax of the same noise is asked whether it would leave $x$. It does so only where the slope *at
$x$* points away from $x$, which the identity above does not allow for unless the slope is one and the same everywhere.

A step up as well as down mends that. An event $e_k$ is left for $e_j$ with the probability $\lambda \pi_j \pi_k |w_j -
w_k|$, to first order in $\lambda$ and with $w$ the slope at $e_k$, by one of the two steps or the other, and the
difference of the two events has the sign of $w_j - w_k$ either way:

$$\tfrac{1}{2 \lambda}\, E[\mathrm{harden}(z + \lambda w) - \mathrm{harden}(z - \lambda w)] \;\to\;
\tfrac12 \sum_{j, k} \pi_j \pi_k\, (w_j - w_k)\, (e_j - e_k), \qquad w = f'(e_k),$$

which is the mean of `ZGR`: the trapezoidal rule between any two categories, exact for quadratics.
"""

from typing import ClassVar

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from .base import AbstractEstimator, AbstractStatelessEstimator, Grads, PRNGKey, squared_norm
from .baselines import RunningMean, require_decay
from .distributions import AbstractAdditivelyPerturbed, AbstractDistribution
from .distributions.base import Scalar, as_floating, precision
from .objectives import AbstractDifferentiable, Objective
from .registration import ESTIMATORS
from .validation import require_at_least, require_positive


@ESTIMATORS.register("imle")
class IMLE(AbstractStatelessEstimator):
    r"""Implicit maximum likelihood estimation (I-MLE): the move of the event under a step down the slope of `f`.

    With $z$ the perturbed logits, $x = \mathrm{harden}(z)$ and $\lambda$ the `step`,

    $$\hat g = \frac{1}{\lambda}\, [x - \mathrm{harden}(z - \lambda f'(x))].$$

    Biased, and not only at a large step. For one bit of probability $p$ the mean tends to
    $p (1 - p) [\max(f'(1), 0) + \min(f'(0), 0)]$ as $\lambda \to 0$; for a categorical variable to
    $\sum_{jk} \pi_j \pi_k \max(f'_k(e_k) - f'_j(e_k), 0)\, (e_k - e_j)$. For an affine `f` that is the gradient. For
    $f(b) = (b - t)^2$ with $t$ in $(0, 1)$ it is twice the gradient. The variance grows like $1 / \lambda$: an estimate
    is zero unless the event moves, and of size $1 / \lambda$ if it does. Needs a distribution that is perturbed
    additively and a differentiable `f`; one evaluation of `f` with its derivative.

    >>> from estimators import Bernoulli
    >>> IMLE(step=10.0).evaluations(Bernoulli(logits=[0.0]))
    1

    The noise is that of `dist`, at temperature 1 and the same in both argmaxes, so that $x$ is a sample of `dist`. The
    first paper leaves out the factor $1 / \lambda$, which its learning rate takes up; with it a limit exists. Black-box
    differentiation of a solver, applied to the argmax of the *perturbed* logits, is the same estimator: its solver
    minimises $\langle c, x \rangle$ for costs $c = -z$, its gradient with respect to them is
    $-\frac1\lambda [x - \mathrm{solve}(c + \lambda f'(x))]$, and the sign turns with the costs. For an affine `f` it is
    `DirectLossMinimization` with `epsilon` $= -\lambda$.

    **References:** Niepert, Minervini and Franceschi, Implicit MLE: backpropagating through discrete exponential family
    distributions, 2021, arXiv:2106.01798. Vlastelica, Paulus, Musil, Martius and Rolínek, Differentiation of blackbox
    combinatorial solvers, 2020, arXiv:1912.02175. Domke, Implicit differentiation by perturbation, 2010.
    """

    step: Float[Array, ""] = eqx.field(converter=as_floating, default=1.0)

    unbiased: ClassVar[bool] = False
    requires: ClassVar[tuple[type, ...]] = (AbstractAdditivelyPerturbed, AbstractDifferentiable)

    def __check_init__(self):
        require_positive(self, "step")

    def gradient(self, key: PRNGKey, dist: Grads, f: Objective) -> Grads:
        noise = dist.noise(key)
        z, pullback = jax.vjp(lambda d: d.perturb(noise), dist)
        x, step = dist.harden(z), self.step.astype(noise.dtype)
        moved = dist.harden(z - step * jax.grad(f)(x))
        return pullback((x - moved) / step)[0]

    def evaluations(self, dist: AbstractDistribution) -> int:
        del dist
        return 1


class AdaptedStep(eqx.Module):
    """The relative size of the step, and the running mean of how many entries of an estimate are not zero."""

    alpha: Scalar
    moved: RunningMean


@ESTIMATORS.register("aimle")
class AIMLE(AbstractEstimator):
    r"""Adaptive implicit maximum likelihood (AIMLE): a centred difference whose step is as small as it can be.

    With $z$ the perturbed logits, $\theta$ those without noise, $x = \mathrm{harden}(z)$, $w = f'(x)$ and the step
    $\lambda = \alpha\, \|\theta\| / \|w\|$,

    $$\hat g = \frac{1}{2 \lambda}\, [\mathrm{harden}(z + \lambda w) - \mathrm{harden}(z - \lambda w)].$$

    $\alpha$ is a state, `alpha` at first. Let $c$ be the mean number of entries of an estimate that are not zero, over
    the past with weights that fall by `decay`. Then $\alpha$ grows by `increment` where $c$ is below `target`, and
    falls by as much elsewhere, to zero at least: a step that is just large enough for estimates to say something.

    Biased. As $\alpha \to 0$ the mean is that of `ZGR`, exact for an `f` that is quadratic in each variable while the
    others are fixed; the limit of `IMLE`, whose difference is one-sided, is not. The variance grows like $1 / \lambda$.
    Needs a distribution that is perturbed additively and a differentiable `f`; one evaluation of `f` with its
    derivative, and three argmaxes.

    >>> from estimators import Bernoulli
    >>> estimator, dist = AIMLE(alpha=0.5, increment=0.1), Bernoulli(logits=[1.0])
    >>> state = estimator.adapt(estimator.init(jax.random.key(0), dist), jnp.array(0.0))
    >>> print(state.alpha)
    0.6

    The norms are Euclidean, of all logits of an event together, and $\theta$ is what the argmax is given: for
    categorical variables the normalised logits. Where $\theta$ or $w$ is zero, so is the step, and the estimate. An
    `increment` of $10^{-3}$ or less is usual for a training run of many steps; the default is for a warm-up.

    **References:** Minervini, Franceschi and Niepert, Adaptive perturbation-based gradient estimation for discrete
    latent variable models, 2023, arXiv:2209.04862.
    """

    alpha: Float[Array, ""] = eqx.field(converter=as_floating, default=1.0)
    increment: Float[Array, ""] = eqx.field(converter=as_floating, default=0.01)
    target: Float[Array, ""] = eqx.field(converter=as_floating, default=1.0)
    decay: Float[Array, ""] = eqx.field(converter=as_floating, default=0.9)

    unbiased: ClassVar[bool] = False
    requires: ClassVar[tuple[type, ...]] = (AbstractAdditivelyPerturbed, AbstractDifferentiable)

    def __check_init__(self):
        require_positive(self, "alpha")
        require_at_least(self, "increment", 0)
        require_positive(self, "target")
        require_decay(self)

    def init(self, key: PRNGKey, dist: AbstractDistribution) -> AdaptedStep:
        del key
        dtype = precision(dist)
        zero = jnp.zeros((), dtype)
        return AdaptedStep(self.alpha.astype(dtype), RunningMean(zero, zero))

    def estimate(self, key: PRNGKey, state: AdaptedStep, dist: Grads, f: Objective) -> tuple[Grads, Scalar]:
        noise = dist.noise(key)
        z, pullback = jax.vjp(lambda d: d.perturb(noise), dist)
        slope = jax.grad(f)(dist.harden(z))
        step = _relative_step(state.alpha, dist.perturb(jnp.zeros_like(noise)), slope)
        moved = dist.harden(z + step * slope) - dist.harden(z - step * slope)
        # Without a step nothing moves, and zero by one is zero.
        grads = pullback(moved / jnp.where(step > 0, 2 * step, 1))[0]
        return grads, jnp.sum(moved != 0).astype(moved.dtype)

    def adapt(self, state: AdaptedStep, stats: Scalar) -> AdaptedStep:
        moved = state.moved.updated(stats, self.decay)
        change = jnp.where(moved.mean < self.target, self.increment, -self.increment)
        return AdaptedStep(jnp.maximum(state.alpha + change.astype(state.alpha.dtype), 0), moved)

    def evaluations(self, dist: AbstractDistribution) -> int:
        del dist
        return 1


def _relative_step(alpha: Scalar, theta: Float[Array, "..."], slope: Float[Array, "..."]) -> Scalar:
    """`alpha |theta| / |slope|`, and zero where there is no slope."""
    size = jnp.sqrt(squared_norm(slope))
    return jnp.where(size > 0, alpha * jnp.sqrt(squared_norm(theta)) / jnp.where(size > 0, size, 1), 0)
