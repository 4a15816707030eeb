// Convolutions and linear layers of codes by small integer weights, as plain C++:
//
//   a = bias + sum (code - zero_point) * weight                 int32, exact
//   o = clamp(round(float(a) * multiplier) + y_zero, 0, 255)    ties to even
//   y = y_scale * (o - y_zero) + up @ (down * x)                float
//
// as onnx_ops/quantized_conv.py defines it, and as onnx_ops/quantized_linear.py does
//
//   y = float(a) * multiplier + offset + up @ (down * x)        float
//
// An upsampling convolution sees each pixel of the codes and of x as four. Where its pads are odd, so
// that a tile's second and third row are the same, and its columns, the third of each transform is 0:
// 9 products of matrices of Winograd's 16 are left, and 25 of the branch's 36.
//
// A linear layer is a convolution of one tap, on an image of one row, whose x and y have their
// channels last. Products of 4-bit numbers are summed in int16 for as
// long as no sum of these very weights can leave it, then in int32.
//
//   3x3, stride 1   Winograd's F(2x2, 3x3) or F(4x4, 3x3) of integers, as points.inc.h has them: 16
//                   products of matrices instead of 36, or 46 instead of 144. Sums stay exact, 4 or 16
//                   times the true ones: codes up to 63, or up to 15, become bytes from 0 to 252 or
//                   from -126 to 126.
//   others          one product of matrices per tap, or per row of taps; and of up to 8 channels
//
// Kernels know no ONNX Runtime types.
#pragma once

#include <cstddef>
#include <cstdint>

