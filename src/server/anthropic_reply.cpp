// Anthropic's responses: a message of content blocks; in a stream each block is opened, filled and closed.
#include "server/anthropic.h"
#include "server/text_util.h"

namespace hypura::server::anthropic {
namespace {

std::string emit(const std::string& type, const Json& fields) {
    Json json = {{"type", type}};
    json.update(fields);
    return "event: " + type + "\ndata: " + dump(json) + "\n\n";
}

std::string error_type(int status) {
    switch (status) {
        case 400:
            return "invalid_request_error";
        case 401:
            return "authentication_error";
        case 403:
            return "permission_error";
        case 404:
            return "not_found_error";
        case 503:
            return "overloaded_error";
        default:
            return "api_error";
    }
}

Json stop_fields(const DoneEvent& done, bool called_tools) {
    const bool by_string = done.finish == Finish::kStopString;
    std::string reason = "end_turn";
    if (done.finish == Finish::kLength) {
        reason = "max_tokens";
    } else if (called_tools || done.finish == Finish::kToolCalls) {
        reason = "tool_use";
    } else if (by_string) {
        reason = "stop_sequence";
    }
    return {{"stop_reason", reason}, {"stop_sequence", by_string ? Json(done.stop_string) : Json()}};
}

// input_tokens counts what was computed; what came from the cache stands beside it.
Json usage_json(const Usage& usage) {
    return {{"input_tokens", usage.prompt_tokens - usage.cached_prompt_tokens},
            {"cache_creation_input_tokens", 0},
            {"cache_read_input_tokens", usage.cached_prompt_tokens},
            {"output_tokens", usage.answer_tokens}};
}

Json tool_use_block(const ToolCall& call, Json input) {
    return {{"type", "tool_use"}, {"id", call.id}, {"name", call.name}, {"input", std::move(input)}};
}

// Signatures let Anthropic's own servers check thinking that comes back; ours is empty and never checked.
Json thinking_block(const std::string& text) { return {{"type", "thinking"}, {"thinking", text}, {"signature", ""}}; }
Json text_block(const std::string& text) { return {{"type", "text"}, {"text", text}}; }

class MessagesReply final : public Reply {
public:
    explicit MessagesReply(const Request& request) : model_(request.model) {}

    std::string stream_type() const override { return "text/event-stream"; }
    std::string begin() override {
        Json message = head();
        message["content"] = Json::array();
        message["stop_reason"] = nullptr;
        message["stop_sequence"] = nullptr;
        message["usage"] = usage_json({});
        return emit("message_start", {{"message", std::move(message)}});
    }
    std::string event(const Event& event) override {
        return std::visit([this](const auto& e) { return bytes_for(e); }, event);
    }
    std::string keep_alive() override { return watch_.comment() + emit("ping", Json::object()); }
    std::string error(const ApiError& error) override { return dump(error_json(error)); }

    std::string whole(const Answer& answer) override {
        Json content = Json::array();
        if (!answer.thinking.empty()) content.push_back(thinking_block(answer.thinking));
        if (!answer.text.empty()) content.push_back(text_block(answer.text));
        for (const ToolCall& call : answer.tool_calls)
            content.push_back(tool_use_block(call, try_parse(call.arguments).value_or(Json::object())));
        Json message = head();
        message["content"] = std::move(content);
        message.update(stop_fields(answer.done, !answer.tool_calls.empty()));
        message["usage"] = usage_json(answer.done.usage);
        return dump(message);
    }

private:
    enum class Open { kNothing, kThinking, kText };

    Json head() const { return {{"id", id_}, {"type", "message"}, {"role", "assistant"}, {"model", model_}}; }
    std::string delta(Json fields) {
        return emit("content_block_delta", {{"index", index_}, {"delta", std::move(fields)}});
    }
    std::string start(Json block) {
        return emit("content_block_start", {{"index", index_}, {"content_block", std::move(block)}});
    }
    std::string stop() { return emit("content_block_stop", {{"index", index_++}}); }

    std::string switch_to(Open wanted) {
        if (open_ == wanted) return {};
        std::string bytes;
        if (open_ == Open::kThinking) bytes += delta({{"type", "signature_delta"}, {"signature", ""}});
        if (open_ != Open::kNothing) bytes += stop();
        open_ = wanted;
        if (wanted == Open::kThinking) bytes += start(thinking_block(""));
        if (wanted == Open::kText) bytes += start(text_block(""));
        return bytes;
    }

    std::string bytes_for(const ProgressEvent& e) {
        watch_.see(e);
        return {};
    }
    std::string bytes_for(const TextEvent& e) {
        std::string bytes = switch_to(Open::kText);
        return bytes + delta({{"type", "text_delta"}, {"text", e.text}});
    }
    std::string bytes_for(const ThinkingEvent& e) {
        std::string bytes = switch_to(Open::kThinking);
        return bytes + delta({{"type", "thinking_delta"}, {"thinking", e.text}});
    }
    std::string bytes_for(const ToolCallEvent& e) {
        called_tools_ = true;
        std::string bytes = switch_to(Open::kNothing);
        bytes += start(tool_use_block(e.call, Json::object()));
        bytes += delta({{"type", "input_json_delta"}, {"partial_json", e.call.arguments}});
        return bytes + stop();
    }
    std::string bytes_for(const DoneEvent& e) {
        std::string bytes = switch_to(Open::kNothing);
        bytes += emit("message_delta", {{"delta", stop_fields(e, called_tools_)}, {"usage", usage_json(e.usage)}});
        return bytes + emit("message_stop", Json::object());
    }
    std::string bytes_for(const FailedEvent& e) { return emit("error", error_json(e.error)); }

    std::string model_;
    PromptWatch watch_;
    std::string id_ = random_id("msg_", 24);
    Open open_ = Open::kNothing;
    uint32_t index_ = 0;  // of the open block, or of the next one
    bool called_tools_ = false;
};

}  // namespace

Json error_json(const ApiError& error) {
    return {{"type", "error"},
            {"error", {{"type", error_type(error.status)}, {"message", error.message}}},
            {"request_id", random_id("req_", 24)}};
}

std::unique_ptr<Reply> messages_reply(const Request& request) { return std::make_unique<MessagesReply>(request); }

std::string count_tokens_body(uint64_t tokens) { return dump({{"input_tokens", tokens}}); }

}  // namespace hypura::server::anthropic
