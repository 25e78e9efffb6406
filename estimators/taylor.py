r"""Second-order expansions as control variates: a quadratic function is integrated, the rest sampled.

Let $q(x) = a + b^\top (x - \mu) + \tfrac12 (x - \mu)^\top B (x - \mu)$ about a fixed point $\mu$. Its expectation
needs the first two moments of the event and nothing else, so

$$\nabla_\theta E[f(x)] = \nabla_\theta E[f(x) - q(x)] + \nabla_\theta E[q(x)],$$

the first by any estimator, the second exactly, is unbiased whatever $a$, $b$ and $B$. Here they are the value, the
slope and the Hessian of `f` at the mean event: on a quadratic `f` there is nothing left to sample.

The point $\mu$ has the value of the mean but does not move with the leaves. Where it does, in $q$ and not in the rest
of the identity, the estimate is biased by the third derivatives of `f`.
"""

from typing import ClassVar

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from .base import AbstractStatelessEstimator, Grads, PRNGKey, draw, weighted_score
from .distributions import (
    AbstractDistribution,
    AbstractFixedSupport,
    AbstractReparameterizable,
    AbstractUncorrelated,
    Normal,
)
from .distributions.base import Event, Noise, Scalar
from .objectives import AbstractDifferentiable, Objective
from .registration import ESTIMATORS

CURVATURES = ("full", "diagonal")


class Quadratic(eqx.Module):
    """The function `q` at the head of this file; the rows of `curvature` are those of the flattened event."""

    centre: Event
    value: Scalar
    slope: Event
    curvature: Float[Array, "size size"]

    def __call__(self, x: Event) -> Scalar:
        deviation = x - self.centre
        flat = jnp.ravel(deviation)
        return self.value + jnp.vdot(self.slope, deviation) + jnp.vdot(flat, self.curvature @ flat) / 2

    def expectation(self, dist: AbstractUncorrelated) -> Scalar:
        """`E[q(x)]`, differentiable in the leaves of `dist`, whose mean need not be the centre."""
        return self(dist.mean()) + jnp.vdot(jnp.diagonal(self.curvature), jnp.ravel(dist.variance())) / 2


def expansion(f: Objective, centre: Event) -> Quadratic:
    """The second-order Taylor expansion of `f` about `centre`, by one evaluation of `f` linearised twice."""
    (value, slope), second = jax.linearize(jax.value_and_grad(f), centre)
    basis = jnp.eye(centre.size, dtype=centre.dtype).reshape(-1, *centre.shape)
    rows = jax.vmap(lambda direction: second(direction)[1])(basis)
    return Quadratic(centre, value, slope, rows.reshape(centre.size, centre.size))


def corrected_path(dist: Grads, f: Objective, quadratic: Quadratic, noise: Noise) -> Grads:
    """The identity above with the pathwise estimator for what the quadratic leaves."""

    def remainder(d: Grads) -> Scalar:
        x = d.reparameterize(noise)
        return f(x) - quadratic(x) + quadratic.expectation(d)

    return jax.grad(remainder)(dist)


@ESTIMATORS.register("delta-method")
class DeltaMethod(AbstractStatelessEstimator):
    r"""The score function minus the second-order Taylor expansion of `f`, whose expectation is exact (delta method).

    For a sample $x$ of `dist` with mean $\mu$ and variances $v$, and $q$ the expansion of `f` about $\mu$, held fixed,

    $$\hat g = [f(x) - q(x)]\, \nabla_\theta \log p(x) + \nabla_\theta E[q(x)], \qquad
    E[q(x)] = q(\mu(\theta)) + \tfrac12 \sum_i v_i(\theta)\, f_{ii}.$$

    Unbiased, whatever the point of the expansion; on a quadratic `f` every estimate is the gradient. Needs uncorrelated
    variables with known moments and an `f` that is differentiable twice; two evaluations of `f`, one of them at the
    mean with its derivative and as many Hessian-vector products as an event has numbers.

    >>> from estimators import Normal
    >>> dist = Normal(loc=[1.0], log_scale=[0.0])
    >>> grads = DeltaMethod().gradient(jax.random.key(0), dist, lambda x: jnp.sum(x**2))
    >>> print(grads.loc.round(3), grads.log_scale.round(3))
    [2.] [2.]

    The whole Hessian is in $q(x)$, and its diagonal in the expectation. The coefficient before $q$ is one: the paper
    also scales its control variate by a coefficient estimated from samples, and bounds some functions instead of
    expanding them. Where `f` is far from quadratic over a few standard deviations, more may be added than taken away.

    **References:** Paisley, Blei and Jordan, Variational Bayesian inference with stochastic search, 2012,
    arXiv:1206.6430.
    """

    unbiased: ClassVar[bool] = True
    requires: ClassVar[tuple[type, ...]] = (AbstractFixedSupport, AbstractUncorrelated, AbstractDifferentiable)

    def gradient(self, key: PRNGKey, dist: Grads, f: Objective) -> Grads:
        xs, quadratic = draw(key, dist, 1), expansion(f, dist.mean())
        rest = weighted_score(dist, xs, jax.vmap(lambda x: f(x) - quadratic(x))(xs))
        return jax.tree.map(jnp.add, rest, jax.grad(quadratic.expectation)(dist))

    def evaluations(self, dist: AbstractDistribution) -> int:
        del dist
        return 2


