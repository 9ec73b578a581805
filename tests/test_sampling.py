"""The denoising loop, held against diffusers' own pipeline, pixel by pixel."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from engines import catalogue, schedulers
from engines.diffusion import sampling
from engines.diffusion.conditioning import Conditioner, TextEncoders
from engines.diffusion.decoding import decode
from engines.diffusion.previews import to_uint8
from engines.prompt import parse
from engines.requests import Generate

# diffusers gives numpy a tensor to take the logarithm of (DPM2, DEIS)
pytestmark = pytest.mark.filterwarnings("ignore:__array_wrap__ must accept context:DeprecationWarning")

BASE = Path(catalogue.__file__).with_name("mini") / "base"
CPU = torch.device("cpu")
APPLE = Generate("a red apple on a blue background", "mini", 7, 128, 128, 6, 4.5, timestep_spacing="leading")


@pytest.fixture(scope="module")
def pipe() -> Any:
    from diffusers import StableDiffusionXLPipeline

    pipe = StableDiffusionXLPipeline.from_pretrained(BASE, dtype=torch.float32, add_watermarker=False)
    pipe.set_progress_bar_config(disable=True)
    return pipe


def ours(pipe: Any, request: Generate) -> np.ndarray:
    """(batch, height, width, 3) uint8, made by our loop from the pipeline's components."""
    encoders = TextEncoders(pipe.tokenizer, pipe.tokenizer_2, pipe.text_encoder, pipe.text_encoder_2)
    conditioner = Conditioner(encoders, CPU, torch.float32)
    recipe = catalogue.load().model(request.model).recipe
    config = dict(pipe.scheduler.config)
    with torch.inference_mode():
        negative = None if request.negative_prompt is None else parse(request.negative_prompt)
        conditioning = conditioner.encode(parse(request.prompt), negative, guided=request.guidance_scale > 1)
        scheduler = sampling.make_scheduler(request.scheduler, config, recipe, request.timestep_spacing)
        steps = list(sampling.denoise(pipe.unet, scheduler, conditioning, request, CPU, torch.float32))
        assert [s.number for s in steps] == list(range(1, request.num_inference_steps + 1))
        return to_uint8(decode(pipe.vae, steps[-1].latents)).numpy()


# Timesteps of the schedules that diffusers doesn't have, for APPLE's six steps: scipy.stats.beta.ppf(1 - k/6, 0.6, 0.6)
# times 999, and NVIDIA's levels at every 10/6th place.
LISTED = {"beta": [999, 908, 724, 500, 275, 91], "ays": [999, 770, 540, 310, 139, 34]}
# Rows whose last step, timesteps or coefficients are not diffusers' own: here their scheduler is run by diffusers'
# pipeline, and tests/test_schedulers.py holds it against the exact answer.
MENDED = {"ddim_trailing", "deis", "lms", "lms_karras", "sa_solver", "tcd", "unipc_bh1"} | {
    row.name
    for row in schedulers.TABLE
    if "3m" in row.name or (row.class_name.startswith("DPM") and row.name.endswith("_exponential"))
}


def theirs(pipe: Any, request: Generate, **more: Any) -> np.ndarray:
    """(height, width, 3) uint8, made by diffusers' pipeline with the scheduler that the request names."""
    import diffusers

    row = schedulers.find(request.scheduler)
    before = pipe.scheduler
    arguments: dict[str, Any] = {"timestep_spacing": request.timestep_spacing or "leading", **row.arguments}
    if row.name in MENDED:
        recipe = catalogue.load().model(request.model).recipe
        pipe.scheduler = sampling.make_scheduler(row.name, dict(before.config), recipe, request.timestep_spacing)
    else:
        pipe.scheduler = getattr(diffusers, row.class_name).from_config(before.config, **arguments)
    if row.schedule:
        more |= {"timesteps": LISTED[row.schedule]}
    try:
        image = pipe(
            request.prompt,
            negative_prompt=request.negative_prompt,
            num_inference_steps=request.num_inference_steps,
            guidance_scale=request.guidance_scale,
            guidance_rescale=request.guidance_rescale,
            width=request.width,
            height=request.height,
            generator=torch.Generator().manual_seed(request.seed),
            **more,
        ).images[0]
    finally:
        pipe.scheduler = before
    return np.asarray(image)


