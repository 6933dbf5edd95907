"""The report of an evaluation: one HTML file that needs no network, and what other pages of its look are made with.

report.py      from an evaluation to report.html
page.py        any page: a template, its style and scripts, and a policy that lets nothing else run
tables.py      tables that sort, are searched and paged, and hold their figures in full precision
charts.py      distributions, and figures against the length of clips, as SVG
clips.py       which clips are shown, with their pictures and sounds
marking.py     what was said beside what was recognised, word by word
about.py       what was evaluated, in words, and the published figures
"""

from eval.report.report import write_report

__all__ = ["write_report"]
