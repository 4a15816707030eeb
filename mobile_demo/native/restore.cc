#include "restore.h"

#include <algorithm>
#include <cmath>
#include <fstream>

#include "resize.h"

namespace quantface {
namespace {

struct Stage {
  const char* name;
  std::vector<const char*> inputs;
  const char* output;
};

const Stage kStages[] = {
    {"vre", {"image"}, "prompt"},
    {"vae_encoder", {"image"}, "z"},
    {"unet", {"z", "prompt"}, "x0"},
    {"vae_decoder", {"x0"}, "restored"},
};

// Of the models' shape (1, 3, height, width); models for every size take the face as it is.
Image fit(const Image& face, const std::vector<std::int64_t>& shape) {
  if (shape.size() != 4 || shape[1] != 3 || shape[2] == 0 || shape[3] == 0) {
    throw Error("the bundle's first model takes no (1, 3, height, width) images; build it again");
  }
  if (shape[2] < 0 && shape[3] < 0) return face;
  const int height = static_cast<int>(shape[2]), width = static_cast<int>(shape[3]);
  if (std::int64_t{face.width} * height != std::int64_t{face.height} * width) {
    throw Error("the picture has " + size_text(face.width, face.height) +
                " pixels and the bundle restores face crops of " + size_text(width, height) +
                "; cut it to that aspect first");
  }
  return resize(face, width, height);
}

// RGB bytes to (1, 3, height, width) in [-1, 1].
Tensor to_input(const Image& image) {
  const std::size_t plane = std::size_t{1} * image.width * image.height;
  Tensor tensor{{1, 3, image.height, image.width}, std::vector<float>(3 * plane)};
  for (std::size_t i = 0; i < 3 * plane; ++i) {
    tensor.values[i % 3 * plane + i / 3] = image.rgb[i] / 127.5f - 1;
  }
  return tensor;
}

// (1, 3, height, width) in [0, 1] to RGB bytes.
Image to_picture(const Tensor& tensor) {
  Image image(static_cast<int>(tensor.shape.at(3)), static_cast<int>(tensor.shape.at(2)));
  const std::size_t plane = std::size_t{1} * image.width * image.height;
  for (std::size_t i = 0; i < 3 * plane; ++i) {
    const float value = std::clamp(tensor.values.at(i % 3 * plane + i / 3), 0.f, 1.f);
    image.rgb[i] = static_cast<std::uint8_t>(std::nearbyint(value * 255));
  }
  return image;
}

}  // namespace

Image restore_face(const Runtime& runtime, const std::string& bundle, const Image& face,
                   const SessionSettings& settings) {
  if (!std::ifstream(bundle + "/quantface.json")) {
    throw Error(bundle + " is not a bundle: it has no quantface.json");
  }
  std::map<std::string, Tensor> tensors;
  for (const Stage& stage : kStages) {
    const Session session(runtime, bundle + "/" + stage.name + "/model.onnx", settings);
    if (tensors.empty()) tensors["image"] = to_input(fit(face, session.input_shape()));
    std::map<std::string, const Tensor*> inputs;
    for (const char* name : stage.inputs) inputs[name] = &tensors.at(name);
    tensors[stage.output] = session.run(inputs, stage.output);
  }
  return to_picture(tensors.at("restored"));
}

}  // namespace quantface
