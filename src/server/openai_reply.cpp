// OpenAI's responses: server-sent events, each "data: {...}", and "data: [DONE]" at the end.
#include "server/openai.h"
#include "server/text_util.h"

#include <span>

namespace hypura::server::openai {
namespace {

using Clock = std::chrono::system_clock;

std::string data(const Json& json) { return "data: " + dump(json) + "\n\n"; }

std::string error_type(int status) {
    switch (status) {
        case 401:
            return "authentication_error";
        case 403:
            return "permission_error";
        case 404:
            return "not_found_error";
        default:
            return status < 500 ? "invalid_request_error" : "api_error";
    }
}

std::string finish_reason(Finish finish, bool called_tools) {
    if (finish == Finish::kLength) return "length";
    return called_tools || finish == Finish::kToolCalls ? "tool_calls" : "stop";
}

Json chat_logprobs_json(const std::vector<TokenLogprob>& entries) {
    if (entries.empty()) return nullptr;
    Json content = Json::array();
    for (const TokenLogprob& entry : entries) {
        Json json = logprob_json(entry);
        json["top_logprobs"] = Json::array();
        for (const TokenLogprob& other : entry.top) json["top_logprobs"].push_back(logprob_json(other));
        content.push_back(std::move(json));
    }
    return {{"content", std::move(content)}, {"refusal", nullptr}};
}

// The older form: three parallel lists.
Json completion_logprobs_json(const std::vector<TokenLogprob>& entries) {
    if (entries.empty()) return nullptr;
    Json tokens = Json::array(), values = Json::array(), tops = Json::array();
    for (const TokenLogprob& entry : entries) {
        tokens.push_back(entry.token);
        values.push_back(entry.logprob);
        Json top = Json::object();
        for (const TokenLogprob& other : entry.top) top[other.token] = other.logprob;
        tops.push_back(std::move(top));
    }
    return {{"tokens", std::move(tokens)}, {"token_logprobs", std::move(values)}, {"top_logprobs", std::move(tops)}};
}

Json tool_call_json(const ToolCall& call) {
    return {{"id", call.id}, {"type", "function"}, {"function", {{"name", call.name}, {"arguments", call.arguments}}}};
}

// What both endpoints share: one id and one time for the whole answer, the closing chunks, the errors.
class SseReply : public Reply {
public:
    SseReply(const Request& request, std::string id, std::string chunk_object)
        : model_(request.model),
          id_(std::move(id)),
          chunk_object_(std::move(chunk_object)),
          include_usage_(request.include_usage) {}

    std::string stream_type() const override { return "text/event-stream"; }
    std::string event(const Event& event) override {
        return std::visit([this](const auto& e) { return bytes_for(e); }, event);
    }
    std::string keep_alive() override { return watch_.comment(); }
    std::string error(const ApiError& error) override { return dump(error_json(error)); }

protected:
    virtual Json text_choice(const std::string& text) = 0;
    virtual Json thinking_choice(const std::string& text) = 0;
    virtual Json tool_choice(const ToolCall& call, uint32_t index) = 0;
    virtual Json last_choice() = 0;
    virtual Json logprobs_json(const std::vector<TokenLogprob>& logprobs) = 0;

    Json head(const std::string& object) const {
        return {{"id", id_},
                {"object", object},
                {"created", created_},
                {"model", model_},
                {"system_fingerprint", "fp_hypura"}};
    }
    Json chunk(Json choice) {
        Json json = head(chunk_object_);
        json["choices"] = Json::array({std::move(choice)});
        return json;
    }
    // `choice` without its ending fields.
    Json open_choice(Json choice, const std::vector<TokenLogprob>& logprobs = {}) {
        choice["index"] = 0;
        if (!logprobs.empty()) choice["logprobs"] = logprobs_json(logprobs);
        choice["finish_reason"] = nullptr;
        return choice;
    }

private:
    std::string bytes_for(const ProgressEvent& e) {
        watch_.see(e);
        return {};
    }
    std::string bytes_for(const TextEvent& e) { return data(chunk(open_choice(text_choice(e.text), e.logprobs))); }
    std::string bytes_for(const ThinkingEvent& e) {
        Json choice = thinking_choice(e.text);
        return choice.is_null() ? std::string() : data(chunk(open_choice(std::move(choice), e.logprobs)));
    }
    std::string bytes_for(const ToolCallEvent& e) {
        called_tools_ = true;
        Json choice = tool_choice(e.call, e.index);
        return choice.is_null() ? std::string() : data(chunk(open_choice(std::move(choice))));
    }
    std::string bytes_for(const DoneEvent& e) {
        Json choice = open_choice(last_choice(), e.logprobs);
        choice["finish_reason"] = finish_reason(e.finish, called_tools_);
        std::string bytes = data(chunk(std::move(choice)));
        if (include_usage_) bytes += data(usage_chunk(e.usage));
        return bytes + "data: [DONE]\n\n";
    }
    // No [DONE]: the client must not take this for an ending.
    std::string bytes_for(const FailedEvent& e) { return data(error_json(e.error)); }

    Json usage_chunk(const Usage& usage) const {
        Json json = head(chunk_object_);
        json["choices"] = Json::array();
        json["usage"] = usage_json(usage);
        return json;
    }

