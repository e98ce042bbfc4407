"""The co-attention model of easy-VQA once more, in PyTorch.

Modules have the names of mmjax's, so its parameters load by name; equal logits
show that the two are one function. It is written to be fast on a CPU: channels
last, fused attention, LSTMs without packing (each measured).

Differs from mmjax: `nn.LSTM` has a second bias, kept at zero and not trained;
words must stand before padding.
"""

import dataclasses
import functools
from collections.abc import Mapping

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

_DIRECTIONS = {"forward": "ahead", "backward": "back"}  # `forward` is taken


@dataclasses.dataclass(frozen=True)
class Settings:
  """The sizes of the model, named as in mmjax's modules."""

  vocabulary_size: int
  embedding_dim: int
  width: int
  features: tuple[int, ...]
  num_heads: int
  num_rounds: int
  mlp_dim: int
  hidden: int
  num_classes: int
  pooling: str  # "mean" or "attention"


def _norm(width: int) -> nn.LayerNorm:
  return nn.LayerNorm(width, eps=1e-6)


def _clear(values: Tensor, mask: Tensor) -> Tensor:
  """Puts zeros where [B, N] is False in [B, N, D]."""
  return values.masked_fill(~mask[..., None], 0.0)


@functools.cache
def grid_positions(height: int, width: int, features: int) -> Tensor:
  """Sines and cosines of the row, then of the column: [height, width, D]."""
  half = features // 2
  frequencies = 100.0 ** (-torch.arange(half // 2) / (half // 2))

  def waves(length: int) -> Tensor:
    angles = torch.arange(length)[:, None] * frequencies
    return torch.cat([angles.sin(), angles.cos()], dim=1)

  rows = waves(height)[:, None].expand(height, width, half)
  columns = waves(width)[None].expand(height, width, half)
  return torch.cat([rows, columns], dim=2)


class GridEncoder(nn.Module):
  """Convolution, maximum, instance norm and ReLU; each cell is a token."""

  def __init__(self, features: tuple[int, ...], width: int):
    super().__init__()
    channels = (3, *features)
    for i, size in enumerate(features):
      stage = nn.ModuleDict(
        {
          "conv": nn.Conv2d(channels[i], size, 3, padding=1, bias=False),
          "norm": nn.GroupNorm(size, size, eps=1e-6),  # one feature a group
        }
      ).to(memory_format=torch.channels_last)
      self.add_module(f"stage_{i}", stage)
    self.num_stages = len(features)
    self.out = nn.Linear(features[-1], width)
    self.out_norm = _norm(width)

  def forward(self, images: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
    """Maps uint8 [R, h, w, 3] and [R] to [R, N, width] and [R, N]."""
    grid = images.permute(0, 3, 1, 2).float() / 255 * 2 - 1
    grid = grid.masked_fill(~mask[:, None, None, None], 0.0)
    for i in range(self.num_stages):
      stage = self.get_submodule(f"stage_{i}")
      grid = functional.max_pool2d(stage["conv"](grid), 2, ceil_mode=True)
      grid = functional.relu(stage["norm"](grid))
    grid = self.out_norm(self.out(grid.permute(0, 2, 3, 1)))
    grid = grid + grid_positions(*grid.shape[1:])
    tokens = grid.flatten(1, 2)
    mask = mask[:, None].expand(tokens.shape[:2])
    return _clear(tokens, mask), mask


class RecurrentEncoder(nn.Module):
  """Embeddings, an LSTM in each direction, projection and norm."""

  def __init__(self, vocabulary_size: int, embedding_dim: int, width: int):
    super().__init__()
    self.embed = nn.Embedding(vocabulary_size, embedding_dim)
    self.layer_0 = nn.ModuleDict(
      {
        name: nn.LSTM(embedding_dim, width // 2, batch_first=True)
        for name in _DIRECTIONS.values()
      }
    )
    for lstm in self.layer_0.values():
      lstm.bias_hh_l0.requires_grad_(False)
    self.out = nn.Linear(width // 2 * 2, width)
    self.out_norm = _norm(width)

  def forward(self, ids: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
    """Maps ids [R, T] and a mask of leading words to [R, T, width]."""
    words = self.embed(ids)
    # The words of each text in reverse, its padding staying behind them.
    places = torch.arange(ids.shape[1])[None].expand(ids.shape)
    reverse = (mask.sum(1, keepdim=True) - 1 - places)[..., None]
    reverse = torch.where(mask[..., None], reverse, places[..., None])
    ahead, _ = self.layer_0["ahead"](words)
    back, _ = self.layer_0["back"](
      words.gather(1, reverse.expand(-1, -1, words.shape[2]))
    )
    back = back.gather(1, reverse.expand(-1, -1, back.shape[2]))
    states = _clear(torch.cat([ahead, back], dim=2), mask)
    return _clear(self.out_norm(self.out(states)), mask), mask


class Attention(nn.Module):
  """Attention with several heads; keys have no bias."""

  def __init__(self, width: int, num_heads: int):
    super().__init__()
    self.num_heads = num_heads
    self.query = nn.Linear(width, width)
    self.key = nn.Linear(width, width, bias=False)
    self.value = nn.Linear(width, width)
    self.out = nn.Linear(width, width)

  def forward(self, tokens: Tensor, context: Tensor, mask: Tensor) -> Tensor:
    """Lets [B, Nq, D] look at [B, Nk, D]; zeros where nothing is present."""

    def split(values: Tensor) -> Tensor:
      return values.unflatten(2, (self.num_heads, -1)).transpose(1, 2)

    any_key = mask.any(1)[:, None]
    allowed = (mask | ~any_key)[:, None, None].expand(
      -1, 1, tokens.shape[1], -1
    )
    out = functional.scaled_dot_product_attention(
      split(self.query(tokens)),
      split(self.key(context)),
      split(self.value(context)),
      attn_mask=allowed,
    )
    return _clear(self.out(out.transpose(1, 2).flatten(2)), any_key)


class Mlp(nn.Module):
  """Linear, ReLU, Linear."""

  def __init__(self, width: int, hidden: int):
    super().__init__()
    self.hidden = nn.Linear(width, hidden)
    self.out = nn.Linear(hidden, width)

  def forward(self, values: Tensor) -> Tensor:
    """Maps [..., D] to [..., D]."""
    return self.out(functional.relu(self.hidden(values)))


class CoAttention(nn.Module):
  """Rounds in which each modality looks at the other, then a perceptron."""

  def __init__(self, width: int, num_heads: int, num_rounds: int, mlp_dim: int):
    super().__init__()
    self.num_rounds = num_rounds
    self.pairs = {"image": "text", "text": "image"}
    for number in range(num_rounds):
      parts = {}
      for query, key in self.pairs.items():
        parts[f"{query}_attention_norm"] = _norm(width)
        parts[f"{query}_over_{key}"] = Attention(width, num_heads)
        parts[f"{query}_mlp_norm"] = _norm(width)
        parts[f"{query}_mlp"] = Mlp(width, mlp_dim)
      self.add_module(f"round_{number}", nn.ModuleDict(parts))
    self.image_norm, self.text_norm = _norm(width), _norm(width)

  def forward(
    self, values: Mapping[str, Tensor], masks: Mapping[str, Tensor]
  ) -> dict[str, Tensor]:
    """Maps tokens [B, N_m, D] of each modality to tokens."""
    for number in range(self.num_rounds):
      parts = self.get_submodule(f"round_{number}")
      normed = {m: parts[f"{m}_attention_norm"](values[m]) for m in values}
      updated = {}
      for query, key in self.pairs.items():
        update = parts[f"{query}_over_{key}"](
          normed[query], normed[key], masks[key]
        )
        total = values[query] + update
        update = parts[f"{query}_mlp"](parts[f"{query}_mlp_norm"](total))
        updated[query] = total + update
      values = updated
    return {
      "image": self.image_norm(values["image"]),
      "text": self.text_norm(values["text"]),
    }


class MeanPooling(nn.Module):
  """The mean of the present tokens."""

  def forward(self, values: Tensor, mask: Tensor) -> Tensor:
    """Maps [B, N, D] to [B, D]; zeros where nothing is present."""
    count = mask.sum(1, keepdim=True).clamp(min=1)
    return _clear(values, mask).sum(1) / count


class AttentionPooling(nn.Module):
  """A mean of the present tokens, weighed by a small network."""

  def __init__(self, width: int):
    super().__init__()
    self.hidden = nn.Linear(width, width)
    self.score = nn.Linear(width, 1, bias=False)

  def forward(self, values: Tensor, mask: Tensor) -> Tensor:
    """Maps [B, N, D] to [B, D]; zeros where nothing is present."""
    values = _clear(values, mask)
    scores = self.score(self.hidden(values).tanh())[..., 0]
    lowest = torch.finfo(scores.dtype).min
    weights = scores.masked_fill(~mask, lowest).softmax(1)
    return (weights.masked_fill(~mask, 0.0)[:, None] @ values)[:, 0]


class Classifier(nn.Module):
  """Both modalities pooled, side by side, norm, perceptron."""

  def __init__(self, width: int, hidden: int, num_classes: int, pooling: str):
    super().__init__()
    for name in ("pool_0", "pool_1"):
      pool = MeanPooling() if pooling == "mean" else AttentionPooling(width)
      self.add_module(name, pool)
    self.norm = _norm(2 * width)
    self.hidden = nn.Linear(2 * width, hidden)
    self.logits = nn.Linear(hidden, num_classes)

  def forward(
    self, values: Mapping[str, Tensor], masks: Mapping[str, Tensor]
  ) -> Tensor:
    """Maps tokens to logits [B, C]."""
    image = self.pool_0(values["image"], masks["image"])
    text = self.pool_1(values["text"], masks["text"])
    hidden = self.hidden(self.norm(torch.cat([image, text], dim=1)))
    return self.logits(functional.relu(hidden))


class Twin(nn.Module):
  """The whole model: a batch of tensors becomes logits [B, C]."""

  def __init__(self, settings: Settings):
    super().__init__()
    s = settings
    self.encoders_image = GridEncoder(s.features, s.width)
    self.encoders_text = RecurrentEncoder(
      s.vocabulary_size, s.embedding_dim, s.width
    )
    self.fusion = CoAttention(s.width, s.num_heads, s.num_rounds, s.mlp_dim)
    self.head = Classifier(s.width, s.hidden, s.num_classes, s.pooling)

  def forward(self, batch: Mapping[str, Tensor]) -> Tensor:
    """Maps a batch in mmjax's layout, one shard, to logits [B, C]."""
    image, image_mask = self.encoders_image(batch["image"], batch["image_mask"])
    text, text_mask = self.encoders_text(batch["text"], batch["text_mask"])
    index = batch["image_index"]
    values = {"image": image[index], "text": text}
    masks = {"image": image_mask[index], "text": text_mask}
    return self.head(self.fusion(values, masks), masks)


def load_parameters(model: Twin, parameters: Mapping[str, np.ndarray]) -> None:
  """Gives the twin the parameters of mmjax.

  Args:
    model: the twin.
    parameters: arrays by their path in mmjax, as `head/logits/kernel`.

  Raises:
    RuntimeError: names or shapes that do not match one to one.
  """
  state = dict(_convert(path, value) for path, value in parameters.items())
  for name, parameter in model.named_parameters():
    if name.endswith("bias_hh_l0"):
      state[name] = torch.zeros_like(parameter)
  model.load_state_dict(state)


def _convert(path: str, value: np.ndarray) -> tuple[str, Tensor]:
  """The twin's name and layout of one parameter."""
  *parents, leaf = path.split("/")
  tensor = torch.from_numpy(np.array(value))
  if leaf == "kernel":
    tensor = tensor.permute(3, 2, 0, 1) if tensor.ndim == 4 else tensor.T
  if parents[-1] in _DIRECTIONS:
    leaf = "weight_hh_l0"
  elif parents[-2:-1] and parents[-2] in _DIRECTIONS:
    parents.pop()
    leaf = {"kernel": "weight_ih_l0", "bias": "bias_ih_l0"}[leaf]
  elif leaf != "bias":
    leaf = "weight"  # kernel, scale or embedding
  parents = [_DIRECTIONS.get(parent, parent) for parent in parents]
  return ".".join([*parents, leaf]), tensor
