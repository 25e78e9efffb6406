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


class AbstractFixedSupport(AbstractDistribution):
    """The support does not depend on the leaves, and a derivative in them passes under the integral.

    So the score has mean zero, and `d/d theta E[f(x)] = E[f(x) d/d theta log p(x)]`: what all who multiply by a score
    rely on. Where the support moves, as that of a uniform variable or of a point mass does, `f` at its edges is missing
    from this.
    """


class AbstractEnumerable(AbstractFixedSupport):
    """A finite support, so that an expectation is a sum."""

    @property
    @abstractmethod
    def support_size(self) -> int:
        """The number of events."""

    @abstractmethod
    def support(self) -> Float[Array, "events ..."]:
        """Every event once, stacked along a new leading axis."""


class AbstractFactorized(AbstractDistribution):
    """An event is made of independent variables, and each of them has a finite support of its own.

    All variables have equally many values, in an order that the two methods share: value `c` of variable `i` has the
    probability `marginals()[i, c]`, and `replacements(x)[i, c]` is `x` with that value in place of its own.
    """

    @abstractmethod
    def marginals(self) -> Float[Array, "variables values"]:
        """The probability of each value of each variable, differentiable in the leaves."""

    @abstractmethod
    def replacements(self, x: Event) -> Float[Array, "variables values ..."]:
        """`x` with each variable in turn set to each of its values, and the others as they are."""


class AbstractSequential(AbstractFixedSupport):
    """An event is a sequence of decisions along its leading axis.

    A step is a state, whose law given the steps before does not depend on the leaves, and an action, whose law given
    the state is the policy. So `log p(x) = sum_t log pi(a_t | s_t)` up to what has no derivative, and given the steps
    before and the state, `d/d theta log pi(a_t | s_t)` has mean zero: it may be multiplied by anything that they decide.
    """

    @abstractmethod
    def states(self, x: Event) -> Float[Array, "steps states"]:
        """Which state each step found itself in, one-hot."""

    @abstractmethod
    def log_policy(self, x: Event) -> Float[Array, "steps"]:
        """The log-probability of each action given its state, differentiable in the leaves."""


class AbstractSummable(AbstractFixedSupport):
    """Variables that count, without an upper limit but with tails so light that an expectation is a finite sum up to
    rounding.

    What a window has to hold depends on the parameters, and its size is a shape: `span` says how large it should be,
    and whoever knows the parameters' values chooses `resolution` accordingly.
    """

    @abstractmethod
    def span(self) -> Scalar:
        """How many consecutive values hold each variable with probability `1 - 1e-18` or more."""

    @abstractmethod
    def window(self, resolution: int) -> Float[Array, "events ..."]:
        """The likeliest events: every combination of `resolution` consecutive values of each variable, once."""


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


class AbstractInvertible(AbstractStratifiable):
    """Independent real variables, each the inverse of its distribution function at a uniform variable.

    The event is non-decreasing in its noise, and of all couplings of two parameters by one noise this keeps the events
    closest together.
    """

    @abstractmethod
    def quantile(self, u: Noise) -> Event:
        """For each variable the least value at which the distribution function exceeds `u`, of [0, 1)."""

    def noise(self, key: PRNGKey) -> Noise:
        (dtype,) = {leaf.dtype for leaf in jax.tree.leaves(self)}
        return jax.random.uniform(key, self.event_shape, dtype)

    def noise_at(self, u: Noise) -> Noise:
        return u

    def transform(self, noise: Noise) -> Event:
        return self.quantile(noise)

    def sample(self, key: PRNGKey) -> Event:
        return self.quantile(self.noise(key))


class AbstractReparameterizable(AbstractTransformable):
    """Events are a differentiable function of the leaves and of noise that does not depend on them."""

    @abstractmethod
    def reparameterize(self, noise: Noise) -> Event:
        """The event that `noise` becomes, differentiable in the leaves."""

    def transform(self, noise: Noise) -> Event:
        return self.reparameterize(noise)


