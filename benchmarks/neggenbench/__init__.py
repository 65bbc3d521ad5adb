"""NegGenBench over any ComfyUI workflow: pictures from running servers, judged by a vision model, as the paper's table."""
