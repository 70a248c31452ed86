// Responses of the Responses API: a response object, and a stream of events that builds it item by item.
#include "server/openai.h"
#include "server/openai_responses.h"
#include "server/text_util.h"

namespace hypura::server::openai {
namespace {

Json reasoning_item(const std::string& id, const std::string& text) {
    return {{"id", id}, {"type", "reasoning"}, {"summary", Json::array({{{"type", "summary_text"}, {"text", text}}})}};
}

Json logprobs_json(const std::vector<TokenLogprob>& entries) {
    Json list = Json::array();
    for (const TokenLogprob& entry : entries) {
        Json json = logprob_json(entry);
        json["top_logprobs"] = Json::array();
        for (const TokenLogprob& other : entry.top) json["top_logprobs"].push_back(logprob_json(other));
        list.push_back(std::move(json));
    }
    return list;
}

Json text_part(const std::string& text, Json logprobs = Json::array()) {
    return {{"type", "output_text"}, {"text", text}, {"annotations", Json::array()}, {"logprobs", std::move(logprobs)}};
}

Json message_item(const std::string& id, const std::string& status, Json content) {
    return {
        {"id", id}, {"type", "message"}, {"status", status}, {"role", "assistant"}, {"content", std::move(content)}};
}

Json call_item(const std::string& id, const std::string& status, const ToolCall& call, const std::string& arguments) {
    return {{"id", id},           {"type", "function_call"}, {"status", status},
            {"call_id", call.id}, {"name", call.name},       {"arguments", arguments}};
}

Json usage(const Usage& usage) {
    return {{"input_tokens", usage.prompt_tokens},
            {"input_tokens_details", {{"cached_tokens", usage.cached_prompt_tokens}}},
            {"output_tokens", usage.answer_tokens},
            {"output_tokens_details", {{"reasoning_tokens", 0}}},
            {"total_tokens", usage.prompt_tokens + usage.answer_tokens}};
}

Json tools_json(const Request& request) {
    Json list = Json::array();
    for (const Tool& tool : std::get<ChatPrompt>(request.prompt).tools)
        list.push_back({{"type", "function"},
                        {"name", tool.name},
                        {"parameters", try_parse(tool.parameters).value_or(Json::object())},
                        {"strict", false}});
    return list;
}

Json tool_choice_json(const ChatPrompt& chat) {
    if (chat.tool_choice == ToolChoice::kNone) return "none";
    if (chat.tool_choice == ToolChoice::kAuto) return "auto";
    if (chat.required_tool.empty()) return "required";
    return {{"type", "function"}, {"name", chat.required_tool}};
}

Json format_json(const Format& format) {
    if (format.kind == FormatKind::kJson) return {{"type", "json_object"}};
    if (format.kind != FormatKind::kSchema) return {{"type", "text"}};
    return {{"type", "json_schema"},
            {"name", "schema"},
            {"schema", try_parse(format.schema).value_or(Json::object())},
            {"strict", true}};
}

Json effort_json(const Request& request) {
    if (request.think == false) return "none";
    return request.think_effort.empty() ? Json() : Json(request.think_effort);
}

// The whole field set that strict clients expect, but for output, status and usage.
Json response_head(const Request& request) {
    const auto& chat = std::get<ChatPrompt>(request.prompt);
    return {{"id", random_id("resp_", 24)},
            {"object", "response"},
            {"created_at", unix_seconds(std::chrono::system_clock::now())},
            {"status", "in_progress"},
            {"background", false},
            {"error", nullptr},
            {"incomplete_details", nullptr},
            {"instructions", nullptr},
            {"max_output_tokens", request.max_tokens ? Json(*request.max_tokens) : Json()},
            {"model", request.model},
            {"output", Json::array()},
            {"parallel_tool_calls", chat.parallel_tool_calls},
            {"previous_response_id", nullptr},
            {"reasoning", {{"effort", effort_json(request)}, {"summary", nullptr}}},
            {"store", false},
            {"temperature", request.sampling.temperature.value_or(1.0)},
            {"text", {{"format", format_json(request.format)}}},
            {"tool_choice", tool_choice_json(chat)},
            {"tools", tools_json(request)},
            {"top_p", request.sampling.top_p.value_or(1.0)},
            {"truncation", request.truncate ? "auto" : "disabled"},
            {"usage", nullptr},
            {"metadata", Json::object()}};
}

// Joined as they were made: the operands of + may be evaluated in any order, and events are numbered.
std::string in_order(std::initializer_list<std::string> pieces) {
    std::string bytes;
    for (const std::string& piece : pieces) bytes += piece;
    return bytes;
}

class ResponsesReply final : public Reply {
public:
    explicit ResponsesReply(const Request& request) : response_(response_head(request)) {}

