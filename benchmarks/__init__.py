"""Benchmarks: problems with exact truth, the harness that measures estimators on them, and what is printed of it.

Names are imported on first use, so that `scorepath --help` and the reports do not pay for importing JAX.
"""

from importlib import import_module

_HOMES = {
    "PROBLEMS": "benchmarks.problems",
    "AbstractProblem": "benchmarks.problems",
    "Expectation": "benchmarks.problems",
    "Truth": "benchmarks.problems",
    "Incompatible": "benchmarks.measurement",
    "Measurement": "benchmarks.measurement",
    "measure": "benchmarks.measurement",
}
__all__ = sorted(_HOMES)


def __getattr__(name: str):
    if name not in _HOMES:
        raise AttributeError(f"module 'benchmarks' has no attribute {name!r}")
    return getattr(import_module(_HOMES[name]), name)


def __dir__() -> list[str]:
    return __all__
