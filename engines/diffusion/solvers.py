"""diffusers' schedulers with what they get wrong put right, each under the name of the class that it mends.

A mended class is made of diffusers' own and of what goes before it: `kind` puts them together. Every difference from
diffusers 0.42 is named where it is made; tests hold all of them against closed forms and against diffusers' pipeline.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np
import torch


class _Exact:
    """Exactly as many steps as were asked, all of them within the training's timesteps.

    What diffusers does else: for some numbers of steps (61, 103, 121, …) trailing spacing counts down by a ratio that
    is rounded, arrives just above 0 and takes one step more, at timestep -1. Leading spacing with an offset begins one
    timestep behind the last when every timestep is a step. One single step begins at the first timestep, which is
    nearly clean, in leading and linspace spacing, though the latents are pure noise. The timesteps of exponential
    levels are cut off where Karras's are rounded, so that the model is told of less noise than there is.
    """

    config: Any
    alphas_cumprod: torch.Tensor
    register_to_config: Any
    sigmas: torch.Tensor
    timesteps: torch.Tensor
    schedule: str | None = None

    def set_timesteps(self, num_inference_steps: Any = None, device: Any = None, *rest: Any, **more: Any) -> None:
        """As diffusers' own, which is called with what else is given."""
        set_timesteps: Any = super().set_timesteps  # type: ignore[misc]
        if num_inference_steps is None:
            set_timesteps(None, device, *rest, **more)
            return
        if rest:
            # Heun's and DPM2's constructor takes all the training's timesteps, half a second long and for nobody
            set_timesteps(2, device, *rest, **more)
            return
        steps, trained = int(num_inference_steps), int(self.config.num_train_timesteps)
        if self.schedule is not None:
            chosen = own_timesteps(self.schedule, steps, self.alphas_cumprod)
            set_timesteps(timesteps=chosen, device=device, **more)
            return
        before = {key: self.config[key] for key in ("timestep_spacing", "steps_offset") if key in self.config}
        if before and steps == 1:
            self.register_to_config(timestep_spacing="trailing")
        if steps == trained and before.get("timestep_spacing") == "leading":
            self.register_to_config(steps_offset=0)
        own_levels = any(self.config.get(f"use_{kind}_sigmas") for kind in ("karras", "exponential"))
        trailing = self.config.get("timestep_spacing") == "trailing" and not own_levels
        if trailing and len(np.arange(trained, 0, -trained / steps)) != steps:
            # a hair fewer steps make the ratio a hair larger, and the last one falls below 0
            set_timesteps(steps - 1e-6, device, *rest, **more)
            if hasattr(self, "num_inference_steps"):
                self.num_inference_steps = steps
        else:
            set_timesteps(steps, device, *rest, **more)
        self.register_to_config(**before)
        if self.config.get("use_exponential_sigmas") and not self.timesteps.is_floating_point():
            known = ((1 - self.alphas_cumprod) / self.alphas_cumprod).sqrt().log().double().numpy()
            nearest = np.rint(np.interp(np.log(self.sigmas[:-1].double().numpy()), known, np.arange(trained)))
            self.timesteps = torch.from_numpy(nearest).to(self.timesteps)


class _Ending:
    """The last step gives the clean latents that the model sees, which is what a step to no noise at all comes to.

    DEIS, SA-Solver and TCD have no argument for that: they stop at the first training timestep's noise (σ = 0.03),
    which SDXL's decoder shows. UniPC has one, with which its bh1 gives NaN.
    """

    config: Any
    timesteps: torch.Tensor

    def step(self, model_output: torch.Tensor, timestep: Any, sample: torch.Tensor, **more: Any) -> Any:
        here: Any = self
        if here.step_index is None:
            here._init_step_index(timestep)
        if here.step_index < len(self.timesteps) - 1:
            return super().step(model_output, timestep, sample, **more)  # type: ignore[misc]
        if hasattr(here, "sigmas"):
            level = 1 / (1 + here.sigmas[here.step_index] ** 2)
        else:
            level = here.alphas_cumprod[int(timestep)]
        here._step_index += 1
        clean = clean_from(self.config.prediction_type, model_output, sample, level)
        return _Out(clean, clean) if more.get("return_dict", True) else (clean,)


class _NoisyEnding(_Ending):
    """The same for a class that adds noise: the loop looks at the signature for where to give its generators."""

    def step(
        self, model_output: torch.Tensor, timestep: Any, sample: torch.Tensor, generator: Any = None, **more: Any
    ) -> Any:
        return super().step(model_output, timestep, sample, generator=generator, **more)


