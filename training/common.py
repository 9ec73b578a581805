"""What every stage shares: its arguments, its time, its learning rate, its reports."""

from __future__ import annotations

import argparse
import copy
import json
import math
import os
import random
import time
from pathlib import Path

import torch
from torch import nn

# SDXL's noise schedule (Podell et al. 2023, section 2; the released model's scheduler_config.json)
SCHEDULE = {
    "num_train_timesteps": 1000,
    "beta_start": 0.00085,
    "beta_end": 0.012,
    "beta_schedule": "scaled_linear",
    "prediction_type": "epsilon",
    "timestep_spacing": "leading",
    "steps_offset": 1,
}


def arguments(text: str, minutes: float, **more: object) -> argparse.Namespace:
    """Reads `WORK --device --minutes --until --seed` and what else a stage takes; seeds everything."""
    parser = argparse.ArgumentParser(description=text, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("work")
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--minutes", type=float, default=minutes, help="of training, compilation not counted")
    parser.add_argument("--until", type=float, default=math.inf, help="seconds since 1970 at which it must be done")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--resume", action="store_true", help="go on from what an earlier run of this stage left")
    parser.add_argument("--compile", type=int, default=1, help="0: start at once, and run slower")
    parser.add_argument("--wait", default="", help="begin when WORK/STAGE.json of this stage is there")
    parser.add_argument(
        "--after", default="", help="take the first step, with its compilation, and go on after that stage"
    )
    for name, default in more.items():
        parser.add_argument(f"--{name}", type=type(default), default=default)
    args = parser.parse_args()
    if args.wait:
        wait_for(f"{args.work}/{args.wait}.json", args.until)
    random.seed(args.seed)
    torch.manual_seed(args.seed)
    if args.device == "cpu":
        torch.set_num_threads(int(os.environ.get("THREADS", os.cpu_count() or 1)))
        torch.set_flush_denormal(True)
    else:
        torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = True
        torch.backends.cudnn.benchmark = True
    return args


class Budget:
    """Counts a stage's time: `done` goes from 0 to 1. The first step, with its compilation, is free."""

    def __init__(self, args: argparse.Namespace, tag: str, share: float = 1.0) -> None:
        self.seconds, self.until, self.tag = args.minutes * 60 * share, args.until, tag
        self.after = f"{args.work}/{args.after}.json" if args.after else ""
        self.start: float | None = None
        self.end = math.inf
        self.step = 0
        self.told = time.time()

    @property
    def done(self) -> float:
        if self.start is None:
            return 0.0
        return min(1.0, (time.time() - self.start) / max(1e-6, self.end - self.start))

    def more(self) -> bool:
        """To be asked before each step."""
        if self.step == 1:
            if self.after:
                wait_for(self.after, self.until)
            self.start = time.time()
            self.end = min(self.start + self.seconds, self.until)
        if self.start is not None and self.done >= 1:
            return False
        self.step += 1
        return True

    def rate(self, peak: float, warm: int = 100, least: float = 0.01) -> float:
        """The learning rate now: a short rise, then half a cosine."""
        return peak * min(1.0, self.step / warm) * (least + (1 - least) * (0.5 + 0.5 * math.cos(math.pi * self.done)))

    def tell(self, batch: int, every: float = 10, **figures: float | torch.Tensor) -> None:
        """A line of progress, at most every so many seconds (reading a figure waits for the device)."""
        if self.start is None or time.time() - self.told < every:
            return
        self.told = time.time()
        spent = max(1e-6, self.told - self.start)
        values = " ".join(
            f"{name} {float(value.detach() if isinstance(value, torch.Tensor) else value):.4f}"
            for name, value in figures.items()
        )
        print(f"{self.tag} {self.step} {values} {(self.step - 1) * batch / spent:.0f}/s {spent:.0f}s", flush=True)


def update(optimizer: torch.optim.Optimizer, parameters: list[nn.Parameter], loss: torch.Tensor, rate: float) -> None:
    for group in optimizer.param_groups:
        group["lr"] = rate
    optimizer.zero_grad(set_to_none=True)
    loss.backward()
    torch.nn.utils.clip_grad_norm_(parameters, 1.0)
    optimizer.step()


class Average:
    """An exponential moving average of a model's parameters."""

    def __init__(self, model: nn.Module, decay: float = 0.998, every: int = 4) -> None:
        self.model = copy.deepcopy(model).eval().requires_grad_(False)
        self.pairs = list(self.model.parameters()), list(model.parameters())
        self.decay, self.every, self.seen = decay, every, 0

    @torch.no_grad()
    def add(self) -> None:
        self.seen += 1
        if self.seen % self.every == 0:
            decay = min(self.decay, (self.seen + 1) / (self.seen + 40)) ** self.every
            torch._foreach_lerp_(*self.pairs, 1 - decay)


def compiled(function, wanted: bool | int = True):  # type: ignore[no-untyped-def]
    """torch.compile for a fixed shape, where it is wanted; TORCH_COMPILE_DISABLE=1 does without anyway."""
    return torch.compile(function, dynamic=False) if wanted else function


def wait_for(path: str | Path, until: float) -> None:
    """Until another stage has left its result."""
    while not Path(path).exists():
        if time.time() > until:
            raise SystemExit(f"{path} did not come in time")
        time.sleep(0.2)


def finish(work: str, stage: str, figures: dict) -> None:
    """Writes WORK/STAGE.json, which also tells the stages that wait that this one is done."""
    print(stage, json.dumps(figures), flush=True)
    part = Path(work, f"{stage}.json.part")
    part.write_text(json.dumps(figures, indent=1))
    part.replace(Path(work, f"{stage}.json"))


def psnr(made: torch.Tensor, true: torch.Tensor) -> float:
    """Mean over pictures in -1..1, in dB."""
    error = ((made.float().clamp(-1, 1) - true) ** 2).mean((1, 2, 3)).clamp(min=1e-8)
    return float((10 * torch.log10(4 / error)).mean())
