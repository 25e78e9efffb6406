"""Records as a run would leave them, made without measuring: ten estimators on toys, sweeps and a VAE, with a heavy tail and failures."""

import json
import zlib

import numpy as np
from scipy import stats

from benchmarks.moments import BLOCKS
from benchmarks.records import Record, make_record

REPLICATES = 100_000
EPSILON = 0.01

# Variance beside that of the score function, evaluations, relative bias, declared unbiased, what it runs on.
ESTIMATORS = {
    "score-function": (1.0, 1, 0.0, True, "discrete normal vae"),
    "leave-one-out": (0.31, 2, 0.0, True, "discrete normal vae"),
    "disarm": (0.17, 2, 0.0, True, "discrete vae"),
    "rebar": (0.12, 3, 0.0, True, "discrete vae"),
    "relax": (0.11, 3, 0.0, True, "discrete vae"),
    "gumbel-softmax": (0.02, 1, 0.12, False, "discrete vae"),
    "straight-through": (0.008, 1, 0.31, False, "discrete vae"),
    "enumeration": (0.0, 256, 0.0, True, "discrete"),
    "pathwise": (0.05, 1, 0.0, True, "normal"),
    "measure-valued": (0.04, 4, 0.0, True, "discrete normal"),
}
# Kind, number of coordinates, variance of the score function, norm of the truth.
PROBLEMS = {
    "bernoulli-quadratic:logit=0,target=0.45": ("discrete", 1, 0.0159, 0.025),
    "bernoulli-quadratic:logit=-2,target=0.45": ("discrete", 1, 0.0062, 0.0105),
    "bernoulli-pairs": ("discrete", 12, 4.1, 1.3),
    "categorical-linear:categories=8": ("discrete", 8, 51.0, 3.2),
    "logistic-regression:data=concrete": ("normal", 18, 2.4e5, 310.0),
    "vae:checkpoint=initial": ("vae", 200, 9.6e3, 7.1),
    "vae:checkpoint=late": ("vae", 200, 1.7e4, 2.3),
}
TEMPERATURES = (0.05, 0.1, 0.2, 0.3, 0.5, 0.7, 1.0, 2.0)
FREQUENCIES = (0.25, 0.5, 1, 1.5, 2, 3, 4, 8)
PARTS = {
    "discrete": ("distribution",),
    "vae": ("distribution", "encoder"),
    "normal": ("distribution", "loc", "log_scale"),
}


def synthetic_records(seed: int = 0) -> list[Record]:
    """The records of a made-up run: a grid, a temperature sweep and a frequency sweep."""
    rng = np.random.default_rng(seed)
    swept = [(estimator, problem) for estimator in ("gumbel-softmax", "rebar") for problem in list(PROBLEMS)[:2]]
    pairs = [(estimator, problem) for problem in PROBLEMS for estimator in ESTIMATORS]
    records = [record for pair in pairs if pair not in swept for record in grid_cell(rng, *pair)]
    for problem in list(PROBLEMS)[:2]:
        for temperature in TEMPERATURES:
            records += temperature_cell(rng, problem, "gumbel-softmax", temperature, 0.35 * temperature**1.5)
            records += temperature_cell(rng, problem, "rebar", temperature, 0.0)
    for frequency in FREQUENCIES:
        problem, truth = f"normal-cosine:k={frequency}", frequency * np.exp(-0.5 * frequency**2)
        for estimator, variance in {
            "score-function": 0.5,
            "leave-one-out": 0.3,
            "pathwise": 0.5 * frequency**2,
        }.items():
            records += measured(rng, problem, estimator, "normal", 2, variance, truth, 0.0)
    return records


def grid_cell(rng: np.random.Generator, estimator: str, problem: str) -> list[Record]:
    """What one pair of the grid leaves, in place of its variance a reason where it has none."""
    factor, evaluations, bias, _, kinds = ESTIMATORS[estimator]
    kind, dim, variance, truth = PROBLEMS[problem]
    if kind not in kinds.split():
        reason = f"`{estimator.title().replace('-', '')}` needs another distribution than a {kind} problem has."
        return [unmeasured(estimator, problem, "incompatible", reason)]
    if (estimator, problem) == ("relax", "vae:checkpoint=late"):
        return [unmeasured(estimator, problem, "failed", "The estimate was not finite in 3 of 100000 replicates.")]
    jitter = np.exp(0.4 * rng.standard_normal())
    bias = 0.08 if (estimator, problem) == ("relax", "categorical-linear:categories=8") else bias * jitter
    settings = {"temperature": 0.4} if estimator in ("gumbel-softmax", "rebar") else {}
    variance *= jitter * factor
    return measured(rng, problem, estimator, kind, dim, variance, truth, bias, evaluations, settings)


def temperature_cell(rng, problem: str, estimator: str, temperature: float, bias: float) -> list[Record]:
    """One setting of a sweep: hot relaxations are biased, cold ones noisy."""
    kind, dim, variance, truth = PROBLEMS[problem]
    variance *= (0.05 / temperature + 0.01) if bias else (0.12 + 0.05 * np.log(temperature / 0.4) ** 2)
    settings = {"temperature": temperature}
    return measured(rng, problem, estimator, kind, dim, variance, truth, bias, ESTIMATORS[estimator][1], settings)


