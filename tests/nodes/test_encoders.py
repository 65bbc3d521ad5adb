"""VSFTextEncode on every text encoder that ComfyUI has: the words' rows are kept, and nothing else.

What is a word is asked of ComfyUI itself, not of the pack: a hook on the encoder's transformer paints the states of the
positions that ComfyUI masks, and the paint shows where ComfyUI's own code then puts them in the conditioning.
"""
from __future__ import annotations

import ast
import functools
import gc
import inspect
import logging
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import cases
import comfy.hooks
import comfy.sd
import comfy.supported_models
import encoders
import pytest
import torch
import vsf
from comfy.sd1_clip import SDClipModel
from comfy_extras.nodes_hooks import SetClipHooks
from encoders import BADS, BLURRY, CANNOT_ENCODE, ENCODERS, LONG, PROMPTS
from vsf_pack.nodes.glue.reading.conditioning import WORDS, NegativePrompt, negative_prompts
from vsf_pack.nodes.glue.reading.tokens import known_rows, real_rows
from vsf_pack.nodes.vsf_text_encode import VSFTextEncode

import nodes

Conditioning = tuple[torch.Tensor, dict[str, Any]]

OTHERS = ("conditioning_llama3", "conditioning_mt5xl", "conditioning_byt5small")  # a second encoder's states, in the options
PER_ROW = ("attention_mask", "minimax_token_tags", "text_input_ids")
REAL, PADDING = 1.0, -1.0


class Case:
    """An encoder, built, and what ComfyUI makes of a text with it."""
    def __init__(self, name: str, **options: Any) -> None:
        self.encoder = ENCODERS[name]
        self.clip = encoders.build(self.encoder, **options)
        # here, so that they end with the case: some of the clips have tables of 250,000 tokens
        self.comfyui, self.vsf, self.words = map(functools.cache, (self.comfyui, self.vsf, self.words))

    def tokenize(self, text: str) -> Any:
        return self.clip.tokenize(text, generate_audio_codes=False)  # ACE-Step 1.5 would compose

    def comfyui(self, text: str) -> Conditioning:
        """What ComfyUI's own CLIPTextEncode gives."""
        (encoded, options), = self.clip.encode_from_tokens_scheduled(self.tokenize(text))
        return encoded, options

    def vsf(self, text: str) -> Conditioning:
        (encoded, options), = VSFTextEncode.execute(self.clip, text).args[0]
        return encoded, options

    def words(self, text: str) -> tuple[list[int], dict[str, list[int]]]:
        """The rows that are words: of the conditioning, and of those OTHERS that there are."""
        hooks = [m.transformer.register_forward_hook(paint, with_kwargs=True)
                 for m in self.clip.cond_stage_model.modules() if isinstance(m, SDClipModel)]
        (encoded, options), = self.clip.encode_from_tokens_scheduled(self.tokenize(text))
        for hook in hooks:
            hook.remove()
        rows = painted_real(encoded)
        if self.encoder.clip == "lt.ltxav_te":  # mixes the paint away, but has cut all padding off by then
            rows = list(range(sum(token != 0 for token, _ in self.tokenize(text)["gemma3_12b"][0])))
        elif self.encoder.clip in ("hidream_o1.HiDreamO1TE", "gpt_oss.lens_te"):  # no SDClipModel, and no padding
            rows = list(range(encoded.shape[1]))
        return rows, {name: painted_real(options[name]) for name in OTHERS if name in options}


def paint(module: torch.nn.Module, args: tuple, kwargs: dict[str, Any], outputs: tuple) -> tuple:
    """Makes every state of a position REAL or PADDING, as SDClipModel tells the transformer that it runs."""
    length = kwargs["embeds"].shape[1]
    mask = args[1] if args[1] is not None else torch.arange(length) < torch.tensor(kwargs["num_tokens"])[:, None]
    colours = torch.where(mask.bool(), REAL, PADDING)

    def painted(states: torch.Tensor) -> torch.Tensor:
        return colours.view(len(colours), *[1] * (states.ndim - 3), length, 1).expand_as(states).clone()
    return (*(None if states is None else painted(states) for states in outputs[:2]), *outputs[2:])


