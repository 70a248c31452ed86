#include "gguf/synthetic.h"

#include "gguf/model_file.h"
#include "gguf/synthetic_blocks.h"
#include "gguf/synthetic_tokenizer.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <bit>
#include <cmath>
#include <cstring>
#include <filesystem>
#include <numeric>
#include <vector>

namespace hypura::gguf {
namespace {

SyntheticSpec small_mixture() {
    return {.architecture = "qwen3moe",
            .layers = 2,
            .experts = 4,
            .experts_used = 2,
            .embedding = 256,
            .feed_forward = 256,
            .heads = 4,
            .kv_heads = 2,
            .head_dim = 64,
            .vocabulary = 512,
            .quantization = "q4_k_m",
            .router_skew = 0.5,
            .locality = 0.3};
}

SyntheticModel must_synthesize(const SyntheticSpec& spec, uint32_t threads = 1) {
    auto model = synthesize(spec, threads);
    EXPECT_TRUE(model) << (model ? "" : model.error().message);
    return model ? *std::move(model) : SyntheticModel{};
}

// All tensors, made in chunks of `chunk_blocks` blocks.
std::vector<std::byte> all_bytes(const SyntheticModel& model, uint64_t chunk_blocks) {
    std::vector<std::byte> bytes;
    for (size_t index = 0; index < model.tensors.size(); ++index) {
        const TensorSpec& tensor = model.tensors[index];
        const uint64_t step = chunk_blocks * tensor.type.block_bytes;
        for (uint64_t offset = 0; offset < tensor.size_bytes(); offset += step) {
            std::vector<std::byte> chunk(std::min(step, tensor.size_bytes() - offset));
            model.fill(index, offset, chunk);
            bytes.insert(bytes.end(), chunk.begin(), chunk.end());
        }
    }
    return bytes;
}

std::vector<float> floats_of(const SyntheticModel& model, std::string_view name) {
    for (size_t index = 0; index < model.tensors.size(); ++index) {
        if (model.tensors[index].name != name) continue;
        std::vector<float> values(model.tensors[index].size_bytes() / sizeof(float));
        model.fill(index, 0, std::as_writable_bytes(std::span(values)));
        return values;
    }
    ADD_FAILURE() << "no tensor " << name;
    return {};
}

double deviation(std::span<const float> values) {
    double squares = 0;
    for (float value : values) squares += static_cast<double>(value) * static_cast<double>(value);
    return std::sqrt(squares / static_cast<double>(values.size()));
}

TEST(Synthetic, BytesDependOnTheSeedAndOnNothingElse) {
    const auto once = all_bytes(must_synthesize(small_mixture()), 1 << 20);
    EXPECT_EQ(once, all_bytes(must_synthesize(small_mixture()), 1 << 20));
    EXPECT_EQ(once, all_bytes(must_synthesize(small_mixture(), 3), 1 << 20)) << "threads";
    EXPECT_EQ(once, all_bytes(must_synthesize(small_mixture()), 700)) << "chunk size";
    SyntheticSpec other = small_mixture();
    other.seed = 2;
    EXPECT_NE(once, all_bytes(must_synthesize(other), 1 << 20));
}

TEST(Synthetic, WrittenFilesOpenWithTheSizesThatWereComputed) {
    const std::string path = (std::filesystem::temp_directory_path() / "hypura_synthetic_test.gguf").string();
    for (std::string_view architecture : {"qwen3moe", "mixtral", "gpt-oss"}) {
        SyntheticSpec spec = small_mixture();
        spec.architecture = architecture;
        const SyntheticModel model = must_synthesize(spec);
        ASSERT_TRUE(write_model(path, model.metadata, model.tensors, model.fill));
        const auto file = open_model(path);
        ASSERT_TRUE(file) << file.error().message;
        EXPECT_EQ(file->tensor_bytes, model.tensor_bytes());
        EXPECT_EQ(file->tensors.size(), model.tensors.size());
        EXPECT_EQ(file->find_string("tokenizer.ggml.model"), "gpt2");
    }
    std::filesystem::remove(path);
}

TEST(Synthetic, PresetsHaveTheSizesOfTheirModels) {
    const auto gigabytes = [](std::string_view name) {
        return static_cast<double>(must_synthesize(*synthetic_preset(name)).tensor_bytes()) / 1e9;
    };
    EXPECT_NEAR(gigabytes("lab-moe-8g"), 8.4, 0.084);
    EXPECT_NEAR(gigabytes("lab-dense-5g"), 5.2, 0.052);
    EXPECT_NEAR(gigabytes("llama-3.3-70b"), 42.5, 0.6);
    EXPECT_NEAR(gigabytes("qwen3-30b-a3b"), 18.6, 0.3);
    EXPECT_NEAR(gigabytes("gpt-oss-120b"), 63.4, 0.6);
}

TEST(Synthetic, MixesGiveMoreBitsToTheLayersThatLlamaCppChooses) {
    SyntheticSpec spec = small_mixture();
    spec.layers = 16;
    std::string high_layers;
    for (const TensorSpec& tensor : must_synthesize(spec).tensors)
        if (tensor.name.contains("ffn_down") && tensor.type.name == "q6_K")
            high_layers += tensor.name.substr(4, tensor.name.find('.', 4) - 4) + " ";
    EXPECT_EQ(high_layers, "0 1 4 7 10 13 14 15 ");
}

TEST(Synthetic, RowsThatDoNotHoldWholeSuperBlocksFallBackToQ8) {
    SyntheticSpec spec = small_mixture();
    spec.feed_forward = 160;
    for (const TensorSpec& tensor : must_synthesize(spec).tensors) {
        const bool down = tensor.name.contains("ffn_down");
        EXPECT_TRUE(!down || tensor.type.name == "q8_0") << tensor.name;
    }
}

TEST(Synthetic, RouterRowsPreferExpertsByRank) {
    SyntheticSpec spec = small_mixture();
    spec.router_skew = 0;
    const double plain = deviation(floats_of(must_synthesize(spec), "blk.0.ffn_gate_inp.weight"));
    spec.router_skew = 4;
    const double skewed = deviation(floats_of(must_synthesize(spec), "blk.0.ffn_gate_inp.weight"));
    EXPECT_NEAR(plain, 1.28 / 16, 0.01);
    EXPECT_GT(skewed, 1.1 * plain);
}

TEST(Synthetic, Q8EncodingIsAccurate) {
    std::vector<float> values(64);
    std::iota(values.begin(), values.end(), -31.5F);
    std::vector<std::byte> blocks(68);
    encoder_for (*element_type_by_name("q8_0"))(values, blocks);
    for (size_t i = 0; i < values.size(); ++i) {
        uint16_t scale_bits = 0;
        std::memcpy(&scale_bits, &blocks[i / 32 * 34], 2);
        const auto scale = static_cast<float>(std::bit_cast<_Float16>(scale_bits));
        const float decoded = scale * static_cast<float>(static_cast<int8_t>(blocks[i / 32 * 34 + 2 + i % 32]));
        EXPECT_NEAR(decoded, values[i], 0.15F);
    }
}

TEST(Synthetic, ImpossibleSpecificationsAreRefusedWithTheFlagToChange) {
    const auto message_for = [](auto change) {
        SyntheticSpec spec = small_mixture();
        change(spec);
        const auto model = synthesize(spec);
        return model ? std::string("accepted") : model.error().message;
    };
    using Spec = SyntheticSpec;
    EXPECT_THAT(message_for([](Spec& s) { s.experts_used = 5; }), testing::HasSubstr("--top-k"));
    EXPECT_THAT(message_for([](Spec& s) { s.experts = 0; }), testing::HasSubstr("--experts"));
    EXPECT_THAT(message_for([](Spec& s) { s.vocabulary = 100; }), testing::HasSubstr("--vocab"));
    EXPECT_THAT(message_for([](Spec& s) { s.embedding = 250; }), testing::HasSubstr("--embd"));
    EXPECT_THAT(message_for([](Spec& s) { s.locality = 1; }), testing::HasSubstr("--locality"));
    EXPECT_THAT(message_for([](Spec& s) { s.router_skew = NAN; }), testing::HasSubstr("--router-skew"));
    EXPECT_THAT(message_for([](Spec& s) { s.quantization = "q9"; }), testing::HasSubstr("q9"));
    EXPECT_THAT(message_for([](Spec& s) { s.architecture = "x"; }), testing::HasSubstr("'x'"));
    EXPECT_FALSE(synthetic_preset("gpt-9"));
}

TEST(Synthetic, EveryTokenIsDifferent) {
    Metadata metadata;
    add_synthetic_tokenizer(metadata, 20000);
    auto tokens = std::get<std::vector<std::string>>(metadata["tokenizer.ggml.tokens"]);
    ASSERT_EQ(tokens.size(), 20000u);
    std::ranges::sort(tokens);
    EXPECT_EQ(std::ranges::adjacent_find(tokens), tokens.end());
}

}  // namespace
}  // namespace hypura::gguf
