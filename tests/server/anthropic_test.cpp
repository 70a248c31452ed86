// Anthropic's messages.
#include "server/anthropic.h"
#include "server/sse.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace hypura::server::anthropic {
namespace {

ApiResult<Request> messages(const char* text) { return parse_messages(*parse_body(text)); }

TEST(AnthropicRequest, BlocksBecomeMessages) {
    const auto request = messages(R"({"model":"m","max_tokens":100,"system":[{"type":"text","text":"be brief",
        "cache_control":{"type":"ephemeral"}}],"stop_sequences":["END"],"top_k":5,
        "messages":[{"role":"user","content":"hi"},
        {"role":"assistant","content":[{"type":"thinking","thinking":"hm","signature":""},{"type":"text","text":"wait"},
            {"type":"tool_use","id":"t1","name":"f","input":{"z":1,"a":2}}]},
        {"role":"user","content":[{"type":"tool_result","tool_use_id":"t1","content":[{"type":"text","text":"42"}]},
            {"type":"document","source":{}},{"type":"text","text":"go on"}]}],
        "tools":[{"name":"f","input_schema":{"type":"object"}},{"type":"web_search_20250305","name":"web_search"}],
        "tool_choice":{"type":"any"},"thinking":{"type":"enabled","budget_tokens":1024}})");
    ASSERT_TRUE(request.has_value()) << request.error().message;
    const auto& prompt = std::get<ChatPrompt>(request->prompt);
    ASSERT_EQ(prompt.messages.size(), 5U);
    EXPECT_EQ(prompt.messages[0].text, "be brief");
    EXPECT_EQ(prompt.messages[2].thinking, "hm");
    EXPECT_EQ(prompt.messages[2].tool_calls.at(0).arguments, R"({"z":1,"a":2})");
    EXPECT_EQ(prompt.messages[3].role, "tool");
    EXPECT_EQ(prompt.messages[3].text, "42");
    EXPECT_EQ(prompt.messages[4].text, "go on");
    EXPECT_EQ(prompt.tools.size(), 1U);
    EXPECT_EQ(prompt.tool_choice, ToolChoice::kRequired);
    EXPECT_EQ(request->think, true);
    EXPECT_THAT(request->stop, testing::ElementsAre("END"));
}

TEST(AnthropicRequest, OneCallAtATime) {
    const auto parallel = [](const std::string& choice) {
        const auto request = messages((R"({"model":"m","max_tokens":1,"messages":[{"role":"user","content":"x"}],)"
                                       R"("tools":[{"name":"f","input_schema":{}}],"tool_choice":)" +
                                       choice + "}")
                                          .c_str());
        return std::get<ChatPrompt>(request->prompt).parallel_tool_calls;
    };
    EXPECT_TRUE(parallel(R"({"type":"auto"})"));
    EXPECT_FALSE(parallel(R"({"type":"auto","disable_parallel_tool_use":true})"));
    EXPECT_FALSE(parallel(R"({"type":"tool","name":"f","disable_parallel_tool_use":true})"));
}

TEST(AnthropicRequest, EffortDoesNotSwitchThinkingOn) {
    const auto think = [](const std::string& more) {
        const auto request = messages(
            (R"({"model":"m","max_tokens":1,"messages":[{"role":"user","content":"x"}],"output_config":{"effort":"low"})" +
             more + "}")
                .c_str());
        EXPECT_EQ(request->think_effort, "low");
        return request->think;
    };
    EXPECT_EQ(think(""), true);
    EXPECT_EQ(think(R"(,"thinking":{"type":"adaptive"})"), true);
    EXPECT_EQ(think(R"(,"thinking":{"type":"disabled"})"), false);
}

TEST(AnthropicRequest, RequiresWhatTheApiRequires) {
    EXPECT_EQ(messages(R"({"model":"m","messages":[{"role":"user","content":"x"}]})").error().status, 400);
    EXPECT_EQ(messages(R"({"model":"m","max_tokens":5,"messages":[]})").error().status, 400);
    EXPECT_TRUE(
        parse_count_tokens(*parse_body(R"({"model":"m","messages":[{"role":"user","content":"x"}]})")).has_value());
}

