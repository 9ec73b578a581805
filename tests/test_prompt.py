"""The prompt language: beside compel's own parser where a prompt is well formed, and by itself where it is not."""

from __future__ import annotations

import functools
import math
import pickle
import re
import sys
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st

from engines.prompt import (
    MAX_WEIGHT,
    Blend,
    Conjunction,
    Flat,
    Fragment,
    Prompt,
    Swap,
    clean,
    escape,
    parse,
)

# ---------------------------------------------------------------------------------------- well-formed prompts

WORDS = st.sampled_from(
    [
        "a",
        "cat",
        "red",
        "it's",
        "well-known",
        "4k",
        "16:9",
        "Ünïcødé",
        "猫",
        "🐈",
        "e\u0301t\u0302",
        "\\(vocaloid\\)",
        "x_y",
    ]
)
NUMBERS = st.sampled_from(["0", ".5", "0.25", "1", "1.", "1.3", "2.0", "0.75", "1.05"])
WEIGHTS = st.one_of(
    NUMBERS,
    st.sampled_from(["+", "++", "-", "--", "+++", "---"]),
    st.sampled_from([".attend(1.2)", ".attend(++)", " .attend( -- )"]),
)
SIGNS = st.sampled_from(["", "+", "++", "-", "--"])
LORAS = st.sampled_from(["withLora(style)", "withLora(my-style_2, .8)", "useLora(x,-1.5)", "withLora( y , 2 )"])


@st.composite
def items(draw: st.DrawFn, depth: int, quotes: bool = True, swaps: bool = True) -> str:
    """A word, weighted word, weighted phrase, swap or LoRA, nested at most `depth` deep."""
    kind = draw(st.integers(0, 9))
    if kind >= 9:
        return draw(LORAS)
    if kind >= 8 and swaps:
        target = draw(WORDS) if depth == 0 else f"({draw(texts(depth - 1, quotes, swaps=False))})"
        edited = " ".join(draw(st.lists(WORDS, max_size=2)))
        return f"{target}.swap({edited}{draw(st.sampled_from(['', ', s_start=0.2', ', t_end=.5, s_end=1']))})"
    if kind >= 4 and depth > 0:
        inside = draw(texts(depth - 1, quotes, swaps))
        return f"({inside}){draw(st.one_of(st.just(''), WEIGHTS))}"
    if kind == 3 and quotes:
        return f'"{draw(texts(0, False, False))}"{draw(st.one_of(st.just(""), WEIGHTS))}'
    return draw(WORDS) + draw(SIGNS)


@st.composite
def texts(draw: st.DrawFn, depth: int, quotes: bool = True, swaps: bool = True) -> str:
    """Items one behind the other, with at least one word that is encoded."""
    made = draw(st.lists(items(depth, quotes, swaps), min_size=1, max_size=4 if depth < 2 else 2))
    made.insert(draw(st.integers(0, len(made))), draw(WORDS))
    separators = st.sampled_from([" ", " ", "  ", ", ", ". ", " , ", "\t"])
    return functools.reduce(lambda text, item: text + draw(separators) + item, made)


@st.composite
def combinations(draw: st.DrawFn) -> str:
    """A blend or an .and(), perhaps with LoRAs around it."""
    clause = st.one_of(
        texts(1, quotes=False, swaps=False).map(lambda text: f'"{text}"'),
        texts(0, quotes=False, swaps=False).map(lambda text: f"({text})"),
        WORDS,
    )
    clauses = draw(st.lists(clause, min_size=1, max_size=3))
    operator = draw(st.sampled_from(["blend", "and", "add"]))
    weights = draw(st.one_of(st.just([]), st.lists(NUMBERS, min_size=len(clauses), max_size=len(clauses))))
    assume(not weights or sum(map(float, weights)) > 0)
    flag = ["no_normalize"] if operator == "blend" and draw(st.booleans()) else []
    text = f"({', '.join(clauses)}).{operator}({', '.join(weights + flag)})"
    if operator == "blend":  # compel drops LoRAs beside an .and()
        text = (
            draw(st.sampled_from(["", "withLora(before) "])) + text + draw(st.sampled_from(["", " withLora(after, 2)"]))
        )
    return text


