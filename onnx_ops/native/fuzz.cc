// Fuzzes the boundary of the operators: a host that plays ONNX Runtime, with its checks left out.
//
//   quantface_fuzz [rounds] [seed]
//
// Attributes, types, ranks, sizes and values are drawn at random, mostly near what is valid. An
// error status is a fine answer; a crash, a write outside a tensor (the sanitizers see it), a leak
// or two instruction sets that disagree are not. Ends with 0 if all is well.
#include <algorithm>
#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <string>
#include <vector>

#include "fuzz_calls.h"

namespace ort = quantface::ort;
using ort::CustomOp;

extern "C" OrtStatus* RegisterCustomOps(OrtSessionOptions*, const ort::ApiBase*);

namespace {

using Dims = std::vector<std::int64_t>;

class Fuzz : public fuzz::Calls {
 public:
  using Calls::Calls;

  bool round(const std::vector<const CustomOp*>& ops) {
    const CustomOp& op = *ops[below(ops.size())];
    const std::string name = op.GetName(&op);
    if (name.find("Hadamard") == 0) return hadamard_round(op);
    if (name.find("GroupNorm") == 0) return norm_round(op, name.find("Hadamard") != std::string::npos);
    if (name == "Attention") return attention_round(op, 1e-4);
    if (name == "QuantizedAttention") return attention_round(op, 0);
    if (name == "LayerNormQuantize" || name == "GegluQuantize" || name == "ScaleQuantize") return row_round(op);
    return name.find("QuantizedLinear") == 0 ? linear_round(op) : conv_round(op);
  }

  bool hadamard_round(const CustomOp& op) {
    const bool quantize = op.GetInputTypeCount(&op) == 4;
    static const std::int64_t seeds[] = {1, 1, 12, 20, 60};
    std::int64_t seed = seeds[below(5)], log2 = static_cast<std::int64_t>(below(seed == 1 ? 10 : 5));
    const std::int64_t n = seed << log2;
    const bool first = below(2) == 0;
    OrtKernelInfo info;
    auto& a = info.attributes;
    a["axis"] = first ? 1 : -1;
    a["seed"] = seed;
    a["log2"] = log2;
    if (below(2)) a["transposed"] = static_cast<std::int64_t>(below(2));
    if (quantize) {
      const int least = op.GetOutputType(&op, 0) == ort::kInt8 ? -128 : 0;
      a["qmin"] = least + static_cast<std::int64_t>(below(256));
      a["qmax"] = a["qmin"] + static_cast<std::int64_t>(below(static_cast<std::size_t>(256 + least - a["qmin"])));
      if (below(2)) a["channels_last"] = first && below(2);
    }
    static const std::int64_t absurd[] = {0, -1, 2, 7, 63, 64, 1000000, INT64_MAX, INT64_MIN};
    static const char* names[] = {"axis", "seed", "log2", "transposed", "qmin", "qmax", "channels_last"};
    if (below(8) == 0) a[names[below(7)]] = absurd[below(9)];
    if (below(32) == 0) a.erase(names[below(7)]);

    std::vector<OrtValue> values(op.GetInputTypeCount(&op));
    std::vector<std::int64_t> dims;
    const std::size_t rank = below(16) == 0 ? below(20) : 2 + below(3);
    for (std::size_t i = 0; i < rank; ++i) dims.push_back(static_cast<std::int64_t>(1 + below(i > 1 ? 24 : 3)));
    if (rank > 6) dims.assign(rank, 1);
    if (rank > 0) dims[first && rank > 1 ? 1 : rank - 1] = n;
    if (rank > 0 && below(16) == 0) dims[below(rank)] = static_cast<std::int64_t>(below(3));
    fill(&values[0], dims, op.GetInputType(&op, 0));
    fill(&values[1], {below(16) == 0 ? static_cast<std::int64_t>(below(40)) : n}, ort::kFloat);
    if (quantize) {
      fill(&values[2], below(16) ? std::vector<std::int64_t>{} : std::vector<std::int64_t>{static_cast<std::int64_t>(below(3))}, ort::kFloat);
      if (values[2].data.size() >= 4 && below(8)) {
        const float scale = 0.1f;
        std::memcpy(values[2].data.data(), &scale, sizeof scale);
      }
      fill(&values[3], {}, op.GetInputType(&op, 3));
    }
    infer(op, info, values);
    return compute(op, info, values);
  }

