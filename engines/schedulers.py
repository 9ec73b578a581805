"""Scheduler names, and what each is in diffusers: a class name and the arguments that make it that sampler.

Where the mappings come from: k-diffusion's and A1111's names to classes is the table of the diffusers documentation
("Schedulers overview", with its "Noise schedules and schedule types": Karras, exponential, sgm_uniform and simple as
trailing). Three rows follow the program that made the name instead. `beta` takes its *timesteps* from a beta
distribution, as its paper (arXiv:2407.12173) and ComfyUI do; diffusers' use_beta_sigmas takes the noise levels from it
and is another schedule. `ays` are NVIDIA's levels for SDXL (Align Your Steps, arXiv:2404.14507). DPM++ SDE is what that
documentation gives, DPM++ 2S: it adds no noise on the way, so a seed's picture is another than in A1111, and steadier
from one number of steps to the next; the sampler itself needs torchsde. REFUSED holds the names without an equivalent.

A row says nothing of `prediction_type`, and of `timestep_spacing` only where the sampler's name means one: those are
the recipe's. It says all that another sampler's configuration could turn (a repository may ship Karras or an SDE).
`final_sigmas_type="zero"` is given to the DPM++ rows because with SDXL the other value leaves residual noise; DDIM's
`set_alpha_to_one` is the same thing. Karras and exponential levels run between those of the first and the last timestep
in the Euler, Heun, LMS and DPM2 classes: linspace makes that the whole range, as in k-diffusion.

Neither scipy (35 MB to fetch, 143 MB installed) nor torchsde (which needs scipy) is a dependency: diffusers wants the
first for LMS's coefficients and for the beta distribution, and both are a few lines in engines.diffusion.solvers.

What diffusers 0.42 gets wrong in a class (the count of trailing steps, DDIM's way between them, the third order of
DPM++ SDE, what is left at the end) is put right in engines.diffusion.solvers, each with its reason.

To add a scheduler, add a row. Up to `max_steps` every row was run with SDXL's configuration (1000 training timesteps,
scaled_linear) at all spacings; beyond it diffusers raises or two steps fall together (DDIM and UniPC may take more).
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from engines.errors import CatalogueError, near

EPSILON, V, SAMPLE = "epsilon", "v_prediction", "sample"


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
    good_for: str = ""
    "A few words on when to take it."
    schedule: str | None = None
    "`beta` or `ays` where engines.diffusion.solvers chooses the timesteps; else the class does."
    predictions: tuple[str, ...] = (EPSILON, V, SAMPLE)
    "The kinds of prediction that the class can work with."
    zero_snr: bool = True
    "Whether the class knows rescale_betas_zero_snr (arXiv:2305.08891)."
    evaluations: int = 1
    "How often the UNet runs in a step."
    random: bool = False
    "Whether noise is added on the way: another number of steps is another picture."


@dataclass(frozen=True, slots=True)
class Refused:
    """A sampler of other programs that has no equivalent here."""

    names: tuple[str, ...]
    "Lower case."
    why: str
    "The rest of a sentence that begins with its name."
    instead: tuple[str, ...]
    "Names of rows that come nearest."


_PLAIN: dict[str, Any] = {"use_karras_sigmas": False, "use_exponential_sigmas": False, "use_beta_sigmas": False}
_KARRAS: dict[str, Any] = {**_PLAIN, "use_karras_sigmas": True}
_EXPONENTIAL: dict[str, Any] = {**_PLAIN, "use_exponential_sigmas": True}
_WHOLE: dict[str, Any] = {"timestep_spacing": "linspace"}
_TRAILING: dict[str, Any] = {"timestep_spacing": "trailing"}

_EULER: dict[str, Any] = {
    "final_sigmas_type": "zero",
    "interpolation_type": "linear",
    "timestep_type": "discrete",
    "sigma_min": None,
    "sigma_max": None,
}
_HEUN: dict[str, Any] = {"clip_sample": False}
_DPM: dict[str, Any] = {
    "final_sigmas_type": "zero",
    "algorithm_type": "dpmsolver++",
    "solver_order": 2,
    "solver_type": "midpoint",
    "lower_order_final": True,
    "thresholding": False,
    "use_lu_lambdas": False,
    "use_flow_sigmas": False,
}
_SDE: dict[str, Any] = {**_DPM, "algorithm_type": "sde-dpmsolver++"}
_SDE_HEUN: dict[str, Any] = {**_SDE, "solver_type": "heun"}
_SDE_3: dict[str, Any] = {**_SDE, "solver_order": 3}
_DEIS: dict[str, Any] = {
    "algorithm_type": "deis",
    "solver_type": "logrho",
    "solver_order": 2,
    "lower_order_final": True,
    "thresholding": False,
    "use_flow_sigmas": False,
}
_UNIPC: dict[str, Any] = {
    "final_sigmas_type": "zero",
    "solver_type": "bh2",
    "solver_order": 2,
    "predict_x0": True,
    "lower_order_final": True,
    "thresholding": False,
    "use_flow_sigmas": False,
}
_UNIPC_1: dict[str, Any] = {**_UNIPC, "solver_type": "bh1", "final_sigmas_type": "sigma_min"}
_SA: dict[str, Any] = {
    "algorithm_type": "data_prediction",
    "predictor_order": 2,
    "corrector_order": 2,
    "lower_order_final": True,
    "thresholding": False,
    "use_flow_sigmas": False,
}
_DDIM: dict[str, Any] = {"set_alpha_to_one": True, "clip_sample": False, "thresholding": False}
_DDPM: dict[str, Any] = {"variance_type": "fixed_small", "clip_sample": False, "thresholding": False}
_DISTILLED: dict[str, Any] = {
    "original_inference_steps": 50,
    "timestep_scaling": 10.0,
    "set_alpha_to_one": True,
    "clip_sample": False,
    "thresholding": False,
}

_M = "DPMSolverMultistepScheduler"
_S = "DPMSolverSinglestepScheduler"
_BETA: dict[str, Any] = {"spacing": False, "schedule": "beta", "max_steps": 100}
_AYS: dict[str, Any] = {"spacing": False, "schedule": "ays", "max_steps": 50}
_NO_SAMPLE: dict[str, Any] = {"predictions": (EPSILON, V)}
_TWICE: dict[str, Any] = {"zero_snr": False, "evaluations": 2}

TABLE: tuple[Scheduler, ...] = (
    Scheduler(
        "euler", "Euler", "EulerDiscreteScheduler", {**_EULER, **_PLAIN},
        ("k_euler", "euler normal"), good_for="the plain choice; distilled models",
    ),
    Scheduler(
        "euler_a", "Euler ancestral", "EulerAncestralDiscreteScheduler", {},
        ("euler a", "euler_ancestral", "k_euler_a", "k_euler_ancestral"), random=True, **_NO_SAMPLE,
        good_for="soft, inventive pictures; never settles",
    ),
    Scheduler(
        "euler_karras", "Euler Karras", "EulerDiscreteScheduler", {**_EULER, **_KARRAS, **_WHOLE},
        ("euler_k",), spacing=False, good_for="fine detail at 20 to 30 steps",
    ),
    Scheduler(
        "euler_exponential", "Euler exponential", "EulerDiscreteScheduler", {**_EULER, **_EXPONENTIAL, **_WHOLE},
        spacing=False, good_for="smooth surfaces, many steps",
    ),
    Scheduler(
        "euler_beta", "Euler beta", "EulerDiscreteScheduler", {**_EULER, **_PLAIN},
        **_BETA, good_for="more steps for the layout and for the detail, fewer between",
    ),
    Scheduler(
        "euler_trailing", "Euler SGM uniform", "EulerDiscreteScheduler", {**_EULER, **_PLAIN, **_TRAILING},
        ("euler sgm_uniform", "euler simple", "euler trailing"), spacing=False,
        good_for="few steps; Turbo and Lightning",
    ),
    Scheduler(
        "euler_ays", "Euler Align Your Steps", "EulerDiscreteScheduler", {**_EULER, **_PLAIN},
        ("euler ays",), **_AYS, good_for="about 10 steps of an undistilled SDXL",
    ),
    Scheduler(
        "euler_a_trailing", "Euler ancestral SGM uniform", "EulerAncestralDiscreteScheduler", dict(_TRAILING),
        ("euler a sgm uniform", "euler a sgm_uniform", "euler_ancestral sgm_uniform", "euler a simple"),
        spacing=False, random=True, **_NO_SAMPLE, good_for="Turbo at 1 to 4 steps",
    ),
    Scheduler(
        "heun", "Heun", "HeunDiscreteScheduler", {**_HEUN, **_PLAIN},
        ("k_heun",), **_TWICE, good_for="exact with few steps, each twice as long",
    ),
    Scheduler(
        "heun_karras", "Heun Karras", "HeunDiscreteScheduler", {**_HEUN, **_KARRAS, **_WHOLE},
        spacing=False, **_TWICE, good_for="the same with finer detail",
    ),
    Scheduler(
        "lms", "LMS", "LMSDiscreteScheduler", dict(_PLAIN),
        ("k_lms",), zero_snr=False, **_NO_SAMPLE, good_for="pictures of older programs; 30 steps and more",
    ),
    Scheduler(
        "lms_karras", "LMS Karras", "LMSDiscreteScheduler", {**_KARRAS, **_WHOLE},
        spacing=False, zero_snr=False, **_NO_SAMPLE, good_for="the same with finer detail",
    ),
    Scheduler(
        "dpm2", "DPM2", "KDPM2DiscreteScheduler", dict(_PLAIN),
        ("dpm_2", "k_dpm_2"), **_TWICE, **_NO_SAMPLE, good_for="like Heun: exact, each step twice as long",
    ),
    Scheduler(
        "dpm2_karras", "DPM2 Karras", "KDPM2DiscreteScheduler", {**_KARRAS, **_WHOLE},
        ("dpm_2 karras",), spacing=False, **_TWICE, **_NO_SAMPLE, good_for="the same with finer detail",
    ),
    Scheduler(
        "dpm2_a", "DPM2 ancestral", "KDPM2AncestralDiscreteScheduler", dict(_PLAIN),
        ("dpm2 a", "dpm_2_ancestral", "dpm2_ancestral", "k_dpm_2_a", "k_dpm_2_ancestral"),
        random=True, **_TWICE, **_NO_SAMPLE, good_for="inventive, slow",
    ),
    Scheduler(
        "dpm2_a_karras", "DPM2 ancestral Karras", "KDPM2AncestralDiscreteScheduler", {**_KARRAS, **_WHOLE},
        ("dpm2 a karras", "dpm_2_ancestral karras"),
        spacing=False, random=True, **_TWICE, **_NO_SAMPLE, good_for="inventive, slow, finer detail",
    ),
    Scheduler(
        "dpmpp_2m", "DPM++ 2M", _M, {**_DPM, **_PLAIN},
        ("k_dpmpp_2m",), max_steps=998, good_for="good at 20 steps",
    ),
    Scheduler(
        "dpmpp_2m_karras", "DPM++ 2M Karras", _M, {**_DPM, **_KARRAS},
        ("dpmpp_2m_k",), spacing=False, good_for="the usual choice for undistilled models, 20 to 30 steps",
    ),
    Scheduler(
        "dpmpp_2m_exponential", "DPM++ 2M exponential", _M, {**_DPM, **_EXPONENTIAL},
        spacing=False, good_for="smooth surfaces",
    ),
    Scheduler(
        "dpmpp_2m_beta", "DPM++ 2M beta", _M, {**_DPM, **_PLAIN},
        **_BETA, good_for="more steps for the layout and for the detail, fewer between",
    ),
    Scheduler(
        "dpmpp_2m_trailing", "DPM++ 2M SGM uniform", _M, {**_DPM, **_PLAIN, **_TRAILING},
        ("dpm++ 2m sgm_uniform", "dpm++ 2m simple", "dpm++ 2m trailing"), spacing=False, max_steps=998,
        good_for="Lightning and other distilled models",
    ),
    Scheduler(
        "dpmpp_2m_ays", "DPM++ 2M Align Your Steps", _M, {**_DPM, **_PLAIN},
        ("dpm++ 2m ays",), **_AYS, good_for="about 10 steps of an undistilled SDXL",
    ),
    Scheduler(
        "dpmpp_2m_sde", "DPM++ 2M SDE", _M, {**_SDE, **_PLAIN},
        ("k_dpmpp_2m_sde",), max_steps=998, random=True, good_for="rich detail, 25 steps and more",
    ),
    Scheduler(
        "dpmpp_2m_sde_karras", "DPM++ 2M SDE Karras", _M, {**_SDE, **_KARRAS},
        spacing=False, random=True, good_for="photographs, 25 to 40 steps",
    ),
    Scheduler(
        "dpmpp_2m_sde_exponential", "DPM++ 2M SDE exponential", _M, {**_SDE, **_EXPONENTIAL},
        spacing=False, random=True, good_for="photographs with smooth backgrounds",
    ),
    Scheduler(
        "dpmpp_2m_sde_beta", "DPM++ 2M SDE beta", _M, {**_SDE, **_PLAIN},
        random=True, **_BETA, good_for="rich detail with a firm layout",
    ),
    Scheduler(
        "dpmpp_2m_sde_trailing", "DPM++ 2M SDE SGM uniform", _M, {**_SDE, **_PLAIN, **_TRAILING},
        ("dpm++ 2m sde sgm_uniform", "dpm++ 2m sde simple", "dpm++ 2m sde trailing"),
        spacing=False, max_steps=998, random=True, good_for="distilled models, with more variety",
    ),
    Scheduler(
        "dpmpp_2m_sde_heun", "DPM++ 2M SDE Heun", _M, {**_SDE_HEUN, **_PLAIN},
        max_steps=998, random=True, good_for="DPM++ 2M SDE with its other corrector",
    ),
    Scheduler(
        "dpmpp_2m_sde_heun_karras", "DPM++ 2M SDE Heun Karras", _M, {**_SDE_HEUN, **_KARRAS},
        spacing=False, random=True, good_for="the same with finer detail",
    ),
    Scheduler(
        "dpmpp_2m_sde_heun_exponential", "DPM++ 2M SDE Heun exponential", _M, {**_SDE_HEUN, **_EXPONENTIAL},
        spacing=False, random=True, good_for="the same with smooth backgrounds",
    ),
    Scheduler(
        "dpmpp_3m_sde", "DPM++ 3M SDE", _M, {**_SDE_3, **_PLAIN},
        max_steps=998, random=True, good_for="30 steps and more",
    ),
    Scheduler(
        "dpmpp_3m_sde_karras", "DPM++ 3M SDE Karras", _M, {**_SDE_3, **_KARRAS},
        spacing=False, random=True, good_for="30 steps and more, finer detail",
    ),
    Scheduler(
        "dpmpp_3m_sde_exponential", "DPM++ 3M SDE exponential", _M, {**_SDE_3, **_EXPONENTIAL},
        spacing=False, random=True, good_for="30 steps and more; how A1111 advises to run 3M",
    ),
    Scheduler(
        "dpmpp_sde", "DPM++ 2S, for DPM++ SDE", _S, {**_DPM, **_PLAIN},
        ("dpm++ sde", "dpm++ 2s", "k_dpmpp_sde"), spacing=False, max_steps=999, zero_snr=False, good_for="few steps",
    ),
    Scheduler(
        "dpmpp_sde_karras", "DPM++ 2S Karras, for DPM++ SDE Karras", _S, {**_DPM, **_KARRAS},
        ("dpm++ sde karras", "dpm++ 2s karras"), spacing=False, zero_snr=False,
        good_for="few steps; what makers of Lightning photo models name",
    ),
    Scheduler(
        "deis", "DEIS", "DEISMultistepScheduler", {**_DEIS, **_PLAIN},
        max_steps=998, zero_snr=False, good_for="10 to 20 steps",
    ),
    Scheduler(
        "unipc", "UniPC", "UniPCMultistepScheduler", {**_UNIPC, **_PLAIN},
        ("uni_pc_bh2", "unipc bh2"), max_steps=768, good_for="10 to 20 steps",
    ),
    Scheduler(
        "unipc_karras", "UniPC Karras", "UniPCMultistepScheduler", {**_UNIPC, **_KARRAS},
        ("uni_pc_bh2 karras",), spacing=False, good_for="10 to 20 steps, finer detail",
    ),
    Scheduler(
        "unipc_bh1", "UniPC bh1", "UniPCMultistepScheduler", {**_UNIPC_1, **_PLAIN},
        ("uni_pc", "uni_pc_bh1"), max_steps=768, good_for="UniPC as A1111 and ComfyUI mean it; under 10 steps",
    ),
    Scheduler("ddim", "DDIM", "DDIMScheduler", dict(_DDIM), max_steps=999, good_for="the oldest steady one"),
    Scheduler(
        "ddim_uniform", "DDIM uniform", "DDIMScheduler", {**_DDIM, "timestep_spacing": "leading"},
        ("ddim leading", "ddim ddim_uniform"), spacing=False, max_steps=999, good_for="pictures of older programs",
    ),
    Scheduler(
        "ddim_trailing", "DDIM trailing", "DDIMScheduler", {**_DDIM, **_TRAILING},
        ("ddim sgm_uniform", "ddim sgm uniform", "ddim simple"), spacing=False, max_steps=999,
        good_for="models with zero terminal SNR; few steps",
    ),
    Scheduler(
        "ddpm", "DDPM", "DDPMScheduler", dict(_DDPM),
        max_steps=999, random=True, good_for="the process of the training; needs hundreds of steps",
    ),
    Scheduler(
        "pndm", "PNDM (PLMS)", "PNDMScheduler",
        {"skip_prk_steps": True, "set_alpha_to_one": True, "timestep_spacing": "leading"},
        ("plms",), spacing=False, max_steps=999, zero_snr=False,
        predictions=(EPSILON,), good_for="pictures of older programs; 30 steps and more",
    ),
    Scheduler(
        "lcm", "LCM", "LCMScheduler", dict(_DISTILLED), ("k_lcm",), spacing=False, max_steps=50, random=True,
        good_for="LCM models and LoRAs only, 2 to 8 steps",
    ),
    Scheduler(
        "tcd", "TCD", "TCDScheduler", dict(_DISTILLED), spacing=False, max_steps=50, random=True,
        good_for="TCD and Hyper-SD LoRAs only, 2 to 8 steps",
    ),
    Scheduler(
        "sa_solver", "SA-Solver", "SASolverScheduler", {**_SA, **_PLAIN},
        ("sasolver", "sa-solver"), max_steps=998, zero_snr=False, random=True,
        good_for="rich detail, 20 steps and more",
    ),
)  # fmt: skip

REFUSED: tuple[Refused, ...] = (
    Refused(
        ("dpm++ 2s a", "dpmpp_2s_a", "dpmpp_2s_ancestral", "dpm++ 2s a karras", "dpm++ 2s ancestral"),
        "adds noise at every step, which diffusers' DPM++ 2S does not", ("dpmpp_sde", "euler_a"),
    ),
    Refused(
        ("dpm adaptive", "dpm_adaptive", "dpm fast", "dpm_fast", "k_dpm_adaptive", "k_dpm_fast"),
        "has no equivalent in diffusers", ("dpmpp_2m_karras", "dpm2"),
    ),
    Refused(("restart",), "has no equivalent in diffusers", ("heun_karras", "dpmpp_2m_sde_karras")),
    Refused(("heunpp2", "heun++2"), "has no equivalent in diffusers", ("heun",)),
    Refused(
        ("ipndm", "ipndm_v"), "has no equivalent in diffusers that knows SDXL's noise schedule", ("pndm", "deis"),
    ),
    Refused(
        ("res_multistep", "res_multistep_ancestral", "gradient_estimation", "er_sde", "seeds_2", "seeds_3",
         "euler_cfg_pp", "euler_ancestral_cfg_pp", "dpmpp_2m_cfg_pp", "sa_solver_pece", "exp_heun_2_x0", "ddim_cfg++",
         "ddim cfg++"),
        "is ComfyUI's or Forge's own", ("dpmpp_2m", "dpmpp_2m_sde"),
    ),
    Refused(
        ("edm", "edm_euler", "edm_dpmpp_2m"),
        "is for models that were trained in EDM's formulation, which SDXL was not", ("euler_karras", "dpmpp_2m_karras"),
    ),
    Refused(
        ("flow_match_euler", "euler flow"), "is for flow-matching models (SD 3, Flux), which SDXL is not", ("euler",),
    ),
    Refused(
        ("karras", "exponential", "beta", "simple", "normal", "sgm_uniform", "sgm uniform", "trailing", "leading",
         "linspace", "align your steps", "ays", "kl_optimal", "kl optimal", "linear_quadratic"),
        "spaces the steps of a sampler and is none itself", ("euler_karras", "dpmpp_2m_karras", "dpmpp_2m_trailing"),
    ),
)  # fmt: skip

SCHEDULERS: dict[str, Scheduler] = {row.name: row for row in TABLE}
SPACINGS = ("leading", "trailing", "linspace")


def _plain(name: str) -> str:
    """A name in the spelling that all are compared in: `DPM++ 2M SDE Karras` is `dpmpp_2m_sde_karras_gpu`'s."""
    words = " ".join(name.lower().replace("_", " ").split())
    words = words.removesuffix(" gpu")
    return words.replace("dpm++", "dpmpp").replace(" ancestral", " a").replace("dpm 2", "dpm2")


