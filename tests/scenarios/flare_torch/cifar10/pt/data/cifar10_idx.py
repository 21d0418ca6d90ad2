import os

import numpy as np
import torch
from torch.utils.data import Dataset

NUM_TRAIN, NUM_TEST = 768, 128


def _made_up():
    """Images whose class shows in their colour and in where they are bright; half of it noise."""
    rng = np.random.RandomState(0)
    labels = rng.randint(0, 10, NUM_TRAIN + NUM_TEST)
    images = rng.randint(0, 128, (len(labels), 32, 32, 3))
    for image, label in zip(images, labels, strict=True):
        top, left = 16 * (label // 5), 6 * (label % 5)
        image[top : top + 16, left : left + 8, label % 3] += 127
    return images.astype(np.uint8), labels


def load_cifar10(root):
    """Images (N x 32 x 32 x 3, bytes) and labels: from the folder if they are there, else made up."""
    root = os.environ.get("CIFAR10_ROOT", root)
    if os.path.exists(os.path.join(root, "images.npy")):
        return np.load(os.path.join(root, "images.npy")), np.load(os.path.join(root, "labels.npy"))
    return _made_up()


def site_indices(labels, site, num_sites=8):
    """Which training images a site has: three fifths of them from two classes of its own."""
    rng = np.random.RandomState(site)
    own = np.isin(labels[:NUM_TRAIN], [site % 10, (site + 1) % 10])
    size = NUM_TRAIN // num_sites
    few = rng.choice(np.flatnonzero(own), 3 * size // 5, replace=False)
    rest = rng.choice(np.flatnonzero(~own), size - len(few), replace=False)
    return np.concatenate([few, rest])


class CIFAR10_Idx(Dataset):
    """Some of the training images, or all test images."""

    def __init__(self, root, data_idx=None, train=True):
        images, labels = load_cifar10(root)
        part = slice(0, NUM_TRAIN) if train else slice(NUM_TRAIN, NUM_TRAIN + NUM_TEST)
        images, labels = images[part], labels[part]
        if data_idx is not None:
            images, labels = images[data_idx], labels[data_idx]
        mean, std = np.array([125.3, 123.0, 113.9]), np.array([63.0, 62.1, 66.7])
        scaled = ((images - mean) / std).astype(np.float32)
        self.data = torch.from_numpy(np.ascontiguousarray(scaled.transpose(0, 3, 1, 2)))
        self.target = torch.from_numpy(labels.astype(np.int64))

    def __getitem__(self, index):
        return self.data[index], self.target[index]

    def __len__(self):
        return len(self.data)
