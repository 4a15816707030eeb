// The operator Attention for ONNX Runtime: attributes and shapes.
#include "ort_host.h"

namespace quantface {
namespace {

struct Kernel {
  Api api;
  const Kernels* kernels = nullptr;
  std::int64_t heads = 0;

  OrtStatus* init(const Op&, const OrtKernelInfo* info) {
    RETURN_IF_ERROR(api.KernelInfoGetAttribute_int64(info, "num_heads", &heads));
    if (heads >= 1) return nullptr;
    return invalid(api, "num_heads must be at least 1, got %lld", static_cast<long long>(heads));
  }
};

struct Work {
  const AttentionCall& call;
  const AttentionKernels& kernels;
};

void pack(const void* data, std::int64_t first, std::int64_t last, void*) {
  const Work& work = *static_cast<const Work*>(data);
  work.kernels.pack(work.call, first, last);
}

void run(const void* data, std::int64_t first, std::int64_t last, void* scratch) {
  const Work& work = *static_cast<const Work*>(data);
  work.kernels.run(work.call, first, last, scratch);
}

OrtStatus* read(const Api& api, const OrtKernelContext* context, std::int64_t heads, Shape* shape,
                AttentionCall* call) {
  Input query, key, value;
  RETURN_IF_ERROR(read_input(api, context, 0, "query", ort::kFloat, &query));
  RETURN_IF_ERROR(read_input(api, context, 1, "key", ort::kFloat, &key));
  RETURN_IF_ERROR(read_input(api, context, 2, "value", ort::kFloat, &value));
  *shape = query.shape;
  if (shape->rank != 3 || key.shape.rank != 3 || key.shape.dims[1] < 1 || shape->dims[2] % heads != 0) {
    return invalid(api, "need query (N,T,C) and key (N,S,C), C a multiple of %lld, S at least 1; got %s, %s",
                   static_cast<long long>(heads), Text(*shape).chars, Text(key.shape).chars);
  }
  Shape expected = *shape;
  expected.dims[1] = key.shape.dims[1];
  RETURN_IF_ERROR(expect(api, "key", key.shape, expected));
  RETURN_IF_ERROR(expect(api, "value", value.shape, expected));
  call->query = query.as<float>();
  call->key = key.as<float>();
  call->value = value.as<float>();
  call->images = shape->dims[0];
  call->heads = heads;
  call->queries = shape->dims[1];
  call->keys = key.shape.dims[1];
  call->depth = shape->dims[2] / heads;
  return nullptr;
}

OrtStatus* compute(void* self, OrtKernelContext* context) {
  const Kernel& kernel = *static_cast<const Kernel*>(self);
  const Api& api = kernel.api;
  AttentionCall call;
  Shape shape;
  RETURN_IF_ERROR(read(api, context, kernel.heads, &shape, &call));
  void* y = nullptr;
  RETURN_IF_ERROR(get_output(api, context, 0, shape, &y));
  if (y == nullptr || shape.count() == 0) return nullptr;
  call.y = static_cast<float*>(y);
  const std::int64_t heads = call.images * call.heads, keys = heads * call.padded_keys() * call.depth;
  const std::int64_t values = heads * call.keys * call.padded_depth();
  const Memory memory(sizeof(float) * static_cast<std::size_t>(keys + values));
  if (memory.data == nullptr) return out_of_memory(api);
  call.packed_key = static_cast<float*>(memory.data);
  call.packed_value = call.packed_key + keys;
  const Work work = {call, kernel.kernels->attention};
  const bool threads = shape.count() * call.keys > kInlineValues;
  RETURN_IF_ERROR(run_items(api, context, &work, pack, call.packs(), 1, threads));
  return run_items(api, context, &work, run, call.blocks(), work.kernels.scratch_bytes(call), threads);
}

}  // namespace

Op attention_op(const Api& api) {
  Op op = op_of_three_floats<Kernel>(api, compute);
  op.base.GetName = [](const ort::CustomOp*) { return "Attention"; };
  return op;
}

}  // namespace quantface
