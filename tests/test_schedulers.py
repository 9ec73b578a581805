"""Every scheduler against what it must give: the class and arguments, the count of steps, and exact answers.

Two denoisers have an exact answer. One knows the picture: whatever the sampler does on the way, it must end there. One
is right for pictures that are Gaussian noise of a known mean and spread: the way of a sampler without noise is then a
curve that can be written down, and one with noise must end with that mean and that spread.
"""

from __future__ import annotations

import inspect
import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch

from engines import schedulers
from engines.diffusion import sampling, solvers
from engines.entries import Recipe
from engines.errors import CatalogueError

# diffusers gives numpy a tensor to take the logarithm of (DPM2, DEIS)
pytestmark = pytest.mark.filterwarnings("ignore:__array_wrap__ must accept context:DeprecationWarning")

# the scheduler_config.json of stabilityai/stable-diffusion-xl-base-1.0
SDXL: dict[str, Any] = {
    "_class_name": "EulerDiscreteScheduler", "_diffusers_version": "0.19.0.dev0", "beta_end": 0.012,
    "beta_schedule": "scaled_linear", "beta_start": 0.00085, "clip_sample": False, "interpolation_type": "linear",
    "num_train_timesteps": 1000, "prediction_type": "epsilon", "sample_max_value": 1.0, "set_alpha_to_one": False,
    "skip_prk_steps": True, "steps_offset": 1, "timestep_spacing": "leading", "trained_betas": None,
    "use_karras_sigmas": False,
}  # fmt: skip
# what a fine-tuned model may ship: another sampler's wishes, which are not the model's
FOREIGN: dict[str, Any] = {
    **SDXL, "_class_name": "DPMSolverMultistepScheduler", "algorithm_type": "sde-dpmsolver++", "clip_sample": True,
    "euler_at_final": True, "final_sigmas_type": "sigma_min", "interpolation_type": "log_linear", "solver_order": 3,
    "lower_order_final": False, "solver_type": "heun", "thresholding": True, "use_karras_sigmas": True,
    "use_lu_lambdas": True, "predict_x0": False, "original_inference_steps": 100, "skip_prk_steps": False,
    "variance_type": "fixed_large", "sigma_min": 0.5, "sigma_max": 3.0, "eta": 1.0, "nonsense": "?",
}  # fmt: skip

EULER, EULER_A, HEUN = "EulerDiscreteScheduler", "EulerAncestralDiscreteScheduler", "HeunDiscreteScheduler"
LMS, DPM2, DPM2_A = "LMSDiscreteScheduler", "KDPM2DiscreteScheduler", "KDPM2AncestralDiscreteScheduler"
MULTI, SINGLE = "DPMSolverMultistepScheduler", "DPMSolverSinglestepScheduler"
UNIPC, DEIS, SA = "UniPCMultistepScheduler", "DEISMultistepScheduler", "SASolverScheduler"
DDIM, DDPM, PNDM, LCM, TCD = "DDIMScheduler", "DDPMScheduler", "PNDMScheduler", "LCMScheduler", "TCDScheduler"

PLAIN = {"use_karras_sigmas": False, "use_exponential_sigmas": False, "use_beta_sigmas": False}
KARRAS = {**PLAIN, "use_karras_sigmas": True}
EXPONENTIAL = {**PLAIN, "use_exponential_sigmas": True}
LEADING, TRAILING, WHOLE = ({"timestep_spacing": spacing} for spacing in ("leading", "trailing", "linspace"))
ZERO = {"final_sigmas_type": "zero"}
E = {**ZERO, "interpolation_type": "linear", "timestep_type": "discrete", "sigma_min": None, "sigma_max": None}
H = {"clip_sample": False}
D2 = {
    **ZERO, "algorithm_type": "dpmsolver++", "solver_order": 2, "solver_type": "midpoint", "lower_order_final": True,
    "thresholding": False,
}  # fmt: skip
D2M = {**D2, "euler_at_final": False, "use_lu_lambdas": False}
SDE = {**D2M, "algorithm_type": "sde-dpmsolver++"}
SDE_HEUN = {**SDE, "solver_type": "heun"}
SDE_3 = {**SDE, "solver_order": 3}
U = {**ZERO, **LEADING, "solver_type": "bh2", "solver_order": 2, "predict_x0": True, "lower_order_final": True}
A1 = {"set_alpha_to_one": True, "clip_sample": False, "thresholding": False}
FAST = {**A1, "original_inference_steps": 50, "timestep_scaling": 10.0}

