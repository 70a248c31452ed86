#include "engine/share_out.h"

#include <algorithm>
#include <numeric>

namespace hypura::engine {

// The most modest are served first: what they leave is known when the next share is computed.
std::vector<uint32_t> share_out(std::span<const uint32_t> remaining, uint32_t limit) {
    std::vector<size_t> order(remaining.size());
    std::iota(order.begin(), order.end(), size_t{0});
    std::ranges::stable_sort(order, {}, [&](size_t i) { return remaining[i]; });
    std::vector<uint32_t> shares(remaining.size());
    auto left = static_cast<uint32_t>(order.size());
    for (const size_t i : order) {
        const uint32_t fair = (limit + left - 1) / left;
        shares[i] = std::min(remaining[i], fair);
        limit -= shares[i];
        --left;
    }
    return shares;
}

}  // namespace hypura::engine
