"""Draws cases: for a form and a command, so many damages, each run and given to who asked."""

from __future__ import annotations

from collections.abc import Callable

import hypothesis
from hypothesis import HealthCheck, Phase
from hypothesis import strategies as st

from tests.fuzz.cases import Bench, Damage
from tests.fuzz.damaged_bytes import FITTING
from tests.fuzz.forms import FORMS
from tests.fuzz.irregular import IRREGULAR, NAMES
from tests.fuzz.server import Outcome

PAIRS = [(form, command) for form, known in FORMS.items() for command in known.commands]
"""Forms, and the commands that read each."""

OnCase = Callable[[str, str, Damage, Outcome, list[str]], None]


@st.composite
def damages(draw: st.DrawFn, form: str, bench: Bench) -> Damage:
    """What may be done to a form's file."""
    damaging = FORMS[form].damage
    if damaging is None or draw(st.integers(0, 9)) == 9:
        kind = draw(st.sampled_from(sorted([*IRREGULAR, *NAMES])))
        return Damage(kind, irregular=kind)
    what, damaged = draw(damaging(bench.original(form)))
    if FORMS[form].seal is not None and draw(st.booleans()):
        what += FITTING
    return Damage(what, damaged, sealed=what.endswith(FITTING))


def explore(
    bench: Bench, form: str, command: str, cases: int, seed: int, on_case: OnCase, stop: Callable[[], bool]
) -> None:
    """Run cases of a form and a command, the same for the same seed, until there were so many or it is to stop."""
    drawn = 0

    @hypothesis.seed(seed)
    @hypothesis.settings(
        max_examples=cases + 1,
        database=None,
        deadline=None,
        phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    @hypothesis.given(damages(form, bench))
    def run(damage: Damage) -> None:
        nonlocal drawn
        drawn += 1
        if drawn > 1 and not stop():  # the first is always the simplest
            on_case(form, command, damage, *bench.run(form, command, damage))

    run()
