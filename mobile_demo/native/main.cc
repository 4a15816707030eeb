// quantface-restore: restore one aligned face crop with a bundle.
#include <cerrno>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <fstream>

#include "restore.h"

namespace {

using namespace quantface;

constexpr char kUsage[] =
    "usage: quantface-restore [--runtime LIB] [--ops LIB | --ops-symbol F] [--threads N] \\\n"
    "           BUNDLE FACE OUT.png\n"
    "\n"
    "Restores an aligned face crop, a JPEG or PNG of the bundle's aspect, and writes a PNG of the\n"
    "bundle's size.\n"
    "\n"
    "  --runtime LIB  ONNX Runtime 1.23 or newer (default: libonnxruntime.so.1)\n"
    "  --ops LIB      libquantface_ops.so; without it the models' function bodies compute\n"
    "  --ops-symbol F the library's registration function, where it is linked or loaded already\n"
    "  --threads N    0, the default, lets ONNX Runtime choose\n"
    "\n"
    "Example: quantface-restore --runtime onnxruntime/lib/libonnxruntime.so nano-w4a4 face.jpg "
    "restored.png\n";

struct Arguments {
  std::string runtime = "libonnxruntime.so.1";
  SessionSettings session;
  std::vector<std::string> files;
};

int number(const std::string& text) {
  char* end = nullptr;
  const long value = std::strtol(text.c_str(), &end, 10);
  if (text.empty() || *end != '\0' || value < 0 || value > 1024) {
    throw Error("--threads must be a number from 0 to 1024, got " + text);
  }
  return static_cast<int>(value);
}

Arguments parse(int count, char** values) {
  Arguments arguments;
  for (int i = 1; i < count; ++i) {
    const std::string word = values[i];
    const bool option = word.rfind("--", 0) == 0;
    if (!option) {
      arguments.files.push_back(word);
      continue;
    }
    if (i + 1 == count) throw Error(word + " needs a value; --help lists the options");
    const std::string value = values[++i];
    if (word == "--runtime") {
      arguments.runtime = value;
    } else if (word == "--ops") {
      arguments.session.ops = value;
    } else if (word == "--ops-symbol") {
      arguments.session.ops_symbol = value;
    } else if (word == "--threads") {
      arguments.session.threads = number(value);
    } else {
      throw Error("unknown option " + word + "; --help lists the options");
    }
  }
  if (arguments.files.size() != 3) {
    throw Error("expected BUNDLE FACE OUT.png, got " + std::to_string(arguments.files.size()) +
                " names; --help says more");
  }
  return arguments;
}

Bytes read_file(const std::string& path) {
  std::ifstream file(path, std::ios::binary);
  Bytes bytes;
  char part[1 << 16];
  while (file.read(part, sizeof part), file.gcount() > 0) {
    bytes.insert(bytes.end(), part, part + file.gcount());
  }
  if (!file.eof()) throw Error(path + " can't be read: " + std::strerror(errno));
  return bytes;
}

void write_file(const std::string& path, const Bytes& bytes) {
  std::ofstream file(path, std::ios::binary);
  file.write(reinterpret_cast<const char*>(bytes.data()), static_cast<std::streamsize>(bytes.size()));
  file.close();
  if (!file) throw Error(path + " can't be written: " + std::strerror(errno));
}

Image read_image(const std::string& path) {
  const Bytes file = read_file(path);
  try {
    return decode(file);
  } catch (const Error& e) {
    throw Error(path + " " + e.what());
  }
}

}  // namespace

int main(int count, char** values) {
  if (count == 2 && std::strcmp(values[1], "--help") == 0) {
    std::fputs(kUsage, stdout);
    return 0;
  }
  try {
    const Arguments arguments = parse(count, values);
    const Image face = read_image(arguments.files[1]);
    const Runtime runtime(arguments.runtime);
    const Image restored = restore_face(runtime, arguments.files[0], face, arguments.session);
    write_file(arguments.files[2], encode_png(restored));
  } catch (const std::exception& e) {
    std::fprintf(stderr, "quantface-restore: %s\n", e.what());
    return 1;
  }
  return 0;
}
