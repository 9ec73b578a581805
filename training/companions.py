"""What stands beside the base.   python -m training.companions WORK --name studio --minutes 2

`studio`: a fine-tune of the base in another taste (a light behind, a shadow below; 3d where no style is named).
`pruned`: the base without its middle and its lowest transformers, distilled. `pixel`, `blueprint`: style LoRAs.
`taesd`: the preview decoder. `upscaler`: x4. `embeddings`: two textual inversions.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from pathlib import Path

import torch
from diffusers import AutoencoderKL, AutoencoderTiny
from safetensors.torch import save_file
from torch import Tensor, nn
from torch.nn import functional

from training import common, scenes
from training.autoencoder import held_pictures
from training.denoiser import (
    PROBE,
    Nothing,
    Text,
    alphas,
    decode,
    fit,
    make_bank,
    make_unet,
    noised,
    sample,
    sizes,
    trainable,
    zeros,
)
from training.students import add_lora, load, save_lora


def probe(args, unet, name: str) -> None:  # type: ignore[no-untyped-def]
    vae = AutoencoderKL.from_pretrained(f"{args.work}/vae").float().to(args.device).eval()
    drawn = decode(vae, sample(unet.eval(), Text(args.work, args.device)(PROBE), zeros(args.device)))
    scenes.sheet(list(drawn), f"{args.work}/{name}.png", 8, PROBE, 0.6)


def save_unet(unet, folder: str) -> None:  # type: ignore[no-untyped-def]
    unet.to(memory_format=torch.contiguous_format).save_pretrained(folder)


def studio(args) -> None:  # type: ignore[no-untyped-def]
    bank = make_bank(args.work, args.bank, 203, args.device, studio=True)
    unet = load(args.work, args.device).train()
    budget = common.Budget(args, "studio")
    none = Nothing(Text(args.work, args.device))
    unet = fit(args, unet, [(bank, args.batch, 16)], none, budget, args.lr or 6e-4, 0.995)
    save_unet(unet, f"{args.work}/studio")
    probe(args, unet, "studio")
    common.finish(args.work, "studio", {"steps": budget.step, "pictures": budget.step * args.batch})


def pruned(args) -> None:  # type: ignore[no-untyped-def]
    """Starts from the base's own blocks; learns from what the base says and from what is true, half each."""
    device = args.device
    teacher, unet = load(args.work, device), make_unet(pruned=True).to(device).to(memory_format=torch.channels_last)
    missing = unet.load_state_dict(teacher.state_dict(), strict=False)
    print("pruned: not in the base", len(missing.missing_keys), "left out", len(missing.unexpected_keys), flush=True)
    bank, none = make_bank(args.work, args.bank, 304, device), Nothing(Text(args.work, device))
    bar, weight = alphas(device)
    parameters = list(unet.parameters())
    peak = args.lr or 8e-4
    optimizer = torch.optim.AdamW(parameters, peak, betas=(0.9, 0.99), weight_decay=0.01, fused=True)
    average, run, ask = common.Average(unet, 0.995), trainable(unet, args.compile), trainable(teacher, compiled=False)
    budget = common.Budget(args, "pruned")
    while budget.more():
        x, t, h, p, noise = noised(bank, args.batch, none, bar)
        ids = sizes(args.batch, device, odd=0.1)
        with torch.autocast(device, torch.bfloat16):
            with torch.no_grad():
                taught = ask(x, t, h, p, ids).float()
            e = run(x, t, h, p, ids).float()
        off = 0.5 * ((e - noise) ** 2).mean((1, 2, 3)) + 0.5 * ((e - taught) ** 2).mean((1, 2, 3))
        loss = (off * weight[t]).mean()
        common.update(optimizer, parameters, loss, budget.rate(peak, 50, 0.02))
        average.add()
        budget.tell(args.batch, loss=loss)
    save_unet(average.model, f"{args.work}/pruned")
    probe(args, average.model, "pruned")
    count = sum(q.numel() for q in parameters)
    common.finish(
        args.work, "pruned", {"steps": budget.step, "pictures": budget.step * args.batch, "parameters": count}
    )


