r"""Bayesian logistic regression on real tables: many dimensions, real correlations, and a truth that is exact.

With weights $w \sim N(0, 1)$, rows of features $x_n$ and classes $y_n$,

$$\log p(y \mid w) = \sum_n y_n\, x_n \cdot w - \log(1 + e^{x_n \cdot w}).$$

Under a normal `q` with independent weights $x_n \cdot w$ is normal with mean $x_n \cdot \mathtt{loc}$ and variance
$\sum_j x_{nj}^2\, \mathtt{scale}_j^2$, so that the expectation is one integral on the line for each row, whatever the
number of weights. The integrand is analytic within $\pi$ of the real axis: by the trapezoidal rule it is exact to
rounding.
"""

import math
from importlib.resources import files
from typing import ClassVar

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from benchmarks.data import load
from estimators import AbstractSum, Normal
from estimators.elementary import sum_of_softplus

from .base import PROBLEMS, Scalar
from .evidence import HALF_WIDTH
from .posterior import AbstractLikelihood, EvidenceBound, float32, standard_normal_prior

TABLES = ("breast-cancer", "german", "australian", "ionosphere", "sonar")
POINTS = ("initial", "optimum")
# With standard deviation `s` and spacing `h` the trapezoidal rule is good to `exp(-2 pi^2 / (h s))`: to 1e-16 up to `s = 30`.
NODES = 1025


class Logistic(AbstractLikelihood, AbstractSum):
    """`f(w) = multiplicity sum_n log p(y_n | w)`: the log-likelihood of a table, or what a minibatch says of it; a term for each row."""

    features: Float[Array, "rows weights"]
    labels: Float[Array, "rows"]
    multiplicity: Float[Array, ""]

    kind: ClassVar[str] = "quadrature"

    def __call__(self, w: Float[Array, "weights"]) -> Scalar:
        logits = self.features @ w
        return self.multiplicity * (jnp.vdot(self.labels, logits) - sum_of_softplus(logits))

    @property
    def terms(self) -> int:
        return len(self.labels)

    def term(self, n: Int[Array, ""], w: Float[Array, "weights"]) -> Scalar:
        logit = jnp.vdot(self.features[n], w)
        return self.multiplicity * (self.labels[n] * logit - jax.nn.softplus(logit))

    def expectation(self, dist: Normal) -> Scalar:
        mean = self.features @ dist.loc
        deviation = jnp.sqrt(self.features**2 @ dist.scale**2)
        nodes, spacing = np.linspace(-HALF_WIDTH, HALF_WIDTH, NODES, retstep=True)
        masses = jnp.asarray(np.exp(-0.5 * nodes**2) * spacing / math.sqrt(2 * math.pi), mean.dtype)
        logits = mean[:, None] + deviation[:, None] * jnp.asarray(nodes, mean.dtype)[None]
        softplus = jax.nn.softplus(logits) @ masses
        return self.multiplicity * jnp.sum(self.labels * mean - softplus)


def standardised(features: Float[np.ndarray, "rows features"]) -> Float[np.ndarray, "rows weights"]:
    """Each column with mean zero and standard deviation one (a constant one with zeros), and a column of ones."""
    spread = np.std(features, axis=0)
    columns = (features - np.mean(features, axis=0)) / np.where(spread > 0, spread, 1)
    return np.concatenate([columns, np.ones((len(features), 1))], axis=1)


def starting_point(data: str, point: str, dimension: int) -> Normal:
    """The `q` called `point`: the prior, or the frozen optimum of the bound of the whole table."""
    if point not in POINTS:
        raise ValueError(f"Problem 'logistic-regression' has the points {', '.join(POINTS)}; got {point!r}.")
    if point == "initial":
        return standard_normal_prior(dimension)
    place = files(__package__) / "checkpoints" / "logistic-regression.npz"
    with place.open("rb") as file, np.load(file, allow_pickle=False) as archive:
        return Normal(float32(archive[f"{data}/loc"]), float32(archive[f"{data}/log_scale"]))


@PROBLEMS.register("logistic-regression")
def logistic_regression(
    data: str = "breast-cancer", point: str = "initial", kl: str = "analytic", batch: int | None = None
) -> EvidenceBound:
    """Bayesian logistic regression, a standard normal prior and an independent normal `q` of the weights and the bias.

    `data` is a table of `benchmarks.data.tables`, its columns standardised: `breast-cancer` (31 weights with the bias),
    `german` (25), `australian` (15), `ionosphere` (35) or `sonar` (61). `point` is `initial`, where `q` is the prior, or
    `optimum`, frozen at the maximum of the bound of the whole table, where its gradient is zero up to float32. `batch` makes the
    likelihood that of so many rows, evenly spaced and always the same, times the number of all rows over `batch`.
    With the default `kl` the likelihood is what an estimator is given: a sum with a term for each row, of which it may draw some.

    Evidence bound at the optimum, in nats: -67.46, -531.71, -245.14, -123.58 and -137.91, in the order of the tables above.

    **References:** Mohamed, Rosca, Figurnov and Mnih, Monte Carlo gradient estimation in machine learning, 2020,
    arXiv:1906.10652, for the setting (breast cancer, minibatches of 32).
    """
    if data not in TABLES:
        raise ValueError(f"Problem 'logistic-regression' has the data {', '.join(TABLES)}; got {data!r}.")
    table = load(data)
    features, count = standardised(table.features), len(table.labels)
    if batch is not None and not 1 <= batch <= count:
        raise ValueError(
            f"Problem 'logistic-regression' on {data!r} needs a `batch` of 1 to {count} rows, got {batch}."
        )
    chosen = np.arange(batch or count) * count // (batch or count)
    likelihood = Logistic(*map(float32, (features[chosen], table.labels[chosen], count / len(chosen))))
    dimension = features.shape[1]
    return EvidenceBound(starting_point(data, point, dimension), likelihood, standard_normal_prior(dimension), kl)
