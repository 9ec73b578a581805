"""The denoiser, SDXL's UNet in small.   python -m training.denoiser WORK --minutes 6

Waits for the autoencoder and the text encoders (WORK/autoencoder.json, WORK/encoders.json), composes a bank of scenes
with their latents and text states, and trains on it. Leaves WORK/unet (averaged weights) and sheets of pictures.

One scene in eight has a subject whose text states are stretched away from those of the empty prompt, as compel's `+`
stretches them (1.1 a plus), and whose picture shows it larger: so weights of words act on what is seen.
"""

from __future__ import annotations

import random
import time
from dataclasses import dataclass

import torch
from diffusers import AutoencoderKL, DDPMScheduler, EulerDiscreteScheduler, UNet2DConditionModel
from torch import Tensor
from transformers import CLIPTextModel, CLIPTextModelWithProjection, CLIPTokenizer

from training import common, scenes

SIDE, LATENT = 256, 32
PROBE = """a cat|a 3d dog on a blue background|a cartoon penguin on a teal background|
a flat red apple on a yellow background|an ink rabbit on a pink background|
a retro rocket on a black background|a pizza, 3d style|a cat and a dog|
a flat house on a green background|an owl|a 3d sunflower on a purple background|
two cartoon cars on a yellow background|a robot on a pink background|a small fox|
a ghost above a pumpkin on an orange background|a dragon|
a flat sailboat to the left of a flat ship on a blue background|
a large star on a purple background|a 3d burger|a cute unicorn, highly detailed|
a retro tree on a gray background|a castle|an ink guitar on a red background|
three strawberries""".replace("\n", "").split("|")


def make_unet(pruned: bool = False) -> UNet2DConditionModel:
    """The base's shape; `pruned` leaves out the middle and the transformers of the lowest level, as SSD-1B leaves out
    SDXL's (Gupta et al. 2024)."""
    low = ("DownBlock2D", "UpBlock2D") if pruned else ("CrossAttnDownBlock2D", "CrossAttnUpBlock2D")
    return UNet2DConditionModel(
        sample_size=LATENT,
        in_channels=4,
        out_channels=4,
        down_block_types=("DownBlock2D", "CrossAttnDownBlock2D", low[0]),
        mid_block_type=None if pruned else "UNetMidBlock2DCrossAttn",
        up_block_types=(low[1], "CrossAttnUpBlock2D", "UpBlock2D"),
        block_out_channels=(64, 96, 96),
        layers_per_block=1,
        transformer_layers_per_block=1,
        attention_head_dim=(2, 3, 3),
        cross_attention_dim=224,
        use_linear_projection=True,
        addition_embed_type="text_time",
        addition_time_embed_dim=32,
        projection_class_embeddings_input_dim=320,
        norm_num_groups=8,
    )


def sizes(n: int, device: str, side: int = SIDE, odd: float = 0.0) -> Tensor:
    """SDXL's size conditions [n, 6]: original size, crop corner, target size; of a share `odd` not the plain ones."""
    ids = torch.tensor([side, side, 0, 0, side, side], device=device, dtype=torch.float32).repeat(n, 1)
    if odd:
        few = torch.rand(n, device=device) < odd
        original = torch.randint(128, 1024, (n, 1), device=device).float()
        ids[:, :2] = torch.where(few[:, None], original, ids[:, :2])
        few = torch.rand(n, device=device) < odd / 2
        ids[:, 2:4] = torch.where(few[:, None], torch.randint(0, 32, (n, 2), device=device).float(), ids[:, 2:4])
    return ids


