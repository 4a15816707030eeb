#include "ort_grid.h"

#include <cstring>

namespace quantface {

OrtStatus* GridLimits::init(const Api& api, const OrtKernelInfo* info, bool of_int8) {
  is_signed = of_int8;
  RETURN_IF_ERROR(api.KernelInfoGetAttribute_int64(info, "qmin", &qmin));
  RETURN_IF_ERROR(api.KernelInfoGetAttribute_int64(info, "qmax", &qmax));
  const int least = is_signed ? -128 : 0;
  if (qmin < least || qmax < qmin || qmax > least + 255) {
    return invalid(api, "need %d <= qmin <= qmax <= %d, got qmin %lld, qmax %lld", least,
                   least + 255, static_cast<long long>(qmin),
                   static_cast<long long>(qmax));
  }
  return nullptr;
}

OrtStatus* GridLimits::read(const Api& api, const OrtKernelContext* context, std::size_t first,
                            CodeGrid* grid) const {
  Input steps, zero;
  RETURN_IF_ERROR(read_input(api, context, first, "scale", ort::kFloat, &steps));
  RETURN_IF_ERROR(read_input(api, context, first + 1, "zero_point", is_signed ? ort::kInt8 : ort::kUint8, &zero));
  if (steps.shape.count() != 1 || zero.shape.count() != 1) {
    return invalid(api, "scale and zero_point must hold one value, got shapes %s and %s",
                   Text(steps.shape).chars, Text(zero.shape).chars);
  }
  std::memcpy(&grid->scale, steps.data, sizeof grid->scale);
  if (!(grid->scale > 0) || grid->scale > 3.4028234e38f) {
    return invalid(api, "scale must be positive and finite, got %g", static_cast<double>(grid->scale));
  }
  grid->is_signed = is_signed;
  grid->zero_point = is_signed ? int{*zero.as<std::int8_t>()} : int{*zero.as<std::uint8_t>()};
  grid->low = static_cast<float>(qmin - grid->zero_point);
  grid->high = static_cast<float>(qmax - grid->zero_point);
  return nullptr;
}

}  // namespace quantface
