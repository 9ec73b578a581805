"""A1111's dialect: told apart, and carried over with the same words and weights."""

from __future__ import annotations

import re

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from engines.dialects import Translation, signs, translate
from engines.grammar import SEPARATORS
from engines.parts import MAX_WEIGHT
from engines.prompt import Blend, clean, parse

Words = list[tuple[str, float]]


def heard(text: str) -> Words:
    """The words of a text in compel's language with their weights, as the product reads it."""
    prompt = parse(text)
    return [(word, part.weight) for part in prompt.parts if part.applied for word in part.text.split()]


def attention(text: str) -> Words:
    """The words and weights that A1111 reads: a character at a time, its brackets as they are told in its wiki.

    Written from the rules, not from its code or ours, and slowly: a closing bracket goes back over all that it weighs.
    """
    said: list[list[object]] = []  # [characters, weight]; None for characters is a new chunk
    open_: dict[str, list[int]] = {"(": [], "[": []}

    def weigh(start: int, factor: float) -> None:
        for item in said[start:]:
            item[1] = float(item[1]) * factor  # type: ignore[arg-type]

    pos = 0
    while pos < len(text):
        c = text[pos]
        numbered = re.match(r":\s*([+-]?[.0-9]+)\s*\)", text[pos:])
        if c == "\\":
            if text[pos + 1 : pos + 2] in tuple("()[]\\"):
                pos += 1
                said.append([text[pos], 1.0])
        elif c in "([":
            open_[c].append(len(said))
        elif c == ":" and numbered and open_["("]:
            start = open_["("].pop()
            try:
                weigh(start, float(numbered[1]))
            except ValueError:  # A1111 gives up; here the number is text
                said += [[x, 1.0] for x in numbered[0][:-1]]
                weigh(start, 1.1)
            pos += len(numbered[0]) - 1
        elif c == ")" and open_["("]:
            weigh(open_["("].pop(), 1.1)
        elif c == "]" and open_["["]:
            weigh(open_["["].pop(), 1 / 1.1)
        else:
            said.append([c, 1.0])
        pos += 1
    for start in open_["("]:
        weigh(start, 1.1)
    for start in open_["["]:
        weigh(start, 1 / 1.1)
    # characters of one weight are one text; where the weight changes a word ends
    runs: list[tuple[str, float]] = []
    for characters, weight in said:
        told = max(0.0, min(float(weight), MAX_WEIGHT))  # type: ignore[arg-type]
        if runs and abs(runs[-1][1] - told) < 1e-6:
            runs[-1] = (runs[-1][0] + str(characters), runs[-1][1])
        else:
            runs.append((str(characters), told))
    return [(word, w) for run, w in runs for word in clean(SEPARATORS.sub(" ", run)).split()]


def same(left: Words, right: Words) -> bool:
    return [w for w, _ in left] == [w for w, _ in right] and all(
        abs(a - b) <= 1e-6 for (_, a), (_, b) in zip(left, right, strict=True)
    )


BITS = st.sampled_from(
    [
        *"()[]:|\"'+-.,;=!?\\ \n\t<>{}_*#0159ab", " ", " ", "cat", "red", ":1.3)", ":.5)", ":0)", ": 1.2 )", ":-1)",
        ":1.2.3)", ":+2)", "(", "((", "[[", "))", "]]", "\\(", "\\)", "\\[", "\\]", "\\\\", "++", "--", ".blend(",
        ".and(", ".swap(", ".attend(", "withLora(", "useLora(x, 1)", '", "', "1.3", "16:9", 'a"b"', "5\"", "well-known",
        "猫", "🐈", "e\u0301", "\u202e", "\u05d0", "\0", "\x1f", "\x85", "\u00a0", "\r\n", "break", "(a)1.3", '"b"2',
        ")1.3", ")++", "c++", "4.5", "...", "a.b", "embedding:x", "AN", "D",
    ]
)  # fmt: skip
TEXTS = st.one_of(st.lists(BITS, max_size=24).map("".join), st.text('ab()[]:1. \\+-"', max_size=24))


def plain_to_both(text: str) -> bool:
    """Without what is done before brackets are read, which has its own cases below."""
    told = [x.reason for x in signs(text)]
    return not re.search(r"\bAND\b|\bBREAK\b|<\w+:[^>]+>", text) and not any("text" in x for x in told)


@settings(max_examples=2500, deadline=None, suppress_health_check=[HealthCheck.filter_too_much])
@given(TEXTS)
@example("(a [b) c]")
@example("a\\\\(b)")
@example("(a\\\\\\)b:2)")
@example("(a\\\\)")
@example("(x:2).5 y")
@example("(x:2)5")
@example("(x:2).5")
@example("x(y:2)z++")
@example("[\\\\\\\\]+")
@example("a, withLora(b)")
@example("a.useLora(b, 2)")
@example("[xuseLora](b)")
@example("cat.attend(1.2)")
@example("cat.swap  (b)")
@example("x withLora useLora.swap(b)")
def test_words_and_weights_are_those_that_a1111_reads(text: str) -> None:
    if not plain_to_both(text):
        return
    made = translate(text)
    assert same(heard(made.text), attention(text)), (text, made.text, heard(made.text), attention(text))
    assert not parse(made.text).loras and not [p for p in parse(made.text).problems if p.level == "error"]
    check_pieces(text, made)