class AbstractImplicitlyReparameterizable(AbstractDistribution):
    """Events move with the leaves, although no noise of a fixed law need make them.

    An event is made of variates that are drawn under the leaves. As the leaves change, each variate moves so that it
    keeps to its law: where its distribution function is `F` and its density `q`, at the speed `-(d/d theta F) / q`, and
    several of them one after the other, by the law of each given those before. So `d/d theta E[f(x)]` is the mean of the
    derivative of `f(implicit(variates))` at fixed variates (Figurnov, Mohamed and Mnih, Implicit reparameterization
    gradients, 2018).
    """

    @abstractmethod
    def variates(self, key: PRNGKey) -> Noise:
        """What an event is made of, drawn under the leaves."""

    @abstractmethod
    def implicit(self, variates: Noise) -> Event:
        """The event that the variates make, differentiable in the leaves, with which they move; how they were drawn is
        not differentiated."""

    def sample(self, key: PRNGKey) -> Event:
        return self.implicit(self.variates(key))


class AbstractTransportable(AbstractDistribution):
    """Events move with the leaves at a velocity that their own position decides, along which probability is carried.

    For each parameter, `d/d theta p + div(p v) = 0` and nothing flows out of the support, so that `d/d theta E[f(x)] =
    E[<grad f(x), v(x)>]`. On the line there is one such velocity, `-(d/d theta F) / p`; elsewhere there are many, and
    the mean, given `x`, of any velocity that depends on more than `x` is another.
    """

    @abstractmethod
    def transport(self, x: Event) -> Event:
        """The event `x`, with the velocity there for its derivative in the leaves."""


class AbstractStandardizable(AbstractDistribution):
    """Events are a differentiable and invertible function of the leaves and of a noise that the leaves have been taken
    out of as far as its first two moments go: it has mean 0 and variance 1, in a law that still depends on them."""

    @abstractmethod
    def standardized(self, key: PRNGKey) -> Noise:
        """The noise, drawn under the leaves."""

    @abstractmethod
    def restore(self, noise: Noise) -> Event:
        """The event that it makes, differentiable in the leaves."""

    @abstractmethod
    def standardized_log_prob(self, noise: Noise) -> Scalar:
        """Its log-density, differentiable in the leaves."""


class AbstractAcceptanceRejection(AbstractDistribution):
    """Events are a differentiable function of the leaves and of what a rejection sampler accepts.

    The proposals have a fixed law, and which of them are accepted depends on the leaves. Some families are made easier
    to propose for, the more the larger `augmentation` is, and brought back by further noise of a fixed law.
    """

    @abstractmethod
    def accepted(self, key: PRNGKey, augmentation: int) -> Noise:
        """All of the noise that makes an event, drawn under the leaves; its shape reveals `augmentation`."""

    @abstractmethod
    def from_accepted(self, noise: Noise) -> Event:
        """The event that it makes, differentiable in the leaves."""

    @abstractmethod
    def accepted_log_prob(self, noise: Noise) -> Scalar:
        """Its log-density, differentiable in the leaves, up to what they have no part in."""


class AbstractMixture(AbstractDistribution):
    """An event is drawn from one of several reparameterizable laws, each with a probability of its own."""

    @abstractmethod
    def mixing(self) -> Float[Array, "components"]:
        """The probability of each component, differentiable in the leaves."""

    @abstractmethod
    def component_noise(self, key: PRNGKey) -> Noise:
        """Noise for every component, whose law does not depend on the leaves."""

    @abstractmethod
    def components(self, noise: Noise) -> Float[Array, "components ..."]:
        """One event of every component, differentiable in the leaves."""


class AbstractIntegrable(AbstractReparameterizable):
    """The law of the noise has a quadrature rule, so that a smooth expectation is a weighted sum."""

    @abstractmethod
    def nodes(self, resolution: int) -> tuple[Float[Array, "nodes ..."], Float[Array, "nodes"]]:
        """Noise values and their weights, `resolution` to a dimension; the weights sum to one up to rounding."""


class AbstractUncorrelated(AbstractDistribution):
    """Uncorrelated variables whose means and variances are finite and known, so that the expectation of a quadratic
    function is a sum."""

    @abstractmethod
    def mean(self) -> Event:
        """The expected event, differentiable in the leaves."""

    @abstractmethod
    def variance(self) -> Event:
        """The variance of each variable, differentiable in the leaves; their covariances are zero."""


