// ort_abi.h against ONNX Runtime's own header: numbers, names and signatures.
//
// Compiled, never linked; CMake leaves it out where onnxruntime_c_api.h is not installed.
#include <onnxruntime_c_api.h>

#include <cstddef>
#include <type_traits>

#include "ort_abi.h"

namespace {

using namespace quantface;

// The same type with every enumeration as int.
template <class T>
struct Plain {
  using type = std::conditional_t<std::is_enum_v<T>, int, T>;
};
template <class T>
struct Plain<T*> {
  using type = std::conditional_t<std::is_enum_v<T>, int*, T*>;
};
template <>
struct Plain<const OrtCustomOp*> {
  using type = const ort::CustomOp*;
};
template <class R, class... A>
struct Plain<R (*)(A...)> {
  using type = typename Plain<R>::type (*)(typename Plain<A>::type...);
};
template <class R, class... A>
struct Plain<R (*)(A...) noexcept> : Plain<R (*)(A...)> {};

template <class Ours, class Theirs>
constexpr bool kSame = std::is_same_v<typename Plain<Ours>::type, typename Plain<Theirs>::type>;

static_assert(ORT_API_VERSION >= ort::kApiVersion, "the header is older than the interface used");
static_assert(sizeof(OrtErrorCode) == sizeof(int) && sizeof(ONNXTensorElementDataType) == sizeof(int));

#define CHECK_SLOT(name, slot, result, arguments)                                          \
  static_assert(offsetof(OrtApi, name) == slot * sizeof(void*), #name " has another slot"); \
  static_assert(slot < ort::kSlots, #name);                                                 \
  static_assert(kSame<ort::Api::name##Function, decltype(OrtApi::name)>,                    \
                #name " has another signature");
QUANTFACE_ORT_SLOTS(CHECK_SLOT)

#define CHECK_FIELD(name)                                                                    \
  static_assert(offsetof(OrtCustomOp, name) == offsetof(ort::CustomOp, name), #name " moved"); \
  static_assert(kSame<decltype(ort::CustomOp::name), decltype(OrtCustomOp::name)>,             \
                #name " has another signature");
CHECK_FIELD(version)
CHECK_FIELD(CreateKernel)
CHECK_FIELD(GetName)
CHECK_FIELD(GetExecutionProviderType)
CHECK_FIELD(GetInputType)
CHECK_FIELD(GetInputTypeCount)
CHECK_FIELD(GetOutputType)
CHECK_FIELD(GetOutputTypeCount)
CHECK_FIELD(KernelCompute)
CHECK_FIELD(KernelDestroy)
CHECK_FIELD(GetInputCharacteristic)
CHECK_FIELD(GetOutputCharacteristic)
CHECK_FIELD(GetInputMemoryType)
CHECK_FIELD(GetVariadicInputMinArity)
CHECK_FIELD(GetVariadicInputHomogeneity)
CHECK_FIELD(GetVariadicOutputMinArity)
CHECK_FIELD(GetVariadicOutputHomogeneity)
CHECK_FIELD(CreateKernelV2)
CHECK_FIELD(KernelComputeV2)
CHECK_FIELD(InferOutputShapeFn)
CHECK_FIELD(GetStartVersion)
CHECK_FIELD(GetEndVersion)
CHECK_FIELD(GetMayInplace)
CHECK_FIELD(ReleaseMayInplace)
CHECK_FIELD(GetAliasMap)
CHECK_FIELD(ReleaseAliasMap)

static_assert(offsetof(OrtAllocator, Alloc) == offsetof(ort::Allocator, Alloc));
static_assert(offsetof(OrtAllocator, Free) == offsetof(ort::Allocator, Free));
static_assert(kSame<decltype(ort::Allocator::Alloc), decltype(OrtAllocator::Alloc)>);
static_assert(kSame<decltype(ort::Allocator::Free), decltype(OrtAllocator::Free)>);

static_assert(offsetof(OrtApiBase, GetApi) == offsetof(ort::ApiBase, get_api));
static_assert(offsetof(OrtApiBase, GetVersionString) == offsetof(ort::ApiBase, get_version_string));

static_assert(ORT_FAIL == static_cast<int>(ort::kFail));
static_assert(ORT_INVALID_ARGUMENT == static_cast<int>(ort::kInvalidArgument));
static_assert(ONNX_TENSOR_ELEMENT_DATA_TYPE_FLOAT == static_cast<int>(ort::kFloat));
static_assert(ONNX_TENSOR_ELEMENT_DATA_TYPE_UINT8 == static_cast<int>(ort::kUint8));
static_assert(ONNX_TENSOR_ELEMENT_DATA_TYPE_INT8 == static_cast<int>(ort::kInt8));
static_assert(ONNX_TENSOR_ELEMENT_DATA_TYPE_INT32 == static_cast<int>(ort::kInt32));
static_assert(ONNX_TENSOR_ELEMENT_DATA_TYPE_FLOAT16 == static_cast<int>(ort::kFloat16));
static_assert(ONNX_TENSOR_ELEMENT_DATA_TYPE_UINT4 == static_cast<int>(ort::kUint4));
static_assert(ONNX_TENSOR_ELEMENT_DATA_TYPE_INT4 == static_cast<int>(ort::kInt4));
static_assert(OrtMemTypeDefault == static_cast<int>(ort::kDefaultMemory));
static_assert(OrtDeviceAllocator == static_cast<int>(ort::kDeviceAllocator));
static_assert(ORT_LOGGING_LEVEL_ERROR == static_cast<int>(ort::kLogErrors));
static_assert(INPUT_OUTPUT_REQUIRED == static_cast<int>(ort::kRequired));
static_assert(ORT_OP_ATTR_INTS == static_cast<int>(ort::kIntsAttribute));
static_assert(ORT_OP_ATTR_INT == static_cast<int>(ort::kIntAttribute));

}  // namespace
