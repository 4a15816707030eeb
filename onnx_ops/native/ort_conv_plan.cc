// What QuantizedConv and QuantizedLinear are made of: inputs by their roles, constants, plans.
#include <cstring>

#include "ort_conv.h"

namespace quantface {
namespace {

OrtStatus* read_one_float(const Api& api, const char* name, const Input& input, float* value) {
  if (input.shape.count() != 1) {
    return invalid(api, "%s must hold one value, got %s", name, Text(input.shape).chars);
  }
  std::memcpy(value, input.data, sizeof *value);
  if (*value > 0 && *value <= 3.4028234e38f) return nullptr;
  return invalid(api, "%s must be positive and finite, got %g", name, static_cast<double>(*value));
}

OrtStatus* read_one_code(const Api& api, const char* name, const Input& input, int* value) {
  if (input.shape.count() != 1) {
    return invalid(api, "%s must hold one value, got %s", name, Text(input.shape).chars);
  }
  *value = *input.as<std::uint8_t>();
  return nullptr;
}

// The shape of a tensor whose last two dimensions only a convolution has.
Shape window(bool linear, std::int64_t first, std::int64_t second, std::int64_t height,
             std::int64_t width) {
  return linear ? shape_of({first, second}) : shape_of({first, second, height, width});
}

OrtStatus* read_weight_shape(const ConvKernel& kernel, const Shape& weight, const Shape& low,
                             ConvGeometry* g) {
  if (kernel.linear && (weight.rank != 2 || weight.count() == 0)) {
    return invalid(kernel.api, "weight must be (F,C), got %s", Text(weight).chars);
  }
  if (!kernel.linear && (weight.rank != 4 || weight.dims[2] != g->kernel[0] ||
                         weight.dims[3] != g->kernel[1] || weight.count() == 0)) {
    return invalid(kernel.api, "weight must be (F,C,%lld,%lld), got %s",
                   static_cast<long long>(g->kernel[0]), static_cast<long long>(g->kernel[1]),
                   Text(weight).chars);
  }
  g->filters = weight.dims[0];
  g->channels = weight.dims[1];
  if (kernel.stored != Stored::kPlanes) return nullptr;
  if (g->filters % 2 != 0) {
    return invalid(kernel.api, "weight must have an even number of filters, got %s",
                   Text(weight).chars);
  }
  Shape half = weight;
  half.dims[0] /= 2;
  return expect(kernel.api, "weight_low", low, half);
}

OrtStatus* read_branch(const ConvKernel& kernel, const Inputs& inputs, ConvPlan* plan) {
  const Api& api = kernel.api;
  const ConvGeometry& g = plan->geometry;
  const Shape& down = inputs[kDown].shape;
  const std::int64_t rank = down.rank == 0 ? 0 : down.dims[0];
  if (rank < 1 || rank > kMostPad) {
    return invalid(api, "down must have 1 to %lld rows, got %s", static_cast<long long>(kMostPad),
                   Text(down).chars);
  }
  RETURN_IF_ERROR(
      expect(api, "down", down, window(kernel.linear, rank, g.channels, g.kernel[0], g.kernel[1])));
  RETURN_IF_ERROR(
      expect(api, "up", inputs[kUp].shape, window(kernel.linear, g.filters, rank, 1, 1)));
  plan->rank = static_cast<int>(rank);
  return nullptr;
}

}  // namespace

Roles roles_of(bool linear, bool branch, Stored stored) {
  Roles roles{};
  for (int i = 0; i < kRoles; ++i) {
    const Role role = static_cast<Role>(i);
    if ((role == kYScale || role == kYZero) && linear) continue;
    if (role == kWeightLow && stored != Stored::kPlanes) continue;
    if (role >= kX && !branch) continue;
    roles.list[roles.count++] = role;
  }
  return roles;
}

int type_of(Role role, bool linear, Stored stored) {
  switch (role) {
    case kCodes:
    case kXZero:
    case kYZero: return ort::kUint8;
    case kWeight: return stored == Stored::kBytes ? ort::kInt8 : ort::kInt4;
    case kWeightLow: return ort::kUint4;
    case kBias: return linear ? ort::kFloat : ort::kInt32;
    default: return ort::kFloat;
  }
}

OrtStatus* read_role(const ConvKernel& kernel, const OrtValue* value, Role role, Inputs* inputs) {
  static constexpr const char* kNames[kRoles] = {
      "codes", "x_scale", "x_zero_point", "weight", "weight_low", "weight_scale", "bias",
      "y_scale", "y_zero_point", "x", "down", "up"};
  return read_tensor(kernel.api, value, kNames[role], type_of(role, kernel.linear, kernel.stored),
                     &(*inputs)[role]);
}

OrtStatus* make_plan(const ConvKernel& kernel, const Inputs& inputs, ConvPlan* plan) {
  const Api& api = kernel.api;
  ConvConstants constants{};
  plan->geometry = kernel.geometry;
  plan->top = kernel.top;
  plan->linear = kernel.linear;
  RETURN_IF_ERROR(read_weight_shape(kernel, inputs[kWeight].shape, inputs[kWeightLow].shape,
                                    &plan->geometry));
  const Shape per_filter = shape_of({plan->geometry.filters});
  RETURN_IF_ERROR(expect(api, "weight_scale", inputs[kWeightScale].shape, per_filter));
  RETURN_IF_ERROR(expect(api, "bias", inputs[kBias].shape, per_filter));
  RETURN_IF_ERROR(read_one_float(api, "x_scale", inputs[kXScale], &constants.x_scale));
  RETURN_IF_ERROR(read_one_code(api, "x_zero_point", inputs[kXZero], &plan->zero_point));
  if (!kernel.linear) {
    RETURN_IF_ERROR(read_one_float(api, "y_scale", inputs[kYScale], &plan->y_scale));
    RETURN_IF_ERROR(read_one_code(api, "y_zero_point", inputs[kYZero], &plan->y_zero));
  }
  if (plan->zero_point > plan->top) {
    return invalid(api, "x_zero_point %d is above top %d", plan->zero_point, plan->top);
  }
  if (kernel.branch) RETURN_IF_ERROR(read_branch(kernel, inputs, plan));
  constants.down = inputs[kDown].as<float>();
  constants.up = inputs[kUp].as<float>();
  constants.weights = {inputs[kWeight].data, inputs[kWeightLow].data, kernel.stored};
  constants.weight_scale = inputs[kWeightScale].as<float>();
  if (kernel.linear) {
    constants.offset = inputs[kBias].as<float>();
  } else {
    constants.bias = inputs[kBias].as<std::int32_t>();
  }
  return make_conv_plan(*kernel.kernels, constants, plan) ? nullptr : out_of_memory(api);
}

}  // namespace quantface
