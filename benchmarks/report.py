"""The results as people read them: `python -m benchmarks.report` writes them anew into `docs/`, of what was measured.

The tables stand in `docs/performance.md` between two marks, the plot is `docs/performance.svg`. Both are made of
`benchmarks/results.json` alone, so that they cannot disagree.
"""

from collections.abc import Iterator

from benchmarks import plot, results
from benchmarks.results import Figure, Results
from benchmarks.stage import ROOT

PAGE, PLOT = ROOT / "docs" / "performance.md", ROOT / "docs" / "performance.svg"
BEGIN, END = "<!-- made by `make bench` -->", "<!-- end of what is made -->"


def conclude(figure: Figure, *, keep: bool) -> None:
    """Show a figure; where that is wanted, keep it, and write the page and the plot."""
    print("\n".join(table(figure)))
    if keep:
        results.keep(figure)
        write(results.read())


def write(found: Results) -> None:
    """Write the page's tables, and the plot where there is something to show."""
    PAGE.write_text(filled(PAGE.read_text(), markdown(found)))
    if found.figures:
        PLOT.write_text(plot.svg(found))


def filled(page: str, text: str) -> str:
    """Put a text between the page's marks.

    Raises:
        ValueError: The page has no marks.
    """
    before, begin, rest = page.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not begin or not end:
        raise ValueError(f"there is no {BEGIN} with {END} after it in the page")
    return f"{before}{BEGIN}\n{text}\n{END}{after}"


def markdown(found: Results) -> str:
    """Lay out where the results are from, the plot, and each figure."""
    if not found.figures:
        return "Nothing is kept yet."
    machine, versions = found.machine, ", ".join(f"{name} {one}" for name, one in found.machine.versions.items())
    head = [
        f"{machine.cores} cores ({machine.processor}), {machine.memory_gb} GB, Linux {machine.kernel};",
        f"{versions}.",
        f"\n![Bars of the first column of each table below]({PLOT.name})",
    ]
    return "\n".join([*head, *(line for figure in found.figures.values() for line in table(figure))])


def table(figure: Figure) -> Iterator[str]:
    """Lay out a figure."""
    yield f"\n### {figure.title}\n"
    yield f"`{figure.command}`, {figure.date}: {figure.note}.\n"
    yield f"| | {' | '.join(column.name for column in figure.columns)} |"
    yield f"| --- |{' ---: |' * len(figure.columns)}"
    for row in figure.rows:
        shown = (column.show(value) for column, value in zip(figure.columns, row.values, strict=True))
        yield f"| {' | '.join([row.label, *shown])} |"
    yield from (f"\n{verdict}" for verdict in figure.verdicts)


if __name__ == "__main__":
    write(results.read())