PROMPTS = {0: texts(0), 1: texts(1), 2: texts(2), 3: texts(3), "combined": combinations()}


# ---------------------------------------------------------------------------------------- compel's reading


@pytest.fixture
def quick_compel() -> Iterator[None]:
    """Lets pyparsing remember what it tried: at a depth of three compel takes 6 ms a prompt with it, and 50 without."""
    from pyparsing import ParserElement

    ParserElement.enable_packrat(512, force=True)
    yield
    ParserElement.disable_memoization()


@functools.cache
def compel_parser() -> Any:
    from compel.prompt_parser import PromptParser

    return PromptParser()


def even(text: str) -> str:
    """compel puts blanks around commas and full stops within brackets; the tokens are the same."""
    return re.sub(r"\s*([,.])\s*", r"\1", " ".join(text.split()))


Reading = list[Any]


def compels_reading(text: str) -> tuple[Reading, list[tuple[str, float]]]:
    """compel's (clauses with weights, LoRAs) in lists that can be compared."""
    from compel import prompt_parser as compels

    def flat(node: Any) -> Reading:
        return [fragment(child) for child in node.children if getattr(child, "text", "-")]

    def fragment(node: Any) -> Any:
        if type(node) is compels.CrossAttentionControlSubstitute:
            chosen = {k: v for k, v in node.options.items() if k in ("s_start", "s_end", "t_start", "t_end")}
            words = [[fragment(x) for x in side if x.text] for side in (node.original, node.edited)]
            return (*words, chosen)
        return (even(node.text), node.weight)

    root = compel_parser().parse_conjunction(text)
    clauses: Reading = []
    for node, weight in zip(root.prompts, root.weights, strict=True):
        if type(node) is compels.Blend:
            clauses.append((weight, [flat(x) for x in node.prompts], node.weights, node.normalize_weights))
        else:
            clauses.append((weight, flat(node)))
    return clauses, [(lora.model, float(lora.weight)) for lora in root.lora_weights]


def our_reading(text: str) -> tuple[Reading, list[tuple[str, float]]]:
    """The same of ours."""

    def flat(node: Flat) -> Reading:
        return [fragment(child) for child in node.fragments]

    def fragment(node: Fragment | Swap) -> Any:
        if isinstance(node, Swap):
            chosen = {"s_start": 0.0, "s_end": 0.0, "t_start": 0.2, "t_end": 1.0}
            chosen |= {name: float(value) for name, value in node.options}
            return [fragment(x) for x in node.original], [fragment(x) for x in node.edited], chosen
        return (even(node.text), node.weight)

    prompt = parse(text)
    clauses: Reading = []
    for node, weight in zip(prompt.tree.clauses, prompt.tree.weights, strict=True):
        if isinstance(node, Blend):
            clauses.append((weight, [flat(x) for x in node.clauses], list(node.weights), node.normalize))
        else:
            clauses.append((weight, flat(node)))
    return clauses, [(lora.name, lora.weight) for lora in prompt.loras]


def examples(count: int) -> settings:
    quiet = [HealthCheck.too_slow, HealthCheck.data_too_large, HealthCheck.filter_too_much]
    return settings(max_examples=count, deadline=None, derandomize=True, database=None, suppress_health_check=quiet)


@pytest.mark.parametrize(("kind", "count"), [(0, 200), (1, 200), (2, 100), (3, 80), ("combined", 120)])
def test_well_formed_prompts_are_read_as_compel_reads_them(kind: int | str, count: int, quick_compel: None) -> None:
    @examples(count)
    @given(PROMPTS[kind])
    def agrees(text: str) -> None:
        assert our_reading(text) == compels_reading(text)

    agrees()