@settings(max_examples=1500, deadline=None)
@given(st.lists(TEXTS, min_size=2, max_size=4))
def test_words_and_weights_hold_across_several_texts(texts: list[str]) -> None:
    """Brackets reach across a BREAK, and each text of AND has its own."""
    if not all(map(plain_to_both, texts)):
        return
    text = " BREAK ".join(texts)
    if plain_to_both(text.replace("BREAK", "break")):
        marked = attention(text.replace("BREAK", "\ue000"))
        assert same(heard(translate(text).text), [(word, w) for word, w in marked if word != "\ue000"])
    text = " AND ".join(texts)
    if not any(re.search(r":\s*[-+]?[.\d]+\s*$", clause) for clause in texts) and "<" not in text:
        expected = [pair for clause in texts for pair in attention(clause)]
        assert same(heard(translate(text).text), expected), (text, translate(text).text)


@settings(max_examples=1000, deadline=None)
@given(st.lists(st.one_of(BITS, st.sampled_from([" BREAK ", " AND ", "<lora:x:1>", "[a|b]", "[a:b:3]"]))).map("".join))
def test_any_text_is_carried_over(text: str) -> None:
    made = translate(text)
    check_pieces(text, made)
    assert not [p for p in parse(made.text).problems if p.level == "error" and "weight" not in p.message]
    for problem in made.problems:
        assert 0 <= problem.span[0] < problem.span[1] <= len(text) and "\n" not in problem.message
    for sign in signs(text):
        assert 0 <= sign.span[0] < sign.span[1] <= len(text)


def check_pieces(text: str, made: Translation) -> None:
    """Every piece has words of the source, in order, and together they are all that the translation says."""
    end = 0
    for piece in made.pieces:
        assert 0 <= piece.source[0] < piece.source[1] <= len(text)
        assert end <= piece.output[0] < piece.output[1] <= len(made.text)
        end = piece.output[1]
        source, output = text[slice(*piece.source)], made.text[slice(*piece.output)]
        if not output.startswith("withLora("):
            assert source[0] in output[:3] and (source[-1] == output[-1] or output.endswith(")"))


@pytest.mark.parametrize(
    ("typed", "carried"),
    [
        ("a red apple", "a red apple"),
        ("(cat)", "(cat)1.1"),
        ("((cat))", "(cat)1.21"),
        ("[cat]", "(cat)0.9090909"),
        ("[(cat)]", "cat"),
        ("(cat:1.3)", "(cat)1.3"),
        ("(cat: 1.3 )", "(cat)1.3"),
        ("a (red (small:1.2) cat:1.5), b", "a (red)1.5 (small)1.8 (cat)1.5, b"),
        ("miku \\(vocaloid\\), \\[x\\]", "miku \\(vocaloid\\), [x]"),
        ("a\\b\\\\c", "ab\\c"),
        ("(a", "(a)1.1"),
        ("a [b", "a (b)0.9090909"),
        ("a) b] c", "a\\) b] c"),
        ("x:1.3)", "x:1.3\\)"),
        ("(a [b) c]", "(a)1.1 b (c)0.9090909"),
        ("x(y:2)z", "x (y)2 z"),
        ("(y:2).5", "(y)2 .5"),
        ("(y:2), z", "(y)2, z"),
        ("c++ -- d- a-b 5\" x", "c\\+\\+ -\\- d\\- a-b 5\\\" x"),
        ("(a:1.2.3)", "(a:1.2.3)1.1"),
        ("a BREAK b", '("a", "b").and()'),
        ("(a BREAK b:1.2)", '("(a)1.2", "(b)1.2").and()'),
        ("a BREAK", "a "),
        ("BREAK a BREAK BREAK b", '("", "a", "", "b").and()'),
        ("a\nBREAK\nb\nc", '("a", "b c").and()'),
        ("a AND b", '("a", "b").blend(1, 1)'),
        ("a :1.2 AND b:.5", '("a", "b").blend(1.2, 0.5)'),
        ("a cat, 16:9", "a cat, 16:9"),
        ("SANDAL BREAKFAST", "SANDAL BREAKFAST"),
        ("a <lora:style:0.8>, b", "a , b withLora(style, 0.8)"),
        ("<lora:a_b-2>", "withLora(a_b-2, 1)"),
        ("<lora:v1.5:0.5>", "withLora(v1.5, 0.5)"),
        ("x <lyco:y:-1> BREAK z", '("x", "z").and() withLora(y, -1)'),
        ("[red|blue] apple", "red apple"),
        ("[a:b:0.5] [c:5] [d::9] [:e:.5]", "a c d e"),
        ("[(a:1.2):[b|c]:3]d", "(a)1.2 d"),
        ("[a:b]", "(a:b)0.9090909"),
        ("<b> <3 a<b:c", "<b> <3 a<b:c"),
        ("", ""),
        ("()", ""),
        (" ( ) ", "   "),
    ],
)  # fmt: skip
def test_what_becomes_of_it(typed: str, carried: str) -> None:
    assert translate(typed).text == carried