    std::string stream_type() const override { return "text/event-stream"; }
    std::string keep_alive() override { return watch_.comment(); }
    std::string error(const ApiError& error) override { return dump(error_json(error)); }

    std::string begin() override {
        return in_order({emit("response.created", {{"response", response_}}),
                         emit("response.in_progress", {{"response", response_}})});
    }
    std::string event(const Event& event) override {
        return std::visit([this](const auto& e) { return bytes_for(e); }, event);
    }
    std::string whole(const Answer& answer) override {
        if (!answer.thinking.empty())
            response_["output"].push_back(reasoning_item(random_id("rs_", 24), answer.thinking));
        if (!answer.text.empty() || answer.tool_calls.empty())
            response_["output"].push_back(
                message_item(random_id("msg_", 24), "completed",
                             Json::array({text_part(answer.text, logprobs_json(answer.logprobs))})));
        for (const ToolCall& call : answer.tool_calls)
            response_["output"].push_back(call_item(random_id("fc_", 24), "completed", call, call.arguments));
        finish(answer.done);
        return dump(response_);
    }

private:
    enum class Open { kNothing, kReasoning, kMessage };

    std::string emit(const std::string& type, const Json& fields) {
        Json json = {{"type", type}, {"sequence_number", sequence_++}};
        json.update(fields);
        return "event: " + type + "\ndata: " + dump(json) + "\n\n";
    }
    // Fields that name the item, and the content part, which an event is about.
    Json of_item(const Json& fields) const {
        Json json = {{"item_id", item_id_}, {"output_index", response_["output"].size()}};
        json.update(fields);
        return json;
    }
    std::string item_event(const std::string& type, Json item) {
        return emit(type, {{"output_index", response_["output"].size()}, {"item", std::move(item)}});
    }
    std::string close_item(Json item) {
        std::string bytes = item_event("response.output_item.done", item);
        response_["output"].push_back(std::move(item));
        open_ = Open::kNothing;
        text_.clear();
        logprobs_ = Json::array();
        return bytes;
    }

    std::string bytes_for(const ProgressEvent& e) {
        watch_.see(e);
        return {};
    }
    std::string bytes_for(const ThinkingEvent& e);
    std::string bytes_for(const TextEvent& e);
    std::string bytes_for(const ToolCallEvent& e);
    std::string bytes_for(const DoneEvent& e);
    std::string bytes_for(const FailedEvent& e);

    std::string open_reasoning();
    std::string close_reasoning();
    std::string open_message();
    std::string close_message();
    std::string close_open() {
        if (open_ == Open::kReasoning) return close_reasoning();
        return open_ == Open::kMessage ? close_message() : std::string();
    }
    void finish(const DoneEvent& done);