RULES = """
a cat++ | a+ b- | a+b | a-b++ | a++b | a+(b) | a+- | +cat | (a).5 | (a)1. | (a)0 | (a)-1 | (a)1.3b | (a)++b
(a) 1.3 | (a) ++ | (red cat)1.3 | (red (blue)1.2 cat)1.5 | ((a)++)-- | (a b)(c d) | (a b)1.1(c d)1.2 | a(b)c
a(b)1.2 c | a,(b)1.2 | a,"b c"1.2 | (a(b)1.2 c)1.1 | (a"b c"d)++ | "a b"1.3 | "a"b | a"b c"d | "it's (b)1.2"++
"say \\"hi\\""1.2 | (e.g.swap(x) y)1.1 | a.attend(1.3) | "a b".attend(--) | (a) .attend ( ++ ) | cat.swap(dog)
a cat .swap (a dog) b | ("cat").swap("big dog", s_end=.5) | (cat++ b).swap(dog--) c | cat.swap()
(a cat.swap(dog) x)0.5 | (a, b)1.2, c. d | (a,b)1.2 | a.(b)1.2 | 1.5++ | (1.5++)1.1 | withLora(x) a
a withLora(x, .5), b | (a withLora(x,2))0.5 | useLora(x,-1)b | withLora (x) | awithLora(x) a | (a, b).blend(1, 2)
((a b), "c d").blend() | ("a").blend(3) | ("a" , "b") . blend(1) | ("a","b") .blend (1 , -0.5)
("a b++", "c").and(1, .5) | ("a","").add() | ("a", "b").blend(no_normalize) | x ("a", "b").blend(1, 2)
("a" "b").blend(1) | (a b, c).blend(1, 2) | ((a)1.3, b).blend(1, 2) | \\(a\\)++ | a\\(b\\) | \\(a | (\\(a\\) b)1.2
"a \\) b"1.2 | (a \\" b)1.2 | a\\\\b | (a | a) | ((a) | (a (b)1.2 c | (a)) | :) | :( (a)1.2 | (a:b)1.2 | [a|b] | ++
-- cat | a - b | (-b)1.2 | () a
""".strip()


@pytest.mark.parametrize("text", [rule.strip() for line in RULES.splitlines() for rule in line.split(" | ")])
def test_every_rule_of_the_grammar(text: str) -> None:
    ours, compels = our_reading(text), compels_reading(text)
    if '"a" , "b") . blend' in text or '"a" "b"' in text or "withLora (x)" in text:
        # Not syntax for either of them, or nothing to encode: the words are what counts.
        ours, compels = words_of(ours), words_of(compels)
    assert ours == compels


def words_of(reading: tuple[Reading, Any]) -> Any:
    clauses, loras = reading
    return "".join(word for _, flat in clauses for word, _ in flat).replace(" ", ""), loras


# ---------------------------------------------------------------------------------------- differences (docs/prompt.md)


def fragments(text: str) -> list[tuple[str, float]]:
    (flat,) = parse(text).tree.clauses
    assert isinstance(flat, Flat)
    return [(f.text, f.weight) for f in flat.fragments if isinstance(f, Fragment)]


def messages(text: str, level: str | None = None) -> list[str]:
    return [p.message for p in parse(text).problems if level in (None, p.level)]


def test_punctuation_stays_as_typed() -> None:
    assert fragments("(wait... what, no)1.2") == [("wait... what, no", 1.2)]
    assert "wait . . . what" in str(compel_parser().parse_conjunction("(wait... what)1.2"))
    assert fragments("a,,b") == [("a,,b", 1.0)]
    assert "a, ,b" in str(compel_parser().parse_conjunction("a,,b"))


def test_every_escape_gives_the_character_itself() -> None:
    assert fragments(r"c\+\+ a\, b\. \-5 \= \"\(\)") == [('c++ a, b. -5 = "()', 1.0)]
    assert r"c\+\+" in str(compel_parser().parse_conjunction(r"c\+\+"))


@pytest.mark.parametrize("text", ["(a - b)1.3", "(a = b)1.3", "(a + b)1.3", "(++ a)1.3", "(a=b)1.3"])
def test_signs_within_brackets_are_text_and_the_weight_holds(text: str) -> None:
    inside = text[1 : text.index(")")]
    assert fragments(text) == [(inside, 1.3)]
    assert "@1.3" not in str(compel_parser().parse_conjunction(text))


def test_a_lone_quotation_mark_within_brackets_is_text_and_the_weight_holds() -> None:
    assert fragments('(a 5" nail)1.3') == [('a 5" nail', 1.3)]
    assert messages('(a 5" nail)1.3', "note") and not messages('(a 5" nail)1.3', "error")
    assert "@1.3" not in str(compel_parser().parse_conjunction('(a 5" nail)1.3'))


