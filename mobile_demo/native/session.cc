#include "session.h"

#include <dlfcn.h>

#include "image.h"

namespace quantface {
namespace {

Owned<void> open_library(const std::string& path) {
  Owned<void> library(dlopen(path.c_str(), RTLD_NOW | RTLD_LOCAL), [](void* p) { dlclose(p); });
  if (library == nullptr) {
    throw Error(std::string("ONNX Runtime can't be opened (") + dlerror() +
                "); name its libonnxruntime.so with --runtime");
  }
  return library;
}

// Of ONNX Runtime 1.23, the first with the Cast of 4-bit weights that bundles hold.
constexpr std::uint32_t kOldest = 23;

ort::Api read_api(void* library, const std::string& path) {
  const auto base_of = reinterpret_cast<const ort::ApiBase* (*)()>(dlsym(library, "OrtGetApiBase"));
  if (base_of == nullptr) throw Error(path + " is not an ONNX Runtime");
  const OrtApi* table = base_of()->get_api(kOldest);
  if (table == nullptr) {
    throw Error(path + " is ONNX Runtime " + base_of()->get_version_string() +
                "; expected 1.23 or newer");
  }
  return ort::Api(table);
}

std::vector<std::int64_t> dimensions(const Runtime& runtime,
                                     const OrtTensorTypeAndShapeInfo* info) {
  std::size_t rank = 0;
  runtime.require(runtime.api().GetDimensionsCount(info, &rank), "a shape can't be read");
  std::vector<std::int64_t> shape(rank);
  runtime.require(runtime.api().GetDimensions(info, shape.data(), rank), "a shape can't be read");
  return shape;
}

}  // namespace

Runtime::Runtime(const std::string& library)
    : library_(open_library(library)), api_(read_api(library_.get(), library)) {
  OrtEnv* env = nullptr;
  require(api_.CreateEnv(int{ort::kLogErrors}, "quantface", &env), "ONNX Runtime did not start");
  env_ = {env, [this](OrtEnv* p) { api_.ReleaseEnv(p); }};
}

void Runtime::require(OrtStatus* status, const std::string& what) const {
  if (status == nullptr) return;
  const std::string message = api_.GetErrorMessage(static_cast<const OrtStatus*>(status));
  api_.ReleaseStatus(status);
  throw Error(what + ": " + message.substr(0, message.find('\n')));
}

Session::Session(const Runtime& runtime, const std::string& model, const SessionSettings& settings)
    : runtime_(runtime), model_(model) {
  const ort::Api& api = runtime.api();
  OrtSessionOptions* options = nullptr;
  runtime.require(api.CreateSessionOptions(&options), "no session options");
  const Owned<OrtSessionOptions> owner(options, [&api](auto* p) { api.ReleaseSessionOptions(p); });
  runtime.require(api.SetIntraOpNumThreads(options, settings.threads), "bad number of threads");
  // A plan's block would be taken beside what the run that made the plan has taken.
  runtime.require(api.DisableMemPattern(options), "memory plans can't be turned off");
  if (!settings.ops.empty()) {
    runtime.require(api.RegisterCustomOpsLibrary_V2(options, settings.ops.c_str()),
                    settings.ops + " can't be registered");
  }
  if (!settings.ops_symbol.empty()) {
    runtime.require(api.RegisterCustomOpsUsingFunction(options, settings.ops_symbol.c_str()),
                    settings.ops_symbol + " can't be called");
  }
  OrtSession* session = nullptr;
  runtime.require(api.CreateSession(static_cast<const OrtEnv*>(runtime.env()), model.c_str(),
                                    static_cast<const OrtSessionOptions*>(options), &session),
                  model + " can't be loaded; copy the bundle again");
  session_ = {session, [&api](OrtSession* p) { api.ReleaseSession(p); }};
}

std::vector<std::int64_t> Session::input_shape() const {
  const ort::Api& api = runtime_.api();
  OrtTypeInfo* type = nullptr;
  runtime_.require(api.SessionGetInputTypeInfo(static_cast<const OrtSession*>(session_.get()),
                                               std::size_t{0}, &type),
                   model_ + " has no input");
  const Owned<OrtTypeInfo> owner(type, [&api](OrtTypeInfo* p) { api.ReleaseTypeInfo(p); });
  const OrtTensorTypeAndShapeInfo* info = nullptr;
  runtime_.require(api.CastTypeInfoToTensorInfo(static_cast<const OrtTypeInfo*>(type), &info),
                   model_ + " has no tensor as input");
  return dimensions(runtime_, info);
}

Tensor Session::run(const std::map<std::string, const Tensor*>& inputs,
                    const std::string& output) const {
  const ort::Api& api = runtime_.api();
  const auto release = [&api](OrtValue* p) { api.ReleaseValue(p); };
  OrtMemoryInfo* memory = nullptr;
  runtime_.require(
      api.CreateCpuMemoryInfo(int{ort::kDeviceAllocator}, int{ort::kDefaultMemory}, &memory),
      "no memory");
  const Owned<OrtMemoryInfo> memory_owner(memory,
                                          [&api](auto* p) { api.ReleaseMemoryInfo(p); });
  std::vector<const char*> names;
  std::vector<const OrtValue*> values;
  std::vector<Owned<OrtValue>> owners;
  for (const auto& [name, tensor] : inputs) {
    OrtValue* value = nullptr;
    runtime_.require(
        api.CreateTensorWithDataAsOrtValue(
            static_cast<const OrtMemoryInfo*>(memory),
            const_cast<void*>(static_cast<const void*>(tensor->values.data())),
            tensor->values.size() * sizeof(float), tensor->shape.data(), tensor->shape.size(),
            int{ort::kFloat}, &value),
        "no tensor");
    names.push_back(name.c_str());
    values.push_back(value);
    owners.emplace_back(value, release);
  }
  const char* wanted = output.c_str();
  OrtValue* result = nullptr;
  runtime_.require(api.Run(session_.get(), nullptr, names.data(), values.data(), names.size(),
                           &wanted, std::size_t{1}, &result),
                   model_ + " can't be run");
  owners.emplace_back(result, release);
  OrtTensorTypeAndShapeInfo* info = nullptr;
  runtime_.require(api.GetTensorTypeAndShape(static_cast<const OrtValue*>(result), &info),
                   model_ + " gives no tensor");
  const Owned<OrtTensorTypeAndShapeInfo> info_owner(
      info, [&api](auto* p) { api.ReleaseTensorTypeAndShapeInfo(p); });
  Tensor tensor{dimensions(runtime_, info), {}};
  std::size_t count = 1;
  for (const std::int64_t side : tensor.shape) count *= static_cast<std::size_t>(side);
  void* data = nullptr;
  runtime_.require(api.GetTensorMutableData(result, &data), model_ + " gives no tensor");
  tensor.values.assign(static_cast<const float*>(data), static_cast<const float*>(data) + count);
  return tensor;
}

}  // namespace quantface
