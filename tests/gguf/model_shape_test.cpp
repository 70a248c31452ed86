#include "gguf/model_shape.h"

#include <gtest/gtest.h>

namespace hypura::gguf {
namespace {

TEST(ModelShape, ReadsTheKeysOfItsArchitecture) {
    ModelFile model;
    model.metadata = {{"general.architecture", "qwen3moe"},
                      {"general.name", "Demo"},
                      {"qwen3moe.block_count", uint64_t{48}},
                      {"qwen3moe.embedding_length", uint64_t{2048}},
                      {"qwen3moe.expert_count", uint64_t{128}},
                      {"qwen3moe.expert_used_count", uint64_t{8}},
                      {"qwen3moe.attention.head_count", int64_t{32}},
                      {"qwen3moe.attention.head_count_kv", uint64_t{4}},
                      {"qwen3moe.attention.key_length", uint64_t{128}},
                      {"qwen3moe.context_length", uint64_t{40960}},
                      {"llama.vocab_size", uint64_t{7}},
                      {"qwen3moe.vocab_size", uint64_t{151936}}};
    const ModelShape shape = model_shape(model);
    EXPECT_EQ(shape.architecture, "qwen3moe");
    EXPECT_EQ(shape.name, "Demo");
    EXPECT_EQ(shape.layers, 48u);
    EXPECT_EQ(shape.experts, 128u);
    EXPECT_EQ(shape.experts_used, 8u);
    EXPECT_EQ(shape.heads, 32u);
    EXPECT_EQ(shape.kv_heads, 4u);
    EXPECT_EQ(shape.key_length, 128u);
    EXPECT_EQ(shape.value_length, 64u);  // embedding / heads
    EXPECT_EQ(shape.context_train, 40960u);
    EXPECT_EQ(shape.vocabulary, 151936u);
}

TEST(ModelShape, TakesTheFirstLayerThatHasHeads) {
    ModelFile model;
    model.metadata = {{"general.architecture", "jamba"},
                      {"jamba.attention.head_count", std::vector<uint64_t>{0, 0, 16, 8}},
                      {"jamba.attention.head_count_kv", std::vector<int64_t>{-1, 0, 4}}};
    EXPECT_EQ(model_shape(model).heads, 16u);
    EXPECT_EQ(model_shape(model).kv_heads, 4u);
}

TEST(ModelShape, CountsTokensWhenTheSizeIsNotStated) {
    ModelFile model;
    model.metadata = {{"tokenizer.ggml.tokens", std::vector<std::string>{"a", "b", "c"}}};
    EXPECT_EQ(model_shape(model).vocabulary, 3u);
}

TEST(ModelShape, IsZeroWithoutMetadata) {
    const ModelShape shape = model_shape(ModelFile{});
    EXPECT_EQ(shape.architecture, "");
    EXPECT_EQ(shape.layers, 0u);
    EXPECT_EQ(shape.key_length, 0u);
}

struct Place {
    std::string_view name;
    TensorRole role;
    int layer;
};

TEST(TensorPlace, JudgesByName) {
    constexpr Place kPlaces[] = {
        {"token_embd.weight", TensorRole::kEmbedding, -1},
        {"per_layer_token_embd.weight", TensorRole::kEmbedding, -1},
        {"token_embd_norm.weight", TensorRole::kNorm, -1},
        {"output.weight", TensorRole::kOutput, -1},
        {"output_norm.weight", TensorRole::kNorm, -1},
        {"rope_freqs.weight", TensorRole::kOther, -1},
        {"blk.0.attn_q.weight", TensorRole::kAttention, 0},
        {"blk.7.attn_norm.weight", TensorRole::kNorm, 7},
        {"blk.12.ffn_up.weight", TensorRole::kFeedForward, 12},
        {"blk.12.ffn_gate_inp.weight", TensorRole::kFeedForward, 12},
        {"blk.12.ffn_up_shexp.weight", TensorRole::kFeedForward, 12},
        {"blk.12.ffn_up_exps.weight", TensorRole::kExpert, 12},
        {"blk.12.ffn_gate_up_exps.weight", TensorRole::kExpert, 12},
        {"blk.12.ffn_down_chexps.weight", TensorRole::kExpert, 12},
        {"blk.12.ffn_norm_exps.weight", TensorRole::kNorm, 12},
        {"enc.blk.3.attn_q.weight", TensorRole::kAttention, 3},
        {"blk.3.ssm_in.weight", TensorRole::kOther, 3},
        {"blk.x.attn_q.weight", TensorRole::kOther, -1},
        {"blk.99999999999.w", TensorRole::kOther, -1},
        {"blk.-2.w", TensorRole::kOther, -1},
        {"blk.5", TensorRole::kOther, -1},
        {"", TensorRole::kOther, -1},
    };
    for (const Place& place : kPlaces) {
        EXPECT_EQ(tensor_place(place.name).role, place.role) << place.name;
        EXPECT_EQ(tensor_place(place.name).layer, place.layer) << place.name;
    }
}

}  // namespace
}  // namespace hypura::gguf