  bool conv_round(const CustomOp& op) {
    const bool branch = has_branch(op), planes = has_planes(op);
    const auto size = [this](std::size_t most) { return static_cast<std::int64_t>(1 + below(most)); };
    const std::int64_t n = size(2), rank = size(20);
    const std::int64_t least = below(32) == 0 ? 300 : 0;  // enough for weights that are not kept
    const std::int64_t c = least + size(70), f = filters_of(op, least + size(40));
    const bool square = below(2);
    const std::int64_t kh = square ? 3 : size(4), kw = square ? 3 : size(4);
    OrtKernelInfo info;
    info.lists["kernel_shape"] = {kh, kw};
    info.lists["strides"] = {square ? 1 : size(3), square ? 1 : size(3)};
    for (int i = 0; i < 4; ++i) info.lists["pads"].push_back(static_cast<std::int64_t>(below(3)));
    static const std::int64_t tops[] = {1, 7, 15, 63, 127, 255};
    const std::int64_t top = info.attributes["top"] = tops[below(6)];
    static const std::int64_t absurd[] = {0, -1, 65, 1025, INT64_MAX, INT64_MIN};
    static const char* names[] = {"kernel_shape", "strides", "pads"};
    if (below(16) == 0) info.lists[names[below(3)]][below(2)] = absurd[below(6)];
    if (below(32) == 0) info.lists[names[below(3)]].resize(below(6), 1);
    if (below(32) == 0) info.lists.erase(names[below(3)]);
    if (below(32) == 0) info.attributes["top"] = absurd[below(6)];

    const Dims image = {n, c, size(14), size(20)}, one = {}, filters = {f};
    std::vector<Dims> dims = {image, one, one, {f, c, kh, kw}, filters, filters, one, one,
                              image, {rank, c, kh, kw}, {f, rank, 1, 1}};
    if (planes) dims.insert(dims.begin() + 4, {f / 2, c, kh, kw});
    std::vector<OrtValue> values(op.GetInputTypeCount(&op));
    for (std::size_t i = 0; i < values.size(); ++i) {
      Dims shape = dims[i];
      if (below(100) == 0) shape.resize(below(6), 2);
      if (below(100) == 0 && !shape.empty()) shape[below(shape.size())] = static_cast<std::int64_t>(below(5));
      fill(&values[i], shape, op.GetInputType(&op, i), i > 7u + planes);
    }
    for (unsigned char& code : values[0].data) code = static_cast<unsigned char>(code % (top + 1));
    const float scale = 0.01f;
    for (const std::size_t i : {1u, 6u + planes}) {
      if (values[i].data.size() >= 4 && below(32)) std::memcpy(values[i].data.data(), &scale, 4);
    }
    if (!values[2].data.empty() && below(32)) values[2].data[0] = static_cast<unsigned char>(values[2].data[0] % (top + 1));
    if (below(2)) {
      for (const OrtValue& value : values) info.constants.push_back(&value);
    }
    infer(op, info, values);
    return compute(op, info, values, branch ? 1e-3 : 0);
  }