def test_nothing_to_encode_is_the_empty_prompt() -> None:
    for text in ("", " ", "()", "()0.5", "withLora(x)", "(( ))++", '""'):
        assert parse(text).tree.clauses == (Flat(()),)
        assert parse(text).plain == ""
    assert compel_parser().parse_conjunction("()0.5").prompts == []  # and its encoder raises on no prompts


def test_an_empty_phrase_does_not_part_its_neighbours() -> None:
    assert fragments('a ""0.5 b') == [("a b", 1.0)]
    assert "''@0.5" in str(compel_parser().parse_conjunction('a ""0.5 b'))  # and its encoder raises


@pytest.mark.parametrize(
    ("text", "raised"),
    [
        ('("a", "b").blend(1)', "mismatched"),
        ('("a", "b").and(1, 2, 3)', "mismatched"),
        ('("a", "b").blend(x, 1)', "could not convert"),
    ],
)
def test_weights_that_do_not_fit_are_equal(text: str, raised: str) -> None:
    with pytest.raises(Exception, match=raised):
        compel_parser().parse_conjunction(text)
    tree = parse(text).tree
    weights = tree.clauses[0].weights if isinstance(tree.clauses[0], Blend) else tree.weights
    assert weights == (1.0, 1.0)
    assert any("weighted equally" in message for message in messages(text, "error"))


@pytest.mark.parametrize(
    "arguments", ["nan, 1", "0, 0", "1, inf", "1, -1", "1, -.9999", "1e5, 1", "1, no_normalize, 1", "1,", "a=1, 2"]
)
def test_weights_of_a_blend_that_would_encode_nothing_finite_are_equal(arguments: str) -> None:
    text = f'("a", "b").blend({arguments})'
    (blend,) = parse(text).tree.clauses
    assert isinstance(blend, Blend) and blend.weights == (1.0, 1.0)
    (problem,) = parse(text).problems
    assert problem.level == "error" and text.index("blend(") < problem.span[0] <= problem.span[1] < len(text)


def test_weights_that_cancel_are_fine_where_nothing_is_divided_by_them() -> None:
    (blend,) = parse('("a", "b").blend(1, -1, no_normalize)').tree.clauses
    assert blend == Blend((Flat((Fragment("a"),)), Flat((Fragment("b"),))), (1.0, -1.0), False)


@pytest.mark.parametrize("operator", ["blend", "and"])
def test_a_combination_that_is_not_the_whole_prompt_is_text(operator: str) -> None:
    text = f'("a", "b").{operator}(1, 1) c'
    assert isinstance(parse(text).tree.clauses[0], Flat) and len(parse(text).tree.clauses) == 1
    assert messages(text, "error") == [f".{operator}() must be the whole prompt; it is taken as text"]
    assert parse(text).plain.endswith("c")  # compel raises on the blend, and silently drops the c of the .and()


def test_a_combination_of_unquoted_phrases_is_text() -> None:
    assert messages("(a b, c).blend(1, 2)", "error") == [
        "texts before .blend() need quotation marks; it is taken as text"
    ]
    assert messages("(a, (b, c).blend(1, 2)).and()", "error")


def test_loras_beside_a_conjunction_count() -> None:
    prompt = parse('withLora(x) ("a", "b").and() withLora(y, 2)')
    assert [(u.name, u.weight) for u in prompt.loras] == [("x", 1.0), ("y", 2.0)]
    assert len(prompt.tree.clauses) == 2
    assert compel_parser().parse_conjunction('("a", "b").and() withLora(y, 2)').lora_weights == []


def test_a_text_in_quotation_marks_may_have_single_brackets() -> None:
    (blend,) = parse('("smile :)", "b").blend(1, 2)').tree.clauses
    assert isinstance(blend, Blend) and blend.clauses[0] == Flat((Fragment("smile :)"),))
    assert messages('("smile :)", "b").blend(1, 2)') == ["no bracket opens this one; it is taken as text"]
    (blend,) = parse('("a - b(c)1.2", "d").blend()').tree.clauses  # compel: no weight, because of the lone -
    assert isinstance(blend, Blend) and blend.clauses[0] == Flat((Fragment("a - b"), Fragment("c", 1.2)))