def painted_real(states: torch.Tensor) -> list[int]:
    """The rows, of (1, ..., L, C), that are REAL, prompt weights and zeroed padding allowed for."""
    return states.gt(0).any(dim=-1).flatten(0, -2).any(dim=0).nonzero().flatten().tolist()


@pytest.fixture(scope="module", params=ENCODERS)
def case(request) -> Iterator[Case]:
    gc.collect()
    yield Case(request.param)


@pytest.mark.parametrize("text", PROMPTS[1:])
def test_keeps_the_words_and_nothing_else(case, text):
    whole, whole_options = case.comfyui(text)
    kept, options = case.vsf(text)
    rows, others = case.words(text)
    assert torch.equal(kept, whole[..., rows, :])
    assert options.keys() - {WORDS} == whole_options.keys()
    for name, rows_of_other in others.items():
        assert torch.equal(options[name], whole_options[name][..., rows_of_other, :])
    for name in options.keys() & PER_ROW:
        assert torch.equal(options[name], whole_options[name][..., rows])
    assert options[WORDS] == len(rows) or (not rows and options[WORDS] == len(others["conditioning_llama3"]) > 0)


def test_empty_text_is_off(case):
    whole, whole_options = case.comfyui("")
    kept, options = case.vsf("")
    assert torch.equal(kept, whole) and options.keys() - {WORDS} == whole_options.keys(), "other nodes can read it"
    assert options[WORDS] == 0
    assert case.vsf(" \n")[1][WORDS] == 0


@pytest.mark.parametrize(("i", "text"), list(enumerate(PROMPTS[:3])))
def test_counts(case, i, text):
    """Counted once from ComfyUI's tokenizers and templates, so that a change in them does not go unnoticed."""
    if case.encoder.counts is None:
        pytest.skip("its vocabulary is not ComfyUI's own")
    assert (len(case.words(text)[0]), case.comfyui(text)[0].shape[-2]) == case.encoder.counts[i]


@pytest.mark.parametrize("text", [BLURRY, BADS])
def test_the_same_as_a_prompt_that_never_had_padding(case, text):
    """Padding taken out of the tokens by hand, before encoding."""
    if not case.encoder.independent:
        pytest.skip("its padding changes the states of the words, or is not all at one end")
    tokens = case.tokenize(text)
    bare = without_padding_by_hand(case.clip.tokenizer, tokens)
    (encoded, options), = case.clip.encode_from_tokens_scheduled(bare)
    kept, kept_options = case.vsf(text)
    torch.testing.assert_close(kept, encoded, rtol=1e-3, atol=1e-3)
    for name in options.keys() & OTHERS:
        if case.words(text)[1][name]:  # not where ComfyUI has a row of zeros for an encoder that is not there
            torch.testing.assert_close(kept_options[name], options[name], rtol=1e-3, atol=1e-3)


def without_padding_by_hand(tokenizer: Any, tokens: Any) -> Any:
    """CLIP's, which need 77 tokens, and lyrics as they are."""
    if isinstance(tokens, list):
        return [[pair for pair in section if pair[0] != tokenizer.pad_token] for section in tokens]
    out = dict(tokens)
    for key in out.keys() - {"l", "g", "lyrics"}:
        one = getattr(tokenizer, key, None) or getattr(tokenizer, f"clip_{key}")
        out[key] = without_padding_by_hand(one, out[key])
    return out


@pytest.mark.parametrize("name", ["SD 1", "SD 2", "SDXL", "SDXL refiner", "Stable Cascade", "SD 3 without T5", "SAM 3"])
@pytest.mark.parametrize("text", [BLURRY, LONG])
def test_clip_keeps_what_does_not_see_the_padding(name, text):
    """CLIP needs its padding, but is causal: other tokens after the end token change the rows of padding, and no others."""
    case = Case(name)
    tokens = case.tokenize(text)
    for section in (section for key in tokens.keys() - {"t5xxl"} for section in tokens[key]):
        end = [token for token, _ in section].index(49407) + 1
        section[end:] = [(320 + i, 1.0) for i in range(len(section) - end)]
    (encoded, _), = case.clip.encode_from_tokens_scheduled(tokens)
    same = (encoded == case.comfyui(text)[0]).all(dim=-1)[0]
    assert torch.equal(case.vsf(text)[0], encoded[:, same])


