"""The commands behind the command line: each takes parsed arguments and returns an exit code."""

import difflib
import inspect
import json
import sys

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from estimators.registry import UnknownName

from .comparison import ComparisonError
from .files import StoreError
from .specs import Spec, UserError, parse_list

MISTAKES = (UserError, UnknownName, StoreError, ComparisonError)


def _registries(plugins: list[str]) -> dict:
    """The registries by what a user calls them, with those plug-ins loaded."""
    from estimators import ESTIMATORS

    from .plugins import load_plugin
    from .problems import PROBLEMS
    from .suites import SUITES

    for file in plugins:
        load_plugin(file)
    return {"estimators": ESTIMATORS, "problems": PROBLEMS, "suites": SUITES}


def _first_sentence(text: str | None) -> str:
    return " ".join((text or "").strip().split("\n\n")[0].split())


def _description(registry, name: str) -> str:
    return _first_sentence(inspect.getdoc(registry.factory(name)))


def list_names(arguments) -> int:
    """Names with one line each."""
    registry = _registries(arguments.plugin)[arguments.what]
    rows = [{"name": name, "description": _description(registry, name)} for name in sorted(registry)]
    if arguments.json:
        for row in rows:
            print(json.dumps(row))
        return 0
    table = Table(box=None, header_style="bold", pad_edge=False)
    table.add_column(arguments.what[:-1], no_wrap=True)
    table.add_column("what it is")
    for row in rows:
        table.add_row(row["name"], escape(row["description"]))
    Console().print(table)
    return 0


def info(arguments) -> int:
    """The documentation of one name, and what its arguments are by default."""
    registries = _registries(arguments.plugin)
    spec = Spec.parse(arguments.name)
    for registry in registries.values():
        if spec.name in registry:
            break
    else:
        near = [name for registry in registries.values() for name in registry]
        close = difflib.get_close_matches(spec.name, near, n=3, cutoff=0.5)
        hint = f"did you mean {' or '.join(map(repr, close))}?" if close else "see `scorepath list estimators`."
        raise UserError(f"There is no estimator, problem or suite named {spec.name!r}; {hint}")
    thing = spec.create(registry)
    print(f"{spec} ({registry.noun})\n")
    if registry.noun == "suite":
        _print_suite(thing)
        return 0
    print(inspect.getdoc(registry.factory(spec.name)))
    print(
        "\narguments:",
        ", ".join(map(str, inspect.signature(registry.factory(spec.name)).parameters.values())) or "none",
    )
    if registry.noun == "estimator":
        requires = (
            ", ".join(capability.__name__ for capability in thing.requires) or "nothing beyond samples and log_prob"
        )
        print(f"unbiased: {'yes' if thing.unbiased else 'no'}\nrequires: {requires}")
    return 0


def _print_suite(suite) -> None:
    print(suite.description, "\n")
    for block in suite.blocks:
        print(f"{block.replicates} replicates of {', '.join(map(str, block.estimators))}")
        print(f"  on {', '.join(map(str, block.problems))}")


def run(arguments) -> int:
    """Measure the cells of a suite or of the command line, print their table, keep their records."""
    from . import processes
    from .session import run_session
    from .startup import prepare

    prepare()
    processes.start(arguments.distributed, arguments.coordinator, arguments.processes, arguments.process_id)
    try:
        return run_session(_cells(arguments), arguments)
    except MISTAKES:
        if processes.index() > 0:  # Process 0 says it.
            return 2
        raise


def _cells(arguments) -> list:
    """The cells that the arguments ask for."""
    from .precision import BUDGET
    from .suites import Block, Suite

    registries = _registries(arguments.plugin)
    if (arguments.suite is None) == (arguments.estimators is None and arguments.problems is None):
        raise UserError(
            "Say what to run: a suite, or both `--estimators` and `--problems`. `scorepath list suites` shows the suites."
        )
    if arguments.suite is not None:
        suite = registries["suites"].create(arguments.suite)
    elif arguments.estimators is None or arguments.problems is None:
        raise UserError("`--estimators` and `--problems` go together; `scorepath list problems` shows what there is.")
    else:
        block = Block(tuple(parse_list(arguments.estimators)), tuple(parse_list(arguments.problems)), 10_000)
        suite = Suite("", "", (block,))
    cells = suite.cells()
    replicates = arguments.replicates or (BUDGET if arguments.precision else None)
    return [cell._replace(replicates=replicates) for cell in cells] if replicates else cells


def decompose(arguments) -> int:
    """Where the variance of the training gradient of an autoencoder comes from."""
    from . import noise
    from .training_steps import run_decompositions

    _registries(arguments.plugin)
    rows = []
    for row in run_decompositions(parse_list(arguments.estimators), parse_list(arguments.problems), arguments):
        print(f"{row['estimator']} on {row['problem']}: {row['reason'] or 'done'}", file=sys.stderr, flush=True)
        rows.append(row)
        if arguments.json:
            print(noise.to_line(row), end="", flush=True)
    if not arguments.json:
        print("\n".join(table.to_markdown() for table in noise.tables(rows)))
    if arguments.out:
        options = (
            f"--{name} {getattr(arguments, name)}" for name in ("problems", "estimators", "batch", "replicates", "seed")
        )
        noise.write(arguments.out, rows, f"scorepath decompose {' '.join(options)}")
    return 0


def report(arguments) -> int:
    """Tables and figures from records."""
    from .report import write_report

    for path in write_report(arguments.folder, arguments.baseline):
        print(path)
    return 0


def compare(arguments) -> int:
    """What differs between two runs, and what only one of them has."""
    from .differences import difference_table, differences, only_in_one
    from .store import existing_run

    first, second = (existing_run(folder).records() for folder in (arguments.first, arguments.second))
    rows = differences(first, second)
    table = difference_table(rows, arguments.all)
    print(f"A: {arguments.first}\nB: {arguments.second}\n")
    print(table.to_markdown() if table.rows else f"{table.caption}\n", end="")
    for line in only_in_one(first, second):
        print(line)
    return 1 if arguments.strict and rows["differs"].map(len).any() else 0


def doctor(arguments) -> int:
    """What numbers made here would be made with."""
    del arguments
    import jax

    from . import environment
    from .startup import cache_folder, prepare

    prepare()
    facts = {
        **environment.machine(),
        **json.loads(environment.versions()),
        "commit": environment.commit() or "not a checkout",
    }
    facts["precision of estimates"] = "float64" if jax.config.jax_enable_x64 else "float32"
    facts["precision of moments"] = "float64"
    facts["key implementation"] = str(jax.config.jax_default_prng_impl)
    facts["compiled programs"] = str(cache_folder() or "not kept")
    width = max(map(len, facts))
    for name, value in facts.items():
        print(f"{name:<{width}}  {value}")
    if "rbg" in facts["key implementation"]:
        print(
            "The default key implementation draws differently under `vmap`; scorepath needs threefry2x32.",
            file=sys.stderr,
        )
        return 1
    return 0


COMMANDS = {
    "list": list_names,
    "info": info,
    "run": run,
    "decompose": decompose,
    "report": report,
    "compare": compare,
    "doctor": doctor,
}