# Written out from the diffusers documentation ("Schedulers overview") and the issue, not read from the table.
IN_FORCE: dict[str, tuple[str, dict[str, Any]]] = {
    "euler": (EULER, {**E, **PLAIN, **LEADING}),
    "euler_a": (EULER_A, LEADING),
    "euler_karras": (EULER, {**E, **KARRAS, **WHOLE}),
    "euler_exponential": (EULER, {**E, **EXPONENTIAL, **WHOLE}),
    "euler_beta": (EULER, {**E, **PLAIN}),
    "euler_trailing": (EULER, {**E, **PLAIN, **TRAILING}),
    "euler_ays": (EULER, {**E, **PLAIN}),
    "euler_a_trailing": (EULER_A, TRAILING),
    "heun": (HEUN, {**H, **PLAIN, **LEADING}),
    "heun_karras": (HEUN, {**H, **KARRAS, **WHOLE}),
    "lms": (LMS, {**PLAIN, **LEADING}),
    "lms_karras": (LMS, {**KARRAS, **WHOLE}),
    "dpm2": (DPM2, {**PLAIN, **LEADING}),
    "dpm2_karras": (DPM2, {**KARRAS, **WHOLE}),
    "dpm2_a": (DPM2_A, {**PLAIN, **LEADING}),
    "dpm2_a_karras": (DPM2_A, {**KARRAS, **WHOLE}),
    "dpmpp_2m": (MULTI, {**D2M, **PLAIN, **LEADING}),
    "dpmpp_2m_karras": (MULTI, {**D2M, **KARRAS}),
    "dpmpp_2m_exponential": (MULTI, {**D2M, **EXPONENTIAL}),
    "dpmpp_2m_beta": (MULTI, {**D2M, **PLAIN}),
    "dpmpp_2m_trailing": (MULTI, {**D2M, **PLAIN, **TRAILING}),
    "dpmpp_2m_ays": (MULTI, {**D2M, **PLAIN}),
    "dpmpp_2m_sde": (MULTI, {**SDE, **PLAIN, **LEADING}),
    "dpmpp_2m_sde_karras": (MULTI, {**SDE, **KARRAS}),
    "dpmpp_2m_sde_exponential": (MULTI, {**SDE, **EXPONENTIAL}),
    "dpmpp_2m_sde_beta": (MULTI, {**SDE, **PLAIN}),
    "dpmpp_2m_sde_trailing": (MULTI, {**SDE, **PLAIN, **TRAILING}),
    "dpmpp_2m_sde_heun": (MULTI, {**SDE_HEUN, **PLAIN, **LEADING}),
    "dpmpp_2m_sde_heun_karras": (MULTI, {**SDE_HEUN, **KARRAS}),
    "dpmpp_2m_sde_heun_exponential": (MULTI, {**SDE_HEUN, **EXPONENTIAL}),
    "dpmpp_3m_sde": (MULTI, {**SDE_3, **PLAIN, **LEADING}),
    "dpmpp_3m_sde_karras": (MULTI, {**SDE_3, **KARRAS}),
    "dpmpp_3m_sde_exponential": (MULTI, {**SDE_3, **EXPONENTIAL}),
    "dpmpp_sde": (SINGLE, {**D2, **PLAIN}),
    "dpmpp_sde_karras": (SINGLE, {**D2, **KARRAS}),
    "deis": (DEIS, {**PLAIN, **LEADING, "algorithm_type": "deis", "solver_type": "logrho", "solver_order": 2}),
    "unipc": (UNIPC, {**U, **PLAIN}),
    "unipc_karras": (UNIPC, {**U, **KARRAS}),
    "unipc_bh1": (UNIPC, {**U, **PLAIN, "solver_type": "bh1", "final_sigmas_type": "sigma_min"}),
    "ddim": (DDIM, {**A1, **LEADING}),
    "ddim_uniform": (DDIM, {**A1, **LEADING}),
    "ddim_trailing": (DDIM, {**A1, **TRAILING}),
    "ddpm": (DDPM, {**LEADING, "variance_type": "fixed_small", "clip_sample": False, "thresholding": False}),
    "pndm": (PNDM, {**LEADING, "skip_prk_steps": True, "set_alpha_to_one": True}),
    "lcm": (LCM, FAST),
    "tcd": (TCD, FAST),
    "sa_solver": (SA, {**PLAIN, **LEADING, "algorithm_type": "data_prediction", "predictor_order": 2}),
}

