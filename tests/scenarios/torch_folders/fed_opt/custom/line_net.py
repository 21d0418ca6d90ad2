import torch


class LineNet(torch.nn.Module):
    """One weight that is trained, one that is frozen, and batch-norm statistics."""

    def __init__(self, start=0.0):
        super().__init__()
        self.weight = torch.nn.Parameter(torch.full((2,), start))
        self.frozen = torch.nn.Parameter(torch.zeros(1), requires_grad=False)
        self.norm = torch.nn.BatchNorm1d(1, affine=False)

    def forward(self, x):
        return self.norm(x) * self.weight + self.frozen
