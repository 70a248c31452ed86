// OpenAI's Responses API.
#include "server/openai_responses.h"
#include "server/sse.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace hypura::server::openai {
namespace {

TEST(ResponsesRequest, ImagesAreRefused) {
    const auto request = parse_responses(*parse_body(R"({"model":"m","input":[{"role":"user","content":[
        {"type":"input_image","image_url":"data:image/png;base64,xx","detail":"auto"}]}]})"));
    ASSERT_FALSE(request.has_value());
    EXPECT_EQ(request.error().status, 400);
    EXPECT_EQ(request.error().message, "m does not support images");
}

TEST(ResponsesRequest, ItemsBecomeMessages) {
    const auto request = parse_responses(*parse_body(R"({"model":"m","instructions":"be brief","input":[
        {"role":"user","content":[{"type":"input_text","text":"hi"}]},
        {"type":"reasoning","summary":[{"type":"summary_text","text":"hm"}]},
        {"type":"function_call","call_id":"c1","name":"f","arguments":"{\"a\":1}"},
        {"type":"function_call_output","call_id":"c1","output":"42"}],
        "tools":[{"type":"function","name":"f","parameters":{"type":"object"}},{"type":"web_search"}],
        "text":{"format":{"type":"json_schema","name":"n","schema":{"type":"object"}}},
        "max_output_tokens":9,"store":true,"include":[],"parallel_tool_calls":true})"));
    ASSERT_TRUE(request.has_value()) << request.error().message;
    const auto& prompt = std::get<ChatPrompt>(request->prompt);
    ASSERT_EQ(prompt.messages.size(), 4U);
    EXPECT_EQ(prompt.messages[0].role, "system");
    EXPECT_EQ(prompt.messages[2].thinking, "hm");
    EXPECT_EQ(prompt.messages[2].tool_calls.at(0).arguments, R"({"a":1})");
    EXPECT_EQ(prompt.messages[3].tool_call_id, "c1");
    EXPECT_EQ(prompt.tools.size(), 1U);
    EXPECT_EQ(request->format.kind, FormatKind::kSchema);
    EXPECT_EQ(request->max_tokens, 9);
}

TEST(ResponsesRequest, SomethingMustBeAsked) {
    EXPECT_EQ(parse_responses(*parse_body(R"({"model":"m"})")).error().status, 400);
    EXPECT_EQ(parse_responses(*parse_body(R"({"model":"m","input":[]})")).error().status, 400);
    EXPECT_TRUE(parse_responses(*parse_body(R"({"model":"m","input":[],"instructions":"greet me"})")).has_value());
}

TEST(ResponsesRequest, NothingIsStored) {
    const auto request = parse_responses(*parse_body(R"({"model":"m","input":"x","previous_response_id":"resp_1"})"));
    EXPECT_EQ(request.error().status, 400);
}

TEST(ResponsesReply, SaysWhatWasAskedFor) {
    const auto request = parse_responses(*parse_body(R"({"model":"m","input":"x","parallel_tool_calls":false,
        "tools":[{"type":"function","name":"f"}],"tool_choice":{"type":"function","name":"f"},
        "reasoning":{"effort":"low"},"text":{"format":{"type":"json_schema","name":"n","schema":{"type":"object"}}}})"));
    ASSERT_TRUE(request.has_value()) << request.error().message;
    EXPECT_FALSE(std::get<ChatPrompt>(request->prompt).parallel_tool_calls);
    const Json json = Json::parse(responses_reply(*request)->whole(gather(full_answer())));
    EXPECT_EQ(json["parallel_tool_calls"], false);
    EXPECT_EQ(json["tool_choice"]["name"], "f");
    EXPECT_EQ(json["reasoning"]["effort"], "low");
    EXPECT_EQ(json["text"]["format"]["schema"], Json({{"type", "object"}}));
    EXPECT_EQ(json["tools"][0]["name"], "f");
}