# labels of A1111 and Forge, then ComfyUI's and k-diffusion's names, then InvokeAI's
ALIASES = {
    "Euler": "euler", "Euler a": "euler_a", "Euler Karras": "euler_karras", "Euler Beta": "euler_beta",
    "Euler SGM Uniform": "euler_trailing", "Euler Simple": "euler_trailing", "Euler Align Your Steps": "euler_ays",
    "Heun": "heun", "Heun Karras": "heun_karras", "LMS": "lms", "LMS Karras": "lms_karras", "DPM2": "dpm2",
    "DPM2 Karras": "dpm2_karras", "DPM2 a": "dpm2_a", "DPM2 a Karras": "dpm2_a_karras", "DPM++ 2M": "dpmpp_2m",
    "DPM++ 2M Karras": "dpmpp_2m_karras", "DPM++ 2M Exponential": "dpmpp_2m_exponential",
    "DPM++ 2M SGM Uniform": "dpmpp_2m_trailing", "DPM++ 2M SDE": "dpmpp_2m_sde",
    "DPM++ 2M SDE Karras": "dpmpp_2m_sde_karras", "DPM++ 2M SDE Exponential": "dpmpp_2m_sde_exponential",
    "DPM++ 2M SDE Heun": "dpmpp_2m_sde_heun", "DPM++ 2M SDE Heun Karras": "dpmpp_2m_sde_heun_karras",
    "DPM++ 2M SDE Heun Exponential": "dpmpp_2m_sde_heun_exponential", "DPM++ 3M SDE": "dpmpp_3m_sde",
    "DPM++ 3M SDE Karras": "dpmpp_3m_sde_karras", "DPM++ 3M SDE Exponential": "dpmpp_3m_sde_exponential",
    "DPM++ SDE": "dpmpp_sde", "DPM++ SDE Karras": "dpmpp_sde_karras", "DDIM": "ddim", "PLMS": "pndm",
    "UniPC": "unipc", "LCM": "lcm", "TCD": "tcd", "DEIS": "deis", "DDPM": "ddpm",
    "euler_ancestral": "euler_a", "dpm_2": "dpm2", "dpm_2_ancestral": "dpm2_a", "dpmpp_sde_gpu": "dpmpp_sde",
    "dpmpp_2m_sde_gpu": "dpmpp_2m_sde", "dpmpp_3m_sde_gpu": "dpmpp_3m_sde", "dpmpp_2m_sde_heun_gpu":
    "dpmpp_2m_sde_heun", "uni_pc": "unipc_bh1", "uni_pc_bh2": "unipc", "ddim_uniform": "ddim_uniform",
    "sa_solver": "sa_solver", "k_euler_a": "euler_a", "k_dpmpp_2m": "dpmpp_2m", "k_heun": "heun",
    "euler_k": "euler_karras", "dpmpp_2m_k": "dpmpp_2m_karras", "  DPM++  2m   karras ": "dpmpp_2m_karras",
}  # fmt: skip

