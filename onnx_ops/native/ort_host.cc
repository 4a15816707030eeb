#include "ort_host.h"

#include <algorithm>
#include <atomic>
#include <cstdarg>
#include <cstdio>
#include <cstdlib>
#include <cstring>

namespace quantface {

OrtStatus* invalid(const Api& api, const char* format, ...) {
  char message[512];
  va_list arguments;
  va_start(arguments, format);
  std::vsnprintf(message, sizeof message, format, arguments);
  va_end(arguments);
  return api.CreateStatus(int{ort::kInvalidArgument}, static_cast<const char*>(message));
}

OrtStatus* out_of_memory(const Api& api) {
  return api.CreateStatus(int{ort::kFail}, "out of memory");
}

Text::Text(const Shape& shape) {
  int used = std::snprintf(chars, sizeof chars, "(");
  for (int i = 0; i < shape.rank; ++i) {
    used += std::snprintf(chars + used, sizeof chars - static_cast<std::size_t>(used),
                          i ? ",%lld" : "%lld", static_cast<long long>(shape.dims[i]));
  }
  std::snprintf(chars + used, sizeof chars - static_cast<std::size_t>(used), ")");
}

OrtStatus* expect(const Api& api, const char* name, const Shape& shape, const Shape& expected) {
  if (shape.rank == expected.rank &&
      std::memcmp(shape.dims, expected.dims, sizeof(std::int64_t) * expected.rank) == 0) {
    return nullptr;
  }
  return invalid(api, "%s must be %s, got %s", name, Text(expected).chars, Text(shape).chars);
}

Shape shape_of(std::initializer_list<std::int64_t> dims) {
  Shape shape;
  for (const std::int64_t dim : dims) shape.dims[shape.rank++] = dim;
  return shape;
}

OrtStatus* read_tensor(const Api& api, const OrtValue* value, const char* name, int type,
                       Input* input) {
  if (value == nullptr) return invalid(api, "input %s is missing", name);
  OrtTensorTypeAndShapeInfo* info = nullptr;
  RETURN_IF_ERROR(api.GetTensorTypeAndShape(value, &info));
  std::size_t rank = 0;
  int element = 0;
  OrtStatus* status = api.GetDimensionsCount(info, &rank);
  if (status == nullptr) status = api.GetTensorElementType(info, &element);
  if (status == nullptr && rank > kMaxRank) {
    status = invalid(api, "%s must have at most %d dimensions, got %zu", name, kMaxRank, rank);
  }
  if (status == nullptr && element != type) {
    status = invalid(api, "%s must have element type %d, got %d", name, type, element);
  }
  if (status == nullptr) {
    input->shape.rank = static_cast<int>(rank);
    status = api.GetDimensions(info, input->shape.dims, rank);
  }
  api.ReleaseTensorTypeAndShapeInfo(info);
  if (status != nullptr) return status;
  void* data = nullptr;
  RETURN_IF_ERROR(api.GetTensorMutableData(const_cast<OrtValue*>(value), &data));
  input->data = data;
  return nullptr;
}

OrtStatus* read_input(const Api& api, const OrtKernelContext* context, std::size_t index,
                      const char* name, int type, Input* input) {
  const OrtValue* value = nullptr;
  RETURN_IF_ERROR(api.KernelContext_GetInput(context, index, &value));
  return read_tensor(api, value, name, type, input);
}

OrtStatus* get_output(const Api& api, OrtKernelContext* context, std::size_t index,
                      const Shape& shape, void** data) {
  OrtValue* value = nullptr;
  *data = nullptr;
  RETURN_IF_ERROR(api.KernelContext_GetOutput(context, index,
                                              static_cast<const std::int64_t*>(shape.dims),
                                              static_cast<std::size_t>(shape.rank), &value));
  return value == nullptr ? nullptr : api.GetTensorMutableData(value, data);
}

OrtStatus* Arena::init(const Api& api, const OrtKernelInfo* info) {
  api_ = api;
  return api.KernelInfoGetAllocator(info, int{ort::kDefaultMemory}, &allocator_);
}

Arena::~Arena() {
  if (allocator_ != nullptr) api_.ReleaseAllocator(allocator_);
}

// ONNX Runtime says nothing about alignment: what it gave stands before what is taken. Where it has no memory it may
// throw, so that only the thread that it called may ask.
void* Arena::take(std::size_t bytes) const {
  constexpr std::size_t kAligned = 64;
  void* given = reinterpret_cast<const ort::Allocator*>(allocator_)->Alloc(allocator_, bytes + kAligned);
  if (given == nullptr) return nullptr;
  const auto address = reinterpret_cast<std::uintptr_t>(given);
  void** memory = reinterpret_cast<void**>((address / kAligned + 1) * kAligned);
  memory[-1] = given;
  return memory;
}

void Arena::give(void* memory) const {
  if (memory == nullptr) return;
  void* given = static_cast<void**>(memory)[-1];
  reinterpret_cast<const ort::Allocator*>(allocator_)->Free(allocator_, given);
}

OrtStatus* KernelBase::start(const Api& table, const OrtKernelInfo* info) {
  api = table;
  RETURN_IF_ERROR(arena.init(api, info));
  const char* wanted = std::getenv("QUANTFACE_ISA");
  if (wanted == nullptr || *wanted == '\0') {
    kernels = supported_kernels(0);
    return nullptr;
  }
  for (int i = 0; (kernels = supported_kernels(i)) != nullptr; ++i) {
    if (std::strcmp(kernels->name, wanted) == 0) return nullptr;
  }
  return invalid(api, "QUANTFACE_ISA is %s, which this CPU or this library does not have", wanted);
}

namespace {

// Scratch that tasks hand to those after them, with what it holds: there are as many pieces as tasks run at once. A new
// one begins with a line of -1.
class Scratch {
 public:
  explicit Scratch(std::size_t bytes) : bytes_(bytes) {}
  Scratch(const Scratch&) = delete;
  ~Scratch() {
    for (const std::atomic<void*>& piece : idle_) std::free(piece.load());
  }

