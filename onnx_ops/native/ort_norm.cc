// The operators GroupNorm and GroupNormSilu for ONNX Runtime: attributes and shapes.
#include "ort_norm.h"

namespace quantface {

OrtStatus* read_epsilon(const Api& api, const OrtKernelInfo* info, float* epsilon) {
  RETURN_IF_ERROR(api.KernelInfoGetAttribute_float(info, "epsilon", epsilon));
  if (*epsilon > 0 && *epsilon <= 1) return nullptr;
  return invalid(api, "epsilon must be above 0 and at most 1, got %g", static_cast<double>(*epsilon));
}

OrtStatus* Norm::init(const Api& api, const OrtKernelInfo* info) {
  RETURN_IF_ERROR(api.KernelInfoGetAttribute_int64(info, "groups", &groups));
  if (groups < 1) {
    return invalid(api, "groups must be at least 1, got %lld", static_cast<long long>(groups));
  }
  return read_epsilon(api, info, &epsilon);
}

OrtStatus* read_norm(const Api& api, const OrtKernelContext* context, const Norm& norm, Input* x,
                     NormCall* call) {
  Input gamma, beta;
  RETURN_IF_ERROR(read_input(api, context, 0, "x", ort::kFloat, x));
  RETURN_IF_ERROR(read_input(api, context, 1, "gamma", ort::kFloat, &gamma));
  RETURN_IF_ERROR(read_input(api, context, 2, "beta", ort::kFloat, &beta));
  const Shape& shape = x->shape;
  const std::int64_t channels = shape.rank < 2 ? 0 : shape.dims[1];
  const auto fits = [&](const Shape& s) { return s.rank == 1 && s.dims[0] == channels; };
  if (shape.rank < 2 || channels % norm.groups != 0 || !fits(gamma.shape) || !fits(beta.shape)) {
    return invalid(api, "need x (N,C,...), gamma and beta (C), C a multiple of %lld; got %s, %s, %s",
                   static_cast<long long>(norm.groups), Text(shape).chars, Text(gamma.shape).chars,
                   Text(beta.shape).chars);
  }
  call->x = x->as<float>();
  call->gamma = gamma.as<float>();
  call->beta = beta.as<float>();
  call->images = shape.dims[0];
  call->channels = channels;
  call->pixels = shape.count(2, shape.rank);
  call->groups = norm.groups;
  call->epsilon = norm.epsilon;
  return nullptr;
}

namespace {

struct Kernel : KernelBase {
  Norm norm;
  bool silu = false;

  OrtStatus* init(const Op& op, const OrtKernelInfo* info) {
    silu = op.silu;
    return norm.init(api, info);
  }
};

struct Work {
  const NormCall& call;
  void (*run)(const NormCall& call, std::int64_t first, std::int64_t last);
};

void run_groups(const void* data, std::int64_t first, std::int64_t last, void*) {
  const Work& work = *static_cast<const Work*>(data);
  work.run(work.call, first, last);
}

OrtStatus* run_all(const Api& api, const OrtKernelContext* context, const Work& work) {
  const NormCall& c = work.call;
  return run_items(api, context, &work, run_groups, c.images * c.groups, 1,
                   c.images * c.channels * c.pixels > kInlineValues);
}

void set_moments(float* memory, NormCall* call) {
  call->gains = memory;
  call->offsets = memory + call->images * call->channels;
}

OrtStatus* compute(void* self, OrtKernelContext* context) {
  const Kernel& kernel = *static_cast<const Kernel*>(self);
  const Api& api = kernel.api;
  Input x;
  NormCall call;
  RETURN_IF_ERROR(read_norm(api, context, kernel.norm, &x, &call));
  call.silu = kernel.silu;
  void* y = nullptr;
  RETURN_IF_ERROR(get_output(api, context, 0, x.shape, &y));
  if (y == nullptr || x.shape.count() == 0) return nullptr;
  call.y = static_cast<float*>(y);
  const Memory memory(kernel, moments_bytes(call));
  if (memory.missing) return out_of_memory(api);
  set_moments(static_cast<float*>(memory.data), &call);
  return run_all(api, context, {call, kernel.kernels->norm.run});
}

}  // namespace

std::size_t moments_bytes(const NormCall& call) {
  return 2 * sizeof(float) * static_cast<std::size_t>(call.images * call.channels);
}

OrtStatus* run_moments(const Api& api, const OrtKernelContext* context, const Kernels& kernels,
                       float* memory, NormCall* call) {
  set_moments(memory, call);
  return run_all(api, context, {*call, kernels.norm.moments});
}

Op norm_op(const Api& api, int index) {
  Op op = op_of_three_floats<Kernel>(api, compute);
  op.silu = index == 1;
  allow_in_place(&op.base);
  op.base.GetName = [](const ort::CustomOp* o) { return as_op(o).silu ? "GroupNormSilu" : "GroupNorm"; };
  return op;
}

}  // namespace quantface
