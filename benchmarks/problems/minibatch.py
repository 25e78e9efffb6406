r"""Minibatches: the gradient that a training step follows, noise of the data and all.

A training step estimates the gradient of the mean bound of a whole data set from a few of its images. The problem here is that step: every
estimate draws a minibatch first, and then what an estimator draws. The images of a minibatch are different (a uniform subset, as a
shuffled epoch gives them), so that with `N` images, minibatches of `b` and exact gradients $g_k$ of the single images with mean
$\bar g$, the exact gradient of a minibatch has the variance (Cochran, Sampling techniques, 1977, theorem 2.2)

$$\frac{1}{b}\, \frac{N - b}{N - 1}\, \frac{1}{N} \sum_k \|g_k - \bar g\|^2,$$

which is nothing at `b = N`. Drawn with replacement, it would lack the factor in the middle.
"""

import equinox as eqx
import jax
import numpy as np
from jaxtyping import PyTree

from estimators import AbstractDistribution
from estimators.objectives import Objective

from .base import AbstractProblem, Estimate, Gradient, PRNGKey, Truth
from .vae import VariationalAutoencoder


class Minibatch(AbstractProblem):
    """The gradient of the mean bound of all images of `whole` with respect to its encoder, from a minibatch of `batch` of them.

    The part `distribution` has no place here: from one minibatch to the next its rows are those of other images.
    """

    whole: VariationalAutoencoder
    batch: int = eqx.field(static=True)

    def __check_init__(self):
        if not 1 <= self.batch <= len(self.whole.images):
            raise ValueError(
                f"`Minibatch` needs a `batch` of 1 to {len(self.whole.images)}, the number of images, got {self.batch}."
            )

    def draw(self, key: PRNGKey) -> VariationalAutoencoder:
        """The problem of one minibatch."""
        chosen = jax.random.choice(key, len(self.whole.images), (self.batch,), replace=False)
        return eqx.tree_at(lambda problem: problem.images, self.whole, self.whole.images[chosen])

    def example(self) -> tuple[AbstractDistribution, Objective]:
        return self.whole.example()

    def gradient(self, estimate: Estimate, key: PRNGKey) -> tuple[Gradient, PyTree]:
        key_images, key_estimate = jax.random.split(key)
        gradient, stats = self.draw(key_images).gradient(estimate, key_estimate)
        return {"encoder": gradient["encoder"]}, stats

    def parts(self, gradient: Gradient) -> dict[str, PyTree]:
        return dict(gradient)

    def truth(self) -> Truth | None:
        truth = self.whole.truth()
        return truth and truth._replace(gradient={"encoder": truth.gradient["encoder"]})

    def exact_variance(self) -> float | None:
        """The variance of the exact gradient of a minibatch, by the formula above; `None` where no gradient is exact."""
        count = len(self.whole.images)
        singles = (eqx.tree_at(lambda p: p.images, self.whole, self.whole.images[k : k + 1]) for k in range(count))
        truths = [single.truth() for single in singles]
        if None in truths:
            return None
        rows = np.array([np.concatenate([w.ravel() for w in jax.tree.leaves(t.gradient["encoder"])]) for t in truths])
        spread = float(np.sum(np.var(rows, axis=0)))
        return spread / self.batch * (count - self.batch) / max(count - 1, 1)