  // Null without memory.
  void* take() {
    for (std::atomic<void*>& piece : idle_) {
      if (piece.load() == nullptr) continue;
      if (void* found = piece.exchange(nullptr)) return found;
    }
    void* memory = nullptr;
    if (posix_memalign(&memory, 64, bytes_) != 0) return nullptr;
    std::memset(memory, 0xFF, std::min(bytes_, std::size_t{kLineBytes}));
    return memory;
  }

  void give(void* memory) {
    for (std::atomic<void*>& piece : idle_) {
      void* none = nullptr;
      if (piece.compare_exchange_strong(none, memory)) return;
    }
  }

 private:
  std::size_t bytes_;
  std::atomic<void*> idle_[kMaxTasks] = {};  // one for each task: there is always room
};

struct Work {
  const void* work;
  RunItems run;
  std::int64_t items;
  std::int64_t tasks;
  Scratch* scratch;
  bool* failed;  // one per task
};

void run_task(void* data, std::size_t task) {
  const Work& w = *static_cast<const Work*>(data);
  const std::int64_t index = static_cast<std::int64_t>(task);
  void* scratch = w.scratch->take();
  if (scratch == nullptr) {
    w.failed[task] = true;
    return;
  }
  w.run(w.work, w.items * index / w.tasks, w.items * (index + 1) / w.tasks, scratch);
  w.scratch->give(scratch);
}

}  // namespace

OrtStatus* run_items(const Api& api, const OrtKernelContext* context, const void* work,
                     RunItems run, std::int64_t items, std::size_t scratch_bytes, bool threads) {
  if (items == 0) return nullptr;
  bool failed[kMaxTasks] = {};
  Scratch scratch(scratch_bytes);
  Work w = {work, run, items, 1, &scratch, failed};
  if (threads) w.tasks = items < kMaxTasks ? items : kMaxTasks;
  if (w.tasks <= 1) {
    run_task(&w, 0);
  } else {
    RETURN_IF_ERROR(api.KernelContext_ParallelFor(
        context, &run_task, static_cast<std::size_t>(w.tasks), std::size_t{0},
        static_cast<void*>(&w)));
  }
  for (std::int64_t i = 0; i < w.tasks; ++i) {
    if (failed[i]) return out_of_memory(api);
  }
  return nullptr;
}

OrtStatus* infer_like_x(const ort::CustomOp* self, OrtShapeInferContext* context) {
  const Api& api = as_op(self).api;
  OrtTensorTypeAndShapeInfo* x = nullptr;  // the context's own
  std::size_t rank = 0;
  RETURN_IF_ERROR(api.ShapeInferContext_GetInputTypeShape(context, std::size_t{0}, &x));
  RETURN_IF_ERROR(api.GetDimensionsCount(x, &rank));
  if (rank == 0) return nullptr;  // unknown
  return api.ShapeInferContext_SetOutputTypeShape(context, std::size_t{0},
                                                  static_cast<const OrtTensorTypeAndShapeInfo*>(x));
}

ort::CustomOp plain_op() {
  ort::CustomOp base{};
  base.version = ort::kApiVersion;
  base.GetExecutionProviderType = [](const ort::CustomOp*) -> const char* { return nullptr; };
  const auto required = [](const ort::CustomOp*, std::size_t) { return int{ort::kRequired}; };
  base.GetInputCharacteristic = required;
  base.GetOutputCharacteristic = required;
  base.GetInputMemoryType = [](const ort::CustomOp*, std::size_t) {
    return int{ort::kDefaultMemory};
  };
  base.GetOutputTypeCount = [](const ort::CustomOp*) { return std::size_t{1}; };
  const auto no_arity = [](const ort::CustomOp*) { return 0; };
  base.GetVariadicInputMinArity = no_arity;
  base.GetVariadicInputHomogeneity = no_arity;
  base.GetVariadicOutputMinArity = no_arity;
  base.GetVariadicOutputHomogeneity = no_arity;
  base.GetStartVersion = [](const ort::CustomOp*) { return 1; };
  base.GetEndVersion = [](const ort::CustomOp*) { return 1; };
  return base;
}

void allow_in_place(ort::CustomOp* base) {
  base->GetMayInplace = [](int** inputs, int** outputs) {
    static int first[] = {0};  // only read
    *inputs = *outputs = first;
    return sizeof first / sizeof *first;
  };
  base->ReleaseMayInplace = [](int*, int*) {};
}

}  // namespace quantface
