#include "engine/attention_rows.h"

#include "base/bytes.h"
#include "engine/graph_capture.h"
#include "engine/llama_library.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <cstring>
#include <utility>

namespace hypura::engine {
namespace {

constexpr uint64_t kCellsAtATime = 256;  // libllama shows the KV cache to a graph in steps of so many cells

// A tensor of ours over what `source` is computed to.
ggml_tensor* leaf(ggml_context* context, const ggml_tensor* source) {
    if (source == nullptr) return nullptr;
    ggml_tensor* const tensor = ggml_new_tensor(context, source->type, GGML_MAX_DIMS, source->ne);
    std::ranges::copy(source->nb, tensor->nb);
    tensor->data = source->data;
    return tensor;
}

void take_row(ggml_tensor* tensor, int64_t row) {
    tensor->data = static_cast<std::byte*>(tensor->data) + static_cast<size_t>(row) * tensor->nb[1];
    tensor->ne[1] = 1;
}

// How far libllama shows the KV cache to a pass whose last token is the row's: up to the last cell that the row sees.
int64_t cells_shown_to(const ggml_tensor* mask, int64_t row) {
    const auto* const begin = static_cast<const std::byte*>(mask->data) + static_cast<size_t>(row) * mask->nb[1];
    const auto* const values = reinterpret_cast<const ggml_fp16_t*>(begin);
    int64_t cells = mask->ne[0];
    while (cells > 0 && std::isinf(ggml_fp16_to_fp32(values[cells - 1]))) --cells;
    return static_cast<int64_t>(align_up(static_cast<uint64_t>(cells), kCellsAtATime));
}

// How many cells libllama would show to a pass of this row alone: less than to all, where the cells of later rows are
// what the cache was shown further for.
int64_t cells_of_row(const ggml_tensor* node, int64_t row) {
    const ggml_tensor* const mask = node->src[3];
    const int64_t all = node->src[1]->ne[1];
    if (mask == nullptr || cells_shown_to(mask, node->ne[2] - 1) < all) return all;
    return std::min(all, cells_shown_to(mask, row));
}

// The node's operation for one row, into the row's place in the node's result.
ggml_tensor* attention_of_row(ggml_context* context, const ggml_tensor* node, int64_t row) {
    std::array<ggml_tensor*, 3> inputs{leaf(context, node->src[0]), leaf(context, node->src[1]),
                                       leaf(context, node->src[2])};
    ggml_tensor* const mask = leaf(context, node->src[3]);
    take_row(inputs[0], row);
    inputs[1]->ne[1] = inputs[2]->ne[1] = cells_of_row(node, row);
    if (mask != nullptr) {
        take_row(mask, row);
        mask->ne[0] = inputs[1]->ne[1];
        mask->nb[1] = mask->nb[2] = mask->nb[3] = static_cast<size_t>(mask->ne[0]) * mask->nb[0];
    }
    ggml_tensor* const result = ggml_flash_attn_ext(context, inputs[0], inputs[1], inputs[2], mask, 1, 0, 0);
    std::memcpy(result->op_params, node->op_params, sizeof(result->op_params));
    result->src[4] = leaf(context, node->src[4]);  // sinks
    result->data = static_cast<std::byte*>(node->data) + static_cast<size_t>(row) * node->nb[2];
    return result;
}

// One sequence's rows in the host's memory, as attention_of_row() takes them.
bool is_ours(const ggml_tensor* node) {
    return node->op == GGML_OP_FLASH_ATTN_EXT && (node->flags & GGML_TENSOR_FLAG_COMPUTE) != 0 && node->ne[2] > 1 &&
           node->ne[3] == 1 && is_on_host(node) && (node->src[3] == nullptr || node->src[3]->type == GGML_TYPE_F16);
}

}  // namespace

Result<std::unique_ptr<AttentionRows>> AttentionRows::create(uint32_t threads) {
    ggml_backend_dev_t const cpu = ggml_backend_dev_by_type(GGML_BACKEND_DEVICE_TYPE_CPU);
    BackendHandle backend = cpu == nullptr ? nullptr : start_backend(cpu, threads);
    if (backend == nullptr) return fail(ErrorCode::kUnsupportedHost, "ggml has no CPU backend for this machine");
    return std::unique_ptr<AttentionRows>(new AttentionRows(std::move(backend)));
}

Status AttentionRows::end_pass() {
    if (emptied_ != nullptr) std::exchange(emptied_, nullptr)->op = GGML_OP_FLASH_ATTN_EXT;
    return std::exchange(failure_, {});
}

bool AttentionRows::ask(ggml_tensor* node) {
    const bool cut = behind_->ask(node);
    if (cut || !is_ours(node)) return cut;
    emptied_ = node;
    node->op = GGML_OP_NONE;
    return true;
}

bool AttentionRows::computed(ggml_tensor* node) {
    if (emptied_ == node) {
        std::exchange(emptied_, nullptr)->op = GGML_OP_FLASH_ATTN_EXT;
        failure_ = attend(node);
    }
    return failure_ && behind_->computed(node);
}

Status AttentionRows::attend(ggml_tensor* node) {
    const auto rows = static_cast<size_t>(node->ne[2]);
    constexpr size_t kTensorsOfRow = 6;  // five inputs and the result
    graph_memory_.resize(rows * kTensorsOfRow * ggml_tensor_overhead() +
                         ggml_graph_overhead_custom(rows * kTensorsOfRow, false));
    const GgmlContextHandle context(
        ggml_init({.mem_size = graph_memory_.size(), .mem_buffer = graph_memory_.data(), .no_alloc = true}));
    ggml_cgraph* const graph = ggml_new_graph_custom(context.get(), rows * kTensorsOfRow, false);
    for (size_t row = 0; row < rows; ++row)
        ggml_build_forward_expand(graph, attention_of_row(context.get(), node, static_cast<int64_t>(row)));
    const ggml_status status = ggml_backend_graph_compute(backend_.get(), graph);
    if (status == GGML_STATUS_SUCCESS) return {};
    return fail(ErrorCode::kInternal, "ggml failed with {} on an attention of ours", static_cast<int>(status));
}

}  // namespace hypura::engine
