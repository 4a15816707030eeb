// What the adapters of all operators share: statuses, shapes, inputs, memory and threads.
//
// Everything that does not fit is an OrtStatus with the actual and the expected value. No
// exception, no global state: what lives between calls is one kernel per node.
#pragma once

#include <cstdlib>
#include <initializer_list>
#include <new>

#include "conv.h"
#include "ort_abi.h"
#include "rotation.h"

namespace quantface {

using ort::Api;

constexpr int kMaxRank = 16;
constexpr std::int64_t kMaxTasks = 64;
constexpr std::int64_t kInlineValues = 1 << 15;  // floats: fewer are not worth a second thread
constexpr std::int64_t kMostPad = 1024;  // also of strides and ranks

__attribute__((format(printf, 2, 3))) OrtStatus* invalid(const Api& api, const char* format, ...);
OrtStatus* out_of_memory(const Api& api);

#define RETURN_IF_ERROR(call)                            \
  do {                                                   \
    if (OrtStatus* status = (call)) return status;       \
  } while (false)

struct Shape {
  std::int64_t dims[kMaxRank] = {};
  int rank = 0;

  std::int64_t count(int from, int to) const {
    std::int64_t product = 1;
    for (int i = from; i < to; ++i) product *= dims[i];
    return product;
  }
  std::int64_t count() const { return count(0, rank); }
};

// A shape for people.
struct Text {
  char chars[kMaxRank * 21 + 3];

  explicit Text(const Shape& shape);
};

Shape shape_of(std::initializer_list<std::int64_t> dims);
OrtStatus* expect(const Api& api, const char* name, const Shape& shape, const Shape& expected);

struct Input {
  const void* data = nullptr;
  Shape shape;

  template <class T>
  const T* as() const {
    return static_cast<const T*>(data);
  }
};

// The tensor in `value`, which must have this element type.
OrtStatus* read_tensor(const Api& api, const OrtValue* value, const char* name, int type,
                       Input* input);
OrtStatus* read_input(const Api& api, const OrtKernelContext* context, std::size_t index,
                      const char* name, int type, Input* input);

// Where output `index` of this shape is to be written; null if nobody wants it.
OrtStatus* get_output(const Api& api, OrtKernelContext* context, std::size_t index,
                      const Shape& shape, void** data);

// Memory of the session: its arena keeps what is given back, so that the next call has no fresh pages to wait for.
class Arena {
 public:
  Arena() = default;
  Arena(const Arena&) = delete;
  ~Arena();

  OrtStatus* init(const Api& api, const OrtKernelInfo* info);
  void* take(std::size_t bytes) const;  // aligned to 64; null without memory
  void give(void* memory) const;

 private:
  Api api_;
  OrtAllocator* allocator_ = nullptr;
};

// What the kernels of all operators begin with.
struct KernelBase {
  Api api;
  const Kernels* kernels = nullptr;
  Arena arena;

  // Takes the instruction set that QUANTFACE_ISA names, or the fastest.
  OrtStatus* start(const Api& table, const OrtKernelInfo* info);
};

struct Memory {
  const Arena& arena;
  void* data;
  bool missing;

