// The codes of a grid: clip(round(v / scale) + zero_point), ties to even.
#pragma once

#include <cstdint>

namespace quantface {

struct CodeGrid {
  float scale = 1;          // width of a step
  float low = 0, high = 0;  // smallest and largest step, zero point taken off
  std::int32_t zero_point = 0;
  bool is_signed = false;
  bool stream = false;      // write codes past the caches
};

}  // namespace quantface
