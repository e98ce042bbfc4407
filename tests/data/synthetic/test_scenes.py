import collections
import dataclasses

import numpy as np
import pytest

from mmjax.data.synthetic import scene_pictures, scenes

SETTINGS = scenes.SceneSettings(
  picture_size=53, min_objects=3, max_objects=7, margin=3
)


def draw(number, settings=SETTINGS, split="train", seed=0):
  return [
    scenes.draw_scene(settings, scenes.make_row_rng(seed, split, "x", row))
    for row in range(number)
  ]


def test_scenes_keep_margins_and_never_overlap():
  drawn = draw(200)
  counts = collections.Counter(len(scene.colours) for scene in drawn)
  assert set(counts) == {3, 4, 5, 6, 7}
  for scene in drawn:
    kinds = set(zip(scene.colours, scene.shapes, strict=True))
    assert len(kinds) == len(scene.colours)
    used = np.zeros((53, 53), int)
    for size, (x, y) in zip(scene.sizes, scene.centres, strict=True):
      radius = (4, 6)[size]
      assert radius <= x < 53 - radius
      assert radius <= y < 53 - radius
      used[y - radius : y + radius + 1, x - radius : x + radius + 1] += 1
    assert used.max() == 1
    for axis in (0, 1):
      assert np.diff(np.sort(scene.centres[:, axis])).min() >= 3


def test_every_kind_comes_equally_often():
  drawn = draw(600)
  for field, number in (("colours", 6), ("shapes", 4), ("sizes", 2)):
    values = np.concatenate([getattr(scene, field) for scene in drawn])
    shares = np.bincount(values, minlength=number) / len(values)
    np.testing.assert_allclose(shares, 1 / number, atol=0.03)
  centres = np.concatenate([scene.centres for scene in drawn])
  np.testing.assert_allclose(centres.mean(axis=0), 26, atol=1)


def test_a_scene_depends_on_seed_split_and_row():
  def same(one, other):
    return all(np.array_equal(a, b) for a, b in zip(one, other, strict=True))

  for split in scenes.SPLITS:
    one, longer = draw(3, split=split), draw(5, split=split)
    assert all(map(same, one, longer))
    other = draw(3, split=split, seed=7)
    assert all(map(same, one, other)) == (split != "train")
    assert not same(longer[3], longer[4])
  assert not same(draw(1)[0], draw(1, split="test")[0])


def test_relations_are_those_of_a_loop():
  rng = np.random.default_rng(0)
  centres = rng.integers(0, 9, (3, 5, 2))
  holds = scenes.relate(centres)
  assert holds.shape == (3, 4, 5, 5)
  for row in range(3):
    for a in range(5):
      for b in range(5):
        (ax, ay), (bx, by) = centres[row, a], centres[row, b]
        expected = [ax < bx, ax > bx, ay < by, ay > by]
        assert holds[row, :, a, b].tolist() == expected


def test_of_two_objects_one_is_left_and_one_above():
  for scene in draw(50):
    holds = scenes.relate(scene.centres)
    different = ~np.eye(len(scene.colours), dtype=bool)
    np.testing.assert_array_equal(holds[0] ^ holds[1], different)
    np.testing.assert_array_equal(holds[2] ^ holds[3], different)


def test_objects_are_found_by_their_names():
  for scene in draw(20):
    for index in range(len(scene.colours)):
      name = scenes.name_object(scene, index)
      assert scenes.find_object(scene, *name.split()) == index
    absent = {(c, s) for c in scenes.COLOURS for s in scenes.SHAPES} - {
      tuple(scenes.name_object(scene, i).split())
      for i in range(len(scene.colours))
    }
    assert all(scenes.find_object(scene, *pair) is None for pair in absent)


@pytest.mark.parametrize("radius", [4, 6])
@pytest.mark.parametrize("shape", scenes.SHAPES)
def test_stencils_touch_all_sides_and_are_mirror_images(shape, radius):
  stencil = scene_pictures.make_stencil(shape, radius)
  assert stencil.shape == (2 * radius + 1, 2 * radius + 1)
  for side in (stencil[0], stencil[-1], stencil[:, 0], stencil[:, -1]):
    assert side.any()
  np.testing.assert_array_equal(stencil, stencil[:, ::-1])
  others = [s for s in scenes.SHAPES if s != shape]
  for other in others:
    # A fifth of the pixels tells any two shapes apart.
    assert (stencil != scene_pictures.make_stencil(other, radius)).mean() > 0.1


