"""Scheduler names, and what each is in diffusers: a class name and the arguments that make it that sampler.

Names follow k-diffusion's; the aliases are A1111's labels (the mapping is the one in the diffusers documentation,
"Schedulers overview"). A row says nothing of `timestep_spacing` and `prediction_type`: those belong to the model's
recipe; it only says whether the scheduler takes a spacing. `final_sigmas_type="zero"` is given to the DPM++ rows
because with SDXL the default leaves residual noise. To add a scheduler, add a row.

What that page gives for DPM++ SDE is DPM++ 2S: it adds no noise on the way, so a seed's picture is another than in
A1111, and steadier from one number of steps to the next. The sampler itself needs torchsde.

`max_steps` was found by running every row with SDXL's configuration (1000 training timesteps, scaled_linear) at all
spacings: beyond it diffusers 0.42 raises (lcm, ddim) or, where two steps fall together, gives NaN (unipc at 769
trailing steps, dpmpp_2m at 999 leading ones).
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from engines.errors import CatalogueError, near


@dataclass(frozen=True, slots=True)
class Scheduler:
    """One sampler that a user can name."""

    name: str
    "What the command line and the store call it."
    title: str
    "What people call it."
    class_name: str
    "The class in diffusers."
    arguments: dict[str, Any] = field(default_factory=dict)
    "Arguments over the model's own scheduler configuration."
    aliases: tuple[str, ...] = ()
    "Other names that are understood, lower case."
    spacing: bool = True
    "Whether timestep_spacing acts; the others space their steps in a way of their own."
    max_steps: int = 1000
    "The most steps that it can take with SDXL's configuration, at any spacing."


_DPM: dict[str, Any] = {"final_sigmas_type": "zero"}
_KARRAS: dict[str, Any] = {**_DPM, "use_karras_sigmas": True}

TABLE: tuple[Scheduler, ...] = (
    Scheduler("euler", "Euler", "EulerDiscreteScheduler"),
    Scheduler("euler_a", "Euler ancestral", "EulerAncestralDiscreteScheduler", aliases=("euler a", "euler_ancestral")),
    Scheduler("euler_karras", "Euler Karras", "EulerDiscreteScheduler", {"use_karras_sigmas": True}),
    Scheduler("heun", "Heun", "HeunDiscreteScheduler"),
    Scheduler("ddim", "DDIM", "DDIMScheduler", max_steps=999),
    Scheduler("lcm", "LCM", "LCMScheduler", spacing=False, max_steps=50),
    Scheduler("unipc", "UniPC", "UniPCMultistepScheduler", dict(_DPM), max_steps=768),
    Scheduler("dpmpp_2m", "DPM++ 2M", "DPMSolverMultistepScheduler", dict(_DPM), ("dpm++ 2m",), max_steps=998),
    Scheduler(
        "dpmpp_2m_karras",
        "DPM++ 2M Karras",
        "DPMSolverMultistepScheduler",
        _KARRAS,
        ("dpm++ 2m karras",),
        spacing=False,
    ),
    Scheduler(
        "dpmpp_2m_sde_karras",
        "DPM++ 2M SDE Karras",
        "DPMSolverMultistepScheduler",
        {**_KARRAS, "algorithm_type": "sde-dpmsolver++"},
        ("dpm++ 2m sde karras",),
        spacing=False,
    ),
    Scheduler(
        "dpmpp_sde",
        "DPM++ 2S, for DPM++ SDE",
        "DPMSolverSinglestepScheduler",
        dict(_DPM),
        ("dpm++ sde", "dpm++ 2s"),
        spacing=False,
    ),
    Scheduler(
        "dpmpp_sde_karras",
        "DPM++ 2S Karras, for DPM++ SDE Karras",
        "DPMSolverSinglestepScheduler",
        _KARRAS,
        ("dpm++ sde karras", "dpm++ 2s karras"),
        spacing=False,
    ),
)

SCHEDULERS: dict[str, Scheduler] = {row.name: row for row in TABLE}
SPACINGS = ("leading", "trailing", "linspace")


def find(name: str) -> Scheduler:
    """The row for a name or an alias, in any case.

    Raises:
        CatalogueError: there is none; the hint names what is near.
    """
    wanted = name.strip().lower()
    for row in TABLE:
        if wanted == row.name or wanted in row.aliases or wanted == row.title.lower():
            return row
    raise CatalogueError(f"no scheduler '{name}'", near(wanted, SCHEDULERS, "schedulers"), "scheduler")
