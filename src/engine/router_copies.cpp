#include "engine/router_copies.h"

#include "base/check.h"

#include <ggml-backend.h>

#include <algorithm>

namespace hypura::engine {
namespace {

bool needs_copy(const ggml_tensor* weight) { return weight != nullptr && !is_on_host(weight); }

}  // namespace

uint64_t RouterCopies::bytes(const RouterTrace& router) {
    uint64_t bytes = 0;
    for (const ggml_tensor* weight : {router.weight, router.norm})
        if (needs_copy(weight)) bytes += ggml_nbytes(weight);
    return bytes;
}

RouterTrace RouterCopies::on_host(const RouterTrace& router) {
    return {copy(router.weight), copy(router.norm), nullptr};
}

const ggml_tensor* RouterCopies::copy(const ggml_tensor* weight) {
    if (!needs_copy(weight)) return weight;
    Copy& made = copies_.emplace_back();
    made.context.reset(ggml_init({.mem_size = ggml_tensor_overhead(), .mem_buffer = nullptr, .no_alloc = true}));
    HYPURA_CHECK(made.context != nullptr);
    made.data.resize(ggml_nbytes(weight));
    ggml_backend_tensor_get(weight, made.data.data(), 0, made.data.size());
    ggml_tensor* const tensor = ggml_new_tensor(made.context.get(), weight->type, GGML_MAX_DIMS, weight->ne);
    std::copy_n(weight->nb, GGML_MAX_DIMS, tensor->nb);
    tensor->data = made.data.data();
    return tensor;
}

}  // namespace hypura::engine