_BY_NAME: dict[str, Scheduler] = {}
for _row in TABLE:
    for _name in (_row.name, _row.title, *_row.aliases):
        if _BY_NAME.setdefault(_plain(_name), _row) is not _row:
            raise AssertionError(f"two schedulers are called {_name}")
_REFUSED_BY_NAME: dict[str, Refused] = {_plain(name): refused for refused in REFUSED for name in refused.names}


def find(name: str) -> Scheduler:
    """The row for a name, a title or an alias, in any case, with blanks or underscores.

    Raises:
        CatalogueError: there is none; the hint names what is near.
    """
    wanted = _plain(name)
    if row := _BY_NAME.get(wanted):
        return row
    if refused := _REFUSED_BY_NAME.get(wanted):
        nearest = " or ".join(refused.instead)
        raise CatalogueError(f"{name.strip()} {refused.why}", f"the nearest here: {nearest}", "scheduler")
    raise CatalogueError(
        f"no scheduler '{name}'", near(wanted.replace(" ", "_"), SCHEDULERS, "schedulers"), "scheduler"
    )


def refusal(row: Scheduler, prediction_type: str | None, zero_snr: bool | None) -> str | None:
    """Why a model of this kind can't be run with a row, as one line without full stop; None when it can.

    Args:
        row: the scheduler.
        prediction_type: epsilon, v_prediction or sample; None is epsilon.
        zero_snr: the recipe's rescale_betas_zero_snr.
    """
    if (prediction_type or EPSILON) not in row.predictions:
        kinds = " and ".join(row.predictions)
        return f"{row.name} works with {kinds} models, and this one predicts {prediction_type}"
    if zero_snr and not row.zero_snr:
        return f"{row.name} has no zero terminal SNR, and this model was trained with it"
    return None


def able(prediction_type: str | None, zero_snr: bool | None) -> tuple[Scheduler, ...]:
    """The rows that a model of this kind can be run with, in the table's order; the arguments are `refusal`'s."""
    return tuple(row for row in TABLE if refusal(row, prediction_type, zero_snr) is None)
