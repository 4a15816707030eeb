// Shape inference of QuantizedConv and QuantizedLinear, with a branch and without.
#include "ort_host.h"

namespace quantface {
namespace {

OrtStatus* infer_list(const Api& api, const OrtShapeInferContext* context, const char* name,
                      std::size_t count, std::int64_t* values) {
  const OrtOpAttr* attribute = nullptr;
  std::size_t bytes = 0;
  RETURN_IF_ERROR(api.ShapeInferContext_GetAttribute(context, name, &attribute));
  return api.ReadOpAttr(attribute, int{ort::kIntsAttribute}, static_cast<void*>(values),
                        count * sizeof *values, &bytes);
}

// Rank 0 stands for an unknown or an absurd one.
OrtStatus* infer_dims(const Api& api, const OrtShapeInferContext* context, std::size_t input,
                      Shape* shape) {
  OrtTensorTypeAndShapeInfo* info = nullptr;  // the context's own
  std::size_t rank = 0;
  RETURN_IF_ERROR(api.ShapeInferContext_GetInputTypeShape(context, input, &info));
  RETURN_IF_ERROR(api.GetDimensionsCount(info, &rank));
  if (rank > kMaxRank) return nullptr;
  shape->rank = static_cast<int>(rank);
  return api.GetDimensions(info, shape->dims, rank);
}

// Says nothing where a size is unknown: ONNX Runtime would take -1 for a size.
OrtStatus* set_output(const Api& api, OrtShapeInferContext* context, const Shape& shape) {
  for (int i = 0; i < shape.rank; ++i) {
    if (shape.dims[i] < 0) return nullptr;
  }
  OrtTensorTypeAndShapeInfo* y = nullptr;
  RETURN_IF_ERROR(api.CreateTensorTypeAndShapeInfo(&y));
  OrtStatus* status = api.SetTensorElementType(y, int{ort::kFloat});
  if (status == nullptr) {
    status = api.SetDimensions(y, static_cast<const std::int64_t*>(shape.dims),
                               static_cast<std::size_t>(shape.rank));
  }
  if (status == nullptr) {
    status = api.ShapeInferContext_SetOutputTypeShape(
        context, std::size_t{0}, static_cast<const OrtTensorTypeAndShapeInfo*>(y));
  }
  api.ReleaseTensorTypeAndShapeInfo(y);
  return status;
}

}  // namespace

OrtStatus* infer_linear_shape(const ort::CustomOp* self, OrtShapeInferContext* context) {
  const Api& api = as_op(self).api;
  Shape y, weight;
  RETURN_IF_ERROR(infer_dims(api, context, std::size_t{0}, &y));
  RETURN_IF_ERROR(infer_dims(api, context, std::size_t{3}, &weight));
  if (y.rank == 0) return nullptr;
  y.dims[y.rank - 1] = weight.rank == 2 ? weight.dims[0] : -1;
  return set_output(api, context, y);
}

OrtStatus* infer_conv_shape(const ort::CustomOp* self, OrtShapeInferContext* context) {
  const Api& api = as_op(self).api;
  const std::int64_t scale = as_op(self).upsample ? 2 : 1;
  std::int64_t kernel[2] = {}, stride[2] = {}, pads[4] = {};
  Shape codes, weight;
  RETURN_IF_ERROR(infer_dims(api, context, std::size_t{0}, &codes));
  RETURN_IF_ERROR(infer_dims(api, context, std::size_t{3}, &weight));
  RETURN_IF_ERROR(infer_list(api, context, "kernel_shape", 2, kernel));
  RETURN_IF_ERROR(infer_list(api, context, "strides", 2, stride));
  RETURN_IF_ERROR(infer_list(api, context, "pads", 4, pads));
  Shape y = shape_of({-1, -1, -1, -1});
  if (codes.rank == 4) y.dims[0] = codes.dims[0];
  if (weight.rank == 4) y.dims[1] = weight.dims[0];
  for (int i = 0; i < 2; ++i) {
    const std::int64_t size = codes.rank == 4 ? scale * codes.dims[2 + i] : -1;
    if (size < 0 || stride[i] < 1 || pads[i] < 0 || pads[2 + i] < 0 || pads[i] > kMostPad ||
        pads[2 + i] > kMostPad || kernel[i] < 1 || kernel[i] > kMaxTaps) {
      continue;
    }
    const std::int64_t room = size + pads[i] + pads[2 + i] - kernel[i];
    if (room >= 0) y.dims[2 + i] = room / stride[i] + 1;
  }
  return set_output(api, context, y);
}

}  // namespace quantface
