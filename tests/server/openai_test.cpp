// OpenAI's chat completions, completions and embeddings.
#include "server/openai.h"
#include "server/sse.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace hypura::server::openai {
namespace {

ApiResult<Request> chat(const char* text) { return parse_chat(*parse_body(text)); }

TEST(OpenAiRequest, ReadsLimitsUnderBothNames) {
    EXPECT_EQ(chat(R"({"model":"m","messages":[{"role":"user","content":"x"}],"max_tokens":5})")->max_tokens, 5);
    EXPECT_EQ(chat(R"({"model":"m","messages":[{"role":"user","content":"x"}],"max_tokens":5,
                       "max_completion_tokens":7})")
                  ->max_tokens,
              7);
    EXPECT_FALSE(chat(R"({"model":"m","messages":[{"role":"user","content":"x"}]})")->stream);
}

TEST(OpenAiRequest, PartsAreJoinedAndImagesRefused) {
    const auto request = chat(R"({"model":"m","messages":[{"role":"developer","content":[{"type":"text","text":"a"},
                                  {"type":"text","text":"b"}]}]})");
    const auto& message = std::get<ChatPrompt>(request->prompt).messages.at(0);
    EXPECT_EQ(message.text, "ab");
    EXPECT_EQ(message.role, "system");
    const auto image = chat(R"({"model":"m","messages":[{"role":"user","content":[{"type":"image_url",
                                "image_url":{"url":"data:image/png;base64,xx"}}]}]})");
    EXPECT_EQ(image.error().message, "m does not support images");
    EXPECT_EQ(image.error().status, 400);
    const auto sound = chat(R"({"model":"m","messages":[{"role":"user","content":[{"type":"input_audio",
                                "input_audio":{"data":"xx","format":"wav"}}]}]})");
    EXPECT_EQ(sound.error().message, "m does not support audio");
}

TEST(OpenAiRequest, ToolChoice) {
    const auto choice = [](const std::string& text) {
        const std::string body =
            R"({"model":"m","messages":[{"role":"user","content":"x"}],"tool_choice":)" + text + "}";
        return chat(body.c_str());
    };
    EXPECT_EQ(std::get<ChatPrompt>(choice("\"none\"")->prompt).tool_choice, ToolChoice::kNone);
    EXPECT_EQ(std::get<ChatPrompt>(choice("\"required\"")->prompt).tool_choice, ToolChoice::kRequired);
    const auto named = choice(R"({"type":"function","function":{"name":"f"}})");
    EXPECT_EQ(std::get<ChatPrompt>(named->prompt).required_tool, "f");
    EXPECT_FALSE(choice("\"sometimes\"").has_value());
}

TEST(OpenAiRequest, ResponseFormatsAndReasoning) {
    const auto schema = chat(R"({"model":"m","messages":[{"role":"user","content":"x"}],"reasoning_effort":"none",
        "response_format":{"type":"json_schema","json_schema":{"name":"n","schema":{"type":"object"}}}})");
    EXPECT_EQ(schema->format.kind, FormatKind::kSchema);
    EXPECT_EQ(schema->format.schema, R"({"type":"object"})");
    EXPECT_EQ(schema->think, false);
    const auto grammar = chat(R"({"model":"m","messages":[{"role":"user","content":"x"}],"grammar":"root ::= \"a\"",
        "chat_template_kwargs":{"enable_thinking":true}})");
    EXPECT_EQ(grammar->format.kind, FormatKind::kGrammar);
    EXPECT_EQ(grammar->think, true);
}

TEST(OpenAiRequest, CompletionsTakeTextOrTokens) {
    const auto parse = [](const char* text) { return parse_completion(*parse_body(text)); };
    EXPECT_EQ(std::get<TextPrompt>(parse(R"({"model":"m","prompt":"x"})")->prompt).text, "x");
    EXPECT_EQ(std::get<TextPrompt>(parse(R"({"model":"m","prompt":["x"]})")->prompt).text, "x");
    EXPECT_THAT(parse(R"({"model":"m","prompt":[1,2,3]})")->prefix_tokens, testing::ElementsAre(1, 2, 3));
    EXPECT_FALSE(parse(R"({"model":"m","prompt":["x","y"]})").has_value());
}