  // None for no bytes.
  Memory(const KernelBase& kernel, std::size_t bytes)
      : arena(kernel.arena), data(bytes == 0 ? nullptr : arena.take(bytes)), missing(bytes > 0 && data == nullptr) {}
  Memory(const Memory&) = delete;
  ~Memory() { arena.give(data); }
};

// Items first to last - 1 with scratch of a task's own.
using RunItems = void (*)(const void* work, std::int64_t first, std::int64_t last, void* scratch);

// All items, shared among ONNX Runtime's threads where there are enough.
OrtStatus* run_items(const Api& api, const OrtKernelContext* context, const void* work,
                     RunItems run, std::int64_t items, std::size_t scratch_bytes, bool threads);

// (N, C, ...) to (N, ..., C).
template <class T>
inline void move_channels_last(T* values, int rank) {
  const T channels = values[1];
  for (int i = 1; i + 1 < rank; ++i) values[i] = values[i + 1];
  values[rank - 1] = channels;
}

// The shape and type of the first input, symbolic dimensions included.
OrtStatus* infer_like_x(const ort::CustomOp* self, OrtShapeInferContext* context);

OrtStatus* infer_row_shape(const ort::CustomOp* self, OrtShapeInferContext* context);
OrtStatus* infer_hadamard_shape(const ort::CustomOp* self, OrtShapeInferContext* context);

// y of a convolution, and of a linear layer, where sizes are known.
OrtStatus* infer_conv_shape(const ort::CustomOp* self, OrtShapeInferContext* context);
OrtStatus* infer_linear_shape(const ort::CustomOp* self, OrtShapeInferContext* context);

// The fields of an operator that are the same for all.
ort::CustomOp plain_op();

// Lets the first output take the memory of the first input where nobody reads that later.
void allow_in_place(ort::CustomOp* base);

// One operator for one combination of types. ONNX Runtime keeps its address.
struct Op {
  ort::CustomOp base;
  Api api;
  bool quantize;
  bool linear;
  bool upsample;
  bool branch;
  Stored stored;
  bool silu;
  bool normalize;  // before the rotation
  Element x_type;
  Element y_type;
};

inline const Op& as_op(const ort::CustomOp* op) { return *reinterpret_cast<const Op*>(op); }

// CreateKernelV2 of operators whose kernel is a KernelBase that has init(op, info).
template <class Kernel>
OrtStatus* create_kernel(const ort::CustomOp* self, const OrtApi* table, const OrtKernelInfo* info,
                         void** result) {
  *result = nullptr;
  const Api api(table);
  void* memory = std::malloc(sizeof(Kernel));
  if (memory == nullptr) return out_of_memory(api);
  Kernel* kernel = new (memory) Kernel;
  OrtStatus* status = kernel->start(api, info);
  if (status == nullptr) status = kernel->init(as_op(self), info);
  if (status == nullptr) {
    *result = kernel;
    return nullptr;
  }
  kernel->~Kernel();
  std::free(memory);
  return status;
}

// KernelDestroy of what create_kernel made.
template <class Kernel>
void destroy_kernel(void* kernel) {
  static_cast<Kernel*>(kernel)->~Kernel();
  std::free(kernel);
}

// An operator; its name, inputs and outputs are left open.
template <class Kernel>
Op op_of(const Api& api, OrtStatus* (*compute)(void* kernel, OrtKernelContext*),
         OrtStatus* (*infer)(const ort::CustomOp*, OrtShapeInferContext*)) {
  Op op{};
  op.api = api;
  op.base = plain_op();
  op.base.CreateKernelV2 = create_kernel<Kernel>;
  op.base.KernelComputeV2 = compute;
  op.base.KernelDestroy = destroy_kernel<Kernel>;
  op.base.InferOutputShapeFn = infer;
  return op;
}

// An operator of three float tensors whose result has the shape of the first; its name is left open.
template <class Kernel>
Op op_of_three_floats(const Api& api, OrtStatus* (*compute)(void* kernel, OrtKernelContext*)) {
  Op op = op_of<Kernel>(api, compute, infer_like_x);
  ort::CustomOp& base = op.base;
  base.GetInputType = [](const ort::CustomOp*, std::size_t) { return int{ort::kFloat}; };
  base.GetInputTypeCount = [](const ort::CustomOp*) { return std::size_t{3}; };
  base.GetOutputType = base.GetInputType;
  return op;
}

constexpr int kHadamardOps = 7, kConvOps = 18, kNormOps = 2, kAttentionOps = 2, kRowOps = 2;
Op hadamard_op(const Api& api, int index);
Op conv_op(const Api& api, int index);
Op norm_op(const Api& api, int index);
Op attention_op(const Api& api, int index);
Op row_op(const Api& api, int index);
Op scale_op(const Api& api);

}  // namespace quantface
