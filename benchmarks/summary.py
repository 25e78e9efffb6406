"""From a measurement to the numbers of a record: one flat dict for one part of the gradient."""

import json
import math

import numpy as np

from . import statistics
from .coordinates import sample_of
from .measurement import Measurement, flatten
from .moments import Moments, Spread
from .precision import Standing


def summarise(m: Measurement, part: str, epsilon: float) -> dict:
    """The fields of a record that a measurement determines. The problem's and the suite's names are the caller's to
    add."""
    spread = m.spreads[part]
    n = m.moments.count
    where = m.coordinates(part)
    mean, per_coordinate = m.moments.mean[where], m.moments.variance[where]
    trace = float(per_coordinate.sum())
    spans = statistics.variance(trace, spread.squares.sum(), spread.fourths, n)
    khat = statistics.pareto_shape(spread.tail)
    signal = max(float(np.sum(mean**2)) - trace / n, 0.0)
    seconds = m.run_seconds
    fields = {
        "parameters": part,
        "headline": part == m.parts[0],
        "unbiased": bool(m.estimator.unbiased),
        "replicates": m.replicates,
        **_precision_fields(m, part),
        "warmup": m.warm_up_steps,
        "dim": len(mean),
        **_bias_fields(m, where, epsilon),
        "variance": spans.trace,
        "variance_se": spans.standard_error,
        "variance_ci_low": spans.low,
        "variance_ci_high": spans.high,
        "variance_blocks": json.dumps([float(f"{mean:.8g}") for mean in block_variances(m.moments, spread, where)]),
        "snr": signal / trace if trace > 0 else math.inf,
        "cosine": spread.cosine / n,
        "sign_agreement": spread.aligned / n,
        "khat": khat,
        "kurtosis": _kurtosis(m.moments, where),
        "max_share": _largest_share(spread),
        "heavy_tailed": bool(khat > statistics.HEAVY),
        "evaluations": m.evaluations,
        "seconds_per_estimate": seconds,
        # Estimates that draw nothing are one and the same, which is computed once and alone.
        "batch": 1 if m.work.deterministic else m.work.together * m.processes,
        "compile_seconds": m.compile_seconds,
        "variance_x_evaluations": trace * m.evaluations,
        "variance_x_seconds": trace * seconds,
        "device": m.work.devices[0].device_kind,
        "dtype": str(m.work.dtype),
    }
    return {name: value.item() if isinstance(value, np.generic) else value for name, value in fields.items()}


def block_variances(moments: Moments, spread: Spread, where: np.ndarray) -> np.ndarray:
    """Means over the blocks of replicates of `|G - mean|^2 n / (n - 1)`, whose mean over replicates is the variance.

    The mean is that of all replicates, not that of the block: a block's own mean would lower each by `tr Sigma / m` for
    `m` replicates a block, and its noise would enter their scatter. The harness kept distances from a centre, which is
    the mean of the first few; with `e = mean - centre`, `|G - mean|^2 = |G - centre|^2 - 2 e.(G - centre) + |e|^2`.
    """
    used, shift = spread.counts > 0, moments.offset[where]
    squares = spread.squares[used] / spread.counts[used]
    squares += shift @ shift - 2 * moments.block_means()[:, where] @ shift
    return np.maximum(squares, 0.0) * moments.count / max(moments.count - 1, 1)


def standing(m: Measurement, part: str) -> Standing:
    """Where a part of a measurement stands on the way to a precision."""
    spread, where = m.spreads[part], m.coordinates(part)
    trace = float(m.moments.variance[where].sum())
    spans = statistics.variance(trace, spread.squares.sum(), spread.fourths, m.moments.count)
    if m.truth_record is None:
        return Standing(*spans, detectable=None, truth_norm=None, tested=0)
    sample = sample_of(m, where)
    found = statistics.bias(sample._replace(truth_se=np.zeros_like(sample.truth_se)))
    norm = float(np.linalg.norm(flatten(m.truth)[where]))
    return Standing(*spans, detectable=found.min_detectable, truth_norm=norm, tested=found.tested)


def _precision_fields(m: Measurement, part: str) -> dict:
    if m.precision is None:
        return {}
    reached = standing(m, part).reached(m.precision)
    return {"replicate_budget": m.budget, "precision_target": str(m.precision), "precision_reached": reached}


def _bias_fields(m: Measurement, where: np.ndarray, epsilon: float) -> dict:
    if m.truth_record is None:
        return {"truth_kind": "unknown", "verdict": "undetermined", "epsilon": epsilon}
    sample = sample_of(m, where)
    norm, trace = float(np.linalg.norm(flatten(m.truth)[where])), float(sample.variance.sum())
    found = statistics.bias(sample)
    verdict, needed = statistics.verdict(found, m.estimator.unbiased, max(norm, 0.01 * math.sqrt(trace)), epsilon)
    low, high = found.interval
    return {
        "truth_kind": m.truth_record.kind,
        "truth_norm": norm,
        "truth_se": float(np.linalg.norm(sample.truth_se)),
        "bias_sq": found.squared,
        "bias_sq_se": found.squared_se,
        "bias_sq_ci_low": low,
        "bias_sq_ci_high": high,
        "bias_max_z": found.max_z,
        "bias_p_value": found.p_value,
        "tested_dim": found.tested,
        "min_detectable_bias": found.min_detectable,
        "relative_bias": math.copysign(math.sqrt(abs(found.squared)), found.squared) / norm if norm > 0 else None,
        "verdict": verdict,
        "epsilon": epsilon,
        "needed_replicates": needed,
        "mse": max(found.squared, 0.0) + trace,
    }


def _largest_share(spread: Spread) -> float:
    """The share of the largest squared distance in their sum; zero where rounding has left nothing of either."""
    total = float(spread.squares.sum())
    return float(spread.tail.max(initial=0.0)) / total if total > 0 else 0.0


def _kurtosis(moments: Moments, where: np.ndarray) -> float:
    """The largest kurtosis of a coordinate that varies; NaN where fourth powers were not kept."""
    variance = moments.variance[where]
    if moments.fourth is None or not (varies := variance > 0).any():
        return math.nan
    return float(np.max(moments.fourth[where][varies] / variance[varies] ** 2))
