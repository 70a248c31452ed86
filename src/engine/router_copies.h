// Routers of layers whose experts have device slots, copied to the host's memory: which experts a later layer will name
// is guessed there (router_guess.h), while the device stands still for no longer than it takes to fetch one input.
//
// Only what a copy is needed for is copied: a few hundred KiB a layer, which count against --ram.
#pragma once

#include "engine/graph_capture.h"
#include "engine/llama_handles.h"

#include <cstddef>
#include <cstdint>
#include <vector>

namespace hypura::engine {

class RouterCopies {
public:
    // What on_host() takes for `router`.
    static uint64_t bytes(const RouterTrace& router);

    // `router` with its weights, which must have been loaded, in the host's memory: where they are, or copied. Valid as
    // long as this.
    RouterTrace on_host(const RouterTrace& router);

private:
    const ggml_tensor* copy(const ggml_tensor* weight);

    struct Copy {
        GgmlContextHandle context;
        std::vector<std::byte> data;
    };
    std::vector<Copy> copies_;
};

}  // namespace hypura::engine
