"""MCB: multimodal compact bilinear pooling, a sketch of the outer product.

The count sketch of an outer product is the circular convolution of the count
sketches, and that is a product of spectra: the outer product itself is never
built, and no parameters stand before the output's projection.

Fukui et al. 2016, "Multimodal Compact Bilinear Pooling for Visual Question
Answering and Visual Grounding", https://arxiv.org/abs/1606.01847; the sketch
is that of Pham and Pagh 2013, https://doi.org/10.1145/2487575.2487591.

Differs from the papers: any number of modalities instead of two; the sketch of
a missing one is the unit of convolution; sketches and spectra are float32
whatever the dtype.
"""

import zlib
from collections.abc import Mapping

import flax.linen as nn
import jax.numpy as jnp
import numpy as np

from mmjax.array_types import Array, Tokens
from mmjax.nn.bilinear import (
  check_norm,
  count_sketch,
  l2_normalize,
  multiply_present,
  signed_sqrt,
)
from mmjax.nn.dense import Dense
from mmjax.nn.dropout import Dropout
from mmjax.nn.pooling import ModalityPooling, single_token
from mmjax.nn.tokens import check_modalities


def make_hashes(
  hash_seed: int, modality: str, width: int, sketch_dim: int
) -> tuple[np.ndarray, np.ndarray]:
  """Draws the hashes and signs of one modality.

  They depend on the arguments alone, not on the other modalities, the machine
  or the versions of libraries: NumPy has frozen this old generator for ever.

  Args:
    hash_seed: another seed gives other hashes.
    modality: its name; another name gives other hashes.
    width: features of the modality.
    sketch_dim: places of the sketch.

  Returns:
    Hashes int32 [width] in [0, sketch_dim) and signs int8 [width], 1 or -1.
  """
  random = np.random.RandomState([hash_seed, zlib.crc32(modality.encode())])
  hashes = (random.random_sample(width) * sketch_dim).astype(np.int32)
  signs = np.where(random.random_sample(width) < 0.5, -1, 1).astype(np.int8)
  return hashes, signs


def convolve_sketches(
  sketches: Mapping[str, Array], present: Mapping[str, Array]
) -> Array:
  """Convolves the sketches of the modalities that are there, circularly.

  Args:
    sketches: float32 [B, S] of each modality.
    present: bool [B] of each modality.

  Returns:
    float32 [B, S].
  """
  size = next(iter(sketches.values())).shape[-1]
  spectra = {m: jnp.fft.rfft(sketches[m]) for m in sketches}
  return jnp.fft.irfft(multiply_present(spectra, present), n=size)


class McbFusion(nn.Module):
  """Pools and sketches each modality, convolves, normalizes, projects.

  Attributes:
    width: width of the token that comes out.
    sketch_dim: places of a sketch; the paper has 16,000.
    hash_seed: seed of hashes and signs, which are constants and no parameters:
      a checkpoint needs the seed that it was trained with.
    pooling: that of `ModalityPooling`.
    dropout_rate: dropout of the normalized product.
    dtype: dtype of the computation.
    param_dtype: dtype of the parameters.
  """

  width: int
  sketch_dim: int = 1024
  hash_seed: int = 0
  pooling: str = "mean"
  dropout_rate: float = 0.0
  dtype: str = "float32"
  param_dtype: str = "float32"

  @nn.compact
  def __call__(self, tokens: Mapping[str, Tokens], *, train: bool) -> Tokens:
    """Fuses the modalities.

    Args:
      tokens: [B, N_m, D_m] of each modality m, of any widths.
      train: whether dropout is on.

    Returns:
      Tokens [B, 1, width].

    Raises:
      ValueError: there is no modality, shapes do not belong together, or
        `sketch_dim` is less than two.
    """
    check_modalities(tokens, "fusion 'mcb'")
    check_norm("fusion 'mcb'", "sketch_dim", self.sketch_dim)
    dtypes = {"dtype": self.dtype, "param_dtype": self.param_dtype}
    vectors, present = ModalityPooling(
      pooling=self.pooling, name="pooling", **dtypes
    )(tokens)
    sketches = {}
    for m in vectors:
      hashes, signs = make_hashes(
        self.hash_seed, m, vectors[m].shape[1], self.sketch_dim
      )
      sketches[m] = count_sketch(
        vectors[m].astype(jnp.float32), hashes, signs, self.sketch_dim
      )
    product = convolve_sketches(sketches, present)
    product = l2_normalize(signed_sqrt(product)).astype(self.dtype)
    product = Dropout(self.dropout_rate)(product, deterministic=not train)
    fused = Dense(self.width, name="out", **dtypes)(product)
    return single_token(fused, present)
