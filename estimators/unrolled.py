r"""Unrolled systems: evolution strategies that see one window of time at an estimate.

A system runs under a parameter $\theta$ and pays $f(\theta) = \sum_w L_w(\theta, \dots, \theta)$, where the loss of
window $w$ depends on the parameters in force in the windows up to $w$. Perturb each window's, $\theta + \sigma
\varepsilon_v$, and let a worker be in a window $w$ drawn uniformly from all `W`. Then, by the score identity,

$$E\Big[\frac{W}{\sigma}\, L_w(\theta + \sigma \varepsilon_1, \dots, \theta + \sigma \varepsilon_w)\, \xi\Big], \qquad
\xi = \text{the sum of the distinct } \varepsilon_v \text{ with } v \le w,$$

is the gradient of the smoothed objective. Independent noise in every window is `PES`, the same noise in all of them is
`NRES`; noise in the current window alone is `TruncatedES`, whose $L_w$ forgets how $\theta$ brought the system there.
"""

from abc import abstractmethod
from typing import ClassVar

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from .base import AbstractStatelessEstimator, PRNGKey
from .distributions import AbstractDistribution, Delta
from .distributions.base import as_floating
from .objectives import AbstractUnrolled
from .parameter_perturbation import gaussian
from .registration import ESTIMATORS
from .validation import require_at_least, require_positive

Noise = Float[Array, "windows ..."]
Window = Int[Array, ""]


class AbstractOnlineES(AbstractStatelessEstimator):
    """Mirrored perturbation of an unrolled system, seen in one window; what tells them apart is `perturbation`."""

    sigma: eqx.AbstractVar[Float[Array, ""]]
    num_workers: eqx.AbstractVar[int]

    def __check_init__(self):
        require_positive(self, "sigma")
        require_at_least(self, "num_workers", 1)

    @abstractmethod
    def perturbation(self, noise: Noise, window: Window) -> tuple[Noise, Float[Array, "..."]]:
        r"""The noise in force in each window, and the sum $\xi$ for the worker in `window`."""

    def gradient(self, key: PRNGKey, dist: Delta, f: AbstractUnrolled) -> Delta:
        keys = jax.random.split(key)
        noises = gaussian(keys[0], (self.num_workers, f.windows, *dist.loc.shape), dist)
        windows = jax.random.randint(keys[1], (self.num_workers,), 0, f.windows)
        estimates = jax.vmap(lambda noise, window: self.worker(noise, window, dist, f))(noises, windows)
        return Delta(jnp.mean(estimates, axis=0))

    def worker(self, noise: Noise, window: Window, dist: Delta, f: AbstractUnrolled) -> Float[Array, "..."]:
        """The estimate of the worker in `window`, made of `noise`."""
        sigma = self.sigma.astype(dist.loc.dtype)
        applied, weight = self.perturbation(noise, window)
        plus, minus = f.losses(dist.loc[None] + sigma * applied), f.losses(dist.loc[None] - sigma * applied)
        return f.windows * (plus - minus)[window] / (2 * sigma) * weight

    def evaluations(self, dist: AbstractDistribution) -> int:
        del dist
        return 2 * self.num_workers


@ESTIMATORS.register("truncated-es")
class TruncatedES(AbstractOnlineES):
    r"""Evolution strategies on truncated unrolls: perturb in the current window, from where the unperturbed system is.

    With `loc` $\theta$, `sigma` $\sigma$, a window $w$ drawn uniformly from all `W` and standard normal $\varepsilon$,

    $$\hat g = \frac{W}{2 \sigma} \big(L_w(\theta, \dots, \theta, \theta + \sigma \varepsilon) - L_w(\theta, \dots,
    \theta, \theta - \sigma \varepsilon)\big)\, \varepsilon,$$

    averaged over `num_workers`.

    Biased: the state at the beginning of the window counts as given, so whatever $\theta$ does to later windows is
    missing, as in truncated backpropagation; beside it there is the smoothing. Needs a `Delta` and an unrolled
    objective; two evaluations for each worker, each an unroll from the start, where a worker that keeps the state pays
    for one window.

    >>> TruncatedES(num_workers=3).evaluations(Delta(loc=[1.0]))
    6

    **References:** Metz, Maheswaranathan, Nixon, Freeman and Sohl-Dickstein, Understanding and correcting pathologies
    in the training of learned optimizers, 2019, arXiv:1810.10180. Vicol, Metz and Sohl-Dickstein, Unbiased gradient
    estimation in unrolled computation graphs with persistent evolution strategies, 2021, arXiv:2112.13835.
    """

    sigma: Float[Array, ""] = eqx.field(converter=as_floating, default=0.3)
    num_workers: int = eqx.field(static=True, default=1)

    unbiased: ClassVar[bool] = False
    requires: ClassVar[tuple[type, ...]] = (Delta, AbstractUnrolled)

    def perturbation(self, noise: Noise, window: Window) -> tuple[Noise, Float[Array, "..."]]:
        return jnp.zeros_like(noise).at[window].set(noise[window]), noise[window]