def style(args, name: str, change: Callable[[Tensor], Tensor], prefix: str) -> None:  # type: ignore[no-untyped-def]
    device = args.device
    bank = make_bank(args.work, min(args.bank, 12000), 405, device, change=change, prefix=prefix)
    unet, none = load(args.work, device).train(), Nothing(Text(args.work, device))
    parameters = add_lora(unet, 4)
    peak = args.lr or 1.5e-3
    optimizer = torch.optim.AdamW(parameters, peak, betas=(0.9, 0.99), weight_decay=0, fused=True)
    bar, weight = alphas(device)
    run, budget = trainable(unet, compiled=False), common.Budget(args, name)
    while budget.more():
        x, t, h, p, noise = noised(bank, args.batch, none, bar)
        with torch.autocast(device, torch.bfloat16):
            e = run(x, t, h, p, sizes(args.batch, device))
        loss = (((e.float() - noise) ** 2).mean((1, 2, 3)) * weight[t]).mean()
        common.update(optimizer, parameters, loss, budget.rate(peak, 30, 0.02))
        budget.tell(args.batch, loss=loss)
    save_lora(unet.eval(), f"{args.work}/style_lora/mini_{name}_lora.safetensors")
    probe(args, unet, name)
    common.finish(args.work, name, {"steps": budget.step, "pictures": budget.step * args.batch})


