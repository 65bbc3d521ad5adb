"""What VSF leaves in a CONDITIONING's options, under names that other code may ask for too."""

WORDS = "vsf_words"
"""Key that VSFTextEncode leaves in its conditioning: how many rows, from the first, are words' tokens; 0 says that the text
was empty. Nodes that change the rows keep it, so that `rows_of_words` asks the rows too."""

CARRIED = "vsf_negatives"
"""Key that VSFConditioning leaves: the prompt's own negatives, NegativePrompts and ContextPrompts (reading/)."""
