// One face in, one face out: the four stages of a bundle.
#pragma once

#include <string>

#include "image.h"
#include "session.h"

namespace quantface {

// Restores an aligned face crop of the bundle's aspect, resized to the bundle's size first. One
// stage is in memory at a time. Throws Error.
Image restore_face(const Runtime& runtime, const std::string& bundle, const Image& face,
                   const SessionSettings& settings);

}  // namespace quantface
