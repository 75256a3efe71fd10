"""Plans of fewstep in ComfyUI: their noise levels as SIGMAS, and all of their coefficients as a SAMPLER.

Put a file with `from comfyui_fewstep import *` into ComfyUI's `custom_nodes`, in an environment where fewstep is installed. Connect both
nodes to SamplerCustom, with an empty latent: a plan begins with noise.
"""

from .nodes import NODE_CLASS_MAPPINGS, NODE_DISPLAY_NAME_MAPPINGS

__all__ = ["NODE_CLASS_MAPPINGS", "NODE_DISPLAY_NAME_MAPPINGS"]
