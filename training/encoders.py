"""Text encoders and scorers, trained contrastively.   python -m training.encoders WORK --minutes 3 [--judge 1]

Leaves WORK/clip (the shipped scorer: an image tower and the first text tower), WORK/text_encoder and
WORK/text_encoder_2 (what the denoiser listens to). With `--judge 1` it trains another scorer, WORK/judge.pt, which has
nothing in common with these but the scenes: a convolutional image tower, a text tower of its own, another seed. It is
not shipped; it checks that the generator didn't merely learn to please the scorer whose text tower it shares.
"""

from __future__ import annotations

import random

import torch
from torch import Tensor, nn
from torch.nn import functional
from transformers import (
    CLIPConfig,
    CLIPImageProcessor,
    CLIPModel,
    CLIPTextConfig,
    CLIPTextModel,
    CLIPTextModelWithProjection,
    CLIPTokenizer,
)

from training import common, scenes
from training.artwork import STYLES

SIDE = 96  # what the scorer looks at
MEAN, STD = 0.5, 0.5
SHORT = 40  # tokens that nearly every caption fits in; what comes after the end does not change what is before it


def text_config(width: int, vocabulary: int, act: str, pad: int, layers: int = 4) -> dict:
    return {
        "vocab_size": vocabulary,
        "hidden_size": width,
        "intermediate_size": 4 * width,
        "num_hidden_layers": layers,
        "num_attention_heads": 4,
        "max_position_embeddings": 77,
        "hidden_act": act,
        "projection_dim": 128,
        "bos_token_id": vocabulary - 2,
        "eos_token_id": vocabulary - 1,
        "pad_token_id": pad,
    }


class Judge(nn.Module):
    """The second scorer: `see` pictures [n, 3, 96, 96] in -1..1, `read` token ids; both [n, 128], unit length."""

    def __init__(self, vocabulary: int) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        width = 3
        for wide in (32, 64, 128, 192, 256):
            layers += [nn.Conv2d(width, wide, 3, 2, 1), nn.GroupNorm(8, wide), nn.SiLU()]
            layers += [nn.Conv2d(wide, wide, 3, 1, 1), nn.GroupNorm(8, wide), nn.SiLU()]
            width = wide
        self.body = nn.Sequential(*layers)
        self.image = nn.Linear(width * 9, 128)
        config = CLIPTextConfig(**text_config(112, vocabulary, "gelu", vocabulary - 1, layers=2))
        self.text = CLIPTextModelWithProjection(config)
        self.logit_scale = nn.Parameter(torch.tensor(2.6592))

    def see(self, x: Tensor) -> Tensor:
        return functional.normalize(self.image(self.body(x).flatten(1)).float(), dim=-1)

    def read(self, ids: Tensor) -> Tensor:
        return functional.normalize(self.text(ids).text_embeds.float(), dim=-1)


