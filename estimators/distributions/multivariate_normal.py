"""The normal distribution with a full covariance matrix, by its Cholesky factor.

`x = loc + L e`, with `e` standard normal and `L` lower triangular with a positive diagonal: the covariance is `L L^T`, and
every positive definite matrix is that of one `L`.

A velocity `S (x - loc)` with `S` symmetric carries the covariance `C` to `C + dC` if `S C + C S = dC`, and being the
gradient of a potential it does so with the least kinetic energy. In the eigenvectors of `C` the solution is that of `dC`
with each entry over the sum of two eigenvalues.
"""

import math

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jax.scipy.linalg import solve_triangular
from jaxtyping import Array, Float

from .base import AbstractFixedSupport, AbstractStratifiable, Event, Noise, PRNGKey, Scalar, as_floating
from .continuous import AbstractCorrelated, AbstractIntegrable, AbstractTransportable
from .normal import Normal


@jax.custom_jvp
def carried(x: Float[Array, "d"], loc: Float[Array, "d"], factor: Float[Array, "d d"]) -> Float[Array, "d"]:
    """The point `x`, which moves with `loc` and `factor` at the velocity of least kinetic energy."""
    del loc, factor
    return x


@carried.defjvp
def _(primals, tangents):
    x, loc, factor = primals
    x_dot, loc_dot, factor_dot = tangents
    values, vectors = jnp.linalg.eigh(factor @ factor.T)
    half = vectors.T @ factor_dot @ (factor.T @ vectors)
    symmetric = (half + half.T) / (values[:, None] + values[None])
    return x, x_dot + loc_dot + vectors @ (symmetric @ (vectors.T @ (x - loc)))


class MultivariateNormal(
    AbstractIntegrable, AbstractCorrelated, AbstractFixedSupport, AbstractStratifiable, AbstractTransportable
):
    """An event of one axis, normal with mean `loc` and the lower triangular Cholesky factor that `triangle` says.

    `triangle` has the entries of the factor row by row, `D (D + 1) / 2` of them, with the logarithms of those on the
    diagonal in their places: all unconstrained.

    >>> dist = MultivariateNormal(loc=[0.0, 0.0], triangle=[0.0, 0.5, 0.0])
    >>> print(dist.covariance())
    [[1.   0.5 ]
     [0.5  1.25]]
    """

    loc: Float[Array, "d"] = eqx.field(converter=as_floating)
    triangle: Float[Array, "entries"] = eqx.field(converter=as_floating)

    def __check_init__(self):
        if self.loc.ndim != 1 or self.triangle.shape != (self.loc.size * (self.loc.size + 1) // 2,):
            raise ValueError(
                "`MultivariateNormal` needs a `loc` of shape `[D]` and a `triangle` of shape `[D (D + 1) / 2]`, got shapes "
                f"{self.loc.shape} and {self.triangle.shape}."
            )

    @classmethod
    def from_covariance(cls, loc, covariance) -> "MultivariateNormal":
        """The one with this covariance matrix, of numbers.

        >>> print(MultivariateNormal.from_covariance([0.0, 0.0], [[1.0, 0.5], [0.5, 1.25]]).triangle)
        [0.  0.5 0. ]
        """
        factor = np.linalg.cholesky(np.asarray(covariance, np.float64))
        np.fill_diagonal(factor, np.log(np.diagonal(factor)))
        return cls(loc, factor[np.tril_indices(len(factor))])

    @property
    def event_shape(self) -> tuple[int, ...]:
        return self.loc.shape

    @property
    def factor(self) -> Float[Array, "d d"]:
        """The Cholesky factor of the covariance."""
        rows, columns = np.tril_indices(self.loc.size)
        diagonal = rows == columns
        entries = jnp.where(diagonal, jnp.exp(jnp.where(diagonal, self.triangle, 0)), self.triangle)
        return jnp.zeros((self.loc.size, self.loc.size), entries.dtype).at[rows, columns].set(entries)

    @property
    def whitener(self) -> Float[Array, "d d"]:
        """The inverse of the factor, each of its rows by substitution.

        So it is `whitener @ factor` that is the identity up to rounding, and the product with `factor @ noise` errs by a
        small multiple of `eps |whitener| |factor| |noise|`, which is the bound of a substitution for that one vector. By
        columns it would be `factor @ whitener`, and the bound would have the condition number in it once more.
        """
        return solve_triangular(self.factor, jnp.eye(self.loc.size, dtype=self.loc.dtype), lower=True, trans=1).T

    def whitened(self, x: Event) -> Noise:
        """The noise that makes `x`: the solution of a linear system, which is how it is differentiated too."""
        factor, whitener = self.factor, self.whitener
        return jax.lax.custom_linear_solve(
            lambda noise: factor @ noise,
            x - self.loc,
            solve=lambda _, b: whitener @ b,
            transpose_solve=lambda _, b: b @ whitener,
        )

    @property
    def standard(self) -> Normal:
        """The law of the noise."""
        return Normal(jnp.zeros_like(self.loc), jnp.zeros_like(self.loc))

    def covariance(self) -> Float[Array, "d d"]:
        """The covariance matrix."""
        return self.factor @ self.factor.T

    def sample(self, key: PRNGKey) -> Event:
        return self.reparameterize(self.noise(key))

    def log_prob(self, x: Event) -> Scalar:
        noise = self.whitened(x)
        log_volume = jnp.sum(self.triangle[np.cumsum(np.arange(1, self.loc.size + 1)) - 1])
        return -0.5 * jnp.vdot(noise, noise) - log_volume - 0.5 * self.loc.size * math.log(2 * math.pi)

    def noise(self, key: PRNGKey) -> Noise:
        return self.standard.noise(key)

    def noise_at(self, u: Noise) -> Noise:
        return self.standard.noise_at(u)

    def reparameterize(self, noise: Noise) -> Event:
        return self.loc + self.factor @ noise

    def entries(self, matrix: Float[Array, "d d"]) -> "MultivariateNormal":
        return MultivariateNormal(jnp.zeros_like(self.loc), matrix[np.tril_indices(self.loc.size)])

    def transport(self, x: Event) -> Event:
        return carried(x, self.loc, self.factor)

    def nodes(self, resolution: int) -> tuple[Float[Array, "nodes d"], Float[Array, "nodes"]]:
        return self.standard.nodes(resolution)