class AbstractOverdispersible(AbstractFixedSupport):
    """An exponential family in which natural parameters may be divided by any number of at least one."""

    @abstractmethod
    def overdispersed(self, dispersion: Scalar) -> "AbstractDistribution":
        """The member of the family, a module of this type, with the natural parameters divided by `dispersion`; of the
        same values at a dispersion of one."""


class AbstractRelaxable(AbstractTransformable):
    """Discrete events are the rounding of a continuous latent, which can be smoothed instead of rounded.

    With `z = perturb(noise(key))`, the *perturbed logits*, `harden(z)` has the law of the events and `relax(z, t)`
    tends to it as the temperature falls. `conditional(x, noise)` draws `z` from its law given `harden(z) == x`: the
    coupling that REBAR rests on. All but `harden` are differentiable in the leaves. The latent itself is passed on, not
    the noise it came from: near the rounding threshold `z` keeps its sign in floating point where `z - logits` would
    lose it.
    """

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

    def transform(self, noise: Noise) -> Event:
        return self.harden(self.perturb(noise))


class AbstractLatentDensity(AbstractRelaxable):
    """The perturbed logits of a relaxable distribution have a density that can be written down."""

    @abstractmethod
    def latent_log_prob(self, z: Noise) -> Scalar:
        """The log-density of `z = perturb(noise(key))`, differentiable in the leaves at fixed `z`."""


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
    `d/d theta_i E[f(x)] = c_i (E[f(x^+)] - E[f(x^-)])` with no derivative of `f` or of `log p`. The weight may be drawn
    with the events instead: the derivative is `E[c_i (f(x_i^+) - f(x_i^-))]` in any case.
    """

    @abstractmethod
    def weak_derivative(
        self, key: PRNGKey
    ) -> tuple["AbstractDistribution", "AbstractDistribution", "AbstractDistribution"]:
        """Weights, positive and negative draws: modules of this type whose leaves have, for a parameter leaf of shape
        `[*p]`, the shapes `[*p]`, `[*p, *event]` and `[*p, *event]`."""


class AbstractOrdered(AbstractDistribution):
    """Independent discrete variables whose values have an order, and a distribution function differentiable in the
    leaves.

    Let `F` and `q` be the distribution and mass functions of one variable. As a parameter moves, probability flows
    across the boundary between `x` and the next value at the rate `-d/d theta F(x)`, upwards if that is positive.
    Divided by what is there, `rise = -d/d theta F(x) / q(x)` is the rate at which `x` turns into the next value, and
    `fall = d/d theta F(x - 1) / q(x)` the rate at which it turns into the one before. A negative rate is a flow the
    other way. The score is `-(rise + fall)`.
    """

    @property
    @abstractmethod
    def variables(self) -> tuple[int, ...]:
        """The shape of the independent variables: the leading axes of an event and of every leaf."""

    @abstractmethod
    def neighbours(self, x: Event, direction: int) -> Float[Array, "..."]:
        """For each variable the event `x` with that variable moved to its next value (`direction` 1) or the one before
        (-1): axes of the variables, then those of the event. Where there is no such value it is another of the
        support."""

    @abstractmethod
    def rise(self, x: Event) -> "AbstractDistribution":
        """For each scalar parameter the rate above, of the one variable that depends on it; zero at a last value."""

    @abstractmethod
    def fall(self, x: Event) -> "AbstractDistribution":
        """For each scalar parameter the rate above, of the one variable that depends on it; zero at a first value."""


class AbstractLogitParameterized(AbstractDistribution):
    """Independent variables that each choose at most one of their coordinates, with a logit for every coordinate.

    A one-hot vector is such a variable, and so is a bit: the other coordinate of the choice, with logit zero, is left
    out. Coordinates are 0 or 1 and exclude each other, so that within a variable the covariance of an event with mean
    `q` is `diag(q) - q q^T`; and logits being natural parameters, that is the derivative of the mean in the logits.
    """

    logits: eqx.AbstractVar[Float[Array, "..."]]

    @abstractmethod
    def inner(self, u: Event, v: Event) -> Float[Array, "..."]:
        """The inner product of `u` and `v` within each variable, in a shape that broadcasts to that of the event."""

    def covariance(self, mean: Event, v: Event) -> Event:
        """The covariance of an event with mean `mean` times `v`; any point in the convex hull of the support may be
        `mean`."""
        return mean * (v - self.inner(mean, v))
