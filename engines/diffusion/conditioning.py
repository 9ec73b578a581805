"""From a read prompt to what SDXL's UNet is conditioned on, through compel's encoder.

`engines.prompt` reads the text; this module builds compel's own objects from its tree and hands them to compel.
compel's parser never runs: it is exponential in nesting, keeps no places and raises on some inputs.

compel works on the CPU here, in fp32, on hidden states that the text encoders computed wherever they are: its
arithmetic is small, asks the device for nothing step by step, and what it works on is remembered outside the device's
memory. So after a weight has moved, no encoder runs again, save once for each part that is below 1 for the first time.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Hashable, Iterable
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, Generic, TypeVar

import torch

from engines import tokens
from engines.collecting import imports_that_stay
from engines.diffusion.embeddings import Embeddings, Speller
from engines.errors import InvalidRequest, PromptError
from engines.prompt import MAX_RATIO, Blend, Flat, Fragment, Prompt, Swap, parse
from engines.tokens import Length

if TYPE_CHECKING:
    from compel import Compel
    from transformers import CLIPTextModel, CLIPTextModelWithProjection, CLIPTokenizer

MAX_LOWERED = 512
"Parts below weight 1 times chunks: compel holds one encoding of a chunk for each, three times, at 0.4 MB in SDXL."

REMEMBERED_STATES = 256
"Encoder outputs that are kept, at 77 tokens each: at most 50 MB for SDXL in half precision."

REMEMBERED_PROMPTS = 8
"Finished encodings that are kept, 0.6 MB for each chunk."

_Value = TypeVar("_Value")


@dataclass(frozen=True, slots=True)
class TextEncoders:
    """SDXL's two text encoders with their tokenizers, as a pipeline holds them."""

    tokenizer: CLIPTokenizer
    "Of the first encoder; pads with the end-of-text token."
    tokenizer_2: CLIPTokenizer
    "Of the second; the same vocabulary, but it pads with '!'."
    text_encoder: CLIPTextModel
    "CLIP ViT-L in SDXL; any device and floating-point type."
    text_encoder_2: CLIPTextModelWithProjection
    "OpenCLIP ViT-bigG in SDXL; its projection is the pooled embedding."


@dataclass(frozen=True, slots=True, eq=False)
class Conditioning:
    """What the UNet is conditioned on. All tensors have the Conditioner's device and type, and are the caller's own."""

    embeds: torch.Tensor
    "(1, T, D): hidden states of both encoders side by side, D = 768 + 1280 in SDXL; T is 77 for each chunk."
    pooled: torch.Tensor
    "(1, P): the second encoder's projection of the plain text's first 77 tokens, P = 1280 in SDXL."
    negative_embeds: torch.Tensor | None
    "(1, T, D), padded like `embeds` to the longer of both; None without guidance."
    negative_pooled: torch.Tensor | None
    "(1, P); None without guidance."


