"""Elementary functions in the form that costs XLA on CPU least.

The sine of a float32 costs the XLA of a CPU some ten nanoseconds, thirty times what its logarithm does, and so decides
what a cosine costs as an objective; the inverse error function behind a normal draw is slower than need be too, and the
softplus behind the likelihood of a pixel takes a logarithm for each where one for sixteen will do. What stands here for
them has the accuracy of float32 (a test measures it in units in the last place), and is used for float32 on CPU only:
other precisions and platforms keep JAX's own functions. The softmax and its logarithm are JAX's own with a derivative
of fewer sums. All are differentiable as often as one likes.
"""

import math
from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jaxtyping import Array, Float

Values = Float[Array, "..."]

# Four parts of pi / 2, the first three of so few bits that their product with a multiple of this size is exact in float32.
LARGEST_ANGLE = 8192.0
HALF_PI = (1.5703125, 4.8351287841796875e-4, 3.1385570764541626e-7, 6.077100628276710e-11)
# Least-squares fits on [0, (pi / 4)^2] in relative error: sin(r) = r + r^3 P(r^2), cos(r) = 1 - r^2 / 2 + r^4 Q(r^2).
SINE = (-1.6666654611e-1, 8.3321608736e-3, -1.9515295891e-4)
COSINE = (4.166664568298827e-2, -1.388731625493765e-3, 2.443315711809948e-5)
# Giles, Approximating the erfinv function, 2011: in `w - 2.5` for `w = -log(1 - x^2) < 5`, in `sqrt(w) - 3` beyond.
CENTRAL = (
    1.50140941,
    0.246640727,
    -0.00417768164,
    -0.00125372503,
    0.00021858087,
    -4.39150654e-6,
    -3.5233877e-6,
    3.43273939e-7,
    2.81022636e-8,
)
TAIL = (
    2.83297682,
    1.00167406,
    0.00943887047,
    -0.0076224613,
    0.00573950773,
    -0.00367342844,
    0.00134934322,
    0.000100950558,
    -0.000200214257,
)
# A product of so many numbers between 1 and 2 is below 2^16.
FACTORS = 16


def polynomial(x: Values, coefficients: tuple[float | Values, ...]) -> Values:
    """`coefficients[0] + coefficients[1] x + ...`, by Horner's rule."""
    value = jnp.full_like(x, coefficients[-1]) if isinstance(coefficients[-1], float) else coefficients[-1]
    for coefficient in coefficients[-2::-1]:
        value = value * x + coefficient
    return value


def on_cpu(fast: Callable[[Values], Values], builtin: Callable[[Values], Values]) -> Callable[[Values], Values]:
    """`fast` for float32 on CPU, else `builtin`."""

    def function(x: Values) -> Values:
        return lax.platform_dependent(x, cpu=fast, default=builtin) if x.dtype == jnp.float32 else builtin(x)

    return function


def _reduced(x: Values, quarter: int) -> Values:
    """`sin(x + quarter pi / 2)` for moderate `x`, from the rest that a multiple of pi / 2 leaves."""
    multiple = jnp.round(x * np.float32(2 / np.pi))
    rest = x
    for part in HALF_PI:
        rest = rest - multiple * np.float32(part)
    square = rest * rest
    sine = rest + rest * square * polynomial(square, SINE)
    cosine = 1 - square / 2 + square * square * polynomial(square, COSINE)
    quadrant = multiple.astype(jnp.int32) + quarter
    value = jnp.where(quadrant & 1 == 1, cosine, sine)
    return jnp.where(quadrant & 2 == 2, -value, value)


def elementwise(function: Callable[[Values], Values]) -> Callable[[Values], Values]:
    """`function`, of which every batch is one array: what it decides by looking at one, it decides once for all."""
    whole = jax.custom_batching.custom_vmap(function)
    whole.def_vmap(lambda size, batched, x: (whole(x), True))
    return whole


