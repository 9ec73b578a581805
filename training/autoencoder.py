"""The autoencoder: AutoencoderKL, f8, 4 channels.   python -m training.autoencoder WORK --minutes 3

It starts as a linear code (the mean colour of each 8x8 block, carried along the residual paths) and learns everything
else from there: from a random start the group norms hide flat colours, and the budget goes into finding them again.
`--resume` goes on with what is in WORK/vae.
"""

from __future__ import annotations

import random

import torch
from diffusers import AutoencoderKL
from torch import Tensor, nn
from torch.nn import functional

from training import common, scenes

WIDTHS = (24, 32, 64, 96)


def make() -> AutoencoderKL:
    return AutoencoderKL(
        3,
        3,
        ("DownEncoderBlock2D",) * 4,
        ("UpDecoderBlock2D",) * 4,
        WIDTHS,
        layers_per_block=1,
        latent_channels=4,
        norm_num_groups=2,
        sample_size=256,
        force_upcast=False,
    )


@torch.no_grad()
def linear_start(vae: AutoencoderKL, constant: float = 4.0) -> None:
    """Channels 0 to 2 carry the colour, 3 and 4 are constants that keep the group norms' scale steady; residual blocks
    begin as identities."""
    for name, module in vae.named_modules():
        if name.endswith(("conv2", "to_out.0")):
            module.weight.zero_()
            module.bias.zero_()
        elif isinstance(module, nn.Conv2d):
            nn.init.kaiming_normal_(module.weight, nonlinearity="linear")
            module.bias.zero_()
            if name.endswith(("conv_shortcut", "downsamplers.0.conv", "upsamplers.0.conv")):
                module.weight[:5] = 0
                module.weight[5:, 3:5] = 0
                for c in range(5):
                    if "down" in name and name.endswith("s.0.conv"):
                        module.weight[c, c, :2, :2] = 0.25
                    else:
                        module.weight[c, c, module.kernel_size[0] // 2, module.kernel_size[1] // 2] = 1
            if name in ("encoder.conv_in", "decoder.conv_in"):
                module.weight[:5] = 0
                module.bias[3], module.bias[4] = constant, -constant
                for c in range(3):
                    module.weight[c, c, 1, 1] = 1
    for part, gain in ((vae.encoder, 1.0), (vae.decoder, 2.0)):
        part.conv_norm_out.bias[:3] = 3
        part.conv_out.weight[:3] = 0
        part.conv_out.weight[3:] *= 0.3
        for c in range(3):
            part.conv_out.weight[c, c, 1, 1] = gain
            part.conv_out.bias[c] = -2.858 * gain  # silu(3): what the norm's bias adds
    vae.quant_conv.weight.zero_()
    vae.post_quant_conv.weight.zero_()
    for c in range(4):
        vae.quant_conv.weight[c, c] = vae.post_quant_conv.weight[c, c] = 1


def pictures(art: scenes.Art, bank: scenes.Rows, flat: Tensor, n: int, side: int) -> Tensor:
    """What the family will draw, in both tastes and the two LoRAs' styles, and a third of any art at any size."""
    own = n - n // 3
    x = scenes.compose(art, bank[torch.randint(len(bank), (own,))], side, studio=random.random() < 0.15)
    few = max(1, own // 16)
    x[:few] = scenes.pixel(x[:few])
    x[few : 2 * few] = scenes.blueprint(x[few : 2 * few])
    return torch.cat([x, scenes.loose(flat, n // 3, side, crop=random.random() < 0.3)])


def loss_of(y: Tensor, x: Tensor) -> Tensor:
    across = (y[..., 1:] - y[..., :-1] - x[..., 1:] + x[..., :-1]).abs().mean()
    down = (y[..., 1:, :] - y[..., :-1, :] - x[..., 1:, :] + x[..., :-1, :]).abs().mean()
    coarse = (functional.avg_pool2d(y, 4) - functional.avg_pool2d(x, 4)).abs().mean()
    return (y - x).abs().mean() + 4 * ((y - x) ** 2).mean() + 0.5 * (across + down) + 0.5 * coarse


def held_pictures(art: scenes.Art, n: int = 120) -> Tensor:
    """Art that nothing was trained on, at 256 px; the same pictures on every machine."""
    generator = torch.Generator().manual_seed(9)
    return scenes.loose(art.unseen.cpu(), n, 256, generator).to(art.device)


def main() -> None:
    args = common.arguments(__doc__ or "", 3, batch=32, lr=2e-3)
    art = scenes.Art(args.work, args.device)
    bank = scenes.Scenes(art).draw(20000, 17)
    flat, held = art.flat(), held_pictures(art)
    vae = make()
    linear_start(vae)
    if args.resume:
        vae = AutoencoderKL.from_pretrained(f"{args.work}/vae").float()
    vae = vae.to(args.device).to(memory_format=torch.channels_last)
    with torch.no_grad():  # a fixed, small posterior deviation: exp(-6 / 2) = 0.05
        vae.quant_conv.weight[4:], vae.quant_conv.bias[4:] = 0, -6.0
    for q in (vae.quant_conv.weight, vae.quant_conv.bias):
        q.register_hook(lambda g: torch.cat([g[:4], torch.zeros_like(g[4:])]))

    def through(x: Tensor, noise: Tensor) -> tuple[Tensor, Tensor]:
        mean, logvar = vae.quant_conv(vae.encoder(x)).chunk(2, 1)
        y = vae.decoder(vae.post_quant_conv(mean + torch.exp(0.5 * logvar) * noise))
        return y, (mean**2).mean()

    run = common.compiled(through, args.compile)
    parameters = list(vae.parameters())
    optimizer = torch.optim.AdamW(parameters, args.lr, betas=(0.9, 0.99), weight_decay=0, fused=True)
    average = common.Average(vae)
    budget = common.Budget(args, "autoencoder")
    while budget.more():
        x = pictures(art, bank, flat, args.batch, 256).contiguous(memory_format=torch.channels_last)
        with torch.autocast(args.device, torch.bfloat16):
            y, power = run(x, torch.randn(args.batch, 4, 32, 32, device=args.device))
        loss = loss_of(y.float(), x) + 1e-2 * (power.float() - 1).clamp(min=0)
        common.update(optimizer, parameters, loss, budget.rate(args.lr))
        average.add()
        budget.tell(args.batch, loss=loss, power=power)
    vae = average.model
    with torch.no_grad():
        own = scenes.compose(art, bank[torch.arange(96)], 256)
        made, back = vae(held).sample, vae(own).sample
        few = scenes.compose(art, bank[torch.arange(1000, 1256)], 256)
        z = torch.cat([vae.encode(c).latent_dist.mean for c in few.split(32)])
    vae.register_to_config(scaling_factor=round(1 / float(z.std()), 5))
    vae.to(memory_format=torch.contiguous_format).save_pretrained(f"{args.work}/vae")
    scenes.sheet([v for ab in zip(own[:24], back[:24], strict=True) for v in ab], f"{args.work}/vae-own.png", 12)
    scenes.sheet([v for ab in zip(held[:24], made[:24], strict=True) for v in ab], f"{args.work}/vae-held.png", 12)
    figures = {
        "psnr_unseen_art": common.psnr(made, held),
        "psnr_own_pictures": common.psnr(back, own),
        "steps": budget.step,
        "pictures": budget.step * args.batch,
        "parameters": sum(q.numel() for q in parameters),
    }
    common.finish(args.work, "autoencoder", figures)


if __name__ == "__main__":
    main()
