// Fuzzes the boundary of the operators: a host that plays ONNX Runtime, with its checks left out.
//
//   quantface_fuzz [rounds] [seed]
//
// Attributes, types, ranks, sizes and values are drawn at random, mostly near what is valid. An
// error status is a fine answer; a crash, a write outside a tensor (the sanitizers see it), a leak
// or two instruction sets that disagree are not. Ends with 0 if all is well.
#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <map>
#include <random>
#include <string>
#include <vector>

#include "ort_abi.h"
#include "rotation.h"

using quantface::ort::Api;
using quantface::ort::ApiBase;
using quantface::ort::CustomOp;

struct OrtStatus {
  int code;
  std::string message;
};
struct OrtTensorTypeAndShapeInfo {
  std::vector<std::int64_t> dims;
  std::vector<std::string> names;
  int element = 0;
};
struct OrtValue {
  OrtTensorTypeAndShapeInfo info;
  std::vector<unsigned char> data;
};
struct OrtKernelInfo {
  std::map<std::string, std::int64_t> attributes;
};
struct OrtOpAttr {
  std::int64_t value;
};
struct OrtKernelContext {
  std::vector<const OrtValue*> inputs;
  OrtValue* output;
  bool refuse_output;
  bool refuse_threads;
};
struct OrtShapeInferContext {
  std::vector<OrtTensorTypeAndShapeInfo> inputs;
  std::map<std::string, OrtOpAttr> attributes;
  OrtTensorTypeAndShapeInfo output;
};
struct OrtCustomOpDomain {
  std::vector<const OrtCustomOp*> ops;
};
struct OrtSessionOptions {
  OrtCustomOpDomain* domain = nullptr;
};

extern "C" OrtStatus* RegisterCustomOps(OrtSessionOptions*, const ApiBase*);

