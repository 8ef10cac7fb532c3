"""Cross distillation in your own training loop: one layer of a student learns from its teacher.

Run it with `python examples/own_loop.py`; it needs no data.
"""

import torch
from torch import nn

import fsc_ext


def distill(steps: int = 200, kept: int = 8) -> tuple[float, float]:
    """Prunes half of a layer's input channels and recovers the layer; first and last loss."""
    torch.manual_seed(0)
    conv_t = nn.Conv2d(16, 32, 3, padding=1)  # the teacher's layer
    conv_s = nn.Conv2d(16, 32, 3, padding=1)  # the student's layer, to be pruned
    conv_s.load_state_dict(conv_t.state_dict())

    h_t = torch.randn(10, 16, 8, 8).relu()  # the layer's input in the teacher
    h_s = h_t + 0.1 * torch.randn_like(h_t)  # and in the student, whose earlier layers drifted

    mask = fsc_ext.keep_topk_groups_(conv_s.weight.detach(), kept, dim=1)  # [16]
    optimizer = torch.optim.Adam(conv_s.parameters(), lr=1e-2)
    losses = []
    for _ in range(steps):
        loss = fsc_ext.cross_distill_layer(
            h_t,
            h_s,
            conv_t.weight,
            conv_s.weight,
            conv_t.bias,
            conv_s.bias,
            alpha=0.9,
            beta=0.3,
            padding=1,
        )
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        with torch.no_grad():
            conv_s.weight *= mask[:, None, None]  # dead channels stay dead
        losses.append(loss.item())
    return losses[0], losses[-1]


if __name__ == "__main__":
    first, last = distill()
    print(f"loss {first:.1f} -> {last:.1f}")
