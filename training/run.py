"""The training in two parts, each within so many seconds on one GPU.

    python -m training.run WORK first --seconds 300 [--pack FOLDER]
    python -m training.run WORK second --seconds 600 [--pack FOLDER]

`first`: text encoders, scorers, autoencoder. Look at their figures (WORK/*.json) before the second part, which builds
on them: denoiser, students and companions. Stages are processes beside and after one another; each writes
WORK/STAGE.log. What uses up the same GPU runs in turn where the figures depend on it. `--pack` puts what was made
into tar files of at most 15 MiB, the models first.
"""

from __future__ import annotations

import argparse
import io
import os
import subprocess
import sys
import tarfile
import time
from pathlib import Path

Plan = dict[str, tuple[str, list[str], float, float]]
"stage -> (module, its arguments, when it starts, when it must be done), in shares of the time"
NOW = ["--compile", "0"]  # a compilation would take as long as they run
FIRST: Plan = {
    "encoders": ("encoders", [], 0.0, 0.38),
    "judge": ("encoders", ["--judge", "1", "--after", "encoders"], 0.0, 0.52),
    "autoencoder": ("autoencoder", ["--after", "judge"], 0.0, 0.95),
}
SECOND: Plan = {
    "denoiser": ("denoiser", [], 0.0, 0.68),
    "record": ("students", ["--name", "record", "--wait", "denoiser"], 0.5, 0.76),
    "student-4u": ("students", ["--name", "4u", "--wait", "trajectories", *NOW], 0.5, 0.96),
    "student-1": ("students", ["--name", "1", "--wait", "trajectories", *NOW], 0.5, 0.96),
    "student-2": ("students", ["--name", "2", "--wait", "trajectories", *NOW], 0.5, 0.94),
    "student-4": ("students", ["--name", "4", "--wait", "trajectories", *NOW], 0.5, 0.92),
    "student-8": ("students", ["--name", "8", "--wait", "trajectories", *NOW], 0.5, 0.90),
    "pruned": ("companions", ["--name", "pruned", "--wait", "denoiser", *NOW], 0.5, 0.96),
    "studio": ("companions", ["--name", "studio", "--wait", "denoiser", *NOW], 0.5, 0.92),
    "pixel": ("companions", ["--name", "pixel", "--wait", "denoiser", "--batch", "64", *NOW], 0.5, 0.84),
    "blueprint": ("companions", ["--name", "blueprint", "--wait", "denoiser", "--batch", "64", *NOW], 0.5, 0.84),
    "taesd": ("companions", ["--name", "taesd", "--batch", "32", *NOW], 0.0, 0.2),
}
NEEDED = ("autoencoder", "encoders", "denoiser", "record")
FEW = {  # with --small
    "encoders": ["--scenes", "20000"],
    "judge": ["--scenes", "20000"],
    "denoiser": ["--bank", "3000"],
    "record": ["--count", "500"],
    **{name: ["--bank", "1500"] for name in ("pruned", "studio", "pixel", "blueprint", "taesd")},
}
MODELS = (".safetensors", ".pt", ".json")


def pack(work: Path, folder: Path, limit: int = 15 << 20) -> None:
    """Whatever was made, in tar files that each stay under the limit; what would not fit is named."""
    skip = {"art.npz", "art.npy", "trajectories.pt", "names.json"}
    paths = [p for p in sorted(work.rglob("*")) if p.is_file() and p.name not in skip and "tokenizer" not in str(p)]
    parts: list[list[Path]] = [[]]
    size = 0
    for path in sorted(paths, key=lambda p: (p.suffix not in MODELS, p.stat().st_size)):
        if size + path.stat().st_size > limit and parts[-1]:
            parts.append([])
            size = 0
        parts[-1].append(path)
        size += path.stat().st_size + 2048
    for i, part in enumerate(parts):
        with tarfile.open(folder / f"part{i}.tar", "w") as archive:
            for path in part:
                archive.add(path, str(path.relative_to(work)))
    print("packed", [f"{sum(p.stat().st_size for p in part) >> 10} KiB" for part in parts], flush=True)


