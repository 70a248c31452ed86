#include "engine/sampler.h"

#include "engine/batch_support.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>

namespace hypura::engine {
namespace {

using namespace test;
using testing::HasSubstr;

std::string text_of(const Engine& engine, const std::vector<Token>& tokens) {
    std::string text;
    for (const Token token : tokens) text += engine.piece(token, false);
    return text;
}

Outcome run_one(const Opened& opened, GenerateRequest request) {
    const SequenceId id = opened.batch->add(std::move(request)).value();
    return run_all(*opened.batch).at(id);
}

TEST(Logprobs, AreASoftmaxOfTheLogits) {
    const std::vector<float> logits = {1.0F, 3.0F, 2.0F, -1000.0F};
    const auto top = top_logprobs(logits, 2);
    ASSERT_EQ(top.size(), 2u);
    EXPECT_EQ(top[0].token, 1);
    EXPECT_EQ(top[1].token, 2);
    const double sum = std::exp(1.0) + std::exp(3.0) + std::exp(2.0);
    EXPECT_NEAR(top[0].logprob, 3.0 - std::log(sum), 1e-6);
    EXPECT_NEAR(logprob_of(logits, 0), 1.0 - std::log(sum), 1e-6);
    EXPECT_EQ(top_logprobs(logits, 9).size(), 4u);
    EXPECT_TRUE(top_logprobs(logits, 0).empty());
}

TEST(Logprobs, ComeWithEachTokenThatWantsThem) {
    const auto opened = open_batch(demo_options(1));
    GenerateRequest request = greedy_request(chat_prompt(*opened.engine, "What is a cache?"), 5);
    request.top_logprobs = 3;
    for (const Sampled& sampled : run_one(opened, request).sampled) {
        ASSERT_EQ(sampled.top.size(), 3u);
        EXPECT_EQ(sampled.top[0].token, sampled.token);  // greedy takes the likeliest
        EXPECT_FLOAT_EQ(sampled.top[0].logprob, sampled.logprob);
        EXPECT_GE(sampled.top[1].logprob, sampled.top[2].logprob);
        EXPECT_LE(sampled.logprob, 0.0F);
    }
}

TEST(GrammarSampling, TextFollowsTheGrammar) {
    const auto opened = open_batch(demo_options(2));
    GenerateRequest request = greedy_request(chat_prompt(*opened.engine, "Who are you?"), 40);
    request.sampling.grammar = Grammar{
        .text = R"(root ::= "{\"answer\": " ("true" | "false") "}")", .trigger_patterns = {}, .trigger_tokens = {}};
    const Outcome constrained = run_one(opened, request);
    EXPECT_THAT(text_of(*opened.engine, constrained.tokens),
                testing::AnyOf(R"({"answer": true})", R"({"answer": false})"));
    EXPECT_EQ(constrained.finished.reason, FinishReason::kEndOfText);

    request.sampling = {.temperature = 1.5F, .seed = 3, .biases = {}, .grammar = request.sampling.grammar};
    EXPECT_THAT(text_of(*opened.engine, run_one(opened, request).tokens),
                testing::AnyOf(R"({"answer": true})", R"({"answer": false})"));
}

TEST(GrammarSampling, ALazyGrammarWaitsForItsTrigger) {
    const auto opened = open_batch(demo_options(1));
    const GenerateRequest free_one = greedy_request(chat_prompt(*opened.engine, "What is a cache?"), 25);
    const auto expected = run_one(opened, free_one).tokens;
    GenerateRequest request = free_one;
    request.sampling.grammar = Grammar{.text = R"(root ::= "<tool>" [a-z]+)",
                                       .trigger_patterns = {"[\\s\\S]*?(<tool>)[\\s\\S]*"},
                                       .trigger_tokens = {}};
    EXPECT_EQ(run_one(opened, request).tokens, expected);  // never triggered

    ASSERT_GE(expected.size(), 3u);
    request.sampling.grammar = Grammar{.text = "root ::= \"" + opened.engine->piece(expected[1], false) + "\" \"zz\"",
                                       .trigger_patterns = {},
                                       .trigger_tokens = {expected[1]}};
    const std::string text = text_of(*opened.engine, run_one(opened, request).tokens);
    EXPECT_THAT(text, testing::EndsWith("zz"));
}

TEST(GrammarSampling, OnesThatDoNotParseAreRefused) {
    const auto opened = open_batch(demo_options(1));
    GenerateRequest request = greedy_request({300}, 1);
    request.sampling.grammar = Grammar{.text = "root ::= missing", .trigger_patterns = {}, .trigger_tokens = {}};
    const auto refused = opened.batch->add(request);
    ASSERT_FALSE(refused);
    EXPECT_EQ(refused.error().code, ErrorCode::kInvalidArgument);
    EXPECT_THAT(refused.error().message, HasSubstr("grammar"));
}

TEST(Biases, ForbidAndForce) {
    const auto opened = open_batch(demo_options(1));
    GenerateRequest request = greedy_request(chat_prompt(*opened.engine, "What is a cache?"), 3);
    const Token first = run_one(opened, request).tokens.at(0);
    request.sampling.biases = {{first, -INFINITY}};
    EXPECT_NE(run_one(opened, request).tokens.at(0), first);
    request.sampling.biases = {{777, 1000.0F}};
    EXPECT_EQ(run_one(opened, request).tokens, (std::vector<Token>{777, 777, 777}));
    request.sampling.biases = {{1 << 30, 1.0F}};
    EXPECT_EQ(opened.batch->add(request).error().code, ErrorCode::kInvalidArgument);
}

TEST(Penalties, FrequencyMovesAwayFromRepetition) {
    const auto opened = open_batch(demo_options(1));
    GenerateRequest request = greedy_request(numbered(300, 4), 4);
    request.sampling.biases = {{777, 1000.0F}, {778, 999.0F}};
    EXPECT_EQ(run_one(opened, request).tokens, (std::vector<Token>{777, 777, 777, 777}));
    request.sampling.presence_penalty = 500.0F;
    const auto tokens = run_one(opened, request).tokens;
    EXPECT_EQ(tokens.at(0), 777);
    EXPECT_EQ(tokens.at(1), 778);
}

}  // namespace
}  // namespace hypura::engine
