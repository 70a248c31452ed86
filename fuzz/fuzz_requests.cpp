// Feeds arbitrary bodies to the request parser of each dialect: the first byte chooses the endpoint, the rest is the
// body. No body may crash one, and what is refused has a sentence and a status of the client's making (4xx). What is
// understood goes through the dialect's reply as well.
#include "base/check.h"
#include "server/anthropic.h"
#include "server/ollama.h"
#include "server/openai.h"
#include "server/openai_responses.h"

#include <cstddef>
#include <cstdint>
#include <string_view>

namespace {

using namespace hypura::server;

template <class T>
void check_refusal(const ApiResult<T>& result) {
    if (result) return;
    HYPURA_CHECK(result.error().status >= 400 && result.error().status < 500);
    HYPURA_CHECK(!result.error().message.empty());
}

// One of each kind of event, and strings of the client's own among them.
void answer(Reply& reply, const Request& request) {
    std::string bytes = reply.stream_type() + reply.begin() + reply.keep_alive();
    Answer whole;
    const Event events[] = {ProgressEvent{1, 2}, ThinkingEvent{"hm", {}}, TextEvent{request.model, {{"a", -0.5, {}}}},
                            ToolCallEvent{{"call_1", "f", "{\"a\":1}"}, 0}, DoneEvent{.finish = Finish::kToolCalls}};
    for (const Event& event : events) {
        bytes += reply.event(event);
        whole.add(event);
    }
    bytes += reply.whole(whole) + reply.error(ApiError(500, request.model));
    HYPURA_CHECK(!bytes.empty());
}

struct Endpoint {
    ApiResult<Request> (*parse)(const Json& body);
    std::unique_ptr<Reply> (*reply)(const Request& request);
};

constexpr Endpoint kEndpoints[] = {{ollama::parse_chat, ollama::chat_reply},
                                   {ollama::parse_generate, ollama::generate_reply},
                                   {openai::parse_chat, openai::chat_reply},
                                   {openai::parse_completion, openai::completion_reply},
                                   {openai::parse_responses, openai::responses_reply},
                                   {anthropic::parse_messages, anthropic::messages_reply},
                                   {anthropic::parse_count_tokens, anthropic::messages_reply}};

constexpr ApiResult<EmbedRequest> (*kEmbeddings[])(const Json& body) = {ollama::parse_embed, ollama::parse_embeddings,
                                                                        openai::parse_embeddings};

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
    if (size == 0) return 0;
    const auto body = parse_body({reinterpret_cast<const char*>(data + 1), size - 1});
    check_refusal(body);
    if (!body) return 0;
    const size_t choice = data[0] % (std::size(kEndpoints) + std::size(kEmbeddings));
    if (choice >= std::size(kEndpoints)) {
        check_refusal(kEmbeddings[choice - std::size(kEndpoints)](*body));
        return 0;
    }
    const auto request = kEndpoints[choice].parse(*body);
    check_refusal(request);
    if (request) answer(*kEndpoints[choice].reply(*request), *request);
    return 0;
}
