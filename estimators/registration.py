"""The one registry of estimators; each family file registers its own, importing nothing else of the package's front."""

from .registry import Registry

ESTIMATORS = Registry("estimator", "scorepath.estimators")
