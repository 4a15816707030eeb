// The operators LayerNormQuantize and GegluQuantize for ONNX Runtime: attributes and shapes.
#include "ort_grid.h"
#include "ort_norm.h"

namespace quantface {
namespace {

struct Kernel : KernelBase {
  bool normalize = false;
  float epsilon = 0;
  GridLimits limits;

  OrtStatus* init(const Op& op, const OrtKernelInfo* info) {
    normalize = op.normalize;
    if (normalize) RETURN_IF_ERROR(read_epsilon(api, info, &epsilon));
    return limits.init(api, info, false);
  }
};

struct Work {
  const RowCall& call;
  void (*run)(const RowCall& call, std::int64_t first, std::int64_t last);
};

void run_rows(const void* data, std::int64_t first, std::int64_t last, void*) {
  const Work& work = *static_cast<const Work*>(data);
  work.run(work.call, first, last);
}

// Reads x and, where there are any, gamma and beta; `shape` becomes that of y.
OrtStatus* read(const Kernel& kernel, const OrtKernelContext* context, Shape* shape, RowCall* call) {
  const Api& api = kernel.api;
  Input x;
  RETURN_IF_ERROR(read_input(api, context, 0, "x", ort::kFloat, &x));
  *shape = x.shape;
  const int parts = kernel.normalize ? 1 : 2;
  if (shape->rank < 1 || shape->dims[shape->rank - 1] % parts != 0) {
    return invalid(api, "x must have %s, got %s", parts == 1 ? "a dimension" : "an even number of channels",
                   Text(*shape).chars);
  }
  std::int64_t& channels = shape->dims[shape->rank - 1];
  channels /= parts;
  call->x = x.as<float>();
  call->channels = channels;
  call->rows = shape->count(0, shape->rank - 1);
  if (!kernel.normalize) return nullptr;
  Input gamma, beta;
  RETURN_IF_ERROR(read_input(api, context, 1, "gamma", ort::kFloat, &gamma));
  RETURN_IF_ERROR(read_input(api, context, 2, "beta", ort::kFloat, &beta));
  RETURN_IF_ERROR(expect(api, "gamma", gamma.shape, shape_of({channels})));
  RETURN_IF_ERROR(expect(api, "beta", beta.shape, shape_of({channels})));
  call->gamma = gamma.as<float>();
  call->beta = beta.as<float>();
  call->epsilon = kernel.epsilon;
  return nullptr;
}

OrtStatus* compute(void* self, OrtKernelContext* context) {
  const Kernel& kernel = *static_cast<const Kernel*>(self);
  const Api& api = kernel.api;
  RowCall call;
  Shape shape;
  void *y = nullptr, *codes = nullptr;
  RETURN_IF_ERROR(read(kernel, context, &shape, &call));
  RETURN_IF_ERROR(kernel.limits.read(api, context, kernel.normalize ? 3 : 1, &call.grid));
  RETURN_IF_ERROR(get_output(api, context, 0, shape, &y));
  RETURN_IF_ERROR(get_output(api, context, 1, shape, &codes));
  if (y == nullptr || codes == nullptr || shape.count() == 0) return nullptr;
  call.y = static_cast<float*>(y);
  call.codes = static_cast<std::uint8_t*>(codes);
  const RowKernels& row = kernel.kernels->row;
  const Work work = {call, kernel.normalize ? row.layer_norm : row.geglu};
  return run_items(api, context, &work, run_rows, call.rows, 1, shape.count() > kInlineValues);
}

int input_type(const ort::CustomOp* op, std::size_t index) {
  return index == (as_op(op).normalize ? 4 : 2) ? int{ort::kUint8} : int{ort::kFloat};
}

}  // namespace

Op row_op(const Api& api, int index) {
  Op op = op_of<Kernel>(api, compute, infer_row_shape);
  op.normalize = index == 1;
  ort::CustomOp& base = op.base;
  base.GetName = [](const ort::CustomOp* o) {
    return as_op(o).normalize ? "LayerNormQuantize" : "GegluQuantize";
  };
  base.GetInputType = input_type;
  base.GetInputTypeCount = [](const ort::CustomOp* o) { return std::size_t{as_op(o).normalize ? 5u : 3u}; };
  base.GetOutputType = [](const ort::CustomOp*, std::size_t index) {
    return index == 0 ? int{ort::kFloat} : int{ort::kUint8};
  };
  base.GetOutputTypeCount = [](const ort::CustomOp*) { return std::size_t{2}; };
  return op;
}

}  // namespace quantface
