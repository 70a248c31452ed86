#include "engine/expert_compute.h"

#include "engine/llama_library.h"

#include <ggml-backend.h>

#include <algorithm>
#include <cstring>

namespace hypura::engine {
namespace {

constexpr size_t kGraphNodes = 8;                     // one is used
constexpr size_t kMostBufferBytes = size_t{8} << 20;  // gathered rows at a time, if no expert has more

// Weights that one thread multiplies a row by in about 0.4 ms. A team that sleeps, or competes for cores with threads
// that write to a device, takes longer to meet: with 16 threads on 16 cores a token of 24 layers beside an H100 took 45
// ms instead of 8, reads not counted.
constexpr size_t kMostBytesAlone = size_t{4} << 20;

size_t graph_memory_bytes() { return ggml_tensor_overhead() * 4 + ggml_graph_overhead_custom(kGraphNodes, false); }

ggml_tensor* borrowed_tensor(ggml_context* context, ggml_type type, int64_t ne0, int64_t ne2, void* data) {
    ggml_tensor* const tensor = ggml_new_tensor_3d(context, type, ne0, 1, ne2);
    tensor->data = data;
    return tensor;
}

// Row `column` of `token`; an input that all columns share has one.
std::byte* row_of(const ggml_tensor* tensor, uint32_t column, uint32_t token) {
    const size_t columns = static_cast<size_t>(tensor->ne[1]);
    return static_cast<std::byte*>(tensor->data) + (column % columns) * tensor->nb[1] + token * tensor->nb[2];
}

size_t rows_at_a_time(const ggml_tensor* node) {
    const auto widest = static_cast<size_t>(std::max(node->ne[0], node->src[1]->ne[0]));
    return std::max<size_t>(kMostBufferBytes / (widest * sizeof(float)), 1);
}

// How many of `rows`, which are ordered by expert, are at most `most` and all that their experts have; the first
// expert's in any case. ggml multiplies many rows of an expert by other kernels than few: they must not be parted.
size_t whole_experts(std::span<const RoutedRow> rows, size_t most) {
    if (rows.size() <= most) return rows.size();
    const auto first_of = [&](int32_t slot) { return std::ranges::lower_bound(rows, slot, {}, &RoutedRow::slot); };
    const auto cut = first_of(rows[most].slot);
    return static_cast<size_t>((cut == rows.begin() ? first_of(rows[0].slot + 1) : cut) - rows.begin());
}

}  // namespace

Result<ExpertCompute> ExpertCompute::create(uint32_t threads, bool team_is_busy) {
    ExpertCompute compute;
    ggml_backend_dev_t const cpu = ggml_backend_dev_by_type(GGML_BACKEND_DEVICE_TYPE_CPU);
    if (cpu != nullptr) compute.backend_ = start_backend(cpu, threads);
    if (cpu != nullptr && !team_is_busy) compute.alone_ = start_backend(cpu, 1);
    if (compute.backend_ == nullptr || (compute.alone_ == nullptr && !team_is_busy))
        return fail(ErrorCode::kUnsupportedHost, "ggml has no CPU backend for this machine");
    compute.graph_memory_.resize(graph_memory_bytes());
    return compute;
}

Status ExpertCompute::compute(ggml_tensor* node, std::span<const RoutedRow> rows) {
    const size_t most = rows_at_a_time(node);
    by_expert_.assign(rows.begin(), rows.end());
    std::ranges::sort(by_expert_, {}, &RoutedRow::slot);  // allocates nothing: every decode step comes by
    for (std::span<const RoutedRow> left = by_expert_; !left.empty();) {
        const auto piece = left.first(whole_experts(left, most));
        gather(node->src[1], piece);
        HYPURA_TRY(multiply(node, piece.size()));
        scatter(node, piece);
        left = left.subspan(piece.size());
    }
    return {};
}

void ExpertCompute::gather(const ggml_tensor* input, std::span<const RoutedRow> rows) {
    const auto columns = static_cast<size_t>(input->ne[0]);
    inputs_.resize(columns * rows.size());
    slots_.resize(rows.size());
    for (size_t i = 0; i < rows.size(); ++i) {
        std::memcpy(&inputs_[i * columns], row_of(input, rows[i].column, rows[i].token), columns * sizeof(float));
        slots_[i] = rows[i].slot;
    }
}

Status ExpertCompute::multiply(ggml_tensor* node, size_t rows) {
    const GgmlContextHandle context = new_graph_context();
    ggml_tensor* const experts = node->src[0];
    const auto count = static_cast<int64_t>(rows);
    ggml_tensor* const input = borrowed_tensor(context.get(), GGML_TYPE_F32, experts->ne[0], count, inputs_.data());
    ggml_tensor* const slots = ggml_new_tensor_2d(context.get(), GGML_TYPE_I32, 1, count);
    slots->data = slots_.data();
    ggml_tensor* const product = ggml_mul_mat_id(context.get(), experts, input, slots);
    // The precision that libllama asked for.
    std::memcpy(product->op_params, node->op_params, sizeof(product->op_params));
    return run(backend_.get(), context.get(), product);
}

Result<std::span<const float>> ExpertCompute::project(const ggml_tensor* weight, std::span<const float> inputs) {
    const GgmlContextHandle context = new_graph_context();
    const int64_t rows = static_cast<int64_t>(inputs.size()) / weight->ne[0];
    ggml_tensor* const input = ggml_new_tensor_2d(context.get(), GGML_TYPE_F32, weight->ne[0], rows);
    input->data = const_cast<float*>(inputs.data());  // only read
    const bool is_small = static_cast<size_t>(rows) * ggml_nbytes(weight) <= kMostBytesAlone;
    ggml_backend_t const backend = is_small && alone_ != nullptr ? alone_.get() : backend_.get();
    HYPURA_TRY(run(backend, context.get(), ggml_mul_mat(context.get(), const_cast<ggml_tensor*>(weight), input)));
    return results_;
}

GgmlContextHandle ExpertCompute::new_graph_context() {
    return GgmlContextHandle(
        ggml_init({.mem_size = graph_memory_.size(), .mem_buffer = graph_memory_.data(), .no_alloc = true}));
}

// Computes `product` into results_.
Status ExpertCompute::run(ggml_backend_t backend, ggml_context* context, ggml_tensor* product) {
    results_.resize(static_cast<size_t>(ggml_nelements(product)));
    product->data = results_.data();
    ggml_cgraph* const graph = ggml_new_graph_custom(context, kGraphNodes, false);
    ggml_build_forward_expand(graph, product);
    const ggml_status status = ggml_backend_graph_compute(backend, graph);
    if (status == GGML_STATUS_SUCCESS) return {};
    return fail(ErrorCode::kInternal, "ggml failed with {} on a graph of ours", static_cast<int>(status));
}

void ExpertCompute::scatter(ggml_tensor* node, std::span<const RoutedRow> rows) const {
    const auto columns = static_cast<size_t>(node->ne[0]);
    for (size_t i = 0; i < rows.size(); ++i)
        std::memcpy(row_of(node, rows[i].column, rows[i].token), &results_[i * columns], columns * sizeof(float));
}

}  // namespace hypura::engine
