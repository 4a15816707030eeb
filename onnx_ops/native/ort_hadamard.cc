// The operators Hadamard, HadamardQuantize and GroupNormSiluHadamardQuantize for ONNX Runtime:
// attributes and shapes.
#include "ort_grid.h"
#include "ort_norm.h"

namespace quantface {
namespace {

int onnx_type(Element e) {
  switch (e) {
    case Element::kFloat: return ort::kFloat;
    case Element::kHalf: return ort::kFloat16;
    case Element::kUint8: return ort::kUint8;
    default: return ort::kInt8;
  }
}

struct Kernel : KernelBase {
  Plan plan;
  Element x_type = Element::kFloat;
  Element y_type = Element::kFloat;
  std::int64_t axis = 0;
  bool channels_last = false;  // of the codes
  GridLimits limits;
  bool normalize = false;
  Norm norm;

  OrtStatus* init(const Op& op, const OrtKernelInfo* info);
};

// ---- attributes

std::int64_t optional_attribute(const Api& api, const OrtKernelInfo* info, const char* name) {
  std::int64_t value = 0;
  if (OrtStatus* status = api.KernelInfoGetAttribute_int64(info, name, &value)) {
    api.ReleaseStatus(status);
    return 0;
  }
  return value;
}

OrtStatus* Kernel::init(const Op& op, const OrtKernelInfo* info) {
  x_type = op.x_type;
  y_type = op.y_type;
  normalize = op.normalize;
  axis = 1;
  std::int64_t seed = 0, log2 = 0;
  if (normalize) {
    RETURN_IF_ERROR(norm.init(api, info));
  } else {
    RETURN_IF_ERROR(api.KernelInfoGetAttribute_int64(info, "axis", &axis));
  }
  RETURN_IF_ERROR(api.KernelInfoGetAttribute_int64(info, "seed", &seed));
  RETURN_IF_ERROR(api.KernelInfoGetAttribute_int64(info, "log2", &log2));
  const std::int64_t transposed = op.quantize ? 0 : optional_attribute(api, info, "transposed");
  if (axis != 1 && axis != -1) {
    return invalid(api, "axis must be 1 (channels first) or -1 (channels last), got %lld",
                   static_cast<long long>(axis));
  }
  if (transposed != 0 && transposed != 1) {
    return invalid(api, "transposed must be 0 or 1, got %lld", static_cast<long long>(transposed));
  }
  if (!make_plan(seed, log2, transposed == 1, &plan)) {
    return invalid(api,
                   "need seed 1, 12, 20 or 60, log2 >= 0 and seed * 2**log2 <= %d, "
                   "got seed %lld, log2 %lld",
                   kMaxOrder, static_cast<long long>(seed), static_cast<long long>(log2));
  }
  if (!op.quantize) return nullptr;
  RETURN_IF_ERROR(limits.init(api, info, op.y_type == Element::kInt8));
  if (normalize) return nullptr;
  const std::int64_t last = optional_attribute(api, info, "channels_last");
  if (last != 0 && (last != 1 || axis != 1)) {
    return invalid(api, "channels_last must be 0, or 1 with axis 1; got %lld with axis %lld",
                   static_cast<long long>(last), static_cast<long long>(axis));
  }
  channels_last = last == 1;
  return nullptr;
}

// ---- compute

// Where x and y are, and how the kernels see them.
void set_images(const Kernel& kernel, const Shape& x, int axis, Rotation* r) {
  r->images = x.count(0, axis);
  r->pixels = x.count(axis + 1, x.rank);
  r->x_channels_last = r->pixels == 1 && !kernel.normalize;
  r->y_channels_last = r->x_channels_last || kernel.channels_last;
  if (r->x_channels_last) {
    r->pixels = r->images;
    r->images = 1;
  }
  set_tile(r);
}

// Outputs: the normalized x where there is one, and y.
OrtStatus* get_outputs(const Kernel& kernel, OrtKernelContext* context, const Shape& x,
                       NormCall* norm, void** y) {
  Shape out = x;
  if (kernel.channels_last) move_channels_last(out.dims, out.rank);
  if (!kernel.normalize) return get_output(kernel.api, context, 0, out, y);
  void* normal = nullptr;
  RETURN_IF_ERROR(get_output(kernel.api, context, 0, x, &normal));
  norm->y = static_cast<float*>(normal);
  return get_output(kernel.api, context, 1, x, y);
}

OrtStatus* compute(void* self, OrtKernelContext* context) {
  const Kernel& kernel = *static_cast<const Kernel*>(self);
  const Api& api = kernel.api;
  const int n = kernel.plan.n;
  const std::size_t at_d = kernel.normalize ? 3 : 1;
  Input x, d;
  NormCall norm;
  if (kernel.normalize) {
    RETURN_IF_ERROR(read_norm(api, context, kernel.norm, &x, &norm));
  } else {
    RETURN_IF_ERROR(read_input(api, context, 0, "x", onnx_type(kernel.x_type), &x));
  }
  RETURN_IF_ERROR(read_input(api, context, at_d, "d", ort::kFloat, &d));
  const int least_rank = kernel.axis == 1 ? 2 : 1;
  if (x.shape.rank < least_rank) {
    return invalid(api, "x must have at least %d dimensions for axis %lld, got %s", least_rank,
                   static_cast<long long>(kernel.axis), Text(x.shape).chars);
  }
  const int axis = kernel.axis == 1 ? 1 : x.shape.rank - 1;
  if (x.shape.dims[axis] != n || d.shape.rank != 1 || d.shape.dims[0] != n) {
    return invalid(api, "the order is %d, but x is %s with channels at axis %lld and d is %s", n,
                   Text(x.shape).chars, static_cast<long long>(kernel.axis),
                   Text(d.shape).chars);
  }
  Rotation r;
  r.plan = kernel.plan;
  r.x_type = kernel.x_type;
  r.y_type = kernel.y_type;
  r.x = x.data;
  if (is_code(r.y_type)) RETURN_IF_ERROR(kernel.limits.read(api, context, at_d + 1, &r.grid));
  RETURN_IF_ERROR(get_outputs(kernel, context, x.shape, &norm, &r.y));
  if (r.y == nullptr || (kernel.normalize && norm.y == nullptr) || x.shape.count() == 0) {
    return nullptr;
  }
  set_images(kernel, x.shape, axis, &r);
  const std::size_t gains_bytes = 2 * sizeof(float) * static_cast<std::size_t>(n);
  const Memory memory(kernel, gains_bytes + moments_bytes(norm));
  if (memory.missing) return out_of_memory(api);
  float* gains = static_cast<float*>(memory.data);
  set_gains(d.as<float>(), static_cast<double>(r.grid.scale), gains, &r);
  if (kernel.normalize) {
    RETURN_IF_ERROR(run_moments(api, context, *kernel.kernels, gains + 2 * n, &norm));
    r.normal = &norm;
  }
  struct Work {
    const Rotation& rotation;
    const Kernels& kernels;
  } work = {r, *kernel.kernels};
  const auto run = [](const void* data, std::int64_t first, std::int64_t last, void* scratch) {
    const Work& w = *static_cast<const Work*>(data);
    w.kernels.run(w.rotation, first, last, scratch);
  };
  return run_items(api, context, &work, run, tile_count(r), scratch_bytes(r),
                   r.images * r.pixels * n > kInlineValues);
}

// ---- registration

const char* op_name(const ort::CustomOp* op) {
  if (as_op(op).normalize) return "GroupNormSiluHadamardQuantize";
  return as_op(op).quantize ? "HadamardQuantize" : "Hadamard";
}

std::size_t input_count(const ort::CustomOp* op) {
  if (as_op(op).normalize) return 6;
  return as_op(op).quantize ? 4 : 2;
}

int input_type(const ort::CustomOp* op, std::size_t index) {
  if (index == 0) return onnx_type(as_op(op).x_type);
  return index == (as_op(op).normalize ? 5 : 3) ? onnx_type(as_op(op).y_type) : int{ort::kFloat};
}

int output_type(const ort::CustomOp* op, std::size_t index) {
  return as_op(op).normalize && index == 0 ? int{ort::kFloat} : onnx_type(as_op(op).y_type);
}

constexpr Element kTypes[][2] = {
    {Element::kFloat, Element::kFloat}, {Element::kHalf, Element::kHalf},
    {Element::kFloat, Element::kUint8}, {Element::kHalf, Element::kUint8},
    {Element::kFloat, Element::kInt8},  {Element::kHalf, Element::kInt8},
};
static_assert(sizeof kTypes / sizeof kTypes[0] == kHadamardOps - 1);  // and one that normalizes

}  // namespace

Op hadamard_op(const Api& api, int index) {
  Op op = op_of<Kernel>(api, compute, infer_hadamard_shape);
  op.normalize = index == kHadamardOps - 1;
  op.x_type = op.normalize ? Element::kFloat : kTypes[index][0];
  op.y_type = op.normalize ? Element::kUint8 : kTypes[index][1];
  op.quantize = is_code(op.y_type);
  ort::CustomOp& base = op.base;
  base.GetName = op_name;
  base.GetInputType = input_type;
  base.GetInputTypeCount = input_count;
  base.GetOutputType = output_type;
  if (op.normalize) {
    base.GetOutputTypeCount = [](const ort::CustomOp*) { return std::size_t{2}; };
    allow_in_place(&base);
  }
  return op;
}

}  // namespace quantface
