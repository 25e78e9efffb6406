"""Independent Bernoulli variables.

With logistic noise `e`, the perturbed logit `z = logits + e` is positive with probability `p = sigmoid(logits)`; given
its sign `s = +-1`, `s z` has the law of `softplus(e + softplus(s logits))` (invert the conditional distribution
function of the logistic law; Tucker et al., REBAR, 2017, appendix C, in a form that neither underflows nor loses the
sign).
"""

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from .base import AbstractStratifiable, AbstractWeaklyDifferentiable, Event, Noise, PRNGKey, Scalar, as_floating
from .coordinates import replaced
from .discrete import (
    AbstractAdditivelyPerturbed,
    AbstractConditionallyRelaxable,
    AbstractEnumerable,
    AbstractFactorized,
    AbstractLatentDensity,
    AbstractLogitParameterized,
    AbstractOrdered,
)


class Bernoulli(
    AbstractAdditivelyPerturbed,
    AbstractConditionallyRelaxable,
    AbstractEnumerable,
    AbstractFactorized,
    AbstractLatentDensity,
    AbstractLogitParameterized,
    AbstractOrdered,
    AbstractStratifiable,
    AbstractWeaklyDifferentiable,
):
    """Independent events in {0, 1} with success probabilities `sigmoid(logits)`, any shape.

    >>> dist = Bernoulli(logits=[-1.0, 0.5])
    >>> dist.event_shape, dist.support_size
    ((2,), 4)
    """

    logits: Float[Array, "*variables"] = eqx.field(converter=as_floating)

    @property
    def event_shape(self) -> tuple[int, ...]:
        return self.logits.shape

    def sample(self, key: PRNGKey) -> Event:
        # The uniform draw that `noise` would turn into a logistic one: `sample(key)` is `harden(perturb(noise(key)))`.
        u = jax.random.uniform(key, self.logits.shape, self.logits.dtype, minval=jnp.finfo(self.logits.dtype).tiny)
        return (u > jax.nn.sigmoid(-self.logits)).astype(self.logits.dtype)

    def log_prob(self, x: Event) -> Scalar:
        return jnp.sum(x * self.logits - jax.nn.softplus(self.logits))

    @property
    def support_size(self) -> int:
        return 2**self.logits.size

    def support(self) -> Float[Array, "events ..."]:
        codes = jnp.arange(self.support_size)[:, None] >> jnp.arange(self.logits.size)[None]
        return (codes & 1).astype(self.logits.dtype).reshape(-1, *self.logits.shape)

    def marginals(self) -> Float[Array, "variables 2"]:
        logits = jnp.ravel(self.logits)
        return jax.nn.sigmoid(jnp.stack([-logits, logits], axis=1))

    def replacements(self, x: Event) -> Float[Array, "variables 2 ..."]:
        this, values = jnp.eye(x.size, dtype=bool)[:, None], jnp.arange(2, dtype=x.dtype)[None, :, None]
        return jnp.where(this, values, jnp.ravel(x)[None, None]).reshape(x.size, 2, *x.shape)

    def noise(self, key: PRNGKey) -> Noise:
        return jax.random.logistic(key, self.logits.shape, self.logits.dtype)

    def noise_at(self, u: Noise) -> Noise:
        return jnp.log(u) - jnp.log1p(-u)

    def perturb(self, noise: Noise) -> Noise:
        return self.logits + noise

    def latent_log_prob(self, z: Noise) -> Scalar:
        noise = z - self.logits
        return jnp.sum(jax.nn.log_sigmoid(noise) + jax.nn.log_sigmoid(-noise))

    def conditional(self, x: Event, noise: Noise) -> Noise:
        sign = 2 * x - 1
        size = jax.nn.softplus(noise + jax.nn.softplus(sign * self.logits))
        # The least noise underflows at a large logit, and zero would round to failure whatever `x`.
        return sign * jnp.maximum(size, jnp.finfo(noise.dtype).tiny)

    def relax(self, z: Noise, temperature: Scalar) -> Event:
        return jax.nn.sigmoid(z / temperature)

    def harden(self, z: Noise) -> Event:
        return (z > 0).astype(z.dtype)

    def mean(self) -> Event:
        return jax.nn.sigmoid(self.logits)

    def inner(self, u: Event, v: Event) -> Float[Array, "..."]:
        return u * v

    def noise_score(self, noise: Noise) -> Noise:
        """`2 u - 1` for the uniform `u = sigmoid(noise)`."""
        return jnp.tanh(noise / 2)

    def switched(self, x: Event) -> Float[Array, "..."]:
        """Each bit flipped."""
        bit = jnp.eye(x.size, dtype=x.dtype).reshape(*x.shape, *x.shape)
        return jnp.abs(jnp.broadcast_to(x, bit.shape) - bit)

    def weak_derivative(self, key: PRNGKey) -> tuple["Bernoulli", "Bernoulli", "Bernoulli"]:
        """Each bit set to one and to zero in one shared draw of the others, with weight `p (1 - p)`."""
        p = self.mean()
        x = self.sample(key)
        bit = jnp.eye(x.size, dtype=x.dtype).reshape(*x.shape, *x.shape)
        others = jnp.broadcast_to(x, bit.shape) * (1 - bit)
        return Bernoulli(p * (1 - p)), Bernoulli(others + bit), Bernoulli(others)

    @property
    def variables(self) -> tuple[int, ...]:
        return self.logits.shape

    def neighbours(self, x: Event, direction: int) -> Float[Array, "..."]:
        return replaced(x, jnp.clip(x + direction, 0, 1))

    def rise(self, x: Event) -> "Bernoulli":
        return Bernoulli((1 - x) * jax.nn.sigmoid(self.logits))

    def fall(self, x: Event) -> "Bernoulli":
        return Bernoulli(-x * jax.nn.sigmoid(-self.logits))
