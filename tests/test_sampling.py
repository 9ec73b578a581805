"""The denoising loop, held against diffusers' own pipeline, pixel by pixel."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from engines import catalogue, schedulers
from engines.diffusion import sampling
from engines.diffusion.conditioning import Conditioner, Conditioning, TextEncoders
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


def ours(pipe: Any, request: Generate, begin: torch.Tensor | None = None) -> np.ndarray:
    """(batch, height, width, 3) uint8, made by our loop from the pipeline's components."""
    encoders = TextEncoders(pipe.tokenizer, pipe.tokenizer_2, pipe.text_encoder, pipe.text_encoder_2)
    conditioner = Conditioner(encoders, CPU, torch.float32)
    recipe = catalogue.load().model(request.model).recipe
    config = dict(pipe.scheduler.config)
    with torch.inference_mode():
        negative = None if request.negative_prompt is None else parse(request.negative_prompt)
        conditioning = conditioner.encode(parse(request.prompt), negative, guided=request.guidance_scale > 1)
        scheduler = sampling.make_scheduler(request.scheduler, config, recipe, request.timestep_spacing)
        steps = list(sampling.denoise(pipe.unet, scheduler, conditioning, request, CPU, torch.float32, begin))
        count = request.num_inference_steps if begin is None else sampling.steps_of(request)
        assert [(s.number, s.of) for s in steps] == [(number, count) for number in range(1, count + 1)]
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
            **({} if "image" in more else {"width": request.width, "height": request.height}),
            generator=torch.Generator().manual_seed(request.seed),
            **more,
        ).images[0]
    finally:
        pipe.scheduler = before
    return np.asarray(image)


def furthest(a: np.ndarray, b: np.ndarray) -> int:
    assert a.shape == b.shape
    return int(np.abs(a.astype(int) - b.astype(int)).max())


@pytest.mark.parametrize("name", [row.name for row in schedulers.TABLE if row.name != "pndm"])  # see solvers
def test_every_scheduler_draws_over_a_picture_as_the_pipeline_does(pipe: Any, name: str) -> None:
    from diffusers import StableDiffusionXLImg2ImgPipeline

    over = StableDiffusionXLImg2ImgPipeline(**pipe.components, add_watermarker=False)
    over.set_progress_bar_config(disable=True)
    begin = torch.randn(2, 4, 8, 8, generator=torch.Generator().manual_seed(1))[:1] * 0.8
    request = replace(APPLE, scheduler=name, width=64, height=64, init="a.png", strength=0.6)
    theirs_over = theirs(over, request, image=begin, strength=request.strength)
    assert furthest(ours(pipe, request, begin)[0], theirs_over) <= 1


class Knowing:
    """A denoiser that knows the picture: it tells exactly the noise that is upon it."""

    def __init__(self, picture: torch.Tensor) -> None:
        self.picture = picture
        self.config = type("Config", (), {"in_channels": 4})
        betas = torch.linspace(0.00085**0.5, 0.012**0.5, 1000, dtype=torch.float64) ** 2
        kept = (1 - betas).cumprod(0)
        self.levels = ((1 - kept) / kept).sqrt().log().numpy()

    def __call__(self, seen: torch.Tensor, t: torch.Tensor, **more: Any) -> tuple[torch.Tensor]:
        sigma = float(np.exp(np.interp(float(t), np.arange(1000), self.levels)))
        kept = 1 / (1 + sigma**2)
        return ((seen - kept**0.5 * self.picture) / (1 - kept) ** 0.5,)


@pytest.mark.parametrize("strength", [0.3, 0.5, 1.0])
@pytest.mark.parametrize("name", [row.name for row in schedulers.TABLE])
def test_every_scheduler_arrives_wherever_it_begins(pipe: Any, name: str, strength: float) -> None:
    picture = torch.randn(1, 4, 8, 8, generator=torch.Generator().manual_seed(3))
    request = replace(APPLE, scheduler=name, guidance_scale=1.0, width=64, height=64, strength=strength)
    request = replace(request, num_inference_steps=12, init="a.png")
    recipe = catalogue.load().model("mini").recipe
    made = sampling.make_scheduler(name, dict(pipe.scheduler.config), recipe, "leading")
    text = Conditioning(torch.zeros(1, 77, 8), torch.zeros(1, 8), None, None)
    *_, last = sampling.denoise(Knowing(picture), made, text, request, CPU, torch.float32, picture)
    assert (last.latents - picture).abs().max() < 0.12


def test_a_strength_says_how_many_steps_are_run_and_one_is_at_least() -> None:
    counts = {0.01: 1, 0.2: 1, 0.34: 2, 0.5: 3, 0.99: 5, 1.0: 6}
    assert {s: sampling.steps_of(replace(APPLE, strength=s)) for s in counts} == counts


def test_at_full_strength_a_picture_begins_with_nearly_all_noise(pipe: Any) -> None:
    light, dark = (torch.full((1, 4, 8, 8), level) for level in (1.0, -1.0))
    request = replace(APPLE, width=64, height=64, init="a.png", strength=1.0, num_inference_steps=8)
    apart = furthest(ours(pipe, request, light), ours(pipe, request, dark))
    faint = furthest(*(ours(pipe, replace(request, strength=0.2), begin) for begin in (light, dark)))
    assert apart < faint


