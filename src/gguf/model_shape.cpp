#include "gguf/model_shape.h"

#include <algorithm>
#include <charconv>
#include <ranges>

namespace hypura::gguf {
namespace {

template <class Number>
uint64_t first_positive(const std::vector<Number>& numbers) {
    const auto found = std::ranges::find_if(numbers, [](Number number) { return number > 0; });
    return found == numbers.end() ? 0 : static_cast<uint64_t>(*found);
}

// A number, or the first layer's that has one where the file lists them by layer (0: a layer without attention, say).
uint64_t number_of(const ModelFile& model, const std::string& key) {
    if (const auto number = model.find_uint(key)) return *number;
    const auto found = model.metadata.find(key);
    if (found == model.metadata.end()) return 0;
    if (const auto* numbers = std::get_if<std::vector<uint64_t>>(&found->second)) return first_positive(*numbers);
    if (const auto* numbers = std::get_if<std::vector<int64_t>>(&found->second)) return first_positive(*numbers);
    return 0;
}

uint64_t token_count(const ModelFile& model) {
    const auto found = model.metadata.find("tokenizer.ggml.tokens");
    if (found == model.metadata.end()) return 0;
    const auto* tokens = std::get_if<std::vector<std::string>>(&found->second);
    return tokens == nullptr ? 0 : tokens->size();
}

// What libllama assumes where the file is silent.
void fill_in_defaults(ModelShape& shape) {
    const uint64_t head_length = shape.heads == 0 ? 0 : shape.embedding / shape.heads;
    if (shape.kv_heads == 0) shape.kv_heads = shape.heads;
    if (shape.key_length == 0) shape.key_length = head_length;
    if (shape.value_length == 0) shape.value_length = head_length;
}

// "blk.12.ffn_up.weight" -> 12, leaving "ffn_up.weight"; -1 for a name outside the layers.
int take_layer(std::string_view& name) {
    constexpr std::string_view kPrefix = "blk.";
    std::string_view rest = name;
    if (rest.starts_with("enc.") || rest.starts_with("dec.")) rest.remove_prefix(4);  // encoder-decoder models
    if (!rest.starts_with(kPrefix)) return -1;
    rest.remove_prefix(kPrefix.size());
    int layer = -1;
    const auto [end, error] = std::from_chars(rest.data(), rest.data() + rest.size(), layer);
    if (error != std::errc() || layer < 0 || end == rest.data() + rest.size() || *end != '.') return -1;
    name = rest.substr(static_cast<size_t>(end - rest.data()) + 1);
    return layer;
}

// ffn_up_exps, ffn_gate_up_exps, ffn_down_chexps, attn_v_exps…; not ffn_up_shexp, which every token uses.
bool is_expert(std::string_view name) { return name.contains("exps") && !name.contains("norm"); }

TensorRole role_in_layer(std::string_view name) {
    if (is_expert(name)) return TensorRole::kExpert;
    if (name.contains("norm")) return TensorRole::kNorm;
    if (name.contains("ffn") || name.starts_with("exp_probs")) return TensorRole::kFeedForward;
    if (name.contains("attn") || name.starts_with("indexer")) return TensorRole::kAttention;
    return TensorRole::kOther;
}

TensorRole role_outside_layers(std::string_view name) {
    if (name.contains("norm")) return TensorRole::kNorm;
    if (name.contains("_embd") || name.starts_with("token_types")) return TensorRole::kEmbedding;
    if (name.starts_with("output") || name.starts_with("cls")) return TensorRole::kOutput;
    return TensorRole::kOther;
}

}  // namespace

ModelShape model_shape(const ModelFile& model) {
    ModelShape shape;
    shape.architecture = model.find_string("general.architecture").value_or("");
    shape.name = model.find_string("general.name").value_or("");
    const auto number = [&](const char* key) { return number_of(model, shape.architecture + "." + key); };
    shape.layers = number("block_count");
    shape.embedding = number("embedding_length");
    shape.experts = number("expert_count");
    shape.experts_used = number("expert_used_count");
    shape.heads = number("attention.head_count");
    shape.kv_heads = number("attention.head_count_kv");
    shape.key_length = number("attention.key_length");
    shape.value_length = number("attention.value_length");
    shape.context_train = number("context_length");
    shape.vocabulary = number("vocab_size");
    if (shape.vocabulary == 0) shape.vocabulary = token_count(model);
    fill_in_defaults(shape);
    return shape;
}

TensorPlace tensor_place(std::string_view tensor_name) {
    const int layer = take_layer(tensor_name);
    return {layer >= 0 ? role_in_layer(tensor_name) : role_outside_layers(tensor_name), layer};
}

}  // namespace hypura::gguf
