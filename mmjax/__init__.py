"""mmjax: functional multimodal learning in JAX and Flax.

Importing this package imports nothing else and touches no device; import the
module you need, for instance ``from mmjax.fusion.co_attention import
CoAttention``.
"""

__version__ = "0.1.0"
