"""Fusions of tokens in PyTorch; see fusion_twins.py."""

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from benchmarks import torch_twin
from benchmarks.fusion_side import MODALITIES
from benchmarks.torch_twin import Attention, Mlp

Tensors = Mapping[str, Tensor]
NUM_HEADS = 4


class Concat(nn.ModuleDict):
  """Projected tokens side by side."""

  def __init__(self, width: int):
    super().__init__({m: nn.Linear(width, width) for m in MODALITIES})

  def forward(self, values: Tensors, masks: Tensors) -> Tensor:
    """Maps tokens to the tokens of all modalities."""
    cleared = clear(values, masks)
    return join({m: self[m](cleared[m]) for m in MODALITIES})


class Convolutional(nn.Module):
  """A convolution over the tokens, of both modalities' features."""

  def __init__(self, width: int):
    super().__init__()
    self.conv = nn.Conv1d(2 * width, width, 3, padding=1)

  def forward(self, values: Tensors, masks: Tensors) -> Tensor:
    """Maps aligned tokens to as many."""
    cleared = clear(values, masks)
    stacked = torch.cat([cleared[m] for m in MODALITIES], dim=2)
    return self.conv(stacked.transpose(1, 2)).transpose(1, 2)


class CoAttention(torch_twin.CoAttention):
  """One round of co-attention."""

  def __init__(self, width: int):
    super().__init__(width, NUM_HEADS, num_rounds=1, mlp_dim=2 * width)

  def forward(self, values: Tensors, masks: Tensors) -> Tensor:
    """Maps tokens to the tokens of all modalities."""
    return join(super().forward(clear(values, masks), masks))


class CrossBlock(nn.Module):
  """Attention to a context and a perceptron, pre-norm."""

  def __init__(self, width: int):
    super().__init__()
    self.query_norm, self.context_norm = make_norm(width), make_norm(width)
    self.attention = Attention(width, NUM_HEADS)
    self.mlp_norm, self.mlp = make_norm(width), Mlp(width, 2 * width)

  def forward(self, values: Tensor, context: Tensor, mask: Tensor) -> Tensor:
    """Maps [B, Nq, D] to [B, Nq, D]."""
    values = values + self.attention(
      self.query_norm(values), self.context_norm(context), mask
    )
    return values + self.mlp(self.mlp_norm(values))


class SelfBlock(nn.Module):
  """Self-attention and a perceptron, pre-norm."""

  def __init__(self, width: int):
    super().__init__()
    self.attention_norm = make_norm(width)
    self.attention = Attention(width, NUM_HEADS)
    self.mlp_norm, self.mlp = make_norm(width), Mlp(width, 2 * width)

  def forward(self, values: Tensor, mask: Tensor) -> Tensor:
    """Maps [B, N, D] to [B, N, D]."""
    normed = self.attention_norm(values)
    values = values + self.attention(normed, normed, mask)
    return values + self.mlp(self.mlp_norm(values))


class CrossAttention(nn.Module):
  """The image looks at the text."""

  def __init__(self, width: int):
    super().__init__()
    self.layer_0 = CrossBlock(width)
    self.image_norm, self.text_norm = make_norm(width), make_norm(width)

  def forward(self, values: Tensors, masks: Tensors) -> Tensor:
    """Maps tokens to the tokens of all modalities."""
    cleared = clear(values, masks)
    image = self.layer_0(cleared["image"], cleared["text"], masks["text"])
    text = self.text_norm(cleared["text"])
    return join({"image": self.image_norm(image), "text": text})


class Transformer(nn.Module):
  """`nn.TransformerEncoder` over the tokens of both modalities."""

  def __init__(self, width: int):
    super().__init__()
    self.num_unused = width  # the bias of the keys
    for m in MODALITIES:
      embedding = nn.Parameter(0.02 * torch.randn(width))
      self.register_parameter(f"{m}_embedding", embedding)
    layer = nn.TransformerEncoderLayer(
      width,
      NUM_HEADS,
      2 * width,
      dropout=0.0,
      layer_norm_eps=1e-6,
      batch_first=True,
      norm_first=True,
    )
    self.encoder = nn.TransformerEncoder(
      layer, 1, make_norm(width), enable_nested_tensor=False
    )

  def forward(self, values: Tensors, masks: Tensors) -> Tensor:
    """Maps tokens to the tokens of all modalities."""
    cleared = clear(values, masks)
    joined = join(
      {
        "image": cleared["image"] + self.image_embedding,
        "text": cleared["text"] + self.text_embedding,
      }
    )
    mask = join(masks)
    # Where nothing is present all is looked at, and dropped: else it is NaN.
    absent = ~mask & mask.any(1, keepdim=True)
    fused = self.encoder(joined, src_key_padding_mask=absent)
    return fused.masked_fill(~mask[..., None], 0.0)

  def rename(self, state: Tensors) -> dict[str, Tensor]:
    """Gives parameters of mmjax the names and the form of PyTorch's."""
    state, renamed = dict(state), {}
    for leaf in ("weight", "bias"):
      parts = [
        state.pop(f"block_0.attention.{name}.{leaf}", None)
        for name in ("query", "key", "value")
      ]
      parts = [torch.zeros_like(parts[0]) if p is None else p for p in parts]
      renamed[f"encoder.layers.0.self_attn.in_proj_{leaf}"] = torch.cat(parts)
    names = {
      "block_0.attention.out": "encoder.layers.0.self_attn.out_proj",
      "block_0.attention_norm": "encoder.layers.0.norm1",
      "block_0.mlp_norm": "encoder.layers.0.norm2",
      "block_0.mlp.hidden": "encoder.layers.0.linear1",
      "block_0.mlp.out": "encoder.layers.0.linear2",
      "out_norm": "encoder.norm",
    }
    for name, tensor in state.items():
      parent, _, leaf = name.rpartition(".")
      renamed[f"{names[parent]}.{leaf}" if parent else name] = tensor
    return renamed


