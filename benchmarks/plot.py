"""The results as one picture: bars in SVG, legible on light and on dark paper, text as text, nothing that runs."""

from xml.etree.ElementTree import Element, SubElement, indent, tostring

from benchmarks.results import Figure, Results

#: Lengths in pixels: of the picture, its margin, the labels beside the bars, the longest bar, and of one line.
WIDTH, MARGIN, LABELS, LONGEST, LINE = 800, 16, 290, 340, 22
STYLE = """
text { font: 13px system-ui, sans-serif; fill: #1f2328 } .title { font-weight: 600 } .unit { fill: #59636e }
.paper { fill: #ffffff } .bar { fill: #0969da }
@media (prefers-color-scheme: dark) {
  text { fill: #e6edf3 } .unit { fill: #9198a1 } .paper { fill: #0d1117 } .bar { fill: #4493f8 }
}
"""


def svg(found: Results) -> str:
    """Draw all figures, one below the other."""
    picture = Element("svg", xmlns="http://www.w3.org/2000/svg", role="img")
    SubElement(picture, "title").text = "; ".join(figure.title for figure in found.figures.values())
    SubElement(picture, "style").text = STYLE
    paper = SubElement(picture, "rect", {"class": "paper", "width": "100%", "height": "100%"})
    y = MARGIN
    for figure in found.figures.values():
        y = draw(picture, figure, y)
    picture.set("viewBox", f"0 0 {WIDTH} {y}")
    paper.set("rx", "6")
    indent(picture)
    return tostring(picture, encoding="unicode") + "\n"


def draw(picture: Element, figure: Figure, y: int) -> int:
    """Draw a figure's first column from `y` downwards; give where it ends."""
    column = figure.columns[0]
    bars = [(row.label, row.values[0]) for row in figure.rows if row.values[0] is not None]
    longest = max((value for _, value in bars), default=0) or 1
    y += LINE
    write(picture, MARGIN, y, figure.title, "title")
    write(picture, MARGIN + LABELS, y, column.name, "unit")
    for label, value in bars:
        y += LINE
        length = LONGEST * value / longest
        write(picture, MARGIN, y, label)
        place = {"x": f"{MARGIN + LABELS}", "y": f"{y - 12}", "width": f"{length:.1f}", "height": "14"}
        SubElement(picture, "rect", {"class": "bar", "rx": "2", **place})
        write(picture, MARGIN + LABELS + length + 8, y, column.show(value))
    return y + LINE


def write(picture: Element, x: float, y: float, text: str, kind: str = "") -> None:
    """Write a line."""
    place = {"x": f"{x:.1f}", "y": f"{y}"} | ({"class": kind} if kind else {})
    SubElement(picture, "text", place).text = text.replace("`", "")
