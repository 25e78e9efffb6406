"""What a distribution is, and what else it can do.

A distribution is a family *and* its parameters in one module. Its leaves are unconstrained reals (`logits`, `loc`,
`log_scale`), so a gradient with respect to the distribution is another module of the same type, and an optimiser may
step along it. One module is one event: independent variables are leading axes of the leaves, batches are made by
`jax.vmap`.

Capabilities are abstract classes. An estimator names those it requires, a distribution inherits those it has, and
`estimators.incompatibility` turns a mismatch into a sentence; nothing is found out by `hasattr`. Here are those that
any distribution may have, in `discrete` and `continuous` the others.
"""

from abc import abstractmethod

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Key

Event = Float[Array, "..."]
Noise = Float[Array, "..."]
Scalar = Float[Array, ""]
PRNGKey = Key[Array, ""]

# What a sum may leave out on either side, `exp(-42) = 6e-19`, in natural logarithms.
NEGLIGIBLE = 42.0


def as_floating(value) -> Array:
    """`value` as a floating array; integers become the default float. Makes numbers traced leaves, not static
    fields."""
    array = jnp.asarray(value)
    # The cast to its own type drops JAX's weak type: 0, 0.5 and np.float64(0.5) share one program.
    return array.astype(array.dtype if jnp.issubdtype(array.dtype, jnp.floating) else float)


class AbstractDistribution(eqx.Module):
    """A family and its parameters; every leaf is an unconstrained real array."""

    @property
    @abstractmethod
    def event_shape(self) -> tuple[int, ...]:
        """The shape of one event."""

    @abstractmethod
    def sample(self, key: PRNGKey) -> Event:
        """One event, in the precision of the leaves."""

    @abstractmethod
    def log_prob(self, x: Event) -> Scalar:
        """The log-density (or log-mass) of the whole event `x`, differentiable in the leaves."""


def precision(dist: AbstractDistribution) -> jnp.dtype:
    """The floating type of the leaves, in which whatever an estimator keeps beside them is kept too."""
    return jnp.result_type(*jax.tree.leaves(dist))


class AbstractFixedSupport(AbstractDistribution):
    """The support does not depend on the leaves, and a derivative in them passes under the integral.

    So the score has mean zero, and `d/d theta E[f(x)] = E[f(x) d/d theta log p(x)]`: what all who multiply by a score
    rely on. Where the support moves, as that of a uniform variable or of a point mass does, `f` at its edges is missing
    from this.
    """


class AbstractTransformable(AbstractDistribution):
    """Events are a function of the leaves and of noise that does not depend on them, smooth or not: one noise makes
    coupled events under different parameters."""

    @abstractmethod
    def noise(self, key: PRNGKey) -> Noise:
        """Noise whose law does not depend on the leaves."""

    @abstractmethod
    def transform(self, noise: Noise) -> Event:
        """The event that `noise` becomes; `transform(noise(key))` has the law of `sample(key)`."""


class AbstractStratifiable(AbstractTransformable):
    """The noise has the shape of an event, and each of its entries is a non-decreasing function of a uniform variable,
    independent of the others.

    So noise can be made to order: uniform points that are mirror images, or spread evenly over the unit cube, make
    noises that are. Each noise by itself has the law of `noise(key)` whenever its point is uniform in the cube.
    """

    @abstractmethod
    def noise_at(self, u: Noise) -> Noise:
        """The noise whose entries stand at `u`, of (0, 1), in their distribution functions."""


class AbstractUncorrelated(AbstractDistribution):
    """Uncorrelated variables whose means and variances are finite and known, so that the expectation of a quadratic
    function is a sum."""

    @abstractmethod
    def mean(self) -> Event:
        """The expected event, differentiable in the leaves."""

    @abstractmethod
    def variance(self) -> Event:
        """The variance of each variable, differentiable in the leaves; their covariances are zero."""


class AbstractWeaklyDifferentiable(AbstractDistribution):
    """The derivative of the law along each parameter is a weighted difference of two laws.

    For the scalar parameter `i`, `d/d theta_i p = c_i (p_i^+ - p_i^-)`, so that
    `d/d theta_i E[f(x)] = c_i (E[f(x^+)] - E[f(x^-)])` with no derivative of `f` or of `log p`. The weight may be drawn
    with the events instead: the derivative is `E[c_i (f(x_i^+) - f(x_i^-))]` in any case.
    """

    @abstractmethod
    def weak_derivative(
        self, key: PRNGKey
    ) -> tuple["AbstractDistribution", "AbstractDistribution", "AbstractDistribution"]:
        """Weights, positive and negative draws: modules of this type whose leaves have, for a parameter leaf of shape
        `[*p]`, the shapes `[*p]`, `[*p, *event]` and `[*p, *event]`."""