class _Ddim:
    """DDIM (arXiv:2010.02502, equation 12 with σ = 0) from each timestep to the one that follows in the list.

    diffusers' step goes back by 1000 // steps, which is where the next one is only in leading spacing: in linspace with
    two steps it stops in the middle.
    """

    config: Any
    timesteps: torch.Tensor
    alphas_cumprod: torch.Tensor

    def set_timesteps(self, num_inference_steps: Any = None, device: Any = None, **more: Any) -> None:
        super().set_timesteps(num_inference_steps, device=device, **more)  # type: ignore[misc]
        levels = [self.alphas_cumprod[t] for t in self.timesteps.tolist()]
        self._levels = [*levels, self.final_alpha_cumprod]  # type: ignore[attr-defined]
        self._done = 0

    def set_begin_index(self, begin_index: int = 0) -> None:
        """Which of the timesteps comes first, as diffusers' other classes have it."""
        self._done = begin_index

    def step(self, model_output: torch.Tensor, timestep: Any, sample: torch.Tensor, return_dict: bool = True) -> Any:
        level, following = self._levels[self._done], self._levels[self._done + 1]
        self._done += 1
        kind = self.config.prediction_type
        clean = clean_from(kind, model_output, sample, level)
        if kind == "v_prediction":
            noise = level**0.5 * model_output + (1 - level) ** 0.5 * sample
        else:
            noise = model_output if kind == "epsilon" else (sample - level**0.5 * clean) / (1 - level) ** 0.5
        out = following**0.5 * clean + (1 - following) ** 0.5 * noise
        return _Out(out, clean) if return_dict else (out,)


class _Plms:
    """PLMS (arXiv:2202.09778) from any of its timesteps on.

    Its first step is done twice, the second time with what the first one found, and for that the second timestep stands
    twice in the list. diffusers leaves out the first ones of that list where a picture is drawn over, and then takes
    the steps that follow from where they don't begin.
    """

    timesteps: torch.Tensor

    def set_begin_index(self, begin_index: int = 0) -> None:
        """Which of the timesteps, without the one that stands twice, comes first; what stands before it is left out."""
        if begin_index:
            rest = [t for i, t in enumerate(self.timesteps.tolist()) if i != 1][begin_index:]
            doubled = [*rest[:2], *rest[1:]] if len(rest) > 1 else rest
            self.timesteps = self.timesteps.new_tensor([0] * begin_index + doubled)


class _Lms:
    """The coefficients of LMS without scipy, which diffusers asks to integrate what is a polynomial of degree three.

    And its timesteps in fp32: Apple's devices have no fp64.
    """

    sigmas: torch.Tensor
    timesteps: torch.Tensor
    derivatives: list[torch.Tensor]

    def set_timesteps(self, num_inference_steps: Any = None, device: Any = None, **more: Any) -> None:
        super().set_timesteps(num_inference_steps, **more)  # type: ignore[misc]
        self.timesteps = self.timesteps.float().to(device)

    def get_lms_coefficient(self, order: int, t: int, current_order: int) -> float:
        """The integral of Lagrange's basis polynomial `current_order` from σ(t) to σ(t + 1).

        diffusers takes as many of them as steps come before t in the list; where the first of those were left out (a
        picture is drawn over), there are fewer derivatives for them.
        """
        order = min(order, len(self.derivatives) or order)
        if current_order >= order:
            return 0.0
        sigmas = self.sigmas.double().numpy()
        others = [sigmas[t - k] for k in range(order) if k != current_order]
        here = sigmas[t - current_order]
        basis = np.poly1d(others, r=True) / np.prod([here - other for other in others])
        whole = basis.integ()
        return float(whole(sigmas[t + 1]) - whole(sigmas[t]))