    std::string model_, id_, chunk_object_;
    PromptWatch watch_;
    int64_t created_ = unix_seconds(Clock::now());
    bool include_usage_ = false;
    bool called_tools_ = false;
};

class ChatReply final : public SseReply {
public:
    explicit ChatReply(const Request& request)
        : SseReply(request, random_id("chatcmpl-", 24), "chat.completion.chunk") {}

    // The role, once.
    std::string begin() override {
        return data(chunk(open_choice({{"delta", {{"role", "assistant"}, {"content", ""}}}})));
    }

    std::string whole(const Answer& answer) override {
        Json message = {{"role", "assistant"}, {"content", answer.text}, {"refusal", nullptr}};
        add_thinking(message, answer.thinking);
        if (!answer.tool_calls.empty()) {
            message["tool_calls"] = Json::array();
            for (const ToolCall& call : answer.tool_calls) message["tool_calls"].push_back(tool_call_json(call));
            if (answer.text.empty()) message["content"] = nullptr;
        }
        Json json = head("chat.completion");
        json["choices"] =
            Json::array({{{"index", 0},
                          {"message", std::move(message)},
                          {"logprobs", chat_logprobs_json(answer.logprobs)},
                          {"finish_reason", finish_reason(answer.done.finish, !answer.tool_calls.empty())}}});
        json["usage"] = usage_json(answer.done.usage);
        return dump(json);
    }

private:
    // Both names: clients read one or the other.
    static void add_thinking(Json& to, const std::string& text) {
        if (text.empty()) return;
        to["reasoning"] = text;
        to["reasoning_content"] = text;
    }
    Json text_choice(const std::string& text) override { return {{"delta", {{"content", text}}}}; }
    Json thinking_choice(const std::string& text) override {
        Json delta = Json::object();
        add_thinking(delta, text);
        return {{"delta", std::move(delta)}};
    }
    Json tool_choice(const ToolCall& call, uint32_t index) override {
        Json json = {{"index", index}};
        json.update(tool_call_json(call));
        return {{"delta", {{"tool_calls", Json::array({std::move(json)})}}}};
    }
    Json last_choice() override { return {{"delta", Json::object()}}; }
    Json logprobs_json(const std::vector<TokenLogprob>& logprobs) override { return chat_logprobs_json(logprobs); }
};

class CompletionReply final : public SseReply {
public:
    explicit CompletionReply(const Request& request) : SseReply(request, random_id("cmpl-", 24), "text_completion") {}

    std::string whole(const Answer& answer) override {
        Json json = head("text_completion");
        json["choices"] = Json::array({{{"index", 0},
                                        {"text", answer.text},
                                        {"logprobs", completion_logprobs_json(answer.logprobs)},
                                        {"finish_reason", finish_reason(answer.done.finish, false)}}});
        json["usage"] = usage_json(answer.done.usage);
        return dump(json);
    }

private:
    Json text_choice(const std::string& text) override { return {{"text", text}}; }
    Json thinking_choice(const std::string&) override { return nullptr; }
    Json tool_choice(const ToolCall&, uint32_t) override { return nullptr; }
    Json last_choice() override { return {{"text", ""}}; }
    Json logprobs_json(const std::vector<TokenLogprob>& logprobs) override {
        return completion_logprobs_json(logprobs);
    }
};

Json vector_json(const std::vector<float>& vector, bool as_base64) {
    if (!as_base64) return vector;
    static_assert(std::endian::native == std::endian::little, "the wire format is little-endian");
    const auto* bytes = reinterpret_cast<const unsigned char*>(vector.data());
    return base64(std::span(bytes, vector.size() * sizeof(float)));
}

}  // namespace

Json usage_json(const Usage& usage) {
    return {{"prompt_tokens", usage.prompt_tokens},
            {"completion_tokens", usage.answer_tokens},
            {"total_tokens", usage.prompt_tokens + usage.answer_tokens},
            {"prompt_tokens_details", {{"cached_tokens", usage.cached_prompt_tokens}}}};
}

Json error_json(const ApiError& error) {
    Json inner = {
        {"message", error.message}, {"type", error_type(error.status)}, {"param", nullptr}, {"code", nullptr}};
    if (error.context_tokens > 0) {
        inner["type"] = "exceed_context_size_error";
        inner["code"] = "context_length_exceeded";
        inner["n_prompt_tokens"] = error.prompt_tokens;
        inner["n_ctx"] = error.context_tokens;
    } else if (error.status == 404) {
        inner["code"] = "model_not_found";
    }
    return {{"error", std::move(inner)}};
}

std::unique_ptr<Reply> chat_reply(const Request& request) { return std::make_unique<ChatReply>(request); }
std::unique_ptr<Reply> completion_reply(const Request& request) { return std::make_unique<CompletionReply>(request); }

std::string embeddings_body(const EmbedRequest& request, const Embeddings& embeddings) {
    Json list = Json::array();
    for (const std::vector<float>& vector : embeddings.vectors)
        list.push_back(
            {{"object", "embedding"}, {"embedding", vector_json(vector, request.base64)}, {"index", list.size()}});
    return dump({{"object", "list"},
                 {"data", std::move(list)},
                 {"model", request.model},
                 {"usage", {{"prompt_tokens", embeddings.prompt_tokens}, {"total_tokens", embeddings.prompt_tokens}}}});
}

}  // namespace hypura::server::openai
