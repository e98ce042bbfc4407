"""Fusions of pooled vectors in PyTorch; see fusion_twins.py."""

from collections.abc import Mapping

import torch
from torch import Tensor, nn
from torch.nn import functional

from benchmarks.fusion_side import MODALITIES
from benchmarks.torch_twin import MeanPooling

Tensors = Mapping[str, Tensor]


class Pooling(nn.ModuleDict):
  """The mean of each modality, mapped linearly to `out` if it is given."""

  def __init__(self, width: int, out: int | None = None):
    super().__init__({m: nn.Linear(width, out) for m in MODALITIES if out})

  def forward(self, values: Tensors, masks: Tensors) -> tuple[Tensors, Tensors]:
    """Maps tokens to vectors [B, D], zeros where missing, and bool [B, 1]."""
    vectors, present = {}, {}
    for m in values:
      vector = _mean(values[m], masks[m])
      if m in self:
        vector = self[m](vector)
      present[m] = masks[m].any(1, keepdim=True)
      vectors[m] = vector.masked_fill(~present[m], 0.0)
    return vectors, present


_mean = MeanPooling()


class Elementwise(nn.Module):
  """The mean of the modalities that are there."""

  def __init__(self, width: int):
    super().__init__()
    self.project = Pooling(width, width)

  def forward(self, values: Tensors, masks: Tensors) -> Tensor:
    """Maps tokens to one token."""
    vectors, present = self.project(values, masks)
    count = present["image"].int() + present["text"].int()
    return single_token(sum(vectors.values()) / count.clamp(min=1), masks)


class Weighted(nn.Module):
  """Their mean with learned weights."""

  def __init__(self, width: int):
    super().__init__()
    self.project = Pooling(width, width)
    for m in MODALITIES:
      self.register_parameter(f"score_{m}", nn.Parameter(torch.zeros(1)))

  def forward(self, values: Tensors, masks: Tensors) -> Tensor:
    """Maps tokens to one token."""
    vectors, present = self.project(values, masks)
    there = torch.cat(list(present.values()), dim=1)
    scores = torch.cat([self.score_image, self.score_text]).expand(there.shape)
    weights = scores.masked_fill(~there, torch.finfo(scores.dtype).min)
    weights = weights.softmax(1)[..., None]
    fused = (weights * torch.stack(list(vectors.values()), dim=1)).sum(1)
    return single_token(fused, masks)


class Gated(nn.Module):
  """Their sum, each gated by itself."""

  def __init__(self, width: int):
    super().__init__()
    self.project = Pooling(width, width)
    for m in MODALITIES:
      gate = nn.Linear(width, width, bias=False)
      self.add_module(f"gate_{m}_from_{m}", gate)
      bias = nn.Parameter(torch.zeros(width))
      self.register_parameter(f"gate_{m}_bias", bias)

  def forward(self, values: Tensors, masks: Tensors) -> Tensor:
    """Maps tokens to one token."""
    vectors, _ = self.project(values, masks)
    image, text = (vectors[m] for m in MODALITIES)
    image_gate = self.gate_image_from_image(image) + self.gate_image_bias
    text_gate = self.gate_text_from_text(text) + self.gate_text_bias
    fused = image_gate.sigmoid() * image + text_gate.sigmoid() * text
    return single_token(fused, masks)


class Gmu(nn.Module):
  """One gate decides between them, feature by feature."""

  def __init__(self, width: int):
    super().__init__()
    self.pool = Pooling(width)
    self.gate = nn.Linear(2 * width, width, bias=False)
    self.hidden_image = nn.Linear(width, width, bias=False)
    self.hidden_text = nn.Linear(width, width, bias=False)

  def forward(self, values: Tensors, masks: Tensors) -> Tensor:
    """Maps tokens to one token."""
    vectors, _ = self.pool(values, masks)
    image, text = (vectors[m] for m in MODALITIES)
    gate = self.gate(torch.cat([image, text], dim=1)).sigmoid()
    hidden = self.hidden_image(image).tanh(), self.hidden_text(text).tanh()
    return single_token(gate * hidden[0] + (1 - gate) * hidden[1], masks)


class FiLM(nn.Module):
  """The text scales and shifts the image's tokens."""

  def __init__(self, width: int):
    super().__init__()
    self.condition = nn.ModuleDict({"text": nn.Linear(width, 2 * width)})

  def forward(self, values: Tensors, masks: Tensors) -> Tensor:
    """Maps tokens to those of the image."""
    text = self.condition["text"](_mean(values["text"], masks["text"]))
    text = text.masked_fill(~masks["text"].any(1, keepdim=True), 0.0)
    scale, shift = text[:, None].chunk(2, dim=2)
    image = values["image"].masked_fill(~masks["image"][..., None], 0.0)
    return image * (1 + scale) + shift


class TensorFusion(nn.Module):
  """The outer product of two pooled vectors with a one each, mapped."""

  def __init__(self, width: int):
    super().__init__()
    self.pooling = Pooling(width)
    self.out = nn.Linear((width + 1) ** len(MODALITIES), width)

  def forward(self, values: Tensors, masks: Tensors) -> Tensor:
    """Maps tokens to one token."""
    image, text = append_ones(self.pooling(values, masks)[0])
    product = torch.einsum("bi,bj->bij", image, text).flatten(1)
    return single_token(self.out(product), masks)