def test_a_swap_is_noted_and_not_applied() -> None:
    prompt = parse("a cat.swap(big (dog)1.2, s_start=0.1) sits")
    assert prompt.tree.clauses == (
        Flat(
            (
                Fragment("a"),
                Swap((Fragment("cat"),), (Fragment("big"), Fragment("dog", 1.2)), (("s_start", "0.1"),)),
                Fragment("sits"),
            )
        ),
    )
    assert prompt.plain == "a cat sits"
    assert [p.text for p in prompt.parts if not p.applied] == ["big", "dog"]
    assert [(p.level, prompt.text[slice(*p.span)]) for p in prompt.problems] == [
        ("note", "cat.swap(big (dog)1.2, s_start=0.1)")
    ]


def test_a_swap_may_stand_in_a_blend_and_in_a_swap() -> None:
    with pytest.raises(Exception, match="sorry"):
        compel_parser().parse_conjunction('("a.swap(b)", "c").blend()')
    assert parse('("a.swap(b)", "c").blend()').plains == ("a", "c")
    assert parse("(a b.swap(c) d).swap(e)").tree.clauses == (Flat((Swap((Fragment("a b d"),), (Fragment("e"),)),)),)


def test_backslash_letters_in_quotation_marks_stay() -> None:
    assert fragments(r'"a\nb"1.2') == [(r"a\nb", 1.2)]
    assert fragments(r"a\\(b\\)1.2") == [(r"a\(b\)1.2", 1.0)]


def test_any_white_space_parts_words() -> None:
    for blank in "\u00a0\u3000\u2009\x0b\x0c\r\n":
        assert fragments(f"a{blank}(b)1.2") == [("a", 1.0), ("b", 1.2)], ascii(blank)


def test_weights_stop_at_a_limit() -> None:
    for text in ("(a)11", "(a)" + "9" * 400, "a" + "+" * 9000, "((a)9)9", "(" * 400 + "a" + ")1.5" * 400):
        assert fragments(text) == [("a", MAX_WEIGHT)]
        assert len(messages(text, "error")) == 1
    assert fragments("a" + "-" * 9000)[0][1] == pytest.approx(0)
    assert parse("withLora(x, 1" + "0" * 400 + ")").loras[0].weight == MAX_WEIGHT
    assert parse("withLora(x, -99)").loras[0].weight == -MAX_WEIGHT


def test_what_is_easily_mistaken_is_noted() -> None:
    assert messages("(a cat)2d", "note") == ["this number is read as a weight; put a blank before it if it is text"]
    assert messages("cat(red)1.3", "note") == [
        "brackets inside a word are text; put a blank before them to weight them"
    ]
    assert messages("4.5++", "note") == ["this is taken as text; to weight it, put the word in brackets"]
    assert messages("withLora(a b)", "error")
    assert messages("a withLora(x)", "note") == []
    for quiet in ("f(x)", "(a cat)2", "a - b", "a+b", "a -- b", "c\\+\\+", "a (red cat)1.3, b++", "it's 16:9, 4k."):
        assert messages(quiet) == []


# ---------------------------------------------------------------------------------------- what an editor relies on


def test_parts_weights_and_places() -> None:
    prompt = parse('a "red (cat)1.5"++, (on\n\\(the\\) mat)0.5')
    assert [(p.text, round(p.weight, 4), prompt.text[slice(*p.span)]) for p in prompt.parts] == [
        ("a", 1.0, "a"),
        ("red", 1.21, "red"),
        ("cat", 1.815, "cat"),
        (",", 1.0, ","),
        ("on\n(the) mat", 0.5, "on\n\\(the\\) mat"),
    ]
    places = [tuple(prompt.text[slice(*s)] for s in (e.span, e.body, e.operator)) for e in prompt.emphases]
    assert places == [
        ('"red (cat)1.5"++', "red (cat)1.5", "++"),
        ("(cat)1.5", "cat", "1.5"),
        ("(on\n\\(the\\) mat)0.5", "on\n\\(the\\) mat", "0.5"),
    ]
    assert prompt.plain == "a red cat, on (the) mat"


