// Random tensors, and calls of operators under every instruction set.
#pragma once

#include <random>
#include <vector>

#include "fuzz_host.h"

namespace fuzz {

class Calls {
 public:
  explicit Calls(unsigned seed) : random_(seed) {}

  std::size_t below(std::size_t n) { return std::uniform_int_distribution<std::size_t>(0, n - 1)(random_); }

  // Small values, or any bytes unless they must be `finite`; seldom of another element type.
  void fill(OrtValue* value, const std::vector<std::int64_t>& dims, int element, bool finite = false);

  // Infers the output's shape, which may be refused.
  void infer(const quantface::ort::CustomOp& op, const OrtKernelInfo& info, const std::vector<OrtValue>& values);

  // Whether all instruction sets agree; floats may differ by `tolerance` of the largest one.
  bool compute(const quantface::ort::CustomOp& op, OrtKernelInfo info, const std::vector<OrtValue>& values,
               double tolerance = 0);

  long computed = 0;  // calls that did not end with an error

 private:
  std::mt19937 random_;
};

}  // namespace fuzz
