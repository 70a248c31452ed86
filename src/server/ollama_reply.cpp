// Ollama's responses: one compact JSON object a line.
#include "server/ollama.h"
#include "server/text_util.h"

namespace hypura::server::ollama {
namespace {

Json logprobs_json(const std::vector<TokenLogprob>& entries) {
    Json list = Json::array();
    for (const TokenLogprob& entry : entries) {
        Json json = logprob_json(entry);
        if (!entry.top.empty()) {
            Json top = Json::array();
            for (const TokenLogprob& other : entry.top) top.push_back(logprob_json(other));
            json["top_logprobs"] = std::move(top);
        }
        list.push_back(std::move(json));
    }
    return list;
}

// Tool calls end in "stop" here, too.
std::string done_reason(Finish finish) {
    switch (finish) {
        case Finish::kLength:
            return "length";
        case Finish::kLoad:
            return "load";
        case Finish::kUnload:
            return "unload";
        case Finish::kStop:
        case Finish::kStopString:
        case Finish::kToolCalls:
            break;
    }
    return "stop";
}

// No key beside "id" and "function": strict clients refuse what they do not know.
Json tool_call_json(const ToolCall& call, size_t index) {
    const auto arguments = try_parse(call.arguments);
    return {
        {"id", call.id},
        {"function", {{"index", index}, {"name", call.name}, {"arguments", arguments ? *arguments : Json::object()}}}};
}

Json tool_calls_json(const std::vector<ToolCall>& calls) {
    Json list = Json::array();
    for (size_t i = 0; i < calls.size(); ++i) list.push_back(tool_call_json(calls[i], i));
    return list;
}

// A load or unload has no metrics; every other final object has all of them, zeros included.
void add_done(Json& json, const DoneEvent& done) {
    json["done"] = true;
    json["done_reason"] = done_reason(done.finish);
    if (done.finish == Finish::kLoad || done.finish == Finish::kUnload) return;
    json["total_duration"] = done.timing.total_ns;
    json["load_duration"] = done.timing.load_ns;
    json["prompt_eval_count"] = done.usage.prompt_tokens;
    json["prompt_eval_cached_count"] = done.usage.cached_prompt_tokens;
    json["prompt_eval_duration"] = done.timing.prompt_ns;
    json["eval_count"] = done.usage.answer_tokens;
    json["eval_duration"] = done.timing.answer_ns;
    if (!done.context.empty()) json["context"] = done.context;
}

// Chat and generate differ in where the text stands.
class NativeReply : public Reply {
public:
    explicit NativeReply(const Request& request) : model_(request.model) {}

    std::string stream_type() const override { return "application/x-ndjson"; }
    std::string event(const Event& event) override {
        return std::visit([this](const auto& e) { return line_for(e); }, event);
    }
    // An empty chunk: blank lines break ollama-python and Zed. Ollama has no word for progress; llama-server has this.
    std::string keep_alive() override {
        Json json = chunk("", "", {});
        if (const ProgressEvent* reading = watch_.reading())
            json["prompt_progress"] = {{"total", reading->total_tokens}, {"processed", reading->done_tokens}};
        return line(json);
    }
    std::string error(const ApiError& error) override { return error_body(error); }
    std::string whole(const Answer& answer) override {
        Json json = chunk(answer.text, answer.thinking, answer.tool_calls);
        if (!answer.logprobs.empty()) json["logprobs"] = logprobs_json(answer.logprobs);
        add_done(json, answer.done);
        return dump(json);
    }

protected:
    // The object of one piece, up to and without "done".
    virtual Json piece(const std::string& text, const std::string& thinking, const std::vector<ToolCall>& calls) = 0;

    Json head() const { return {{"model", model_}, {"created_at", rfc3339(std::chrono::system_clock::now())}}; }

private:
    static std::string line(const Json& json) { return dump(json) + "\n"; }
    Json chunk(const std::string& text, const std::string& thinking, const std::vector<ToolCall>& calls) {
        Json json = piece(text, thinking, calls);
        json["done"] = false;
        return json;
    }
    std::string line_with(Json json, const std::vector<TokenLogprob>& logprobs) {
        if (!logprobs.empty()) json["logprobs"] = logprobs_json(logprobs);
        return line(json);
    }

    std::string line_for(const ProgressEvent& e) {
        watch_.see(e);
        return {};
    }
    std::string line_for(const TextEvent& e) { return line_with(chunk(e.text, "", {}), e.logprobs); }
    std::string line_for(const ThinkingEvent& e) { return line_with(chunk("", e.text, {}), e.logprobs); }
    std::string line_for(const ToolCallEvent& e) {
        Json json = chunk("", "", {e.call});
        Json& calls = json.contains("message") ? json["message"]["tool_calls"] : json["tool_calls"];
        calls[0]["function"]["index"] = e.index;
        return line(json);
    }
    std::string line_for(const DoneEvent& e) {
        Json json = chunk("", "", {});
        if (!e.logprobs.empty()) json["logprobs"] = logprobs_json(e.logprobs);
        add_done(json, e);
        return line(json);
    }
    std::string line_for(const FailedEvent& e) {
        return line({{"error", e.error.message}, {"status", e.error.status}});
    }

    std::string model_;
    PromptWatch watch_;
};

class ChatReply final : public NativeReply {
public:
    using NativeReply::NativeReply;

private:
    Json piece(const std::string& text, const std::string& thinking, const std::vector<ToolCall>& calls) override {
        Json json = head();
        Json message = {{"role", "assistant"}, {"content", text}};
        if (!thinking.empty()) message["thinking"] = thinking;
        if (!calls.empty()) message["tool_calls"] = tool_calls_json(calls);
        json["message"] = std::move(message);
        return json;
    }
};

class GenerateReply final : public NativeReply {
public:
    using NativeReply::NativeReply;

private:
    Json piece(const std::string& text, const std::string& thinking, const std::vector<ToolCall>& calls) override {
        Json json = head();
        json["response"] = text;
        if (!thinking.empty()) json["thinking"] = thinking;
        if (!calls.empty()) json["tool_calls"] = tool_calls_json(calls);
        return json;
    }
};

}  // namespace

std::unique_ptr<Reply> chat_reply(const Request& request) { return std::make_unique<ChatReply>(request); }
std::unique_ptr<Reply> generate_reply(const Request& request) { return std::make_unique<GenerateReply>(request); }

std::string embed_body(const EmbedRequest& request, const Embeddings& embeddings) {
    return dump({{"model", request.model},
                 {"embeddings", embeddings.vectors},
                 {"total_duration", embeddings.timing.total_ns},
                 {"load_duration", embeddings.timing.load_ns},
                 {"prompt_eval_count", embeddings.prompt_tokens}});
}

std::string embeddings_body(const Embeddings& embeddings) {
    return dump({{"embedding", embeddings.vectors.empty() ? std::vector<float>() : embeddings.vectors.front()}});
}

std::string error_body(const ApiError& error) { return dump({{"error", error.message}}); }

}  // namespace hypura::server::ollama
