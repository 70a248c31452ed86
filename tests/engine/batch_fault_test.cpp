// A device that fails beneath a batch: the sequences of the pass end by name, the KV cache holds nothing half-written,
// and the next ones work if the device does.
#include "engine/batch_support.h"
#include "support/temp_dir.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include <filesystem>
#include <fstream>

namespace hypura::engine {
namespace {

using namespace test;
using storage::FaultKind;
using testing::HasSubstr;

EngineOptions small_pool(const std::string& path, const storage::FaultPlan& fault = {}) {
    EngineOptions options = demo_options(3);
    options.model_path = path;
    options.weights_bytes = 4u << 20;
    options.batch_tokens = 8;
    options.context_tokens = 256;
    options.reader.kind = storage::ReaderKind::kPread;
    options.fault = fault;
    return options;
}

Outcomes run_three(BatchEngine& batch) {
    for (Token i = 0; i < 3; ++i) EXPECT_TRUE(batch.add(greedy_request(numbered(300 + 20 * i, 6 + i), 4)));
    return run_all(batch);
}

// Tokens by sequence, whatever the ids.
std::vector<std::vector<Token>> texts(const Outcomes& outcomes) {
    std::vector<std::vector<Token>> texts;
    for (const auto& [id, outcome] : outcomes) texts.push_back(outcome.tokens);
    return texts;
}

const std::vector<std::vector<Token>>& clean() {
    static const auto tokens = texts(run_three(*open_batch(small_pool(HYPURA_DEMO_MODEL)).batch));
    return tokens;
}

TEST(BatchFaults, OneFailedReadChangesNothing) {
    for (const uint64_t nth : {1, 2, 7, 30, 90}) {
        const auto opened = open_batch(small_pool(HYPURA_DEMO_MODEL, {.nth = nth, .kind = FaultKind::kIoError}));
        EXPECT_EQ(texts(run_three(*opened.batch)), clean()) << nth;
        EXPECT_EQ(opened.batch->counters().failed_passes, 0u);
    }
}

TEST(BatchFaults, APermanentlyBadRangeEndsThePassByName) {
    int ended = 0;
    for (const uint64_t nth : {1, 2, 7, 30, 90}) {
        const auto opened =
            open_batch(small_pool(HYPURA_DEMO_MODEL, {.nth = nth, .kind = FaultKind::kIoError, .permanent = true}));
        for (int round = 0; round < 2; ++round) {
            const Outcomes outcomes = run_three(*opened.batch);
            for (const auto& [id, outcome] : outcomes) {
                if (outcome.finished.reason != FinishReason::kFailed) continue;
                ++ended;
                EXPECT_EQ(outcome.finished.error.code, ErrorCode::kReadFailed);
                EXPECT_THAT(outcome.finished.error.message, HasSubstr(HYPURA_DEMO_MODEL));
                const auto& expected = clean()[(id - 1) % 3];
                ASSERT_LE(outcome.tokens.size(), expected.size());
                EXPECT_TRUE(std::equal(outcome.tokens.begin(), outcome.tokens.end(), expected.begin()));
            }
        }
        EXPECT_FALSE(opened.batch->has_work());
    }
    EXPECT_GE(ended, 6);
}

// The file is cut short and made whole again: in between, everything fails; afterwards, nothing is left of that.
TEST(BatchFaults, TheEngineWorksWhenTheDeviceDoesAgain) {
    const hypura::test::TempDir dir;
    const std::string path = dir.file("model.gguf");
    std::filesystem::copy_file(HYPURA_DEMO_MODEL, path);
    const std::string bytes = hypura::test::read_file(path);
    const auto written = std::filesystem::last_write_time(path);
    const auto opened = open_batch(small_pool(path));
    ASSERT_TRUE(opened.batch->add(greedy_request(numbered(300, 6), 1)));
    run_all(*opened.batch);
    const uint32_t used = opened.batch->counters().used_tokens;

    const auto kept = static_cast<off_t>(opened.engine->file().parts[0].data_offset);
    ASSERT_EQ(::truncate(path.c_str(), kept), 0);
    for (const auto& [id, outcome] : run_three(*opened.batch)) {
        EXPECT_EQ(outcome.finished.reason, FinishReason::kFailed);
        EXPECT_EQ(outcome.finished.error.code, ErrorCode::kModelChanged) << outcome.finished.error.message;
    }
    EXPECT_LE(opened.batch->counters().used_tokens, used);

    std::fstream file(path, std::ios::in | std::ios::out | std::ios::binary);
    file.seekp(kept);
    file.write(bytes.data() + kept, static_cast<std::streamsize>(bytes.size()) - kept);
    file.close();
    std::filesystem::last_write_time(path, written);  // as if only the device had been gone
    EXPECT_EQ(texts(run_three(*opened.batch)), clean());
}

}  // namespace
}  // namespace hypura::engine
