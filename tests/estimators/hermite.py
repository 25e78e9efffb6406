"""Products of Gauss-Hermite rules: exact means, over standard normal noise, of polynomials of degree up to `2 nodes - 1` in each."""

import itertools
import math

import numpy as np


def rule(dimension: int, nodes: int) -> tuple[np.ndarray, np.ndarray]:
    """Noise of `dimension` entries and its weights, which sum to one."""
    line, weights = np.polynomial.hermite_e.hermegauss(nodes)
    noise = np.array(list(itertools.product(line, repeat=dimension)))
    products = np.array(list(itertools.product(weights / math.sqrt(2 * math.pi), repeat=dimension)))
    return noise, np.prod(products, axis=1)
