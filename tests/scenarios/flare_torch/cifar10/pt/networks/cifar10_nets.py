import torch
from torch import nn


class ModerateCNN(nn.Module):
    """Two blocks of convolutions, the first with batch normalisation, and a head; always begins alike."""

    def __init__(self, width: int = 8, seed: int = 0):
        super().__init__()
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            self.conv_layer = nn.Sequential(
                nn.Conv2d(3, width, kernel_size=3, padding=1),
                nn.BatchNorm2d(width),
                nn.ReLU(inplace=True),
                nn.MaxPool2d(kernel_size=2, stride=2),
                nn.Conv2d(width, 2 * width, kernel_size=3, padding=1),
                nn.ReLU(inplace=True),
                nn.MaxPool2d(kernel_size=4, stride=4),
            )
            self.fc_layer = nn.Sequential(nn.Linear(2 * width * 4 * 4, 32), nn.ReLU(inplace=True), nn.Linear(32, 10))

    def forward(self, x):
        x = self.conv_layer(x)
        return self.fc_layer(x.view(x.size(0), -1))