class Conditioner:
    """Encodes prompts with one set of text encoders, and remembers what it computed.

    Args:
        encoders: the loaded components. They may move between devices; if their weights change, call `forget`.
        device: where results go.
        dtype: the type of results.

    Not for use by several threads at once.
    """

    def __init__(self, encoders: TextEncoders, device: torch.device | str, dtype: torch.dtype) -> None:
        self.encoders = encoders
        self.device = torch.device(device)
        self.dtype = dtype
        one, two = encoders.text_encoder, encoders.text_encoder_2
        self.embeddings = Embeddings((one.config.hidden_size, two.config.hidden_size))
        self._sides = (
            _Side(0, Speller(encoders.tokenizer, self.embeddings), one),
            _Side(1, Speller(encoders.tokenizer_2, self.embeddings), two),
        )
        self._prompts: _Recent[tuple[torch.Tensor, torch.Tensor]] = _Recent(REMEMBERED_PROMPTS)

    def learn(self, embeddings: Iterable[tuple[str, Path]]) -> None:
        """Makes these (name, file) the textual-inversion embeddings that prompts may name; those from before are not.

        Cheap: a file is opened when a prompt names it, and nothing that was remembered is lost. `engines.tokens` says
        how one is named.
        """
        self.embeddings.learn(embeddings)

    def lengths(self, prompt: Prompt) -> tuple[Length, Length]:
        """How long a prompt is for each encoder. Raises LoadError as `encode` does."""
        self._prepare(prompt)
        one, two = (tokens.measure(prompt, side.speller.spelled) for side in self._sides)
        return one, two

    def encode(
        self,
        prompt: Prompt,
        negative: Prompt | None,
        guided: bool,
        clip_skip: int | None = None,
        blank_is_zeros: bool = True,
    ) -> Conditioning:
        """Encodes a prompt and, for guidance, a negative prompt.

        Args:
            prompt: what to draw.
            negative: what to stay away from. None is nothing; a prompt without words is the encoded empty text.
            guided: whether the negative is needed; without, it is not computed.
            clip_skip: None takes the last hidden state but one, n the one n before it, of the prompt only: the
                negative prompt keeps the last but one, as in diffusers (`encode_prompt` of the SDXL pipeline).
            blank_is_zeros: whether None is zeros (SDXL's `force_zeros_for_empty_prompt`); else it is the encoded empty
                text. It asks for None only, as in diffusers.

        Raises:
            InvalidRequest: clip_skip is deeper than the encoders are.
            LoadError: an embedding that is named is missing, damaged, or made for another architecture.
            PromptError: the prompt has too many parts below weight 1 to be held in memory.
        """
        # The encoders may be called within someone's inference mode, but what is remembered must work outside it too.
        with torch.inference_mode(False), torch.no_grad():
            skip = self._checked(clip_skip)
            embeds, pooled = self._encoded(prompt, skip)
            if not guided:
                return Conditioning(self._handed(embeds), self._handed(pooled), None, None)
            if negative is None and blank_is_zeros:
                zeros = torch.zeros_like(embeds), torch.zeros_like(pooled)
                return Conditioning(*map(self._handed, (embeds, pooled, *zeros)))
            negative_embeds, negative_pooled = self._encoded(negative or parse(""), 0)
            length = max(embeds.shape[1], negative_embeds.shape[1])
            embeds = self._padded(embeds, length, skip)
            negative_embeds = self._padded(negative_embeds, length, 0)
            return Conditioning(*map(self._handed, (embeds, pooled, negative_embeds, negative_pooled)))

    @property
    def modules(self) -> tuple[Any, ...]:
        """What holds the weights, for whoever counts them."""
        return self.encoders.text_encoder, self.encoders.text_encoder_2

    def forget(self) -> None:
        """Drops all that was remembered; call it when the encoders' weights have changed."""
        self._prompts.clear()
        for side in self._sides:
            side.forget()

    def _checked(self, clip_skip: int | None) -> int:
        deepest = min(side.depth for side in self._sides) - 1  # the embeddings themselves are a hidden state too
        if clip_skip is not None and not 0 <= clip_skip <= deepest:
            raise InvalidRequest(f"clip skip must be 0 to {deepest} for this model, not {clip_skip}", "", "clip_skip")
        return clip_skip or 0

    def _encoded(self, prompt: Prompt, skip: int) -> tuple[torch.Tensor, torch.Tensor]:
        """((1, T, D), (1, P)) on the CPU in fp32, remembered."""
        key = prompt.tree, prompt.plains, skip, self._prepare(prompt)
        return self._prompts.get(key, lambda: self._encode(prompt, skip))

    def _prepare(self, prompt: Prompt) -> Hashable:
        """Reads the embeddings that a prompt names; what comes back is another if one of their files is."""
        return self.embeddings.prepare(tokens.named(prompt, self.embeddings.files))

    def _encode(self, prompt: Prompt, skip: int) -> tuple[torch.Tensor, torch.Tensor]:
        left, right = (side.embeds(prompt, skip) for side in self._sides)
        # Both tokenizers have one vocabulary in SDXL, so this pads nothing there.
        length = max(left.shape[1], right.shape[1])
        left, right = self._sides[0].padded(left, length, skip), self._sides[1].padded(right, length, skip)
        return torch.cat([left, right], dim=-1), self._pooled(prompt, skip)

    def _pooled(self, prompt: Prompt, skip: int) -> torch.Tensor:
        """(1, P): of the plain text; of a blend, the texts' pooled embeddings blended with its normalised weights."""
        second = self._sides[1]
        blend = prompt.tree.clauses[0]
        if not isinstance(blend, Blend):
            return second.pooled(prompt.plain, skip)
        weights = torch.tensor(blend.weights)
        total = weights.sum()
        # no_normalize scales the hidden states; a pooled embedding stays a mean of what it is made of where it can.
        if total.abs() * MAX_RATIO <= weights.abs().max():
            weights, total = torch.ones_like(weights), torch.tensor(float(len(weights)))
        pooled = torch.cat([second.pooled(plain, skip) for plain in prompt.plains])
        return (pooled * (weights / total)[:, None]).sum(dim=0, keepdim=True)

    def _padded(self, embeds: torch.Tensor, length: int, skip: int) -> torch.Tensor:
        """(1, T, D) with encodings of the empty prompt behind it, up to `length`, as compel pads."""
        if embeds.shape[1] == length:
            return embeds
        empty = torch.cat([side.empty(skip) for side in self._sides], dim=-1)
        return torch.cat([embeds] + [empty] * ((length - embeds.shape[1]) // empty.shape[1]), dim=1)

    def _handed(self, tensor: torch.Tensor) -> torch.Tensor:
        return tensor.to(device=self.device, dtype=self.dtype, copy=True)


class Single:
    """A text encoder alone, as Stable Diffusion 2's, of which the last hidden state is taken, normalized.

    Args:
        tokenizer: a CLIPTokenizer.
        encoder: a CLIPTextModel.
    """

    def __init__(self, tokenizer: Any, encoder: Any) -> None:
        width = encoder.config.hidden_size
        self._side = _Side(0, Speller(tokenizer, Embeddings((width, width))), encoder, last=True)

    def encode(self, *prompts: Prompt) -> torch.Tensor:
        """(len(prompts), T, D) in fp32 on the CPU, all padded to the longest; T is 77 for each chunk.

        Raises:
            PromptError: one has too many parts below weight 1 to be held in memory.
        """
        with torch.inference_mode(False), torch.no_grad():
            made = [self._side.embeds(prompt, 0) for prompt in prompts]
            length = max(one.shape[1] for one in made)
            return torch.cat([self._side.padded(one, length, 0) for one in made])


class _Side:
    """One text encoder: its compel objects, and its outputs by tokens.

    Args:
        last: take the last hidden state, which has gone through the last norm, and not the one before it.
    """

    def __init__(self, place: int, speller: Speller, encoder: Any, last: bool = False) -> None:
        self.last = last
        self.place = place
        self.speller = speller
        self.encoder = encoder
        self.depth: int = encoder.config.num_hidden_layers
        self.outputs: _Recent[tuple[torch.Tensor, torch.Tensor | None]] = _Recent(REMEMBERED_STATES)
        self.compels: dict[int, Compel] = {}

    def forget(self) -> None:
        self.outputs.clear()
        self.compels.clear()

    def compel(self, skip: int) -> Compel:
        """compel around this encoder, taking the hidden state `skip` before the last but one."""
        if skip not in self.compels:
            # Deferred: it brings every pipeline of diffusers with it (3.5 s), and counting tokens needs none of that.
            with imports_that_stay():
                from compel import Compel, ReturnedEmbeddingsType

            self.compels[skip] = Compel(
                tokenizer=self.speller,
                text_encoder=_StandIn(self, skip),
                truncate_long_prompts=False,
                returned_embeddings_type=ReturnedEmbeddingsType.PENULTIMATE_HIDDEN_STATES_NON_NORMALIZED,
                device="cpu",
            )
        return self.compels[skip]

    def embeds(self, prompt: Prompt, skip: int) -> torch.Tensor:
        """(1, T, d) in fp32 on the CPU: the clauses' encodings one behind the other.

        A clause's weight moves it away from the empty prompt, as compel's path for a single encoder defines it; its
        wrapper for SDXL raises there.
        """
        from compel.prompt_parser import Conjunction

        compel = self.compel(skip)
        encoded = []
        for clause, weight in zip(prompt.tree.clauses, prompt.tree.weights, strict=True):
            self.check(prompt, clause)
            made = compel.build_conditioning_tensor_for_conjunction(Conjunction([self.compel_object(clause)]))[0]
            if weight != 1:
                nothing = self.padded(self.empty(skip), made.shape[1], skip)
                made = nothing + (made - nothing) * weight
            encoded.append(made)
        return torch.cat(encoded, dim=1)

    def empty(self, skip: int) -> torch.Tensor:
        """(1, 77, d): the empty prompt."""
        empty: torch.Tensor = self.compel(skip).conditioning_provider.empty_z
        return empty

    def padded(self, embeds: torch.Tensor, length: int, skip: int) -> torch.Tensor:
        """(1, T, d) with encodings of the empty prompt behind it, up to `length`."""
        missing = (length - embeds.shape[1]) // self.speller.model_max_length
        return torch.cat([embeds] + [self.empty(skip)] * missing, dim=1) if missing else embeds

    def pooled(self, text: str, skip: int) -> torch.Tensor:
        """(1, P) in fp32 on the CPU: the projected embedding of the first 77 tokens."""
        ids = self.speller.first(text)
        pooled = self.output(ids, None, skip)[1]
        assert pooled is not None, "only an encoder with a projection has a pooled embedding"
        return pooled.float()

    def output(
        self, ids: torch.Tensor, mask: torch.Tensor | None, skip: int
    ) -> tuple[torch.Tensor, torch.Tensor | None]:
        """The encoder's (hidden state (1, 77, d), pooled embedding (1, P) if it has one) on the CPU, remembered.

        Args:
            ids: (1, 77) token ids on the CPU.
            mask: (1, 77), 0 where a token is not to be attended to; all ones is the same as None.
        """
        if mask is not None and bool(mask.all()):
            mask = None
        key = (skip, tuple(ids[0].tolist()), None if mask is None else tuple(mask[0].tolist()))
        return self.outputs.get(key, lambda: self.run(ids, mask, skip))

    def run(self, ids: torch.Tensor, mask: torch.Tensor | None, skip: int) -> tuple[torch.Tensor, torch.Tensor | None]:
        device = self.encoder.device
        with self.speller.embeddings.shown(self.encoder, self.place, ids) as known:
            made = self.encoder(
                known.to(device, torch.long), None if mask is None else mask.to(device), output_hidden_states=True
            )
        pooled = getattr(made, "text_embeds", None)
        states = made.last_hidden_state if self.last else made.hidden_states[-(skip + 2)]
        return states.cpu(), None if pooled is None else pooled.cpu()

    def compel_object(self, clause: Flat | Blend) -> Any:
        """The clause as compel's own object."""
        from compel import prompt_parser as compels

        if isinstance(clause, Blend):
            texts = [self.compel_object(flat) for flat in clause.clauses]
            return compels.Blend(texts, list(clause.weights), clause.normalize)
        made = []
        for fragment in _flattened(clause):
            # compel looks for the tokens of what it lowers, and raises where there are none.
            if fragment.weight < 1 and not self.speller.ids(fragment.text):
                continue
            made.append(compels.Fragment("", fragment.weight))
            made[-1].text = fragment.text  # the constructor would resolve escapes a second time
        return compels.FlattenedPrompt(made or [("", 1.0)])

    def check(self, prompt: Prompt, clause: Flat | Blend) -> None:
        for flat in _flats(clause):
            lowered = sum(fragment.weight < 1 for fragment in _flattened(flat))
            chunks = tokens.measure_text(flat, self.speller.spelled).chunks if lowered else 1
            if lowered * chunks > MAX_LOWERED:
                raise PromptError(
                    f"{lowered} parts below weight 1 in a prompt of {chunks} chunks are too many",
                    f"at most {MAX_LOWERED // chunks} fit in one as long; neighbours of equal weight count as one",
                    (0, len(prompt.text)),
                )


class _StandIn:
    """What compel takes for the text encoder: it answers from memory, and with the hidden state that is wanted.

    compel asks for the last hidden state but one, on its own device and in its own type.
    """

    device = torch.device("cpu")
    dtype = torch.float32

    def __init__(self, side: _Side, skip: int) -> None:
        self.side = side
        self.skip = skip

    def __call__(self, ids: torch.Tensor, mask: torch.Tensor | None = None, **_: Any) -> SimpleNamespace:
        return SimpleNamespace(hidden_states=(self.side.output(ids, mask, self.skip)[0].float(), None))


class _Recent(Generic[_Value]):
    """The last `size` values that were asked for, by key."""

    def __init__(self, size: int) -> None:
        self.size = size
        self.values: OrderedDict[Any, _Value] = OrderedDict()

    def get(self, key: Any, make: Callable[[], _Value]) -> _Value:
        if key in self.values:
            self.values.move_to_end(key)
            return self.values[key]
        value = make()
        self.values[key] = value
        while len(self.values) > self.size:
            self.values.popitem(last=False)
        return value

    def clear(self) -> None:
        self.values.clear()


def _flats(clause: Flat | Blend) -> tuple[Flat, ...]:
    return clause.clauses if isinstance(clause, Blend) else (clause,)


def _flattened(flat: Flat) -> Iterable[Fragment]:
    """The fragments that are encoded: of a swap, which is not applied, the original."""
    for piece in flat.fragments:
        if isinstance(piece, Swap):
            yield from piece.original
        else:
            yield piece
