// The part of ONNX Runtime's C interface that the op library and mobile_demo/native use.
//
// The interface is a table of function pointers that only ever grows at its end, so a slot's
// number is the same in every release. Enumerations travel as int. ort_abi_check.cc compares
// this file with ONNX Runtime's own header where that is installed.
#pragma once

#include <cstddef>
#include <cstdint>

struct OrtAllocator;
struct OrtApi;
struct OrtCustomOpDomain;
struct OrtEnv;
struct OrtKernelContext;
struct OrtKernelInfo;
struct OrtMemoryInfo;
struct OrtOpAttr;
struct OrtRunOptions;
struct OrtSession;
struct OrtSessionOptions;
struct OrtShapeInferContext;
struct OrtStatus;
struct OrtTensorTypeAndShapeInfo;
struct OrtTypeInfo;
struct OrtValue;
struct OrtCustomOp;

namespace quantface::ort {

constexpr std::uint32_t kApiVersion = 20;  // of ONNX Runtime 1.20, the first with opset 21

enum ErrorCode : int { kFail = 1, kInvalidArgument = 2 };

enum ElementType : int {
  kFloat = 1, kUint8 = 2, kInt8 = 3, kInt32 = 6, kFloat16 = 10, kUint4 = 21, kInt4 = 22
};

enum MemoryType : int { kDefaultMemory = 0 };

enum AllocatorType : int { kDeviceAllocator = 0 };

enum LogLevel : int { kLogErrors = 3 };

enum Characteristic : int { kRequired = 0 };

struct ApiBase {
  const OrtApi* (*get_api)(std::uint32_t version);
  const char* (*get_version_string)();
};

// name, slot, result, arguments
#define QUANTFACE_ORT_SLOTS(X)                                                                    \
  X(CreateStatus, 0, OrtStatus*, (int, const char*))                                              \
  X(GetErrorMessage, 2, const char*, (const OrtStatus*))                                          \
  X(CreateEnv, 3, OrtStatus*, (int, const char*, OrtEnv**))                                       \
  X(CreateSession, 7, OrtStatus*,                                                                 \
    (const OrtEnv*, const char*, const OrtSessionOptions*, OrtSession**))                         \
  X(Run, 9, OrtStatus*,                                                                           \
    (OrtSession*, const OrtRunOptions*, const char* const*, const OrtValue* const*, std::size_t,  \
     const char* const*, std::size_t, OrtValue**))                                                \
  X(CreateSessionOptions, 10, OrtStatus*, (OrtSessionOptions**))                                  \
  X(DisableMemPattern, 17, OrtStatus*, (OrtSessionOptions*))                                      \
  X(SetIntraOpNumThreads, 24, OrtStatus*, (OrtSessionOptions*, int))                              \
  X(CreateCustomOpDomain, 26, OrtStatus*, (const char*, OrtCustomOpDomain**))                     \
  X(CustomOpDomain_Add, 27, OrtStatus*, (OrtCustomOpDomain*, const OrtCustomOp*))                 \
  X(AddCustomOpDomain, 28, OrtStatus*, (OrtSessionOptions*, OrtCustomOpDomain*))                  \
  X(SessionGetInputTypeInfo, 33, OrtStatus*, (const OrtSession*, std::size_t, OrtTypeInfo**))     \
  X(CreateTensorWithDataAsOrtValue, 49, OrtStatus*,                                               \
    (const OrtMemoryInfo*, void*, std::size_t, const std::int64_t*, std::size_t, int, OrtValue**))\
  X(GetTensorMutableData, 51, OrtStatus*, (OrtValue*, void**))                                    \
  X(CastTypeInfoToTensorInfo, 55, OrtStatus*,                                                     \
    (const OrtTypeInfo*, const OrtTensorTypeAndShapeInfo**))                                      \
  X(CreateTensorTypeAndShapeInfo, 57, OrtStatus*, (OrtTensorTypeAndShapeInfo**))                  \
  X(SetTensorElementType, 58, OrtStatus*, (OrtTensorTypeAndShapeInfo*, int))                      \
  X(SetDimensions, 59, OrtStatus*,                                                                \
    (OrtTensorTypeAndShapeInfo*, const std::int64_t*, std::size_t))                               \
  X(GetTensorElementType, 60, OrtStatus*, (const OrtTensorTypeAndShapeInfo*, int*))               \
  X(GetDimensionsCount, 61, OrtStatus*, (const OrtTensorTypeAndShapeInfo*, std::size_t*))         \
  X(GetDimensions, 62, OrtStatus*,                                                                \
    (const OrtTensorTypeAndShapeInfo*, std::int64_t*, std::size_t))                               \
  X(GetSymbolicDimensions, 63, OrtStatus*,                                                        \
    (const OrtTensorTypeAndShapeInfo*, const char**, std::size_t))                                \
  X(GetTensorTypeAndShape, 65, OrtStatus*, (const OrtValue*, OrtTensorTypeAndShapeInfo**))        \
  X(CreateCpuMemoryInfo, 69, OrtStatus*, (int, int, OrtMemoryInfo**))                             \
  X(KernelInfoGetAttribute_float, 85, OrtStatus*,                                                 \
    (const OrtKernelInfo*, const char*, float*))                                                  \
  X(KernelInfoGetAttribute_int64, 86, OrtStatus*,                                                 \
    (const OrtKernelInfo*, const char*, std::int64_t*))                                           \
  X(KernelContext_GetInputCount, 88, OrtStatus*, (const OrtKernelContext*, std::size_t*))         \
  X(KernelContext_GetInput, 90, OrtStatus*,                                                       \
    (const OrtKernelContext*, std::size_t, const OrtValue**))                                     \
  X(KernelContext_GetOutput, 91, OrtStatus*,                                                      \
    (OrtKernelContext*, std::size_t, const std::int64_t*, std::size_t, OrtValue**))               \
  X(ReleaseEnv, 92, void, (OrtEnv*))                                                              \
  X(ReleaseStatus, 93, void, (OrtStatus*))                                                        \
  X(ReleaseMemoryInfo, 94, void, (OrtMemoryInfo*))                                                \
  X(ReleaseSession, 95, void, (OrtSession*))                                                      \
  X(ReleaseValue, 96, void, (OrtValue*))                                                          \
  X(ReleaseTypeInfo, 98, void, (OrtTypeInfo*))                                                    \
  X(ReleaseTensorTypeAndShapeInfo, 99, void, (OrtTensorTypeAndShapeInfo*))                        \
  X(ReleaseSessionOptions, 100, void, (OrtSessionOptions*))                                       \
  X(ReleaseCustomOpDomain, 101, void, (OrtCustomOpDomain*))                                       \
  X(ReleaseAllocator, 132, void, (OrtAllocator*))                                                 \
  X(KernelInfoGetAttributeArray_int64, 163, OrtStatus*,                                           \
    (const OrtKernelInfo*, const char*, std::int64_t*, std::size_t*))                             \
  X(RegisterCustomOpsLibrary_V2, 228, OrtStatus*, (OrtSessionOptions*, const char*))              \
  X(RegisterCustomOpsUsingFunction, 229, OrtStatus*, (OrtSessionOptions*, const char*))           \
  X(KernelInfoGetConstantInput_tensor, 249, OrtStatus*,                                           \
    (const OrtKernelInfo*, std::size_t, int*, const OrtValue**))                                  \
  X(ShapeInferContext_GetInputTypeShape, 268, OrtStatus*,                                         \
    (const OrtShapeInferContext*, std::size_t, OrtTensorTypeAndShapeInfo**))                      \
  X(ShapeInferContext_GetAttribute, 269, OrtStatus*,                                              \
    (const OrtShapeInferContext*, const char*, const OrtOpAttr**))                                \
  X(ShapeInferContext_SetOutputTypeShape, 270, OrtStatus*,                                        \
    (const OrtShapeInferContext*, std::size_t, const OrtTensorTypeAndShapeInfo*))                 \
  X(SetSymbolicDimensions, 271, OrtStatus*,                                                       \
    (OrtTensorTypeAndShapeInfo*, const char**, std::size_t))                                      \
  X(ReadOpAttr, 272, OrtStatus*,                                                                  \
    (const OrtOpAttr*, int, void*, std::size_t, std::size_t*))                             \
  X(KernelContext_ParallelFor, 274, OrtStatus*,                                                   \
    (const OrtKernelContext*, void (*)(void*, std::size_t), std::size_t, std::size_t, void*))     \
  X(KernelInfoGetAllocator, 278, OrtStatus*, (const OrtKernelInfo*, int, OrtAllocator**))

constexpr int kIntAttribute = 1, kIntsAttribute = 2;
constexpr std::size_t kSlots = 279;  // the table is at least this long

// The table: api.CreateStatus(code, message), and so on.
class Api {
 public:
  Api() = default;
  explicit Api(const OrtApi* table) : table_(reinterpret_cast<const Slot*>(table)) {}

#define QUANTFACE_ORT_METHOD(name, slot, result, arguments)                         \
  using name##Function = result(*) arguments;                                       \
  template <class... Values>                                                        \
  result name(Values... values) const {                                             \
    return reinterpret_cast<name##Function>(table_[slot])(values...);               \
  }
  QUANTFACE_ORT_SLOTS(QUANTFACE_ORT_METHOD)
#undef QUANTFACE_ORT_METHOD

