"""Prompts as texts: nodes/glue/reading/lines.py."""
from __future__ import annotations

import pytest
from vsf_pack.nodes.glue.reading.lines import (
    has_negative_weight,
    has_unread_weight,
    joined,
    negatives_of,
    taken_out,
    without_repeats,
)

HINDI_CAR, HINDI_COW = "\u0917\u093e\u0921\u093c\u0940", "\u0917\u093e\u092f"  # they share letters, not words
HINDI_RED_CAR = f"\u0932\u093e\u0932 {HINDI_CAR}"
MANY = ", ".join(f"embedding:EasyNegative{number}" for number in range(12))


@pytest.mark.parametrize(("text", "found"), [
    ("", []),
    (" \n\t\n", []),
    ("car wheels", [("car wheels", 1.0)]),
    ("car wheels:1.5", [("car wheels", 1.5)]),
    ("(car wheels:1.5)", [("car wheels", 1.5)]),
    ("car wheels: .5\n\n clouds ", [("car wheels", 0.5), ("clouds", 1.0)]),
    ("wheels # not these\n# nothing\nc# sharp", [("wheels", 1.0), ("c# sharp", 1.0)]),
    ("embedding:bad:1.2", [("embedding:bad:1.2", 1.0)]),
    ("embedding:7", [("embedding:7", 1.0)]),
    ("a (red:1.2) wheel", [("a (red:1.2) wheel", 1.0)]),
    ("clock at 12:30 o'clock", [("clock at 12:30 o'clock", 1.0)]),
    ("wheels:0", [("wheels", 0.0)]),
    ("16:9", [("16:9", 1.0)]),
    ("a clock at 10:10", [("a clock at 10:10", 1.0)]),
    ("1980s :1.2\r\nclouds\rbirds", [("1980s", 1.2), ("clouds", 1.0), ("birds", 1.0)]),
    ("wheels\uff1a\uff11\uff0e\uff15\n\uff08doors\uff1a1.5\uff09", [("wheels", 1.5), ("doors", 1.5)]),
    ("wheels:1,5\ndoors:1.5,\nbirds\uff1a2\uff0c", [("wheels", 1.5), ("doors", 1.5), ("birds", 2.0)]),
    ("wheels:+1.5\ndoors:15e-1\nmp3:2", [("wheels", 1.5), ("doors", 1.5), ("mp3", 2.0)]),
    (r"car \(toy\):1.5", [(r"car \(toy\)", 1.5)]),
    (r"(car \(toy\):1.5)", [(r"car \(toy\)", 1.5)]),
    ("aspect 16:9\n1:1.5\niphone 6:5", [("aspect 16:9", 1.0), ("1:1.5", 1.0), ("iphone 6:5", 1.0)]),
])
def test_a_negative_a_line(text, found):
    assert negatives_of(text) == found


@pytest.mark.parametrize("line", ["wheels:-1", "(wheels:-1)", "(car wheels: -0.5 )", "a (red:-1) car", "((wheels):-1)",
                                  "wheels\uff1a-1", "\uff08wheels:-1\uff09", "wheels:\u22121", "(wheels:-1e-1)"])
def test_a_negative_with_a_negative_weight(line):
    """Would be read as words, or turned round by the text encoder, and nothing would say so."""
    with pytest.raises(ValueError, match="VSF: take the minus off .* Expected weights from 0, found"):
        negatives_of(f"clouds\n{line}")


@pytest.mark.parametrize(("text", "found"), [
    ("a (red:1.2) car", False), (r"a car \(wheels:-1\)", False), ("-1:-1", False), ("a car ((wheels):-1)", True),
])
def test_negative_weights(text, found):
    assert has_negative_weight(text) is found


@pytest.mark.parametrize(("text", "found"), [
    ("wheels", False), ("a (red:1.2) (wheel (of:2))", False), ("a clock at 10:10", False), ("16:9", False),
    ("embedding:7", False), ("wheels:1.5, doors", True), ("[wheels:1.5]", True), ("<lora:rust:1>", True),
    ("(wheels\uff1a1.5", True),
])
def test_weights_that_are_none(text, found):
    assert has_unread_weight(text) is found


