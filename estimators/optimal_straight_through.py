r"""The optimal straight-through estimator: of all that are exact for quadratics, the one of least second moment.

Let an estimate be linear in the derivative at the sample, $\hat g = M_c f'(e_c)$ at category $c$ of one variable with
probabilities $\pi$, $J = \mathrm{diag}(\pi) - \pi \pi^\top$. Its mean is exact for every quadratic `f` if and only if,
with the columns $n_{ck} = \pi_c M_c e_k$,

$$n_{ck} = -n_{kc} \text{ for } c \ne k, \quad n_{kk} = \tfrac12 J e_k, \quad \sum_{c \ne k} n_{ck} = \tfrac12 J e_k.$$

(Put $f(x) = \tfrac12 x^\top (e_c e_k^\top + e_k e_c^\top) x$, then $\tfrac12 (e_k^\top x)^2$, then an affine one.) So
the $n_{ck}$ are flows between categories with prescribed sources. For a derivative of independent coordinates of one
variance the second moment $\sum_c \pi_c \|M_c\|^2$ is the energy of the flows with resistances
$1 / \pi_c + 1 / \pi_k$. The flow of least energy is a difference of potentials over its resistance: one solution
of a system with a Laplacian. It is the least in each coordinate of the gradient by itself, so it matters not in which
norm the gradient is measured. `ZGR` is the flow with the conductances $\pi_c \pi_k$ in place of
$\pi_c \pi_k / (\pi_c + \pi_k)$.
"""

from typing import ClassVar

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from .base import AbstractStatelessEstimator, Grads, PRNGKey
from .distributions import AbstractDistribution, Categorical
from .objectives import AbstractDifferentiable, Objective
from .registration import ESTIMATORS
from .zgr import along_logits


def _potentials(log_probs: Float[Array, "c"], share: Float[Array, "c c"]) -> Float[Array, "c c"]:
    """`potential`, a row for each category, with `sum_k share_ck (potential_c - potential_k) = (e_c - pi) / 2`.

    Divided by `pi_c` the Laplacian keeps its precision however rare a category is. `pi` is a left null vector of it and
    of the right-hand side, so adding `pi` to each of its rows fixes the constant and changes nothing else.
    """
    size = log_probs.shape[0]
    probs = jnp.broadcast_to(jnp.exp(log_probs), (size, size))
    laplacian = jnp.diag(jnp.sum(share, axis=1)) - share
    return jnp.linalg.solve(laplacian + probs, (jnp.eye(size, dtype=probs.dtype) - probs) / 2)


def _one_variable(log_probs: Float[Array, "c"], x: Float[Array, "c"], slope: Float[Array, "c"]) -> Float[Array, "c"]:
    """The estimate for one variable: flows from its category, times differences of the slope."""
    share = jax.nn.sigmoid(log_probs[None, :] - log_probs[:, None])
    potential = _potentials(log_probs, share)
    return ((x @ share) * (slope - x @ slope)) @ (potential - (x @ potential)[None])


@ESTIMATORS.register("optimal-straight-through")
class OptimalStraightThrough(AbstractStatelessEstimator):
    r"""The straight-through estimator of least second moment among those that are exact for quadratics.

    For a sample $x$ of category $c$ of a variable with probabilities $\pi$, $w_{ck} = \pi_k / (\pi_c + \pi_k)$ and
    potentials $\phi_c$ that solve $\sum_k w_{ck} (\phi_c - \phi_k) = \tfrac12 (e_c - \pi)$ for all $c$,

    $$\hat g = \sum_k w_{ck}\, (\phi_k - \phi_c)\; f'(x)^\top (e_k - e_c),$$

    and so for each variable.

    Biased, but exact in the mean for an `f` that is quadratic in each variable while the others are fixed; of all such
    estimators that are linear in $f'(x)$ it has the least second moment on average over derivatives with independent
    coordinates of one variance; for an affine `f` of such a slope, the least variance. Needs a `Categorical` and a
    differentiable `f`; one evaluation of `f` with its derivative, and the solution of $C$ linear equations for each
    variable of $C$ categories.

    >>> from estimators import Categorical
    >>> dist = Categorical(logits=jnp.zeros((2, 3)))
    >>> OptimalStraightThrough().evaluations(dist)
    1

    With two categories there is one estimator that is exact for quadratics, and this is `ZGR`; for bits use that. The
    paper has a family that trades bias against variance, from `StraightThrough` to the one here, its limit; an average
    over derivatives of another law has another optimum.

    **References:** Hooper and Shekhovtsov, Generalized and optimal straight-through estimators, AISTATS 2026.
    """

    unbiased: ClassVar[bool] = False
    requires: ClassVar[tuple[type, ...]] = (Categorical, AbstractDifferentiable)

    def gradient(self, key: PRNGKey, dist: Grads, f: Objective) -> Grads:
        x = dist.sample(key)
        each_variable = jnp.vectorize(_one_variable, signature="(c),(c),(c)->(c)")
        return along_logits(dist, each_variable(dist.log_probs, x, jax.grad(f)(x)))

    def evaluations(self, dist: AbstractDistribution) -> int:
        del dist
        return 1
