#include "base/background_commit.h"

#include <sys/mman.h>
#include <sys/resource.h>
#include <unistd.h>

#include <algorithm>
#include <system_error>
#include <utility>

namespace hypura {
namespace {

// A huge page: the lock on the address space is held for as long as one takes.
constexpr size_t kStepBytes = size_t{2} << 20;
// Compute threads wait for each other: they are not to wait for us.
constexpr int kNiceness = 10;

// False: the kernel cannot (before Linux 5.14), or there is no memory. The first use then commits, or fails.
bool commit(std::span<std::byte> memory) {
#ifdef MADV_POPULATE_WRITE
    return ::madvise(memory.data(), memory.size(), MADV_POPULATE_WRITE) == 0;
#else
    return memory.empty();
#endif
}

void commit_all(const std::stop_token& stop, const std::vector<std::span<std::byte>>& pieces) {
    (void)::setpriority(PRIO_PROCESS, static_cast<id_t>(::gettid()), kNiceness);
    for (std::span<std::byte> left : pieces)
        while (!left.empty()) {
            const size_t step_bytes = std::min(kStepBytes, left.size());
            if (stop.stop_requested() || !commit(left.first(step_bytes))) return;
            left = left.subspan(step_bytes);
        }
}

}  // namespace

BackgroundCommit::BackgroundCommit(std::vector<std::span<std::byte>> pieces) {
    try {
        thread_ = std::jthread([pieces = std::move(pieces)](const std::stop_token& stop) { commit_all(stop, pieces); });
    } catch (const std::system_error&) {
        thread_ = {};  // a limit on threads: only time is lost
    }
}

}  // namespace hypura