def measured(
    rng, problem, estimator, kind, dim, variance, truth, relative_bias, evaluations=1, settings=None, seed=0
) -> list[Record]:
    """The records of a measured cell, one for each part, with the sampling errors that its variance implies."""
    heavy = estimator == "score-function" and problem.startswith("logistic")
    unbiased, records = ESTIMATORS[estimator][3], []
    for index, part in enumerate(PARTS[kind]):
        scale = 1.0 if index == 0 else 0.6
        total, norm = variance * scale, truth * np.sqrt(scale)
        noise = np.sqrt(total / REPLICATES)
        bias = relative_bias * norm
        bias_se = np.sqrt((4 * bias**2 * noise**2 + 2 * noise**4) / dim)
        bias_sq = bias**2 + bias_se * rng.standard_normal()
        low, high = bias_sq - 1.96 * bias_se, bias_sq + 1.96 * bias_se
        error = (0.3 if heavy else 0.006 * np.exp(rng.standard_normal())) * total
        spread = np.exp(1.96 * error / total) if total else 1.0
        max_z = abs(bias_sq / bias_se) if bias_se else 0.0
        p_value = float(stats.chi2.sf(max_z**2, 1))
        verdict = "unbiased within eps" if high <= (EPSILON * norm) ** 2 else "undetermined"
        verdict = ("biased" if p_value < 1e-3 else verdict) if unbiased else "biased by design"
        needed = 4 * REPLICATES * high / (EPSILON * norm) ** 2
        seconds = evaluations * 1.3e-6 * dim**0.5
        records.append(
            make_record(
                suite="toys",
                problem=problem,
                estimator=estimator,
                parameters=part,
                headline=index == 0,
                hyperparameters=settings or {},
                unbiased=unbiased,
                seed=seed,
                replicates=REPLICATES,
                warmup=1000,
                dim=dim * (40 if part == "encoder" else 1),
                truth_kind="enumeration" if kind == "discrete" else "reference run" if kind == "vae" else "quadrature",
                truth_norm=norm,
                truth_se=1e-3 * norm if kind == "vae" else 0.0,
                bias_sq=bias_sq,
                bias_sq_se=bias_se,
                bias_sq_ci_low=low,
                bias_sq_ci_high=high,
                bias_max_z=max_z,
                bias_p_value=p_value,
                min_detectable_bias=2.8 * noise,
                relative_bias=np.sign(bias_sq) * np.sqrt(abs(bias_sq)) / norm,
                verdict=verdict,
                epsilon=EPSILON,
                needed_replicates=needed if verdict == "undetermined" else None,
                variance=total,
                variance_se=error,
                variance_ci_low=total / spread,
                variance_ci_high=total * spread,
                variance_blocks=blocks(problem, estimator, total, error),
                mse=total + bias_sq,
                snr=norm**2 / total if total else np.inf,
                cosine=norm / np.sqrt(norm**2 + total),
                sign_agreement=0.5 + 0.5 * norm / np.sqrt(norm**2 + total),
                khat=0.83 if heavy else 0.12,
                kurtosis=900.0 if heavy else 4.1,
                max_share=0.21 if heavy else 3e-4,
                heavy_tailed=heavy,
                evaluations=evaluations,
                seconds_per_estimate=seconds,
                batch=4096,
                compile_seconds=0.4,
                variance_x_evaluations=total * evaluations,
                variance_x_seconds=total * seconds,
                stream="toys/0",
                **conditions(),
                status="ok",
            )
        )
    return records


def blocks(problem: str, estimator: str, total: float, error: float) -> str:
    """Block means that scatter as `error` says, most of it shared by the estimators of a problem."""
    shared, own = (
        np.random.default_rng(zlib.crc32(text.encode())).standard_normal(BLOCKS)
        for text in (problem, problem + estimator)
    )
    scatter = error / total * np.sqrt(BLOCKS) * (0.95 * shared + 0.31 * own) if total else np.zeros(BLOCKS)
    return json.dumps([float(f"{mean:.8g}") for mean in total * np.maximum(1 + scatter, 0.01)])


def unmeasured(estimator: str, problem: str, status: str, reason: str, seed: int = 0) -> Record:
    """The one record of a cell without numbers."""
    return make_record(
        suite="toys",
        problem=problem,
        estimator=estimator,
        headline=True,
        hyperparameters={},
        unbiased=ESTIMATORS[estimator][3],
        seed=seed,
        status=status,
        reason=reason,
        **conditions(),
    )


def conditions() -> dict:
    """What all cells of the made-up run share."""
    return {
        "device": "cpu",
        "dtype": "float32",
        "versions": {"jax": "0.8.0", "scorepath": "0.1.0"},
        "commit": "0123abc",
    }


def identity(record: Record) -> dict:
    """The identity of the cell that a record came from."""
    settings = json.loads(record["hyperparameters"])
    names = ("estimator", "problem", "seed")
    return {**{name: record[name] for name in names}, "hyperparameters": settings, "replicates": REPLICATES}