class _ThirdOrder:
    """DPM++ 3M SDE with the sign of its second difference put right.

    Its factor is (1 - e^-2h - 2h) / (2h)² + 1/2, which goes to 0 with the step h, as in k-diffusion's
    sample_dpmpp_3m_sde; diffusers 0.42 subtracts the 1/2, and the picture's spread grows with the number of steps.
    """

    config: Any
    sigmas: torch.Tensor

    def multistep_dpm_solver_third_order_update(self, model_output_list: list[Any], **more: Any) -> torch.Tensor:
        """diffusers' update, and the difference of the factors (1) times the second difference."""
        update: Any = super().multistep_dpm_solver_third_order_update  # type: ignore[misc]
        out: torch.Tensor = update(model_output_list, **more)
        if self.config.algorithm_type != "sde-dpmsolver++":
            return out
        here = self.step_index  # type: ignore[attr-defined]
        levels = self.sigmas[[here + 1, here, here - 1, here - 2]].log()
        h, h_0, h_1 = (levels[1:] - levels[:-1]).unbind()
        newest, older, oldest = model_output_list[-1], model_output_list[-2], model_output_list[-3]
        r0, r1 = h_0 / h, h_1 / h
        second = ((newest - older) / r0 - (older - oldest) / r1) / (r0 + r1)
        return out.add(second / (1 + self.sigmas[here + 1] ** 2) ** 0.5)


@dataclass
class _Out:
    """What a step gives, under diffusers' names."""

    prev_sample: torch.Tensor
    pred_original_sample: torch.Tensor

    def __getitem__(self, index: int) -> torch.Tensor:
        return (self.prev_sample, self.pred_original_sample)[index]


_MENDED: dict[str, tuple[type, ...]] = {
    "DDIMScheduler": (_Ddim,),
    "PNDMScheduler": (_Plms,),
    "DEISMultistepScheduler": (_Ending,),
    "DPMSolverMultistepScheduler": (_ThirdOrder,),
    "LMSDiscreteScheduler": (_Lms,),
    "SASolverScheduler": (_NoisyEnding,),
    "TCDScheduler": (_NoisyEnding,),
    "UniPCMultistepScheduler": (_Ending,),
}


@cache
def kind(class_name: str) -> Any:
    """The class of that name in diffusers, mended."""
    import diffusers
    from diffusers.schedulers.scheduling_lms_discrete import LMSDiscreteScheduler

    # without scipy, diffusers has an empty class of that name at its front door
    base = LMSDiscreteScheduler if class_name == "LMSDiscreteScheduler" else getattr(diffusers, class_name)
    return type(class_name, (*_MENDED.get(class_name, ()), _Exact, base), {"__module__": __name__})


def own_timesteps(schedule: str, steps: int, alphas_cumprod: torch.Tensor) -> list[int]:
    """The timesteps of a schedule that diffusers doesn't have: `steps` of them, falling, the last above 0.

    `beta` takes them from the beta distribution's quantiles with α = β = 0.6 (arXiv:2407.12173, as ComfyUI does it).
    `ays` puts NVIDIA's eleven noise levels for SDXL (Align Your Steps, arXiv:2404.14507) on a logarithmic line for
    numbers of steps other than ten.

    Args:
        schedule: beta or ays.
        steps: 1 … 100 for beta, 1 … 50 for ays; with more, two fall together.
        alphas_cumprod: the model's, shape (training timesteps,).
    """
    trained = len(alphas_cumprod)
    if schedule == "beta":
        # with x = sin²(θ) the density x^-0.4 (1 - x)^-0.4 has no poles, so that a plain sum will do
        angles = (np.arange(16384) + 0.5) / 16384 * (np.pi / 2)
        mass = np.concatenate([[0], np.cumsum((np.sin(angles) * np.cos(angles)) ** 0.2)])
        edges = np.sin(np.linspace(0, np.pi / 2, len(mass))) ** 2
        wanted = 1 - np.arange(steps) / steps
        chosen = np.interp(wanted * mass[-1], mass, edges) * (trained - 1)
    else:
        levels = (14.615, 6.315, 3.771, 2.181, 1.342, 0.862, 0.555, 0.380, 0.234, 0.113, 0.029)
        wanted = np.interp(np.arange(steps) / steps, np.arange(len(levels)) / (len(levels) - 1), np.log(levels))
        known = ((1 - alphas_cumprod) / alphas_cumprod).sqrt().log().double().numpy()
        chosen = np.interp(wanted, known, np.arange(trained))
    return [int(t) for t in np.rint(chosen)]


def clean_from(kind: str, prediction: torch.Tensor, sample: torch.Tensor, level: torch.Tensor) -> torch.Tensor:
    """The clean latents in a prediction, where `sample` = √level · clean + √(1 - level) · noise."""
    if kind == "sample":
        return prediction
    if kind == "v_prediction":
        return level**0.5 * sample - (1 - level) ** 0.5 * prediction
    return (sample - (1 - level) ** 0.5 * prediction) / level**0.5