TEST(AnthropicRequest, ImagesAreRefusedWhereverTheyStand) {
    const std::string image = R"({"type":"image","source":{"type":"base64","media_type":"image/png","data":"xx"}})";
    for (const std::string& block : {image, R"({"type":"tool_result","tool_use_id":"t","content":[)" + image + "]}"}) {
        const std::string body =
            R"({"model":"m","max_tokens":5,"messages":[{"role":"user","content":[)" + block + "]}]}";
        const auto request = messages(body.c_str());
        ASSERT_FALSE(request.has_value()) << block;
        EXPECT_EQ(request.error().status, 400);
        EXPECT_EQ(request.error().message, "m does not support images");
    }
}

TEST(AnthropicReply, BlocksAreOpenedFilledAndClosed) {
    const auto events = parse_sse(play(*messages_reply({.model = "m"}), full_answer()));
    std::vector<std::string> names;
    for (const SseEvent& event : events) names.push_back(event.name);
    const std::vector<std::string> expected = {"message_start",       "content_block_start", "content_block_delta",
                                               "content_block_delta", "content_block_stop",  "content_block_start",
                                               "content_block_delta", "content_block_delta", "content_block_stop",
                                               "content_block_start", "content_block_delta", "content_block_stop",
                                               "content_block_start", "content_block_delta", "content_block_stop",
                                               "message_delta",       "message_stop"};
    EXPECT_EQ(names, expected);
    EXPECT_EQ(events[3].json["delta"]["type"], "signature_delta");
    EXPECT_EQ(events[6].json["index"], 1);
    EXPECT_EQ(events[9].json["content_block"]["name"], "get_weather");
    EXPECT_EQ(events[10].json["delta"]["partial_json"], R"({"city":"Oslo","days":2})");
    EXPECT_EQ(events[15].json["delta"]["stop_reason"], "tool_use");
    EXPECT_EQ(events[15].json["usage"]["output_tokens"], 3);
    EXPECT_EQ(events[15].json["usage"]["cache_read_input_tokens"], 4);
}

TEST(AnthropicReply, StopReasons) {
    const auto reason = [](Finish finish) {
        DoneEvent done = done_event(finish);
        done.stop_string = "END";
        return Json::parse(messages_reply({.model = "m"})->whole(gather({TextEvent{"a", {}}, done})));
    };
    EXPECT_EQ(reason(Finish::kStop)["stop_reason"], "end_turn");
    EXPECT_EQ(reason(Finish::kLength)["stop_reason"], "max_tokens");
    EXPECT_EQ(reason(Finish::kStopString)["stop_reason"], "stop_sequence");
    EXPECT_EQ(reason(Finish::kStopString)["stop_sequence"], "END");
    EXPECT_TRUE(reason(Finish::kStop)["stop_sequence"].is_null());
}

TEST(AnthropicReply, TheWholeThePingAndTheError) {
    const auto reply = messages_reply({.model = "m"});
    const Json json = Json::parse(reply->whole(gather(full_answer())));
    ASSERT_EQ(json["content"].size(), 4U);
    EXPECT_EQ(json["content"][0]["type"], "thinking");
    EXPECT_EQ(json["content"][2]["input"].dump(), R"({"city":"Oslo","days":2})");
    EXPECT_EQ(reply->event(ProgressEvent{10, 40}), "");
    EXPECT_EQ(parse_sse(reply->keep_alive()).at(0).name, "ping");
    EXPECT_THAT(reply->keep_alive(), testing::StartsWith(": 10 of 40 prompt tokens read\n\nevent: ping\n"));
    const auto error = parse_sse(reply->event(FailedEvent{{500, "gone"}})).at(0);
    EXPECT_EQ(error.name, "error");
    EXPECT_EQ(error.json["error"]["type"], "api_error");
    EXPECT_EQ(error_json(model_not_found("m"))["error"]["type"], "not_found_error");
    EXPECT_EQ(error_json(queue_full())["error"]["type"], "overloaded_error");
}

}  // namespace
}  // namespace hypura::server::anthropic