# -- further options and texts ----------------------------------------------------------------------------------------

def test_anima_keeps_t5s_tokens_too():
    """Token ids, which the diffusion model embeds; with the node T5TokenizerOptions they are padded."""
    case = Case("Anima")
    ids = case.clip.tokenizer.t5xxl.tokenizer("blurry hands")["input_ids"]
    case.clip.set_tokenizer_option("t5xxl_min_length", 20)
    assert case.comfyui("blurry (hands:1.5)")[1]["t5xxl_ids"].shape == (20,)
    _, options = case.vsf("blurry (hands:1.5)")
    assert options["t5xxl_ids"].tolist() == ids
    assert options["t5xxl_weights"].tolist() == [1.0] * (len(ids) - 2) + [1.5, 1.0]


def test_hunyuan_image_keeps_the_bytes_of_words_in_quotes():
    case = Case("HunyuanImage")
    assert "conditioning_byt5small" not in case.vsf("a sign")[1]
    whole, kept = case.comfyui('a sign "OPEN"')[1], case.vsf('a sign "OPEN"')[1]
    assert kept["conditioning_byt5small"].shape[1] == len('Text "OPEN". ') + 1
    assert torch.equal(kept["conditioning_byt5small"], whole["conditioning_byt5small"])


def test_minimax_keeps_the_tags_of_its_tokens():
    _, options = Case("MiniMax H3").vsf(BLURRY)
    assert options["minimax_token_tags"].tolist() == [1, 1]


def test_minimax_without_pictures_takes_a_plain_prompt():
    """As the template VSF 16 MiniMax H3 has it: VSF Prompt in the place of MiniMaxH3ImageToVideo."""
    case = Case("MiniMax H3")
    own = pytest.importorskip("comfy_extras.nodes_minimax_h3").MiniMaxH3ImageToVideo
    (theirs, their_options), = own.execute(case.clip, None, BLURRY, 64, 64, 22).args[0]
    encoded, options = case.comfyui(BLURRY)
    assert torch.equal(theirs, encoded) and options.keys() == their_options.keys()


@pytest.mark.parametrize("pictures", [0, 2])
def test_minimax_leaves_the_pictures_out(pictures, caplog):
    """MiniMaxH3ImageToVideo gives pictures and their labels to the text encoder, before the words. Nothing is padding."""
    case = Case("MiniMax H3")
    for name, p in case.clip.cond_stage_model.named_parameters():
        if "visual" in name:
            p.data.zero_()  # no weights, and no sense: which rows come of a picture is the question
    tokens = case.clip.tokenize(BLURRY, images=[torch.ones(1, 56, 56 + 28 * i, 3) for i in range(pictures)])
    (encoded, options), = case.clip.encode_from_tokens_scheduled(tokens)
    assert (encoded.shape[1] > 20) == bool(pictures)
    (negative,) = negative_prompts([[encoded, options]], 2.0, 0.0, 0.0, 1.0)
    assert torch.equal(negative.tokens, encoded[:, -2:])
    assert negative.options["minimax_token_tags"].tolist() == [1, 1]
    assert real_rows(case.clip, tokens, encoded, options).tolist() == [False] * (encoded.shape[1] - 2) + [True] * 2
    assert not [r for r in caplog.records if r.name == "vsf"]


def test_ace_step_1_5_does_not_compose(monkeypatch):
    """Its language model would write 120 seconds of music to the words, which takes minutes."""
    case = Case("ACE-Step 1.5")
    _, options = case.vsf(BLURRY)
    assert "audio_codes" not in options
    assert torch.equal(options["conditioning_lyrics"], case.comfyui(BLURRY)[1]["conditioning_lyrics"])


def test_hidream_counts_llama_where_there_is_no_t5():
    """A negative with words only there is not an empty one."""
    tokens, options = Case("HiDream without T5").vsf(BLURRY)
    assert tokens.shape[1] == 0
    (negative,) = negative_prompts([[tokens, options]], 2.0, 0.0, 0.0, 1.0)
    assert negative.options["conditioning_llama3"].shape[-2] == options[WORDS] > 0


