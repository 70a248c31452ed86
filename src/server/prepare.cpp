#include "server/prepare.h"

#include "engine/chat_template.h"
#include "server/json.h"
#include "server/schema_grammar.h"

#include <algorithm>
#include <cmath>

namespace hypura::server {
namespace {

using Tokens = std::vector<engine::Token>;

// ---- capabilities --------------------------------------------------------------------------------------------------

bool uses_tools(const ChatPrompt& chat) { return !chat.tools.empty() && chat.tool_choice != ToolChoice::kNone; }

// ---- prompt text ---------------------------------------------------------------------------------------------------

Json tool_calls_json(const std::vector<ToolCall>& calls) {
    Json list = Json::array();
    for (const ToolCall& call : calls) {
        const auto arguments = try_parse(call.arguments);
        list.push_back(
            {{"id", call.id},
             {"type", "function"},
             {"function", {{"name", call.name}, {"arguments", arguments ? *arguments : Json(call.arguments)}}}});
    }
    return list;
}

Json message_json(const Message& message) {
    Json json = {{"role", message.role}, {"content", message.text}};
    if (!message.thinking.empty()) json["reasoning_content"] = message.thinking;
    if (!message.tool_calls.empty()) json["tool_calls"] = tool_calls_json(message.tool_calls);
    if (!message.tool_call_id.empty()) json["tool_call_id"] = message.tool_call_id;
    if (!message.tool_name.empty()) json["name"] = message.tool_name;
    return json;
}

std::string variables_json(const Request& request) {
    Json variables = Json::object();
    if (request.think) variables["enable_thinking"] = *request.think;
    if (!request.think_effort.empty()) variables["reasoning_effort"] = request.think_effort;
    return dump(variables);
}

Result<std::string> render(const Request& request, const std::vector<Message>& messages, const engine::Engine& engine) {
    const auto& chat = std::get<ChatPrompt>(request.prompt);
    Json list = Json::array(), tools = Json::array();
    for (const Message& message : messages) list.push_back(message_json(message));
    if (uses_tools(chat))
        for (const Tool& tool : chat.tools) tools.push_back(try_parse(tool.definition).value_or(Json::object()));
    return engine::render_template(
        engine,
        {.messages = dump(list), .tools = tools.empty() ? "" : dump(tools), .variables = variables_json(request)});
}

std::string infill_text(const TextPrompt& prompt, const ModelEntry& model) {
    if (!prompt.suffix) return prompt.text;
    const auto& tokens = model.infill_tokens;
    return tokens[0] + prompt.text + tokens[1] + *prompt.suffix + tokens[2];
}

// A template writes the beginning-of-text token itself, or not: it must not stand there twice.
bool wants_special(const std::string& text, const engine::Engine& engine) {
    const engine::Token bos = engine.bos_token();
    return !engine.adds_bos() || bos < 0 || !text.starts_with(engine.piece(bos, true));
}

// ---- prompt tokens -------------------------------------------------------------------------------------------------

struct Prompt {
    std::string text;
    Tokens tokens;
};

ApiResult<Prompt> tokenized(const Request& request, std::string text, const engine::Engine& engine) {
    Prompt prompt{std::move(text), request.prefix_tokens};
    for (const engine::Token token : prompt.tokens)
        if (token < 0 || static_cast<uint32_t>(token) >= engine.vocabulary_tokens())
            return refuse(400, "token {} is not in the model's vocabulary", token);
    const bool special = prompt.tokens.empty() && wants_special(prompt.text, engine);
    HYPURA_ASSIGN(const Tokens tokens, engine.tokenize(prompt.text, special, true));
    prompt.tokens.insert(prompt.tokens.end(), tokens.begin(), tokens.end());
    return prompt;
}

ApiResult<Prompt> chat_prompt(const Request& request, const std::vector<Message>& messages,
                              const engine::Engine& engine) {
    HYPURA_ASSIGN(std::string text, render(request, messages, engine));
    return tokenized(request, std::move(text), engine);
}

// Drops the oldest message that is neither a system message nor the last one; with an assistant's calls go the results.
bool drop_oldest(std::vector<Message>& messages) {
    const auto oldest = std::ranges::find_if(messages, [](const Message& message) { return message.role != "system"; });
    if (oldest == messages.end() || oldest + 1 == messages.end()) return false;
    const auto behind = std::find_if(oldest + 1, messages.end() - 1, [](const Message& m) { return m.role != "tool"; });
    messages.erase(oldest, behind);
    return true;
}

ApiResult<Prompt> full_prompt(const Request& request, const ModelEntry& model, const engine::Engine& engine) {
    if (const auto* text = std::get_if<TextPrompt>(&request.prompt))
        return tokenized(request, infill_text(*text, model), engine);
    return chat_prompt(request, std::get<ChatPrompt>(request.prompt).messages, engine);
}

// Room for at least one token of answer must be left.
ApiResult<Prompt> fitting_prompt(const Request& request, const ModelEntry& model, const engine::Engine& engine,
                                 uint32_t context_tokens) {
    HYPURA_ASSIGN(Prompt prompt, full_prompt(request, model, engine));
    const auto* chat = std::get_if<ChatPrompt>(&request.prompt);
    std::vector<Message> messages = chat == nullptr ? std::vector<Message>() : chat->messages;
    while (prompt.tokens.size() >= context_tokens) {
        if (!request.truncate || !drop_oldest(messages))
            return std::unexpected(context_exceeded(prompt.tokens.size(), context_tokens));
        HYPURA_ASSIGN(prompt, chat_prompt(request, messages, engine));
    }
    if (prompt.tokens.empty()) return refuse(400, "the prompt is empty");
    return prompt;
}

// ---- sampling ------------------------------------------------------------------------------------------------------

std::optional<double> metadata_number(const ModelEntry& model, std::string_view key) {
    const auto entry = model.metadata.find(key);
    if (entry == model.metadata.end()) return std::nullopt;
    if (const auto* number = std::get_if<double>(&entry->second)) return *number;
    if (const auto* number = std::get_if<uint64_t>(&entry->second)) return static_cast<double>(*number);
    if (const auto* number = std::get_if<int64_t>(&entry->second)) return static_cast<double>(*number);
    return std::nullopt;
}

// Request, then the model's metadata, then `otherwise`.
double choose(const std::optional<double>& asked, const ModelEntry& model, std::string_view key, double otherwise) {
    return asked ? *asked : metadata_number(model, key).value_or(otherwise);
}

engine::SamplingOptions sampling_options(const Sampling& asked, const ModelEntry& model) {
    const auto integer = [](const std::optional<int64_t>& value) {
        return value ? std::optional(static_cast<double>(*value)) : std::nullopt;
    };
    engine::SamplingOptions options;
    options.temperature = static_cast<float>(choose(asked.temperature, model, "general.sampling.temp", 0.8));
    options.top_k = static_cast<int32_t>(choose(integer(asked.top_k), model, "general.sampling.top_k", 40));
    options.top_p = static_cast<float>(choose(asked.top_p, model, "general.sampling.top_p", 0.9));
    options.min_p = static_cast<float>(choose(asked.min_p, model, "general.sampling.min_p", 0.0));
    options.typical_p = static_cast<float>(asked.typical_p.value_or(1.0));
    options.repeat_penalty =
        static_cast<float>(choose(asked.repeat_penalty, model, "general.sampling.penalty_repeat", 1.0));
    options.presence_penalty = static_cast<float>(asked.presence_penalty.value_or(0.0));
    options.frequency_penalty = static_cast<float>(asked.frequency_penalty.value_or(0.0));
    options.repeat_last_tokens =
        static_cast<int32_t>(choose(integer(asked.repeat_last_tokens), model, "general.sampling.penalty_last_n", 64));
    if (asked.seed && *asked.seed >= 0) options.seed = static_cast<uint32_t>(*asked.seed);
    return options;
}

// ---- grammar -------------------------------------------------------------------------------------------------------

// A grammar of the client's own is taken word by word; in ours the model may think first.
std::string grammar_for(const Request& request, const ModelEntry& model, bool begins_thinking) {
    const bool own = request.format.kind == FormatKind::kGrammar;
    const bool may_think = request.think.value_or(true) || begins_thinking;
    if (request.grammar.empty() || own || !may_think || std::holds_alternative<TextPrompt>(request.prompt))
        return request.grammar;
    return allow_thinking(request.grammar, model.family, begins_thinking);
}

// Whether the template has left a thinking block open at the end of the prompt.
bool begins_thinking(const std::string& prompt, const TemplateFamily& family) {
    if (family.think_open.empty()) return false;
    const size_t open = prompt.rfind(family.think_open);
    if (open == std::string::npos) return false;
    const std::string_view behind = std::string_view(prompt).substr(open + family.think_open.size());
    return behind.find_first_not_of(" \t\r\n") == std::string_view::npos;
}

AnswerOptions answer_options(const Request& request, const ModelEntry& model, const Prompt& prompt) {
    AnswerOptions options;
    options.stop = request.stop;
    options.logprobs = request.logprobs;
    options.return_context = request.return_context;
    options.think = request.think.value_or(true);
    if (request.return_context) options.prompt = prompt.tokens;
    const auto* chat = std::get_if<ChatPrompt>(&request.prompt);
    if (chat == nullptr) return options;  // raw text is handed out as it is
    options.parser.family = model.family;
    options.parser.begins_thinking = begins_thinking(prompt.text, model.family);
    options.parallel_tool_calls = chat->parallel_tool_calls;
    if (uses_tools(*chat))
        for (const Tool& tool : chat->tools) {
            options.parser.tool_names.insert(tool.name);
            options.parser.text_parameters[tool.name] = text_parameters(tool.parameters);
        }
    return options;
}

// Whoever shifts could go on for ever: like in Ollama, ten contexts are the end.
void set_shift(engine::GenerateRequest& sequence, const Request& request, uint32_t context_tokens) {
    constexpr uint64_t kMostContexts = 10;
    if (!request.shift) return;
    const auto most = static_cast<uint32_t>(std::min<uint64_t>(kMostContexts * context_tokens, UINT32_MAX));
    sequence.shift = true;
    sequence.max_tokens = std::min(sequence.max_tokens.value_or(most), most);
    const auto prompt_tokens = static_cast<int64_t>(sequence.prompt.size());
    const int64_t kept = request.keep_tokens < 0 ? prompt_tokens : std::min(request.keep_tokens, prompt_tokens);
    sequence.keep_tokens = static_cast<uint32_t>(kept);
}

}  // namespace

ApiStatus check_request(const Request& request, const ModelEntry& model) {
    if (model.embeds_only)
        return std::unexpected(
            does_not_support(request.model, std::holds_alternative<ChatPrompt>(request.prompt) ? "chat" : "generate"));
    if (const auto* text = std::get_if<TextPrompt>(&request.prompt))
        if (text->suffix && model.infill_tokens.empty())
            return std::unexpected(does_not_support(request.model, "insert"));
    if (const auto* chat = std::get_if<ChatPrompt>(&request.prompt))
        if (uses_tools(*chat) && model.family.tools == ToolStyle::kNone)
            return std::unexpected(does_not_support(request.model, "tools"));
    if (request.think_must_be_supported && !model.family.thinks)
        return std::unexpected(does_not_support(std::format("\"{}\"", request.model), "thinking"));
    return {};
}

ApiResult<std::string> grammar_of_answer(const Request& request, const ModelEntry& model) {
    const auto* chat = std::get_if<ChatPrompt>(&request.prompt);
    if (request.format.kind == FormatKind::kGrammar) return request.format.schema;
    if (chat != nullptr && uses_tools(*chat) && chat->tool_choice == ToolChoice::kRequired)
        return grammar_of_tool_calls(model.family, chat->tools, chat->required_tool, chat->parallel_tool_calls);
    if (request.format.kind == FormatKind::kSchema) return grammar_of_schema(request.format.schema);
    if (request.format.kind == FormatKind::kJson) return grammar_of_json_object();
    return std::string();
}

ApiResult<Prepared> prepare(const Request& request, const ModelEntry& model, const engine::Engine& engine,
                            uint32_t context_tokens) {
    Prepared prepared;
    uint32_t limit = context_tokens;
    if (request.context_tokens && *request.context_tokens > 0)
        limit = static_cast<uint32_t>(std::min<int64_t>(*request.context_tokens, context_tokens));
    HYPURA_ASSIGN(Prompt prompt, fitting_prompt(request, model, engine, limit));
    prepared.answer = answer_options(request, model, prompt);

    engine::GenerateRequest& sequence = prepared.sequence;
    sequence.sampling = sampling_options(request.sampling, model);
    std::string grammar = grammar_for(request, model, prepared.answer.parser.begins_thinking);
    if (!grammar.empty()) sequence.sampling.grammar = engine::Grammar{.text = std::move(grammar)};
    if (request.max_tokens && *request.max_tokens >= 0)
        sequence.max_tokens = static_cast<uint32_t>(std::min<int64_t>(*request.max_tokens, UINT32_MAX));
    sequence.context_tokens = limit;
    if (request.logprobs) sequence.top_logprobs = request.top_logprobs;
    sequence.prompt = std::move(prompt.tokens);
    set_shift(sequence, request, limit);
    return prepared;
}

ApiResult<Tokens> prompt_tokens(const Request& request, const ModelEntry& model, const engine::Engine& engine) {
    HYPURA_ASSIGN(Prompt prompt, full_prompt(request, model, engine));
    return std::move(prompt.tokens);
}

ApiResult<std::vector<Tokens>> prepare_embedding(const EmbedRequest& request, const engine::Engine& engine,
                                                 uint32_t most_tokens) {
    std::vector<Tokens> list = request.token_inputs;
    for (const std::string& input : request.inputs) {
        HYPURA_ASSIGN(Tokens tokens, engine.tokenize(input, true, false));
        if (tokens.empty() && engine.eos_token() >= 0) tokens.push_back(engine.eos_token());  // "" has a vector, too
        list.push_back(std::move(tokens));
    }
    for (Tokens& tokens : list) {
        if (tokens.size() > most_tokens && !request.truncate)
            return refuse(400, "the input length exceeds the context length");
        if (tokens.size() > most_tokens) tokens.resize(most_tokens);
        if (tokens.empty()) return refuse(400, "invalid input");
    }
    return list;
}

void cut_dimensions(std::vector<float>& values, int64_t dimensions, bool normalize) {
    if (dimensions <= 0 || static_cast<size_t>(dimensions) >= values.size()) return;
    values.resize(static_cast<size_t>(dimensions));
    if (!normalize) return;
    double sum = 0;
    for (const float value : values) sum += static_cast<double>(value) * static_cast<double>(value);
    const double length = std::sqrt(sum);
    if (length > 0)
        for (float& value : values) value = static_cast<float>(static_cast<double>(value) / length);
}

}  // namespace hypura::server
