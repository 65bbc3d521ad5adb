"""The testbed's text encoder: a two-layer T5 in ComfyUI's own text-encoder classes, as SD3's T5-only CLIP looks to
other code.

- `clip.tokenize(text)` gives {"t5xxl": [[(id, weight), ...]]}: end token 1, pad token 0, no start token, at least
  32 tokens.
- The conditioning is [1, 32 or more, 160]. As with SD3 and Flux in ComfyUI there is no attention mask: padding
  tokens attend, are attended, and carry states that are not empty. Removing them from a negative prompt therefore
  matters.
- The pooled output is zeros [1, 16]: SD3's vector path (`y`) carries nothing of the prompt, so that all of it goes
  through attention.

This file imports nothing but ComfyUI and is copied into custom_nodes with its two JSON files.
"""

from __future__ import annotations

import json
import os
import re

import comfy.sd
import comfy.text_encoders.t5
import torch
from comfy import sd1_clip

FOLDER = os.path.dirname(os.path.realpath(__file__))
MIN_LENGTH = 32
POOLED_WIDTH = 16


class WordTokenizer:
    """A closed vocabulary of lower-case words and the comma, with the calls that SDTokenizer makes of a Hugging
    Face tokenizer.
    """

    def __init__(self, vocabulary: dict[str, int]) -> None:
        self.vocabulary = vocabulary
        # Several words may share an id ("wheel", "wheels"); the first one listed stands for it.
        self.words: dict[int, str] = {}
        for word, index in vocabulary.items():
            self.words.setdefault(index, word)

    @classmethod
    def from_pretrained(cls, path: str) -> WordTokenizer:
        with open(path, encoding="utf-8") as handle:
            return cls(json.load(handle))

    def __call__(self, text: str) -> dict[str, list[int]]:
        words = re.findall(r"[a-z]+|,", text.lower())
        unknown = self.vocabulary["<unk>"]
        return {"input_ids": [*(self.vocabulary.get(word, unknown) for word in words), self.vocabulary["</s>"]]}

    def get_vocab(self) -> dict[str, int]:
        return {word: index for index, word in self.words.items()}

    def decode(self, ids: list[int], skip_special_tokens: bool = True) -> str:
        return " ".join(self.words[i] for i in ids if not (skip_special_tokens and i < 2))


class TestbedT5Tokenizer(sd1_clip.SDTokenizer):
    def __init__(self, embedding_directory: str | None = None, tokenizer_data: dict | None = None) -> None:
        super().__init__(
            os.path.join(FOLDER, "vocabulary.json"),
            pad_with_end=False,
            embedding_directory=embedding_directory,
            embedding_size=160,
            embedding_key="t5xxl",
            tokenizer_class=WordTokenizer,
            has_start_token=False,
            pad_to_max_length=False,
            max_length=99999999,
            min_length=MIN_LENGTH,
            tokenizer_data=tokenizer_data or {},
        )


class TestbedTokenizer(sd1_clip.SD1Tokenizer):
    """What `clip.tokenizer` is; the T5 tokenizer is its attribute `t5xxl`, as in SD3Tokenizer."""

    def __init__(self, embedding_directory: str | None = None, tokenizer_data: dict | None = None) -> None:
        super().__init__(embedding_directory, tokenizer_data or {}, tokenizer=TestbedT5Tokenizer, name="t5xxl")


class TestbedT5(sd1_clip.SDClipModel):
    def __init__(
        self, device: str = "cpu", dtype: torch.dtype | None = None, model_options: dict | None = None
    ) -> None:
        super().__init__(
            device=device,
            dtype=dtype,
            textmodel_json_config=os.path.join(FOLDER, "t5_config.json"),
            special_tokens={"end": 1, "pad": 0},
            model_class=comfy.text_encoders.t5.T5,
            enable_attention_masks=False,
            return_attention_masks=False,
            model_options=model_options or {},
        )


class TestbedClipModel(sd1_clip.SD1ClipModel):
    """What `clip.cond_stage_model` is; the T5 is its attribute `t5xxl`."""

    def __init__(
        self, device: str = "cpu", dtype: torch.dtype | None = None, model_options: dict | None = None
    ) -> None:
        super().__init__(
            device=device, dtype=dtype, model_options=model_options or {}, clip_model=TestbedT5, name="t5xxl"
        )

    def encode_token_weights(self, token_weight_pairs: dict[str, list]) -> tuple[torch.Tensor, torch.Tensor]:
        states, _ = super().encode_token_weights(token_weight_pairs)
        return states, torch.zeros(1, POOLED_WIDTH, device=states.device, dtype=states.dtype)


class Target:
    """The description from which comfy.sd.CLIP builds itself."""

    params: dict = {}
    clip = TestbedClipModel
    tokenizer = TestbedTokenizer


def load_clip(state_dict: dict[str, torch.Tensor], embedding_directory: str | None = None) -> comfy.sd.CLIP:
    """A CLIP from the T5's weights (keys as in any T5 file of ComfyUI: shared.weight, encoder.block.0. ...)."""
    parameters = sum(value.nelement() for value in state_dict.values())
    return comfy.sd.CLIP(
        Target(), embedding_directory=embedding_directory, parameters=parameters, state_dict=[state_dict]
    )
