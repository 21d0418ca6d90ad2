"""The parts of the CIFAR-10 example: how it reads its data, its networks, and what runs at a site."""

from __future__ import annotations

import hashlib
import os
import pickle
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from acceptance.cifar10_files import Modules, as_published, example_modules, folder_with_images, real_data
from hansa.apis.dxo import DXO, DataKind, from_shareable
from hansa.apis.fl_constant import ReservedKey, ReturnCode
from hansa.apis.fl_context import FLContext
from hansa.apis.shareable import Shareable
from hansa.apis.signal import Signal
from hansa.errors import ConfigError

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def example() -> Iterator[Modules]:
    with example_modules() as modules:
        yield modules


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return folder_with_images(tmp_path_factory.mktemp("images"))


# -- the data --------------------------------------------------------------------------------------------------------


OFFICIAL = ("5dd7e06a14cb22eb9f671a540d1b7c25", "803d5f7f4d78ea53de84dbe85f74fb6d")
"""MD5 of a label and the pixels of each image in turn: of `data_batch_1` and `test_batch` as published."""


def test_both_layouts_give_the_official_images_in_their_order(example: Modules, folder: Path, tmp_path: Path) -> None:
    splits = example["data"].read(folder, num_train=10_000)
    if folder == real_data():
        rows = (np.c_[labels.astype(np.uint8), pixels.reshape(10_000, -1)] for pixels, labels in splits)
        assert tuple(hashlib.md5(each.tobytes()).hexdigest() for each in rows) == OFFICIAL
    official = tmp_path / "cifar-10-batches-py"
    official.mkdir()
    for name, (pixels, labels) in zip(("data_batch_1", "test_batch"), splits, strict=True):
        (official / name).write_bytes(as_published(pixels, labels))
    for place in (tmp_path, official):
        again = example["data"].read(place, num_train=9_000)
        assert [len(labels) for _, labels in again] == [9_000, 10_000]
        for (pixels, labels), (known_pixels, known_labels) in zip(again, splits, strict=True):
            assert np.array_equal(pixels, known_pixels[: len(pixels)])
            assert np.array_equal(labels, known_labels[: len(labels)])


def write_residuals(place: Path, **arrays: Any) -> None:
    place.mkdir(exist_ok=True)
    for name in ("train_1.npz", "test.npz"):
        np.savez_compressed(place / name, **arrays)


def test_residuals_worked_by_hand(example: Modules, tmp_path: Path) -> None:
    residual = np.zeros((3, 10_000, 32, 32), np.uint8)
    residual[:, 0, 0, 0] = 130, 5, 128  # of the first image: R - G + 128 = 130, G = 5, B - G + 128 = 128 everywhere
    residual[1, 0, 1, 1] = 10  # from the second row and column on G is 15: the median of 15, 5 and 5 + 15 - 5
    write_residuals(tmp_path, residual=residual, labels=np.arange(10_000, dtype=np.uint8) % 10)
    (pixels, labels), _ = example["data"].read(tmp_path, num_train=2)
    assert pixels[0, :, 0, 0].tolist() == [7, 5, 5]
    assert pixels[0, :, 0, 31].tolist() == [7, 5, 5]
    assert pixels[0, :, 31, 31].tolist() == [17, 15, 15]
    assert pixels[1, :, 0, 0].tolist() == [128, 0, 128]  # 0 - 128, modulo 256
    assert labels.tolist() == [0, 1]


class Command:
    """What a hostile file would have a careless reader call."""

    def __reduce__(self) -> tuple[Any, ...]:
        return os.system, ("touch called",)


PUBLISHED = as_published(np.frombuffer(b"abcdef", np.uint8).reshape(2, 3), np.array([0, 1]))
"""Two images of three bytes."""


def batch(data: object) -> bytes:
    return pickle.dumps({b"data": data, b"labels": [0]}, protocol=3)


