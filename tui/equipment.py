"""What the doctor says of the equipment: this installation, torch, and the devices that this torch can use."""

from __future__ import annotations

import base64
import hashlib
import json
import os
import platform
import sys
from collections.abc import Iterator, Mapping, Sequence
from importlib import metadata
from pathlib import Path
from typing import Any, TypeAlias
from urllib.parse import unquote, urlparse

import engines
import tui
from engines import builds
from engines.events import Gauged
from engines.machine import Machine, Nvidia, Version
from tui import wording
from tui.findings import Check, note, ok, problem
from tui.session import Session

Found: TypeAlias = Mapping[str, Any]
"What engines.diffusion.survey prints, or {'failed': one line}."
SDXL = 8 * 2**30
"Bytes of GPU memory that SDXL takes in fp16 at 1024x1024."
MINI = 2 * 2**30
"Bytes of memory that a picture of the embedded model takes at most, everything counted."
WHEELS = "https://download.pytorch.org/whl/"
ALONE = "install safelight into an environment of its own: pipx install safelight, or make setup in a checkout"


# ── this installation ───────────────────────────────────────────────────────────────────────────────────────────────


def installation() -> Iterator[Check]:
    """Whether the two packages, whose names are everyone's, are both safelight's own."""
    where, other = (Path(str(module.__file__)).resolve().parent.parent for module in (tui, engines))
    if where != other:
        yield problem("packages", f"tui comes from {where}, but engines from {other}", ALONE, stops=True)
    if others := other_owners(metadata.packages_distributions()):
        said = f"{' and '.join(others)} also brought a package called tui or engines: files may be overwritten"
        yield problem("packages", said, ALONE)
    python = f"Python {platform.python_version()}"
    data = {"location": str(where), "python": platform.python_version(), "executable": sys.executable}
    try:
        dist = metadata.distribution("safelight")
    except metadata.PackageNotFoundError:
        said = f"safelight runs from {where} without being installed, {python}"
        yield note("safelight", said, "make setup in the checkout installs it", version=None, **data)
        return
    home, editable = _home(dist)
    if home is not None and home != where:
        yield problem("packages", f"safelight {dist.version} is installed in {home}, but {where} is what runs", ALONE)
    elif not editable and (changed := _overwritten(dist)):
        yield problem("packages", f"another package has overwritten safelight's {changed}", ALONE)
    said = f"safelight {dist.version} in {where}{' (editable)' if editable else ''}, {python}"
    yield ok("safelight", said, version=dist.version, editable=editable, **data)


def other_owners(owners: Mapping[str, list[str]]) -> list[str]:
    """Who else installed a `tui` or `engines`; `owners` is importlib.metadata's packages_distributions()."""
    return sorted({name for package in ("tui", "engines") for name in owners.get(package, [])} - {"safelight"})


def _home(dist: metadata.Distribution) -> tuple[Path | None, bool]:
    """The folder that an installation has its packages in, and whether it is editable."""
    try:
        url = json.loads(dist.read_text("direct_url.json") or "{}")
        if url.get("dir_info", {}).get("editable"):
            return Path(unquote(urlparse(url["url"]).path)).resolve(), True
    except (ValueError, KeyError, AttributeError):
        return None, False
    return Path(str(dist.locate_file("tui"))).resolve().parent, False


def _overwritten(dist: metadata.Distribution) -> str:
    """The first of the files that every package has which isn't as it was installed, or nothing."""
    for file in dist.files or []:
        if str(file) in ("tui/__init__.py", "engines/__init__.py") and file.hash is not None:
            try:
                digest = hashlib.new(file.hash.mode, file.read_binary()).digest()
            except (OSError, ValueError):
                return str(file)
            if base64.urlsafe_b64encode(digest).rstrip(b"=").decode() != file.hash.value:
                return str(file)
    return ""


