#include "engine/batch_support.h"

#include <gtest/gtest.h>

#include <cmath>
#include <numeric>

namespace hypura::engine {
namespace {

using namespace test;

double dot(const std::vector<float>& a, const std::vector<float>& b) {
    return std::inner_product(a.begin(), a.end(), b.begin(), 0.0);
}

TEST(Embeddings, AreUnitVectorsThatCompanyDoesNotChange) {
    EngineOptions options = demo_options(4);
    options.batch_tokens = 48;  // below the 64 from which libggml's attention rounds differently
    const auto opened = open_batch(options);
    for (const Pooling pooling : {Pooling::kModel, Pooling::kMean, Pooling::kCls, Pooling::kLast}) {
        const SequenceId one = opened.batch->add(EmbeddingRequest{numbered(300, 20), pooling}).value();
        const std::vector<float> alone = run_all(*opened.batch).at(one).embedding;
        ASSERT_EQ(alone.size(), opened.engine->shape().embedding);
        EXPECT_NEAR(dot(alone, alone), 1.0, 1e-5);

        const SequenceId talker = opened.batch->add(greedy_request(numbered(700, 5), 6)).value();
        const SequenceId same = opened.batch->add(EmbeddingRequest{numbered(300, 20), pooling}).value();
        const SequenceId other = opened.batch->add(EmbeddingRequest{numbered(400, 90), pooling}).value();
        const Outcomes outcomes = run_all(*opened.batch);
        EXPECT_EQ(outcomes.at(talker).tokens.size(), 6u);
        EXPECT_EQ(outcomes.at(same).finished.reason, FinishReason::kEmbedded);
        EXPECT_NEAR(dot(outcomes.at(same).embedding, alone), 1.0, 1e-4);
        EXPECT_LT(dot(outcomes.at(other).embedding, alone), 0.9999);
        opened.batch->drop_prefixes();
        EXPECT_EQ(opened.batch->counters().used_tokens, 0u);
    }
}

TEST(Embeddings, TheMeanIsOverAllTokensHoweverThePassesAreCut) {
    EngineOptions options = demo_options(1);
    const auto wide = open_batch(options);
    options.batch_tokens = 16;
    const auto narrow = open_batch(options);
    EmbeddingRequest request{numbered(300, 60), Pooling::kMean, false};
    const SequenceId in_one = wide.batch->add(request).value();
    const SequenceId in_four = narrow.batch->add(request).value();
    const auto a = run_all(*wide.batch).at(in_one).embedding;
    const auto b = run_all(*narrow.batch).at(in_four).embedding;
    ASSERT_EQ(a.size(), b.size());
    for (size_t i = 0; i < a.size(); ++i) EXPECT_NEAR(a[i], b[i], 1e-2 * (1 + std::abs(a[i])));
    EXPECT_EQ(wide.batch->counters().passes, 1u);
    EXPECT_GE(narrow.batch->counters().passes, 4u);
}

TEST(Embeddings, GenerationAfterwardsIsUnchanged) {
    const auto opened = open_batch(demo_options(2));
    const SequenceId before = opened.batch->add(greedy_request(numbered(300, 30), 10)).value();
    const auto expected = run_all(*opened.batch).at(before).tokens;
    opened.batch->drop_prefixes();
    ASSERT_TRUE(opened.batch->add(EmbeddingRequest{numbered(300, 30), Pooling::kMean}));
    run_all(*opened.batch);
    const SequenceId after = opened.batch->add(greedy_request(numbered(300, 30), 10)).value();
    EXPECT_EQ(run_all(*opened.batch).at(after).tokens, expected);
}

}  // namespace
}  // namespace hypura::engine