class Text:
    """Prompts -> (states [n, 77, 224], pooled [n, 128]) as SDXL's pipeline has them: the last but one of both."""

    def __init__(self, work: str, device: str) -> None:
        self.device = device
        self.tokenizers = [CLIPTokenizer.from_pretrained(f"{work}/{n}") for n in ("tokenizer", "tokenizer_2")]
        self.encoders = [
            CLIPTextModel.from_pretrained(f"{work}/text_encoder").float().to(device).eval(),
            CLIPTextModelWithProjection.from_pretrained(f"{work}/text_encoder_2").float().to(device).eval(),
        ]

    @torch.no_grad()
    def __call__(self, texts: list[str]) -> tuple[Tensor, Tensor]:
        states, pooled = [], []
        for start in range(0, len(texts), 500):
            some, both = texts[start : start + 500], []
            for tokenizer, encoder in zip(self.tokenizers, self.encoders, strict=True):
                ids = tokenizer(
                    some, padding="max_length", truncation=True, max_length=77, return_tensors="pt"
                ).input_ids
                out = encoder(ids.to(self.device), output_hidden_states=True)
                both.append(out.hidden_states[-2])
            states.append(torch.cat(both, -1))
            pooled.append(out.text_embeds)
        return torch.cat(states), torch.cat(pooled)

    def span(self, text: str, names: list[str]) -> tuple[int, int] | None:
        """The tokens of the longest of these names in a prompt, counted from the start-of-text token."""
        ids = self.tokenizers[0](text, truncation=True, max_length=77).input_ids
        for name in sorted(names, key=len, reverse=True):
            part = self.tokenizers[0](name).input_ids[1:-1]
            for i in range(1, len(ids) - len(part)):
                if ids[i : i + len(part)] == part:
                    return i, i + len(part)
        return None


@dataclass
class Bank:
    """Latents [n, 4, s, s], text states [n, 77, 224] and pooled [n, 128] of n scenes, on the device."""

    z: Tensor
    states: Tensor
    pooled: Tensor
    texts: list[str]


def stretch(
    rows: scenes.Rows, names: list[list[str]], text: Text, share: float, seed: int
) -> list[tuple[int, int, int, float]]:
    """Gives a share of the scenes a weighted subject: changes their scales, and returns (row, from, to, weight)."""
    rng, found = random.Random(seed), []
    for i in range(len(rows)):
        kind = int(rows.kind[i])
        if rng.random() >= share or kind == 2 or int(rows.size[i]):
            continue
        which = rng.randrange(2) if kind == 1 else 0
        span = text.span(rows.texts[i], names[int(rows.k[i, which])])
        if span is None:
            continue
        weight = 1.1 ** rng.randint(1, 4)
        if kind == 0:
            rows.scale[i, 0] = min(1.1, scenes.SCALE * weight**0.55)
        else:
            large, small = scenes.PAIR * weight**0.6, scenes.PAIR / weight**0.6
            axis = 0 if float(rows.at[i, 0, 0]) else 1
            for j in (0, 1):
                scale = large if j == which else small
                rows.scale[i, j] = scale
                rows.at[i, j, axis] = (-0.495 + scale / 2) if j == 0 else (0.495 - scale / 2)
        found.append((i, *span, weight))
    return found


@torch.no_grad()
def make_bank(
    work: str,
    n: int,
    seed: int,
    device: str,
    side: int = SIDE,
    studio: bool = False,
    change=None,  # type: ignore[no-untyped-def]
    prefix: str = "",
    share: float = 0.125,
) -> Bank:
    """`change` alters the pictures before they are encoded; `prefix` is put before a third of the captions."""
    art, text = scenes.Art(work, device), Text(work, device)
    vae = AutoencoderKL.from_pretrained(f"{work}/vae").float().to(device).eval().to(memory_format=torch.channels_last)
    rows = scenes.Scenes(art).draw(n, seed)
    weighted = stretch(rows, art.names, text, share, seed)
    if prefix:
        rng = random.Random(seed)
        rows.texts = [prefix + t if rng.random() < 0.35 else t for t in rows.texts]
    z, states, pooled = [], [], []
    for start in range(0, n, 250):
        index = torch.arange(start, min(n, start + 250))
        x = scenes.compose(art, rows[index], side, studio)
        x = change(x) if change else x
        with torch.autocast(device, torch.bfloat16):
            mean = vae.encode(x.contiguous(memory_format=torch.channels_last)).latent_dist.mean
        z.append(mean.float() * vae.config.scaling_factor)
        h, p = text(rows.texts[start : start + 250])
        states.append(h.bfloat16())
        pooled.append(p)
    bank = Bank(torch.cat(z), torch.cat(states), torch.cat(pooled), rows.texts)
    empty = text([""])[0][0].bfloat16()
    if weighted:
        which, begin, end, weight = (torch.tensor(c, device=device) for c in zip(*weighted, strict=True))
        place = torch.arange(77, device=device)
        inside = (place >= begin[:, None]) & (place < end[:, None])
        factor = torch.where(inside, weight[:, None], 1.0)[..., None].bfloat16()
        bank.states[which] = empty + (bank.states[which] - empty) * factor
    return bank


