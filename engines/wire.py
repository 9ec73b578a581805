"""Asking the hub over HTTP: where it is, who asks, what its answers mean, and when it is asked again.

The library's own calls are not used for it: they take the environment as it was at their import, wait without an end,
and can't be stopped. Every request runs in a thread beside, so that a stop is heard within a tenth of a second however
long the network is silent. Tokens go to the hub's own address alone, over TLS (or to the endpoint that was named), and
into no message.
"""

from __future__ import annotations

import json
import logging
import os
import queue
import re
import threading
import time
from collections.abc import Callable, Generator, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar
from urllib.parse import quote, urljoin, urlsplit

from engines.errors import SafelightError, Stopped
from engines.events import Noted

if TYPE_CHECKING:
    import httpx2

TRIES = 5
"How often something is asked for again while nothing comes of it."
LONGEST_WAIT = 60.0
"Seconds between two tries, whatever Retry-After says."
MEANINGFUL = 1024 * 1024
"Bytes after which a try counts as one that came to something."
MAX_LISTING = 64 * 1024 * 1024
"Bytes of JSON; the largest repositories have listings of a few MB."

_POLL = 0.1
_SILENCE = 30.0
_HOPS = 5
_MOVED = (301, 302, 303, 307, 308)
_BUSY = (408, 425, 429, 500, 502, 503, 504)
_LOOPBACK = ("localhost", "127.0.0.1", "::1")
_TOKEN = re.compile(r"[\x21-\x7e]{1,4096}")

T = TypeVar("T")
Stop = Callable[[], bool]


class HubError(SafelightError):
    """The hub refuses, doesn't have, or can't be asked for something."""


class Lost(Exception):
    """A request that may well succeed when it is made again; `wait` is what the hub asked for, in seconds."""

    def __init__(self, reason: str, wait: float | None = None) -> None:
        super().__init__(reason)
        self.reason = reason
        self.wait = wait


@dataclass(frozen=True, slots=True)
class Answer:
    """The head of a response."""

    status: int
    "HTTP status after redirects."
    headers: Mapping[str, str]
    "Of the response that has the body; names in lower case."
    said: Mapping[str, str]
    "What the hub itself said, before it sent us elsewhere."

    def etag(self) -> str:
        """The name of the contents as the hub gives it: a sha256 or git's sha1; empty if it gives none."""
        text = self.said.get("x-linked-etag") or self.said.get("etag", "")
        return text.strip().removeprefix("W/").strip('"')


@dataclass(frozen=True, slots=True)
class Asked:
    """What a request is about, for messages."""

    repo: str
    "ORG/NAME."
    revision: str
    "A branch, a tag or a commit."
    file: str = ""
    "Its path in the repository; empty for the listing."

    @property
    def words(self) -> str:
        """What people call it."""
        return self.file or f"the listing of {self.repo}"


def never() -> bool:
    """A stop that never comes."""
    return False


def pause(seconds: float, stop: Stop) -> None:
    """Waits. Raises Stopped as soon as `stop` says so."""
    end = time.monotonic() + seconds
    while (left := end - time.monotonic()) > 0:
        if stop():
            raise Stopped
        time.sleep(min(left, _POLL))


