"""The recipes by name."""

from __future__ import annotations

from train import asr, lip2speech, visual
from train.recipe import Recipe
from train.settings import RecipeName

RECIPES: dict[RecipeName, Recipe] = {
    "visual": visual.RECIPE,
    "asr": asr.RECIPE,
    "lip2speech": lip2speech.RECIPE,
}
