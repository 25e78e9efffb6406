r"""Toy expectations over continuous variables that are not normal, or not independent: all closed forms.

Location and scale families and laws with quantiles in closed form, so that what tells estimators apart is the law and not
how it is drawn: tails from none at all (uniform) to heavy (log-normal), a kink (Laplace), skewness, a bounded support that
is fixed (Kumaraswamy) and one that moves (uniform), dependence. With $X$ standard in its family,

$$E\,(\mu + s X)^2 = (\mu + s\, E X)^2 + s^2 \mathrm{Var}\, X, \quad
E \cos k(\mu + s X) = \cos(k \mu)\, \varphi(k s) \text{ for a symmetric } X, \quad
E\, e^{-k(\mu + s X)} = e^{-k \mu} L(k s),$$

with $\varphi$ the characteristic function of $X$ and $L$ its Laplace transform.
"""

import math

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from estimators import (
    AbstractDifferentiable,
    AbstractDistribution,
    Exponential,
    Gumbel,
    Kumaraswamy,
    Laplace,
    Logistic,
    LogNormal,
    MultivariateNormal,
    Uniform,
    Weibull,
)
from estimators.distributions.base import as_floating

from .base import PROBLEMS, Expectation, Scalar
from .gaussian import Cosine
from .toys import Number, QuadraticForm, SquaredDistance, mean_of_quadratic, require_at_least, rising_weights


class Power(AbstractDifferentiable):
    """`f(x) = sum_i x_i^power`, of positive events; the power is compiled in."""

    power: Number = eqx.field(static=True)

    def __call__(self, x: Float[Array, "..."]) -> Scalar:
        return jnp.sum(x**self.power)


class Decay(AbstractDifferentiable):
    """`f(x) = sum_i exp(-k x_i)`."""

    k: Float[Array, ""] = eqx.field(converter=as_floating)

    def __call__(self, x: Float[Array, "..."]) -> Scalar:
        return jnp.sum(jnp.exp(-self.k * x))


@jax.jit
def moment_truth(dist: AbstractDistribution, f: Power) -> AbstractDistribution:
    """The gradient of the sum of the moments, for a family that knows them."""
    return jax.grad(lambda d: jnp.sum(d.moment(f.power)))(dist)


@jax.jit
def quadratic_truth(dist: AbstractDistribution, f: SquaredDistance) -> AbstractDistribution:
    """The gradient of `E[f(x)]` for a quadratic `f` of independent variables."""
    return jax.grad(lambda d: mean_of_quadratic(f, d.mean(), d.variance()))(dist)


@jax.jit
def logistic_cosine_truth(dist: Logistic, f: Cosine) -> Logistic:
    """The characteristic function of a standard logistic variable is `pi t / sinh(pi t)`."""

    def mean(d: Logistic) -> Scalar:
        t = math.pi * f.k * d.scale
        return jnp.sum(jnp.cos(f.k * d.loc) * t / jnp.sinh(t))

    return jax.grad(mean)(dist)


@jax.jit
def uniform_cosine_truth(dist: Uniform, f: Cosine) -> Uniform:
    """The characteristic function of a uniform variable on [-1, 1] is `sin(t) / t`; `jnp.sinc(t)` is that at `pi t`."""
    return jax.grad(lambda d: jnp.sum(jnp.cos(f.k * d.loc) * jnp.sinc(f.k * d.scale / math.pi)))(dist)


@jax.jit
def gumbel_decay_truth(dist: Gumbel, f: Decay) -> Gumbel:
    """The Laplace transform of a standard Gumbel variable is `Gamma(1 + t)`."""
    return jax.grad(lambda d: jnp.sum(jnp.exp(jax.scipy.special.gammaln(1 + f.k * d.scale) - f.k * d.loc)))(dist)


@jax.jit
def quadratic_form_truth(dist: MultivariateNormal, f: QuadraticForm) -> MultivariateNormal:
    """The gradient of `f(loc) + 1/2 tr(f'' covariance)`, which is `E[f(x)]`."""
    return jax.grad(lambda d: f(d.loc) + jnp.vdot(jax.hessian(f)(d.loc), d.covariance()) / 2)(dist)


def repeated(family: str, dimension: int, *values: Number) -> list[list[Number]]:
    """Each of `values` for `dimension` variables."""
    require_at_least(1, family, dimension=dimension)
    return [[value] * dimension for value in values]


def logarithm(family: str, **positive: Number) -> float:
    """The logarithm of the one argument, which has to be positive."""
    ((name, value),) = positive.items()
    if value <= 0:
        raise ValueError(f"`{family}` needs `{name} > 0`, got {value}.")
    return math.log(value)


@PROBLEMS.register("laplace-quadratic")
def laplace_quadratic(k: Number = -0.5, loc: Number = 1.0, scale: Number = 1.0, dimension: int = 1) -> Expectation:
    """`f(x) = sum_i (x_i - k)^2`: `E[f] = (loc - k)^2 + 2 scale^2` for each variable.

    Tails twice as heavy as those of a normal variable of that variance, and a score along `loc` that is a sign.
    """
    leaves = repeated("laplace-quadratic", dimension, loc, logarithm("laplace-quadratic", scale=scale))
    return Expectation(Laplace(*leaves), SquaredDistance(k), quadratic_truth)


@PROBLEMS.register("logistic-cosine")
def logistic_cosine(k: Number = 1.0, loc: Number = 1.0, scale: Number = 0.5, dimension: int = 1) -> Expectation:
    """`f(x) = sum_i cos(k x_i)`: `E[f] = cos(k loc) t / sinh(t)` with `t = pi k scale > 0`, for each variable."""
    logarithm("logistic-cosine", k=k)
    leaves = repeated("logistic-cosine", dimension, loc, logarithm("logistic-cosine", scale=scale))
    return Expectation(Logistic(*leaves), Cosine(k), logistic_cosine_truth)


