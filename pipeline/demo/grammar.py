"""What the speakers say: English sentences out of a small grammar of a few hundred words.

A rule is a list of templates; a word in capitals stands for a rule, chosen at random. Sentences read like
short pieces of talk on the weather, food, news and people, five to ten words long, so that words come up
again in other company, as they do in broadcast speech.
"""

from __future__ import annotations

import re

import numpy as np

# fmt: off
RULES: dict[str, tuple[str, ...]] = {
    "SENTENCE": (
        "the PERSON DID the QUALITY THING PLACE",
        "the MANNER PERSON DID a QUALITY THING WHEN",
        "the PERSON DID NUMBER THINGS for the PERSON",
        "i think the PERSON will DO the THING WHEN",
        "we can DO the QUALITY THINGS PLACE",
        "you should DO the THING before DAY",
        "they want to DO the THING with the PERSON",
        "my PERSON never DID that QUALITY THING",
        "there will be WEATHER in the REGION WHEN",
        "it was QUALITY and MANNER PLACE",
        "WHEN the PERSON came home with NUMBER THINGS",
        "please COOK the FOOD with some FOOD",
        "first you COOK the FOOD, and then the FOOD",
        "now we COOK NUMBER cups of FOOD",
        "would you like some FOOD and FOOD",
        "do you know where the PERSON put the THING",
        "this is the best THING PLACE",
        "what do you think about the QUALITY THING",
        "but nobody could DO the THING PLACE",
        "our PERSON says the THING is very QUALITY",
        "in the REGION, the PERSON DID the THING",
        "she gave NUMBER THINGS to the MANNER PERSON",
        "he wants more FOOD for his PERSON",
        "everybody should have a QUALITY THING",
        "let us look at the THINGS PLACE",
        "that is why the PERSON DID the THING",
        "on DAY we had WEATHER PLACE",
        "if you DO the THING, the PERSON will be MANNER",
    ),
    "PERSON": (
        "farmer", "teacher", "doctor", "baker", "mother", "father", "brother", "sister", "singer", "captain",
        "painter", "driver", "neighbour", "mayor", "reporter", "visitor", "chef", "gardener", "builder",
        "writer", "manager", "pilot", "judge", "nurse", "family", "woman", "boy", "girl", "shepherd", "vicar",
    ),
    "MANNER": (
        "young", "happy", "tired", "busy", "famous", "quiet", "clever", "proud", "thirsty", "polite", "brave",
        "careful", "lonely", "cheerful",
    ),
    "QUALITY": (
        "big", "small", "old", "new", "cheap", "beautiful", "broken", "heavy", "yellow", "green", "blue",
        "purple", "white", "wooden", "valuable", "simple", "strange", "lovely", "good", "modern", "warm",
        "famous", "different", "soft", "rough", "perfect",
    ),
    "THING": (
        "boat", "coat", "map", "bowl", "picture", "basket", "window", "table", "garden", "bridge", "wall",
        "house", "shop", "farm", "phone", "piano", "watch", "chair", "bath", "book", "box", "car", "ship",
        "path", "fence", "vase", "pipe", "knife", "tower", "cottage", "film", "question", "game", "vote",
    ),
    "THINGS": (
        "boats", "coats", "maps", "bowls", "pictures", "baskets", "windows", "tables", "gardens", "bridges",
        "books", "boxes", "chairs", "flowers", "animals", "letters", "bottles", "photographs", "questions",
        "sheep", "horses", "birds", "ideas", "people",
    ),
    "DID": (
        "bought", "sold", "found", "painted", "fixed", "moved", "brought", "showed", "carried", "washed",
        "wanted", "loved", "built", "opened", "remembered", "forgot", "described", "watched", "took", "left",
        "borrowed", "finished", "mentioned", "chose",
    ),
    "DO": (
        "buy", "sell", "find", "paint", "fix", "move", "bring", "show", "carry", "wash", "build", "open",
        "remember", "forget", "describe", "watch", "take", "leave", "borrow", "finish", "choose", "save",
    ),
    "PLACE": (
        "by the river", "at the market", "in the village", "near the old mill", "on the beach",
        "in the valley", "at the museum", "behind the church", "in front of the theatre", "over the hill",
        "at the bottom of the garden", "in the middle of town", "beside the sea", "under the bridge",
        "at school", "on the farm", "outside the house", "in the woods",
    ),
    "WHEN": (
        "yesterday", "this morning", "last week", "in the evening", "on DAY", "before breakfast",
        "after five o'clock", "in the summer", "next month", "today", "at the weekend", "every day",
    ),
    "DAY": ("monday", "tuesday", "wednesday", "thursday", "friday", "saturday", "sunday"),
    "NUMBER": ("two", "three", "four", "five", "six", "seven", "eight", "nine", "ten", "twelve", "forty"),
    "WEATHER": (
        "heavy rain", "some sunshine", "thick fog", "a cold wind", "more snow", "a few showers", "low cloud",
        "much warmer weather", "thunder",
    ),
    "REGION": ("north", "south", "east", "west", "hills", "islands", "far north", "whole country"),
    "FOOD": (
        "butter", "flour", "sugar", "pepper", "fish", "bread", "cheese", "mushrooms", "chicken", "apples",
        "potatoes", "soup", "vegetables", "chocolate", "tea", "milk", "rice", "pie", "beef", "onions",
        "honey",
    ),
    "COOK": ("add", "mix", "boil", "chop", "wash", "cover", "bake", "fry", "warm", "serve", "prepare"),
}
# fmt: on

_RULE = re.compile(r"[A-Z]+")
_WORD = re.compile(r"[a-z']+")


def sentence(rng: np.random.Generator) -> str:
    """One sentence, lower case, with its commas but no full stop."""

    def choose(match: re.Match[str]) -> str:
        options = RULES[match.group()]
        return _RULE.sub(choose, options[int(rng.integers(len(options)))])

    return _RULE.sub(choose, "SENTENCE")


def words_of(text: str) -> list[str]:
    """The words of a sentence, lower case, without its punctuation."""
    return _WORD.findall(text)
