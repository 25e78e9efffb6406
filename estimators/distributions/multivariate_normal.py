"""The normal distribution with a full covariance matrix, by its Cholesky factor.

`x = loc + L e`, with `e` standard normal and `L` lower triangular with a positive diagonal: the covariance is `L L^T`, and
every positive definite matrix is that of one `L`.
"""

import math

import equinox as eqx
import jax.numpy as jnp
import numpy as np
from jax.scipy.linalg import solve_triangular
from jaxtyping import Array, Float

from .base import AbstractFixedSupport, AbstractIntegrable, Event, Noise, PRNGKey, Scalar, as_floating
from .normal import Normal


class MultivariateNormal(AbstractIntegrable, AbstractFixedSupport):
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
    def standard(self) -> Normal:
        """The law of the noise."""
        return Normal(jnp.zeros_like(self.loc), jnp.zeros_like(self.loc))

    def covariance(self) -> Float[Array, "d d"]:
        """The covariance matrix."""
        return self.factor @ self.factor.T

    def sample(self, key: PRNGKey) -> Event:
        return self.reparameterize(self.noise(key))

    def log_prob(self, x: Event) -> Scalar:
        factor = self.factor
        noise = solve_triangular(factor, x - self.loc, lower=True)
        log_volume = jnp.sum(jnp.log(jnp.diagonal(factor)))
        return -0.5 * jnp.vdot(noise, noise) - log_volume - 0.5 * self.loc.size * math.log(2 * math.pi)

    def noise(self, key: PRNGKey) -> Noise:
        return self.standard.noise(key)

    def reparameterize(self, noise: Noise) -> Event:
        return self.loc + self.factor @ noise

    def nodes(self, resolution: int) -> tuple[Float[Array, "nodes d"], Float[Array, "nodes"]]:
        return self.standard.nodes(resolution)
