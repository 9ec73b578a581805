"""A small x4 upscaler with random weights, in the layout of stabilityai/stable-diffusion-x4-upscaler."""

from __future__ import annotations

from pathlib import Path

import tiny
import torch


def folder(path: Path, seed: int = 0) -> Path:
    """The whole folder, as diffusers saves the pipeline."""
    from diffusers import (
        AutoencoderKL,
        DDIMScheduler,
        DDPMScheduler,
        StableDiffusionUpscalePipeline,
        UNet2DConditionModel,
    )
    from transformers import CLIPTextConfig, CLIPTextModel, CLIPTokenizer

    torch.manual_seed(seed)
    unet = UNet2DConditionModel(
        sample_size=128, in_channels=7, out_channels=4, block_out_channels=(16, 32, 32, 32), layers_per_block=1,
        down_block_types=("DownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D"),
        up_block_types=("CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "UpBlock2D"),
        attention_head_dim=8, cross_attention_dim=32, norm_num_groups=8, num_class_embeds=1000,
        only_cross_attention=(True, True, True, False), use_linear_projection=True,
    )  # fmt: skip
    vae = AutoencoderKL(
        block_out_channels=(16, 32, 32), down_block_types=("DownEncoderBlock2D",) * 3,
        up_block_types=("UpDecoderBlock2D",) * 3, layers_per_block=1, latent_channels=4, norm_num_groups=8,
        scaling_factor=0.08333, sample_size=256,
    )  # fmt: skip
    tokenizer = CLIPTokenizer.from_pretrained(tiny.tokenizer_folder(path / "tokenizer"))
    encoder = CLIPTextModel(
        CLIPTextConfig(
            vocab_size=len(tokenizer), hidden_size=32, intermediate_size=64, num_attention_heads=4,
            num_hidden_layers=2, max_position_embeddings=77, bos_token_id=tokenizer.bos_token_id,
            eos_token_id=tokenizer.eos_token_id, pad_token_id=tokenizer.pad_token_id,
        )
    )  # fmt: skip
    noise = {"beta_start": 0.0001, "beta_end": 0.02, "beta_schedule": "scaled_linear", "clip_sample": False}
    pipeline = StableDiffusionUpscalePipeline(
        vae=vae, text_encoder=encoder, tokenizer=tokenizer, unet=unet,
        low_res_scheduler=DDPMScheduler(beta_schedule="squaredcos_cap_v2", num_train_timesteps=1000),
        scheduler=DDIMScheduler(prediction_type="v_prediction", set_alpha_to_one=False, steps_offset=1, **noise),
        max_noise_level=350,
    )  # fmt: skip
    pipeline.save_pretrained(path, safe_serialization=True)
    return path