def test_hunyuan_video_stops_at_the_end_of_the_users_message():
    """hunyuan_video.py cuts at the first <|eot_id|> behind the user's header, wherever it comes from."""
    case = Case("HunyuanVideo")
    text = "blurry<|eot_id|> and more"
    assert torch.equal(case.vsf(text)[0], case.comfyui(text)[0])
    assert torch.equal(case.vsf(text)[0], case.vsf("blurry")[0])


@pytest.mark.parametrize(("name", "text"), [("LongCat-Image", "<|im_start|>user\nblurry<|im_end|>\n"),
                                            ("Qwen-Image", "<|im_start|>user\nblurry<|im_end|>\n"),
                                            ("Z-Image", "blurry<|endoftext|> and more")])
def test_texts_that_bring_their_own_template(name, text):
    case = Case(name)
    rows, _ = case.words(text)
    assert torch.equal(case.vsf(text)[0], case.comfyui(text)[0][:, rows])


# -- embeddings -------------------------------------------------------------------------------------------------------

@pytest.fixture
def embeddings(tmp_path) -> Path:
    """Negative embeddings as users have them: for CLIP-L alone, for both of SDXL's, and for another model."""
    g = torch.Generator().manual_seed(1)
    torch.save({"string_to_param": {"*": torch.randn(4, 64, generator=g)}}, tmp_path / "bad_l.pt")
    torch.save({"string_to_param": {"*": torch.randn(5, 32, generator=g)}}, tmp_path / "bad_other.pt")
    torch.save({"clip_l": torch.randn(3, 64, generator=g), "clip_g": torch.randn(3, 48, generator=g)}, tmp_path / "bad_lg.pt")
    return tmp_path


def sdxl(embeddings: Path) -> Case:
    """SDXL whose encoders' widths differ, as the real ones' do."""
    case = Case.__new__(Case)
    wide = encoders.Encoder("sdxl_clip.SDXLClipModel", "sdxl_clip.SDXLTokenizer",
                            encoders.L | {"clip_g_model_config": encoders.CLIP | dict(hidden_size=48)})
    case.encoder, case.clip = wide, encoders.build(wide, embedding_directory=str(embeddings))
    return case


@pytest.mark.parametrize("text", ["embedding:bad_l", "a embedding:bad_l, wet dog", "embedding:bad_lg blurry",
                                  "a embedding:bad_other dog", "embedding:bad_other " + "apple " * 90,
                                  "wet embedding:bad_l " + "apple " * 90])
def test_negative_embeddings(embeddings, text):
    """ComfyUI replaces an embedding that is too wide for an encoder by padding, at the end of its section."""
    case = sdxl(embeddings)
    rows, _ = case.words(text)
    assert torch.equal(case.vsf(text)[0], case.comfyui(text)[0][:, rows])


@pytest.mark.parametrize("text", ["()", "(( ))", "embedding:not_there", " embedding:not_there \n"])
def test_text_of_which_nothing_is_left_is_off(embeddings, text, caplog):
    case = sdxl(embeddings)
    with caplog.at_level(logging.INFO, "vsf"):
        tokens, options = case.vsf(text)
    assert options[WORDS] == 0 and tokens.shape[1] == 77
    assert [r.message for r in caplog.records if r.name == "vsf"] == ["VSF: the negative has no words, which turns it off"]


def test_long_clip():
    """comfy/text_encoders/long_clipl.py: sections of 248."""
    case = Case.__new__(Case)
    case.encoder = encoders.Encoder("sd1_clip.SD1ClipModel", "sd1_clip.SD1Tokenizer",
                                    {"clip_l_model_config": encoders.CLIP | dict(max_position_embeddings=248)},
                                    data={"clip_l_max_length": lambda: 248})
    case.clip = encoders.build(case.encoder)
    for text, total, words in ((BLURRY, 248, 3), (LONG, 248, 105), ("apple " * 300, 496, 248 + 56)):
        rows, _ = case.words(text)
        assert (len(rows), case.comfyui(text)[0].shape[1]) == (words, total)
        assert torch.equal(case.vsf(text)[0], case.comfyui(text)[0][:, rows])


# -- what it says -----------------------------------------------------------------------------------------------------