TEST(OpenAiReply, AStreamIsInTheOrderThatClientsNeed) {
    const auto reply = chat_reply({.model = "m", .include_usage = true});
    const auto events = parse_sse(play(*reply, full_answer()));
    ASSERT_EQ(events.size(), 9U);
    EXPECT_EQ(events[0].json["choices"][0]["delta"]["role"], "assistant");
    EXPECT_EQ(events[0].json["choices"][0]["delta"]["content"], "");
    EXPECT_EQ(events[1].json["choices"][0]["delta"]["reasoning"], "hm");
    EXPECT_EQ(events[1].json["choices"][0]["delta"]["reasoning_content"], "hm");
    EXPECT_EQ(events[2].json["choices"][0]["delta"]["content"], "Hel");
    const Json& call = events[5].json["choices"][0]["delta"]["tool_calls"][0];
    EXPECT_EQ(call["index"], 1);
    EXPECT_EQ(call["type"], "function");
    EXPECT_EQ(call["id"], "call_2");
    EXPECT_EQ(call["function"]["arguments"], "{}");
    EXPECT_EQ(events[6].json["choices"][0]["finish_reason"], "tool_calls");
    EXPECT_TRUE(events[7].json["choices"].empty());
    EXPECT_EQ(events[7].json["usage"]["prompt_tokens_details"]["cached_tokens"], 4);
    EXPECT_EQ(events[8].data, "[DONE]");
    for (size_t i = 1; i < 8; ++i) {
        EXPECT_EQ(events[i].json["id"], events[0].json["id"]);
        EXPECT_EQ(events[i].json["created"], events[0].json["created"]);
    }
}

TEST(OpenAiReply, UsageOnlyWhenAskedForAndNoDoneAfterAnError) {
    const auto quiet = parse_sse(play(*chat_reply({.model = "m", .include_usage = false}), {done_event()}));
    ASSERT_EQ(quiet.size(), 3U);
    EXPECT_EQ(quiet[2].data, "[DONE]");
    const auto failed = parse_sse(play(*chat_reply({.model = "m"}), {TextEvent{"a", {}}, FailedEvent{{500, "gone"}}}));
    EXPECT_EQ(failed.back().json["error"]["message"], "gone");
    EXPECT_EQ(failed.back().json["error"]["type"], "api_error");
}

TEST(OpenAiReply, TheWholeAnswer) {
    const Json json = Json::parse(chat_reply({.model = "m"})->whole(gather(full_answer())));
    const Json& choice = json["choices"][0];
    EXPECT_EQ(choice["message"]["content"], "Hello");
    EXPECT_EQ(choice["message"]["tool_calls"][0]["function"]["arguments"], R"({"city":"Oslo","days":2})");
    EXPECT_EQ(choice["finish_reason"], "tool_calls");
    EXPECT_EQ(json["usage"]["total_tokens"], 13);
    const Json text =
        Json::parse(completion_reply({.model = "m"})->whole(gather({TextEvent{"abc", {}}, done_event()})));
    EXPECT_EQ(text["object"], "text_completion");
    EXPECT_EQ(text["choices"][0]["text"], "abc");
}

TEST(OpenAiReply, LengthIsLengthAlsoWithTools) {
    auto events = full_answer();
    std::get<DoneEvent>(events.back()).finish = Finish::kLength;
    const Json json = Json::parse(chat_reply({.model = "m"})->whole(gather(events)));
    EXPECT_EQ(json["choices"][0]["finish_reason"], "length");
}

TEST(OpenAiErrors, HaveTypesAndTheContextsSize) {
    EXPECT_EQ(error_json(model_not_found("m"))["error"]["type"], "not_found_error");
    const Json json = error_json(context_exceeded(9000, 4096))["error"];
    EXPECT_EQ(json["type"], "exceed_context_size_error");
    EXPECT_EQ(json["n_prompt_tokens"], 9000);
    EXPECT_EQ(json["message"],
              "request (9000 tokens) exceeds the available context size (4096 tokens), try increasing it");
}

TEST(OpenAiEmbeddings, Base64IsTheFloatsOfTheOtherForm) {
    EmbedRequest request{.model = "m"};
    const Embeddings embeddings{.vectors = {{1.0F, -2.5F}}, .prompt_tokens = 3};
    EXPECT_EQ(Json::parse(embeddings_body(request, embeddings))["data"][0]["embedding"], Json({1.0, -2.5}));
    request.base64 = true;
    EXPECT_EQ(Json::parse(embeddings_body(request, embeddings))["data"][0]["embedding"], "AACAPwAAIMA=");
}

TEST(OpenAiEmbeddings, InputsAreTextsOrTokens) {
    const auto parse = [](const char* text) { return parse_embeddings(*parse_body(text)); };
    EXPECT_EQ(parse(R"({"model":"m","input":""})")->inputs.size(), 1U);
    EXPECT_EQ(parse(R"({"model":"m","input":[1,2]})")->token_inputs.size(), 1U);
    EXPECT_EQ(parse(R"({"model":"m","input":[[1],[2]]})")->token_inputs.size(), 2U);
    EXPECT_EQ(parse(R"({"model":"m","input":[]})").error().message, "invalid input");
    EXPECT_EQ(parse(R"({"model":"m","input":null})").error().message, "invalid input");
    EXPECT_TRUE(parse(R"({"model":"m","input":"x","encoding_format":"base64"})")->base64);
}

}  // namespace
}  // namespace hypura::server::openai