# the names that were stored with pictures before there were more
OF_OLD = (
    "euler", "euler_a", "euler_karras", "heun", "ddim", "lcm", "unipc", "dpmpp_2m", "dpmpp_2m_karras",
    "dpmpp_2m_sde_karras", "dpmpp_sde", "dpmpp_sde_karras",
)  # fmt: skip


def recipe(prediction_type: str | None = None, zero_snr: bool | None = None) -> Recipe:
    return Recipe(30, 5.0, "euler", ((1024, 1024),), prediction_type=prediction_type, rescale_betas_zero_snr=zero_snr)


def made(name: str, spacing: str | None = None, kind: str | None = None, zero_snr: bool | None = None) -> Any:
    return sampling.make_scheduler(name, SDXL, recipe(kind, zero_snr), spacing)


Denoiser = Callable[[torch.Tensor, float], torch.Tensor]


def run(scheduler: Any, steps: int, begin: torch.Tensor, denoiser: Denoiser, seed: int = 1) -> torch.Tensor:
    """The latents at the end, after the loop of `sampling.denoise`.

    Args:
        scheduler: fresh from make_scheduler.
        steps: asked of it.
        begin: unit noise.
        denoiser: (x = alpha · clean + √(1 - alpha²) · noise, alpha) -> the clean latents.
        seed: of the noise on the way.
    """
    scheduler.set_timesteps(steps)
    if hasattr(scheduler, "set_begin_index"):
        scheduler.set_begin_index(0)
    noise = torch.Generator().manual_seed(seed)
    more = {"generator": noise} if "generator" in inspect.signature(scheduler.step).parameters else {}
    levels = scheduler.alphas_cumprod.double().clamp(min=1e-30)
    sigmas = ((1 - levels) / levels).log().numpy() / 2
    latents = begin * scheduler.init_noise_sigma
    for t in scheduler.timesteps:
        given = scheduler.scale_model_input(latents, t).double()
        # a timestep may lie between two of the training
        alpha = 1 / math.sqrt(1 + math.exp(2 * np.interp(float(t), np.arange(1000), sigmas)))
        clean = denoiser(given, alpha)
        match scheduler.config.prediction_type:
            case "sample":
                said = clean
            case "epsilon":
                said = (given - alpha * clean) / math.sqrt(1 - alpha**2)
            case "v_prediction":
                said = (alpha * given - clean) / math.sqrt(1 - alpha**2)
        latents = scheduler.step(said.float(), t, latents, **more).prev_sample
    return latents


ROWS = pytest.mark.parametrize("row", schedulers.TABLE, ids=lambda row: row.name)


def spacings(row: schedulers.Scheduler) -> tuple[str, ...]:
    return schedulers.SPACINGS if row.spacing else ("leading",)


def test_every_row_is_in_the_written_table() -> None:
    assert set(IN_FORCE) == set(schedulers.SCHEDULERS)
    assert len(schedulers.SCHEDULERS) == len(schedulers.TABLE)
    assert set(OF_OLD) <= set(schedulers.SCHEDULERS)


@ROWS
def test_class_and_arguments_in_force_are_the_written_ones(row: schedulers.Scheduler) -> None:
    class_name, arguments = IN_FORCE[row.name]
    model = {"beta_start": 0.00085, "beta_end": 0.012, "beta_schedule": "scaled_linear", "num_train_timesteps": 1000}
    for config in (SDXL, FOREIGN):
        scheduler = sampling.make_scheduler(row.name, config, recipe(), None)
        assert type(scheduler).__name__ == class_name
        expected = {**arguments, **model, "prediction_type": "epsilon"}
        assert {key: scheduler.config[key] for key in expected} == expected
        for switch in ("use_karras_sigmas", "use_exponential_sigmas", "use_beta_sigmas", "thresholding"):
            assert not scheduler.config.get(switch) or arguments.get(switch)


