import os

import numpy as np
import torch
from torch.utils.data import TensorDataset

NUM_IMAGES = 96


def stripes(num_images, seed):
    """Noisy stripes: the class says how steep and how dense they are."""
    rng = np.random.RandomState(seed)
    labels = rng.randint(0, 10, num_images)
    y, x = np.mgrid[0:32, 0:32] / 32.0
    angle = (np.pi / 5 * (labels % 5))[:, None, None]
    density = np.where(labels < 5, 4.0, 10.0)[:, None, None]
    waves = np.sin(2 * np.pi * density * (x * np.cos(angle) + y * np.sin(angle)))
    images = waves[:, None] + 0.3 * rng.randn(num_images, 3, 32, 32)
    return images.astype(np.float32), labels


def photos(folder, site, num_images):
    """Some of the photos in a folder; each site has its own."""
    images = np.load(os.path.join(folder, "images.npy"), mmap_mode="r")
    labels = np.load(os.path.join(folder, "labels.npy"))
    chosen = slice(site * num_images, (site + 1) * num_images)
    scaled = (images[chosen].astype(np.float32) / 255 - 0.5) / 0.5
    return np.ascontiguousarray(scaled.transpose(0, 3, 1, 2)), labels[chosen].astype(np.int64)


def load_images(site, num_images=NUM_IMAGES):
    """The images of site 1, 2, ...; those of site 0 are nobody's, for tests."""
    folder = os.environ.get("CIFAR10_ROOT")
    images, labels = photos(folder, site, num_images) if folder else stripes(num_images, seed=site)
    return TensorDataset(torch.from_numpy(images), torch.from_numpy(labels))
