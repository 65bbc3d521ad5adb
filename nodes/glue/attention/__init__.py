"""One call of the model, seen from its attentions: whose tokens are whose there, and what becomes of them.

    override   the attention override that is installed for one call
    backends   what an attention that is not ours can do: tell its log-sum-exp, heed a mask
    positions  a context's words at the prompt's own positions
    notes      what an attention tells of its negatives, to who records the run
    grid       which image tokens are the picture, and where in it they lie
    regions    the negatives' masks, as far as the image tokens
    lanes      negatives beside the sequence, for models that read a prompt once

May not enter: prompts, nodes and noise levels; a negative is a Layout's segment here, with its settings (vsf_core/layout.py).
"""
