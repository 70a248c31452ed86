// The one native request and the one stream of events. Every dialect translates its JSON into a Request, and Events
// into its bytes; nothing behind this file knows which API a client speaks.
//
// Thread contract: plain values.
#pragma once

#include "server/api_error.h"

#include <chrono>
#include <cstdint>
#include <optional>
#include <string>
#include <variant>
#include <vector>

namespace hypura::server {

// ---- what is asked -------------------------------------------------------------------------------------------------

struct ToolCall {
    std::string id;  // "call_abc12345"; empty in history where the client sent none
    std::string name;
    std::string arguments;  // a JSON object as text, key order kept
};

struct Message {
    std::string role;  // "system", "user", "assistant", "tool"
    std::string text;
    std::string thinking;
    std::vector<ToolCall> tool_calls;
    std::string tool_call_id;  // role "tool": which call this answers
    std::string tool_name;
};

struct Tool {
    std::string name;
    std::string parameters;  // JSON schema as text; "{}" when the tool takes nothing
    std::string definition;  // the whole OpenAI-shaped object as text: what chat templates are given
};

enum class ToolChoice { kAuto, kNone, kRequired };

// How the answer must look. `schema` is JSON text for kSchema and GBNF text for kGrammar.
enum class FormatKind { kText, kJson, kSchema, kGrammar };
struct Format {
    FormatKind kind = FormatKind::kText;
    std::string schema;
};

// Absent means: the model's own metadata decides, else the server's defaults (docs/server.md lists them).
struct Sampling {
    std::optional<double> temperature, top_p, min_p, typical_p;
    std::optional<double> repeat_penalty, presence_penalty, frequency_penalty;
    std::optional<int64_t> top_k, repeat_last_tokens, seed;
};

// absent: as the server says; zero: unload after this request; max: never.
using KeepAlive = std::optional<std::chrono::milliseconds>;

struct ChatPrompt {
    std::vector<Message> messages;
    std::vector<Tool> tools;
    ToolChoice tool_choice = ToolChoice::kAuto;
    std::string required_tool;  // kRequired: this one and no other; empty: any
    bool parallel_tool_calls = true;
};

struct TextPrompt {
    std::string text;
    std::optional<std::string> suffix;  // fill in the middle
};

struct Request {
    std::string model;  // as the client wrote it: echoed so
    std::variant<ChatPrompt, TextPrompt> prompt;
    std::vector<int32_t> prefix_tokens;  // stand before the prompt: Ollama's "context", OpenAI's token arrays
    Format format;
    std::string grammar;  // what `format` and `tool_choice` come to, as GBNF; set by the service, not by a dialect
    Sampling sampling;
    std::vector<std::string> stop;
    std::optional<int64_t> max_tokens;      // absent or negative: until the model ends or the context is full
    std::optional<int64_t> context_tokens;  // an upper bound; never makes the model load again
    std::optional<bool> think;              // absent: as the model likes
    std::string think_effort;               // "low", "medium", "high"; empty: not said
    bool think_must_be_supported = false;   // refuse `think` = true on a model that cannot
    bool logprobs = false;
    uint32_t top_logprobs = 0;
    bool truncate = true;         // drop oldest messages when the prompt is too long; else refuse
    bool shift = false;           // where the answer fills the context: forget its older half and go on; else end
    int64_t keep_tokens = 4;      // never forgotten by a shift; negative: the whole prompt
    bool return_context = false;  // Done carries the tokens of prompt and answer
    bool stream = true;
    bool include_usage = true;  // OpenAI: whether a stream ends with its usage
    KeepAlive keep_alive;
};

struct EmbedRequest {
    std::string model;
    std::vector<std::string> inputs;
    std::vector<std::vector<int32_t>> token_inputs;  // instead of `inputs`
    std::optional<int64_t> dimensions;
    bool normalize = true;
    bool truncate = true;
    bool base64 = false;  // OpenAI: little-endian float32 in base64
    KeepAlive keep_alive;
};

// ---- what comes back -----------------------------------------------------------------------------------------------

struct TokenLogprob {
    std::string token;  // bytes; may be part of a character
    double logprob = 0;
    std::vector<TokenLogprob> top;
};

struct Usage {
    uint64_t prompt_tokens = 0;         // all, cached ones included
    uint64_t cached_prompt_tokens = 0;  // taken from the prefix cache
    uint64_t answer_tokens = 0;
};

struct Timing {
    int64_t total_ns = 0;
    int64_t load_ns = 0;
    int64_t prompt_ns = 0;
    int64_t answer_ns = 0;
};

enum class Finish { kStop, kLength, kStopString, kToolCalls, kLoad, kUnload };

struct ProgressEvent {
    uint64_t done_tokens = 0;
    uint64_t total_tokens = 0;
};
struct TextEvent {
    std::string text;
    std::vector<TokenLogprob> logprobs;  // of the tokens that came since the last event
};
struct ThinkingEvent {
    std::string text;
    std::vector<TokenLogprob> logprobs;
};
struct ToolCallEvent {
    ToolCall call;
    uint32_t index = 0;
};
struct DoneEvent {
    Finish finish = Finish::kStop;
    std::string stop_string;  // kStopString: which
    Usage usage;
    Timing timing;
    std::vector<int32_t> context;        // return_context
    std::vector<TokenLogprob> logprobs;  // of tokens that never became an event of their own
};
struct FailedEvent {
    ApiError error;
};

// A stream is any number of Progress, Text, Thinking and ToolCall events, then exactly one Done or Failed.
using Event = std::variant<ProgressEvent, TextEvent, ThinkingEvent, ToolCallEvent, DoneEvent, FailedEvent>;

// All of it in one piece, for clients that do not stream.
struct Answer {
    std::string text;
    std::string thinking;
    std::vector<ToolCall> tool_calls;
    std::vector<TokenLogprob> logprobs;
    DoneEvent done;

    void add(const Event& event);  // FailedEvent is not part of an answer and must not come here
};

struct Embeddings {
    std::vector<std::vector<float>> vectors;  // one an input
    uint64_t prompt_tokens = 0;
    Timing timing;
};

}  // namespace hypura::server
