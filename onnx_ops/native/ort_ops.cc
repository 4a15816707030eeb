// Registration: the domain "quantface" and its operators.
#include <cstdlib>
#include <new>

#include "ort_host.h"

namespace quantface {
namespace {

Op make_op(const Api& api, int index) {
  if (index < kHadamardOps) return hadamard_op(api, index);
  if ((index -= kHadamardOps) < kConvOps) return conv_op(api, index);
  if ((index -= kConvOps) < kNormOps) return norm_op(api, index);
  if ((index -= kNormOps) < kAttentionOps) return attention_op(api, index);
  if ((index -= kAttentionOps) < kRowOps) return row_op(api, index);
  return scale_op(api);
}

}  // namespace
}  // namespace quantface

#define EXPORTED extern "C" __attribute__((visibility("default")))

// Adds the domain "quantface" to session options. ONNX Runtime keeps the addresses of the domain
// and of its operators for as long as a session lives, and never says when that ends, so each
// registration leaves about 2 KB behind.
EXPORTED OrtStatus* RegisterQuantfaceOps(OrtSessionOptions* options,
                                         const quantface::ort::ApiBase* base) {
  using namespace quantface;
  const OrtApi* table = base->get_api(ort::kApiVersion);
  // Without a table there is no way to report a status: the model's function body stays in use.
  if (table == nullptr) return nullptr;
  const Api api(table);
  constexpr int kOps = kHadamardOps + kConvOps + kNormOps + kAttentionOps + kRowOps + 1;
  Op* ops = static_cast<Op*>(std::malloc(kOps * sizeof(Op)));
  if (ops == nullptr) return out_of_memory(api);
  OrtCustomOpDomain* domain = nullptr;
  OrtStatus* status = api.CreateCustomOpDomain("quantface", &domain);
  for (int i = 0; status == nullptr && i < kOps; ++i) {
    new (&ops[i]) Op(make_op(api, i));
    status = api.CustomOpDomain_Add(domain, reinterpret_cast<const OrtCustomOp*>(&ops[i].base));
  }
  if (status == nullptr) status = api.AddCustomOpDomain(options, domain);
  if (status != nullptr) {
    if (domain != nullptr) api.ReleaseCustomOpDomain(domain);
    std::free(ops);
  }
  return status;
}

// The name that ONNX Runtime looks for in a custom-op library.
EXPORTED OrtStatus* RegisterCustomOps(OrtSessionOptions* options,
                                      const quantface::ort::ApiBase* base) {
  return RegisterQuantfaceOps(options, base);
}

// Name of the index-th instruction set of this CPU, fastest first; null beyond the last.
EXPORTED const char* QuantfaceInstructionSet(int index) {
  const quantface::Kernels* kernels = quantface::supported_kernels(index);
  return kernels == nullptr ? nullptr : kernels->name;
}