@pytest.mark.parametrize(("name", "message"), [
    ("SD 1", "VSF: kept 3 of 77 tokens of the negative"),
    ("Lens", "VSF: kept 12 of 12 tokens of the negative"),
    ("Anima", "VSF: kept 2 of 2 tokens of the negative; of t5xxl 3 of 3"),
    ("HiDream", "VSF: kept 3 of 128 tokens of the negative; of llama 3 of 128"),
    ("HunyuanDiT", "VSF: kept 4 of 77 tokens of the negative; of mt5xl 7 of 256"),
])
def test_says_once_what_it_kept(name, message, caplog):
    with caplog.at_level(logging.INFO, "vsf"):
        Case(name).vsf(BLURRY)
    assert [r.message for r in caplog.records if r.name == "vsf"] == [message]


@pytest.mark.parametrize("name", ["Mochi", "LongCat-Image", "PixelDiT", "Ovis", "Qwen-Image"])
def test_a_schedule_of_hooks_on_the_encoder(name, caplog):
    """One entry for each stretch of time, encoded alike: all are cut, and it is said once. ComfyUI drops the masks here."""
    case = Case(name)
    hooks = comfy.hooks.create_hook_lora({}, 1.0, 1.0)
    keyframes = comfy.hooks.HookKeyframeGroup()
    for start, strength in ((0.0, 1.0), (0.5, 0.5)):
        keyframes.add(comfy.hooks.HookKeyframe(strength, start))
    hooks.set_keyframes_on_hooks(keyframes)
    clip, = SetClipHooks().apply_hooks(case.clip, schedule_clip=True, apply_to_conds=True, hooks=hooks)
    with caplog.at_level(logging.INFO, "vsf"):
        conditioning = VSFTextEncode.execute(clip, BLURRY).args[0]
    assert [(o["clip_start_percent"], o["clip_end_percent"]) for _, o in conditioning] == [(0.0, 0.5), (0.5, 1.0)]
    assert len([r for r in caplog.records if r.name == "vsf"]) == 1
    assert all(torch.equal(tokens, case.vsf(BLURRY)[0]) for tokens, _ in conditioning)


# -- encoders that are not ComfyUI's ----------------------------------------------------------------------------------

class Unknown(torch.nn.Module):
    """An encoder of another pack: 5 rows of which 3 are words, in an order of its own."""
    dtypes = {torch.float32}

    def __init__(self, tells: str) -> None:
        super().__init__()
        self.tells = tells

    def encode_token_weights(self, tokens: Any) -> tuple[torch.Tensor, None, dict[str, torch.Tensor]]:
        states, mask = torch.ones(1, 5, 4), torch.tensor([[1, 0, 1, 0, 1]])
        return states * mask[..., None] if self.tells == "zeros" else states, None, {"attention_mask": mask} if (
            self.tells == "mask") else {}

    def set_clip_options(self, options: dict[str, Any]) -> None: ...

    def reset_clip_options(self) -> None: ...


def with_unknown_encoder(tells: str) -> comfy.sd.CLIP:
    clip = encoders.build(ENCODERS["SD 1"])
    clip.cond_stage_model = Unknown(tells)
    return clip


@pytest.mark.parametrize("tells", ["mask", "zeros"])
def test_an_unknown_encoder_that_tells_its_padding(tells, caplog):
    with caplog.at_level(logging.INFO, "vsf"):
        (tokens, options), = VSFTextEncode.execute(with_unknown_encoder(tells), BLURRY).args[0]
    assert tokens.shape[1] == options[WORDS] == 3
    assert [r.message for r in caplog.records if r.name == "vsf"] == ["VSF: kept 3 of 5 tokens of the negative"]


def test_an_unknown_encoder_that_does_not_keeps_everything(caplog):
    with caplog.at_level(logging.INFO, "vsf"):
        (tokens, options), = VSFTextEncode.execute(with_unknown_encoder(""), BLURRY).args[0]
    assert tokens.shape[1] == 5 and WORDS not in options
    (message,) = [r.message for r in caplog.records if r.name == "vsf"]
    assert message.startswith("VSF: the text encoder Unknown is not known, so all 5 tokens of the negative are kept")


def test_an_unknown_encoder_and_an_empty_text():
    (_, options), = VSFTextEncode.execute(with_unknown_encoder(""), "").args[0]
    assert options[WORDS] == 0


