// Commits reserved memory on a thread of its own, so that neither opening a model nor its first reads wait for all of
// it. The kernel clears what it commits: 10 GB/s where it has free pages, 0.5 GB/s where a hypervisor has to find them.
#pragma once

#include <cstddef>
#include <span>
#include <thread>
#include <vector>

namespace hypura {

class BackgroundCommit {
public:
    BackgroundCommit() = default;
    // Begins at once, in the order of `pieces`, which outlive this object. Others may use them meanwhile, as the target
    // of direct reads too: nothing is written. What they touch first is committed by that, and so is everything where
    // no thread is to be had.
    explicit BackgroundCommit(std::vector<std::span<std::byte>> pieces);

private:
    std::jthread thread_;  // asked to stop and awaited at the end
};

}  // namespace hypura