def furthest(a: np.ndarray, b: np.ndarray) -> int:
    assert a.shape == b.shape
    return int(np.abs(a.astype(int) - b.astype(int)).max())


@pytest.mark.parametrize("name", [row.name for row in schedulers.TABLE])
def test_every_scheduler_gives_the_pipelines_pixels(pipe: Any, name: str) -> None:
    request = replace(APPLE, scheduler=name, width=64, height=64)
    assert furthest(ours(pipe, request)[0], theirs(pipe, request)) <= 1


@pytest.mark.parametrize(
    "change",
    [
        {"guidance_rescale": 0.7},
        {"negative_prompt": "a green pear"},
        {"guidance_scale": 0.0, "timestep_spacing": "trailing", "num_inference_steps": 4},
        {"guidance_scale": 1.0, "negative_prompt": "without effect"},
        {"width": 152, "height": 104},
        {"seed": 2**63 - 1},
        {"prompt": ""},
    ],
)
def test_settings_act_as_in_the_pipeline(pipe: Any, change: dict[str, Any]) -> None:
    request = replace(APPLE, **change)
    assert furthest(ours(pipe, request)[0], theirs(pipe, request)) <= 1


def test_negative_prompt_and_rescale_change_the_picture_when_guided(pipe: Any) -> None:
    plain = ours(pipe, APPLE)[0]
    assert furthest(plain, ours(pipe, replace(APPLE, negative_prompt="a red apple"))[0]) > 8
    assert furthest(plain, ours(pipe, replace(APPLE, guidance_rescale=0.9))[0]) > 8


@pytest.mark.parametrize("scheduler", ["euler", "euler_a", "dpmpp_2m_sde_karras"])
def test_a_picture_in_a_batch_is_the_one_that_it_would_be_alone(pipe: Any, scheduler: str) -> None:
    request = replace(APPLE, scheduler=scheduler, num_inference_steps=4)
    batch = ours(pipe, replace(request, batch_size=3))
    for i in range(3):
        alone = ours(pipe, replace(request, seed=request.seed + i))[0]
        assert furthest(batch[i], alone) <= 2


def test_the_same_latents_alone_and_in_a_batch() -> None:
    many = sampling.initial_latents(APPLE, sampling.generators(7, 4), 4, CPU, torch.float32)
    for i in range(4):
        alone = sampling.initial_latents(APPLE, sampling.generators(7 + i, 1), 4, CPU, torch.float32)
        assert torch.equal(many[i : i + 1], alone)


def test_the_estimate_on_the_way_is_nearer_to_the_picture_than_the_noise(pipe: Any) -> None:
    for name in ("euler", "ddim", "dpmpp_2m_karras", "unipc", "deis", "sa_solver"):
        recipe = catalogue.load().model("mini").recipe
        scheduler = sampling.make_scheduler(name, dict(pipe.scheduler.config), recipe, "leading")
        encoders = TextEncoders(pipe.tokenizer, pipe.tokenizer_2, pipe.text_encoder, pipe.text_encoder_2)
        with torch.inference_mode():
            conditioning = Conditioner(encoders, CPU, torch.float32).encode(parse(APPLE.prompt), None, guided=True)
            steps = list(sampling.denoise(pipe.unet, scheduler, conditioning, APPLE, CPU, torch.float32))
        end = steps[-1].latents
        assert (steps[1].clean - end).abs().mean() < (steps[1].latents - end).abs().mean(), name


def test_a_schedulers_arguments_come_before_the_models_configuration(pipe: Any) -> None:
    recipe = replace(catalogue.load().model("mini").recipe, prediction_type="v_prediction")
    made = sampling.make_scheduler("dpmpp_2m_karras", dict(pipe.scheduler.config), recipe, "trailing")
    assert type(made).__name__ == "DPMSolverMultistepScheduler"
    assert made.config.use_karras_sigmas is True
    assert made.config.final_sigmas_type == "zero"
    assert made.config.timestep_spacing == "trailing"
    assert made.config.prediction_type == "v_prediction"
    assert made.config.beta_schedule == "scaled_linear"