@ESTIMATORS.register("rv-rge")
class RVRGE(AbstractStatelessEstimator):
    r"""The pathwise estimator minus the gradient linearised at the mean, whose expectation is exact (RV-RGE).

    With $x = T(\varepsilon; \theta)$ of mean $\mu$ and $q$ the second-order Taylor expansion of `f` about $\mu$, held
    fixed,

    $$\hat g = \nabla_\theta [f(x) - q(x)] + \nabla_\theta E[q(x)].$$

    For a normal `dist` with scale $s$, slope $f'$ and Hessian $H$ at the mean that is, along `loc` and `log_scale`,

    $$f'(x) - H s \varepsilon, \qquad (f'(x) - f' - H s \varepsilon) \circ s \varepsilon
    + \mathrm{diag}(H) \circ s^2.$$

    Unbiased; on a quadratic `f` every estimate is the gradient. Needs a reparameterizable distribution of uncorrelated
    variables with known moments, and an `f` that is differentiable twice; two evaluations of `f` with their
    derivatives, and at the mean as many Hessian-vector products as an event has numbers.

    >>> from estimators import Normal
    >>> dist = Normal(loc=[1.0], log_scale=[0.0])
    >>> grads = RVRGE().gradient(jax.random.key(0), dist, lambda x: jnp.sum(x**2))
    >>> print(grads.loc.round(3), grads.log_scale.round(3))
    [2.] [2.]

    This is the paper's form with the full Hessian and the coefficient one. With `curvature="diagonal"` the Hessian is
    replaced by its diagonal, as in another of its forms; the one that asks for a single product is `rv-rge-hvp`. The
    one whose diagonal is estimated from the other samples of a batch is not here.

    **References:** Miller, Foti, D'Amour and Adams, Reducing reparameterization gradient variance, 2017,
    arXiv:1705.07880.
    """

    curvature: str = eqx.field(static=True, default="full")

    unbiased: ClassVar[bool] = True
    requires: ClassVar[tuple[type, ...]] = (AbstractReparameterizable, AbstractUncorrelated, AbstractDifferentiable)

    def __check_init__(self):
        if self.curvature not in CURVATURES:
            raise ValueError(f"`RVRGE` needs a `curvature` of {' or '.join(CURVATURES)}, got {self.curvature!r}.")

    def gradient(self, key: PRNGKey, dist: Grads, f: Objective) -> Grads:
        quadratic = expansion(f, dist.mean())
        if self.curvature == "diagonal":
            diagonal = jnp.diag(jnp.diagonal(quadratic.curvature))
            quadratic = eqx.tree_at(lambda q: q.curvature, quadratic, diagonal)
        return corrected_path(dist, f, quadratic, dist.noise(key))

    def evaluations(self, dist: AbstractDistribution) -> int:
        del dist
        return 2


@ESTIMATORS.register("rv-rge-hvp")
class RVRGEProduct(AbstractStatelessEstimator):
    r"""RV-RGE by one Hessian-vector product: linearised along `loc`, and along `log_scale` of order zero.

    For $x = \mu + s \varepsilon$, with the slope $f'$ and the Hessian $H$ of `f` at the mean,

    $$\hat g_{\mathrm{loc}} = f'(x) - H s \varepsilon, \qquad
    \hat g_{\mathrm{log\,scale}} = (f'(x) - f') \circ s \varepsilon.$$

    Unbiased, because $\varepsilon$ has mean zero. Along `loc` it is `RVRGE`. Along `log_scale` that one needs the
    diagonal of $H$ for the expectation of its control variate, and so as many products as there are variables; here
    the gradient at $x$ is approximated by the one at the mean, and the curvature is left to the sample. Needs a
    `Normal` and an `f` that is differentiable twice; two evaluations of `f` with their derivatives, and one product.

    >>> from estimators import Normal
    >>> dist = Normal(loc=[1.0], log_scale=[0.0])
    >>> print(RVRGEProduct().gradient(jax.random.key(0), dist, lambda x: jnp.sum(x**2)).loc.round(3))
    [2.]

    For the scale the paper has the diagonal estimated from other samples as well; that is not this form.

    **References:** Miller, Foti, D'Amour and Adams, Reducing reparameterization gradient variance, 2017,
    arXiv:1705.07880. Geffner and Domke, Approximation based variance reduction for reparameterization gradients, 2020,
    arXiv:2007.14634 (which reads the form for the scale as an expansion of order zero).
    """

    unbiased: ClassVar[bool] = True
    requires: ClassVar[tuple[type, ...]] = (Normal, AbstractDifferentiable)

    def gradient(self, key: PRNGKey, dist: Normal, f: Objective) -> Normal:
        x = dist.reparameterize(dist.noise(key))
        deviation = x - dist.loc
        slope, product = jax.jvp(jax.grad(f), (dist.loc,), (deviation,))
        here = jax.grad(f)(x)
        return Normal(here - product, (here - slope) * deviation)

    def evaluations(self, dist: AbstractDistribution) -> int:
        del dist
        return 2
