"""Where the picture is among an attention's image tokens (nodes/glue/families/pictures.py): another value in one place of the
latent is another query at that place's token, and hardly elsewhere."""
from __future__ import annotations

from typing import Any

import cases
import comfy.sample
import pytest
import torch
from cases import Case
from cases.hidream import E1
from comfy.nested_tensor import NestedTensor
from vsf_pack.nodes.glue.attention.grid import Grid, cells_of, size_of
from vsf_pack.nodes.glue.attention.override import VSFAttention
from vsf_pack.nodes.glue.families.pictures import grid_of
from vsf_pack.nodes.glue.reading.conditioning import WORDS, negative_prompts
from vsf_pack.nodes.glue.sampling import patch


@pytest.fixture(params=[*cases.ALL, E1], ids=lambda case: case.name)
def case(request) -> Case:
    if not request.param.exists:
        pytest.skip("not in this ComfyUI")
    return request.param


def queries(case: Case, noise: list[torch.Tensor], monkeypatch) -> tuple[list[torch.Tensor], list[Grid | None], Any]:
    """The image's queries, (tokens, channels), in each attention of one call; and where the picture is said to be."""
    found, calls = [], []

    class Queries(VSFAttention):
        def _layout(self, *lengths):
            self.own = super()._layout(*lengths)
            return self.own

        def _base(self, *args, **more):  # attention over the image alone, which mixes its tokens, gives nothing
            out = super()._base(*args, **more)
            return out if self.own else torch.zeros_like(out)

        def join(self, layout, q, *args, **more):
            out = super().join(layout, q, *args, **more)  # it is made once more where this raises NotPyTorchs
            if layout.has_image_queries:
                rows = [i for role, s in layout.query_spans(q.shape[2]) if role == "I" for i in range(s.start, s.stop)]
                found.append(q[0, :, rows].transpose(0, 1).flatten(1).clone())
            return out

    def call_of(*args, **more):
        calls.append(ModelCall(*args, **more))
        return calls[-1]

    ModelCall = patch.ModelCall
    monkeypatch.setattr(patch, "ModelCall", call_of)
    prompts = negative_prompts(case.conditioning(5, 2, **{WORDS: 5}), 2.0, 0.0, 0.0, 1.0)
    model = patch.attach(cases.load(case.name), prompts, Queries)
    x = noise[0] if len(noise) == 1 else NestedTensor(noise)
    with torch.inference_mode():
        comfy.sample.sample(model, x, 1, 1.0, "euler", "simple", case.conditioning(7, 1), case.conditioning(3, 999), x * 0,
                            disable_pbar=True, seed=0)
    monkeypatch.undo()
    family = patch.find_family(model.model)
    return found, [grid_of(calls[0], family, len(q)) for q in found], size_of(calls[0].sizes)


def test_a_token_is_where_its_place_is(case, monkeypatch):
    g = torch.Generator().manual_seed(0)
    shapes = case.latent if isinstance(case.latent[0], tuple) else (case.latent,)
    noise = [torch.randn(1, *shape, generator=g) for shape in shapes]
    before, grids, size = queries(case, noise, monkeypatch)
    assert any(grids), "no attention has the picture in it"
    for place in {(0, 0, 0), (size[0] - 1, size[1] - 1, size[2] - 1), (size[0] - 1, 0, size[2] // 2)}:
        other = [t.clone() for t in noise]
        other[0].view(*other[0].shape[:2], *size)[:, :, place[0], place[1], place[2]] += torch.randn(shapes[0][0], generator=g)
        after, *_ = queries(case, other, monkeypatch)
        first = {grid: (a - b).norm(dim=1) for a, b, grid in reversed(list(zip(before, after, grids, strict=True)))
                 if grid is not None}
        for grid, change in first.items():
            frame, row, column = (i // p for i, p in zip(place, grid.cell, strict=True))
            _, rows, columns = cells_of((*size[:2], size[2] + grid.beside), grid.cell)
            index = grid.before + (frame * rows + row) * columns + column
            if index < len(change):  # LTX leaves out guides, which are the last frames
                # a place at an edge may be repeated beyond it, to fill the last patch; convolutions spread it
                assert change[index] >= 0.3 * change.max(), (place, grid, len(change), change)
