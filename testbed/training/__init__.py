"""How the testbed's weights were made: a stage each, in the order of train.py, and what the stages share.

    stage_*       one stage: run(work). ae, latents, flow, reflow, settle, scorer, export; afterwards students
    autoencoder   pictures <-> latents (TAESD's shape)
    denoiser      the first model (ComfyUI's SD3 class) and its text encoder
    text_encoder  a two-layer T5
    optim         the optimiser: Muon with master weights, moving averages
    workspace     checkpoints, the rendered pictures, the schedule of rates

May not enter: measuring (evaluate.py, score.py, success.py), which has to be the same for models that were not trained here.
"""
