r"""Adaptive velocity fields: the path of an event, and on top of it a learned whirl that carries no probability.

Let $x = T(\varepsilon; \theta)$, made of noise whose law $\phi$ no rotation changes. Where the noise turns along
$A \varepsilon$, with $A$ antisymmetric, the event moves along $v_0(x) = \partial_\varepsilon T\, A \varepsilon$ and keeps
to its law. For a standard normal $\varepsilon$, $\nabla \cdot (\phi A \varepsilon) = \phi\, (\mathrm{tr}\, A -
\varepsilon^\top A \varepsilon) = 0$; and for $x = \mu + L \varepsilon$ with density $q$ the field is linear in $x$,

$$v_0(x) = L A L^{-1} (x - \mu), \qquad \nabla \cdot (q v_0) = q\, (\mathrm{tr}\, A - \varepsilon^\top A \varepsilon) = 0.$$

By parts, $E[\langle f'(x), v_0(x) \rangle] = 0$ for every smooth `f`. So to the velocity along each parameter such a field
of its own may be added, and the transport equation holds as before. In the noise, with $w = \partial_\varepsilon
f(T(\varepsilon; \theta))$,

$$\langle f'(x), v_0(x) \rangle = w^\top A \varepsilon = \sum_{j > k} A_{jk} \tau_{jk}, \qquad
\tau_{jk} = w_j \varepsilon_k - w_k \varepsilon_j:$$

the twist of `f` in each plane of the noise is a control variate of mean zero, which the path has paid for. What tells the
estimators of this room apart is which multiples of which twists they learn for which parameter.
"""

import math
from typing import ClassVar

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from .base import AbstractLearnedEstimator, Grads, PRNGKey
from .distributions import AbstractCorrelated, AbstractDistribution, AbstractRotatable
from .distributions.base import as_floating, precision
from .objectives import AbstractDifferentiable, Objective
from .registration import ESTIMATORS
from .validation import require_at_least, require_positive

Twist = Float[Array, "size size"]
# Speeds that are learned at most: beyond, memory and the number of estimates that they would need are out of proportion.
MOST_SPEEDS = 10**7


def path_and_twist(key: PRNGKey, dist: Grads, f: Objective) -> tuple[Grads, Twist]:
    """The pathwise estimate, and the antisymmetric matrix of the twists at its noise, by one derivative of `f`."""
    noise = dist.noise(key)
    path, pull = jax.grad(lambda d, e: f(d.reparameterize(e)), argnums=(0, 1))(dist, noise)
    moment = jnp.outer(pull, noise)
    return path, moment - moment.T


class LowRankSpeeds(eqx.Module):
    """What is trained: the speed of the entry `(a, b)` is that of the matrix `left.T @ right`."""

    left: Float[Array, "rank size"]
    right: Float[Array, "rank size"]


@ESTIMATORS.register("adaptive-velocity-field")
class AdaptiveVelocityField(AbstractLearnedEstimator):
    r"""The pathwise estimator of a correlated normal law, where each entry of the factor also turns its own plane.

    With $x = \mu + L \varepsilon$, $w = L^\top f'(x)$ and $e_a$ the unit vectors, along the entry $L_{ab}$

    $$\hat g_{ab} = \langle f'(x), e_a \varepsilon_b + L A^{ab} \varepsilon \rangle, \qquad
    A^{ab} = (B^\top C)_{ab}\, (e_a e_b^\top - e_b e_a^\top),$$

    which is $f'_a \varepsilon_b + (B^\top C)_{ab} (w_a \varepsilon_b - w_b \varepsilon_a)$; along $\mu$ it is `Pathwise`,
    and so it is along the diagonal of $L$, which has no plane.

    Unbiased for every $B$ and $C$, for $L A^{ab} L^{-1} (x - \mu)$ carries nothing. Both have `rank` rows and are trained
    on the second moment of one estimate. $B$ starts at random and $C$ at zero, where this is `Pathwise`; with both at
    zero nothing would ever move them. Needs a correlated distribution and a differentiable `f`; one evaluation of `f`
    with its derivative.

    >>> from estimators import MultivariateNormal
    >>> AdaptiveVelocityField().evaluations(MultivariateNormal(loc=[0.0, 0.0], triangle=[0.0, 0.5, 0.0]))
    1

    In the paper's family $A^{ab}$ is any antisymmetric matrix, another for each entry; that one, without a restriction, is
    `UnrestrictedVelocityField`. Here an entry turns no plane but its own, at a speed which is an entry of a product of
    two matrices of few rows: that, and where their training starts, are the choice of this project within the family.

    **References:** Jankowiak and Karaletsos, Pathwise derivatives for multivariate distributions, 2019,
    arXiv:1806.01856.
    """

    rank: int = eqx.field(static=True, default=2)
    learning_rate: Float[Array, ""] = eqx.field(converter=as_floating, default=0.01)

    unbiased: ClassVar[bool] = True
    requires: ClassVar[tuple[type, ...]] = (AbstractCorrelated, AbstractDifferentiable)

    def __check_init__(self):
        require_at_least(self, "rank", 1)
        require_positive(self, "learning_rate")

    def control(self, key: PRNGKey, dist: AbstractDistribution) -> LowRankSpeeds:
        shape, dtype = (self.rank, *dist.event_shape), precision(dist)
        left = jax.random.normal(key, shape, dtype) / math.sqrt(self.rank)
        return LowRankSpeeds(left, jnp.zeros(shape, dtype))

    def gradient(self, key: PRNGKey, control: LowRankSpeeds, dist: Grads, f: Objective) -> Grads:
        path, twist = path_and_twist(key, dist, f)
        return jax.tree.map(jnp.add, path, dist.entries(control.left.T @ control.right * twist))

    def evaluations(self, dist: AbstractDistribution) -> int:
        del dist
        return 1