def scramble(x: Tensor) -> Tensor:
    """What generated pictures look like: soft, shifted, tinted, noisy."""
    n, side, device = len(x), x.shape[-1], x.device
    if random.random() < 0.5:
        small = functional.interpolate(x, size=random.choice([32, 48, 64, 80]), mode="area")
        x = functional.interpolate(small, size=side, mode="bilinear", align_corners=False)
    x = x + torch.randn(n, 3, 1, 1, device=device) * 0.08
    blocks = torch.randn(n, 3, 8, 8, device=device).repeat_interleave(side // 8, 2).repeat_interleave(side // 8, 3)
    x = x + blocks * random.random() * 0.15
    x = x * (1 + torch.randn(n, 1, 1, 1, device=device) * 0.1)
    return torch.roll(x, (random.randint(-4, 4), random.randint(-4, 4)), (2, 3))


def tokens(tokenizer: CLIPTokenizer, texts: list[str], device: str, length: int = 77) -> Tensor:
    found = tokenizer(texts, padding="max_length", truncation=True, max_length=length, return_tensors="pt")
    return found.input_ids.to(device)


class Teaching:
    """Scenes with their token ids on the device, and what the heads are to say of each."""

    def __init__(self, art: scenes.Art, tokenizer: CLIPTokenizer, n: int, seed: int, device: str) -> None:
        self.art, self.device = art, device
        self.rows = scenes.Scenes(art).draw(n, seed)
        self.ids = tokens(tokenizer, self.rows.texts, device, SHORT)
        rng = random.Random(seed)
        longer = [
            t + ", " + ", ".join(rng.sample(scenes.FLUFF, rng.randint(6, 20))) for t in self.rows.texts[: n // 12]
        ]
        self.long = tokens(tokenizer, longer, device)
        self.there = self.rows.to(device)

    def batch(self, n: int, long: bool) -> tuple[Tensor, Tensor]:
        """Indices and token ids."""
        index = torch.randint(len(self.long if long else self.rows), (n,))
        return index, (self.long if long else self.ids)[index.to(self.device)]

    def see(self, index: Tensor) -> Tensor:
        x = functional.avg_pool2d(scenes.compose(self.art, self.rows[index], 2 * SIDE), 2)
        return scramble(x) if random.random() < 0.7 else x

    def heads_loss(self, logits: Tensor, index: Tensor, weights: tuple[float, float, float, float]) -> Tensor:
        """Cross entropy of subject (halved between the two of a pair), style, background and size."""
        subjects = len(self.art.names)
        i = index.to(self.device)
        k, style, bg, size = self.there.k[i], self.there.style[i], self.there.bg[i], self.there.size[i]
        goal = functional.one_hot(k[:, 0], subjects).float()
        second = torch.where(
            (self.there.kind[i] == 1)[:, None], functional.one_hot(k[:, 1].clamp(min=0), subjects).float(), goal
        )
        styles = subjects + len(STYLES)
        return (
            weights[0] * functional.cross_entropy(logits[:, :subjects], (goal + second) / 2, label_smoothing=0.05)
            + weights[1] * functional.cross_entropy(logits[:, subjects:styles], style)
            + weights[2] * functional.cross_entropy(logits[:, styles : styles + 12], bg)
            + weights[3] * functional.cross_entropy(logits[:, styles + 12 :], size)
        )


def contrast(a: Tensor, b: Tensor, scale: Tensor) -> tuple[Tensor, Tensor]:
    """CLIP's symmetric loss (Radford et al. 2021), and how often the right one comes first."""
    goal = torch.arange(len(a), device=a.device)
    logits = scale * a @ b.T
    return (functional.cross_entropy(logits, goal) + functional.cross_entropy(logits.T, goal)) / 2, (
        logits.argmax(1) == goal
    ).float().mean()


def train_judge(args, teaching: Teaching, vocabulary: int) -> None:  # type: ignore[no-untyped-def]
    torch.manual_seed(4242)
    judge = Judge(vocabulary).to(args.device)
    heads = nn.Linear(128, len(teaching.art.names) + len(STYLES) + 15).to(args.device)
    parameters = [*judge.parameters(), *heads.parameters()]
    optimizer = torch.optim.AdamW(parameters, args.lr, betas=(0.9, 0.98), weight_decay=0.02, fused=True)
    budget = common.Budget(args, "judge")
    while budget.more():
        index, ids = teaching.batch(args.batch, budget.step % 12 == 0)
        with torch.autocast(args.device, torch.bfloat16):
            seen = judge.see(teaching.see(index))
            read = judge.read(ids)
        loss, right = contrast(seen, read, judge.logit_scale.clamp(max=4.6052).exp())
        loss = loss + 0.5 * teaching.heads_loss(heads(seen * 8).float(), index, (1, 0.5, 0.5, 0.3))
        common.update(optimizer, parameters, loss, budget.rate(args.lr))
        budget.tell(args.batch, loss=loss, right=right)
    torch.save(judge.state_dict(), f"{args.work}/judge.pt")
    common.finish(args.work, "judge", {"steps": budget.step, "pictures": budget.step * args.batch})


def main() -> None:
    args = common.arguments(__doc__ or "", 3, batch=768, lr=1.5e-3, judge=0, scenes=150000)
    device = args.device
    tokenizer = CLIPTokenizer.from_pretrained(f"{args.work}/tokenizer")
    vocabulary = len(tokenizer)
    art = scenes.Art(args.work, device)
    teaching = Teaching(art, tokenizer, args.scenes, 12 if args.judge else 11, device)
    if args.judge:
        train_judge(args, teaching, vocabulary)
        return
    vision = {
        "hidden_size": 128,
        "intermediate_size": 512,
        "num_hidden_layers": 5,
        "num_attention_heads": 4,
        "image_size": SIDE,
        "patch_size": 12,
        "projection_dim": 128,
        "hidden_act": "quick_gelu",
    }
    first = text_config(96, vocabulary, "quick_gelu", vocabulary - 1)
    clip = CLIPModel(CLIPConfig(text_config=first, vision_config=vision, projection_dim=128)).to(device)
    second = CLIPTextModelWithProjection(CLIPTextConfig(**text_config(128, vocabulary, "gelu", 0))).to(device)
    heads = nn.ModuleList([nn.Linear(128, len(art.names) + len(STYLES) + 15) for _ in range(3)]).to(device)
    if args.resume:
        clip = CLIPModel.from_pretrained(f"{args.work}/clip").to(device)
        second = CLIPTextModelWithProjection.from_pretrained(f"{args.work}/text_encoder_2").to(device)
        heads.load_state_dict(torch.load(f"{args.work}/heads.pt"))
    clip.train()
    second.train()
    parameters = [*clip.parameters(), *second.parameters(), *heads.parameters()]
    optimizer = torch.optim.AdamW(parameters, args.lr, betas=(0.9, 0.98), weight_decay=0.02, fused=True)
    budget = common.Budget(args, "encoders")

    def say(head: nn.Module, unit: Tensor) -> Tensor:
        return head(unit * 8).float()

    while budget.more():
        index, ids = teaching.batch(args.batch, budget.step % 12 == 0)
        alone = budget.done < 0.08 and not args.resume  # the texts alone first: what they name
        with torch.autocast(device, torch.bfloat16):
            read = clip.text_projection(clip.text_model(ids).pooler_output), second(ids).text_embeds
            if not alone:
                seen = clip.visual_projection(clip.vision_model(teaching.see(index)).pooler_output)
        unit = [functional.normalize(t.float(), dim=-1) for t in read]
        loss = sum(
            (0.5 if not alone else 1.0) * teaching.heads_loss(say(head, u), index, (1, 0.3, 0.3, 0.3))
            for head, u in zip(heads[1:], unit, strict=True)
        )
        right = torch.zeros(())
        if not alone:
            image = functional.normalize(seen.float(), dim=-1)
            scale = clip.logit_scale.clamp(max=4.6052).exp()
            for u in unit:
                part, right = contrast(image, u, scale)
                loss = loss + part
            loss = loss + teaching.heads_loss(say(heads[0], image), index, (1, 0.5, 0.5, 0.3))
        common.update(optimizer, parameters, loss, budget.rate(args.lr))
        budget.tell(args.batch, loss=loss, right=right)
    clip.eval()
    second.eval()
    clip.logit_scale.data.clamp_(max=4.6052)
    clip.save_pretrained(f"{args.work}/clip")
    CLIPImageProcessor(
        size={"shortest_edge": SIDE},
        crop_size={"height": SIDE, "width": SIDE},
        image_mean=[MEAN] * 3,
        image_std=[STD] * 3,
    ).save_pretrained(f"{args.work}/clip")
    tower = CLIPTextModel(CLIPTextConfig(**first))
    source = clip.state_dict()
    tower.load_state_dict({k: source[k if k in source else f"text_model.{k}"] for k in tower.state_dict()})
    tower.save_pretrained(f"{args.work}/text_encoder")
    second.save_pretrained(f"{args.work}/text_encoder_2")
    torch.save(heads.state_dict(), f"{args.work}/heads.pt")
    common.finish(args.work, "encoders", {"steps": budget.step, "pictures": budget.step * args.batch})


if __name__ == "__main__":
    main()