@PROBLEMS.register("gumbel-exponential")
def gumbel_exponential(k: Number = 1.0, loc: Number = 0.5, scale: Number = 1.0, dimension: int = 1) -> Expectation:
    """`f(x) = sum_i exp(-k x_i)`: `E[f] = exp(-k loc) Gamma(1 + k scale)` for each variable, with `k > 0`.

    The Gumbel law of maxima: `exp(-x / scale)` is exponential, so `f` is a power of an exponential variable.
    """
    logarithm("gumbel-exponential", k=k)
    leaves = repeated("gumbel-exponential", dimension, loc, logarithm("gumbel-exponential", scale=scale))
    return Expectation(Gumbel(*leaves), Decay(k), gumbel_decay_truth)


@PROBLEMS.register("uniform-cosine")
def uniform_cosine(k: Number = 2.0, loc: Number = 1.0, scale: Number = 0.8, dimension: int = 1) -> Expectation:
    """`f(x) = sum_i cos(k x_i)` of variables between `loc - scale` and `loc + scale`: `E[f] = cos(k loc) sin(t) / t` with
    `t = k scale`, for each variable.

    The support moves with the parameters, so there is no score: pathwise and measure-valued estimators are right, and the
    others are refused.
    """
    leaves = repeated("uniform-cosine", dimension, loc, logarithm("uniform-cosine", scale=scale))
    return Expectation(Uniform(*leaves), Cosine(k), uniform_cosine_truth)


@PROBLEMS.register("exponential-quadratic")
def exponential_quadratic(rate: Number = 1.0, target: Number = 0.5, dimension: int = 1) -> Expectation:
    """`f(x) = sum_i (x_i - target)^2`: with the mean `m = 1 / rate`, `E[f] = 2 m^2 - 2 m target + target^2` for each
    variable, and the gradient in the logarithm of the rate is `2 m target - 4 m^2`."""
    (leaf,) = repeated("exponential-quadratic", dimension, logarithm("exponential-quadratic", rate=rate))
    return Expectation(Exponential(leaf), SquaredDistance(target), quadratic_truth)


@PROBLEMS.register("weibull-moment")
def weibull_moment(
    power: Number = 2, scale: Number = 1.0, concentration: Number = 1.5, dimension: int = 1
) -> Expectation:
    """`f(x) = sum_i x_i^power`: `E[f] = scale^power Gamma(1 + power / concentration)` for each variable."""
    logarithm("weibull-moment", power=power)
    logarithms = logarithm("weibull-moment", scale=scale), logarithm("weibull-moment", concentration=concentration)
    return Expectation(Weibull(*repeated("weibull-moment", dimension, *logarithms)), Power(power), moment_truth)


@PROBLEMS.register("lognormal-moment")
def lognormal_moment(power: Number = 2, loc: Number = 0.0, scale: Number = 0.5, dimension: int = 1) -> Expectation:
    """`f(x) = sum_i x_i^power`: `E[f] = exp(power loc + (power scale)^2 / 2)` for each variable.

    The logarithm of `f` is normal with standard deviation `power scale`: variances of all estimators grow like the
    exponential of its square, and past two or so a sample does not show how large they are.
    """
    logarithm("lognormal-moment", power=power)
    leaves = repeated("lognormal-moment", dimension, loc, logarithm("lognormal-moment", scale=scale))
    return Expectation(LogNormal(*leaves), Power(power), moment_truth)


@PROBLEMS.register("kumaraswamy-moment")
def kumaraswamy_moment(power: Number = 2, a: Number = 1.5, b: Number = 2.5, dimension: int = 1) -> Expectation:
    """`f(x) = sum_i x_i^power` of variables on (0, 1): `E[f] = b B(1 + power / a, b)` for each variable."""
    logarithm("kumaraswamy-moment", power=power)
    logarithms = logarithm("kumaraswamy-moment", a=a), logarithm("kumaraswamy-moment", b=b)
    leaves = repeated("kumaraswamy-moment", dimension, *logarithms)
    return Expectation(Kumaraswamy(*leaves), Power(power), moment_truth)


@PROBLEMS.register("multivariate-normal-quadratic")
def multivariate_normal_quadratic(
    dimension: int = 3, correlation: Number = 0.6, scale: Number = 1.0, coupling: Number = 0.5
) -> Expectation:
    """`f(x) = x^T A x + b . x` of correlated normal variables: `E[f] = loc^T A loc + b . loc + tr(A covariance)`.

    The means run from -1 to 1 in equal steps, the covariances are `scale^2 correlation^|i - j|`, `A_ij = coupling^|i -
    j|`, and `b` is in proportion to 1, 2, ..., D and sums to one. Gradients are with respect to `loc` and the
    unconstrained Cholesky factor.
    """
    family = "multivariate-normal-quadratic"
    require_at_least(1, family, dimension=dimension)
    for name, value in {"correlation": correlation, "coupling": coupling}.items():
        if not -1 < value < 1:
            raise ValueError(f"`{family}` needs `{name}` between -1 and 1, got {value}.")
    apart = np.abs(np.subtract.outer(np.arange(dimension), np.arange(dimension)))
    covariance = math.exp(2 * logarithm(family, scale=scale)) * float(correlation) ** apart
    dist = MultivariateNormal.from_covariance(np.linspace(-1.0, 1.0, dimension), covariance)
    return Expectation(dist, QuadraticForm(float(coupling) ** apart, rising_weights(dimension)), quadratic_form_truth)
