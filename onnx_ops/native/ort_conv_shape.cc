// Shape inference of QuantizedConv and QuantizedConvLowRank.
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

OrtStatus* infer_dims(const Api& api, const OrtShapeInferContext* context, std::size_t input,
                      std::int64_t* dims) {
  OrtTensorTypeAndShapeInfo* info = nullptr;  // the context's own
  std::size_t rank = 0;
  RETURN_IF_ERROR(api.ShapeInferContext_GetInputTypeShape(context, input, &info));
  RETURN_IF_ERROR(api.GetDimensionsCount(info, &rank));
  if (rank != 4) {
    dims[0] = dims[1] = dims[2] = dims[3] = -1;
    return nullptr;
  }
  return api.GetDimensions(info, dims, rank);
}

}  // namespace

OrtStatus* infer_conv_shape(const ort::CustomOp* self, OrtShapeInferContext* context) {
  const Api& api = as_op(self).api;
  std::int64_t codes[4], weight[4], kernel[2] = {}, stride[2] = {}, pads[4] = {};
  RETURN_IF_ERROR(infer_dims(api, context, std::size_t{0}, codes));
  RETURN_IF_ERROR(infer_dims(api, context, std::size_t{3}, weight));
  RETURN_IF_ERROR(infer_list(api, context, "kernel_shape", 2, kernel));
  RETURN_IF_ERROR(infer_list(api, context, "strides", 2, stride));
  RETURN_IF_ERROR(infer_list(api, context, "pads", 4, pads));
  std::int64_t dims[4] = {codes[0], weight[0], -1, -1};
  for (int i = 0; i < 2; ++i) {
    const std::int64_t size = codes[2 + i];
    if (size < 0 || stride[i] < 1 || pads[i] < 0 || pads[2 + i] < 0 || pads[i] > kMostPad ||
        pads[2 + i] > kMostPad || kernel[i] < 1 || kernel[i] > kMaxTaps) {
      continue;
    }
    const std::int64_t room = size + pads[i] + pads[2 + i] - kernel[i];
    if (room >= 0) dims[2 + i] = room / stride[i] + 1;
  }
  OrtTensorTypeAndShapeInfo* y = nullptr;
  RETURN_IF_ERROR(api.CreateTensorTypeAndShapeInfo(&y));
  OrtStatus* status = api.SetTensorElementType(y, int{ort::kFloat});
  if (status == nullptr) {
    status = api.SetDimensions(y, static_cast<const std::int64_t*>(dims), std::size_t{4});
  }
  if (status == nullptr) {
    status = api.ShapeInferContext_SetOutputTypeShape(
        context, std::size_t{0}, static_cast<const OrtTensorTypeAndShapeInfo*>(y));
  }
  api.ReleaseTensorTypeAndShapeInfo(y);
  return status;
}

}  // namespace quantface