namespace quantface {

struct Kernels;

constexpr int kLineBytes = 64;      // in a cache line
constexpr int kBlockPixels = 48;    // output pixels of one block, or as many times its tiles' edge
constexpr int kMatrixPixels = 256;  // at most, where instructions multiply matrices
constexpr int kBranchPixels = 128;  // the same of the branch, or as many times its tiles' edge
constexpr int kMaxTaps = 64;
constexpr std::int64_t kSlabBytes = 2 << 20;    // of padded codes: a slab stays in the caches
constexpr std::int64_t kSlabOfBands = 8 << 20;  // where weights are put in order for each slab

struct ConvGeometry {
  std::int64_t channels = 0, filters = 0;
  std::int64_t kernel[2] = {1, 1}, stride[2] = {1, 1};
  std::int64_t pads[4] = {};  // top, left, bottom, right
  std::int64_t upsample = 1;  // rows and columns that see each row and column of the codes and of x
};

// How weights are stored: bytes; two to a byte, the first in its lower half; or so, with two more
// bits of each in `low`, where each number has those of filters f and f + filters / 2:
//
//   weight[f] = 4 * data[f] ^ low[f]    or    4 * data[f] ^ low[f - filters / 2] >> 2
enum class Stored : std::uint8_t { kBytes, kFourBits, kPlanes };

// Weights in ONNX's order, (filters, channels, kh, kw).
struct ConvWeights {
  const void* data = nullptr;
  const void* low = nullptr;
  Stored stored = Stored::kBytes;
};

// Weights of four bits that would take more than this in the kernels' order are not kept in it: each
// call puts them into it, a band of filters after the other.
constexpr std::int64_t kKeptBytes = 1 << 20;
constexpr std::int64_t kBandBytes = 4 << 20;

// How products are summed: in int16; pairs of them in int16, pairs in int32; all in int32.
enum class Sums { kShort, kPairs, kWide };

// Weights in the order in which one instruction set reads them, for tiles of one size.
struct ConvForm {
  int edge = 1;       // of a tile in pixels: 2 or 4 by Winograd, 1 tap by tap
  int positions = 0;  // taps, or 16, or 46
  int depth = 0;      // steps of four channels that instructions multiply as a matrix, or 0
  Sums sums = Sums::kShort;
  std::int64_t position_bytes = 0;    // from the weights of one position to those of the next
  std::int8_t* weights = nullptr;     // (blocks, positions, steps + gap, outputs, 4), or null
  std::int32_t* start = nullptr;      // (blocks, positions, outputs), where sums begin
  std::uint64_t* ends = nullptr;      // (blocks, positions, end_words): a bit for each step after which
                                      // sums in int16 go to those in int32, of kShort
};

// Weights and constants of a layer.
struct ConvPlan {
  ConvGeometry geometry;
  bool paired = false;  // whether rows and columns 1 and 2 of every tile are the same
  int top = 255;      // largest code
  int zero_point = 0;
  float y_scale = 1;
  int y_zero = 0;
  bool linear = false;
  int rank = 0;
  int outputs = 0;    // filters of one block
  int blocks = 0;
  int steps = 0;      // of four channels
  int form_count = 0;
  ConvForm forms[2];                  // of which a call takes the one that is faster for its image
  std::int32_t* bias = nullptr;       // (blocks, outputs)
  float* multiplier = nullptr;        // (blocks, outputs)
  float* offset = nullptr;            // (blocks, outputs), of a linear layer
  float* up = nullptr;                // (blocks, rank, outputs)
  int branch_tile = 1;                // edge in pixels: 2 or 4 by Winograd, 1 tap by tap
  int branch_positions = 0;           // taps, or 16, or 36
  int ranks = 0;      // of one block of the branch's first factor: lanes of one vector, or of two
  int rank_blocks = 0;
  float* down = nullptr;              // (rank_blocks, positions, channels, ranks)
  float* down_taps = nullptr;         // (rank_blocks, channels, 9, ranks), of tiles of 4x4 pixels
};

static constexpr int tile_positions(int edge) { return edge == 4 ? 46 : 16; }

static inline std::int64_t end_words(int steps) { return (steps + 63) / 64; }

// Bytes of one block's weights.
static inline std::int64_t block_bytes(const ConvForm& form) {
  return form.positions * form.position_bytes;
}

// Whether a position of Winograd's transforms with tiles of so many rows is 0 everywhere.
static inline bool vanishes(const ConvPlan& plan, int position, int edge) {
  return plan.paired && (position / edge == 2 || position % edge == 2);
}

constexpr int kPlainSum = 5;  // the position that adds all codes of a tile's middle, and all taps

// How many codes are added to and taken from each other for a position of Winograd's transforms.
static constexpr int terms_of(int edge, int position) {
  if (edge == 2) return 4;
  // Of one axis: at 0, 1, -1 and infinity; in the factors of products of complex numbers.
  constexpr int kReal[] = {2, 4, 4, 2}, kFactors[] = {4, 2, 2};
  if (position < 16) return kReal[position / 4] * kReal[position % 4];
  const int factor = kFactors[(position - 16) % 3];
  return position < 40 ? kReal[(position - 16) / 3 % 4] * factor : 4 * factor;
}

// What is added to the terms, half of which are negative but at kPlainSum, where none is.
static constexpr int transform_offset(int edge, bool is_signed, int position, int top) {
  if (edge == 1 || is_signed != (position == kPlainSum)) return 0;
  return (is_signed ? -1 : 1) * terms_of(edge, position) / 2 * top;
}

// What a plan is made of; arrays have ONNX's order.
struct ConvConstants {
  ConvWeights weights;
  const float* weight_scale;       // (filters,)
  const std::int32_t* bias;        // (filters,) of a convolution
  const float* offset;             // (filters,) of a linear layer
  float x_scale;
  const float* down;               // (rank, channels, kh, kw), or null
  const float* up;                 // (filters, rank), or null
};

// Fills `plan`, whose geometry, grids and rank are set, in memory of its own; false without it.
bool make_conv_plan(const Kernels& kernels, const ConvConstants& constants, ConvPlan* plan);
void free_conv_plan(ConvPlan* plan);
bool keeps_weights(const ConvPlan& plan);  // so that no call needs its `source`

// One call: sizes and tensors. It goes slab by slab, some rows of the output of one image.
struct ConvCall {
  const ConvPlan* plan = nullptr;
  const ConvForm* form = nullptr;  // of the plan's
  std::int64_t images = 0, height = 0, width = 0, out_height = 0, out_width = 0;
  std::int64_t padded_width = 0, padded_channels = 0;
  std::int64_t pad_step = 1;                              // rows that one item pads
  std::int64_t slab_rows = 0;                             // at most
  std::int64_t image = 0, row = 0, rows = 0;              // the slab, its first row and how many
  std::int64_t padded_rows = 0;                           // of its input
  std::int64_t tile_rows = 0, tile_columns = 0;           // of its output; pixels where the edge is 1
  std::int64_t block_pixels = 0, blocks = 0, groups = 0;  // of the slab's tiles; of filters
  int first = 0, band = 0;              // blocks of filters whose weights are in order now
  std::int8_t* weights = nullptr;       // the form's, or the band's: band_bytes
  ConvWeights source;                   // what a form without weights was made of
  const std::uint8_t* codes = nullptr;  // (images, channels, height, width); linear: (width, channels)
  const float* x = nullptr;             // the same shape, or null
  float* y = nullptr;                   // (images, filters, out_height, out_width); (width, filters)
  bool streams = false;                 // whether whole vectors of y go past the caches
  std::uint8_t* padded = nullptr;       // padded_bytes, aligned to 64: codes, channels last
  const std::uint8_t* pixels = nullptr; // what products read: padded, or a linear layer's codes
  float* low = nullptr;                 // low_bytes, (rows, out_width, low_row): down * x
  std::int64_t low_row = 0;
  std::int64_t low_block = 0, low_blocks = 0;  // pixels or tiles of the slab
  bool joins_branch = false;  // whether a linear layer's blocks compute it for their own rows, in their scratch
  int low_parts = 1;          // parts of the channels that tasks share where the branch's tiles are one block
  float* parts = nullptr;     // parts_bytes, their sums: (low_parts, rank_blocks, positions, low_block, ranks)
  int* parts_left = nullptr;  // the task that takes it to 0 adds them up
};

// Output sizes; false where the window does not fit. No slab is larger than the first one.
bool set_conv_sizes(const Kernels& kernels, ConvCall* call);
// The slab that begins at `row` of `image`, its blocks and its input.
void set_slab(const Kernels& kernels, std::int64_t image, std::int64_t row, ConvCall* call);
std::size_t padded_bytes(const ConvCall& call);  // of the slab; 0 if products read the codes
std::size_t low_bytes(const ConvCall& call);  // 0 where blocks compute it themselves
std::size_t parts_bytes(const ConvCall& call);  // 0 of one part
std::size_t band_bytes(const ConvCall& call);  // 0 if the form has weights
std::int64_t pad_items(const ConvCall& call);   // pad_step rows; of a linear layer one
std::int64_t branch_items(const ConvCall& call);
std::int64_t conv_items(const ConvCall& call);
std::int64_t expand_items(const ConvCall& call);

// Puts the weights of blocks call.first to call.first + call.band - 1 into call.weights.
void expand_band(const Kernels& kernels, const ConvCall& call, std::int64_t first,
                 std::int64_t last);

// The kernels of one instruction set.
struct ConvKernels {
  int lanes;   // filters in a vector
  int rows, few_rows;  // pixels or tiles taken at once, and where fewer than those are left
  int matrix_rows;     // the same of instructions that multiply matrices; 0 without
  int short_run;    // fewer steps in int16 than this do not pay; 0 where none of its sums are
  bool is_signed;   // what Winograd's transform makes of codes
  int most_code;    // that sums other than kWide take, after Winograd's transform
  // Sets a bit in `ends` for each step after which sums have to leave int16 for none of them to be above
  // `limit`, and returns how many there are; -1 if a pair of weights alone is. Summed are positive weights
  // and negative ones, or those without their sign.
  int (*mark)(const std::int8_t* weights, int steps, int limit, bool both, std::uint64_t* ends);
  // As expand_weights in conv_weights.h, for weights of four bits and the shapes of most layers.
  void (*expand)(const ConvPlan& plan, const ConvForm& form, const std::uint8_t* weights, int block,
                 int first, int last, std::int8_t* to);
  // Items first to last - 1.
  void (*pad)(const ConvCall& call, std::int64_t first, std::int64_t last, void* scratch);
  void (*branch)(const ConvCall& call, std::int64_t first, std::int64_t last, void* scratch);
  void (*run)(const ConvCall& call, std::int64_t first, std::int64_t last, void* scratch);
};

}  // namespace quantface
