// QuantizedConv and QuantizedLinear for ONNX Runtime: what the files of both share.
#pragma once

#include "ort_host.h"

namespace quantface {

// What an input is for. The ops' inputs have this order; which ones they have, roles_of says.
enum Role : int {
  kCodes, kXScale, kXZero, kWeight, kWeightLow, kWeightScale, kBias, kYScale, kYZero, kX, kDown, kUp,
  kRoles
};

struct Roles {
  Role list[kRoles];
  std::size_t count;
};

// Tensors by their roles.
struct Inputs {
  Input of[kRoles];

  Input& operator[](Role role) { return of[role]; }
  const Input& operator[](Role role) const { return of[role]; }
};

struct ConvKernel : KernelBase {
  bool linear = false;
  bool branch = false;
  Stored stored = Stored::kBytes;
  ConvGeometry geometry;
  int top = 255;
  bool planned = false;  // whether every constant was one
  ConvPlan plan;

  OrtStatus* init(const Op& op, const OrtKernelInfo* info);
  ~ConvKernel() { free_conv_plan(&plan); }
};

Roles roles_of(bool linear, bool branch, Stored stored);
int type_of(Role role, bool linear, Stored stored);

// Reads what stands at the place of a role.
OrtStatus* read_role(const ConvKernel& kernel, const OrtValue* value, Role role, Inputs* inputs);

constexpr bool is_constant(Role role) { return role != kCodes && role != kX; }

// Fills `plan` from all constants.
OrtStatus* make_plan(const ConvKernel& kernel, const Inputs& inputs, ConvPlan* plan);

}  // namespace quantface
