// The dtypes that device code is compiled for.
#pragma once

#include <ATen/Dispatch.h>

#define FSC_DISPATCH(dtype, name, ...) \
  AT_DISPATCH_FLOATING_TYPES_AND2(at::ScalarType::Half, at::ScalarType::BFloat16, dtype, name, __VA_ARGS__)
