"""One `scorepath run`: the cells go in, a table comes out, and every finished cell is on disk before the next begins.

In a run of several processes all measure, and process 0 alone prints, writes, and knows what is finished.
"""

import json
import sys
import time

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from . import environment, processes
from .findings import counted
from .records import Record, to_line
from .runner import Plan, check, run_all
from .specs import UserError
from .store import RunDirectory, open_run
from .suites import Cell


def run_session(cells: list[Cell], arguments) -> int:
    """Measure `cells` as the command line asks; the exit code."""
    plan = Plan(arguments.suite or "", arguments.seed, arguments.warm_up, arguments.precision)
    reasons = check(cells)
    if len(reasons) == len(cells):
        raise UserError("; ".join(dict.fromkeys(reasons.values())))
    first = processes.index() == 0
    if arguments.dry_run:
        return _print_plan(cells, reasons, plan, arguments.json) if first else 0
    store = processes.on_the_first(lambda: _open(plan, arguments))

    def finished(identity: dict) -> list[Record] | None:
        return processes.on_the_first(lambda: store.finished(identity) if store else None, elsewhere=[])

    records = []
    with _announcer(len(cells), sys.stderr.isatty() and first) as announce:
        for cell, identity, found, seconds in run_all(cells, plan, finished, announce.progress):
            if arguments.out and seconds:
                found = processes.on_the_first(lambda i=identity, f=found: store.write(i, f), elsewhere=found)
            if first:
                _emit(found, arguments.json)
                announce.done(cell, found[0], seconds)
            records += found
    if first:
        _conclude(store, records, arguments.json)
    failed = sum(record["status"] == "failed" for record in records)
    return 1 if failed and arguments.strict else 0


def _open(plan: Plan, arguments) -> RunDirectory | None:
    if not arguments.out:
        return None
    return open_run(arguments.out, {"suite": plan.suite, "seed": plan.seed}, _about(arguments))


def _emit(records: list[Record], as_json: bool) -> None:
    if as_json:
        sys.stdout.writelines(map(to_line, records))
        sys.stdout.flush()


def _conclude(store: RunDirectory | None, records: list[Record], as_json: bool) -> None:
    """Gather what was stored, and print the table."""
    if store:
        store.consolidate()
    if as_json:
        return
    from .report import summary_lines, summary_table

    if sys.stdout.isatty():
        Console().print(summary_table(records))
    else:
        print("\n".join(summary_lines(records)))


def _about(arguments) -> dict:
    command = ["scorepath", "run", *([arguments.suite] if arguments.suite else [])]
    for name in ("estimators", "problems", "replicates", "precision"):
        if getattr(arguments, name) is not None:
            command += [f"--{name}", str(getattr(arguments, name))]
    if arguments.seed:
        command += ["--seed", str(arguments.seed)]
    several = {"processes": str(processes.count())} if processes.count() > 1 else {}
    return {"command": " ".join(command), **environment.machine(), **several}


def _print_plan(cells: list[Cell], reasons: dict[Cell, str], plan: Plan, as_json: bool) -> int:
    """What would be measured and what that would cost, as a table or as JSON lines, the total last."""
    from . import forecast

    rows, total = forecast.forecast(cells, reasons, plan, forecast.constants())
    if as_json:
        for row in (*rows, total):
            print(json.dumps(row._asdict(), ensure_ascii=False))
        return 0
    print("\n".join(forecast.lines(rows, total)))
    print(f"{counted(len(cells), 'cell')}, {len(cells) - len(reasons)} to measure, {len(reasons)} that do not fit.")
    if plan.precision:
        print(f"A cell stops as soon as it has {plan.precision}; these are the most that it may take.")
    print(forecast.basis(total))
    return 0


class _announcer:
    """Progress on standard error: a bar with the time that remains on a terminal, else one plain line a cell."""

    def __init__(self, total: int, live: bool):
        columns = TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn()
        self.bar = Progress(*columns, console=Console(stderr=True), transient=True, disable=not live)
        self.live, self.total, self.count, self.started = live, total, 0, time.perf_counter()
        self.task = self.bar.add_task("", total=total)

    def __enter__(self):
        self.bar.start()
        return self

    def __exit__(self, *exception):
        self.bar.stop()

    def progress(self, cell: Cell, done: int) -> None:
        """Some replicates of a cell are done."""
        self.bar.update(
            self.task, description=f"{cell.estimator} on {cell.problem}", completed=self.count + done / cell.replicates
        )

    def done(self, cell: Cell, record: dict, seconds: float) -> None:
        """A cell is finished."""
        self.count += 1
        self.bar.update(self.task, completed=self.count)
        note = {"ok": record["verdict"], "failed": record["reason"], "incompatible": record["reason"]}[record["status"]]
        spent = f"{seconds:.1f} s" if seconds else "found"
        if not self.live:
            print(
                f"[{self.count}/{self.total}] {cell.estimator} on {cell.problem}: {note} ({spent})",
                file=sys.stderr,
                flush=True,
            )
        elif record["status"] == "failed":
            self.bar.console.print(f"{cell.estimator} on {cell.problem}: {note}")
