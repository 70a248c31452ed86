// verify must be able to fail: a model whose weights are not the same in both runs.
#include "engine/verify.h"

#include "support/temp_dir.h"

#include <gtest/gtest.h>

#include <filesystem>
#include <fstream>

namespace hypura::engine {
namespace {

// Zeros instead of one layer's experts, and a file that looks untouched.
void change_weights(const std::string& path) {
    const auto model = gguf::open_model(path).value();
    const gguf::TensorInfo* const tensor = model.find_tensor("blk.3.ffn_up_exps.weight");
    ASSERT_NE(tensor, nullptr);
    const auto written = std::filesystem::last_write_time(path);
    std::fstream file(path, std::ios::in | std::ios::out | std::ios::binary);
    file.seekp(static_cast<std::streamoff>(tensor->file_offset));
    file << std::string(tensor->size_bytes, '\0');
    file.close();
    std::filesystem::last_write_time(path, written);
}

TEST(Verify, FindsADifferenceAndSaysWhere) {
    const test::TempDir dir;
    const std::string path = dir.file("model.gguf");
    std::filesystem::copy_file(HYPURA_DEMO_MODEL, path);
    const uint64_t all_bytes = gguf::open_model(path).value().tensor_bytes;
    VerifyOptions options;
    options.engine.model_path = path;
    options.engine.devices = {"none"};
    options.engine.threads = 1;
    options.decode_tokens = 2;
    // Only plain libllama, whose turn comes second, loads all of the bytes.
    options.engine.on_load = [&](const LoadProgress& progress) {
        if (progress.done_bytes == all_bytes) change_weights(path);
    };
    const auto result = verify(options);
    ASSERT_TRUE(result) << result.error().message;
    EXPECT_FALSE(result->identical());
    EXPECT_FALSE(result->passed());
    EXPECT_GT(result->runs[0].logits_different, 0u);
    EXPECT_EQ(result->runs[0].first_difference_row, 0u);
    EXPECT_GT(result->runs[0].largest_error, 0);
}

}  // namespace
}  // namespace hypura::engine
