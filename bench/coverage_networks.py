"""The networks of torchvision and timm that `bench/coverage.py` measures."""

from __future__ import annotations

import sys

import torch
from torch import Tensor, nn

# Every classification CNN of torchvision up to 100 M parameters, and CNNs of timm, a family each:
# in the order of their parameters, so that an interrupted run has seen most of them.
NETWORKS = """
torchvision:squeezenet1_1 torchvision:squeezenet1_0 timm:edgenext_xx_small
torchvision:shufflenet_v2_x0_5 timm:lcnet_050 timm:tinynet_e torchvision:mnasnet0_5
torchvision:shufflenet_v2_x1_0 timm:repghostnet_050 timm:mobilenetv3_small_100
torchvision:mobilenet_v3_small timm:regnetx_002 timm:starnet_s1 timm:regnety_002
torchvision:mnasnet0_75 timm:cs3darknet_s torchvision:shufflenet_v2_x1_5 timm:mobilenetv2_100
torchvision:mobilenet_v2 timm:convnext_atto timm:convnextv2_atto timm:mobilenetv4_conv_small
timm:fasternet_t0 timm:fastvit_t8 timm:mixnet_s timm:inception_next_atto timm:mobilenetv1_100
torchvision:regnet_y_400mf timm:mnasnet_100 torchvision:mnasnet1_0 timm:efficientnet_lite0
timm:rexnet_100 timm:ghostnet_100 timm:hardcorenas_a timm:efficientnet_b0 timm:tf_efficientnet_b0
torchvision:efficientnet_b0 timm:mobileone_s0 torchvision:mobilenet_v3_large timm:repvit_m0_9
torchvision:regnet_x_400mf timm:fbnetc_100 timm:hgnetv2_b0 timm:ghostnetv2_100
torchvision:mnasnet1_3 torchvision:regnet_y_800mf timm:ese_vovnet19b_dw torchvision:regnet_x_800mf
timm:mambaout_femto torchvision:shufflenet_v2_x2_0 torchvision:efficientnet_b1
torchvision:densenet121 timm:gernet_s timm:fbnetv3_b timm:nf_regnet_b0 timm:repvgg_a0
torchvision:efficientnet_b2 torchvision:regnet_x_1_6gf timm:regnetz_b16 timm:eca_resnext26ts
timm:gcresnext26ts timm:resnest14d torchvision:regnet_y_1_6gf timm:resnet18 torchvision:resnet18
timm:legacy_seresnet18 timm:poolformer_s12 timm:poolformerv2_s12 timm:skresnet18
torchvision:efficientnet_b3 timm:botnet26t_256@256 timm:dpn68 torchvision:googlenet@96
timm:hrnet_w18_small timm:efficientnetv2_rw_t torchvision:densenet169 timm:hgnet_tiny
torchvision:regnet_x_3_2gf timm:dla34 timm:ecaresnet26t timm:seresnext26t_32x4d
torchvision:efficientnet_b4 torchvision:regnet_y_3_2gf torchvision:densenet201
timm:convmixer_768_32 torchvision:efficientnet_v2_s timm:cspresnet50 torchvision:resnet34
timm:vovnet39a timm:rdnet_tiny timm:ese_vovnet39b torchvision:resnext50_32x4d timm:resnetv2_50
timm:resnetv2_50x1_bit timm:nf_resnet50 timm:resnet50 torchvision:resnet50
timm:res2net50_26w_4s timm:xception41 torchvision:inception_v3@96 timm:cspdarknet53
torchvision:convnext_tiny torchvision:densenet161 timm:selecsls42 torchvision:efficientnet_b5
timm:tresnet_m torchvision:regnet_y_8gf torchvision:regnet_x_8gf timm:darknet53
timm:inception_v4@96 torchvision:efficientnet_b6 torchvision:resnet101 torchvision:convnext_small
torchvision:efficientnet_v2_m torchvision:regnet_x_16gf torchvision:resnet152 torchvision:alexnet
torchvision:efficientnet_b7 torchvision:wide_resnet50_2 timm:dm_nfnet_f0
torchvision:resnext101_64x4d torchvision:regnet_y_16gf torchvision:convnext_base
torchvision:resnext101_32x8d timm:vgg11_bn
""".split()

_OPERATORS = """
nms qnms roi_align _roi_align_backward roi_pool _roi_pool_backward ps_roi_align
_ps_roi_align_backward ps_roi_pool _ps_roi_pool_backward deform_conv2d _deform_conv2d_backward
""".split()
_IMAGES = 2
_declared: list[torch.library.Library] = []


def import_torchvision() -> None:
    """Import torchvision, also one that was compiled for another build of torch.

    Its compiled operators, for detection, do not load then, and the import stops where it describes
    them. Once their names are declared it goes through; no network for classification calls any.
    """
    try:
        import torchvision  # noqa: F401
    except RuntimeError:
        for name in [name for name in sys.modules if name.split(".")[0] == "torchvision"]:
            del sys.modules[name]
        library = torch.library.Library("torchvision", "FRAGMENT")
        for operator in _OPERATORS:
            library.define(f"{operator}(Tensor input) -> Tensor")
        _declared.append(library)  # what it declares goes with it


def build(name: str) -> tuple[nn.Module, Tensor]:
    """A network with random weights and running statistics as of a trained one, and some images."""
    library, _, rest = name.partition(":")
    model_name, _, side = rest.partition("@")
    import_torchvision()
    torch.manual_seed(0)
    if library == "timm":
        import timm

        model = timm.create_model(model_name)
    else:
        import torchvision

        model = torchvision.models.get_model(model_name, weights=None)
    with torch.no_grad():
        for module in model.modules():
            if isinstance(module, nn.modules.batchnorm._BatchNorm):
                module.running_mean.normal_(0, 0.1)
                module.running_var.uniform_(0.5, 2)
    pixels = int(side or 64)
    return model.eval(), torch.randn(_IMAGES, 3, pixels, pixels)
