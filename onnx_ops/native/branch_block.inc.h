// What both forms of the branch's first factor, down * x, have in common: the blocks of pixels or of Winograd's tiles.
// Included after winograd.inc.h.

struct BranchBlock {
  const ConvCall& c;
  const ConvPlan& plan;
  const ConvGeometry& g;
  float* values;  // what products read
  float* sums;    // (positions, low_block, ranks)
  std::int64_t begin = 0, count = 0, columns = 0;  // of the block; columns of an image

  BranchBlock(const ConvCall& call, void* scratch) : c(call), plan(*call.plan), g(call.plan->geometry) {
    const BranchScratch layout = branch_scratch(call);
    char* base = static_cast<char*>(scratch);
    values = reinterpret_cast<float*>(base);
    sums = reinterpret_cast<float*>(base + layout.sums);
    columns = (c.out_width + plan.branch_tile - 1) / plan.branch_tile;
  }

  void start(std::int64_t item) {
    const int tile = plan.branch_tile;
    begin = item * c.low_block;
    const std::int64_t left = (c.rows + tile - 1) / tile * columns - begin;
    count = left < c.low_block ? left : c.low_block;
  }

  // Channels taken at once from `channel` on, of those before `last`.
  static int depth_at(std::int64_t channel, std::int64_t last, std::int64_t most) {
    return static_cast<int>(last - channel < most ? last - channel : most);
  }

  const float* plane_of(std::int64_t channel) const {
    return c.x + (c.image * g.channels + channel) * c.height * c.width;
  }
};