def test_what_the_recipe_says_comes_before_the_models_configuration() -> None:
    scheduler = made("euler", "trailing", "v_prediction", True)
    assert scheduler.config.timestep_spacing == "trailing"
    assert scheduler.config.prediction_type == "v_prediction"
    assert scheduler.config.rescale_betas_zero_snr is True
    own = {**SDXL, "prediction_type": "v_prediction", "rescale_betas_zero_snr": True}
    assert sampling.make_scheduler("euler", own, recipe(), None).config.rescale_betas_zero_snr is True
    assert sampling.make_scheduler("euler", own, recipe("epsilon", False), None).config.prediction_type == "epsilon"
    assert made("ddim_uniform", "trailing").config.timestep_spacing == "leading"
    assert made("euler_trailing", "leading").config.timestep_spacing == "trailing"


def test_making_a_scheduler_of_a_foreign_configuration_says_nothing(caplog: pytest.LogCaptureFixture) -> None:
    for row in schedulers.TABLE:
        sampling.make_scheduler(row.name, FOREIGN, recipe(), None).set_timesteps(7)
    assert not caplog.records


@pytest.mark.parametrize(("label", "name"), ALIASES.items())
def test_names_of_other_programs_are_understood(label: str, name: str) -> None:
    assert schedulers.find(label).name == schedulers.find(label.upper()).name == name


def test_every_row_says_what_it_is() -> None:
    for row in schedulers.TABLE:
        assert row.title and row.good_for and len(row.good_for) < 80
        assert schedulers.find(row.title) is row


@pytest.mark.parametrize(
    "name",
    ["DPM++ 2S a", "DPM++ 2S a Karras", "dpmpp_2s_ancestral", "DPM adaptive", "DPM fast", "Restart", "heunpp2", "ipndm",
     "res_multistep", "er_sde", "EDM Euler", "karras", "simple", "beta", "Align Your Steps"],
)  # fmt: skip
def test_a_sampler_without_an_equivalent_is_refused_and_the_nearest_is_named(name: str) -> None:
    with pytest.raises(CatalogueError) as told:
        schedulers.find(name)
    assert name in told.value.message and not told.value.message.endswith(".")
    named = told.value.hint.removeprefix("the nearest here: ").split(" or ")
    assert named and all(one in schedulers.SCHEDULERS for one in named)


@ROWS
def test_every_number_of_steps_gives_that_many_within_the_training(row: schedulers.Scheduler) -> None:
    counts = {*range(1, 13), 25, 50, 61, 103, 121, 250, 487, 768, 998, 999, 1000, row.max_steps}
    if row.class_name.startswith("KDPM2"):
        counts = {1, 2, 3, 61}  # slow to make
    for spacing in spacings(row):
        scheduler = made(row.name, spacing)
        for steps in sorted(count for count in counts if count <= row.max_steps):
            scheduler.set_timesteps(steps)
            timesteps = scheduler.timesteps.double()
            assert timesteps.isfinite().all() and timesteps.min() >= 0 and timesteps.max() <= 999, (spacing, steps)
            if row.name == "pndm":  # its first step is taken twice
                assert len(timesteps) == steps + (steps > 1)
                continue
            assert len(timesteps) == row.evaluations * steps - (row.evaluations - 1), (spacing, steps)
            whole = timesteps[1 :: row.evaluations] if row.evaluations == 2 else timesteps
            if hasattr(scheduler, "sigmas"):
                levels = scheduler.sigmas[:: row.evaluations][:steps]
                assert len(levels) == steps and levels.isfinite().all()
                assert (levels[:-1] > levels[1:]).all() or row.evaluations == 2, (spacing, steps)
            else:
                assert (whole[:-1] > whole[1:]).all(), (spacing, steps)


@ROWS
def test_a_row_says_whether_a_spacing_acts(row: schedulers.Scheduler) -> None:
    few = []
    for spacing in schedulers.SPACINGS:
        scheduler = made(row.name, spacing)
        scheduler.set_timesteps(10)
        few.append(scheduler.timesteps.tolist())
    assert (few[0] != few[1]) == (few[1] != few[2]) == row.spacing


