// The branch's first factor, down * x. Included after linear.inc.h, branch_taps.inc.h and branch_tiles.inc.h.

template <class Block>
void run_branch_blocks(const ConvCall& call, std::int64_t first, std::int64_t last, void* scratch) {
  Block block(call, scratch);
  for (std::int64_t item = first; item < last; ++item) block.run(item);
}

template <int kVectors>
void run_branch_of(const ConvCall& call, std::int64_t first, std::int64_t last, void* scratch) {
  switch (call.plan->branch_tile) {
    case 1: return run_branch_blocks<TapBranch<kVectors>>(call, first, last, scratch);
    case 2: return run_branch_blocks<TileBranch<kVectors, 2>>(call, first, last, scratch);
    default: return run_branch_blocks<TileBranch<kVectors, 4>>(call, first, last, scratch);
  }
}

void run_branch(const ConvCall& call, std::int64_t first, std::int64_t last, void* scratch) {
  if (call.plan->linear) {
    const std::int64_t begin = first * call.low_block, end = last * call.low_block;
    return project_lines(call, begin, end < call.width ? end : call.width, call.low + begin * call.low_row);
  }
  const auto run = call.plan->ranks == kWidth ? run_branch_of<1> : run_branch_of<2>;
  run(call, first, last, scratch);
}
