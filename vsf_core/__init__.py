"""Value Sign Flip (VSF, arXiv 2508.10931) in pure torch; imports nothing of ComfyUI.

Symbols, as in the paper: P positive text tokens, I image tokens, N0 the tokens of a negative prompt, N1 their flipped
copy (N0's keys, N0's values times -alpha); alpha the scale, beta the bias, Z the attention output, W the share of the
softmax that stays with the positive keys.

    merge      Z = W Z+ - alpha (1-W) Z-, from two attentions and their log-sum-exp
    attention  attention calls that return their log-sum-exp
    contrast   the context rule: a negative read within the prompt, by the difference of the two
    layout     where P, I and the negatives stand in an attention call
    forms      both rules over such a layout: the merged form and the concatenated form
    dense      both written out in double precision: the readable reference
    schedule   when a negative acts
    areas      masks of one size as averages over the cells of another: where a negative acts
"""