# -- ComfyUI's own text encode node -----------------------------------------------------------------------------------

# which encoders' output does not tell its padding (tokens.known_rows says why), and which have none and do not say so
DO_NOT_TELL = {"SD 2", "SDXL", "SDXL refiner", "Stable Cascade", "SD 3", "SD 3 without T5", "SD 3, T5 alone", "Flux",
               "CogVideoX", "ACE-Step 1.5", "HiDream", "HiDream without Llama", "LTX-2, first checkpoints"}
NO_PADDING = {"PixArt, Chroma", "PixArt, checkpoint", "Stable Audio 3", "ACE-Step", "HiDream-O1", "HunyuanVideo",
              "HunyuanImage", "HunyuanImage without ByT5", "HunyuanVideo 1.5", "Qwen-Image", "Kandinsky 5",
              "Kandinsky 5, image", "Krea 2", "MageFlow", "LTX-2", "LTX-2.3"}


def from_comfyui(case: Case, text: str) -> list[NegativePrompt]:
    tokens, options = case.comfyui(text)
    return negative_prompts([[tokens, options]], 2.0, 0.0, 0.0, 1.0)


@pytest.mark.parametrize("text", [BLURRY, BADS])
def test_padding_is_known_from_the_conditioning_alone_or_not_at_all(case, text, request):
    """Never another row than the words': where nothing is certain, nothing is taken away."""
    name = request.node.callspec.params["case"]
    whole, options = case.comfyui(text)
    rows = known_rows(whole, options)
    assert (rows is None) == (name in DO_NOT_TELL | NO_PADDING)
    if rows is not None:
        assert rows.nonzero().flatten().tolist() == case.words(text)[0]
    if name in NO_PADDING:
        assert len(case.words(text)[0]) == whole.shape[-2]


@pytest.mark.parametrize("name", ["SD 1", "Flux.2 Klein 4B", "Wan", "HunyuanDiT", "LongCat-Image", "Ovis", "PixelDiT"])
def test_an_ordinary_prompt_loses_its_padding_where_something_tells(name, caplog):
    case = Case(name)
    (negative,) = from_comfyui(case, BLURRY)
    tokens, options = case.vsf(BLURRY)
    assert torch.equal(negative.tokens, tokens)
    for key in negative.options.keys() & {*PER_ROW, *OTHERS, "attention_mask_mt5xl"}:
        assert torch.equal(negative.options[key], options[key])
    assert not [r for r in caplog.records if r.name == "vsf" and r.levelno >= logging.WARNING]


def test_the_pooled_vector_tells_of_one_section_of_the_last_layer_alone():
    """Of SD 1's encoder."""
    case = Case("SD 1")
    for text, words in (("", 2), (BLURRY, 3), ("a (red:1.3) apple", 5), ("apple " * 75, 77)):
        rows = known_rows(*case.comfyui(text))
        assert rows.tolist() == [True] * words + [False] * (77 - words)
    assert known_rows(*case.comfyui(LONG)) is None, "two sections: the second one's end is not known"
    whole, options = case.comfyui(BLURRY)
    assert known_rows(torch.cat([whole, whole], dim=1), options) is None
    skipped = case.clip.clone()
    skipped.clip_layer(-2)
    assert known_rows(*skipped.encode_from_tokens_scheduled(case.tokenize(BLURRY))[0]) is None


@pytest.mark.parametrize("name", ["HiDream", "SDXL", "Flux"])
def test_an_ordinary_prompt_of_which_nothing_tells(name, caplog):
    case = Case(name)
    (negative,) = from_comfyui(case, BLURRY)
    assert torch.equal(negative.tokens, case.comfyui(BLURRY)[0])
    assert ["use VSF Text Encode" in r.message for r in caplog.records if r.name == "vsf"] == [True]


def test_an_ordinary_empty_prompt_without_tokens():
    assert from_comfyui(Case("Lens"), "") == []


@pytest.mark.parametrize(("name", "model"), [
    ("Qwen-Image", "qwen-image"), ("Krea 2", "krea2"), ("HunyuanVideo", "hunyuan-video"), ("Kandinsky 5", "kandinsky5"),
    ("ACE-Step", "ace-step"), ("SDXL", "sdxl")])