  bool linear_round(const CustomOp& op) {
    const bool branch = has_branch(op), planes = has_planes(op);
    const auto size = [this](std::size_t most) { return static_cast<std::int64_t>(1 + below(most)); };
    const std::int64_t least = below(32) == 0 ? 1040 : 0;  // enough for weights that are not kept
    const std::int64_t c = least + size(70), f = filters_of(op, least + size(40)), rank = size(20);
    static const std::int64_t tops[] = {1, 7, 15, 63, 127, 255, -1, 256};
    OrtKernelInfo info;
    const std::int64_t top = info.attributes["top"] = tops[below(64) == 0 ? 6 + below(2) : below(6)];
    if (below(32) == 0) info.attributes.clear();
    Dims lines;
    for (std::size_t i = below(3); i > 0; --i) lines.push_back(size(30));
    lines.push_back(c);
    const Dims one = {}, filters = {f};
    std::vector<Dims> dims = {lines, one, one, {f, c}, filters, filters, lines, {rank, c}, {f, rank}};
    if (planes) dims.insert(dims.begin() + 4, {f / 2, c});
    std::vector<OrtValue> values(op.GetInputTypeCount(&op));
    for (std::size_t i = 0; i < values.size(); ++i) {
      Dims shape = dims[i];
      if (below(100) == 0) {
        const std::size_t axes = below(20);
        shape.resize(axes, axes > 6 ? 1 : 2);  // 2 would make gigabytes
      }
      if (below(100) == 0 && !shape.empty()) shape[below(shape.size())] = static_cast<std::int64_t>(below(5));
      fill(&values[i], shape, op.GetInputType(&op, i), i > 3);
    }
    for (unsigned char& code : values[0].data) code = static_cast<unsigned char>(code % (std::max<std::int64_t>(top, 0) + 1));
    const float scale = 0.01f;
    if (values[1].data.size() >= 4 && below(32)) std::memcpy(values[1].data.data(), &scale, 4);
    if (!values[2].data.empty() && below(32)) values[2].data[0] = 0;
    if (below(2)) {
      for (const OrtValue& value : values) info.constants.push_back(&value);
    }
    infer(op, info, values);
    return compute(op, info, values, branch ? 1e-3 : 0);
  }

  bool norm_round(const CustomOp& op, bool rotates) {
    OrtKernelInfo info;
    const std::int64_t log2 = static_cast<std::int64_t>(below(4)), seed = below(2) ? 12 : 1;
    const std::int64_t groups = static_cast<std::int64_t>(1 + below(4));
    const std::int64_t c = rotates ? seed << log2 : groups * static_cast<std::int64_t>(1 + below(5));
    static const std::int64_t absurd[] = {0, -1, 7, INT64_MAX, INT64_MIN};
    static const float epsilons[] = {0, -1, 2, NAN, INFINITY};
    info.attributes["groups"] = below(16) ? groups : absurd[below(5)];
    if (rotates) {
      info.attributes["seed"] = below(32) ? seed : absurd[below(5)];
      info.attributes["log2"] = below(32) ? log2 : absurd[below(5)];
      info.attributes["qmin"] = 0;
      info.attributes["qmax"] = below(32) ? 15 : absurd[below(5)];
    }
    info.floats["epsilon"] = below(16) ? 1e-5f : epsilons[below(5)];
    if (below(32) == 0) info.attributes.clear();
    if (below(32) == 0) info.floats.clear();
    Dims dims = {static_cast<std::int64_t>(1 + below(2)), c};
    for (std::size_t i = below(3); i > 0; --i) dims.push_back(static_cast<std::int64_t>(1 + below(40)));
    if (below(16) == 0) dims[below(dims.size())] = static_cast<std::int64_t>(below(4));
    if (below(32) == 0) dims.resize(below(6), 1);
    std::vector<OrtValue> values(op.GetInputTypeCount(&op));
    for (std::size_t i = 0; i < values.size(); ++i) {
      const Dims one = {}, channels = {below(32) ? c : 3};
      fill(&values[i], i == 0 ? dims : i < 4 ? channels : one, op.GetInputType(&op, i));
    }
    infer(op, info, values);
    return compute(op, info, values);
  }

