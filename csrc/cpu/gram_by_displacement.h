// Gram matrices of windows that move by single pixels, from products of displaced images.
#pragma once

#include "gram.h"

namespace fsc {

// Whether the products of displaced images take fewer multiplications than those of the columns.
bool pays_by_displacement(const GramSide& side);

// Adds to the Gram matrices that are asked for, of the symmetric ones to the lower triangle. Both sides have the same
// number of images and of pixels; one may be null.
void add_by_displacement(const Grams& grams, const GramSide* student, const GramSide* teacher);

}  // namespace fsc
