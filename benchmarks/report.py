"""The report: everything that is printed of a run, from its records alone.

    README.md       tables, figures, how to read them and how they were made
    report.html     the same as one page that needs no other file
    tables/         Markdown, LaTeX and CSV
    figures/        PDF, PNG and SVG

`tables/` and `figures/` belong to the report and are replaced whole, so that nothing in them is older than the records.
All is written aside first and then renamed. The same records give the same bytes.
"""

import base64
import json
import re
import shutil
import tempfile
from collections.abc import Iterable, Mapping
from pathlib import Path

import jinja2
import pandas as pd
from rich.table import Table as RichTable
from rich.text import Text

from .averaging import averaging_tables
from .files import StoreError
from .rankings import over_problems, ranking_tables
from .records import Record, problem_family, safe_name, to_frame
from .selection import brief, thin
from .standings import standings
from .store import existing_run
from .tables import COLUMNS, headline_tables, measurements, part_tables, row_cells, to_csv, unmeasured_table
from .typesetting import WORDS, extent

NOTHING = "There is nothing to show: no cell has numbers."
READING = (
    "Variance is the trace of the covariance of one whole estimate, with all the samples that it takes. Estimators that call the "
    "objective a different number of times are compared by variance × evaluations.",
    "The square of the bias is estimated without bias, so it may come out negative, and the sign is kept. An interval that holds "
    "zero is no evidence that there is no bias.",
    "“Unbiased within 1 %” says that the whole interval lies below 1 % of the norm of the truth (of a hundredth of the standard "
    "deviation, if that is larger); “undetermined” that it does not, and that more replicates might decide.",
    "“Biased” is found by a test; “biased by design” is what the estimator declares, whatever was measured.",
    "Where tails are heavy, the variance has no interval that can be trusted, however many replicates there are.",
    "Two estimators that drew from one stream are compared by the scatter of their difference, block by block of replicates, which is "
    "sharper than two intervals side by side; what cannot be told apart shares a rank.",
    "Time depends on the machine and on how many replicates are computed together; compilation is not in it.",
)
# The tables that stand beside that of a family, by what is added to its name.
ASIDES = {
    "parts": "The parts of the gradient one by one",
    "ranking": "Ranking at equal cost",
    "averaging": "Averaging what is biased",
}
MOST_ROWS = 80
# The columns of a table that a terminal has room for, and what they are called there.
BRIEF = dict(zip(COLUMNS, COLUMNS, strict=True)) | {
    "bias, % of truth": "bias, %",
    "variance × evaluations": "× evaluations",
}
BRIEF = {column: name for column, name in BRIEF.items() if column not in ("evaluations", "notes")}

_TEMPLATES = Path(__file__).parent / "templates"


def write_report(directory: str | Path, baseline: str | None = None) -> list[Path]:
    """Write the report of the run in `directory` beside its records; the files written, `README.md` first.

    `baseline` is the estimator that others are compared with at equal cost (`standings.BASELINE` if none is named). Raises
    `StoreError` if there is no run, or if the folder cannot be written, and `ComparisonError` if the run does not hold the
    baseline.
    """
    run = existing_run(directory)
    files = report_files(run.records(), run.about(), run.path.resolve().name, baseline)
    try:
        aside = Path(tempfile.mkdtemp(prefix=".report-", dir=run.path))
        try:
            _write(aside / "new", files)
            _replace(aside, run.path)
        finally:
            shutil.rmtree(aside, ignore_errors=True)
    except OSError as error:
        raise StoreError(f"The report cannot be written into `{run.path}`: {error.strerror or error}.") from error
    return [run.path / name for name in files]


def _write(folder: Path, files: Mapping[str, str | bytes]) -> None:
    for name, content in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content.encode() if isinstance(content, str) else content)


def _replace(aside: Path, target: Path) -> None:
    """Move the new files in and the old folders of tables and figures out."""
    for folder in ("tables", "figures"):
        if (target / folder).exists():
            (target / folder).rename(aside / f"old-{folder}")
    for entry in sorted((aside / "new").iterdir()):
        entry.replace(target / entry.name)


