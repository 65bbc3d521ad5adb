"""What users connect and write, made into negatives: their words alone, and how strongly and when each acts.

    conditioning  a CONDITIONING input -> negative prompts without padding
    contexts      negatives that are read in the prompt's context
    lines         prompts as texts: a negative a line, words that the prompt has already
    tokens        which rows of a text encoder's output are words
    made          which rows VSF Text Encode made, after other nodes have joined them with theirs

May not enter: the model that samples, its latents and its attention. It is read once, before anything runs.
"""
