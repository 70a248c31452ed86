// Ollama's dialect: what clients send is understood, and what they get is what they parse.
#include "server/ollama.h"
#include "server/sse.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace hypura::server::ollama {
namespace {

ApiResult<Request> chat(const char* text) { return parse_chat(*parse_body(text)); }
ApiResult<Request> generate(const char* text) { return parse_generate(*parse_body(text)); }

TEST(OllamaRequest, ReadsTheBodyOfOpenClaw) {
    const auto request = chat(R"({"model":"tiny:latest","messages":[{"role":"System","content":"be brief"},
        {"role":"user","content":"hi"}],"stream":true,"think":false,"options":{"num_ctx":32768,"num_predict":8192},
        "truncate":false,"shift":false})");
    ASSERT_TRUE(request.has_value());
    EXPECT_EQ(request->model, "tiny:latest");
    EXPECT_EQ(request->context_tokens, 32768);
    EXPECT_EQ(request->max_tokens, 8192);
    EXPECT_FALSE(request->truncate);
    EXPECT_FALSE(request->shift);
    EXPECT_EQ(request->think, false);
    EXPECT_FALSE(request->think_must_be_supported);
    const auto& prompt = std::get<ChatPrompt>(request->prompt);
    ASSERT_EQ(prompt.messages.size(), 2U);
    EXPECT_EQ(prompt.messages[0].role, "system");
}

TEST(OllamaRequest, IsLenientWithOptions) {
    EXPECT_TRUE(chat(R"({"model":"m","messages":[{"content":"x"}],"options":null})").has_value());
    const auto request = chat(R"({"model":"m","messages":[{"role":"user","content":"x"}],"options":
        {"mirostat":1,"tfs_z":0.5,"seed":-1,"num_predict":-1,"num_ctx":4096.0,"temperature":null,"stop":"END","num_keep":9}})");
    ASSERT_TRUE(request.has_value());
    EXPECT_TRUE(request->shift);
    EXPECT_EQ(request->keep_tokens, 9);
    EXPECT_EQ(request->sampling.seed, -1);
    EXPECT_EQ(request->context_tokens, 4096);
    EXPECT_THAT(request->stop, testing::ElementsAre("END"));
    const auto wrong = chat(R"({"model":"m","messages":[],"options":{"top_k":"many"}})");
    ASSERT_FALSE(wrong.has_value());
    EXPECT_EQ(wrong.error().status, 400);
    EXPECT_EQ(wrong.error().message, "option \"top_k\" must be of type integer");
}

TEST(OllamaRequest, RefusesWithTheTextsThatClientsMatch) {
    EXPECT_EQ(chat(R"({"messages":[]})").error().message, "model is required");
    EXPECT_EQ(chat(R"({"model":"m","messages":[],"top_logprobs":21})").error().message,
              "top_logprobs must be between 0 and 20");
    EXPECT_EQ(generate(R"({"model":"m","prompt":"x","raw":true,"system":"s"})").error().message,
              "raw mode does not support template, system, or context");
    EXPECT_EQ(chat(R"({"model":"m","messages":[{"role":"user","content":"x","images":["aGk="]}]})").error().message,
              "m does not support images");
}

TEST(OllamaRequest, FormatIsNothingJsonOrASchema) {
    EXPECT_EQ(chat(R"({"model":"m","messages":[],"format":""})")->format.kind, FormatKind::kText);
    EXPECT_EQ(chat(R"({"model":"m","messages":[],"format":"json"})")->format.kind, FormatKind::kJson);
    const auto schema = chat(R"({"model":"m","messages":[],"format":{"$schema":"x","type":"object"}})");
    EXPECT_EQ(schema->format.kind, FormatKind::kSchema);
    EXPECT_EQ(schema->format.schema, R"({"$schema":"x","type":"object"})");
    EXPECT_FALSE(chat(R"({"model":"m","messages":[],"format":"yaml"})").has_value());
}

TEST(OllamaRequest, ToolHistoryKeepsTheOrderOfArguments) {
    const auto request = chat(R"({"model":"m","messages":[{"role":"assistant","content":null,"tool_calls":[
        {"function":{"name":"f","arguments":{"z":1,"a":{"y":2,"b":3}}}}]},
        {"role":"tool","content":"42","tool_name":"f"}],
        "tools":[{"type":"function","function":{"name":"f","parameters":{"type":"object","properties":{}}}}]})");
    ASSERT_TRUE(request.has_value());
    const auto& prompt = std::get<ChatPrompt>(request->prompt);
    EXPECT_EQ(prompt.messages[0].tool_calls.at(0).arguments, R"({"z":1,"a":{"y":2,"b":3}})");
    EXPECT_EQ(prompt.messages[1].tool_name, "f");
    EXPECT_EQ(prompt.tools.at(0).name, "f");
}

TEST(OllamaRequest, NothingToSayMeansLoad) {
    EXPECT_TRUE(only_loads(*chat(R"({"model":"m"})")));
    EXPECT_FALSE(chat(R"({"model":"m"})")->stream);
    const auto unload = generate(R"({"model":"m","keep_alive":0})");
    EXPECT_TRUE(only_loads(*unload));
    EXPECT_EQ(unload->keep_alive, std::chrono::milliseconds(0));
    EXPECT_FALSE(only_loads(*generate(R"({"model":"m","prompt":"x"})")));
}

