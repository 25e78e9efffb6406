r"""An autoencoder in which all is linear and normal, so that its gradient is a closed form in any number of latents.

With latents $z \sim N(0, 1)$ and data $x \sim N(W z, \sigma^2)$ (probabilistic principal components), and an encoder whose `loc` and
`log_scale` are affine in $x$, the bound of a datum is

$$-\frac{1}{2 \sigma^2} \left(\|x - W \mathtt{loc}\|^2 + \sum_j \mathtt{scale}_j^2 \|W_j\|^2\right) - D \log \sigma \sqrt{2 \pi}
- \mathrm{KL}(q \| p).$$

The columns of $W$ are orthogonal here, which makes the latents independent in the posterior as they are in `q`: an encoder can be exact.
"""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, PyTree

from estimators import AbstractDifferentiable, Normal

from .base import PROBLEMS, AbstractProblem, Estimate, Gradient, PRNGKey, Scalar, Truth, as_numpy, in_float64
from .evidence import LogWeight, divergence
from .forms import estimated, integrand, leaves_of, require_form, through_encoder
from .posterior import LinearGaussian, float32, standard_normal_prior
from .toys import Number, require_at_least, standard_normals

SEED = 20260101
ROWS = 1024


class AffineEncoder(eqx.Module):
    """From a datum to a normal distribution of the latents, both leaves affine in it."""

    loc_weight: Float[Array, "latents data"]
    loc_bias: Float[Array, "latents"]
    log_scale_weight: Float[Array, "latents data"]
    log_scale_bias: Float[Array, "latents"]

    def __call__(self, x: Float[Array, "data"]) -> Normal:
        return Normal(self.loc_weight @ x + self.loc_bias, self.log_scale_weight @ x + self.log_scale_bias)


class LinearGaussianAutoencoder(AbstractProblem):
    """The gradient of the mean evidence bound of a batch, in parts and forms as those of `VariationalAutoencoder`."""

    encoder: AffineEncoder
    weight: Float[Array, "data latents"]
    log_noise: Float[Array, "data"]
    prior: Normal
    x: Float[Array, "batch data"]
    kl: str = eqx.field(static=True, default="sampled")

    def __check_init__(self):
        require_form("LinearGaussianAutoencoder", self.kl)

    def log_weight(self, dist: Normal, x: Float[Array, "data"]) -> LogWeight:
        """The integrand of the bound of one datum."""
        return LogWeight(LinearGaussian(self.weight, self.log_noise, x), self.prior, dist)

    def example(self) -> tuple[Normal, AbstractDifferentiable]:
        dist = self.encoder(self.x[0])
        return dist, integrand(self.log_weight(dist, self.x[0]), self.kl)

    def gradient(self, estimate: Estimate, key: PRNGKey) -> tuple[Gradient, PyTree]:
        def datapoint(key: PRNGKey, dist: Normal, x: Float[Array, "data"]) -> tuple[Normal, PyTree]:
            return estimated(estimate, key, self.log_weight(dist, x), self.kl)

        return through_encoder(datapoint, key, self.encoder, self.x, self.x)

    def parts(self, gradient: Gradient) -> dict[str, PyTree]:
        return {**gradient, **leaves_of(gradient["distribution"])}

    def elbo(self, encoder: AffineEncoder, shift: Normal | None = None) -> Scalar:
        """The exact mean bound, in nats, with the leaves of every datum's `q` moved by the rows of `shift`."""
        divergences = jax.vmap(lambda dist: divergence(dist, self.prior))(self.moved(encoder, shift))
        return self.fit(encoder, shift) - jnp.mean(divergences)

    def fit(self, encoder: AffineEncoder, shift: Normal | None = None) -> Scalar:
        """The expected log-likelihood in it."""

        def expectation(dist: Normal, x: Float[Array, "data"]) -> Scalar:
            return LinearGaussian(self.weight, self.log_noise, x).expectation(dist)

        return jnp.mean(jax.vmap(expectation)(self.moved(encoder, shift), self.x))

    def moved(self, encoder: AffineEncoder, shift: Normal | None) -> Normal:
        """The `q` of every datum, its leaves moved by the rows of `shift`."""
        dists = jax.vmap(encoder)(self.x)
        return dists if shift is None else jax.tree.map(jnp.add, dists, shift)

    def truth(self) -> Truth:
        with jax.enable_x64(True):
            gradient, term = as_numpy(slopes(in_float64(self)))
        return Truth(gradient, "closed form", term=term)


@eqx.filter_jit
def slopes(problem: LinearGaussianAutoencoder) -> tuple[Gradient, Gradient]:
    """Both parts of the gradients of the exact bound and of the expected log-likelihood in it."""
    still = jax.tree.map(jnp.zeros_like, jax.vmap(problem.encoder)(problem.x))
    both = [jax.grad(mean, (0, 1))(problem.encoder, still) for mean in (problem.elbo, problem.fit)]
    bound, fit = ({"distribution": distribution, "encoder": encoder} for encoder, distribution in both)
    return bound, fit


def orthogonal_columns(rows: int, columns: int) -> Float[np.ndarray, "rows columns"]:
    """Cosines of 1, 2, ... half waves along the rows, each column of length one."""
    phase = np.pi * (np.arange(rows)[:, None] + 0.5) * np.arange(1, columns + 1)[None] / rows
    return np.sqrt(2 / rows) * np.cos(phase)


@PROBLEMS.register("linear-gaussian-vae")
def linear_gaussian_vae(
    distance: Number = 0.1,
    latents: int = 2,
    dimension: int = 6,
    noise: Number = 1.0,
    kl: str = "sampled",
    batch: int = 10,
) -> LinearGaussianAutoencoder:
    """Data of the model itself, and an encoder at a known distance from the exact one.

    Column `j` of the weights, of length `2 / j`, is a cosine of `j` half waves. The data are the first `batch` of 1024 draws
    from the model. Every number of the encoder is that of the exact posterior plus `distance` times a standard normal one:
    at distance 0 the path derivative of the bound vanishes for every draw, and the truth is zero.

    **References:** Tipping and Bishop, Probabilistic principal component analysis, 1999. Rainforth et al., Tighter
    variational bounds are not necessarily better, 2018, arXiv:1802.04537, for a linear encoder perturbed at random.
    """
    require_at_least(1, "linear-gaussian-vae", latents=latents, batch=batch)
    if latents >= dimension or batch > ROWS:
        raise ValueError(
            f"`linear-gaussian-vae` needs `latents < dimension` and `batch <= {ROWS}`, got {latents} latents, {dimension} "
            f"dimensions and a batch of {batch}."
        )
    if noise <= 0:
        raise ValueError(f"`linear-gaussian-vae` needs `noise > 0`, got {noise}; it is a standard deviation.")
    lengths = 2 / np.arange(1, latents + 1)
    weight = orthogonal_columns(dimension, latents) * lengths[None]
    precision = 1 + lengths**2 / noise**2
    exact = (
        weight.T / (precision * noise**2)[:, None],
        np.zeros(latents),
        np.zeros((latents, dimension)),
        -np.log(precision) / 2,
    )
    z, rest, *steps = standard_normals(SEED, (ROWS, latents), (ROWS, dimension), *(array.shape for array in exact))
    encoder = AffineEncoder(*(float32(array + distance * step) for array, step in zip(exact, steps, strict=True)))
    x = (z @ weight.T + noise * rest)[:batch]
    log_noise = np.full(dimension, np.log(noise))
    prior = standard_normal_prior(latents)
    return LinearGaussianAutoencoder(encoder, float32(weight), float32(log_noise), prior, float32(x), kl)