namespace {

long alive = 0;  // statuses and infos that nobody released

OrtStatus* refuse(int code, const char* message) {
  ++alive;
  return new OrtStatus{code, message};
}

std::size_t bytes_of(int element) {
  switch (element) {
    case quantface::ort::kFloat: return 4;
    case quantface::ort::kFloat16: return 2;
    default: return 1;
  }
}

std::size_t count(const std::vector<std::int64_t>& dims) {
  std::size_t product = 1;
  for (const std::int64_t d : dims) product *= static_cast<std::size_t>(d);
  return product;
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
       [](OrtKernelContext* c, std::size_t, const std::int64_t* d, std::size_t n,
          OrtValue** v) -> OrtStatus* {
         if (c->refuse_output) return refuse(1, "no memory for the output");
         c->output->info.dims.assign(d, d + n);
         c->output->data.assign(count(c->output->info.dims) * bytes_of(c->output->info.element), 0);
         *v = c->output;
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
  HOST(ReadOpAttr, [](const OrtOpAttr* a, int, void* data, std::size_t, std::size_t* n) -> OrtStatus* {
    std::memcpy(data, &a->value, *n = sizeof a->value);
    return nullptr;
  });
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

class Fuzz {
 public:
  explicit Fuzz(unsigned seed) : random_(seed) {}

  bool round(const std::vector<const CustomOp*>& ops) {
    const CustomOp& op = *ops[below(ops.size())];
    const bool quantize = op.GetInputTypeCount(&op) == 4;
    static const std::int64_t seeds[] = {1, 1, 12, 20, 60};
    std::int64_t seed = seeds[below(5)], log2 = static_cast<std::int64_t>(below(seed == 1 ? 10 : 5));
    const std::int64_t n = seed << log2;
    const bool first = below(2) == 0;
    OrtKernelInfo info;
    auto& a = info.attributes;
    a["axis"] = first ? 1 : -1;
    a["seed"] = seed;
    a["log2"] = log2;
    if (below(2)) a["transposed"] = static_cast<std::int64_t>(below(2));
    if (quantize) {
      const int least = op.GetOutputType(&op, 0) == quantface::ort::kInt8 ? -128 : 0;
      a["qmin"] = least + static_cast<std::int64_t>(below(256));
      a["qmax"] = a["qmin"] + static_cast<std::int64_t>(below(static_cast<std::size_t>(256 + least - a["qmin"])));
      if (below(2)) a["channels_last"] = first && below(2);
    }
    static const std::int64_t absurd[] = {0, -1, 2, 7, 63, 64, 1000000, INT64_MAX, INT64_MIN};
    static const char* names[] = {"axis", "seed", "log2", "transposed", "qmin", "qmax", "channels_last"};
    if (below(8) == 0) a[names[below(7)]] = absurd[below(9)];
    if (below(32) == 0) a.erase(names[below(7)]);

    std::vector<OrtValue> values(op.GetInputTypeCount(&op));
    std::vector<std::int64_t> dims;
    const std::size_t rank = below(16) == 0 ? below(20) : 2 + below(3);
    for (std::size_t i = 0; i < rank; ++i) dims.push_back(static_cast<std::int64_t>(1 + below(i > 1 ? 24 : 3)));
    if (rank > 6) dims.assign(rank, 1);
    if (rank > 0) dims[first && rank > 1 ? 1 : rank - 1] = n;
    if (rank > 0 && below(16) == 0) dims[below(rank)] = static_cast<std::int64_t>(below(3));
    fill(&values[0], dims, op.GetInputType(&op, 0));
    fill(&values[1], {below(16) == 0 ? static_cast<std::int64_t>(below(40)) : n}, quantface::ort::kFloat);
    if (quantize) {
      fill(&values[2], below(16) ? std::vector<std::int64_t>{} : std::vector<std::int64_t>{static_cast<std::int64_t>(below(3))}, quantface::ort::kFloat);
      if (values[2].data.size() >= 4 && below(8)) {
        const float scale = 0.1f;
        std::memcpy(values[2].data.data(), &scale, sizeof scale);
      }
      fill(&values[3], {}, op.GetInputType(&op, 3));
    }
    infer(op, info, values);
    return compute(op, info, values);
  }

  std::size_t below(std::size_t n) { return std::uniform_int_distribution<std::size_t>(0, n - 1)(random_); }

 private:
  void fill(OrtValue* value, std::vector<std::int64_t> dims, int element) {
    if (below(64) == 0) element = static_cast<int>(below(20));
    value->info.dims = dims;
    value->info.names.assign(dims.size(), "size");
    value->info.element = element;
    value->data.resize(count(dims) * bytes_of(element));
    const bool special = below(4) == 0;
    if (special) {
      for (unsigned char& byte : value->data) byte = static_cast<unsigned char>(random_());
    } else if (element == quantface::ort::kFloat) {
      for (std::size_t i = 0; i + 4 <= value->data.size(); i += 4) {
        const float v = static_cast<float>(below(2001)) / 500.0f - 2.0f;
        std::memcpy(&value->data[i], &v, 4);
      }
    } else {
      for (std::size_t i = 0; i < value->data.size(); ++i) {  // halves between 2**-15 and 4
        value->data[i] = static_cast<unsigned char>(i % 2 ? random_() % 0x44 : random_());
      }
    }
  }

  void infer(const CustomOp& op, const OrtKernelInfo& info, const std::vector<OrtValue>& values) {
    OrtShapeInferContext context;
    for (const OrtValue& value : values) context.inputs.push_back(value.info);
    for (const auto& [name, value] : info.attributes) context.attributes[name] = {value};
    release(op.InferOutputShapeFn(&op, &context));
  }

  bool compute(const CustomOp& op, const OrtKernelInfo& info, const std::vector<OrtValue>& values) {
    OrtKernelContext context{{}, nullptr, below(64) == 0, below(64) == 0};
    for (const OrtValue& value : values) context.inputs.push_back(&value);
    if (below(64) == 0) context.inputs[below(context.inputs.size())] = nullptr;
    if (below(64) == 0) context.inputs.pop_back();
    OrtValue expected;
    for (int i = -1;; ++i) {
      const quantface::Kernels* kernels = i < 0 ? nullptr : quantface::supported_kernels(i);
      if (i >= 0 && kernels == nullptr) return true;
      setenv("QUANTFACE_ISA", i < 0 ? "abacus" : kernels->name, 1);
      void* kernel = nullptr;
      if (OrtStatus* status = op.CreateKernelV2(&op, reinterpret_cast<const OrtApi*>(table().slots), &info, &kernel)) {
        if (kernel != nullptr) return false;
        release(status);
        continue;
      }
      if (i < 0) return false;
      OrtValue output;
      output.info.element = op.GetOutputType(&op, 0);
      context.output = &output;
      if (OrtStatus* status = op.KernelComputeV2(kernel, &context)) {
        release(status);
      } else {
        ++computed;
        if (i > 0 && !same(expected, output)) {
          std::fprintf(stderr, "%s differs from %s: %s, order %lld * 2**%lld\n", kernels->name,
                       quantface::supported_kernels(0)->name, op.GetName(&op),
                       static_cast<long long>(info.attributes.at("seed")),
                       static_cast<long long>(info.attributes.at("log2")));
          return false;
        }
        expected = output;
      }
      op.KernelDestroy(kernel);
    }
  }

  // Equal bit for bit, but for the payload of what is not a number.
  static bool same(const OrtValue& a, const OrtValue& b) {
    if (a.data.size() != b.data.size()) return false;
    if (a.data == b.data) return true;
    const std::size_t size = bytes_of(a.info.element);
    if (size == 1) return false;
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

  static void release(OrtStatus* status) {
    if (status == nullptr) return;
    --alive;
    delete status;
  }

  std::mt19937 random_;

 public:
  long computed = 0;
};

}  // namespace

int main(int argc, char** argv) {
  const long rounds = argc > 1 ? std::atol(argv[1]) : 2000;
  Fuzz fuzz(argc > 2 ? static_cast<unsigned>(std::atol(argv[2])) : 0);
  OrtSessionOptions options;
  if (RegisterCustomOps(&options, &kBase) != nullptr || options.domain == nullptr) return 1;
  std::vector<const CustomOp*> ops;
  for (const OrtCustomOp* op : options.domain->ops) ops.push_back(reinterpret_cast<const CustomOp*>(op));
  for (long i = 0; i < rounds; ++i) {
    if (!fuzz.round(ops) || alive != 0) {
      std::fprintf(stderr, "round %ld failed, %ld objects leaked\n", i, alive);
      return 1;
    }
  }
  std::printf("%ld rounds, %ld computed\n", rounds, fuzz.computed);
  std::free(const_cast<CustomOp*>(ops[0]));
  delete options.domain;
  return fuzz.computed > 0 ? 0 : 1;
}
