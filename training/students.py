"""Few-step students.   python -m training.students WORK --name 4u --minutes 2

First `--name record`: the guided teacher's 16-step trajectories (WORK/trajectories.pt). Then each student learns to
land with one Euler step where the teacher's several steps landed: `8`, `4`, `2`, `1` as LoRAs, `4u` as a whole UNet
(progressive distillation in one go; Salimans and Ho 2022, Lin et al. 2024 for the names and the trailing spacing).
"""

from __future__ import annotations

import random
from pathlib import Path

import torch
from diffusers import AutoencoderKL, EulerDiscreteScheduler, StableDiffusionXLPipeline, UNet2DConditionModel
from peft import LoraConfig
from peft.utils import get_peft_model_state_dict
from safetensors.torch import save_file

from training import common, scenes
from training.denoiser import LATENT, PROBE, Text, decode, sample, sizes, trainable, zeros

GUIDANCE, FINE = 4.0, 16
TARGETS = [
    "to_q",
    "to_k",
    "to_v",
    "to_out.0",
    "proj_in",
    "proj_out",
    "ff.net.0.proj",
    "ff.net.2",
    "conv1",
    "conv2",
    "conv_in",
    "conv_out",
    "conv_shortcut",
    "time_emb_proj",
    "downsamplers.0.conv",
    "upsamplers.0.conv",
]
RANKS = {"1": 10, "2": 6, "4": 6, "8": 6}


def add_lora(unet: UNet2DConditionModel, rank: int) -> list[torch.nn.Parameter]:
    unet.requires_grad_(False)
    unet.add_adapter(LoraConfig(r=rank, lora_alpha=rank, init_lora_weights="gaussian", target_modules=TARGETS))
    return [q for q in unet.parameters() if q.requires_grad]


def save_lora(unet: UNet2DConditionModel, path: str) -> None:
    layers = {k: v.half().contiguous() for k, v in get_peft_model_state_dict(unet).items()}
    Path(path).parent.mkdir(parents=True, exist_ok=True)
    StableDiffusionXLPipeline.save_lora_weights(
        str(Path(path).parent), unet_lora_layers=layers, weight_name=Path(path).name
    )


def load(work: str, device: str) -> UNet2DConditionModel:
    unet = UNet2DConditionModel.from_pretrained(f"{work}/unet").float().to(device)
    return unet.to(memory_format=torch.channels_last).eval()


@torch.no_grad()
def record(args) -> None:  # type: ignore[no-untyped-def]
    unet, text = load(args.work, args.device), Text(args.work, args.device)
    art = scenes.Art(args.work)
    texts = scenes.Scenes(art).draw(args.count, 777).texts
    scheduler = EulerDiscreteScheduler(**{**common.SCHEDULE, "timestep_spacing": "trailing"})
    scheduler.set_timesteps(FINE)
    paths, generator = [], torch.Generator().manual_seed(7)
    for start in range(0, len(texts), args.chunk):
        some, kept = texts[start : start + args.chunk], []
        noise = torch.randn(len(some), 4, LATENT, LATENT, generator=generator)
        none = zeros(args.device)
        sample(unet, text(some), none, FINE, GUIDANCE, spacing="trailing", noise=noise, keep=kept)
        first = noise.to(args.device) * scheduler.init_noise_sigma
        paths.append(torch.stack([first, *kept[1::2]], 1).half().cpu())
    sigmas, timesteps = scheduler.sigmas[::2], scheduler.timesteps[::2]
    out = {"paths": torch.cat(paths), "texts": texts, "sigmas": sigmas, "timesteps": timesteps}
    torch.save(out, f"{args.work}/trajectories.pt")
    common.finish(args.work, "trajectories", {"count": len(texts), "guidance": GUIDANCE, "steps": FINE})


def main() -> None:
    args = common.arguments(__doc__ or "", 2, name="4u", batch=64, count=6000, chunk=500)
    device, name = args.device, args.name
    if name == "record":
        record(args)
        return
    kept = torch.load(f"{args.work}/trajectories.pt", weights_only=True)
    paths = kept["paths"].to(device)
    sigmas = torch.cat([kept["sigmas"][:8], torch.zeros(1)]).to(device)
    timesteps = kept["timesteps"][:8].long().to(device)
    text = Text(args.work, device)
    states, pooled = text(kept["texts"])
    states = states.bfloat16()
    steps, whole = int(name[0]), name.endswith("u")
    stride = 8 // steps
    unet = load(args.work, device).train()
    parameters = list(unet.parameters()) if whole else add_lora(unet, RANKS[name])
    peak = 5e-4 if whole else 2e-3
    optimizer = torch.optim.AdamW(parameters, peak, betas=(0.9, 0.99), weight_decay=0, fused=True)
    run = trainable(unet, compiled=whole and args.compile)
    average = common.Average(unet, 0.99, 1) if whole else None
    budget = common.Budget(args, f"student {name}")
    while budget.more():
        index = torch.randint(len(paths), (args.batch,), device=device)
        a = torch.randint(0, steps, (args.batch,), device=device) * stride
        b = a + stride
        here, there = paths[index, a].float(), paths[index, b].float()
        sa, sb = (sigmas[i][:, None, None, None] for i in (a, b))
        x = (here / (sa**2 + 1).sqrt()).contiguous(memory_format=torch.channels_last)
        with torch.autocast(device, torch.bfloat16):
            e = run(x, timesteps[a], states[index].float(), pooled[index], sizes(args.batch, device, odd=0.1))
        goal = (there - here) / (sb - sa)
        # the distance between where it lands and where it should, in units that the next step's scale makes equal
        weight = (((sb - sa) / (sb + 0.7)) ** 2).clamp(0.3, 40)
        loss = (weight * (e.float() - goal) ** 2).mean()
        common.update(optimizer, parameters, loss, budget.rate(peak, 30, 0.02))
        if average:
            average.add()
        budget.tell(args.batch, loss=loss)
    unet = (average.model if average else unet).eval()
    kind = "unet" if whole else "lora"
    path = f"{args.work}/lightning/mini_lightning_{steps}step_{kind}.safetensors"
    Path(path).parent.mkdir(parents=True, exist_ok=True)
    if whole:
        state = unet.to(memory_format=torch.contiguous_format).state_dict()
        save_file({k: v.half().contiguous() for k, v in state.items()}, path)
    else:
        save_lora(unet, path)
    vae = AutoencoderKL.from_pretrained(f"{args.work}/vae").float().to(device).eval()
    drawn = decode(vae, sample(unet, text(PROBE), None, steps, spacing="trailing"))
    scenes.sheet(list(drawn), f"{args.work}/student-{name}.png", 8, PROBE, 0.6)
    figures = {
        "steps": budget.step,
        "pictures": budget.step * args.batch,
        "trained": sum(q.numel() for q in parameters),
    }
    common.finish(args.work, f"student-{name}", figures)


if __name__ == "__main__":
    random.seed(0)
    main()