TEST(ResponsesReply, LogprobsComeWithTheirText) {
    const auto request = parse_responses(
        *parse_body(R"({"model":"m","input":"x","include":["message.output_text.logprobs"],"top_logprobs":1})"));
    EXPECT_TRUE(request->logprobs);
    EXPECT_EQ(request->top_logprobs, 1U);
    EXPECT_EQ(parse_responses(*parse_body(R"({"model":"m","input":"x","top_logprobs":21})")).error().status, 400);
    const TokenLogprob first{"He", -0.5, {{"He", -0.5, {}}}}, second{"y", -1, {{"llo", -0.25, {}}}};
    const std::vector<Event> events = {TextEvent{"He", {first}}, TextEvent{"y", {second}}, done_event()};
    const Json whole = Json::parse(responses_reply(*request)->whole(gather(events)));
    const Json& logprobs = whole["output"][0]["content"][0]["logprobs"];
    ASSERT_EQ(logprobs.size(), 2U);
    EXPECT_EQ(logprobs[1]["token"], "y");
    EXPECT_EQ(logprobs[1]["top_logprobs"][0]["token"], "llo");
    const auto stream = parse_sse(play(*responses_reply(*request), events));
    EXPECT_EQ(stream.back().json["response"]["output"][0]["content"][0]["logprobs"], logprobs);
    for (SseEvent event : stream) {
        const bool delta = event.name == "response.output_text.delta";
        EXPECT_EQ(event.json["logprobs"].size(), delta ? 1U : event.name == "response.output_text.done" ? 2U : 0U);
    }
}

TEST(ResponsesReply, EventsBuildTheResponseItemByItem) {
    Request request{.model = "m", .prompt = ChatPrompt{}};
    const auto events = parse_sse(play(*responses_reply(request), full_answer()));
    std::vector<std::string> names;
    for (size_t i = 0; i < events.size(); ++i) {
        names.push_back(events[i].name);
        EXPECT_EQ(events[i].json["sequence_number"], i);
        EXPECT_EQ(events[i].json["type"], events[i].name);
    }
    const std::vector<std::string> call = {"response.output_item.added", "response.function_call_arguments.delta",
                                           "response.function_call_arguments.done", "response.output_item.done"};
    std::vector<std::string> expected = {"response.created",
                                         "response.in_progress",
                                         "response.output_item.added",
                                         "response.reasoning_summary_part.added",
                                         "response.reasoning_summary_text.delta",
                                         "response.reasoning_summary_text.done",
                                         "response.reasoning_summary_part.done",
                                         "response.output_item.done",
                                         "response.output_item.added",
                                         "response.content_part.added",
                                         "response.output_text.delta",
                                         "response.output_text.delta",
                                         "response.output_text.done",
                                         "response.content_part.done",
                                         "response.output_item.done"};
    expected.insert(expected.end(), call.begin(), call.end());
    expected.insert(expected.end(), call.begin(), call.end());
    expected.emplace_back("response.completed");
    EXPECT_EQ(names, expected);

    const Json& response = events.back().json["response"];
    ASSERT_EQ(response["output"].size(), 4U);
    EXPECT_EQ(response["output"][1]["content"][0]["text"], "Hello");
    EXPECT_EQ(response["output"][2]["call_id"], "call_1");
    EXPECT_EQ(response["usage"]["total_tokens"], 13);
    EXPECT_EQ(response["status"], "completed");
    EXPECT_EQ(events.front().json["response"]["id"], response["id"]);
}

TEST(ResponsesReply, TheWholeAndTheFailedOne) {
    Request request{.model = "m", .prompt = ChatPrompt{}};
    const Json json = Json::parse(responses_reply(request)->whole(gather(full_answer())));
    EXPECT_EQ(json["output"].size(), 4U);
    auto cut = gather({TextEvent{"a", {}}, done_event(Finish::kLength)});
    EXPECT_EQ(Json::parse(responses_reply(request)->whole(cut))["status"], "incomplete");

    const auto events = parse_sse(play(*responses_reply(request), {TextEvent{"a", {}}, FailedEvent{{500, "gone"}}}));
    EXPECT_EQ(events[events.size() - 2].name, "response.failed");
    EXPECT_EQ(events.back().name, "error");
    EXPECT_EQ(events.back().json["message"], "gone");
}

TEST(ResponsesReply, ProgressIsAComment) {
    Request request{.model = "m", .prompt = ChatPrompt{}};
    const auto reply = responses_reply(request);
    EXPECT_EQ(reply->keep_alive(), ": still working\n\n");
    EXPECT_EQ(reply->event(ProgressEvent{1, 2}), "");
    EXPECT_EQ(reply->keep_alive(), ": 1 of 2 prompt tokens read\n\n");
}

TEST(ResponsesReply, AnEmptyAnswerIsAnEmptyMessage) {
    Request request{.model = "m", .prompt = ChatPrompt{}};
    const auto events = parse_sse(play(*responses_reply(request), {done_event()}));
    EXPECT_EQ(events.back().json["response"]["output"][0]["content"][0]["text"], "");
}

}  // namespace
}  // namespace hypura::server::openai
