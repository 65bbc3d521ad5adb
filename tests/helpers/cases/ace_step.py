"""ACE-Step 1 (comfy/ldm/ace/model.py)."""
from __future__ import annotations

import functools
from typing import Any
from unittest import mock

import comfy.ops
import reference
import tiny
import torch
from comfy.ldm.ace.lyric_encoder import ConformerEncoder

from cases import NO_TEXT_QUERIES, Case

_ACE = dict(audio_model="ace", in_channels=8, num_layers=2, attention_head_dim=32, num_attention_heads=2, mlp_ratio=2.0,
            out_channels=8, text_embedding_dim=24, lyric_encoder_vocab_size=100, lyric_hidden_size=32, max_position=64,
            ssl_latent_dims=[16], ssl_names=["mert"], ssl_encoder_depths=[1])
_THETA = 1000000.0
_NEGATIVES = "reference_negatives"


def _lyrics(length: int, seed: int) -> dict[str, Any]:
    return {"conditioning_lyrics": torch.randint(0, 100, (1, 6), generator=torch.Generator().manual_seed(seed)),
            "lyrics_strength": 0.9}


def _append_text(call: reference.RefCall) -> None:
    call.options[_NEGATIVES] = [n.tokens.double().expand(len(call.x), -1, -1) for n in call.negatives]
    call.text = [call.conds["c_crossattn"].shape[1], *(n.tokens.shape[1] for n in call.negatives)]


def _kinds(call: reference.RefCall, batch: int, queries: int, keys: int) -> tuple[str, str]:
    """Sound with [speaker][P][lyrics][N0 of each]."""
    prompt, negatives = call.prompt(call.text[0]), call.text_kinds[call.text[0]:]
    return "I" * queries, "B" + prompt + "B" * 6 + negatives


def _decode(model: Any, decode: Any, *, encoder_hidden_states: torch.Tensor, transformer_options: dict[str, Any],
            **kwargs: Any) -> torch.Tensor:
    """The model's decode, with negatives behind the lyrics, each numbered from 1."""
    negatives = transformer_options[_NEGATIVES]
    text = torch.cat([encoder_hidden_states, *map(model.genre_embedder, negatives)], dim=1)
    numbers = [*range(encoder_hidden_states.shape[1]), *(1 + i for n in negatives for i in range(n.shape[1]))]
    angles = torch.tensor(numbers).double()[:, None] * _THETA ** -(torch.arange(0, 32, 2) / 32).double()
    angles = torch.cat([angles, angles], dim=-1)
    rotations = iter([model.rotary_emb(text, seq_len=kwargs["hidden_states"].shape[-1]), (angles.cos(), angles.sin())])
    with mock.patch.object(model.rotary_emb, "forward", lambda *args, **kwargs: next(rotations)):
        return decode(encoder_hidden_states=text, transformer_options=transformer_options, **kwargs)


def _setup(base_model: Any) -> None:
    """The encoder of lyrics, whose size the model fixes at 80 million weights, with fewer channels; the reference's decode."""
    model = base_model.diffusion_model
    model.lyric_encoder = ConformerEncoder(32, 32, attention_heads=2, linear_units=32, num_blocks=1, static_chunk_size=0,
                                           dtype=base_model.get_dtype(), operations=comfy.ops.disable_weight_init)
    tiny.randomise(model.lyric_encoder)
    if base_model.get_dtype() == torch.float64:
        model.decode = functools.partial(_decode, model, model.decode)


_COMMON = dict(lengthen=_append_text, kinds=_kinds, setup=_setup, options=_lyrics, positions=True, no_mutants=NO_TEXT_QUERIES)

CASES = [
    Case("ace-step", "ACEStep", _ACE, (8, 16, 9), 24, **_COMMON),
    # as many tokens of sound as the prompt's 14 and a negative's 3
    Case("ace-step-17", "ACEStep", _ACE, (8, 16, 17), 24, **_COMMON),
]
