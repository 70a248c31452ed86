// Company and rounding: what docs/batching.md says about it, measured.
#include "engine/batch_support.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>

namespace hypura::engine {
namespace {

using namespace test;

// The log-probabilities of every token of the vocabulary, at each of the sequence's steps.
std::vector<std::vector<float>> rows_of(const Opened& opened, const std::vector<std::vector<Token>>& company,
                                        size_t wanted) {
    std::vector<SequenceId> ids;
    for (const auto& prompt : company) {
        GenerateRequest request = greedy_request(prompt, 6);
        request.top_logprobs = opened.engine->vocabulary_tokens();
        ids.push_back(opened.batch->add(request).value());
    }
    const Outcomes outcomes = run_all(*opened.batch);
    opened.batch->drop_prefixes();
    std::vector<std::vector<float>> rows;
    for (const Sampled& sampled : outcomes.at(ids[wanted]).sampled) {
        std::vector<float>& row = rows.emplace_back(sampled.top.size());
        for (const TokenLogprob& entry : sampled.top) row[static_cast<size_t>(entry.token)] = entry.logprob;
    }
    return rows;
}

double largest_difference(const std::vector<std::vector<float>>& a, const std::vector<std::vector<float>>& b) {
    double largest = a.size() == b.size() ? 0 : INFINITY;
    for (size_t row = 0; row < std::min(a.size(), b.size()); ++row)
        for (size_t i = 0; i < a[row].size(); ++i)
            largest = std::max(largest, static_cast<double>(std::abs(a[row][i] - b[row][i])));
    return largest;
}

class Company : public testing::TestWithParam<Mode> {
protected:
    Company() {
        EngineOptions options = demo_options(8);
        options.mode = GetParam();
        options.batch_tokens = 256;
        opened_ = open_batch(options);
        for (char letter = 'a'; letter < 'i'; ++letter)
            prompts_.push_back(chat_prompt(*opened_.engine, std::string("What is ") + letter + " cache?"));
    }

    // Of the first prompt's log-probabilities, with the first `sequences` prompts in the batch.
    double difference(size_t sequences) {
        const auto alone = rows_of(opened_, {prompts_[0]}, 0);
        std::vector<std::vector<Token>> company(prompts_.begin(), prompts_.begin() + static_cast<ptrdiff_t>(sequences));
        std::ranges::reverse(company);
        return largest_difference(alone, rows_of(opened_, company, sequences - 1));
    }

    Opened opened_;
    std::vector<std::vector<Token>> prompts_;
};

TEST_P(Company, ChangesNoBitInPassesOfFewerThan64Tokens) {
    ASSERT_LT(prompts_[0].size() * 4, 64u);
    for (const size_t sequences : {1, 2, 4}) EXPECT_EQ(difference(sequences), 0.0) << sequences;
}

// From 64 tokens on, libggml's attention works in tiles. Not a wish: were it exact, the documentation would be out of
// date.
TEST_P(Company, ChangesLastBitsInPassesOf64TokensAndMore) {
    ASSERT_GE(prompts_[0].size() * 8, 64u);
    EXPECT_GT(difference(8), 0.0);
    EXPECT_LT(difference(8), 1.0);
}

INSTANTIATE_TEST_SUITE_P(Batch, Company, testing::Values(Mode::kStream, Mode::kMmap),
                         [](const auto& mode) { return std::string(to_string(mode.param)); });

}  // namespace
}  // namespace hypura::engine
