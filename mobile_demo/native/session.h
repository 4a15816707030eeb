// ONNX Runtime's C interface, with owners instead of release calls and errors instead of statuses.
#pragma once

#include <functional>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "ort_abi.h"

namespace quantface {

template <class T>
using Owned = std::unique_ptr<T, std::function<void(T*)>>;

// float32, row-major.
struct Tensor {
  std::vector<std::int64_t> shape;
  std::vector<float> values;
};

// An ONNX Runtime that is opened as a shared library, 1.23 or newer.
class Runtime {
 public:
  // Throws Error.
  explicit Runtime(const std::string& library);

  const ort::Api& api() const { return api_; }
  OrtEnv* env() const { return env_.get(); }

  // Throws Error with `what` and the status's own message, unless the status is null.
  void require(OrtStatus* status, const std::string& what) const;

 private:
  Owned<void> library_;
  ort::Api api_;
  Owned<OrtEnv> env_;
};

// Without path and symbol the models' own function bodies compute.
struct SessionSettings {
  std::string ops;         // path of libquantface_ops
  std::string ops_symbol;  // or its registration function, where the library is linked or loaded
  int threads = 0;  // 0: ONNX Runtime chooses
};

// One model.
class Session {
 public:
  // Throws Error if ONNX Runtime can't load the model.
  Session(const Runtime& runtime, const std::string& model, const SessionSettings& settings);

  // Of the first input.
  std::vector<std::int64_t> input_shape() const;

  // The output of that name for the inputs by name. Throws Error.
  Tensor run(const std::map<std::string, const Tensor*>& inputs, const std::string& output) const;

 private:
  const Runtime& runtime_;
  std::string model_;
  Owned<OrtSession> session_;
};

}  // namespace quantface