 private:
  using Slot = void (*)();
  const Slot* table_ = nullptr;
};

// What an OrtAllocator begins with.
struct Allocator {
  std::uint32_t version;
  void* (*Alloc)(OrtAllocator*, std::size_t);
  void (*Free)(OrtAllocator*, void*);
};

// How an operator is described to ONNX Runtime; the fields that version 20 knows.
struct CustomOp {
  std::uint32_t version;
  void* (*CreateKernel)(const CustomOp*, const OrtApi*, const OrtKernelInfo*);
  const char* (*GetName)(const CustomOp*);
  const char* (*GetExecutionProviderType)(const CustomOp*);
  int (*GetInputType)(const CustomOp*, std::size_t);
  std::size_t (*GetInputTypeCount)(const CustomOp*);
  int (*GetOutputType)(const CustomOp*, std::size_t);
  std::size_t (*GetOutputTypeCount)(const CustomOp*);
  void (*KernelCompute)(void*, OrtKernelContext*);
  void (*KernelDestroy)(void*);
  int (*GetInputCharacteristic)(const CustomOp*, std::size_t);
  int (*GetOutputCharacteristic)(const CustomOp*, std::size_t);
  int (*GetInputMemoryType)(const CustomOp*, std::size_t);
  int (*GetVariadicInputMinArity)(const CustomOp*);
  int (*GetVariadicInputHomogeneity)(const CustomOp*);
  int (*GetVariadicOutputMinArity)(const CustomOp*);
  int (*GetVariadicOutputHomogeneity)(const CustomOp*);
  OrtStatus* (*CreateKernelV2)(const CustomOp*, const OrtApi*, const OrtKernelInfo*, void**);
  OrtStatus* (*KernelComputeV2)(void*, OrtKernelContext*);
  OrtStatus* (*InferOutputShapeFn)(const CustomOp*, OrtShapeInferContext*);
  int (*GetStartVersion)(const CustomOp*);
  int (*GetEndVersion)(const CustomOp*);
  std::size_t (*GetMayInplace)(int**, int**);
  void (*ReleaseMayInplace)(int*, int*);
  std::size_t (*GetAliasMap)(int**, int**);
  void (*ReleaseAliasMap)(int*, int*);
};

}  // namespace quantface::ort
