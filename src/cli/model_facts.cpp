#include "cli/model_facts.h"

#include "base/bytes.h"

#include <nlohmann/json.hpp>

#include <algorithm>
#include <format>

namespace hypura::cli {
namespace {

using Json = nlohmann::ordered_json;
using Groups = std::map<std::string, TensorGroup>;

std::string role_name(gguf::TensorRole role) {
    switch (role) {
        case gguf::TensorRole::kExpert:
            return "experts";
        case gguf::TensorRole::kFeedForward:
            return "feed forward";
        case gguf::TensorRole::kAttention:
            return "attention";
        case gguf::TensorRole::kEmbedding:
            return "embedding";
        case gguf::TensorRole::kOutput:
            return "output";
        case gguf::TensorRole::kNorm:
            return "norms";
        case gguf::TensorRole::kOther:
            break;
    }
    return "other";
}

void count(Groups& groups, const std::string& name, uint64_t bytes) {
    TensorGroup& group = groups[name];
    ++group.tensors;
    group.bytes += bytes;
}

// ---- text ----------------------------------------------------------------------------------------------------------

std::string line(std::string_view label, std::string_view text) { return std::format("{:<14}{}\n", label, text); }

// Facts that the file does not state are left out.
std::string number_line(std::string_view label, uint64_t number) {
    return number == 0 ? "" : line(label, std::format("{}", number));
}

std::string shape_text(const gguf::ModelShape& shape) {
    std::string text = line("architecture", shape.architecture);
    if (!shape.name.empty()) text += line("name", shape.name);
    text += number_line("layers", shape.layers) + number_line("width", shape.embedding);
    if (shape.experts > 0)
        text += line("experts", std::format("{} a layer, {} used a token", shape.experts, shape.experts_used));
    if (shape.heads > 0)
        text += line("attention", std::format("{} heads, {} key-value heads, keys of {}, values of {}", shape.heads,
                                              shape.kv_heads, shape.key_length, shape.value_length));
    return text + number_line("context", shape.context_train) + number_line("vocabulary", shape.vocabulary);
}

std::string parts_text(const std::vector<gguf::Part>& parts) {
    std::string text;
    for (const gguf::Part& part : parts)
        text += line(text.empty() ? "file" : "", std::format("{} ({})", part.path, format_bytes(part.size_bytes)));
    return text;
}

std::vector<std::pair<std::string, TensorGroup>> largest_first(const Groups& groups) {
    std::vector<std::pair<std::string, TensorGroup>> sorted(groups.begin(), groups.end());
    std::ranges::stable_sort(sorted, std::greater{}, [](const auto& entry) { return entry.second.bytes; });
    return sorted;
}

std::string groups_text(std::string_view title, const Groups& groups) {
    std::string text = std::format("\n{:<14}{:>8} {:>12}\n", title, "tensors", "size");
    for (const auto& [name, group] : largest_first(groups))
        text += std::format("{:<14}{:>8} {:>12}\n", name, group.tensors, format_bytes(group.bytes));
    return text;
}

// ---- JSON ----------------------------------------------------------------------------------------------------------

Json shape_json(const gguf::ModelShape& shape) {
    return {{"architecture", shape.architecture},
            {"name", shape.name},
            {"layers", shape.layers},
            {"embedding", shape.embedding},
            {"experts", shape.experts},
            {"experts_used", shape.experts_used},
            {"heads", shape.heads},
            {"kv_heads", shape.kv_heads},
            {"key_length", shape.key_length},
            {"value_length", shape.value_length},
            {"context_train", shape.context_train},
            {"vocabulary", shape.vocabulary}};
}

Json groups_json(const Groups& groups) {
    Json json = Json::object();
    for (const auto& [name, group] : groups) json[name] = {{"tensors", group.tensors}, {"bytes", group.bytes}};
    return json;
}

}  // namespace

ModelFacts model_facts(const gguf::ModelFile& file) {
    ModelFacts facts{gguf::model_shape(file), file.parts, file.tensor_bytes, {}, {}};
    for (const gguf::TensorInfo& tensor : file.tensors) {
        count(facts.by_type, std::string(tensor.type.name), tensor.size_bytes);
        count(facts.by_role, role_name(gguf::tensor_place(tensor.name).role), tensor.size_bytes);
    }
    return facts;
}

std::string facts_text(const ModelFacts& facts) {
    return parts_text(facts.parts) + shape_text(facts.shape) + line("weights", format_bytes(facts.tensor_bytes)) +
           groups_text("type", facts.by_type) + groups_text("role", facts.by_role);
}

std::string facts_json(const ModelFacts& facts) {
    Json parts = Json::array();
    for (const gguf::Part& part : facts.parts)
        parts.push_back({{"path", part.path}, {"bytes", part.size_bytes}, {"data_offset", part.data_offset}});
    const Json json = {{"parts", std::move(parts)},
                       {"shape", shape_json(facts.shape)},
                       {"tensor_bytes", facts.tensor_bytes},
                       {"types", groups_json(facts.by_type)},
                       {"roles", groups_json(facts.by_role)}};
    return json.dump(2, ' ', false, Json::error_handler_t::replace) + "\n";
}

}  // namespace hypura::cli
