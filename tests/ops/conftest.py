"""With FSC_EMULATE=1 the device code runs in the place of the CPU kernels, on the host emulator."""

import emulator

from fsc_ext.testing import EMULATED

if EMULATED:
    emulator.load()
