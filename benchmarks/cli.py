"""The command line: what may be asked, and nothing of how it is done.

Only the standard library is imported here, so that `--help` answers at once; each command imports what it needs. A
mistake of the user's ends in one sentence and exit code 2, failed cells under `--strict` in exit code 1, an
interruption in 130.
"""

import argparse
import sys

EPILOG = """\
examples:
  scorepath run quick --out runs/quick          measure, table, resume if it was interrupted
  scorepath run --estimators disarm,rebar:temperature=0.1 --problems bernoulli-vae:checkpoint=late
  scorepath decompose --problems bernoulli-vae --estimators disarm,leave-one-out --out runs/noise
  scorepath report runs/quick                   tables and figures from the records
  scorepath compare runs/before runs/after      what differs beyond the joint error of two runs
  scorepath info gumbel-softmax                 formula, bias, requirements, cost, reference
"""


def positive(text: str) -> int:
    """A whole number of at least two, as replicates are counted."""
    value = int(text)
    if value < 2:
        raise argparse.ArgumentTypeError(f"needs at least 2 (a variance of fewer is not defined), got {value}")
    return value


def precision(text: str):
    """A precision: a share or a width."""
    from .precision import Precision

    try:
        return Precision.parse(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from None


def parser() -> argparse.ArgumentParser:
    """The whole surface of the command."""
    top = argparse.ArgumentParser(
        prog="scorepath",
        description="How biased, how noisy and how expensive is each way of estimating the gradient of an expectation?",
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    top.add_argument("--version", action="store_true", help="print the version and stop")
    commands = top.add_subparsers(dest="command", metavar="command")

    show = commands.add_parser("list", help="what there is: estimators, problems or suites")
    show.add_argument("what", choices=("estimators", "problems", "suites"))
    show.add_argument("--json", action="store_true", help="JSON lines instead of a table")
    _plugins(show)

    info = commands.add_parser("info", help="everything about one estimator, problem or suite")
    info.add_argument("name")
    _plugins(info)

    run = commands.add_parser("run", help="measure a suite, or any estimators on any problems")
    run.add_argument("suite", nargs="?", help="a suite (see `scorepath list suites`)")
    run.add_argument(
        "--estimators", help="names separated by commas, with arguments after a colon: rebar:temperature=0.1"
    )
    run.add_argument("--problems", help="names separated by commas, with arguments after a colon")
    run.add_argument("--out", help="folder for the records; an interrupted run goes on where it stopped")
    run.add_argument(
        "--replicates", type=positive, help="independent estimates a cell (default: what the suite says, else 10000)"
    )
    run.add_argument(
        "--precision",
        type=precision,
        help="run each cell until its variance is known to so much and a bias of so much would be found: a share such as 1%% "
        "of variance and truth, or a width in their units; `--replicates` is then the most a cell may take (default: 1048576)",
    )
    run.add_argument(
        "--warm-up", type=int, default=500, help="adaptation steps before a state is frozen (default: 500)"
    )
    run.add_argument("--seed", type=int, default=0, help="seed of all streams (default: 0)")
    run.add_argument("--dry-run", action="store_true", help="say what would be measured, and stop")
    run.add_argument(
        "--json", action="store_true", help="records as JSON lines on standard output, all else on standard error"
    )
    run.add_argument("--strict", action="store_true", help="exit with 1 if a cell failed")
    _processes(run)
    _plugins(run)

    noise = commands.add_parser(
        "decompose", help="where the variance of a training gradient comes from: sampling, minibatches"
    )
    noise.add_argument("--estimators", required=True, help="names separated by commas; ratios refer to the first")
    noise.add_argument(
        "--problems",
        required=True,
        help="autoencoders; `batch=N` makes their first N images the data set (default: the digits)",
    )
    noise.add_argument("--batch", type=int, default=100, help="images of a minibatch (default: 100)")
    noise.add_argument(
        "--replicates", type=int, default=4000, help="minibatches, with two estimates each (default: 4000)"
    )
    noise.add_argument(
        "--warm-up", type=int, default=500, help="adaptation steps before a state is frozen (default: 500)"
    )
    noise.add_argument("--seed", type=int, default=0, help="seed of all streams (default: 0)")
    noise.add_argument("--out", help="folder for lines of JSON, a page of tables and a figure")
    noise.add_argument("--json", action="store_true", help="rows as JSON lines on standard output instead of tables")
    _plugins(noise)

    report = commands.add_parser("report", help="tables, figures and a page from the records of a run")
    report.add_argument("folder", help="a folder that `scorepath run --out` made")
    report.add_argument(
        "--baseline",
        metavar="ESTIMATOR",
        help="what others are compared with at equal cost, as name or name:setting=value (default: leave-one-out)",
    )

    compare = commands.add_parser("compare", help="what differs between two runs beyond their joint error")
    compare.add_argument("first", metavar="A", help="a folder that `scorepath run --out` made")
    compare.add_argument("second", metavar="B", help="another")
    compare.add_argument("--all", action="store_true", help="every cell of both, not only those that differ")
    compare.add_argument("--strict", action="store_true", help="exit with 1 if a cell differs")

    commands.add_parser("doctor", help="devices, versions and precision on this machine")
    return top


def _processes(command: argparse.ArgumentParser) -> None:
    group = command.add_argument_group(
        "several processes",
        "Each takes its share of every cell on its own devices, and process 0 prints and writes. Under srun or mpirun nothing "
        "need be said.",
    )
    group.add_argument("--distributed", action="store_true", help="let JAX find the processes, as on a TPU pod")
    group.add_argument("--coordinator", metavar="HOST:PORT", help="name them: where process 0 listens")
    group.add_argument("--processes", type=int, metavar="N", help="how many there are")
    group.add_argument("--process-id", type=int, metavar="I", help="which of them this is, from 0 on")


def _plugins(command: argparse.ArgumentParser) -> None:
    command.add_argument(
        "--plugin",
        action="append",
        default=[],
        metavar="FILE",
        help="a Python file that registers estimators or problems; repeatable",
    )


def main(argv: list[str] | None = None) -> int:
    """Run the command; the exit code."""
    arguments = parser().parse_args(argv)
    if arguments.version:
        from importlib.metadata import version

        print(f"scorepath {version('scorepath')}")
        return 0
    if arguments.command is None:
        parser().print_help()
        return 2
    from . import commands

    try:
        return commands.COMMANDS[arguments.command](arguments)
    except commands.MISTAKES as error:
        print(f"scorepath: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("scorepath: interrupted; the same command goes on from the cells that are finished.", file=sys.stderr)
        return 130
    except BrokenPipeError:
        sys.stderr.close()
        return 0


if __name__ == "__main__":
    sys.exit(main())
