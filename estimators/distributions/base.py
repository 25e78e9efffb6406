"""What a distribution is, and what else it can do.

A distribution is a family *and* its parameters in one module. Its leaves are unconstrained reals (`logits`, `loc`,
`log_scale`), so a gradient with respect to the distribution is another module of the same type, and an optimiser may
step along it. One module is one event: independent variables are leading axes of the leaves, batches are made by
`jax.vmap`.

Capabilities are abstract classes. An estimator names those it requires, a distribution inherits those it has, and
`estimators.incompatibility` turns a mismatch into a sentence; nothing is found out by `hasattr`.
"""

from abc import abstractmethod

import equinox as eqx
import jax.numpy as jnp
from jaxtyping import Array, Float, Key

Event = Float[Array, "..."]
Noise = Float[Array, "..."]
Scalar = Float[Array, ""]
PRNGKey = Key[Array, ""]


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


class AbstractEnumerable(AbstractDistribution):
    """A finite support, so that an expectation is a sum."""

    @property
    @abstractmethod
    def support_size(self) -> int:
        """The number of events."""

    @abstractmethod
    def support(self) -> Float[Array, "events ..."]:
        """Every event once, stacked along a new leading axis."""


class AbstractReparameterizable(AbstractDistribution):
    """Events are a differentiable function of the leaves and of noise that does not depend on them."""

    @abstractmethod
    def noise(self, key: PRNGKey) -> Noise:
        """Noise whose law does not depend on the leaves."""

    @abstractmethod
    def reparameterize(self, noise: Noise) -> Event:
        """The event that `noise` becomes; `reparameterize(noise(key))` has the law of `sample(key)`."""


class AbstractIntegrable(AbstractReparameterizable):
    """The law of the noise has a quadrature rule, so that a smooth expectation is a weighted sum."""

    @abstractmethod
    def nodes(self, resolution: int) -> tuple[Float[Array, "nodes ..."], Float[Array, "nodes"]]:
        """Noise values and their weights, `resolution` to a dimension; the weights sum to one up to rounding."""


class AbstractRelaxable(AbstractDistribution):
    """Discrete events are the rounding of a continuous latent, which can be smoothed instead of rounded.

    With `z = perturb(noise(key))`, the *perturbed logits*, `harden(z)` has the law of the events and `relax(z, t)`
    tends to it as the temperature falls. `conditional(x, noise)` draws `z` from its law given `harden(z) == x`: the
    coupling that REBAR rests on. All but `harden` are differentiable in the leaves. The latent itself is passed on, not
    the noise it came from: near the rounding threshold `z` keeps its sign in floating point where `z - logits` would
    lose it.
    """

    @abstractmethod
    def noise(self, key: PRNGKey) -> Noise:
        """Noise whose law does not depend on the leaves."""

    @abstractmethod
    def perturb(self, noise: Noise) -> Noise:
        """The perturbed logits `z`."""

    @abstractmethod
    def conditional(self, x: Event, noise: Noise) -> Noise:
        """Perturbed logits given that they round to `x`, made from fresh `noise`."""

    @abstractmethod
    def relax(self, z: Noise, temperature: Scalar) -> Event:
        """A point in the convex hull of the support."""

    @abstractmethod
    def harden(self, z: Noise) -> Event:
        """The event that `z` rounds to."""

    @abstractmethod
    def mean(self) -> Event:
        """The expected event, a point in the convex hull of the support."""


class AbstractAdditivelyPerturbed(AbstractRelaxable):
    """The perturbed logits are logits plus independent noise, and the event is the one that they favour.

    `perturb(noise)` is `perturb(0) + noise`, each entry of the noise has one density, positive on the whole line, and
    `harden(z)` maximises `<z, x>` over the events `x`: a linear programme. So another noise may be added to the logits,
    and a slope may be added to `z` to see where the event moves.
    """

    @abstractmethod
    def noise_score(self, noise: Noise) -> Noise:
        """Minus the derivative of the log-density of the noise, entry by entry; its mean is zero."""

    @abstractmethod
    def switched(self, x: Event) -> Float[Array, "..."]:
        """For every entry of an event (the leading axes), `x` with that entry switched and the other variables left
        alone."""


class AbstractWeaklyDifferentiable(AbstractDistribution):
    """The derivative of the law along each parameter is a weighted difference of two laws.

    For the scalar parameter `i`, `d/d theta_i p = c_i (p_i^+ - p_i^-)`, so that
    `d/d theta_i E[f(x)] = c_i (E[f(x^+)] - E[f(x^-)])` with no derivative of `f` or of `log p`.
    """

    @abstractmethod
    def weak_derivative(
        self, key: PRNGKey
    ) -> tuple["AbstractDistribution", "AbstractDistribution", "AbstractDistribution"]:
        """Weights, positive and negative draws: modules of this type whose leaves have, for a parameter leaf of shape
        `[*p]`, the shapes `[*p]`, `[*p, *event]` and `[*p, *event]`."""