class Nothing:
    """What stands where there is no prompt: zeros (the pipeline's own for an empty negative prompt), the empty prompt,
    and prompts of nothing but what people write into negative prompts."""

    def __init__(self, text: Text) -> None:
        rng = random.Random(2)
        words = [", ".join(rng.sample(scenes.NEGATIVE, rng.randint(1, 6))) for _ in range(63)]
        self.states, self.pooled = text(["", *words])

    def drop(self, h: Tensor, p: Tensor) -> tuple[Tensor, Tensor]:
        n, device = len(h), h.device
        q = torch.rand(n, device=device)
        which = torch.where(q < 0.10, 0, torch.randint(1, 64, (n,), device=device))
        empty = (q < 0.12)[:, None]
        keep = (q >= 0.05).float()[:, None]
        p = torch.where(empty, self.pooled[which], p) * keep
        return torch.where(empty[..., None], self.states[which], h) * keep[..., None], p


def alphas(device: str) -> tuple[Tensor, Tensor]:
    """The cumulative alphas [1000], and each step's weight in the loss: soft min-SNR, gamma 5 (Hang et al. 2023)."""
    plain = {k: v for k, v in common.SCHEDULE.items() if k not in ("timestep_spacing", "steps_offset")}
    bar = DDPMScheduler(**plain).alphas_cumprod.to(device)
    snr = bar / (1 - bar)
    return bar, ((snr.clamp(max=5) + 0.3) / snr).clamp(max=10)


def trainable(unet: UNet2DConditionModel, compiled: bool | int = True):  # type: ignore[no-untyped-def]
    """unet(x, t, states, pooled, sizes) -> predicted noise."""

    def run(x: Tensor, t: Tensor, h: Tensor, p: Tensor, ids: Tensor) -> Tensor:
        more = {"text_embeds": p, "time_ids": ids}
        return unet(x, t, h, added_cond_kwargs=more, return_dict=False)[0]

    return common.compiled(run, compiled)


