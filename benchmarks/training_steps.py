"""Training steps that the command line decomposes: for each problem its data set and exact noise, for each estimator a row."""

import json
from collections.abc import Iterator

import jax
import numpy as np

from estimators import ESTIMATORS

from . import environment
from .data import load
from .decomposition import FEWEST, Decomposition, decompose
from .harness import stream_key
from .measurement import flatten, hyperparameters
from .noise import PARTS, make_row
from .problems import PROBLEMS, mismatch
from .problems.minibatch import Minibatch
from .problems.vae import VariationalAutoencoder
from .specs import Spec, UserError
from .work import double_precision


def training_step(spec: Spec, batch: int) -> Minibatch:
    """The training step of the autoencoder `spec`, whose data set is all packaged digits unless `spec` gives a `batch` of its own."""
    arguments = {"batch": len(load("digits").images), **dict(spec.arguments)}
    if not isinstance(spec.create(PROBLEMS), VariationalAutoencoder):
        raise UserError(f"A decomposition needs an autoencoder, whose data have minibatches; {str(spec)!r} is none.")
    whole = Spec(spec.name, tuple(sorted(arguments.items()))).create(PROBLEMS)
    try:
        return Minibatch(whole, batch)
    except ValueError as error:
        raise UserError(f"The problem {str(spec)!r} has no such minibatches. {error}") from error


def run_decompositions(estimators: list[Spec], problems: list[Spec], options) -> Iterator[dict]:
    """One row for each pair, problem by problem; `options` has `batch`, `replicates`, `seed` and `warm_up`."""
    if options.replicates < FEWEST:
        raise UserError(f"A decomposition needs `--replicates` of at least {FEWEST}, got {options.replicates}.")
    made = {spec: spec.create(ESTIMATORS) for spec in estimators}
    steps = {spec: training_step(spec, options.batch) for spec in problems}
    for spec, step in steps.items():
        key, truth, first = stream_key(options.seed, "minibatches", str(spec)), step.truth(), None
        known = {
            "problem": str(spec),
            "parameters": "encoder",
            "seed": options.seed,
            "replicates": options.replicates,
            "batch": options.batch,
            "images": len(step.whole.images),
            "exact_minibatch": step.exact_variance(),
            "truth_norm": truth and float(np.linalg.norm(flatten(truth.gradient))),
            "device": jax.local_devices()[0].device_kind,
            "dtype": "float64" if double_precision() else "float32",
            "versions": json.loads(environment.versions()),
            "commit": environment.commit(),
        }
        for name, estimator in made.items():
            known |= {
                "estimator": name.name,
                "hyperparameters": json.loads(hyperparameters(estimator)),
                "unbiased": bool(estimator.unbiased),
            }
            if (reason := mismatch(estimator, step)) is not None:
                yield make_row(**known, status="incompatible", reason=reason)
                continue
            found = decompose(estimator, step, key, replicates=options.replicates, warm_up_steps=options.warm_up)
            first = first or (str(name), found)
            yield make_row(**known, **_numbers(found, first[1]), baseline=first[0], status="ok")


def _numbers(found: Decomposition, first: Decomposition) -> dict[str, float | int]:
    intervals = {name: found.interval(name) for name in PARTS[:3]}
    intervals |= {"share": found.share(), "ratio": found.ratio(first)}
    ends = {f"{name}_ci_{end}": float(getattr(i, end)) for name, i in intervals.items() for end in ("low", "high")}
    return {name: float(i.value) for name, i in intervals.items()} | ends | {"dim": found.coordinates}
