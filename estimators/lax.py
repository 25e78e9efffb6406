r"""LAX and Stein control variates: a learned function of the event, integrated by two routes.

For a reparameterizable event $x = T(\varepsilon; \theta)$ and any smooth $c$, the gradient of $E[c(x)]$ has an
estimate by the score and others that differentiate $c$. The difference of two has mean zero, so

$$\hat g = [f(x) - c(x)]\, \nabla_\theta \log p(x) + \text{a better estimate of } \nabla_\theta E[c(x)]$$

is unbiased whatever $c$, and asks of `f` its values only. Where $c$ is near `f` hardly any score is left: with
$c = f$ the estimate is the better one, of `f` itself. The better estimate is the path for `LAX`, and what Stein's
identity gives for a normal law for `SteinControlVariate`.
"""

import math
from typing import ClassVar

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from .base import AbstractLearnedEstimator, Grads, PRNGKey, score
from .distributions import AbstractDistribution, AbstractFixedSupport, AbstractReparameterizable, Normal
from .distributions.base import Scalar, as_floating
from .dlax import LatentNetwork, silent_network
from .objectives import Objective
from .registration import ESTIMATORS
from .validation import require_positive


@ESTIMATORS.register("lax")
class LAX(AbstractLearnedEstimator):
    r"""LAX: the score function, with a network as control variate whose gradient is pathwise.

    With $x = T(\varepsilon; \theta)$ and $c$ the network,

    $$\hat g = [f(x) - c(x)]\, \nabla_\theta \log p(x) + \nabla_\theta c(T(\varepsilon; \theta)),$$

    where the score is that of the density at a fixed point.

    Unbiased for every $c$. The network, one hidden layer of `width` units with `tanh`, is trained on the second moment
    of one estimate; its output layer starts at zero, so that training starts from `ScoreFunction`. With $c = f$ this
    would be `Pathwise`. Needs a reparameterizable distribution; one evaluation of `f`, which may be a black box, and
    one of the network with its derivative.

    >>> from estimators import Normal
    >>> LAX(width=4).evaluations(Normal(loc=[0.0], log_scale=[0.0]))
    1

    The network sees the event, flattened, and not the parameters.

    **References:** Grathwohl, Choi, Wu, Roeder and Duvenaud, Backpropagation through the void: optimizing control
    variates for black-box gradient estimation, 2018, arXiv:1711.00123.
    """

    width: int = eqx.field(static=True, default=10)
    learning_rate: Float[Array, ""] = eqx.field(converter=as_floating, default=0.01)

    unbiased: ClassVar[bool] = True
    requires: ClassVar[tuple[type, ...]] = (AbstractFixedSupport, AbstractReparameterizable)

    def __check_init__(self):
        require_positive(self, "learning_rate")
        require_positive(self, "width")

    def control(self, key: PRNGKey, dist: AbstractDistribution) -> LatentNetwork:
        return silent_network(key, dist, self.width)

    def gradient(self, key: PRNGKey, control: Objective, dist: Grads, f: Objective) -> Grads:
        noise = dist.noise(key)
        x = dist.reparameterize(noise)

        def terms(d: Grads) -> tuple[Scalar, Scalar]:
            return d.log_prob(x), control(d.reparameterize(noise))

        (log_prob, value), pullback = jax.vjp(terms, dist)
        return pullback(((f(x) - value).astype(log_prob.dtype), jnp.ones_like(value)))[0]

    def evaluations(self, dist: AbstractDistribution) -> int:
        del dist
        return 1


@ESTIMATORS.register("stein")
class SteinControlVariate(AbstractLearnedEstimator):
    r"""The score function with a network as control variate, whose gradient is that of Stein's identity.

    With $x = \mu + s \varepsilon$, the score $\nabla \log p(x)$ and $c$ the network, along `loc` and `log_scale`

    $$\hat g_{\mathrm{loc}, i} = [f(x) - c(x)]\, \nabla_{\mu_i} \log p(x) + \partial_i c(x), \qquad
    \hat g_{\mathrm{log\,scale}, i} = [f(x) - c(x)]\, \nabla_{\log s_i} \log p(x) + s_i^2\, \partial_i^2 c(x).$$

    Unbiased for every $c$ differentiable twice, by Stein's identity $E[c(x)\, \varepsilon_i] = s_i E[\partial_i c(x)]$,
    applied once along `loc` and twice along `log_scale`. The network, one hidden layer of `width` units with `tanh`, is
    trained on the second moment of one estimate (`MinVar` of the paper, whose `FitQ` is a regression of `f` on $x$);
    its output layer starts at zero, so that training starts from `ScoreFunction`. Needs a `Normal`; one evaluation of
    `f`, which may be a black box, and as many of the network with its derivatives as an event has numbers.

    >>> from estimators import Normal
    >>> SteinControlVariate(width=4).evaluations(Normal(loc=[0.0], log_scale=[0.0]))
    1

    Along `loc` it is `LAX`, for $x$ moves with the mean as it is. Along `log_scale` the path gives
    $s_i \varepsilon_i\, \partial_i c(x)$; the second derivative has the same mean, and for a quadratic $c$ it is a
    constant.

    **References:** Liu, Feng, Mao, Zhou, Peng and Liu, Action-dependent control variates for policy optimization via
    Stein's identity, 2018, arXiv:1710.11198. Stein, Estimation of the mean of a multivariate normal distribution, 1981.
    """

    width: int = eqx.field(static=True, default=10)
    learning_rate: Float[Array, ""] = eqx.field(converter=as_floating, default=0.01)

    unbiased: ClassVar[bool] = True
    requires: ClassVar[tuple[type, ...]] = (Normal,)

    def __check_init__(self):
        require_positive(self, "learning_rate")
        require_positive(self, "width")

    def control(self, key: PRNGKey, dist: Normal) -> LatentNetwork:
        return silent_network(key, dist, self.width)

    def gradient(self, key: PRNGKey, control: Objective, dist: Normal, f: Objective) -> Normal:
        x = dist.reparameterize(dist.noise(key))
        weight, size = f(x) - control(x), math.prod(dist.event_shape)
        hessian = jax.hessian(control)(x).reshape(size, size)
        exact = Normal(jax.grad(control)(x), dist.variance() * jnp.diagonal(hessian).reshape(x.shape))
        return jax.tree.map(lambda s, e: (weight * s).astype(s.dtype) + e, score(dist, x), exact)

    def evaluations(self, dist: AbstractDistribution) -> int:
        del dist
        return 1
