"""Checks of hyper-parameters that more than one family makes.

A numeric hyper-parameter is an array leaf, so under `jit` and `vmap` its value is not known; it was checked when the
estimator was made.
"""

import equinox as eqx
import jax
import numpy as np


def require_positive(estimator: eqx.Module, name: str) -> None:
    """Raise `ValueError` unless the hyper-parameter `name` of `estimator` is positive; a value that is traced passes.

    >>> from estimators import Quadrature
    >>> require_positive(Quadrature(resolution=3), "resolution")
    """
    value = getattr(estimator, name)
    if not isinstance(value, jax.core.Tracer) and not np.all(np.asarray(value) > 0):
        raise ValueError(f"`{type(estimator).__name__}` needs `{name} > 0`, got {value}; give a positive number.")


def require_at_least(estimator: eqx.Module, name: str, least: int) -> None:
    """Raise `ValueError` if the hyper-parameter `name` of `estimator` is below `least`; a value that is traced passes.

    >>> from estimators import Quadrature
    >>> require_at_least(Quadrature(resolution=3), "resolution", 2)
    """
    value = getattr(estimator, name)
    if not isinstance(value, jax.core.Tracer) and not np.all(np.asarray(value) >= least):
        raise ValueError(f"`{type(estimator).__name__}` needs `{name} >= {least}`, got {value}.")


def require_below(estimator: eqx.Module, name: str, bound: float) -> None:
    """Raise `ValueError` unless the hyper-parameter `name` of `estimator` is below `bound`; a value that is traced
    passes.

    >>> from estimators import ParameterShift
    >>> require_below(ParameterShift(shift=1.0), "shift", 2.0)
    """
    value = getattr(estimator, name)
    if not isinstance(value, jax.core.Tracer) and not np.all(np.asarray(value) < bound):
        raise ValueError(f"`{type(estimator).__name__}` needs `{name} < {bound:.6g}`, got {value}.")


def require_nonzero(estimator: eqx.Module, name: str) -> None:
    """Raise `ValueError` if the hyper-parameter `name` of `estimator` is zero; a value that is traced passes.

    >>> from estimators import DirectLossMinimization
    >>> require_nonzero(DirectLossMinimization(epsilon=-1.0), "epsilon")
    """
    value = getattr(estimator, name)
    if not isinstance(value, jax.core.Tracer) and np.any(np.asarray(value) == 0):
        raise ValueError(
            f"`{type(estimator).__name__}` needs `{name} != 0`, got {value}; give a number of either sign."
        )


def require_in_unit_interval(estimator: eqx.Module, name: str) -> None:
    """Raise `ValueError` unless the hyper-parameter `name` of `estimator` is in `[0, 1]`; a value that is traced passes.

    >>> from estimators import GuidedES
    >>> require_in_unit_interval(GuidedES(alpha=1.0), "alpha")
    """
    value = getattr(estimator, name)
    if not isinstance(value, jax.core.Tracer) and not np.all((np.asarray(value) >= 0) & (np.asarray(value) <= 1)):
        raise ValueError(f"`{type(estimator).__name__}` needs `0 <= {name} <= 1`, got {value}.")
