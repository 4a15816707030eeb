// A host that plays ONNX Runtime for the fuzz driver, with its checks left out.
#pragma once

#include <map>
#include <string>
#include <vector>

#include "ort_abi.h"

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
struct OrtAllocator {
  quantface::ort::Allocator functions;
  bool refuses;
};
struct OrtKernelInfo {
  bool refuse_memory = false;
  std::map<std::string, std::int64_t> attributes;
  std::map<std::string, float> floats;
  std::map<std::string, std::vector<std::int64_t>> lists;
  std::vector<const OrtValue*> constants;
};
struct OrtOpAttr {
  std::vector<std::int64_t> values;
};
struct OrtKernelContext {
  std::vector<const OrtValue*> inputs;
  OrtValue* outputs;  // as many as the operator has
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

namespace fuzz {

extern long alive;  // statuses, infos and memory that nobody released

std::size_t bytes_of(int element, std::size_t values);
std::size_t count(const std::vector<std::int64_t>& dims);
void release(OrtStatus* status);
// Equal bit for bit, but for the payload of what is not a number; floats may differ by `tolerance`
// of the largest one.
bool same(const OrtValue& a, const OrtValue& b, double tolerance);
const OrtApi* api();
const quantface::ort::ApiBase& base();

}  // namespace fuzz
