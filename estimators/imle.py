r"""Implicit maximum likelihood: how far the argmax moves when a gradient step is taken on what it maximises.

The derivative of the mean event $m(\eta)$ along a slope $w$ is a difference of two means, and both come from the argmax
of perturbed logits:

$$\tfrac1\lambda\, E[\mathrm{harden}(z) - \mathrm{harden}(z - \lambda w)] = \tfrac1\lambda\, [m(\eta) - m(\eta - \lambda w)]
\;\to\; m'(\eta)\, w,$$

for a $w$ that does not depend on the noise: perturbation-based implicit differentiation. Here $w = f'(x)$ is taken at
the sample, and the argmax of the same noise is asked whether it would leave $x$. It does so only where the slope *at
$x$* points away from $x$, which the identity above does not allow for unless the slope is one and the same everywhere.
"""

from typing import ClassVar

import equinox as eqx
import jax
from jaxtyping import Array, Float

from .base import AbstractStatelessEstimator, Grads, PRNGKey
from .distributions import AbstractAdditivelyPerturbed, AbstractDistribution
from .distributions.base import as_floating
from .objectives import AbstractDifferentiable, Objective
from .registration import ESTIMATORS
from .validation import require_positive


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
