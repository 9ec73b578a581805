"""What an engine tells: a union of frozen values that pickle and hold no tensors.

Every job has one `Queued`, at most one `Started`, and exactly one of `Done`, `Failed` or `Cancelled`, in that order.
What comes between them may be dropped by a slow consumer (only the newest `Stepped` and `Previewed` matter, and of all
jobs the newest `Gauged`); the others may not.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, TypeAlias

from engines.requests import Job, JobId, Picture


@dataclass(frozen=True, slots=True)
class Pixels:
    """A small picture as plain bytes."""

    width: int
    "Pixels."
    height: int
    "Pixels."
    data: bytes
    "height × width × 3 bytes of sRGB, rows from the top."


@dataclass(frozen=True, slots=True)
class Queued:
    """The job is in the store; it survives a crash from here on."""

    job: Job
    "The job as it was stored."


@dataclass(frozen=True, slots=True)
class Started:
    """The engine works on the job."""

    job_id: JobId
    "Whose."


@dataclass(frozen=True, slots=True)
class Loading:
    """Something that takes time is being made ready."""

    job_id: JobId
    "Whose."
    what: str
    "What is loaded, in words for the user."
    fraction: float | None = None
    "0 … 1, or None where it can't be known."


@dataclass(frozen=True, slots=True)
class Stepped:
    """One denoising step is done."""

    job_id: JobId
    "Whose."
    step: int
    "1 … of."
    of: int
    "Steps in all."
    seconds: float
    "Median seconds a step so far, for this job."


@dataclass(frozen=True, slots=True)
class Previewed:
    """How the picture looks so far."""

    job_id: JobId
    "Whose."
    step: int
    "The step after which it was taken."
    image: Pixels
    "The first picture of the batch, decoded small."


@dataclass(frozen=True, slots=True)
class Sketched:
    """What a request for a sketch was for; nothing of it is kept."""

    job_id: JobId
    "Whose."
    image: Pixels
    "The first picture of the batch, of 1024 pixels at most on its longer side."


@dataclass(frozen=True, slots=True)
class Finishing:
    """The denoiser's steps are done; what comes after them goes on."""

    job_id: JobId
    "Whose."
    what: str
    "decoding, scoring, saving, or what is done to the picture then, in words for the user."
    fraction: float | None = None
    "0 … 1, or None where it can't be known."


@dataclass(frozen=True, slots=True)
class Kept:
    """A picture of the job is on disk and in the history, and more of it follows."""

    job_id: JobId
    "Whose."
    picture: Picture
    "It is among those of `Done` again; after `Failed` or `Cancelled` it stays."


@dataclass(frozen=True, slots=True)
class Scored:
    """A picture file's score, from a Score request."""

    job_id: JobId
    "Whose."
    path: str
    "The file."
    scorer: str
    "Who judged."
    score: float
    "Its number; comparable only within one scorer and one prompt."


@dataclass(frozen=True, slots=True)
class Pulling:
    """Files are fetched from the hub."""

    job_id: JobId
    "Whose."
    file: str
    "The file that is fetched now, with its folder in the repository."
    number: int
    "Which of `files` it is: 1 … files."
    files: int
    "Files that have to be fetched in all."
    file_done: int
    "Bytes of this file that are here."
    file_of: int
    "Bytes of this file."
    done: int
    "Bytes of all files that are here, what an earlier run left included."
    of: int
    "Bytes of all files."
    rate: float
    "Bytes a second, over the last few seconds; 0 while it is not known."


@dataclass(frozen=True, slots=True)
class Saved:
    """A file that is no picture is finished: a merged or converted model."""

    job_id: JobId
    "Whose."
    path: str
    "Where it is."
    bytes: int
    "Its size."


@dataclass(frozen=True, slots=True)
class Done:
    """The job is finished, and what it made is on disk and in the history."""

    job_id: JobId
    "Whose."
    pictures: tuple[Picture, ...] = ()
    "What a Generate made, in the order of the seeds."


@dataclass(frozen=True, slots=True)
class Failed:
    """The job ended without its result."""

    job_id: JobId
    "Whose."
    message: str
    "One line, what went wrong."
    hint: str
    "One line, what to do."
    exit_code: int = 1
    "1 the world said no, 2 what was asked is wrong."
    trace: str = ""
    "The traceback, for the log and --debug only."
    lasting: bool = False
    "The next job would fail in the same way: a full disk, a device that isn't there."


@dataclass(frozen=True, slots=True)
class Cancelled:
    """The job was cancelled before it was done."""

    job_id: JobId
    "Whose."


@dataclass(frozen=True, slots=True)
class Vitals:
    """How the device is."""

    device: str
    "For instance 'cuda:0 NVIDIA H100' or 'cpu, 2 threads'."
    precision: str
    "What the denoiser computes in."
    memory_used: int
    "Bytes: the device's, or of this process on a CPU."
    memory_total: int
    "Bytes."
    resident: tuple[str, ...]
    "Ids of the models that are ready."


@dataclass(frozen=True, slots=True)
class Gauged:
    """How warm and how busy the device is, in round numbers: told when they change. None where it can't be known."""

    temperature: float | None = None
    "°C."
    utilisation: float | None = None
    "Percent: of the time of a GPU, or of all cores together."
    power: float | None = None
    "W, of a GPU."
    memory_used: float | None = None
    "Bytes that all programs hold: of the GPU, or of the main memory that this process may use."
    memory_total: float | None = None
    "Bytes."
    load: float | None = None
    "How many programs wanted a core, on average over a minute; only where the processor computes."


@dataclass(frozen=True, slots=True)
class Noted:
    """Something the user should know that is no failure."""

    level: Literal["info", "warning"]
    "How much it matters."
    text: str
    "One line."
    job_id: JobId | None = None
    "Whose, if it concerns one job."


@dataclass(frozen=True, slots=True)
class Closed:
    """The engine has ended; no event follows."""


Event: TypeAlias = (
    Queued
    | Started
    | Loading
    | Stepped
    | Previewed
    | Sketched
    | Finishing
    | Kept
    | Scored
    | Pulling
    | Saved
    | Done
    | Failed
    | Cancelled
    | Vitals
    | Gauged
    | Noted
    | Closed
)
FINAL = (Done, Failed, Cancelled)
