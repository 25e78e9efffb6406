r"""REBAR and RELAX: the score function with a relaxation as control variate, unbiased at every temperature.

Let $z$ be the perturbed logits, $b = \mathrm{harden}(z)$ the event and $\tilde z$ a second draw of the perturbed logits
*given* $b$. For any surrogate $c$ of `f`,

$$\hat g = [f(b) - c(\tilde z)]\, \nabla_\theta \log p(b) + \nabla_\theta c(z) - \nabla_\theta c(\tilde z)$$

is unbiased: the terms with $\tilde z$ together estimate $-\nabla_\theta E[c(\tilde z)]$, by the score of $b$ and along
the path $\tilde z(b; \theta)$, and $\tilde z$ has the law of $z$. Both gradients of $c$ are total: $\tilde z$ depends
on the leaves too. What tells the estimators of this room apart is $c$, and what of it is trained.

Training follows the gradient of the *second moment* of one estimate, $\nabla_\phi \|\hat g\|^2$: the mean does not
depend on the control, so that is an unbiased gradient of the variance. It differentiates the weight
$f(b) - c(\tilde z)$ as well. A surrogate loss with a `stop_gradient` around that weight has the same estimates but
hides the control in it from this second derivative; the control is then trained on another loss, possibly uphill, and
no test of the mean can tell.

The two draws must be coupled through $b$. Where $b$ is not the rounding of $z$ the mean is right still, and the
estimator another.
"""

import math
from collections.abc import Callable
from typing import ClassVar

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from .base import AbstractLearnedEstimator, Grads, PRNGKey
from .distributions import AbstractConditionallyRelaxable, AbstractDistribution
from .distributions.base import Event, Noise, Scalar, as_floating, precision
from .objectives import AbstractDifferentiable, Objective
from .registration import ESTIMATORS
from .validation import require_positive

Surrogate = Callable[[AbstractConditionallyRelaxable, Noise], Scalar]


def corrected_score(key: PRNGKey, dist: Grads, f: Objective, surrogate: Surrogate) -> Grads:
    """The estimate at the head of this file, `surrogate(dist, z)` for `c(z)`, by one pullback for all of its terms."""
    key_noise, key_fresh = jax.random.split(key)
    noise, fresh = dist.noise(key_noise), dist.noise(key_fresh)
    b = dist.harden(dist.perturb(noise))

    def terms(d: Grads) -> tuple[Scalar, Float[Array, "2"]]:
        latents = jnp.stack([d.perturb(noise), d.conditional(b, fresh)])
        return d.log_prob(b), jax.vmap(lambda z: surrogate(d, z))(latents)

    (log_prob, values), pullback = jax.vjp(terms, dist)
    weight = (f(b) - values[1]).astype(log_prob.dtype)
    return pullback((weight, jnp.array([1, -1], values.dtype)))[0]


class ScaledRelaxation(eqx.Module):
    """What REBAR trains; `log_temperature` is `None` where the temperature is a hyper-parameter."""

    coefficient: Float[Array, ""]
    log_temperature: Float[Array, ""] | None


@ESTIMATORS.register("rebar")
@ESTIMATORS.register("dynamic-rebar", learn_temperature=True)
class REBAR(AbstractLearnedEstimator):
    r"""REBAR: the score function, with the relaxed objective as control variate.

    With $z$ the perturbed logits, $b = \mathrm{harden}(z)$, $\tilde z$ perturbed logits given $b$ from fresh noise,
    $\eta$ the `coefficient`, $t$ the `temperature` and $c(z) = \eta f(\mathrm{relax}(z; t))$,

    $$\hat g = [f(b) - c(\tilde z)]\, \nabla_\theta \log p(b) + \nabla_\theta c(z) - \nabla_\theta c(\tilde z).$$

    Unbiased for every coefficient and temperature: $z$ and $\tilde z$ have one law. The coefficient is trained on the
    second moment of one estimate, and with `learn_temperature` so is the logarithm of the temperature (dynamic REBAR);
    the arguments say where they start. Needs a conditionally relaxable distribution and an `f` that is differentiable
    between its events; three evaluations of `f`.

    >>> from estimators import Bernoulli
    >>> control = REBAR(coefficient=0.5).control(jax.random.key(0), Bernoulli(logits=[0.0]))
    >>> print(control.coefficient, control.log_temperature)
    0.5 None

    The coefficient is one real number for all leaves, of either sign; the authors' program confines it to $(0, 2)$. For
    one Bernoulli variable the control variate has the mean $-c(0) \nabla \log p(b)$ given $b$: a constant baseline and
    added noise, so that a problem of one variable cannot show what REBAR is for.

    **References:** Tucker, Mnih, Maddison, Lawson and Sohl-Dickstein, REBAR: low-variance, unbiased gradient estimates
    for discrete latent variable models, 2017, arXiv:1703.07370.
    """

    temperature: Float[Array, ""] = eqx.field(converter=as_floating, default=0.5)
    coefficient: Float[Array, ""] = eqx.field(converter=as_floating, default=1.0)
    learn_temperature: bool = eqx.field(static=True, default=False)
    learning_rate: Float[Array, ""] = eqx.field(converter=as_floating, default=0.01)

    unbiased: ClassVar[bool] = True
    requires: ClassVar[tuple[type, ...]] = (AbstractConditionallyRelaxable, AbstractDifferentiable)

    def __check_init__(self):
        require_positive(self, "temperature")
        require_positive(self, "learning_rate")

    def control(self, key: PRNGKey, dist: AbstractDistribution) -> ScaledRelaxation:
        del key
        dtype = precision(dist)
        log_temperature = jnp.log(self.temperature).astype(dtype) if self.learn_temperature else None
        return ScaledRelaxation(self.coefficient.astype(dtype), log_temperature)

    def gradient(self, key: PRNGKey, control: ScaledRelaxation, dist: Grads, f: Objective) -> Grads:
        learned = self.learn_temperature
        temperature = jnp.exp(control.log_temperature) if learned else self.temperature.astype(precision(dist))
        return corrected_score(key, dist, f, lambda d, z: control.coefficient * f(d.relax(z, temperature)))

    def evaluations(self, dist: AbstractDistribution) -> int:
        del dist
        return 3


