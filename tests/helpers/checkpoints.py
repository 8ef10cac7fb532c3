"""A thinned network of fsc, and files of it with headers and tensors made by hand."""

import torch
from torch import nn

from fsc import models
from fsc.networks.tensor_files import write_tensors

IMAGES = torch.randn(2, 3, 32, 32)


def thinned_resnet() -> nn.Module:
    model = models.build("resnet14", num_classes=7)
    for block, width in ((model.layer1[0], 5), (model.layer3[1], 40)):
        first, second = block.conv1, block.conv2
        block.conv1 = nn.Conv2d(first.in_channels, width, 3, first.stride, 1, bias=False)
        block.bn1 = nn.BatchNorm2d(width)
        block.conv2 = nn.Conv2d(width, second.out_channels, 3, 1, 1, bias=False)
    model(IMAGES)
    return model


HEADER = {"format": "fsc-2", "model": "resnet14", "num_classes": 7, "in_channels": 3}


def with_header(path, header, state):
    write_tensors(path, state, header)
    return path
