"""From a measurement to the numbers of a record: one flat dict for one part of the gradient."""

import math

import jax
import numpy as np

from . import statistics


def summarise(m, part: str, epsilon: float) -> dict:
    """The fields of a record that a measurement determines. The problem's and the suite's names are the caller's to
    add."""
    spread = m.spreads[part]
    n = m.moments.count
    pick = _picker(m, part)
    mean, per_coordinate = pick(m.mean), pick(m.variance)
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
        "warmup": m.warm_up_steps,
        "dim": len(mean),
        **_bias_fields(m, pick, mean, per_coordinate, trace, epsilon),
        "variance": spans.trace,
        "variance_se": spans.standard_error,
        "variance_ci_low": spans.low,
        "variance_ci_high": spans.high,
        "snr": signal / trace if trace > 0 else math.inf,
        "cosine": spread.cosine / n,
        "sign_agreement": spread.aligned / n,
        "khat": khat,
        "kurtosis": _kurtosis(m, pick, per_coordinate),
        "max_share": float(spread.tail.max(initial=0.0) / spread.squares.sum()) if trace > 0 else 0.0,
        "heavy_tailed": bool(khat > statistics.HEAVY),
        "evaluations": m.evaluations,
        "seconds_per_estimate": seconds,
        "batch": m.batch,
        "compile_seconds": m.compile_seconds,
        "variance_x_evaluations": trace * m.evaluations,
        "variance_x_seconds": trace * seconds,
        "device": m.device,
        "dtype": m.dtype,
    }
    return {name: value.item() if isinstance(value, np.generic) else value for name, value in fields.items()}


def _picker(m, part):
    """A function from a gradient to the coordinates of one part: `[d]`, or `[blocks, d]` for leaves with that leading
    axis."""

    def pick(tree, leading: int = 0) -> np.ndarray:
        leaves = jax.tree.leaves(m.problem.parts(tree)[part])
        return np.concatenate(
            [np.asarray(leaf, np.float64).reshape(*leaf.shape[:leading], -1) for leaf in leaves], axis=-1
        )

    return pick


def _bias_fields(m, pick, mean, per_coordinate, trace, epsilon) -> dict:
    if m.truth_record is None:
        return {"truth_kind": "unknown", "verdict": "undetermined", "epsilon": epsilon}
    n, truth = m.moments.count, pick(m.truth)
    error = np.zeros_like(truth) if m.truth_record.standard_error is None else pick(m.truth_record.standard_error)
    norm = float(np.linalg.norm(truth))
    root_second_moment = math.sqrt(float(np.sum(mean**2)) + trace)
    resolution = (
        statistics.ROUNDING_UNITS * float(np.finfo(m.dtype).eps) * max(norm, root_second_moment) / math.sqrt(len(truth))
    )
    found = statistics.bias(mean - truth, per_coordinate, pick(m.moments.block_means(), 1), n, error, resolution)
    scale = max(norm, 0.01 * math.sqrt(trace))
    verdict, needed = statistics.verdict(found, m.estimator.unbiased, scale, epsilon)
    low, high = found.interval
    return {
        "truth_kind": m.truth_record.kind,
        "truth_norm": norm,
        "truth_se": float(np.linalg.norm(error)),
        "bias_sq": found.squared,
        "bias_sq_se": found.squared_se,
        "bias_sq_ci_low": low,
        "bias_sq_ci_high": high,
        "bias_max_z": found.max_z,
        "bias_p_value": found.p_value,
        "min_detectable_bias": found.min_detectable,
        "relative_bias": math.copysign(math.sqrt(abs(found.squared)), found.squared) / norm if norm > 0 else None,
        "verdict": verdict,
        "epsilon": epsilon,
        "needed_replicates": needed,
        "mse": max(found.squared, 0.0) + trace,
    }


def _kurtosis(m, pick, per_coordinate) -> float:
    """The largest kurtosis of a coordinate that varies; NaN where fourth powers were not kept."""
    if m.moments.fourth is None:
        return math.nan
    varies = per_coordinate > 0
    return (
        float(np.max(pick(m.moments.fourth)[varies] / per_coordinate[varies] ** 2, initial=0.0))
        if varies.any()
        else math.nan
    )