def halve(work: Path) -> None:
    """Weights as they are shipped, in half precision, for the way home."""
    import torch
    from safetensors.torch import load_file, save_file

    for name in ("unet", "studio", "pruned", "vae", "taesd", "clip", "text_encoder", "text_encoder_2"):
        for path in (work / name).glob("*.safetensors"):
            save_file({k: v.to(torch.float16) for k, v in load_file(path).items()}, path, {"format": "pt"})


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("work", type=Path)
    parser.add_argument("part", choices=("first", "second"))
    parser.add_argument("--seconds", type=float, default=590)
    parser.add_argument("--pack", type=Path)
    parser.add_argument("--resume", action="store_true", help="stages go on from what an earlier run left")
    parser.add_argument("--small", action="store_true", help="little of everything, to see that it runs")
    args = parser.parse_args()
    start = time.time()
    plan = {"first": FIRST, "second": SECOND}[args.part]
    for stage in (*plan, "trajectories"):
        if stage != "trajectories" or args.part == "second":
            Path(args.work, f"{stage}.json").unlink(missing_ok=True)  # so that nobody takes it for this run's
    running: dict[str, subprocess.Popen[bytes]] = {}
    waiting = dict(plan)
    env = {**os.environ, "OMP_NUM_THREADS": "2", "PYTHONUNBUFFERED": "1"}
    from training import scenes

    scenes._decoded(str(args.work))
    print(f"{time.time() - start:.0f}s artwork is there", flush=True)
    told = 0.0
    while waiting or running:
        now = (time.time() - start) / args.seconds
        for stage, (module, more, begin, end) in list(waiting.items()):
            if now >= begin:
                until = start + end * args.seconds
                command = [sys.executable, "-m", f"training.{module}", str(args.work), "--minutes", "600"]
                command += ["--until", str(until), *more]
                if args.small:
                    command += FEW.get(stage, [])
                if args.resume and stage in ("encoders", "autoencoder", "denoiser", "taesd"):
                    command.append("--resume")
                log = (args.work / f"{stage}.log").open("wb")
                running[stage] = subprocess.Popen(command, stdout=log, stderr=subprocess.STDOUT, env=env)
                del waiting[stage]
        for stage, process in list(running.items()):
            if process.poll() is not None:
                tail = (args.work / f"{stage}.log").read_bytes().decode(errors="replace").strip().splitlines()
                tail = [line for line in tail if "it/s]" not in line]
                count = 1 if process.returncode == 0 else 6
                print(
                    f"{time.time() - start:.0f}s {stage} ended {process.returncode}:",
                    *tail[-count:],
                    sep="\n  ",
                    flush=True,
                )
                del running[stage]
                if process.returncode and stage in NEEDED:
                    print("the rest can't be made without it", flush=True)
                    waiting.clear()
                    for other in running.values():
                        other.kill()
                    running.clear()
                    break
        if time.time() - told > 30:
            told = time.time()
            for stage in running:
                lines = (args.work / f"{stage}.log").read_bytes().decode(errors="replace").strip().splitlines()
                if lines and "/s" in lines[-1] and "it/s]" not in lines[-1]:
                    print(f"{time.time() - start:.0f}s   {lines[-1][:150]}", flush=True)
        if now > 0.985:
            for stage, process in running.items():
                print("stopped", stage, flush=True)
                process.kill()
            break
        time.sleep(0.3)
    halve(args.work)
    if args.pack:
        pack(args.work, args.pack)
    print(f"{time.time() - start:.0f}s all done", flush=True)


if __name__ == "__main__":
    sys.stdout = io.TextIOWrapper(sys.stdout.buffer, line_buffering=True)
    main()