def test_no_warning_of_padding_where_the_models_encoders_have_none(name, model, caplog):
    """The encoder's toy width is not the toy model's: the tokens are given it."""
    target = cases.BY_NAME[model]
    whole, options = Case(name).comfyui(BLURRY)
    tokens = torch.randn(1, whole.shape[1], target.width)
    vsf.guide(cases.load(model), [[tokens, {**options, **target.options(whole.shape[1], 3)}]])
    warned = [r.message for r in caplog.records if r.name == "vsf" and r.levelno >= logging.WARNING]
    assert bool(warned) == (name in DO_NOT_TELL)


# -- after ConditioningConcat ------------------------------------------------------------------------------------------

@pytest.mark.parametrize("name", ["SD 1", "SD 3", "Flux", "Wan", "Qwen-Image", "HiDream"])
def test_joined_prompts_are_the_words_of_both(name):
    """Words and words, words and nothing, nothing and words: of ComfyUI's own encoders, through both nodes."""
    case, concat = Case(name), nodes.ConditioningConcat().concat
    one, two, empty = (VSFTextEncode.execute(case.clip, text).args[0] for text in (BLURRY, BADS, ""))
    both = torch.cat([one[0][0], two[0][0]], dim=1)
    for negative, tokens in ((concat(one, two), both), (concat(one, empty), one[0][0]), (concat(empty, two), two[0][0]),
                             (concat(concat(empty, one)[0], two), both)):
        (prompt,) = negative_prompts(negative[0], 2.0, 0.0, 0.0, 1.0)
        assert torch.equal(prompt.tokens, tokens)
    assert negative_prompts(concat(empty, empty)[0], 2.0, 0.0, 0.0, 1.0) == []


# -- completeness -----------------------------------------------------------------------------------------------------

@pytest.mark.parametrize("name", CANNOT_ENCODE)
def test_what_comfyui_itself_cannot_encode(name):
    """If this stops failing, move the encoder to ENCODERS."""
    encoder, error, message = CANNOT_ENCODE[name]
    with pytest.raises(error, match=message):
        clip = encoders.build(encoder)
        clip.encode_from_tokens_scheduled(clip.tokenize(BLURRY))


def names(expression: ast.expr) -> list[str]:
    """The classes or functions that an expression in ComfyUI's loaders may name, without their arguments."""
    if isinstance(expression, ast.IfExp):
        return names(expression.body) + names(expression.orelse)
    name = ast.unparse(expression.func if isinstance(expression, ast.Call) else expression)
    return [{"variant.tokenizer": "gemma4.Gemma4Tokenizer"}.get(name, name.removeprefix("comfy.text_encoders."))]


def comfyui_can_load() -> set[tuple[str, str]]:
    """(text encoder, tokenizer) of load_text_encoder_state_dicts and of every supported model's clip_target."""
    found = set()
    for node in ast.walk(ast.parse(inspect.getsource(comfy.sd.load_text_encoder_state_dicts))):
        for block in (getattr(node, "body", None), getattr(node, "orelse", None)):
            target = {s.targets[0].attr: names(s.value) for s in block if isinstance(s, ast.Assign) and ast.unparse(
                s.targets[0]) in ("clip_target.clip", "clip_target.tokenizer")} if isinstance(block, list) else {}
            found |= {(clip, tokenizer) for clip in target.get("clip", []) for tokenizer in target.get("tokenizer", ["?"])}
    for node in ast.walk(ast.parse(inspect.getsource(comfy.supported_models))):
        if isinstance(node, ast.Call) and ast.unparse(node.func).endswith("ClipTarget"):
            found |= {(clip, tokenizer) for clip in names(node.args[1]) for tokenizer in names(node.args[0])}
    return found


def test_every_text_encoder_of_comfyui_is_tested_here():
    """A new one in ComfyUI fails here: add it to ENCODERS, and to tokens.LAYOUTS if the cases above then fail."""
    tested = {(e.clip, e.tokenizer) for e in [*ENCODERS.values(), *(e for e, *_ in CANNOT_ENCODE.values())]}
    assert len(comfyui_can_load()) > 50, "the search has lost its way in comfy/sd.py"
    assert comfyui_can_load() - tested == set()