@pytest.mark.parametrize(
    ("content", "cause"),
    [
        (b"", "EOFError"),
        (b"no pickle", "UnpicklingError"),
        (batch(Command()), "it asks for posix.system, which no file of CIFAR-10 does"),
        (batch(np.zeros((1, 3072), np.float32)), "it asks for numpy"),
        (batch(b"bytes"), "its data are no array"),
        (PUBLISHED, "cannot reshape array of size 6"),
        (PUBLISHED.replace(b"u1", b"f4"), "not of uint8"),
        (
            PUBLISHED.replace(b"T\x06\x00\x00\x00abcdef", b"T\x05\x00\x00\x00abcde"),
            "shape (2, 3) has 5 bytes",
        ),
        (PUBLISHED.replace(b"_reconstruct", b"fromstring"), "it asks for numpy.core.multiarray.fromstring"),
        (pickle.dumps([1]), "TypeError"),
        (pickle.dumps({}), "KeyError"),
    ],
)
def test_a_broken_or_hostile_file_is_one_line_and_runs_nothing(
    example: Modules, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, content: bytes, cause: str
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "data_batch_1").write_bytes(content)
    with pytest.raises(ConfigError) as caught:
        example["data"].read(tmp_path, num_train=10)
    assert str(caught.value).startswith(f"{tmp_path / 'data_batch_1'}: is no file of CIFAR-10: ")
    assert cause in str(caught.value)
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "called").exists()


def test_arrays_of_other_shapes_and_missing_files_are_named(example: Modules, tmp_path: Path) -> None:
    labels = np.zeros(10_000, np.uint8)
    cases = [
        ({"residual": np.zeros((3, 2, 32, 32), np.uint8), "labels": labels}, r"images \(2, 3, 32, 32\)"),
        ({"residual": np.zeros((3, 10_000, 32, 32), np.uint8), "labels": labels + 10}, "from 10 to 10"),
        ({"residual": np.zeros((3, 2, 32, 32), np.float32), "labels": labels}, "residuals of float32"),
        ({"residual": np.zeros((3, 2, 32, 32), object), "labels": labels}, "Object arrays cannot be loaded"),
        ({"labels": labels}, "residual is not a file"),
    ]
    for arrays, cause in cases:
        write_residuals(tmp_path, **arrays)
        with pytest.raises(ConfigError, match=cause):
            example["data"].read(tmp_path, num_train=10)
    (tmp_path / "train_1.npz").write_bytes(b"PK no archive")
    with pytest.raises(ConfigError, match="train_1.npz: is no file of CIFAR-10"):
        example["data"].read(tmp_path, num_train=10)
    write_residuals(tmp_path, residual=np.zeros((3, 10_000, 32, 32), np.uint8), labels=labels)
    with pytest.raises(ConfigError, match=r"train_2.npz: there is no such file, though others"):
        example["data"].read(tmp_path, num_train=10_001)


# -- networks and learner --------------------------------------------------------------------------------------------


def test_the_networks_have_the_published_sizes(example: Modules) -> None:
    sizes = {"moderate": 3_491_530, "simple": 62_006}
    for name, size in sizes.items():
        network = example["networks"].NETWORKS[name]()
        assert sum(value.numel() for value in network.parameters()) == size
        assert network(torch.zeros(2, 3, 32, 32)).shape == (2, 10)


