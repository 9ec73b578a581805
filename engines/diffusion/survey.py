"""`python -m engines.diffusion.survey` prints what torch and its companions are, and can do here, as one JSON object.

`safelight doctor` runs it in a process of its own: a torch that is broken can't take the doctor down. It always prints
an object and ends with 0, unless the process itself dies; what fails is told in `errors`:

    versions    {package: version or null}
    errors      {what was tried: one line}: torch, clip, engine, cuda, device, precision, trial
    torch       {cuda, hip, available, archs, mps, threads, features} or null if it can't be imported
    devices     [{index, name, total, free, capability}] of the GPUs that torch sees; bytes
    device      {name, title, note}: what `device.choose` takes, or null
    hint        what to do about errors.device
    model       the model that is taken when none is named
    precision   what `auto` gives for that model on that device
"""

from __future__ import annotations

import argparse
import importlib
import json
import os
import sys
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from importlib import metadata
from typing import Any

PACKAGES = ("torch", "diffusers", "transformers", "compel", "peft", "accelerate", "torchvision")


def survey(device: str = "", threads: int = 0, model: str = "") -> dict[str, Any]:
    """The object above, for a wanted device (empty for the best), CPU threads (0 for all) and a model's id."""
    errors: dict[str, str] = {}
    found: dict[str, Any] = {
        "versions": {package: _version(package) for package in PACKAGES},
        "errors": errors,
        "torch": None,
        "devices": [],
        "device": None,
        "hint": "",
        "model": "",
        "precision": "",
    }
    with _told(errors, "torch"):
        importlib.import_module("torch")
        found["torch"] = _torch(errors)
    if found["torch"] is None:
        return found
    with _told(errors, "clip"):
        importlib.import_module("transformers").CLIPModel  # noqa: B018, it is imported when it is looked at
    with _told(errors, "engine"):
        importlib.import_module("engines.diffusion.darkroom")
    with _told(errors, "cuda"):
        found["devices"] = _devices()
    with _told(errors, "device"):
        _choose(found, device, threads, model)
    return found


def _version(package: str) -> str | None:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None


@contextmanager
def _told(errors: dict[str, str], what: str) -> Iterator[None]:
    """Turns whatever goes wrong into a line of `errors`: looking at a broken installation is what this is for."""
    try:
        yield
    except Exception as e:
        why: BaseException = e
        while why.__cause__ is not None:  # transformers wraps the reason in an error that says only that it failed
            why = why.__cause__
        reason = str(why).strip().splitlines()
        errors.setdefault(what, f"{type(why).__name__}: {reason[0]}" if reason else type(why).__name__)


def _torch(errors: dict[str, str]) -> dict[str, Any]:
    import torch

    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        available = torch.cuda.is_available()
        if torch.version.cuda is not None and not available:
            try:
                torch.cuda.init()  # type: ignore[no-untyped-call]
            except Exception as e:  # it says why; is_available only says no
                errors["cuda"] = (str(e).strip().splitlines() or [""])[0]
    for warning in said:
        if "CUDA" in str(warning.message):
            errors.setdefault("cuda", str(warning.message).strip().splitlines()[0])
    archs = list(torch.cuda.get_arch_list())
    if not archs and torch.version.cuda is not None:  # it is empty while no GPU can be used
        with _told({}, ""):
            archs = (torch._C._cuda_getArchFlags() or "").split()
    return {
        "cuda": torch.version.cuda,
        "hip": torch.version.hip,
        "available": available,
        "archs": archs,
        "mps": torch.backends.mps.is_available(),
        "threads": torch.get_num_threads(),
        "features": torch.backends.cpu.get_cpu_capability(),
    }


def _devices() -> list[dict[str, Any]]:
    import torch

    listed = []
    for index in range(torch.cuda.device_count() if torch.cuda.is_available() else 0):
        properties = torch.cuda.get_device_properties(index)
        try:
            free: int | None = torch.cuda.mem_get_info(index)[0]
        except RuntimeError:  # a card that is full, or that one program keeps for itself
            free = None
        listed.append(
            {
                "index": index,
                "name": properties.name,
                "total": properties.total_memory,
                "free": free,
                "capability": [properties.major, properties.minor],
            }
        )
    return listed


def _choose(found: dict[str, Any], wanted: str, threads: int, model: str) -> None:
    """Fills in the device and the precision that making a picture would take, and tries them."""
    import torch

    from engines import catalogue as catalogues
    from engines import folders
    from engines.diffusion import device as devices
    from engines.diffusion import origins
    from engines.errors import SafelightError

    errors = found["errors"]
    try:
        devices.set_threads(threads)
        found["torch"]["threads"] = torch.get_num_threads()
        chosen = devices.choose(wanted)
    except SafelightError as e:
        errors["device"], found["hint"] = e.message, e.hint
        return
    found["device"] = {"name": str(chosen.torch), "title": chosen.title, "note": chosen.note}
    with _told(errors, "trial"):
        assert float((torch.ones(2, device=chosen.torch) + 1).sum()) == 4.0
    with _told(errors, "precision"):
        where = folders.find()
        catalogue = catalogues.load(where.models)
        named = catalogue.model(model) if model else catalogue.default_model()
        found["model"] = named.id
        config = origins.of(catalogue, named).unet.config
        # where a probe has to decide, its answer is kept for making pictures; but no folder is made for it
        cache = where.cache if where.cache.is_dir() else None
        dtype = devices.dtype_for(chosen, "auto", int(max(config["block_out_channels"])), cache)
        found["precision"] = devices.NAMES.get(dtype, str(dtype))


def main() -> None:
    """Prints the survey as the only thing on stdout; what libraries print goes to stderr."""
    parser = argparse.ArgumentParser(prog="python -m engines.diffusion.survey")
    parser.add_argument("--device", default="")
    parser.add_argument("--threads", type=int, default=0)
    parser.add_argument("--model", default="")
    given = parser.parse_args()
    with os.fdopen(os.dup(1), "w") as out:
        os.dup2(2, 1)
        found = survey(given.device, given.threads, given.model)
        out.write(json.dumps(found, default=str) + "\n")
    sys.stderr.flush()
    os._exit(0)  # torch's threads have nothing to tidy up


if __name__ == "__main__":
    main()