@pytest.mark.parametrize(("prompt", "rest", "negatives"), [
    ("a car\uff0c\uff08wheels\uff1a-1\uff09\uff0cgrass", "a car\uff0cgrass", [("wheels", 1.0)]),
    ("a car ((wheels:\u22121,5))", "a car", [("wheels", 1.5)]),
    (r"a car (wheel \(of a toy\):-1)", "a car", [(r"wheel \(of a toy\)", 1.0)]),
    ("a car (wheels:-5e-1)", "a car", [("wheels", 0.5)]),
    ("a red car  (on (grass:1.2)) ,", "a red car  (on (grass:1.2)) ,", []),
    ("a red car (wheels:-1)", "a red car", [("wheels", 1.0)]),
    ("a red car, (car wheels:-1.5), on grass", "a red car, on grass", [("car wheels", 1.5)]),
    ("a car, ((wheels: -1 ))", "a car", [("wheels", 1.0)]),
    ("a car (embedding:rust:-1)", "a car", [("embedding:rust", 1.0)]),
    ("(clouds:-0.5) a red car (wheels:-1) on grass.", "a red car on grass.", [("clouds", 0.5), ("wheels", 1.0)]),
    (f"a car ({MANY}:1.2)", f"a car ({MANY}:1.2)", []),  # each embedding read in one way, or this takes years
    (f"a car ({MANY} :-1.2)", "a car", [(MANY, 1.2)]),
])
def test_negatives_in_the_prompt(prompt, rest, negatives):
    assert taken_out(prompt) == (rest, negatives)


@pytest.mark.parametrize(("prompt", "negative", "text", "left_out"), [
    ("a red car", "wheels", "wheels", []),
    ("a red car", "red paint", "paint", ["red"]),
    ("a Red car", "A wheels", "wheels", ["A"]),
    ("a red car", "the red, the car", "the , the", ["red", "car"]),
    ("a red car", "a red car", "", ["a", "red", "car"]),
    ("a red car", "(red paint:1.2)", "(paint:1.2)", ["red"]),
    ("a car with embedding:rust", "embedding:rust", "embedding:rust", []),
    ("a clock", "clock's hands", "clock's hands", []),
    ("ein Auto", "R\u00e4der", "R\u00e4der", []),
    ("\u7ea2\u8272\u6c7d\u8f66", "\u8f66\u8f6e", "\u8f66\u8f6e", []),
    ("a red car", "...", "", []),
    ("a clock, 4k", "8k", "8k", []),
    ("a 3d clock", "3d look", "look", ["3d"]),
    ("a clock", "12", "12", []),
    ("a clock", "\U0001f697", "\U0001f697", []),
    ("a (red:1.2) car", "(paint:1.2)", "(paint:1.2)", []),
    ("red_hair", "red_eyes", "eyes", ["red"]),
    ("red hair", "long_red_hair_tie", "long_tie", ["red", "hair"]),
    (HINDI_RED_CAR, HINDI_COW, HINDI_COW, []),
    (HINDI_RED_CAR, f"{HINDI_CAR} {HINDI_COW}", HINDI_COW, [HINDI_CAR]),
])
def test_words_that_the_prompt_has(prompt, negative, text, left_out):
    found = without_repeats(prompt, negative)
    assert found[1] == left_out
    assert found[0] == text.replace(" ,", ",")


@pytest.mark.parametrize(("prompt", "text"), [
    ("a red car", "a red car, wheels"), ("a red car.", "a red car. wheels"), ("a red car, ", "a red car, wheels"),
    ("", "wheels"), ("\u7ea2\u8272\u6c7d\u8f66\u3002", "\u7ea2\u8272\u6c7d\u8f66\u3002 wheels"),
])
def test_joined(prompt, text):
    assert joined(prompt, "wheels") == text
