"""From a MODEL with negatives attached to one call of its model, in ComfyUI's own levels of a sampling run.

    fit      whether a model can take a negative, said at its node
    patch    attach to a ModelPatcher; one wrapper per level
    run      one sampling run: which conditionings are positive, the negatives that act on them, how these travel
    carry    a prompt that brings its own negatives, found again when it is sampled
    seen     what the negatives did in a run, where a heat map is in the graph
    drawn    the same as pictures and words

May not enter: a family's name, which only its adapter knows; anything that outlives the run, but for what `seen` keeps of one
as long as the MODEL that it was made with.
"""