def _angle(quarter: int, builtin: Callable[[Values], Values]) -> Callable[[Values], Values]:
    """A sine, where one look at the largest angle of all decides which way to go."""

    def function(x: Values) -> Values:
        moderate = jnp.max(jnp.abs(x), initial=0.0) < LARGEST_ANGLE
        return lax.cond(moderate, lambda x: _reduced(x, quarter), builtin, x)

    return on_cpu(elementwise(function), builtin)


_sin, _cos = _angle(0, jnp.sin), _angle(1, jnp.cos)


@jax.custom_jvp
def sin(x: Values) -> Values:
    """The sine of `x`."""
    return _sin(x)


@jax.custom_jvp
def cos(x: Values) -> Values:
    """The cosine of `x`."""
    return _cos(x)


sin.defjvps(lambda tangent, value, x: tangent * cos(x))
cos.defjvps(lambda tangent, value, x: -tangent * sin(x))


def _erfinv(x: Values) -> Values:
    w = -jnp.log((1 - x) * (1 + x))
    central = w < 5
    argument = jnp.where(central, w - 2.5, jnp.sqrt(w) - 3)
    coefficients = tuple(jnp.where(central, np.float32(a), np.float32(b)) for a, b in zip(CENTRAL, TAIL, strict=True))
    return jnp.where(jnp.abs(x) == 1, x * jnp.inf, polynomial(argument, coefficients) * x)


def _once(x: Values) -> Values:
    """Behind a branch that the compiler cannot foresee (a number equals itself), and so cannot copy into all that reads
    a normal draw: the event, and every part of a gradient."""
    first = x.ravel()[:1]
    return lax.cond(jnp.all(first == first), _erfinv, lax.erf_inv, x)


_erfinv_on_cpu = on_cpu(elementwise(_once), lax.erf_inv)


@jax.custom_jvp
def erfinv(x: Values) -> Values:
    """The inverse error function of `x` in [-1, 1]."""
    return _erfinv_on_cpu(x)


erfinv.defjvps(lambda tangent, value, x: tangent * (math.sqrt(math.pi) / 2) * jnp.exp(value**2))


def _sum_of_softplus(x: Values) -> Values:
    """One logarithm for a product of `FACTORS` factors between 1 and 2, which neither overflows nor loses a digit."""
    size = -(-x.size // FACTORS)
    flat = jnp.pad(x.ravel(), (0, size * FACTORS - x.size), constant_values=-jnp.inf)
    factors = 1 + jnp.exp(-jnp.abs(flat)).reshape(FACTORS, size)
    product = factors[0]
    for factor in factors[1:]:
        product = product * factor
    return jnp.sum(jnp.maximum(x, 0)) + jnp.sum(jnp.log(product))


_sum_of_softplus_on_cpu = on_cpu(_sum_of_softplus, lambda x: jnp.sum(jax.nn.softplus(x)))


@jax.custom_jvp
def sum_of_softplus(x: Values) -> Float[Array, ""]:
    """The sum of `log(1 + exp(x))` over all elements: what the pixels of an image cost."""
    return _sum_of_softplus_on_cpu(x)


sum_of_softplus.defjvps(lambda tangent, value, x: jnp.vdot(jax.nn.sigmoid(x), tangent))


@jax.custom_jvp
def softmax(x: Values) -> Values:
    """`exp(x) / sum(exp(x))` along the last axis."""
    return jax.nn.softmax(x)


@softmax.defjvp
def _softmax_jvp(primals: tuple[Values], tangents: tuple[Values]) -> tuple[Values, Values]:
    """One sum more, where that of the quotient takes three."""
    value, (tangent,) = softmax(*primals), tangents
    return value, value * (tangent - jnp.sum(value * tangent, axis=-1, keepdims=True))


@jax.custom_jvp
def log_softmax(x: Values) -> Values:
    """`x - log(sum(exp(x)))` along the last axis."""
    return jax.nn.log_softmax(x)


@log_softmax.defjvp
def _log_softmax_jvp(primals: tuple[Values], tangents: tuple[Values]) -> tuple[Values, Values]:
    value, (tangent,) = log_softmax(*primals), tangents
    return value, tangent - jnp.sum(jnp.exp(value) * tangent, axis=-1, keepdims=True)
