"""Tiny recognisers of every family and sounds to hear, made on the spot."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from mnemos.sources.audio import Clip

RATE = 16_000
CONV = {"conv_dim": (16, 16, 16), "conv_kernel": (10, 3, 3), "conv_stride": (5, 4, 4)}
SHAPE = {
    "hidden_size": 16,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "intermediate_size": 32,
    "num_conv_pos_embeddings": 8,
    "num_conv_pos_embedding_groups": 2,
    "num_feat_extract_layers": 3,
    **CONV,
}


def sound(seconds: float, seed: int = 0, rate: int = RATE, **fields: Any) -> Clip:
    """A tone that wanders, in noise."""
    random = np.random.default_rng(seed)
    time = np.arange(round(seconds * rate)) / rate
    wave = 0.3 * np.sin(2 * np.pi * (200 + 100 * random.random()) * time * (1 + 0.1 * np.sin(5 * time)))
    noise = 0.01 * random.standard_normal(len(time))
    return Clip((wave + noise).astype(np.float32), rate, id=f"clip-{seed}", **fields)


def tiny_ctc(path: Path, family: str = "wav2vec2", norm: str = "layer", seed: int = 0) -> Path:
    """A complete directory of a random CTC model. family: wav2vec2, hubert, wavlm, data2vec-audio, wav2vec2-bert,
    parakeet. norm: "layer", or "group", which normalises over time."""
    import torch
    import transformers as t

    from mnemos.models.recognisers.whisper_ctc import vocabulary, write_tokenizer

    tokens = vocabulary()
    head = {"vocab_size": len(tokens), "pad_token_id": 0, "bos_token_id": None, "eos_token_id": None}
    # Nothing is drawn while training, so that steps can be computed again.
    dropouts = ("hidden", "attention", "activation", "feat_proj", "final", "conformer_conv")
    masks: dict[str, Any] = {f"{name}_dropout": 0.0 for name in dropouts} | {"layerdrop": 0.0}
    masks |= {"mask_time_prob": 0.0, "mask_feature_prob": 0.0}
    torch.manual_seed(seed)
    processor: Any = t.Wav2Vec2FeatureExtractor(return_attention_mask=norm == "layer")
    stable = {"do_stable_layer_norm": norm == "layer", "feat_extract_norm": norm}
    if family == "wav2vec2":
        network: Any = t.Wav2Vec2ForCTC(t.Wav2Vec2Config(**head, **SHAPE, **masks, **stable))
    elif family == "hubert":
        network = t.HubertForCTC(t.HubertConfig(**head, **SHAPE, **masks, **stable))
    elif family == "wavlm":
        network = t.WavLMForCTC(t.WavLMConfig(**head, **SHAPE, **masks, **stable))
    elif family == "data2vec-audio":
        network = t.Data2VecAudioForCTC(t.Data2VecAudioConfig(**head, **SHAPE, **masks, conv_pos_kernel_size=3))
    elif family == "wav2vec2-bert":
        shape = {name: SHAPE[name] for name in ("hidden_size", "num_hidden_layers", "num_attention_heads")}
        more = {"intermediate_size": 32, "feature_projection_input_dim": 16, "output_hidden_size": 16}
        network = t.Wav2Vec2BertForCTC(t.Wav2Vec2BertConfig(**head, **shape, **more, **masks))
        processor = t.SeamlessM4TFeatureExtractor(feature_size=8, num_mel_bins=8, stride=2)
    else:
        shape = {"hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 32}
        encoder = t.ParakeetEncoderConfig(**shape, num_mel_bins=16, subsampling_conv_channels=8)
        network = t.ParakeetForCTC(t.ParakeetCTCConfig(**head, encoder_config=encoder.to_dict()))
        processor = t.ParakeetFeatureExtractor(feature_size=16)
    network.eval().save_pretrained(path)
    processor.save_pretrained(path)
    write_tokenizer(path, tokens)
    return path


def tiny_whisper(path: Path, seed: int = 0, seconds: int = 2, context: int = 32) -> Path:
    """A complete directory of a random Whisper with a window of `seconds`, a decoder that writes up to `context`
    tokens, and a tokenizer of bytes."""
    import torch
    import transformers as t

    from tests.tiny import tiny_tokenizer

    tokenizer = tiny_tokenizer(chat=False)
    torch.manual_seed(seed)
    config = t.WhisperConfig(
        vocab_size=len(tokenizer),
        d_model=16,
        encoder_layers=2,
        decoder_layers=2,
        encoder_attention_heads=2,
        decoder_attention_heads=2,
        encoder_ffn_dim=32,
        decoder_ffn_dim=32,
        num_mel_bins=16,
        max_source_positions=50 * seconds,
        max_target_positions=context,
        pad_token_id=tokenizer.eos_token_id,
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
        decoder_start_token_id=tokenizer.bos_token_id,
        suppress_tokens=None,
        begin_suppress_tokens=None,
    )
    t.WhisperForConditionalGeneration(config).eval().save_pretrained(path)
    t.WhisperFeatureExtractor(feature_size=16, chunk_length=seconds).save_pretrained(path)
    tokenizer.save_pretrained(path)
    return path


def tiny_whisper_ctc(path: Path, characters: str = "abcdefghijklmnopqrstuvwxyz'", seed: int = 0) -> Path:
    """A complete directory of a random Whisper encoder with a CTC head."""
    import transformers as t

    from mnemos.models.recognisers.whisper_ctc import give_head

    whisper = tiny_whisper(path.with_name(f"{path.name}-whisper"), seed)
    model = t.WhisperForConditionalGeneration.from_pretrained(whisper)
    return give_head(model, t.AutoFeatureExtractor.from_pretrained(whisper), path, characters, seed)