@pytest.mark.parametrize(
    ("typed", "place", "says"),
    [
        ("a [b|c]", "[b|c]", "'b' is taken"),
        ("a [b:c:0.5]", "[b:c:0.5]", "'b' is taken"),
        ("a [:c:0.5]", "[:c:0.5]", "'c' is taken"),
        ("<lora:two words:1>", "<lora:two words:1>", "can't be named in a prompt"),
        ("<lora:v+5:1>", "<lora:v+5:1>", "use --lora"),
        ("<lora:a:1:0.5>", "<lora:a:1:0.5>", "one weight"),
        ("<lora:a:x>", "<lora:a:x>", "'x' is no weight"),
        ("<lora:a:1e9>", "<lora:a:1e9>", "10 is taken"),
        ("<hypernet:a:1>", "<hypernet:a:1>", "left out"),
        ("(a:-1)", "-1", "taken as 0"),
        ("(a:1.2.3)", "1.2.3", "no number"),
        ("((a:9):9)", "a", "multiply to 81; 10 is taken"),
        ("a BREAK b AND c", "BREAK", "a blank"),
        ("x AND y", "AND", "averages"),
    ],
)
def test_what_cannot_be_carried_over_is_told_at_its_place(typed: str, place: str, says: str) -> None:
    told = translate(typed).problems
    assert [typed[slice(*problem.span)] for problem in told if says in problem.message] == [place], told
    assert [p.level for p in told if says in p.message] == ["note" if says == "averages" else "error"]


def test_the_translation_of_several_texts_is_the_whole_prompt() -> None:
    made = parse(translate('a "b" (c, d:1.2) AND e\\\\ AND (f:.5) :2 <lora:x:1>').text)
    (blend,) = made.tree.clauses
    assert isinstance(blend, Blend) and blend.weights == (1, 1, 2)
    assert made.plains == ('a "b" c, d', "e\\", "f") and made.problems == ()
    assert [(use.name, use.weight) for use in made.loras] == [("x", 1.0)]


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("a (red cat:1.3) b", ["(red cat:1.3)"]),
        ("[word], b", ["[word]"]),
        ("a BREAK b", ["BREAK"]),
        ("a AND b", ["AND"]),
        ("<lora:x:0.8>", ["<lora:x:0.8>"]),
        ("[a|b] c", ["[a|b]"]),
        ("[a:b:0.5] c", ["[a:b:0.5]"]),
        ("a cat", []),
        ("(a (red cat)1.3 \"b\"++ x)--, f(x)", []),
        ("\\(a:1.3\\) \\[b\\]", []),
        ("((word))", []),
        ("a screen (16:9)", []),
        ("(a:2)1.3", []),
        ("CATS AND DOGS", []),
        ("BREAK", []),
        ("BREAK DANCE", []),
        ("<mini-night> a < b : c >", []),
        ("[] [ ]", []),
        ('("a", "b").blend(.7, .3)', []),
    ],
)  # fmt: skip
def test_signs(text: str, found: list[str]) -> None:
    assert [text[slice(*sign.span)] for sign in signs(text) if sign.strong] == found


def test_double_brackets_are_weak_evidence() -> None:
    (sign,) = signs("a ((word))")
    assert not sign.strong and sign.span == (2, 10)


@pytest.mark.parametrize(
    "text",
    [
        "(" * 10_000 + "a" + ")" * 10_000,
        "[" * 10_000 + "a" + "]" * 10_000,
        "(" * 10_000,
        "[a|" * 10_000 + "b" + "]" * 10_000,
        "[" * 10_000 + "a" + "|b]" * 10_000,
        "[" * 10_000 + "a" + ":b:3]" * 10_000,
        "((a:9)" * 10_000,
        "<a:" * 80_000,
        "<lora:" * 40_000 + ">",
        " " * 1_000_000,
        "[:" + "1" * 1_000_000 + "x]",
        ":" + " " * 1_000_000 + "x AND y",
        "BREAK " * 40_000,
        "(a:1.1) " * 40_000,
        "\\" * 1_000_000,
        "a AND " * 40_000,
        "[ " * 80_000 + "|]" * 80_000,
        "\0" * 40_000 + "(\u202ea:2)",
    ],
    ids=lambda text: text[:12].encode("unicode_escape").decode(),
)
def test_deep_and_long_texts(text: str) -> None:
    made = translate(text)
    assert signs(text) is not None
    assert all(0 <= piece.source[0] < piece.source[1] <= len(text) for piece in made.pieces)


def test_ten_thousand_brackets_are_a_weight_all_the_same() -> None:
    assert heard(translate("(" * 10_000 + "a" + ")" * 10_000).text) == [("a", MAX_WEIGHT)]
    assert heard(translate("[" * 10_000 + "a" + "]" * 10_000).text) == [("a", 0.0)]
    assert heard(translate("([" * 5_000 + "a").text) == [("a", 1.0)]
    assert heard(translate("(" * 40 + "a" + ":9)" * 39 + ":0)").text) == [("a", 0.0)]
