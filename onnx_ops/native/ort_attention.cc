// The operators Attention and QuantizedAttention for ONNX Runtime: attributes and shapes.
#include "ort_host.h"

namespace quantface {
namespace {

struct Kernel : KernelBase {
  std::int64_t heads = 0;
  bool quantize = false;

  OrtStatus* init(const Op& op, const OrtKernelInfo* info) {
    quantize = op.quantize;
    RETURN_IF_ERROR(api.KernelInfoGetAttribute_int64(info, "num_heads", &heads));
    if (heads >= 1) return nullptr;
    return invalid(api, "num_heads must be at least 1, got %lld", static_cast<long long>(heads));
  }
};

// A step of either operator, over items of its own.
template <class Call>
struct Work {
  const Call& call;
  void (*step)(const Call& call, std::int64_t first, std::int64_t last);
  void (*run)(const Call& call, std::int64_t first, std::int64_t last, void* scratch);
};

template <class Call>
void take_step(const void* data, std::int64_t first, std::int64_t last, void*) {
  const auto& work = *static_cast<const Work<Call>*>(data);
  work.step(work.call, first, last);
}

template <class Call>
void run(const void* data, std::int64_t first, std::int64_t last, void* scratch) {
  const auto& work = *static_cast<const Work<Call>*>(data);
  work.run(work.call, first, last, scratch);
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

OrtStatus* compute_floats(const Kernel& kernel, const OrtKernelContext* context, bool threads,
                          AttentionCall* call) {
  const AttentionKernels& kernels = kernel.kernels->attention;
  const std::int64_t heads = call->images * call->heads, keys = heads * call->padded_keys() * call->depth;
  const std::int64_t values = heads * call->keys * call->padded_depth();
  const Memory memory(kernel, sizeof(float) * static_cast<std::size_t>(keys + values));
  if (memory.missing) return out_of_memory(kernel.api);
  call->packed_key = static_cast<float*>(memory.data);
  call->packed_value = call->packed_key + keys;
  const Work<AttentionCall> work = {*call, kernels.pack, kernels.run};
  RETURN_IF_ERROR(run_items(kernel.api, context, &work, take_step<AttentionCall>, call->packs(), 1, threads));
  return run_items(kernel.api, context, &work, run<AttentionCall>, call->blocks(), kernels.scratch_bytes(*call),
                   threads);
}

OrtStatus* compute_integers(const Kernel& kernel, const OrtKernelContext* context, bool threads,
                            const AttentionCall& sizes) {
  using Call = QuantizedAttentionCall;
  const QuantizedAttentionKernels& kernels = kernel.kernels->quantized_attention(sizes.depth);
  Call call{};
  call.sizes = sizes;
  const std::int64_t tokens = call.tokens(), columns = call.columns(), heads = sizes.images * sizes.heads;
  const std::int64_t keys = tokens * call.key_steps() * 4;
  const std::int64_t values = heads * call.depth_room() * call.padded_keys() * kernels.value_bytes;
  const std::int64_t blocks = heads * ((sizes.queries + kernels.queries - 1) / kernels.queries);
  const Memory memory(kernel, static_cast<std::size_t>(keys + values) +
                      sizeof(float) * static_cast<std::size_t>(2 * (tokens + columns)));
  if (memory.missing) return out_of_memory(kernel.api);
  call.key_step = static_cast<float*>(memory.data);
  call.start = reinterpret_cast<std::int32_t*>(call.key_step + tokens);
  call.key = reinterpret_cast<std::int8_t*>(call.start + tokens);
  call.value = call.key + keys;
  call.key_mean = reinterpret_cast<float*>(call.value + values);
  call.value_step = call.key_mean + columns;
  Work<Call> work = {call, kernels.measure, kernels.pack};
  RETURN_IF_ERROR(run_items(kernel.api, context, &work, take_step<Call>, call.column_blocks(), 1, threads));
  RETURN_IF_ERROR(run_items(kernel.api, context, &work, run<Call>, call.packs(), kernels.pack_bytes(call), threads));
  work.run = kernels.run;
  return run_items(kernel.api, context, &work, run<Call>, blocks, kernels.scratch_bytes(call), threads);
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
  const bool threads = shape.count() * call.keys > kInlineValues;
  return kernel.quantize ? compute_integers(kernel, context, threads, call)
                         : compute_floats(kernel, context, threads, &call);
}

}  // namespace

Op attention_op(const Api& api, int index) {
  Op op = op_of_three_floats<Kernel>(api, compute);
  op.quantize = index == 1;
  op.base.GetName = [](const ort::CustomOp* o) {
    return as_op(o).quantize ? "QuantizedAttention" : "Attention";
  };
  return op;
}

}  // namespace quantface