  bool row_round(const CustomOp& op) {
    const bool halves = op.GetInputTypeCount(&op) == 3, scales = op.GetInputTypeCount(&op) == 4;
    const std::int64_t channels = static_cast<std::int64_t>(1 + below(70));
    OrtKernelInfo info;
    auto& a = info.attributes;
    a["qmin"] = static_cast<std::int64_t>(below(256));
    a["qmax"] = a["qmin"] + static_cast<std::int64_t>(below(static_cast<std::size_t>(256 - a["qmin"])));
    info.floats["epsilon"] = below(16) ? 1e-5f : static_cast<float>(below(3)) - 1;
    static const std::int64_t absurd[] = {-1, 256, INT64_MAX, INT64_MIN};
    if (below(16) == 0) a[below(2) ? "qmin" : "qmax"] = absurd[below(4)];
    if (below(32) == 0) a.clear();
    std::vector<OrtValue> values(op.GetInputTypeCount(&op));
    Dims dims(below(4), static_cast<std::int64_t>(below(32) ? 1 + below(9) : 0));
    dims.push_back(halves && below(16) ? 2 * channels : channels);
    if (below(64) == 0) dims.resize(below(20), 1);
    Dims affine = {below(16) ? channels : static_cast<std::int64_t>(below(80))};
    if (scales && below(2)) affine = Dims(1 + below(3), 1);
    if (scales && !dims.empty() && below(2)) affine[0] = dims[dims.size() - std::min(affine.size(), dims.size())];
    const std::size_t scale = values.size() - 2;
    fill(&values[0], dims, ort::kFloat);
    for (std::size_t i = 1; i < scale; ++i) fill(&values[i], affine, ort::kFloat);
    fill(&values[scale], below(16) ? Dims{} : Dims{static_cast<std::int64_t>(below(3))}, ort::kFloat);
    fill(&values[scale + 1], {}, ort::kUint8);
    infer(op, info, values);
    return compute(op, info, values);
  }

  bool attention_round(const CustomOp& op, double tolerance) {
    const auto size = [this](std::size_t most) { return static_cast<std::int64_t>(1 + below(most)); };
    const std::int64_t images = size(2), heads = size(3), keys = size(300), depth = size(below(8) ? 40 : 200);
    static const std::int64_t absurd[] = {0, -1, 7, INT64_MAX, INT64_MIN};
    OrtKernelInfo info;
    info.attributes["num_heads"] = below(16) ? heads : absurd[below(5)];
    if (below(32) == 0) info.attributes.clear();
    std::vector<OrtValue> values(3);
    for (std::size_t i = 0; i < values.size(); ++i) {
      Dims dims = {images, i == 0 ? size(120) : keys, heads * depth};
      if (below(64) == 0) dims[below(3)] = static_cast<std::int64_t>(below(4));
      if (below(64) == 0) dims.resize(below(6), 1);
      fill(&values[i], dims, op.GetInputType(&op, i), true);
    }
    infer(op, info, values);
    return compute(op, info, values, tolerance);
  }

  static bool has_branch(const CustomOp& op) { return std::strstr(op.GetName(&op), "LowRank") != nullptr; }
  static bool has_planes(const CustomOp& op) { return std::strstr(op.GetName(&op), "W6") != nullptr; }

  // An even number for weights in planes, mostly.
  std::int64_t filters_of(const CustomOp& op, std::int64_t filters) {
    return has_planes(op) && below(32) ? (filters + 1) / 2 * 2 : filters;
  }
};

}  // namespace

int main(int argc, char** argv) {
  const long rounds = argc > 1 ? std::atol(argv[1]) : 2000;
  Fuzz fuzz(argc > 2 ? static_cast<unsigned>(std::atol(argv[2])) : 0);
  OrtSessionOptions options;
  if (RegisterCustomOps(&options, &fuzz::base()) != nullptr || options.domain == nullptr) return 1;
  std::vector<const CustomOp*> ops;
  for (const OrtCustomOp* op : options.domain->ops) ops.push_back(reinterpret_cast<const CustomOp*>(op));
  for (long i = 0; i < rounds; ++i) {
    if (!fuzz.round(ops) || fuzz::alive != 0) {
      std::fprintf(stderr, "round %ld failed, %ld objects leaked\n", i, fuzz::alive);
      return 1;
    }
  }
  std::printf("%ld rounds, %ld computed\n", rounds, fuzz.computed);
  std::free(const_cast<CustomOp*>(ops[0]));
  delete options.domain;
  return fuzz.computed > 0 ? 0 : 1;
}