    Json response_;
    PromptWatch watch_;
    uint64_t sequence_ = 0;
    Open open_ = Open::kNothing;
    std::string item_id_;
    std::string text_;  // of the open item
    Json logprobs_ = Json::array();
};

std::string ResponsesReply::open_reasoning() {
    open_ = Open::kReasoning;
    item_id_ = random_id("rs_", 24);
    const Json item = {{"id", item_id_}, {"type", "reasoning"}, {"summary", Json::array()}};
    return in_order({item_event("response.output_item.added", item),
                     emit("response.reasoning_summary_part.added",
                          of_item({{"summary_index", 0}, {"part", {{"type", "summary_text"}, {"text", ""}}}}))});
}

std::string ResponsesReply::close_reasoning() {
    const Json part = {{"type", "summary_text"}, {"text", text_}};
    return in_order({emit("response.reasoning_summary_text.done", of_item({{"summary_index", 0}, {"text", text_}})),
                     emit("response.reasoning_summary_part.done", of_item({{"summary_index", 0}, {"part", part}})),
                     close_item(reasoning_item(item_id_, text_))});
}

std::string ResponsesReply::open_message() {
    open_ = Open::kMessage;
    item_id_ = random_id("msg_", 24);
    return in_order({item_event("response.output_item.added", message_item(item_id_, "in_progress", Json::array())),
                     emit("response.content_part.added", of_item({{"content_index", 0}, {"part", text_part("")}}))});
}

std::string ResponsesReply::close_message() {
    return in_order(
        {emit("response.output_text.done", of_item({{"content_index", 0}, {"text", text_}, {"logprobs", logprobs_}})),
         emit("response.content_part.done", of_item({{"content_index", 0}, {"part", text_part(text_, logprobs_)}})),
         close_item(message_item(item_id_, "completed", Json::array({text_part(text_, logprobs_)})))});
}

std::string ResponsesReply::bytes_for(const ThinkingEvent& e) {
    std::string bytes;
    if (open_ != Open::kReasoning) bytes = in_order({close_open(), open_reasoning()});
    text_ += e.text;
    return bytes + emit("response.reasoning_summary_text.delta", of_item({{"summary_index", 0}, {"delta", e.text}}));
}

std::string ResponsesReply::bytes_for(const TextEvent& e) {
    std::string bytes;
    if (open_ != Open::kMessage) bytes = in_order({close_open(), open_message()});
    text_ += e.text;
    const Json logprobs = logprobs_json(e.logprobs);
    logprobs_.insert(logprobs_.end(), logprobs.begin(), logprobs.end());
    return bytes + emit("response.output_text.delta",
                        of_item({{"content_index", 0}, {"delta", e.text}, {"logprobs", logprobs}}));
}

std::string ResponsesReply::bytes_for(const ToolCallEvent& e) {
    std::string bytes = close_open();
    item_id_ = random_id("fc_", 24);
    const ToolCall& call = e.call;
    bytes += item_event("response.output_item.added", call_item(item_id_, "in_progress", call, ""));
    bytes += emit("response.function_call_arguments.delta", of_item({{"delta", call.arguments}}));
    bytes +=
        emit("response.function_call_arguments.done", of_item({{"name", call.name}, {"arguments", call.arguments}}));
    return bytes + close_item(call_item(item_id_, "completed", call, call.arguments));
}

void ResponsesReply::finish(const DoneEvent& done) {
    const bool cut = done.finish == Finish::kLength;
    response_["status"] = cut ? "incomplete" : "completed";
    if (cut) response_["incomplete_details"] = {{"reason", "max_output_tokens"}};
    response_["usage"] = usage(done.usage);
}

std::string ResponsesReply::bytes_for(const DoneEvent& e) {
    if (open_ == Open::kMessage)
        for (Json& late : logprobs_json(e.logprobs)) logprobs_.push_back(std::move(late));
    std::string bytes = close_open();
    if (response_["output"].empty()) bytes += in_order({open_message(), close_message()});
    finish(e);
    const std::string type = e.finish == Finish::kLength ? "response.incomplete" : "response.completed";
    return bytes + emit(type, {{"response", response_}});
}

// Both forms: the event that the API describes, and the one that makes openai-node throw.
std::string ResponsesReply::bytes_for(const FailedEvent& e) {
    response_["status"] = "failed";
    response_["error"] = {{"code", "server_error"}, {"message", e.error.message}};
    return in_order({emit("response.failed", {{"response", response_}}),
                     emit("error", {{"code", "server_error"}, {"message", e.error.message}, {"param", nullptr}})});
}

}  // namespace

std::unique_ptr<Reply> responses_reply(const Request& request) { return std::make_unique<ResponsesReply>(request); }

}  // namespace hypura::server::openai