TEST(OllamaRequest, GenerateIsAChatOfOneTurnUnlessRawOrInfill) {
    const auto plain = generate(R"({"model":"m","prompt":"x","system":"s","suffix":"","template":"","context":[1,2]})");
    EXPECT_EQ(std::get<ChatPrompt>(plain->prompt).messages.size(), 2U);
    EXPECT_THAT(plain->prefix_tokens, testing::ElementsAre(1, 2));
    EXPECT_TRUE(plain->return_context);
    const auto raw = generate(R"({"model":"m","prompt":"x","raw":true})");
    EXPECT_EQ(std::get<TextPrompt>(raw->prompt).text, "x");
    EXPECT_FALSE(raw->return_context);
    EXPECT_EQ(std::get<TextPrompt>(generate(R"({"model":"m","prompt":"x","suffix":"y"})")->prompt).suffix, "y");
}

TEST(OllamaReply, AStreamEndsWithOneFinalObjectThatAloneHasMetrics) {
    Request request{.model = "Tiny"};
    const auto lines = parse_lines(play(*chat_reply(request), full_answer()));
    ASSERT_EQ(lines.size(), 6U);
    for (size_t i = 0; i < lines.size(); ++i) {
        const bool last = i + 1 == lines.size();
        EXPECT_EQ(lines[i]["model"], "Tiny");
        EXPECT_EQ(lines[i]["done"], last);
        EXPECT_EQ(lines[i].contains("eval_count"), last);
        EXPECT_TRUE(lines[i]["message"].is_object());
    }
    EXPECT_EQ(lines[0]["message"]["thinking"], "hm");
    EXPECT_EQ(lines[1]["message"]["content"], "Hel");
    EXPECT_EQ(lines[3]["message"]["tool_calls"][0]["function"]["arguments"].dump(), R"({"city":"Oslo","days":2})");
    EXPECT_EQ(lines[4]["message"]["tool_calls"][0]["function"]["index"], 1);
    EXPECT_EQ(lines[5]["done_reason"], "stop");
    EXPECT_EQ(lines[5]["prompt_eval_cached_count"], 4);
    EXPECT_EQ(lines[5]["message"]["content"], "");
}

TEST(OllamaReply, TheWholeIsTheStreamJoined) {
    Request request{.model = "m"};
    const Json json = Json::parse(chat_reply(request)->whole(gather(full_answer())));
    EXPECT_EQ(json["message"]["content"], "Hello");
    EXPECT_EQ(json["message"]["thinking"], "hm");
    EXPECT_EQ(json["message"]["tool_calls"].size(), 2U);
    EXPECT_EQ(json["eval_count"], 3);
    const Json generated = Json::parse(generate_reply(request)->whole(gather(full_answer())));
    EXPECT_EQ(generated["response"], "Hello");
}

TEST(OllamaReply, KeepAliveIsAnEmptyChunkAndAnErrorIsTheLastLine) {
    Request request{.model = "m"};
    const auto reply = generate_reply(request);
    EXPECT_EQ(reply->event(ProgressEvent{10, 40}), "");
    EXPECT_EQ(Json::parse(reply->keep_alive())["prompt_progress"], Json({{"total", 40}, {"processed", 10}}));
    EXPECT_EQ(reply->event(ProgressEvent{40, 40}), "");
    const Json alive = Json::parse(reply->keep_alive());
    EXPECT_FALSE(alive.contains("prompt_progress"));
    EXPECT_EQ(alive["done"], false);
    EXPECT_EQ(alive["response"], "");
    const Json error = Json::parse(reply->event(FailedEvent{{500, "the disk is gone"}}));
    EXPECT_EQ(error["error"], "the disk is gone");
    EXPECT_EQ(error["status"], 500);
}

TEST(OllamaReply, LoadingHasNoMetrics) {
    Answer answer;
    answer.done.finish = Finish::kUnload;
    const Json json = Json::parse(chat_reply({.model = "m"})->whole(answer));
    EXPECT_EQ(json["done_reason"], "unload");
    EXPECT_FALSE(json.contains("eval_count"));
}

TEST(OllamaReply, LogprobsStandWithTheirChunk) {
    const TokenLogprob token{"a", -0.5, {{"a", -0.5, {}}, {"b", -1.5, {}}}};
    const auto reply = chat_reply({.model = "m"});
    const Json line = Json::parse(reply->event(TextEvent{"a", {token}}));
    EXPECT_EQ(line["logprobs"][0]["token"], "a");
    EXPECT_EQ(line["logprobs"][0]["bytes"][0], 97);
    EXPECT_EQ(line["logprobs"][0]["top_logprobs"].size(), 2U);
}

TEST(OllamaEmbed, TakesOneOrManyInputs) {
    EXPECT_EQ(parse_embed(*parse_body(R"({"model":"m","input":"x"})"))->inputs.size(), 1U);
    EXPECT_EQ(parse_embed(*parse_body(R"({"model":"m","input":["x","y"],"truncate":false})"))->inputs.size(), 2U);
    EXPECT_TRUE(parse_embed(*parse_body(R"({"model":"m","input":[]})"))->inputs.empty());
    EXPECT_EQ(parse_embed(*parse_body(R"({"model":"m","input":5})")).error().message, "invalid input type");
    EXPECT_FALSE(parse_embeddings(*parse_body(R"({"model":"m","prompt":"x"})"))->normalize);
    EXPECT_EQ(embeddings_body({}), R"({"embedding":[]})");
}

}  // namespace
}  // namespace hypura::server::ollama
