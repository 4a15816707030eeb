// Shape inference of the operators whose outputs have the shape of x, or nearly: Hadamard, HadamardQuantize and
// GroupNormSiluHadamardQuantize, ScaleQuantize, LayerNormQuantize and GegluQuantize.
#include "ort_host.h"

namespace quantface {
namespace {

std::int64_t shape_attribute(const Api& api, OrtShapeInferContext* context, const char* name) {
  const OrtOpAttr* attribute = nullptr;
  std::int64_t value = 0;
  std::size_t bytes = 0;
  OrtStatus* status = api.ShapeInferContext_GetAttribute(context, name, &attribute);
  if (status == nullptr && attribute != nullptr) {
    status = api.ReadOpAttr(attribute, int{ort::kIntAttribute}, static_cast<void*>(&value),
                            sizeof value, &bytes);
  }
  if (status != nullptr) api.ReleaseStatus(status);
  return value;
}

OrtStatus* set_output(const Api& api, OrtShapeInferContext* context, std::size_t index,
                      OrtTensorTypeAndShapeInfo* y, int element, const std::int64_t* dims,
                      const char** names, std::size_t rank) {
  RETURN_IF_ERROR(api.SetTensorElementType(y, element));
  RETURN_IF_ERROR(api.SetDimensions(y, dims, rank));
  RETURN_IF_ERROR(api.SetSymbolicDimensions(y, names, rank));
  return api.ShapeInferContext_SetOutputTypeShape(
      context, index, static_cast<const OrtTensorTypeAndShapeInfo*>(y));
}

}  // namespace

// y has the shape of x, symbolic dimensions included, or that with the channels moved last, and the
// type of x or of the zero point: ONNX Runtime may ask any Op of this name, whatever its types. An op
// that normalizes has x's shape and type as an output before it.
OrtStatus* infer_hadamard_shape(const ort::CustomOp* self, OrtShapeInferContext* context) {
  const Op& op = as_op(self);
  const Api& api = op.api;
  if (op.normalize) RETURN_IF_ERROR(infer_like_x(self, context));
  OrtTensorTypeAndShapeInfo* x = nullptr;  // the context's own
  std::size_t rank = 0;
  RETURN_IF_ERROR(api.ShapeInferContext_GetInputTypeShape(context, std::size_t{0}, &x));
  RETURN_IF_ERROR(api.GetDimensionsCount(x, &rank));
  if (rank == 0 || rank > kMaxRank) return nullptr;  // unknown, or the kernel's error to report
  std::int64_t dims[kMaxRank] = {};
  const char* names[kMaxRank] = {};
  RETURN_IF_ERROR(api.GetDimensions(x, dims, rank));
  RETURN_IF_ERROR(api.GetSymbolicDimensions(x, names, rank));
  if (op.quantize && rank > 1 && shape_attribute(api, context, "channels_last") == 1) {
    move_channels_last(dims, static_cast<int>(rank));
    move_channels_last(names, static_cast<int>(rank));
  }
  OrtTensorTypeAndShapeInfo *typed = nullptr, *y = nullptr;
  int element = 0;
  RETURN_IF_ERROR(api.ShapeInferContext_GetInputTypeShape(
      context, std::size_t{op.normalize ? 5u : op.quantize ? 3u : 0u}, &typed));
  RETURN_IF_ERROR(api.GetTensorElementType(typed, &element));
  RETURN_IF_ERROR(api.CreateTensorTypeAndShapeInfo(&y));
  OrtStatus* status = set_output(api, context, op.normalize ? 1 : 0, y, element, dims, names, rank);
  api.ReleaseTensorTypeAndShapeInfo(y);
  return status;
}

// y and codes have the shape of x, of GegluQuantize half as many channels.
OrtStatus* infer_row_shape(const ort::CustomOp* self, OrtShapeInferContext* context) {
  const Op& op = as_op(self);
  const Api& api = op.api;
  OrtTensorTypeAndShapeInfo *x = nullptr, *y = nullptr;  // x is the context's own
  std::size_t rank = 0;
  RETURN_IF_ERROR(api.ShapeInferContext_GetInputTypeShape(context, std::size_t{0}, &x));
  RETURN_IF_ERROR(api.GetDimensionsCount(x, &rank));
  if (rank == 0 || rank > kMaxRank) return nullptr;
  std::int64_t dims[kMaxRank] = {};
  const char* names[kMaxRank] = {};
  RETURN_IF_ERROR(api.GetDimensions(x, dims, rank));
  RETURN_IF_ERROR(api.GetSymbolicDimensions(x, names, rank));
  if (!op.normalize) {
    if (dims[rank - 1] < 0) return nullptr;
    dims[rank - 1] /= 2;
  }
  RETURN_IF_ERROR(api.CreateTensorTypeAndShapeInfo(&y));
  OrtStatus* status = set_output(api, context, 0, y, ort::kFloat, dims, names, rank);
  if (status == nullptr) status = set_output(api, context, 1, y, ort::kUint8, dims, names, rank);
  api.ReleaseTensorTypeAndShapeInfo(y);
  return status;
}

}  // namespace quantface
