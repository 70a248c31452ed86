// The small pure functions of the command line.
#include "base/bytes.h"
#include "cli/console.h"
#include "cli/conversation.h"
#include "cli/exit_codes.h"
#include "cli/line_input.h"
#include "cli/model_facts.h"
#include "cli/verify_report.h"

#include <gtest/gtest.h>
#include <nlohmann/json.hpp>

#include <set>

namespace hypura::cli {
namespace {

using Tokens = std::vector<engine::Token>;

TEST(ExitCodes, AreDistinctAndNeverSuccess) {
    std::set<int> seen;
    for (int i = 0; i <= static_cast<int>(ErrorCode::kInternal); ++i) {
        const int code = exit_code(static_cast<ErrorCode>(i));
        EXPECT_NE(code, kExitOk);
        EXPECT_TRUE(seen.insert(code).second) << to_string(static_cast<ErrorCode>(i));
    }
    for (const ModelFlaw flaw : {ModelFlaw::kAbsurdCount, ModelFlaw::kTruncated, ModelFlaw::kMisaligned,
                                 ModelFlaw::kOverlap, ModelFlaw::kMissingPart})
        EXPECT_TRUE(seen.insert(exit_code(flawed(flaw, "m.gguf").error())).second) << static_cast<int>(flaw);
}

TEST(ProgressLine, ShowsShareRateAndRemainingTime) {
    const std::string line = progress_line({"loading", ProgressUnit::kBytes, kGiB, 4 * kGiB, 2'000'000});
    EXPECT_EQ(line, "loading  [######..................]  25%  1.00 GiB of 4.00 GiB  512 MiB/s  6 s left");
}

TEST(ProgressLine, CountsTokens) {
    const std::string line = progress_line({"prompt", ProgressUnit::kTokens, 100, 200, 4'000'000});
    EXPECT_TRUE(line.ends_with("100 of 200 tokens  25.0 tok/s  4 s left")) << line;
}

TEST(ProgressLine, NothingDoneYetPromisesNothing) {
    EXPECT_FALSE(progress_line({"loading", ProgressUnit::kBytes, 0, 0, 0}).contains("left"));
}

TEST(ChatLine, QuestionsAndCommands) {
    using Kind = ChatLine::Kind;
    EXPECT_EQ(parse_chat_line("  ").kind, Kind::kNothing);
    EXPECT_EQ(parse_chat_line(" hello there ").text, "hello there");
    EXPECT_EQ(parse_chat_line("/exit").kind, Kind::kExit);
    EXPECT_EQ(parse_chat_line("/system  Be brief. ").text, "Be brief.");
    EXPECT_EQ(parse_chat_line("/clear").kind, Kind::kClear);
    EXPECT_EQ(parse_chat_line("/sing a song").kind, Kind::kUnknown);
    EXPECT_EQ(parse_chat_line("/sing a song").text, "/sing");
}

TEST(ReusableTokens, CommonPrefixButNeverAllOfThePrompt) {
    EXPECT_EQ(reusable_tokens(Tokens{1, 2, 3}, Tokens{1, 2, 4, 5}), 2U);
    EXPECT_EQ(reusable_tokens(Tokens{1, 2, 3}, Tokens{1, 2, 3}), 2U);
    EXPECT_EQ(reusable_tokens(Tokens{1, 2, 3}, Tokens{1}), 0U);
    EXPECT_EQ(reusable_tokens(Tokens{}, Tokens{1}), 0U);
    EXPECT_EQ(reusable_tokens(Tokens{1}, Tokens{}), 0U);
}

TEST(CompactLayers, JoinsEqualNeighbours) {
    EXPECT_EQ(compact_layers(std::vector<uint64_t>{5, 5, 5, 9, 0, 0}), "0-2: 5, 3: 9, 4-5: 0");
    EXPECT_EQ(compact_layers({}), "");
}

engine::VerifyResult verify_result(uint64_t different) {
    engine::VerifyRun run;
    run.budget = "smallest pool";
    run.logits_compared = 1000;
    run.logits_different = different;
    run.report.evictions_by_layer = {1, 1};
    run.report.notes = {"6 expert tensors streamed"};
    return {{run}};
}

TEST(VerifyText, TableDetailsAndVerdict) {
    const std::string same = verify_text(verify_result(0));
    EXPECT_TRUE(same.contains("smallest pool")) << same;
    EXPECT_TRUE(same.contains("evictions by layer: 0-1: 1")) << same;
    EXPECT_TRUE(same.contains("6 expert tensors streamed")) << same;
    EXPECT_TRUE(same.contains("identical")) << same;
    EXPECT_TRUE(verify_text(verify_result(3)).contains("DIFFERENT"));
}

TEST(VerifyJson, SaysWhereTheDifferenceBegins) {
    const auto json = nlohmann::json::parse(verify_json(verify_result(3)));
    EXPECT_EQ(json["identical"], false);
    EXPECT_EQ(json["runs"][0]["logits_different"], 3);
    EXPECT_TRUE(json["runs"][0].contains("first_difference_row"));
}

gguf::ModelFile tiny_model() {
    gguf::ModelFile file;
    file.parts.push_back({.path = "tiny.gguf", .size_bytes = 5000});
    file.metadata["general.architecture"] = std::string("qwen3moe");
    const gguf::ElementType f32{0, "f32", 1, 4};
    const gguf::ElementType q4{12, "q4_K", 256, 144};
    file.tensors.push_back({.name = "token_embd.weight", .type = f32, .size_bytes = 1000});
    file.tensors.push_back({.name = "blk.0.ffn_up_exps.weight", .type = q4, .size_bytes = 2000});
    file.tensors.push_back({.name = "blk.0.ffn_down_exps.weight", .type = q4, .size_bytes = 2000});
    file.tensor_bytes = 5000;
    return file;
}

TEST(ModelFacts, AddsUpByTypeAndRole) {
    const ModelFacts facts = model_facts(tiny_model());
    EXPECT_EQ(facts.by_type.at("q4_K").tensors, 2U);
    EXPECT_EQ(facts.by_type.at("q4_K").bytes, 4000U);
    EXPECT_EQ(facts.by_role.at("experts").bytes, 4000U);
    EXPECT_EQ(facts.by_role.at("embedding").tensors, 1U);
}

TEST(ModelFacts, TextAndJson) {
    const ModelFacts facts = model_facts(tiny_model());
    EXPECT_TRUE(facts_text(facts).contains("qwen3moe"));
    const auto json = nlohmann::json::parse(facts_json(facts));
    EXPECT_EQ(json["tensor_bytes"], 5000);
    EXPECT_EQ(json["types"]["q4_K"]["tensors"], 2);
    EXPECT_EQ(json["parts"][0]["path"], "tiny.gguf");
}

}  // namespace
}  // namespace hypura::cli