def report_files(
    records: Iterable[Record], about: Mapping, name: str, baseline: str | None = None
) -> dict[str, str | bytes]:
    """The content of every file of a report, by its path."""
    # Here, because drawing takes seconds to import, which a terminal summary need not wait for.
    from .figures import draw

    frame = to_frame(records)
    tables, parts, unmeasured = headline_tables(frame), part_tables(frame), unmeasured_table(frame)
    rows = standings(frame, baseline)
    over, few = over_problems(rows)
    aside = [*parts, *ranking_tables(rows), *averaging_tables(rows)]
    drawn = draw(rows, measurements(frame))
    content = {
        "name": name,
        "counts": counts(frame),
        "nothing": NOTHING,
        "tables": tables,
        "aside": {table.name: table for table in aside},
        "asides": ASIDES,
        "over": over,
        "few": few,
        "unmeasured": unmeasured,
        "figures": {figure: drawing.words for figure, drawing in drawn.items()},
        "pictures": {figure: base64.b64encode(drawing.formats["svg"]).decode() for figure, drawing in drawn.items()},
        "reading": READING,
        "facts": facts(frame, about),
        "words": WORDS,
    }
    files: dict[str, str | bytes] = {
        "README.md": _render("readme.md.jinja", content),
        "report.html": _render("report.html.jinja", content),
    }
    for table in [*tables, *aside, *filter(None, [over, unmeasured])]:
        files[f"tables/{table.name}.md"] = table.to_markdown()
        files[f"tables/{table.name}.tex"] = table.to_latex()
    families = frame["problem"].map(problem_family).map(safe_name)
    for table in tables:
        files[f"tables/{table.name}.csv"] = to_csv(frame[(families == table.name) & (frame["status"] == "ok")])
    if unmeasured:
        files["tables/not-measured.csv"] = to_csv(frame[frame["status"] != "ok"])
    for figure, drawing in drawn.items():
        files |= {f"figures/{figure}.{suffix}": data for suffix, data in drawing.formats.items()}
    return files


def _render(template: str, content: Mapping) -> str:
    loader = jinja2.FileSystemLoader(_TEMPLATES)
    environment = jinja2.Environment(
        loader=loader,
        autoescape=template.endswith(".html.jinja"),
        trim_blocks=True,
        lstrip_blocks=True,
        undefined=jinja2.StrictUndefined,
    )
    return environment.get_template(template).render(content).rstrip("\n") + "\n"


def counts(frame: pd.DataFrame) -> dict[str, int]:
    """How many estimators, problems and cells of each status there are."""
    cells = frame[frame["headline"]]
    statuses = {status: int((cells["status"] == status).sum()) for status in ("ok", "failed", "incompatible")}
    return {"estimators": frame["estimator"].nunique(), "problems": frame["problem"].nunique(), **statuses}


def facts(frame: pd.DataFrame, about: Mapping) -> dict[str, str]:
    """The conditions of the run: what was noted when it started, and what the records say."""
    columns = ("suite", "seed", "replicates", "device", "dtype", "versions", "commit")
    known = {column: extent(frame[column]) for column in columns if frame[column].notna().any()}
    noted = {**about.get("identity", {}), **about.get("about", {}), **known}
    texts = {name: value if isinstance(value, str) else json.dumps(value) for name, value in noted.items()}
    return {name: text for name, text in texts.items() if text}


def summary_lines(records: Iterable[Record]) -> list[str]:
    """A run in short, as lines of plain text: headline rows below the name of their problem, then what is not among
    them."""
    frame = to_frame(records)
    measured = measurements(frame)
    shown, left_out = thin(measured[measured["headline"]], 3, 2)
    rows = [tuple(BRIEF.values())]
    for problem, group in shown.groupby("problem", sort=False):
        cells = [dict(zip(COLUMNS, row_cells(row), strict=True)) for _, row in group.sort_values("variance").iterrows()]
        rows += [(problem,), *(("  " + brief(texts["estimator"]), *map(texts.get, list(BRIEF)[1:])) for texts in cells)]
    left_out = " and ".join(
        filter(None, [left_out, f"{len(rows) - MOST_ROWS} more rows" if len(rows) > MOST_ROWS else ""])
    )
    failed = [
        f"Failed: {gap.estimator} on {gap.problem}. {gap.reason}"
        for gap in frame[frame["status"] == "failed"].itertuples()
    ]
    number = int((frame["status"] == "incompatible").sum())
    pairs = f"{number:,} pairs of estimator and problem are" if number > 1 else "1 pair of estimator and problem is"
    closing = [f"{pairs} incompatible."] if number else []
    closing += [f"Not shown: {left_out}; `scorepath report` has them."] if left_out else []
    return [*(_aligned(rows[:MOST_ROWS]) if len(shown) else [NOTHING]), *failed, *closing]


def _aligned(rows: list[tuple[str, ...]]) -> list[str]:
    """Columns of equal width, words to the left and numbers to the right; a row of one text may be as long as it
    likes."""
    widths = [max(map(len, column)) for column in zip(*(row for row in rows if len(row) > 1), strict=True)]
    align = [str.ljust if column in WORDS else str.rjust for column in rows[0]]
    return ["  ".join(a(text, w) for a, text, w in zip(align, row, widths, strict=False)).rstrip() for row in rows]


def summary_table(records: Iterable[Record]) -> RichTable:
    """The lines of `summary_lines` for `rich` to print: headings in bold, what is found to be biased in red. A line is
    folded where the terminal is narrow, so that nothing is lost; where the output is no terminal, print the lines
    themselves."""
    table = RichTable.grid()
    table.add_column(overflow="fold")
    for line in summary_lines(records):
        found = re.search(r"  biased (?!by)", line)
        table.add_row(Text(line, style="red" if found else "" if line.startswith("  ") else "bold"))
    return table
