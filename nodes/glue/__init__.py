"""Between the nodes and ComfyUI.

    conditioning  a CONDITIONING input -> negative prompts without padding
    tokens        which rows of a text encoder's output are words
    patch         attach to a ModelPatcher; one wrapper per level of a sampling run
    lanes         negatives beside the sequence, for models that read a prompt once
    override      the attention override that is installed for one call of the model
    families      one small adapter per model family
"""
