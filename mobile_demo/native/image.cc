#include "image.h"

#include <png.h>
#include <turbojpeg.h>

#include <algorithm>
#include <memory>

namespace quantface {
namespace {

constexpr int kSmallestSide = 16;
constexpr int kLargestSide = 16384;
constexpr std::int64_t kMostPixels = 120'000'000;

bool begins_with(const Bytes& file, const std::string& magic) {
  return file.size() >= magic.size() && std::equal(magic.begin(), magic.end(), file.begin(),
                                                   [](char a, std::uint8_t b) {
                                                     return static_cast<std::uint8_t>(a) == b;
                                                   });
}

// Before pixels are decoded: a small file can claim to hold a huge picture.
Image blank(std::int64_t width, std::int64_t height) {
  if (std::min(width, height) < kSmallestSide || std::max(width, height) > kLargestSide ||
      width * height > kMostPixels) {
    throw Error("has " + std::to_string(width) + "x" + std::to_string(height) +
                " pixels; expected 16 to 16384 a side and at most 120 megapixels");
  }
  return Image(static_cast<int>(width), static_cast<int>(height));
}

[[noreturn]] void damaged(const char* format, const std::string& reason) {
  throw Error(std::string("is a damaged ") + format + " (" + reason +
              "); copy or download the file again");
}

Image decode_jpeg(const Bytes& file) {
  const std::unique_ptr<void, int (*)(tjhandle)> decoder(tjInitDecompress(), tjDestroy);
  if (decoder == nullptr) throw Error("can't be decoded: libjpeg-turbo did not start");
  const auto require = [&](int status) {
    if (status != 0) damaged("JPEG", tjGetErrorStr2(decoder.get()));
  };
  int width = 0, height = 0, subsampling = 0, colours = 0;
  require(tjDecompressHeader3(decoder.get(), file.data(), file.size(), &width, &height,
                              &subsampling, &colours));
  Image image = blank(width, height);
  require(tjDecompress2(decoder.get(), file.data(), file.size(), image.rgb.data(), width, 0,
                        height, TJPF_RGB, 0));
  return image;
}

Image decode_png(const Bytes& file) {
  png_image png{};
  png.version = PNG_IMAGE_VERSION;
  const std::unique_ptr<png_image, void (*)(png_image*)> owner(&png, png_image_free);
  if (png_image_begin_read_from_memory(&png, file.data(), file.size()) == 0) {
    damaged("PNG", png.message);
  }
  Image image = blank(png.width, png.height);
  png.format = PNG_FORMAT_RGB;
  const png_color white = {255, 255, 255};
  if (png_image_finish_read(&png, &white, image.rgb.data(), 0, nullptr) == 0) {
    damaged("PNG", png.message);
  }
  return image;
}

}  // namespace

std::string size_text(int width, int height) {
  return std::to_string(width) + "x" + std::to_string(height);
}

Image decode(const Bytes& file) {
  if (begins_with(file, "\xff\xd8\xff")) return decode_jpeg(file);
  if (begins_with(file, "\x89PNG\r\n\x1a\n")) return decode_png(file);
  throw Error("is neither a JPEG nor a PNG; convert it first");
}

Bytes encode_png(const Image& image) {
  png_image png{};
  png.version = PNG_IMAGE_VERSION;
  png.width = static_cast<png_uint_32>(image.width);
  png.height = static_cast<png_uint_32>(image.height);
  png.format = PNG_FORMAT_RGB;
  png_alloc_size_t size = PNG_IMAGE_PNG_SIZE_MAX(png);
  Bytes file(size);
  if (png_image_write_to_memory(&png, file.data(), &size, 0, image.rgb.data(), 0, nullptr) == 0) {
    throw Error(std::string("can't be encoded as PNG: ") + png.message);
  }
  file.resize(size);
  return file;
}

}  // namespace quantface