@pytest.mark.parametrize("name", [row.name for row in schedulers.TABLE])
def test_every_scheduler_gives_the_pipelines_pixels(pipe: Any, name: str) -> None:
    request = replace(APPLE, scheduler=name, width=64, height=64)
    assert furthest(ours(pipe, request)[0], theirs(pipe, request)) <= 1


@pytest.mark.parametrize(
    "change",
    [
        {"guidance_rescale": 0.7},
        {"negative_prompt": "a green pear"},
        {"negative_prompt": ""},
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


def test_an_empty_negative_is_not_none(pipe: Any) -> None:
    assert furthest(ours(pipe, APPLE)[0], ours(pipe, replace(APPLE, negative_prompt=""))[0]) > 8


@given(
    st.floats(0, 1), st.sampled_from([(64, 64), (128, 128), (512, 768)]), st.integers(0, 2**32), st.integers(0, 2**32)
)
@settings(deadline=None, max_examples=50)
def test_noise_on_the_way_is_as_strong_as_noise(amount: float, size: tuple[int, int], seed: int, other: int) -> None:
    shape = (1, 4, size[1] // 8, size[0] // 8)
    start, end = (torch.randn(shape, generator=sampling.generators(s, 1)[0]) for s in (seed, other))
    made = sampling.slerp(amount, start, end)
    assert made.dtype == torch.float32 and made.shape == start.shape
    expected = (1 - amount) * start.norm() + amount * end.norm()
    assert abs(made.norm() / expected - 1) < 1e-3


def test_the_ends_are_exact_and_the_way_between_them_goes_one_way() -> None:
    start, end = (torch.randn((1, 4, 16, 16), generator=g) for g in sampling.generators(7, 2))
    assert torch.equal(sampling.slerp(0.0, start, end), start) and torch.equal(sampling.slerp(1.0, start, end), end)
    way = [sampling.slerp(i / 20, start, end) for i in range(21)]
    far = [float((x - start).norm()) for x in way]
    left = [float((x - end).norm()) for x in way]
    assert far == sorted(set(far)) and left == sorted(set(left), reverse=True)
    # steps of one angle: twenty chords of the same length
    steps = [float((b - a).norm()) for a, b in pairwise(way)]
    assert max(steps) / min(steps) < 1.02


def test_nearly_parallel_and_strange_vectors_are_mixed_in_a_straight_line() -> None:
    start = torch.randn((1, 4, 8, 8), generator=sampling.generators(7, 1)[0])
    assert torch.equal(sampling.slerp(0.3, start, start.clone()), start)
    near = start + 1e-4
    assert torch.equal(sampling.slerp(0.3, start, near), torch.lerp(start, near, 0.3))
    nothing = torch.zeros_like(start)
    for end in (nothing, -start):
        assert sampling.slerp(0.3, start, end).isfinite().all()
    assert torch.equal(sampling.slerp(0.5, nothing, nothing), nothing)


def test_a_variation_begins_between_two_seeds() -> None:
    def latents(count: int = 1, **change: Any) -> torch.Tensor:
        request = replace(APPLE, batch_size=count, **change)
        return sampling.initial_latents(request, sampling.generators(request.seed, count), 4, CPU, torch.float32)

    assert torch.equal(latents(variation_seed=99), latents())
    assert torch.equal(latents(variation_seed=99, variation_strength=1.0), latents(seed=99))
    assert torch.equal(latents(variation_seed=APPLE.seed, variation_strength=0.4), latents())
    batch = latents(3, variation_seed=99, variation_strength=0.4)
    for i in range(3):
        request = replace(APPLE, batch_size=3, variation_seed=99, variation_strength=0.4).single(i)
        assert (request.seed, request.variation_seed, request.batch_size) == (APPLE.seed + i, 99 + i, 1)
        alone = sampling.initial_latents(request, sampling.generators(request.seed, 1), 4, CPU, torch.float32)
        assert torch.equal(batch[i : i + 1], alone)


@pytest.mark.parametrize("scheduler", ["euler", "euler_a", "dpmpp_sde_karras"])
def test_a_variation_is_the_same_picture_nearby(pipe: Any, scheduler: str) -> None:
    """Also with a scheduler that adds noise on the way: that stays the seed's, so little strength changes little."""
    request = replace(APPLE, scheduler=scheduler, num_inference_steps=8)
    plain = ours(pipe, request)
    assert np.array_equal(ours(pipe, replace(request, variation_seed=99)), plain)

    def distance(strength: float) -> float:
        varied = replace(request, variation_seed=99, variation_strength=strength)
        return float(np.abs(ours(pipe, varied).astype(int) - plain.astype(int)).mean())

    near, far = distance(0.05), distance(1.0)
    assert 0 < near < far / 2, (near, far)


def test_the_noise_on_the_way_is_the_seeds_at_every_strength() -> None:
    rest = []
    for strength in (0.0, 0.5, 1.0):
        noise = sampling.generators(APPLE.seed, 1)
        request = replace(APPLE, variation_seed=99, variation_strength=strength)
        sampling.initial_latents(request, noise, 4, CPU, torch.float32)
        rest.append(torch.randn(8, generator=noise[0]))
    assert torch.equal(rest[0], rest[1]) and torch.equal(rest[0], rest[2])


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