def test_plain_joins_clauses() -> None:
    assert parse('("a (red)1.3 cat", "", "dogs++").blend(1, 2, 3)').plain == "a red cat, dogs"
    assert parse('("a", "b, c").and()').plains == ("a", "b, c")
    assert parse("a(b)c (red)ish (x)1.2. (y)!").plain == "a(b)c red ish x. y!"


HOSTILE = [
    "\0", "a\0b", "\ud800", "(\udfff)1.2", "\u202eabc\u202c (x)1.2", "🏳️\u200d🌈++", "e\u0301" * 40, "שלום (עולם)1.3",
    "\x1b[31m",
    "(" * 500 + "a" + ")" * 500, "(" * 500 + "a" + ")1.1" * 500, "(" * 500, ")" * 500,
    '"' * 501, '("' * 300, '")' * 300,
    "a.swap(" * 500 + ")" * 500, "a.swap(" * 300, "(a).blend(" * 200, "withLora(" * 200, ".blend()", ".swap(a)",
    "().blend()",
    '("", "").blend(0, 0)', "(,).and()", "(a,).blend()", "1.3", "++--", "()()()", "(())1.2", "\\", "a\\", "(\\)",
    "(a\\)1.2",
    "(nan)nan", "(a)inf", "(a)-inf", "(a)1e999", "-" * 500, "+" * 500, "," * 500, "." * 500, "\n" * 500,
    "(a)1.2.3.4", "﷽" * 100,
]  # fmt: skip


@pytest.mark.parametrize("text", HOSTILE, ids=range(len(HOSTILE)))
def test_hostile_prompts_are_read(text: str) -> None:
    holds(parse(text))


@examples(1500)
@given(st.text(st.sampled_from([*'ab1.,()"\\+-= \n:', "\0", "\ud800", "\u202e", "猫"]), max_size=40))
def test_any_marks_are_read(text: str) -> None:
    holds(parse(text))


@examples(500)
@given(
    st.lists(st.sampled_from(['("a', '", "b")', ".blend(", ".and(", ".swap(", "withLora(", "x", "1.2", ")", " ", ","]))
)
def test_any_pieces_of_syntax_are_read(pieces: list[str]) -> None:
    holds(parse("".join(pieces)))


@examples(300)
@given(st.text(st.characters(), max_size=60))
def test_any_text_is_read(text: str) -> None:
    holds(parse(text))
    assert clean(text) == clean(clean(text))
    if "\\" not in text:  # before a bracket it would escape the escape
        assert parse(escape(text)).plain.split() == clean(re.sub("[\x0b\x0c\x1c-\x1f\x85]", " ", text)).split()


def holds(prompt: Prompt) -> None:
    """What is true of every prompt."""
    end = 0
    for part in prompt.parts:
        assert end <= part.span[0] < part.span[1] <= len(prompt.text), "parts follow one another within the source"
        end = part.span[1]
        source = prompt.text[slice(*part.span)]
        assert source == source.strip()
        resolved = re.sub(r'\\([()",.+\-=])', r"\1", re.sub("[\x0b\x0c\x1c-\x1f\x85]", " ", source))
        assert part.text == clean(resolved).strip() != "", "a span slices back to its part"
        assert math.isfinite(part.weight) and 0 <= part.weight <= MAX_WEIGHT
    for problem in prompt.problems:
        assert 0 <= problem.span[0] <= problem.span[1] <= len(prompt.text)
        assert problem.message and "\n" not in problem.message and problem.message.isprintable()
    for emphasis in prompt.emphases:
        assert emphasis.span[0] <= emphasis.body[0] <= emphasis.body[1] <= emphasis.operator[0] < emphasis.operator[1]
        assert emphasis.operator[1] == emphasis.span[1] <= len(prompt.text)
    prompt.plain.encode()
    assert prompt.plain == clean(prompt.plain) and "\n" not in prompt.plain
    encoded = [f.text for clause in prompt.tree.clauses for flat in flats(clause) for f in words(flat)]
    spoken = [part.text for part in prompt.parts if part.applied]
    assert " ".join(encoded).split() == " ".join(spoken).split(), "what is shown is what is encoded"
    assert pickle.loads(pickle.dumps(prompt)) == prompt
    assert hash(prompt) == hash(parse(prompt.text))
    assert repr(prompt)


