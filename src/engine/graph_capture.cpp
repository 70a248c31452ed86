#include "engine/graph_capture.h"

#include <algorithm>
#include <cstring>
#include <format>

namespace hypura::engine {
namespace {

WeightUse use_as(const ggml_tensor& node, int source_index, const ggml_tensor& weight) {
    const bool whole_weight = node.src[source_index] == &weight;  // not through a view of it
    if (!whole_weight || source_index != 0) return WeightUse::kOther;
    if (node.op == GGML_OP_MUL_MAT_ID && node.src[2]->type == GGML_TYPE_I32) return WeightUse::kExperts;
    const bool is_matrix = weight.ne[2] == 1 && weight.ne[3] == 1;
    if (node.op == GGML_OP_MUL_MAT && is_matrix) return WeightUse::kDense;
    if (node.op == GGML_OP_GET_ROWS && is_matrix && is_given_to_graph(node.src[1])) return WeightUse::kRows;
    return WeightUse::kOther;
}

void make_resident(CapturedWeight& weight, std::string reason) {
    if (weight.use == WeightUse::kOther && !weight.other_reader.empty()) return;
    weight.use = WeightUse::kOther;
    weight.other_reader = std::move(reason);
}

void merge_use(CapturedWeight& weight, const ggml_tensor& node, WeightUse use,
               const std::optional<uint32_t>& ids_occurrence) {
    if (use == WeightUse::kOther) return make_resident(weight, std::format("read by {}", ggml_op_name(node.op)));
    if (use != weight.use) return make_resident(weight, "its readers are of different kinds");
    if (use != WeightUse::kExperts) return;
    if (!ids_occurrence) return make_resident(weight, "routed by copies of one of several tensors");
    if (weight.ids_name != original_name(node.src[2]) || weight.ids_occurrence != *ids_occurrence)
        make_resident(weight, "routed by more than one tensor");
}

constexpr int kMostTraceSteps = 24;

bool is_weight(const ggml_tensor* tensor) { return tensor != nullptr && tensor->op == GGML_OP_NONE; }

const ggml_tensor* behind_views(const ggml_tensor* tensor) {
    while (tensor != nullptr && (tensor->op == GGML_OP_VIEW || tensor->op == GGML_OP_RESHAPE)) tensor = tensor->src[0];
    return tensor;
}

const ggml_tensor* norm_of(const ggml_tensor* input) {
    const ggml_tensor* const scaled = behind_views(input);
    if (scaled == nullptr || scaled->op != GGML_OP_MUL || !is_weight(scaled->src[1])) return nullptr;
    return ggml_nelements(scaled->src[1]) == input->ne[0] ? scaled->src[1] : nullptr;
}

}  // namespace

std::string_view original_name(const ggml_tensor* tensor) {
    const std::string_view name(tensor->name);
    const size_t first = name.find('#');
    const size_t last = name.rfind('#');
    const bool copied = tensor->op == GGML_OP_NONE && first != std::string_view::npos && first != last;
    return copied ? name.substr(first + 1, last - first - 1) : name;
}

bool is_copy(const ggml_tensor* tensor) { return original_name(tensor).size() != std::strlen(tensor->name); }

bool is_on_host(const ggml_tensor* tensor) {
    ggml_backend_buffer_t const buffer = tensor->view_src != nullptr ? tensor->view_src->buffer : tensor->buffer;
    return buffer == nullptr || ggml_backend_buffer_is_host(buffer);
}

bool is_given_to_graph(const ggml_tensor* ids) {
    return ids->op == GGML_OP_NONE && ids->type == GGML_TYPE_I32 && ids->view_src == nullptr && !is_copy(ids) &&
           is_on_host(ids) && ggml_is_contiguous(ids);
}

// Sorting, softmax, bias and views all have the tensor that they work on as their first source.
RouterTrace trace_router(const ggml_tensor* ids, int64_t experts) {
    const ggml_tensor* node = ids;
    for (int step = 0; step < kMostTraceSteps && node != nullptr; ++step, node = node->src[0]) {
        if (node->op != GGML_OP_MUL_MAT || !is_weight(node->src[0]) || node->src[0]->ne[1] != experts) continue;
        return {node->src[0], norm_of(node->src[1]), node->src[1]};
    }
    return {};
}

const ggml_tensor* whole_ranking(const ggml_tensor* ids, int64_t experts) {
    const ggml_tensor* const sorted = ids->view_src;
    const bool is_whole = sorted != nullptr && sorted->op == GGML_OP_ARGSORT && sorted->ne[0] == experts &&
                          ids->view_offs == 0 && ids->nb[1] == sorted->nb[1] && ids->ne[1] == sorted->ne[1];
    return is_whole ? sorted : nullptr;
}

GraphCapture::GraphCapture(const gguf::ModelFile& model) {
    for (const gguf::TensorInfo& info : model.tensors) infos_.emplace(info.name, &info);
}

void GraphCapture::begin_pass() {
    order_this_pass_.clear();
    occurrence_this_pass_.clear();
    i32_names_this_pass_.clear();
    last_i32_.clear();
    for (Entry& entry : weights_) entry.readers_this_pass = 0;
}

bool GraphCapture::ask(ggml_tensor* node) {
    if (node->type == GGML_TYPE_I32) note_i32(node);
    for (int i = 0; i < GGML_MAX_SRC; ++i) {
        ggml_tensor* const source = node->src[i];
        if (source == nullptr) continue;
        note_reader(node, i, source->view_src != nullptr ? source->view_src : source);
    }
    if (order_this_pass_.size() > dense_order_.size()) dense_order_ = order_this_pass_;
    return false;
}

bool GraphCapture::computed(ggml_tensor*) { return false; }

void GraphCapture::note_i32(const ggml_tensor* node) {
    last_i32_[node->name] = node;
    uint32_t& count = i32_names_this_pass_[node->name];
    occurrence_this_pass_.emplace(node, count++);
    i32_names_[node->name] = std::max(i32_names_[node->name], count);
}

// Of a copy nobody knows which of several nodes of one name it copies.
std::optional<uint32_t> GraphCapture::occurrence_of(const ggml_tensor* ids) const {
    if (const auto found = occurrence_this_pass_.find(ids); found != occurrence_this_pass_.end()) return found->second;
    const auto named = i32_names_this_pass_.find(original_name(ids));
    if (is_copy(ids) && named != i32_names_this_pass_.end() && named->second > 1) return std::nullopt;
    return 0;
}

const ggml_tensor* GraphCapture::original_ids(const ggml_tensor* ids) const {
    const auto original = is_copy(ids) ? last_i32_.find(original_name(ids)) : last_i32_.end();
    return original == last_i32_.end() ? ids : original->second;
}

void GraphCapture::note_reader(ggml_tensor* node, int source_index, ggml_tensor* weight) {
    const auto found = infos_.find(original_name(weight));
    if (weight->op != GGML_OP_NONE || found == infos_.end()) return;
    Entry& entry = entry_for(*found->second);
    if (is_copy(weight)) return make_resident(entry.weight, "read on another device");
    if (!is_on_host(weight)) {
        if (!std::ranges::contains(entry.weight.on_device, weight)) entry.weight.on_device.push_back(weight);
        return;
    }
    const WeightUse use = use_as(*node, source_index, *weight);
    const auto ids_occurrence = use == WeightUse::kExperts ? occurrence_of(node->src[2]) : std::optional<uint32_t>(0);
    if (entry.weight.tensor == nullptr) {
        entry.weight.tensor = weight;
        if (entry.weight.other_reader.empty()) entry.weight.use = use;
        entry.weight.ids_name = use == WeightUse::kExperts ? original_name(node->src[2]) : "";
        entry.weight.ids_occurrence = ids_occurrence.value_or(0);
        if (use == WeightUse::kExperts) entry.weight.router = trace_router(original_ids(node->src[2]), weight->ne[2]);
    }
    // A tied embedding is two libllama tensors over the same bytes: rebinding one would leave the other behind.
    if (entry.weight.tensor != weight) make_resident(entry.weight, "used under two names");
    merge_use(entry.weight, *node, use, ids_occurrence);
    entry.weight.readers = std::max(entry.weight.readers, ++entry.readers_this_pass);
    if (use == WeightUse::kDense) order_this_pass_.push_back(weight);
}

GraphCapture::Entry& GraphCapture::entry_for(const gguf::TensorInfo& info) {
    const auto [position, is_new] = index_.emplace(&info, weights_.size());
    if (is_new) weights_.emplace_back().weight.info = &info;
    return weights_[position->second];
}

std::vector<CapturedWeight> GraphCapture::weights() const {
    std::vector<CapturedWeight> all;
    for (const Entry& entry : weights_) {
        CapturedWeight& weight = all.emplace_back(entry.weight);
        const auto repeats = i32_names_.find(weight.ids_name);
        weight.ids_repeats = repeats == i32_names_.end() ? 1 : repeats->second;
    }
    return all;
}

}  // namespace hypura::engine
