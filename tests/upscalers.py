"""Upscalers of random weights, in the layouts and spellings that were released, as small as is asked for."""

from __future__ import annotations

import hashlib
import re
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file

from engines.diffusion.nets import RRDBNet, SRVGGNetCompact

State = dict[str, torch.Tensor]
Shapes = dict[str, tuple[int, ...]]


def rrdb_shapes(blocks: int = 23, features: int = 64, growth: int = 32, into: int = 3, out: int = 3) -> Shapes:
    """Names and shapes of xinntao's files: RealESRGAN_x4plus as it stands, anime_6B of 6 blocks, x2plus from 12."""
    shapes: Shapes = {}

    def conv(name: str, rows: int, columns: int) -> None:
        shapes[f"{name}.weight"], shapes[f"{name}.bias"] = (rows, columns, 3, 3), (rows,)

    conv("conv_first", features, into)
    for i in range(blocks):
        for j in (1, 2, 3):
            for k in (1, 2, 3, 4, 5):
                conv(f"body.{i}.rdb{j}.conv{k}", features if k == 5 else growth, features + (k - 1) * growth)
    for name in ("conv_body", "conv_up1", "conv_up2", "conv_hr"):
        conv(name, features, features)
    conv("conv_last", out, features)
    return shapes


def compact_shapes(convs: int = 32, features: int = 64, scale: int = 4) -> Shapes:
    """Those of realesr-general-x4v3, or with 16 convolutions of realesr-animevideov3."""
    shapes: Shapes = {}
    for i in range(0, 2 * convs + 3, 2):
        rows = 3 * scale**2 if i == 2 * convs + 2 else features
        shapes[f"body.{i}.weight"], shapes[f"body.{i}.bias"] = (rows, features if i else 3, 3, 3), (rows,)
        if i < 2 * convs + 2:
            shapes[f"body.{i + 1}.weight"] = (features,)
    return shapes


def first_spelling(state: State, blocks: int) -> State:
    """ESRGAN's, as RRDB_PSNR_x4_old_arch.pth has it."""
    single = {
        "conv_first": "model.0", "conv_body": f"model.1.sub.{blocks}", "conv_up1": "model.3", "conv_up2": "model.6",
        "conv_hr": "model.8", "conv_last": "model.10",
    }  # fmt: skip
    made = {}
    for name, tensor in state.items():
        layer, _, kind = name.rpartition(".")
        if found := re.fullmatch(r"body\.(\d+)\.rdb(\d)\.conv(\d)", layer):
            made[f"model.1.sub.{found[1]}.RDB{found[2]}.conv{found[3]}.0.{kind}"] = tensor
        else:
            made[f"{single[layer]}.{kind}"] = tensor
    return made


def second_spelling(state: State) -> State:
    """ESRGAN's, as RRDB_ESRGAN_x4.pth has it."""
    single = {"conv_body": "trunk_conv", "conv_up1": "upconv1", "conv_up2": "upconv2", "conv_hr": "HRconv"}
    made = {}
    for name, tensor in state.items():
        first, _, rest = name.partition(".")
        made[
            re.sub(r"body\.(\d+)\.rdb", r"RRDB_trunk.\1.RDB", name)
            if first == "body"
            else f"{single.get(first, first)}.{rest}"
        ] = tensor
    return made


def rrdb(
    seed: int = 0, blocks: int = 1, features: int = 6, growth: int = 3, fold: int = 1, colours: int = 3
) -> RRDBNet:
    """A small one whose output fills 0 … 1 and depends on all that it sees."""
    torch.manual_seed(seed)
    net = RRDBNet(colours, features, growth, blocks, 2, fold)
    return _lively(net)


def compact(seed: int = 0, convs: int = 2, features: int = 6, scale: int = 4, colours: int = 3) -> SRVGGNetCompact:
    """As `rrdb`."""
    torch.manual_seed(seed)
    return _lively(SRVGGNetCompact(colours, features, convs, scale))


def _lively(net: Any) -> Any:
    with torch.no_grad():
        for name, weight in net.named_parameters():
            if weight.ndim == 4:
                torch.nn.init.kaiming_normal_(weight, a=0.2)
                if "rdb" in name:
                    weight.mul_(2)  # as only a fifth of it is added, twice
            elif name.endswith("bias"):
                weight.uniform_(-0.1, 0.1)
        if isinstance(net, RRDBNet):
            probe = net(torch.rand(1, net.colours, 32, 32))
            net.conv_last.weight.div_(4 * probe.std())
            net.conv_last.bias.fill_(0.5)
    return net.eval().requires_grad_(False)


def saved(net: torch.nn.Module, path: Path, wrapped: str = "") -> str:
    """Writes a file as its suffix says, a pickle's table under `wrapped`; its sha256."""
    state = {name: tensor.contiguous() for name, tensor in net.state_dict().items()}
    return saved_state(state, path, wrapped)


def saved_state(state: State, path: Path, wrapped: str = "") -> str:
    """As `saved`."""
    if path.suffix == ".safetensors":
        save_file(state, path)
    else:
        torch.save({wrapped: state} if wrapped else state, path)
    return hashlib.sha256(path.read_bytes()).hexdigest()