@dataclass(slots=True)
class Wire:
    """The connection of one job to the hub."""

    job_id: int | None = None
    "Whose notes these are."
    stop: Stop = never
    "Looked at before each piece and ten times a second while nothing comes."
    pause: Callable[[float, Stop], None] = pause
    "Waits between tries."
    clock: Callable[[], float] = time.monotonic
    "Seconds."
    endpoint: str = field(default_factory=lambda: endpoint())
    "Where the hub is."
    _client: httpx2.Client | None = None
    _token: str | None = field(default=None, repr=False)

    def __enter__(self) -> Wire:
        return self

    def __exit__(self, *_: object) -> None:
        if self._client is not None:
            self._client.close()
            self._client = None

    def file_url(self, repo: str, commit: str, file: str) -> str:
        """The address of a file's contents."""
        return f"{self.endpoint}/{repo}/resolve/{quote(commit, safe='')}/{quote(file)}"

    def page(self, repo: str) -> str:
        """The address where people read of a repository."""
        return f"{self.endpoint}/{repo}"

    def listing(self, repo: str, revision: str) -> Generator[Noted, None, dict[str, Any]]:
        """What the hub says of a repository at a revision: commit, files with sizes and hashes, whether it is gated.

        Raises:
            HubError: refused, not there, or not to be reached.
            Stopped: `stop` said so.
        """
        url = f"{self.endpoint}/api/models/{repo}/revision/{quote(revision, safe='')}?blobs=true"
        asked = Asked(repo, revision)
        tries = Tries(self)
        while True:
            body = bytearray()
            try:
                for piece in self.get(url, asked):
                    if isinstance(piece, bytes):
                        body += piece
                    if len(body) > MAX_LISTING:
                        raise HubError(f"the listing of {repo} has no end", "look at its page")
                told = json.loads(body)
            except Lost as lost:
                yield from tries.again(lost, asked.words)
            except ValueError:
                raise HubError(
                    f"what {self.endpoint} says of {repo} can't be read", "see whether HF_ENDPOINT names a hub"
                ) from None
            else:
                if isinstance(told, dict):
                    return told
                raise HubError(f"what {self.endpoint} says of {repo} is no listing", "see whether HF_ENDPOINT is a hub")

    def get(self, url: str, asked: Asked, since: int = 0) -> Iterator[Answer | bytes | None]:
        """One GET: its Answer (200 or 206), then the body in pieces of at most some 64 KiB; None while nothing comes.

        Args:
            since: how many bytes are here already; the rest is asked for.

        Raises:
            Lost: it may be tried again.
            HubError: it would be in vain.
            Stopped: `stop` said so.
        """
        check_online()
        for piece in _beside(self._request(url, asked, since), self.stop):
            if isinstance(piece, Answer) and piece.status not in (200, 206, 416):
                raise self._refusal(piece, asked)
            yield piece

    def _request(self, url: str, asked: Asked, since: int) -> Iterator[Answer | bytes]:
        """Runs in a thread of its own."""
        import httpx2

        if self._client is None:
            # they tell every address, signed ones of the contents included
            for name in ("httpx2", "httpcore2"):
                logging.getLogger(name).setLevel(logging.WARNING)
            self._client = httpx2.Client(timeout=httpx2.Timeout(_SILENCE, connect=15.0), follow_redirects=False)
        host = urlsplit(url).hostname
        said: dict[str, str] = {}
        try:
            for _ in range(_HOPS + 1):
                headers = {"user-agent": "safelight", "accept-encoding": "identity"}
                if since:
                    headers["range"] = f"bytes={since}-"
                own = _origin(url) == _origin(self.endpoint)
                if own and (known := self._known_token()):
                    headers["authorization"] = f"Bearer {known}"
                host = urlsplit(url).hostname
                with self._client.stream("GET", url, headers=headers) as response:
                    told = {name.lower(): value for name, value in response.headers.items()}
                    if own:
                        said.update(told)
                    if response.status_code in _MOVED and "location" in told:
                        url = urljoin(url, told["location"])
                        self._check_address(url, asked)
                        continue
                    yield Answer(response.status_code, told, said)
                    yield from response.iter_raw()
                    return
        except httpx2.ConnectError:
            raise Lost(f"{host} can't be reached") from None
        except httpx2.TimeoutException:
            raise Lost(f"nothing comes from {host}") from None
        except (httpx2.TransportError, httpx2.StreamError):
            raise Lost("the connection was lost") from None
        except (httpx2.InvalidURL, UnicodeError, ValueError):
            raise HubError(f"{host or 'the hub'} sends us to an address that is none", "see HF_ENDPOINT") from None
        raise HubError(f"{host} sends us round in circles for {asked.words}", "try again later")

    def _check_address(self, url: str, asked: Asked) -> None:
        parts = urlsplit(url)
        safe = parts.scheme == "https" or (
            parts.scheme == "http" and (parts.hostname in _LOOPBACK or _origin(url) == _origin(self.endpoint))
        )
        if not safe:
            raise HubError(
                f"{asked.words} would come from {parts.hostname} without encryption", "see HF_ENDPOINT and the proxy"
            )

    def _known_token(self) -> str:
        if self._token is None:
            self._token = token()
        return self._token

    def _refusal(self, answer: Answer, asked: Asked) -> Exception:
        """What a status other than 200 means: Lost where it may pass, else one clear line."""
        status, code = answer.status, answer.headers.get("x-error-code", "")
        page = self.page(asked.repo)
        if status in _BUSY:
            reason = "the hub asks us to wait" if status == 429 else f"the hub answers {status}"
            return Lost(reason, _retry_after(answer.headers.get("retry-after", "")))
        if code == "GatedRepo" or (status == 403 and code != "RepoNotFound"):
            if self._token:
                return HubError(f"{asked.repo} is gated, and your token has no access to it", f"ask for it at {page}")
            return HubError(
                f"{asked.repo} is gated: it needs a token of an account that has access",
                f"agree to its terms at {page}, then: hf auth login (or HF_TOKEN)",
            )
        if status == 401 and "credentials" in answer.headers.get("x-error-message", "").lower():
            return HubError("the hub does not know your token", "hf auth login makes a new one; or unset HF_TOKEN")
        if code == "RevisionNotFound":
            return HubError(f"{asked.repo} has no revision {asked.revision}", f"see {page}")
        if code == "EntryNotFound" or (status == 404 and asked.file):
            return HubError(f"{asked.repo} has no file {asked.file} at {asked.revision[:12]}", f"see {page}/tree/main")
        if code == "RepoNotFound" or status in (401, 404):
            return HubError(
                f"the hub has no repository {asked.repo}, or it is private",
                "check its name; a private one needs a token: hf auth login (or HF_TOKEN)",
            )
        return HubError(f"the hub answers {status} for {asked.words}", f"see {page}")


