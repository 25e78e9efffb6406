"""Suites: named lists of cells that are run, reported and cited together."""

from . import continuous as continuous, discrete as discrete, known as known, systems as systems, whole as whole
from .base import SUITES as SUITES, Block as Block, Cell as Cell, Suite as Suite, block as block, grid as grid
