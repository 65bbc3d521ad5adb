"""Between the nodes and ComfyUI.

    conditioning  a CONDITIONING input -> negative prompts without padding
    tokens        which rows of a text encoder's output are words
    contexts      negatives that are read in the prompt's context
    lines         prompts as texts: a negative a line, words that the prompt has already
    run           one sampling run: which conditionings are positive, the negatives that act on them
    positions     a context's words at the prompt's own positions
    patch         attach to a ModelPatcher; one wrapper per level of a sampling run
    lanes         negatives beside the sequence, for models that read a prompt once
    said          what a node did, as a line on it
    override      the attention override that is installed for one call of the model
    families      one small adapter per model family
"""