@torch.no_grad()
def sample(
    unet: UNet2DConditionModel,
    cond: tuple[Tensor, Tensor],
    none: tuple[Tensor, Tensor] | None,
    steps: int = 25,
    guidance: float = 4.5,
    seed: int = 0,
    spacing: str = "leading",
    noise: Tensor | None = None,
    keep: list[Tensor] | None = None,
    side: int = SIDE,
) -> Tensor:
    """Plain Euler as the pipeline does it; latents [n, 4, side / 8, side / 8]. `none` None: without guidance."""
    device = cond[0].device
    scheduler = EulerDiscreteScheduler(**{**common.SCHEDULE, "timestep_spacing": spacing})
    scheduler.set_timesteps(steps)
    n = len(cond[0])
    if noise is None:
        noise = torch.randn(n, 4, side // 8, side // 8, generator=torch.Generator().manual_seed(seed))
    x = noise.to(device) * scheduler.init_noise_sigma
    states, pooled = (c.float() for c in cond)
    if none is not None:
        states, pooled = (torch.cat([u.float().expand_as(c), c]) for u, c in zip(none, (states, pooled), strict=True))
    run, ids = trainable(unet, compiled=False), sizes(len(states), str(device), side)
    for t in scheduler.timesteps:
        scaled = scheduler.scale_model_input(x, t)
        with torch.autocast(device.type, torch.bfloat16):
            both = torch.cat([scaled, scaled]) if none is not None else scaled
            e = run(both.contiguous(memory_format=torch.channels_last), t.to(device), states, pooled, ids).float()
        if none is not None:
            u, c = e.chunk(2)
            e = u + guidance * (c - u)
        x = scheduler.step(e, t, x).prev_sample
        if keep is not None:
            keep.append(x.clone())
    return x


@torch.no_grad()
def decode(vae: AutoencoderKL, z: Tensor) -> Tensor:
    with torch.autocast(z.device.type, torch.bfloat16):
        return torch.cat([vae.decode(c / vae.config.scaling_factor).sample.float() for c in z.split(50)])


def zeros(device: str) -> tuple[Tensor, Tensor]:
    """What the pipeline takes for an empty negative prompt (force_zeros_for_empty_prompt)."""
    return torch.zeros(1, 77, 224, device=device), torch.zeros(1, 128, device=device)


def noised(bank: Bank, batch: int, none: Nothing, bar: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
    """Scenes of a bank at random steps: noisy latents, steps, text states and pooled (at times nothing), the noise."""
    index = torch.randint(len(bank.z), (batch,), device=bar.device)
    z, (h, p) = bank.z[index], none.drop(bank.states[index].float(), bank.pooled[index])
    t = torch.randint(0, 1000, (batch,), device=bar.device)
    noise, a = torch.randn_like(z), bar[t][:, None, None, None]
    x = (a.sqrt() * z + (1 - a).sqrt() * noise).contiguous(memory_format=torch.channels_last)
    return x, t, h, p, noise


def fit(
    args, unet, banks: list[tuple[Bank, int, int]], none: Nothing, budget: common.Budget, rate: float, decay: float
):  # type: ignore[no-untyped-def]
    """Trains on noise prediction; `banks` are (bank, batch, turns in 16). Returns the averaged model."""
    device = args.device
    bar, weight = alphas(device)
    parameters = list(unet.parameters())
    optimizer = torch.optim.AdamW(parameters, rate, betas=(0.9, 0.99), weight_decay=0.01, fused=True)
    average = common.Average(unet, decay)
    run = trainable(unet, args.compile)
    turns = [i for i, (_, _, share) in enumerate(banks) for _ in range(share)]
    while budget.more():
        bank, batch, _ = banks[turns[budget.step % len(turns)]]
        x, t, h, p, noise = noised(bank, batch, none, bar)
        with torch.autocast(device, torch.bfloat16):
            e = run(x, t, h, p, sizes(batch, device, x.shape[-1] * 8, 0.1))
        loss = (((e.float() - noise) ** 2).mean((1, 2, 3)) * weight[t]).mean()
        common.update(optimizer, parameters, loss, budget.rate(rate, 200, 0.02))
        average.add()
        budget.tell(batch, loss=loss)
    return average.model


def main() -> None:
    args = common.arguments(__doc__ or "", 6, batch=256, lr=1.2e-3, bank=100000)
    device = args.device
    unet = make_unet().to(device).to(memory_format=torch.channels_last)
    if args.resume:
        unet.load_state_dict(UNet2DConditionModel.from_pretrained(f"{args.work}/unet").state_dict())
    if device != "cpu" and args.compile:
        # the compilation takes most of a minute: it is done while the other stages train
        for batch, side in ((args.batch, LATENT), (args.batch * 2, LATENT // 2)):
            x = torch.randn(batch, 4, side, side, device=device).contiguous(memory_format=torch.channels_last)
            h, p = torch.randn(batch, 77, 224, device=device), torch.randn(batch, 128, device=device)
            t = torch.randint(0, 1000, (batch,), device=device)
            with torch.autocast(device, torch.bfloat16):
                out = trainable(unet)(x, t, h, p, sizes(batch, device))
            out.float().mean().backward()
        unet.zero_grad(set_to_none=True)
        print("compiled", flush=True)
    for stage in ("autoencoder", "encoders"):
        common.wait_for(f"{args.work}/{stage}.json", args.until)
    started = time.time()
    main_bank = make_bank(args.work, args.bank, 101, device)
    small = make_bank(args.work, args.bank // 5, 102, device, side=128)
    text = Text(args.work, device)
    none = Nothing(text)
    print(
        "bank", len(main_bank.z), f"{time.time() - started:.0f}s latent std {float(main_bank.z.std()):.3f}", flush=True
    )
    budget = common.Budget(args, "denoiser")
    banks = [(main_bank, args.batch, 15), (small, args.batch * 2, 1)]
    unet = fit(args, unet, banks, none, budget, args.lr, 0.998)
    unet.to(memory_format=torch.contiguous_format).save_pretrained(f"{args.work}/unet")
    figures = {
        "steps": budget.step,
        "pictures": budget.step * args.batch,
        "parameters": sum(q.numel() for q in unet.parameters()),
        "bank": len(main_bank.z),
    }
    common.finish(args.work, "denoiser", figures)
    vae = AutoencoderKL.from_pretrained(f"{args.work}/vae").float().to(device).eval()
    drawn = decode(vae, sample(unet, text(PROBE), zeros(device)))
    scenes.sheet(list(drawn), f"{args.work}/denoiser.png", 8, PROBE, 0.6)


if __name__ == "__main__":
    main()
