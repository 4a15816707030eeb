#include "fuzz_calls.h"

#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <cstring>

#include "rotation.h"

namespace fuzz {

using quantface::ort::CustomOp;
namespace ort = quantface::ort;

void Calls::fill(OrtValue* value, const std::vector<std::int64_t>& dims, int element, bool finite) {
  if (below(64) == 0) element = static_cast<int>(below(24));
  value->info.dims = dims;
  value->info.names.assign(dims.size(), "size");
  value->info.element = element;
  value->data.resize(bytes_of(element, count(dims)));
  const bool special = !finite && below(4) == 0;
  if (special) {
    for (unsigned char& byte : value->data) byte = static_cast<unsigned char>(random_());
  } else if (element == ort::kFloat) {
    for (std::size_t i = 0; i + 4 <= value->data.size(); i += 4) {
      const float v = static_cast<float>(below(2001)) / 500.0f - 2.0f;
      std::memcpy(&value->data[i], &v, 4);
    }
  } else {
    for (std::size_t i = 0; i < value->data.size(); ++i) {  // halves between 2**-15 and 4
      value->data[i] = static_cast<unsigned char>(i % 2 ? random_() % 0x44 : random_());
    }
  }
}

void Calls::infer(const CustomOp& op, const OrtKernelInfo& info, const std::vector<OrtValue>& values) {
  OrtShapeInferContext context;
  for (const OrtValue& value : values) context.inputs.push_back(value.info);
  for (const auto& [name, value] : info.attributes) context.attributes[name].values = {value};
  for (const auto& [name, values_of] : info.lists) context.attributes[name].values = values_of;
  release(op.InferOutputShapeFn(&op, &context));
}

bool Calls::compute(const CustomOp& op, OrtKernelInfo info, const std::vector<OrtValue>& values, double tolerance) {
  info.refuse_memory = below(64) == 0;
  OrtKernelContext context{{}, nullptr, below(64) == 0, below(64) == 0};
  std::vector<OrtValue> expected, outputs(op.GetOutputTypeCount(&op));
  for (const OrtValue& value : values) context.inputs.push_back(&value);
  if (below(64) == 0) context.inputs[below(context.inputs.size())] = nullptr;
  if (below(64) == 0) context.inputs.pop_back();
  for (int i = -1;; ++i) {
    const quantface::Kernels* kernels = i < 0 ? nullptr : quantface::supported_kernels(i);
    if (i >= 0 && kernels == nullptr) return true;
    setenv("QUANTFACE_ISA", i < 0 ? "abacus" : kernels->name, 1);
    void* kernel = nullptr;
    if (OrtStatus* status = op.CreateKernelV2(&op, api(), &info, &kernel)) {
      if (kernel != nullptr) return false;
      release(status);
      continue;
    }
    if (i < 0) return false;
    for (std::size_t j = 0; j < outputs.size(); ++j) outputs[j].info.element = op.GetOutputType(&op, j);
    context.outputs = outputs.data();
    if (OrtStatus* status = op.KernelComputeV2(kernel, &context)) {
      release(status);
    } else {
      ++computed;
      const auto alike = [&](const OrtValue& a, const OrtValue& b) { return same(a, b, tolerance); };
      if (i > 0 && !std::equal(expected.begin(), expected.end(), outputs.begin(), outputs.end(), alike)) {
        std::fprintf(stderr, "%s differs from %s: %s\n", kernels->name,
                     quantface::supported_kernels(0)->name, op.GetName(&op));
        for (const auto& [name, value] : info.attributes) std::fprintf(stderr, " %s %lld\n", name.c_str(), static_cast<long long>(value));
        return false;
      }
      expected = outputs;
    }
    op.KernelDestroy(kernel);
  }
}

}  // namespace fuzz
