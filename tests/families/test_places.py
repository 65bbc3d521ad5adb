"""Where a context's words stand: the model makes the same keys of them as of the same text in the prompt's place."""
from __future__ import annotations

import cases
import pytest
import torch
from vsf_pack.nodes.glue.attention.override import VSFAttention
from vsf_pack.nodes.glue.reading.contexts import ContextPrompt, known_words
from vsf_pack.nodes.glue.sampling.patch import attach

# that number their text, refine it or place the image by it; not Flux.2, which ends every prompt at the same number
NAMES = ("qwen-image", "qwen-image-masked", "longcat-image", "ovis-image", "omnigen2", "boogu", "ideogram4", "lens",
         "lens-masked", "ernie-image", "lumina2", "z-image", "newbie", "kandinsky5", "hunyuan-video", "hunyuan-video-i2v",
         "minimax-h3", "hidream-i1", "hidream-o1")


def first_keys(case, prompt: list, context: list, role) -> torch.Tensor:
    """The keys of a role's tokens in the first attention of the image, (B, H, L, D)."""
    found = []

    class Watch(VSFAttention):
        def join(self, layout, q, k, v, *args):
            if layout.has_image_queries and not found:
                found.append(torch.cat([k[..., s, :] for r, s in layout.key_spans(k.shape[-2]) if r == role], dim=-2).clone())
            return super().join(layout, q, k, v, *args)
    (tokens, options), = context
    negative = ContextPrompt(tokens, 1.0, options=options, own=known_words(tokens, options))
    case.sample(attach(cases.load(case.name), [negative], attention=Watch), prompt, steps=1)
    return found[0]


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("length", [12, 5])
def test_a_context_of_another_length_stands_where_it_would_as_the_prompt(name, length):
    case = cases.BY_NAME[name]
    prompt = case.conditioning(7, 1)
    pooled = {"pooled_output": prompt[0][1]["pooled_output"]}  # the model's modulation is by the prompt's
    context = case.conditioning(length, 3, **pooled)
    lane = first_keys(case, prompt, context, 0)
    assert torch.allclose(lane, first_keys(case, context, case.conditioning(9, 4, **pooled), "P"), atol=1e-6)
    assert lane.abs().sum() and not torch.allclose(lane, first_keys(case, case.conditioning(length, 5, **pooled),
                                                                    context, "P"), atol=1e-3)
