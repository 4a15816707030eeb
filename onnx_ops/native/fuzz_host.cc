#include "fuzz_host.h"

#include <algorithm>
#include <cmath>
#include <cstdlib>
#include <cstring>

using quantface::ort::Api;
using quantface::ort::ApiBase;

namespace fuzz {

long alive = 0;

namespace {

// At multiples of 64, so that Arena leaves no room at the end that a sanitizer would not see.
void* take_memory(OrtAllocator* allocator, std::size_t bytes) {
  void* memory = nullptr;
  if (allocator->refuses || posix_memalign(&memory, 64, bytes) != 0) return nullptr;
  ++alive;
  return memory;
}

void give_memory(OrtAllocator*, void* memory) {
  --alive;
  std::free(memory);
}

OrtAllocator* new_allocator(bool refuses) {
  return new OrtAllocator{{quantface::ort::kApiVersion, take_memory, give_memory}, refuses};
}

OrtStatus* refuse(int code, const char* message) {
  ++alive;
  return new OrtStatus{code, message};
}

using Slot = void (*)();

struct Table {
  Slot slots[quantface::ort::kSlots] = {};

  template <class F>
  void set(std::size_t slot, F function) {
    slots[slot] = reinterpret_cast<Slot>(function);
  }
  Table();
};

#define HOST(name, body) set(slot_of(#name), static_cast<Api::name##Function>(body))

std::size_t slot_of(const char* wanted) {
#define QUANTFACE_FIND(name, slot, result, arguments) \
  if (std::strcmp(#name, wanted) == 0) return slot;
  QUANTFACE_ORT_SLOTS(QUANTFACE_FIND)
  std::abort();
}

using Info = OrtTensorTypeAndShapeInfo;

Table::Table() {
  HOST(CreateStatus, [](int code, const char* message) { return refuse(code, message); });
  HOST(ReleaseStatus, [](OrtStatus* s) { --alive; delete s; });
  HOST(CreateCustomOpDomain, [](const char*, OrtCustomOpDomain** d) -> OrtStatus* {
    *d = new OrtCustomOpDomain;
    return nullptr;
  });
  HOST(CustomOpDomain_Add, [](OrtCustomOpDomain* d, const OrtCustomOp* op) -> OrtStatus* {
    d->ops.push_back(op);
    return nullptr;
  });
  HOST(AddCustomOpDomain, [](OrtSessionOptions* o, OrtCustomOpDomain* d) -> OrtStatus* {
    o->domain = d;
    return nullptr;
  });
  HOST(ReleaseCustomOpDomain, [](OrtCustomOpDomain* d) { delete d; });
  HOST(GetTensorMutableData, [](OrtValue* v, void** data) -> OrtStatus* {
    *data = v->data.data();
    return nullptr;
  });
  HOST(CreateTensorTypeAndShapeInfo, [](Info** info) -> OrtStatus* {
    ++alive;
    *info = new Info;
    return nullptr;
  });
  HOST(ReleaseTensorTypeAndShapeInfo, [](Info* info) { --alive; delete info; });
  HOST(SetTensorElementType, [](Info* i, int e) -> OrtStatus* { i->element = e; return nullptr; });
  HOST(GetTensorElementType, [](const Info* i, int* e) -> OrtStatus* {
    *e = i->element;
    return nullptr;
  });
  HOST(SetDimensions, [](Info* i, const std::int64_t* d, std::size_t n) -> OrtStatus* {
    i->dims.assign(d, d + n);
    return nullptr;
  });
  HOST(GetDimensionsCount, [](const Info* i, std::size_t* n) -> OrtStatus* {
    *n = i->dims.size();
    return nullptr;
  });
  HOST(GetDimensions, [](const Info* i, std::int64_t* d, std::size_t n) -> OrtStatus* {
    for (std::size_t k = 0; k < n; ++k) d[k] = i->dims.at(k);
    return nullptr;
  });
  HOST(GetSymbolicDimensions, [](const Info* i, const char** d, std::size_t n) -> OrtStatus* {
    for (std::size_t k = 0; k < n; ++k) d[k] = i->names.at(k).c_str();
    return nullptr;
  });
  HOST(SetSymbolicDimensions, [](Info* i, const char** d, std::size_t n) -> OrtStatus* {
    i->names.assign(d, d + n);
    return nullptr;
  });
  HOST(GetTensorTypeAndShape, [](const OrtValue* v, Info** info) -> OrtStatus* {
    ++alive;
    *info = new Info(v->info);
    return nullptr;
  });
  HOST(KernelInfoGetAttribute_int64,
       [](const OrtKernelInfo* info, const char* name, std::int64_t* value) -> OrtStatus* {
         const auto found = info->attributes.find(name);
         if (found == info->attributes.end()) return refuse(1, "no such attribute");
         *value = found->second;
         return nullptr;
       });
  HOST(KernelInfoGetAttribute_float,
       [](const OrtKernelInfo* info, const char* name, float* value) -> OrtStatus* {
         const auto found = info->floats.find(name);
         if (found == info->floats.end()) return refuse(1, "no such attribute");
         *value = found->second;
         return nullptr;
       });
  HOST(KernelContext_GetInputCount, [](const OrtKernelContext* c, std::size_t* n) -> OrtStatus* {
    *n = c->inputs.size();
    return nullptr;
  });
  HOST(KernelContext_GetInput,
       [](const OrtKernelContext* c, std::size_t i, const OrtValue** v) -> OrtStatus* {
         if (i >= c->inputs.size()) return refuse(2, "no such input");
         *v = c->inputs[i];
         return nullptr;
       });
  HOST(KernelContext_GetOutput,
       [](OrtKernelContext* c, std::size_t i, const std::int64_t* d, std::size_t n,
          OrtValue** v) -> OrtStatus* {
         if (c->refuse_output) return refuse(1, "no memory for the output");
         OrtValue& output = c->outputs[i];
         output.info.dims.assign(d, d + n);
         output.data.assign(bytes_of(output.info.element, count(output.info.dims)), 0);
         *v = &output;
         return nullptr;
       });
  HOST(ShapeInferContext_GetInputTypeShape,
       [](const OrtShapeInferContext* c, std::size_t i, Info** info) -> OrtStatus* {
         if (i >= c->inputs.size()) return refuse(2, "no such input");
         *info = const_cast<Info*>(&c->inputs[i]);
         return nullptr;
       });
  HOST(ShapeInferContext_GetAttribute,
       [](const OrtShapeInferContext* c, const char* name, const OrtOpAttr** a) -> OrtStatus* {
         const auto found = c->attributes.find(name);
         if (found == c->attributes.end()) return refuse(1, "no such attribute");
         *a = &found->second;
         return nullptr;
       });
  HOST(ShapeInferContext_SetOutputTypeShape,
       [](const OrtShapeInferContext* c, std::size_t, const Info* info) -> OrtStatus* {
         const_cast<OrtShapeInferContext*>(c)->output = *info;
         return nullptr;
       });
  HOST(ReadOpAttr,
       [](const OrtOpAttr* a, int, void* data, std::size_t room, std::size_t* n) -> OrtStatus* {
         *n = a->values.size() * sizeof a->values[0];
         if (*n > room) return refuse(1, "no room for the attribute");
         std::copy(a->values.begin(), a->values.end(), static_cast<std::int64_t*>(data));
         return nullptr;
       });
  HOST(KernelInfoGetAttributeArray_int64,
       [](const OrtKernelInfo* info, const char* name, std::int64_t* values,
          std::size_t* n) -> OrtStatus* {
         const auto found = info->lists.find(name);
         if (found == info->lists.end()) return refuse(1, "no such attribute");
         const std::size_t size = found->second.size();
         if (values != nullptr && *n < size) return refuse(1, "no room for the attribute");
         if (values != nullptr) std::copy_n(found->second.data(), size, values);
         *n = size;
         return nullptr;
       });
  HOST(KernelInfoGetConstantInput_tensor,
       [](const OrtKernelInfo* info, std::size_t i, int* constant,
          const OrtValue** v) -> OrtStatus* {
         *v = i < info->constants.size() ? info->constants[i] : nullptr;
         *constant = *v != nullptr;
         return nullptr;
       });
  HOST(KernelInfoGetAllocator,
       [](const OrtKernelInfo* info, int, OrtAllocator** allocator) -> OrtStatus* {
         ++alive;
         *allocator = new_allocator(info->refuse_memory);
         return nullptr;
       });
  HOST(ReleaseAllocator, [](OrtAllocator* allocator) { --alive; delete allocator; });
  HOST(KernelContext_ParallelFor,
       [](const OrtKernelContext* c, void (*task)(void*, std::size_t), std::size_t total,
          std::size_t, void* data) -> OrtStatus* {
         if (c->refuse_threads) return refuse(1, "no threads");
         for (std::size_t i = total; i-- > 0;) task(data, i);
         return nullptr;
       });
}

const Table& table() {
  static const Table only;
  return only;
}

const ApiBase kBase = {
    [](std::uint32_t) { return reinterpret_cast<const OrtApi*>(table().slots); },
    []() -> const char* { return "0"; },
};

}  // namespace

std::size_t bytes_of(int element, std::size_t values) {
  switch (element) {
    case quantface::ort::kFloat:
    case quantface::ort::kInt32: return 4 * values;
    case quantface::ort::kFloat16: return 2 * values;
    case quantface::ort::kUint4:
    case quantface::ort::kInt4: return (values + 1) / 2;
    default: return values;
  }
}

std::size_t count(const std::vector<std::int64_t>& dims) {
  std::size_t product = 1;
  for (const std::int64_t d : dims) product *= static_cast<std::size_t>(d);
  return product;
}

namespace {

bool close(const OrtValue& a, const OrtValue& b, double tolerance) {
  double largest = 1, difference = 0;
  for (std::size_t i = 0; i < a.data.size(); i += sizeof(float)) {
    float u = 0, v = 0;
    std::memcpy(&u, &a.data[i], sizeof u);
    std::memcpy(&v, &b.data[i], sizeof v);
    largest = std::max(largest, static_cast<double>(std::fabs(u)));
    difference = std::max(difference, static_cast<double>(std::fabs(u - v)));
  }
  return difference <= tolerance * largest;
}

}  // namespace

bool same(const OrtValue& a, const OrtValue& b, double tolerance) {
  if (a.data.size() != b.data.size()) return false;
  if (a.data == b.data) return true;
  const std::size_t size = bytes_of(a.info.element, 1);
  if (size == 1) return false;
  if (tolerance > 0) return close(a, b, tolerance);
  for (std::size_t i = 0; i < a.data.size(); i += size) {
    std::uint32_t u = 0, v = 0;
    std::memcpy(&u, &a.data[i], size);
    std::memcpy(&v, &b.data[i], size);
    const std::uint32_t magnitude = size == 4 ? 0x7FFFFFFFu : 0x7FFFu;
    const std::uint32_t infinite = size == 4 ? 0x7F800000u : 0x7C00u;
    if (u != v && ((u & magnitude) <= infinite || (v & magnitude) <= infinite)) return false;
  }
  return true;
}

void release(OrtStatus* status) {
  if (status == nullptr) return;
  --alive;
  delete status;
}

const OrtApi* api() { return reinterpret_cast<const OrtApi*>(table().slots); }

const ApiBase& base() { return kBase; }

}  // namespace fuzz