class Tries:
    """How often something was tried in vain."""

    def __init__(self, wire: Wire) -> None:
        self._wire = wire
        self._count = 0

    def worked(self) -> None:
        """Something came: counting begins anew."""
        self._count = 0

    def again(self, lost: Lost, what: str) -> Iterator[Noted]:
        """Tells that it is tried again, and waits. Raises HubError after TRIES, Stopped if it is asked to."""
        self._count += 1
        if self._count >= TRIES:
            raise HubError(
                f"{lost.reason}: {what} was given up after {TRIES} tries", "try again later; what has come is kept"
            )
        seconds = min(LONGEST_WAIT, max(0.0, 2.0 ** (self._count - 1) if lost.wait is None else lost.wait))
        text = f"{lost.reason}: {what} goes on in {seconds:.0f} s (try {self._count + 1} of {TRIES})"
        yield Noted("info", text, self._wire.job_id)
        self._wire.pause(seconds, self._wire.stop)


def endpoint() -> str:
    """The hub's address by the environment as it stands. Raises HubError for one that can't be one."""
    named = os.environ.get("HF_ENDPOINT", "").strip().rstrip("/") or "https://huggingface.co"
    try:
        parts = urlsplit(named)
        good = parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
    except ValueError:
        good = False
    if not good or parts.username or parts.password:
        raise HubError("HF_ENDPOINT is no address of a hub", "for instance https://huggingface.co, or unset it")
    return named


def check_online() -> None:
    """Raises HubError where the environment forbids the network."""
    for name in ("HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE"):
        if os.environ.get(name, "").strip().upper() in ("1", "ON", "YES", "TRUE"):
            raise HubError(f"{name} is set: nothing is fetched", f"unset {name} to fetch models")


def token() -> str:
    """The user's token from the places that huggingface_hub knows, by the environment as it stands; empty without.

    Raises:
        HubError: what is there can't be a token; it is not shown.
    """
    env = os.environ
    if env.get("HF_HUB_DISABLE_IMPLICIT_TOKEN", "").strip().upper() in ("1", "ON", "YES", "TRUE"):
        return ""
    found = env.get("HF_TOKEN") or env.get("HUGGING_FACE_HUB_TOKEN") or ""
    if not found.strip() or env.get("HF_OIDC_RESOURCE"):
        found = _kept_token()
    found = found.strip()
    if found and not _TOKEN.fullmatch(found):
        raise HubError("what is set as the hub's token can't be one", "hf auth login makes a new one")
    return found


def _kept_token() -> str:
    home = os.environ.get("HF_HOME") or os.path.join(os.environ.get("XDG_CACHE_HOME") or "~/.cache", "huggingface")
    named = os.environ.get("HF_TOKEN_PATH") or os.path.join(home, "token")
    path = Path(os.path.expandvars(named)).expanduser()
    from huggingface_hub import constants, get_token

    if str(path) == str(Path(constants.HF_TOKEN_PATH).expanduser()) or os.environ.get("HF_OIDC_RESOURCE"):
        try:
            return get_token() or ""  # it also renews one that runs out
        except Exception:
            raise HubError("no token could be had from huggingface_hub", "hf auth login makes a new one") from None
    try:
        return path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError):
        return ""


def size(count: float) -> str:
    """'3.2 GB'."""
    for unit in ("B", "kB", "MB"):
        if count < 1000:
            return f"{count:.0f} {unit}"
        count /= 1000
    return f"{count:.1f} GB"


def _retry_after(text: str) -> float | None:
    return float(text) if text.strip().isdigit() else None


def _origin(url: str) -> tuple[str, str, int]:
    parts = urlsplit(url)
    return parts.scheme, parts.hostname or "", parts.port or {"http": 80}.get(parts.scheme, 443)


def _beside(work: Iterator[T], stop: Stop) -> Iterator[T | None]:
    """Runs an iterator in a thread and hands on what it gives; None ten times a second while it gives nothing.

    A thread that is left behind ends with the next thing it is given, or with its time-out.
    """
    gone = threading.Event()
    given: queue.Queue[tuple[T | None, BaseException | None]] = queue.Queue(maxsize=16)

    def put(item: T | None, error: BaseException | None) -> None:
        while not gone.is_set():
            try:
                given.put((item, error), timeout=_POLL)
                return
            except queue.Full:
                pass

    def run() -> None:
        try:
            for item in work:
                put(item, None)
                if gone.is_set():
                    return
            put(None, StopIteration())
        except BaseException as e:
            put(None, e)

    if stop():
        raise Stopped
    threading.Thread(target=run, name="safelight-hub", daemon=True).start()
    try:
        while True:
            if stop():
                raise Stopped
            try:
                item, error = given.get(timeout=_POLL)
            except queue.Empty:
                yield None
                continue
            if isinstance(error, StopIteration):
                return
            if error is not None:
                raise error
            yield item
    finally:
        gone.set()