def test_pictures_show_each_object_in_its_box_and_nothing_else():
  drawn = draw(30)
  pictures = scene_pictures.render(drawn, 53)
  encoded = scene_pictures.encode_objects(drawn, SETTINGS)
  assert pictures.dtype == np.uint8
  for row, scene in enumerate(drawn):
    left_over = pictures[row].copy()
    number = len(scene.colours)
    assert encoded["objects_mask"][row].tolist() == [True] * number + [
      False
    ] * (7 - number)
    for place in range(number):
      box = encoded["object_boxes"][row, place] * 53
      left, top, right, bottom = np.rint(box).astype(int)
      inside = left_over[top:bottom, left:right]
      ink = (inside == scene_pictures.RGB[scene.colours[place]]).all(axis=-1)
      shape = scenes.SHAPES[scene.shapes[place]]
      radius = (4, 6)[scene.sizes[place]]
      np.testing.assert_array_equal(
        ink, scene_pictures.make_stencil(shape, radius)
      )
      inside[...] = 0
    assert not left_over.any()


def test_objects_are_encoded_as_one_of_many_with_places():
  drawn = draw(11)
  encoded = scene_pictures.encode_objects(drawn, SETTINGS)
  assert encoded["objects"].shape == (11, 7, scene_pictures.NUM_FEATURES)
  assert encoded["objects"].dtype == np.float32
  for row, scene in enumerate(drawn):
    for place in range(7):
      values = encoded["objects"][row, place]
      if place >= len(scene.colours):
        assert not values.any()
        assert not encoded["object_boxes"][row, place].any()
        continue
      colour, shape = values[:6].argmax(), values[6:10].argmax()
      assert (colour, shape, values[10:12].argmax()) == (
        encoded["object_colours"][row, place],
        encoded["object_shapes"][row, place],
        encoded["object_sizes"][row, place],
      )
      assert (colour, shape) == (scene.colours[place], scene.shapes[place])
      assert values[:12].sum() == 3
      np.testing.assert_allclose(
        (values[12:] + 1) / 2 * 52, scene.centres[place], atol=1e-5
      )


def test_triples_are_all_relations_that_hold():
  drawn = draw(5)
  graph = scene_pictures.encode_graph(drawn, SETTINGS)
  assert graph["graph_senders"].shape == (5, 2 * 7 * 6)
  for row, scene in enumerate(drawn):
    mask = graph["graph_mask"][row]
    triples = list(
      zip(
        graph["graph_relations"][row][mask].tolist(),
        graph["graph_senders"][row][mask].tolist(),
        graph["graph_receivers"][row][mask].tolist(),
        strict=True,
      )
    )
    number = len(scene.colours)
    assert len(set(triples)) == len(triples) == 2 * number * (number - 1)
    names = ("left of", "right of", "above", "below")
    for relation, a, b in triples:
      (ax, ay), (bx, by) = scene.centres[a], scene.centres[b]
      holds = (ax < bx, ax > bx, ay < by, ay > by)
      assert holds[names.index(scenes.RELATIONS[relation])]
    for key in ("graph_senders", "graph_receivers", "graph_relations"):
      assert not graph[key][row][~mask].any()


@pytest.mark.parametrize(
  ("changes", "match"),
  [
    ({"margin": 0}, r"data\.margin is 0"),
    ({"min_objects": 0}, r"data\.min_objects is 0"),
    ({"max_objects": 25}, r"data\.max_objects is 25; set it to 3 .* to 24"),
    ({"min_objects": 8}, r"data\.max_objects is 7; set it to 8"),
    ({"picture_size": 30}, r"data\.picture_size is 30.*at least 31"),
  ],
)
def test_settings_that_make_no_sense_are_refused(changes, match):
  with pytest.raises(ValueError, match=match):
    dataclasses.replace(SETTINGS, **changes)


def test_a_crowd_that_does_not_fit_is_refused():
  crowd = scenes.SceneSettings(
    picture_size=36, min_objects=20, max_objects=20, margin=1
  )
  with pytest.raises(ValueError, match="20 objects were not placed"):
    draw(1, crowd)


def test_unknown_names_are_refused():
  with pytest.raises(ValueError, match=r"'dev'.*train, validation, test"):
    scenes.make_row_rng(0, "dev", "x", 0)
  with pytest.raises(ValueError, match=r"'star'.*circle, square"):
    scene_pictures.make_stencil("star", 4)


def test_scenes_are_read_back_from_their_pictures():
  settings = scenes.SceneSettings()
  for row in range(8):
    rng = scenes.make_row_rng(0, "test", "read", row)
    scene = scenes.draw_scene(settings, rng)
    picture = scene_pictures.render([scene], 64)[0]
    found = scene_pictures.read_scene(picture)

    def columns(of):
      return sorted(
        zip(*(np.asarray(values).tolist() for values in of), strict=True)
      )

    assert columns(found) == columns(scene)
  picture[30:33, 30:33] = scene_pictures.RGB[0]
  for wrong in (picture, np.zeros((64, 64, 3), np.uint8), picture[:5, :5]):
    with pytest.raises(ValueError, match="cannot be read off this picture"):
      scene_pictures.read_scene(wrong)