class Multiplicative(nn.Module):
  """A bilinear form with linear terms and a bias."""

  def __init__(self, width: int):
    super().__init__()
    self.pool = Pooling(width)
    product = torch.randn(width, width, width) / width
    self.text_product = nn.Parameter(product)
    self.text_before = nn.Linear(width, width, bias=False)
    self.text = nn.Linear(width, width)

  def forward(self, values: Tensors, masks: Tensors) -> Tensor:
    """Maps tokens to one token."""
    vectors, _ = self.pool(values, masks)
    image, text = (vectors[m] for m in MODALITIES)
    product = torch.einsum("bi,bj->bij", image, text).flatten(1)
    fused = product @ self.text_product.flatten(0, 1)
    fused = fused + self.text_before(image) + self.text(text)
    return single_token(fused, masks)


class LowRank(nn.Module):
  """The sum over four ranks of products of mapped vectors."""

  def __init__(self, width: int, rank: int = 4):
    super().__init__()
    self.pooling = Pooling(width)
    for m in MODALITIES:
      factor = nn.Parameter(torch.randn(rank, width + 1, width) / width**0.5)
      self.register_parameter(f"{m}_factor", factor)
    self.rank_weights = nn.Parameter(torch.full((rank,), rank**-0.5))
    self.bias = nn.Parameter(torch.zeros(width))

  def forward(self, values: Tensors, masks: Tensors) -> Tensor:
    """Maps tokens to one token."""
    image, text = append_ones(self.pooling(values, masks)[0])
    product = (image @ self.image_factor) * (text @ self.text_factor)
    fused = torch.einsum("rbw,r->bw", product, self.rank_weights) + self.bias
    return single_token(fused, masks)


class Mlb(nn.Module):
  """The product of projections, projected."""

  def __init__(self, width: int):
    super().__init__()
    self.pooling = Pooling(width, width)
    self.out = nn.Linear(width, width)

  def forward(self, values: Tensors, masks: Tensors) -> Tensor:
    """Maps tokens to one token."""
    vectors, present = self.pooling(values, masks)
    product = multiply({m: vectors[m].tanh() for m in vectors}, present)
    return single_token(self.out(product), masks)


class Mfb(nn.Module):
  """The product of wide projections, neighbours added, normalized."""

  def __init__(self, width: int, factor: int = 5):
    super().__init__()
    self.factor = factor
    self.pooling = Pooling(width, width * factor)

  def forward(self, values: Tensors, masks: Tensors) -> Tensor:
    """Maps tokens to one token."""
    product = multiply(*self.pooling(values, masks))
    fused = product.unflatten(1, (-1, self.factor)).sum(2)
    return single_token(normalize(fused), masks)


class Mutan(nn.Module):
  """Products of projections, rank by rank, added and projected."""

  def __init__(self, width: int, rank: int = 10):
    super().__init__()
    self.pooling = Pooling(width, width)
    for m in MODALITIES:
      core = nn.Parameter(torch.randn(rank, width, width) / width**0.5)
      self.register_parameter(f"{m}_core", core)
    self.out = nn.Linear(width, width)

  def forward(self, values: Tensors, masks: Tensors) -> Tensor:
    """Maps tokens to one token."""
    vectors, present = self.pooling(values, masks)
    factors = {
      m: torch.einsum(
        "bd,rdo->bro", vectors[m].tanh(), self.get_parameter(f"{m}_core")
      )
      for m in vectors
    }
    return single_token(self.out(multiply(factors, present).sum(1)), masks)


class Block(nn.Module):
  """The same for each of eight chunks, without the tanh, and normalized."""

  def __init__(self, width: int, num_chunks: int = 8, rank: int = 15):
    super().__init__()
    self.num_chunks, size = num_chunks, width // num_chunks
    self.pooling = Pooling(width, width)
    for m in MODALITIES:
      core = torch.randn(num_chunks, rank, size, size) / size**0.5
      self.register_parameter(f"{m}_core", nn.Parameter(core))
    self.out = nn.Linear(width, width)

  def forward(self, values: Tensors, masks: Tensors) -> Tensor:
    """Maps tokens to one token."""
    vectors, present = self.pooling(values, masks)
    factors = {
      m: torch.einsum(
        "bcd,crdo->bcro",
        vectors[m].unflatten(1, (self.num_chunks, -1)),
        self.get_parameter(f"{m}_core"),
      )
      for m in vectors
    }
    product = normalize(multiply(factors, present).sum(2))
    return single_token(self.out(product.flatten(1)), masks)


def append_ones(vectors: Tensors) -> list[Tensor]:
  """Makes each [B, D] the vector [B, D + 1] that ends in a one."""
  return [functional.pad(vectors[m], (0, 1), value=1.0) for m in MODALITIES]


def multiply(factors: Tensors, present: Tensors) -> Tensor:
  """Multiplies [B, ...] of each modality; a missing one is a factor of 1."""
  image, text = (
    factors[m].masked_fill(
      ~present[m].reshape(-1, *[1] * (factors[m].ndim - 1)), 1.0
    )
    for m in MODALITIES
  )
  return image * text


def normalize(values: Tensor) -> Tensor:
  """Signed roots of [..., D], brought to norm one."""
  roots = values / (values.abs() + 1e-8).sqrt()
  return functional.normalize(roots, dim=-1, eps=1e-6)


def single_token(vector: Tensor, masks: Tensors) -> Tensor:
  """Makes [B, D] a token [B, 1, D], zeros where nothing is present."""
  present = torch.cat([masks[m] for m in MODALITIES], dim=1).any(1)
  return vector.masked_fill(~present[:, None], 0.0)[:, None]
