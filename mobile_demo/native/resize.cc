#include "resize.h"

#include <algorithm>
#include <cmath>

namespace quantface {
namespace {

// y[i] = sum of weight * x[index] over the taps of i.
struct Tap {
  int index;
  float weight;
};
using Taps = std::vector<std::vector<Tap>>;

// y[i] is the mean of x over [i * step, (i + 1) * step).
Taps area_taps(int from, int to) {
  const double step = static_cast<double>(from) / to;
  Taps taps(to);
  for (int i = 0; i < to; ++i) {
    const double begin = i * step, end = std::min<double>(from, begin + step);
    for (int k = static_cast<int>(begin); k < end; ++k) {
      const double shared = std::min<double>(end, k + 1) - std::max<double>(begin, k);
      taps[i].push_back({k, static_cast<float>(shared / (end - begin))});
    }
  }
  return taps;
}

// The cubic convolution kernel.
double cubic(double distance) {
  constexpr double a = -0.75;
  const double t = std::abs(distance);
  if (t <= 1) return ((a + 2) * t - (a + 3)) * t * t + 1;
  return t < 2 ? ((a * t - 5 * a) * t + 8 * a) * t - 4 * a : 0;
}

Taps cubic_taps(int from, int to) {
  Taps taps(to);
  for (int i = 0; i < to; ++i) {
    const double x = (i + 0.5) * from / to - 0.5;
    const int left = static_cast<int>(std::floor(x));
    for (int k = left - 1; k <= left + 2; ++k) {
      taps[i].push_back({std::clamp(k, 0, from - 1), static_cast<float>(cubic(x - k))});
    }
  }
  return taps;
}

}  // namespace

Image resize(const Image& image, int width, int height) {
  if (image.width == width && image.height == height) return image;
  const bool shrinks = std::int64_t{width} * height < std::int64_t{image.width} * image.height;
  const auto taps_of = shrinks ? area_taps : cubic_taps;
  const Taps columns = taps_of(image.width, width), rows = taps_of(image.height, height);

  std::vector<float> narrow(std::size_t{3} * width * image.height);
  for (int y = 0; y < image.height; ++y) {
    const std::uint8_t* from = &image.rgb[std::size_t{3} * image.width * y];
    float* to = &narrow[std::size_t{3} * width * y];
    for (int x = 0; x < width; ++x) {
      for (const Tap& tap : columns[x]) {
        for (int c = 0; c < 3; ++c) to[3 * x + c] += tap.weight * from[3 * tap.index + c];
      }
    }
  }
  Image result(width, height);
  const std::size_t line = std::size_t{3} * width;
  std::vector<float> sums(line);
  for (int y = 0; y < height; ++y) {
    std::fill(sums.begin(), sums.end(), 0.f);
    for (const Tap& tap : rows[y]) {
      const float* from = &narrow[line * tap.index];
      for (std::size_t i = 0; i < line; ++i) sums[i] += tap.weight * from[i];
    }
    std::transform(sums.begin(), sums.end(), &result.rgb[line * y], [](float v) {
      return static_cast<std::uint8_t>(std::clamp(std::nearbyint(v), 0.f, 255.f));
    });
  }
  return result;
}

}  // namespace quantface
