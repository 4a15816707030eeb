// The operator ScaleQuantize for ONNX Runtime: attributes and shapes.
#include "ort_grid.h"

namespace quantface {
namespace {

constexpr std::int64_t kRun = 4096;  // values of one item, where one multiplier is for all

struct Kernel : KernelBase {
  GridLimits limits;

  OrtStatus* init(const Op&, const OrtKernelInfo* info) { return limits.init(api, info, false); }
};

// Reads x and d; d is one value, or has a one for each dimension behind the channels.
OrtStatus* read(const Api& api, const OrtKernelContext* context, Shape* shape, ScaleCall* call) {
  Input x, d;
  RETURN_IF_ERROR(read_input(api, context, 0, "x", ort::kFloat, &x));
  RETURN_IF_ERROR(read_input(api, context, 1, "d", ort::kFloat, &d));
  *shape = x.shape;
  call->x = x.as<float>();
  call->d = d.as<float>();
  call->values = shape->count();
  call->gains = d.shape.count();
  call->run = kRun;
  if (d.shape.rank <= shape->rank && call->gains == 1) return nullptr;
  const int axis = shape->rank - d.shape.rank;
  const bool fits = axis >= 0 && d.shape.rank > 0 && d.shape.dims[0] == shape->dims[axis] &&
                    call->gains == d.shape.dims[0];
  if (!fits) {
    return invalid(api, "d must be one value or (C,1,...,1) for x (...,C,...), got d %s and x %s",
                   Text(d.shape).chars, Text(*shape).chars);
  }
  call->across = axis == shape->rank - 1;
  call->run = call->across ? call->gains : shape->count(axis + 1, shape->rank);
  return nullptr;
}

struct Work {
  const ScaleCall& call;
  const RowKernels& kernels;
};

void run(const void* data, std::int64_t first, std::int64_t last, void*) {
  const Work& work = *static_cast<const Work*>(data);
  work.kernels.scale(work.call, first, last);
}

OrtStatus* compute(void* self, OrtKernelContext* context) {
  const Kernel& kernel = *static_cast<const Kernel*>(self);
  const Api& api = kernel.api;
  ScaleCall call;
  Shape shape;
  void* codes = nullptr;
  RETURN_IF_ERROR(read(api, context, &shape, &call));
  RETURN_IF_ERROR(kernel.limits.read(api, context, 2, &call.grid));
  RETURN_IF_ERROR(get_output(api, context, 0, shape, &codes));
  if (codes == nullptr || call.values == 0) return nullptr;
  call.codes = static_cast<std::uint8_t*>(codes);
  const Work work = {call, kernel.kernels->row};
  return run_items(api, context, &work, run, (call.values + call.run - 1) / call.run, 1,
                   call.values > kInlineValues);
}

}  // namespace

Op scale_op(const Api& api) {
  Op op = op_of<Kernel>(api, compute, infer_hadamard_shape);
  op.quantize = true;
  ort::CustomOp& base = op.base;
  base.GetName = [](const ort::CustomOp*) { return "ScaleQuantize"; };
  base.GetInputType = [](const ort::CustomOp*, std::size_t index) {
    return index == 3 ? int{ort::kUint8} : int{ort::kFloat};
  };
  base.GetInputTypeCount = [](const ort::CustomOp*) { return std::size_t{4}; };
  base.GetOutputType = [](const ort::CustomOp*, std::size_t) { return int{ort::kUint8}; };
  return op;
}

}  // namespace quantface