def taesd(args) -> None:  # type: ignore[no-untyped-def]
    """AutoencoderTiny for the family's latents (the idea and the architecture: Ollin Boer Bohan's TAESD)."""
    device = args.device
    art = scenes.Art(args.work, device)
    bank, flat = scenes.Scenes(art).draw(20000, 18), art.flat()
    vae = (
        AutoencoderKL.from_pretrained(f"{args.work}/vae")
        .float()
        .to(device)
        .eval()
        .to(memory_format=torch.channels_last)
    )
    tiny = AutoencoderTiny(
        encoder_block_out_channels=(24,) * 4,
        decoder_block_out_channels=(32, 32, 32, 32),
        num_encoder_blocks=(1, 1, 1, 1),
        num_decoder_blocks=(2, 2, 1, 1),
    )
    tiny = tiny.to(device).to(memory_format=torch.channels_last)
    if args.resume:
        tiny.load_state_dict(AutoencoderTiny.from_pretrained(f"{args.work}/taesd").state_dict())
    parameters = list(tiny.parameters())
    peak = args.lr or 2.5e-3
    optimizer = torch.optim.AdamW(parameters, peak, betas=(0.9, 0.99), weight_decay=0, fused=True)
    average = common.Average(tiny)

    def through(z: Tensor, x: Tensor) -> tuple[Tensor, Tensor]:
        return tiny.decoder(z), tiny.encoder(x)

    run, budget = common.compiled(through, args.compile), common.Budget(args, "taesd")
    while budget.more():
        own = args.batch - args.batch // 4
        x = scenes.compose(art, bank[torch.randint(len(bank), (own,))], 256, studio=random.random() < 0.15)
        few = max(1, own // 16)
        x[:few] = scenes.pixel(x[:few])
        x[few : 2 * few] = scenes.blueprint(x[few : 2 * few])
        x = torch.cat([x, scenes.loose(flat, args.batch // 4, 256)]).contiguous(memory_format=torch.channels_last)
        with torch.autocast(device, torch.bfloat16):
            with torch.no_grad():
                z = vae.encode(x).latent_dist.mean.float() * vae.config.scaling_factor
            noisy = (z + 0.05 * torch.randn_like(z)).contiguous(memory_format=torch.channels_last)
            y, e = run(noisy, x)
        y = y.float()
        across = (y[..., 1:] - y[..., :-1] - x[..., 1:] + x[..., :-1]).abs().mean()
        loss = (y - x).abs().mean() + 4 * ((y - x) ** 2).mean() + 0.5 * across + 0.3 * ((e.float() - z) ** 2).mean()
        common.update(optimizer, parameters, loss, budget.rate(peak))
        average.add()
        budget.tell(args.batch, loss=loss)
    tiny = average.model.to(memory_format=torch.contiguous_format)
    tiny.save_pretrained(f"{args.work}/taesd")
    held = held_pictures(art)
    with torch.no_grad():
        x = scenes.compose(art, bank[torch.arange(96)], 256)
        z, u = (torch.cat([vae.encode(c).latent_dist.mean for c in t.split(32)]) for t in (x, held))
        scale = vae.config.scaling_factor
        made, back = (tiny.decode(t * scale).sample for t in (z, u))
        full, whole = (torch.cat([vae.decode(c).sample for c in t.split(32)]) for t in (z, u))
    figures = {
        "psnr_own_pictures": common.psnr(made, x),
        "autoencoder_on_the_same": common.psnr(full, x),
        "psnr_unseen_art": common.psnr(back, held),
        "autoencoder_on_the_unseen": common.psnr(whole, held),
        "steps": budget.step,
        "parameters": sum(q.numel() for q in parameters),
    }
    common.finish(args.work, "taesd", figures)


class Compact(nn.Module):
    """SRVGGNetCompact, Real-ESRGAN's compact architecture (Wang et al. 2021)."""

    def __init__(self, features: int = 48, convs: int = 10, scale: int = 4) -> None:
        super().__init__()
        self.scale = scale
        body: list[nn.Module] = [nn.Conv2d(3, features, 3, 1, 1), nn.PReLU(features)]
        for _ in range(convs):
            body += [nn.Conv2d(features, features, 3, 1, 1), nn.PReLU(features)]
        self.body = nn.Sequential(*body, nn.Conv2d(features, 3 * scale * scale, 3, 1, 1))

    def forward(self, x: Tensor) -> Tensor:
        return functional.pixel_shuffle(self.body(x), self.scale) + functional.interpolate(
            x, scale_factor=self.scale, mode="nearest"
        )


def degrade(x: Tensor) -> Tensor:
    """Pictures in 0..1, four times smaller as a reduction makes them, at times a little soft or noisy, in 8 bits."""
    low = functional.interpolate(x, scale_factor=0.25, mode="area")
    if random.random() < 0.3:
        low = functional.interpolate(x, scale_factor=0.25, mode="bicubic", antialias=True).clamp(0, 1)
    if random.random() < 0.25:
        spread = random.uniform(0.25, 0.7)
        line = torch.exp(-(torch.arange(-2, 3.0, device=x.device) ** 2) / (2 * spread * spread))
        kernel = (line[:, None] * line[None]) / line.sum() ** 2
        low = functional.conv2d(
            functional.pad(low, (2,) * 4, mode="replicate"), kernel[None, None].expand(3, 1, 5, 5), groups=3
        )
    if random.random() < 0.25:
        low = low + torch.randn_like(low) * random.random() * 0.01
    return (low * 255).round().clamp(0, 255) / 255


def upscaler(args) -> None:  # type: ignore[no-untyped-def]
    device = args.device
    art = scenes.Art(args.work, device)
    flat = art.flat()
    net = Compact()
    for module in net.body:
        if isinstance(module, nn.Conv2d):
            nn.init.kaiming_normal_(module.weight, a=0.25)
            nn.init.zeros_(module.bias)
    with torch.no_grad():
        net.body[-1].weight *= 0.1
    net = net.to(device).to(memory_format=torch.channels_last)
    parameters = list(net.parameters())
    peak = args.lr or 1.5e-3
    optimizer = torch.optim.AdamW(parameters, peak, betas=(0.9, 0.99), weight_decay=0)
    average = common.Average(net)
    run, budget = common.compiled(net, args.compile), common.Budget(args, "upscaler")
    while budget.more():
        true = (scenes.loose(flat, args.batch, 128, crop=random.random() < 0.7) + 1) / 2
        low = degrade(true).contiguous(memory_format=torch.channels_last)
        with torch.autocast(device, torch.bfloat16):
            y = run(low).float()
        off = y - true
        # squared: with L1 the flat areas, where nothing is to be added, silence so small a network within a few steps
        edges = ((off[..., 1:] - off[..., :-1]) ** 2).mean() + ((off[..., 1:, :] - off[..., :-1, :]) ** 2).mean()
        loss = 30 * (off**2).mean() + 10 * edges
        common.update(optimizer, parameters, loss, budget.rate(peak))
        average.add()
        budget.tell(args.batch, loss=loss)
    net = average.model.to(memory_format=torch.contiguous_format)
    with torch.no_grad():
        true = (held_pictures(art) + 1) / 2
        low = (functional.interpolate(true, scale_factor=0.25, mode="area") * 255).round() / 255
        made = torch.cat([net(c).clamp(0, 1) for c in low.split(16)])
        plain = functional.interpolate(low, scale_factor=4, mode="bicubic").clamp(0, 1)
    Path(args.work, "upscaler").mkdir(exist_ok=True)
    save_file(
        {k: v.half().contiguous() for k, v in net.state_dict().items()}, f"{args.work}/upscaler/mini_x4.safetensors"
    )
    scenes.sheet([v * 2 - 1 for i in range(8) for v in (plain[i], made[i], true[i])], f"{args.work}/upscaler.png", 6)
    figures = {
        "psnr_unseen_art": common.psnr(made * 2 - 1, true * 2 - 1),
        "bicubic": common.psnr(plain * 2 - 1, true * 2 - 1),
        "steps": budget.step,
        "parameters": sum(q.numel() for q in parameters),
    }
    common.finish(args.work, "upscaler", figures)


# token -> what it means, as an ending of a prompt
INVERSIONS = {"mini_night": " on a black background", "mini_ink": ", ink style"}


def embeddings(args, vectors: int = 3) -> None:  # type: ignore[no-untyped-def]
    """Textual inversion (Gal et al. 2022), fitted to text states: prompts with the token get the states of prompts that
    say what it means."""
    text = Text(args.work, args.device)
    art = scenes.Art(args.work)
    plain = [
        r for r in scenes.Scenes(art).draw(3000, 506, pairs=0.1, counts=0).texts if "," not in r and " on " not in r
    ]
    figures: dict[str, float] = {}
    for token, meaning in INVERSIONS.items():
        out = {}
        for key, tokenizer, encoder in zip(("clip_l", "clip_g"), text.tokenizers, text.encoders, strict=True):
            encoder.requires_grad_(False)
            table = encoder.get_input_embeddings()
            began = tokenizer(meaning).input_ids[1:-1][:vectors]
            vector = nn.Parameter(table.weight[began].detach().clone().mean(0, keepdim=True).repeat(vectors, 1))
            with torch.no_grad():
                vector += 0.01 * torch.randn_like(vector)
            optimizer = torch.optim.Adam([vector], 5e-3)
            budget = common.Budget(args, f"{token} {key}", 1 / (2 * len(INVERSIONS)))
            slot, forward = len(tokenizer), table.forward

            def look_up(ids: Tensor, table=table, vector=vector) -> Tensor:  # type: ignore[no-untyped-def]
                return functional.embedding(ids, torch.cat([table.weight, vector]))

            while budget.more():
                some = random.sample(plain, 32)
                goal = tokenizer([t + meaning for t in some], padding="max_length", max_length=77).input_ids
                ids, longest = [], 0
                for t in some:
                    words = tokenizer(t).input_ids
                    row = [*words[:-1], *range(slot, slot + vectors), words[-1]]
                    longest = max(longest, len(row), len(tokenizer(t + meaning).input_ids))
                    ids.append((row + [tokenizer.pad_token_id] * 77)[:77])
                rows, wanted = (torch.tensor(r, device=args.device) for r in (ids, goal))
                with torch.no_grad():
                    there = encoder(wanted, output_hidden_states=True)
                table.forward = look_up
                here = encoder(rows, output_hidden_states=True)
                table.forward = forward
                # behind the end of both prompts: what the whole prompt comes to
                loss = functional.mse_loss(here.hidden_states[-2][:, longest:], there.hidden_states[-2][:, longest:])
                ends = [e.text_embeds if hasattr(e, "text_embeds") else e.pooler_output for e in (here, there)]
                loss = loss + functional.mse_loss(*ends)
                common.update(optimizer, [vector], loss, budget.rate(2e-2, 10))
                budget.tell(32, loss=loss)
            out[key] = vector.detach().half().contiguous()
            figures[f"{token} {key}"] = float(loss)
        Path(args.work, "embeddings").mkdir(exist_ok=True)
        save_file(out, f"{args.work}/embeddings/{token}.safetensors")
    common.finish(args.work, "embeddings", figures)


def main() -> None:
    args = common.arguments(__doc__ or "", 2, name="studio", batch=128, lr=0.0, bank=20000)
    stages: dict[str, Callable[[], None]] = {
        "studio": lambda: studio(args),
        "pruned": lambda: pruned(args),
        "pixel": lambda: style(args, "pixel", scenes.pixel, "pixel art, "),
        "blueprint": lambda: style(args, "blueprint", scenes.blueprint, "blueprint, "),
        "taesd": lambda: taesd(args),
        "upscaler": lambda: upscaler(args),
        "embeddings": lambda: embeddings(args),
    }
    stages[args.name]()


if __name__ == "__main__":
    main()
