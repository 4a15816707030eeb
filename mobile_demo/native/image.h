// Pictures between files' bytes and pixels.
#pragma once

#include <cstdint>
#include <stdexcept>
#include <string>
#include <vector>

namespace quantface {

using Bytes = std::vector<std::uint8_t>;

// One line for a person: what is wrong, and what to do.
class Error : public std::runtime_error {
  using std::runtime_error::runtime_error;
};

// width * height pixels of RGB, 0..255, row by row.
struct Image {
  int width = 0;
  int height = 0;
  Bytes rgb;

  Image() = default;
  Image(int w, int h) : width(w), height(h), rgb(std::size_t{3} * w * h) {}
};

// "640x480"
std::string size_text(int width, int height);

// Decodes a JPEG or PNG; gray becomes RGB, transparency is laid on white. Neither the EXIF
// orientation nor a colour profile is applied. Throws Error.
Image decode(const Bytes& file);

// The bytes of a PNG file. Throws Error.
Bytes encode_png(const Image& image);

}  // namespace quantface