@ESTIMATORS.register("pes")
class PES(AbstractOnlineES):
    r"""Persistent evolution strategies: fresh noise in every window, and a sum of all of it so far.

    With `loc` $\theta$, `sigma` $\sigma$, a window $w$ drawn uniformly from all `W` and independent standard normal
    $\varepsilon_1, \varepsilon_2, \dots$,

    $$\hat g = \frac{W}{2 \sigma} \big(L_w(\theta + \sigma \varepsilon_1, \dots, \theta + \sigma \varepsilon_w) -
    L_w(\theta - \sigma \varepsilon_1, \dots, \theta - \sigma \varepsilon_w)\big) \sum_{v \le w} \varepsilon_v,$$

    averaged over `num_workers`.

    Biased for the gradient of `f`, and declared so: its mean is the gradient of the smoothed $E[\sum_w L_w(\theta +
    \sigma \varepsilon_1, \dots, \theta + \sigma \varepsilon_w)]$, with nothing truncated, which is that of `f` if the
    losses are quadratic in the parameters of all windows. It is not the smoothing of `NRES`. Needs a `Delta` and an
    unrolled objective; two evaluations for each worker, each an unroll from the start, where a worker that keeps states
    and the sum pays for one window.

    >>> PES(num_workers=3).evaluations(Delta(loc=[1.0]))
    6

    An estimate is what one worker sees in one window; parameters do not change while it gets there.

    **References:** Vicol, Metz and Sohl-Dickstein, Unbiased gradient estimation in unrolled computation graphs with
    persistent evolution strategies, 2021, arXiv:2112.13835.
    """

    sigma: Float[Array, ""] = eqx.field(converter=as_floating, default=0.3)
    num_workers: int = eqx.field(static=True, default=1)

    unbiased: ClassVar[bool] = False
    requires: ClassVar[tuple[type, ...]] = (Delta, AbstractUnrolled)

    def perturbation(self, noise: Noise, window: Window) -> tuple[Noise, Float[Array, "..."]]:
        return noise, jnp.cumsum(noise, axis=0)[window]


@ESTIMATORS.register("nres")
class NRES(AbstractOnlineES):
    r"""Noise-reuse evolution strategies: the same noise in every window (found twice: NRES and ES-Single).

    With `loc` $\theta$, `sigma` $\sigma$, a window $w$ drawn uniformly from all `W` and standard normal $\varepsilon$,

    $$\hat g = \frac{W}{2 \sigma} \big(L_w(\theta + \sigma \varepsilon, \dots, \theta + \sigma \varepsilon) - L_w(\theta
    - \sigma \varepsilon, \dots, \theta - \sigma \varepsilon)\big)\, \varepsilon,$$

    averaged over `num_workers`, each with noise and window of its own.

    Biased for the gradient of `f`, and declared so: its mean is the gradient of the smoothed $E[f(\theta + \sigma
    \varepsilon)]$, with nothing truncated, as is that of `EvolutionStrategies`; summed over all windows for one
    $\varepsilon$ it is that estimator. Needs a `Delta` and an unrolled objective; two evaluations for each worker, each
    an unroll from the start, where a worker that keeps states and noise pays for one window.

    >>> NRES(num_workers=3).evaluations(Delta(loc=[1.0]))
    6

    **References:** Li, Harrison, Sohl-Dickstein, Smith and Metz, Variance-reduced gradient estimation via noise-reuse
    in online evolution strategies, 2023, arXiv:2304.12180. Vicol, Kolter and Swersky, Low-variance gradient estimation
    in unrolled computation graphs with ES-Single, 2023, arXiv:2304.11153.
    """

    sigma: Float[Array, ""] = eqx.field(converter=as_floating, default=0.3)
    num_workers: int = eqx.field(static=True, default=1)

    unbiased: ClassVar[bool] = False
    requires: ClassVar[tuple[type, ...]] = (Delta, AbstractUnrolled)

    def perturbation(self, noise: Noise, window: Window) -> tuple[Noise, Float[Array, "..."]]:
        del window
        return jnp.broadcast_to(noise[:1], noise.shape), noise[0]
