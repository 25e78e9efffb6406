r"""RODEO: leave-one-out with control variates made by a discrete Stein operator.

Drawing one variable afresh given the others leaves the law of the event as it is. So for every function $h$, scalar or
vector, and independent bits with probabilities $p$,

$$(A h)(x) = \sum_i (E_{y_i \sim p_i}[h(y_i, x_{-i})] - h(x)) = \sum_i r_i (h(x^i) - h(x)), \qquad E[(A h)(x)] = 0,$$

where $x^i$ is $x$ with its $i$-th bit flipped and $r_i$ the probability that drawing it afresh flips it. An $h$ that is
made of other samples is a fixed function as far as $x$ is concerned, and may be anything that resembles `f`; here it is
made of their values and derivatives of `f`, so that flipping all bits evaluates `f` nowhere else.

Let $s = x - p$ be the score. Since $r_i\, (1 - 2 x_i) = -s_i$, the operator on the vector function $h s$ is

$$(A\, (h s))_i(x) = s_i\, [(A h)(x) - h(x^i)].$$
"""

from typing import ClassVar

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from .base import AbstractLearnedEstimator, PRNGKey, draw
from .distributions import AbstractDistribution, Bernoulli
from .distributions.base import Scalar, as_floating, precision
from .double_cv import require_samples_besides
from .objectives import AbstractDifferentiable, Objective
from .registration import ESTIMATORS
from .validation import require_positive

Rows = Float[Array, "samples variables"]


class SteinControl(eqx.Module):
    """What RODEO trains: two coefficients, and the network in the surrogate. Every leaf is an array."""

    baseline_coefficient: Scalar
    score_coefficient: Scalar
    hidden: eqx.nn.Linear
    output: eqx.nn.Linear

    def surrogate(self, value: Scalar, change: Scalar) -> Scalar:
        """`H`: what `f` is nearby, given its value at a sample and the change that its derivative there predicts."""
        return change + self.output(jnp.tanh(self.hidden(jnp.stack([value, change]))))


@ESTIMATORS.register("rodeo")
class RODEO(AbstractLearnedEstimator):
    r"""RODEO: leave-one-out, its baseline and its score improved by the Gibbs form of a discrete Stein operator.

    For samples $x_1, \dots, x_n$ of `dist` with scores $s_k = x_k - p$, a surrogate for each that is made of the
    others, $h_k(y) = \frac{1}{n - 1} \sum_{j \ne k} H(f(x_j), f'(x_j)^\top (y - x_j))$, and $A$ the operator above,

    $$\hat g = \frac1n \sum_k \Big[f(x_k) - \frac{1}{n - 1} \sum_{j \ne k} (f(x_j) + \alpha\, (A h_j)(x_j))\Big] s_k
    + \beta\, (A\, (h_k s))(x_k).$$

    Unbiased for every $H$, $\alpha$ and $\beta$: $h_j$ does not depend on $x_j$, so $(A h_j)(x_j)$ has mean zero given
    all other samples. $H(u, v)$ is $v$ plus a network of one hidden layer of `width` units with `tanh` whose output
    layer starts at zero; that, $\alpha$ and $\beta$, which start at zero too, are trained on the second moment of one
    estimate. So training starts from `LeaveOneOut`. Needs a `Bernoulli` and an `f` that is differentiable at its
    events; `num_samples` evaluations of `f`, each with its derivative, and $n^2 (D + 1)$ of the network for $D$
    variables.

    >>> from estimators import Bernoulli
    >>> RODEO(num_samples=3).evaluations(Bernoulli(logits=[0.0, 1.0]))
    3

    The paper leaves the surrogate open; this $H$ starts as a Taylor expansion about the other samples. The operator is
    the sum over variables, where the mean is written too: a factor of $D$ in $\alpha$ and $\beta$. One surrogate serves
    both of its uses, and both are averaged over the samples, not summed.

    **References:** Shi, Zhou, Hwang, Titsias and Mackey, Gradient estimation with discrete Stein operators, 2022,
    arXiv:2202.09497.
    """

    num_samples: int = eqx.field(static=True, default=2)
    width: int = eqx.field(static=True, default=10)
    learning_rate: Float[Array, ""] = eqx.field(converter=as_floating, default=0.01)

    unbiased: ClassVar[bool] = True
    requires: ClassVar[tuple[type, ...]] = (Bernoulli, AbstractDifferentiable)

    def __check_init__(self):
        require_samples_besides(self)
        require_positive(self, "width")
        require_positive(self, "learning_rate")

    def control(self, key: PRNGKey, dist: AbstractDistribution) -> SteinControl:
        key_hidden, key_output = jax.random.split(key)
        dtype = precision(dist)
        hidden = eqx.nn.Linear(2, self.width, dtype=dtype, key=key_hidden)
        output = eqx.nn.Linear(self.width, "scalar", dtype=dtype, key=key_output)
        zero = jnp.zeros((), dtype)
        return SteinControl(zero, zero, hidden, jax.tree.map(jnp.zeros_like, output))

    def gradient(self, key: PRNGKey, control: SteinControl, dist: Bernoulli, f: Objective) -> Bernoulli:
        number = self.num_samples
        xs = draw(key, dist, number)
        values, slopes = jax.vmap(jax.value_and_grad(f))(xs)
        x, logits = xs.reshape(number, -1), jnp.ravel(dist.logits)[None]
        here, flipped = surrogates(control, x, values, slopes.reshape(number, -1))
        # The probability that a bit drawn afresh is not what it was.
        redrawn = jax.nn.sigmoid((1 - 2 * x) * logits)
        stein = jnp.sum(redrawn * (flipped - here[:, None]), axis=1)
        signal = values + control.baseline_coefficient * stein
        weights = values - (jnp.sum(signal) - signal) / (number - 1)
        bracket = weights[:, None] + control.score_coefficient * (stein[:, None] - flipped)
        scores = x - jax.nn.sigmoid(logits)
        return Bernoulli(jnp.mean(bracket * scores, axis=0).reshape(dist.logits.shape))

    def evaluations(self, dist: AbstractDistribution) -> int:
        del dist
        return self.num_samples


def surrogates(
    control: SteinControl, x: Rows, values: Float[Array, "samples"], slopes: Rows
) -> tuple[Float[Array, "samples"], Rows]:
    """`h_k` at `x_k`, and at `x_k` with each bit flipped: means over the other samples."""
    number = len(x)
    change = x @ slopes.T - jnp.sum(x * slopes, axis=1)[None]
    flips = change[:, :, None] + slopes[None] * (1 - 2 * x)[:, None]
    changes = jnp.concatenate([change[:, :, None], flips], axis=2)
    about = jax.vmap(jax.vmap(control.surrogate, in_axes=(None, 0)), in_axes=(0, 0))
    each = jax.vmap(about, in_axes=(None, 0))(values, changes)
    others = 1 - jnp.eye(number, dtype=each.dtype)
    means = jnp.sum(others[:, :, None] * each, axis=1) / (number - 1)
    return means[:, 0], means[:, 1:]
