"""The report of an evaluation: one HTML file that fetches nothing, of parts that the page of a comparison has too.

report.py      from an evaluation to report.html, a page of `runtime.html_page`
about.py       what was evaluated, in words, and the published figures
tables.py      tables that sort, are searched and paged, and hold their figures in full precision
charts.py      distributions, and figures against the length of clips, as SVG
clip_cards.py  which clips are shown, with their pictures, players and texts
waveforms.py   waveforms of the report's folder, read and drawn
alignment.py   reference text and hypothesis aligned word by word
templates/     of both pages
"""

from eval.report.report import write_report

__all__ = ["write_report"]
