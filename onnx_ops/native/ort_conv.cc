// QuantizedConv, QuantizedLinear and the same with a low-rank branch for ONNX Runtime: attributes and
// shapes. Weights are put into the kernels' order once, when they are constants, or at each call: those
// that are not, and large ones of four bits, of which nothing is kept but ONNX Runtime's own tensor.
#include "ort_conv.h"

#include "conv_scratch.h"

namespace quantface {
namespace {

constexpr std::int64_t kInlineProducts = 1 << 16;  // fewer are not worth a second thread

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

OrtStatus* read_attributes(const OrtKernelInfo* info, ConvKernel* kernel) {
  const Api& api = kernel->api;
  ConvGeometry& g = kernel->geometry;
  std::int64_t top = 0;
  RETURN_IF_ERROR(api.KernelInfoGetAttribute_int64(info, "top", &top));
  if (top < 0 || top > 255) return invalid(api, "top must be from 0 to 255, got %lld", number(top));
  kernel->top = static_cast<int>(top);
  if (kernel->linear) return nullptr;
  RETURN_IF_ERROR(read_list(api, info, "kernel_shape", 1, kMaxTaps, 2, g.kernel));
  RETURN_IF_ERROR(read_list(api, info, "strides", 1, kMostPad, 2, g.stride));
  RETURN_IF_ERROR(read_list(api, info, "pads", 0, kMostPad, 4, g.pads));
  if (g.kernel[0] * g.kernel[1] > kMaxTaps) {
    return invalid(api, "kernel_shape must have at most %d taps, got %lld x %lld", kMaxTaps,
                   number(g.kernel[0]), number(g.kernel[1]));
  }
  return nullptr;
}

// Plans ahead if all constants are known.
OrtStatus* plan_ahead(const OrtKernelInfo* info, ConvKernel* kernel) {
  const Api& api = kernel->api;
  const Roles roles = roles_of(kernel->linear, kernel->branch, kernel->stored);
  Inputs inputs;
  for (std::size_t i = 0; i < roles.count; ++i) {
    if (!is_constant(roles.list[i])) continue;
    int constant = 0;
    const OrtValue* value = nullptr;
    RETURN_IF_ERROR(api.KernelInfoGetConstantInput_tensor(info, i, &constant, &value));
    if (constant == 0 || value == nullptr) return nullptr;
    RETURN_IF_ERROR(read_role(*kernel, value, roles.list[i], &inputs));
  }
  RETURN_IF_ERROR(make_plan(*kernel, inputs, &kernel->plan));
  kernel->planned = true;
  return nullptr;
}

// ---- compute

struct Work {
  const ConvCall& call;
  const Kernels& kernels;
};

// What reads the layer's inputs: blocks of the branch and rows of codes. They are mixed, so that who takes the first half
// of both, as ONNX Runtime's threads do, finds the upper half of the image in its caches again.
void run_inputs(const void* data, std::int64_t first, std::int64_t last, void* scratch) {
  const Work& work = *static_cast<const Work*>(data);
  const ConvKernels& kernels = work.kernels.conv;
  const std::int64_t branch = branch_items(work.call), items = branch + pad_items(work.call);
  const std::int64_t begin = (first * branch + items - 1) / items, end = (last * branch + items - 1) / items;
  if (begin < end) kernels.branch(work.call, begin, end, scratch);
  if (first - begin < last - end) kernels.pad(work.call, first - begin, last - end, scratch);
}

void run_blocks(const void* data, std::int64_t first, std::int64_t last, void* scratch) {
  const Work& work = *static_cast<const Work*>(data);
  work.kernels.conv.run(work.call, first, last, scratch);
}

void run_expand(const void* data, std::int64_t first, std::int64_t last, void*) {
  const Work& work = *static_cast<const Work*>(data);
  expand_band(work.kernels, work.call, first, last);
}

OrtStatus* run_slab(const ConvKernel& kernel, const OrtKernelContext* context, void* band,
                    bool threads, ConvCall* call) {
  const Api& api = kernel.api;
  const ConvPlan& plan = *call->plan;
  const Work work = {*call, *kernel.kernels};
  const std::int64_t branch = branch_items(*call);
  int parts_left = call->low_parts;
  call->parts_left = &parts_left;
  RETURN_IF_ERROR(run_items(api, context, &work, run_inputs, branch + pad_items(*call),
                            branch > 0 ? branch_scratch(*call).bytes : 1, threads));
  call->weights = call->form->weights == nullptr ? static_cast<std::int8_t*>(band) : call->form->weights;
  for (const int most = call->band; call->first < plan.blocks; call->first += most) {
    if (call->band > plan.blocks - call->first) call->band = plan.blocks - call->first;
    if (call->form->weights == nullptr) {
      RETURN_IF_ERROR(run_items(api, context, &work, run_expand, expand_items(*call), 1, threads));
    }
    RETURN_IF_ERROR(run_items(api, context, &work, run_blocks, conv_items(*call),
                              conv_scratch(*call, plan.outputs).bytes, threads));
  }
  return nullptr;
}

OrtStatus* run_conv(const ConvKernel& kernel, const OrtKernelContext* context, ConvCall* call) {
  const Api& api = kernel.api;
  const auto room = [](std::size_t bytes) { return bytes == 0 ? 0 : bytes + kLineBytes; };  // vectors read beyond
  const Memory padded(kernel, room(padded_bytes(*call))), low(kernel, room(low_bytes(*call)));
  const Memory band(kernel, room(band_bytes(*call))), parts(kernel, parts_bytes(*call));
  if (padded.missing || low.missing || band.missing || parts.missing) return out_of_memory(api);
  call->padded = static_cast<std::uint8_t*>(padded.data);
  call->pixels = pad_items(*call) > 0 ? call->padded : call->codes;
  call->low = static_cast<float*>(low.data);
  call->parts = static_cast<float*>(parts.data);
  const ConvGeometry& g = call->plan->geometry;
  const std::int64_t outputs = call->images * call->out_height * call->out_width * g.filters;
  const bool threads = outputs * g.channels * g.kernel[0] * g.kernel[1] > kInlineProducts;
  for (std::int64_t image = 0; image < call->images; ++image) {
    for (std::int64_t row = 0; row < call->out_height; row += call->slab_rows) {
      set_slab(*kernel.kernels, image, row, call);
      RETURN_IF_ERROR(run_slab(kernel, context, band.data, threads, call));
    }
  }
  return nullptr;
}

// Sizes of the call; rows of a linear layer are the pixels of one line.
OrtStatus* set_image(const ConvKernel& kernel, const Shape& codes, ConvCall* call, Shape* y) {
  const Api& api = kernel.api;
  const ConvGeometry& g = call->plan->geometry;
  if (kernel.linear) {
    if (codes.rank < 2 || codes.dims[codes.rank - 1] != g.channels) {
      return invalid(api, "codes must be (N,...,%lld), got %s", number(g.channels),
                     Text(codes).chars);
    }
    call->images = call->height = 1;
    call->width = codes.count(0, codes.rank - 1);
    *y = codes;
    y->dims[y->rank - 1] = g.filters;
    if (call->width > 0) set_conv_sizes(*kernel.kernels, call);
    return nullptr;
  }
  if (codes.rank != 4 || codes.dims[1] != g.channels) {
    return invalid(api, "codes must be (N,%lld,H,W), got %s", number(g.channels),
                   Text(codes).chars);
  }
  call->images = codes.dims[0];
  call->height = codes.dims[2];
  call->width = codes.dims[3];
  if (!set_conv_sizes(*kernel.kernels, call)) {
    return invalid(api, "kernel_shape %lld x %lld does not fit the padded codes %s",
                   number(g.kernel[0]), number(g.kernel[1]), Text(codes).chars);
  }
  *y = shape_of({call->images, g.filters, call->out_height, call->out_width});
  return nullptr;
}

OrtStatus* compute_planned(const ConvKernel& kernel, OrtKernelContext* context,
                           const Inputs& inputs, const ConvPlan& plan) {
  const Api& api = kernel.api;
  const Shape& codes = inputs[kCodes].shape;
  ConvCall call;
  call.plan = &plan;
  Shape shape;
  RETURN_IF_ERROR(set_image(kernel, codes, &call, &shape));
  if (kernel.branch) RETURN_IF_ERROR(expect(api, "x", inputs[kX].shape, codes));
  void* y = nullptr;
  RETURN_IF_ERROR(get_output(api, context, 0, shape, &y));
  if (y == nullptr || shape.count() == 0) return nullptr;
  call.source = {inputs[kWeight].data, inputs[kWeightLow].data, kernel.stored};
  call.codes = inputs[kCodes].as<std::uint8_t>();
  call.x = inputs[kX].as<float>();
  call.y = static_cast<float*>(y);
  return run_conv(kernel, context, &call);
}

OrtStatus* compute(void* self, OrtKernelContext* context) {
  const ConvKernel& kernel = *static_cast<const ConvKernel*>(self);
  const Roles roles = roles_of(kernel.linear, kernel.branch, kernel.stored);
  Inputs inputs;
  for (std::size_t i = 0; i < roles.count; ++i) {
    const Role role = roles.list[i];
    const bool kept = role != kWeight || keeps_weights(kernel.plan);
    if (kernel.planned && is_constant(role) && kept) continue;
    const OrtValue* value = nullptr;
    RETURN_IF_ERROR(kernel.api.KernelContext_GetInput(context, i, &value));
    RETURN_IF_ERROR(read_role(kernel, value, role, &inputs));
  }
  if (kernel.planned) return compute_planned(kernel, context, inputs, kernel.plan);
  ConvPlan plan;
  OrtStatus* status = make_plan(kernel, inputs, &plan);
  if (status == nullptr) status = compute_planned(kernel, context, inputs, plan);
  free_conv_plan(&plan);
  return status;
}

const char* op_name(const ort::CustomOp* op) {
  static constexpr const char* kNames[3][2][2] = {
      {{"QuantizedConv", "QuantizedConvLowRank"}, {"QuantizedConvW6", "QuantizedConvW6LowRank"}},
      {{"QuantizedLinear", "QuantizedLinearLowRank"},
       {"QuantizedLinearW6", "QuantizedLinearW6LowRank"}},
      {{"UpsampleQuantizedConv", "UpsampleQuantizedConvLowRank"},
       {"UpsampleQuantizedConvW6", "UpsampleQuantizedConvW6LowRank"}}};
  const Op& self = as_op(op);
  const auto& names = kNames[self.linear ? 1 : self.upsample ? 2 : 0];
  return names[self.stored == Stored::kPlanes ? 1 : 0][self.branch ? 1 : 0];
}

}  // namespace

OrtStatus* ConvKernel::init(const Op& op, const OrtKernelInfo* info) {
  linear = op.linear;
  geometry.upsample = op.upsample ? 2 : 1;
  branch = op.branch;
  stored = op.stored;
  RETURN_IF_ERROR(read_attributes(info, this));
  return plan_ahead(info, this);
}

Op conv_op(const Api& api, int index) {
  Op op = op_of<ConvKernel>(api, compute, infer_conv_shape);
  op.branch = index % 2 == 1;
  op.stored = static_cast<Stored>(index / 2 % 3);
  op.linear = index / 6 == 1;
  op.upsample = index / 6 == 2;
  ort::CustomOp& base = op.base;
  if (op.linear) base.InferOutputShapeFn = infer_linear_shape;
  base.GetName = op_name;
  base.GetInputType = [](const ort::CustomOp* o, std::size_t i) {
    const Op& self = as_op(o);
    return type_of(roles_of(self.linear, self.branch, self.stored).list[i], self.linear,
                   self.stored);
  };
  base.GetInputTypeCount = [](const ort::CustomOp* o) {
    return roles_of(as_op(o).linear, as_op(o).branch, as_op(o).stored).count;
  };
  base.GetOutputType = [](const ort::CustomOp*, std::size_t) { return int{ort::kFloat}; };
  return op;
}

}  // namespace quantface