@pytest.fixture(scope="module")
def cache(example: Modules, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A few images of noise, as `data.unpack` lays them down."""
    place = tmp_path_factory.mktemp("noise")
    rng = np.random.default_rng(0)
    for split, number in (("train", 60), ("test", 20)):
        np.save(place / f"{split}_pixels.npy", rng.integers(0, 256, (number, 3, 32, 32), dtype=np.uint8))
        np.save(place / f"{split}_labels.npy", np.arange(number, dtype=np.int64) % 10)
    return place


def test_an_augmented_image_is_a_window_of_the_reflected_one_mirrored_or_not(example: Modules, cache: Path) -> None:
    learner = example["learner"]
    windows, _ = learner.training_images(cache, "cpu")
    pixels, _ = example["data"].load(cache, "train")
    torch.manual_seed(0)
    found = set()
    for image in range(60):
        batch = learner.augmented(windows, torch.tensor([image]))[0]
        whole = torch.from_numpy(np.pad(pixels[image], ((0, 0), (4, 4), (4, 4)), mode="reflect"))
        matches = [
            (down, right, mirrored)
            for down in range(9)
            for right in range(9)
            for mirrored in (False, True)
            if torch.equal(batch, learner.scaled(seen(whole, down, right, mirrored))[0])
        ]
        assert len(matches) == 1
        found.update(matches)
    assert {down for down, _, _ in found} == set(range(9))
    assert {mirrored for _, _, mirrored in found} == {False, True}


def seen(whole: torch.Tensor, down: int, right: int, mirrored: bool) -> torch.Tensor:
    window = whole[:, down : down + 32, right : right + 32]
    return (window.flip(2) if mirrored else window).unsqueeze(0)


def a_learner(example: Modules, cache: Path) -> Any:
    training = {"network": "simple", "epochs": 1, "batch": 8, "rate": 0.05}
    made = example["learner"].CifarLearner(str(cache), alpha=1.0, num_sites=2, seed=0, training=training)
    context = FLContext()
    context.set_prop(ReservedKey.IDENTITY_NAME, "site-2", private=False, sticky=False)
    torch.manual_seed(5)
    made.initialize({}, context)
    return made


def task(example: Modules, *, controls: bool, mu: float = 0.0) -> Shareable:
    torch.manual_seed(1)
    weights = {k: v.numpy() for k, v in example["networks"].SimpleNetwork().state_dict().items()}
    dxo = DXO(DataKind.WEIGHTS, weights)
    if controls:
        zeros = DXO(DataKind.WEIGHT_DIFF, {name: np.full_like(value, 0.01) for name, value in weights.items()})
        dxo = DXO(DataKind.COLLECTION, {"_model_weights_": dxo, "scaffold_c_global": zeros})
    shareable = dxo.to_shareable()
    if mu:
        shareable.set_header("fed_prox_mu", mu)
    return shareable


def trained(made: Any, shareable: Shareable, *, seed: int = 7) -> dict[str, np.ndarray]:
    torch.manual_seed(seed)
    result = from_shareable(made.train(shareable, FLContext(), Signal()))
    if result.data_kind != DataKind.COLLECTION:
        return dict(result.data)
    return {f"{part}.{name}": value for part, dxo in result.data.items() for name, value in dxo.data.items()}


def same(left: dict[str, np.ndarray], right: dict[str, np.ndarray]) -> bool:
    return left.keys() == right.keys() and all(np.array_equal(left[name], right[name]) for name in left)


@pytest.mark.parametrize("controls", [False, True])
def test_a_site_that_is_restored_goes_on_with_the_same_bits(example: Modules, cache: Path, controls: bool) -> None:
    first = a_learner(example, cache)
    fresh_result = trained(first, task(example, controls=controls))
    state = first.state()
    second_result = trained(first, task(example, controls=controls))
    assert not same(fresh_result, second_result)  # momentum and controls are kept from round to round

    restored = a_learner(example, cache)
    restored.restore(state)
    assert same(trained(restored, task(example, controls=controls)), second_result)


def test_the_state_before_training_can_be_restored(example: Modules, cache: Path) -> None:
    first, second = a_learner(example, cache), a_learner(example, cache)
    second.restore(first.state())
    assert same(trained(first, task(example, controls=False)), trained(second, task(example, controls=False)))


def test_a_proximal_term_keeps_the_weights_near_the_global_ones(example: Modules, cache: Path) -> None:
    def distance(mu: float) -> float:
        change = trained(a_learner(example, cache), task(example, controls=False, mu=mu))
        return float(np.sqrt(sum((value**2).sum() for value in change.values())))

    assert distance(5.0) < 0.9 * distance(0.0)


def test_an_aborted_site_stops(example: Modules, cache: Path) -> None:
    signal = Signal()
    signal.trigger(True)
    reply = a_learner(example, cache).train(task(example, controls=False), FLContext(), signal)
    assert reply.get_return_code() == ReturnCode.TASK_ABORTED