@ESTIMATORS.register("unrestricted-velocity-field")
class UnrestrictedVelocityField(AbstractLearnedEstimator):
    r"""The pathwise estimator with a learned whirl in every plane of the noise for every parameter.

    With $x = T(\varepsilon; \theta)$, $w = \partial_\varepsilon f(T(\varepsilon; \theta))$ and an antisymmetric matrix
    $A^i$ for each parameter,

    $$\hat g_i = \partial_{\theta_i} f(T(\varepsilon; \theta)) + \sum_{j > k} A^i_{jk}
    (w_j \varepsilon_k - w_k \varepsilon_j).$$

    Unbiased for every $A^i$, because each whirl keeps the law of the event. All start at zero, where this is `Pathwise`,
    and are trained on the second moment of one estimate, which is a convex function of them. Needs a distribution that is
    rotatable, in its noise, and a differentiable `f`; one evaluation of `f` with its derivative.

    >>> from estimators import Normal
    >>> dist = Normal(loc=[0.0, 0.0, 0.0], log_scale=[0.0, 0.0, 0.0])
    >>> print(UnrestrictedVelocityField().control(jax.random.key(0), dist).loc.shape)
    (3, 3)

    What is trained has as many numbers as there are parameters times pairs of variables, of which there are $10^7$ at most:
    some 200 independent variables, or 70 correlated ones; `AdaptiveVelocityField` makes do with fewer. Since two solutions of the transport
    equation that are linear in the event differ by such a whirl, the one of least kinetic energy, `OptimalTransport`, is
    among those that are searched: for a normal law with a full covariance the best of them varies no more than it. For
    independent normal variables the path is that solution, and the whirls are still there. They are of no use to an `f`
    of a single variable, which has no plane.

    **References:** Jankowiak and Karaletsos, Pathwise derivatives for multivariate distributions, 2019,
    arXiv:1806.01856.
    """

    learning_rate: Float[Array, ""] = eqx.field(converter=as_floating, default=0.01)

    unbiased: ClassVar[bool] = True
    requires: ClassVar[tuple[type, ...]] = (AbstractRotatable, AbstractDifferentiable)

    def __check_init__(self):
        require_positive(self, "learning_rate")

    def control(self, key: PRNGKey, dist: Grads) -> Grads:
        """For each parameter the speed in each plane, along a last axis."""
        del key
        size = math.prod(dist.event_shape)
        planes, parameters = size * (size - 1) // 2, sum(leaf.size for leaf in jax.tree.leaves(dist))
        if planes * parameters > MOST_SPEEDS:
            raise ValueError(
                f"`UnrestrictedVelocityField` learns a speed for each parameter and plane, {planes * parameters:,} of them for an "
                f"event of {size} numbers, and at most {MOST_SPEEDS:,}; use a smaller event, or, if correlated, `AdaptiveVelocityField`."
            )
        return jax.tree.map(lambda leaf: jnp.zeros((*leaf.shape, planes), leaf.dtype), dist)

    def gradient(self, key: PRNGKey, control: Grads, dist: Grads, f: Objective) -> Grads:
        path, twist = path_and_twist(key, dist, f)
        planes = twist[np.tril_indices(len(twist), -1)]
        return jax.tree.map(lambda leaf, speeds: leaf + speeds @ planes, path, control)

    def evaluations(self, dist: AbstractDistribution) -> int:
        del dist
        return 1
