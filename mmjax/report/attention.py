"""From what a model sows while it runs to what can be drawn of one example.

Fusions sow `{query}_over_{key}` [B, H, N_query, N_key], once a round;
attention pooling sows `pool` [B, N]; encoders of modalities with a grid sow
`grid` [height, width]. Here all of it becomes one flat dict of numpy arrays an
example, and that dict becomes maps and word weights. Graphs are read in
`mmjax.report.sown_graphs`.
"""

import re
from collections.abc import Iterator, Mapping, Sequence

import numpy as np


def collect_attention(
  intermediates: Mapping, modalities: Sequence[str]
) -> dict[str, np.ndarray]:
  """Gathers all attention weights of a batch.

  Args:
    intermediates: what `model.apply(..., mutable=["intermediates"])` returns
      under that name, nested by submodule.
    modalities: the names of the model's modalities.

  Returns:
    `q_over_k` [B, L, H, N_q, N_k] for each pair that was sown, with one L a
    round in order, and `pool_m` [B, N_m] for each pooled modality. The
    submodule that pools must be named after its modality (`pool_image` or
    `image_pool`) or after the modality's place in sorted order (`pool_0`), or
    lie in a head of that modality alone (`heads_image`); others are left out.
    Empty for a model without attention.
  """
  pairs = {f"{q}_over_{k}" for q in modalities for k in modalities}
  found = {}
  for path, values in walk_sown(intermediates):
    if path[-1] in pairs:
      found.setdefault(path[-1], []).extend(np.asarray(v) for v in values)
    elif path[-1] == "pool" and len(path) > 1:
      modality = _pooled_modality(path, modalities)
      if modality is not None:
        found[f"pool_{modality}"] = np.asarray(values[-1])
  return {
    name: np.stack(value, axis=1) if isinstance(value, list) else value
    for name, value in sorted(found.items())
  }


def collect_grids(
  intermediates: Mapping, modalities: Sequence[str]
) -> dict[str, tuple[int, int]]:
  """Finds the grids that encoders laid their tokens out on.

  Args:
    intermediates: as for `collect_attention`.
    modalities: the names of the model's modalities.

  Returns:
    `{modality: (height, width)}` in cells, row by row from the top left, of
    each modality whose encoder, `encoders_<modality>`, sowed a grid.
  """
  grids = {}
  for path, values in walk_sown(intermediates):
    for modality in modalities:
      if path[-1] == "grid" and f"encoders_{modality}" in path:
        height, width = np.asarray(values[-1]).reshape(-1, 2)[0]
        grids[modality] = (int(height), int(width))
  return grids


def walk_sown(
  tree: Mapping, path: tuple[str, ...] = ()
) -> Iterator[tuple[tuple[str, ...], tuple]]:
  """Yields all that was sown as (path, tuple), `round_2` before `round_10`."""

  def natural(name: str) -> list:
    return [
      (0, int(part), "") if part.isdigit() else (1, 0, part)
      for part in re.split(r"(\d+)", name)
    ]

  for name in sorted(tree, key=natural):
    value = tree[name]
    if isinstance(value, Mapping):
      yield from walk_sown(value, (*path, name))
    else:
      yield (*path, name), value


def select_example(
  attention: Mapping[str, np.ndarray], index: int
) -> dict[str, np.ndarray]:
  """Takes one example out of what `collect_attention` returned.

  Returns:
    `q_over_k` [L, H, N_q, N_k] and `pool_m` [N_m].
  """
  return {name: weights[index] for name, weights in attention.items()}


def final_weights(
  attention: Mapping[str, np.ndarray], query: str, key: str
) -> np.ndarray | None:
  """Averages one example's attention over the heads of the last round.

  Args:
    attention: of one example, see `select_example`.
    query: the modality that looks.
    key: the modality that is looked at.

  Returns:
    [N_query, N_key], or None where the model has no such attention.
  """
  weights = attention.get(f"{query}_over_{key}")
  return None if weights is None else weights[-1].mean(axis=0)


def words_over_image(
  attention: Mapping[str, np.ndarray],
  num_words: int,
  grid: tuple[int, int] | None,
  *,
  image: str = "image",
  text: str = "text",
) -> np.ndarray | None:
  """Where each word looks.

  Args:
    attention: of one example, see `select_example`.
    num_words: how many of the text's tokens are words, the rest is padding.
    grid: (height, width) of the image's tokens.
    image: name of the modality with the grid.
    text: name of the modality with the words.

  Returns:
    [W, height, width] with W ≤ `num_words`, or W = 1 if the text is one token;
    None without such attention or where the image's tokens do not fill the
    grid.
  """
  weights = final_weights(attention, text, image)
  if weights is None or grid is None or weights.shape[1] != grid[0] * grid[1]:
    return None
  return weights[:num_words].reshape(-1, *grid)


def image_over_words(
  attention: Mapping[str, np.ndarray],
  num_words: int,
  *,
  image: str = "image",
  text: str = "text",
) -> np.ndarray | None:
  """How much the image looks at each word.

  Args:
    attention: of one example, see `select_example`.
    num_words: how many of the text's tokens are words, the rest is padding.
    image: name of the modality that looks, averaged over its tokens.
    text: name of the modality with the words.

  Returns:
    [num_words] with sum 1 (words that the model cut off get 0), or None
    without such attention, or if the text is one token and not one a word.
  """
  weights = final_weights(attention, image, text)
  return None if weights is None else _shares(weights.mean(axis=0), num_words)


def pooled_words(
  attention: Mapping[str, np.ndarray], num_words: int, *, text: str = "text"
) -> np.ndarray | None:
  """How much each word weighs in the pooled text, as `image_over_words`."""
  weights = attention.get(f"pool_{text}")
  return None if weights is None else _shares(weights, num_words)


def pooled_cells(
  attention: Mapping[str, np.ndarray],
  grid: tuple[int, int] | None,
  *,
  image: str = "image",
) -> np.ndarray | None:
  """How much each cell weighs in the pooled image, [height, width]."""
  weights = attention.get(f"pool_{image}")
  if weights is None or grid is None or weights.size != grid[0] * grid[1]:
    return None
  return weights.reshape(grid)


def _shares(weights: np.ndarray, num_words: int) -> np.ndarray | None:
  """Pads or cuts to `num_words` and divides by the sum, if there is any."""
  if len(weights) == 1 < num_words:  # the text as a whole, not its first word
    return None
  shares = np.zeros(num_words)
  kept = weights[:num_words]
  shares[: len(kept)] = kept
  return shares / shares.sum() if shares.sum() > 0 else shares


def _pooled_modality(
  path: tuple[str, ...], modalities: Sequence[str]
) -> str | None:
  """The modality that the pooling submodule `path[-2]` belongs to."""
  name = path[-2]
  for modality in modalities:
    if f"heads_{modality}" in path:
      return modality
  for modality in sorted(modalities, key=len, reverse=True):
    if name in (modality, f"{modality}_pool") or name.endswith(f"_{modality}"):
      return modality
  number = re.search(r"_(\d+)$", name)
  if number and int(number.group(1)) < len(modalities):
    return sorted(modalities)[int(number.group(1))]
  return None