@ROWS
def test_a_single_step_begins_where_there_is_only_noise(row: schedulers.Scheduler) -> None:
    for spacing in spacings(row):
        scheduler = made(row.name, spacing)
        scheduler.set_timesteps(1)
        assert scheduler.timesteps.tolist() == [999]


@ROWS
def test_a_denoiser_that_knows_the_picture_ends_with_it(row: schedulers.Scheduler) -> None:
    picture = torch.randn((1, 4, 4, 4), generator=torch.Generator().manual_seed(2))
    begin = torch.randn((1, 4, 4, 4), generator=torch.Generator().manual_seed(3))
    for kind in row.predictions:
        # the spacing has no part in how a prediction is read
        for spacing in spacings(row) if kind == "epsilon" else ("trailing",):
            for steps in (1, 2, 5) if row.evaluations == 2 else (1, 2, 3, 5, 15):
                scheduler = made(row.name, spacing, kind)
                end = run(scheduler, steps, begin, lambda x, alpha: picture.double())
                assert (end - picture).abs().max() < 1e-3, (kind, spacing, steps)


@ROWS
def test_zero_terminal_snr_ends_with_the_picture_too(row: schedulers.Scheduler) -> None:
    picture = torch.randn((1, 4, 4, 4), generator=torch.Generator().manual_seed(2))
    begin = torch.randn((1, 4, 4, 4), generator=torch.Generator().manual_seed(3))
    if not row.zero_snr or "v_prediction" not in row.predictions:
        with pytest.raises(CatalogueError, match=r"zero terminal SNR|works with"):
            made(row.name, "trailing", "v_prediction", True)
        return
    for steps in (1, 2, 7, 30):
        end = run(made(row.name, "trailing", "v_prediction", True), steps, begin, lambda x, alpha: picture.double())
        assert (end - picture).abs().max() < 2e-3, steps


MEAN, SPREAD = 0.5, 0.8


def gaussian(x: torch.Tensor, alpha: float) -> torch.Tensor:
    """The best guess of the clean latents when those are drawn from N(MEAN, SPREAD²)."""
    return MEAN + (x - alpha * MEAN) * alpha * SPREAD**2 / (alpha**2 * SPREAD**2 + 1 - alpha**2)


# How far from the exact end at 50 steps: what the order of the method, and timesteps that are rounded, allow.
@pytest.mark.parametrize("row", [r for r in schedulers.TABLE if not r.random], ids=lambda row: row.name)
def test_a_sampler_without_noise_follows_the_exact_curve(row: schedulers.Scheduler) -> None:
    begin = torch.randn((1, 4, 16, 16), generator=torch.Generator().manual_seed(4))
    for kind in row.predictions:
        for spacing in spacings(row) if kind == "epsilon" else ("trailing",):
            scheduler = made(row.name, spacing, kind)
            end = run(scheduler, 24 if row.evaluations == 2 else 50, begin, gaussian)
            first = scheduler.sigmas[0] if hasattr(scheduler, "sigmas") else None
            if first is None:
                level = scheduler.alphas_cumprod[int(scheduler.timesteps[0])]
                first = ((1 - level) / level).sqrt()
            # the latents at the start, in units where the clean ones have factor 1
            scale = 1.0 if float(scheduler.init_noise_sigma) != 1.0 else math.sqrt(1 + float(first) ** 2)
            start = begin.double() * float(scheduler.init_noise_sigma) * scale
            exact = MEAN + (start - MEAN) * SPREAD / math.sqrt(SPREAD**2 + float(first) ** 2)
            far = (end - exact).abs().mean() / SPREAD
            assert far < 0.04, (kind, spacing, float(far))