def flats(clause: Flat | Blend) -> tuple[Flat, ...]:
    return clause.clauses if isinstance(clause, Blend) else (clause,)


def words(flat: Flat) -> list[Fragment]:
    return [f for piece in flat.fragments for f in (piece.original if isinstance(piece, Swap) else (piece,))]


def test_blank_prompts_have_one_empty_clause() -> None:
    assert parse("").tree == Conjunction((Flat(()),), (1.0,))


def test_clean_leaves_what_is_text() -> None:
    assert clean("a\tb\nc\r\nd") == "a\tb\nc\nd"
    assert clean("\x1b[31mred\x07\x00\x7f\x9b\u202e\u2066\ud800") == "[31mred"
    assert clean("👩\u200d👩 ä e\u0301 \u00a0") == "👩\u200d👩 ä e\u0301 \u00a0"


def test_escape_is_undone_by_parse() -> None:
    assert parse(escape('a (b)1.2, "c"++ = d.')).plain == 'a (b)1.2, "c"++ = d.'


REPEATED = [
    "a (red cat)1.3, b++ ", "(", ")", '"', '("', '"a" ', '"(", ', "a.swap(", "x(", "(a ", "withLora(a, 1) ",
    "withLora(a,1",
    "1", "+", " ", "\\", ",", "a-", "(a)1", ".blend(", "(((a)1.2 b", "(a).swap(", ' "', "(a\n", "a=",
]  # fmt: skip


@pytest.mark.parametrize("piece", REPEATED)
def test_work_grows_with_the_length(piece: str) -> None:
    """Calls are counted, not seconds; four times the text must be about four times the calls."""
    short, long = ((piece * 5000)[:length] for length in (1000, 4000))
    assert calls_of(long) <= 4.4 * calls_of(short) + 50


@pytest.mark.parametrize("opening", ["(", "a.swap(", '("a", ', "(a "])
def test_work_grows_with_the_depth(opening: str) -> None:
    shallow, deep = (opening * depth + "x" + ")1.1" * depth for depth in (100, 400))
    assert calls_of(deep) <= 4.4 * calls_of(shallow) + 50


def calls_of(text: str) -> int:
    """Calls of functions, Python's and C's, that reading the text takes."""
    calls = 0

    def count(frame: object, event: str, argument: object) -> None:
        nonlocal calls
        calls += event in ("call", "c_call")

    before = sys.getprofile()
    sys.setprofile(count)
    try:
        parse(text)
    finally:
        sys.setprofile(before)
    return calls


def test_a_loras_name_may_have_dots() -> None:
    prompt = parse("a cat withLora(pixel-v1.5, 0.8)")
    assert [(use.name, use.weight) for use in prompt.loras] == [("pixel-v1.5", 0.8)] and not prompt.problems
    assert prompt.plain.strip() == "a cat"
    assert compel_parser().parse_conjunction("a cat withLora(pixel-v1.5, 0.8)").lora_weights == []
    for name in (".x", "x.", "x..y"):
        assert not parse(f"withLora({name})").loras


@pytest.mark.parametrize(
    ("text", "place"),
    [
        ("a (cat)nan b", (7, 10)),
        ('"a cat"inf', (7, 10)),
        ("cat.attend(NaN)", (3, 15)),
        ("(a).attend( infinity )", (3, 22)),
    ],
)
def test_what_is_no_number_is_no_weight_and_that_is_told(text: str, place: tuple[int, int]) -> None:
    (problem,) = (p for p in parse(text).problems if "no weight" in p.message)
    assert problem.span == place and problem.level == "error"
    assert all(part.weight == 1 for part in parse(text).parts)


@pytest.mark.parametrize("text", ["+", "+++", " -- ", "+ -\n--"])
def test_signs_without_a_word_are_told(text: str) -> None:
    assert messages(text, "note") == ["there is no word here to weigh; the signs are taken as text"]


@pytest.mark.parametrize("text", ["(a)nano", "nan", "(a) nan", "inf (a)1", "a.attend(none)"])
def test_words_that_only_begin_like_it_are_words(text: str) -> None:
    assert not [p for p in parse(text).problems if "no weight" in p.message]
