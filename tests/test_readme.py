"""The README shows what the committed results say, and its two lines are the ones that are run."""

from pathlib import Path

ROOT = Path(__file__).parent.parent


def test_the_table_is_that_of_the_committed_results():
    """Each row of the README's table is a row of the results, without the column of notes."""
    readme = (ROOT / "README.md").read_text().splitlines()
    start = readme.index("<!-- from results/quick/tables/bernoulli-vae.md -->") + 1
    rows = [line for line in readme[start : start + 30] if line.startswith("|")]
    rows = [[cell.strip() for cell in row.strip("|").split("|")] for row in rows]
    table = (ROOT / "results/quick/tables/bernoulli-vae.md").read_text().splitlines()
    expected = [[cell.strip() for cell in row.strip("|").split("|")][:7] for row in table if row.startswith("|")]
    assert len(rows) >= 10 and rows[: len(expected)] == expected


def test_the_two_lines_can_be_found():
    """The markers that the continuous integration looks for are each followed by one command."""
    readme = (ROOT / "README.md").read_text().splitlines()
    for marker in ("<!-- run-line -->", "<!-- test-line -->"):
        start = readme.index(marker)
        assert readme[start + 2].startswith("python3 -m venv ")
