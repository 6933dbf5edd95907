"""The table that the parts of the GPU benchmark fill, a line at a time, and the rates of the card that it refers to."""

from __future__ import annotations

HEADER = "| | frames/s | ms a step | TFLOP/s | of the matrix product | peak GiB | |"
RULE = "|---|---:|---:|---:|---:|---:|---|"
RATE = "matrix product, TFLOP/s: "
"""Begins the line that says what the card does in a large product of matrices."""


def table_row(
    what: str,
    frames_a_second: float,
    milliseconds: float | None = None,
    teraflops: float | None = None,
    gibibytes: float | None = None,
    note: str = "",
) -> str:
    """A row; what is not known, or is nothing, stays empty."""
    cells = [f"{milliseconds:.1f}" if milliseconds else "", f"{teraflops:.3g}" if teraflops else "", ""]
    peak = f"{gibibytes:.1f}" if gibibytes else ""
    return "| " + " | ".join([what, f"{frames_a_second:,.0f}", *cells, peak, note]) + " |"


def filled_in(lines: list[str]) -> list[str]:
    """The table of all rows among the lines, with shares of the matrix product where a line has said its rate."""
    rate = next((float(line.removeprefix(RATE).split()[0]) for line in lines if line.startswith(RATE)), None)
    rows = []
    for line in lines:
        if line.startswith("| "):
            cells = [cell.strip() for cell in line[1:-1].split("|")]
            if rate and cells[3]:
                cells[4] = f"{float(cells[3]) / rate:.1%}"
            rows.append("| " + " | ".join(cells) + " |")
    return [HEADER, RULE, *rows]
