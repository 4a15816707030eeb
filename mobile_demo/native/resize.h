// Resampling of pictures.
#pragma once

#include "image.h"

namespace quantface {

// Resizes by area when shrinking and by a cubic (a = -0.75, edges repeated) when enlarging, as
// `quantface-export restore` does.
Image resize(const Image& image, int width, int height);

}  // namespace quantface
