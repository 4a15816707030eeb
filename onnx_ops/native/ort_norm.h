// Norms for ONNX Runtime: what the operators that normalize share.
#pragma once

#include "ort_host.h"

namespace quantface {

// The attribute, which is above 0 and at most 1.
OrtStatus* read_epsilon(const Api& api, const OrtKernelInfo* info, float* epsilon);

struct Norm {
  std::int64_t groups = 0;
  float epsilon = 0;

  OrtStatus* init(const Api& api, const OrtKernelInfo* info);
};

// Reads inputs 0 to 2, x, gamma and beta, into `call`, all but its y, gains and offsets.
OrtStatus* read_norm(const Api& api, const OrtKernelContext* context, const Norm& norm, Input* x,
                     NormCall* call);

std::size_t moments_bytes(const NormCall& call);

// Computes the gains and offsets, in memory of moments_bytes.
OrtStatus* run_moments(const Api& api, const OrtKernelContext* context, const Kernels& kernels,
                       float* memory, NormCall* call);

}  // namespace quantface