class MulT(nn.Module):
  """Each looks at the other, then at what has become of itself."""

  def __init__(self, width: int):
    super().__init__()
    self.pairs = {"image": "text", "text": "image"}
    for query, key in self.pairs.items():
      self.add_module(f"{query}_over_{key}_0", CrossBlock(width))
      self.add_module(f"{query}_over_{key}_norm", make_norm(width))
      self.add_module(f"{query}_0", SelfBlock(width))
      self.add_module(f"{query}_norm", make_norm(width))

  def forward(self, values: Tensors, masks: Tensors) -> Tensor:
    """Maps tokens to the tokens of all modalities."""
    cleared, fused = clear(values, masks), {}
    for query, key in self.pairs.items():
      pair, part = f"{query}_over_{key}", self.get_submodule
      stream = part(f"{pair}_0")(cleared[query], cleared[key], masks[key])
      stream = part(f"{query}_0")(part(f"{pair}_norm")(stream), masks[query])
      fused[query] = part(f"{query}_norm")(stream)
    return join(clear(fused, masks))


class Bottleneck(nn.Module):
  """Two layers in which they exchange four tokens."""

  def __init__(self, width: int, num_bottlenecks: int = 4):
    super().__init__()
    self.num_bottlenecks = num_bottlenecks
    self.bottleneck = nn.Parameter(0.02 * torch.randn(num_bottlenecks, width))
    for m in MODALITIES:
      self.add_module(f"{m}_norm", make_norm(width))
      for number in range(2):
        self.add_module(f"{m}_{number}", SelfBlock(width))

  def forward(self, values: Tensors, masks: Tensors) -> Tensor:
    """Maps tokens to the tokens of all modalities."""
    streams, count = clear(values, masks), self.num_bottlenecks
    there = {m: masks[m].any(1)[:, None, None] for m in MODALITIES}
    number_there = sum(m.int() for m in there.values()).clamp(min=1)
    shared = self.bottleneck.expand(len(masks["image"]), -1, -1)
    padded = {
      m: nn.functional.pad(masks[m], (0, count), value=True) for m in MODALITIES
    }
    for number in range(2):
      written = 0.0
      for m in MODALITIES:
        both = torch.cat([streams[m], shared], dim=1)
        both = self.get_submodule(f"{m}_{number}")(both, padded[m])
        streams[m] = both[:, :-count]
        written = written + both[:, -count:].masked_fill(~there[m], 0.0)
      shared = written / number_there
    norms = {m: self.get_submodule(f"{m}_norm") for m in MODALITIES}
    return join(clear({m: norms[m](streams[m]) for m in streams}, masks))


class Perceiver(nn.Module):
  """Eight latents look at all tokens, and then at each other."""

  def __init__(self, width: int, num_latents: int = 8):
    super().__init__()
    for m in MODALITIES:
      self.add_module(m, nn.Linear(width, width))
    self.latents = nn.Parameter(0.02 * torch.randn(num_latents, width))
    self.cross_0, self.self_0_0 = CrossBlock(width), SelfBlock(width)
    self.out_norm = make_norm(width)

  def forward(self, values: Tensors, masks: Tensors) -> Tensor:
    """Maps tokens to the latents."""
    cleared, mask = clear(values, masks), join(masks)
    context = {m: self.get_submodule(m)(cleared[m]) for m in MODALITIES}
    latents = self.latents.expand(len(mask), -1, -1)
    latents = self.cross_0(latents, join(context), mask)
    everything = mask.new_ones(latents.shape[:2])
    latents = self.out_norm(self.self_0_0(latents, everything))
    return latents.masked_fill(~mask.any(1)[:, None, None], 0.0)


def make_norm(width: int) -> nn.LayerNorm:
  """Makes a norm like flax's."""
  return nn.LayerNorm(width, eps=1e-6)


def clear(values: Tensors, masks: Tensors) -> dict[str, Tensor]:
  """Puts zeros where a mask is False."""
  return {
    m: values[m].masked_fill(~masks[m][..., None], 0.0) for m in MODALITIES
  }


def join(parts: Tensors) -> Tensor:
  """Puts [B, N, ...] of each modality side by side."""
  return torch.cat([parts[m] for m in MODALITIES], dim=1)