class RelaxationWithNetwork(eqx.Module):
    """What RELAX trains: a scaled relaxation and a network. Every leaf is an array, so it can be scanned and mapped."""

    coefficient: Float[Array, ""]
    log_temperature: Float[Array, ""]
    hidden: eqx.nn.Linear
    output: eqx.nn.Linear

    def correction(self, relaxed: Event) -> Scalar:
        """The network at a relaxed event, centred so that its input lies in [-1, 1]."""
        return self.output(jnp.tanh(self.hidden(2 * jnp.ravel(relaxed) - 1)))


@ESTIMATORS.register("relax")
class RELAX(AbstractLearnedEstimator):
    r"""RELAX: REBAR with a network added to the control variate.

    With $z$ the perturbed logits, $b = \mathrm{harden}(z)$, $\tilde z$ perturbed logits given $b$ from fresh noise and
    $c(z) = \eta f(r) + \mathrm{network}(2 r - 1)$, $r = \mathrm{relax}(z; t)$,

    $$\hat g = [f(b) - c(\tilde z)]\, \nabla_\theta \log p(b) + \nabla_\theta c(z) - \nabla_\theta c(\tilde z).$$

    Unbiased for every $c$. All of $c$ is trained on the second moment of one estimate: $\eta$, which starts at 1, the
    logarithm of $t$, which starts at that of `temperature`, and the network, one hidden layer of `width` units with
    `tanh` whose output layer starts at zero. So training starts from REBAR with coefficient 1. Needs a
    conditionally relaxable distribution and an `f` that is differentiable between its events; three evaluations of `f`,
    two of the network.

    >>> from estimators import Bernoulli
    >>> RELAX().evaluations(Bernoulli(logits=[0.0]))
    3

    This is the form whose $c$ contains the relaxed objective, as in the paper's experiments on discrete variables, with
    a trained coefficient before it. The form for a black box, a network alone, evaluates `f` once and is not this one.
    The network sees the relaxed event, flattened, and not $z$.

    **References:** Grathwohl, Choi, Wu, Roeder and Duvenaud, Backpropagation through the void: optimizing control
    variates for black-box gradient estimation, 2018, arXiv:1711.00123.
    """

    temperature: Float[Array, ""] = eqx.field(converter=as_floating, default=0.5)
    width: int = eqx.field(static=True, default=10)
    learning_rate: Float[Array, ""] = eqx.field(converter=as_floating, default=0.01)

    unbiased: ClassVar[bool] = True
    requires: ClassVar[tuple[type, ...]] = (AbstractConditionallyRelaxable, AbstractDifferentiable)

    def __check_init__(self):
        require_positive(self, "temperature")
        require_positive(self, "learning_rate")
        require_positive(self, "width")

    def control(self, key: PRNGKey, dist: AbstractDistribution) -> RelaxationWithNetwork:
        key_hidden, key_output = jax.random.split(key)
        dtype, size = precision(dist), math.prod(dist.event_shape)
        hidden = eqx.nn.Linear(size, self.width, dtype=dtype, key=key_hidden)
        output = eqx.nn.Linear(self.width, "scalar", dtype=dtype, key=key_output)
        log_temperature = jnp.log(self.temperature).astype(dtype)
        return RelaxationWithNetwork(jnp.ones((), dtype), log_temperature, hidden, jax.tree.map(jnp.zeros_like, output))

    def gradient(self, key: PRNGKey, control: RelaxationWithNetwork, dist: Grads, f: Objective) -> Grads:
        temperature = jnp.exp(control.log_temperature)

        def surrogate(d: AbstractConditionallyRelaxable, z: Noise) -> Scalar:
            relaxed = d.relax(z, temperature)
            return control.coefficient * f(relaxed) + control.correction(relaxed)

        return corrected_score(key, dist, f, surrogate)

    def evaluations(self, dist: AbstractDistribution) -> int:
        del dist
        return 3
