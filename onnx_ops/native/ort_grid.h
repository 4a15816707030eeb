// Grids of codes for ONNX Runtime: what the operators that round share.
#pragma once

#include "ort_host.h"

namespace quantface {

struct GridLimits {
  bool is_signed = false;
  std::int64_t qmin = 0, qmax = 0;

  // Attributes of a node.
  OrtStatus* init(const Api& api, const OrtKernelInfo* info, bool of_int8);
  // Inputs `first` and the next one, scale and zero point.
  OrtStatus* read(const Api& api, const OrtKernelContext* context, std::size_t first, CodeGrid* grid) const;
};

}  // namespace quantface