@pytest.mark.parametrize(
    "row", [r for r in schedulers.TABLE if r.random and r.name not in ("lcm", "tcd")], ids=lambda row: row.name
)
def test_a_sampler_with_noise_ends_with_the_right_spread(row: schedulers.Scheduler) -> None:
    begin = torch.randn((1, 4, 64, 64), generator=torch.Generator().manual_seed(4))
    steps = 300 if row.name == "ddpm" else 60
    for spacing in spacings(row):
        end = run(made(row.name, spacing), min(steps, row.max_steps), begin, gaussian)
        assert abs(float(end.mean()) - MEAN) < 0.05, (spacing, float(end.mean()))
        assert abs(float(end.std()) / SPREAD - 1) < 0.06, (spacing, float(end.std()))


@ROWS
def test_noise_on_the_way_comes_from_the_seed_or_there_is_none(row: schedulers.Scheduler) -> None:
    begin = torch.randn((1, 4, 4, 4), generator=torch.Generator().manual_seed(4))
    one, same, other = (run(made(row.name, "trailing"), 6, begin, gaussian, seed) for seed in (1, 1, 2))
    assert torch.equal(one, same)
    assert torch.equal(one, other) != row.random


@ROWS
def test_a_kind_of_prediction_that_a_class_cannot_do_is_refused(row: schedulers.Scheduler) -> None:
    for kind in ("epsilon", "v_prediction", "sample", "flow_prediction"):
        if kind in row.predictions:
            assert schedulers.refusal(row, kind, False) is None
            continue
        assert row not in schedulers.able(kind, False)
        with pytest.raises(CatalogueError, match=f"^{row.name} works with epsilon.* predicts {kind}$"):
            made(row.name, None, kind)


@pytest.mark.parametrize(
    "change",
    [{"_class_name": "EDMEulerScheduler"}, {"_class_name": "FlowMatchEulerDiscreteScheduler"},
     {"timestep_type": "continuous", "prediction_type": "v_prediction"}],
)  # fmt: skip
def test_a_model_of_another_formulation_is_refused(change: dict[str, Any]) -> None:
    with pytest.raises(CatalogueError, match="another formulation"):
        sampling.make_scheduler("euler", {**SDXL, **change}, recipe(), None)


def test_beta_and_align_your_steps_take_the_published_timesteps() -> None:
    known = made("euler").alphas_cumprod
    # scipy.stats.beta.ppf(1 - k / n, 0.6, 0.6) * 999, rounded
    assert solvers.own_timesteps("beta", 4, known) == [999, 823, 500, 176]
    assert solvers.own_timesteps("beta", 20, known) == [
        999, 986, 959, 922, 876, 823, 765, 703, 637, 569, 500, 430, 362, 296, 234, 176, 123, 77, 40, 13,
    ]  # fmt: skip
    # the list for SDXL that NVIDIA published
    assert solvers.own_timesteps("ays", 10, known) == [999, 845, 730, 587, 443, 310, 193, 116, 53, 13]


def test_coefficients_of_lms_are_those_integrals() -> None:
    scheduler = made("lms_karras")
    scheduler.set_timesteps(12)
    sigmas = scheduler.sigmas.double().numpy()
    nodes, weights = np.polynomial.legendre.leggauss(8)
    for order in (1, 2, 3, 4):
        for t in (order - 1, 6, 11):
            middle, half = (sigmas[t + 1] + sigmas[t]) / 2, (sigmas[t + 1] - sigmas[t]) / 2
            tau = middle + half * nodes
            for current in range(order):
                basis = np.ones_like(tau)
                for k in set(range(order)) - {current}:
                    basis *= (tau - sigmas[t - k]) / (sigmas[t - current] - sigmas[t - k])
                expected = half * (weights * basis).sum()
                assert scheduler.get_lms_coefficient(order, t, current) == pytest.approx(expected, rel=1e-6, abs=1e-9)


def test_a_scheduler_forgets_a_single_step() -> None:
    scheduler = made("euler", "leading")
    scheduler.set_timesteps(1)
    scheduler.set_timesteps(1000)
    scheduler.set_timesteps(4)
    assert scheduler.timesteps.tolist() == [751, 501, 251, 1]
