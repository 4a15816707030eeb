// The operators GroupNorm and GroupNormSilu for ONNX Runtime: attributes and shapes.
#include "ort_host.h"

namespace quantface {
namespace {

constexpr std::int64_t kInlineValues = 1 << 15;  // fewer are not worth a second thread

struct Kernel {
  Api api;
  const Kernels* kernels = nullptr;
  std::int64_t groups = 0;
  float epsilon = 0;
  bool silu = false;

  OrtStatus* init(const Op& op, const OrtKernelInfo* info);
};

OrtStatus* Kernel::init(const Op& op, const OrtKernelInfo* info) {
  silu = op.silu;
  RETURN_IF_ERROR(api.KernelInfoGetAttribute_int64(info, "groups", &groups));
  RETURN_IF_ERROR(api.KernelInfoGetAttribute_float(info, "epsilon", &epsilon));
  if (groups < 1) {
    return invalid(api, "groups must be at least 1, got %lld", static_cast<long long>(groups));
  }
  if (!(epsilon > 0) || epsilon > 1) {
    return invalid(api, "epsilon must be above 0 and at most 1, got %g",
                   static_cast<double>(epsilon));
  }
  return nullptr;
}

struct Work {
  const NormCall& call;
  RunNorm run;
};

void run_groups(const void* data, std::int64_t first, std::int64_t last, void*) {
  const Work& work = *static_cast<const Work*>(data);
  work.run(work.call, first, last);
}

OrtStatus* compute(void* self, OrtKernelContext* context) {
  const Kernel& kernel = *static_cast<const Kernel*>(self);
  const Api& api = kernel.api;
  Input x, gamma, beta;
  RETURN_IF_ERROR(read_input(api, context, 0, "x", ort::kFloat, &x));
  RETURN_IF_ERROR(read_input(api, context, 1, "gamma", ort::kFloat, &gamma));
  RETURN_IF_ERROR(read_input(api, context, 2, "beta", ort::kFloat, &beta));
  const std::int64_t channels = x.shape.rank < 2 ? 0 : x.shape.dims[1];
  const auto fits = [&](const Shape& s) { return s.rank == 1 && s.dims[0] == channels; };
  if (x.shape.rank < 2 || channels % kernel.groups != 0 || !fits(gamma.shape) ||
      !fits(beta.shape)) {
    return invalid(api, "need x (N,C,...), gamma and beta (C), C a multiple of %lld; got %s, %s, %s",
                   static_cast<long long>(kernel.groups), Text(x.shape).chars,
                   Text(gamma.shape).chars, Text(beta.shape).chars);
  }
  OrtValue* value = nullptr;
  RETURN_IF_ERROR(api.KernelContext_GetOutput(context, std::size_t{0},
                                              static_cast<const std::int64_t*>(x.shape.dims),
                                              static_cast<std::size_t>(x.shape.rank), &value));
  if (value == nullptr || x.shape.count() == 0) return nullptr;
  void* y = nullptr;
  RETURN_IF_ERROR(api.GetTensorMutableData(value, &y));
  NormCall call;
  call.x = x.as<float>();
  call.gamma = gamma.as<float>();
  call.beta = beta.as<float>();
  call.y = static_cast<float*>(y);
  call.images = x.shape.dims[0];
  call.channels = channels;
  call.pixels = x.shape.count(2, x.shape.rank);
  call.groups = kernel.groups;
  call.epsilon = kernel.epsilon;
  call.silu = kernel.silu;
  const Work work = {call, kernel.kernels->norm};
  return run_items(api, context, &work, run_groups, call.images * call.groups, 1,
                   x.shape.count() > kInlineValues);
}

}  // namespace

Op norm_op(const Api& api, int index) {
  Op op{};
  op.api = api;
  op.silu = index == 1;
  ort::CustomOp& base = op.base;
  base = plain_op();
  base.GetName = [](const ort::CustomOp* o) { return as_op(o).silu ? "GroupNormSilu" : "GroupNorm"; };
  base.GetInputType = [](const ort::CustomOp*, std::size_t) { return int{ort::kFloat}; };
  base.GetInputTypeCount = [](const ort::CustomOp*) { return std::size_t{3}; };
  base.GetOutputType = base.GetInputType;
  base.CreateKernelV2 = create_kernel<Kernel>;
  base.KernelComputeV2 = compute;
  base.KernelDestroy = destroy_kernel<Kernel>;
  base.InferOutputShapeFn = infer_like_x;
  return op;
}

}  // namespace quantface
