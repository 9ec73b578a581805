"""The commands of line mode: a table of what begins with a slash, and what each of them does."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from engines.errors import InvalidRequest
from engines.requests import Warm, check_prompt
from tui import fields
from tui.clean import one_line
from tui.draft import Draft
from tui.plain import facts, form
from tui.plain.bench import Bench
from tui.plain.voice import listed

FEW = 10
"Pictures that /history tells if nothing else is asked."
MOST = 1000
"And at most."


@dataclass(frozen=True, slots=True)
class Command:
    """One of them."""

    word: str
    "What it is called, without the slash."
    takes: str
    "What may stand behind it."
    about: str
    "What it does, in one sentence."
    act: Callable[[Bench, str], None]
    "Does it, with what stands behind it. Raises SafelightError."
    at_once: bool = False
    "It is about the job that runs, and is heard meanwhile."


def obey(bench: Bench, line: str) -> None:
    """Does what a line says: a command if it begins with a slash, else a prompt. Raises SafelightError."""
    if not line.strip():
        return
    if line.startswith("/"):
        word, _, rest = line[1:].strip().partition(" ")
        command(word).act(bench, rest.strip())
        return
    check_prompt(line, "prompt")
    bench.draft = replace(bench.draft, prompt=line.strip())
    bench.make(bench.draft)


def heard(bench: Bench, line: str) -> bool:
    """A line that was typed while a job runs: whether it was about the job, and so done at once."""
    if not line.startswith("/"):
        return False
    try:
        known = command(line[1:].strip())
    except InvalidRequest:
        return False
    if known.at_once:
        known.act(bench, "")
    return known.at_once


def completions(bench: Bench, begun: str) -> list[str]:
    """What a line that begins like this may become."""
    settings = [field.word for field in form.FIELDS]
    words: dict[str, Sequence[str]] = {
        "model": [*bench.catalogue.models],
        "models": [*facts.kinds(bench.catalogue, bench.draft.model)],
        "help": [*BY_WORD],
        "set": settings,
        "unset": settings,
    }
    return form.completions(begun, BY_WORD, lambda name: words.get(name, ()))


def command(typed: str) -> Command:
    """The command that is meant. Raises InvalidRequest."""
    try:
        return BY_WORD[form.chosen(typed, [*BY_WORD], "command", "commands")]
    except InvalidRequest as e:
        hint = "/help lists the commands" if e.hint.startswith("commands: ") else e.hint
        raise InvalidRequest(e.message.replace("'", "/", 1).replace("'", "", 1), hint) from None


def _help(bench: Bench, rest: str) -> None:
    if rest:
        known = command(rest.split()[0].lstrip("/"))
        bench.voice.tell(f"/{known.word} {known.takes}".strip() + f": {known.about}")
        if known.word in ("set", "unset"):
            bench.voice.tell(*(f"{field.word}: {field.takes}" for field in form.FIELDS))
        return
    bench.voice.tell("a line that does not begin with / is a prompt: Enter makes its picture with the form's settings")
    bench.voice.tell(*(f"/{c.word} {c.takes}".strip() + f": {c.about}" for c in COMMANDS))
    bench.voice.tell("commands and settings may be cut short; Ctrl+C cancels what runs, or empties the line")


def _make(bench: Bench, rest: str) -> None:
    bench.make(bench.draft)


def _again(bench: Bench, rest: str) -> None:
    bench.make(replace(bench.draft, seed=""))


def _cancel(bench: Bench, rest: str) -> None:
    if bench.work.standing:
        bench.work.cancel()
    else:
        bench.voice.tell("nothing runs")


def _queue(bench: Bench, rest: str) -> None:
    if bench.work.standing:
        bench.voice.tell(f"running: {bench.work.standing}")
        return
    jobs = [job for job in bench.history.queued() if not isinstance(job.request, Warm)]
    bench.voice.tell(*(f"{job.id}, of another program, {facts.asked(job.request)}" for job in jobs[:MOST]))
    if not jobs:
        bench.voice.tell("nothing runs and nothing waits")


def _model(bench: Bench, rest: str) -> None:
    known = bench.catalogue.models
    if not rest:
        current = known.get(bench.draft.model)
        named = bench.draft.model or "none"
        bench.voice.tell(f"model: {facts.model(current, bench.catalogue) if current else named}")
        return
    begun = [id for id in known if id.startswith(rest.lower())]
    id = rest if rest in known or len(begun) != 1 else begun[0]
    if id not in known and begun:
        raise InvalidRequest(f"'{one_line(rest, 40)}' may be {listed(begun[:12], 'or')}", "write more of it")
    before = bench.draft.model
    model = bench.catalogue.model(id)
    bench.set(form.find("model"), id, f"model: {facts.model(model, bench.catalogue)}")
    if id != before:
        bench.warm()


def _models(bench: Bench, rest: str) -> None:
    if not rest:
        bench.voice.tell(*facts.models(bench.catalogue, bench.draft.model))
        return
    kinds = facts.kinds(bench.catalogue, bench.draft.model)
    word = form.chosen(rest, [*kinds], "kind of models", "kinds")
    bench.voice.tell(*(kinds[word] or [f"no {word} for this model"]))


def _set(bench: Bench, rest: str) -> None:
    if not rest:
        _settings(bench, rest)
        return
    word, _, text = rest.partition(" ")
    field = form.find(word)
    if not text.strip():
        bench.voice.tell(form.line(bench.draft, field, bench.catalogue), f"it takes {field.takes}")
    elif field.name == "model":
        _model(bench, text.strip())
    else:
        bench.set(field, text)


def _unset(bench: Bench, rest: str) -> None:
    if rest.lower() == "all":
        bench.draft = replace(bench.default, prompt=bench.draft.prompt, model=bench.draft.model)
        bench.voice.tell("the form is empty but for prompt and model")
    elif not rest:
        raise InvalidRequest("/unset needs the name of a setting", "/settings names them; /unset all empties the form")
    else:
        field = form.find(rest)
        bench.set(field, bench.default.model if field.name == "model" else "")


def _settings(bench: Bench, rest: str) -> None:
    bench.voice.tell(*form.lines(bench.draft, bench.catalogue))
    bench.voice.note(*form.notes(bench.draft, bench.catalogue))


def _history(bench: Bench, rest: str) -> None:
    count, search = FEW, rest
    if rest.split(maxsplit=1)[:1] and rest.split()[0].isdigit():
        count = fields.whole("the number of pictures", rest.split()[0], 1, MOST, FEW)
        search = rest.partition(" ")[2]
    found = bench.history.pictures(limit=count, search=search)
    bench.voice.tell(*(facts.row(picture, time.time()) for picture in found))
    if not found:
        bench.voice.tell("no picture has these words" if search else "no pictures yet")


def _show(bench: Bench, rest: str) -> None:
    picture = bench.picture(rest)
    bench.voice.tell(*facts.facts(picture, time.time()))
    bench.voice.path(picture.path)


def _take(bench: Bench, rest: str) -> None:
    picture = bench.picture(rest)
    request = picture.request
    if not request.model:
        raise InvalidRequest(
            f"picture {picture.id} is a file as it was: it has no settings to take",
            f"/set init {picture.id} begins with it",
        )
    before = bench.draft
    taken = Draft.from_request(request, keep=before)
    # what was done to it afterwards is no setting of its drawing
    bench.draft = replace(taken, finish=before.finish) if request.drawn else taken
    bench.voice.tell(f"the settings of {picture.id} are in the form, its seed {request.seed} too; /make makes it")
    if bench.draft.model != before.model:
        bench.warm()


def _rate(bench: Bench, rest: str) -> None:
    words = rest.split()
    if len(words) != 2:
        raise InvalidRequest("/rate needs a picture and 1 to 5 stars", "for instance /rate last 4; 0 takes it back")
    stars = fields.whole("rating", words[1], 0, 5, 0)
    picture = bench.picture(words[0])
    bench.history.rate(picture.id, stars or None)
    bench.voice.tell(f"{picture.id} is rated {stars}" if stars else f"{picture.id} is not rated any more")


def _finishing(kind: str, usual: str) -> Callable[[Bench, str], None]:
    def act(bench: Bench, rest: str) -> None:
        first, _, more = rest.partition(" ")
        if first and not first.isdigit() and first.lower() != "last":
            first, more = "", rest  # the newest, in a way of one's own
        bench.finish(bench.picture(first), f"{kind} {more or usual}".strip())

    return act


def _quit(bench: Bench, rest: str) -> None:
    bench.leaving = True


COMMANDS = (
    Command("help", "[COMMAND]", "what there is, or what one command takes", _help),
    Command("make", "", "a picture of the form as it stands", _make),
    Command("again", "", "the same with a new seed", _again),
    Command("cancel", "", "end what runs; so does Ctrl+C", _cancel, at_once=True),
    Command("queue", "", "what runs and what waits", _queue, at_once=True),
    Command("model", "[ID]", "which model draws, or another one", _model),
    Command("models", "[KIND]", "the models, a line each; kinds are loras, vaes, schedulers and more", _models),
    Command("set", "NAME VALUE", "a setting of the form; /help set lists them", _set),
    Command("unset", "NAME", "leave a setting to the model's recipe; all empties the form", _unset),
    Command("settings", "", "the form, a line a setting", _settings),
    Command("history", "[N] [WORDS]", f"the newest pictures, {FEW} or N, those with the words", _history),
    Command("show", "[ID]", "all of one picture; the newest if no number is given, as below", _show),
    Command("take", "[ID]", "a picture's settings back into the form", _take),
    Command("rate", "ID N", "your own judgement, 1 to 5; 0 takes it back", _rate),
    Command("upscale", "[ID] [HOW]", "enlarge a picture: by an upscaler's id, x2, or both", _finishing("upscale", "")),
    Command("faces", "[ID] [HOW]", "draw its faces anew: a strength of 0 to 1", _finishing("faces", "0.8")),
    Command("hires", "[ID] [HOW]", "make it larger and draw over it: x2 0.4", _finishing("hires", "x2 0.4")),
    Command("quit", "", "leave; so does Ctrl+D. The form is kept, for the workbench too", _quit),
)
BY_WORD = {command.word: command for command in COMMANDS}
