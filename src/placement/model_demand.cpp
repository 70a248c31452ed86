#include "placement/model_demand.h"

#include "base/bytes.h"
#include "storage/reader.h"

#include <algorithm>
#include <ranges>

namespace hypura::placement {
namespace {

constexpr uint64_t kPageBytes = 4096;
constexpr uint64_t kSlackBytes = storage::BlockReader::kSlackBytes;
constexpr std::string_view kTokenEmbedding = "token_embd.weight";
constexpr std::string_view kOutput = "output.weight";

using gguf::TensorRole;

uint64_t rows_of(const gguf::TensorInfo& tensor) { return tensor.shape[1] * tensor.shape[2] * tensor.shape[3]; }

// Vectors are added or multiplied, embeddings read by rows, and convolutions of state-space models are tiny: none of
// them is read by a matrix product.
bool is_matrix(const gguf::TensorInfo& tensor, TensorRole role) {
    constexpr uint64_t kLeastColumns = 32;
    return role != TensorRole::kEmbedding && role != TensorRole::kNorm && rows_of(tensor) > 1 &&
           tensor.shape[0] >= kLeastColumns;
}

// As far as names tell: where there is no output matrix, the token embeddings are that, too.
bool is_read_by_rows(const gguf::TensorInfo& tensor, TensorRole role, const gguf::ModelFile& file) {
    const bool tied = tensor.name == kTokenEmbedding && file.find_tensor(kOutput) == nullptr;
    return role == TensorRole::kEmbedding && rows_of(tensor) > 1 && !tied;
}

bool is_routed(const gguf::TensorInfo& tensor, TensorRole role, const gguf::ModelShape& shape) {
    return role == TensorRole::kExpert && shape.experts > 0 && tensor.shape[2] == shape.experts;
}

// As the layout places a slice: in pages of its own when all slices lie alike, else with room to be moved.
uint64_t slice_stride(uint64_t slice_bytes) {
    return is_aligned(slice_bytes, kPageBytes) ? slice_bytes + kPageBytes : slice_bytes + 2 * kSlackBytes;
}

void add_experts(ModelDemand& demand, std::map<int, size_t>& by_layer, const gguf::TensorInfo& tensor, int layer) {
    const auto [place, is_new] = by_layer.try_emplace(layer, demand.experts.size());
    if (is_new) demand.experts.push_back({.layer = layer, .experts = static_cast<uint32_t>(demand.shape.experts)});
    ExpertLayer& group = demand.experts[place->second];
    const uint64_t slice_bytes = tensor.size_bytes / group.experts;
    ++group.slices;
    group.expert_bytes += slice_bytes;
    group.slot_bytes += slice_stride(slice_bytes);
    group.formats[std::string(tensor.type.name)] += tensor.size_bytes;
}

// The output layer comes last, wherever it is in the file.
int reading_order(const DenseMatrix& matrix) { return matrix.layer < 0 ? INT32_MAX : matrix.layer; }

// A model without an output matrix multiplies by its token embeddings.
void add_tied_output(ModelDemand& demand, const gguf::ModelFile& file) {
    const gguf::TensorInfo* const embedding = file.find_tensor(kTokenEmbedding);
    if (embedding == nullptr || file.find_tensor(kOutput) != nullptr) return;
    demand.tied_output_bytes = embedding->size_bytes;
    demand.tied_output_format = embedding->type.name;
}

}  // namespace

uint64_t ModelDemand::expert_bytes() const {
    uint64_t bytes = 0;
    for (const ExpertLayer& layer : experts) bytes += layer.expert_bytes * layer.experts;
    return bytes;
}

uint64_t ModelDemand::token_expert_bytes() const {
    uint64_t bytes = 0;
    for (const ExpertLayer& layer : experts)
        bytes += layer.expert_bytes * (shape.experts_used == 0 ? layer.experts : shape.experts_used);
    return bytes;
}

uint64_t ModelDemand::dense_bytes() const {
    uint64_t bytes = 0;
    for (const DenseMatrix& matrix : dense) bytes += matrix.bytes;
    return bytes;
}

ModelDemand model_demand(const gguf::ModelFile& file) {
    ModelDemand demand{.shape = gguf::model_shape(file), .tensor_bytes = file.tensor_bytes};
    std::map<int, size_t> expert_layers;
    for (const gguf::TensorInfo& tensor : file.tensors) {
        const auto [role, layer] = gguf::tensor_place(tensor.name);
        if (is_routed(tensor, role, demand.shape))
            add_experts(demand, expert_layers, tensor, layer);
        else if (is_matrix(tensor, role))
            demand.dense.push_back({tensor.name, std::string(tensor.type.name), role, layer, tensor.size_bytes});
        else
            demand.fixed_bytes += tensor.size_bytes;
        if (is_read_by_rows(tensor, role, file))
            demand.tables.push_back({tensor.size_bytes, tensor.size_bytes / rows_of(tensor)});
    }
    std::ranges::stable_sort(demand.dense, {}, reading_order);
    std::ranges::sort(demand.experts, {}, &ExpertLayer::layer);
    for (ExpertLayer& group : demand.experts) group.slot_bytes = align_up(group.slot_bytes, kPageBytes);
    const gguf::ModelShape& shape = demand.shape;
    demand.cache_values_per_token = shape.layers * shape.kv_heads * (shape.key_length + shape.value_length);
    add_tied_output(demand, file);
    return demand;
}

gguf::ModelFile directory_of(const gguf::SyntheticModel& model) {
    gguf::ModelFile file;
    file.metadata = model.metadata;
    for (const gguf::TensorSpec& spec : model.tensors) {
        gguf::TensorInfo tensor{.name = spec.name, .type = spec.type, .size_bytes = spec.size_bytes()};
        std::ranges::copy(spec.shape, tensor.shape.begin());
        file.tensor_bytes += tensor.size_bytes;
        file.tensors.push_back(std::move(tensor));
    }
    return file;
}

StreamProblem stream_problem(const ModelDemand& demand, uint32_t batch_tokens) {
    StreamProblem problem{.fixed_bytes = demand.fixed_bytes};
    for (const EmbeddingTable& table : demand.tables) {
        problem.fixed_bytes -= table.bytes;
        problem.tables.push_back({table.bytes, kept_row_bytes(table.bytes, table.row_bytes, batch_tokens)});
    }
    for (const DenseMatrix& matrix : demand.dense) {
        const uint64_t stride = align_up(matrix.bytes + kPageBytes, kPageBytes);
        problem.dense.push_back({matrix.bytes, stride, matrix.role == TensorRole::kFeedForward});
    }
    const uint64_t used = demand.shape.experts_used;
    for (const ExpertLayer& group : demand.experts) {
        const uint64_t routed = used == 0 ? group.experts : uint64_t{batch_tokens} * used;
        const auto pass_experts = static_cast<uint32_t>(std::min<uint64_t>(group.experts, routed));
        problem.experts.push_back({group.slot_bytes, group.expert_bytes, group.experts, pass_experts, group.layer});
    }
    return problem;
}

}  // namespace hypura::placement