def reinstall(index: str, torch: str | None) -> str:
    """The command that puts another build of torch into this installation.

    Args:
        index: the last part of a wheel index, for instance cu126.
        torch: the version to have, whatever its build; None for the newest that fits.
    """
    root = Path(str(tui.__file__)).resolve().parent.parent
    if (root / "Makefile").is_file() and Path(sys.prefix).resolve() == (root / ".venv").resolve():
        return f"make setup TORCH_INDEX={WHEELS}{index}"
    pip = "pipx runpip safelight" if "pipx" in Path(sys.prefix).parts else f"{sys.executable} -m pip"
    # with its local tag: another build of the same version counts as installed otherwise
    wanted = f"'torch=={torch.partition('+')[0]}+{index}'" if torch else "--force-reinstall torch"
    return f"{pip} install {wanted} --index-url {WHEELS}{index}"


def versions(found: Found, here: Machine, session: Session) -> Iterator[Check]:
    """torch and its companions: which, and whether they can be imported."""
    known: dict[str, str | None] = dict(found.get("versions") or {})
    errors: dict[str, str] = found.get("errors") or {}
    for name in ("textual", "textual-image"):
        try:
            known[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            known[name] = None
    yield ok("versions", " · ".join(f"{name} {version}" for name, version in known.items() if version), versions=known)
    log = f"the log tells more: {session.folders.log}"
    broken = str(found.get("failed") or "")
    if "torch" in errors:
        broken = f"torch can't be imported: {errors['torch']}"
    if broken:
        fitting = builds.advise(here.nvidia.cuda, [gpu.capability for gpu in here.nvidia.gpus])
        index = fitting.index if here.nvidia.gpus and not fitting.driver else ""
        yield problem("torch", broken, f"{reinstall(index or 'cpu', known.get('torch'))}; {log}", stops=True)
        return
    if missing := [name for name, version in known.items() if version is None and name != "torchvision"]:
        yield problem("versions", f"not installed: {', '.join(missing)}", ALONE)
    vision = known.get("torchvision")
    if "clip" in errors and vision:
        said = f"transformers' CLIP can't be imported beside torchvision {vision}: {errors['clip']}"
        hint = f"take torchvision out, nothing here needs it: {sys.executable} -m pip uninstall torchvision"
        yield problem("torchvision", said, hint, stops=True)
    elif "clip" in errors:
        yield problem(
            "transformers", f"transformers' CLIP can't be imported: {errors['clip']}", f"{ALONE}; {log}", True
        )
    elif "engine" in errors:
        yield problem("engine", f"the engine can't be imported: {errors['engine']}", f"{ALONE}; {log}", stops=True)


# ── devices ─────────────────────────────────────────────────────────────────────────────────────────────────────────


def processor(here: Machine, session: Session) -> Iterator[Check]:
    """The processor and main memory, and what a container leaves of them."""
    said = f"{here.cpu}, {wording.plural(here.cores, 'core')}"
    data = {"name": here.cpu, "cores": here.cores, "quota": here.quota, "system": here.system}
    if here.quota is not None and here.quota < here.cores - 0.5 and session.settings.threads == 0:
        n = max(round(here.quota), 1)
        hint = f"--threads {n}, or threads = {n} in settings.toml, may be quicker"
        yield note("cpu", f"{said}, of which this container gets {here.quota:g}", hint, **data)
    else:
        yield ok("cpu", said, **data)
    m = here.memory
    limit = " (the limit of this container)" if m.limited else ""
    said = f"{gib(m.total)} of memory{limit}, {gib(m.available)} available"
    data = {"total": m.total, "available": m.available, "limited": m.limited}
    if m.available < MINI:
        yield note("memory", said, "close other programs: a picture may not fit", **data)
    else:
        yield ok("memory", said, **data)


def gpus(found: Found, here: Machine, session: Session) -> Iterator[Check]:
    """The GPUs that are there, and why this torch can't use them where that is so."""
    nvidia, torch = here.nvidia, found.get("torch")
    data: dict[str, Any] = {"driver": nvidia.driver, "cuda": dotted(nvidia.cuda)}
    seen = [] if nvidia.gpus else found.get("devices") or []  # in containers that have no nvidia-smi
    if nvidia.problem and seen:
        yield note("nvidia", nvidia.problem, nvidia.hint, **data)
    elif nvidia.problem:
        yield problem("nvidia", nvidia.problem, f"{nvidia.hint}; the CPU can be used meanwhile", **data)
    for gpu in nvidia.gpus:
        more: dict[str, Any] = {"index": gpu.index, "name": gpu.name, "capability": dotted(gpu.capability)}
        more |= {"temperature": gpu.temperature, "utilisation": gpu.utilisation}
        state = wording.gauge(Gauged(gpu.temperature, gpu.utilisation))
        yield card(f"GPU {gpu.index}: {gpu.name}", gpu.total, gpu.used, {**more, **data}, state)
    for each in seen:
        more = {"index": each["index"], "name": each["name"], "capability": dotted(tuple(each["capability"]))}
        used = None if each["free"] is None else each["total"] - each["free"]
        yield card(f"GPU {each['index']}: {each['name']}", each["total"], used, {**more, **data})
    if torch and (nvidia.gpus or seen):
        yield from unusable(found, nvidia, session.settings.device, os.environ)
    for name in here.others:
        if torch and (torch["mps"] if "Metal" in name else torch["hip"]):
            yield ok("gpu", name, name=name)
        else:
            hint = "https://pytorch.org/get-started/locally says which build would"
            yield note("gpu", f"{name}: this torch does not use it", hint, name=name)
    if not nvidia.gpus and not seen and not nvidia.problem and not here.others:
        yield ok("gpu", "no GPU", name=None)


def card(title: str, total: int | None, used: int | None, data: Mapping[str, Any], state: Sequence[str] = ()) -> Check:
    """A GPU and its memory in bytes, with one that others fill told apart from one that is too small.

    Args:
        state: how warm and how busy it is, in words.
    """
    data = {**data, "total": total, "used": used}
    if total is None:
        return ok("gpu", ", ".join((title, *state)), **data)
    free = max(total - (used or 0), 0)
    said = ", ".join((title, gib(total), f"{gib(free)} free", *state))
    if free >= SDXL:
        return ok("gpu", said, **data)
    if total >= SDXL:
        said = f"{said}: other programs hold {gib(total - free)}, and SDXL needs about {gib(SDXL)}"
        hint = "free it (nvidia-smi shows who holds it), or choose another with --device cuda:N"
        return note("gpu", said, hint, **data) if free >= MINI else problem("gpu", said, hint, **data)
    filled = f"; other programs hold {gib(total - free)} of it" if total - free > total / 4 else ""
    said = f"{said}: too small for SDXL, which needs about {gib(SDXL)}{filled}"
    return note("gpu", said, "small models work; larger ones with --device cpu, if main memory is larger", **data)


def unusable(found: Found, nvidia: Nvidia, wanted: str, environ: Mapping[str, str]) -> Iterator[Check]:
    """Every reason why this torch can't use NVIDIA GPUs that are there, with the build that would.

    Args:
        found: the survey, with its "torch".
        nvidia: what the driver tells.
        wanted: the device that was asked for.
        environ: the environment.
    """
    torch, version = found["torch"], str((found.get("versions") or {}).get("torch") or "")
    driver = f"driver {nvidia.driver or 'unknown'}{f' runs CUDA up to {dotted(nvidia.cuda)}' if nvidia.cuda else ''}"
    names = ", ".join(dict.fromkeys(gpu.name for gpu in nvidia.gpus))
    fitting = builds.advise(nvidia.cuda, [gpu.capability for gpu in nvidia.gpus])
    if not fitting.index:
        get = f"no build of torch {version.partition('+')[0]} has code for it; the CPU can be used"
    else:
        get = reinstall(fitting.index, version)
        if fitting.driver:
            get = f"update the NVIDIA driver to {fitting.driver} or newer, then {get}"
    if torch["cuda"] is None:
        said = f"{names} can't be used: torch {version} is {'a ROCm' if torch['hip'] else 'a CPU'} build ({driver})"
        yield note("gpu.torch", said, get) if wanted == "cpu" else problem("gpu.torch", said, get)
    elif not torch["available"]:
        hidden = environ.get("CUDA_VISIBLE_DEVICES")
        needs = int(str(torch["cuda"]).partition(".")[0])
        if hidden is not None and (hidden.strip() in ("", "NoDevFiles") or hidden.strip().startswith("-")):
            said = f"{names} can't be used: CUDA_VISIBLE_DEVICES='{hidden}' hides every GPU"
            yield note("gpu.torch", said, "unset CUDA_VISIBLE_DEVICES, if that is not what you want")
        elif nvidia.cuda is not None and nvidia.cuda[0] < needs:
            branch = next((build.branch for build in builds.BUILDS if build.needs[0] == needs), 0)
            update = f"; or update the NVIDIA driver to {branch} or newer" if branch and not fitting.driver else ""
            said = f"{names} can't be used: torch {version} needs CUDA {torch['cuda']}, but {driver}"
            yield problem("gpu.torch", said, f"{get}{update}")
        else:
            error = (found.get("errors") or {}).get("cuda", "")
            said = f"{names} can't be used by torch {version} ({driver}){f': {error}' if error else ''}"
            yield problem("gpu.torch", said, "restart after an update of the driver; start a container with --gpus all")
    else:
        for seen in found["devices"]:
            capability = (int(seen["capability"][0]), int(seen["capability"][1]))
            if torch["archs"] and not builds.has_code(torch["archs"], capability):
                said = f"torch {version} has no code for {seen['name']} (compute capability {dotted(capability)})"
                yield problem("gpu.torch", said, get)


def device(found: Found, here: Machine, session: Session) -> Iterator[Check]:
    """Which device pictures are made on, why, and in what precision."""
    wanted, errors = session.settings.device, found.get("errors") or {}
    if "device" in errors:
        hint = str(found.get("hint") or "")
        if not hint or "safelight doctor" in hint:
            hint = f"leave --device out, or take device out of {session.folders.settings}"
        yield problem("device", errors["device"], hint, stops=True, wanted=wanted)
        return
    chosen = found.get("device")
    if not chosen:
        return
    why = chosen["note"] or (f"{wanted} was asked for" if wanted else "")
    if not why and chosen["name"] == "cpu":
        why = "this torch can use no GPU" if here.nvidia.gpus or here.others else "there is no GPU"
    precision, model = found.get("precision"), found.get("model")
    data = {"device": chosen["name"], "title": chosen["title"], "why": why, "precision": precision, "model": model}
    if trouble := errors.get("trial"):
        hint = "the lines above and the log may say more; --device cpu works meanwhile"
        if "memory" in trouble:
            hint = "free its memory (nvidia-smi shows who holds it), or take another: --device cuda:N, --device cpu"
        yield problem("device", f"{chosen['title']} does not compute: {trouble}", hint, stops=True, **data)
        return
    said = f"pictures are made on {chosen['title']}{f' ({why})' if why else ''}"
    yield ok("device", f"{said}{f', in {precision} for {model}' if precision else ''}", **data)


def gib(n: float) -> str:
    """Bytes of memory as chips are sold, '79.6 GiB'; drives are told in powers of 1000 by tui.wording."""
    return f"{n / 2**30:.1f} GiB"


def dotted(version: Version | None) -> str | None:
    """(12, 6) as '12.6'."""
    return None if version is None else f"{version[0]}.{version[1]}"
