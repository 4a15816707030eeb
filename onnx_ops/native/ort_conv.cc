// The operators QuantizedConv and QuantizedConvLowRank for ONNX Runtime: attributes, constants,
// shapes. Weights are put into the kernels' order once, when they are constants, or at each call: those
// that are not, and large ones of four bits, of which nothing is kept but ONNX Runtime's own tensor.
#include <cstdlib>
#include <cstring>
#include <new>

#include "ort_host.h"

namespace quantface {
namespace {

enum InputIndex : std::size_t {
  kCodes, kXScale, kXZero, kWeight, kWeightScale, kBias, kYScale, kYZero, kX, kDown, kUp
};
constexpr std::size_t kPlainInputs = kX, kBranchInputs = kUp + 1;

constexpr struct {
  const char* name;
  int type;
} kInputs[kBranchInputs] = {
    {"codes", ort::kUint8},        {"x_scale", ort::kFloat}, {"x_zero_point", ort::kUint8},
    {"weight", ort::kInt8},        {"weight_scale", ort::kFloat}, {"bias", ort::kInt32},
    {"y_scale", ort::kFloat},      {"y_zero_point", ort::kUint8}, {"x", ort::kFloat},
    {"down", ort::kFloat},         {"up", ort::kFloat},
};

constexpr std::int64_t kInlineProducts = 1 << 20;  // fewer are not worth a second thread

struct Kernel {
  Api api;
  const Kernels* kernels = nullptr;
  bool branch = false;
  bool four_bits = false;  // weights are INT4
  ConvGeometry geometry;
  int top = 255;
  bool planned = false;  // whether every constant was one
  ConvPlan plan;
};

int input_type(bool four_bits, std::size_t index) {
  return four_bits && index == kWeight ? int{ort::kInt4} : kInputs[index].type;
}

long long number(std::int64_t value) { return static_cast<long long>(value); }

// ---- attributes

OrtStatus* read_list(const Api& api, const OrtKernelInfo* info, const char* name,
                     std::int64_t least, std::int64_t most, std::size_t count,
                     std::int64_t* values) {
  std::size_t found = 0;
  RETURN_IF_ERROR(api.KernelInfoGetAttributeArray_int64(
      info, name, static_cast<std::int64_t*>(nullptr), &found));
  if (found != count) return invalid(api, "%s must have %zu values, got %zu", name, count, found);
  RETURN_IF_ERROR(api.KernelInfoGetAttributeArray_int64(info, name, values, &found));
  for (std::size_t i = 0; i < count; ++i) {
    if (values[i] < least || values[i] > most) {
      return invalid(api, "%s must be from %lld to %lld, got %lld", name, number(least),
                     number(most), number(values[i]));
    }
  }
  return nullptr;
}

OrtStatus* read_attributes(const OrtKernelInfo* info, Kernel* kernel) {
  const Api& api = kernel->api;
  ConvGeometry& g = kernel->geometry;
  RETURN_IF_ERROR(read_list(api, info, "kernel_shape", 1, kMaxTaps, 2, g.kernel));
  RETURN_IF_ERROR(read_list(api, info, "strides", 1, kMostPad, 2, g.stride));
  RETURN_IF_ERROR(read_list(api, info, "pads", 0, kMostPad, 4, g.pads));
  std::int64_t top = 0;
  RETURN_IF_ERROR(api.KernelInfoGetAttribute_int64(info, "top", &top));
  if (top < 0 || top > 255) return invalid(api, "top must be from 0 to 255, got %lld", number(top));
  if (g.kernel[0] * g.kernel[1] > kMaxTaps) {
    return invalid(api, "kernel_shape must have at most %d taps, got %lld x %lld", kMaxTaps,
                   number(g.kernel[0]), number(g.kernel[1]));
  }
  kernel->top = static_cast<int>(top);
  return nullptr;
}

// ---- constants

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

OrtStatus* make_plan(const Kernel& kernel, const Input* inputs, ConvPlan* plan) {
  const Api& api = kernel.api;
  ConvConstants constants{};
  plan->geometry = kernel.geometry;
  plan->top = kernel.top;
  ConvGeometry& g = plan->geometry;
  const Shape& weight = inputs[kWeight].shape;
  if (weight.rank != 4 || weight.dims[2] != g.kernel[0] || weight.dims[3] != g.kernel[1] ||
      weight.count() == 0) {
    return invalid(api, "weight must be (F,C,%lld,%lld), got %s", number(g.kernel[0]),
                   number(g.kernel[1]), Text(weight).chars);
  }
  g.filters = weight.dims[0];
  g.channels = weight.dims[1];
  const Shape per_filter = shape_of({g.filters});
  RETURN_IF_ERROR(expect(api, "weight_scale", inputs[kWeightScale].shape, per_filter));
  RETURN_IF_ERROR(expect(api, "bias", inputs[kBias].shape, per_filter));
  RETURN_IF_ERROR(read_one_float(api, "x_scale", inputs[kXScale], &constants.x_scale));
  RETURN_IF_ERROR(read_one_float(api, "y_scale", inputs[kYScale], &plan->y_scale));
  RETURN_IF_ERROR(read_one_code(api, "x_zero_point", inputs[kXZero], &plan->zero_point));
  RETURN_IF_ERROR(read_one_code(api, "y_zero_point", inputs[kYZero], &plan->y_zero));
  if (plan->zero_point > plan->top) {
    return invalid(api, "x_zero_point %d is above top %d", plan->zero_point, plan->top);
  }
  if (kernel.branch) {
    const Shape& down = inputs[kDown].shape;
    const std::int64_t rank = down.rank == 4 ? down.dims[0] : 0;
    if (rank < 1 || rank > kMostPad) {
      return invalid(api, "down must have 1 to %lld rows, got %s", number(kMostPad), Text(down).chars);
    }
    RETURN_IF_ERROR(expect(api, "down", down, shape_of({rank, g.channels, g.kernel[0], g.kernel[1]})));
    RETURN_IF_ERROR(expect(api, "up", inputs[kUp].shape, shape_of({g.filters, rank, 1, 1})));
    plan->rank = static_cast<int>(rank);
    constants.down = inputs[kDown].as<float>();
    constants.up = inputs[kUp].as<float>();
  }
  constants.weights = {inputs[kWeight].data, kernel.four_bits};
  constants.weight_scale = inputs[kWeightScale].as<float>();
  constants.bias = inputs[kBias].as<std::int32_t>();
  return make_conv_plan(*kernel.kernels, constants, plan) ? nullptr : out_of_memory(api);
}

bool is_constant(std::size_t index) { return index != kCodes && index != kX; }

std::size_t input_count(const Kernel& kernel) {
  return kernel.branch ? kBranchInputs : kPlainInputs;
}

// Plans ahead if all constants are known.
OrtStatus* plan_ahead(const OrtKernelInfo* info, Kernel* kernel) {
  const Api& api = kernel->api;
  Input inputs[kBranchInputs];
  for (std::size_t i = 0; i < input_count(*kernel); ++i) {
    if (!is_constant(i)) continue;
    int constant = 0;
    const OrtValue* value = nullptr;
    RETURN_IF_ERROR(api.KernelInfoGetConstantInput_tensor(info, i, &constant, &value));
    if (constant == 0 || value == nullptr) return nullptr;
    RETURN_IF_ERROR(read_tensor(api, value, kInputs[i].name, input_type(kernel->four_bits, i),
                                &inputs[i]));
  }
  RETURN_IF_ERROR(make_plan(*kernel, inputs, &kernel->plan));
  kernel->planned = true;
  return nullptr;
}

void destroy_kernel(void* memory) {
  free_conv_plan(&static_cast<Kernel*>(memory)->plan);
  std::free(memory);
}

OrtStatus* create_kernel(const ort::CustomOp* self, const OrtApi* table, const OrtKernelInfo* info,
                         void** result) {
  *result = nullptr;
  const Api api(table);
  void* memory = std::malloc(sizeof(Kernel));
  if (memory == nullptr) return out_of_memory(api);
  Kernel* kernel = new (memory) Kernel;
  kernel->api = api;
  kernel->branch = as_op(self).branch;
  kernel->four_bits = as_op(self).four_bits;
  OrtStatus* status = choose_kernels(api, &kernel->kernels);
  if (status == nullptr) status = read_attributes(info, kernel);
  if (status == nullptr) status = plan_ahead(info, kernel);
  if (status != nullptr) {
    destroy_kernel(kernel);
    return status;
  }
  *result = kernel;
  return nullptr;
}

// ---- compute

OrtStatus* output(const Api& api, OrtKernelContext* context, const Shape& shape, void** data) {
  OrtValue* value = nullptr;
  RETURN_IF_ERROR(api.KernelContext_GetOutput(context, std::size_t{0},
                                              static_cast<const std::int64_t*>(shape.dims),
                                              static_cast<std::size_t>(shape.rank), &value));
  return value == nullptr ? nullptr : api.GetTensorMutableData(value, data);
}

struct Work {
  const ConvCall& call;
  const Kernels& kernels;
};

template <auto kPhase>
void run_phase(const void* data, std::int64_t first, std::int64_t last, void* scratch) {
  const Work& work = *static_cast<const Work*>(data);
  (work.kernels.conv.*kPhase)(work.call, first, last, scratch);
}

void run_expand(const void* data, std::int64_t first, std::int64_t last, void*) {
  const Work& work = *static_cast<const Work*>(data);
  expand_band(work.kernels, work.call, first, last);
}

OrtStatus* run_conv(const Kernel& kernel, const OrtKernelContext* context, ConvCall* call) {
  const Api& api = kernel.api;
  const Memory padded(padded_bytes(*call) + 64), low(low_bytes(*call) + 64);
  const Memory band(band_bytes(*call) + 64);
  if (padded.data == nullptr || low.data == nullptr || band.data == nullptr) return out_of_memory(api);
  call->padded = static_cast<std::uint8_t*>(padded.data);
  call->low = static_cast<float*>(low.data);
  const ConvPlan& plan = *call->plan;
  const Work work = {*call, *kernel.kernels};
  const bool threads = call->images * call->out_height * call->out_width * plan.geometry.filters *
                           plan.geometry.channels > kInlineProducts;
  RETURN_IF_ERROR(run_items(api, context, &work, run_phase<&ConvKernels::pad>, pad_items(*call),
                            1, threads));
  if (plan.rank > 0) {
    RETURN_IF_ERROR(run_items(api, context, &work, run_phase<&ConvKernels::branch>,
                              branch_items(*call), branch_scratch(*call, plan.outputs).bytes,
                              threads));
  }
  call->weights = plan.weights == nullptr ? static_cast<std::int8_t*>(band.data) : plan.weights;
  for (const int most = call->band; call->first < plan.blocks; call->first += most) {
    if (call->band > plan.blocks - call->first) call->band = plan.blocks - call->first;
    if (plan.weights == nullptr) {
      RETURN_IF_ERROR(run_items(api, context, &work, run_expand, expand_items(*call), 1, threads));
    }
    RETURN_IF_ERROR(run_items(api, context, &work, run_phase<&ConvKernels::run>, conv_items(*call),
                              conv_scratch(*call, plan.outputs).bytes, threads));
  }
  return nullptr;
}

OrtStatus* compute_planned(const Kernel& kernel, OrtKernelContext* context, const Input* inputs,
                           const ConvPlan& plan) {
  const Api& api = kernel.api;
  const ConvGeometry& g = plan.geometry;
  const Shape& codes = inputs[kCodes].shape;
  if (codes.rank != 4 || codes.dims[1] != g.channels) {
    return invalid(api, "codes must be (N,%lld,H,W), got %s", number(g.channels),
                   Text(codes).chars);
  }
  ConvCall call;
  call.plan = &plan;
  call.images = codes.dims[0];
  call.height = codes.dims[2];
  call.width = codes.dims[3];
  if (kernel.branch) RETURN_IF_ERROR(expect(api, "x", inputs[kX].shape, codes));
  if (!set_conv_sizes(*kernel.kernels, &call)) {
    return invalid(api, "kernel_shape %lld x %lld does not fit the padded codes %s",
                   number(g.kernel[0]), number(g.kernel[1]), Text(codes).chars);
  }
  const Shape shape = shape_of({call.images, g.filters, call.out_height, call.out_width});
  void* y = nullptr;
  RETURN_IF_ERROR(output(api, context, shape, &y));
  if (y == nullptr || shape.count() == 0) return nullptr;
  call.source = {inputs[kWeight].data, kernel.four_bits};
  call.codes = inputs[kCodes].as<std::uint8_t>();
  call.x = inputs[kX].as<float>();
  call.y = static_cast<float*>(y);
  return run_conv(kernel, context, &call);
}

OrtStatus* compute(void* self, OrtKernelContext* context) {
  const Kernel& kernel = *static_cast<const Kernel*>(self);
  Input inputs[kBranchInputs];
  for (std::size_t i = 0; i < input_count(kernel); ++i) {
    const bool kept = i != kWeight || kernel.plan.weights != nullptr;
    if (kernel.planned && is_constant(i) && kept) continue;
    RETURN_IF_ERROR(read_input(kernel.api, context, i, kInputs[i].name,
                               input_type(kernel.four_bits, i), &inputs[i]));
  }
  if (kernel.planned) return compute_planned(kernel, context, inputs, kernel.plan);
  ConvPlan plan;
  OrtStatus* status = make_plan(kernel, inputs, &plan);
  if (status == nullptr) status = compute_planned(kernel, context, inputs, plan);
  free_conv_plan(&plan);
  return status;
}

}  // namespace

Op conv_op(const Api& api, int index) {
  Op op{};
  op.api = api;
  op.branch = index % 2 == 1;
  op.four_bits = index / 2 == 1;
  ort::CustomOp& base = op.base;
  base = plain_op();
  base.GetName = [](const ort::CustomOp* o) {
    return as_op(o).branch ? "QuantizedConvLowRank" : "QuantizedConv";
  };
  base.GetInputType = [](const ort::CustomOp* o, std::size_t i) {
    return input_type(as_op(o).four_bits, i);
  };
  base.GetInputTypeCount = [](const ort::CustomOp* o) {
    return as_op(o).branch ? kBranchInputs : kPlainInputs;
  };
  base.GetOutputType = [](const ort::CustomOp*, std::size_t) { return int{ort::kFloat}; };
  base.CreateKernelV2 = create_kernel;
  base.KernelComputeV2 = compute;
  base.KernelDestroy = destroy_kernel;
  base.InferOutputShapeFn = infer_conv_shape;
  return op;
}

}  // namespace quantface
